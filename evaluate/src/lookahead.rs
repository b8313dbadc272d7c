//! Look-ahead. On AWS, the schedule runs once a minute, but deadlines fall in between. Timers that
//! are due before the next sweep go to the timer queue, which delivers them at the exact time. They
//! also stay in the table, so if the queue fails, the sweep still finds them: up to a minute late,
//! but nothing is lost.

use crate::sweep::SweepError;
use crate::{BusError, Evaluate};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::Duration;
use thiserror::Error;
use thrum_schema::id::MonitorId;
use thrum_schema::timer::{AHEAD_MS, Timer, What};
use thrum_schema::work::EvaluateWork;
use thrum_schema::{MonitorState, Outage, UnixMs};
use thrum_store::StoreError;
use thrum_store::queue::{Later, LaterError};

/// Most timers in a message: far below its limit of 256 kB.
const PER_MESSAGE: usize = 100;
/// How many timers of a shard are processed at a time.
const AT_A_TIME: usize = 1_000;
/// How many shards are read, and messages sent, concurrently.
const CONCURRENCY: usize = 8;

/// Why work failed; it must be delivered again.
#[derive(Debug, Error)]
pub enum WorkError {
    /// The table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] LaterError),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A sweep failed.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// This region has taken over, and repairs what replication lost before it does anything else.
    #[error("this region has just taken over; it repairs what replication lost first")]
    Repairing,
    /// All work of a tick is done, but no monitor goes down while the pulse fails (T3).
    #[error("the pipeline's own heartbeat did not get through: {0}")]
    Pulse(String),
}

impl Evaluate {
    /// Queues the deadlines and deliveries of some shards that are due between `from`, the start of
    /// their last sweep, and the next sweep. 1 RU per shard and minute, and 0.5 RU per timer.
    ///
    /// # Errors
    /// The table or the queue failed. The next sweep finds what was not queued, up to a minute
    /// late.
    pub async fn look_ahead(&self, shards: Range<u16>, from: UnixMs) -> Result<(), WorkError> {
        let Some(later) = &self.later else {
            return Ok(());
        };
        let until = self.store.world().now() + AHEAD_MS;
        let outages = self.outages(self.store.world().now()).await?;
        let outages = &outages;
        stream::iter(shards)
            .map(|shard| async move {
                let timers = self.store.timers_between(shard, from, until).await?;
                // In chunks, because there may be very many.
                for timers in timers.chunks(AT_A_TIME) {
                    let states = self.readable_states(&monitors_of(timers)).await?;
                    let exact = exact(timers, states, outages, until);
                    self.send_ahead(later.as_ref(), exact, until).await?;
                }
                Ok::<_, WorkError>(())
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// The states of monitors, perhaps slightly stale. Those that can't be read are left to the
    /// sweep.
    async fn readable_states(
        &self,
        monitors: &[MonitorId],
    ) -> Result<Vec<MonitorState>, StoreError> {
        match self.store.states_lately(monitors).await {
            Err(StoreError::Corrupt(_)) => {}
            result => return result,
        }
        let mut states = Vec::new();
        for monitor in monitors {
            match self.store.states_lately(&[*monitor]).await {
                Err(StoreError::Corrupt(_)) => {}
                result => states.extend(result?),
            }
        }
        Ok(states)
    }

    /// Queues timers that a transition armed for before the next sweep. 1 RU for each deadline. A
    /// failure is only logged: the sweep finds the timers too, and the stream must not wait.
    pub(crate) async fn queue_soon(&self, timers: &[Timer]) {
        let Some(later) = &self.later else {
            return;
        };
        let until = self.store.world().now() + AHEAD_MS;
        let sent = async {
            let outages = self.outages(self.store.world().now()).await?;
            let states = self.store.states(&monitors_of(timers)).await?;
            let exact = exact(timers, states, &outages, until);
            self.send_ahead(later.as_ref(), exact, until).await
        };
        if let Err::<(), WorkError>(error) = sent.await {
            tracing::warn!(%error, "could not queue a deadline; the next sweep will handle it, up to a minute late");
        }
    }

    /// Handles timers that the queue delivered. A deadline that has moved, but is still due by
    /// `until`, is queued again; a later one is left to the next sweep.
    pub(crate) async fn fire(&self, timers: &[Timer], until: UnixMs) -> Result<(), WorkError> {
        let now = self.store.world().now();
        let deadlines = timers.iter().filter_map(|timer| match timer.what {
            What::Deadline { monitor, epoch } => Some((monitor, epoch)),
            _ => None,
        });
        let judged = self.judge(deadlines.collect(), now).await?;
        // Leave all other timers to the sweep, because they may have to be armed again.
        let mut others = timers.to_vec();
        others.retain(|timer| matches!(timer.what, What::Deliver { .. } | What::Flush { .. }));
        let actions: Vec<_> = stream::iter(others)
            .map(|timer| self.check_timer(timer, now))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut works = Vec::new();
        for action in actions {
            match action {
                Err(StoreError::Corrupt(_)) => {}
                action => works.extend(action?.work),
            }
        }
        for result in self.publish(&works).await {
            result?;
        }
        let Some(later) = &self.later else {
            return Ok(());
        };
        let moved = judged.waiting.iter().map(|waiting| waiting.exact());
        let moved = moved.filter(|timer| timer.due <= until).collect();
        self.send_ahead(later.as_ref(), moved, until).await
    }

    /// Queues timers, those due in the same second in one message.
    async fn send_ahead(
        &self,
        later: &dyn Later,
        timers: Vec<Timer>,
        until: UnixMs,
    ) -> Result<(), WorkError> {
        let now = self.store.world().now();
        let mut seconds: BTreeMap<u64, Vec<Timer>> = BTreeMap::new();
        for timer in timers {
            let wait_ms = (timer.due - now).max(0).unsigned_abs();
            let second = seconds.entry(wait_ms.div_ceil(1000)).or_default();
            second.push(timer);
        }
        let messages = seconds.into_iter().flat_map(|(second, timers)| {
            let chunks: Vec<Vec<Timer>> = timers.chunks(PER_MESSAGE).map(<[_]>::to_vec).collect();
            chunks.into_iter().map(move |timers| (second, timers))
        });
        stream::iter(messages)
            .map(|(second, timers)| {
                let fire = EvaluateWork::Fire { timers, until };
                later.send(fire.into(), Duration::from_secs(second))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        Ok(())
    }
}

/// The timers that fire by `until`, at their exact times. For a deadline, the time comes from the
/// monitor's state, if the state has the timer's epoch.
fn exact(
    timers: &[Timer],
    states: Vec<MonitorState>,
    outages: &[Outage],
    until: UnixMs,
) -> Vec<Timer> {
    let states: HashMap<MonitorId, MonitorState> = states
        .into_iter()
        .map(|state| (state.monitor, state))
        .collect();
    let exact = timers.iter().filter_map(|timer| match timer.what {
        What::Deadline { monitor, epoch } => {
            let state = states.get(&monitor).filter(|state| state.epoch == epoch)?;
            let (due, _) = state.deadline_after(outages)?;
            Some(Timer { due, ..*timer })
        }
        What::Deliver { .. } | What::Flush { .. } => Some(*timer),
        // For these, up to a minute late is early enough.
        _ => None,
    });
    exact.filter(|timer| timer.due <= until).collect()
}

fn monitors_of(timers: &[Timer]) -> Vec<MonitorId> {
    let monitors: BTreeSet<MonitorId> = timers
        .iter()
        .filter_map(|timer| match timer.what {
            What::Deadline { monitor, .. } => Some(monitor),
            _ => None,
        })
        .collect();
    monitors.into_iter().collect()
}
