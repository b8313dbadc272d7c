//! Regression tests for the predecessor's defects (`evaluate/tests/engine.rs` has those of the
//! engine), and for precise errors on bad input.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{API_KEY, READ_KEY, Reply, Stage};
use serde_json::{Value, json};
use thrum_schema::UnixMs;
use thrum_store::table::put;

const HOUR: i64 = 3_600_000;
/// The first bar opens 20 hours before the stage's clock starts.
const FIRST: i64 = 1_763_697_600_000 - 20 * HOUR;

fn bar(i: i64, close: f64) -> Value {
    json!({
        "time": UnixMs(FIRST + i * HOUR).rfc3339(),
        "open": close, "high": close + 1.0, "low": close - 1.0, "close": close, "volume": 10.0,
    })
}

/// A stage with ten bars of BTC.
async fn stage_with_bars() -> Stage {
    let stage = Stage::with_admin().await;
    let bars: Vec<Value> = (0..10).map(|i| bar(i, 100.0 + i as f64)).collect();
    let reply = post(
        &stage,
        "/v1/series/BTC/bars",
        json!({ "timeframe": "1h", "bars": bars }),
    )
    .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    stage
}

async fn post(stage: &Stage, path: &str, body: Value) -> Reply {
    stage.call(Method::POST, path, body).await
}

async fn get(stage: &Stage, path: &str) -> Reply {
    stage.call(Method::GET, path, Value::Null).await
}

/// How many requests the key was charged for.
async fn charged(stage: &Stage) -> i64 {
    let usage = get(stage, "/v1/usage").await;
    let left: i64 = usage.headers["ratelimit-remaining"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    1_000_000 - left
}

#[tokio::test]
async fn defect_1_a_crafted_host_header_grants_no_access() {
    let stage = stage_with_bars().await;
    for host in [
        "x/health?",
        "localhost/health#",
        "a@b/health",
        "[::1]/openapi.json?",
    ] {
        let request = Request::get("/v1/series")
            .header("host", host)
            .body(Body::empty())
            .unwrap();
        let reply = stage.send(request).await;
        assert!(
            [400, 401].contains(&reply.status.as_u16()),
            "{host}: {}",
            reply.status
        );
    }
}

#[tokio::test]
async fn defect_2_requests_fail_without_the_table_and_unknown_keys_are_refused() {
    let stage = stage_with_bars().await;
    let unknown = "hcw_zzzzzzzzzzzzzzzzzzzzzzzzzzzz";
    assert_eq!(
        stage.send_as("GET", "/v1/series", unknown, "").await.status,
        401
    );
    assert_eq!(get(&stage, "/v1/series").await.status, 200);
    stage.switch.off();
    let reply = get(&stage, "/v1/series").await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    let request = json!({ "series": "BTC", "timeframe": "1h", "strategy": "sma-cross" });
    assert_eq!(post(&stage, "/v1/signals", request).await.status, 503);
}

#[tokio::test]
async fn defect_3_no_forwarding_header_authenticates_a_client() {
    let stage = stage_with_bars().await;
    for name in [
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "x-forwarded-host",
    ] {
        let request = Request::get("/v1/series")
            .header(name, "127.0.0.1")
            .body(Body::empty())
            .unwrap();
        assert_eq!(stage.send(request).await.status, 401, "{name}");
    }
}

#[tokio::test]
async fn defect_4_no_reply_contains_a_key_or_its_hash() {
    let stage = stage_with_bars().await;
    let hash = thrum_schema::key::hash(API_KEY);
    for path in [
        "/v1/series",
        "/v1/strategies",
        "/v1/watches",
        "/v1/keys",
        "/v1/usage",
        "/v1/project",
    ] {
        let text = get(&stage, path).await.text();
        assert!(
            !text.contains(API_KEY) && !text.contains(&hash[..24]),
            "{path}"
        );
    }
}

#[tokio::test]
async fn defect_5_only_accepted_requests_are_charged() {
    let stage = stage_with_bars().await;
    let monitor = json!({ "name": "m" });
    assert_eq!(post(&stage, "/v1/monitors", monitor).await.status, 201);
    let before = charged(&stage).await;
    let wrong = [
        (
            "/v1/signals",
            json!({ "series": "T", "timeframe": "1h", "strategy": "sma-cross" }),
            404,
        ),
        (
            "/v1/signals",
            json!({ "series": "BTC", "timeframe": "1h", "strategy": "nope" }),
            400,
        ),
        (
            "/v1/backtests",
            json!({ "series": "BTC", "timeframe": "1h", "strategy": "macd", "fee_bps": 5e133 }),
            400,
        ),
        (
            "/v1/series/BTC/bars",
            json!({ "timeframe": "1h", "bars": [] }),
            400,
        ),
        ("/v1/watches", json!({ "series": "BTC" }), 400),
    ];
    for (path, body, status) in wrong {
        assert_eq!(post(&stage, path, body).await.status, status, "{path}");
    }
    let invalid = [
        ("/v1/signals/nope", 404),
        ("/v1/monitors/m/uptime?days=0", 400),
        ("/v1/alerts?limit=0", 400),
        (
            "/v1/series/BTC/signals?timeframe=1h&strategy=macd&limit=0",
            400,
        ),
    ];
    for (path, status) in invalid {
        assert_eq!(get(&stage, path).await.status, status, "{path}");
    }
    // Only the successful usage request is charged.
    assert_eq!(charged(&stage).await, before + 1);
}

#[tokio::test]
async fn defect_6_every_metered_reply_shows_the_remaining_quota_and_its_reset() {
    let config = thrum_ingest::Config {
        admin_key: thrum_ingest::AdminKey::Key(e2e::ADMIN_KEY.into()),
        plans: thrum_schema::Plans::from_json(r#"{"daily": {"requests_per_day": 10}}"#).unwrap(),
        ..Default::default()
    };
    let stage = Stage::with(1, config).await;
    let body = json!({ "name": "small", "plan": "daily" });
    let created = stage.admin(Method::POST, "/v1/projects", body).await.json();
    let key = created["api_key"].as_str().unwrap();
    let bars = json!({ "timeframe": "1h", "bars": [bar(0, 1.0)] }).to_string();
    let request = json!({ "series": "x", "timeframe": "1h", "strategy": "macd" }).to_string();
    let replies = [
        stage.send_as("POST", "/v1/series/x/bars", key, &bars).await,
        stage.send_as("POST", "/v1/signals", key, &request).await,
        stage.send_as("GET", "/v1/series", key, "").await,
    ];
    for (used, reply) in (1..).zip(replies) {
        assert!(reply.status.is_success(), "{}", reply.text());
        let number = |name: &str| {
            reply.headers[name]
                .to_str()
                .unwrap()
                .parse::<i64>()
                .unwrap()
        };
        for prefix in ["ratelimit", "x-ratelimit"] {
            assert_eq!(number(&format!("{prefix}-limit")), 10);
            assert_eq!(number(&format!("{prefix}-remaining")), 10 - used);
            // The quota resets at midnight UTC, in 19 h 20 min.
            assert_eq!(number(&format!("{prefix}-reset")), 69_600);
        }
    }
}

#[tokio::test]
async fn defect_7_series_names_match_exactly() {
    let stage = stage_with_bars().await;
    for name in ["T", "BT", "btc", "BTC1", "BTC-USD"] {
        let request = json!({ "series": name, "timeframe": "1h", "strategy": "sma-cross" });
        let reply = post(&stage, "/v1/signals", request).await;
        assert_eq!(reply.status, 404, "{name}");
        assert!(
            reply
                .text()
                .contains(&format!("there are no bars of {name};")),
            "{}",
            reply.text()
        );
        let reply = get(&stage, &format!("/v1/series/{name}/bars?timeframe=1h")).await;
        assert_eq!(reply.status, 404, "{name}");
    }
    // Series are separate for each timeframe.
    assert_eq!(
        get(&stage, "/v1/series/BTC/bars?timeframe=4h").await.status,
        404
    );
}

#[tokio::test]
async fn defect_11_naive_times_and_forming_bars_are_rejected_and_ages_are_shown() {
    let stage = stage_with_bars().await;
    let with_time = |time: &str| {
        let mut bar = bar(0, 1.0);
        bar["time"] = time.into();
        bar
    };
    let bars = json!([
        with_time("2025-11-20T08:00:00"),
        with_time("2025-11-20 08:00"),
        with_time("2025-11-20T08:30:00Z"),
        // This bar is still forming: it is 04:40.
        with_time("2025-11-21T04:00:00Z"),
        with_time("2025-11-20T10:00:00+02:00"),
        with_time("2025-11-20T08:00:00.000Z"),
    ]);
    let reply = post(
        &stage,
        "/v1/series/x/bars",
        json!({ "timeframe": "1h", "bars": bars }),
    )
    .await
    .json();
    assert_eq!(reply["accepted"], 1, "{reply}");
    let errors: Vec<&str> = reply["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["error"].as_str().unwrap())
        .collect();
    assert!(
        errors[0].starts_with("time must be a timestamp with a UTC offset (RFC 3339)"),
        "{errors:?}"
    );
    assert!(
        errors[2].contains("is inside a bar")
            && errors[3].contains("must be the opening time of a closed bar"),
        "{errors:?}"
    );
    // Of two equal bars, one is accepted and the other unchanged.
    assert_eq!((errors.len(), &reply["unchanged"]), (4, &json!(1)));
    let request = json!({ "series": "BTC", "timeframe": "1h", "strategy": "threshold" });
    let href = post(&stage, "/v1/signals", request).await.json()["href"]
        .as_str()
        .unwrap()
        .to_owned();
    stage.carry().await;
    let found = get(&stage, &href).await.json();
    // The last bar closed at 18:00 the day before.
    assert_eq!(
        (&found["age_s"], &found["explanation"]["age_s"]),
        (&json!(38_400), &json!(38_400))
    );
}

#[tokio::test]
async fn defect_12_too_few_bars_get_an_answer_and_volume_is_optional() {
    let stage = stage_with_bars().await;
    let mut one = bar(10, 1.0);
    one.as_object_mut().unwrap().remove("volume");
    let reply = post(
        &stage,
        "/v1/series/BTC/bars",
        json!({ "timeframe": "1h", "bars": [one] }),
    )
    .await;
    assert_eq!(reply.json()["accepted"], 1, "{}", reply.text());
    let request = json!({ "series": "BTC", "timeframe": "1h", "strategy": "trend-rsi", "at": UnixMs(FIRST + 11 * HOUR).rfc3339() });
    let href = post(&stage, "/v1/signals", request).await.json()["href"]
        .as_str()
        .unwrap()
        .to_owned();
    stage.carry().await;
    let found = get(&stage, &href).await.json();
    assert_eq!(
        (&found["status"], &found["signal"]),
        (&json!("done"), &json!("WARMING"))
    );
    assert!(
        found["explanation"]["summary"]
            .as_str()
            .unwrap()
            .contains("11 of at least 50 bars"),
        "{found}"
    );
}

/// The cost of a request does not grow with the names that clients invent.
#[tokio::test]
async fn defect_14_names_invented_by_clients_write_nothing() {
    let stage = stage_with_bars().await;
    stage.meter.take();
    let mut calls = Vec::new();
    for name in ["a", "b", "c"] {
        let request = json!({ "series": name, "timeframe": "1h", "strategy": "sma-cross" });
        post(&stage, "/v1/signals", request).await;
        let consumed = stage.meter.take();
        assert_eq!(consumed.write_units, 0.0, "{consumed:?}");
        calls.push(consumed.calls);
    }
    assert_eq!(calls[0], calls[2]);
}

#[tokio::test]
async fn defect_15_the_assumptions_of_a_backtest_are_validated() {
    let stage = stage_with_bars().await;
    for (more, field) in [
        (json!({ "fee_bps": 5e133 }), "fee_bps"),
        (json!({ "fee_bps": -1 }), "fee_bps"),
        (json!({ "slippage_bps": 1001 }), "slippage_bps"),
        (json!({ "annualization": -365 }), "annualization"),
        (json!({ "annualization": 0 }), "annualization"),
        (json!({ "fill": "yesterday" }), "fill"),
        (json!({ "from": "2025-11-20T08:00:00" }), "from"),
        (
            json!({ "from": "2025-11-20T08:00:00Z", "to": "2025-11-20T08:00:00Z" }),
            "to",
        ),
        (
            json!({ "walk_forward": { "train_bars": 1, "test_bars": 10, "grid": { "fast": [1] } } }),
            "walk_forward.train_bars",
        ),
        (
            json!({ "walk_forward": { "train_bars": 50, "test_bars": 10, "grid": {} , "x": 1 } }),
            "walk_forward.x",
        ),
    ] {
        let mut body = json!({ "series": "BTC", "timeframe": "1h", "strategy": "sma-cross" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let reply = post(&stage, "/v1/backtests", body).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["field"]),
            (400, &json!(field)),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn errors_are_precise() {
    let stage = stage_with_bars().await;
    let signal = |more: Value| {
        let mut body = json!({ "series": "BTC", "timeframe": "1h", "strategy": "sma-cross" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let watch = |more: Value| signal(more);
    let many: Vec<Value> = (0..501).map(|i| bar(i, 1.0)).collect();
    let inline: Vec<Value> = (0..1_001).map(|i| bar(i, 1.0)).collect();
    let (post_method, put, patch) = (Method::POST, Method::PUT, Method::PATCH);
    let cases = [
        (
            &post_method,
            "/v1/series/a%20b/bars",
            json!({ "timeframe": "1h", "bars": [bar(0, 1.0)] }),
            400,
            "series must be 1 to 64 letters",
        ),
        (
            &post_method,
            "/v1/series/x/bars",
            json!({ "timeframe": "7m", "bars": [bar(0, 1.0)] }),
            400,
            "timeframe must be a timeframe such as",
        ),
        (
            &post_method,
            "/v1/series/x/bars",
            json!({ "timeframe": "1h", "bars": many }),
            400,
            "bars must have 1 to 500 items (got ",
        ),
        (
            &post_method,
            "/v1/series/x/bars",
            json!({ "bars": [] }),
            400,
            "missing field `timeframe`",
        ),
        (
            &post_method,
            "/v1/series/x/sentiment",
            json!({}),
            400,
            "must have either scores or texts",
        ),
        (
            &post_method,
            "/v1/series/x/values",
            json!({ "values": [], "x": 1 }),
            400,
            "unknown field `x`",
        ),
        (
            &post_method,
            "/v1/signals",
            signal(json!({ "timeframe": null })),
            400,
            "timeframe is required",
        ),
        (
            &post_method,
            "/v1/signals",
            signal(json!({ "mode": "x" })),
            400,
            "mode must be one of default",
        ),
        (
            &post_method,
            "/v1/signals",
            signal(json!({ "params": { "fest": 1 } })),
            400,
            "params.fest is not a parameter of this strategy; its parameters are fast, slow",
        ),
        (
            &post_method,
            "/v1/signals",
            signal(json!({ "params": { "fast": 1.5 } })),
            400,
            "params.fast must be a whole number between 1 and 1000 (got 1.5)",
        ),
        (
            &post_method,
            "/v1/signals",
            signal(json!({ "at": "yesterday" })),
            400,
            "at must be a timestamp with a UTC offset",
        ),
        (
            &post_method,
            "/v1/signals",
            signal(json!({ "at": "2099-01-01T00:00:00Z" })),
            400,
            "at must not be in the future",
        ),
        (
            &post_method,
            "/v1/signals",
            signal(json!({ "bars": [] })),
            400,
            "bars must not be combined with series",
        ),
        (
            &post_method,
            "/v1/signals",
            json!({ "timeframe": "1h", "strategy": "macd" }),
            400,
            "series or bars is required",
        ),
        (
            &post_method,
            "/v1/signals",
            json!({ "timeframe": "1h", "strategy": "macd", "bars": inline }),
            400,
            "bars must have 1 to 1000 items (got ",
        ),
        (
            &post_method,
            "/v1/signals",
            json!({ "timeframe": "1h", "strategy": "macd", "bars": [bar(0, 1.0), 7] }),
            400,
            "bars[1] must be an object",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "on": { "every_s": 1 } })),
            400,
            "on.every_s must be between 10 and",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "on": { "cron": "x" } })),
            400,
            "on.cron",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "on": { "cron": "0 0 30 2 *" } })),
            400,
            "on.cron",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "on": 5 })),
            400,
            "on must be \"bar\"",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "channels": ["nobody"] })),
            400,
            "channels[0] can't be used",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "cooldown_s": 99_999_999 })),
            400,
            "cooldown_s must be at most",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "confirm_bars": 0 })),
            400,
            "confirm_bars must be between 1 and 100",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "expires_at": "2020-01-01T00:00:00Z" })),
            400,
            "expires_at must be in the future",
        ),
        (
            &post_method,
            "/v1/watches",
            watch(json!({ "series": "monitor:x:y", "timeframe": "1h" })),
            400,
            "timeframe must be tick",
        ),
        (
            &put,
            "/v1/strategies/a b",
            json!({}),
            400,
            "name must be 1 to 40",
        ),
        (
            &put,
            "/v1/strategies/mine",
            json!({ "buy": { "any": [] }, "sell": { "left": 1, "op": "~", "right": 2 } }),
            400,
            "sell.op must be >, >=",
        ),
        (
            &patch,
            "/v1/watches/nope",
            json!({}),
            404,
            "there is no such watch",
        ),
    ];
    for (method, path, body, status, detail) in cases {
        let path = path.replace(' ', "%20");
        let reply = stage.call(method.clone(), &path, body).await;
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{method} {path}: {}",
            reply.text()
        );
        assert_eq!(reply.headers["content-type"], "application/problem+json");
        assert!(
            reply.text().replace("\\\"", "\"").contains(detail),
            "{method} {path}: {} lacks {detail:?}",
            reply.text()
        );
    }
    for (path, detail) in [
        ("/v1/series/BTC/bars", "timeframe is required"),
        (
            "/v1/series/BTC/bars?timeframe=1h&limit=0",
            "limit must be between 1 and 1000",
        ),
        (
            "/v1/series/BTC/bars?timeframe=1h&from=2025",
            "from must be a timestamp",
        ),
        ("/v1/series/BTC/bars?timeframe=1h&x=1", "unknown field"),
        ("/v1/series/BTC/signal?timeframe=1h", "strategy is required"),
        (
            "/v1/series/BTC/signal?timeframe=1h&strategy=macd&params=x",
            "params must be a JSON object",
        ),
        (
            "/v1/series/BTC/signals?timeframe=1h&strategy=macd&as_known_at=now",
            "as_known_at must be a timestamp",
        ),
    ] {
        let reply = get(&stage, path).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.text());
        assert!(reply.text().contains(detail), "{path}: {}", reply.text());
    }
    assert_eq!(
        get(&stage, "/v1/series/BTC/signal?timeframe=1h&strategy=macd")
            .await
            .status,
        404
    );
    // Read keys can't request signals.
    let request = signal(json!({})).to_string();
    assert_eq!(
        stage
            .send_as("POST", "/v1/signals", READ_KEY, &request)
            .await
            .status,
        403
    );
    assert_eq!(
        get(&stage, "/v1/watches").await.json(),
        json!({ "watches": [] })
    );
}

/// A bar with invalid values is rejected with its own error, and the others are accepted.
#[tokio::test]
async fn only_the_invalid_bars_are_rejected() {
    let stage = stage_with_bars().await;
    let with = |i: i64, name: &str, value: Value| {
        let mut bar = bar(i, 100.0);
        bar[name] = value;
        bar
    };
    let bars = json!([
        bar(0, 100.0),
        with(1, "high", json!(50)),
        with(2, "low", json!(150)),
        with(3, "close", json!(1e300)),
        with(4, "volume", json!(-1)),
        with(5, "close", json!("100")),
        with(6, "colour", json!(1)),
        7,
        bar(8, 100.0),
    ]);
    let reply = post(
        &stage,
        "/v1/series/x/bars",
        json!({ "timeframe": "1h", "bars": bars }),
    )
    .await
    .json();
    assert_eq!(reply["accepted"], 2);
    let rejected = reply["rejected"].as_array().unwrap();
    let found: Vec<(i64, String)> = rejected
        .iter()
        .map(|r| {
            (
                r["index"].as_i64().unwrap(),
                r["error"].as_str().unwrap().chars().take(24).collect(),
            )
        })
        .collect();
    let expected = [
        (1, "high must be the highest"),
        (2, "high must be the highest"),
        (3, "close must be 0, or have"),
        (4, "volume must not be negat"),
        (5, "close can't be read: inv"),
        (6, "colour can't be read: un"),
        (7, "the body must be an obje"),
    ];
    for ((index, error), (expected_index, expected)) in found.iter().zip(expected) {
        assert_eq!(*index, expected_index);
        if *index != 2 {
            assert_eq!(error, expected);
        }
    }
    assert_eq!(found.len(), 7);
    // Valid numbers come back bit for bit.
    let odd: [f64; 5] = [
        1e-99,
        9.876_543_210_123_456e99,
        0.1 + 0.2,
        4_348.680_175_781_25,
        0.0,
    ];
    let bars: Vec<Value> = (10..).zip(odd).map(|(i, x)| {
        json!({ "time": UnixMs(FIRST + i * HOUR).rfc3339(), "open": x, "high": x, "low": x, "close": x, "volume": x })
    }).collect();
    let reply = post(
        &stage,
        "/v1/series/x/bars",
        json!({ "timeframe": "1h", "bars": bars }),
    )
    .await;
    assert_eq!(reply.json()["accepted"], 5, "{}", reply.text());
    let shown = get(&stage, "/v1/series/x/bars?timeframe=1h&limit=5")
        .await
        .json();
    for (bar, x) in shown["bars"].as_array().unwrap().iter().zip(odd) {
        assert_eq!(bar["close"].as_f64().unwrap().to_bits(), x.to_bits());
        assert_eq!(bar["volume"].as_f64().unwrap().to_bits(), x.to_bits());
    }
}

/// One request among others can't be processed: only that one fails, and later records of the
/// stream are handled.
#[tokio::test]
async fn a_poisoned_request_fails_alone() {
    let stage = stage_with_bars().await;
    let request = json!({ "timeframe": "1h", "strategy": "threshold", "bars": [bar(0, 1.0)] });
    let first = post(&stage, "/v1/signals", request.clone()).await.json()["href"]
        .as_str()
        .unwrap()
        .to_owned();
    let poison = post(&stage, "/v1/signals", request.clone()).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let last = post(&stage, "/v1/signals", request).await.json()["href"]
        .as_str()
        .unwrap()
        .to_owned();
    // Corrupt its stored bars.
    let item = json!({
        "pk": {"S": format!("R#{poison}")}, "sk": {"S": "BARS"}, "text": {"S": "{not json"},
    });
    let item = serde_json::from_value(item).unwrap();
    stage.store.table().write(put(item)).await.unwrap();
    stage.carry().await;
    for href in [first, last] {
        assert_eq!(get(&stage, &href).await.json()["status"], "done");
    }
    let failed = get(&stage, &format!("/v1/signals/{poison}")).await.json();
    assert_eq!(
        (&failed["status"], &failed["error"]),
        (
            &json!("failed"),
            &json!("internal error; the details are in Thrum's log")
        )
    );
    // A watch with corrupt items does not block the others, either.
    let watch = json!({ "series": "BTC", "timeframe": "1h", "strategy": "threshold" });
    let broken = post(&stage, "/v1/watches", watch.clone()).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let good = post(&stage, "/v1/watches", watch).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let item = json!({
        "pk": {"S": format!("W#{broken}")}, "sk": {"S": "MEMORY"}, "told": {"S": "NONSENSE"},
    });
    let item = serde_json::from_value(item).unwrap();
    stage.store.table().write(put(item)).await.unwrap();
    post(
        &stage,
        "/v1/series/BTC/bars",
        json!({ "timeframe": "1h", "bars": [bar(11, 5.0)] }),
    )
    .await;
    stage.carry().await;
    assert_eq!(
        get(&stage, &format!("/v1/watches/{good}")).await.json()["signal"],
        "NORMAL"
    );
}

#[tokio::test]
async fn quotas_come_from_the_plan() {
    let stage = stage_with_bars().await;
    let body = json!({ "name": "small", "plan": "free" });
    let created = stage.admin(Method::POST, "/v1/projects", body).await.json();
    let key = created["api_key"].as_str().unwrap();
    let bars = json!({ "timeframe": "1h", "bars": [bar(0, 1.0)] }).to_string();
    let mut statuses = Vec::new();
    for _ in 0..110 {
        statuses.push(
            stage
                .send_as("POST", "/v1/series/x/bars", key, &bars)
                .await
                .status
                .as_u16(),
        );
    }
    // 100 a minute, with bursts of up to 100.
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        100
    );
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 10);
}

/// A client that looks only at the status notices that nothing was accepted, and why.
#[tokio::test]
async fn a_batch_of_values_without_times_is_an_error() {
    let stage = Stage::new().await;
    let values = json!({"values": [{"value": 1}, {"value": 2}]});
    let reply = stage
        .call(Method::POST, "/v1/series/x/values", values)
        .await;
    let problem = reply.json();
    assert_eq!(problem["status"], 400);
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("Thrum accepted none of these items (2)")
            && detail.contains("missing field `time`"),
        "{detail}"
    );
    assert_eq!(problem["rejected"][1]["index"], 1);
    let some = json!({"values": [{"value": 1}, {"time": "2025-11-21T04:00:00Z", "value": 2}]});
    let reply = stage
        .call(Method::POST, "/v1/series/x/values", some)
        .await
        .json();
    assert_eq!(
        (&reply["accepted"], &reply["rejected"][0]["index"]),
        (&json!(1), &json!(0))
    );
}
