//! Compares backtests with backtesting.py, in its rules for fills, fees and units, on its data.

use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use thrum_evaluate::backtests::backtest;
use thrum_evaluate::backtests::periods::verdicts;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::request::Backtest;
use thrum_schema::signal::strategy::builtins;
use thrum_schema::signal::{Bar, Timeframe};

/// A stock by day, a currency by hour, and one by month.
const DATA: [&str; 3] = ["GOOG", "EURUSD", "BTCUSD"];

/// The script with backtesting.py, if there is a Python with it.
fn script() -> Option<Command> {
    let python = std::env::var_os("THRUM_TEST_PYTHON").filter(|path| !path.is_empty());
    let Some(python) = python else {
        eprintln!("\n*** SKIPPED: THRUM_TEST_PYTHON must be a Python with backtesting.py ***\n");
        return None;
    };
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backtests.py"));
    Some(command)
}

fn bars_of(data: &str) -> Option<Vec<Bar>> {
    let printed = script()?.args(["bars", data]).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    Some(crate::support::read_bars(&printed.stdout[..]))
}

#[test]
fn backtests_equal_those_of_backtesting_py() {
    let (mut cases, mut found) = (Vec::new(), Vec::new());
    for data in DATA {
        let Some(bars) = bars_of(data) else {
            return;
        };
        for (name, strategy) in builtins().filter(|(_, strategy)| strategy.detector.is_none()) {
            for (short, fee_bps) in [(true, 10.0), (false, 10.0), (true, 0.0)] {
                // By the bar, wherever the markets are closed.
                let compiled = strategy
                    .compile(None, &BTreeMap::new(), Timeframe::TICK)
                    .unwrap();
                let spec = Backtest {
                    short,
                    fee_bps,
                    ..Backtest::default()
                };
                let report = backtest(strategy, &compiled, &bars, &[], &spec).unwrap();
                let program = Program::new(compiled);
                let mut sides = vec![0];
                sides.extend(verdicts(&program, &bars, &[]).iter().map(|verdict| {
                    match verdict.position() {
                        -1 if !short => 0,
                        side => side,
                    }
                }));
                sides.truncate(bars.len());
                let cost = (fee_bps + spec.slippage_bps) / 10_000.0;
                cases.push(json!({ "data": data, "sides": sides, "cost": cost }));
                found.push((
                    format!("{data} {name}, short: {short}, fee: {fee_bps}"),
                    report,
                ));
            }
        }
    }
    let mut script = script().unwrap();
    let mut running = script
        .arg("run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = running.stdin.take().unwrap();
    for case in &cases {
        writeln!(input, "{case}").unwrap();
    }
    drop(input);
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<f64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(expected.len(), found.len());
    let traded = found.iter().filter(|(_, report)| report.round_trips > 0);
    assert!(traded.count() > 40);
    for ((name, report), expected) in found.iter().zip(expected) {
        let total = report.performance.total_return;
        assert!(
            (total - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
            "{name}: {total}, not {expected}"
        );
    }
}
