//! Strategies that hold positions: entries and exits, stops, confirmation, arithmetic between operands, and
//! indicators of indicators.

use crate::support::{custom, letters, walk};
use serde_json::{Value, json};
use thrum_evaluate::backtests::backtest;
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::{Program, Stepper, run};
use thrum_schema::signal::explanation::{Exit, Holding, Side};
use thrum_schema::signal::indicator::Kind;
use thrum_schema::signal::request::{Backtest, Sizing, WalkForward};
use thrum_schema::signal::{Bar, Strategy, Verdict};

const HOUR: i64 = 3_600_000;

/// Bars that open where the last one closed.
fn bars(closes: &[f64]) -> Vec<Bar> {
    let opens = std::iter::once(&closes[0]).chain(closes);
    let rows = opens.zip(closes).enumerate();
    rows.map(|(i, (open, close))| Bar {
        time: UnixMs(1_700_000_000_000 / HOUR * HOUR + i as i64 * HOUR),
        open: *open,
        high: open.max(*close),
        low: open.min(*close),
        close: *close,
        volume: Some(1.0),
    })
    .collect()
}

/// The signals, and the position and summary at each bar.
fn steps(program: &Program, bars: &[Bar]) -> (String, Vec<(Option<Holding>, String)>) {
    let (mut verdicts, mut shown) = (Vec::new(), Vec::new());
    run(
        program,
        &mut program.begin(),
        bars,
        &[],
        |state, bar, verdict| {
            let explanation = program.explain(state, bar);
            verdicts.push(verdict);
            shown.push((explanation.position, explanation.summary));
        },
    );
    (letters(&verdicts), shown)
}

fn above(level: f64) -> Value {
    json!({ "left": "close", "op": ">", "right": level })
}

fn below(level: f64) -> Value {
    json!({ "left": "close", "op": "<", "right": level })
}

fn ended(shown: &[(Option<Holding>, String)]) -> Vec<Option<Exit>> {
    let ended = shown.iter().map(|(holding, _)| holding.as_ref()?.ended);
    ended.collect()
}

#[test]
fn a_position_is_held_from_entry_to_exit() {
    let (_, program) = custom(json!({ "long": { "enter": above(110.0), "exit": below(100.0) } }));
    let (letters, shown) = steps(
        &program,
        &bars(&[100.0, 111.0, 105.0, 101.0, 120.0, 99.0, 98.0, 111.0]),
    );
    assert_eq!(letters, "HBBBBHHB");
    let at = |i: usize| shown[i].0.clone().unwrap();
    assert_eq!((at(1).entry, at(1).bars), (None, 0));
    // It is entered at the open of the bar after the signal.
    assert_eq!((at(2).entry, at(2).bars), (Some(111.0), 1));
    assert_eq!(at(4).gain_pct.unwrap(), (120.0 - 111.0) / 111.0 * 100.0);
    assert_eq!(at(5).ended, Some(Exit::Signal));
    assert_eq!(shown[6].0, None);
    assert_eq!(
        shown[1].1,
        "BUY at 111: a long position will be entered at the next open: close 111 is above 110, by 1."
    );
    assert_eq!(
        shown[3].1,
        "BUY at 101: the long position entered at 111 has been held for 2 bars, gain -9.01 %."
    );
    assert_eq!(
        shown[5].1,
        "HOLD at 99: the long position entered at 111 ended by its exit rule after 4 bars, gain -10.81 %: close 99 is \
         below 100, by 1."
    );
    assert_eq!(
        shown[6].1,
        "HOLD at 98: not long, because close 98 is below 110, by 12."
    );
}

#[test]
fn every_stop_ends_a_position_and_says_so() {
    // Entered at 100 by the close of the first bar; each path ends by the stop that it names.
    let paths: [(&str, f64, &[f64], Exit, usize); 4] = [
        (
            "stop_loss_pct",
            5.0,
            &[100.0, 100.0, 96.0, 95.1, 95.0, 90.0],
            Exit::StopLoss,
            4,
        ),
        (
            "take_profit_pct",
            10.0,
            &[100.0, 100.0, 109.9, 110.0, 90.0],
            Exit::TakeProfit,
            3,
        ),
        (
            "trailing_stop_pct",
            10.0,
            &[100.0, 100.0, 200.0, 181.0, 180.0],
            Exit::TrailingStop,
            4,
        ),
        (
            "time_stop_bars",
            3.0,
            &[100.0, 100.0, 101.0, 102.0, 103.0],
            Exit::TimeStop,
            3,
        ),
    ];
    for (stop, level, closes, why, at) in paths {
        let enter = json!({ "left": "close", "op": "crosses_above", "right": 99 });
        let mut side =
            json!({ "enter": { "any": [enter, { "left": "close", "op": "<", "right": 0 }] } });
        side[stop] = json!(level);
        let (_, program) = custom(json!({ "long": side }));
        // A bar below, so that the first of the path crosses.
        let mut closes = closes.to_vec();
        closes.insert(0, 98.0);
        let (letters, shown) = steps(&program, &bars(&closes));
        let ended = ended(&shown);
        assert_eq!(ended[at + 1], Some(why), "{stop}: {letters} {shown:?}");
        assert!(
            ended[..=at].iter().all(Option::is_none),
            "{stop}: {ended:?}"
        );
        assert_eq!(&letters[1..=at], "B".repeat(at), "{stop}");
        assert!(
            letters[at + 1..].chars().all(|c| c == 'H'),
            "{stop}: {letters}"
        );
    }
    // The same for a short position, upside down.
    let short = json!({ "short": { "enter": { "left": "close", "op": "crosses_below", "right": 101 },
                                   "stop_loss_pct": 5, "trailing_stop_pct": "$t" }, "params": { "t": 20 } });
    let (_, program) = custom(short);
    let (letters, shown) = steps(&program, &bars(&[102.0, 100.0, 100.0, 104.9, 105.0, 106.0]));
    assert_eq!(letters, "wSSSHH");
    assert_eq!(ended(&shown)[4], Some(Exit::StopLoss));
    let (letters, shown) = steps(&program, &bars(&[102.0, 100.0, 50.0, 59.0, 60.0, 60.0]));
    assert_eq!(letters, "wSSSHH");
    assert_eq!(ended(&shown)[4], Some(Exit::TrailingStop));
    assert!(
        shown[4].1.contains("by its trailing stop"),
        "{}",
        shown[4].1
    );
}

#[test]
fn the_other_sides_entry_reverses_and_an_unknown_signal_ends_a_position() {
    let both = json!({ "long": { "enter": above(110.0) }, "short": { "enter": below(90.0) } });
    let (_, program) = custom(both);
    let path = bars(&[100.0, 111.0, 100.0, 89.0, 100.0]);
    let (letters, shown) = steps(&program, &path);
    assert_eq!(letters, "HBBSS");
    assert!(
        shown[3].1.contains("by a reversal after 2 bars")
            && shown[3]
                .1
                .contains("a short position will be entered at the next open"),
        "{}",
        shown[3].1
    );
    // Hours 3 to 5 are missing, and no window is short enough to ignore that.
    let gap = json!({ "long": { "enter": { "left": "close", "op": ">", "right": { "indicator": "sma", "n": 3 } },
                                "exit": below(0.0) } });
    let (_, program) = custom(gap);
    let mut path = bars(&[
        100.0, 100.0, 101.0, 100.0, 100.0, 100.0, 100.0, 90.0, 80.0, 95.0,
    ]);
    path.drain(4..6);
    let (letters, shown) = steps(&program, &path);
    assert_eq!(letters, "wwBBggHB");
    assert_eq!(ended(&shown)[4], Some(Exit::Unknown));
}

#[test]
fn a_confirmed_condition_holds_for_some_bars_in_a_row() {
    let enter = json!({ "confirm": above(100.0), "bars": "$n" });
    let (strategy, program) =
        custom(json!({ "buy": enter, "sell": { "any": [] }, "params": { "n": 3 } }));
    let path = bars(&[101.0, 101.0, 99.0, 101.0, 101.0, 101.0, 101.0, 99.0]);
    assert_eq!(steps(&program, &path).0, "HHHHHBBH");
    assert_eq!(Strategy::parse(&strategy.to_json()), Ok(strategy));
}

#[test]
fn operands_are_combined_and_indicators_computed_from_others() {
    let smooth = json!({ "indicator": "sma", "n": 4, "of": { "indicator": "rsi", "n": 6 } });
    let bands = json!({ "op": "/", "left": { "op": "-", "left": "close", "right": { "indicator": "ema", "n": 5 } },
                        "right": { "op": "max", "left": { "indicator": "atr", "n": 7 }, "right": 0.5 } });
    let (strategy, program) = custom(json!({
        "buy": { "left": smooth, "op": ">", "right": 50 },
        "sell": { "left": bands, "op": "<", "right": { "indicator": "roc", "n": 2, "of": "volume" } },
    }));
    assert_eq!(Strategy::parse(&strategy.to_json()), Ok(strategy));
    let path = walk(3, 200);
    let steppers = [
        (Kind::Rsi, 6.0),
        (Kind::Sma, 4.0),
        (Kind::Ema, 5.0),
        (Kind::Atr, 7.0),
        (Kind::Roc, 2.0),
    ];
    let [mut rsi, mut sma, mut ema, mut atr, mut roc] =
        steppers.map(|(kind, n)| Stepper::new(kind, [n, 0.0, 0.0]));
    let mut compared = 0;
    run(
        &program,
        &mut program.begin(),
        &path,
        &[],
        |state, bar, verdict| {
            let momentum = rsi.step(bar, bar.close)[0];
            let smooth = if momentum.is_nan() {
                f64::NAN
            } else {
                sma.step(bar, momentum)[0]
            };
            let (ema, atr) = (ema.step(bar, bar.close)[0], atr.step(bar, bar.close)[0]);
            let roc = roc.step(bar, bar.volume.unwrap())[0];
            let explanation = program.explain(state, bar);
            let [buy, sell] = &explanation.conditions[..] else {
                panic!("two conditions");
            };
            assert_eq!(buy.left, "sma(rsi(6), 4)");
            assert_eq!(sell.left, "(close - ema(5)) / max(atr(7), 0.5)");
            assert_eq!(sell.right, "roc(volume, 2)");
            if verdict != Verdict::Warming {
                assert_eq!(buy.value, Some(smooth));
                assert_eq!(sell.value, Some((bar.close - ema) / atr.max(0.5)));
                assert_eq!(sell.threshold, Some(roc));
                compared += 1;
            }
        },
    );
    // The first RSI comes with the seventh bar, and its fourth with the tenth.
    assert_eq!((program.needs(), compared), (10, 191));
    // A result that is no number is unknown.
    let ratio =
        json!({ "op": "/", "left": 1, "right": { "op": "-", "left": "close", "right": 100 } });
    let (_, program) =
        custom(json!({ "buy": { "left": ratio, "op": ">", "right": 0 }, "sell": { "any": [] } }));
    assert_eq!(steps(&program, &bars(&[101.0, 100.0, 99.0])).0, "BgH");
}

#[test]
fn what_has_no_meaning_is_refused_with_its_place() {
    let cases = [
        (json!({ "long": {} }), "long.enter", "required"),
        (
            json!({ "long": { "enter": above(1.0) } }),
            "long",
            "must have an end",
        ),
        (
            json!({ "long": { "enter": above(1.0), "exit": below(1.0) }, "buy": above(1.0) }),
            "buy",
            "combined",
        ),
        (
            json!({ "long": { "enter": above(1.0), "stop_loss_pct": 0 } }),
            "long.stop_loss_pct",
            "between 0.001 and 100",
        ),
        (
            json!({ "long": { "enter": above(1.0), "time_stop_bars": 1.5 } }),
            "long.time_stop_bars",
            "whole number",
        ),
        (
            json!({ "long": { "enter": above(1.0), "time_stop_bars": "$n" }, "params": { "n": 0 } }),
            "params.n",
            "whole",
        ),
        (
            json!({ "long": { "enter": above(1.0), "time_stop_bars": "$n" } }),
            "$n",
            "not a parameter",
        ),
        (
            json!({ "long": { "enter": above(1.0), "stop": 5 } }),
            "long.stop",
            "not a known field",
        ),
        (
            json!({ "long": { "enter": { "left": { "position": "bars" }, "op": ">", "right": 1 }, "time_stop_bars": 3 } }),
            "long.enter",
            "only the exit of long or short can",
        ),
        (
            json!({ "buy": { "left": { "position": "x" }, "op": ">", "right": 1 }, "sell": { "any": [] } }),
            "buy.left.position",
            "entry, best, gain_pct, fall_pct, bars",
        ),
        (
            json!({ "buy": { "confirm": above(1.0), "bars": 0 }, "sell": { "any": [] } }),
            "buy.bars",
            "between 1 and 100",
        ),
        (
            json!({ "buy": { "left": { "op": "^", "left": 1, "right": 2 }, "op": ">", "right": 1 }, "sell": { "any": [] } }),
            "buy.left.op",
            "min or max",
        ),
        (
            json!({ "buy": { "left": { "op": "+", "left": "close", "right": { "indicator": "sma", "n": 0 } }, "op": ">", "right": 1 },
                    "sell": { "any": [] } }),
            "buy.left.right.n",
            "between 1 and 1000",
        ),
        (
            json!({ "buy": { "left": { "indicator": "sma", "n": 3, "of": { "field": "close", "ago": 1 } }, "op": ">", "right": 1 },
                    "sell": { "any": [] } }),
            "buy.left.of",
            "without ago",
        ),
        (
            json!({ "buy": { "left": { "indicator": "sma", "n": 3, "of": { "indicator": "rsi", "timeframe": "1d" } }, "op": ">", "right": 1 },
                    "sell": { "any": [] } }),
            "buy.left.of.timeframe",
            "must be absent",
        ),
    ];
    for (strategy, place, words) in cases {
        let problems = Strategy::parse(&strategy).unwrap_err();
        let first = &problems.0[0];
        assert_eq!(first.field, place, "{strategy}: {problems}");
        assert!(first.problem.contains(words), "{first}");
    }
    // Nesting is bounded.
    let deep = (0..9).fold(
        json!("close"),
        |inner, _| json!({ "op": "+", "left": inner, "right": 1 }),
    );
    let deep = json!({ "buy": { "left": deep, "op": ">", "right": 1 }, "sell": { "any": [] } });
    let problems = Strategy::parse(&deep).unwrap_err();
    assert!(problems.0[0].problem.contains("nested"), "{problems}");
}

#[test]
fn a_backtest_says_why_positions_ended() {
    let (strategy, program) = custom(json!({
        "long": { "enter": { "left": "close", "op": "crosses_above", "right": 100 }, "stop_loss_pct": 10, "take_profit_pct": 20 },
    }));
    let path = bars(&[
        99.0, 101.0, 101.0, 90.0, 90.0, 101.0, 101.0, 130.0, 130.0, 99.0, 105.0, 105.0,
    ]);
    let report = backtest(
        &strategy,
        program.compiled(),
        &path,
        &[],
        &Backtest::default(),
    )
    .unwrap();
    let ends = report.trades.iter().map(|trade| (trade.exit, trade.open));
    let ends: Vec<(Option<Exit>, bool)> = ends.collect();
    assert_eq!(
        ends,
        [
            (Some(Exit::StopLoss), false),
            (Some(Exit::TakeProfit), false),
            (None, true)
        ]
    );
}

#[test]
fn figures_of_a_position_count_from_its_first_bar() {
    // A crossing has nothing to cross from at the first bar, which is no reason to leave.
    let crossing = json!({ "long": {
        "enter": { "left": "close", "op": "crosses_above", "right": 100 },
        "exit": { "left": { "position": "gain_pct" }, "op": "crosses_above", "right": 5 },
    } });
    let (_, program) = custom(crossing);
    let path = bars(&[99.0, 101.0, 102.0, 103.0, 107.0, 108.0]);
    let (letters, shown) = steps(&program, &path);
    assert_eq!(letters, "wBBBHH");
    assert_eq!(ended(&shown)[4], Some(Exit::Signal));
    // What must be confirmed about a position counts neither the time without one, nor the one before.
    let lasting = json!({ "confirm": { "not": { "left": { "position": "gain_pct" }, "op": ">", "right": 0 } }, "bars": 3 });
    let (_, program) = custom(json!({
        "long": { "enter": above(100.0), "exit": lasting },
        "short": { "enter": below(90.0), "exit": lasting },
    }));
    let (letters, shown) = steps(
        &program,
        &bars(&[
            95.0, 95.0, 95.0, 95.0, 101.0, 102.0, 103.0, 89.0, 89.0, 89.0, 89.0, 95.0,
        ]),
    );
    assert_eq!(letters, "HHHHBBBSSSHH");
    let ended = ended(&shown);
    assert_eq!(
        (ended[7], ended[10]),
        (None, Some(Exit::Signal)),
        "{shown:?}"
    );
    assert!(shown[7].1.contains("by a reversal"), "{}", shown[7].1);
}

#[test]
fn each_side_shows_its_own_stops() {
    let side = |enter: Value| json!({ "enter": enter, "stop_loss_pct": 5 });
    let (_, program) = custom(json!({ "long": side(above(110.0)), "short": side(below(90.0)) }));
    let mut state = program.begin();
    let mut shown = Vec::new();
    run(
        &program,
        &mut state,
        &bars(&[100.0, 89.0, 89.0, 94.0]),
        &[],
        |state, bar, _| {
            shown.push(program.explain(state, bar));
        },
    );
    let sides: Vec<Side> = shown[2].conditions.iter().map(|c| c.side).collect();
    assert_eq!(sides, [Side::Buy, Side::Sell, Side::ExitShort]);
    assert_eq!(
        shown[2]
            .position
            .as_ref()
            .unwrap()
            .gain_pct
            .map(f64::to_bits),
        Some(0)
    );
    assert!(
        shown[3].summary.contains("by its stop-loss")
            && shown[3]
                .summary
                .contains("gain since entry (%) -5.61798 is below -5"),
        "{}",
        shown[3].summary
    );
}

#[test]
fn conditions_that_can_never_hold_and_unused_parameters_are_refused() {
    let channel = |output: &str, ago: u32| json!({ "indicator": "donchian", "n": 20, "output": output, "ago": ago });
    let of = |left: Value, op: &str, right: Value| json!({ "buy": { "left": left, "op": op, "right": right }, "sell": { "any": [] } });
    for (strategy, is_fine) in [
        (of(json!("close"), ">", channel("upper", 0)), false),
        (
            of(json!("close"), "crosses_above", channel("upper", 0)),
            false,
        ),
        (of(channel("lower", 0), ">", json!("low")), false),
        (of(json!("close"), ">", channel("upper", 1)), true),
        (of(json!("high"), ">=", channel("upper", 0)), true),
        (of(json!("close"), "<", channel("upper", 0)), true),
        (
            of(
                json!({ "field": "close", "ago": 1 }),
                ">",
                channel("upper", 0),
            ),
            true,
        ),
    ] {
        let parsed = Strategy::parse(&strategy);
        assert_eq!(parsed.is_ok(), is_fine, "{strategy}: {parsed:?}");
    }
    let mut unused = of(json!("close"), ">", json!("-$a"));
    unused["params"] = json!({ "a": 1, "b": 2 });
    let problems = Strategy::parse(&unused).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "params.b is not used by any condition"
    );
}

#[test]
fn a_reversal_by_an_exit_says_why_the_old_position_ended() {
    let (_, program) = custom(json!({
        "long": { "enter": above(110.0), "stop_loss_pct": 5 },
        "short": { "enter": below(90.0), "stop_loss_pct": 5 },
    }));
    let (letters, shown) = steps(&program, &bars(&[100.0, 111.0, 111.0, 89.0]));
    assert_eq!(letters, "HBBS");
    assert!(
        shown[3].1.contains("by its stop-loss after 2 bars, gain -19.82 %: gain since entry (%) -19.8198 is below -5")
            && shown[3].1.contains("a short position will be entered"),
        "{}",
        shown[3].1
    );
}

#[test]
fn a_part_of_the_equity_may_lose_more_than_itself() {
    let (strategy, program) = custom(json!({ "buy": { "any": [] }, "sell": above(0.0) }));
    let path = bars(&[100.0, 100.0, 100.0, 250.0, 250.0]);
    let report = |fraction| {
        let spec = Backtest {
            sizing: Sizing::Fraction(fraction),
            fee_bps: 0.0,
            slippage_bps: 0.0,
            ..Backtest::default()
        };
        backtest(&strategy, program.compiled(), &path, &[], &spec).unwrap()
    };
    let half = report(0.5);
    assert_eq!(
        (half.trades[0].net_return, half.performance.total_return),
        (-1.5, -0.75)
    );
    let all = report(1.0);
    assert_eq!(
        (all.trades[0].net_return, all.performance.total_return),
        (-1.0, -1.0)
    );
    assert_eq!(all.trades[0].exit, Some(Exit::Ruin));
}

#[test]
fn a_walk_forward_never_prefers_what_has_lost_everything() {
    let short = json!({ "params": { "x": 0 }, "buy": { "any": [] }, "sell": { "left": "close", "op": ">", "right": "$x" } });
    let (strategy, program) = custom(short);
    let mut closes = vec![100.0, 100.0, 100.0, 300.0];
    closes.extend((0..60).map(|i| 300.0 + f64::from(i % 7)));
    let spec = Backtest {
        walk_forward: Some(WalkForward {
            train_bars: 20,
            test_bars: 10,
            // Always short, which ruins, or never.
            grid: [("x".to_owned(), vec![0.0, 1e6])].into(),
        }),
        ..Backtest::default()
    };
    let report = backtest(&strategy, program.compiled(), &bars(&closes), &[], &spec).unwrap();
    let walked = report.walk_forward.unwrap();
    assert!(
        walked
            .stretches
            .iter()
            .all(|stretch| stretch.params["x"] == 1e6)
    );
}
