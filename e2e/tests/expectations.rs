//! Monitors that expect something of the numbers that their runs report.

use axum::http::Method;
use e2e::{Receiver, Stage};
use serde_json::{Value, json};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

async fn monitor(stage: &Stage, expect: Value) -> Value {
    let body = json!({ "name": "backup", "slug": "backup", "period_s": 86_400, "grace_s": 7_200, "expect": expect });
    let reply = stage.call(Method::POST, "/v1/monitors", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    stage.carry().await;
    reply.json()
}

async fn refused(stage: &Stage, expect: Value) -> String {
    let body = json!({ "name": "other", "slug": "other", "expect": expect });
    let reply = stage.call(Method::POST, "/v1/monitors", body).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    reply.text()
}

/// A run reports rows. Returns the status that it leaves, and what was not as expected.
async fn run(stage: &Stage, rows: f64) -> (String, Vec<String>) {
    let result = stage
        .heartbeat(json!({ "monitor": "backup", "metrics": { "rows": rows } }))
        .await;
    stage.carry().await;
    let warnings = result["warnings"].as_array().cloned().unwrap_or_default();
    let words = warnings
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .filter(|text| !text.ends_with(" was not reported"));
    (
        result["status"].as_str().unwrap().to_owned(),
        words.collect(),
    )
}

/// Nightly rows: about 1,000, at weekends 0.4 of that.
fn usual(night: i64) -> f64 {
    let noise = (night * 7 % 13 - 6) as f64 * 3.0;
    let weekend = matches!(night % 7, 5 | 6);
    (1_000.0 + noise) * if weekend { 0.4 } else { 1.0 }
}

fn reasons(receiver: &Receiver) -> Vec<String> {
    let received = receiver.received().into_iter();
    let lines = received.map(|message| {
        let why = message.body["data"]["why"].as_str();
        why.unwrap_or_default().to_owned()
    });
    lines.collect()
}

#[tokio::test]
async fn a_run_outside_fixed_limits_is_a_failure_that_says_why() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let expect = json!({ "rows": { "min": 1_000, "max": 5_000 }, "size": "min 10 warn" });
    let created = monitor(&stage, expect).await;
    assert_eq!(
        created["expect"],
        json!({
            "rows": { "min": 1_000.0, "max": 5_000.0, "effect": "down" },
            "size": { "min": 10.0, "effect": "warn" },
        })
    );
    assert_eq!(run(&stage, 1_000.0).await, ("up".to_owned(), vec![]));
    let (status, warnings) = run(&stage, 999.0).await;
    assert_eq!(
        (&*status, &*warnings),
        (
            "down",
            &["rows is 999, below the minimum of 1,000".to_owned()][..]
        )
    );
    let shown = stage.monitor("backup").await;
    assert_eq!(
        shown["flips"][0]["why"],
        "rows is 999, below the minimum of 1,000"
    );
    assert_eq!(shown["flips"][0]["reason"], "fail");
    assert_eq!(shown["last_pings"][0]["type"], "fail");
    assert_eq!(shown["last_pings"][0]["unexpected"][0], warnings[0]);
    let alerts = stage.alerts().await;
    assert_eq!(alerts.len(), 1);
    assert!(
        reasons(&receiver)
            .iter()
            .any(|text| text.contains("rows is 999, below the minimum of 1,000")),
        "{:?}",
        receiver.received()
    );
    // Still wrong: no second alert. Right again: up.
    assert_eq!(run(&stage, 5_001.0).await.0, "down");
    assert_eq!(run(&stage, 5_000.0).await.0, "up");
    assert_eq!(stage.alerts().await.len(), 2);
    // A number that is not reported is not judged, and a failure stays one.
    let silent = stage.heartbeat(json!({ "monitor": "backup" })).await;
    assert_eq!(silent["status"], "up");
    assert_eq!(
        silent["warnings"],
        json!(["rows was not reported", "size was not reported"])
    );
    // A warning only marks the run.
    let warned = stage
        .heartbeat(json!({ "monitor": "backup", "metrics": { "rows": 2_000, "size": 3 } }))
        .await;
    assert_eq!(warned["status"], "up");
    assert_eq!(
        warned["warnings"],
        json!(["size is 3, below the minimum of 10"])
    );
    let shown = stage.monitor("backup").await;
    assert_eq!(shown["last_pings"][0]["type"], "success");
    assert_eq!(
        shown["last_pings"][0]["unexpected"],
        json!(["size is 3, below the minimum of 10"])
    );
}

#[tokio::test]
async fn a_run_that_takes_too_long_by_its_duration_is_a_failure() {
    let stage = Stage::new().await;
    let created = monitor(&stage, json!({ "duration": "max 30m" })).await;
    let uuid = created["uuid"].as_str().unwrap().to_owned();
    for (minutes, status) in [(29, "up"), (31, "down"), (30, "up")] {
        stage.ping(&format!("{uuid}/start")).await;
        stage.world.advance(minutes * 60_000);
        stage.ping(&uuid).await;
        let shown = stage.monitor("backup").await;
        assert_eq!(shown["status"], status, "{minutes} min: {shown}");
    }
    let shown = stage.monitor("backup").await;
    assert_eq!(
        shown["flips"][1]["why"],
        "duration is 31m, above the maximum of 30m"
    );
}

/// The nightly backup that runs, exits with 0 and has written half: the reason to have this at all.
#[tokio::test]
async fn a_run_that_writes_far_fewer_rows_than_usual_is_a_failure_until_it_is_accepted() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    monitor(&stage, json!({ "rows": "auto" })).await;
    for night in 0..60 {
        assert_eq!(
            run(&stage, usual(night)).await,
            ("up".to_owned(), vec![]),
            "night {night}"
        );
        stage.world.advance(DAY);
    }
    assert!(stage.alerts().await.is_empty());
    // From one night on, half: every night is a failure, and only the first alerts.
    for night in 60..63 {
        let (status, warnings) = run(&stage, usual(night) / 2.0).await;
        assert_eq!(status, "down", "night {night}");
        assert!(
            warnings[0].starts_with("rows is ") && warnings[0].contains("below its usual "),
            "{warnings:?}"
        );
        stage.world.advance(DAY);
    }
    let alerts = stage.alerts().await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let texts = reasons(&receiver);
    assert!(texts[0].contains("far below its usual"), "{texts:?}");
    // A usual night ends it.
    assert_eq!(run(&stage, usual(63)).await.0, "up");
    stage.world.advance(DAY);
    assert_eq!(run(&stage, usual(64) / 2.0).await.0, "down");
    // "This is the new normal."
    let accepted = stage
        .call(
            Method::POST,
            "/v1/series/monitor:backup:rows/accept",
            json!({}),
        )
        .await;
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    stage.carry().await;
    stage.world.advance(DAY);
    for night in 65..75 {
        let (status, warnings) = run(&stage, usual(night) / 2.0).await;
        assert_eq!(
            (&*status, warnings.len()),
            ("up", 0),
            "night {night}: {warnings:?}"
        );
        stage.world.advance(DAY);
    }
}

/// The detector learns from the runs that the log still has.
#[tokio::test]
async fn an_expectation_that_is_set_later_learns_from_the_log() {
    let stage = Stage::new().await;
    monitor(&stage, json!({})).await;
    for night in 0..40 {
        run(&stage, usual(night)).await;
        stage.world.advance(DAY);
    }
    let change = json!({ "expect": { "rows": { "detector": "auto" } } });
    let reply = stage
        .call(Method::PATCH, "/v1/monitors/backup", change)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    stage.carry().await;
    assert_eq!(run(&stage, usual(40) / 2.0).await.0, "down");
    stage.world.advance(DAY);
    assert_eq!(run(&stage, usual(41)).await.0, "up");
    // Without the expectation, everything is a success again.
    let change = json!({ "expect": {} });
    stage
        .call(Method::PATCH, "/v1/monitors/backup", change)
        .await;
    stage.world.advance(DAY);
    assert_eq!(run(&stage, 1.0).await.0, "up");
    assert_eq!(stage.monitor("backup").await["expect"], json!({}));
}

/// A ping is judged although evaluate is behind, and although following failed at first.
#[tokio::test]
async fn a_detector_that_is_behind_still_judges() {
    let stage = Stage::new().await;
    monitor(&stage, json!({ "rows": "auto" })).await;
    for night in 0..40 {
        run(&stage, usual(night)).await;
        stage.world.advance(DAY);
    }
    // Nothing is carried from here on.
    for night in 40..43 {
        let body = json!({ "monitor": "backup", "metrics": { "rows": usual(night) } });
        assert_eq!(stage.heartbeat(body).await["status"], "up");
        stage.world.advance(DAY);
    }
    let body = json!({ "monitor": "backup", "metrics": { "rows": usual(43) / 3.0 } });
    assert_eq!(stage.heartbeat(body).await["status"], "down");
    // The series is deleted: it starts again with the next run, and what was deleted stays deleted.
    stage.carry().await;
    let deleted = stage
        .call(
            Method::DELETE,
            "/v1/series/monitor:backup:rows",
            Value::Null,
        )
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    for night in 44..64 {
        stage.world.advance(DAY);
        assert_eq!(run(&stage, usual(night)).await.0, "up", "night {night}");
    }
    let kept = stage
        .call(
            Method::GET,
            "/v1/series/monitor:backup:rows/bars",
            Value::Null,
        )
        .await;
    assert_eq!(kept.json()["bars"].as_array().unwrap().len(), 20);
    stage.world.advance(DAY);
    assert_eq!(run(&stage, usual(64) / 30.0).await.0, "down");
}

/// The detector changes when the series is long already, so its first run goes through the work queue.
#[tokio::test]
async fn a_detector_on_a_long_series_judges() {
    let stage = Stage::new().await;
    monitor(&stage, json!({ "rows": "auto", "never": "auto" })).await;
    for i in 0..1_100 {
        assert_eq!(
            run(&stage, 100.0 + (i * 7 % 13) as f64).await.0,
            "up",
            "{i}"
        );
        stage.world.advance(5 * 60_000);
    }
    let change = json!({ "expect": { "rows": "auto k=6", "never": "auto" } });
    let reply = stage
        .call(Method::PATCH, "/v1/monitors/backup", change)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    stage.carry().await;
    // A number that never comes costs no more than reading that it does not.
    stage.meter.take();
    assert_eq!(run(&stage, 104.0).await.0, "up");
    let cost = stage.meter.take();
    assert!(
        cost.read_units < 40.0 && cost.calls.values().sum::<u64>() < 30,
        "{cost:?}"
    );
    stage.world.advance(5 * 60_000);
    assert_eq!(run(&stage, 10.0).await.0, "down");
}

/// Runs that failed by themselves say nothing about what is usual.
#[tokio::test]
async fn failed_runs_teach_a_detector_nothing() {
    let stage = Stage::new().await;
    monitor(&stage, json!({ "rows": "auto" })).await;
    for _ in 0..20 {
        let failed = json!({ "monitor": "backup", "exit_status": 1, "metrics": { "rows": 3 } });
        assert_eq!(stage.heartbeat(failed).await["status"], "down");
        stage.carry().await;
        stage.world.advance(DAY);
    }
    for night in 0..30 {
        assert_eq!(run(&stage, usual(night)).await.0, "up", "night {night}");
        stage.world.advance(DAY);
    }
}

/// A monitor is never judged by the values of another one with its slug.
#[tokio::test]
async fn a_twin_is_not_judged_by_the_other_monitors_values() {
    let stage = Stage::new().await;
    monitor(&stage, json!({ "rows": "auto" })).await;
    for night in 0..40 {
        run(&stage, usual(night)).await;
        stage.world.advance(DAY);
    }
    let body = json!({ "unique": ["name"], "name": "twin", "slug": "backup", "expect": { "rows": "auto" } });
    let reply = stage.call(Method::POST, "/v1/monitors", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let twin = json!({ "monitor": "twin", "metrics": { "rows": 1 } });
    assert_eq!(stage.heartbeat(twin).await["status"], "up");
}

#[tokio::test]
async fn wrong_expectations_are_refused_with_their_place() {
    let stage = Stage::new().await;
    for (expect, said) in [
        (
            json!({ "rows": {} }),
            "expect.rows must have a detector, min or max",
        ),
        (
            json!({ "rows": 5 }),
            "expect.rows must have a detector, min or max",
        ),
        (
            json!({ "rows": "weird" }),
            "expect.rows.detector must be a detector",
        ),
        (
            json!({ "rows": "trend-rsi" }),
            "expect.rows.detector must be a detector",
        ),
        (
            json!({ "rows": "auto k=x" }),
            "expect.rows must have a number after k=",
        ),
        (
            json!({ "rows": "auto nope=1" }),
            "expect.rows.params.nope is not a parameter",
        ),
        (
            json!({ "rows": "min" }),
            "expect.rows must have a number after min",
        ),
        (
            json!({ "rows": "min 5 max 2" }),
            "expect.rows.min must not be above max",
        ),
        (
            json!({ "rows": "min 30m" }),
            "expect.rows.min must be a plain number such as 1000",
        ),
        (
            json!({ "rows": "min 1 min 2" }),
            "expect.rows has two values of min",
        ),
        (
            json!({ "rows": { "min": 1, "effect": "x" } }),
            "expect.rows.effect must be down or warn",
        ),
        (
            json!({ "rows": { "min": 1, "minimum": 2 } }),
            "expect.rows.minimum is not known",
        ),
        (
            json!({ "rows": { "min": 1, "params": { "k": 3 } } }),
            "expect.rows.params needs a detector",
        ),
        (json!({ "a b": "auto" }), "expect.a b must have a name"),
        (
            json!({ "interval": "max 1h" }),
            "expect.interval can't be expected",
        ),
        (
            json!({ "a": "auto", "b": "auto", "c": "auto", "d": "auto", "e": "auto", "f": "auto" }),
            "expect must have at most 5 numbers (got 6)",
        ),
    ] {
        let text = refused(&stage, expect.clone()).await;
        assert!(text.contains(said), "{expect}: {text}");
    }
    // All at once.
    let text = refused(&stage, json!({ "a": "x", "b": "min" })).await;
    assert!(
        text.contains("expect.a") && text.contains("expect.b"),
        "{text}"
    );
    // Five series are the most, with those that watches read.
    let created = monitor(&stage, json!({})).await;
    for name in ["a", "b", "c", "d"] {
        let body = json!({ "series": format!("monitor:backup:{name}"), "strategy": "auto" });
        let reply = stage.call(Method::POST, "/v1/watches", body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    let path = format!("/v1/monitors/{}", created["uuid"].as_str().unwrap());
    for (names, status) in [(vec!["a", "e"], 200), (vec!["e", "f"], 409)] {
        let expect: serde_json::Map<_, _> = names
            .iter()
            .map(|name| ((*name).to_owned(), json!("auto")))
            .collect();
        let reply = stage
            .call(Method::PATCH, &path, json!({ "expect": expect }))
            .await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    stage.call(Method::DELETE, &path, Value::Null).await;
    // A detector needs a series, which is called after the slug.
    let body = json!({ "name": "no slug", "expect": { "rows": "auto" } });
    let reply = stage.call(Method::POST, "/v1/monitors", body).await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("needs a monitor with a slug"),
        "{}",
        reply.text()
    );
    monitor(&stage, json!({ "rows": "auto" })).await;
    let body = json!({ "name": "twin", "slug": "backup", "expect": { "rows": "auto" } });
    let reply = stage.call(Method::POST, "/v1/monitors", body).await;
    assert_eq!(reply.status, 409, "{}", reply.text());
}
