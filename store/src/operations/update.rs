//! Updates of a monitor: reads it, decides, announces, commits, and starts again after a conflict.
//! Every change of an existing monitor goes through here: pings, edits, deadlines, reminders, and
//! states that TTL removed.

use super::commit::Commit;
use crate::{Result, Store, StoreError, trace};
use std::time::Duration;
use thrum_schema::alert::Alert;
use thrum_schema::announce::{Context, announce, announces};
use thrum_schema::id::{AlertId, MonitorId, ProjectId};
use thrum_schema::monitor::Monitor;
use thrum_schema::project::Project;
use thrum_schema::state::MonitorState;
use thrum_schema::time::UnixMs;
use thrum_schema::transition::Outcome;
use tokio::time::sleep;

/// How long a request retries a write that conflicts with others, in milliseconds: less than the
/// 30 s that a request may take.
pub const RETRY_WRITES_MS: i64 = 20_000;

/// A monitor and its state, as read from the table.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its configuration.
    pub monitor: Monitor,
    /// Its state; a reconstructed one, if TTL removed it.
    pub state: MonitorState,
    /// Whether the state is in the table.
    pub stored: bool,
}

/// What an update does to a monitor.
#[derive(Debug)]
pub struct Change {
    /// The new configuration, if it changes.
    pub monitor: Option<Monitor>,
    /// The new state, and its effects.
    pub outcome: Outcome,
    /// The alert to raise.
    pub raise: Raise,
    /// The last lines of the output of the run that it is about, for the alert of its flip.
    pub output: Option<String>,
}

/// Which alert a change raises.
#[derive(Debug)]
pub enum Raise {
    /// The alert of its flip, if there is one and alerts are not silenced.
    Flip {
        /// How many monitors of the project the same sweep takes down (A6); `None` outside a sweep.
        burst: Option<u32>,
    },
    /// This alert.
    This(Box<Alert>),
    /// None: the alert of its flip exists.
    Nothing,
}

/// The result of an update.
#[derive(Debug)]
pub struct Updated {
    /// The monitor after the update.
    pub now: Snapshot,
    /// What was committed; `None` if there was nothing to write.
    pub outcome: Option<Outcome>,
}

impl Change {
    /// A change that consists of an outcome and the alert of its flip.
    pub const fn of(outcome: Outcome) -> Self {
        Self {
            monitor: None,
            outcome,
            raise: Raise::Flip { burst: None },
            output: None,
        }
    }
}

impl Store {
    /// A monitor and its state, consistently; `None` if there is no such monitor. 2 RU, and those of
    /// [`Store::lost_state`] if TTL removed the state.
    pub async fn snapshot(&self, id: MonitorId) -> Result<Option<Snapshot>> {
        // The state first: every change of the configuration changes the state's version, too.
        let Some(located) = self.locate(id).await? else {
            return Ok(None);
        };
        let Some(monitor) = self.monitor(located.project, id).await? else {
            return Ok(None);
        };
        let stored = located.state.is_some();
        let state = match located.state {
            Some(state) => state,
            None => self.lost_state(&monitor).await?,
        };
        Ok(Some(Snapshot {
            monitor,
            state,
            stored,
        }))
    }

    /// Changes a monitor as `decide` says, starting from `first`. After a conflict, reads the
    /// monitor again and calls `decide` again, for up to `retry_ms`. Returns `None` if the monitor is
    /// gone. 1 RU if the flip may alert, 1 RU for each parent and 1 RU for the children if it went down,
    /// 2 RU for each conflict, and the cost of [`Store::commit`].
    ///
    /// # Errors
    /// The error of `decide`, [`StoreError::Conflict`] if others kept writing for `retry_ms`, or a
    /// failure of the table.
    pub async fn update_monitor<E: From<StoreError>>(
        &self,
        first: Snapshot,
        retry_ms: i64,
        mut decide: impl FnMut(&Snapshot, UnixMs) -> Result<Option<Change>, E>,
    ) -> Result<Option<Updated>, E> {
        let started = self.world.now();
        let mut current = first;
        for attempt in 0.. {
            let now = self.world.now();
            if now - started > retry_ms {
                break;
            }
            let Some(change) = decide(&current, now)? else {
                return Ok(Some(Updated {
                    now: current,
                    outcome: None,
                }));
            };
            match self.commit_change(&current, change, now).await {
                Ok(updated) => return Ok(Some(updated)),
                Err(StoreError::Conflict) => self.back_off(attempt).await,
                Err(error) => return Err(error.into()),
            }
            match self.snapshot(current.monitor.id).await? {
                Some(newer) => current = newer,
                None => return Ok(None),
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn commit_change(
        &self,
        before: &Snapshot,
        change: Change,
        now: UnixMs,
    ) -> Result<Updated> {
        let Change {
            monitor,
            mut outcome,
            raise,
            output,
        } = change;
        let monitor = monitor.unwrap_or_else(|| before.monitor.clone());
        let alert = match raise {
            Raise::Flip { burst } => {
                let alert = self.announce(&monitor, &mut outcome, burst, now).await?;
                alert.map(|alert| Alert { output, ..alert })
            }
            Raise::This(alert) => Some(*alert),
            Raise::Nothing => None,
        };
        let alert = match alert {
            Some(alert) => Some(self.naming_children(alert).await),
            None => None,
        };
        let commit = Commit {
            monitor: &monitor,
            before: before.stored.then_some(&before.state),
            outcome: &outcome,
            alert: alert.as_ref(),
            was: (monitor != before.monitor).then_some(&before.monitor),
        };
        self.commit(&commit, now).await?;
        Ok(Updated {
            now: Snapshot {
                state: outcome.state.clone(),
                stored: true,
                monitor,
            },
            outcome: Some(outcome),
        })
    }

    /// Notes what caused a flip, and decides which alert an outcome raises, before it is committed. If it may raise
    /// one, 1 RU and another one for each parent.
    ///
    /// # Errors
    /// The table failed.
    pub async fn announce(
        &self,
        monitor: &Monitor,
        outcome: &mut Outcome,
        burst: Option<u32>,
        now: UnixMs,
    ) -> Result<Option<Alert>> {
        if let Some(flip) = &mut outcome.flip {
            flip.trace = trace::current();
        }
        if !announces(outcome) {
            return Ok(None);
        }
        let alerting = outcome.flip.as_ref().filter(|flip| flip.alert);
        let parents = async {
            match alerting {
                Some(flip) => self.parents_of(monitor, flip).await,
                None => Ok(Vec::new()),
            }
        };
        let project = self.project_or_default(monitor.project);
        let (project, parents) = futures::try_join!(project, parents)?;
        let context = Context { project, parents };
        let id = self.new_alert_id(now);
        Ok(announce(monitor, &context, outcome, id, burst, now))
    }

    /// The settings of a project; the defaults on the free plan, if it is being deleted. 1 RU.
    ///
    /// # Errors
    /// The table failed.
    pub async fn project_or_default(&self, id: ProjectId) -> Result<Project> {
        let found = self.project(id).await?;
        Ok(found.unwrap_or_else(|| Project {
            plan: "free".to_owned(),
            ..Project::new(id, "")
        }))
    }

    /// A new alert ID with the timestamp `now`.
    pub fn new_alert_id(&self, now: UnixMs) -> AlertId {
        AlertId(self.world.uuid_v7(now))
    }

    /// Waits before retrying a write after a conflict: a random time, longer after each attempt.
    pub async fn back_off(&self, attempt: u32) {
        let longest_ms = f64::from(4_u32 << attempt.min(6));
        sleep(Duration::from_millis(1).mul_f64(self.world.jitter() * longest_ms)).await;
    }
}
