//! Strategies as data: named, versioned conditions over indicators.
//!
//! ```json
//! {"description": "the short mean crosses the long one", "params": {"fast": 10, "slow": 30},
//!  "buy":  {"left": {"indicator": "sma", "n": "$fast"}, "op": "crosses_above", "right": {"indicator": "sma", "n": "$slow"}},
//!  "sell": {"left": {"indicator": "sma", "n": "$fast"}, "op": "crosses_below", "right": {"indicator": "sma", "n": "$slow"}}}
//! ```
//!
//! Parsed by hand, so that an error names the very place.

mod builtin;
mod json;

pub use builtin::{VERSION as BUILTIN_VERSION, builtin, builtins};

use super::explanation::Op;
use super::indicator::Kind;
use super::series::Timeframe;
use crate::error::Invalid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most strategies of a project.
pub const MAX_STRATEGIES: usize = 100;
/// Most conditions of a mode, all told.
pub const MAX_LEAVES: usize = 32;
/// Most conditions of a mode, those that hold others included.
pub const MAX_CONDITIONS: usize = 200;
/// Deepest nesting of conditions.
pub const MAX_DEPTH: usize = 8;
/// Most different indicators of a mode.
pub const MAX_INDICATORS: usize = 24;
/// Most bars that the windows of a mode hold, all told: its state stays small.
pub const MAX_WINDOWS: u32 = 5_000;
/// Most parameters, and modes.
pub const MAX_PARAMS: usize = 20;
/// Most bars ago that a value may be asked for.
pub const MAX_AGO: u32 = 100;
/// Longest name of a strategy, a mode or a parameter.
pub const MAX_NAME: usize = 40;
/// The mode of a strategy that has only one.
pub const DEFAULT_MODE: &str = "default";

/// A strategy.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// What it is for.
    pub description: String,
    /// Its parameters and their defaults.
    pub params: BTreeMap<String, f64>,
    /// Its rules, by mode.
    pub modes: BTreeMap<String, Rules>,
    /// The mode that is meant if none is named.
    pub default_mode: String,
    /// How many bars there must be before it says anything, if its windows need fewer.
    pub warmup: u32,
    /// What a hole in the bars means.
    pub gaps: Gaps,
}

/// What a hole in the bars means to a strategy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gaps {
    /// Nothing is known until the windows are full again: `GAP`.
    #[default]
    Unknown,
    /// Windows count bars, wherever they are.
    Count,
}

/// When to buy, and when to sell. If both hold, neither is meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// When to buy.
    pub buy: Rule,
    /// When to sell.
    pub sell: Rule,
}

/// A condition, or several of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// All of them hold.
    All(Vec<Self>),
    /// At least one holds; none of none does.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// Something compares with something else.
    Compare(Box<Comparison>),
}

/// A comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What is compared.
    pub left: Operand,
    /// How.
    pub op: Op,
    /// With what.
    pub right: Operand,
}

/// A number, or the parameter that it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Number {
    /// A number.
    Is(f64),
    /// A parameter: `"$n"`, or `"-$n"`.
    Param {
        /// Its name.
        name: String,
        /// Whether its negative is meant.
        negated: bool,
    },
}

/// A figure of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// The first price.
    Open,
    /// The highest.
    High,
    /// The lowest.
    Low,
    /// The last; of a plain value, the value.
    Close,
    /// What was traded.
    Volume,
    /// The mean of high, low and close.
    Typical,
}

impl Field {
    /// As strategies write it.
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
    /// A figure of the bar, or of one before it.
    Field {
        /// Which.
        field: Field,
        /// How many bars before.
        ago: u32,
    },
    /// The last sentiment at or before the bar's close.
    Sentiment {
        /// How old it may be, in seconds; 0 or none for any age.
        max_age_s: Option<Number>,
    },
    /// An indicator.
    Indicator {
        /// Which.
        kind: Kind,
        /// Its parameters, those that are given.
        args: BTreeMap<String, Number>,
        /// The figure that it is of.
        of: Option<Field>,
        /// The timeframe whose closed bars it is of, if not the series'.
        timeframe: Option<Timeframe>,
        /// Which of its outputs, by place.
        output: usize,
        /// How many bars before.
        ago: u32,
    },
}

impl Strategy {
    /// Reads a strategy, and checks every mode of it with its own parameters.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(value: &Value) -> Result<Self, Invalid> {
        let strategy = json::strategy(value)?;
        for mode in strategy.modes.keys() {
            // Longer timeframes are checked against the series' when it is known: any is made of ticks.
            strategy.compile(Some(mode), &BTreeMap::new(), Timeframe::TICK)?;
        }
        Ok(strategy)
    }

    /// As [`Self::parse`] reads it.
    pub fn to_json(&self) -> Value {
        json::to_json(self)
    }
}

impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_json().to_string())
    }
}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(from)?;
        let value: Value = serde_json::from_str(&text).map_err(Error::custom)?;
        json::strategy(&value).map_err(Error::custom)
    }
}

/// A strategy as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Counts its changes, from 1.
    pub version: u32,
    /// What it is.
    pub strategy: Strategy,
    /// When it became so.
    pub updated: crate::UnixMs,
    /// It was deleted; its number goes on if it is made again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// Checks the name of a strategy: 1 to 40 letters, digits, `_`, `-`.
///
/// # Errors
/// It is not such a name.
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
