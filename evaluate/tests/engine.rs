//! Tests the engine's guarantees: live bars, replays and backtests share one step, signals never
//! depend on the future, and missing data gives an unknown signal.

use crate::support::{custom, letters, program, walk};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use thrum_evaluate::backtests::backtest;
use thrum_evaluate::backtests::periods::verdicts;
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::{Program, Stepper, run};
use thrum_schema::signal::indicator::Kind;
use thrum_schema::signal::request::{Backtest, Fill, WalkForward, check_backtest};
use thrum_schema::signal::strategy::{builtin, builtins};
use thrum_schema::signal::{Bar, Score, Timeframe, Verdict};

const HOUR: i64 = 3_600_000;

fn scores(bars: &[Bar], every: usize) -> Vec<Score> {
    let score = |(i, bar): (usize, &Bar)| Score {
        time: bar.time + 17,
        score: (i % 11) as f64 / 10.0,
    };
    bars.iter().enumerate().step_by(every).map(score).collect()
}

/// All signals and explanations of a run, as they would be stored.
fn transcript(program: &Program, bars: &[Bar], scores: &[Score]) -> Vec<String> {
    let mut transcript = Vec::new();
    run(
        program,
        &mut program.begin(),
        bars,
        scores,
        |state, bar, verdict| {
            let explanation = program.explain(state, bar);
            transcript.push(format!(
                "{verdict} {}",
                serde_json::to_string(&explanation).unwrap()
            ));
        },
    );
    transcript
}

/// The parameters of an indicator, at their defaults; windows without one have 10 bars.
fn default_args(kind: Kind) -> [f64; 3] {
    let mut args = [0.0; 3];
    for (value, arg) in args.iter_mut().zip(kind.args()) {
        *value = arg.default.unwrap_or(10.0);
    }
    args
}

fn all_programs() -> Vec<(String, Program)> {
    let mut programs: Vec<(String, Program)> = builtins()
        .flat_map(|(name, strategy)| {
            strategy
                .modes
                .keys()
                .map(move |mode| (format!("{name} {mode}"), program(name, Some(mode))))
        })
        .collect();
    let longer = json!({
        "buy": { "all": [
            { "left": "close", "op": ">", "right": { "indicator": "ema", "n": 5, "timeframe": "4h" } },
            { "left": { "indicator": "rsi", "n": 5 }, "op": "crosses_above", "right": 50 },
        ] },
        "sell": { "any": [
            { "left": { "indicator": "adx", "n": 5 }, "op": "<", "right": { "indicator": "stochastic", "output": "d" } },
            { "not": { "left": { "field": "close", "ago": 3 }, "op": ">=", "right": { "indicator": "wma", "n": 7, "timeframe": "1d" } } },
        ] },
    });
    programs.push(("longer".into(), custom(longer).1));
    let positions = json!({
        "long": {
            "enter": { "confirm": { "left": { "indicator": "sma", "n": 3, "of": { "indicator": "rsi", "n": 5 } },
                                    "op": ">", "right": 55 }, "bars": 2 },
            "exit": { "left": "close", "op": "<", "right": { "op": "-", "left": { "position": "best" },
                "right": { "op": "*", "left": 2, "right": { "indicator": "atr", "n": 5, "timeframe": "4h" } } } },
            "stop_loss_pct": 1,
        },
        "short": {
            "enter": { "left": { "indicator": "ema", "n": 3, "timeframe": "4h",
                                 "of": { "op": "/", "left": "typical", "right": { "indicator": "sma", "n": 4 } } },
                       "op": "<", "right": 1 },
            "trailing_stop_pct": 1.5, "take_profit_pct": 2, "time_stop_bars": 9,
        },
    });
    programs.push(("positions".into(), custom(positions).1));
    programs
}

#[test]
fn a_run_continues_from_a_stored_state_at_any_bar() {
    let bars = walk(3, 400);
    let scores = scores(&bars, 5);
    for (name, program) in all_programs() {
        let whole = transcript(&program, &bars, &scores);
        for cut in [1, 37, 100, 333] {
            let mut state = program.begin();
            run(&program, &mut state, &bars[..cut], &scores, |_, _, _| {});
            let mut again = program.decode(&state.encode()).unwrap();
            let mut i = cut;
            run(
                &program,
                &mut again,
                &bars[cut..],
                &scores,
                |state, bar, verdict| {
                    let explanation = serde_json::to_string(&program.explain(state, bar)).unwrap();
                    assert_eq!(
                        format!("{verdict} {explanation}"),
                        whole[i],
                        "{name} at {i}"
                    );
                    i += 1;
                },
            );
        }
    }
    // The state of another strategy is rejected.
    let other = program("macd", None).begin().encode();
    assert!(program("trend-rsi", None).decode(&other).is_none());
    assert!(program("macd", None).decode(b"").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Later bars and scores never change an earlier signal or explanation.
    #[test]
    fn signals_do_not_depend_on_the_future(seed in any::<u64>(), cut in 1..300_usize, every in 1..20_usize) {
        let bars = walk(seed, 300);
        let scores = scores(&bars, every);
        for (name, program) in all_programs() {
            let whole = transcript(&program, &bars, &scores);
            let known: Vec<Score> = scores.iter().copied().filter(|s| s.time <= bars[cut - 1].time + HOUR).collect();
            prop_assert_eq!(&transcript(&program, &bars[..cut], &known)[..], &whole[..cut], "{}", name);
            // A different future changes nothing, either.
            let mut other = bars.clone();
            for bar in &mut other[cut..] {
                *bar = Bar::value(bar.time, 1.0);
            }
            prop_assert_eq!(&transcript(&program, &other, &known)[..cut], &whole[..cut], "{}", name);
        }
    }

    /// Prices in another unit give the same signals. Powers of two change no digit.
    #[test]
    fn signals_do_not_depend_on_the_unit_of_prices(seed in any::<u64>(), power in -40..40_i32) {
        let scale = 2_f64.powi(power);
        let bars = walk(seed, 300);
        let scaled: Vec<Bar> = bars
            .iter()
            .map(|bar| Bar {
                open: bar.open * scale,
                high: bar.high * scale,
                low: bar.low * scale,
                close: bar.close * scale,
                ..*bar
            })
            .collect();
        let scores = scores(&bars, 5);
        for (name, strategy) in builtins() {
            for mode in strategy.modes.keys() {
                let program = program(name, Some(mode));
                let (a, b) = (verdicts(&program, &bars, &scores), verdicts(&program, &scaled, &scores));
                prop_assert!(a == b, "{} {}", name, mode);
            }
        }
        for kind in Kind::ALL {
            let mut steppers = [(), ()].map(|()| Stepper::new(kind, default_args(kind)));
            for (bar, other) in bars.iter().zip(&scaled) {
                let [mut a, b] = [(0, bar), (1, other)].map(|(i, bar)| steppers[i].step(bar, bar.close));
                // These are prices themselves.
                let is_price = !matches!(
                    kind,
                    Kind::Rsi | Kind::RsiCutler | Kind::Adx | Kind::Stochastic | Kind::Obv
                        | Kind::Zscore | Kind::Roc | Kind::LogReturn | Kind::EwmaZ
                );
                if is_price {
                    a = a.map(|x| x * scale);
                }
                for (a, b) in a.iter().zip(b) {
                    let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                    prop_assert!(same, "{:?}: {} and {}", kind, a, b);
                }
            }
        }
    }

    /// No result is NaN or infinite, whatever the prices, because JSON can't represent that.
    #[test]
    fn results_are_always_finite(
        prices in prop::collection::vec(prop_oneof![Just(0.0), Just(1e99), Just(-1e99), Just(1e-99), -10.0..10.0, Just(7.0)], 60..200),
    ) {
        let bars: Vec<Bar> = prices.iter().enumerate().map(|(i, x)| Bar::value(UnixMs(i as i64 * HOUR), *x)).collect();
        for (name, program) in all_programs() {
            for line in transcript(&program, &bars, &scores(&bars, 7)) {
                prop_assert!(!line.contains("NaN") && !line.contains("inf"), "{name}: {line}");
            }
        }
        let strategy = builtin("sma-cross").unwrap();
        let compiled = strategy.compile(None, &BTreeMap::from([("fast".into(), 2.0), ("slow".into(), 5.0)]), Timeframe::HOUR).unwrap();
        let positive: Vec<Bar> = prices.iter().enumerate().map(|(i, x)| Bar::value(UnixMs(i as i64 * HOUR), x.abs().max(1e-99))).collect();
        for fill in [Fill::NextOpen, Fill::CloseToClose] {
            let spec = Backtest { fill, ..Backtest::default() };
            let bars = positive.clone();
            let report = backtest(strategy, &compiled, &bars, &[], &spec).unwrap();
            let numbers = [report.performance.total_return, report.performance.max_drawdown, report.performance.equity_end, report.exposure];
            prop_assert!(numbers.iter().all(|x| x.is_finite()), "{numbers:?}");
            let text = serde_json::to_string(&report).unwrap();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}

#[test]
fn bars_of_longer_timeframes_count_when_they_close() {
    let strategy = json!({
        "buy": { "left": { "indicator": "sma", "n": 1, "timeframe": "4h" }, "op": ">", "right": 0 },
        "sell": { "any": [] },
    });
    let (_, program) = custom(strategy);
    // The first bar opens at 02:00, so the first 4h bar is incomplete.
    let bars: Vec<Bar> = (2..14)
        .map(|i| Bar::value(UnixMs(i * HOUR), i as f64))
        .collect();
    let mut seen = Vec::new();
    run(
        &program,
        &mut program.begin(),
        &bars,
        &[],
        |state, bar, _| {
            seen.push(program.explain(state, bar).conditions[0].value);
        },
    );
    let (none, first, second) = (None, Some(7.0), Some(11.0));
    assert_eq!(
        seen,
        [
            none, none, none, none, none, first, first, first, first, second, second, second
        ]
    );
}

#[test]
fn missing_sentiment_is_unknown_not_neutral() {
    let bars = walk(5, 80);
    let compiled = |max_age_s| {
        let params = BTreeMap::from([("sentiment_max_age_s".to_owned(), max_age_s)]);
        let strategy = builtin("trend-rsi").unwrap();
        Program::new(
            strategy
                .compile(Some("combined"), &params, Timeframe::HOUR)
                .unwrap(),
        )
    };
    let found = verdicts(&compiled(0.0), &bars, &[]);
    assert_eq!(letters(&found[49..]), "n".repeat(31));
    // A score that is too old counts as missing.
    let old = [Score {
        time: bars[60].time,
        score: 0.9,
    }];
    let found = letters(&verdicts(&compiled(7_200.0), &bars, &old));
    assert!(found[60..62].chars().all(|c| "BHS".contains(c)), "{found}");
    assert_eq!(found[62..], "n".repeat(18));
}

#[test]
fn sentiment_applies_from_when_it_was_known() {
    let bars = walk(6, 120);
    let program = program("trend-rsi", Some("combined"));
    let early = Score {
        time: UnixMs(0),
        score: 0.5,
    };
    let late = Score {
        time: bars[100].time + HOUR + 1,
        score: 0.9,
    };
    let without = verdicts(&program, &bars, &[early]);
    let with = verdicts(&program, &bars, &[early, late]);
    assert_eq!(with[..=100], without[..=100]);
    assert_ne!(with[101..], without[101..]);
}

#[test]
fn win_rates_count_round_trips_flips_pay_twice_and_fills_follow_signals() {
    let strategy = json!({
        "buy": { "left": "close", "op": ">", "right": 100 },
        "sell": { "left": "close", "op": "<", "right": 100 },
    });
    let (strategy, program) = custom(strategy);
    // Long from the open of the second bar, short from the open of the fourth.
    let closes = [110.0, 110.0, 90.0, 90.0, 80.0];
    let opens = [100.0, 105.0, 100.0, 95.0, 85.0];
    let bars: Vec<Bar> = closes
        .iter()
        .zip(opens)
        .enumerate()
        .map(|(i, (close, open))| Bar {
            open,
            high: 120.0,
            low: 70.0,
            ..Bar::value(UnixMs(i as i64 * HOUR), *close)
        })
        .collect();
    let free = Backtest {
        fee_bps: 0.0,
        slippage_bps: 0.0,
        ..Backtest::default()
    };
    let report = backtest(&strategy, program.compiled(), &bars, &[], &free).unwrap();
    assert_eq!(
        (report.round_trips, report.direct_flips, report.turnover),
        (2, 1, 3.0)
    );
    assert_eq!(
        (report.trades[0].entry_price, report.trades[0].exit_price),
        (105.0, 95.0)
    );
    assert_eq!(
        (report.trades[1].entry_price, report.trades[1].exit_price),
        (95.0, 80.0)
    );
    assert_eq!(report.win_rate, Some(0.5));
    let costly = Backtest {
        fee_bps: 100.0,
        slippage_bps: 0.0,
        ..Backtest::default()
    };
    let report = backtest(&strategy, program.compiled(), &bars, &[], &costly).unwrap();
    // 1/(105 × 1.01) units bought and sold, then as many as that pays for sold short.
    let units = 1.0 / (105.0 * 1.01);
    let cash = units * 95.0 * 0.99;
    let short = cash / (95.0 * 1.01);
    let expected = cash + short * (95.0 - 80.0) - short * 95.0 * 0.01;
    assert!(
        (report.performance.equity_end - expected).abs() < 1e-12,
        "{report:?}"
    );
    let product: f64 = report.trades.iter().map(|t| 1.0 + t.net_return).product();
    assert!(
        (product - expected).abs() < 1e-12,
        "trades and equity agree"
    );
}

/// A strategy that is short from the second bar to the fourth, and the bars of `opens`.
fn short_for_two_bars(opens: [f64; 5]) -> (thrum_schema::signal::Strategy, Program, Vec<Bar>) {
    let strategy = json!({
        "buy": { "any": [] },
        "sell": { "left": "volume", "op": ">", "right": 1 },
    });
    let (strategy, program) = custom(strategy);
    let bars = opens.iter().zip([2.0, 2.0, 0.0, 0.0, 0.0]).enumerate();
    let bars = bars.map(|(i, (price, volume))| Bar {
        volume: Some(volume),
        ..Bar::value(UnixMs(i as i64 * HOUR), *price)
    });
    (strategy, program, bars.collect())
}

#[test]
fn a_short_position_holds_its_units() {
    let (strategy, program, bars) = short_for_two_bars([400.0, 409.79, 460.0, 379.75, 379.75]);
    let report = backtest(
        &strategy,
        program.compiled(),
        &bars,
        &[],
        &Backtest::default(),
    )
    .unwrap();
    let trade = &report.trades[0];
    assert_eq!(
        (trade.side, trade.entry_price, trade.exit_price),
        ("short", 409.79, 379.75)
    );
    assert!((trade.net_return - 0.0703).abs() < 5e-5, "{trade:?}");
    assert!((report.performance.total_return - trade.net_return).abs() < 1e-12);
    // The loss on the way is that of the units, marked at the close.
    assert!(report.performance.max_drawdown < -0.12);
}

#[test]
fn ruin_ends_a_backtest() {
    let (strategy, program, bars) = short_for_two_bars([1.0, 1.0, 5.0, 1.0, 1.0]);
    let report = backtest(
        &strategy,
        program.compiled(),
        &bars,
        &[],
        &Backtest::default(),
    )
    .unwrap();
    assert_eq!(
        report.performance.ruined_at,
        Some(UnixMs(3 * HOUR).rfc3339())
    );
    assert_eq!(
        (report.performance.equity_end, report.trades.len()),
        (0.0, 1)
    );
    assert_eq!(report.trades[0].net_return, -1.0);
}

#[test]
fn prices_that_fall_through_zero_are_refused() {
    let (strategy, program, bars) = short_for_two_bars([2.0, 1.0, 0.5, -0.5, -1.0]);
    let error = backtest(
        &strategy,
        program.compiled(),
        &bars,
        &[],
        &Backtest::default(),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("1970-01-01T03:00:00") && error.contains("-0.5"),
        "{error}"
    );
}

#[test]
fn a_gap_in_the_bars_is_reported_and_counts_no_bars() {
    let mut bars = walk(8, 200);
    for bar in &mut bars[100..] {
        bar.time = bar.time + 5 * HOUR;
    }
    let mean = json!({ "indicator": "sma", "n": 30 });
    let (_, careful) = custom(json!({
        "buy": { "left": "close", "op": ">", "right": mean },
        "sell": { "left": "close", "op": "<", "right": mean },
    }));
    let found = letters(&verdicts(&careful, &bars, &[]));
    // The windows of 30 bars must refill.
    assert_eq!(found[100..129], "g".repeat(29), "{found}");
    assert!(found[129..].chars().all(|c| "BHS".contains(c)));
    // A strategy whose windows ignore gaps says so.
    let program = program("trend-rsi", None);
    let mut summaries = Vec::new();
    run(
        &program,
        &mut program.begin(),
        &bars,
        &[],
        |state, bar, _| {
            summaries.push(program.explain(state, bar).summary);
        },
    );
    assert!(
        summaries[105].contains("A gap of 5 bars ended 6 bars ago; the windows count bars"),
        "{}",
        summaries[105]
    );
    assert!(!summaries[99].contains("gap") && !summaries[160].contains("gap"));
    // The API refuses times without a zone and unfinished bars: see its tests. Gaps leave fewer
    // bars per year.
    let strategy = builtin("sma-cross").unwrap();
    let compiled = strategy
        .compile(None, &BTreeMap::new(), Timeframe::HOUR)
        .unwrap();
    let report = backtest(strategy, &compiled, &bars, &[], &Backtest::default()).unwrap();
    assert_eq!(report.missing_bars, 5);
    assert!(report.annualization < 8_760.0 && report.annualization > 8_000.0);
}

#[test]
fn a_missing_volume_drops_no_bar_and_few_bars_are_no_error() {
    let mut bars = walk(9, 120);
    let whole = verdicts(&program("trend-rsi", None), &bars, &[]);
    bars[70].volume = None;
    assert_eq!(verdicts(&program("trend-rsi", None), &bars, &[]), whole);
    let few = verdicts(&program("trend-rsi", None), &bars[..49], &[]);
    assert!(few.iter().all(|verdict| *verdict == Verdict::Warming));
    let (_, of_volume) = custom(json!({
        "buy": { "left": "volume", "op": ">", "right": { "indicator": "sma", "n": 3, "of": "volume" } },
        "sell": { "any": [] },
    }));
    let found = letters(&verdicts(&of_volume, &bars, &[]));
    assert_eq!(&found[70..71], "g");
    assert!(found[71..].chars().all(|c| "BH".contains(c)), "{found}");
}

#[test]
fn an_explanation_has_thresholds_margins_and_outcomes() {
    let bars = walk(10, 60);
    let program = program("trend-rsi", None);
    let mut last = None;
    run(
        &program,
        &mut program.begin(),
        &bars,
        &[],
        |state, bar, verdict| {
            last = Some((verdict, program.explain(state, bar)));
        },
    );
    let (verdict, explanation) = last.unwrap();
    assert_eq!(explanation.conditions.len(), 4);
    for condition in &explanation.conditions {
        let (value, threshold) = (condition.value.unwrap(), condition.threshold.unwrap());
        let margin = if condition.op.wants_more() {
            value - threshold
        } else {
            threshold - value
        };
        assert_eq!(condition.margin, Some(margin));
        assert_eq!(condition.met, Some(margin > 0.0));
    }
    assert!(
        explanation.summary.starts_with(verdict.as_str()),
        "{}",
        explanation.summary
    );
}

#[test]
fn backtest_assumptions_are_bounded() {
    let good = Backtest::default();
    assert!(check_backtest(&good).is_ok());
    let forward = |train_bars, test_bars, values: usize| {
        Some(WalkForward {
            train_bars,
            test_bars,
            grid: BTreeMap::from([("fast".to_owned(), vec![5.0; values])]),
        })
    };
    for (bad, field) in [
        (
            Backtest {
                fee_bps: 5e133,
                ..good.clone()
            },
            "fee_bps",
        ),
        (
            Backtest {
                fee_bps: f64::NAN,
                ..good.clone()
            },
            "fee_bps",
        ),
        (
            Backtest {
                slippage_bps: -1.0,
                ..good.clone()
            },
            "slippage_bps",
        ),
        (
            Backtest {
                annualization: Some(-365.0),
                ..good.clone()
            },
            "annualization",
        ),
        (
            Backtest {
                annualization: Some(f64::INFINITY),
                ..good.clone()
            },
            "annualization",
        ),
        (
            Backtest {
                from: Some(UnixMs(5)),
                to: Some(UnixMs(5)),
                ..good.clone()
            },
            "to",
        ),
        (
            Backtest {
                walk_forward: forward(5, 100, 1),
                ..good.clone()
            },
            "walk_forward.train_bars",
        ),
        (
            Backtest {
                walk_forward: forward(100, 5, 1),
                ..good.clone()
            },
            "walk_forward.test_bars",
        ),
        (
            Backtest {
                walk_forward: forward(100, 100, 101),
                ..good.clone()
            },
            "walk_forward.grid",
        ),
        (
            Backtest {
                walk_forward: forward(100, 100, 0),
                ..good.clone()
            },
            "walk_forward.grid",
        ),
    ] {
        assert_eq!(check_backtest(&bad).unwrap_err().field, field);
    }
    // A short position can't lose more than everything.
    let (strategy, program) = custom(json!({
        "buy": { "any": [] },
        "sell": { "left": "close", "op": ">", "right": 0 },
    }));
    let bars: Vec<Bar> = [1.0, 1.0, 5.0, 1.0]
        .iter()
        .enumerate()
        .map(|(i, x)| Bar::value(UnixMs(i as i64 * HOUR), *x))
        .collect();
    let report = backtest(
        &strategy,
        program.compiled(),
        &bars,
        &[],
        &Backtest::default(),
    )
    .unwrap();
    assert_eq!(
        (
            report.performance.equity_end,
            report.performance.max_drawdown
        ),
        (0.0, -1.0)
    );
    assert!(report.performance.ruined_at.is_some());
}

#[test]
fn a_walk_forward_chooses_parameters_on_past_bars_only() {
    let bars = walk(11, 600);
    let strategy = builtin("sma-cross").unwrap();
    let compiled = strategy
        .compile(None, &BTreeMap::new(), Timeframe::HOUR)
        .unwrap();
    let spec = Backtest {
        walk_forward: Some(WalkForward {
            train_bars: 150,
            test_bars: 50,
            grid: BTreeMap::from([
                ("fast".into(), vec![3.0, 8.0]),
                ("slow".into(), vec![20.0, 40.0]),
            ]),
        }),
        ..Backtest::default()
    };
    let walked = |bars: &[Bar]| {
        backtest(strategy, &compiled, bars, &[], &spec)
            .unwrap()
            .walk_forward
            .unwrap()
    };
    let whole = walked(&bars);
    assert_eq!(whole.combinations, 4);
    assert!(whole.stretches.len() >= 8);
    // Bars after the start of a stretch do not influence the parameters chosen for it.
    let mut other = bars.clone();
    for bar in &mut other[450..] {
        *bar = Bar::value(bar.time, 3.0);
    }
    let other = walked(&other);
    for (a, b) in whole.stretches.iter().zip(&other.stretches).take(4) {
        assert_eq!((&a.params, a.train_sharpe), (&b.params, b.train_sharpe));
    }
}
