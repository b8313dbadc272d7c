//! The fence between two regions: one item in a strongly consistent table, which says which region is active.
//! Only that region's replica is written, and only that region evaluates and sends.
//!
//! The active region holds a lease, and renews it. All other processes learn of it by reading the item. A process starts
//! an act only if it ends before the lease that it read. Nothing shortens a lease. When the lease has ended, and the last
//! call of an act within it must have reached its table, the other region may take over.
//!
//! This assumes that clocks are at most `skew_ms` apart, and that no call reaches a table later than `flight_ms` after
//! the promised end of its act, even if a process pauses between its check and its call.
//!
//! The item is changed only by single writes, each on the condition that its version is the one that was read. So a
//! write that arrives late, or a second time, has no effect. Times in it are by the clock of the process that wrote it.
//! `e2e/tests/fence.rs` checks the protocol with a model checker.

use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// The times of the protocol, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// How long a lease lasts.
    pub lease_ms: i64,
    /// How often the active region renews it.
    pub renew_ms: i64,
    /// How long a reader believes what it has read. Leases are never cut, so this only bounds how late it learns of a
    /// change.
    pub belief_ms: i64,
    /// How long after the promised end of an act its last call may still reach a table.
    pub flight_ms: i64,
    /// How far two clocks may be apart.
    pub skew_ms: i64,
    /// The shortest time between two automatic takeovers.
    pub pause_ms: i64,
}

/// The times that Thrum uses.
pub const TIMING: Timing = Timing {
    lease_ms: 60_000,
    renew_ms: 15_000,
    belief_ms: 5_000,
    flight_ms: 12_000,
    skew_ms: 1_000,
    pause_ms: 600_000,
};

/// How much later than a later item an item may be replicated, in milliseconds. Heartbeats from this long before the last
/// pulse that was replicated may be missing after a takeover.
pub const DISORDER_MS: i64 = 90_000;
/// How long after a takeover heartbeats may still go to the lost region, in milliseconds: three health checks of 10 s,
/// and a record of the domain that is cached for 60 s.
pub const REROUTED_MS: i64 = 90_000;
/// How long the region that wants to take over must have seen the fence unchanged, in milliseconds. The active region
/// renews it more often. So a wrong clock alone takes nothing over.
pub const UNCHANGED_MS: i64 = 30_000;

/// The name of a region, such as `eu-central-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Region(pub String);

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the fence of a deployment in two regions is, for those who know only its table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencePlace {
    /// Both regions.
    pub regions: [Region; 2],
    /// The name of the table with the fence.
    pub table: String,
}

/// The fence, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Increased by every write, each of which requires the one that was read.
    pub version: u64,
    /// The active region.
    pub active: Region,
    /// Increased whenever another region becomes active.
    pub epoch: u64,
    /// When the lease ends.
    pub until: UnixMs,
    /// The region that an operator wants to be active next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Region>,
    /// Whether the active region has repaired what replication lost, so that it may evaluate and send.
    pub ready: bool,
    /// When the active region became active.
    pub since: UnixMs,
    /// The last automatic takeover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<UnixMs>,
}

/// Why a region can't change the fence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// Another region is active.
    #[error("{0} is active")]
    NotActive(Region),
    /// This region is active.
    #[error("{0} is active already")]
    Active(Region),
    /// An operator wants another region to be active.
    #[error("{0} is to become active")]
    HandedOver(Region),
    /// The lease, or what was begun within it, may not have ended.
    #[error("the lease of {active} has not ended, or calls may be under way until {}", until.rfc3339())]
    Leased {
        /// The active region.
        active: Region,
        /// When the fence may be taken.
        until: UnixMs,
    },
    /// The last automatic takeover was too recent.
    #[error("the last automatic takeover was too recent; the next is possible at {}", until.rfc3339())]
    TooSoon {
        /// When it is possible.
        until: UnixMs,
    },
    /// The lease ends later than any lease can.
    #[error("the lease ends at {}, which is too late for any lease: a clock is wrong", until.rfc3339())]
    Clocks {
        /// When it ends.
        until: UnixMs,
    },
}

impl Fence {
    /// The first fence, on which `active` is ready.
    pub fn new(active: Region, now: UnixMs, timing: &Timing) -> Self {
        Self {
            version: 1,
            active,
            epoch: 1,
            until: now + timing.lease_ms,
            next: None,
            ready: true,
            since: now,
            taken: None,
        }
    }

    fn next_version(&self) -> Self {
        Self {
            version: self.version + 1,
            ..self.clone()
        }
    }

    /// Whether a lease can end as late as this one does, by the clock of a process that reads it at `now`.
    fn is_plausible(&self, now: UnixMs, timing: &Timing) -> bool {
        self.until <= now + timing.lease_ms + timing.skew_ms
    }

    fn held_by(&self, me: &Region) -> Result<(), Refused> {
        match (&self.next, self.active == *me) {
            (_, false) => Err(Refused::NotActive(self.active.clone())),
            (Some(next), true) => Err(Refused::HandedOver(next.clone())),
            (None, true) => Ok(()),
        }
    }

    /// Renews the lease of `me`. A lease that has ended can be renewed as long as nobody took over.
    ///
    /// # Errors
    /// Another region is active, or is to become active; or a clock is wrong.
    pub fn renewed(&self, me: &Region, now: UnixMs, timing: &Timing) -> Result<Self, Refused> {
        self.held_by(me)?;
        if !self.is_plausible(now, timing) {
            return Err(Refused::Clocks { until: self.until });
        }
        Ok(Self {
            until: self.until.max(now + timing.lease_ms),
            ..self.next_version()
        })
    }

    /// Whether the active region should renew its lease now.
    pub fn is_to_be_renewed(&self, me: &Region, now: UnixMs, timing: &Timing) -> bool {
        let renewed_at = self.until - timing.lease_ms;
        self.held_by(me).is_ok() && now - renewed_at >= timing.renew_ms
    }

    /// Notes that `me` has repaired what replication lost.
    ///
    /// # Errors
    /// Another region is active, or is to become active.
    pub fn repaired(&self, me: &Region) -> Result<Self, Refused> {
        self.held_by(me)?;
        Ok(Self {
            ready: true,
            ..self.next_version()
        })
    }

    /// Hands the fence to `next`, as an operator wants: the lease is not renewed any more, and `next` takes over when it
    /// has ended. The lease is not cut, because a process that reads the fence before this write arrives believes the
    /// longer one. To hand it to the active region withdraws this, as long as the other has not taken over.
    ///
    /// # Errors
    /// `next` is active already, and the fence was not handed to another region.
    pub fn handed_over(&self, next: &Region) -> Result<Self, Refused> {
        if self.active == *next && self.next.is_none() {
            return Err(Refused::Active(next.clone()));
        }
        Ok(Self {
            next: Some(next.clone()).filter(|next| self.active != *next),
            ..self.next_version()
        })
    }

    /// Whether the region that an operator wants has not taken over, although it could long since: it may be lost itself.
    /// Then the active one should withdraw the switch, so that somebody is active.
    pub fn is_forsaken(&self, me: &Region, now: UnixMs, timing: &Timing) -> bool {
        let free = self.until + timing.skew_ms + timing.flight_ms;
        self.active == *me && self.next.is_some() && now > free + timing.lease_ms
    }

    /// Makes `me` the active region, once the lease and everything that was begun within it have ended. It must then
    /// repair what replication lost.
    ///
    /// # Errors
    /// The fence is not free yet, or the last automatic takeover was too recent.
    pub fn taken_over(&self, me: &Region, now: UnixMs, timing: &Timing) -> Result<Self, Refused> {
        if self.active == *me {
            return Err(Refused::Active(me.clone()));
        }
        let is_wanted = self.next.as_ref() == Some(me);
        if let (Some(next), false) = (&self.next, is_wanted) {
            return Err(Refused::HandedOver(next.clone()));
        }
        let free = self.until + timing.skew_ms + timing.flight_ms;
        if now <= free {
            return Err(Refused::Leased {
                active: self.active.clone(),
                until: free,
            });
        }
        let again = self.taken.map(|taken| taken + timing.pause_ms);
        if let (Some(until), false) = (again.filter(|again| now < *again), is_wanted) {
            return Err(Refused::TooSoon { until });
        }
        Ok(Self {
            active: me.clone(),
            epoch: self.epoch + 1,
            until: now + timing.lease_ms,
            next: None,
            ready: false,
            since: now,
            taken: if is_wanted { self.taken } else { Some(now) },
            ..self.next_version()
        })
    }
}

/// What a region reports to the other one, next to the fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The region.
    pub region: Region,
    /// When it reported.
    pub at: UnixMs,
    /// Since when it has reported without a longer break.
    pub since: UnixMs,
    /// The version of the fence that it saw.
    pub version: u64,
    /// Since when it has seen that version.
    pub unchanged: UnixMs,
    /// The last pulse in its replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse: Option<UnixMs>,
}

impl Report {
    /// The longest time between two reports, in milliseconds. After a longer one, the region was away.
    pub const BREAK_MS: i64 = 180_000;

    /// The report of `region`, which sees this fence now, after `last`.
    pub fn after(
        last: Option<&Self>,
        region: &Region,
        fence: &Fence,
        pulse: Option<UnixMs>,
        now: UnixMs,
    ) -> Self {
        let recent = last.filter(|last| last.at.is_within(Self::BREAK_MS, now));
        let same = recent.filter(|last| last.version == fence.version);
        Self {
            region: region.clone(),
            at: now,
            since: recent.map_or(now, |last| last.since),
            version: fence.version,
            unchanged: same.map_or(now, |last| last.unchanged),
            pulse,
        }
    }

    /// Whether the region has seen `fence` unchanged for so long that the active one can't be renewing it.
    pub fn has_seen_unchanged(&self, fence: &Fence, now: UnixMs) -> bool {
        self.version == fence.version && now - self.unchanged >= UNCHANGED_MS
    }

    /// How far behind the region's replica is, in milliseconds, as of its report; `None` if that is not known.
    pub fn lag_ms(&self) -> Option<i64> {
        Some((self.at - self.pulse?).max(0))
    }
}

/// What a reader of the fence believes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Belief {
    fence: Fence,
    /// When the read began, by the reader's clock.
    read: UnixMs,
}

impl Belief {
    /// The belief of a reader that began to read `fence` at `read`.
    pub const fn new(fence: Fence, read: UnixMs) -> Self {
        Self { fence, read }
    }

    /// The fence that was read.
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// When the read began.
    pub const fn read(&self) -> UnixMs {
        self.read
    }

    /// Whether the fence must be read again.
    pub fn is_old(&self, now: UnixMs, timing: &Timing) -> bool {
        // A clock that was set back makes it unknown how old it is.
        !self.read.is_within(timing.belief_ms, now)
    }

    /// The region whose replica may be written by an act that begins now and takes at most `takes_ms`, and its epoch;
    /// `None` if the act might not end within the lease, or the fence must be read again.
    pub fn active(&self, now: UnixMs, takes_ms: i64, timing: &Timing) -> Option<(&Region, u64)> {
        let fits = now + takes_ms <= self.fence.until;
        let is_plausible = self.fence.is_plausible(now, timing);
        let holds = fits && is_plausible && !self.is_old(now, timing);
        holds.then_some((&self.fence.active, self.fence.epoch))
    }

    /// Whether `me` may evaluate or send, for at most `takes_ms` from now.
    pub fn may_act(&self, me: &Region, now: UnixMs, takes_ms: i64, timing: &Timing) -> bool {
        self.fence.ready && self.may_repair(me, now, takes_ms, timing)
    }

    /// Whether `me` may repair what replication lost, for at most `takes_ms` from now.
    pub fn may_repair(&self, me: &Region, now: UnixMs, takes_ms: i64, timing: &Timing) -> bool {
        let active = self.active(now, takes_ms, timing);
        active.is_some_and(|(region, _)| region == me)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_763_700_000_000);

    fn regions() -> (Region, Region) {
        let [a, b] = ["eu-central-1", "eu-west-1"].map(|name| Region(name.to_owned()));
        (a, b)
    }

    #[test]
    fn nothing_begins_that_might_not_end_within_the_lease() {
        let (a, b) = regions();
        let fence = Fence::new(a.clone(), NOW, &TIMING);
        let at = |ms: i64| Belief::new(fence.clone(), NOW + ms);
        assert!(at(0).may_act(&a, NOW, 20_000, &TIMING));
        assert!(!at(0).may_act(&b, NOW, 20_000, &TIMING));
        assert!(at(40_000).may_act(&a, NOW + 40_000, 20_000, &TIMING));
        assert!(!at(40_001).may_act(&a, NOW + 40_001, 20_000, &TIMING));
        // A belief is good for five seconds.
        assert_eq!(at(0).active(NOW + 4_999, 8_000, &TIMING), Some((&a, 1)));
        assert_eq!(at(0).active(NOW + 5_000, 8_000, &TIMING), None);
        assert_eq!(at(0).active(NOW - 1, 8_000, &TIMING), None);
    }

    #[test]
    fn a_lease_can_be_renewed_until_another_region_takes_over() {
        let (a, b) = regions();
        let fence = Fence::new(a.clone(), NOW, &TIMING);
        assert!(!fence.is_to_be_renewed(&a, NOW + 14_999, &TIMING));
        assert!(fence.is_to_be_renewed(&a, NOW + 15_000, &TIMING));
        assert!(!fence.is_to_be_renewed(&b, NOW + 15_000, &TIMING));
        let late = fence.renewed(&a, NOW + 100_000, &TIMING).unwrap();
        assert_eq!(
            (late.until, late.epoch, late.version),
            (NOW + 160_000, 1, 2)
        );
        assert_eq!(
            fence.taken_over(&b, NOW + 73_000, &TIMING),
            Err(Refused::Leased {
                active: a.clone(),
                until: NOW + 73_000
            })
        );
        let taken = fence.taken_over(&b, NOW + 73_001, &TIMING).unwrap();
        assert_eq!((&taken.active, taken.epoch, taken.ready), (&b, 2, false));
        assert_eq!(
            taken.renewed(&a, NOW + 73_002, &TIMING),
            Err(Refused::NotActive(b.clone()))
        );
        // It repairs before it evaluates, but its replica is written at once.
        let belief = Belief::new(taken.clone(), NOW + 73_001);
        let now = NOW + 73_001;
        assert!(belief.may_repair(&b, now, 8_000, &TIMING));
        assert!(!belief.may_act(&b, now, 8_000, &TIMING));
        assert_eq!(belief.active(now, 8_000, &TIMING), Some((&b, 2)));
        let ready = Belief::new(taken.repaired(&b).unwrap(), now);
        assert!(ready.may_act(&b, now, 8_000, &TIMING));
    }

    #[test]
    fn there_is_one_automatic_takeover_in_ten_minutes() {
        let (a, b) = regions();
        let fence = Fence::new(a.clone(), NOW, &TIMING);
        let taken = fence.taken_over(&b, NOW + 80_000, &TIMING).unwrap();
        assert_eq!(
            taken.taken_over(&a, NOW + 300_000, &TIMING),
            Err(Refused::TooSoon {
                until: NOW + 680_000
            })
        );
        assert!(taken.taken_over(&a, NOW + 680_000, &TIMING).is_ok());
        // An operator need not wait for that, only for the end of the lease.
        let handed = taken.handed_over(&a).unwrap();
        assert_eq!(handed.until, NOW + 140_000);
        assert_eq!(
            handed.renewed(&b, NOW + 83_000, &TIMING),
            Err(Refused::HandedOver(a.clone()))
        );
        assert!(handed.taken_over(&a, NOW + 153_000, &TIMING).is_err());
        let back = handed.taken_over(&a, NOW + 153_001, &TIMING).unwrap();
        assert_eq!((&back.active, back.epoch, back.taken), (&a, 3, taken.taken));
        assert_eq!(back.handed_over(&a), Err(Refused::Active(a)));
    }

    #[test]
    fn a_hand_over_can_be_withdrawn() {
        let (a, b) = regions();
        let fence = Fence::new(a.clone(), NOW, &TIMING);
        let handed = fence.handed_over(&b).unwrap();
        let back = handed.handed_over(&a).unwrap();
        assert_eq!((back.next.clone(), back.version), (None, 3));
        assert!(back.renewed(&a, NOW + 15_000, &TIMING).is_ok());
    }

    #[test]
    fn a_hand_over_to_a_lost_region_is_forsaken_after_a_while() {
        let (a, b) = regions();
        let fence = Fence::new(a.clone(), NOW, &TIMING);
        let handed = fence.handed_over(&b).unwrap();
        assert!(!handed.is_forsaken(&a, NOW + 133_000, &TIMING));
        assert!(handed.is_forsaken(&a, NOW + 133_001, &TIMING));
        assert!(!handed.is_forsaken(&b, NOW + 133_001, &TIMING));
        assert!(!fence.is_forsaken(&a, NOW + 133_001, &TIMING));
        let back = handed.handed_over(&a).unwrap();
        assert!(back.renewed(&a, NOW + 133_001, &TIMING).is_ok());
    }

    #[test]
    fn a_lease_longer_than_any_allows_nothing() {
        let (a, _) = regions();
        let fence = Fence::new(a.clone(), NOW, &TIMING);
        // A reader an hour behind, or a writer an hour ahead.
        for behind_ms in [1_001, 3_600_000] {
            let now = NOW - behind_ms;
            let belief = Belief::new(fence.clone(), now);
            assert_eq!(belief.active(now, 8_000, &TIMING), None);
            let refused = fence.renewed(&a, now, &TIMING);
            assert!(matches!(refused, Err(Refused::Clocks { .. })));
        }
        let behind = NOW - 1_000;
        let belief = Belief::new(fence, behind);
        assert!(belief.active(behind, 8_000, &TIMING).is_some());
    }

    #[test]
    fn it_reads_back_from_json() {
        let (a, b) = regions();
        let fence = Fence::new(a, NOW, &TIMING);
        let fence = fence.handed_over(&b).unwrap();
        let json = serde_json::to_string(&fence).unwrap();
        assert_eq!(serde_json::from_str::<Fence>(&json).unwrap(), fence);
    }
}
