//! Deliberate bugs, to test the tests: `e2e mutants` enables one at a time, and the simulation must
//! notice. They exist only with the feature `mutants`, which only `e2e` enables, and then only in a
//! thread that was given one. Without the feature, [`is`] is a constant `false`.

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A sweep deletes timers before it acts on them.
    TimersDeletedFirst,
    /// A sweep moves the cursor as far as it looked, without overlap.
    CursorTooFar,
    /// A state change is not guarded by the version.
    FlipUnguarded,
    /// An alert is written after its flip, not in the same transaction.
    AlertAfterFlip,
    /// Nothing checks for alerts that were lost on the way.
    NoAudit,
    /// A delivery is marked as sent before it is.
    MarkedBeforeSent,
    /// Each attempt of a delivery has its own idempotency key.
    KeyOfAttempt,
    /// An alert does not wait for the previous one.
    OrderIgnored,
    /// A limit is counted but not enforced.
    LimitUnchecked,
    /// Deadlines do not include the grace.
    NoGrace,
    /// Thrum's own outages count against monitors.
    OutageIgnored,
    /// The fast path accepts a heartbeat in any status.
    FastPathUnguarded,
    /// A heartbeat is acknowledged although the write failed.
    AnswersAnyway,
    /// A group's members are settled while the group can still be sent again.
    MembersFirst,
    /// A heartbeat is timestamped after the key lookup instead of on arrival.
    StampedLate,
    /// A failure does not take a monitor down.
    FailIgnored,
    /// A run may take forever.
    RunIgnored,
    /// A deadline that moves closer gets no timer.
    CloserUnarmed,
    /// A watch's memory is not guarded by its version.
    WatchStateUnguarded,
    /// Refused heartbeats are no outage.
    RefusalsIgnored,
    /// Steps of the clock change nothing.
    StepIgnored,
    /// A flapping monitor alerts at every flip.
    FlappingAlerts,
    /// Reminders go on after somebody has acknowledged.
    AcknowledgedReminds,
    /// A channel is notified later although somebody has acknowledged.
    AcknowledgedEscalates,
    /// Nothing stands in for a channel that fails.
    NoFallback,
    /// A channel that stood in for another does not get the rest of the outage.
    StandInsForgotten,
    /// Alerts are not held while a parent is down.
    ParentsIgnored,
    /// Children get no time to report once their parent is back.
    BackIgnored,
    /// Alerts of a snoozed monitor are not held.
    SnoozeIgnored,
    /// Nothing checks a held alert again.
    NeverWoken,
    /// Nothing arms the timers of a redelivery.
    RedeliveryUnarmed,
    /// A channel's limit holds for the first alert about a monitor, too.
    FirstDownLimited,
    /// A delivery waits for a name server as long as it takes.
    LookupForever,
    /// A run that reports unexpected numbers is a success.
    ExpectationsIgnored,
    /// A strategy that goes on from a stored state has forgotten its position.
    PositionForgotten,
    /// A detector learns from the values that it finds anomalous.
    AnomaliesLearned,
    /// A tick does not send the next one.
    TickUnchained,
    /// Timers share the queue of long work.
    TimersBehindWork,
    /// A region evaluates and sends although another one is active.
    FenceIgnored,
    /// The passive region relays and sends alerts that are replicated to it.
    PassiveRelays,
    /// Ingest writes to its own region's replica.
    LocalWrite,
    /// After a takeover, the sweep goes on where the cursor was.
    CursorKept,
    /// After a takeover, heartbeats count as lost only since the lease was last renewed.
    PulseShared,
    /// After a takeover, nothing is repaired.
    NoRepair,
    /// The active region does not renew its lease.
    LeaseNotRenewed,
    /// An alert is sent although a later one of its monitor was replicated, and sent, before it.
    OvertakenSent,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 46] = [
        Self::TimersDeletedFirst,
        Self::CursorTooFar,
        Self::FlipUnguarded,
        Self::AlertAfterFlip,
        Self::NoAudit,
        Self::MarkedBeforeSent,
        Self::KeyOfAttempt,
        Self::OrderIgnored,
        Self::LimitUnchecked,
        Self::NoGrace,
        Self::OutageIgnored,
        Self::FastPathUnguarded,
        Self::AnswersAnyway,
        Self::MembersFirst,
        Self::StampedLate,
        Self::FailIgnored,
        Self::RunIgnored,
        Self::CloserUnarmed,
        Self::WatchStateUnguarded,
        Self::RefusalsIgnored,
        Self::StepIgnored,
        Self::FlappingAlerts,
        Self::AcknowledgedReminds,
        Self::AcknowledgedEscalates,
        Self::NoFallback,
        Self::StandInsForgotten,
        Self::ParentsIgnored,
        Self::BackIgnored,
        Self::SnoozeIgnored,
        Self::NeverWoken,
        Self::RedeliveryUnarmed,
        Self::FirstDownLimited,
        Self::LookupForever,
        Self::ExpectationsIgnored,
        Self::PositionForgotten,
        Self::AnomaliesLearned,
        Self::TickUnchained,
        Self::TimersBehindWork,
        Self::FenceIgnored,
        Self::PassiveRelays,
        Self::LocalWrite,
        Self::CursorKept,
        Self::PulseShared,
        Self::NoRepair,
        Self::LeaseNotRenewed,
        Self::OvertakenSent,
    ];

    /// Whether it can show only in a deployment in two regions.
    pub const fn is_of_regions(self) -> bool {
        matches!(
            self,
            Self::FenceIgnored
                | Self::PassiveRelays
                | Self::LocalWrite
                | Self::CursorKept
                | Self::PulseShared
                | Self::NoRepair
                | Self::LeaseNotRenewed
                | Self::OvertakenSent
        )
    }
}

/// Whether this thread has this bug.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn is(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use given::{give, is};

#[cfg(feature = "mutants")]
mod given {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static GIVEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this thread has this bug.
    pub fn is(mutant: Mutant) -> bool {
        GIVEN.get() == Some(mutant)
    }

    /// Gives this thread a bug, or none.
    pub fn give(mutant: Option<Mutant>) {
        GIVEN.set(mutant);
    }
}
