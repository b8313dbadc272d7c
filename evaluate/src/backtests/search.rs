//! Parameter search: every combination of a grid, on the same bars.

use super::account::trade;
use super::performance::Performance;
use super::tested::Tested;
use serde::Serialize;
use std::collections::BTreeMap;
use thrum_schema::error::Invalid;
use thrum_schema::signal::request::{Grid, combinations};

/// Most bars that are stepped, over all combinations.
const MAX_STEPS: usize = 5_000_000;

/// The result of a search.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// Every combination, in the order of the grid.
    pub results: Vec<Tried>,
    /// The index of the one with the best Sharpe ratio. It is partly luck: test it
    /// on other bars, or with a walk-forward test.
    pub best: Option<usize>,
}

/// A combination and its result.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    pub params: BTreeMap<String, f64>,
    /// Why it can't be tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub total_return: Option<f64>,
    pub cagr: Option<f64>,
    pub sharpe: Option<f64>,
    pub max_drawdown: Option<f64>,
    pub round_trips: Option<usize>,
}

/// Parameters, by name.
pub type Params = BTreeMap<String, f64>;
/// The position in each period, by series.
pub type Positions = Vec<Vec<i8>>;
/// A combination of parameters and its positions, or why it has none.
pub type Combination = (Params, Result<Positions, Invalid>);

/// Tries all combinations of a grid. `place` names it.
pub fn try_all(of: &Tested<'_>, grid: &Grid, place: &str) -> Result<Vec<Combination>, Invalid> {
    let combinations = combinations(grid);
    let bars: usize = of.parts.iter().map(|part| part.bars.len()).sum();
    if combinations.len() * bars > MAX_STEPS {
        return Err(Invalid::new(
            place,
            format!(
                "must have at most {} combinations for {bars} bars (got {})",
                MAX_STEPS / bars,
                combinations.len()
            ),
        ));
    }
    let tried: Vec<Combination> = combinations
        .into_iter()
        .map(|params| {
            let positions = of.positions(&params);
            (params, positions)
        })
        .collect();
    match tried
        .iter()
        .find_map(|(_, positions)| positions.as_ref().err())
    {
        Some(error) if tried.iter().all(|(_, positions)| positions.is_err()) => Err(error.clone()),
        _ => Ok(tried),
    }
}

/// The result of every combination.
pub fn search(of: &Tested<'_>, grid: &Grid) -> Result<Found, Invalid> {
    let tried = try_all(of, grid, "search")?.into_iter();
    let results: Vec<Tried> = tried
        .map(|(params, positions)| match positions {
            Ok(positions) => {
                let plans = of.plans(&positions);
                let ledger = trade(&plans, of.rows, of.cost, of.spec.sizing);
                let (rows, returns) = (of.rows, ledger.returns());
                let performance =
                    Performance::new(&returns, &rows.ends, rows.began, of.annualization, 0.0);
                Tried {
                    params,
                    error: None,
                    total_return: Some(performance.total_return),
                    cagr: performance.cagr,
                    sharpe: performance.sharpe,
                    max_drawdown: Some(performance.max_drawdown),
                    round_trips: Some(ledger.trades.len()),
                }
            }
            Err(error) => Tried {
                params,
                error: Some(error.to_string()),
                total_return: None,
                cagr: None,
                sharpe: None,
                max_drawdown: None,
                round_trips: None,
            },
        })
        .collect();
    let mut best: Option<(usize, f64)> = None;
    for (i, tried) in results.iter().enumerate() {
        if let Some(sharpe) = tried.sharpe
            && best.is_none_or(|(_, most)| sharpe > most)
        {
            best = Some((i, sharpe));
        }
    }
    Ok(Found {
        results,
        best: best.map(|(i, _)| i),
    })
}
