//! Deadlines: a timer fired; is the monitor late?

use crate::Evaluate;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeSet, HashMap};
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::metrics::Span;
use thrum_schema::timer::{Timer, What, look_at};
use thrum_schema::transition::{Event, transition};
use thrum_schema::{MonitorState, Outage, UnixMs};
use thrum_store::StoreError;
use thrum_store::{Change, Raise, Result, Snapshot, Updated};

/// How many monitors are flipped at a time.
const CONCURRENCY: usize = 16;

/// What judging did.
#[derive(Debug, Default)]
pub struct Judged {
    /// Monitors that are not late: each wants a timer at or before its deadline (T1).
    pub waiting: Vec<Waiting>,
    /// Timers of monitors that can't be read, some time later.
    pub troubled: Vec<Timer>,
    /// How many monitors went down.
    pub flips: usize,
}

/// A monitor that is not late.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    monitor: MonitorId,
    epoch: u32,
    deadline: UnixMs,
    grace_s: u32,
}

impl Waiting {
    fn of(state: &MonitorState, deadline: UnixMs) -> Self {
        Self {
            monitor: state.monitor,
            epoch: state.epoch,
            deadline,
            grace_s: state.grace_s,
        }
    }

    /// Its timer where others of about its deadline share an item.
    pub fn on_grid(&self, now: UnixMs) -> Timer {
        Timer {
            due: look_at(self.deadline, self.grace_s, now),
            ..self.exact()
        }
    }

    /// Its timer at its very deadline.
    pub const fn exact(&self) -> Timer {
        Timer {
            due: self.deadline,
            what: What::Deadline {
                monitor: self.monitor,
                epoch: self.epoch,
            },
        }
    }
}

/// What became of a monitor that seemed late.
enum Settled {
    /// It is not: a heartbeat came, or an outage moved its deadline.
    Waiting(Waiting),
    /// It can't be read now.
    Troubled(Timer),
    /// It went down.
    Down,
    /// There is nothing to wait for: it is gone, or another epoch has a timer of its own.
    Void,
}

impl Evaluate {
    /// Judges the monitors whose timers fired: reads their states in batches, drops timers of other epochs, arms
    /// those that are not late anew, and flips the rest. 1 RU a monitor; about 10 WU a flip.
    pub(crate) async fn judge(
        &self,
        fired: BTreeSet<(MonitorId, u32)>,
        now: UnixMs,
    ) -> Result<Judged> {
        if fired.is_empty() {
            return Ok(Judged::default());
        }
        let mut judged = Judged::default();
        let outages = self.outages(now).await?;
        let states = self.states_of(&fired, now, &mut judged).await?;
        let mut late = Vec::new();
        let mut bursts: HashMap<ProjectId, u32> = HashMap::new();
        for state in states {
            if !fired.contains(&(state.monitor, state.epoch)) {
                continue;
            }
            match state.deadline_after(&outages) {
                None => {}
                Some((deadline, outage)) => {
                    let moved = state.extension.map(|e| e.outage) != outage.map(|o| o.start);
                    if deadline > now && !moved {
                        judged.waiting.push(Waiting::of(&state, deadline));
                    } else {
                        if deadline <= now {
                            *bursts.entry(state.project).or_default() += 1;
                        }
                        late.push(state);
                    }
                }
            }
        }
        let outages = &outages;
        let results: Vec<Settled> = stream::iter(late)
            .map(|state| {
                let burst = bursts.get(&state.project).copied();
                self.settle_or_postpone(state, outages, burst)
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        for settled in results {
            match settled {
                Settled::Waiting(waiting) => judged.waiting.push(waiting),
                Settled::Troubled(timer) => judged.troubled.push(timer),
                Settled::Down => judged.flips += 1,
                Settled::Void => {}
            }
        }
        Ok(judged)
    }

    /// The states of the monitors whose timers fired. One that can't be read must not hold up the others: its
    /// timer is armed again.
    async fn states_of(
        &self,
        fired: &BTreeSet<(MonitorId, u32)>,
        now: UnixMs,
        judged: &mut Judged,
    ) -> Result<Vec<MonitorState>> {
        // A monitor may have timers of several epochs; a batch must not name it twice.
        let ids: BTreeSet<MonitorId> = fired.iter().map(|(monitor, _)| *monitor).collect();
        let ids: Vec<MonitorId> = ids.into_iter().collect();
        match self.store.states(&ids).await {
            Err(StoreError::Corrupt(_) | StoreError::Throttled(_)) => {}
            result => return result,
        }
        let mut states = Vec::new();
        let one_by_one: Vec<_> = stream::iter(ids)
            .map(|id| async move { (id, self.store.states(&[id]).await) })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (id, found) in one_by_one {
            match found {
                Ok(state) => states.extend(state),
                Err(error) => {
                    for (monitor, epoch) in fired.iter().filter(|(monitor, _)| *monitor == id) {
                        let timer = Timer {
                            due: now,
                            what: What::Deadline {
                                monitor: *monitor,
                                epoch: *epoch,
                            },
                        };
                        judged.troubled.push(postponed(timer, error.clone(), now)?);
                    }
                }
            }
        }
        Ok(states)
    }

    async fn settle_or_postpone(
        &self,
        state: MonitorState,
        outages: &[Outage],
        burst: Option<u32>,
    ) -> Result<Settled> {
        let what = What::Deadline {
            monitor: state.monitor,
            epoch: state.epoch,
        };
        match self.settle(state, outages, burst).await {
            Err(error) => {
                let due = self.store.world().now();
                postponed(Timer { due, what }, error, due).map(Settled::Troubled)
            }
            settled => settled,
        }
    }

    /// Takes a late monitor down, or records a deadline that an outage moved. A heartbeat that comes
    /// between heals it silently.
    async fn settle(
        &self,
        state: MonitorState,
        outages: &[Outage],
        burst: Option<u32>,
    ) -> Result<Settled> {
        let epoch = state.epoch;
        let Some(monitor) = self.store.monitor(state.project, state.monitor).await? else {
            return Ok(Settled::Void);
        };
        let first = Snapshot {
            monitor,
            state,
            stored: true,
        };
        // Another epoch has a timer of its own; a state that TTL removed is its record's to handle.
        let is_ours = |current: &Snapshot| current.stored && current.state.epoch == epoch;
        let mut at = self.store.world().now();
        let updated = self.store.update_monitor(first, |current, now| {
            at = now;
            let (monitor, state) = (&current.monitor, &current.state);
            let outcome = transition(monitor, state, &Event::Timer { outages }, now);
            let late = is_ours(current) && outcome.changed(state);
            Ok::<_, StoreError>(late.then_some(Change {
                raise: Raise::Flip { burst },
                ..Change::of(outcome)
            }))
        });
        let Some(Updated { now, outcome }) = updated.await? else {
            return Ok(Settled::Void);
        };
        if let Some(flip) = outcome.as_ref().and_then(|outcome| outcome.flip.as_ref()) {
            let metrics = self.store.metrics();
            metrics.observe(Span::DetectionLag, at - flip.at);
        }
        if outcome.is_none() && !is_ours(&now) {
            return Ok(Settled::Void);
        }
        Ok(match now.state.deadline() {
            Some(deadline) => Settled::Waiting(Waiting::of(&now.state, deadline)),
            None => Settled::Down,
        })
    }
}

/// The timer again later, if the error concerns its own item alone: it must not hold up the others.
///
/// # Errors
/// The error, if the table as a whole may be in trouble.
pub(crate) fn postponed(timer: Timer, error: StoreError, now: UnixMs) -> Result<Timer> {
    match error {
        StoreError::Corrupt(error) => {
            tracing::error!(%error, "can't read an item; its timer will fire again later");
            Ok(timer.after_trouble(now))
        }
        StoreError::Throttled(_) | StoreError::Conflict => {
            tracing::warn!(%error, "an item is throttled or busy; its timer fires again in a few seconds");
            Ok(timer.after_throttling(now))
        }
        StoreError::Unavailable(_) => Err(error),
    }
}
