//! Judges deadlines: whether a monitor whose timer fired is late.

use crate::{Evaluate, RETRY_MS};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeSet, HashMap};
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::metrics::Sample;
use thrum_schema::timer::{Timer, What, look_at};
use thrum_schema::transition::{Event, transition};
use thrum_schema::{MonitorState, Outage, UnixMs};
use thrum_store::StoreError;
use thrum_store::{Change, Raise, Result, Snapshot, Updated};

/// How many monitors are flipped at a time.
const CONCURRENCY: usize = 16;

/// The result of judging deadlines.
#[derive(Debug, Default)]
pub struct Judged {
    /// Monitors that are not late: each needs a timer at or before its deadline (T1).
    pub waiting: Vec<Waiting>,
    /// Timers of monitors that can't be read or written now, postponed.
    pub postponed: Vec<Timer>,
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

    /// Its timer, rounded so that monitors with similar deadlines share an item.
    pub fn on_grid(&self, now: UnixMs) -> Timer {
        Timer {
            due: look_at(self.deadline, self.grace_s, now),
            ..self.exact()
        }
    }

    /// Its timer, exactly at its deadline.
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

/// The outcome for a monitor that seemed late.
enum Settled {
    /// It is not late: a ping arrived, or an outage moved its deadline.
    Waiting(Waiting),
    /// It can't be read or written now; its timer fires again later.
    Postponed(Timer),
    /// It went down.
    Down,
    /// The timer is obsolete: the monitor is gone, or a newer epoch has its own timer.
    Obsolete,
}

impl Evaluate {
    /// Judges the monitors whose timers fired, most of which are not late: first by states that may be
    /// stale, and the rest by [`Self::judge`]. Within an epoch, deadlines only move away (T1), so a stale
    /// state that is not late is enough to arm its timer again. 0.5 RU per monitor, and the cost of
    /// [`Self::judge`] for those that seem late.
    pub(crate) async fn sift(
        &self,
        mut fired: BTreeSet<(MonitorId, u32)>,
        now: UnixMs,
    ) -> Result<Judged> {
        if fired.is_empty() {
            return Ok(Judged::default());
        }
        let outages = self.outages(now).await?;
        let ids: BTreeSet<MonitorId> = fired.iter().map(|(monitor, _)| *monitor).collect();
        let ids: Vec<MonitorId> = ids.into_iter().collect();
        let states = match self.store.states_lately(&ids).await {
            Err(StoreError::Corrupt(_) | StoreError::Throttled(_)) => Vec::new(),
            states => states?,
        };
        let mut waiting = Vec::new();
        for state in states {
            let timer = (state.monitor, state.epoch);
            let Some((deadline, outage)) = state.deadline_after(&outages) else {
                continue;
            };
            if deadline > now && !has_moved(&state, outage) && fired.remove(&timer) {
                waiting.push(Waiting::of(&state, deadline));
            }
        }
        let mut judged = self.judge_by(fired, &outages, now).await?;
        judged.waiting.extend(waiting);
        Ok(judged)
    }

    /// Judges the monitors whose timers fired: reads their states in batches, drops timers of other
    /// epochs, returns the monitors that are not late, and takes the rest down. 1 RU per monitor;
    /// about 10 WU per flip.
    pub(crate) async fn judge(
        &self,
        fired: BTreeSet<(MonitorId, u32)>,
        now: UnixMs,
    ) -> Result<Judged> {
        if fired.is_empty() {
            return Ok(Judged::default());
        }
        let outages = self.outages(now).await?;
        self.judge_by(fired, &outages, now).await
    }

    /// The same, by these outages, which were read before.
    async fn judge_by(
        &self,
        fired: BTreeSet<(MonitorId, u32)>,
        outages: &[Outage],
        now: UnixMs,
    ) -> Result<Judged> {
        let mut judged = Judged::default();
        let states = self.states_of(&fired, now, &mut judged).await?;
        let mut late = Vec::new();
        let mut bursts: HashMap<ProjectId, u32> = HashMap::new();
        for state in states {
            if !fired.contains(&(state.monitor, state.epoch)) {
                continue;
            }
            match state.deadline_after(outages) {
                None => {}
                Some((deadline, outage)) => {
                    if deadline > now && !has_moved(&state, outage) {
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
                Settled::Postponed(timer) => judged.postponed.push(timer),
                Settled::Down => judged.flips += 1,
                Settled::Obsolete => {}
            }
        }
        Ok(judged)
    }

    /// The states of the monitors whose timers fired. If one can't be read, its timer is postponed,
    /// so that it does not hold up the others.
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
                        judged.postponed.push(postponed(timer, error.clone(), now)?);
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
                postponed(Timer { due, what }, error, due).map(Settled::Postponed)
            }
            settled => settled,
        }
    }

    /// Takes a late monitor down, or records a deadline that an outage moved. If a ping arrives in
    /// the meantime, nothing happens.
    async fn settle(
        &self,
        state: MonitorState,
        outages: &[Outage],
        burst: Option<u32>,
    ) -> Result<Settled> {
        let epoch = state.epoch;
        let Some(monitor) = self.store.monitor(state.project, state.monitor).await? else {
            return Ok(Settled::Obsolete);
        };
        let left_behind =
            self.since.is_some() && self.store.is_left_behind(&monitor, &state, outages).await?;
        let first = Snapshot {
            monitor,
            state,
            stored: true,
        };
        // A newer epoch has its own timer. A state that TTL removed is restored from the stream.
        let is_current = |current: &Snapshot| current.stored && current.state.epoch == epoch;
        let mut at = self.store.world().now();
        let updated = self.store.update_monitor(first, RETRY_MS, |current, now| {
            at = now;
            let (monitor, state) = (&current.monitor, &current.state);
            let event = match left_behind {
                true => Event::Pause,
                false => Event::Timer { outages },
            };
            let outcome = transition(monitor, state, &event, now);
            let late = is_current(current) && outcome.changed(state);
            Ok::<_, StoreError>(late.then_some(Change {
                raise: Raise::Flip { burst },
                ..Change::of(outcome)
            }))
        });
        let Some(Updated { now, outcome }) = updated.await? else {
            return Ok(Settled::Obsolete);
        };
        if let Some(flip) = outcome.as_ref().and_then(|outcome| outcome.flip.as_ref()) {
            let metrics = self.store.metrics();
            metrics.observe(Sample::DetectionLag, at - flip.at);
        }
        if outcome.is_none() && !is_current(&now) {
            return Ok(Settled::Obsolete);
        }
        Ok(match now.state.deadline() {
            Some(deadline) => Settled::Waiting(Waiting::of(&now.state, deadline)),
            None => Settled::Down,
        })
    }
}

/// Whether an outage has moved a deadline, which the state does not show yet.
fn has_moved(state: &MonitorState, outage: Option<Outage>) -> bool {
    state.extension.map(|extension| extension.outage) != outage.map(|outage| outage.start)
}

/// The timer, postponed, if the error concerns only its own item: it must not hold up the others.
///
/// # Errors
/// The error itself, if the whole table may be unavailable.
pub(crate) fn postponed(timer: Timer, error: StoreError, now: UnixMs) -> Result<Timer> {
    match error {
        StoreError::Corrupt(error) => {
            tracing::error!(%error, "can't read an item; its timer fires again later");
            Ok(timer.after_trouble(now))
        }
        StoreError::Throttled(_) | StoreError::Conflict => {
            tracing::warn!(%error, "an item is throttled or busy; its timer fires again in a few seconds");
            Ok(timer.after_throttling(now))
        }
        StoreError::Unavailable(_) | StoreError::Cycle | StoreError::TooDeep => Err(error),
    }
}
