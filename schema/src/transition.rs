//! A monitor's state machine; all changes of status are decided here.
//!
//! [`transition`] is total and pure: every event has an outcome in every state, and it reads
//! nothing but its arguments. It follows docs/compatibility.md: a table of four states by seven
//! events.

use crate::flip::{Flip, Reason};
use crate::id::AlertId;
use crate::monitor::Monitor;
use crate::mutant::{self, Mutant};
use crate::outage::Outage;
use crate::ping::PingKind;
use crate::state::{Extension, MAX_RUNS, MonitorState, Run, Status};
use crate::time::{UnixMs, span};
use uuid::Uuid;

/// An event that happens to a monitor.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A ping, already classified by the monitor's rules.
    Ping {
        /// What it means.
        kind: PingKind,
        /// The run it belongs to.
        rid: Option<Uuid>,
        /// When it was received.
        at: UnixMs,
        /// Why it is a failure, if it is one and more is known: an exit status, or what was not as
        /// expected.
        why: Option<&'a str>,
    },
    /// A timer fired: check the deadline, which Thrum's own outages may have moved.
    Timer {
        /// The known outages.
        outages: &'a [Outage],
    },
    /// A user or a client pauses it.
    Pause,
    /// A user or a client resumes it.
    Resume,
    /// Somebody takes care of it while it is down: no more reminders, and nobody else is notified.
    Acknowledge,
    /// Its configuration changed.
    Reconfigured,
    /// The clock was set back: what is dated in the future happened by now.
    ClockSetBack,
    /// It flipped, and its alert is known, but its state is older: that was not replicated before the region was lost.
    Known {
        /// The flip.
        flip: &'a Flip,
        /// The alert of the flip.
        alert: AlertId,
    },
}

/// The effect of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The state afterwards. Its version is incremented, unless nothing changed.
    pub state: MonitorState,
    /// The change of status, if there was one.
    pub flip: Option<Flip>,
    /// A timer that must be armed in the same write, because the deadline moved closer (T1).
    pub arm: Option<UnixMs>,
    /// When to check the silenced flip again.
    pub wake: Option<UnixMs>,
    /// When to send a reminder that it is down.
    pub remind: Option<UnixMs>,
    /// How long the run took that a ping ended, in milliseconds.
    pub duration_ms: Option<i64>,
    /// How the ping was finally classified: a paused monitor may ignore it.
    pub kind: Option<PingKind>,
    /// The run was too early for the schedule.
    pub early: bool,
    /// The run started while another was in progress.
    pub overlap: bool,
}

impl Outcome {
    /// An outcome that does nothing but replace the state.
    pub const fn of(state: MonitorState) -> Self {
        Self {
            state,
            flip: None,
            arm: None,
            wake: None,
            remind: None,
            duration_ms: None,
            kind: None,
            early: false,
            overlap: false,
        }
    }

    /// Silences the flip, if it alerts: it alerts at `until` instead, unless the monitor flips
    /// before.
    pub fn silence(&mut self, until: UnixMs) {
        if let Some(flip) = self.flip.as_mut().filter(|flip| flip.alert) {
            flip.alert = false;
            flip.silenced = true;
            self.state.silenced = true;
            self.wake = Some(until);
        }
    }

    /// Whether there is anything to write.
    pub fn changed(&self, before: &MonitorState) -> bool {
        self.state.version != before.version
    }
}

/// Applies `event` to a monitor's state at `now`.
pub fn transition(
    monitor: &Monitor,
    before: &MonitorState,
    event: &Event<'_>,
    now: UnixMs,
) -> Outcome {
    transitions(monitor, before, std::slice::from_ref(event), now)
}

/// Applies several events as one, such as a changed period and the ping that carried it.
pub fn transitions(
    monitor: &Monitor,
    before: &MonitorState,
    events: &[Event<'_>],
    now: UnixMs,
) -> Outcome {
    let mut step = Step {
        state: before.clone(),
        flip: None,
        duration_ms: None,
        kind: None,
        early: false,
        overlap: false,
        rearm: None,
    };
    for event in events {
        match *event {
            Event::Ping { kind, rid, at, why } => {
                step.ping(monitor, kind, rid, at);
                if let Some(flip) = step.flip.as_mut().filter(|flip| flip.to == Status::Down) {
                    flip.why = why.map(str::to_owned);
                }
            }
            Event::Timer { outages } => step.timer(monitor, outages, now),
            Event::Pause if step.state.status != Status::Paused => step.pause(now),
            Event::Resume if step.state.status == Status::Paused => step.resume(now),
            Event::Acknowledge if step.state.status == Status::Down => {
                step.state.acknowledged_at.get_or_insert(now);
            }
            Event::Pause | Event::Resume | Event::Acknowledge => {}
            Event::Reconfigured => {
                step.state.extension = None;
                step.state.follow(monitor);
            }
            Event::ClockSetBack => step.clock_set_back(monitor, now),
            Event::Known { flip, alert } => step.known(flip, alert),
        }
    }
    step.finish(monitor, before)
}

struct Step {
    state: MonitorState,
    flip: Option<Flip>,
    duration_ms: Option<i64>,
    kind: Option<PingKind>,
    early: bool,
    overlap: bool,
    /// When to check timers that were armed for a time before the clock was set back.
    rearm: Option<UnixMs>,
}

impl Step {
    fn ping(&mut self, monitor: &Monitor, kind: PingKind, rid: Option<Uuid>, at: UnixMs) {
        let ignored = self.state.status == Status::Paused && monitor.manual_resume;
        let kind = if ignored { PingKind::Ign } else { kind };
        self.kind = Some(kind);
        self.state.pings += 1;
        self.mark(monitor, kind, at);
        match kind {
            PingKind::Success => {
                let missed = self.missed(monitor, at);
                self.mark_seen(monitor, rid, at, false);
                self.state.failures = 0;
                if monitor.options.all_runs && self.state.status == Status::Down {
                    self.forget_overdue_runs(at);
                }
                self.flip_to(Status::Up, at, Reason::Success);
                if let Some(flip) = self.flip.as_mut().filter(|flip| flip.from == Status::Down) {
                    flip.missed = missed;
                    self.state.missed += u64::from(missed);
                }
            }
            PingKind::Fail => {
                // The flip back up will only count runs missed after this failure.
                self.state.missed += u64::from(self.missed(monitor, at));
                let last_success = self.state.last_success();
                self.state.fails += 1;
                self.state.failures = self.state.failures.saturating_add(1);
                self.mark_seen(monitor, rid, at, true);
                let down = self.state.status == Status::Down;
                let alerts = self.state.failures >= monitor.failures_to_alert();
                if down || (alerts && !mutant::is(Mutant::FailIgnored)) {
                    self.flip_to(Status::Down, at, Reason::Fail);
                    if let Some(flip) = &mut self.flip {
                        flip.last_success = last_success;
                    }
                } else {
                    // A tolerated failure: the monitor is watched from now on.
                    self.flip_to(Status::Up, at, Reason::Fail);
                }
            }
            PingKind::Start => self.start(monitor, Run { at, rid }),
            PingKind::Log | PingKind::Ign => {}
        }
    }

    /// Marks a run that is too early for the schedule, or while another is in progress.
    fn mark(&mut self, monitor: &Monitor, kind: PingKind, at: UnixMs) {
        let state = &self.state;
        let begins = match kind {
            PingKind::Start => true,
            PingKind::Success | PingKind::Fail => state.run.is_none(),
            PingKind::Log | PingKind::Ign => return,
        };
        if let (true, Some(early_s), Some(expected)) =
            (begins, monitor.options.early_s, state.expected())
        {
            self.early = at + i64::from(early_s) * 1000 < expected;
        }
        let limit_ms = state.run_limit_ms();
        let in_progress = state.runs().any(|run| at < run.at + limit_ms);
        self.overlap = kind == PingKind::Start && in_progress;
    }

    /// How many runs were missed since the last ping, if the monitor recovers at `at`.
    fn missed(&self, monitor: &Monitor, at: UnixMs) -> u32 {
        match (self.state.status, self.state.seen) {
            (Status::Down, Some(seen)) => monitor.missed_since(seen, at),
            _ => 0,
        }
    }

    /// Starts a run: the only one that is watched, or one of several.
    fn start(&mut self, monitor: &Monitor, run: Run) {
        let state = &mut self.state;
        state.extension = None;
        if monitor.options.all_runs {
            state.others.retain(|other| other.rid != run.rid);
            if let Some(before) = state.run.filter(|before| before.rid != run.rid)
                && state.others.len() + 1 < MAX_RUNS
            {
                state.others.push(before);
            }
        }
        state.run = Some(run);
    }

    /// Records a success or a failure, which may have ended a run.
    fn mark_seen(&mut self, monitor: &Monitor, rid: Option<Uuid>, at: UnixMs, failed: bool) {
        self.end_run(monitor, rid, at, failed);
        let state = &mut self.state;
        state.last_duration_ms = self.duration_ms;
        let seen = state.seen.map_or(at, |seen| seen.max(at));
        state.seen = Some(seen);
        state.extension = None;
        if state.period_s.is_none() {
            state.expected_at = monitor.expected_after(seen);
        }
    }

    /// Ends the run that a success or a failure belongs to. If only the latest run is watched, a
    /// failure, or a success without an id, ends it in any case.
    fn end_run(&mut self, monitor: &Monitor, rid: Option<Uuid>, at: UnixMs, failed: bool) {
        let state = &mut self.state;
        let ended = match state.run {
            Some(run) if run.rid == rid => {
                state.run = state.others.pop();
                Some(run)
            }
            _ if monitor.options.all_runs => {
                let position = state.others.iter().position(|run| run.rid == rid);
                position.map(|i| state.others.remove(i))
            }
            Some(_) if failed || rid.is_none() => {
                state.run = None;
                None
            }
            _ => None,
        };
        self.duration_ms = ended.map(|run| (at - run.at).max(0));
    }

    /// If every run is watched, forgets the runs that are overdue at `at`: each alerts only once.
    fn forget_overdue_runs(&mut self, at: UnixMs) {
        let state = &mut self.state;
        let limit_ms = state.run_limit_ms();
        let overdue = |run: &Run| run.at + limit_ms <= at;
        state.others.retain(|run| !overdue(run));
        if state.run.as_ref().is_some_and(overdue) {
            state.run = state.others.pop();
        }
    }

    fn timer(&mut self, monitor: &Monitor, outages: &[Outage], now: UnixMs) {
        let Some((deadline, outage)) = self.state.deadline_after(outages) else {
            return;
        };
        if deadline <= now {
            let overrun = self.state.overrun(deadline).filter(|_| outage.is_none());
            self.flip_to(Status::Down, deadline, Reason::Timeout);
            let last_success = self.state.last_success();
            if let Some(flip) = &mut self.flip {
                flip.deadline = Some(deadline);
                flip.outage = outage;
                flip.why = overrun.map(|limit_s| format!("ran longer than {}", span(limit_s)));
                flip.last_success = last_success;
            }
            if monitor.options.all_runs {
                self.forget_overdue_runs(now);
            }
        } else {
            self.state.extension = outage.map(|outage| Extension {
                deadline,
                outage: outage.start,
            });
        }
    }

    fn clock_set_back(&mut self, monitor: &Monitor, now: UnixMs) {
        let state = &mut self.state;
        let runs = state.others.iter_mut().chain(&mut state.run);
        let runs = runs.map(|run| &mut run.at);
        let times = [
            &mut state.seen,
            &mut state.flip_at,
            &mut state.notified_at,
            &mut state.acknowledged_at,
        ];
        for at in times.into_iter().flatten().chain(runs) {
            *at = (*at).min(now);
        }
        state.extension = None;
        state.follow(monitor);
        self.rearm = Some(now);
    }

    /// Goes on from a flip that the state does not have. If it recovered meanwhile, it flips back, and the next alert says
    /// so.
    fn known(&mut self, flip: &Flip, alert: AlertId) {
        let state = &mut self.state;
        if state.flips >= flip.n {
            return;
        }
        let recovered = state.seen.filter(|seen| {
            let is_up = state.status == Status::Up && flip.to == Status::Down;
            is_up && state.failures == 0 && *seen > flip.at
        });
        state.status = flip.to;
        state.flips = flip.n;
        state.flip_at = state.flip_at.max(Some(flip.at));
        state.last_alert = Some(alert);
        state.silenced = false;
        state.acknowledged_at = None;
        match flip.to {
            Status::Down => {
                state.extension = None;
                state.reminded = 0;
                state.notified_at = Some(UnixMs(alert.created_ms()));
            }
            _ => {
                state.seen = state.seen.max(Some(flip.at));
                state.failures = 0;
                state.run = None;
            }
        }
        if let Some(seen) = recovered {
            self.flip_to(Status::Up, seen, Reason::Success);
        }
    }

    fn pause(&mut self, now: UnixMs) {
        self.state.run = None;
        self.state.others.clear();
        self.state.silenced = false;
        self.state.extension = None;
        self.flip_to(Status::Paused, now, Reason::Paused);
    }

    fn resume(&mut self, now: UnixMs) {
        self.state.run = None;
        self.state.others.clear();
        self.state.failures = 0;
        self.state.seen = None;
        self.state.expected_at = None;
        self.flip_to(Status::New, now, Reason::Resumed);
    }

    /// Records a change of status, if it is one. Every flip to down alerts; a flip to up alerts
    /// only after down.
    fn flip_to(&mut self, to: Status, at: UnixMs, reason: Reason) {
        let from = self.state.status;
        if from == to {
            return;
        }
        let before = self.state.flip_at;
        let at = before.map_or(at, |last| last.max(at));
        self.state.status = to;
        self.state.acknowledged_at = None;
        self.state.flips += 1;
        self.state.flip_at = Some(at);
        if to == Status::Down {
            self.state.extension = None;
            self.state.reminded = 0;
        }
        let mut alert = to == Status::Down || (from, to) == (Status::Down, Status::Up);
        // Users were not notified of the previous flip, so they already believe the new status.
        if alert && std::mem::take(&mut self.state.silenced) {
            alert = false;
        }
        self.flip = Some(Flip {
            n: self.state.flips,
            at,
            from,
            to,
            reason,
            alert,
            silenced: false,
            deadline: None,
            outage: None,
            why: None,
            missed: 0,
            lasted_ms: before
                .filter(|_| from == Status::Down)
                .map(|down| at - down),
            last_success: None,
            trace: None,
        });
    }

    fn finish(mut self, monitor: &Monitor, before: &MonitorState) -> Outcome {
        self.state.derive(monitor);
        let mut arm = None;
        if self.state != *before {
            self.state.version += 1;
            let closer = match (before.deadline(), self.state.deadline()) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(old), Some(new)) => new < old && !mutant::is(Mutant::CloserUnarmed),
            };
            if closer {
                self.state.epoch = self.state.epoch.wrapping_add(1);
                arm = self.state.deadline();
            }
        }
        let (silenced, down) = (self.state.silenced, self.state.status == Status::Down);
        Outcome {
            state: self.state,
            flip: self.flip,
            arm,
            wake: self.rearm.filter(|_| silenced),
            remind: self.rearm.filter(|_| down),
            duration_ms: self.duration_ms,
            kind: self.kind,
            early: self.early,
            overlap: self.overlap,
        }
    }
}
