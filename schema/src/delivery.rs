//! Deliveries: an alert, or a group of alerts, sent through one channel.

use crate::id::{AlertId, ChannelId, ProjectId};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long a claim on a delivery lasts, in milliseconds: longer than any send can take.
pub const CLAIM_MS: i64 = 30_000;
/// The longest time that a delivery can wait for its next attempt, in milliseconds. One that waits
/// longer has waited since before the clock was set back.
pub const LONGEST_WAIT_MS: i64 = 2_400_000;
/// The longest time that a claim can last, in milliseconds, with some difference between clocks.
pub const LONGEST_CLAIM_MS: i64 = CLAIM_MS + 5_000;
/// How long a burst of alerts is collected before sending, in milliseconds (A6).
pub const GATHER_MS: i64 = 2_000;
/// Maximum alerts in a group: with the group itself and its timer they fit one transaction of 100
/// items.
pub const MAX_GROUP: usize = 90;
/// Maximum length of a stored error, in characters.
pub const MAX_ERROR: usize = 300;

/// Delays between attempts, in seconds; the last one repeats until the delivery window ends. Each
/// gets up to 25% jitter either way.
const RETRY_S: [i64; 9] = [2, 5, 15, 30, 60, 120, 300, 900, 1_800];

/// Progress of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Waits for an earlier alert of the same monitor (A8).
    Waiting,
    /// Collected, to be sent as part of a group.
    Gathering,
    /// A notify worker is sending it.
    Claimed,
    /// An attempt failed; it will be retried.
    Retry,
    /// Sent.
    Sent,
    /// Not sent: the channel's daily limit was reached.
    Suppressed,
    /// Given up; can be redelivered.
    Dead,
}

impl DeliveryState {
    /// Whether it will not change any more without a user.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Sent | Self::Suppressed | Self::Dead)
    }
}

/// A delivery. The item can exist before the delivery starts, if a later alert waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delivery {
    /// The alert or the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertId>,
    /// The channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelId>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// Its progress; `None` if it has not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// How many attempts were started.
    pub attempts: u32,
    /// When the first attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<UnixMs>,
    /// The token of the current claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Uuid>,
    /// The run of the process that claimed it, if only one process uses the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Uuid>,
    /// When the claim or the wait ends, or when the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMs>,
    /// How long the wait for the next attempt was decided to be, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<i64>,
    /// Whether it was charged to the quota.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub charged: bool,
    /// When it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<UnixMs>,
    /// The error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The receiver's response, or what was printed instead of being sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The group it was sent in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<AlertId>,
    /// The alerts of the group, for a group's delivery.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<AlertId>,
    /// Whether the outcome was copied to the group's members, for a group's delivery.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub concluded: bool,
    /// The alert of the same monitor that waits for this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<AlertId>,
    /// When the redelivery that a user requested started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redriven: Option<UnixMs>,
}

impl Delivery {
    /// When the first attempt started, or the redelivery that a user requested; `None` before that,
    /// and for a member of a group. The delivery window counts from here.
    pub fn first_attempt(&self) -> Option<UnixMs> {
        self.redriven.or(self.first)
    }

    /// Whether nothing is left to do. For a group, its members must be settled too.
    pub fn is_over(&self) -> bool {
        let settled = self.state.is_some_and(DeliveryState::is_final);
        settled && (self.members.is_empty() || self.concluded)
    }
}

/// Milliseconds to wait after attempt number `attempts` failed; `jitter` is in `0.0..1.0`.
pub fn backoff_ms(attempts: u32, jitter: f64) -> i64 {
    let step = (attempts.max(1) as usize - 1).min(RETRY_S.len() - 1);
    #[expect(clippy::cast_possible_truncation, reason = "at most 1800 · 1250")]
    let ms = (RETRY_S[step] as f64 * 1000.0 * (0.75 + 0.5 * jitter)) as i64;
    ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_jitters_by_a_quarter() {
        assert_eq!(backoff_ms(1, 0.0), 1_500);
        assert_eq!(backoff_ms(1, 0.5), 2_000);
        assert_eq!(backoff_ms(2, 0.5), 5_000);
        assert_eq!(backoff_ms(1_000, 0.5), 1_800_000);
        assert!((1..20).all(|n| backoff_ms(n, 0.5) <= backoff_ms(n + 1, 0.5)));
    }
}
