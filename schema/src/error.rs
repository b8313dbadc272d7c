//! What can be wrong with input, said so that a person can mend it.

use thiserror::Error;

/// An invalid value: which field, what is wrong with it, and what would do instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} {problem}")]
pub struct Invalid {
    /// The field, as its path in the request (`heartbeats[3].period_s`).
    pub field: String,
    /// The problem, continuing a sentence that begins with the field.
    pub problem: String,
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
