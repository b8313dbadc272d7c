//! The deep health check: tests whether the whole pipeline works.

use std::time::Duration;
use thrum_schema::UnixMs;
use thrum_schema::outage::ClockStep;
use thrum_store::regions::{Overview, Regions};
use thrum_store::table::TableError;
use thrum_store::{Result, Store};
use tokio::sync::Mutex;

/// How long to reuse the result of a deep check, in milliseconds, so that many clients cause only
/// one.
const FRESH_MS: i64 = 10_000;
/// How long a probe may take from the table through the bus and the queue to notify, in
/// milliseconds.
const RELAY_MS: i64 = 5_000;
/// How far the sweep's cursor may be behind, in minutes. When idle, it lags up to seven by design.
const MAX_SWEEP_LAG_MIN: i64 = 10;
/// How old the pipeline's own heartbeat may be, in milliseconds. While it is older, no monitor goes
/// down (T3).
const MAX_PULSE_AGE_MS: i64 = 150_000;

/// How long refused heartbeats are reported, in milliseconds.
const REFUSED_MS: i64 = 300_000;
/// How long a step of the clock is shown, in milliseconds.
const CLOCK_MS: i64 = 86_400_000;

/// How long the result of trying the active replica is reused, in milliseconds.
const REACHED_MS: i64 = 2_000;

/// Why the passive region could not take over.
fn passive(overview: &Result<Overview, TableError>, now: UnixMs) -> Result<Option<String>> {
    let overview = overview.as_ref().map_err(|error| error.clone())?;
    let fence = &overview.fence;
    if !fence.ready {
        let active = &fence.active;
        return Ok(Some(format!(
            "{active} has taken over, and repairs what replication lost"
        )));
    }
    let Some(report) = overview.passive() else {
        return Ok(Some(
            "the passive region has not reported: it could not take over".to_owned(),
        ));
    };
    let why = overview.unready(&report.region, now);
    Ok(why.map(|why| format!("{why}: it could not take over")))
}

/// The deep check, and its last result.
#[derive(Debug)]
pub struct Health {
    store: Store,
    last: Mutex<Option<Checked>>,
    regions: Option<Regions>,
    /// When the active replica was last tried, and whether it was reached.
    reached: Mutex<Option<(UnixMs, bool)>>,
}

/// The result of a deep check.
#[derive(Debug, Clone)]
pub struct Checked {
    /// When it ran.
    pub at: UnixMs,
    /// What failed.
    pub reasons: Vec<String>,
    /// How long a probe took from the table through the bus and the queue to notify, in
    /// milliseconds; `None` if it did not arrive.
    pub relay_ms: Option<i64>,
    /// The last step of the clock, for a day.
    pub clock_step: Option<ClockStep>,
    /// Both regions, if there are two, and what is known of them.
    pub regions: Option<Overview>,
}

impl Health {
    /// The health of the pipeline on `store`.
    pub fn new(store: Store, regions: Option<Regions>) -> Self {
        Self {
            store,
            last: Mutex::default(),
            regions,
            reached: Mutex::default(),
        }
    }

    /// Whether heartbeats can be recorded, as far as that is cheap to find out: in one of two regions, whether it reaches
    /// the active one's replica. 1 RU every two seconds.
    pub async fn reaches(&self) -> bool {
        if self.regions.is_none() {
            return true;
        }
        let mut reached = self.reached.lock().await;
        let now = self.store.world().now();
        if let Some((at, reaches)) = *reached
            && at.is_within(REACHED_MS, now)
        {
            return reaches;
        }
        let read = self.store.cursor(0).await;
        if let Err(error) = &read {
            tracing::warn!(%error, "this region does not reach the active replica");
        }
        *reached = Some((now, read.is_ok()));
        read.is_ok()
    }

    /// The last deep check, or a new one if the last is more than ten seconds old.
    pub async fn checked(&self) -> Checked {
        let mut last = self.last.lock().await;
        let now = self.store.world().now();
        match &*last {
            Some(checked) if checked.at.is_within(FRESH_MS, now) => checked.clone(),
            _ => last.insert(self.check(now).await).clone(),
        }
    }

    async fn check(&self, now: UnixMs) -> Checked {
        let mut reasons = Vec::new();
        let mut note = |what: &str, result: Result<Option<String>>| match result {
            Ok(None) => {}
            Ok(Some(reason)) => reasons.push(reason),
            Err(error) => {
                tracing::error!(%error, what, "the deep check failed");
                reasons.push(format!("{what} failed"));
            }
        };
        note(
            "the write and read-back of the table",
            self.store.probe(now).await.map(|()| None),
        );
        note("the check of the sweep", self.sweep_lag(now).await);
        note("the check of the pulse", self.pulse_age(now).await);
        note("the check of refused heartbeats", self.refused(now).await);
        let relayed = self.relay(now).await;
        let relay_ms = relayed.as_ref().ok().copied().flatten();
        let reason = relayed.map(|ms| {
            let seconds = RELAY_MS / 1000;
            let late = || format!("alerts are not relayed: a probe took more than {seconds} s");
            ms.is_none().then(late)
        });
        note("the check of the relay", reason);
        let step = self.store.clock_step().await.unwrap_or_default();
        let regions = match &self.regions {
            None => None,
            Some(regions) => {
                let overview = regions.overview().await;
                note("the check of the regions", passive(&overview, now));
                overview.ok()
            }
        };
        Checked {
            at: now,
            reasons,
            relay_ms,
            clock_step: step.filter(|step| step.at.is_within(CLOCK_MS, now)),
            regions,
        }
    }

    async fn sweep_lag(&self, now: UnixMs) -> Result<Option<String>> {
        for shard in 0..self.store.shards() {
            let low = self.store.cursor(shard).await?.low;
            let lag = low.map_or(i64::MAX, |low| now.minute() - low);
            if lag > MAX_SWEEP_LAG_MIN {
                return Ok(Some(match low {
                    Some(_) => format!("the sweep of timers is {lag} minutes behind"),
                    None => "timers have never been swept".to_owned(),
                }));
            }
        }
        Ok(None)
    }

    async fn refused(&self, now: UnixMs) -> Result<Option<String>> {
        let outages = self.store.outages().await?;
        let partial = outages
            .iter()
            .filter(|outage| outage.end.is_within(REFUSED_MS, now))
            .find_map(|outage| outage.refused);
        Ok(partial.map(|permille| {
            format!(
                "{} % of the heartbeats were refused lately; monitors get more time",
                f64::from(permille) / 10.0
            )
        }))
    }

    async fn pulse_age(&self, now: UnixMs) -> Result<Option<String>> {
        let seen = self.store.pulse().await?;
        let age_ms = seen.map_or(i64::MAX, |seen| now - seen);
        if age_ms < -MAX_PULSE_AGE_MS {
            return Ok(Some(
                "the system's clock was set back; the times of monitors are being moved".to_owned(),
            ));
        }
        Ok((age_ms > MAX_PULSE_AGE_MS).then(|| {
            "the pipeline's own heartbeat is not arriving; until it does, no monitor goes down"
                .to_owned()
        }))
    }

    /// After how many milliseconds the probe arrived; `None` if it did not arrive in time.
    async fn relay(&self, now: UnixMs) -> Result<Option<i64>> {
        loop {
            let arrived = self
                .store
                .arrived_probe()
                .await?
                .is_some_and(|at| at >= now);
            let ms = self.store.world().now() - now;
            if arrived {
                return Ok(Some(ms));
            }
            if ms > RELAY_MS {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
