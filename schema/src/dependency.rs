//! Dependencies: a monitor may name parents, such as the host that a job runs on. While a parent is
//! down, Thrum holds the alert that the monitor is down, and the parent's alert names it.
//!
//! When a parent fails, its children often go down before it does, and they need time to ping once it is
//! up again. So an alert also waits a moment for a parent that is late, and for the child's next
//! heartbeat after its parent recovered.

use crate::flip::{Flip, Reason};
use crate::id::{MonitorId, ProjectId};
use crate::monitor::Monitor;
use crate::mutant::{self, Mutant};
use crate::state::{MonitorState, Status};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// Maximum parents of a monitor.
pub const MAX_PARENTS: usize = 10;
/// Maximum monitors that a monitor depends on, directly or through others.
pub const MAX_ANCESTORS: usize = 100;
/// How often a held alert is checked, and how long it waits for a late parent, in milliseconds.
pub const CHECK_MS: i64 = 60_000;
/// The longest time, in milliseconds, for which an alert waits for a child's next heartbeat, with its
/// grace, after the parent is up again. If it takes longer, the alert does not wait.
const LONGEST_WAIT_MS: i64 = 3_600_000;
/// How long after a child went down its alert may still wait for a parent that is up, in milliseconds: a
/// day.
const LONGEST_HOLD_MS: i64 = 86_400_000;
/// How long an alert waits for the sweep that takes an overdue parent down, in milliseconds, and how
/// often it is checked meanwhile.
const OVERDUE_MS: i64 = 300_000;
const SOON_MS: i64 = 5_000;

/// A monitor that depends on another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its project.
    pub project: ProjectId,
    /// Its ID.
    pub monitor: MonitorId,
    /// What messages call it.
    pub name: String,
}

/// When to check the held alert of `child`, which went down with `flip`, again; `None` if none of its
/// `parents` holds it now.
pub fn held_until(
    child: &Monitor,
    parents: &[MonitorState],
    flip: &Flip,
    now: UnixMs,
) -> Option<UnixMs> {
    if flip.to != Status::Down || mutant::is(Mutant::ParentsIgnored) {
        return None;
    }
    parents
        .iter()
        .filter_map(|parent| held_by(child, parent, flip, now))
        .max()
}

fn held_by(child: &Monitor, parent: &MonitorState, flip: &Flip, now: UnixMs) -> Option<UnixMs> {
    match parent.status {
        Status::Down => Some(now + CHECK_MS),
        Status::New | Status::Paused => None,
        Status::Up => {
            let until = late(parent, flip, now).max(reports_by(child, parent, flip, now));
            until.filter(|until| *until > now)
        }
    }
}

/// Until when an alert waits for a parent that is late.
fn late(parent: &MonitorState, flip: &Flip, now: UnixMs) -> Option<UnixMs> {
    parent.expected().filter(|expected| *expected <= now)?;
    if flip.reason == Reason::Fail {
        // The child can report.
        return None;
    }
    let deadline = parent.deadline()?;
    if deadline <= now {
        // The next sweep takes it down.
        return (now - deadline < OVERDUE_MS).then_some(now + SOON_MS);
    }
    // A moment more, so that the sweep can take the parent down first.
    let until = deadline + 1_000;
    (until <= flip.at + CHECK_MS).then_some(until)
}

/// The deadline of a child's next heartbeat after its parent recovered; `None` if the alert does not
/// wait for it.
fn reports_by(child: &Monitor, parent: &MonitorState, flip: &Flip, now: UnixMs) -> Option<UnixMs> {
    // The first flip of a monitor is no recovery.
    let back = parent.flip_at.filter(|_| parent.flips > 1)?;
    let has_failed_since = flip.reason == Reason::Fail && flip.at >= back;
    // A parent that goes down again and again must not hold an alert for ever.
    if has_failed_since || now - flip.at > LONGEST_HOLD_MS || mutant::is(Mutant::BackIgnored) {
        return None;
    }
    let until = child.schedule.next_after(back)? + i64::from(child.grace_s) * 1000;
    (until - back <= LONGEST_WAIT_MS).then_some(until)
}

/// Whether `start` would depend on itself; `parents_of` returns the parents of a monitor.
pub fn is_cyclic<T: Copy + Ord>(start: T, parents_of: impl Fn(T) -> Vec<T>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    let mut next = parents_of(start);
    while let Some(ancestor) = next.pop() {
        if ancestor == start {
            return true;
        }
        if seen.insert(ancestor) {
            next.extend(parents_of(ancestor));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{MonitorId, ProjectId};
    use crate::schedule::Schedule;

    const S: i64 = 1_000;

    fn monitor(period_s: u64, grace_s: u32) -> Monitor {
        let id = MonitorId(uuid::Uuid::from_u128(period_s.into()));
        Monitor {
            schedule: Schedule::simple("period_s", period_s).unwrap(),
            grace_s,
            ..Monitor::new(id, ProjectId::FIRST, UnixMs(0))
        }
    }

    /// A parent with a period of 60 s and a grace of 30 s.
    fn parent(status: Status, seen_s: i64, flips: u64, flip_at_s: i64) -> MonitorState {
        let mut state = MonitorState::new(&monitor(60, 30));
        state.status = status;
        state.seen = Some(UnixMs(seen_s * S));
        state.flips = flips;
        state.flip_at = Some(UnixMs(flip_at_s * S));
        state
    }

    fn down(at_s: i64, reason: Reason) -> Flip {
        let mut state = MonitorState::new(&monitor(60, 30));
        state.flip_at = Some(UnixMs(at_s * S));
        state.status = Status::Down;
        Flip {
            reason,
            ..crate::announce::flip_of_state(&state, UnixMs(0))
        }
    }

    #[test]
    fn an_alert_is_held_while_a_parent_is_down_late_or_just_back() {
        use Reason::{Fail, Timeout};
        let child = monitor(60, 30);
        let daily = monitor(86_400, 30);
        let check = |what: &str, child: &Monitor, parent: MonitorState, flip: Flip, now_s: i64| {
            let held = held_until(child, &[parent], &flip, UnixMs(now_s * S));
            (what.to_owned(), held.map(|at| at.0 / S))
        };
        let up = |seen_s| parent(Status::Up, seen_s, 1, 0);
        let back = || parent(Status::Up, 5_000, 3, 5_000);
        for ((what, held), expected) in [
            (
                check(
                    "down",
                    &child,
                    parent(Status::Down, 0, 2, 90),
                    down(95, Timeout),
                    95,
                ),
                Some(155),
            ),
            (
                check("on time", &child, up(90), down(95, Timeout), 95),
                None,
            ),
            (
                check("late", &child, up(20), down(95, Timeout), 95),
                Some(111),
            ),
            (
                check(
                    "overdue, not swept yet",
                    &child,
                    up(0),
                    down(95, Timeout),
                    95,
                ),
                Some(100),
            ),
            (
                check(
                    "late for long, but pinging",
                    &child,
                    up(130),
                    down(95, Timeout),
                    195,
                ),
                None,
            ),
            (
                check("back", &child, back(), down(4_990, Timeout), 5_001),
                Some(5_090),
            ),
            (
                check("back long ago", &child, back(), down(4_990, Timeout), 5_040),
                Some(5_090),
            ),
            (
                check(
                    "a failure after it is back",
                    &child,
                    back(),
                    down(5_001, Fail),
                    5_001,
                ),
                None,
            ),
            (
                check(
                    "a failure before it is back",
                    &child,
                    back(),
                    down(4_990, Fail),
                    5_001,
                ),
                Some(5_090),
            ),
            (
                check("a daily job", &daily, back(), down(4_990, Timeout), 5_001),
                None,
            ),
            (
                check(
                    "paused",
                    &child,
                    parent(Status::Paused, 0, 2, 90),
                    down(95, Timeout),
                    95,
                ),
                None,
            ),
        ] {
            assert_eq!(held, expected, "{what}");
        }
        let longest = held_until(
            &child,
            &[up(90), parent(Status::Down, 0, 2, 90), back()],
            &down(95, Timeout),
            UnixMs(95 * S),
        );
        assert_eq!(longest, Some(UnixMs(5_090 * S)), "the longest counts");
    }

    #[test]
    fn a_late_parent_holds_an_alert_for_a_minute_at_most() {
        let child = monitor(1, 0);
        let flip = down(100, Reason::Timeout);
        // It pings every second, and is late for a moment before each ping.
        let mut parent = MonitorState::new(&monitor(1, 30));
        parent.status = Status::Up;
        for now_s in 100..200 {
            parent.seen = Some(UnixMs((now_s - 1) * S));
            let held = held_until(&child, &[parent.clone()], &flip, UnixMs(now_s * S));
            assert_eq!(held.is_some(), now_s < 130, "at {now_s} s");
        }
    }

    #[test]
    fn cycles_are_found() {
        let edges = [
            (1, vec![2, 3]),
            (2, vec![4]),
            (3, vec![4]),
            (4, vec![]),
            (5, vec![6]),
            (6, vec![5]),
        ];
        let parents_of = |of: i32| {
            let found = edges.iter().find(|(child, _)| *child == of);
            found
                .map(|(_, parents)| parents.clone())
                .unwrap_or_default()
        };
        for (start, cyclic) in [(1, false), (4, false), (5, true), (7, false)] {
            assert_eq!(is_cyclic(start, parents_of), cyclic, "{start}");
        }
    }
}
