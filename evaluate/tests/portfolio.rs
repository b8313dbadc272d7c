//! Compares portfolios, sizes, benchmarks, walk-forwards and searches with pandas, to 1e-9.

use crate::support::walk;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use thrum_evaluate::backtests::periods::verdicts;
use thrum_evaluate::backtests::{Benchmark, Part, backtest, portfolio};
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::request::{Backtest, MonteCarlo, Sizing, WalkForward};
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::{Bar, Strategy, Timeframe};

/// The results of the script, one for each case.
fn pandas(cases: &[Value]) -> Option<Vec<Value>> {
    let python = std::env::var_os("THRUM_TEST_PYTHON").filter(|path| !path.is_empty());
    let Some(python) = python else {
        eprintln!("\n*** SKIPPED: THRUM_TEST_PYTHON must be a Python with pandas ***\n");
        return None;
    };
    let mut running = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/portfolio.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = running.stdin.take().unwrap();
    let lines: Vec<String> = cases.iter().map(ToString::to_string).collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").unwrap();
        }
    });
    let output = running.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    Some(
        printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

/// Three series that begin at different times and have different gaps.
fn three() -> Vec<(&'static str, f64, Vec<Bar>)> {
    let mut gaps = walk(2, 700);
    gaps.drain(300..340);
    // Its bars open 20 minutes later than those of the others.
    let mut late = walk(3, 700).split_off(150);
    for bar in &mut late {
        bar.time = bar.time + 20 * 60_000;
    }
    vec![("a", 0.5, walk(1, 700)), ("b", 0.3, gaps), ("c", 0.2, late)]
}

/// The side to hold from the open of each tested bar on, as backtests define it.
fn sides(program: &Program, bars: &[Bar], first: usize) -> Vec<i8> {
    let found = verdicts(program, bars, &[]);
    found[first..found.len() - 1]
        .iter()
        .map(|verdict| verdict.position())
        .collect()
}

fn close(what: &str, found: Option<f64>, expected: &Value) {
    let (found, expected) = (found.unwrap_or(f64::NAN), expected.as_f64().unwrap());
    assert!(
        (found - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
        "{what}: {found}, not {expected}"
    );
}

fn program(strategy: &Strategy, params: &BTreeMap<String, f64>) -> Program {
    Program::new(strategy.compile(None, params, Timeframe::HOUR).unwrap())
}

#[test]
fn portfolios_and_walk_forwards_equal_those_of_pandas() {
    let grid: [&[f64]; 2] = [&[5.0, 10.0, 15.0], &[20.0, 40.0]];
    let grid = BTreeMap::from([
        ("fast".to_owned(), grid[0].to_vec()),
        ("slow".to_owned(), grid[1].to_vec()),
    ]);
    let walk_forward = WalkForward {
        train_bars: 200,
        test_bars: 60,
        grid: grid.clone(),
    };
    let volatility = Sizing::Volatility {
        target: 0.3,
        bars: 30,
    };
    let specs = [
        ("sma-cross", Sizing::default(), 3, true),
        ("sma-cross", Sizing::Fraction(0.6), 3, false),
        ("sma-cross", Sizing::Fixed(0.5), 3, false),
        ("sma-cross", volatility, 3, true),
        ("sma-cross", volatility, 1, true),
        ("bollinger", Sizing::default(), 2, false),
        ("turtle", Sizing::Fraction(0.9), 3, false),
        ("macd", Sizing::default(), 1, false),
    ];
    let (mut cases, mut reports) = (Vec::new(), Vec::new());
    let other = walk(9, 700);
    for (name, sizing, series, walks) in specs {
        let strategy = builtin(name).unwrap();
        let compiled = strategy
            .compile(None, &BTreeMap::new(), Timeframe::HOUR)
            .unwrap();
        let mut all = three();
        all.truncate(series);
        if series == 1 {
            all[0].1 = 1.0;
        }
        let parts: Vec<Part<'_>> = all
            .iter()
            .map(|(name, weight, bars)| Part {
                series: (series > 1).then_some(*name),
                weight: *weight,
                compiled: &compiled,
                bars,
                scores: &[],
            })
            .collect();
        let spec = Backtest {
            sizing,
            walk_forward: walks.then(|| walk_forward.clone()),
            search: if walks { grid.clone() } else { BTreeMap::new() },
            ..Backtest::default()
        };
        let benchmark = Benchmark {
            series: "other",
            timeframe: Timeframe::HOUR,
            bars: &other,
        };
        let report = portfolio(strategy, &parts, Some(benchmark), &spec).unwrap();
        let own = Program::new(compiled.clone());
        let least = if let Sizing::Volatility { bars, .. } = sizing {
            bars as usize
        } else {
            0
        };
        let bar = |bar: &Bar, side: i8| {
            let end = Timeframe::HOUR.close_of(bar.time);
            json!([bar.time.0, bar.open, bar.close, end.0, side])
        };
        let (mut of_series, mut before, mut years) = (json!({}), json!({}), json!({}));
        let mut firsts = BTreeMap::new();
        for (name, weight, bars) in &all {
            let found = verdicts(&own, bars, &[]);
            let first = found.iter().skip(least).position(|v| v.is_known()).unwrap() + least;
            firsts.insert(*name, first);
            let held = sides(&own, bars, first);
            let tested = bars[first + 1..].iter().zip(&held);
            let tested: Vec<Value> = tested.map(|(b, side)| bar(b, *side)).collect();
            of_series[*name] = json!({ "weight": weight, "bars": tested });
            let closes: Vec<f64> = bars[..=first].iter().map(|bar| bar.close).collect();
            before[*name] = json!(closes);
            let tested = &bars[first..];
            let span = (tested[tested.len() - 1].time - tested[0].time) as f64 / 31_536_000_000.0;
            // Not the bars that exist, but those of the calendar.
            assert!((tested.len() - 1) as f64 / span < 8761.0);
            years[*name] = json!(8760.0);
        }
        let mut case = json!({
            "series": of_series, "cost": (spec.fee_bps + spec.slippage_bps) / 10_000.0,
            "sizing": sizing, "year": report.annualization, "before": before, "years": years,
            "benchmark": other.iter().map(|b| bar(b, 0)).collect::<Vec<_>>(),
        });
        if walks {
            let mut tried = Vec::new();
            for fast in &grid["fast"] {
                for slow in &grid["slow"] {
                    let params =
                        BTreeMap::from([("fast".to_owned(), *fast), ("slow".to_owned(), *slow)]);
                    let program = program(strategy, &params);
                    let of = all
                        .iter()
                        .map(|(name, _, bars)| (*name, sides(&program, bars, firsts[name])));
                    tried.push(of.collect::<BTreeMap<_, _>>());
                }
            }
            case["walk"] = json!({ "train": 200, "test": 60, "sides": tried });
        }
        cases.push(case);
        reports.push((format!("{name} {sizing:?} {series}"), report));
    }
    let Some(expected) = pandas(&cases) else {
        return;
    };
    assert_eq!(expected.len(), reports.len());
    for ((name, report), expected) in reports.iter().zip(expected) {
        let of = &report.performance;
        assert!(report.round_trips > 10, "{name}");
        close(name, Some(of.total_return), &expected["total_return"]);
        close(name, of.volatility, &expected["volatility"]);
        close(name, of.sharpe, &expected["sharpe"]);
        close(name, of.sortino, &expected["sortino"]);
        close(name, Some(of.max_drawdown), &expected["max_drawdown"]);
        close(name, report.win_rate, &expected["win_rate"]);
        close(
            name,
            Some(report.buy_and_hold.total_return),
            &expected["held"],
        );
        let compared = report.benchmark.as_ref().unwrap();
        close(
            name,
            Some(compared.performance.total_return),
            &expected["benchmark"],
        );
        close(name, compared.beta, &expected["beta"]);
        close(name, compared.correlation, &expected["correlation"]);
        let Some(walked) = &report.walk_forward else {
            continue;
        };
        let (of, expected_of) = (&walked.performance, &expected["walk"]);
        close(name, Some(of.total_return), &expected_of["total_return"]);
        close(name, of.sharpe, &expected_of["sharpe"]);
        close(name, Some(of.max_drawdown), &expected_of["max_drawdown"]);
        let chosen = walked.stretches.iter().map(|stretch| {
            let fast = grid["fast"]
                .iter()
                .position(|fast| *fast == stretch.params["fast"]);
            let slow = grid["slow"]
                .iter()
                .position(|slow| *slow == stretch.params["slow"]);
            fast.unwrap() * 2 + slow.unwrap()
        });
        let chosen: Vec<usize> = chosen.collect();
        assert_eq!(json!(chosen), expected["chosen"], "{name}");
        // The search has the same result for the strategy's own parameters as the backtest.
        let found = report.search.as_ref().unwrap();
        assert_eq!(found.results.len(), 6);
        let best = &found.results[found.best.unwrap()];
        let most = found.results.iter().filter_map(|tried| tried.sharpe);
        assert_eq!(best.sharpe, most.reduce(f64::max), "{name}");
    }
}

/// What another series will close at is not known when a position is entered.
#[test]
fn a_portfolio_does_not_look_ahead() {
    let bars_of = |offset_h: i64, closes: &[f64]| -> Vec<Bar> {
        let rows = closes.iter().enumerate();
        rows.map(|(i, close)| {
            let time = UnixMs(1_700_006_400_000 + (i as i64 * 24 + offset_h) * 3_600_000);
            let open = if i == 0 { *close } else { closes[i - 1] };
            Bar {
                time,
                open,
                high: open.max(*close),
                low: open.min(*close),
                close: *close,
                volume: None,
            }
        })
        .collect()
    };
    // A doubles on the last day, within which B is entered five hours after A's open.
    let a = bars_of(0, &[100.0, 110.0, 110.0, 220.0, 220.0]);
    let b = bars_of(5, &[100.0, 100.0, 110.0, 110.0, 220.0]);
    let strategy = Strategy::parse(&json!({
        "buy": { "left": "close", "op": ">", "right": 105 }, "sell": { "any": [] },
    }))
    .unwrap();
    let compiled = strategy
        .compile(None, &BTreeMap::new(), Timeframe::parse("t", "1d").unwrap())
        .unwrap();
    let part = |series, bars| Part {
        series: Some(series),
        weight: 0.5,
        compiled: &compiled,
        bars,
        scores: &[],
    };
    let spec = Backtest {
        fee_bps: 0.0,
        slippage_bps: 0.0,
        ..Backtest::default()
    };
    let report = portfolio(&strategy, &[part("a", &a), part("b", &b)], None, &spec).unwrap();
    let of_b = report
        .trades
        .iter()
        .find(|trade| trade.series.as_deref() == Some("b"));
    // Half of the equity, at A's open of that day.
    assert_eq!(of_b.unwrap().size, Some(0.5), "{:?}", report.trades);
}

#[test]
fn a_search_lists_every_combination_and_why_one_is_impossible() {
    let bars = walk(4, 400);
    let strategy = builtin("macd").unwrap();
    let test = |spec: &Backtest| {
        let compiled = program(strategy, &BTreeMap::new());
        backtest(strategy, compiled.compiled(), &bars, &[], spec)
    };
    let spec = |fast: Vec<f64>| Backtest {
        search: BTreeMap::from([("fast".to_owned(), fast)]),
        ..Backtest::default()
    };
    let report = test(&spec(vec![5.0, 12.0, 30.0])).unwrap();
    let found = report.search.unwrap();
    assert_eq!(
        found.results[1].total_return,
        Some(report.performance.total_return)
    );
    let error = found.results[2].error.as_deref().unwrap();
    assert!(error.contains("must be less than slow"), "{error}");
    assert!(found.results[2].sharpe.is_none());
    let error = test(&spec(vec![30.0])).unwrap_err();
    assert!(error.problem.contains("less than slow"), "{error}");
    let error = test(&spec(vec![5.0; 20_000])).unwrap_err();
    assert_eq!(error.field, "search");
}

#[test]
fn other_orders_of_the_trades_keep_the_total_and_are_reproducible() {
    let bars = walk(5, 2_000);
    let strategy = builtin("sma-cross").unwrap();
    let test = |spec: &Backtest| {
        let compiled = program(strategy, &BTreeMap::new());
        backtest(strategy, compiled.compiled(), &bars, &[], spec)
    };
    let run = |runs, seed| {
        let spec = Backtest {
            monte_carlo: Some(MonteCarlo { runs, seed }),
            ..Backtest::default()
        };
        test(&spec)
    };
    let report = run(1_000, 7).unwrap();
    let chances = report.monte_carlo.unwrap();
    assert_eq!(chances.trades, report.trades.len());
    // The trades together gain what the account gained, in any order.
    let product: f64 = report.trades.iter().map(|t| 1.0 + t.net_return).product();
    assert!((product - 1.0 - report.performance.total_return).abs() < 1e-9);
    let of = &chances.resampled.total_return;
    assert!(of.p5 < of.p50 && of.p50 < of.p95);
    assert!(of.p5 < report.performance.total_return && report.performance.total_return < of.p95);
    let falls = &chances.reordered.max_drawdown;
    assert!(-1.0 < falls.p5 && falls.p5 < falls.p95 && falls.p95 < 0.0);
    assert!((0.0..=1.0).contains(&chances.resampled.losing));
    assert_eq!(run(1_000, 7).unwrap().monte_carlo, Some(chances.clone()));
    assert_ne!(run(1_000, 8).unwrap().monte_carlo, Some(chances));
}
