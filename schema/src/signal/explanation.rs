//! Explanations: the reasons for a signal, as data and as a paragraph.

use super::number::quantity;
use super::strategy::Stop;
use serde::{Deserialize, Serialize};

/// The side a condition supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// BUY.
    Buy,
    /// SELL.
    Sell,
    /// Leaving a long position.
    ExitLong,
    /// Leaving a short position.
    ExitShort,
}

/// Why a position ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It lost too much.
    StopLoss,
    /// It fell too far from its best close.
    TrailingStop,
    /// It gained enough.
    TakeProfit,
    /// It was held long enough.
    TimeStop,
    /// The strategy's own condition, or signal.
    Signal,
    /// The conditions of the other side hold.
    Reversal,
    /// There is no signal any more.
    Unknown,
    /// The account of the backtest lost everything.
    Ruin,
}

impl Exit {
    /// The reason that a stop gives.
    pub const fn of(stop: Stop) -> Self {
        match stop {
            Stop::Loss => Self::StopLoss,
            Stop::Trailing => Self::TrailingStop,
            Stop::Profit => Self::TakeProfit,
            Stop::Time => Self::TimeStop,
        }
    }

    /// The reason in words, as in `the long position ended by its stop-loss`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::StopLoss => "by its stop-loss",
            Self::TrailingStop => "by its trailing stop",
            Self::TakeProfit => "by its take-profit",
            Self::TimeStop => "by its time stop",
            Self::Signal => "by its exit rule",
            Self::Reversal => "by a reversal",
            Self::Unknown => "by an unknown signal",
            Self::Ruin => "by the loss of all equity",
        }
    }
}

/// A position that a strategy holds, or has just left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Holding {
    /// Whether it is long; otherwise it is short.
    pub long: bool,
    /// When it was entered: the open of the bar after the signal. Null at the bar of the signal.
    pub entered_at: Option<String>,
    /// The price at that time.
    pub entry: Option<f64>,
    /// How many bars it has been held.
    #[cfg_attr(feature = "openapi", schema(value_type = i32))]
    pub bars: u32,
    /// Its gain at the close, in percent of the entry price, without costs.
    pub gain_pct: Option<f64>,
    /// Why it ended at this bar; null while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Exit>,
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Op {
    /// Greater than.
    #[serde(rename = ">")]
    Gt,
    /// Greater than or equal.
    #[serde(rename = ">=")]
    Ge,
    /// Less than.
    #[serde(rename = "<")]
    Lt,
    /// Less than or equal.
    #[serde(rename = "<=")]
    Le,
    /// Greater now, but not at the previous bar.
    #[serde(rename = "crosses_above")]
    CrossesAbove,
    /// Less now, but not at the previous bar.
    #[serde(rename = "crosses_below")]
    CrossesBelow,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Gt,
        Self::Ge,
        Self::Lt,
        Self::Le,
        Self::CrossesAbove,
        Self::CrossesBelow,
    ];

    /// Its spelling in strategies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::CrossesAbove => "crosses_above",
            Self::CrossesBelow => "crosses_below",
        }
    }

    /// The operator that holds when this one does not; a crossing has none.
    pub const fn opposite(self) -> Option<Self> {
        match self {
            Self::Gt => Some(Self::Le),
            Self::Ge => Some(Self::Lt),
            Self::Lt => Some(Self::Ge),
            Self::Le => Some(Self::Gt),
            Self::CrossesAbove | Self::CrossesBelow => None,
        }
    }

    /// Whether it holds when the left side is the greater one.
    pub const fn wants_more(self) -> bool {
        matches!(self, Self::Gt | Self::Ge | Self::CrossesAbove)
    }

    /// Whether it also uses the previous bar.
    pub const fn crosses(self) -> bool {
        matches!(self, Self::CrossesAbove | Self::CrossesBelow)
    }
}

/// The outcome of a condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Condition {
    /// The side it supports.
    pub side: Side,
    /// The left side, such as `close`.
    pub left: String,
    /// The operator.
    pub op: Op,
    /// The right side, such as `sma(20)`.
    pub right: String,
    /// The value of the left side; null if unknown.
    pub value: Option<f64>,
    /// The value of the right side; null if unknown.
    pub threshold: Option<f64>,
    /// How far the value is past the threshold, in the direction that the condition requires;
    /// negative if it falls short. A crossing counts as the plain comparison.
    pub margin: Option<f64>,
    /// Whether it holds; null if unknown.
    pub met: Option<bool>,
}

impl Condition {
    /// The condition as text, such as `close > sma(20)`.
    pub fn label(&self) -> String {
        format!("{} {} {}", self.left, self.op.as_str(), self.right)
    }
}

/// What a detector compares a value with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The median of the last few values.
    Recent,
    /// The median of the last 50 values, or of the window.
    Level,
    /// The median of the same hour on past days.
    Day,
    /// The median of the same hour of past weeks.
    Week,
    /// The median of the same weekday of past weeks.
    Weekday,
    /// Exponential smoothing of level and season.
    Smoothing,
    /// The exponentially weighted mean of the earlier values.
    Mean,
    /// The level; small deviations from it add up.
    Sum,
    /// An earlier value.
    Before,
    /// Fixed limits.
    Limits,
    /// The values before: whether they changed.
    Changes,
}

impl Basis {
    /// It as an end of a sentence, such as `compared with the same weekday of past weeks`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Recent => "compared with the last few values",
            Self::Level => "compared with the values before it",
            Self::Day => "compared with the same hour on past days",
            Self::Week => "compared with the same hour of past weeks",
            Self::Weekday => "compared with the same weekday of past weeks",
            Self::Smoothing => "by exponential smoothing of level and season",
            Self::Mean => "compared with the weighted mean of the values before it",
            Self::Sum => "by the sum of small deviations",
            Self::Before => "compared with the value before it",
            Self::Limits => "by the limits set",
            Self::Changes => "by whether it changes",
        }
    }
}

impl Expected {
    /// The range in words, such as `118,000 to 126,000`; `None` if there is no limit.
    pub fn range(&self) -> Option<String> {
        let [low, high] = [self.low, self.high].map(|limit| limit.map(quantity));
        match (low, high) {
            (Some(low), Some(high)) => Some(format!("{low} to {high}")),
            (Some(low), None) => Some(format!("at least {low}")),
            (None, Some(high)) => Some(format!("at most {high}")),
            (None, None) => None,
        }
    }

    /// Whether a value is twice as far from the typical one as the limits are.
    pub fn is_far(&self, x: f64) -> bool {
        let limit = if Some(x) < self.low {
            self.low
        } else {
            self.high
        };
        let pair = self.typical.zip(limit);
        pair.is_some_and(|(typical, limit)| (x - typical).abs() > 2.0 * (limit - typical).abs())
    }
}

/// The range that a detector expected a value in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Expected {
    /// The least normal value; null if there is none.
    pub low: Option<f64>,
    /// The greatest normal value; null if there is none.
    pub high: Option<f64>,
    /// The value that was expected; null for fixed limits.
    pub typical: Option<f64>,
    /// What the value was compared with.
    pub basis: Basis,
}

/// The reasons for a signal. The age of the data changes, so it is added on display.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// All conditions, with their outcomes.
    pub conditions: Vec<Condition>,
    /// The conditions whose outcome changed since the previous bar.
    pub changed: Vec<String>,
    /// The range that a detector expected the value in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// The position of a strategy that holds positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Holding>,
    /// A summary for users.
    pub summary: String,
}

impl Explanation {
    /// Whether it says the same as `other`. Only the numbers in the summary are compared, because
    /// another version of Thrum may word it differently.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.conditions == other.conditions
            && self.changed == other.changed
            && self.expected == other.expected
            && self.position == other.position
            && numbers(&self.summary).eq(numbers(&other.summary))
    }
}

fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    numbers.filter(|number| !number.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reworded_summary_says_the_same_but_other_numbers_do_not() {
        let explanation = |summary: &str| Explanation {
            conditions: Vec::new(),
            changed: Vec::new(),
            expected: None,
            position: None,
            summary: summary.to_owned(),
        };
        let before = explanation("Unknown, for 2 bars are missing.");
        assert!(before.says_the_same_as(&explanation("Unknown: a gap of 2 bars.")));
        assert!(!before.says_the_same_as(&explanation("Unknown, for 3 bars are missing.")));
    }
}
