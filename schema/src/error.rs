//! Validation errors, worded so that a user can fix the input.

use thiserror::Error;

/// An invalid value: which field, what is wrong with it, and what to use instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} {problem}")]
pub struct Invalid {
    /// The field, as its path in the request (`heartbeats[3].period_s`).
    pub field: String,
    /// The problem, continuing a sentence that begins with the field.
    pub problem: String,
}

/// Several invalid values, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Invalids(pub Vec<Invalid>);

impl From<Invalid> for Invalids {
    fn from(invalid: Invalid) -> Self {
        Self(vec![invalid])
    }
}

impl From<Invalids> for Invalid {
    /// The first of them.
    fn from(Invalids(invalids): Invalids) -> Self {
        let first = invalids.into_iter().next();
        first.unwrap_or_else(|| Self::new("the value", "is invalid"))
    }
}

impl Invalid {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}
