//! Anomaly detectors, calendars and the upkeep of series, through the whole pipeline.

use axum::http::Method;
use e2e::{Receiver, Stage};
use serde_json::{Value, json};
use thrum_schema::signal::strategy::builtins;
use thrum_schema::{UnixMs, World};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

async fn call(stage: &Stage, method: Method, path: &str, body: Value) -> (u16, Value) {
    let reply = stage.call(method, path, body).await;
    let status = reply.status.as_u16();
    (
        status,
        serde_json::from_slice(reply.text().as_bytes()).unwrap_or_default(),
    )
}

async fn post(stage: &Stage, path: &str, body: Value) -> Value {
    let (status, reply) = call(stage, Method::POST, path, body).await;
    assert!(status < 300, "{path}: {status} {reply}");
    stage.carry().await;
    reply
}

async fn get(stage: &Stage, path: &str) -> Value {
    call(stage, Method::GET, path, Value::Null).await.1
}

/// Sends values of an hourly series, the last of them of the last full hour.
async fn send(stage: &Stage, values: &[f64]) -> Value {
    let last = stage.world.now().0 / HOUR * HOUR - HOUR;
    let count = values.len() as i64;
    let values = values.iter().zip(1..).map(|(x, i)| {
        let time = UnixMs(last - (count - i) * HOUR).rfc3339();
        json!({ "time": time, "value": x })
    });
    let body = json!({ "timeframe": "1h", "values": values.collect::<Vec<_>>() });
    post(stage, "/v1/series/hits/values", body).await
}

/// Values around 100.
fn usual(n: i64) -> Vec<f64> {
    (0..n).map(|i| 100.0 + (i * 7 % 5) as f64 / 2.0).collect()
}

/// A webhook's receiver, and how many changes it has shown.
struct Alerts {
    receiver: Receiver,
    shown: usize,
}

impl Alerts {
    async fn of(stage: &Stage) -> Self {
        let receiver = Receiver::start().await;
        stage.webhook(&receiver.url, json!({})).await;
        Self { receiver, shown: 0 }
    }

    /// The changes since the last call, each as `from to at value`.
    fn latest(&mut self) -> Vec<String> {
        let received = self.receiver.received().into_iter();
        let changes =
            received.flat_map(|message| match message.body["data"]["changes"].as_array() {
                Some(changes) => changes.clone(),
                None => vec![message.body["data"].clone()],
            });
        let changes: Vec<Value> = changes.collect();
        let new = changes[self.shown..].iter().map(|change| {
            let text = |name: &str| change[name].as_str().unwrap_or("?").to_owned();
            format!("{} {} at {}", text("from"), text("to"), change["close"])
        });
        let new = new.collect();
        self.shown = changes.len();
        new
    }
}

#[tokio::test]
async fn every_value_of_a_request_is_judged() {
    let stage = Stage::new().await;
    let mut alerts = Alerts::of(&stage).await;
    send(&stage, &usual(60)).await;
    let body = json!({ "series": "hits", "timeframe": "1h", "strategy": "auto" });
    post(&stage, "/v1/watches", body).await;
    stage.world.advance(5 * HOUR);
    send(&stage, &[100.0, 101.0, 20.0, 100.0, 101.0]).await;
    assert_eq!(
        alerts.latest(),
        ["NORMAL LOW at 20.0", "LOW NORMAL at 100.0"]
    );
    // The same request again alerts about nothing.
    send(&stage, &[100.0, 101.0, 20.0, 100.0, 101.0]).await;
    assert!(alerts.latest().is_empty());
    // A correction of a value that was judged is judged, too.
    stage.world.advance(HOUR);
    send(&stage, &[100.0, 20.0, 20.0]).await;
    assert_eq!(alerts.latest(), ["NORMAL LOW at 20.0"]);
}

#[tokio::test]
async fn a_person_accepts_a_new_level() {
    let stage = Stage::new().await;
    let mut alerts = Alerts::of(&stage).await;
    send(&stage, &usual(60)).await;
    let body = json!({ "series": "hits", "timeframe": "1h", "strategy": "auto" });
    let watch = post(&stage, "/v1/watches", body).await["id"].clone();
    for _ in 0..3 {
        stage.world.advance(HOUR);
        send(&stage, &[50.0]).await;
    }
    assert_eq!(alerts.latest(), ["NORMAL LOW at 50.0"]);
    let accepted = post(
        &stage,
        "/v1/series/hits/accept",
        json!({ "timeframe": "1h" }),
    )
    .await;
    assert_eq!(accepted["accepted_levels"].as_array().unwrap().len(), 1);
    assert_eq!(alerts.latest(), ["LOW NORMAL at 50.0"]);
    stage.world.advance(HOUR);
    send(&stage, &[51.0]).await;
    let shown = get(&stage, &format!("/v1/watches/{}", watch.as_str().unwrap())).await;
    assert_eq!(shown["signal"], "NORMAL", "{shown}");
    stage.world.advance(HOUR);
    send(&stage, &[100.0]).await;
    assert_eq!(alerts.latest(), ["NORMAL HIGH at 100.0"]);
    let (status, _) = call(&stage, Method::POST, "/v1/series/none/accept", json!({})).await;
    assert_eq!(status, 400, "a timeframe is required");
    // What nobody accepted is judged, also while the new level is learned.
    stage.world.advance(HOUR);
    send(&stage, &[51.0]).await;
    stage.world.advance(HOUR);
    send(&stage, &[300.0]).await;
    let again = json!({ "timeframe": "1h" });
    post(&stage, "/v1/series/hits/accept", again).await;
    for (value, said) in [(3.0, "LOW"), (9_000_000.0, "HIGH"), (300.0, "NORMAL")] {
        stage.world.advance(HOUR);
        send(&stage, &[value]).await;
        let shown = get(&stage, &format!("/v1/watches/{}", watch.as_str().unwrap())).await;
        assert_eq!(shown["signal"], said, "{value}: {shown}");
    }
    // Its verdicts on past values respect the level that was accepted.
    let body = json!({ "series": "hits", "timeframe": "1h", "strategy": "auto" });
    let found = post(&stage, "/v1/backtests", body).await;
    let found = get(&stage, found["href"].as_str().unwrap()).await;
    let alerts = found["alerts"].as_array().unwrap();
    let alerts: Vec<&Value> = alerts.iter().map(|alert| &alert["signal"]).collect();
    assert_eq!(alerts[..2], ["LOW", "HIGH"], "{found}");
}

#[tokio::test]
async fn values_that_stop_coming_at_arbitrary_times_alert() {
    let stage = Stage::new().await;
    let mut alerts = Alerts::of(&stage).await;
    let value = async |x: f64| {
        let time = stage.world.now().rfc3339();
        let body = json!({ "values": [{ "time": time, "value": x }] });
        post(&stage, "/v1/series/queue/values", body).await;
    };
    let body = json!({
        "series": "queue", "timeframe": "tick", "strategy": "absence", "params": { "after_s": 600 },
    });
    post(&stage, "/v1/watches", body).await;
    value(1.0).await;
    stage.world.advance(500_000);
    stage.tick().await;
    stage.carry().await;
    assert!(alerts.latest().is_empty());
    stage.world.advance(200_000);
    stage.tick().await;
    stage.carry().await;
    assert_eq!(alerts.latest(), ["NORMAL STALE at 1.0"]);
    value(2.0).await;
    assert_eq!(alerts.latest(), ["STALE NORMAL at 2.0"]);
}

#[tokio::test]
async fn a_watch_on_a_series_that_nobody_feeds_says_so() {
    let stage = Stage::new().await;
    let body = json!({ "series": "hits", "timeframe": "1h", "strategy": "auto" });
    let watch = post(&stage, "/v1/watches", body).await;
    let says_so = |watch: &Value| {
        watch["state"] == "waiting"
            && watch["warning"]
                .as_str()
                .is_some_and(|text| text.starts_with("nothing received yet"))
    };
    assert!(says_so(&watch), "{watch}");
    let path = format!("/v1/watches/{}", watch["id"].as_str().unwrap());
    assert!(says_so(&get(&stage, &path).await));
    assert!(says_so(&get(&stage, "/v1/watches").await["watches"][0]));
    send(&stage, &[1.0]).await;
    let shown = get(&stage, &path).await;
    assert_eq!(
        (&shown["state"], &shown["warning"]),
        (&json!("watching"), &Value::Null)
    );
}

#[tokio::test]
async fn weekends_are_neither_gaps_nor_stale_for_a_series_of_weekdays() {
    let stage = Stage::new().await;
    let mut alerts = Alerts::of(&stage).await;
    // The first Friday from now, after its close.
    let now = stage.world.now();
    let friday = (0..)
        .map(|i| now.0 / DAY * DAY + i * DAY)
        .find(|day| UnixMs(*day).utc().format("%a").to_string() == "Fri");
    let friday = friday.unwrap() + 5 * HOUR;
    stage.world.advance(friday + DAY - now.0 + 60_000);
    let settings = json!({ "timeframe": "1d", "calendar": "weekdays", "offset_s": 18_000 });
    let (status, shown) = call(&stage, Method::PATCH, "/v1/series/stock", settings).await;
    assert_eq!(
        (status, &shown["calendar"]),
        (200, &json!("weekdays")),
        "{shown}"
    );
    let days = (0..140).map(|i| friday - (139 - i) * DAY);
    let weekdays =
        days.filter(|day| !"SatSun".contains(&UnixMs(*day).utc().format("%a").to_string()));
    let bars = weekdays.enumerate().map(|(i, day)| {
        let close = 100.0 + (i as f64 / 5.0).sin() * 10.0;
        json!({ "time": UnixMs(day).rfc3339(), "open": close, "high": close + 1.0, "low": close - 1.0, "close": close, "volume": 5 })
    });
    let bars = json!({ "timeframe": "1d", "bars": bars.collect::<Vec<_>>() });
    let taken = post(&stage, "/v1/series/stock/bars", bars).await;
    assert_eq!(taken["accepted"], 100, "{taken}");
    let gaps = json!({
        "buy": { "left": "close", "op": ">", "right": { "indicator": "sma", "n": 20 } },
        "sell": { "any": [] },
    });
    call(&stage, Method::PUT, "/v1/strategies/careful", gaps).await;
    let names = builtins().filter(|(_, strategy)| strategy.detector.is_none());
    for name in names.map(|(name, _)| name).chain(["careful"]) {
        let body = json!({ "series": "stock", "timeframe": "1d", "strategy": name });
        let found = post(&stage, "/v1/signals", body.clone()).await;
        let found = get(&stage, found["href"].as_str().unwrap()).await;
        let signal = found["signal"].as_str().unwrap();
        assert!(["BUY", "HOLD", "SELL"].contains(&signal), "{name}: {found}");
        post(&stage, "/v1/watches", body).await;
    }
    alerts.latest();
    // Monday's bar has not closed by Monday evening. By Wednesday, two are missing.
    let tick = async |ms: i64| {
        stage.world.advance(ms);
        stage.tick().await;
        stage.carry().await;
    };
    for _ in 0..16 {
        tick(4 * HOUR).await;
    }
    assert_eq!(alerts.latest(), Vec::<String>::new());
    for _ in 0..12 {
        tick(4 * HOUR).await;
    }
    assert!(alerts.latest().iter().any(|alert| alert.contains("STALE")));
    // Without a calendar, a strategy that minds gaps names the remedy.
    let settings = json!({ "timeframe": "1d", "calendar": "24/7" });
    call(&stage, Method::PATCH, "/v1/series/stock", settings).await;
    stage.carry().await;
    let at = UnixMs(friday + DAY).rfc3339();
    let body = json!({ "series": "stock", "timeframe": "1d", "strategy": "careful", "at": at });
    let found = post(&stage, "/v1/signals", body).await;
    let found = get(&stage, found["href"].as_str().unwrap()).await;
    assert_eq!(found["signal"], "GAP", "{found}");
    let summary = found["explanation"]["summary"].as_str().unwrap();
    assert!(summary.contains("set the series' calendar"), "{summary}");
    // An offset that does not fit names the remedy, too.
    let bar = json!({ "time": "2025-01-01T07:00:00Z", "open": 1, "high": 1, "low": 1, "close": 1 });
    let body = json!({ "timeframe": "1d", "bars": [bar] });
    let (status, refused) = call(&stage, Method::POST, "/v1/series/stock/bars", body).await;
    assert!(
        status == 400 && refused.to_string().contains("offset"),
        "{refused}"
    );
}

#[tokio::test]
async fn values_never_overwrite_bars_and_repeated_rows_are_unchanged() {
    let stage = Stage::new().await;
    let time = "2025-01-01T00:00:00Z";
    let bar = json!({ "time": time, "open": 1, "high": 3, "low": 1, "close": 2 });
    let body = json!({ "timeframe": "1h", "bars": [bar, bar] });
    let taken = post(&stage, "/v1/series/x/bars", body).await;
    assert_eq!(
        (&taken["accepted"], &taken["unchanged"], &taken["rejected"]),
        (&json!(1), &json!(1), &json!([]))
    );
    let body = json!({ "timeframe": "1h", "values": [{ "time": time, "value": 9 }] });
    let (status, refused) = call(&stage, Method::POST, "/v1/series/x/values", body).await;
    assert_eq!(status, 409, "{refused}");
    let shown = get(&stage, "/v1/series/x/bars?timeframe=1h").await;
    assert_eq!(shown["bars"][0]["high"], 3.0);
    let body = json!({ "texts": [{ "time": time, "text": "The committee met on Tuesday." }] });
    let (status, refused) = call(&stage, Method::POST, "/v1/series/x/sentiment", body).await;
    assert!(
        status == 400 && refused.to_string().contains("none of the words"),
        "{refused}"
    );
}

#[tokio::test]
async fn series_and_ranges_can_be_deleted() {
    let stage = Stage::new().await;
    let mut alerts = Alerts::of(&stage).await;
    send(&stage, &usual(60)).await;
    let body = json!({ "series": "hits", "timeframe": "1h", "strategy": "auto" });
    let watch = post(&stage, "/v1/watches", body).await;
    stage.world.advance(HOUR);
    send(&stage, &[5.0]).await;
    assert_eq!(alerts.latest(), ["NORMAL LOW at 5.0"]);
    let last = UnixMs(stage.world.now().0 / HOUR * HOUR - HOUR).rfc3339();
    let path = format!("/v1/series/hits?timeframe=1h&from={last}");
    let (status, deleted) = call(&stage, Method::DELETE, &path, Value::Null).await;
    assert_eq!(
        (status, &deleted),
        (200, &json!({ "deleted": 1, "complete": true }))
    );
    stage.carry().await;
    let shown = get(&stage, "/v1/series/hits/signal?timeframe=1h&strategy=auto").await;
    assert_eq!(shown["signal"], "NORMAL", "{shown}");
    let all = "/v1/series/hits?timeframe=1h";
    let (status, refused) = call(&stage, Method::DELETE, all, Value::Null).await;
    assert!(
        status == 409 && refused.to_string().contains("watches"),
        "{refused}"
    );
    let path = format!("/v1/watches/{}", watch["id"].as_str().unwrap());
    call(&stage, Method::DELETE, &path, Value::Null).await;
    let (status, deleted) = call(&stage, Method::DELETE, all, Value::Null).await;
    assert_eq!((status, &deleted["deleted"]), (200, &json!(60)));
    assert_eq!(get(&stage, "/v1/series").await, json!({ "series": [] }));
}

#[tokio::test]
async fn parameters_that_can_never_fire_are_refused() {
    let stage = Stage::new().await;
    let body = json!({
        "series": "hits", "timeframe": "1h", "strategy": "zscore", "params": { "n": 10, "k": 3 },
    });
    let (status, refused) = call(&stage, Method::POST, "/v1/watches", body).await;
    let text = refused.to_string();
    assert!(
        status == 400 && text.contains("params.k") && text.contains("2.84"),
        "{text}"
    );
}
