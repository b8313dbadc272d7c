//! Walk-forward tests: for each stretch of bars, chooses the parameters on the bars before it, and
//! tests them on the stretch.

use super::account::{Ledger, trade};
use super::performance::{Performance, finite};
use super::points::{Point, points};
use super::search::{Params, Positions, try_all};
use super::tested::Tested;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use thrum_schema::error::Invalid;
use thrum_schema::signal::request::WalkForward;

/// Most stretches in a walk-forward.
const MAX_STRETCHES: usize = 500;

/// The result of a walk-forward.
#[derive(Debug, Clone, Serialize)]
pub struct Walked {
    /// How many combinations of parameters were tried on each stretch.
    pub combinations: usize,
    /// How many combinations are impossible, and were left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub impossible: usize,
    pub stretches: Vec<Stretch>,
    /// The equity curve over all stretches, beside that of holding.
    pub equity: Vec<Point>,
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

/// Tests the strategy on each stretch, with the parameters that did best before it.
///
/// `held` are the returns of holding.
pub fn walk(of: &Tested<'_>, forward: &WalkForward, held: &[f64]) -> Result<Walked, Invalid> {
    let tried = try_all(of, &forward.grid, "walk_forward.grid")?;
    let all = tried.len();
    let tried = tried.into_iter();
    let (combinations, positions): (Vec<Params>, Vec<Positions>) = tried
        .filter_map(|(params, positions)| Some((params, positions.ok()?)))
        .unzip();
    let ledger = |positions: &[Vec<i8>]| {
        let plans = of.plans(positions);
        trade(&plans, of.rows, of.cost, of.spec.sizing)
    };
    let net: Vec<Net> = positions
        .iter()
        .map(|tried| Net::of(&ledger(tried)))
        .collect();
    let (train, n) = (forward.train_bars as usize, of.rows.ends.len());
    check_stretches(forward, n)?;
    let mut chosen = Vec::new();
    let mut begin = train;
    while begin < n {
        let end = (begin + forward.test_bars as usize).min(n);
        let (best, train_sharpe) = best(&net, begin - train..begin, of.annualization);
        chosen.push((begin..end, best, train_sharpe));
        begin = end;
    }
    // Nothing is held while the first parameters are chosen.
    let stitched: Vec<Vec<i8>> = of
        .rows
        .of
        .iter()
        .enumerate()
        .map(|(m, rows)| {
            let periods = rows.iter().enumerate();
            let position = |(period, row): (usize, &usize)| {
                let stretch = row.checked_sub(train)? / forward.test_bars as usize;
                Some(positions[chosen[stretch].1][m][period])
            };
            periods
                .map(|period| position(period).unwrap_or(0))
                .collect()
        })
        .collect();
    let (times, returns) = (&of.rows.ends, ledger(&stitched).returns());
    let stretch = |(rows, best, train_sharpe): (Range<usize>, usize, _)| Stretch {
        from: times[rows.start - 1].rfc3339(),
        to: times[rows.end - 1].rfc3339(),
        params: combinations[best].clone(),
        train_sharpe,
        test_return: returns[rows].iter().fold(1.0, |value, r| value * (1.0 + r)) - 1.0,
    };
    let (tested, after, began) = (&returns[train..], &times[train..], times[train - 1]);
    Ok(Walked {
        impossible: all - combinations.len(),
        combinations: combinations.len(),
        performance: Performance::new(tested, after, began, of.annualization, 0.0),
        equity: points(tested, &held[train..], None, after, of.spec),
        stretches: chosen.into_iter().map(stretch).collect(),
    })
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(n: &usize) -> bool {
    *n == 0
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

/// The result of a combination in every row.
struct Net {
    returns: Vec<f64>,
    /// The first row in which it had lost everything.
    ruined: Option<usize>,
}

impl Net {
    fn of(ledger: &Ledger) -> Self {
        Self {
            returns: ledger.returns(),
            ruined: ledger.equity.iter().position(|equity| *equity <= 0.0),
        }
    }
}

/// The combination with the best Sharpe ratio in the rows `train`; the first, if several are equal.
/// An undefined ratio counts as 0, and one that has lost everything as the worst.
fn best(net: &[Net], train: Range<usize>, annualization: f64) -> (usize, Option<f64>) {
    let scored = net
        .iter()
        .map(|net| sharpe(&net.returns[train.clone()], annualization));
    let scored: Vec<Option<f64>> = scored.collect();
    let rank = |i: usize| {
        let is_ruined = net[i].ruined.is_some_and(|row| row < train.end);
        if is_ruined {
            f64::NEG_INFINITY
        } else {
            scored[i].unwrap_or(0.0)
        }
    };
    let mut best = 0;
    for i in 1..scored.len() {
        if rank(i) > rank(best) {
            best = i;
        }
    }
    (best, scored[best])
}

fn sharpe(returns: &[f64], annualization: f64) -> Option<f64> {
    let n = super::performance::count(returns.len());
    let mean = returns.iter().sum::<f64>() / n;
    let squares: f64 = returns.iter().map(|r| (r - mean).powi(2)).sum();
    let deviation = (squares / (n - 1.0)).sqrt();
    finite(mean / deviation * annualization.sqrt())
}
