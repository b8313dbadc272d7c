//! Why a message was not sent.

use thiserror::Error;

/// Why a message was not sent, in words that are safe to show to the channel's owner.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct SendError {
    /// What went wrong, without secrets and addresses.
    pub reason: String,
    /// Whether retrying is pointless.
    pub permanent: bool,
    /// How long the receiver asks to wait before a retry, in milliseconds.
    pub wait_ms: i64,
}

impl SendError {
    /// A failure that a retry may fix.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            permanent: false,
            wait_ms: 0,
        }
    }

    /// A failure that no retry can fix.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            permanent: true,
            wait_ms: 0,
        }
    }
}
