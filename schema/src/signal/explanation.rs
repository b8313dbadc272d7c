//! Explanations: why a signal is what it is, as data and as a paragraph.

use serde::{Deserialize, Serialize};

/// The side that a condition speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// For BUY.
    Buy,
    /// For SELL.
    Sell,
}

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Op {
    /// Greater.
    #[serde(rename = ">")]
    Gt,
    /// At least.
    #[serde(rename = ">=")]
    Ge,
    /// Less.
    #[serde(rename = "<")]
    Lt,
    /// At most.
    #[serde(rename = "<=")]
    Le,
    /// Greater now, and not at the bar before.
    #[serde(rename = "crosses_above")]
    CrossesAbove,
    /// Less now, and not at the bar before.
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

    /// As strategies write it.
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

    /// What holds where it does not; a crossing has no opposite.
    pub const fn opposite(self) -> Option<Self> {
        match self {
            Self::Gt => Some(Self::Le),
            Self::Ge => Some(Self::Lt),
            Self::Lt => Some(Self::Ge),
            Self::Le => Some(Self::Gt),
            Self::CrossesAbove | Self::CrossesBelow => None,
        }
    }

    /// Whether it wants the left side to be the greater one.
    pub const fn wants_more(self) -> bool {
        matches!(self, Self::Gt | Self::Ge | Self::CrossesAbove)
    }

    /// Whether it looks at the bar before, too.
    pub const fn crosses(self) -> bool {
        matches!(self, Self::CrossesAbove | Self::CrossesBelow)
    }
}

/// What became of a condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Condition {
    /// The side it speaks for.
    pub side: Side,
    /// What is compared, `close`.
    pub left: String,
    /// How.
    pub op: Op,
    /// With what, `sma(20)`.
    pub right: String,
    /// What the left side is; null if it is not known.
    pub value: Option<f64>,
    /// What the right side is; null if it is not known.
    pub threshold: Option<f64>,
    /// How far the value is beyond the threshold, on the side that the condition wants; negative if it falls short. Of a
    /// crossing, as if it were none.
    pub margin: Option<f64>,
    /// Whether it holds; null if it is not known.
    pub met: Option<bool>,
}

impl Condition {
    /// `close > sma(20)`
    pub fn label(&self) -> String {
        format!("{} {} {}", self.left, self.op.as_str(), self.right)
    }
}

/// Why a signal is what it is. Its age is added where it is shown, for it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Every condition, with its outcome.
    pub conditions: Vec<Condition>,
    /// The conditions whose outcome changed since the bar before.
    pub changed: Vec<String>,
    /// A paragraph for people.
    pub summary: String,
}
