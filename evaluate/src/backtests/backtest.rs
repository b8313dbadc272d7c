//! Backtests: the performance of a strategy on past bars, under explicit and bounded assumptions.
//!
//! A signal sets the position from the next fill on: BUY 1, SELL -1 (or 0 without shorts), HOLD and
//! unknown 0. An entry holds its number of units until the exit; each order pays its costs, so a
//! flip from long to short pays twice. Several series share one account.

use super::account::{Ledger, Trade, trade};
use super::benchmark::Benchmark;
use super::chances::simulate;
use super::performance::{Performance, count, ratio};
use super::periods::{Judged, Periods, Rows, Signal, first_row, periods, signals};
use super::points::points;
use super::report::{LookAhead, PartReport, Predecessor, Report};
use super::search::search;
use super::tested::{Part, Tested};
use super::walk::walk;
use std::ops::Range;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::request::{Backtest, Fill, Sizing};
use thrum_schema::signal::{Bar, Score, Strategy};

/// Most trades in a report.
const MAX_TRADES: usize = 5_000;
/// Where the look-ahead check cuts the bars off, in quarters.
const CUTS: [usize; 3] = [1, 2, 3];
/// What the predecessor adds to the divisor of its Sharpe ratio.
const EPSILON: f64 = 1e-12;

/// A part with the signals of its bars, and the bars to test.
struct Prepared<'a> {
    part: Part<'a>,
    program: Program,
    all: Vec<Signal>,
    rows: Range<usize>,
    annualization: f64,
}

/// Backtests a strategy on one series.
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
    let part = Part {
        series: None,
        weight: 1.0,
        compiled,
        bars,
        scores,
    };
    portfolio(strategy, &[part], None, spec)
}

/// Backtests a strategy on several series that share one account.
///
/// # Errors
/// There are too few bars or signals, or the rest of the request does not fit them.
pub fn portfolio(
    strategy: &Strategy,
    parts: &[Part<'_>],
    benchmark: Option<Benchmark<'_>>,
    spec: &Backtest,
) -> Result<Report, Invalid> {
    let prepared = parts
        .iter()
        .map(|part| prepare(*part, spec).map_err(|problem| in_part(part, problem)))
        .collect::<Result<Vec<Prepared<'_>>, Invalid>>()?;
    let cost = (spec.fee_bps + spec.slippage_bps) / 10_000.0;
    let all: Vec<Periods> = prepared.iter().map(|part| part.periods(spec)).collect();
    let rows = Rows::new(&all);
    let annualization = match &prepared[..] {
        [one] => one.annualization,
        _ => spec.annualization.unwrap_or_else(|| rows_a_year(&rows)),
    };
    let of = Tested {
        strategy,
        parts: parts.to_vec(),
        tested: prepared.iter().map(|part| part.rows.clone()).collect(),
        periods: &all,
        rows: &rows,
        cost,
        spec,
        annualization,
    };
    let positions: Vec<Vec<i8>> = all.iter().map(|part| part.positions.clone()).collect();
    let traded = trade(&of.plans(&positions), &rows, cost, spec.sizing);
    let performance_of = |returns: &[f64], epsilon| {
        Performance::new(returns, &rows.ends, rows.began, annualization, epsilon)
    };
    let mut net = traded.returns();
    let mut performance = performance_of(&net, 0.0);
    // Holding every series with its weight, without costs.
    let bought: Vec<Vec<i8>> = positions.iter().map(|of| vec![1; of.len()]).collect();
    let held = trade(&of.plans(&bought), &rows, 0.0, Sizing::default());
    let held_returns = held.returns();
    let held = performance_of(&held_returns, 0.0);
    let mut trade_returns: Vec<f64> = traded.trades.iter().map(|t| t.net_return).collect();
    let (mut by_turnover, mut predecessor) = (None, None);
    if spec.fill == Fill::CloseToClose {
        let periods = &all[0];
        let by_change = |before: i8, now: i8| cost * f64::from((now - before).abs());
        by_turnover = Some(performance_of(&periods.rebalanced(by_change), 0.0));
        // The predecessor charges one cost per change of position, so a flip from long to short
        // pays only half.
        net = periods.rebalanced(|before, now| if before == now { 0.0 } else { cost });
        performance = performance_of(&net, EPSILON);
        predecessor = Some(as_predecessor(&performance, periods, &net, &held));
        trade_returns = periods.rebalanced_trades(cost);
    }
    let walk_forward = spec.walk_forward.as_ref();
    let walk_forward = walk_forward
        .map(|forward| walk(&of, forward, &held_returns))
        .transpose()?;
    let is_searched = !spec.search.is_empty();
    let found = is_searched.then(|| search(&of, &spec.search)).transpose()?;
    let chances = spec.monte_carlo.map(|spec| simulate(&traded.gains, spec));
    let benchmarked = match benchmark {
        Some(benchmark) => {
            let own = benchmark.returns(&rows)?;
            let performance_of_it = performance_of(&own, 0.0);
            let strategy = (&net[..], performance.total_return);
            let compared = benchmark.compare(performance_of_it, strategy, &own);
            Some((compared, own))
        }
        None => None,
    };
    let (benchmark, own) = benchmarked.unzip();
    let weighted = |of: &dyn Fn(&Periods) -> f64| -> f64 {
        let parts = parts.iter().zip(&all);
        parts.map(|(part, periods)| part.weight * of(periods)).sum()
    };
    let total = |of: &dyn Fn(&Periods) -> usize| -> usize { all.iter().map(of).sum() };
    let of_parts: Vec<PartReport> = prepared
        .iter()
        .zip(&all)
        .filter_map(|(part, periods)| part.report(periods, &traded))
        .collect();
    let bars = prepared
        .iter()
        .map(|part| &part.part.bars[part.rows.clone()]);
    let firsts = bars.clone().filter_map(|bars| bars.first());
    let lasts = bars.clone().filter_map(|bars| bars.last());
    let time = |bar: Option<UnixMs>| bar.unwrap_or_default().rfc3339();
    Ok(Report {
        fill: spec.fill,
        fee_bps: spec.fee_bps,
        slippage_bps: spec.slippage_bps,
        sizing: spec.sizing,
        annualization,
        rows: bars.map(<[Bar]>::len).sum(),
        from: time(firsts.map(|bar| bar.time).min()),
        to: time(lasts.map(|bar| bar.time).max()),
        unknown_bars: prepared.iter().map(Prepared::unknown_bars).sum(),
        missing_bars: prepared.iter().map(Prepared::missing_bars).sum(),
        exposure: exposure(&all, &rows),
        turnover: weighted(&Periods::turnover),
        position_changes: total(&Periods::changes),
        direct_flips: total(&Periods::direct_flips),
        round_trips: traded.trades.len(),
        win_rate: win_rate(&trade_returns),
        profit_factor: profit_factor(&trade_returns),
        buy_and_hold: held,
        benchmark,
        portfolio: of_parts,
        monte_carlo: chances.transpose()?,
        search: found,
        performance,
        by_turnover,
        predecessor,
        look_ahead: look_ahead(&prepared),
        walk_forward,
        equity: points(&net, &held_returns, own.as_deref(), &rows.ends, spec),
        trades: last_trades(traded.trades),
    })
}

/// A problem with the bars of a part, named.
fn in_part(part: &Part<'_>, problem: Invalid) -> Invalid {
    match part.series {
        Some(series) if problem.field == "the bars" => {
            Invalid::new(format!("the bars of {series}"), problem.problem)
        }
        _ => problem,
    }
}

/// Computes the signals of a part, and finds the bars to test.
fn prepare<'a>(part: Part<'a>, spec: &Backtest) -> Result<Prepared<'a>, Invalid> {
    if let Some(detector) = &part.compiled.detector {
        return Err(Invalid::new(
            "strategy",
            format!(
                "must be a trading strategy in a portfolio; {} is a detector, so test it on one series",
                detector.kind.as_str()
            ),
        ));
    }
    check_prices(part.bars)?;
    let program = Program::new(part.compiled.clone());
    let all = signals(&program, part.bars, part.scores);
    let rows = tested(&program, part.bars, &all, spec)?;
    let annualization = annualization(part.compiled, &part.bars[rows.clone()], spec);
    Ok(Prepared {
        part,
        program,
        all,
        rows,
        annualization,
    })
}

impl Prepared<'_> {
    fn periods(&self, spec: &Backtest) -> Periods {
        let judged = Judged {
            all: self.part.bars,
            bars: &self.part.bars[self.rows.clone()],
            signals: &self.all[self.rows.clone()],
        };
        periods(&judged, self.part.compiled, spec, self.annualization)
    }

    fn unknown_bars(&self) -> usize {
        let tested = self.all[self.rows.clone()].iter();
        tested.filter(|(verdict, _)| !verdict.is_known()).count()
    }

    /// How many bars are missing between the first and the last.
    fn missing_bars(&self) -> i64 {
        let (bars, compiled) = (&self.part.bars[self.rows.clone()], self.part.compiled);
        let missing = bars.windows(2).map(|pair| {
            let (calendar, timeframe) = (&compiled.calendar, compiled.timeframe);
            calendar.missing(timeframe, pair[0].time, pair[1].time)
        });
        i64::try_from(missing.sum::<u64>()).unwrap_or(i64::MAX)
    }

    /// Its part in a portfolio.
    fn report(&self, periods: &Periods, traded: &Ledger) -> Option<PartReport> {
        let series = self.part.series?;
        let trades = traded.trades.iter().zip(&traded.gains);
        let own: Vec<(&Trade, f64)> = trades
            .filter(|(trade, _)| trade.series.as_deref() == Some(series))
            .map(|(trade, gain)| (trade, *gain))
            .collect();
        let bars = &self.part.bars[self.rows.clone()];
        let returns: Vec<f64> = own.iter().map(|(trade, _)| trade.net_return).collect();
        Some(PartReport {
            series: series.to_owned(),
            weight: self.part.weight,
            rows: bars.len(),
            from: bars[0].time.rfc3339(),
            to: bars[bars.len() - 1].time.rfc3339(),
            unknown_bars: self.unknown_bars(),
            missing_bars: self.missing_bars(),
            exposure: periods.exposure(),
            round_trips: own.len(),
            win_rate: win_rate(&returns),
            contribution: own.iter().map(|(_, gain)| gain).sum(),
        })
    }
}

/// The fraction of rows in which any series has a position.
fn exposure(all: &[Periods], rows: &Rows) -> f64 {
    if let [one] = all {
        return one.exposure();
    }
    let mut is_held = vec![false; rows.ends.len()];
    for (part, at) in all.iter().zip(&rows.of) {
        for (i, row) in at.iter().enumerate() {
            // It lasts until the next bar of the series.
            let end = at.get(i + 1).copied().unwrap_or(row + 1);
            if part.positions[i] != 0 {
                is_held[*row..end].fill(true);
            }
        }
    }
    let held = is_held.iter().filter(|is_held| **is_held).count();
    count(held) / count(is_held.len()).max(1.0)
}

/// Rows per year of a portfolio, by those that exist.
fn rows_a_year(rows: &Rows) -> f64 {
    let Some(last) = rows.ends.last() else {
        return 1.0;
    };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of some years")]
    let years = (*last - rows.began) as f64 / (365.0 * 86_400_000.0);
    if years > 0.0 {
        count(rows.ends.len()) / years
    } else {
        1.0
    }
}

/// Returns have no meaning if prices are not above zero.
fn check_prices(bars: &[Bar]) -> Result<(), Invalid> {
    let Some(bar) = bars.iter().find(|bar| bar.low <= 0.0) else {
        return Ok(());
    };
    Err(Invalid::new(
        "the bars",
        format!(
            "must have prices above zero for a backtest; the bar at {} has a low of {}",
            bar.time.rfc3339(),
            bar.low
        ),
    ))
}

/// The bars to test: those with a signal, within the requested time.
fn tested(
    program: &Program,
    bars: &[Bar],
    all: &[Signal],
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
        let last = all.last().map_or("none", |(verdict, _)| verdict.as_str());
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
fn look_ahead(parts: &[Prepared<'_>]) -> LookAhead {
    let mut check = LookAhead {
        clean: true,
        cuts: Vec::new(),
        first_changed: None,
    };
    for of in parts {
        let Part { bars, scores, .. } = of.part;
        let timeframe = of.part.compiled.timeframe;
        for quarter in CUTS {
            let cut = bars.len() * quarter / 4;
            let Some(last) = bars[..cut].last() else {
                continue;
            };
            let known = scores.partition_point(|score| score.time <= timeframe.close_of(last.time));
            let again = signals(&of.program, &bars[..cut], &scores[..known]);
            check.cuts.push(cut);
            if let Some(changed) = again
                .iter()
                .zip(&of.all)
                .position(|(again, all)| again != all)
            {
                check.clean = false;
                check
                    .first_changed
                    .get_or_insert_with(|| bars[changed].time.rfc3339());
            }
        }
    }
    check
}

/// Bars per year: as given, or by the timeframe, or, if bars are missing (nights, weekends, gaps),
/// by the bars that exist.
fn annualization(compiled: &CompiledStrategy, bars: &[Bar], spec: &Backtest) -> f64 {
    if let Some(given) = spec.annualization {
        return given;
    }
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
