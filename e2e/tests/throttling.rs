//! A partly throttled table: affected calls are retried and delay no other monitor.

use e2e::{PING_KEY, Receiver, Stage};
use serde_json::json;
use std::collections::BTreeSet;

async fn monitor(stage: &Stage, name: &str) -> String {
    let created = stage
        .heartbeat(json!({"monitor": name, "period_s": 10, "grace_s": 0}))
        .await;
    created["uuid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_cancelled_transaction_is_retried() {
    let stage = Stage::new().await;
    let id = monitor(&stage, "job").await;
    // A start, a failure and a recovery are one transaction each.
    for path in ["start", "fail", ""] {
        stage.switch.throttle(format!("M#{id}"), 3);
        let reply = stage.ping(&format!("{id}/{path}")).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(stage.switch.still_throttled(), 0);
    }
    let created = stage.ping(&format!("{PING_KEY}/new?create=1")).await;
    assert_eq!(created.status, 201);
    let monitor = stage.monitor("job").await;
    assert_eq!(monitor["pings"], 4);
}

#[tokio::test]
async fn permanent_throttling_becomes_a_503_after_two_seconds() {
    let stage = Stage::new().await;
    let id = monitor(&stage, "job").await;
    stage.switch.throttle(format!("M#{id}"), u32::MAX);
    let started = std::time::Instant::now();
    let reply = stage.ping(&format!("{id}/fail")).await;
    assert_eq!(reply.status, 503);
    let took = started.elapsed().as_secs_f64();
    assert!((1.0..10.0).contains(&took), "{took} s");
    // The alarm, and the canary with it, sees one failure among all requests.
    let now = stage.store.world().now();
    let line = stage.store.metrics().line("t", now, 0).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let requests = &line["ServerErrors"]["Counts"];
    assert_eq!(line["ServerErrors"]["Values"], json!([0, 1]), "{line}");
    assert_eq!(requests[1], 1, "{line}");
}

#[tokio::test]
async fn one_throttled_monitor_delays_no_other() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage
        .webhook(&receiver.url, json!({"group_threshold": 0}))
        .await;
    let mut ids = Vec::new();
    for i in 0..5 {
        ids.push(monitor(&stage, &format!("job-{i}")).await);
    }
    stage.switch.throttle(format!("M#{}", ids[2]), u32::MAX);
    stage.run(11_000, 11_000).await;
    let notified: BTreeSet<String> = receiver
        .received()
        .iter()
        .flat_map(|received| received.changes())
        .map(|(name, _)| name)
        .collect();
    let others = ["job-0", "job-1", "job-3", "job-4"].map(str::to_owned);
    assert_eq!(notified, others.into());
    // The throttled monitor's timer fires again.
    stage.switch.throttle("", 0);
    stage.run(3_000, 1_000).await;
    assert_eq!(receiver.received().len(), 5);
}
