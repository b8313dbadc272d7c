//! Timers: entries of the lazy timing wheel in the table.

use crate::id::{AlertId, ChannelId, MonitorId, ProjectId, RequestId, WatchId};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Maximum entries in one item: 30 deadlines stay below 1 kB, one write unit.
pub const MAX_ENTRIES: usize = 30;

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A monitor's deadline (T1). Obsolete if the state's epoch differs.
    Deadline {
        /// The monitor.
        monitor: MonitorId,
        /// The state's epoch when it was armed.
        epoch: u32,
    },
    /// A delivery's retry, or the end of a claim on it.
    Deliver {
        /// The project.
        project: ProjectId,
        /// The alert or group.
        alert: AlertId,
        /// The channel.
        channel: ChannelId,
    },
    /// A check for an alert that may have been lost on its way to notify (A5).
    Audit {
        /// The project.
        project: ProjectId,
        /// The alert.
        alert: AlertId,
    },
    /// Sending a channel's collected alerts (A6).
    Flush {
        /// The project.
        project: ProjectId,
        /// The channel.
        channel: ChannelId,
    },
    /// A reminder that a monitor is still down. Obsolete if it flipped or was reminded since.
    Remind {
        /// The monitor.
        monitor: MonitorId,
        /// The number of the flip that took it down.
        flip: u64,
        /// How many reminders were sent before.
        n: u32,
    },
    /// The end of a silence: raises the alert that it held back. Obsolete if it flipped since.
    Wake {
        /// The monitor.
        monitor: MonitorId,
        /// The number of the flip.
        flip: u64,
    },
    /// The next check of a watch. Obsolete if its state's epoch differs.
    Watch {
        /// The project.
        project: ProjectId,
        /// The watch.
        watch: WatchId,
        /// Its state's epoch when it was armed.
        epoch: u32,
    },
    /// A check for a request that may have been lost on its way to evaluate's worker.
    Request {
        /// The request.
        request: RequestId,
    },
    /// The next check of an e-mail channel's subscription. Obsolete if a later check is planned.
    Subscription {
        /// The project.
        project: ProjectId,
        /// The channel.
        channel: ChannelId,
    },
}

/// A timer entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timer {
    /// When it fires.
    pub due: UnixMs,
    /// What it is for.
    pub what: What,
}

/// How far a per-minute sweep looks ahead, in milliseconds: until a second before the next sweep,
/// which covers that second. Looking further would fire timers of minutely monitors that are on
/// time.
pub const AHEAD_MS: i64 = 59_000;

/// When to retry a timer whose items cannot be read, in milliseconds.
const AFTER_TROUBLE_MS: i64 = 300_000;
/// When to retry a timer after throttling, in milliseconds.
const AFTER_THROTTLING_MS: i64 = 2_000;

impl Timer {
    /// The timer, retried some time later: its items cannot be read now.
    pub fn after_trouble(self, now: UnixMs) -> Self {
        Self {
            due: now + AFTER_TROUBLE_MS,
            ..self
        }
    }

    /// The timer, retried a little later: its item is throttled or busy with other writes.
    pub fn after_throttling(self, now: UnixMs) -> Self {
        Self {
            due: now + AFTER_THROTTLING_MS,
            ..self
        }
    }

    /// Its shard, out of `shards`.
    pub fn shard(&self, shards: u16) -> u16 {
        let id = match self.what {
            What::Deadline { monitor, .. }
            | What::Remind { monitor, .. }
            | What::Wake { monitor, .. } => monitor.0,
            What::Deliver { alert, .. } | What::Audit { alert, .. } => alert.0,
            What::Flush { channel, .. } | What::Subscription { channel, .. } => channel.0,
            What::Watch { watch, .. } => watch.0,
            What::Request { request } => request.0,
        };
        let bytes = id.as_bytes();
        u16::from_be_bytes([bytes[14], bytes[15]]) % shards.max(1)
    }

    /// A stable name: arming the same timer twice has the effect of arming it once.
    pub fn name(&self) -> String {
        match self.what {
            What::Deadline { monitor, epoch } => format!("m{}.{epoch}", monitor.0.simple()),
            What::Deliver { alert, channel, .. } => {
                format!("d{}.{}", alert.0.simple(), channel.0.simple())
            }
            What::Audit { alert, .. } => format!("a{}", alert.0.simple()),
            What::Flush { channel, .. } => format!("f{}", channel.0.simple()),
            What::Remind { monitor, flip, n } => format!("r{}.{flip}.{n}", monitor.0.simple()),
            What::Wake { monitor, flip } => format!("w{}.{flip}", monitor.0.simple()),
            What::Watch { watch, epoch, .. } => format!("s{}.{epoch}", watch.0.simple()),
            What::Request { request } => format!("q{}", request.0.simple()),
            What::Subscription { channel, .. } => format!("e{}", channel.0.simple()),
        }
    }
}

/// When to check a monitor whose deadline is `deadline`: at the deadline, or up to a minute
/// before it on a grid set by the grace, so that the timers of many monitors share an item. Never
/// before `now`; at `now` if the deadline is over.
///
/// T1 requires an entry at or before the deadline; a monitor that is late at that time is checked
/// again exactly at its deadline.
pub fn look_at(deadline: UnixMs, grace_s: u32, now: UnixMs) -> UnixMs {
    let grid_ms = match grace_s / 4 {
        60.. => 60_000,
        15.. => 15_000,
        5.. => 5_000,
        _ => 1_000,
    };
    let slot = UnixMs(deadline.0.div_euclid(grid_ms) * grid_ms);
    // A timer in the past would be behind the cursor, where no sweep finds it.
    if slot > now { slot } else { deadline.max(now) }
}

/// Encodes entries as the bytes of one attribute: for each, a tag, the due time and the ids.
pub fn encode(entries: &[Timer]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * 29);
    for Timer { due, what } in entries {
        let mut entry = |tag: u8, ids: &[Uuid]| {
            bytes.push(tag);
            bytes.extend(due.0.to_be_bytes());
            ids.iter().for_each(|id| bytes.extend(id.as_bytes()));
        };
        match *what {
            What::Deadline { monitor, epoch } => {
                entry(0, &[monitor.0]);
                bytes.extend(epoch.to_be_bytes());
            }
            What::Deliver {
                project,
                alert,
                channel,
            } => entry(1, &[project.0, alert.0, channel.0]),
            What::Audit { project, alert } => entry(2, &[project.0, alert.0]),
            What::Flush { project, channel } => entry(3, &[project.0, channel.0]),
            What::Remind { monitor, flip, n } => {
                entry(4, &[monitor.0]);
                bytes.extend(flip.to_be_bytes());
                bytes.extend(n.to_be_bytes());
            }
            What::Wake { monitor, flip } => {
                entry(5, &[monitor.0]);
                bytes.extend(flip.to_be_bytes());
            }
            What::Watch {
                project,
                watch,
                epoch,
            } => {
                entry(6, &[project.0, watch.0]);
                bytes.extend(epoch.to_be_bytes());
            }
            What::Request { request } => entry(7, &[request.0]),
            What::Subscription { project, channel } => entry(8, &[project.0, channel.0]),
        }
    }
    bytes
}

/// Decodes the output of [`encode`]; `None` for anything else.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<Timer>> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*head)
    }
    fn id(bytes: &mut &[u8]) -> Option<Uuid> {
        take(bytes).map(Uuid::from_bytes)
    }
    let mut entries = Vec::new();
    while let Some([tag]) = take(&mut bytes) {
        let due = UnixMs(i64::from_be_bytes(take(&mut bytes)?));
        let what = match tag {
            0 => What::Deadline {
                monitor: MonitorId(id(&mut bytes)?),
                epoch: u32::from_be_bytes(take(&mut bytes)?),
            },
            1 => What::Deliver {
                project: ProjectId(id(&mut bytes)?),
                alert: AlertId(id(&mut bytes)?),
                channel: ChannelId(id(&mut bytes)?),
            },
            2 => What::Audit {
                project: ProjectId(id(&mut bytes)?),
                alert: AlertId(id(&mut bytes)?),
            },
            3 => What::Flush {
                project: ProjectId(id(&mut bytes)?),
                channel: ChannelId(id(&mut bytes)?),
            },
            4 => What::Remind {
                monitor: MonitorId(id(&mut bytes)?),
                flip: u64::from_be_bytes(take(&mut bytes)?),
                n: u32::from_be_bytes(take(&mut bytes)?),
            },
            5 => What::Wake {
                monitor: MonitorId(id(&mut bytes)?),
                flip: u64::from_be_bytes(take(&mut bytes)?),
            },
            6 => What::Watch {
                project: ProjectId(id(&mut bytes)?),
                watch: WatchId(id(&mut bytes)?),
                epoch: u32::from_be_bytes(take(&mut bytes)?),
            },
            7 => What::Request {
                request: RequestId(id(&mut bytes)?),
            },
            8 => What::Subscription {
                project: ProjectId(id(&mut bytes)?),
                channel: ChannelId(id(&mut bytes)?),
            },
            _ => return None,
        };
        entries.push(Timer { due, what });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let id = Uuid::from_u128(0x1234_5678);
        let entries = [
            What::Deadline {
                monitor: MonitorId(id),
                epoch: 7,
            },
            What::Deliver {
                project: ProjectId(id),
                alert: AlertId(id),
                channel: ChannelId(id),
            },
            What::Audit {
                project: ProjectId(id),
                alert: AlertId(id),
            },
            What::Flush {
                project: ProjectId(id),
                channel: ChannelId(id),
            },
            What::Remind {
                monitor: MonitorId(id),
                flip: 8,
                n: 9,
            },
            What::Wake {
                monitor: MonitorId(id),
                flip: 10,
            },
            What::Watch {
                project: ProjectId(id),
                watch: WatchId(id),
                epoch: 11,
            },
            What::Request {
                request: RequestId(id),
            },
            What::Subscription {
                project: ProjectId(id),
                channel: ChannelId(id),
            },
        ]
        .map(|what| Timer {
            due: UnixMs(1_763_700_000_123),
            what,
        });
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes).unwrap(), entries);
        for cut in [1, 9, 20, bytes.len() - 1] {
            assert!(decode(&bytes[..cut]).is_none(), "{cut}");
        }
        assert!(decode(&[9; 40]).is_none());
    }

    #[test]
    fn a_check_is_never_after_the_deadline_or_before_now() {
        let now = UnixMs(1_000_000_000);
        for grace_s in [0, 1, 19, 20, 60, 300, 3_600] {
            for ahead_ms in [1, 999, 1_000, 59_999, 3_600_123] {
                let deadline = now + ahead_ms;
                let due = look_at(deadline, grace_s, now);
                assert!(now < due && due <= deadline, "{grace_s} {ahead_ms}");
            }
        }
        assert_eq!(look_at(now - 5, 60, now), now);
    }
}
