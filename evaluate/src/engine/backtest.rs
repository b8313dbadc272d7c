//! Backtests: the performance of a strategy on past bars, under explicit and bounded assumptions.
//!
//! A signal sets the position from the next fill on: BUY 1, SELL -1 (or 0 without shorts), HOLD and
//! unknown 0. Costs are charged on turnover, `|Δposition|`: a flip from long to short pays twice.

use super::performance::{Performance, count, equity, ratio};
use super::program::{Program, run};
use super::walk::{Walked, walk};
use serde::Serialize;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::request::{Backtest, Fill};
use thrum_schema::signal::{Bar, Score, Strategy, Verdict};

/// Most trades in a report.
const MAX_TRADES: usize = 5_000;
/// Most points of the equity curve in a report.
const MAX_POINTS: usize = 500;
/// Where the look-ahead check cuts the bars off, in quarters.
const CUTS: [usize; 3] = [1, 2, 3];
/// What the predecessor adds to the divisor of its Sharpe ratio.
const EPSILON: f64 = 1e-12;

/// The result of a backtest.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When orders are filled.
    pub fill: Fill,
    pub fee_bps: f64,
    pub slippage_bps: f64,
    /// Bars per year, by which performance is annualized.
    pub annualization: f64,
    /// How many bars were tested: from the first one with a signal.
    pub rows: usize,
    pub from: String,
    pub to: String,
    /// How many of them had no signal.
    pub unknown_bars: usize,
    /// How many bars are missing between the first and the last.
    pub missing_bars: i64,
    /// The performance of the strategy.
    #[serde(flatten)]
    pub performance: Performance,
    /// The fraction of periods with a position.
    pub exposure: f64,
    /// The sum of all `|Δposition|`, in units of the capital.
    pub turnover: f64,
    /// How often the position changed.
    pub position_changes: usize,
    /// How often the position changed from long to short, or from short to long.
    pub direct_flips: usize,
    /// Positions from entry to exit, or to the last bar.
    pub round_trips: usize,
    /// The fraction of round trips that gained, net of costs.
    pub win_rate: Option<f64>,
    /// The gains of the winners divided by the losses of the others; absent if nothing was lost.
    pub profit_factor: Option<f64>,
    /// Holding from the first bar to the last, without costs.
    pub buy_and_hold: Performance,
    /// The performance with costs on turnover. Present if `performance` uses the costs of the
    /// predecessor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_turnover: Option<Performance>,
    /// The report of the predecessor, if fills are close to close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<Predecessor>,
    /// Whether any signal depends on the future.
    pub look_ahead: LookAhead,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walk_forward: Option<Walked>,
    /// The last 5 000 trades.
    pub trades: Vec<Trade>,
    /// The equity curve, at no more than 500 times.
    pub equity: Vec<Point>,
}

/// The performance as the predecessor computes and names it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Predecessor {
    pub rows: usize,
    pub total_return: f64,
    pub volatility: Option<f64>,
    pub sharpe: Option<f64>,
    pub max_drawdown: f64,
    /// How often the position changed.
    pub trades: usize,
    pub bars_in_position: usize,
    pub bars_won: usize,
    /// The fraction of bars in a position that gained. It is not a win rate of trades.
    pub win_rate: Option<f64>,
    pub equity_end: f64,
    pub buy_hold_total_return: f64,
    pub buy_hold_max_drawdown: f64,
    pub buy_hold_equity_end: f64,
}

/// The check that no signal depends on the future: when later bars are cut off, no earlier signal
/// may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LookAhead {
    pub clean: bool,
    /// The numbers of bars that were kept.
    pub cuts: Vec<usize>,
    /// The first bar whose signal changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_changed: Option<String>,
}

/// A position from entry to exit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trade {
    /// `long` or `short`.
    pub side: &'static str,
    pub entered_at: String,
    pub entry_price: f64,
    /// When it ended; if it is still open, the end of the last period.
    pub exited_at: String,
    pub exit_price: f64,
    pub open: bool,
    pub bars: usize,
    /// Net of costs.
    pub net_return: f64,
}

/// The equity at a time, for the strategy and for buy and hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    pub time: String,
    pub equity: f64,
    pub buy_and_hold: f64,
}

/// The periods of a backtest: each from one possible fill to the next.
#[derive(Debug)]
pub struct Periods {
    /// The position held in each.
    pub positions: Vec<i8>,
    /// The return of holding one long.
    pub returns: Vec<f64>,
    /// When each begins, and its price.
    pub begins: Vec<(UnixMs, f64)>,
    /// When each ends, and its price.
    pub ends: Vec<(UnixMs, f64)>,
}

impl Periods {
    /// The return of each period net of costs, with `cost` per unit of turnover.
    pub fn net(&self, cost: f64) -> Vec<f64> {
        self.net_by(|before, now| cost * f64::from((now - before).abs()))
    }

    /// The same for other positions in these periods.
    pub fn net_of(&self, positions: &[i8], cost: f64) -> Vec<f64> {
        self.net_with(positions, |before, now| {
            cost * f64::from((now - before).abs())
        })
    }

    fn net_by(&self, cost: impl Fn(i8, i8) -> f64) -> Vec<f64> {
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

    /// When each period ends.
    pub fn times(&self) -> Vec<UnixMs> {
        self.ends.iter().map(|(at, _)| *at).collect()
    }

    /// When the first period begins.
    pub fn began(&self) -> UnixMs {
        self.begins.first().map_or(UnixMs(0), |(at, _)| *at)
    }
}

/// The bars that are tested, and the signal of each.
#[derive(Debug)]
pub struct Judged<'a> {
    pub bars: &'a [Bar],
    pub verdicts: Vec<Verdict>,
}

/// Why a backtest can't be done.
pub type Refusal = Invalid;

/// Backtests a strategy on `bars` and `scores`, both in time order.
///
/// # Errors
/// There are too few bars or signals, or the walk-forward does not fit them.
pub fn backtest(
    strategy: &Strategy,
    compiled: &CompiledStrategy,
    bars: &[Bar],
    scores: &[Score],
    spec: &Backtest,
) -> Result<Report, Refusal> {
    let program = Program::new(compiled.clone());
    let all = verdicts(&program, bars, scores);
    let look_ahead = look_ahead(&program, bars, scores, &all);
    let first = first_row(&all, bars, spec);
    let end = spec
        .to
        .map_or(bars.len(), |to| bars.partition_point(|bar| bar.time < to));
    let judged = match bars.get(first..end) {
        Some(rows) if rows.len() >= 2 => Judged {
            bars: rows,
            verdicts: all[first..end].to_vec(),
        },
        _ => {
            return Err(Invalid::new(
                "the bars",
                if (bars.len() as u64) < program.needs() + 1 {
                    format!(
                        "are too few: there are {}, but the first signal needs {}, and a backtest needs two signals",
                        bars.len(),
                        program.needs()
                    )
                } else {
                    let last = all.last().map_or("none", |verdict| verdict.as_str());
                    format!(
                        "have fewer than two signals in the requested period; the signal of the last bar is {last}"
                    )
                },
            ));
        }
    };
    let cost = (spec.fee_bps + spec.slippage_bps) / 10_000.0;
    let annualization = spec
        .annualization
        .unwrap_or_else(|| annualization(compiled, &judged, spec.fill));
    let periods = periods(&judged, compiled, spec);
    let (times, began) = (periods.times(), periods.began());
    let performance_of =
        |returns: &[f64], epsilon| Performance::new(returns, &times, began, annualization, epsilon);
    let net = periods.net(cost);
    let by_turnover = performance_of(&net, 0.0);
    let held = performance_of(&periods.returns, 0.0);
    let trades = trades(&periods, cost);
    let won = trades.iter().filter(|trade| trade.net_return > 0.0);
    let gained: f64 = won.clone().map(|trade| trade.net_return).sum();
    let lost: f64 = trades
        .iter()
        .map(|trade| trade.net_return.min(0.0).abs())
        .sum();
    let moves = || {
        let before = std::iter::once(&0).chain(&periods.positions);
        before
            .zip(&periods.positions)
            .map(|(before, now)| (*before, *now))
    };
    let in_position = periods
        .positions
        .iter()
        .filter(|position| **position != 0)
        .count();
    let predecessor = (spec.fill == Fill::CloseToClose).then(|| {
        // The predecessor charges one cost per change of position, so a flip from long to short
        // pays only half.
        let net = periods.net_by(|before, now| if before == now { 0.0 } else { cost });
        let performance = performance_of(&net, EPSILON);
        let won = periods
            .positions
            .iter()
            .zip(&net)
            .filter(|(p, r)| **p != 0 && **r > 0.0)
            .count();
        let numbers = Predecessor {
            rows: judged.bars.len(),
            total_return: performance.total_return,
            volatility: performance.volatility,
            sharpe: performance.sharpe,
            max_drawdown: performance.max_drawdown,
            trades: moves().filter(|(before, now)| before != now).count(),
            bars_in_position: in_position,
            bars_won: won,
            win_rate: ratio(count(won), count(in_position)),
            equity_end: performance.equity_end,
            buy_hold_total_return: held.total_return,
            buy_hold_max_drawdown: held.max_drawdown,
            buy_hold_equity_end: held.equity_end,
        };
        (performance, net, numbers)
    });
    let (performance, net, by_turnover, predecessor) = match predecessor {
        Some((performance, net, numbers)) => (performance, net, Some(by_turnover), Some(numbers)),
        None => (by_turnover, net, None, None),
    };
    let walk_forward = spec
        .walk_forward
        .as_ref()
        .map(|spec_walk| {
            walk(
                strategy,
                compiled,
                bars,
                scores,
                first..end,
                spec,
                spec_walk,
                annualization,
            )
        })
        .transpose()?;
    let span = judged.bars[judged.bars.len() - 1].time - judged.bars[0].time;
    let missing = compiled.timeframe.ms().map_or(0, |ms| {
        span / ms + 1 - i64::try_from(judged.bars.len()).unwrap_or(0)
    });
    Ok(Report {
        fill: spec.fill,
        fee_bps: spec.fee_bps,
        slippage_bps: spec.slippage_bps,
        annualization,
        rows: judged.bars.len(),
        from: judged.bars[0].time.rfc3339(),
        to: judged.bars[judged.bars.len() - 1].time.rfc3339(),
        unknown_bars: judged
            .verdicts
            .iter()
            .filter(|verdict| !verdict.is_known())
            .count(),
        missing_bars: missing.max(0),
        exposure: count(in_position) / count(periods.positions.len()).max(1.0),
        turnover: moves()
            .map(|(before, now)| f64::from((now - before).abs()))
            .sum(),
        position_changes: moves().filter(|(before, now)| before != now).count(),
        direct_flips: moves().filter(|(before, now)| before * now < 0).count(),
        round_trips: trades.len(),
        win_rate: ratio(count(won.count()), count(trades.len())),
        profit_factor: ratio(gained.max(0.0), lost),
        buy_and_hold: held,
        performance,
        by_turnover,
        predecessor,
        look_ahead,
        walk_forward,
        equity: points(&net, &periods),
        trades: {
            let left_out = trades.len().saturating_sub(MAX_TRADES);
            trades.into_iter().skip(left_out).collect()
        },
    })
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

/// Cuts off later bars and scores, and checks whether any earlier signal changes.
fn look_ahead(program: &Program, bars: &[Bar], scores: &[Score], all: &[Verdict]) -> LookAhead {
    let timeframe = program.compiled().timeframe;
    let mut check = LookAhead {
        clean: true,
        cuts: Vec::new(),
        first_changed: None,
    };
    for quarter in CUTS {
        let cut = bars.len() * quarter / 4;
        let Some(last) = bars[..cut].last() else {
            continue;
        };
        let known = scores.partition_point(|score| score.time <= timeframe.close_of(last.time));
        let again = verdicts(program, &bars[..cut], &scores[..known]);
        check.cuts.push(cut);
        if let Some(changed) = again.iter().zip(all).position(|(again, all)| again != all) {
            check.clean = false;
            check
                .first_changed
                .get_or_insert_with(|| bars[changed].time.rfc3339());
        }
    }
    check
}

/// Bars per year: by the timeframe, or, if bars are missing (nights, weekends, gaps), by the bars
/// that exist.
fn annualization(compiled: &CompiledStrategy, judged: &Judged<'_>, fill: Fill) -> f64 {
    let bars = judged.bars;
    let span = bars[bars.len() - 1].time - bars[0].time;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of some years")]
    let years = span as f64 / (365.0 * 86_400_000.0);
    let real = if years > 0.0 {
        count(bars.len() - 1) / years
    } else {
        1.0
    };
    match compiled.timeframe.bars_a_year() {
        // The predecessor ignores gaps.
        Some(full) if fill == Fill::CloseToClose => full,
        Some(full) => real.min(full),
        None => real,
    }
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

/// Positions from entry to exit, each net of the costs of its two orders.
fn trades(periods: &Periods, cost: f64) -> Vec<Trade> {
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
            let mut worth = 1.0 - cost;
            for r in &periods.returns[begin..end] {
                worth = (worth * (1.0 + f64::from(position) * r).max(0.0)).min(1e300);
            }
            let open = end == positions.len();
            if !open {
                worth *= 1.0 - cost;
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
                net_return: worth - 1.0,
            });
        }
        begin = end;
    }
    trades
}

/// The equity at no more than [`MAX_POINTS`] times, including the last.
fn points(net: &[f64], periods: &Periods) -> Vec<Point> {
    let (equity, held) = (equity(net), equity(&periods.returns));
    let step = equity.len().div_ceil(MAX_POINTS).max(1);
    let last = equity.len().saturating_sub(1);
    (0..equity.len())
        .filter(|i| (last - i) % step == 0)
        .map(|i| Point {
            time: periods.ends[i].0.rfc3339(),
            equity: equity[i],
            buy_and_hold: held[i],
        })
        .collect()
}
