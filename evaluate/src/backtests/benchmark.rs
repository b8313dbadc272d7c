//! The comparison of a backtest with another series.

use super::performance::{Performance, count, finite};
use super::periods::Rows;
use serde::Serialize;
use thrum_schema::error::Invalid;
use thrum_schema::signal::{Bar, Timeframe};

/// A series to compare with.
#[derive(Debug, Clone, Copy)]
pub struct Benchmark<'a> {
    /// Its name.
    pub series: &'a str,
    /// Its timeframe.
    pub timeframe: Timeframe,
    /// Its bars, in time order.
    pub bars: &'a [Bar],
}

/// The comparison with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub series: String,
    /// The performance of holding it over the same time, without costs.
    #[serde(flatten)]
    pub performance: Performance,
    /// The strategy's total return minus that of the benchmark.
    pub excess_return: f64,
    /// The covariance of both returns divided by the variance of the benchmark's.
    pub beta: Option<f64>,
    /// The correlation of both returns.
    pub correlation: Option<f64>,
}

impl Benchmark<'_> {
    /// Its returns in each row. Its value is the last known close, and at the start the open of the
    /// bar that opens then.
    pub fn returns(&self, rows: &Rows) -> Result<Vec<f64>, Invalid> {
        if let Some(bar) = self.bars.iter().find(|bar| bar.low <= 0.0) {
            return Err(Invalid::new(
                "benchmark",
                format!(
                    "must have prices above zero; the bar at {} has a low of {}",
                    bar.time.rfc3339(),
                    bar.low
                ),
            ));
        }
        let close = |bar: &Bar| self.timeframe.close_of(bar.time);
        let next = self.bars.partition_point(|bar| close(bar) <= rows.began);
        let first = match self.bars.get(next) {
            Some(bar) if bar.time == rows.began => bar.open,
            _ => match next.checked_sub(1).map(|before| self.bars[before]) {
                Some(bar) => bar.close,
                None => {
                    return Err(Invalid::new(
                        "benchmark",
                        format!(
                            "must have a bar at {} or before; {}",
                            rows.began.rfc3339(),
                            self.bars.first().map_or_else(
                                || "it has none".to_owned(),
                                |bar| format!("its first bar is at {}", bar.time.rfc3339())
                            )
                        ),
                    ));
                }
            },
        };
        let (mut value, mut next) = (first, next);
        let returns = rows.ends.iter().map(|end| {
            let before = value;
            while let Some(bar) = self.bars.get(next)
                && close(bar) <= *end
            {
                value = bar.close;
                next += 1;
            }
            value / before - 1.0
        });
        Ok(returns.collect())
    }

    /// The comparison of a strategy's returns with its own.
    pub fn compare(
        &self,
        performance: Performance,
        strategy: (&[f64], f64),
        own: &[f64],
    ) -> Compared {
        let (returns, total) = strategy;
        let n = count(own.len());
        let mean = |of: &[f64]| of.iter().sum::<f64>() / n;
        let (a, b) = (mean(returns), mean(own));
        let both = || returns.iter().zip(own);
        let covariance: f64 = both().map(|(x, y)| (x - a) * (y - b)).sum();
        let spread = |of: &[f64], mean: f64| of.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let (own_spread, spread) = (spread(own, b), spread(returns, a));
        Compared {
            series: self.series.to_owned(),
            excess_return: total - performance.total_return,
            performance,
            beta: finite(covariance / own_spread),
            correlation: finite(covariance / (own_spread * spread).sqrt()),
        }
    }
}
