//! The report of a backtest.

use super::account::Trade;
use super::benchmark::Compared;
use super::chances::Chances;
use super::performance::Performance;
use super::points::Point;
use super::search::Found;
use super::walk::Walked;
use serde::Serialize;
use thrum_schema::signal::request::{Fill, Sizing};

/// The result of a backtest.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When orders are filled.
    pub fill: Fill,
    pub fee_bps: f64,
    pub slippage_bps: f64,
    /// How much an entry invests.
    pub sizing: Sizing,
    /// Bars per year, used to annualize performance.
    pub annualization: f64,
    /// How many bars were tested, from the first one with a signal.
    pub rows: usize,
    pub from: String,
    pub to: String,
    /// How many of them had no signal.
    pub unknown_bars: usize,
    /// How many bars are missing between the first and the last.
    pub missing_bars: i64,
    /// The performance of the strategy.
    #[serde(flatten)]
    pub performance: Performance,
    /// The fraction of periods with a position.
    pub exposure: f64,
    /// The sum of all `|Δposition|`, in units of the capital.
    pub turnover: f64,
    /// How often the position changed.
    pub position_changes: usize,
    /// How often the position changed from long to short, or from short to long.
    pub direct_flips: usize,
    /// Positions from entry to exit, or to the last bar.
    pub round_trips: usize,
    /// The fraction of round trips that gained, net of costs.
    pub win_rate: Option<f64>,
    /// The gains of the winners divided by the losses of the others; absent if nothing was lost.
    pub profit_factor: Option<f64>,
    /// The performance of holding from the first bar to the last, without costs.
    pub buy_and_hold: Performance,
    /// The comparison with another series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<Compared>,
    /// The series of a portfolio.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub portfolio: Vec<PartReport>,
    /// Other orders of the trades.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monte_carlo: Option<Chances>,
    /// The parameters that were tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<Found>,
    /// The performance with costs on turnover. Present if `performance` uses the costs of the
    /// predecessor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_turnover: Option<Performance>,
    /// The report of the predecessor, if fills are close to close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<Predecessor>,
    /// Whether any signal depends on the future.
    pub look_ahead: LookAhead,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walk_forward: Option<Walked>,
    /// The last 5 000 trades.
    pub trades: Vec<Trade>,
    /// The equity curve, at no more than 500 times, or as many as requested.
    pub equity: Vec<Point>,
}

/// A series of a portfolio.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartReport {
    pub series: String,
    pub weight: f64,
    pub rows: usize,
    pub from: String,
    pub to: String,
    pub unknown_bars: usize,
    pub missing_bars: i64,
    pub exposure: f64,
    pub round_trips: usize,
    pub win_rate: Option<f64>,
    /// The sum of what its trades gained, each as a fraction of the equity at its entry.
    pub contribution: f64,
}

/// The performance as the predecessor computes and names it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Predecessor {
    pub rows: usize,
    pub total_return: f64,
    pub volatility: Option<f64>,
    pub sharpe: Option<f64>,
    pub max_drawdown: f64,
    /// How often the position changed.
    pub trades: usize,
    pub bars_in_position: usize,
    pub bars_won: usize,
    /// The fraction of bars in a position that gained. It is not a win rate of trades.
    pub win_rate: Option<f64>,
    pub equity_end: f64,
    pub buy_hold_total_return: f64,
    pub buy_hold_max_drawdown: f64,
    pub buy_hold_equity_end: f64,
}

/// The check that no signal depends on the future: when later bars are cut off, no earlier signal
/// may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LookAhead {
    pub clean: bool,
    /// The numbers of bars that were kept.
    pub cuts: Vec<usize>,
    /// The first bar whose signal changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_changed: Option<String>,
}
