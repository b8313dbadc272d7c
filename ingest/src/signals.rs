//! `/v1` for signals: series, strategies, requests, history, watches. Bars and requests are written here; what they come
//! to is evaluate's.

pub mod backtests;
pub mod feeds;
pub mod history;
pub mod requests;
pub mod series;
pub mod strategies;
pub mod watches;

use crate::app::App;
use crate::problem::Problem;
use axum::http::StatusCode;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use thrum_schema::error::Invalid;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::strategy::{BUILTIN_VERSION, builtin};
use thrum_schema::signal::{SeriesName, Strategy, Timeframe, Verdict};
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::Result as StoreResult;
use utoipa::ToSchema;

/// The instant that a text means: RFC 3339, with its offset, for an instant without one is none.
pub fn instant(field: &str, text: &str) -> Result<UnixMs, Invalid> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| UnixMs(at.timestamp_millis()))
        .map_err(|_| {
            Invalid::new(
                field,
                "must be an instant with its offset (RFC 3339), such as 2026-11-21T05:00:00Z",
            )
        })
}

/// The instant that a query's parameter means, if it is there.
pub fn instant_of(field: &str, text: Option<&String>) -> Result<Option<UnixMs>, Invalid> {
    text.map(|text| instant(field, text)).transpose()
}

/// The series in a path.
pub fn series_of(text: &str) -> Result<SeriesName, Problem> {
    Ok(SeriesName::parse("series", text)?)
}

/// The timeframe that is given; ticks, if none is and heartbeats feed the series.
pub fn timeframe_of(
    text: Option<&String>,
    series: Option<&SeriesName>,
) -> Result<Timeframe, Invalid> {
    match text {
        Some(text) => Timeframe::parse("timeframe", text),
        None if series.is_some_and(|series| series.monitor().is_some()) => Ok(Timeframe::TICK),
        None => Err(Invalid::new(
            "timeframe",
            "is required, such as 1h; tick for plain values",
        )),
    }
}

/// Parameters of a strategy that come in a query, as a JSON object.
pub fn params_of(text: Option<&String>) -> Result<BTreeMap<String, f64>, Invalid> {
    let Some(text) = text else {
        return Ok(BTreeMap::new());
    };
    let wrong = || {
        Invalid::new(
            "params",
            "must be a JSON object of numbers, such as {\"fast\": 5}",
        )
    };
    let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let members = value.as_object().ok_or_else(wrong)?;
    members
        .iter()
        .map(|(name, value)| Ok((name.clone(), value.as_f64().ok_or_else(wrong)?)))
        .collect()
}

/// A strategy in the version that is meant, and its compiled.
#[derive(Debug)]
pub struct StrategyVersion {
    /// Its version.
    pub version: u32,
    /// Its compiled.
    pub compiled: CompiledStrategy,
}

impl App {
    /// The strategy `name`, as it now is; `None` if there is none. 1 RU, if it is not built in.
    pub(crate) async fn strategy(
        &self,
        project: ProjectId,
        name: &str,
    ) -> StoreResult<Option<(Cow<'static, Strategy>, u32)>> {
        if let Some(strategy) = builtin(name) {
            return Ok(Some((Cow::Borrowed(strategy), BUILTIN_VERSION)));
        }
        if thrum_schema::signal::strategy::check_name("strategy", name).is_err() {
            return Ok(None);
        }
        let found = self.store.strategy(project, name).await?;
        let found = found.filter(|stored| !stored.deleted);
        Ok(found.map(|stored| (Cow::Owned(stored.strategy), stored.version)))
    }

    /// The compiled of the strategy `name` in a version, or in the one that was the latest at `known_at`; `None` if there was
    /// none.
    pub(crate) async fn compile_as_of(
        &self,
        project: ProjectId,
        name: &str,
        (version, known_at): (Option<u32>, Option<UnixMs>),
        (mode, params): (Option<&str>, &BTreeMap<String, f64>),
        timeframe: Timeframe,
    ) -> Result<StrategyVersion, Problem> {
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
    pub(crate) async fn compile(
        &self,
        project: ProjectId,
        name: &str,
        mode: Option<&str>,
        params: &BTreeMap<String, f64>,
        timeframe: Timeframe,
    ) -> Result<StrategyVersion, Problem> {
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
    pub(crate) async fn ensure_series(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> Result<(), Problem> {
        if series.monitor().is_some() {
            return self.feed(project, series, timeframe).await;
        }
        match self.store.head(project, series, timeframe).await? {
            Some(_) => Ok(()),
            None => Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!(
                    "there are no bars of {series} in {timeframe}; POST /v1/series/{series}/bars sends some"
                ),
            )),
        }
    }
}

/// What a strategy says of a bar: a decision, or why there is none.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SignalName {
    Buy,
    Hold,
    Sell,
    /// There are fewer bars than the windows need.
    Warming,
    /// The newest bar is too old.
    Stale,
    /// Bars, or a value that a condition needs, are missing.
    Gap,
    /// There is no sentiment, or it is too old.
    NoSentiment,
}

/// Why a signal is what it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplanationView {
    conditions: Vec<ConditionView>,
    /// The conditions whose outcome changed since the bar before.
    changed: Vec<String>,
    /// How old the data is, in seconds.
    age_s: Option<i64>,
    /// A paragraph for people.
    summary: String,
}

/// What became of a condition.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConditionView {
    /// `buy` or `sell`.
    side: String,
    left: String,
    /// `>`, `>=`, `<`, `<=`, `crosses_above` or `crosses_below`.
    op: String,
    right: String,
    value: Option<f64>,
    threshold: Option<f64>,
    /// How far the value is beyond the threshold, on the side that the condition wants.
    margin: Option<f64>,
    met: Option<bool>,
}

/// A signal, with its explanation and its age.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignalReply {
    series: Option<String>,
    timeframe: String,
    strategy: String,
    version: i32,
    mode: String,
    params: BTreeMap<String, f64>,
    #[schema(value_type = SignalName)]
    signal: Verdict,
    /// What it said at its bar, if it is stale since.
    #[schema(value_type = Option<SignalName>)]
    last_known: Option<Verdict>,
    /// When its bar opened.
    bar: Option<String>,
    bar_closed_at: Option<String>,
    close: Option<f64>,
    /// How often the bar's signal was superseded.
    revision: i32,
    computed_at: String,
    /// Seconds since the bar's close.
    age_s: Option<i64>,
    explanation: ExplanationView,
}
