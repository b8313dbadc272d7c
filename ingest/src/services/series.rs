//! Series: bars from clients and from heartbeats, and the strategies that read them.

mod feed;

use super::error::{ServiceError, ServiceResult};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use thrum_schema::error::Invalid;
use thrum_schema::signal::strategy::{BUILTIN_VERSION, builtin, check_name};
use thrum_schema::signal::track::{Head, Holds, month};
use thrum_schema::signal::{Bar, CompiledStrategy, SeriesName, Strategy, Timeframe};
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::{Fed, Nudge, PutBar, Result, Store};

/// The series of all projects.
#[derive(Debug)]
pub struct Series {
    store: Store,
}

/// A version of a strategy, compiled.
#[derive(Debug)]
pub struct StrategyVersion {
    /// The version.
    pub version: u32,
    /// The compiled strategy.
    pub compiled: CompiledStrategy,
}

impl Series {
    /// The series in `store`.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The latest version of the strategy `name`; `None` if there is none. 1 RU, unless it is built
    /// in.
    pub async fn strategy(
        &self,
        project: ProjectId,
        name: &str,
    ) -> Result<Option<(Cow<'static, Strategy>, u32)>> {
        if let Some(strategy) = builtin(name) {
            return Ok(Some((Cow::Borrowed(strategy), BUILTIN_VERSION)));
        }
        if check_name("strategy", name).is_err() {
            return Ok(None);
        }
        let found = self.store.strategy(project, name).await?;
        let found = found.filter(|stored| !stored.deleted);
        Ok(found.map(|stored| (Cow::Owned(stored.strategy), stored.version)))
    }

    /// Compiles the strategy `name` in `version`, or else in the version that was the latest at
    /// `known_at`, or else in the latest.
    pub async fn compile_as_of(
        &self,
        project: ProjectId,
        name: &str,
        (version, known_at): (Option<u32>, Option<UnixMs>),
        (mode, params): (Option<&str>, &BTreeMap<String, f64>),
        timeframe: Timeframe,
    ) -> ServiceResult<StrategyVersion> {
        let version = match (builtin(name), version, known_at) {
            (None, None, Some(at)) => self.store.version_at(project, name, at).await?,
            (_, version, _) => version,
        };
        let Some(version) = version.filter(|_| builtin(name).is_none()) else {
            return self.compile(project, name, mode, params, timeframe).await;
        };
        let found = self.store.strategy_version(project, name, version).await?;
        let stored =
            found.ok_or_else(|| Invalid::new("version", "is not a version of this strategy"))?;
        let compiled = stored.strategy.compile(mode, params, timeframe)?;
        Ok(StrategyVersion { version, compiled })
    }

    /// Compiles the latest version of the strategy `name` for bars of `timeframe`.
    pub async fn compile(
        &self,
        project: ProjectId,
        name: &str,
        mode: Option<&str>,
        params: &BTreeMap<String, f64>,
        timeframe: Timeframe,
    ) -> ServiceResult<StrategyVersion> {
        let found = self.strategy(project, name).await?;
        let (strategy, version) = found.ok_or_else(|| {
            Invalid::new(
                "strategy",
                "is unknown; GET /v1/strategies lists the strategies, PUT /v1/strategies/{name} creates one",
            )
        })?;
        let compiled = strategy.compile(mode, params, timeframe)?;
        Ok(StrategyVersion { version, compiled })
    }

    /// Checks that a series exists. If it is a series from heartbeats, they feed it from now on.
    pub async fn ensure(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> ServiceResult<()> {
        if series.monitor().is_some() {
            return self.feed(project, series, timeframe, false).await;
        }
        if self.store.head(project, series, timeframe).await?.is_some() {
            return Ok(());
        }
        let heads = self.store.heads(project).await?;
        let others = heads.iter().filter(|head| head.series == *series);
        let others: Vec<String> = others.map(|head| head.timeframe.to_string()).collect();
        Err(ServiceError::NotFound(if others.is_empty() {
            format!(
                "there are no bars of {series}; send some with POST /v1/series/{series}/bars, or values with POST \
                 /v1/series/{series}/values"
            )
        } else {
            format!(
                "{series} has no timeframe {timeframe}; it has {}",
                others.join(", ")
            )
        }))
    }

    /// Writes bars, and then nudges evaluate once if the series is followed. If Thrum crashes in
    /// between, the client gets no answer, and its retry nudges.
    pub async fn put_bars(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        head: Option<Head>,
        holds: Holds,
        bars: &[Bar],
    ) -> Result<Vec<PutBar>> {
        let (Some(first), Some(last)) = (bars.first(), bars.last()) else {
            return Ok(Vec::new());
        };
        let now = self.store.world().now();
        let months: BTreeSet<String> = bars.iter().map(|bar| month(bar.time)).collect();
        if head
            .as_ref()
            .is_none_or(|head| head.holds.is_none() || !months.is_subset(&head.months))
        {
            self.store
                .extend_series(project, series, timeframe, &months, Some(holds))
                .await?;
        }
        let put = self
            .store
            .put_bars(project, series, timeframe, bars, now)
            .await?;
        let mut head = head.filter(|head| head.followed);
        if head.is_none() {
            // Another process may have started to follow it, and read it before these bars were
            // written.
            head = self.store.head(project, series, timeframe).await?;
        }
        if let Some(head) = head.filter(|head| head.followed) {
            let mut through = last.time;
            if head.through.is_none() {
                let last = self
                    .store
                    .last_bars(project, &head, UnixMs::LATEST, 1)
                    .await?;
                through = last.first().map_or(through, |bar| bar.t.max(through));
            }
            if head.through.is_none_or(|before| before < through) {
                self.store
                    .extend_through(project, series, timeframe, through)
                    .await?;
            }
            let nudge = Nudge {
                fed: Fed::Bars,
                from: first.time,
                to: last.time,
            };
            // A client that keeps resending its last bar adds nothing new.
            let new = put.contains(&PutBar::Accepted);
            let received_at = new.then(|| self.store.world().now());
            self.store
                .nudge(project, series, timeframe, nudge, received_at)
                .await?;
        }
        Ok(put)
    }
}
