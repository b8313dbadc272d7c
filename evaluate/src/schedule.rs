//! The schedule on AWS. Each tick sends the next one through the timer queue, 60 s later, because
//! EventBridge Scheduler may be up to a minute late: two of its calls may be almost two minutes
//! apart. Its calls restart the chain if a message was lost.
//! <https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html>
//!
//! One invocation sweeps only some of the shards; the others are swept by invocations of their own,
//! through the same queue.

use crate::Evaluate;
use crate::lookahead::WorkError;
use crate::pulse::Pulse;
use crate::sweep::{SweepError, Swept, behind_ms};
use futures::future::join_all;
use std::ops::Range;
use std::time::Duration;
use thrum_schema::UnixMs;
use thrum_schema::metrics::Sample;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::work::EvaluateWork;
use thrum_store::key::Key;
use thrum_store::{Store, StoreError};
use tokio::sync::OnceCell;

/// The time between two ticks.
const TICK: Duration = Duration::from_secs(60);
/// A tick does nothing if another one began less than this before it, in milliseconds: of the calls of
/// the Scheduler and of the queue, one a minute does the work.
const TOO_SOON_MS: i64 = 45_000;
/// The same, in milliseconds, if that tick has not queued the next one, because it crashed or the queue refused
/// the message. Longer than queueing usually takes; if it takes longer, the minute's work is done twice.
const UNCHAINED_MS: i64 = 10_000;

/// State that is kept between the ticks of a process.
#[derive(Debug)]
pub struct Schedule {
    pulse: Pulse,
    /// How many shards an invocation sweeps.
    shards_at_a_time: u16,
    /// Set once the table has the cursors and the pulse that the pipeline needs.
    ready: OnceCell<()>,
}

impl Schedule {
    /// A schedule that sends `pulse`, and sweeps `shards_at_a_time` shards per invocation.
    pub fn new(pulse: Pulse, shards_at_a_time: u16) -> Self {
        Self {
            pulse,
            shards_at_a_time: shards_at_a_time.max(1),
            ready: OnceCell::new(),
        }
    }

    /// Creates what the pipeline needs, once.
    async fn prepare(&self, store: &Store, now: UnixMs) -> Result<(), StoreError> {
        let ready = self.ready.get_or_try_init(|| store.ensure_pipeline(now));
        ready.await.map(drop)
    }
}

/// What a tick or a sweep of some shards did.
pub type SweptShards = Vec<(u16, Swept)>;

impl Evaluate {
    /// One tick: sends the next tick, records an outage, if there was one, and has every shard swept,
    /// some of them here. The outage comes first, because deadlines are judged by it (T3). Does nothing
    /// without a schedule, or if another tick began within the last 45 s (10 s, if it has not queued the
    /// next one). 2 WU, 1 RU per shard that is swept elsewhere, and the cost of the pulse and the sweeps.
    ///
    /// # Errors
    /// Something failed; the next tick does what was left. While the pulse fails, the tick fails too, so
    /// that an operator hears of it.
    pub async fn tick(&self) -> Result<SweptShards, WorkError> {
        let Some(schedule) = &self.schedule else {
            return Ok(Vec::new());
        };
        let now = self.store.world().now();
        // In one of two regions, only the active one may write to its replica.
        let (claims, key) = match &self.regions {
            None => {
                schedule.prepare(&self.store, now).await?;
                (self.store.clone(), Key::tick())
            }
            Some(regions) => {
                let claims = regions.table().store(self.store.shared_world());
                (claims, Key::tick_in(regions.me()))
            }
        };
        let claim = claims.claim_tick(key.clone(), now, TOO_SOON_MS, UNCHAINED_MS);
        let Some(claim) = claim.await? else {
            return Ok(Vec::new());
        };
        if !mutant::is(Mutant::TickUnchained)
            && self.delegate(EvaluateWork::Tick, TICK).await
            && let Err(error) = claims.chain_tick(key, claim).await
        {
            tracing::warn!(%error, "could not record that the next tick is queued; another call may repeat this tick");
        }
        match &self.regions {
            None => self.tick_here(now).await,
            Some(regions) => self.tick_in_region(regions, now).await,
        }
    }

    /// A tick, after the next one was queued.
    pub(crate) async fn tick_here(&self, now: UnixMs) -> Result<SweptShards, WorkError> {
        let Some(schedule) = &self.schedule else {
            return Ok(Vec::new());
        };
        let store = &self.store;
        schedule.prepare(store, now).await?;
        self.keep_pulse(&schedule.pulse).await?;
        // The first group of shards is swept here, the others elsewhere.
        let mut left = Vec::new();
        for start in (0..store.shards()).step_by(schedule.shards_at_a_time.into()) {
            let end = start.saturating_add(schedule.shards_at_a_time);
            let shards = start..end.min(store.shards());
            if start == 0 || !self.sweep_elsewhere(shards.clone(), now).await {
                left.push(shards);
            }
        }
        // Each is swept even if another fails.
        let results = join_all(left.into_iter().map(|shards| self.sweep_shards(shards))).await;
        let results: Result<Vec<SweptShards>, WorkError> = results.into_iter().collect();
        let swept = results?.concat();
        match schedule.pulse.failure() {
            None => Ok(swept),
            Some(error) => Err(WorkError::Pulse(error)),
        }
    }

    /// Sweeps some shards concurrently, and queues what is due in them before the next tick.
    ///
    /// # Errors
    /// A shard could not be swept; the others were.
    pub async fn sweep_shards(&self, shards: Range<u16>) -> Result<SweptShards, WorkError> {
        let started = self.store.world().now();
        let swept = join_all(shards.clone().map(|shard| self.sweep(shard))).await;
        let ahead = self.look_ahead(shards.clone(), started).await;
        let swept: Result<Vec<Swept>, SweepError> = swept.into_iter().collect();
        let swept = swept?;
        let lag_ms = swept.iter().map(|swept| swept.lag_ms).max();
        self.store
            .metrics()
            .observe(Sample::SweepLag, lag_ms.unwrap_or(0));
        ahead?;
        Ok(shards.zip(swept).collect())
    }

    /// Has some shards swept by another invocation. Returns false if they must be swept here: the queue did
    /// not accept the message, or they are behind, so earlier invocations may never have come.
    async fn sweep_elsewhere(&self, shards: Range<u16>, now: UnixMs) -> bool {
        let mut is_behind = false;
        for shard in shards.clone() {
            match self.store.cursor(shard).await {
                Ok(cursor) => {
                    let lag_ms = cursor.low.map_or(0, |low| behind_ms(low, now));
                    self.store.metrics().observe(Sample::SweepLag, lag_ms);
                    is_behind |= lag_ms > 0;
                }
                Err(error) => tracing::warn!(%error, shard, "can't read a cursor"),
            }
        }
        let sweep = EvaluateWork::Sweep { shards };
        self.delegate(sweep, Duration::ZERO).await && !is_behind
    }

    /// Sends work to the timer queue; returns whether the queue accepted it.
    pub(crate) async fn delegate(&self, work: EvaluateWork, delay: Duration) -> bool {
        let Some(later) = &self.later else {
            return false;
        };
        match later.send(work.clone().into(), delay).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, ?work, "could not be queued");
                false
            }
        }
    }
}
