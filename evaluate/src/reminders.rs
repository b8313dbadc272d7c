//! What people are told later: reminders that a monitor is still down, and what was silenced and still holds.

use crate::Evaluate;
use thrum_schema::alert::Alert;
use thrum_schema::id::{AlertId, MonitorId};
use thrum_schema::project::Project;
use thrum_schema::silence::silenced_until;
use thrum_schema::transition::{Flip, Outcome};
use thrum_schema::{Monitor, MonitorState, Reason, Status, UnixMs};
use thrum_store::StoreError;
use thrum_store::{Commit, Result, WAKE_MS};

/// How often people are told against heartbeats that race it; then the timer fires again.
const MAX_ATTEMPTS: usize = 20;

/// A monitor that people may have to be told of.
struct Case {
    monitor: Monitor,
    state: MonitorState,
    project: Project,
    /// Until when its alerts are silenced, if they are.
    silenced_until: Option<UnixMs>,
}

impl Evaluate {
    /// A reminder is due, the `n`-th after the flip that took the monitor down: raises it together with the timer of
    /// the next, on condition that the monitor did not change since. Returns when to look again, if it is too early.
    pub(crate) async fn remind(
        &self,
        monitor: MonitorId,
        flip: u64,
        n: u32,
    ) -> Result<Option<UnixMs>> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.store.world().now();
            let Some(case) = self.case(monitor, flip, now).await? else {
                return Ok(None);
            };
            let every_s = case.monitor.options.remind_s.or(case.project.remind_s);
            let (Some(every_s), Status::Down, false) =
                (every_s, case.state.status, case.state.silenced)
            else {
                return Ok(None);
            };
            if case.state.reminded != n {
                return Ok(None);
            }
            let every_ms = i64::from(every_s) * 1000;
            let due = case.state.notified_at.map_or(now, |told| told + every_ms);
            if let Some(until) = case.silenced_until {
                // It may be ended early.
                return Ok(Some(until.min(now + WAKE_MS)));
            }
            if due > now {
                return Ok(Some(due));
            }
            let flip = self.last_flip(&case.state, now).await?;
            let mut state = case.state.clone();
            let id = AlertId(self.store.world().uuid_v7(now));
            let prev = state.last_alert.replace(id);
            state.reminded += 1;
            state.notified_at = Some(now);
            let alert = Alert::reminder(id, &case.monitor, &flip, state.seen, prev);
            let mut outcome = outcome(state);
            outcome.remind = Some(now + every_ms);
            match self.tell(&case, outcome, alert, now).await {
                Err(StoreError::Conflict) => {}
                result => return result.map(|()| None),
            }
        }
        Err(StoreError::Conflict)
    }

    /// A silence may be over: what it hid and still holds is told now. Returns when to look again, if it goes on.
    pub(crate) async fn wake(&self, monitor: MonitorId, flip: u64) -> Result<Option<UnixMs>> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.store.world().now();
            let Some(case) = self.case(monitor, flip, now).await? else {
                return Ok(None);
            };
            if !case.state.silenced {
                return Ok(None);
            }
            if let Some(until) = case.silenced_until {
                return Ok(Some(until.min(now + WAKE_MS)));
            }
            let flip = self.last_flip(&case.state, now).await?;
            let mut outcome = outcome(MonitorState {
                silenced: false,
                ..case.state.clone()
            });
            outcome.flip = Some(Flip {
                alert: true,
                ..flip
            });
            let every_s = case.monitor.options.remind_s.or(case.project.remind_s);
            if let (Status::Down, Some(every_s)) = (outcome.state.status, every_s) {
                outcome.remind = Some(now + i64::from(every_s) * 1000);
            }
            let id = AlertId(self.store.world().uuid_v7(now));
            let seen = case.state.seen;
            let Some(alert) = outcome.raise(&case.monitor, id, seen, None) else {
                return Ok(None);
            };
            match self.tell(&case, outcome, alert, now).await {
                Err(StoreError::Conflict) => {}
                result => return result.map(|()| None),
            }
        }
        Err(StoreError::Conflict)
    }

    /// What is to be judged, unless the monitor is gone or has flipped since. 3 RU.
    async fn case(&self, id: MonitorId, flip: u64, now: UnixMs) -> Result<Option<Case>> {
        let Some(located) = self.store.locate(id).await? else {
            return Ok(None);
        };
        let Some(state) = located.state.filter(|state| state.flips == flip) else {
            return Ok(None);
        };
        let (monitor, project) = futures::try_join!(
            self.store.monitor(located.project, id),
            self.store.project(located.project)
        )?;
        let Some(monitor) = monitor else {
            return Ok(None);
        };
        let project = project.unwrap_or_else(|| Project::new(located.project, ""));
        Ok(Some(Case {
            silenced_until: silenced_until(&monitor, &project, now),
            monitor,
            state,
            project,
        }))
    }

    /// The flip that made the monitor what it is. Its history is kept for some months; what is silent for longer is told
    /// by what the state knows.
    async fn last_flip(&self, state: &MonitorState, now: UnixMs) -> Result<Flip> {
        let flips = self.store.flips(state.monitor, 1).await?;
        let found = flips.into_iter().find(|flip| flip.n == state.flips);
        let (from, reason) = match state.status {
            Status::Down if state.failures > 0 => (Status::Up, Reason::Fail),
            Status::Down => (Status::Up, Reason::Timeout),
            _ => (Status::Down, Reason::Success),
        };
        Ok(found.unwrap_or(Flip {
            n: state.flips,
            at: state.flip_at.unwrap_or(now),
            from,
            to: state.status,
            reason,
            alert: false,
            silenced: true,
            deadline: None,
            outage: None,
            missed: 0,
        }))
    }

    async fn tell(
        &self,
        case: &Case,
        mut outcome: Outcome,
        alert: Alert,
        now: UnixMs,
    ) -> Result<()> {
        outcome.state.version += 1;
        let commit = Commit {
            monitor: &case.monitor,
            before: Some(&case.state),
            outcome: &outcome,
            alert: Some(&alert),
            was: None,
        };
        self.store.commit(&commit, now).await
    }
}

/// An outcome that changes nothing but the state.
fn outcome(state: MonitorState) -> Outcome {
    Outcome {
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
