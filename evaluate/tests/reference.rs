//! Compares the strategy `trend-rsi` on real hourly bars with independently computed reference
//! values.

use crate::support::{bars_of, data, letters, program};
use serde_json::Value;
use std::collections::BTreeMap;
use thrum_evaluate::backtests::backtest;
use thrum_evaluate::backtests::periods::verdicts;
use thrum_evaluate::backtests::report::Report;
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::Stepper;
use thrum_schema::signal::indicator::Kind;
use thrum_schema::signal::request::{Backtest, Fill};
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::{Bar, Score, Timeframe};

const MODES: [(&str, &str); 4] = [
    ("price_only", "price_only"),
    ("combined_fear_0.24", "combined"),
    ("combined_greed_0.75", "combined"),
    ("combined_neutral_0.50", "combined"),
];

fn reference() -> Option<(Vec<Bar>, Value)> {
    let bars = bars_of(&data("eth-usd-1h.csv")?);
    let json = std::fs::read_to_string(data("eth-usd-1h.trend-rsi.json")?).expect("readable");
    Some((bars, serde_json::from_str(&json).expect("JSON")))
}

fn scores(mode: &Value) -> Vec<Score> {
    let score = |score| Score {
        time: UnixMs(0),
        score,
    };
    mode["sentiment"].as_f64().map(score).into_iter().collect()
}

fn close(name: &str, found: f64, expected: &Value) {
    let expected = expected
        .as_f64()
        .unwrap_or_else(|| panic!("{name} must be a number (got {expected})"));
    let tolerance = 1e-9 * expected.abs().max(1e-12);
    assert!(
        (found - expected).abs() <= tolerance,
        "{name}: expected {expected} (got {found})"
    );
}

fn report(bars: &[Bar], mode: &str, scores: &[Score], spec: &Backtest) -> Report {
    let strategy = builtin("trend-rsi").unwrap();
    let compiled = strategy
        .compile(Some(mode), &BTreeMap::new(), Timeframe::HOUR)
        .unwrap();
    backtest(strategy, &compiled, bars, scores, spec).unwrap()
}

#[test]
fn signals_match_the_reference_bar_by_bar() {
    let Some((bars, reference)) = reference() else {
        return;
    };
    let first = reference["first_signal_bar_index"].as_u64().unwrap() as usize;
    for (name, mode) in MODES {
        let expected = &reference["modes"][name];
        let found = verdicts(&program("trend-rsi", Some(mode)), &bars, &scores(expected));
        let found = letters(&found);
        assert_eq!(found[..first], "w".repeat(first), "{name}");
        assert_eq!(
            found[first..],
            *expected["signals"].as_str().unwrap(),
            "{name}"
        );
    }
}

#[test]
fn indicators_match_the_reference() {
    let Some((bars, reference)) = reference() else {
        return;
    };
    let kinds = [
        ("ma_10", Kind::Sma, 10.0),
        ("ma_20", Kind::Sma, 20.0),
        ("ma_50", Kind::Sma, 50.0),
        ("rsi_14", Kind::RsiCutler, 14.0),
    ];
    let of = |kind, n: f64| {
        let mut stepper = Stepper::new(kind, [n, 0.0, 0.0]);
        let steps = bars.iter().map(|bar| stepper.step(bar, bar.close)[0]);
        steps.collect::<Vec<f64>>()
    };
    let returns = of(Kind::LogReturn, 1.0);
    let mut std = Stepper::new(Kind::Std, [20.0, 0.0, 0.0]);
    let volatility: Vec<f64> = bars
        .iter()
        .zip(&returns)
        .map(|(bar, r)| {
            if r.is_nan() {
                f64::NAN
            } else {
                std.step(bar, *r)[0]
            }
        })
        .collect();
    let samples = reference["indicator_samples"].as_array().unwrap();
    assert!(samples.len() >= 8);
    for sample in samples {
        let index = sample["index"].as_u64().unwrap() as usize;
        for (name, kind, n) in kinds {
            close(name, of(kind, n)[index], &sample[name]);
        }
        close("vol_20", volatility[index], &sample["vol_20"]);
    }
}

#[test]
fn close_to_close_matches_the_predecessor() {
    let Some((bars, reference)) = reference() else {
        return;
    };
    let check = |report: &Report, expected: &Value| {
        let found = report.predecessor.as_ref().unwrap();
        let found = serde_json::to_value(found).unwrap();
        for (name, value) in found.as_object().unwrap() {
            close(name, value.as_f64().unwrap(), &expected[name]);
        }
        assert!(found.as_object().unwrap().len() >= 13);
        close(
            "total_return",
            report.performance.total_return,
            &expected["total_return"],
        );
        close(
            "sharpe",
            report.performance.sharpe.unwrap(),
            &expected["sharpe"],
        );
        assert!(report.look_ahead.clean);
    };
    let spec = Backtest {
        fill: Fill::CloseToClose,
        ..Backtest::default()
    };
    for (name, mode) in MODES {
        let expected = &reference["modes"][name];
        let report = report(&bars, mode, &scores(expected), &spec);
        check(&report, &expected["backtest_close_to_close"]);
    }
    for expected in reference["backtest_price_only_variants"]
        .as_array()
        .unwrap()
    {
        let spec = Backtest {
            fee_bps: expected["fee_bps"].as_f64().unwrap(),
            slippage_bps: expected["slippage_bps"].as_f64().unwrap(),
            annualization: expected["annualization"].as_f64(),
            ..spec.clone()
        };
        check(&report(&bars, "price_only", &[], &spec), expected);
    }
}

#[test]
fn costs_are_charged_on_turnover() {
    let Some((bars, reference)) = reference() else {
        return;
    };
    let expected = &reference["backtest_price_only_round_trips"];
    let spec = Backtest {
        fill: Fill::CloseToClose,
        ..Backtest::default()
    };
    let found = report(&bars, "price_only", &[], &spec);
    let by_turnover = found.by_turnover.as_ref().unwrap();
    close(
        "total_return",
        by_turnover.total_return,
        &expected["total_return"],
    );
    close("sharpe", by_turnover.sharpe.unwrap(), &expected["sharpe"]);
    close(
        "max_drawdown",
        by_turnover.max_drawdown,
        &expected["max_drawdown"],
    );
    close("turnover", found.turnover, &expected["turnover"]);
    close(
        "position_changes",
        found.position_changes as f64,
        &expected["position_changes"],
    );
    close(
        "direct_flips",
        found.direct_flips as f64,
        &expected["direct_flips"],
    );
    close(
        "round_trips",
        found.round_trips as f64,
        &expected["round_trips"],
    );
    close(
        "trade_win_rate",
        found.win_rate.unwrap(),
        &expected["trade_win_rate"],
    );
    let free = Backtest {
        fee_bps: 0.0,
        slippage_bps: 0.0,
        ..spec.clone()
    };
    let free = report(&bars, "price_only", &[], &free);
    close(
        "zero cost",
        free.performance.total_return,
        &expected["zero_cost_total_return"],
    );
    let long = Backtest {
        short: false,
        ..spec
    };
    let long = report(&bars, "price_only", &[], &long);
    close(
        "long and flat",
        long.by_turnover.unwrap().total_return,
        &expected["long_flat_total_return"],
    );
    let next_open = report(&bars, "price_only", &[], &Backtest::default());
    // The real bars have gaps, so there are fewer per year.
    assert!(next_open.annualization < 8_760.0 && next_open.missing_bars > 0);
}
