//! Signals through the whole pipeline: bars, signals, corrections, watches and notifications.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{API_KEY, Receiver, Stage};
use serde_json::{Value, json};
use thrum_schema::signal::strategy::{BUILTIN_VERSION, builtin};
use thrum_schema::signal::track::{Holds, TrackId, month};
use thrum_schema::signal::{Bar, SeriesName, Timeframe};
use thrum_schema::{ProjectId, UnixMs, World};

const HOUR: i64 = 3_600_000;
/// The first bar opens on the hour, 200 hours before the stage's clock starts.
const FIRST: i64 = 1_763_697_600_000 - 200 * HOUR;

/// A bar whose close is `close`, `i` hours after the first.
fn bar(i: i64, close: f64) -> Value {
    json!({
        "time": UnixMs(FIRST + i * HOUR).rfc3339(),
        "open": close, "high": close + 1.0, "low": close - 1.0, "close": close, "volume": 10.0,
    })
}

/// Consecutive bars with these closes, starting at hour `from`.
fn bars(from: i64, closes: &[f64]) -> Vec<Value> {
    (from..)
        .zip(closes)
        .map(|(i, close)| bar(i, *close))
        .collect()
}

async fn post_bars(stage: &Stage, series: &str, bars: Vec<Value>) -> Value {
    let body = json!({ "timeframe": "1h", "bars": bars });
    let reply = stage
        .call(Method::POST, &format!("/v1/series/{series}/bars"), body)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Stores a strategy that buys above 100 and sells below.
async fn simple(stage: &Stage) {
    let body = json!({
        "buy": { "left": "close", "op": ">", "right": 100 },
        "sell": { "left": "close", "op": "<", "right": 100 },
    });
    let reply = stage.call(Method::PUT, "/v1/strategies/simple", body).await;
    assert!(reply.status.is_success(), "{}", reply.text());
}

async fn watch(stage: &Stage, more: Value) -> Value {
    let mut body = json!({ "series": "x", "timeframe": "1h", "strategy": "simple" });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let reply = stage.call(Method::POST, "/v1/watches", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    stage.carry().await;
    reply.json()
}

/// Requests a signal and returns its result.
async fn signal(stage: &Stage, body: Value) -> Value {
    let reply = stage.call(Method::POST, "/v1/signals", body).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let request = reply.json();
    assert_eq!(reply.headers["location"], request["href"].as_str().unwrap());
    stage.carry().await;
    let reply = stage
        .call(Method::GET, request["href"].as_str().unwrap(), Value::Null)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

async fn history(stage: &Stage, query: &str) -> Vec<Value> {
    let path = format!("/v1/series/x/signals?timeframe=1h&strategy=simple&{query}");
    let reply = stage.call(Method::GET, &path, Value::Null).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["signals"].as_array().unwrap().clone()
}

/// The signals' initials, such as "SSB".
fn initials(signals: &[Value]) -> String {
    signals
        .iter()
        .map(|signal| signal["signal"].as_str().unwrap()[..1].to_owned())
        .collect()
}

#[tokio::test]
async fn bars_produce_a_signal_with_an_explanation() {
    let stage = Stage::new().await;
    simple(&stage).await;
    let taken = post_bars(&stage, "x", bars(190, &[90.0, 95.0, 105.0])).await;
    assert_eq!(
        taken,
        json!({ "accepted": 3, "unchanged": 0, "revised": 0, "rejected": [] })
    );
    let found = signal(
        &stage,
        json!({ "series": "x", "timeframe": "1h", "strategy": "simple" }),
    )
    .await;
    assert_eq!(
        (&found["status"], &found["signal"]),
        (&json!("done"), &json!("STALE"))
    );
    assert_eq!(found["last_known"], "BUY");
    let at = UnixMs(FIRST + 193 * HOUR).rfc3339();
    let request = json!({ "series": "x", "timeframe": "1h", "strategy": "simple", "at": at });
    let found = signal(&stage, request).await;
    assert_eq!(
        (&found["signal"], &found["age_s"]),
        (&json!("BUY"), &json!(0)),
        "{found}"
    );
    let explanation = &found["explanation"];
    assert_eq!(
        explanation["conditions"][0],
        json!({
            "side": "buy", "left": "close", "op": ">", "right": "100",
            "value": 105.0, "threshold": 100.0, "margin": 5.0, "met": true,
        })
    );
    assert_eq!(
        explanation["changed"],
        json!(["close > 100", "close < 100"])
    );
    assert_eq!(
        explanation["summary"],
        "BUY at 105: close 105 is above 100, by 5."
    );
    assert_eq!(initials(&history(&stage, "").await), "SSB");
    let latest = stage
        .call(
            Method::GET,
            "/v1/series/x/signal?timeframe=1h&strategy=simple",
            Value::Null,
        )
        .await;
    assert_eq!(latest.json()["last_known"], "BUY");
    assert_eq!(latest.json()["bar"], UnixMs(FIRST + 192 * HOUR).rfc3339());
    // Signals for later bars are computed without another request.
    post_bars(&stage, "x", bars(193, &[80.0])).await;
    stage.carry().await;
    assert_eq!(initials(&history(&stage, "").await), "SSBS");
    let shown = stage
        .call(
            Method::GET,
            "/v1/series/x/bars?timeframe=1h&limit=2",
            Value::Null,
        )
        .await
        .json();
    assert_eq!(shown["bars"][1]["close"], 80.0);
    assert_eq!(shown["bars"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_cost_of_a_bar_does_not_depend_on_the_history() {
    let mut costs = Vec::new();
    for n in [100_i64, 100_000] {
        let stage = Stage::new().await;
        let (series, project) = (SeriesName::parse("s", "x").unwrap(), ProjectId::FIRST);
        let timeframe = Timeframe::HOUR;
        // Store that many past bars, as if they had been posted.
        let now = stage.world.now();
        let last = timeframe.open_of(now) - HOUR;
        let past: Vec<Bar> = (0..n)
            .map(|i| Bar::value(last - (n - i) * HOUR, 100.0 + ((n - i) % 7) as f64))
            .collect();
        let months = past.iter().map(|bar| month(bar.time)).collect();
        stage
            .store
            .extend_series(project, &series, timeframe, &months, Some(Holds::Bars))
            .await
            .unwrap();
        for chunk in past.chunks(5_000) {
            stage
                .store
                .put_bars(project, &series, timeframe, chunk, now)
                .await
                .unwrap();
        }
        let body = json!({ "series": "x", "timeframe": "1h", "strategy": "trend-rsi" });
        let created = stage.call(Method::POST, "/v1/watches", body).await;
        assert_eq!(created.status, 201, "{}", created.text());
        stage.carry().await;
        let compiled = builtin("trend-rsi")
            .unwrap()
            .compile(None, &Default::default(), timeframe)
            .unwrap();
        let track = TrackId::new(project, &series, "trend-rsi", BUILTIN_VERSION, &compiled);
        assert_eq!(
            stage.store.track(&track).await.unwrap().unwrap().last,
            Some(last - HOUR)
        );
        stage.call(Method::GET, "/v1/watches", Value::Null).await;
        stage.meter.take();
        let next = json!({ "timeframe": "1h", "bars": [{
            "time": last.rfc3339(), "open": 101.0, "high": 101.0, "low": 101.0, "close": 101.0, "volume": null,
        }] });
        let reply = stage.call(Method::POST, "/v1/series/x/bars", next).await;
        assert_eq!(reply.json()["accepted"], 1, "{}", reply.text());
        stage.carry().await;
        assert_eq!(
            stage.store.track(&track).await.unwrap().unwrap().last,
            Some(last)
        );
        costs.push(stage.meter.take());
    }
    let [short, long] = &costs[..] else {
        unreachable!()
    };
    assert_eq!(short.calls, long.calls);
    let calls: u64 = short.calls.values().sum();
    assert!(
        calls <= 18 && short.write_units <= 12.0 && short.read_units <= 12.0,
        "{short:?}"
    );
    // The head lists the months with bars, about seven bytes each; it is written once and checked
    // once.
    assert!(long.write_units <= short.write_units + 3.0, "{long:?}");
    assert!(long.read_units <= short.read_units + 1.0, "{long:?}");
}

#[tokio::test]
async fn a_watch_notifies_once_of_a_change_and_explains_it() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(190, &[90.0, 95.0])).await;
    let created = watch(&stage, json!({})).await;
    assert!(receiver.received().is_empty());
    post_bars(&stage, "x", bars(192, &[96.0, 97.0])).await;
    stage.carry().await;
    assert!(receiver.received().is_empty());
    post_bars(&stage, "x", bars(194, &[105.0])).await;
    stage.carry().await;
    let [message] = &receiver.received()[..] else {
        panic!("{:?}", receiver.received())
    };
    assert_eq!(message.body["type"], "signal.changed");
    let data = &message.body["data"];
    assert_eq!(
        (&data["from"], &data["to"]),
        (&json!("SELL"), &json!("BUY"))
    );
    assert_eq!(
        (&data["series"], &data["timeframe"], &data["strategy"]),
        (&json!("x"), &json!("1h"), &json!("simple"))
    );
    assert_eq!(data["bar"], UnixMs(FIRST + 194 * HOUR).rfc3339());
    assert_eq!(data["explanation"]["conditions"][0]["met"], true);
    assert!(data["explanation"]["age_s"].is_u64() && data["alert_id"].is_string());
    let alert = &stage.alerts().await[0];
    assert_eq!(
        (&alert["type"], &alert["signal"]["to"]),
        (&json!("signal.changed"), &json!("BUY"))
    );
    // The same bar again, and bars with the same signal, send nothing.
    post_bars(&stage, "x", bars(194, &[105.0, 106.0])).await;
    stage.carry().await;
    assert_eq!(receiver.received().len(), 1);
    let shown = stage
        .call(
            Method::GET,
            &format!("/v1/watches/{}", created["id"].as_str().unwrap()),
            Value::Null,
        )
        .await;
    assert_eq!(
        (&shown.json()["signal"], &shown.json()["alerts"]),
        (&json!("BUY"), &json!(1))
    );
    // The change back is sent after the first.
    post_bars(&stage, "x", bars(196, &[90.0])).await;
    stage.carry().await;
    assert_eq!(receiver.received()[1].body["data"]["to"], "SELL");
}

/// A bar posted between the creation of a watch and its first evaluation counts as a change.
#[tokio::test]
async fn a_change_right_after_a_watch_is_created_raises_an_alert() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(190, &[90.0])).await;
    let body = json!({ "series": "x", "timeframe": "1h", "strategy": "simple" });
    stage.call(Method::POST, "/v1/watches", body.clone()).await;
    post_bars(&stage, "x", bars(191, &[110.0])).await;
    stage.carry().await;
    assert_eq!(receiver.received().len(), 1);
    // A watch on a series without bars alerts on its first signal.
    let body = json!({ "series": "y", "timeframe": "1h", "strategy": "simple" });
    stage.call(Method::POST, "/v1/watches", body).await;
    post_bars(&stage, "y", bars(191, &[110.0])).await;
    stage.carry().await;
    let received = receiver.received();
    let data = &received[1].body["data"];
    assert_eq!(
        (&data["from"], &data["to"]),
        (&json!("WARMING"), &json!("BUY"))
    );
}

#[tokio::test]
async fn flapping_during_the_cooldown_is_silent_and_the_final_signal_alerts() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(180, &[90.0])).await;
    watch(&stage, json!({ "cooldown_s": 600 })).await;
    post_bars(&stage, "x", bars(181, &[110.0])).await;
    stage.carry().await;
    assert_eq!(receiver.received().len(), 1);
    for (i, close) in (182..).zip([90.0, 110.0, 90.0, 110.0, 90.0]) {
        stage.world.advance(1_000);
        post_bars(&stage, "x", bars(i, &[close])).await;
        stage.carry().await;
    }
    assert_eq!(receiver.received().len(), 1);
    // The last signal is SELL; it is sent after the cooldown, without another bar.
    stage.run(620_000, 10_000).await;
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[1].body["data"]["to"], "SELL");
}

#[tokio::test]
async fn a_change_alerts_once_enough_bars_confirm_it() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(180, &[90.0, 90.0, 90.0])).await;
    watch(&stage, json!({ "confirm_bars": 3 })).await;
    for (i, (close, messages)) in (183..).zip([
        (110.0, 0),
        (110.0, 0),
        (90.0, 0),
        (110.0, 0),
        (110.0, 0),
        (110.0, 1),
    ]) {
        post_bars(&stage, "x", bars(i, &[close])).await;
        stage.carry().await;
        assert_eq!(receiver.received().len(), messages, "{i}");
    }
}

#[tokio::test]
async fn a_correction_supersedes_a_signal_and_says_what_it_undid() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(190, &[90.0, 91.0])).await;
    watch(&stage, json!({})).await;
    post_bars(&stage, "x", bars(192, &[110.0])).await;
    stage.carry().await;
    assert_eq!(receiver.received().len(), 1);
    let before = stage.world.now().rfc3339();
    stage.world.advance(60_000);
    let taken = post_bars(&stage, "x", bars(192, &[95.0])).await;
    assert_eq!(taken["revised"], 1);
    stage.carry().await;
    let received = receiver.received();
    let [_, undone] = &received[..] else {
        panic!("{received:?}")
    };
    let data = &undone.body["data"];
    assert_eq!(
        (&data["from"], &data["to"], &data["undone"]),
        (&json!("BUY"), &json!("SELL"), &json!(true))
    );
    assert!(
        data["explanation"]["summary"]
            .as_str()
            .unwrap()
            .starts_with("A correction of past bars undid")
    );
    // The history has both revisions, and what was known at a time.
    assert_eq!(initials(&history(&stage, "").await), "SSS");
    assert_eq!(
        initials(&history(&stage, &format!("as_known_at={before}")).await),
        "SSB"
    );
    let all = history(&stage, "revisions=all").await;
    assert_eq!(initials(&all), "SSBS");
    assert_eq!(all[3]["revision"], 1);
    let bars = stage
        .call(Method::GET, "/v1/series/x/bars?timeframe=1h", Value::Null)
        .await
        .json();
    assert_eq!(bars["bars"][2]["revision"], 1);
}

#[tokio::test]
async fn a_watch_runs_on_its_schedule_and_expires() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(190, &[90.0])).await;
    let ends = (stage.world.now() + 400_000).rfc3339();
    let created = watch(
        &stage,
        json!({ "on": { "every_s": 120 }, "expires_at": ends }),
    )
    .await;
    post_bars(&stage, "x", bars(191, &[110.0])).await;
    stage.run(60_000, 10_000).await;
    assert!(receiver.received().is_empty());
    stage.run(70_000, 10_000).await;
    assert_eq!(receiver.received().len(), 1);
    stage.run(300_000, 10_000).await;
    post_bars(&stage, "x", bars(192, &[90.0])).await;
    stage.run(600_000, 10_000).await;
    assert_eq!(receiver.received().len(), 1);
    let path = format!("/v1/watches/{}", created["id"].as_str().unwrap());
    let shown = stage.call(Method::GET, &path, Value::Null).await.json();
    assert_eq!(
        (&shown["state"], &shown["next_look_at"]),
        (&json!("expired"), &Value::Null)
    );
    // A cron schedule in a time zone.
    let other =
        json!({ "on": { "cron": "*/5 * * * *", "tz": "Europe/Berlin" }, "expires_at": null });
    let reply = stage.call(Method::PATCH, &path, other).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    stage.run(320_000, 10_000).await;
    assert_eq!(receiver.received().len(), 2);
    assert_eq!(
        stage.call(Method::DELETE, &path, Value::Null).await.status,
        204
    );
    post_bars(&stage, "x", bars(193, &[110.0])).await;
    stage.run(700_000, 10_000).await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_stale_feed_raises_an_alert() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(198, &[110.0])).await;
    watch(&stage, json!({})).await;
    post_bars(&stage, "x", bars(199, &[110.0])).await;
    stage.carry().await;
    stage.run(2 * HOUR - 60_000, 60_000).await;
    assert!(receiver.received().is_empty());
    stage.run(180_000, 60_000).await;
    let received = receiver.received();
    let [message] = &received[..] else {
        panic!("{received:?}")
    };
    assert_eq!(
        (&message.body["data"]["from"], &message.body["data"]["to"]),
        (&json!("BUY"), &json!("STALE"))
    );
    let next = stage.world.now();
    let i = (next.0 - FIRST) / HOUR - 1;
    post_bars(&stage, "x", bars(i, &[110.0])).await;
    stage.carry().await;
    assert_eq!(receiver.received()[1].body["data"]["to"], "BUY");
}

/// "The backup ran but wrote half the rows."
#[tokio::test]
async fn the_metrics_of_heartbeats_are_series() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let beat = async |rows: f64| {
        stage.world.advance(60_000);
        stage
            .heartbeat(
                json!({ "monitor": "backup", "period_s": 3600, "metrics": { "rows": rows } }),
            )
            .await;
        stage.carry().await;
    };
    for i in 0..25 {
        beat(1_000.0 + f64::from(i % 3)).await;
    }
    let watch = json!({ "series": "monitor:backup:rows", "strategy": "auto" });
    let reply = stage.call(Method::POST, "/v1/watches", watch).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    stage.carry().await;
    // The ping log provides the series' history.
    let shown = stage
        .call(
            Method::GET,
            "/v1/series/monitor:backup:rows/bars",
            Value::Null,
        )
        .await
        .json();
    assert_eq!(shown["bars"].as_array().unwrap().len(), 25, "{shown}");
    beat(1_001.0).await;
    assert!(receiver.received().is_empty());
    beat(500.0).await;
    let received = receiver.received();
    let [message] = &received[..] else {
        panic!("{received:?}")
    };
    assert_eq!(message.body["data"]["series"], "monitor:backup:rows");
    assert_eq!(
        (&message.body["data"]["from"], &message.body["data"]["to"]),
        (&json!("NORMAL"), &json!("LOW"))
    );
    // The durations of runs, and the intervals between successes.
    for name in ["duration", "interval"] {
        let body = json!({ "series": format!("monitor:backup:{name}"), "strategy": "threshold", "params": { "max": 30 } });
        let found = signal(&stage, body).await;
        assert_eq!(found["status"], "done", "{found}");
        let expected = if name == "interval" {
            "HIGH"
        } else {
            "WARMING"
        };
        assert_eq!(found["signal"], expected, "{name}: {found}");
    }
    stage
        .heartbeat(json!({ "monitor": "backup", "status": "start" }))
        .await;
    stage.world.advance(42_000);
    stage.heartbeat(json!({ "monitor": "backup" })).await;
    stage.carry().await;
    let shown = stage
        .call(
            Method::GET,
            "/v1/series/monitor:backup:duration/bars",
            Value::Null,
        )
        .await
        .json();
    assert_eq!(shown["bars"][0]["close"], 42.0, "{shown}");
    // Values can't be posted to such a series, and its monitor must exist.
    let reply = stage
        .call(
            Method::POST,
            "/v1/series/monitor:backup:rows/values",
            json!({ "values": [{ "time": "2025-11-21T04:00:00Z", "value": 1 }] }),
        )
        .await;
    assert_eq!(reply.status, 400);
    let body = json!({ "series": "monitor:nobody:rows", "strategy": "zscore" });
    assert_eq!(
        stage.call(Method::POST, "/v1/watches", body).await.status,
        404
    );
}

/// A counter that stops counting changes the signal.
#[tokio::test]
async fn a_value_that_stops_changing_raises_an_alert() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let body = json!({ "series": "jobs", "timeframe": "tick", "strategy": "absent-change", "params": { "n": 3 } });
    stage.call(Method::POST, "/v1/watches", body).await;
    for (i, value) in [1.0, 2.0, 3.0, 3.0, 3.0, 4.0].into_iter().enumerate() {
        let time = (stage.world.now() - 60_000 + i as i64).rfc3339();
        let body = json!({ "values": [{ "time": time, "value": value }] });
        stage
            .call(Method::POST, "/v1/series/jobs/values", body)
            .await;
        stage.carry().await;
    }
    let changes: Vec<String> = receiver
        .received()
        .iter()
        .map(|message| {
            format!(
                "{} {}",
                message.body["data"]["from"], message.body["data"]["to"]
            )
        })
        .collect();
    assert_eq!(changes, ["\"NORMAL\" \"STALE\"", "\"STALE\" \"NORMAL\""]);
}

#[tokio::test]
async fn strategies_are_versioned_and_watches_use_the_latest() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    let path = "/v1/strategies/simple";
    let shown = stage.call(Method::GET, path, Value::Null).await.json();
    assert_eq!(
        (&shown["version"], &shown["built_in"]),
        (&json!(1), &json!(false))
    );
    // Putting the same definition again creates no new version.
    let reply = stage
        .call(Method::PUT, path, shown["definition"].clone())
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["version"]),
        (200, &json!(1))
    );
    post_bars(&stage, "x", bars(190, &[90.0])).await;
    watch(&stage, json!({})).await;
    let other = json!({
        "buy": { "left": "close", "op": ">", "right": 50 },
        "sell": { "left": "close", "op": "<", "right": 50 },
    });
    let reply = stage.call(Method::PUT, path, other).await;
    assert_eq!(reply.json()["version"], 2);
    post_bars(&stage, "x", bars(191, &[91.0])).await;
    stage.carry().await;
    assert_eq!(receiver.received()[0].body["data"]["to"], "BUY");
    // A watched strategy can't be deleted. Recreated after deletion, it continues its version
    // numbers.
    assert_eq!(
        stage.call(Method::DELETE, path, Value::Null).await.status,
        409
    );
    let watches = stage
        .call(Method::GET, "/v1/watches", Value::Null)
        .await
        .json();
    let id = watches["watches"][0]["id"].as_str().unwrap();
    stage
        .call(Method::DELETE, &format!("/v1/watches/{id}"), Value::Null)
        .await;
    assert_eq!(
        stage.call(Method::DELETE, path, Value::Null).await.status,
        204
    );
    assert_eq!(stage.call(Method::GET, path, Value::Null).await.status, 404);
    simple(&stage).await;
    let shown = stage.call(Method::GET, path, Value::Null).await.json();
    assert_eq!(shown["version"], 4);
    let listed = stage
        .call(Method::GET, "/v1/strategies", Value::Null)
        .await
        .json();
    let names: Vec<&str> = listed["strategies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    for name in [
        "trend-rsi",
        "sma-cross",
        "ema-cross",
        "macd",
        "bollinger",
        "donchian",
        "zscore",
        "threshold",
        "ewma",
        "simple",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    assert_eq!(
        stage
            .call(
                Method::PUT,
                "/v1/strategies/macd",
                shown["definition"].clone()
            )
            .await
            .status,
        409
    );
}

#[tokio::test]
async fn a_backtest_runs_in_the_worker_and_survives_the_loss_of_its_queue() {
    let stage = Stage::new().await;
    let closes: Vec<f64> = (0..150).map(|i| 100.0 + f64::from(i % 10)).collect();
    post_bars(&stage, "x", bars(0, &closes)).await;
    let body = json!({ "series": "x", "timeframe": "1h", "strategy": "sma-cross", "params": { "fast": 2, "slow": 5 } });
    let reply = stage.call(Method::POST, "/v1/backtests", body).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let href = reply.json()["href"].as_str().unwrap().to_owned();
    // A crash: the stream record is handled, but the queue's content is lost.
    stage.lose_work().await;
    assert_eq!(
        stage.call(Method::GET, &href, Value::Null).await.json()["status"],
        "queued"
    );
    stage.run(70_000, 10_000).await;
    let done = stage.call(Method::GET, &href, Value::Null).await.json();
    assert_eq!(
        (&done["status"], &done["fill"]),
        (&json!("done"), &json!("next_open")),
        "{done}"
    );
    assert_eq!(done["rows"], 146);
    assert!(done["trades"].as_array().unwrap().len() > 10 && done["look_ahead"]["clean"] == true);
    assert!(done["total_return"].is_f64() && done["buy_and_hold"]["total_return"].is_f64());
    let points = done["equity"].as_array().unwrap();
    assert!(points.len() > 100 && points.len() <= 500);
    // A backtest that can't run says why.
    let body = json!({ "series": "x", "timeframe": "1h", "strategy": "sma-cross", "params": { "slow": 500 } });
    let href = stage.call(Method::POST, "/v1/backtests", body).await.json()["href"]
        .as_str()
        .unwrap()
        .to_owned();
    stage.carry().await;
    let failed = stage.call(Method::GET, &href, Value::Null).await.json();
    assert_eq!(failed["status"], "failed");
    assert!(
        failed["error"]
            .as_str()
            .unwrap()
            .contains("there are 150, but the first signal needs 500"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_client_can_wait_for_its_signal() {
    let stage = Stage::new().await;
    simple(&stage).await;
    let bars = bars(190, &[90.0, 110.0]);
    let request = Request::post("/v1/signals")
        .header("x-api-key", API_KEY)
        .header("prefer", "respond-async, wait=5")
        .body(Body::from(
            json!({ "timeframe": "1h", "strategy": "simple", "bars": bars }).to_string(),
        ))
        .unwrap();
    let (reply, ()) = tokio::join!(stage.send(request), async {
        for _ in 0..50 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            stage.carry().await;
        }
    });
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.headers["preference-applied"], "wait=5");
    assert_eq!(
        (&reply.json()["signal"], &reply.json()["series"]),
        (&json!("BUY"), &Value::Null)
    );
}

/// A step computed from bars that were read before a nudge is refused: it could miss a correction.
#[tokio::test]
async fn a_step_that_missed_a_nudge_is_not_written() {
    use thrum_store::Advance;
    use thrum_store::StoreError;
    let stage = Stage::new().await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(190, &[90.0])).await;
    watch(&stage, json!({})).await;
    post_bars(&stage, "x", bars(191, &[91.0])).await;
    stage.carry().await;
    let series = SeriesName::parse("s", "x").unwrap();
    let found = stage
        .store
        .tracks(ProjectId::FIRST, &series, Timeframe::HOUR)
        .await
        .unwrap();
    let (track, state) = &found[0];
    let next = thrum_schema::signal::track::TrackState {
        version: state.version + 1,
        ..state.clone()
    };
    let head = stage
        .store
        .head(ProjectId::FIRST, &series, Timeframe::HOUR)
        .await
        .unwrap()
        .unwrap();
    for (nudge, expected) in [(head.nudge - 1, true), (head.nudge, false)] {
        let advance = Advance {
            before: Some(state.version),
            state: &next,
            signals: &[],
            checkpoints: &[],
            nudge: Some(nudge),
        };
        let written = stage
            .store
            .advance_track(track, &advance, stage.world.now())
            .await;
        assert_eq!(
            matches!(written, Err(StoreError::Conflict)),
            expected,
            "{written:?}"
        );
    }
}

/// A watch shows an error when its strategy no longer accepts its parameters, and resumes when it
/// does.
#[tokio::test]
async fn a_watch_resumes_when_its_broken_strategy_is_fixed() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let with = |params: Value, n: Value| {
        json!({
            "params": params,
            "buy": { "left": "close", "op": ">", "right": n },
            "sell": { "left": "close", "op": "<", "right": n },
        })
    };
    let good = with(json!({ "n": 100 }), json!("$n"));
    stage
        .call(Method::PUT, "/v1/strategies/simple", good.clone())
        .await;
    post_bars(&stage, "x", bars(190, &[90.0])).await;
    let created = watch(
        &stage,
        json!({ "params": { "n": 101 }, "on": { "every_s": 60 } }),
    )
    .await;
    let path = format!("/v1/watches/{}", created["id"].as_str().unwrap());
    stage
        .call(
            Method::PUT,
            "/v1/strategies/simple",
            with(json!({}), json!(5)),
        )
        .await;
    stage.run(130_000, 10_000).await;
    let shown = stage.call(Method::GET, &path, Value::Null).await.json();
    assert_eq!(shown["state"], "failing", "{shown}");
    assert!(
        shown["error"]
            .as_str()
            .unwrap()
            .contains("params.n is not a parameter"),
        "{shown}"
    );
    stage.call(Method::PUT, "/v1/strategies/simple", good).await;
    post_bars(&stage, "x", bars(191, &[110.0])).await;
    stage.run(130_000, 10_000).await;
    let shown = stage.call(Method::GET, &path, Value::Null).await.json();
    assert_eq!(
        (&shown["state"], &shown["error"]),
        (&json!("watching"), &Value::Null)
    );
    assert_eq!(receiver.received().len(), 1);
}

/// One-off requests leave a bounded number of tracks: the fifty-first on a series evicts the
/// oldest.
#[tokio::test]
async fn a_series_keeps_at_most_fifty_tracks() {
    let stage = Stage::new().await;
    post_bars(&stage, "x", bars(180, &[1.0, 2.0, 3.0])).await;
    for i in 0..53 {
        stage.world.advance(1_000);
        let body = json!({ "series": "x", "timeframe": "1h", "strategy": "threshold", "params": { "max": i } });
        assert_eq!(signal(&stage, body).await["status"], "done");
    }
    let series = SeriesName::parse("s", "x").unwrap();
    let tracks = stage
        .store
        .tracks(ProjectId::FIRST, &series, Timeframe::HOUR)
        .await
        .unwrap();
    assert_eq!(tracks.len(), 50);
    // An evicted track starts again, over the signals that it left.
    let body = json!({ "series": "x", "timeframe": "1h", "strategy": "threshold", "params": { "max": 0 } });
    assert_eq!(signal(&stage, body).await["status"], "done");
}

/// Bars of a request that is still being written are not evaluated; one evaluation follows its last
/// bar.
#[tokio::test]
async fn a_partly_written_request_is_not_evaluated() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(180, &[90.0])).await;
    watch(&stage, json!({})).await;
    post_bars(&stage, "x", bars(181, &[91.0])).await;
    // The first bars of a request in progress, and the nudge of another request.
    let series = SeriesName::parse("s", "x").unwrap();
    let early: Vec<Bar> = (183..186)
        .map(|i| Bar::value(UnixMs(FIRST + i * HOUR), 120.0))
        .collect();
    let (project, now) = (ProjectId::FIRST, stage.world.now());
    stage
        .store
        .put_bars(project, &series, Timeframe::HOUR, &early, now)
        .await
        .unwrap();
    post_bars(&stage, "x", bars(182, &[92.0])).await;
    stage.carry().await;
    assert!(receiver.received().is_empty());
    // The last bar completes the request, and the signal is the same as before it.
    post_bars(&stage, "x", bars(186, &[93.0])).await;
    stage.carry().await;
    assert!(receiver.received().is_empty());
    assert_eq!(initials(&history(&stage, "").await), "SSSBBBS");
}

/// The signals of earlier versions of a strategy are kept.
#[tokio::test]
async fn history_survives_a_change_of_the_strategy() {
    let stage = Stage::new().await;
    simple(&stage).await;
    post_bars(&stage, "x", bars(180, &[90.0, 110.0])).await;
    watch(&stage, json!({})).await;
    let before = stage.world.now().rfc3339();
    stage.world.advance(60_000);
    let other = json!({
        "buy": { "left": "close", "op": ">", "right": 1 },
        "sell": { "not": { "left": "close", "op": ">=", "right": 1 } },
    });
    stage
        .call(Method::PUT, "/v1/strategies/simple", other)
        .await;
    post_bars(&stage, "x", bars(182, &[0.5])).await;
    stage.carry().await;
    assert_eq!(initials(&history(&stage, "").await), "BBS");
    // The old version was used recently, so its signals are still computed.
    assert_eq!(initials(&history(&stage, "version=1").await), "SBS");
    assert_eq!(
        initials(&history(&stage, &format!("as_known_at={before}")).await),
        "SB"
    );
    let old = stage
        .call(Method::GET, "/v1/strategies/simple?version=1", Value::Null)
        .await
        .json();
    assert_eq!(old["definition"]["buy"]["right"], 100);
    // A condition inside `not` is explained as the condition that must hold.
    let last = &history(&stage, "").await[2];
    let condition = &last["explanation"]["conditions"][1];
    assert_eq!(
        (&condition["op"], &condition["met"], &condition["margin"]),
        (&json!("<"), &json!(true), &json!(0.5))
    );
    assert_eq!(
        last["explanation"]["summary"],
        "SELL at 0.5: close 0.5 is below 1, by 0.5."
    );
}
