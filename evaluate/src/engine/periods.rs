//! The periods of a backtest, and the trades in them.

use super::performance::{count, ratio};
use super::program::{Program, run};
use super::report::Trade;
use thrum_schema::UnixMs;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::request::{Backtest, Fill};
use thrum_schema::signal::{Bar, Score, Verdict};

/// The periods of a backtest. Each lasts from one possible fill to the next.
#[derive(Debug)]
pub struct Periods {
    /// The position in each period: 1, 0 or -1.
    pub positions: Vec<i8>,
    /// The return of a long position in each period.
    pub returns: Vec<f64>,
    /// The start of each period: time and price.
    pub begins: Vec<(UnixMs, f64)>,
    /// The end of each period: time and price.
    pub ends: Vec<(UnixMs, f64)>,
}

impl Periods {
    /// The return of each period net of costs, with `cost` per unit of turnover.
    pub fn net(&self, cost: f64) -> Vec<f64> {
        self.net_by(|before, now| cost * f64::from((now - before).abs()))
    }

    /// The net returns of other positions in these periods.
    pub fn net_of(&self, positions: &[i8], cost: f64) -> Vec<f64> {
        self.net_with(positions, |before, now| {
            cost * f64::from((now - before).abs())
        })
    }

    /// The return of each period net of costs. `cost` takes the position before the period and in
    /// it.
    pub fn net_by(&self, cost: impl Fn(i8, i8) -> f64) -> Vec<f64> {
        self.net_with(&self.positions, cost)
    }

    fn net_with(&self, positions: &[i8], cost: impl Fn(i8, i8) -> f64) -> Vec<f64> {
        let mut before = 0;
        let periods = positions.iter().zip(&self.returns);
        periods
            .map(|(position, r)| {
                let cost = cost(std::mem::replace(&mut before, *position), *position);
                f64::from(*position) * r - cost
            })
            .collect()
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
        self.ends.iter().map(|(at, _)| *at).collect()
    }

    /// The start time of the first period.
    pub fn began(&self) -> UnixMs {
        self.begins.first().map_or(UnixMs(0), |(at, _)| *at)
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
        returns: Vec::with_capacity(n),
        begins: Vec::with_capacity(n),
        ends: Vec::with_capacity(n),
    };
    let mut push = |position, begin: (UnixMs, f64), end: (UnixMs, f64)| {
        periods.positions.push(position);
        periods
            .returns
            .push(ratio(end.1, begin.1).map_or(0.0, |ratio| ratio - 1.0));
        periods.begins.push(begin);
        periods.ends.push(end);
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
                let opens = |bar: &Bar| (bar.time, bar.open);
                let end = bars.get(i + 1).map_or_else(|| closes(&bars[i]), opens);
                push(position(verdicts[i - 1]), opens(&bars[i]), end);
            }
        }
    }
    periods
}

/// The trades: positions from entry to exit, each net of the costs of its two orders.
pub fn trades(periods: &Periods, cost: f64) -> Vec<Trade> {
    let mut trades: Vec<Trade> = Vec::new();
    let positions = &periods.positions;
    let mut begin = 0;
    while begin < positions.len() {
        let position = positions[begin];
        let same = positions[begin..]
            .iter()
            .take_while(|other| **other == position);
        let bars = same.count();
        let end = begin + bars;
        if position != 0 {
            let mut value = 1.0 - cost;
            for r in &periods.returns[begin..end] {
                value = (value * (1.0 + f64::from(position) * r).max(0.0)).min(1e300);
            }
            let open = end == positions.len();
            if !open {
                value *= 1.0 - cost;
            }
            let (entered, exited) = (periods.begins[begin], periods.ends[end - 1]);
            trades.push(Trade {
                side: if position > 0 { "long" } else { "short" },
                entered_at: entered.0.rfc3339(),
                entry_price: entered.1,
                exited_at: exited.0.rfc3339(),
                exit_price: exited.1,
                open,
                bars,
                net_return: value - 1.0,
            });
        }
        begin = end;
    }
    trades
}
