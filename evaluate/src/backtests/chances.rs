//! How much of a result is the order of its trades: other orders, and other samples, of the same
//! trades.

use super::performance::count;
use serde::Serialize;
use thrum_schema::error::Invalid;
use thrum_schema::signal::request::MonteCarlo;

/// Most trades that are drawn, over all runs.
const MAX_DRAWN: usize = 20_000_000;

/// The result of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chances {
    pub runs: u32,
    pub seed: u64,
    pub trades: usize,
    /// The same trades in random order: the total stays, the way there differs.
    pub reordered: Reordered,
    /// As many trades, drawn at random with replacement.
    pub resampled: Resampled,
}

/// The trades in random order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reordered {
    pub max_drawdown: Quantiles,
}

/// Trades drawn at random.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resampled {
    pub total_return: Quantiles,
    pub max_drawdown: Quantiles,
    /// The fraction of runs that lost money.
    pub losing: f64,
}

/// What 5, 25, 50, 75 and 95 percent of the runs stay below.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantiles {
    pub p5: f64,
    pub p25: f64,
    pub p50: f64,
    pub p75: f64,
    pub p95: f64,
}

impl Quantiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        // Linear between the two nearest values, like numpy's default.
        let at = |q: f64| {
            let place = q * (count(values.len()) - 1.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index of the values"
            )]
            let below = place.floor() as usize;
            let above = (below + 1).min(values.len() - 1);
            values[below] + (values[above] - values[below]) * (place - place.floor())
        };
        Self {
            p5: at(0.05),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
        }
    }
}

/// Simulates other orders of trades that gained `gains`, each as a fraction of the equity.
pub fn simulate(gains: &[f64], spec: MonteCarlo) -> Result<Chances, Invalid> {
    if gains.len() < 2 {
        return Err(Invalid::new(
            "monte_carlo",
            format!("needs at least 2 trades (there are {})", gains.len()),
        ));
    }
    let runs = spec.runs as usize;
    if runs * gains.len() > MAX_DRAWN {
        return Err(Invalid::new(
            "monte_carlo.runs",
            format!(
                "must be at most {} for {} trades (got {runs})",
                MAX_DRAWN / gains.len(),
                gains.len()
            ),
        ));
    }
    let mut random = fastrand::Rng::with_seed(spec.seed);
    let mut order = gains.to_vec();
    let reordered = (0..runs).map(|_| {
        random.shuffle(&mut order);
        path(order.iter().copied()).1
    });
    let reordered = Quantiles::of(reordered.collect());
    let resampled: Vec<(f64, f64)> = (0..runs)
        .map(|_| path((0..gains.len()).map(|_| gains[random.usize(..gains.len())])))
        .collect();
    let losing = resampled.iter().filter(|(total, _)| *total < 0.0).count();
    Ok(Chances {
        runs: spec.runs,
        seed: spec.seed,
        trades: gains.len(),
        reordered: Reordered {
            max_drawdown: reordered,
        },
        resampled: Resampled {
            total_return: Quantiles::of(resampled.iter().map(|(total, _)| *total).collect()),
            max_drawdown: Quantiles::of(resampled.iter().map(|(_, fall)| *fall).collect()),
            losing: count(losing) / count(runs),
        },
    })
}

/// The total return and the maximum drawdown of trades one after the other.
fn path(gains: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut equity, mut high, mut fall) = (1.0_f64, 1.0_f64, 0.0_f64);
    for gain in gains {
        equity = (equity * (1.0 + gain).max(0.0)).min(1e300);
        high = high.max(equity);
        fall = fall.min(equity / high - 1.0);
    }
    (equity - 1.0, fall)
}
