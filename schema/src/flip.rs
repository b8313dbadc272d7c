//! Changes of a monitor's status.

use crate::monitor::Monitor;
use crate::outage::Outage;
use crate::state::{MonitorState, Status};
use crate::time::UnixMs;
use crate::trace::TraceId;
use serde::{Deserialize, Serialize};

/// How long a flip is kept, in seconds: 93 days.
pub const FLIP_TTL_S: i64 = 93 * 86_400;

/// Why a monitor's status changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// No ping arrived by the deadline.
    Timeout,
    /// The job reported a failure.
    Fail,
    /// The job reported a success.
    Success,
    /// It was paused.
    Paused,
    /// It was resumed.
    Resumed,
}

/// A change of status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Its number, counting from 1 for each monitor.
    pub n: u64,
    /// When it happened: the deadline for a timeout, otherwise when the event was received.
    pub at: UnixMs,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// Why.
    pub reason: Reason,
    /// Whether it alerts.
    pub alert: bool,
    /// Whether it would have alerted but was silenced. It alerts when the silence ends, unless the
    /// monitor has flipped since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silenced: bool,
    /// The missed deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<UnixMs>,
    /// Thrum's own outage that moved the deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
    /// What was not as expected in the run that took it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many runs were missed; set on the flip back up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u32,
    /// How long it was down, in milliseconds; set on the flip back up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_ms: Option<i64>,
    /// The last success before it went down, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<UnixMs>,
    /// The request that caused it, or the run of the schedule that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
}

impl Flip {
    /// The state of a monitor as this flip, its last, and its last ping show it.
    pub fn state_of(&self, monitor: &Monitor, ping: Option<UnixMs>) -> MonitorState {
        let mut state = MonitorState {
            status: self.to,
            seen: ping.or(Some(self.at)),
            flips: self.n,
            flip_at: Some(self.at),
            ..MonitorState::new(monitor)
        };
        state.follow(monitor);
        state
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde requires this signature"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}
