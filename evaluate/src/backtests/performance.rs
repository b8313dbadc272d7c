//! Performance statistics of a series of returns. None can be NaN: an undefined one is absent.

use serde::Serialize;
use thrum_schema::UnixMs;

/// Milliseconds in a year of 365 days.
const YEAR_MS: f64 = 365.0 * 86_400_000.0;

/// Shortest time for an annual growth rate: less than a week says nothing about a year.
const MIN_YEARS: f64 = 7.0 / 365.0;

/// Statistics of an equity curve that starts at 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Performance {
    /// The final equity minus 1.
    pub total_return: f64,
    /// Compound annual growth rate, by the calendar; absent for less than a week.
    pub cagr: Option<f64>,
    /// The sample standard deviation of returns, annualized.
    pub volatility: Option<f64>,
    /// Mean return divided by its standard deviation, annualized; absent if returns do not vary.
    pub sharpe: Option<f64>,
    /// Mean return divided by the downside deviation (below 0, over all returns), annualized;
    /// absent without losses.
    pub sortino: Option<f64>,
    /// The deepest fall from a peak, as a negative fraction of the peak.
    pub max_drawdown: f64,
    /// When the peak before the deepest fall was reached.
    pub max_drawdown_from: Option<String>,
    /// When the trough was reached.
    pub max_drawdown_to: Option<String>,
    /// When the equity was back at the peak, if it was.
    pub max_drawdown_recovered: Option<String>,
    /// The final equity.
    pub equity_end: f64,
    /// When everything was lost, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ruined_at: Option<String>,
}

/// The equity after each return. Once it is 0, it stays 0.
pub fn equity(returns: &[f64]) -> Vec<f64> {
    let mut equity = 1.0_f64;
    returns
        .iter()
        .map(|r| {
            // Bounded, so that it never becomes infinite.
            equity = (equity * (1.0 + r).max(0.0)).min(1e300);
            equity
        })
        .collect()
}

impl Performance {
    /// Computes the statistics of `returns`. Each return is of the period that ends at the same
    /// index of `times`; the first period starts at `began`, and a year has `annualization`
    /// periods. `epsilon` is added to the divisor of the Sharpe ratio, which only the predecessor
    /// needs.
    pub fn new(
        returns: &[f64],
        times: &[UnixMs],
        began: UnixMs,
        annualization: f64,
        epsilon: f64,
    ) -> Self {
        let equity = equity(returns);
        let end = equity.last().copied().unwrap_or(1.0);
        let n = count(returns.len());
        let mean = returns.iter().sum::<f64>() / n.max(1.0);
        let squares = |of: &dyn Fn(f64) -> f64| returns.iter().map(|r| of(*r).powi(2)).sum::<f64>();
        let deviation = (n > 1.0).then(|| (squares(&|r| r - mean) / (n - 1.0)).sqrt());
        let downside = (squares(&|r| r.min(0.0)) / n.max(1.0)).sqrt();
        let year = annualization.sqrt();
        let years = times
            .last()
            .map_or(0.0, |last| count_ms(*last - began) / YEAR_MS);
        let (mut high, mut high_at) = (1.0_f64, began);
        let mut deepest = (0.0_f64, None);
        for (equity, at) in equity.iter().zip(times) {
            if *equity > high {
                (high, high_at) = (*equity, *at);
            }
            let fall = equity / high - 1.0;
            if fall < deepest.0 {
                deepest = (fall, Some((high_at, *at, high)));
            }
        }
        let recovered = deepest.1.and_then(|(_, bottom, high)| {
            let mut later = equity.iter().zip(times).filter(|(_, at)| **at > bottom);
            later
                .find(|(equity, _)| **equity >= high)
                .map(|(_, at)| at.rfc3339())
        });
        let lost = equity.iter().zip(times).find(|(equity, _)| **equity <= 0.0);
        Self {
            total_return: end - 1.0,
            cagr: finite(if years > MIN_YEARS {
                end.powf(1.0 / years) - 1.0
            } else {
                f64::NAN
            }),
            volatility: deviation.map(|deviation| deviation * year).and_then(finite),
            sharpe: deviation
                .and_then(|deviation| ratio(mean * annualization, deviation * year + epsilon)),
            sortino: ratio(mean * annualization, downside * year),
            max_drawdown: deepest.0,
            max_drawdown_from: deepest.1.map(|(from, ..)| from.rfc3339()),
            max_drawdown_to: deepest.1.map(|(_, to, _)| to.rfc3339()),
            max_drawdown_recovered: recovered,
            equity_end: end,
            ruined_at: lost.map(|(_, at)| at.rfc3339()),
        }
    }
}

/// `a / b`, if it is finite.
pub fn ratio(a: f64, b: f64) -> Option<f64> {
    if b == 0.0 { None } else { finite(a / b) }
}

pub fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub const fn count(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of some years")]
const fn count_ms(ms: i64) -> f64 {
    ms as f64
}
