//! What is tested: series with their bars, and the positions that other parameters give.

use super::account::Plan;
use super::periods::{Periods, Rows, positions, signals};
use std::collections::BTreeMap;
use std::ops::Range;
use thrum_schema::error::Invalid;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::request::Backtest;
use thrum_schema::signal::{Bar, Score, Strategy};

/// A series of a backtest.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Its name, in a portfolio.
    pub series: Option<&'a str>,
    /// Its share of the equity.
    pub weight: f64,
    /// The strategy, for this series.
    pub compiled: &'a CompiledStrategy,
    /// Its bars, in time order.
    pub bars: &'a [Bar],
    /// Its sentiment scores, in time order.
    pub scores: &'a [Score],
}

/// What a walk-forward and a search test with other parameters.
pub struct Tested<'a> {
    pub strategy: &'a Strategy,
    pub parts: Vec<Part<'a>>,
    /// The bars of each part that are tested.
    pub tested: Vec<Range<usize>>,
    pub periods: &'a [Periods],
    pub rows: &'a Rows,
    pub cost: f64,
    pub spec: &'a Backtest,
    /// Rows per year.
    pub annualization: f64,
}

impl Tested<'_> {
    /// The position of each part in each period, with other parameters. All are tested on the same
    /// rows; without a signal yet, there is no position.
    pub fn positions(&self, params: &BTreeMap<String, f64>) -> Result<Vec<Vec<i8>>, Invalid> {
        let parts = self.parts.iter().zip(&self.tested);
        let positions = parts.map(|(part, rows)| {
            let mut all = part.compiled.params.clone();
            all.extend(params.clone());
            let (mode, timeframe) = (&part.compiled.mode, part.compiled.timeframe);
            let mut compiled = self.strategy.compile(Some(mode), &all, timeframe)?;
            compiled.calendar = part.compiled.calendar.clone();
            let program = Program::new(compiled);
            let found = signals(&program, part.bars, part.scores);
            Ok(positions(&found[rows.clone()], self.spec))
        });
        positions.collect()
    }

    /// The plans for these positions.
    pub fn plans<'b>(&'b self, positions: &'b [Vec<i8>]) -> Vec<Plan<'b>> {
        let parts = self.parts.iter().zip(self.periods).zip(positions);
        parts
            .map(|((part, periods), positions)| Plan {
                series: part.series,
                weight: part.weight,
                periods,
                positions,
            })
            .collect()
    }
}
