//! `/v1/backtests`: requests for backtests of a strategy.

use super::series::BarRequest;
use super::signal_params::timestamp;
use super::signals::{NewRequest, SignalAnswer, Waiting, answer_of, find};
use crate::app::App;
use crate::http::{Json, Missing, Named, Overload, Problem, Problems, Read, Writer};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thrum_schema::ProjectId;
use thrum_schema::signal::Timeframe;
use thrum_schema::signal::request::{
    Backtest, Fill, Request, RequestKind, WalkForward, check_backtest,
};
use utoipa::ToSchema;

/// A request for a backtest.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BacktestRequest {
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
    /// The time of the first bar, RFC 3339; the first bar with a signal if absent.
    from: Option<String>,
    /// The time before which the last bar opens, RFC 3339.
    to: Option<String>,
    /// Fee in basis points of the traded amount; 10 if absent.
    #[schema(minimum = 0, maximum = 1000)]
    fee_bps: Option<f64>,
    /// Slippage in basis points of the traded amount; 5 if absent.
    #[schema(minimum = 0, maximum = 1000)]
    slippage_bps: Option<f64>,
    /// `next_open` (the default) fills at the open of the bar after the signal. `close_to_close`
    /// computes it as Thrum's predecessor did.
    fill: Option<Fill>,
    /// Whether SELL is a short position; true if absent.
    short: Option<bool>,
    /// Bars per year; if absent, computed from the timeframe and the existing bars.
    #[schema(minimum = 1, maximum = 31_536_000)]
    annualization: Option<f64>,
    walk_forward: Option<WalkForwardRequest>,
    /// At most 1000 bars to use instead of a series, for this request only.
    #[schema(value_type = Option<Vec<BarRequest>>, max_items = 1000)]
    bars: Option<Vec<Value>>,
}

/// A walk-forward test: for each stretch of bars, Thrum chooses the parameters with the best Sharpe
/// ratio on the bars before it, and tests them on the stretch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WalkForwardRequest {
    /// How many bars before each stretch to choose the parameters on.
    #[schema(minimum = 10, maximum = 100_000)]
    #[schema(value_type = i32)]
    train_bars: u32,
    /// How many bars a stretch has.
    #[schema(minimum = 10, maximum = 100_000)]
    #[schema(value_type = i32)]
    test_bars: u32,
    /// The values to try, by parameter; at most 100 combinations.
    grid: BTreeMap<String, Vec<f64>>,
}

/// A request for a backtest and, once it is done, its result. A figure that is not defined is null.
#[derive(Debug, Serialize, ToSchema)]
pub struct BacktestAnswer {
    #[serde(flatten)]
    request: Waiting,
    total_return: Option<f64>,
    cagr: Option<f64>,
    volatility: Option<f64>,
    sharpe: Option<f64>,
    sortino: Option<f64>,
    max_drawdown: Option<f64>,
    win_rate: Option<f64>,
    profit_factor: Option<f64>,
    exposure: Option<f64>,
    #[schema(value_type = Option<Object>)]
    buy_and_hold: Option<Value>,
    #[schema(value_type = Option<Object>)]
    look_ahead: Option<Value>,
    #[schema(value_type = Option<Vec<Object>>)]
    trades: Option<Value>,
    #[schema(value_type = Option<Vec<Object>>)]
    equity: Option<Value>,
}

/// Requests a backtest.
///
/// The response is a 202 with the path of the result, or, with `Prefer: wait=N` (at most 10
/// seconds), the result itself if it is computed in time.
#[utoipa::path(
    post, path = "/v1/backtests", operation_id = "request_backtest", tag = "signals",
    request_body = BacktestRequest,
    responses(
        (status = 200, body = BacktestAnswer, description = "The result, with `Prefer: wait=N`"),
        (status = 202, body = Waiting, description = "Queued"),
        Problems, Overload, Missing,
    ),
)]
pub async fn post(
    State(app): State<App>,
    writer: Writer,
    headers: HeaderMap,
    Json(body): Json<BacktestRequest>,
) -> Result<Response, Problem> {
    let default = Backtest::default();
    let spec = Backtest {
        from: timestamp("from", body.from.as_ref())?,
        to: timestamp("to", body.to.as_ref())?,
        fee_bps: body.fee_bps.unwrap_or(default.fee_bps),
        slippage_bps: body.slippage_bps.unwrap_or(default.slippage_bps),
        fill: body.fill.unwrap_or_default(),
        short: body.short.unwrap_or(default.short),
        annualization: body.annualization,
        walk_forward: body.walk_forward.map(|forward| WalkForward {
            train_bars: forward.train_bars,
            test_bars: forward.test_bars,
            grid: forward.grid,
        }),
    };
    check_backtest(&spec)?;
    if let Some(forward) = &spec.walk_forward {
        let timeframe = Timeframe::parse("timeframe", body.timeframe.as_deref().unwrap_or("tick"))?;
        for (name, values) in &forward.grid {
            for value in values {
                let mut params = body.params.clone();
                params.insert(name.clone(), *value);
                let mode = body.mode.as_deref();
                app.series
                    .compile(writer.project, &body.strategy, mode, &params, timeframe)
                    .await?;
            }
        }
    }
    let request = NewRequest {
        series: body.series,
        timeframe: body.timeframe,
        strategy: body.strategy,
        mode: body.mode,
        params: body.params,
        bars: body.bars,
        what: RequestKind::Backtest(spec),
    };
    request.submit(&app, &writer, &headers).await
}

/// Shows a backtest.
#[utoipa::path(
    get, path = "/v1/backtests/{id}", operation_id = "get_backtest", tag = "signals",
    params(("id" = String, Path, description = "The request's ID")),
    responses((status = 200, body = BacktestAnswer), Problems, Overload, Missing),
)]
pub async fn get(
    State(app): State<App>,
    Read { it, .. }: Read<Requested>,
) -> Result<axum::Json<SignalAnswer>, Problem> {
    answer_of(&app, it.0).await
}

/// A request for a backtest.
pub struct Requested(Request);

impl Named for Requested {
    async fn find(app: &App, project: ProjectId, id: &str) -> Result<Self, Problem> {
        let is_backtest = |what: &RequestKind| matches!(what, RequestKind::Backtest(_));
        let found = find(app, project, id, is_backtest).await?;
        found
            .map(Self)
            .ok_or_else(|| Problem::not_found("backtest"))
    }
}
