//! `/v1/backtests`: what following a strategy would have come to.

use super::series::BarRequest;
use super::signal_params::timestamp;
use super::signals::{Asked, SignalAnswer, Waiting, answer_of, find};
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

/// What is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BacktestRequest {
    /// The series; not if bars come with the request.
    series: Option<String>,
    timeframe: Option<String>,
    #[schema(example = "trend-rsi")]
    strategy: String,
    /// The strategy's default, if absent.
    mode: Option<String>,
    /// Numbers in place of the strategy's own.
    #[serde(default)]
    params: BTreeMap<String, f64>,
    /// From this bar on, RFC 3339; from the first with a signal, if absent.
    from: Option<String>,
    /// Before this instant.
    to: Option<String>,
    /// Fee, in hundredths of a per cent of what is traded; 10, if absent.
    #[schema(minimum = 0, maximum = 1000)]
    fee_bps: Option<f64>,
    /// Slippage, likewise; 5, if absent.
    #[schema(minimum = 0, maximum = 1000)]
    slippage_bps: Option<f64>,
    /// `next_open`, if absent: at the open of the bar after the signal's. `close_to_close` reckons as the predecessor did.
    fill: Option<Fill>,
    /// Whether SELL is a short position; true, if absent.
    short: Option<bool>,
    /// Bars in a year; by the timeframe and the bars that are there, if absent.
    #[schema(minimum = 1, maximum = 31_536_000)]
    annualization: Option<f64>,
    walk_forward: Option<WalkForwardRequest>,
    /// At most 1000, for this once.
    #[schema(value_type = Option<Vec<BarRequest>>, max_items = 1000)]
    bars: Option<Vec<Value>>,
}

/// Parameters chosen by their Sharpe ratio on the bars before each stretch, and judged on the stretch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WalkForwardRequest {
    #[schema(minimum = 10, maximum = 100_000)]
    #[schema(value_type = i32)]
    train_bars: u32,
    #[schema(minimum = 10, maximum = 100_000)]
    #[schema(value_type = i32)]
    test_bars: u32,
    /// Values to try, by parameter: at most 100 combinations.
    grid: BTreeMap<String, Vec<f64>>,
}

/// A backtest that waits, or its result: figures (those without a meaning are null), trades and equity beside buying and
/// holding.
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

/// Asks for a backtest: `202` and where it will be, or, with `Prefer: wait=N` (at most 10 s), the result itself.
#[utoipa::path(
    post, path = "/v1/backtests", operation_id = "request_backtest", tag = "signals",
    security(("api_key" = []), ("bearer" = [])), request_body = BacktestRequest,
    responses(
        (status = 200, body = BacktestAnswer, description = "The result; with `Prefer: wait=N`"),
        (status = 202, body = Waiting, description = "It waits"),
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
    let asked = Asked {
        series: body.series,
        timeframe: body.timeframe,
        strategy: body.strategy,
        mode: body.mode,
        params: body.params,
        bars: body.bars,
        what: RequestKind::Backtest(spec),
    };
    asked.submit(&app, &writer, &headers).await
}

/// Shows a backtest.
#[utoipa::path(
    get, path = "/v1/backtests/{id}", operation_id = "get_backtest", tag = "signals",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The request's id")),
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
