//! Equity curves, at a bounded number of times.

use super::performance::equity;
use serde::Serialize;
use thrum_schema::UnixMs;
use thrum_schema::signal::request::Backtest;

/// Most points of an equity curve, if the request does not say.
const MAX_POINTS: usize = 500;

/// The equity at a time, for the strategy and for buy and hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    pub time: String,
    pub equity: f64,
    pub buy_and_hold: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<f64>,
}

/// The equity at no more than [`MAX_POINTS`] times, or as many as requested, including the last.
pub fn points(
    net: &[f64],
    held: &[f64],
    benchmark: Option<&[f64]>,
    times: &[UnixMs],
    spec: &Backtest,
) -> Vec<Point> {
    let most = spec.points.map_or(MAX_POINTS, |points| points as usize);
    let (equity_of, held, benchmark) = (equity(net), equity(held), benchmark.map(equity));
    let step = equity_of.len().div_ceil(most).max(1);
    let last = equity_of.len().saturating_sub(1);
    (0..equity_of.len())
        .filter(|i| (last - i) % step == 0)
        .map(|i| Point {
            time: times[i].rfc3339(),
            equity: equity_of[i],
            buy_and_hold: held[i],
            benchmark: benchmark.as_ref().map(|benchmark| benchmark[i]),
        })
        .collect()
}
