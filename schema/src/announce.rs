//! Decides which alerts a change of a monitor raises: at once, at the end of a silence, and as
//! reminders.
//!
//! These functions are pure. The store reads what they need, and commits what they decide.

use crate::alert::Alert;
use crate::dependency::held_until;
use crate::flip::{Flip, Reason};
use crate::id::AlertId;
use crate::monitor::Monitor;
use crate::mutant::{self, Mutant};
use crate::plan::Rate;
use crate::project::Project;
use crate::silence;
use crate::state::{MonitorState, Status};
use crate::time::UnixMs;
use crate::timer::{Timer, What};
use crate::transition::Outcome;

/// Longest time before a silenced flip is checked again, in milliseconds: a user may end the
/// silence early.
pub const WAKE_MS: i64 = 600_000;

/// How many alerts a monitor may raise in quick succession, before it counts as flapping: six, and
/// then one every ten minutes.
pub const FLAPS: Rate = Rate {
    interval_ms: 600_000,
    burst_ms: 5 * 600_000,
};
/// How long a flapping monitor must be stable before it alerts again, in milliseconds.
pub const STABLE_MS: i64 = 900_000;

/// What the rules for alerts need besides the monitor.
#[derive(Debug, Clone)]
pub struct Context {
    /// Its project.
    pub project: Project,
    /// The states of its parents; empty if the alert does not wait for them.
    pub parents: Vec<MonitorState>,
}

impl Context {
    /// When a silence or a parent of `monitor` stops holding the alert of `flip`; `None` if nothing holds
    /// it.
    fn held_until(
        &self,
        monitor: &Monitor,
        flip: &Flip,
        at: UnixMs,
        now: UnixMs,
    ) -> Option<UnixMs> {
        let silenced = silenced_until(monitor, &self.project, at);
        silenced.max(held_until(monitor, &self.parents, flip, now))
    }
}

/// When the silence of `monitor` at `at` ends; `None` if its alerts are not silenced.
pub fn silenced_until(monitor: &Monitor, project: &Project, at: UnixMs) -> Option<UnixMs> {
    let options = &monitor.options;
    if mutant::is(Mutant::SnoozeIgnored) {
        return None;
    }
    let own = silence::until(options.snoozed_until, &options.windows, at);
    own.max(silence::until(project.snoozed_until, &project.windows, at))
}

/// The time between two reminders, in milliseconds: the monitor's own, or else its project's.
fn reminder_interval_ms(monitor: &Monitor, project: &Project) -> Option<i64> {
    let every_s = monitor.options.remind_s.or(project.remind_s)?;
    Some(i64::from(every_s) * 1000)
}

/// Whether [`announce`] has anything to decide. If not, the project need not be read.
pub fn announces(outcome: &Outcome) -> bool {
    let flip = outcome.flip.as_ref();
    flip.is_some_and(|flip| flip.alert || flip.to == Status::Down)
}

/// Decides what an outcome announces, before it is committed. Returns the alert of its flip, with
/// the ID `id`, if there is one. If alerts are silenced, or the monitor is flapping, schedules a check
/// at the end of the silence instead. Schedules reminders for a monitor that went down. `burst` is how many monitors
/// of the project the same sweep takes down (A6).
pub fn announce(
    monitor: &Monitor,
    context: &Context,
    outcome: &mut Outcome,
    id: AlertId,
    burst: Option<u32>,
    now: UnixMs,
) -> Option<Alert> {
    let flip = outcome.flip.as_ref().filter(|_| announces(outcome))?;
    if flip.alert
        && let Some(until) = context.held_until(monitor, flip, flip.at, now)
    {
        outcome.silence(until);
        return None;
    }
    if flip.alert {
        match FLAPS.take(outcome.state.flap_tat, now.0) {
            Ok(tat) => outcome.state.flap_tat = Some(tat),
            Err(_) if mutant::is(Mutant::FlappingAlerts) => {}
            Err(_) => {
                outcome.silence(now + STABLE_MS);
                return None;
            }
        }
    }
    let is_flapping = FLAPS.take(outcome.state.flap_tat, now.0).is_err();
    // Reminders are sent even if users were already notified that the monitor is down.
    if flip.to == Status::Down {
        let every_ms = reminder_interval_ms(monitor, &context.project);
        outcome.remind = every_ms.map(|every_ms| now + every_ms);
    }
    let alert = raise(monitor, outcome, id, burst)?;
    Some(Alert {
        flapping: is_flapping,
        ..alert
    })
}

/// The alert of the outcome's flip, if the flip alerts. Its ID is kept in the state, because the
/// monitor's next alert must follow it (A8).
fn raise(
    monitor: &Monitor,
    outcome: &mut Outcome,
    id: AlertId,
    burst: Option<u32>,
) -> Option<Alert> {
    let flip = outcome.flip.as_ref().filter(|flip| flip.alert)?;
    let state = &mut outcome.state;
    let prev = state.last_alert.replace(id);
    state.notified_at = (flip.to == Status::Down).then(|| UnixMs(id.created_ms()));
    Some(Alert::of_flip(id, monitor, flip, state.seen, prev, burst))
}

/// What to do when a timer checks a monitor again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// There is nothing left to announce.
    Void,
    /// It is too early, or alerts are silenced: check again at this time.
    Again(UnixMs),
    /// Commit this outcome now, with its alert.
    Now(Box<(Outcome, Alert)>),
}

/// Decides whether to send the `n`-th reminder of `last`, the flip that took a monitor down.
pub fn remind(
    monitor: &Monitor,
    context: &Context,
    state: &MonitorState,
    (last, n): (&Flip, u32),
    id: AlertId,
    now: UnixMs,
) -> Look {
    let every_ms = reminder_interval_ms(monitor, &context.project);
    let (Some(every_ms), Status::Down, false) = (every_ms, state.status, state.silenced) else {
        return Look::Void;
    };
    if (state.flips, state.reminded) != (last.n, n) {
        return Look::Void;
    }
    if state.acknowledged_at.is_some() && !mutant::is(Mutant::AcknowledgedReminds) {
        return Look::Void;
    }
    if let Some(until) = context.held_until(monitor, last, now, now) {
        return Look::Again(until.min(now + WAKE_MS));
    }
    let due = state.notified_at.map_or(now, |at| at + every_ms);
    if due > now {
        return Look::Again(due);
    }
    let mut outcome = Outcome::of(state.clone());
    let prev = outcome.state.last_alert.replace(id);
    outcome.state.version += 1;
    outcome.state.reminded += 1;
    outcome.state.notified_at = Some(now);
    outcome.remind = Some(now + every_ms);
    let alert = Alert::reminder(id, monitor, last, state.seen, prev);
    Look::Now(Box::new((outcome, alert)))
}

/// Raises the alert of `last`, the flip that a silence held back, if the silence is over and the
/// monitor has not flipped since.
pub fn end_silence(
    monitor: &Monitor,
    context: &Context,
    state: &MonitorState,
    last: &Flip,
    id: AlertId,
    now: UnixMs,
) -> Look {
    if !state.silenced || state.flips != last.n {
        return Look::Void;
    }
    if let Some(until) = context.held_until(monitor, last, now, now) {
        return Look::Again(until.min(now + WAKE_MS));
    }
    let stable = last.at.min(now) + STABLE_MS;
    if now < stable && FLAPS.take(state.flap_tat, last.at.0).is_err() {
        return Look::Again(stable);
    }
    let mut outcome = Outcome::of(state.clone());
    outcome.state.version += 1;
    outcome.state.silenced = false;
    outcome.flip = Some(Flip {
        alert: true,
        ..last.clone()
    });
    if state.status == Status::Down {
        let every_ms = reminder_interval_ms(monitor, &context.project);
        outcome.remind = every_ms.map(|every_ms| now + every_ms);
    }
    let alert = raise(monitor, &mut outcome, id, None);
    alert.map_or(Look::Void, |alert| Look::Now(Box::new((outcome, alert))))
}

/// The last flip of a monitor, reconstructed from its state: a silence may last longer than flips
/// are kept.
pub fn flip_of_state(state: &MonitorState, now: UnixMs) -> Flip {
    let (from, reason) = match state.status {
        Status::Down if state.failures > 0 => (Status::Up, Reason::Fail),
        Status::Down => (Status::Up, Reason::Timeout),
        _ => (Status::Down, Reason::Success),
    };
    Flip {
        n: state.flips,
        at: state.flip_at.unwrap_or(now),
        from,
        to: state.status,
        reason,
        alert: false,
        silenced: true,
        deadline: None,
        outage: None,
        why: None,
        missed: 0,
        lasted_ms: None,
        last_success: None,
        trace: None,
    }
}

/// Schedules what an edit of a monitor requires: the alert of a flip that is no longer silenced,
/// and reminders at the new interval for a monitor that is down.
pub fn after_edit(old: &Monitor, new: &Monitor, outcome: &mut Outcome, now: UnixMs) {
    let (before, after) = (&old.options, &new.options);
    let state = &outcome.state;
    let silences = before.snoozed_until != after.snoozed_until
        || before.windows != after.windows
        || before.parents != after.parents;
    if silences && state.silenced {
        outcome.wake = Some(now);
    }
    let every_s = after.remind_s.filter(|_| before.remind_s != after.remind_s);
    if let Some(due) = every_s.and_then(|every_s| next_reminder(state, every_s, now)) {
        outcome.remind = Some(due);
    }
}

/// The timers that an edit of a project requires for one of its monitors, like [`after_edit`].
pub fn after_project_edit(
    (old, new): (&Project, &Project),
    monitor: &Monitor,
    state: &MonitorState,
    now: UnixMs,
) -> Vec<Timer> {
    let (id, flip) = (monitor.id, state.flips);
    let mut timers = Vec::new();
    let silences = old.snoozed_until != new.snoozed_until || old.windows != new.windows;
    if silences && state.silenced {
        let what = What::Wake { monitor: id, flip };
        timers.push(Timer { due: now, what });
    }
    let own = monitor.options.remind_s;
    let every_s = new
        .remind_s
        .filter(|_| old.remind_s != new.remind_s && own.is_none());
    if let Some(due) = every_s.and_then(|every_s| next_reminder(state, every_s, now)) {
        let what = What::Remind {
            monitor: id,
            flip,
            n: state.reminded,
        };
        timers.push(Timer { due, what });
    }
    timers
}

/// The timers that a monitor needs besides that of its deadline: for the end of a silence, and for its next reminder.
pub fn timers_of(
    project: &Project,
    monitor: &Monitor,
    state: &MonitorState,
    now: UnixMs,
) -> Vec<Timer> {
    let (id, flip) = (monitor.id, state.flips);
    let mut timers = Vec::new();
    if state.silenced {
        let what = What::Wake { monitor: id, flip };
        timers.push(Timer { due: now, what });
    }
    let every_ms = reminder_interval_ms(monitor, project);
    let every_s = every_ms.and_then(|every_ms| u32::try_from(every_ms / 1000).ok());
    if let Some(due) = every_s.and_then(|every_s| next_reminder(state, every_s, now)) {
        let n = state.reminded;
        let what = What::Remind {
            monitor: id,
            flip,
            n,
        };
        timers.push(Timer { due, what });
    }
    timers
}

/// Whether an edit of a project may require timers for its monitors.
pub fn asks_for_looks(old: &Project, new: &Project) -> bool {
    old.snoozed_until != new.snoozed_until
        || old.windows != new.windows
        || (new.remind_s.is_some() && old.remind_s != new.remind_s)
}

/// When the next reminder of a monitor is due, after its interval changed; `None` if it is not
/// down.
fn next_reminder(state: &MonitorState, every_s: u32, now: UnixMs) -> Option<UnixMs> {
    let reminded =
        state.status == Status::Down && !state.silenced && state.acknowledged_at.is_none();
    let last = state.notified_at.unwrap_or(now);
    reminded.then(|| (last + i64::from(every_s) * 1000).max(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{MonitorId, ProjectId};
    use crate::silence::Window;

    fn at(rfc3339: &str) -> UnixMs {
        UnixMs::parse("at", rfc3339).unwrap()
    }

    #[test]
    fn the_longest_silence_wins() {
        let now = at("2026-06-01T01:30:00Z");
        let mut monitor = Monitor::new(
            MonitorId(uuid::Uuid::from_u128(1)),
            ProjectId::FIRST,
            UnixMs(0),
        );
        let mut project = Project::new(ProjectId::FIRST, "test");
        assert_eq!(silenced_until(&monitor, &project, now), None);
        monitor.options.snoozed_until = Some(now);
        assert_eq!(silenced_until(&monitor, &project, now), None, "it is over");
        monitor.options.snoozed_until = Some(now + 1_000);
        assert_eq!(silenced_until(&monitor, &project, now), Some(now + 1_000));
        project.windows = vec![Window::new("w", "0 1 * * *", 7_200, "UTC").unwrap()];
        let closes = at("2026-06-01T03:00:00Z");
        assert_eq!(silenced_until(&monitor, &project, now), Some(closes));
        project.snoozed_until = Some(closes + 1);
        assert_eq!(silenced_until(&monitor, &project, now), Some(closes + 1));
    }
}
