//! The periods of a backtest, and the positions in them.

use super::performance::{count, ratio};
use thrum_schema::UnixMs;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::engine::{Program, run};
use thrum_schema::signal::request::{Backtest, Fill};
use thrum_schema::signal::{Bar, Score, Verdict};

/// The periods of a backtest. Each begins with a possible fill and ends with a close.
#[derive(Debug)]
pub struct Periods {
    /// The position in each period: 1, 0 or -1.
    pub positions: Vec<i8>,
    /// The possible fill of each period: time and price.
    pub fills: Vec<(UnixMs, f64)>,
    /// The end of each period: time and close.
    pub marks: Vec<(UnixMs, f64)>,
}

impl Periods {
    /// The returns as the predecessor computes them, which only makes sense if each period begins
    /// with the close of the one before: a position has the same value at the start of each
    /// period. `cost` takes the position before the period and in it.
    pub fn rebalanced(&self, cost: impl Fn(i8, i8) -> f64) -> Vec<f64> {
        let prices = self.fills.iter().zip(&self.marks);
        let periods = self.moves().zip(prices);
        periods
            .map(|((before, now), (fill, mark))| {
                let r = ratio(mark.1, fill.1).map_or(0.0, |ratio| ratio - 1.0);
                f64::from(now) * r - cost(before, now)
            })
            .collect()
    }

    /// The return of each position from entry to exit, computed like [`Self::rebalanced`], net of
    /// the costs of its two orders.
    pub fn rebalanced_trades(&self, cost: f64) -> Vec<f64> {
        let returns = self.rebalanced(|_, _| 0.0);
        let rows = self.positions.iter().zip(&returns);
        let rows: Vec<(i8, f64)> = rows.map(|(position, r)| (*position, *r)).collect();
        let positions = rows.chunk_by(|before, now| before.0 == now.0);
        let mut end = 0;
        let trades = positions.filter_map(|rows| {
            end += rows.len();
            let exit = if end < returns.len() { 1.0 - cost } else { 1.0 };
            let held = rows.iter().fold(1.0 - cost, |value, (_, r)| {
                (value * (1.0 + r).max(0.0)).min(1e300)
            });
            (rows[0].0 != 0).then_some(held * exit - 1.0)
        });
        trades.collect()
    }

    /// For each period, the position before it and in it.
    pub fn moves(&self) -> impl Iterator<Item = (i8, i8)> {
        let before = std::iter::once(&0).chain(&self.positions);
        let moves = before.zip(&self.positions);
        moves.map(|(before, now)| (*before, *now))
    }

    /// How often the position changes.
    pub fn changes(&self) -> usize {
        self.moves().filter(|(before, now)| before != now).count()
    }

    /// The number of periods with a position.
    pub fn in_position(&self) -> usize {
        let held = self.positions.iter().filter(|position| **position != 0);
        held.count()
    }

    /// The fraction of periods with a position.
    pub fn exposure(&self) -> f64 {
        count(self.in_position()) / count(self.positions.len()).max(1.0)
    }

    /// The sum of all changes of the position.
    pub fn turnover(&self) -> f64 {
        let moves = self.moves();
        moves
            .map(|(before, now)| f64::from((now - before).abs()))
            .sum()
    }

    /// How often the position changes directly between long and short.
    pub fn direct_flips(&self) -> usize {
        let flips = self.moves().filter(|(before, now)| before * now < 0);
        flips.count()
    }

    /// The end time of each period.
    pub fn times(&self) -> Vec<UnixMs> {
        self.marks.iter().map(|(at, _)| *at).collect()
    }

    /// The start time of the first period.
    pub fn began(&self) -> UnixMs {
        self.fills.first().map_or(UnixMs(0), |(at, _)| *at)
    }
}

/// The tested bars, and the signal of each.
#[derive(Debug)]
pub struct Judged<'a> {
    /// The bars.
    pub bars: &'a [Bar],
    /// The signal of each bar.
    pub verdicts: Vec<Verdict>,
}

/// The signal of each bar.
pub fn verdicts(program: &Program, bars: &[Bar], scores: &[Score]) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(bars.len());
    run(
        program,
        &mut program.begin(),
        bars,
        scores,
        |_, _, verdict| verdicts.push(verdict),
    );
    verdicts
}

/// The index of the first bar to test: it has a signal, and does not open before `spec.from`.
pub fn first_row(verdicts: &[Verdict], bars: &[Bar], spec: &Backtest) -> usize {
    let from = spec
        .from
        .map_or(0, |from| bars.partition_point(|bar| bar.time < from));
    let known = verdicts
        .iter()
        .skip(from)
        .position(|verdict| verdict.is_known());
    known.map_or(bars.len(), |known| from + known)
}

/// The periods between fills.
pub fn periods(judged: &Judged<'_>, compiled: &CompiledStrategy, spec: &Backtest) -> Periods {
    let (bars, verdicts) = (judged.bars, &judged.verdicts);
    let position = |verdict: Verdict| match verdict.position() {
        -1 if !spec.short => 0,
        position => position,
    };
    let closes = |bar: &Bar| (compiled.timeframe.close_of(bar.time), bar.close);
    let n = bars.len();
    let mut periods = Periods {
        positions: Vec::with_capacity(n),
        fills: Vec::with_capacity(n),
        marks: Vec::with_capacity(n),
    };
    let mut push = |position, fill: (UnixMs, f64), mark: (UnixMs, f64)| {
        periods.positions.push(position);
        periods.fills.push(fill);
        periods.marks.push(mark);
    };
    match spec.fill {
        // Like the predecessor: one row per bar, the first without a position or a return.
        Fill::CloseToClose => {
            push(0, closes(&bars[0]), closes(&bars[0]));
            for i in 1..n {
                push(
                    position(verdicts[i - 1]),
                    closes(&bars[i - 1]),
                    closes(&bars[i]),
                );
            }
        }
        Fill::NextOpen => {
            for i in 1..n {
                push(
                    position(verdicts[i - 1]),
                    (bars[i].time, bars[i].open),
                    closes(&bars[i]),
                );
            }
        }
    }
    periods
}
