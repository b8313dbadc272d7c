//! Looking ahead. On AWS a schedule comes once a minute, and deadlines don't: what may be over before the next sweep
//! goes to the work queue, to come back at the very instant. The timers stay in the table, where the sweep finds
//! them whatever becomes of the queue: this makes detection exact, and nothing depends on it.

use crate::{BusError, Evaluate};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use thiserror::Error;
use thrum_schema::id::MonitorId;
use thrum_schema::timer::{AHEAD_MS, Timer, What};
use thrum_schema::work::Work;
use thrum_schema::{MonitorState, Outage, UnixMs};
use thrum_store::StoreError;
use thrum_store::queue::{Later, LaterError};

/// How many timers a message carries: they stay far below the 256 kB of one.
const PER_MESSAGE: usize = 100;
/// How many timers of a shard are looked at at a time.
const AT_A_TIME: usize = 1_000;
/// How many shards are read, and messages sent, at a time.
const CONCURRENCY: usize = 8;

/// Why work was not done; it must come again.
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
}

impl Evaluate {
    /// Sends what is due after `from`, when the sweep before began, and before the next one can have come: deadlines that are
    /// over by then if nothing is heard, and deliveries. 1 RU a shard and minute, and 0.5 RU a timer.
    ///
    /// # Errors
    /// The table or the queue failed. The next sweep finds what was not sent, up to a minute late.
    pub async fn look_ahead(&self, from: UnixMs) -> Result<(), WorkError> {
        let Some(later) = &self.later else {
            return Ok(());
        };
        let until = self.store.world().now() + AHEAD_MS;
        let outages = self.outages(self.store.world().now()).await?;
        let outages = &outages;
        stream::iter(0..self.store.shards())
            .map(|shard| async move {
                let timers = self.store.timers_between(shard, from, until).await?;
                // Some at a time: there may be very many.
                for timers in timers.chunks(AT_A_TIME) {
                    let states = self.states_lately(&monitors_of(timers)).await?;
                    let exact = exact(timers, states, outages, until);
                    self.send_ahead(later.as_ref(), exact, until).await?;
                }
                Ok::<_, WorkError>(())
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// CachedStates as they were a moment ago, without those that can't be read: those are the sweep's.
    async fn states_lately(&self, monitors: &[MonitorId]) -> Result<Vec<MonitorState>, StoreError> {
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

    /// Sends a timer that a transition armed between two sweeps. 1 RU, if it is a deadline. Nothing depends on it: what
    /// fails is logged, for the stream must not wait.
    pub(crate) async fn on_soon(&self, timers: &[Timer]) {
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
            tracing::warn!(%error, "a deadline within the next minute waits for the sweep");
        }
    }

    /// Looks at timers at their instant. What has moved on but is still due by `until` is sent again; beyond, it is the
    /// next sweep's.
    pub(crate) async fn fire(&self, timers: &[Timer], until: UnixMs) -> Result<(), WorkError> {
        let now = self.store.world().now();
        let deadlines = timers.iter().filter_map(|timer| match timer.what {
            What::Deadline { monitor, epoch } => Some((monitor, epoch)),
            _ => None,
        });
        let judged = self.judge(deadlines.collect(), now).await?;
        // What looking at another timer would move on is the sweep's.
        let mut others = timers.to_vec();
        others.retain(|timer| matches!(timer.what, What::Deliver { .. } | What::Flush { .. }));
        let looks: Vec<_> = stream::iter(others)
            .map(|timer| self.look(timer, now))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut works = Vec::new();
        for look in looks {
            match look {
                Err(StoreError::Corrupt(_)) => {}
                look => works.extend(look?.work),
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

    /// Sends timers, those of a second together.
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
                later.send(Work::Fire { timers, until }, Duration::from_secs(second))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        Ok(())
    }
}

/// The timers that are to fire by `until`, at their very instants: a deadline's is what its state says, if that is of the
/// timer's epoch.
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
        // A minute later is soon enough.
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
