//! `/v1/series/{series}/signal` and `/signals`: the latest signal and the history of signals.

use super::signal_params::{check_limit, params_of, series_of, timeframe_of, timestamp};
use crate::app::App;
use crate::http::{Missing, Overload, Params, PathId, Problem, Problems, Reader};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::CompiledStrategy;
use thrum_schema::signal::track::{Signal, TrackId};
use thrum_schema::signal::view::{Applied, SignalView};
use thrum_store::{Store, StoreError};
use utoipa::ToSchema;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// The strategy and the timeframe.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LatestParams {
    /// The default is `tick` for series from heartbeats.
    timeframe: Option<String>,
    /// The strategy, which is required.
    strategy: Option<String>,
    /// A mode of the strategy; its default mode if absent.
    mode: Option<String>,
    /// Numbers that replace the strategy's own, as a JSON object.
    params: Option<String>,
    /// The version of the strategy; the latest if absent.
    #[param(value_type = Option<i32>, minimum = 1)]
    version: Option<u32>,
}

/// Which signals.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryParams {
    /// The default is `tick` for series from heartbeats.
    pub timeframe: Option<String>,
    /// The strategy, which is required.
    pub strategy: Option<String>,
    /// A mode of the strategy; its default mode if absent.
    pub mode: Option<String>,
    /// Numbers that replace the strategy's own, as a JSON object.
    pub params: Option<String>,
    /// The version of the strategy; if absent, the latest, or the latest at `as_known_at`.
    #[param(value_type = Option<i32>, minimum = 1)]
    pub version: Option<u32>,
    /// Signals of bars from this time on; if absent, the last ones.
    pub from: Option<String>,
    /// Signals of bars before this time.
    pub to: Option<String>,
    /// The maximum number of signals to return, 1 to 1000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// What was known at this time, without later corrections.
    pub as_known_at: Option<String>,
    /// `all` shows superseded signals as well.
    #[param(inline)]
    pub revisions: Option<Revisions>,
}

/// Which revisions to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Revisions {
    #[default]
    Latest,
    All,
}

/// Signals, oldest bar first.
#[derive(Debug, Serialize, ToSchema)]
pub struct History {
    pub signals: Vec<SignalView>,
    /// The `from` of the next page, if there are more.
    pub next_from: Option<String>,
}

/// Shows the latest signal of a strategy on a series, with its explanation and age.
///
/// A signal that is too old is STALE.
#[utoipa::path(
    get, path = "/v1/series/{series}/signal", operation_id = "get_latest_signal", tag = "signals",
    params(("series" = String, Path, description = "The series"), LatestParams),
    responses((status = 200, body = SignalView), Problems, Overload, Missing),
)]
pub async fn latest(
    State(app): State<App>,
    reader: Reader,
    PathId(series): PathId,
    Params(params): Params<LatestParams>,
) -> Result<axum::Json<SignalView>, Problem> {
    let (track, applied, compiled) = track(&app, &reader, &series, &params, None).await?;
    let found = app.store.signal_at(&track, UnixMs::LATEST).await?;
    let signal = found.ok_or_else(none_yet)?;
    reader.caller.charge(&app).await?;
    let now = app.store.world().now();
    let closed = compiled.timeframe.close_of(signal.bar);
    let stale_at = compiled.stale_at(signal.bar, closed);
    Ok(axum::Json(SignalView::new(applied, signal, now, stale_at)))
}

/// Lists the signals of a strategy on a series.
///
/// It shows the latest signal of each bar, the one that was known at `as_known_at`, or every
/// revision.
#[utoipa::path(
    get, path = "/v1/series/{series}/signals", operation_id = "get_signal_history", tag = "signals",
    params(("series" = String, Path, description = "The series"), HistoryParams),
    responses((status = 200, body = History), Problems, Overload, Missing),
)]
pub async fn history(
    State(app): State<App>,
    reader: Reader,
    PathId(series): PathId,
    Params(params): Params<HistoryParams>,
) -> Result<axum::Json<History>, Problem> {
    let from = timestamp("from", params.from.as_ref())?;
    let to = timestamp("to", params.to.as_ref())?.unwrap_or(UnixMs::LATEST);
    let known_at = timestamp("as_known_at", params.as_known_at.as_ref())?;
    let limit = check_limit(params.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let which = LatestParams {
        timeframe: params.timeframe,
        strategy: params.strategy,
        mode: params.mode,
        params: params.params,
        version: params.version,
    };
    let (track, applied, _) = track(&app, &reader, &series, &which, known_at).await?;
    reader.caller.charge(&app).await?;
    let wanted = Wanted {
        from,
        to,
        known_at,
        all: params.revisions.unwrap_or_default() == Revisions::All,
        limit,
    };
    let (found, more) = wanted.read(&app.store, &track).await?;
    let next_from = found
        .last()
        .filter(|_| more)
        .map(|signal| (signal.bar + 1).rfc3339());
    let now = app.store.world().now();
    let signals = found
        .into_iter()
        .map(|signal| SignalView::new(applied.clone(), signal, now, None))
        .collect();
    Ok(axum::Json(History { signals, next_from }))
}

/// Which signals of a track to list.
struct Wanted {
    /// The first bar; without it, the list ends with the newest one.
    from: Option<UnixMs>,
    /// The bar after the last one.
    to: UnixMs,
    /// Only signals that were known at this time.
    known_at: Option<UnixMs>,
    /// Every revision, not only the latest of each bar.
    all: bool,
    limit: usize,
}

impl Wanted {
    /// The signals in time order, and whether later ones follow.
    ///
    /// The signal of a bar may have many revisions, so it reads page by page until there are enough.
    async fn read(
        &self,
        store: &Store,
        track: &TrackId,
    ) -> Result<(Vec<Signal>, bool), StoreError> {
        let mut found: Vec<Signal> = Vec::new();
        let mut more = false;
        let (mut low, mut high) = (self.from.unwrap_or(UnixMs(0)), self.to - 1);
        let newest_first = self.from.is_none();
        while low <= high && !more {
            let mut page = store
                .signals(track, low, high, Some(MAX_LIMIT), newest_first)
                .await?;
            let full = page.len() == MAX_LIMIT;
            let (Some(first), Some(last)) = (page.first(), page.last()) else {
                break;
            };
            let (first, edge) = (first.bar, last.bar);
            // The last bar's revisions may be cut off; they come with the next page.
            let cut = full && first != edge;
            if cut {
                page.retain(|signal| signal.bar != edge);
            }
            match (newest_first, cut) {
                (true, true) => high = edge,
                (true, false) => high = edge - 1,
                (false, true) => low = edge,
                (false, false) => low = edge + 1,
            }
            found.extend(self.select(page, newest_first));
            more = found.len() > self.limit;
            if !full {
                break;
            }
        }
        found.truncate(self.limit);
        if newest_first {
            found.reverse();
            more = false;
        }
        Ok((found, more))
    }

    /// The signals of a page to list, in the page's order.
    fn select(&self, mut page: Vec<Signal>, newest_first: bool) -> Vec<Signal> {
        page.retain(|signal| self.known_at.is_none_or(|at| signal.computed <= at));
        if self.all {
            return page;
        }
        // Newest first, the latest revision of a bar comes first.
        if !newest_first {
            page.reverse();
        }
        page.dedup_by_key(|signal| signal.bar);
        if !newest_first {
            page.reverse();
        }
        page
    }
}

async fn track(
    app: &App,
    reader: &Reader,
    series: &str,
    params: &LatestParams,
    known_at: Option<UnixMs>,
) -> Result<(TrackId, Applied, CompiledStrategy), Problem> {
    let series = series_of(series)?;
    let timeframe = timeframe_of(params.timeframe.as_ref(), Some(&series))?;
    let name = params
        .strategy
        .as_deref()
        .ok_or_else(|| Invalid::new("strategy", "is required"))?;
    let given = params_of(params.params.as_ref())?;
    let strategy_version = app
        .series
        .compile_as_of(
            reader.project,
            name,
            (params.version, known_at),
            (params.mode.as_deref(), &given),
            timeframe,
        )
        .await?;
    let head = app.store.head(reader.project, &series, timeframe).await?;
    let head = head.ok_or_else(|| Problem::not_found("series in this timeframe"))?;
    let track = TrackId::new(
        reader.project,
        &series,
        name,
        strategy_version.version,
        &strategy_version.compiled,
    );
    let applied = Applied::new(
        Some(&series),
        name,
        strategy_version.version,
        &strategy_version.compiled,
    );
    let compiled = strategy_version.compiled.along(Some(&head));
    Ok((track, applied, compiled))
}

fn none_yet() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is no such signal yet; request one with POST /v1/signals, or create a watch. Signals of an \
         earlier version of the strategy need ?version=",
    )
}
