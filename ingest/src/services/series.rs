//! Series: bars as they come in, from clients and from heartbeats, and the strategies that read them.

mod feed;

use super::error::{ServiceError, ServiceResult};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use thrum_schema::error::Invalid;
use thrum_schema::signal::strategy::{BUILTIN_VERSION, builtin, check_name};
use thrum_schema::signal::track::{Head, month};
use thrum_schema::signal::{Bar, CompiledStrategy, SeriesName, Strategy, Timeframe};
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::{Fed, Nudge, PutBar, Result, Store};

/// The series of all projects.
#[derive(Debug)]
pub struct Series {
    store: Store,
}

/// A strategy in the version that is meant, and its compiled.
#[derive(Debug)]
pub struct StrategyVersion {
    /// Its version.
    pub version: u32,
    /// Its compiled.
    pub compiled: CompiledStrategy,
}

impl Series {
    /// The series in `store`.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The strategy `name`, as it now is; `None` if there is none. 1 RU, if it is not built in.
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

    /// The compiled of the strategy `name` in a version, or in the one that was the latest at `known_at`; `None` if there was
    /// none.
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
        let stored = found.ok_or_else(|| Invalid::new("version", "is none of this strategy's"))?;
        let compiled = stored.strategy.compile(mode, params, timeframe)?;
        Ok(StrategyVersion { version, compiled })
    }

    /// The compiled of the strategy `name` for bars of `timeframe`.
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
                "is not known; GET /v1/strategies lists those that are, PUT /v1/strategies/{name} makes one",
            )
        })?;
        let compiled = strategy.compile(mode, params, timeframe)?;
        Ok(StrategyVersion { version, compiled })
    }

    /// Checks that a series is there, and lets heartbeats feed it if it is one of theirs.
    pub async fn ensure(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> ServiceResult<()> {
        if series.monitor().is_some() {
            return self.feed(project, series, timeframe).await;
        }
        match self.store.head(project, series, timeframe).await? {
            Some(_) => Ok(()),
            None => Err(ServiceError::NotFound(format!(
                "there are no bars of {series} in {timeframe}; POST /v1/series/{series}/bars sends some"
            ))),
        }
    }

    /// Writes bars, and tells evaluate if the series is followed: once, after all of them. A
    /// crash before that leaves the request unanswered, and whoever sends it again tells.
    pub async fn put_bars(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        head: Option<Head>,
        bars: &[Bar],
    ) -> Result<Vec<PutBar>> {
        let (Some(first), Some(last)) = (bars.first(), bars.last()) else {
            return Ok(Vec::new());
        };
        let now = self.store.world().now();
        let months: BTreeSet<String> = bars.iter().map(|bar| month(bar.time)).collect();
        if head
            .as_ref()
            .is_none_or(|head| !months.is_subset(&head.months))
        {
            self.store
                .extend_series(project, series, timeframe, &months)
                .await?;
        }
        let put = self
            .store
            .put_bars(project, series, timeframe, bars, now)
            .await?;
        let mut head = head.filter(|head| head.followed);
        if head.is_none() {
            // Somebody may have begun to, and have read before these were written.
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
            // A feed that sends its last bar again and again brings nothing new.
            let new = put.contains(&PutBar::Accepted);
            let heard = new.then(|| self.store.world().now());
            self.store
                .nudge(project, series, timeframe, nudge, heard)
                .await?;
        }
        Ok(put)
    }
}
