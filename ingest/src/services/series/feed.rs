//! Heartbeats as series: a monitor's metrics, the durations of its runs, and the intervals between
//! its successes.
//!
//! Nothing is stored for them until the first request or watch for `monitor:<slug>:<name>`. That
//! marks the monitor's state, which every heartbeat reads anyway, and imports what the log still
//! has.

use super::Series;
use crate::services::{ServiceError, ServiceResult};
use thrum_schema::error::Invalid;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::ping::{DURATION, INTERVAL, seconds};
use thrum_schema::signal::track::{Followed, Holds};
use thrum_schema::signal::{Bar, SeriesName, Timeframe};
use thrum_schema::state::{Feeds, MAX_FEEDS};
use thrum_schema::{MonitorState, Ping, PingKind, UnixMs};
use thrum_store::{Result, StoreError};

/// How often to try to mark a state that concurrent heartbeats keep changing.
const MAX_ATTEMPTS: usize = 50;

impl Series {
    /// Makes heartbeats feed a series from now on, and imports what their log has. If the monitor
    /// judges its runs by the series, it has only runs that were reported as successes.
    pub async fn feed(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        judges: bool,
    ) -> ServiceResult<()> {
        let Some((slug, name)) = series.monitor() else {
            return Ok(());
        };
        if timeframe != Timeframe::TICK {
            return Err(
                Invalid::new("timeframe", "must be tick for a series from heartbeats").into(),
            );
        }
        let monitor = match *self.store.monitors_with_slug(project, slug).await? {
            [monitor] => monitor,
            [] => {
                return Err(ServiceError::NotFound(format!(
                    "there is no monitor with the slug {slug}"
                )));
            }
            _ => {
                return Err(ServiceError::Conflict(format!(
                    "several monitors have the slug {slug}; give them different slugs"
                )));
            }
        };
        let marked = self.mark(monitor, slug, name).await?;
        let head = self.store.head(project, series, timeframe).await?;
        // An earlier attempt may have marked the state and then failed, so look for the series,
        // too.
        if !marked && head.is_some() {
            return Ok(());
        }
        let mut log = self.store.pings(monitor).await?;
        log.reverse();
        log.retain(|ping| !judges || is_reported_success(ping));
        let bars = bars_of(&log, name);
        self.put_bars(
            project,
            series,
            timeframe,
            head.clone(),
            Holds::Values,
            &bars,
        )
        .await?;
        if head.is_none() && bars.is_empty() {
            let none = std::collections::BTreeSet::new();
            self.store
                .extend_series(project, series, timeframe, &none, Some(Holds::Values))
                .await?;
        }
        Ok(())
    }

    /// Has heartbeats feed the series of a metric, and evaluate follow the detector by which its
    /// monitor judges it.
    pub async fn expect(
        &self,
        project: ProjectId,
        series: &SeriesName,
        followed: &Followed,
    ) -> ServiceResult<()> {
        self.feed(project, series, Timeframe::TICK, true).await?;
        let followed = self.store.set_expected(project, series, Some(followed));
        Ok(followed.await?)
    }

    /// Marks in a monitor's state that a value of its heartbeats feeds a series; false if it is
    /// marked already.
    async fn mark(&self, monitor: MonitorId, slug: &str, name: &str) -> ServiceResult<bool> {
        for attempt in 0..MAX_ATTEMPTS {
            let located = self.store.locate(monitor).await?;
            let Some(state) = located.and_then(|located| located.state) else {
                return Err(ServiceError::Conflict(
                    "the monitor is being changed; try again".into(),
                ));
            };
            let mut feeds = state
                .feeds
                .clone()
                .filter(|feeds| feeds.slug == slug)
                .unwrap_or_else(|| Feeds {
                    slug: slug.to_owned(),
                    names: Vec::new(),
                });
            if feeds.names.iter().any(|known| known == name) {
                return Ok(false);
            }
            if feeds.names.len() >= MAX_FEEDS {
                return Err(ServiceError::Conflict(format!(
                    "a monitor feeds at most {MAX_FEEDS} series; this one already feeds {}",
                    feeds.names.join(", ")
                )));
            }
            feeds.names.push(name.to_owned());
            match self.store.set_feeds(&state, &feeds).await {
                Ok(()) => return Ok(true),
                Err(StoreError::Conflict) => {
                    self.store
                        .back_off(u32::try_from(attempt).unwrap_or(0))
                        .await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Writes the values of a heartbeat that feed series. The heartbeat is already recorded, so a
    /// failure is only logged.
    pub async fn feed_ping(&self, state: &MonitorState, ping: &Ping) {
        let Some(feeds) = &state.feeds else {
            return;
        };
        for name in &feeds.names {
            let series = SeriesName::of_monitor(&feeds.slug, name);
            if let Err(error) = self.feed_one(state, &series, name, ping).await {
                tracing::error!(%error, monitor = %state.monitor, name, "a heartbeat's value is missing from its series");
            }
        }
    }

    async fn feed_one(
        &self,
        state: &MonitorState,
        series: &SeriesName,
        name: &str,
        ping: &Ping,
    ) -> Result<()> {
        let value = match name {
            INTERVAL if ping.kind == PingKind::Success => {
                let log = self.store.pings(state.monitor).await?;
                let before = log
                    .iter()
                    .filter(|before| before.kind == PingKind::Success && before.n < ping.n);
                before
                    .max_by_key(|before| before.n)
                    .map(|before| seconds(ping.at - before.at))
            }
            INTERVAL => None,
            name => value_of(ping, name),
        };
        let Some(value) = value else {
            return Ok(());
        };
        let head = self
            .store
            .head(state.project, series, Timeframe::TICK)
            .await?;
        let judges = head.as_ref().is_some_and(|head| head.expect.is_some());
        if judges && !is_reported_success(ping) {
            return Ok(());
        }
        let bar = Bar::value(ping.at, value);
        self.put_bars(
            state.project,
            series,
            Timeframe::TICK,
            head,
            Holds::Values,
            &[bar],
        )
        .await?;
        Ok(())
    }
}

/// Whether a run reported a success, even if its numbers made it a failure: what is usual is learned
/// from these.
fn is_reported_success(ping: &Ping) -> bool {
    ping.kind != PingKind::Fail || !ping.unexpected.is_empty()
}

/// The duration of a ping's run, or one of its metrics.
fn value_of(ping: &Ping, name: &str) -> Option<f64> {
    match name {
        DURATION => ping.duration_ms.map(seconds),
        name => ping.metrics.get(name).copied(),
    }
}

/// The bars of a series from a log, oldest first.
fn bars_of(log: &[Ping], name: &str) -> Vec<Bar> {
    let mut last: Option<UnixMs> = None;
    let mut bars: Vec<Bar> = Vec::new();
    for ping in log {
        let value = if name == INTERVAL {
            if ping.kind != PingKind::Success {
                continue;
            }
            last.replace(ping.at).map(|last| seconds(ping.at - last))
        } else {
            value_of(ping, name)
        };
        if let Some(value) = value.filter(|_| bars.last().is_none_or(|bar| bar.time < ping.at)) {
            bars.push(Bar::value(ping.at, value));
        }
    }
    bars
}
