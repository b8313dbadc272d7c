//! Walk-forward tests: for each stretch of bars, chooses the parameters on the bars before it, and
//! tests them on the stretch.

use super::account::trade;
use super::performance::{Performance, finite};
use super::periods::{Judged, Periods, periods, verdicts};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use thrum_schema::error::Invalid;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::request::{Backtest, WalkForward};
use thrum_schema::signal::{Bar, Score, Strategy};

/// Most bars that are stepped, over all combinations.
const MAX_STEPS: usize = 5_000_000;
/// Most stretches in a walk-forward.
const MAX_STRETCHES: usize = 500;

/// The result of a walk-forward.
#[derive(Debug, Clone, Serialize)]
pub struct Walked {
    /// How many combinations of parameters were tried on each stretch.
    pub combinations: usize,
    pub stretches: Vec<Stretch>,
    /// The performance over all stretches, net of costs. It is out of sample.
    #[serde(flatten)]
    pub performance: Performance,
}

/// A stretch, tested with parameters that were chosen on the bars before it.
#[derive(Debug, Clone, Serialize)]
pub struct Stretch {
    pub from: String,
    pub to: String,
    pub params: BTreeMap<String, f64>,
    /// The Sharpe ratio on the bars before it; absent if the returns did not vary.
    pub train_sharpe: Option<f64>,
    pub test_return: f64,
}

/// The backtest that a walk-forward belongs to.
pub struct Tested<'a> {
    pub strategy: &'a Strategy,
    pub compiled: &'a CompiledStrategy,
    pub bars: &'a [Bar],
    pub scores: &'a [Score],
    /// The bars that are tested, as indices into `bars`.
    pub rows: Range<usize>,
    pub spec: &'a Backtest,
    /// Bars per year.
    pub annualization: f64,
}

impl Tested<'_> {
    /// The periods of each combination.
    fn try_all(&self, combinations: &[BTreeMap<String, f64>]) -> Result<Vec<Periods>, Invalid> {
        let mut tried = Vec::with_capacity(combinations.len());
        for given in combinations {
            let mut params = self.compiled.params.clone();
            params.extend(given.clone());
            let (mode, timeframe) = (&self.compiled.mode, self.compiled.timeframe);
            let mut compiled = self.strategy.compile(Some(mode), &params, timeframe)?;
            compiled.calendar = self.compiled.calendar.clone();
            let mut periods = self.periods(compiled);
            if !tried.is_empty() {
                // These are the same for all combinations: keep them once.
                periods.fills = Vec::new();
                periods.marks = Vec::new();
            }
            tried.push(periods);
        }
        Ok(tried)
    }

    /// The periods of one combination. All combinations are tested on the same rows; one without
    /// a signal yet holds no position.
    fn periods(&self, compiled: CompiledStrategy) -> Periods {
        let program = Program::new(compiled);
        let all = verdicts(&program, self.bars, self.scores);
        let judged = Judged {
            bars: &self.bars[self.rows.clone()],
            verdicts: all[self.rows.clone()].to_vec(),
        };
        periods(&judged, program.compiled(), self.spec)
    }
}

/// Tests the strategy on each stretch, with the parameters that did best before it.
pub fn walk(of: &Tested<'_>, forward: &WalkForward) -> Result<Walked, Invalid> {
    let (bars, spec) = (of.bars, of.spec);
    let combinations = combinations(&forward.grid);
    if combinations.len() * bars.len() > MAX_STEPS {
        return Err(Invalid::new(
            "walk_forward.grid",
            format!(
                "must have at most {} combinations for {} bars (got {})",
                MAX_STEPS / bars.len(),
                bars.len(),
                combinations.len()
            ),
        ));
    }
    let mut tried = of.try_all(&combinations)?;
    let cost = (spec.fee_bps + spec.slippage_bps) / 10_000.0;
    let net: Vec<Vec<f64>> = tried
        .iter()
        .map(|periods| trade(&tried[0], &periods.positions, cost).returns())
        .collect();
    let (train, n) = (forward.train_bars as usize, net.first().map_or(0, Vec::len));
    check_stretches(forward, n)?;
    // Nothing is held while the first parameters are chosen.
    let mut stitched = vec![0; train];
    let mut chosen = Vec::new();
    while stitched.len() < n {
        let begin = stitched.len();
        let end = (begin + forward.test_bars as usize).min(n);
        let (best, train_sharpe) = best(&net, begin - train..begin, of.annualization);
        stitched.extend(&tried[best].positions[begin..end]);
        chosen.push((begin..end, best, train_sharpe));
    }
    let periods = tried.swap_remove(0);
    let (times, returns) = (periods.times(), trade(&periods, &stitched, cost).returns());
    let stretch = |(rows, best, train_sharpe): (Range<usize>, usize, _)| Stretch {
        from: times[rows.start - 1].rfc3339(),
        to: times[rows.end - 1].rfc3339(),
        params: combinations[best].clone(),
        train_sharpe,
        test_return: returns[rows].iter().fold(1.0, |value, r| value * (1.0 + r)) - 1.0,
    };
    let (tested, after, began) = (&returns[train..], &times[train..], times[train - 1]);
    Ok(Walked {
        combinations: combinations.len(),
        performance: Performance::new(tested, after, began, of.annualization, 0.0),
        stretches: chosen.into_iter().map(stretch).collect(),
    })
}

/// Checks that the stretches fit `n` periods.
fn check_stretches(forward: &WalkForward, n: usize) -> Result<(), Invalid> {
    let (train, test) = (forward.train_bars as usize, forward.test_bars as usize);
    if n < train + 2 {
        return Err(Invalid::new(
            "walk_forward.train_bars",
            format!("must leave at least 2 of the {n} bars with a signal to test (got {train})"),
        ));
    }
    if (n - train).div_ceil(test) > MAX_STRETCHES {
        return Err(Invalid::new(
            "walk_forward.test_bars",
            format!("must be larger: {test} gives more than {MAX_STRETCHES} stretches"),
        ));
    }
    Ok(())
}

/// The combination with the best Sharpe ratio in the periods `train`; the first, if several are
/// equal. An undefined ratio counts as 0.
fn best(net: &[Vec<f64>], train: Range<usize>, annualization: f64) -> (usize, Option<f64>) {
    let scored = net
        .iter()
        .map(|net| sharpe(&net[train.clone()], annualization));
    let scored: Vec<Option<f64>> = scored.collect();
    let rank = |sharpe: Option<f64>| sharpe.unwrap_or(0.0);
    let mut best = 0;
    for (i, sharpe) in scored.iter().enumerate() {
        if rank(*sharpe) > rank(scored[best]) {
            best = i;
        }
    }
    (best, scored[best])
}

/// All combinations of the values, in grid order.
fn combinations(grid: &BTreeMap<String, Vec<f64>>) -> Vec<BTreeMap<String, f64>> {
    let mut all = vec![BTreeMap::new()];
    for (name, values) in grid {
        all = all
            .iter()
            .flat_map(|given| {
                values.iter().map(|value| {
                    let mut given = given.clone();
                    given.insert(name.clone(), *value);
                    given
                })
            })
            .collect();
    }
    all
}

fn sharpe(returns: &[f64], annualization: f64) -> Option<f64> {
    let n = super::performance::count(returns.len());
    let mean = returns.iter().sum::<f64>() / n;
    let squares: f64 = returns.iter().map(|r| (r - mean).powi(2)).sum();
    let deviation = (squares / (n - 1.0)).sqrt();
    finite(mean / deviation * annualization.sqrt())
}
