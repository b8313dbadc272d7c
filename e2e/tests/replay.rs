//! Replay = live = backtest: whatever way bars and sentiment came (late, twice, out of order, corrected), what is stored is
//! byte for byte what a replay of the stored bars says; and records that come twice change nothing.

use axum::http::Method;
use e2e::Stage;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use thrum_evaluate::engine::backtest::verdicts;
use thrum_evaluate::engine::{Program, run};
use thrum_schema::signal::track::{Signal, TrackId};
use thrum_schema::signal::{self, Bar, Score, SeriesName, Timeframe};
use thrum_schema::{ProjectId, UnixMs, World};

const HOUR: i64 = 3_600_000;
/// Opens 150 hours before the stage's clock begins.
const FIRST: i64 = 1_763_697_600_000 - 150 * HOUR;
const BARS: i64 = 149;
const EVER: UnixMs = UnixMs(9_999_999_999_999);

/// What a client does.
#[derive(Debug, Clone)]
enum Act {
    /// Sends the next so many bars, in their order.
    Next(u8),
    /// Sends a bar of the past again, perhaps with other figures.
    Again(u16, Option<f64>),
    /// Leaves a bar out, to send it later.
    Skip,
    /// Sends the earliest of those.
    Late,
    /// Sends sentiment of so many hours ago.
    Score(u8, f64),
    /// The pipeline does what there is to do.
    Carry,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (1..12_u8).prop_map(Act::Next),
        2 => (any::<u16>(), prop::option::of(50.0..150.0)).prop_map(|(i, close)| Act::Again(i, close)),
        1 => Just(Act::Skip),
        1 => Just(Act::Late),
        2 => (0..40_u8, 0.0..1.0).prop_map(|(ago, score)| Act::Score(ago, score)),
        3 => Just(Act::Carry),
    ];
    prop::collection::vec(act, 10..50)
}

fn definition(gaps: &str) -> Value {
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

async fn check(acts: &[Act], gaps: &str) {
    let stage = Stage::new().await;
    let (series, project) = (SeriesName::parse("s", "x").unwrap(), ProjectId::FIRST);
    let strategy = signal::Strategy::parse(&definition(gaps)).unwrap();
    let compiled = strategy
        .compile(None, &BTreeMap::new(), Timeframe::HOUR)
        .unwrap();
    let track = TrackId::new(project, &series, "mixed", 1, &compiled);
    let program = Program::new(compiled);
    let made = stage
        .call(Method::PUT, "/v1/strategies/mixed", definition(gaps))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    // The first bar is there before anybody watches: what is stored begins with it.
    send_bars(&stage, &[(0, close(0))]).await;
    let body = json!({ "series": "x", "timeframe": "1h", "strategy": "mixed" });
    assert_eq!(
        stage.call(Method::POST, "/v1/watches", body).await.status,
        201
    );
    let mut next = 1_i64;
    let mut skipped = Vec::new();
    for act in acts {
        stage.world.advance(1_000);
        match act {
            Act::Next(n) => {
                let end = (next + i64::from(*n)).min(BARS);
                let bars: Vec<(i64, f64)> = (next..end).map(|i| (i, close(i))).collect();
                send_bars(&stage, &bars).await;
                next = end;
            }
            Act::Again(i, other) => {
                let i = i64::from(*i) % next;
                if !skipped.contains(&i) {
                    send_bars(&stage, &[(i, other.unwrap_or(close(i)))]).await;
                }
            }
            Act::Skip if next < BARS => {
                skipped.push(next);
                next += 1;
            }
            Act::Late if !skipped.is_empty() => {
                let i = skipped.remove(0);
                send_bars(&stage, &[(i, close(i))]).await;
            }
            Act::Skip | Act::Late => {}
            Act::Score(ago, score) => {
                let time = UnixMs(FIRST + next * HOUR - i64::from(*ago) * HOUR + 7).rfc3339();
                let body = json!({ "scores": [{ "time": time, "score": score }] });
                let reply = stage
                    .call(Method::POST, "/v1/series/x/sentiment", body)
                    .await;
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
            Act::Carry => stage.carry().await,
        }
    }
    stage.carry().await;

    // A replay of what is stored.
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
    let scores: Vec<Score> = stage
        .store
        .scores(project, &series, None, EVER)
        .await
        .unwrap();
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
    assert_eq!(live, replay);
    let told: Vec<_> = replay.iter().map(|(_, verdict, _)| *verdict).collect();
    assert_eq!(verdicts(&program, &bars, &scores), told);
    let kept = stage.store.track(&track).await.unwrap().unwrap();
    assert_eq!(
        kept.state,
        state.encode(),
        "the states are the same, byte for byte"
    );

    // Every record once more: nothing is added, and nobody is told anything.
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

#[test]
fn what_is_stored_is_what_a_replay_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: if std::env::var_os("THRUM_LONG_TESTS").is_some() {
            400
        } else {
            8
        },
        failure_persistence: None,
        ..Config::default()
    };
    let cases = (acts(), prop_oneof![Just("unknown"), Just("count")]);
    TestRunner::new(config)
        .run(&cases, |(acts, gaps)| {
            runtime.block_on(check(&acts, gaps));
            Ok(())
        })
        .unwrap();
}
