//! Deliveries: an alert, or a group of alerts, on its way through one channel.

use crate::id::{AlertId, ChannelId, ProjectId};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long a claim on a delivery holds, in milliseconds: longer than any send may take.
pub const CLAIM_MS: i64 = 30_000;
/// How long a burst of alerts is gathered, in milliseconds (A6).
pub const GATHER_MS: i64 = 2_000;
/// Most members of a group: with the group itself and its timer they fit one transaction of 100 items.
pub const MAX_GROUP: usize = 90;
/// Longest error text kept, in characters.
pub const MAX_ERROR: usize = 300;

/// Delays between attempts, in seconds; the last one repeats until the delivery window ends. Jitter of a
/// quarter either way is added.
const RETRY_S: [i64; 9] = [2, 5, 15, 30, 60, 120, 300, 900, 1_800];

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// An earlier alert of the same monitor goes first (A8).
    Waiting,
    /// Gathered, to be sent as a member of a group.
    Gathering,
    /// Somebody is sending it.
    Claimed,
    /// An attempt failed; there will be another.
    Retry,
    /// Sent.
    Sent,
    /// Not sent: the channel's daily limit was reached.
    Suppressed,
    /// Given up; it can be redelivered.
    Dead,
}

impl DeliveryState {
    /// Whether nothing further will happen by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Sent | Self::Suppressed | Self::Dead)
    }
}

/// A delivery. Its item may exist before the delivery is begun, if a later alert waits for it.
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
    /// How far it is; `None` if it was not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// How often sending was begun.
    pub attempts: u32,
    /// When sending was first begun: the window counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<UnixMs>,
    /// Whose claim it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Uuid>,
    /// When the claim or the wait ends, or when the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMs>,
    /// Whether quota was taken for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub charged: bool,
    /// When it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<UnixMs>,
    /// What went wrong at the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the receiver said, or what was printed instead of being sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The group it went out with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<AlertId>,
    /// The members, if it is a group's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<AlertId>,
    /// Whether its members are settled as it was, if it is a group's that is settled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub concluded: bool,
    /// The alert of the same monitor that waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<AlertId>,
    /// When the redelivery that a person asked for began: the window counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redriven: Option<UnixMs>,
}

impl Delivery {
    /// Whether nothing is left to do: a group's members are settled after it.
    pub fn is_over(&self) -> bool {
        let settled = self.state.is_some_and(DeliveryState::is_final);
        settled && (self.members.is_empty() || self.concluded)
    }
}

/// Milliseconds to wait after the `attempts`-th attempt failed; `jitter` is in `0.0..1.0`.
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
