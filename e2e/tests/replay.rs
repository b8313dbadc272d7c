//! Replay = live = backtest: however bars and sentiment arrive (late, twice, out of order,
//! corrected), the stored signals match a replay of the stored bars byte for byte, and duplicate
//! records change nothing.

use axum::http::Method;
use e2e::Stage;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use thrum_evaluate::backtests::periods::verdicts;
use thrum_schema::signal::engine::{Program, run};
use thrum_schema::signal::strategy::{BUILTIN_VERSION, builtin, builtins};
use thrum_schema::signal::track::{Signal, TrackId};
use thrum_schema::signal::{self, Bar, Score, SeriesName, Timeframe};
use thrum_schema::{ProjectId, UnixMs, World};

const HOUR: i64 = 3_600_000;
/// The first bar opens 150 hours before the stage's clock starts.
const FIRST: i64 = 1_763_697_600_000 - 150 * HOUR;
const BARS: i64 = 149;
const EVER: UnixMs = UnixMs(9_999_999_999_999);

/// A step of a test case.
#[derive(Debug, Clone)]
enum Step {
    /// Sends this many next bars, in order.
    Next(u8),
    /// Sends a past bar again, perhaps with another close.
    Again(u16, Option<f64>),
    /// Skips a bar, to send it later.
    Skip,
    /// Sends the earliest skipped bar.
    Late,
    /// Sends sentiment from this many hours ago.
    Score(u8, f64),
    /// Lets the pipeline do its pending work.
    Carry,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..12_u8).prop_map(Step::Next),
        2 => (any::<u16>(), prop::option::of(50.0..150.0)).prop_map(|(i, close)| Step::Again(i, close)),
        1 => Just(Step::Skip),
        1 => Just(Step::Late),
        2 => (0..40_u8, 0.0..1.0).prop_map(|(ago, score)| Step::Score(ago, score)),
        3 => Just(Step::Carry),
    ];
    prop::collection::vec(step, 10..50)
}

/// What is followed: a built-in strategy, or one of these.
fn definition(of: &str) -> Option<Value> {
    match of {
        "positions" => Some(positions()),
        "unknown" | "count" => Some(mixed(of)),
        _ => None,
    }
}

/// A strategy that holds positions, arithmetic, indicators of indicators and confirmation.
fn positions() -> Value {
    let smooth = json!({ "indicator": "ema", "n": 3, "of": { "indicator": "rsi", "n": 4 } });
    let band = |op: &str| {
        json!({ "op": op, "left": { "position": "best" },
                "right": { "op": "*", "left": 2, "right": { "indicator": "atr", "n": 5 } } })
    };
    json!({
        "long": {
            "enter": { "confirm": { "left": smooth, "op": ">", "right": 50 }, "bars": 2 },
            "exit": { "left": "close", "op": "<", "right": band("-") },
            "stop_loss_pct": 6, "take_profit_pct": 12,
        },
        "short": {
            "enter": { "left": smooth, "op": "<", "right": { "op": "-", "left": 60, "right": { "indicator": "std", "n": 4 } } },
            "exit": { "confirm": { "left": "close", "op": ">", "right": { "position": "entry" } }, "bars": 2 },
            "trailing_stop_pct": 9, "time_stop_bars": 7,
        },
    })
}

fn mixed(gaps: &str) -> Value {
    json!({
        "gaps": gaps,
        "buy": { "all": [
            { "left": "close", "op": ">", "right": { "indicator": "ema", "n": 4 } },
            { "left": { "indicator": "rsi", "n": 3 }, "op": ">", "right": { "indicator": "sma", "n": 2, "timeframe": "4h" } },
        ] },
        "sell": { "any": [
            { "left": { "sentiment": { "max_age_s": 36_000 } }, "op": "<", "right": 0.3 },
            { "left": { "indicator": "std", "n": 5 }, "op": "crosses_above", "right": 12 },
        ] },
    })
}

fn close(i: i64) -> f64 {
    let x = i as f64;
    100.0 + 20.0 * (x * 0.7).sin() + 7.0 * (x * 2.3).cos()
}

async fn send_bars(stage: &Stage, bars: &[(i64, f64)]) {
    let bars: Vec<Value> = bars
        .iter()
        .map(|(i, close)| {
            json!({
                "time": UnixMs(FIRST + i * HOUR).rfc3339(),
                "open": close, "high": close + 1.0, "low": close - 1.0, "close": close, "volume": null,
            })
        })
        .collect();
    if bars.is_empty() {
        return;
    }
    let body = json!({ "timeframe": "1h", "bars": bars });
    let reply = stage.call(Method::POST, "/v1/series/x/bars", body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["rejected"], json!([]), "{}", reply.text());
}

/// The latest signal of each bar.
async fn stored(stage: &Stage, track: &TrackId) -> BTreeMap<UnixMs, Signal> {
    let found = stage
        .store
        .signals(track, UnixMs(0), EVER, None, false)
        .await
        .unwrap();
    found
        .into_iter()
        .map(|signal| (signal.bar, signal))
        .collect()
}

async fn check(steps: &[Step], of: &str) {
    let stage = Stage::new().await;
    let (series, project) = (SeriesName::parse("s", "x").unwrap(), ProjectId::FIRST);
    let (strategy, name, version) = match definition(of) {
        Some(definition) => {
            let strategy = signal::Strategy::parse(&definition).unwrap();
            let created = stage
                .call(Method::PUT, "/v1/strategies/mine", definition)
                .await;
            assert_eq!(created.status, 201, "{}", created.text());
            (strategy, "mine", 1)
        }
        None => (builtin(of).unwrap().clone(), of, BUILTIN_VERSION),
    };
    let compiled = strategy
        .compile(None, &BTreeMap::new(), Timeframe::HOUR)
        .unwrap();
    let track = TrackId::new(project, &series, name, version, &compiled);
    let program = Program::new(compiled);
    // The first bar exists before the watch, so that the stored signals start with it.
    send_bars(&stage, &[(0, close(0))]).await;
    let body = json!({ "series": "x", "timeframe": "1h", "strategy": name });
    assert_eq!(
        stage.call(Method::POST, "/v1/watches", body).await.status,
        201
    );
    let mut next = 1_i64;
    let mut skipped = Vec::new();
    for step in steps {
        stage.world.advance(1_000);
        match step {
            Step::Next(n) => {
                let end = (next + i64::from(*n)).min(BARS);
                let bars: Vec<(i64, f64)> = (next..end).map(|i| (i, close(i))).collect();
                send_bars(&stage, &bars).await;
                next = end;
            }
            Step::Again(i, other) => {
                let i = i64::from(*i) % next;
                if !skipped.contains(&i) {
                    send_bars(&stage, &[(i, other.unwrap_or(close(i)))]).await;
                }
            }
            Step::Skip if next < BARS => {
                skipped.push(next);
                next += 1;
            }
            Step::Late if !skipped.is_empty() => {
                let i = skipped.remove(0);
                send_bars(&stage, &[(i, close(i))]).await;
            }
            Step::Skip | Step::Late => {}
            Step::Score(ago, score) => {
                let time = UnixMs(FIRST + next * HOUR - i64::from(*ago) * HOUR + 7).rfc3339();
                let body = json!({ "scores": [{ "time": time, "score": score }] });
                let reply = stage
                    .call(Method::POST, "/v1/series/x/sentiment", body)
                    .await;
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
            Step::Carry => stage.carry().await,
        }
    }
    stage.carry().await;

    // Replay the stored bars.
    let head = stage
        .store
        .head(project, &series, Timeframe::HOUR)
        .await
        .unwrap()
        .unwrap();
    let bars = stage
        .store
        .bars(project, &head, UnixMs(0), EVER, 1_000)
        .await
        .unwrap();
    let bars: Vec<Bar> = bars.iter().map(|bar| bar.bar()).collect();
    // A strategy without sentiment reads none.
    let scores: Vec<Score> = if program.compiled().uses_sentiment() {
        let scores = stage.store.scores(project, &series, None, EVER);
        scores.await.unwrap()
    } else {
        Vec::new()
    };
    let mut replay = Vec::new();
    let mut state = program.begin();
    run(
        &program,
        &mut state,
        &bars,
        &scores,
        |state, bar, verdict| {
            replay.push((
                bar.time,
                verdict,
                serde_json::to_string(&program.explain(state, bar)).unwrap(),
            ));
        },
    );
    let live: Vec<_> = stored(&stage, &track)
        .await
        .into_values()
        .map(|signal| {
            (
                signal.bar,
                signal.verdict,
                serde_json::to_string(&signal.explanation).unwrap(),
            )
        })
        .collect();
    for (live, replay) in live.iter().zip(&replay) {
        assert_eq!(live, replay, "{of}");
    }
    assert_eq!(live.len(), replay.len(), "{of}");
    let expected: Vec<_> = replay.iter().map(|(_, verdict, _)| *verdict).collect();
    assert_eq!(verdicts(&program, &bars, &scores), expected);
    let kept = stage.store.track(&track).await.unwrap().unwrap();
    assert!(
        kept.state == state.encode(),
        "{of}: the states must be equal byte for byte"
    );

    // Redelivering every record adds no signals and sends no alerts.
    let everything = stage
        .store
        .signals(&track, UnixMs(0), EVER, None, false)
        .await
        .unwrap();
    let alerts = stage.alerts().await.len();
    stage.redeliver().await;
    assert_eq!(
        stage
            .store
            .signals(&track, UnixMs(0), EVER, None, false)
            .await
            .unwrap(),
        everything
    );
    assert_eq!(stage.alerts().await.len(), alerts);
    assert_eq!(
        stage.store.track(&track).await.unwrap().unwrap().state,
        kept.state
    );
    assert!(stage.world.now() > UnixMs(0));
}

/// Plays random arrivals of bars, for what `of` names.
fn play(of: impl Strategy<Value = String>, cases: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let is_long = std::env::var_os("THRUM_LONG_TESTS").is_some();
    let config = Config {
        cases: if is_long { 50 * cases } else { cases },
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&(steps(), of), |(steps, of)| {
            runtime.block_on(check(&steps, &of));
            Ok(())
        })
        .unwrap();
}

#[test]
fn stored_signals_match_a_replay() {
    play(
        prop_oneof![Just("unknown".to_owned()), Just("count".to_owned())],
        8,
    );
}

#[test]
fn positions_match_a_replay() {
    play(Just("positions".to_owned()), 5);
}

#[test]
fn signals_of_every_built_in_strategy_and_detector_match_a_replay() {
    for (name, _) in builtins() {
        play(Just(name.to_owned()), 1);
    }
}
