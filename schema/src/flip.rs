//! Changes of a monitor's status.

use crate::outage::Outage;
use crate::state::Status;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// How long a flip is kept, in seconds: 93 days.
pub const FLIP_TTL_S: i64 = 93 * 86_400;

/// Why a monitor's status changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Nothing was heard by the deadline.
    Timeout,
    /// It reported a failure.
    Fail,
    /// It reported a success.
    Success,
    /// It was paused.
    Paused,
    /// It was resumed.
    Resumed,
}

/// A change of status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Its number, counted from 1 for each monitor.
    pub n: u64,
    /// When it happened: a timeout at its deadline, anything else when it was received.
    pub at: UnixMs,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// Why.
    pub reason: Reason,
    /// Whether people are told.
    pub alert: bool,
    /// Whether they would be, had it not been silenced; if it is still so when the silence ends, they are told then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silenced: bool,
    /// The deadline that was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<UnixMs>,
    /// The outage of ours after which it was judged anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
    /// How many runs were missed, on the way up after they were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}
