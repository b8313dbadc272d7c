//! Backtests: the performance of a strategy on past bars, under explicit and bounded assumptions.
//!
//! A signal sets the position from the next fill on: BUY 1, SELL -1 (or 0 without shorts), HOLD and
//! unknown 0. An entry invests the whole equity and holds that number of units until the exit; each
//! order pays its costs, so a flip from long to short pays twice.

use super::account::trade;
use super::performance::{Performance, count, equity, ratio};
use super::periods::{Judged, Periods, first_row, periods, verdicts};
use super::report::{LookAhead, Point, Predecessor, Report, Trade};
use super::walk::{Tested, walk};
use std::ops::Range;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::engine::Program;
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
) -> Result<Report, Invalid> {
    if let Some(detector) = &compiled.detector {
        return Err(Invalid::new(
            "strategy",
            format!(
                "must trade, and {} finds anomalies; request its signals instead",
                detector.kind.as_str()
            ),
        ));
    }
    check_prices(bars)?;
    let program = Program::new(compiled.clone());
    let all = verdicts(&program, bars, scores);
    let rows = tested(&program, bars, &all, spec)?;
    let judged = Judged {
        bars: &bars[rows.clone()],
        verdicts: all[rows.clone()].to_vec(),
    };
    let cost = (spec.fee_bps + spec.slippage_bps) / 10_000.0;
    let annualization = annualization(compiled, &judged, spec);
    let periods = periods(&judged, compiled, spec);
    let traded = trade(&periods, &periods.positions, cost);
    let (times, began) = (periods.times(), periods.began());
    let performance_of =
        |returns: &[f64], epsilon| Performance::new(returns, &times, began, annualization, epsilon);
    let mut net = traded.returns();
    let mut performance = performance_of(&net, 0.0);
    let bought = vec![1; periods.positions.len()];
    let held_returns = trade(&periods, &bought, 0.0).returns();
    let held = performance_of(&held_returns, 0.0);
    let mut trade_returns: Vec<f64> = traded.trades.iter().map(|t| t.net_return).collect();
    let (mut by_turnover, mut predecessor) = (None, None);
    if spec.fill == Fill::CloseToClose {
        let by_change = |before: i8, now: i8| cost * f64::from((now - before).abs());
        by_turnover = Some(performance_of(&periods.rebalanced(by_change), 0.0));
        // The predecessor charges one cost per change of position, so a flip from long to short
        // pays only half.
        net = periods.rebalanced(|before, now| if before == now { 0.0 } else { cost });
        performance = performance_of(&net, EPSILON);
        predecessor = Some(as_predecessor(&performance, &periods, &net, &held));
        trade_returns = periods.rebalanced_trades(cost);
    }
    let of = Tested {
        strategy,
        compiled,
        bars,
        scores,
        rows,
        spec,
        annualization,
    };
    let walk_forward = spec.walk_forward.as_ref();
    let walk_forward = walk_forward.map(|forward| walk(&of, forward)).transpose()?;
    Ok(Report {
        fill: spec.fill,
        fee_bps: spec.fee_bps,
        slippage_bps: spec.slippage_bps,
        annualization,
        rows: judged.bars.len(),
        from: judged.bars[0].time.rfc3339(),
        to: judged.bars[judged.bars.len() - 1].time.rfc3339(),
        unknown_bars: judged.verdicts.iter().filter(|v| !v.is_known()).count(),
        missing_bars: missing_bars(compiled, judged.bars),
        exposure: periods.exposure(),
        turnover: periods.turnover(),
        position_changes: periods.changes(),
        direct_flips: periods.direct_flips(),
        round_trips: traded.trades.len(),
        win_rate: win_rate(&trade_returns),
        profit_factor: profit_factor(&trade_returns),
        buy_and_hold: held,
        performance,
        by_turnover,
        predecessor,
        look_ahead: look_ahead(&program, bars, scores, &all),
        walk_forward,
        equity: points(&net, &held_returns, &times),
        trades: last_trades(traded.trades),
    })
}

/// Returns have no meaning if prices are not above zero.
fn check_prices(bars: &[Bar]) -> Result<(), Invalid> {
    let Some(bar) = bars.iter().find(|bar| bar.low <= 0.0) else {
        return Ok(());
    };
    Err(Invalid::new(
        "the bars",
        format!(
            "must have prices above zero for a backtest; the one of {} has a low of {}",
            bar.time.rfc3339(),
            bar.low
        ),
    ))
}

/// The bars to test: those with a signal, within the requested time.
fn tested(
    program: &Program,
    bars: &[Bar],
    all: &[Verdict],
    spec: &Backtest,
) -> Result<Range<usize>, Invalid> {
    let first = first_row(all, bars, spec);
    let end = spec
        .to
        .map_or(bars.len(), |to| bars.partition_point(|bar| bar.time < to));
    if end >= first + 2 {
        return Ok(first..end);
    }
    let (given, needed) = (bars.len(), program.needs());
    let problem = if (given as u64) < needed + 1 {
        format!(
            "are too few: there are {given}, but the first signal needs {needed}, and a backtest needs two signals"
        )
    } else {
        let last = all.last().map_or("none", |verdict| verdict.as_str());
        format!(
            "have fewer than two signals in the requested period; the signal of the last bar is {last}"
        )
    };
    Err(Invalid::new("the bars", problem))
}

/// The numbers that the predecessor reports, under its names.
fn as_predecessor(
    performance: &Performance,
    periods: &Periods,
    net: &[f64],
    held: &Performance,
) -> Predecessor {
    let in_position = periods.in_position();
    let rows = periods.positions.iter().zip(net);
    let won = rows.filter(|(p, r)| **p != 0 && **r > 0.0).count();
    Predecessor {
        rows: periods.positions.len(),
        total_return: performance.total_return,
        volatility: performance.volatility,
        sharpe: performance.sharpe,
        max_drawdown: performance.max_drawdown,
        trades: periods.changes(),
        bars_in_position: in_position,
        bars_won: won,
        win_rate: ratio(count(won), count(in_position)),
        equity_end: performance.equity_end,
        buy_hold_total_return: held.total_return,
        buy_hold_max_drawdown: held.max_drawdown,
        buy_hold_equity_end: held.equity_end,
    }
}

/// How many bars are missing between the first and the last.
fn missing_bars(compiled: &CompiledStrategy, bars: &[Bar]) -> i64 {
    let pairs = bars.windows(2);
    let missing = pairs.map(|pair| {
        let (calendar, timeframe) = (&compiled.calendar, compiled.timeframe);
        calendar.missing(timeframe, pair[0].time, pair[1].time)
    });
    i64::try_from(missing.sum::<u64>()).unwrap_or(i64::MAX)
}

fn win_rate(returns: &[f64]) -> Option<f64> {
    let won = returns.iter().filter(|r| **r > 0.0);
    ratio(count(won.count()), count(returns.len()))
}

fn profit_factor(returns: &[f64]) -> Option<f64> {
    let gained: f64 = returns.iter().filter(|r| **r > 0.0).sum();
    let lost: f64 = returns.iter().map(|r| r.min(0.0).abs()).sum();
    ratio(gained.max(0.0), lost)
}

fn last_trades(trades: Vec<Trade>) -> Vec<Trade> {
    let excess = trades.len().saturating_sub(MAX_TRADES);
    trades.into_iter().skip(excess).collect()
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

/// Bars per year: as given, or by the timeframe, or, if bars are missing (nights, weekends, gaps),
/// by the bars that exist.
fn annualization(compiled: &CompiledStrategy, judged: &Judged<'_>, spec: &Backtest) -> f64 {
    if let Some(given) = spec.annualization {
        return given;
    }
    let bars = judged.bars;
    let span = bars[bars.len() - 1].time - bars[0].time;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of some years")]
    let years = span as f64 / (365.0 * 86_400_000.0);
    let real = if years > 0.0 {
        count(bars.len() - 1) / years
    } else {
        1.0
    };
    match compiled.calendar.bars_a_year(compiled.timeframe) {
        // The predecessor ignores gaps.
        Some(full) if spec.fill == Fill::CloseToClose => full,
        Some(full) => real.min(full),
        None => real,
    }
}

/// The equity at no more than [`MAX_POINTS`] times, including the last.
fn points(net: &[f64], held: &[f64], times: &[UnixMs]) -> Vec<Point> {
    let (equity, held) = (equity(net), equity(held));
    let step = equity.len().div_ceil(MAX_POINTS).max(1);
    let last = equity.len().saturating_sub(1);
    (0..equity.len())
        .filter(|i| (last - i) % step == 0)
        .map(|i| Point {
            time: times[i].rfc3339(),
            equity: equity[i],
            buy_and_hold: held[i],
        })
        .collect()
}
