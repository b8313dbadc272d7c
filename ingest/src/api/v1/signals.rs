//! `/v1/signals`: requests for signals. Ingest writes the request, and evaluate answers it.

use super::series::BarRequest;
use super::signal_params::{timeframe_of, timestamp};
use crate::app::App;
use crate::http::body::from_value;
use crate::http::{Json, Missing, Named, Overload, Problem, Problems, Read, Writer};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;
use thrum_schema::error::Invalid;
use thrum_schema::id::RequestId;
use thrum_schema::signal::request::{
    MAX_INLINE_BARS, Request, RequestKind, RequestState, check_detector,
};
use thrum_schema::signal::view::SignalView;
use thrum_schema::signal::{Bar, Calendar, SeriesName, Timeframe};
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::StoreError;
use tokio::time::Instant;
use utoipa::ToSchema;

/// The longest wait for a result, in seconds.
const MAX_WAIT_S: u64 = 10;
/// How long to wait between two polls for a result, at first and at most.
const POLL: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(200)];

/// A request for a signal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// The series; absent if `bars` are given.
    series: Option<String>,
    /// The timeframe of the bars. The default is `tick` for series from heartbeats.
    timeframe: Option<String>,
    #[schema(example = "trend-rsi")]
    strategy: String,
    /// A mode of the strategy; its default mode if absent.
    mode: Option<String>,
    /// Numbers that replace the strategy's own.
    #[serde(default)]
    params: BTreeMap<String, f64>,
    /// The signal as of this time, RFC 3339; now if absent.
    at: Option<String>,
    /// At most 1000 bars to use instead of a series, for this request only.
    #[schema(value_type = Option<Vec<BarRequest>>, max_items = 1000)]
    bars: Option<Vec<Value>>,
}

/// A request: queued, done or failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Waiting {
    #[schema(value_type = String)]
    id: RequestId,
    /// The path of the result.
    href: String,
    /// `queued`, `done` or `failed`.
    #[schema(value_type = String)]
    status: RequestState,
    created_at: String,
    finished_at: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A request for a signal and, once it is done, the fields of the signal.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignalAnswer {
    #[serde(flatten)]
    request: Waiting,
    #[serde(flatten)]
    #[schema(value_type = Option<SignalView>)]
    result: Map<String, Value>,
}

/// Requests a signal.
///
/// The response is a 202 with the path of the result, or, with `Prefer: wait=N` (at most 10
/// seconds), the signal itself if it is computed in time.
#[utoipa::path(
    post, path = "/v1/signals", operation_id = "request_signal", tag = "signals",
    request_body = SignalRequest,
    responses(
        (status = 200, body = SignalAnswer, description = "The signal, with `Prefer: wait=N`"),
        (status = 202, body = Waiting, description = "Queued"),
        Problems, Overload, Missing,
    ),
)]
pub async fn post(
    State(app): State<App>,
    writer: Writer,
    headers: HeaderMap,
    Json(body): Json<SignalRequest>,
) -> Result<Response, Problem> {
    let now = app.store.world().now();
    let at = timestamp("at", body.at.as_ref())?;
    if at.is_some_and(|at| at > now) {
        return Err(Invalid::new("at", "must not be in the future").into());
    }
    let request = NewRequest {
        series: body.series,
        timeframe: body.timeframe,
        strategy: body.strategy,
        mode: body.mode,
        params: body.params,
        bars: body.bars,
        what: RequestKind::Signal { at },
    };
    request.submit(&app, &writer, &headers).await
}

/// Shows a requested signal.
#[utoipa::path(
    get, path = "/v1/signals/{id}", operation_id = "get_requested_signal", tag = "signals",
    params(("id" = String, Path, description = "The request's ID")),
    responses((status = 200, body = SignalAnswer), Problems, Overload, Missing),
)]
pub async fn get(
    State(app): State<App>,
    Read { it, .. }: Read<Requested>,
) -> Result<axum::Json<SignalAnswer>, Problem> {
    answer_of(&app, it.0).await
}

/// A request for a signal or a backtest, not yet checked.
pub struct NewRequest {
    pub series: Option<String>,
    pub timeframe: Option<String>,
    pub strategy: String,
    pub mode: Option<String>,
    pub params: BTreeMap<String, f64>,
    pub bars: Option<Vec<Value>>,
    pub what: RequestKind,
}

impl NewRequest {
    /// Checks and writes the request, and waits for its result if the client asks to.
    pub async fn submit(
        mut self,
        app: &App,
        writer: &Writer,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let wait_s = wait_of(headers);
        let (series, timeframe, bars) = self.input(app)?;
        let strategy_version = app
            .series
            .compile(
                writer.project,
                &self.strategy,
                self.mode.as_deref(),
                &self.params,
                timeframe,
            )
            .await?;
        let mut needed: Vec<SeriesName> = series.iter().cloned().collect();
        if let RequestKind::Backtest(spec) = &self.what {
            needed.extend(spec.portfolio.iter().map(|part| part.series.clone()));
            needed.extend(spec.benchmark.clone());
            if strategy_version.compiled.detector.is_some() {
                check_detector(spec)?;
            }
        }
        for series in &needed {
            app.series.ensure(writer.project, series, timeframe).await?;
        }
        writer.caller.charge(app).await?;
        let now = app.store.world().now();
        let request = Request {
            id: RequestId(app.store.world().uuid_v7(now)),
            project: writer.project,
            what: self.what,
            series,
            timeframe,
            strategy: self.strategy,
            version: strategy_version.version,
            mode: strategy_version.compiled.mode.clone(),
            params: self.params,
            inline: bars.is_some(),
            state: RequestState::Queued,
            created: now,
            finished: None,
            error: None,
            parts: None,
            attempt: None,
        };
        app.store
            .put_request(&request, bars.as_deref(), now)
            .await?;
        let Some(wait_s) = wait_s else {
            return Ok(accepted(&request));
        };
        let finished = wait_for(app, request.id, Duration::from_secs(wait_s)).await?;
        let mut response = match finished {
            Some(finished) => answer_of(app, finished).await?.into_response(),
            None => accepted(&request),
        };
        if let Ok(applied) = HeaderValue::from_str(&format!("wait={wait_s}")) {
            response
                .headers_mut()
                .insert(HeaderName::from_static("preference-applied"), applied);
        }
        Ok(response)
    }

    /// The input: a stored series, or bars in the request.
    fn input(&mut self, app: &App) -> Result<Input, Problem> {
        let series = self.series.as_deref();
        let series = series
            .map(|series| SeriesName::parse("series", series))
            .transpose()?;
        let timeframe = timeframe_of(self.timeframe.as_ref(), series.as_ref())?;
        let is_portfolio =
            matches!(&self.what, RequestKind::Backtest(spec) if !spec.portfolio.is_empty());
        if is_portfolio {
            if series.is_some() || self.bars.is_some() {
                let problem = "must not be combined with series or bars; leave them out";
                return Err(Invalid::new("portfolio", problem).into());
            }
            return Ok((None, timeframe, None));
        }
        let bars = match (&series, self.bars.take()) {
            (Some(_), None) => None,
            (None, Some(bars)) => {
                let now = app.store.world().now();
                Some(check_bars(bars, timeframe, now)?)
            }
            (Some(_), Some(_)) => {
                let problem = "must not be combined with series; leave one of them out";
                return Err(Invalid::new("bars", problem).into());
            }
            (None, None) => return Err(Invalid::new("series", "or bars is required").into()),
        };
        Ok((series, timeframe, bars))
    }
}

/// The series, if it is a stored one; the timeframe; and the bars, if they are in the request.
type Input = (Option<SeriesName>, Timeframe, Option<Vec<Bar>>);

/// Checks the bars in a request. Returns them by time, the last one for each time.
fn check_bars(items: Vec<Value>, timeframe: Timeframe, now: UnixMs) -> Result<Vec<Bar>, Problem> {
    if items.is_empty() || items.len() > MAX_INLINE_BARS {
        return Err(Invalid::new(
            "bars",
            format!(
                "must have 1 to {MAX_INLINE_BARS} items (got {}); send more to /v1/series/{{series}}/bars",
                items.len()
            ),
        )
        .into());
    }
    let mut bars = BTreeMap::new();
    let mut first = None;
    for (i, item) in items.into_iter().enumerate() {
        let place = format!("bars[{i}]");
        let bar: BarRequest = from_value(item, &place)?;
        let calendar = UnixMs::parse("time", &bar.time).map(|at| {
            let first = *first.get_or_insert(at);
            Calendar::of_bars(timeframe, first, at)
        });
        let bar = bar.check(timeframe, &calendar.unwrap_or_default(), now);
        let bar =
            bar.map_err(|error| Invalid::new(format!("{place}.{}", error.field), error.problem))?;
        bars.insert(bar.time, bar);
    }
    Ok(bars.into_values().collect())
}

/// How many seconds the client wants to wait: `Prefer: wait=N` (RFC 7240).
fn wait_of(headers: &HeaderMap) -> Option<u64> {
    let preferences = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut waits = preferences
        .flat_map(|text| text.split(','))
        .filter_map(|preference| preference.trim().strip_prefix("wait="))
        .filter_map(|seconds| seconds.trim().trim_matches('"').parse::<u64>().ok());
    waits.next().filter(|s| *s > 0).map(|s| s.min(MAX_WAIT_S))
}

/// Polls for the result until it is there, or the wait is over.
async fn wait_for(app: &App, id: RequestId, wait: Duration) -> Result<Option<Request>, Problem> {
    let end = Instant::now() + wait;
    let mut pause = POLL[0];
    loop {
        tokio::time::sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
        let request = app.store.request(id).await?;
        if let Some(request) = request.filter(|request| request.state != RequestState::Queued) {
            return Ok(Some(request));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        pause = (pause * 2).min(POLL[1]);
    }
}

fn href(request: &Request) -> String {
    let kind = match request.what {
        RequestKind::Signal { .. } => "signals",
        RequestKind::Backtest(_) => "backtests",
    };
    format!("/v1/{kind}/{}", request.id)
}

fn waiting(request: &Request) -> Waiting {
    Waiting {
        id: request.id,
        href: href(request),
        status: request.state,
        created_at: request.created.rfc3339(),
        finished_at: request.finished.map(UnixMs::rfc3339),
        error: request.error.clone(),
    }
}

fn accepted(request: &Request) -> Response {
    let location = [(header::LOCATION, href(request))];
    (StatusCode::ACCEPTED, location, axum::Json(waiting(request))).into_response()
}

/// A request for a signal.
pub struct Requested(Request);

impl Named for Requested {
    async fn find(app: &App, project: ProjectId, id: &str) -> Result<Self, Problem> {
        let is_signal = |what: &RequestKind| matches!(what, RequestKind::Signal { .. });
        let found = find(app, project, id, is_signal).await?;
        found.map(Self).ok_or_else(|| Problem::not_found("signal"))
    }
}

/// A request of this kind, if it belongs to the project.
pub async fn find(
    app: &App,
    project: ProjectId,
    id: &str,
    is_kind: impl Fn(&RequestKind) -> bool,
) -> Result<Option<Request>, Problem> {
    let Ok(id) = id.parse::<RequestId>() else {
        return Ok(None);
    };
    let found = app.store.request(id).await?;
    Ok(found.filter(|request| request.project == project && is_kind(&request.what)))
}

/// A request and, once it is done, the fields of its result.
pub async fn answer_of(app: &App, request: Request) -> Result<axum::Json<SignalAnswer>, Problem> {
    let result = match request.state {
        RequestState::Done => result_of(app, &request).await?,
        _ => Map::new(),
    };
    Ok(axum::Json(SignalAnswer {
        request: waiting(&request),
        result,
    }))
}

async fn result_of(app: &App, request: &Request) -> Result<Map<String, Value>, Problem> {
    let result = app.store.request_result(request).await?;
    match result.map(|text| serde_json::from_str(&text)) {
        Some(Ok(Value::Object(result))) => Ok(result),
        _ => Err(StoreError::Corrupt(format!("the result of {}", request.id)).into()),
    }
}
