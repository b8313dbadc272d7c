//! The periods of a backtest, and the positions in them.

use super::performance::{count, ratio};
use thrum_schema::UnixMs;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::engine::{Program, run};
use thrum_schema::signal::explanation::Exit;
use thrum_schema::signal::request::{Backtest, Fill, Sizing};
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
    /// Why a position that ends with the fill of each period ends.
    pub ends: Vec<Exit>,
    /// The fraction of the equity that is invested at the fill of each period, if it depends on
    /// volatility.
    pub sizes: Vec<f64>,
}

/// The time axis of a portfolio: a row for each time at which any of its series may trade.
#[derive(Debug)]
pub struct Rows {
    /// When the first row begins.
    pub began: UnixMs,
    /// When each row ends: at the last close in it.
    pub ends: Vec<UnixMs>,
    /// When the next row begins. What closes later than that is not known yet.
    pub nexts: Vec<UnixMs>,
    /// The row of each period, by series.
    pub of: Vec<Vec<usize>>,
}

impl Rows {
    /// The time axis of several series.
    pub fn new(parts: &[Periods]) -> Self {
        let of_all = |of: fn(&Periods) -> &Vec<(UnixMs, f64)>| -> Vec<UnixMs> {
            let all = parts.iter().flat_map(of).map(|(at, _)| *at);
            let mut all: Vec<UnixMs> = all.collect();
            if parts.len() > 1 {
                all.sort_unstable();
                all.dedup();
            }
            all
        };
        let times = of_all(|part| &part.fills);
        let marks = of_all(|part| &part.marks);
        let last = marks.last().copied().unwrap_or_default();
        let nexts: Vec<UnixMs> = times.iter().skip(1).copied().chain([last]).collect();
        let ends = times.iter().zip(&nexts).map(|(begin, next)| {
            let known = marks.partition_point(|mark| mark <= next);
            let mark = known.checked_sub(1).map(|last| marks[last]);
            mark.filter(|mark| mark >= begin).unwrap_or(*next)
        });
        let ends = ends.collect();
        let of = parts.iter().map(|part| {
            if parts.len() == 1 {
                return (0..part.fills.len()).collect();
            }
            let row = |fill: &(UnixMs, f64)| times.partition_point(|time| *time < fill.0);
            part.fills.iter().map(row).collect()
        });
        Self {
            began: times.first().copied().unwrap_or_default(),
            of: of.collect(),
            ends,
            nexts,
        }
    }
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
}

/// The tested bars, and the signal of each.
#[derive(Debug)]
pub struct Judged<'a> {
    /// All bars.
    pub all: &'a [Bar],
    /// Those that are tested.
    pub bars: &'a [Bar],
    /// The signal of each bar that is tested.
    pub signals: &'a [Signal],
}

/// The signal of a bar, and why a position ended at it, for a strategy that holds them.
pub type Signal = (Verdict, Option<Exit>);

/// The signal of each bar.
pub fn signals(program: &Program, bars: &[Bar], scores: &[Score]) -> Vec<Signal> {
    let mut signals = Vec::with_capacity(bars.len());
    run(
        program,
        &mut program.begin(),
        bars,
        scores,
        |state, _, verdict| signals.push((verdict, state.ended())),
    );
    signals
}

/// The signal of each bar, without positions.
pub fn verdicts(program: &Program, bars: &[Bar], scores: &[Score]) -> Vec<Verdict> {
    let signals = signals(program, bars, scores).into_iter();
    signals.map(|(verdict, _)| verdict).collect()
}

/// The index of the first bar to test: it has a signal and, if sizes depend on volatility, enough
/// bars before it, and does not open before `spec.from`.
pub fn first_row(signals: &[Signal], bars: &[Bar], spec: &Backtest) -> usize {
    let from = spec
        .from
        .map_or(0, |from| bars.partition_point(|bar| bar.time < from));
    let from = match spec.sizing {
        Sizing::Volatility { bars, .. } => from.max(bars as usize),
        _ => from,
    };
    let known = signals
        .iter()
        .skip(from)
        .position(|(verdict, _)| verdict.is_known());
    known.map_or(bars.len(), |known| from + known)
}

/// The position that a signal stands for.
const fn position(verdict: Verdict, spec: &Backtest) -> i8 {
    match verdict.position() {
        -1 if !spec.short => 0,
        position => position,
    }
}

/// The position in each period between fills, by the signals of the bars that are tested.
pub fn positions(signals: &[Signal], spec: &Backtest) -> Vec<i8> {
    // Like the predecessor: its first row has no position.
    let first = (spec.fill == Fill::CloseToClose).then_some(0);
    let before = &signals[..signals.len().saturating_sub(1)];
    let held = before.iter().map(|(verdict, _)| position(*verdict, spec));
    first.into_iter().chain(held).collect()
}

/// The periods between fills, for bars of which a year has `annualization`.
pub fn periods(
    judged: &Judged<'_>,
    compiled: &CompiledStrategy,
    spec: &Backtest,
    annualization: f64,
) -> Periods {
    let (bars, signals) = (judged.bars, judged.signals);
    // Why a position that was held before this signal ends with it.
    let end = |(verdict, ended): Signal| match ended {
        Some(why) => why,
        None if !verdict.is_known() => Exit::Unknown,
        None if position(verdict, spec) != 0 => Exit::Reversal,
        None => Exit::Signal,
    };
    let closes = |bar: &Bar| (compiled.timeframe.close_of(bar.time), bar.close);
    let n = bars.len();
    let mut periods = Periods {
        positions: positions(signals, spec),
        fills: Vec::with_capacity(n),
        marks: Vec::with_capacity(n),
        ends: Vec::with_capacity(n),
        sizes: Vec::new(),
    };
    let mut push = |signal: Signal, fill: (UnixMs, f64), mark: (UnixMs, f64)| {
        periods.ends.push(end(signal));
        periods.fills.push(fill);
        periods.marks.push(mark);
    };
    match spec.fill {
        // Like the predecessor: one row per bar, the first without a position or a return.
        Fill::CloseToClose => {
            push((Verdict::Hold, None), closes(&bars[0]), closes(&bars[0]));
            for i in 1..n {
                push(signals[i - 1], closes(&bars[i - 1]), closes(&bars[i]));
            }
        }
        Fill::NextOpen => {
            for i in 1..n {
                push(
                    signals[i - 1],
                    (bars[i].time, bars[i].open),
                    closes(&bars[i]),
                );
            }
        }
    }
    if let Sizing::Volatility { target, bars: n } = spec.sizing {
        let first = judged.all.partition_point(|bar| bar.time < bars[0].time);
        // Not by the bars that exist, which would be a look ahead.
        let year = compiled.calendar.bars_a_year(compiled.timeframe);
        let year = spec.annualization.or(year).unwrap_or(annualization);
        let sized = (1..bars.len()).map(|i| {
            let known = &judged.all[..first + i];
            size(known, n as usize, target, year)
        });
        periods.sizes = sized.collect();
    }
    periods
}

/// The fraction of the equity to invest so that its volatility is `target`: the volatility is that
/// of the last `n` returns from close to close, annualized.
fn size(known: &[Bar], n: usize, target: f64, annualization: f64) -> f64 {
    let from = known.len().saturating_sub(n + 1);
    let closes = known[from..].windows(2);
    let returns: Vec<f64> = closes
        .map(|pair| pair[1].close / pair[0].close - 1.0)
        .collect();
    if returns.len() < 2 {
        return 0.0;
    }
    let mean = returns.iter().sum::<f64>() / count(returns.len());
    let squares: f64 = returns.iter().map(|r| (r - mean).powi(2)).sum();
    let volatility = (squares / (count(returns.len()) - 1.0) * annualization).sqrt();
    if volatility > target {
        target / volatility
    } else {
        1.0
    }
}
