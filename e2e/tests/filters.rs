//! The event source filters of the stream on AWS, evaluated by moto's matcher on real records of
//! every kind.
//!
//! `THRUM_TEST_PYTHON` is a Python with `moto`; without it this test reports that it is skipped.

use axum::http::Method;
use e2e::{PING_KEY, Receiver, Stage, record};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use thrum_schema::id::{ChannelId, ProjectId};
use thrum_schema::{UnixMs, World};

/// Every kind of item.
const KINDS: &[&str] = &[
    "alert",
    "arrived",
    "badge",
    "badgekey",
    "bar",
    "census",
    "channel",
    "checkpoint",
    "counted",
    "cursor",
    "delivery",
    "flip",
    "gathered",
    "health",
    "key",
    "lease",
    "memory",
    "monitor",
    "name",
    "outage",
    "owner",
    "ping",
    "pingkey",
    "probe",
    "project",
    "projectkey",
    "projectpingkey",
    "projectref",
    "pulse",
    "rate",
    "request",
    "requesttext",
    "restored",
    "score",
    "series",
    "signal",
    "slug",
    "soon",
    "strategy",
    "strategyversion",
    "subscription",
    "timers",
    "track",
    "uniquekey",
    "usage",
    "watch",
];

/// Performs every operation that writes an item.
async fn write_every_kind(stage: &Stage) {
    let receiver = Receiver::start().await;
    stage
        .webhook(&receiver.url, json!({"group_threshold": 1}))
        .await;
    let mail = json!({"kind": "email", "to": "on-call@example.org"});
    let mail = stage.call(Method::POST, "/v1/channels", mail).await.json();
    let mail: ChannelId = mail["id"].as_str().unwrap().parse().unwrap();
    let now = stage.world.now();
    let project = ProjectId::FIRST;
    let channel = stage.store.channel(project, mail).await.unwrap().unwrap();
    stage
        .store
        .replace_channel(&channel, Some(now))
        .await
        .unwrap();
    stage.webhook("http://127.0.0.1:9/", json!({})).await;
    for i in 0..4 {
        let name = format!("job-{i}");
        let body = json!({"name": name, "slug": name, "period_s": 60, "grace_s": 30});
        stage.call(Method::POST, "/v1/monitors", body).await;
        stage.ping(&format!("{PING_KEY}/{name}")).await;
    }
    let long = json!({"name": "long", "slug": "long", "period_s": 86_400, "grace_s": 3_600});
    stage.call(Method::POST, "/v1/monitors", long).await;
    stage.ping(&format!("{PING_KEY}/long")).await;
    stage.carry().await;
    // Steady pings, a failure, missed deadlines, a recovery, and an outage of Thrum.
    for _ in 0..5 {
        stage.run(20_000, 10_000).await;
        for i in 0..4 {
            stage.ping(&format!("{PING_KEY}/job-{i}")).await;
        }
    }
    stage.ping(&format!("{PING_KEY}/job-0/fail")).await;
    stage.ping(&format!("{PING_KEY}/job-2/start")).await;
    stage.run(200_000, 10_000).await;
    stage.ping(&format!("{PING_KEY}/job-1")).await;
    stage.run(5_000, 1_000).await;
    stage.world.advance(400_000);
    stage.tick().await;
    stage
        .call(Method::DELETE, "/v1/monitors/job-3", Value::Null)
        .await;
    // TTL removes a state; a ping then creates a new one before the old one is restored.
    stage.world.advance(3 * 86_400_000);
    stage.expire_all().await;
    stage.ping(&format!("{PING_KEY}/long")).await;
    stage.carry().await;
    // Signals.
    let strategy = json!({
        "buy": {"left": "close", "op": ">", "right": 100}, "sell": {"left": "close", "op": "<", "right": 100},
    });
    stage
        .call(Method::PUT, "/v1/strategies/simple", strategy)
        .await;
    let hour = 3_600_000;
    let end = stage.world.now().0 / hour * hour;
    let bars = |from: i64, n: i64, close: f64| -> Value {
        let bar = |i: i64| {
            json!({"time": UnixMs(end - (600 - i) * hour).rfc3339(), "open": close, "high": close, "low": close,
                   "close": close, "volume": 1.0})
        };
        json!({"timeframe": "1h", "bars": (from..from + n).map(bar).collect::<Vec<_>>()})
    };
    for from in [0, 300] {
        let reply = stage
            .call(Method::POST, "/v1/series/x/bars", bars(from, 290, 90.0))
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let watch = json!({"series": "x", "timeframe": "1h", "strategy": "simple"});
    let watch = stage.call(Method::POST, "/v1/watches", watch).await.json();
    stage.carry().await;
    stage
        .call(Method::POST, "/v1/series/x/bars", bars(590, 5, 120.0))
        .await;
    stage
        .call(Method::POST, "/v1/series/y/bars", bars(590, 5, 120.0))
        .await;
    let sentiment = json!({"scores": [{"time": UnixMs(end - 20 * hour).rfc3339(), "score": 0.5}]});
    let reply = stage
        .call(Method::POST, "/v1/series/x/sentiment", sentiment)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    stage.carry().await;
    let inline =
        json!({"timeframe": "1h", "strategy": "simple", "bars": bars(0, 30, 90.0)["bars"]});
    for (path, body) in [
        ("/v1/signals", inline),
        (
            "/v1/backtests",
            json!({"series": "x", "timeframe": "1h", "strategy": "simple"}),
        ),
    ] {
        let reply = stage.call(Method::POST, path, body).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    stage.carry().await;
    let path = format!("/v1/watches/{}", watch["id"].as_str().unwrap());
    stage
        .call(Method::PATCH, &path, json!({"cooldown_s": 60}))
        .await;
    stage.store.probe(stage.world.now()).await.unwrap();
    stage.carry().await;
}

/// Whether evaluate handles a record, so that it must pass the filters.
fn is_handled(record: &Value) -> bool {
    let (new, old) = (
        &record["dynamodb"]["NewImage"],
        &record["dynamodb"]["OldImage"],
    );
    match (kind(record), record["eventName"].as_str().unwrap()) {
        ("alert" | "request", event) => event == "INSERT",
        ("probe" | "watch" | "soon", event) => event != "REMOVE",
        ("series", _) => new["nudge"] != old["nudge"],
        ("lease", event) => event == "REMOVE",
        _ => false,
    }
}

fn kind(record: &Value) -> &str {
    let change = &record["dynamodb"];
    let kind = &change["NewImage"]["kind"]["S"];
    let kind = kind.as_str().or(change["OldImage"]["kind"]["S"].as_str());
    kind.expect("every item has a kind")
}

#[tokio::test]
async fn the_filters_pass_exactly_the_records_that_evaluate_handles() {
    let Some(python) = std::env::var_os("THRUM_TEST_PYTHON") else {
        eprintln!("SKIPPED: THRUM_TEST_PYTHON is not set; see CONTRIBUTING.md");
        return;
    };
    let stage = Stage::with_admin().await;
    write_every_kind(&stage).await;
    let changes = stage.all_changes().await;
    let records: Vec<Value> = changes.iter().map(record).collect();
    let kinds: BTreeSet<&str> = records.iter().map(kind).collect();
    assert_eq!(
        kinds,
        KINDS.iter().copied().collect(),
        "every kind must occur"
    );

    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut child = Command::new(python)
        .arg(format!("{root}/e2e/aws/filters.py"))
        .arg(format!("{root}/template.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_vec(&records).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let passed: Vec<bool> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(passed.len(), records.len());
    let mut counts: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
    for ((change, record), passed) in changes.iter().zip(&records).zip(passed) {
        // The embedded table selects the same records, and can also see whether TTL removed a
        // state.
        let deleted_by_request = kind(record) == "lease" && !change.expired;
        assert_eq!(
            change.is_wanted(),
            passed && !deleted_by_request,
            "{record}"
        );
        counts.entry(kind(record)).or_default()[usize::from(passed)] += 1;
        assert_eq!(passed, is_handled(record), "{record}");
    }
    // Records of each handled kind pass, and those of steady heartbeats don't.
    for kind in [
        "alert", "request", "probe", "watch", "soon", "series", "lease",
    ] {
        assert!(counts[kind][1] > 0, "{kind}: {counts:?}");
    }
    assert!(
        counts["lease"][0] > 20 && counts["series"][0] > 0,
        "{counts:?}"
    );
}
