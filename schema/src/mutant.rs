//! Deliberate bugs, for a test of the tests: `e2e mutants` puts in one at a time, and the simulation has to notice. They exist
//! only with the feature `mutants`, which nothing but `e2e` asks for; and even then there is none unless this thread was
//! given one. Without the feature, [`is`] is false where it is compiled.

/// What may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A sweep deletes timers before it does what they ask for.
    TimersDeletedFirst,
    /// A sweep moves the cursor as far as it looked, and leaves no overlap.
    CursorTooFar,
    /// A change of a state is not guarded by its version.
    FlipUnguarded,
    /// An alert is written after its flip, not with it.
    AlertAfterFlip,
    /// Nobody looks whether an alert was lost on its way.
    NoAudit,
    /// A delivery is marked as sent before it is.
    MarkedBeforeSent,
    /// Each attempt of a delivery has a key of its own.
    KeyOfAttempt,
    /// An alert does not wait for the one before it.
    OrderIgnored,
    /// A limit is counted, and not checked.
    LimitUnchecked,
    /// A deadline comes without its grace.
    NoGrace,
    /// An outage of ours is one of every monitor.
    OutageIgnored,
    /// A heartbeat is counted by the fast path whatever the monitor's status is.
    FastPathUnguarded,
    /// A heartbeat is answered although it could not be written.
    AnswersAnyway,
    /// A group's members move on before the group can't be sent again.
    MembersFirst,
    /// A heartbeat is dated when its key was looked up.
    StampedLate,
    /// A failure takes nobody down.
    FailIgnored,
    /// A run may take for ever.
    RunIgnored,
    /// A deadline that comes closer gets no timer.
    CloserUnarmed,
    /// What a watch remembers is not guarded by its version.
    WatchStateUnguarded,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 19] = [
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
    ];
}

/// Whether this thread has that bug.
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

    /// Whether this thread has that bug.
    pub fn is(mutant: Mutant) -> bool {
        GIVEN.get() == Some(mutant)
    }

    /// Gives this thread a bug, or none.
    pub fn give(mutant: Option<Mutant>) {
        GIVEN.set(mutant);
    }
}
