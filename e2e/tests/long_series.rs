//! Strategies on long series: a first signal costs the same however long the series is.

use axum::http::Method;
use e2e::Stage;
use serde_json::{Value, json};
use thrum_schema::signal::engine::{Program, run};
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::track::{Holds, TrackState, month};
use thrum_schema::signal::{Bar, SeriesName, Timeframe, Verdict};
use thrum_schema::{ProjectId, UnixMs, World};

const MINUTE: i64 = 60_000;

fn minutes() -> Timeframe {
    Timeframe::parse("timeframe", "1m").unwrap()
}

fn series() -> SeriesName {
    SeriesName::parse("series", "x").unwrap()
}

/// A stage with `n` bars of a minute, the last of which has just closed.
async fn stage_with(n: i64) -> (Stage, Vec<Bar>) {
    let stage = Stage::new().await;
    let end = minutes().open_of(stage.world.now());
    // A walk that turns now and then.
    let mut close = 100.0;
    let mut bars = Vec::new();
    for i in 0..n {
        close *= 1.0 + 0.001 * ((i * i % 41 - 20) as f64 + (i as f64 / 300.0).sin() * 4.0) / 20.0;
        bars.push(Bar::value(end - (n - i) * MINUTE, close));
    }
    store(&stage, &bars).await;
    (stage, bars)
}

/// Stores bars as if they had been posted.
async fn store(stage: &Stage, bars: &[Bar]) {
    let (now, project) = (stage.world.now(), ProjectId::FIRST);
    let months = bars.iter().map(|bar| month(bar.time)).collect();
    stage
        .store
        .extend_series(project, &series(), minutes(), &months, Some(Holds::Bars))
        .await
        .unwrap();
    for chunk in bars.chunks(5_000) {
        stage
            .store
            .put_bars(project, &series(), minutes(), chunk, now)
            .await
            .unwrap();
    }
}

async fn signal(stage: &Stage, more: Value) -> Value {
    let mut body = json!({ "series": "x", "timeframe": "1m", "strategy": "trend-rsi" });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let asked = stage.call(Method::POST, "/v1/signals", body).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    stage.carry().await;
    let href = asked.json()["href"].as_str().unwrap().to_owned();
    let reply = stage.call(Method::GET, &href, Value::Null).await;
    assert_eq!(reply.json()["status"], "done", "{}", reply.text());
    reply.json()
}

async fn track(stage: &Stage) -> TrackState {
    stage
        .store
        .tracks(ProjectId::FIRST, &series(), minutes())
        .await
        .unwrap()
        .remove(0)
        .1
}

/// The signal of the last bar if the strategy starts at `from`.
fn replayed(bars: &[Bar], from: usize) -> (Verdict, String) {
    let compiled = builtin("trend-rsi")
        .unwrap()
        .compile(None, &Default::default(), minutes())
        .unwrap();
    let program = Program::new(compiled);
    let mut state = program.begin();
    let mut verdict = None;
    run(&program, &mut state, &bars[from..], &[], |_, _, current| {
        verdict = Some(current);
    });
    let explanation = program.explain(&state, bars.last().unwrap());
    (
        verdict.unwrap(),
        serde_json::to_string(&explanation).unwrap(),
    )
}

#[tokio::test]
async fn a_first_signal_reads_the_end_of_a_long_series_only() {
    let mut costs = Vec::new();
    for n in [8_000, 40_000] {
        let (stage, bars) = stage_with(n).await;
        stage.meter.take();
        let first = signal(&stage, json!({})).await;
        costs.push(stage.meter.take());
        // It is the same signal as if the strategy had started with the series.
        let whole = replayed(&bars, 0);
        assert_eq!(first["signal"], json!(whole.0), "{first}");
        let state = track(&stage).await;
        let start = bars.partition_point(|bar| bar.time < state.start);
        assert!(start > 0 && start < bars.len() - 2_000, "{start}");
        // And byte for byte what a replay from the start of the track gives.
        let last = stage
            .call(
                Method::GET,
                "/v1/series/x/signals?timeframe=1m&strategy=trend-rsi&limit=1",
                Value::Null,
            )
            .await
            .json();
        let replayed: Value = serde_json::from_str(&replayed(&bars, start).1).unwrap();
        assert_eq!(
            last["signals"][0]["explanation"]["summary"],
            replayed["summary"]
        );
        // An equal request costs next to nothing.
        stage.meter.take();
        assert_eq!(signal(&stage, json!({})).await["signal"], first["signal"]);
        let again = stage.meter.take();
        assert!(again.read_units < 20.0, "{again:?}");
    }
    let [short, long] = &costs[..] else {
        unreachable!()
    };
    // Each month is one more query.
    assert!(
        long.read_units < short.read_units * 1.1 + 20.0,
        "{short:?} {long:?}"
    );
    assert!(
        long.write_units <= short.write_units + 2.0,
        "{short:?} {long:?}"
    );
}

#[tokio::test]
async fn corrections_before_the_start_of_a_track_change_nothing_and_later_ones_do() {
    let (stage, mut bars) = stage_with(8_000).await;
    signal(&stage, json!({})).await;
    let before = track(&stage).await;
    let start = bars.partition_point(|bar| bar.time < before.start);
    for (at, changes) in [(start - 10, false), (start + 10, true), (7_990, true)] {
        bars[at].close *= 1.01;
        bars[at] = Bar::value(bars[at].time, bars[at].close);
        let reply = stage
            .call(
                Method::POST,
                "/v1/series/x/bars",
                json!({ "timeframe": "1m", "bars": [{
                    "time": bars[at].time.rfc3339(), "open": bars[at].open, "high": bars[at].high,
                    "low": bars[at].low, "close": bars[at].close,
                }] }),
            )
            .await;
        assert_eq!(reply.json()["revised"], 1, "{}", reply.text());
        let version = track(&stage).await.version;
        stage.carry().await;
        let after = track(&stage).await;
        assert_eq!(after.version > version, changes, "{at}");
        assert_eq!((after.start, after.last), (before.start, before.last));
    }
    let now = signal(&stage, json!({})).await;
    assert_eq!(now["signal"], json!(replayed(&bars, start).0));
}

/// A track that nobody has asked for does not step through months of bars when somebody does.
#[tokio::test]
async fn a_track_that_was_left_behind_starts_over_near_the_end() {
    let (stage, old) = stage_with(2_000).await;
    signal(&stage, json!({})).await;
    assert_eq!(track(&stage).await.start, UnixMs(0));
    let days = 20 * 24 * 60;
    stage.world.advance(days * MINUTE);
    let end = minutes().open_of(stage.world.now());
    let new: Vec<Bar> = (0..days)
        .map(|i| Bar::value(end - (days - i) * MINUTE, 100.0 + (i % 97) as f64 / 10.0))
        .filter(|bar| bar.time > old[old.len() - 1].time)
        .collect();
    store(&stage, &new).await;
    stage.meter.take();
    let last = signal(&stage, json!({})).await;
    let cost = stage.meter.take();
    let state = track(&stage).await;
    assert!(state.start > old[old.len() - 1].time);
    assert_eq!(state.last, new.last().map(|bar| bar.time));
    assert!(cost.read_units < 1_000.0, "{cost:?}");
    assert_eq!(last["signal"], json!(replayed(&new, 0).0));
}

/// A signal as of an earlier time is found as quickly.
#[tokio::test]
async fn a_signal_as_of_the_past_reads_only_the_bars_before_it() {
    let (stage, bars) = stage_with(40_000).await;
    signal(&stage, json!({})).await;
    stage.meter.take();
    let at = bars[30_000].time + MINUTE;
    let past = signal(&stage, json!({ "at": at.rfc3339() })).await;
    let cost = stage.meter.take();
    assert_eq!(past["signal"], json!(replayed(&bars[..=30_000], 0).0));
    assert!(cost.read_units < 300.0, "{cost:?}");
}

/// Longer timeframes need more bars before than are read at once: the strategy starts with the series, in slices.
#[tokio::test]
async fn a_strategy_with_long_frames_starts_with_the_series() {
    let (stage, _) = stage_with(8_000).await;
    let definition = json!({
        "buy": { "left": "close", "op": ">", "right": { "indicator": "ema", "n": 20, "timeframe": "1d" } },
        "sell": { "left": "close", "op": "<", "right": { "indicator": "ema", "n": 20, "timeframe": "1d" } },
    });
    let stored = stage
        .call(Method::PUT, "/v1/strategies/daily", definition)
        .await;
    assert!(stored.status.is_success(), "{}", stored.text());
    let first = signal(&stage, json!({ "strategy": "daily" })).await;
    assert_eq!(first["signal"], "WARMING");
    let state = track(&stage).await;
    assert_eq!((state.start, state.last.is_some()), (UnixMs(0), true));
    let last = UnixMs(minutes().open_of(stage.world.now()).0 - MINUTE);
    assert_eq!(state.last, Some(last));
}
