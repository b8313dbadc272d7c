//! Thrum's own outages: times when heartbeats could not reach it (T3).

use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// How long an outage is kept, in seconds: longer than any monitor can wait.
pub const OUTAGE_TTL_S: i64 = 2 * 366 * 86_400;
/// How many outages are considered, newest first.
pub const MAX_OUTAGES: usize = 100;
/// The share of refused heartbeats from which it is an outage, per mille. Fewer are within the
/// grace that a monitor has.
const LEAST_REFUSED: u64 = 10;
/// The share of refused heartbeats from which the outage is total, per mille.
const TOTAL: u16 = 900;
/// From how many heartbeats on a share is known well enough to call an outage total.
const SAMPLE: u64 = 20;
/// For how long a partial outage goes on after the last refused heartbeat, in milliseconds: longer than
/// between two pulses, because not every pulse is refused.
pub const LINGERS_MS: i64 = 90_000;
/// How improbable it must be that a monitor's heartbeats were all refused, before it goes down: one
/// in this many powers of ten.
const CERTAINTY: f64 = 6.0;

/// A period in which the pipeline did not work, or refused a part of the heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// When it was last known to work.
    pub start: UnixMs,
    /// When it was first known to work again.
    pub end: UnixMs,
    /// The share of heartbeats that were refused, per mille; `None` if none could arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<u16>,
    /// Whether another region took over then: heartbeats that the lost one had received may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takeover: bool,
}

/// Heartbeats that arrived, with those that were refused for no fault of their senders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// All.
    pub all: u64,
    /// Those that were refused.
    pub refused: u64,
}

/// A step of the system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStep {
    /// When it was noticed, by the new time.
    pub at: UnixMs,
    /// How far the clock was set forward, in milliseconds; negative if it was set back.
    pub by_ms: i64,
}

/// The heartbeats of a minute in which some were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// How many.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// When the first was refused.
    pub first: UnixMs,
    /// When the last was refused.
    pub last: UnixMs,
}

impl Outage {
    /// One in which no heartbeat could arrive.
    pub const fn total(start: UnixMs, end: UnixMs) -> Self {
        Self {
            start,
            end,
            refused: None,
            takeover: false,
        }
    }

    /// One in which another region took over.
    pub const fn takeover(start: UnixMs, end: UnixMs) -> Self {
        Self {
            takeover: true,
            ..Self::total(start, end)
        }
    }

    /// The partial outage up to `now`, if enough heartbeats were refused in the last minutes.
    pub fn partial(lately: &[Refusals], now: UnixMs) -> Option<Self> {
        let start = lately.iter().map(|minute| minute.first).min()?;
        let last = lately.iter().map(|minute| minute.last).max()?;
        let all: u64 = lately.iter().map(|minute| minute.traffic.all).sum();
        let refused: u64 = lately.iter().map(|minute| minute.traffic.refused).sum();
        let share = refused.saturating_mul(1_000) / all.max(1);
        // A few heartbeats don't show that none arrives.
        let most = if all < SAMPLE {
            u64::from(TOTAL) / 2
        } else {
            1_000
        };
        let share = share.min(most);
        (share >= LEAST_REFUSED).then(|| Self {
            start,
            end: now.min(last + LINGERS_MS),
            refused: Some(u16::try_from(share.min(1_000)).unwrap_or(1_000)),
            takeover: false,
        })
    }

    /// This partial outage as the continuation of `known`: it has lasted since then, and is as bad
    /// as it ever was.
    #[must_use]
    pub fn after(self, known: Option<&Self>) -> Self {
        let Some(known) = known else {
            return self;
        };
        Self {
            start: known.start,
            end: self.end.max(known.end),
            // An earlier total outage does not make a later partial one total.
            refused: self
                .refused
                .max(known.refused.map(|known| known.min(TOTAL - 1))),
            takeover: false,
        }
    }

    /// How many more periods a monitor gets, if a part of the heartbeats was refused: so many that
    /// it is practically certain that not all of its heartbeats were refused by chance. `None` if
    /// the outage is total.
    pub fn more_periods(&self) -> Option<i64> {
        let refused = self.refused.filter(|refused| *refused < TOTAL)?;
        let share = f64::from(refused.max(1)) / 1_000.0;
        #[expect(clippy::cast_possible_truncation, reason = "at most 131")]
        let in_a_row = (CERTAINTY / -share.log10()).ceil() as i64;
        Some((in_a_row - 1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(share: u16) -> Outage {
        Outage {
            refused: Some(share),
            ..Outage::total(UnixMs(0), UnixMs(1))
        }
    }

    #[test]
    fn a_larger_share_of_refusals_gives_a_monitor_more_periods() {
        for (share, periods) in [
            (10, Some(2)),
            (50, Some(4)),
            (100, Some(5)),
            (500, Some(19)),
            (899, Some(129)),
            (900, None),
            (1_000, None),
        ] {
            assert_eq!(refused(share).more_periods(), periods, "{share}");
        }
    }

    #[test]
    fn refusals_count_by_their_share() {
        let minute = |first, all, refused| Refusals {
            traffic: Traffic { all, refused },
            first: UnixMs(first),
            last: UnixMs(first + 20_000),
        };
        assert_eq!(Outage::partial(&[], UnixMs(0)), None);
        assert_eq!(
            Outage::partial(&[minute(60_000, 10_000, 99)], UnixMs(150_000)),
            None
        );
        let outage = Outage {
            start: UnixMs(60_000),
            end: UnixMs(150_000),
            refused: Some(100),
            takeover: false,
        };
        let found = Outage::partial(
            &[minute(120_000, 500, 40), minute(60_000, 500, 60)],
            UnixMs(150_000),
        );
        assert_eq!(found, Some(outage));
        let later = Outage {
            start: UnixMs(240_000),
            end: UnixMs(360_000),
            refused: Some(50),
            takeover: false,
        };
        let merged = later.after(Some(&outage));
        assert_eq!(
            (merged.start, merged.end),
            (UnixMs(60_000), UnixMs(360_000))
        );
        assert_eq!(merged.refused, Some(100));
    }
}
