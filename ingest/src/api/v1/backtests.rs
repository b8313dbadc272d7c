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
use thrum_schema::error::Invalid;
use thrum_schema::signal::request::{
    Backtest, Fill, Grid, MAX_POINTS, MonteCarlo, Part, Request, RequestKind, Sizing, WalkForward,
    check_backtest, combinations,
};
use thrum_schema::signal::{SeriesName, Timeframe};
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
    /// How much an entry invests; the whole equity if absent.
    sizing: Option<SizingRequest>,
    /// Several series that share one account, instead of `series`; at most 20.
    #[serde(default)]
    #[schema(max_items = 20)]
    portfolio: Vec<PartRequest>,
    /// A series of the same timeframe to compare with.
    benchmark: Option<String>,
    walk_forward: Option<WalkForwardRequest>,
    /// The values to try, by parameter, on all bars; at most 400 combinations.
    #[serde(default)]
    search: BTreeMap<String, Vec<f64>>,
    monte_carlo: Option<MonteCarloRequest>,
    /// The maximum number of points in the equity curve; 500 if absent.
    #[schema(minimum = 2, maximum = 5000)]
    #[schema(value_type = Option<i32>)]
    points: Option<u32>,
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

/// How much an entry invests: one of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SizingRequest {
    /// This fraction of the equity.
    fraction: Option<f64>,
    /// This fraction of the starting capital.
    fixed: Option<f64>,
    /// The fraction of the equity that has this volatility.
    volatility: Option<VolatilityRequest>,
}

/// A volatility to aim at; an entry never invests more than the equity.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolatilityRequest {
    /// The annual volatility, such as 0.2.
    target: f64,
    /// How many returns before the entry it is computed from; 20 if absent.
    #[schema(minimum = 2, maximum = 1000)]
    #[schema(value_type = Option<i32>)]
    bars: Option<u32>,
}

/// A series of a portfolio.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PartRequest {
    series: String,
    /// Its share of the equity; equal shares if no series has one.
    weight: Option<f64>,
}

/// A Monte Carlo simulation: it shuffles and resamples the trades.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonteCarloRequest {
    /// The number of runs; 1000 if absent.
    #[schema(minimum = 100, maximum = 10_000)]
    #[schema(value_type = Option<i32>)]
    runs: Option<u32>,
    /// The same seed gives the same result; 1 if absent.
    #[schema(value_type = Option<i64>)]
    seed: Option<u64>,
}

impl SizingRequest {
    fn read(self) -> Result<Sizing, Invalid> {
        match (self.fraction, self.fixed, self.volatility) {
            (Some(fraction), None, None) => Ok(Sizing::Fraction(fraction)),
            (None, Some(amount), None) => Ok(Sizing::Fixed(amount)),
            (None, None, Some(of)) => Ok(Sizing::Volatility {
                target: of.target,
                bars: of.bars.unwrap_or(20),
            }),
            _ => Err(Invalid::new(
                "sizing",
                "must be one of {\"fraction\": 0.5}, {\"fixed\": 0.1} and {\"volatility\": {\"target\": 0.2}}",
            )),
        }
    }
}

/// The series of a portfolio, with equal weights if none is given.
fn parts(requested: Vec<PartRequest>) -> Result<Vec<Part>, Invalid> {
    let given = requested
        .iter()
        .filter(|part| part.weight.is_some())
        .count();
    if given != 0 && given != requested.len() {
        let without = requested.iter().position(|part| part.weight.is_none());
        return Err(Invalid::new(
            format!("portfolio[{}].weight", without.unwrap_or_default()),
            "is required, because other series have one",
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "a few series")]
    let equal = 1.0 / requested.len().max(1) as f64;
    let part = |(i, part): (usize, PartRequest)| {
        let series = SeriesName::parse(&format!("portfolio[{i}].series"), &part.series)?;
        let weight = part.weight.unwrap_or(equal);
        Ok(Part { series, weight })
    };
    requested.into_iter().enumerate().map(part).collect()
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
    #[schema(value_type = Option<Object>)]
    benchmark: Option<Value>,
    #[schema(value_type = Option<Vec<Object>>)]
    portfolio: Option<Value>,
    #[schema(value_type = Option<Object>)]
    walk_forward: Option<Value>,
    #[schema(value_type = Option<Object>)]
    search: Option<Value>,
    #[schema(value_type = Option<Object>)]
    monte_carlo: Option<Value>,
    #[schema(value_type = Option<Vec<Object>>)]
    trades: Option<Value>,
    #[schema(value_type = Option<Vec<Object>>)]
    equity: Option<Value>,
    /// For a detector: how often it would have sent an alert.
    alert_count: Option<i64>,
    /// For a detector: the alerts.
    #[schema(value_type = Option<Vec<Object>>)]
    alerts: Option<Value>,
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
        sizing: body
            .sizing
            .map(SizingRequest::read)
            .transpose()?
            .unwrap_or_default(),
        portfolio: parts(body.portfolio)?,
        benchmark: body
            .benchmark
            .map(|name| SeriesName::parse("benchmark", &name))
            .transpose()?,
        search: body.search,
        monte_carlo: body.monte_carlo.map(|of| MonteCarlo {
            runs: of.runs.unwrap_or(1_000),
            seed: of.seed.unwrap_or(1),
        }),
        points: body.points,
    };
    check_backtest(&spec)?;
    if spec
        .points
        .is_some_and(|points| !(2..=MAX_POINTS).contains(&points))
    {
        let problem = format!("must be between 2 and {MAX_POINTS}");
        return Err(Invalid::new("points", problem).into());
    }
    let timeframe = body.timeframe.as_deref().unwrap_or("tick");
    let timeframe = Timeframe::parse("timeframe", timeframe)?;
    let forward = spec.walk_forward.iter().map(|forward| &forward.grid);
    for grid in forward.chain((!spec.search.is_empty()).then_some(&spec.search)) {
        let of = (body.strategy.as_str(), body.mode.as_deref(), &body.params);
        check_grid(&app, writer.project, of, grid, timeframe).await?;
    }
    let request = NewRequest {
        series: body.series,
        timeframe: body.timeframe,
        strategy: body.strategy,
        mode: body.mode,
        params: body.params,
        bars: body.bars,
        what: RequestKind::Backtest(Box::new(spec)),
    };
    request.submit(&app, &writer, &headers).await
}

/// Checks that at least one combination of a grid is possible.
async fn check_grid(
    app: &App,
    project: ProjectId,
    (strategy, mode, given): (&str, Option<&str>, &BTreeMap<String, f64>),
    grid: &Grid,
    timeframe: Timeframe,
) -> Result<(), Problem> {
    // One that does not exist is reported when the request is submitted.
    let Some((strategy, _)) = app.series.strategy(project, strategy).await? else {
        return Ok(());
    };
    let mut problem = None;
    for combination in combinations(grid) {
        let mut params = given.clone();
        params.extend(combination);
        match strategy.compile(mode, &params, timeframe) {
            Ok(_) => return Ok(()),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    problem.map_or(Ok(()), |problem| Err(problem.into()))
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
