//! A deployment in two regions: what this region may do, the lease of the active one, and the takeover from a lost one.
//! The rules are in `thrum_schema::fence`.
//!
//! Every 15 s, each region tends the fence: the active one renews its lease, and the passive one reports that it is
//! there, and takes over once the lease has ended. A region that took over repairs what replication lost before it
//! evaluates or sends.

mod alerts;
mod armed;
mod repair;

use crate::lookahead::WorkError;
use crate::{Evaluate, SweptShards};
use futures::future::BoxFuture;
use std::time::Duration;
use thrum_schema::UnixMs;
use thrum_schema::fence::{Fence, Refused, Report, TIMING};
use thrum_schema::metrics::Sample;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::work::EvaluateWork;
use thrum_store::StoreError;
use thrum_store::regions::{Act, ChangeError, Regions, Role};

/// When the fence is tended again between two ticks, in seconds.
const TEND_S: [u64; 3] = [15, 30, 45];
/// How long after the fence is free the passive region looks again, in milliseconds.
const AFTER_MS: i64 = 1_000;
/// If the fence is free within this time, it is tended then, in milliseconds.
const SOON_MS: i64 = 15_000;

/// What work that begins now may do.
pub(crate) enum Begun {
    /// It may evaluate, through this handler.
    Work(Box<Evaluate>),
    /// It must be delivered again: this region repairs what replication lost.
    Repairing,
    /// Nothing: another region is active, and does it.
    Passive,
}

impl Evaluate {
    /// The handler in one of two regions.
    #[must_use]
    pub fn in_region(mut self, regions: Regions) -> Self {
        self.regions = Some(regions);
        self
    }

    /// Begins work: in one of two regions, only the active one does any.
    pub(crate) async fn begin(&self) -> Result<Begun, StoreError> {
        let Some(regions) = &self.regions else {
            return Ok(Begun::Work(Box::new(self.clone())));
        };
        Ok(match regions.role().await? {
            Role::Active(act) => Begun::Work(Box::new(self.during(&act))),
            Role::Repairing(_) => Begun::Repairing,
            Role::Passive if mutant::is(Mutant::PassiveRelays) => {
                Begun::Work(Box::new(self.clone()))
            }
            Role::Passive => Begun::Passive,
        })
    }

    /// This handler, for work that may go on as long as `act` does.
    fn during(&self, act: &Act) -> Self {
        Self {
            store: self.store.clone().during(act),
            regions: None,
            since: Some(act.since()),
            ..self.clone()
        }
    }

    /// One tick in one of two regions: tends the fence now and three times until the next tick, and does the rest of a
    /// tick if this region is active.
    pub(crate) async fn tick_in_region(
        &self,
        regions: &Regions,
        now: UnixMs,
    ) -> Result<SweptShards, WorkError> {
        for seconds in TEND_S {
            self.delegate(EvaluateWork::Tend, Duration::from_secs(seconds))
                .await;
        }
        // What fails here must not hold up the pulse and the sweeps, as long as the lease lasts.
        match Box::pin(self.keep_lease(regions)).await {
            Ok(Some(fence)) if !fence.ready => {
                self.delegate(EvaluateWork::Tend, Duration::ZERO).await;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the fence was not tended; that is tried again in 15 s");
            }
        }
        match self.begin().await? {
            Begun::Work(active) => {
                let place = regions.place();
                if active.store.fence_place().await?.as_ref() != Some(&place) {
                    active.store.put_fence_place(&place).await?;
                }
                active.tick_here(now).await
            }
            Begun::Repairing => Ok(SweptShards::new()),
            Begun::Passive => {
                // Nothing is behind; without a value, an alarm would say that there are no ticks.
                self.store.metrics().observe(Sample::SweepLag, 0);
                Ok(SweptShards::new())
            }
        }
    }

    /// Tends the fence: renews the lease of this region, or reports, and takes over if the other one has lost it. 3 RU,
    /// 1 WU, and the cost of a repair.
    ///
    /// # Errors
    /// A table failed; the next time is 15 s later.
    pub(crate) fn tend<'a>(&'a self, regions: &'a Regions) -> BoxFuture<'a, Result<(), WorkError>> {
        Box::pin(self.tend_now(regions))
    }

    async fn tend_now(&self, regions: &Regions) -> Result<(), WorkError> {
        match self.keep_lease(regions).await? {
            Some(fence) => Ok(self.mend(regions, &fence).await?),
            None => Ok(()),
        }
    }

    /// Renews the lease of this region, or reports and takes over if it may. Returns the fence, if this region is active.
    async fn keep_lease(&self, regions: &Regions) -> Result<Option<Fence>, WorkError> {
        let mut fence = regions.look().await.map_err(StoreError::from)?;
        let now = self.store.world().now();
        let me = regions.me();
        if fence.active != *me {
            return self.take_over(regions, &fence).await;
        }
        if fence.is_forsaken(me, now, &TIMING) {
            tracing::warn!(next = ?fence.next, "the other region has not taken over, as an operator wanted: this one stays active");
            let withdrawn = regions.change(|read, me| read.handed_over(me)).await;
            fence = match withdrawn {
                Ok(Some(new)) => new,
                Ok(None) | Err(ChangeError::Refused(_)) => return Ok(None),
                Err(ChangeError::Table(error)) => return Err(StoreError::from(error).into()),
            };
        }
        if fence.is_to_be_renewed(me, now, &TIMING) && !mutant::is(Mutant::LeaseNotRenewed) {
            let renewed = regions.change(|read, me| {
                let now = self.store.world().now();
                read.renewed(me, now, &TIMING)
            });
            match renewed.await {
                Ok(new) => fence = new.unwrap_or(fence),
                Err(ChangeError::Refused(refused)) => {
                    tracing::warn!(%refused, "the lease was not renewed");
                }
                Err(ChangeError::Table(error)) => return Err(StoreError::from(error).into()),
            }
        }
        Ok(Some(fence))
    }

    /// Reports that this region is there, and takes over if it may. Returns the fence then.
    async fn take_over(
        &self,
        regions: &Regions,
        fence: &Fence,
    ) -> Result<Option<Fence>, WorkError> {
        let (me, table) = (regions.me(), regions.table());
        let now = self.store.world().now();
        let last = table.report(me).await.map_err(StoreError::from)?;
        // A replica that can't be read takes nothing over, nor does one that is not complete, unless an operator wants that.
        let pulse = self.store.pulse().await?;
        let report = Report::after(last.as_ref(), me, fence, pulse, now);
        table.put_report(&report).await.map_err(StoreError::from)?;
        let again = match fence.taken_over(me, now, &TIMING) {
            Ok(_) if pulse.is_none() && fence.next.is_none() => return Ok(None),
            Ok(_) if report.has_seen_unchanged(fence, now) => None,
            Ok(_) => Some(now + AFTER_MS),
            Err(Refused::Leased { until, .. }) => Some(until + AFTER_MS),
            Err(_) => return Ok(None),
        };
        if let Some(again) = again {
            let wait_ms = again - now;
            if wait_ms <= SOON_MS {
                let delay = Duration::from_millis(wait_ms.max(1).unsigned_abs());
                self.delegate(EvaluateWork::Tend, delay).await;
            }
            return Ok(None);
        }
        tracing::warn!(from = %fence.active, lease_ended = %fence.until, "the active region has lost its lease: this one takes over");
        let version = fence.version;
        let taken = regions.change(|read, me| {
            // Only the fence that was seen unchanged.
            if read.version != version {
                return Err(Refused::Leased {
                    active: read.active.clone(),
                    until: read.until,
                });
            }
            read.taken_over(me, self.store.world().now(), &TIMING)
        });
        match taken.await {
            Ok(taken) => Ok(taken),
            Err(ChangeError::Refused(_)) => Ok(None),
            Err(ChangeError::Table(error)) => Err(StoreError::from(error).into()),
        }
    }
}
