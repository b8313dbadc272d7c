//! What a strategy is made of, and its bounds.

use super::super::detector;
use super::super::explanation::Op;
use super::super::indicator::Kind;
use super::super::series::Timeframe;
use crate::error::Invalid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum strategies per project.
pub const MAX_STRATEGIES: usize = 100;
/// Maximum comparisons per mode.
pub const MAX_LEAVES: usize = 32;
/// Maximum conditions per mode, including those that contain others.
pub const MAX_CONDITIONS: usize = 200;
/// Maximum nesting of conditions.
pub const MAX_DEPTH: usize = 8;
/// Maximum different indicators per mode.
pub const MAX_INDICATORS: usize = 24;
/// Maximum bars in all windows of a mode together, so that its state stays small.
pub const MAX_WINDOWS: u32 = 5_000;
/// Maximum parameters per strategy, and maximum modes.
pub const MAX_PARAMS: usize = 20;
/// How many bars back a value may be, at most; and how many bars a condition may have to hold.
pub const MAX_AGO: u32 = 100;
/// Maximum operands per mode, including those that contain others.
pub const MAX_OPERANDS: usize = 200;
/// Maximum length of the name of a strategy, a mode or a parameter.
pub const MAX_NAME: usize = 40;
/// The mode of a strategy with only one.
pub const DEFAULT_MODE: &str = "default";

/// A strategy.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// A description for users.
    pub description: String,
    /// Its parameters and their defaults.
    pub params: BTreeMap<String, f64>,
    /// The detector, if it is one; then it has no rules.
    pub detector: Option<detector::Kind>,
    /// Its rules, by mode.
    pub modes: BTreeMap<String, Rules>,
    /// The mode used if none is named.
    pub default_mode: String,
    /// The minimum number of bars before it gives a signal, if its windows need fewer.
    pub warmup: u32,
    /// How to treat gaps in the bars.
    pub gaps: Gaps,
}

/// How a strategy treats gaps in the bars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gaps {
    /// The signal is `GAP` until the windows are full again.
    #[default]
    Unknown,
    /// Windows count bars and ignore gaps.
    Count,
}

/// What a mode does.
#[derive(Debug, Clone, PartialEq)]
pub enum Rules {
    /// When to buy and when to sell. If both hold, neither applies.
    Signals {
        /// When to buy.
        buy: Rule,
        /// When to sell.
        sell: Rule,
    },
    /// When to enter positions and when to leave them. The signal is BUY while it is long, SELL
    /// while it is short.
    Positions {
        /// Long positions, if it has any.
        long: Option<Position>,
        /// Short positions, if it has any.
        short: Option<Position>,
    },
}

/// When to enter a position on one side, and when to leave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Position {
    /// When to enter. If both sides' conditions hold, neither applies.
    pub enter: Rule,
    /// When to leave, beside the stops.
    pub exit: Option<Rule>,
    /// The stops, and where each is.
    pub stops: BTreeMap<Stop, Number>,
}

/// A stop: it ends a position without a condition of the strategy. All are checked at closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stop {
    /// It lost this percentage of the entry price.
    Loss,
    /// It fell by this percentage from its best close.
    Trailing,
    /// It gained this percentage of the entry price.
    Profit,
    /// It has been held for this many bars.
    Time,
}

impl Stop {
    /// All of them, in the order in which they are checked.
    pub const ALL: [Self; 4] = [Self::Loss, Self::Trailing, Self::Profit, Self::Time];

    /// Its spelling in strategies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "stop_loss_pct",
            Self::Trailing => "trailing_stop_pct",
            Self::Profit => "take_profit_pct",
            Self::Time => "time_stop_bars",
        }
    }

    /// What it looks at.
    pub const fn figure(self) -> Figure {
        match self {
            Self::Loss | Self::Profit => Figure::GainPct,
            Self::Trailing => Figure::FallPct,
            Self::Time => Figure::Bars,
        }
    }
}

/// A figure of the position that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Figure {
    /// The price at which it was entered: the open of the bar after the signal.
    Entry,
    /// The best close since then; for a short position, the lowest.
    Best,
    /// Its gain, in percent of the entry price; negative for a loss.
    GainPct,
    /// How far the close is from the best one, in percent of that.
    FallPct,
    /// How many bars it has been held.
    Bars,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Entry,
        Self::Best,
        Self::GainPct,
        Self::FallPct,
        Self::Bars,
    ];

    /// Its spelling in strategies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Best => "best",
            Self::GainPct => "gain_pct",
            Self::FallPct => "fall_pct",
            Self::Bars => "bars",
        }
    }

    /// What it is called in explanations.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Entry => "entry price",
            Self::Best => "best close since entry",
            Self::GainPct => "gain since entry (%)",
            Self::FallPct => "fall from best close (%)",
            Self::Bars => "bars since entry",
        }
    }
}

/// A condition, or several.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// All of them hold.
    All(Vec<Self>),
    /// At least one holds; an empty list never holds.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// It has held at this many bars in a row.
    Confirm(Box<Self>, Number),
    /// Two operands compare as given.
    Compare(Box<Comparison>),
}

/// A comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The left side.
    pub left: Operand,
    /// The operator.
    pub op: Op,
    /// The right side.
    pub right: Operand,
}

/// A number, or the parameter that holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum Number {
    /// A number.
    Is(f64),
    /// A parameter: `"$n"`, or `"-$n"`.
    Param {
        /// Its name.
        name: String,
        /// Whether it is negated.
        negated: bool,
    },
}

/// A field of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// The first price.
    Open,
    /// The highest.
    High,
    /// The lowest.
    Low,
    /// The last price; for a plain value, the value.
    Close,
    /// The traded volume.
    Volume,
    /// The mean of high, low and close.
    Typical,
}

impl Field {
    /// Its spelling in strategies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::High => "high",
            Self::Low => "low",
            Self::Close => "close",
            Self::Volume => "volume",
            Self::Typical => "typical",
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::High,
        Self::Low,
        Self::Close,
        Self::Volume,
        Self::Typical,
    ];
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A number or a parameter.
    Number(Number),
    /// A field of the bar, or of an earlier one.
    Field {
        /// Which field.
        field: Field,
        /// How many bars back.
        ago: u32,
    },
    /// The latest sentiment at or before the bar's close.
    Sentiment {
        /// Its maximum age in seconds; 0 or `None` for any age.
        max_age_s: Option<Number>,
    },
    /// An indicator.
    Indicator {
        /// Which indicator.
        kind: Kind,
        /// The parameters given.
        args: BTreeMap<String, Number>,
        /// What it is computed from, if not the close: a field, another indicator, or arithmetic
        /// with these.
        of: Option<Box<Self>>,
        /// The timeframe whose closed bars it uses, if not the series' own.
        timeframe: Option<Timeframe>,
        /// The index of its output.
        output: usize,
        /// How many bars back.
        ago: u32,
    },
    /// A figure of the position that is held; only in exits.
    Position(Figure),
    /// Two operands combined.
    Math {
        /// How.
        op: Math,
        /// The left one.
        left: Box<Self>,
        /// The right one.
        right: Box<Self>,
    },
}

/// Arithmetic between operands. A result that is not a finite number is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Math {
    /// Their sum.
    Add,
    /// Their difference.
    Sub,
    /// Their product.
    Mul,
    /// Their ratio.
    Div,
    /// The smaller one.
    Min,
    /// The greater one.
    Max,
}

impl Math {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Min,
        Self::Max,
    ];

    /// Its spelling in strategies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    /// The result; NaN if it is unknown.
    pub fn of(self, a: f64, b: f64) -> f64 {
        if a.is_nan() || b.is_nan() {
            return f64::NAN;
        }
        let result = match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        };
        if result.is_finite() { result } else { f64::NAN }
    }

    /// It applied to two labels, such as `close - sma(20)` or `min(close, 5)`.
    pub fn label(self, left: &str, right: &str) -> String {
        match self {
            Self::Min | Self::Max => format!("{}({left}, {right})", self.as_str()),
            _ => format!("({left} {} {right})", self.as_str()),
        }
    }
}

/// Checks a strategy's name: 1 to 40 letters, digits, `_`, `-`.
///
/// # Errors
/// The name has another form.
pub fn check_name(field: &str, name: &str) -> Result<(), Invalid> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if fits {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            format!("must be 1 to {MAX_NAME} letters, digits, '_' or '-'"),
        ))
    }
}
