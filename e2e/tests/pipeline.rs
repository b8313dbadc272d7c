//! Deadlines, alerts and deliveries, step by step, under a clock that the test controls.

use axum::http::Method;
use e2e::{Receiver, Stage};
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use thrum_evaluate::{Pulse, SelfPing};
use thrum_schema::delivery::CLAIM_MS;
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::{MonitorId, World};
use thrum_store::Claim;

/// Sends a heartbeat for a monitor with a period of 2 s and a grace of 1 s.
async fn beat(stage: &Stage, name: &str) -> Value {
    stage
        .heartbeat(json!({"monitor": name, "period_s": 2, "grace_s": 1}))
        .await
}

#[tokio::test]
async fn a_missed_deadline_and_the_recovery_each_notify_once() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    beat(&stage, "web-01").await;
    stage.run(2_900, 100).await;
    assert_eq!(stage.monitor("web-01").await["status"], "grace");
    assert!(receiver.received().is_empty());
    stage.run(60_000, 500).await;
    let monitor = stage.monitor("web-01").await;
    assert_eq!(monitor["status"], "down");
    assert_eq!(
        monitor["flips"][0]["at"], "2025-11-21T04:40:03.000Z",
        "dated at the deadline"
    );
    beat(&stage, "web-01").await;
    stage.run(1_000, 500).await;
    let received = receiver.received();
    let changes: Vec<_> = received.iter().flat_map(|r| r.changes()).collect();
    let expected =
        [("web-01", "down"), ("web-01", "up")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(changes, expected);
    // Signed as Standard Webhooks specifies, with an id made of alert and channel.
    let down = &received[0];
    let channel = stage
        .store
        .channels(ProjectId::FIRST)
        .await
        .unwrap()
        .remove(0);
    let thrum_schema::ChannelKind::Webhook { secret, .. } = &channel.via else {
        panic!("expected a webhook");
    };
    let timestamp = down.timestamp.parse().unwrap();
    let signature = thrum_notify::send::signature(secret, &down.id, timestamp, &down.raw);
    assert_eq!(signature.as_deref(), Some(down.signature.as_str()));
    let alert = down.body["data"]["alert_id"].as_str().unwrap();
    assert_eq!(down.id, format!("{alert}.{}", channel.id));
    // And no alert stays pending.
    stage.run(600_000, 10_000).await;
    let alerts = stage.alerts().await;
    assert!(alerts.iter().all(|alert| alert["state"] != "pending"));
}

#[tokio::test]
async fn a_restart_never_extends_a_deadline() {
    let stage = Stage::new().await;
    beat(&stage, "web-01").await;
    // Down for 20 s, which is too short to count as an outage. A new sweeper finds the missed
    // deadline.
    stage.world.advance(20_000);
    let swept = stage.sweeper("another").sweep(0).await.unwrap();
    assert_eq!(swept.flips, 1);
    let flip = stage.monitor("web-01").await["flips"][0].clone();
    assert_eq!(flip["at"], "2025-11-21T04:40:03.000Z");
    assert_eq!(flip["outage"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_concurrent_sweepers_produce_one_flip() {
    let stage = Stage::new().await;
    for i in 0..60 {
        beat(&stage, &format!("web-{i:02}")).await;
    }
    stage.world.advance(4_000);
    // With the same name, neither is blocked by the other's claim: both handle the same timers.
    let (a, b) = (stage.sweeper("a"), stage.sweeper("a"));
    let (a, b) = tokio::join!(a.sweep(0), b.sweep(0));
    a.unwrap();
    b.unwrap();
    stage.tick().await;
    stage.carry().await;
    let alerts = stage.alerts().await;
    assert_eq!(alerts.len(), 60, "one alert per monitor");
    let alerting: HashSet<&str> = alerts
        .iter()
        .map(|alert| alert["monitor"]["uuid"].as_str().unwrap())
        .collect();
    assert_eq!(alerting.len(), 60);
    // A sweeper skips a shard that another one has claimed.
    beat(&stage, "web-00").await;
    stage.world.advance(4_000);
    let now = stage.world.now();
    assert!(
        stage
            .store
            .claim_shard(0, "other", now + 10_000, now)
            .await
            .unwrap()
    );
    assert!(stage.sweeper("a").sweep(0).await.unwrap().busy);
    stage.world.advance(11_000);
    assert_eq!(stage.sweeper("a").sweep(0).await.unwrap().flips, 1);
}

#[tokio::test]
async fn timers_missed_for_days_are_found() {
    let stage = Stage::new().await;
    beat(&stage, "web-01").await;
    stage.world.advance(3 * 86_400_000);
    stage.run(5_000, 500).await;
    let flip = stage.monitor("web-01").await["flips"][0].clone();
    assert_eq!(flip["to"], "down");
    assert_eq!(
        flip["outage"]["start"], "2025-11-21T04:40:00.000Z",
        "{flip}"
    );
}

#[tokio::test]
async fn an_outage_of_thrum_causes_no_false_or_missed_alerts() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    for name in ["alive", "dead"] {
        stage
            .heartbeat(json!({"monitor": name, "period_s": 60, "grace_s": 30}))
            .await;
    }
    stage.run(20_000, 1_000).await;
    // Ten minutes of outage: nothing runs, and no ping gets through.
    stage.world.advance(600_000);
    stage.tick().await;
    stage.carry().await;
    assert!(
        receiver.received().is_empty(),
        "no false alert right after the outage"
    );
    let monitor = stage.monitor("dead").await;
    assert_eq!(monitor["status"], "grace");
    assert_eq!(monitor["outage"]["start"], "2025-11-21T04:40:16.000Z");
    let deadline = monitor["deadline"].as_str().unwrap().to_owned();
    assert_eq!(
        deadline, "2025-11-21T04:51:50.000Z",
        "a period and a grace after the end of the outage"
    );
    // One pings again, the other does not.
    stage.run(60_000, 1_000).await;
    stage
        .heartbeat(json!({"monitor": "alive", "period_s": 60, "grace_s": 30}))
        .await;
    stage.run(60_000, 1_000).await;
    let received = receiver.received();
    assert_eq!(received.len(), 1, "{received:?}");
    let data = &received[0].body["data"];
    assert_eq!(
        (&data["monitor"]["name"], &data["status"]),
        (&json!("dead"), &json!("down"))
    );
    assert_eq!(data["flip_at"], deadline);
    assert_eq!(
        data["outage"]["start"], "2025-11-21T04:40:16.000Z",
        "the alert shows the outage"
    );
}

/// A pulse that never gets through.
#[derive(Debug)]
struct Unreachable;

impl SelfPing for Unreachable {
    fn send(&self, _: MonitorId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Err("connection refused".to_owned()) })
    }
}

#[tokio::test]
async fn no_monitor_goes_down_while_the_pulse_fails() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    stage
        .heartbeat(json!({"monitor": "web-01", "period_s": 60, "grace_s": 30}))
        .await;
    stage.run(10_000, 1_000).await;
    let pulse = Pulse::new(Arc::new(Unreachable), 5_000, 1);
    for _ in 0..120 {
        stage.world.advance(5_000);
        let sweeper = stage.sweeper("a");
        sweeper.keep_pulse(&pulse).await.unwrap();
        sweeper.sweep(0).await.unwrap();
        stage.carry().await;
    }
    assert_eq!(pulse.failure().as_deref(), Some("connection refused"));
    assert!(receiver.received().is_empty());
    assert_eq!(stage.monitor("web-01").await["status"], "grace");
    // Once it succeeds again, a monitor that is still silent alerts after a period and a grace.
    stage.run(80_000, 1_000).await;
    assert!(receiver.received().is_empty());
    stage.run(20_000, 1_000).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_failing_receiver_gets_its_alerts_later_and_in_order() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(503);
    stage.webhook(&receiver.url, json!({})).await;
    beat(&stage, "web-01").await;
    stage.run(10_000, 500).await;
    // It recovers while "down" is still undelivered: "up" must not overtake it (A8).
    stage
        .heartbeat(json!({"monitor": "web-01", "period_s": 3_600}))
        .await;
    stage.run(20_000, 500).await;
    let attempts = receiver.received();
    assert!(attempts.len() >= 3, "the delivery is retried");
    let ids: HashSet<&str> = attempts.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids.len(), 1, "every attempt has the same id");
    let waiting = &stage.alerts().await[0]["deliveries"][0];
    assert_eq!(waiting["state"], "waiting");
    let failing = &stage.alerts().await[1]["deliveries"][0];
    assert_eq!(failing["state"], "retry");
    assert!(failing["error"].as_str().unwrap().contains("503"));
    receiver.answer(200);
    stage.run(120_000, 1_000).await;
    let taken: Vec<_> = receiver.taken().iter().flat_map(|r| r.changes()).collect();
    let statuses: Vec<&str> = taken
        .iter()
        .map(|(_, status)| status.as_str())
        .take(2)
        .collect();
    assert_eq!(statuses, ["down", "up"]);
    assert!(
        stage
            .alerts()
            .await
            .iter()
            .rev()
            .take(2)
            .all(|a| a["state"] == "delivered")
    );
}

#[tokio::test]
async fn a_delivery_that_always_fails_becomes_dead_and_can_be_redelivered() {
    let stage = Stage::new().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    receiver.answer(500);
    stage.webhook(&receiver.url, json!({})).await;
    stage.webhook(&other.url, json!({})).await;
    beat(&stage, "web-01").await;
    stage.run(10_000, 500).await;
    assert_eq!(other.taken().len(), 1, "channels are independent");
    // Attempts are up to 37.5 minutes apart; the last one must start within the day.
    stage.run(23 * 3_600_000 + 1_200_000, 60_000).await;
    assert_eq!(stage.alerts().await[0]["state"], "pending");
    stage.run(2 * 3_600_000, 60_000).await;
    let alert = stage.alerts().await[0].clone();
    assert_eq!(alert["state"], "dead");
    let mut deliveries = alert["deliveries"].as_array().unwrap().iter();
    let delivery = deliveries.find(|one| one["state"] == "dead").unwrap();
    assert!(delivery["error"].as_str().unwrap().contains("500"));
    let (channel, last) = (delivery["channel"].clone(), stage.world.now().rfc3339());
    let attempts = delivery["attempts"].as_u64().unwrap();
    assert!(
        (40..80).contains(&attempts),
        "expected backoff, got {attempts} attempts in a day"
    );
    let first = delivery["first_attempt_at"].as_str().unwrap();
    let created = alert["created_at"].as_str().unwrap();
    assert_eq!(first[..16], created[..16], "within the same minute");
    let before = receiver.received().len();
    stage.run(3_600_000, 60_000).await;
    assert_eq!(receiver.received().len(), before, "no attempts after that");

    receiver.answer(200);
    let path = format!("/v1/alerts/{}/redeliver", alert["id"].as_str().unwrap());
    let reply = stage.call(Method::POST, &path, Value::Null).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let again = stage.call(Method::POST, &path, Value::Null).await;
    assert_eq!(again.status, 409, "{}", again.text());
    stage.run(1_000, 500).await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].id, receiver.received()[0].id, "same id as before");
    let alert = stage.alerts().await[0].clone();
    assert_eq!(alert["state"], "delivered");
    let deliveries = alert["deliveries"].as_array().unwrap();
    let retried = deliveries.iter().find(|one| one["channel"] == channel);
    let since = retried.unwrap()["first_attempt_at"].as_str().unwrap();
    assert!(since > &*last, "it counts from the redelivery");
    assert_eq!(
        other.received().len(),
        1,
        "a channel that had the alert gets it no second time"
    );
}

#[tokio::test]
async fn forty_hosts_down_at_once_are_one_message() {
    let stage = Stage::new().await;
    let (grouped, single) = (Receiver::start().await, Receiver::start().await);
    stage.webhook(&grouped.url, json!({})).await;
    stage
        .webhook(&single.url, json!({"group_threshold": 0}))
        .await;
    for i in 0..40 {
        beat(&stage, &format!("web-{i:02}")).await;
    }
    stage.run(10_000, 500).await;
    assert_eq!(single.received().len(), 40);
    let received = grouped.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body["type"], "monitors.changed");
    let names: HashSet<String> = received[0]
        .changes()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names.len(), 40);
    let alerts = stage.alerts().await;
    assert!(alerts.iter().all(|alert| alert["state"] == "delivered"));
    let deliveries = alerts[0]["deliveries"].as_array().unwrap().iter();
    for delivery in deliveries {
        let in_group = !delivery["group"].is_null();
        assert_eq!(delivery["first_attempt_at"].is_null(), in_group);
    }
    // They recover one by one: a few single messages, and one for the rest.
    for i in 0..40 {
        beat(&stage, &format!("web-{i:02}")).await;
        stage.carry().await;
    }
    stage.run(2_500, 500).await;
    let received = grouped.received();
    assert_eq!(received.len(), 1 + 5 + 1);
    assert_eq!(received[6].changes().len(), 35);
}

#[tokio::test]
async fn more_than_ninety_alerts_at_once_are_two_messages() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let all: Vec<Value> = (0..95)
        .map(|i| json!({"monitor": format!("web-{i:02}"), "period_s": 2, "grace_s": 1}))
        .collect();
    let body = json!({ "heartbeats": all });
    let reply = stage.call(Method::POST, "/v1/heartbeats", body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    stage.run(10_000, 500).await;
    let received = receiver.received();
    let sizes: Vec<usize> = received.iter().map(|r| r.changes().len()).collect();
    assert_eq!(sizes, [90, 5]);
    let names: HashSet<String> = received
        .iter()
        .flat_map(|r| r.changes())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names.len(), 95);
    let alerts = stage.alerts().await;
    assert!(alerts.iter().all(|alert| alert["state"] == "delivered"));
}

#[tokio::test]
async fn a_failed_group_is_retried_unchanged() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    stage.webhook(&receiver.url, json!({})).await;
    for i in 0..10 {
        beat(&stage, &format!("web-{i}")).await;
    }
    stage.run(8_000, 500).await;
    // Alerts raised while the group fails are not added to it.
    stage
        .heartbeat(json!({"monitor": "db-01", "status": "fail"}))
        .await;
    stage.run(2_000, 500).await;
    receiver.answer(200);
    stage.run(60_000, 1_000).await;
    let groups: Vec<_> = receiver
        .received()
        .into_iter()
        .filter(|r| r.body["type"] == "monitors.changed")
        .collect();
    assert!(groups.len() >= 2);
    assert!(
        groups
            .iter()
            .all(|g| g.id == groups[0].id && g.raw == groups[0].raw)
    );
    assert_eq!(groups[0].changes().len(), 10);
    assert!(
        stage
            .alerts()
            .await
            .iter()
            .all(|alert| alert["state"] == "delivered")
    );
}

#[tokio::test]
async fn a_channels_limit_is_announced_once_and_passes_only_the_first_down() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    let limits = json!({"daily_limit": 3, "group_threshold": 0});
    stage.webhook(&receiver.url, limits).await;
    for status in ["fail", "ok", "fail"] {
        for i in 0..10 {
            stage
                .heartbeat(json!({"monitor": format!("web-{i}"), "status": status}))
                .await;
        }
        stage.run(5_000, 500).await;
    }
    let received = receiver.received();
    let of = |kind: &str| {
        let all = received.iter();
        all.filter(|one| one.body["type"] == kind).count()
    };
    assert_eq!(of("monitor.down"), 10, "each is news");
    assert_eq!(of("monitor.up"), 0);
    assert_eq!(of("channel.limited"), 1);
    let alerts = stage.alerts().await;
    let suppressed = alerts
        .iter()
        .filter(|alert| alert["deliveries"][0]["state"] == "suppressed");
    assert_eq!(suppressed.count(), 20);
    let taken = stage
        .store
        .taken(ProjectId::FIRST, "deliveries#webhook", stage.world.now())
        .await;
    assert_eq!(taken.unwrap(), 10, "metered by kind");
}

/// A ping URL that leaked, or a job that is not important, must not use up the alerts of others.
#[tokio::test]
async fn one_monitor_never_silences_another() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    let limits = json!({"daily_limit": 20, "group_threshold": 0});
    stage.webhook(&receiver.url, limits).await;
    for status in ["fail", "ok"].repeat(12) {
        stage
            .heartbeat(json!({"monitor": "unimportant", "status": status}))
            .await;
        stage.run(2_000, 500).await;
    }
    let before = receiver.received();
    // After six alerts in a row it counts as flapping, and the last of them says so.
    assert_eq!(before.len(), 6);
    assert_eq!(before[5].body["data"]["flapping"], true);
    assert!(before[4].body["data"]["flapping"].is_null());
    let subject = &before[0].body["data"]["monitor"];
    assert!(subject["uuid"].is_null() && subject["unique_key"].is_string());
    stage
        .heartbeat(json!({"monitor": "database", "status": "fail"}))
        .await;
    stage.run(2_000, 500).await;
    let after = receiver.received();
    assert_eq!(after.len(), 7);
    assert_eq!(after[6].body["data"]["monitor"]["name"], "database");
    // It goes down once more and stays down: Thrum notifies once it is stable.
    stage
        .heartbeat(json!({"monitor": "unimportant", "status": "fail"}))
        .await;
    stage.run(14 * 60_000, 10_000).await;
    assert_eq!(receiver.received().len(), 7);
    stage.run(2 * 60_000, 10_000).await;
    let last = receiver.received();
    assert_eq!(last.len(), 8);
    assert_eq!(last[7].body["type"], "monitor.down");
}

#[tokio::test]
async fn notify_up_and_notify_down_filter_a_channels_alerts() {
    let stage = Stage::new().await;
    let (downs, ups) = (Receiver::start().await, Receiver::start().await);
    stage.webhook(&downs.url, json!({"notify_up": false})).await;
    let id = stage.webhook(&ups.url, json!({"notify_down": false})).await;
    for status in ["ok", "fail", "ok"] {
        stage
            .heartbeat(json!({"monitor": "job", "status": status}))
            .await;
        stage.run(1_000, 500).await;
    }
    assert_eq!(downs.received().len(), 1);
    assert_eq!(ups.received().len(), 1);
    assert_eq!(ups.received()[0].body["type"], "monitor.up");
    // A test message is sent whatever the settings.
    let path = format!("/v1/channels/{id}/test");
    assert_eq!(
        stage.call(Method::POST, &path, Value::Null).await.status,
        202
    );
    stage.carry().await;
    assert_eq!(ups.received()[1].body["type"], "channel.test");
    // A deleted channel gets no more messages, and delays no other.
    let path = format!("/v1/channels/{id}");
    assert_eq!(
        stage.call(Method::DELETE, &path, Value::Null).await.status,
        204
    );
    stage
        .heartbeat(json!({"monitor": "job", "status": "fail"}))
        .await;
    stage.run(1_000, 500).await;
    assert_eq!((downs.received().len(), ups.received().len()), (2, 2));
}

#[tokio::test]
async fn an_alert_lost_on_the_bus_is_found_by_its_audit() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    beat(&stage, "web-01").await;
    stage.world.advance(4_000);
    stage.tick().await;
    stage.lose_bus().await;
    stage.run(35_000, 1_000).await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(stage.alerts().await[0]["state"], "delivered");
}

#[tokio::test]
async fn the_claim_of_a_crashed_worker_expires_and_is_taken_over() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    let channel: ChannelId = stage
        .webhook(&receiver.url, json!({}))
        .await
        .parse()
        .unwrap();
    beat(&stage, "web-01").await;
    stage.world.advance(4_000);
    stage.tick().await;
    let alert: AlertId = stage.alerts().await[0]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    // Another worker plans the alert, claims the delivery, and crashes.
    let project = ProjectId::FIRST;
    stage
        .store
        .plan(project, alert, &[channel], &[])
        .await
        .unwrap();
    let now = stage.world.now();
    let claim = Claim {
        project,
        alert,
        channel,
        token: stage.world.uuid_v4(),
        until: now + CLAIM_MS,
    };
    stage.store.claim(&claim, now).await.unwrap();
    stage.carry().await;
    assert!(receiver.received().is_empty(), "a valid claim is respected");
    stage.run(CLAIM_MS + 1_000, 1_000).await;
    assert_eq!(receiver.received().len(), 1);
    let delivery = stage.store.delivery(alert, channel).await.unwrap().unwrap();
    assert_eq!(delivery.attempts, 2);
    // The old worker comes back too late: its result is refused.
    let settled = thrum_store::Settled::Dead {
        error: "late".into(),
    };
    assert!(stage.store.settle(&claim, &settled).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_duplicates_of_work_are_done_once() {
    // With grouping off, and with so many duplicates that they look like a burst and are grouped.
    for threshold in [0, 5] {
        let stage = Stage::new().await;
        let receiver = Receiver::start().await;
        receiver.delay(Duration::from_millis(50));
        let more = json!({"group_threshold": threshold});
        stage.webhook(&receiver.url, more).await;
        let failure = json!({"monitor": "job", "status": "fail"});
        stage.heartbeat(failure).await;
        let alert = stage.alerts().await[0]["id"].as_str().unwrap().parse();
        let work = thrum_schema::work::NotifyWork::Alert {
            project: ProjectId::FIRST,
            alert: alert.unwrap(),
        };
        for result in join_all((0..20).map(|_| stage.notify.handle(&work))).await {
            result.unwrap();
        }
        stage.run(5_000, 500).await;
        assert_eq!(receiver.received().len(), 1, "threshold {threshold}");
    }
}

#[tokio::test]
async fn a_state_removed_by_ttl_is_restored_as_down() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    for _ in 0..3 {
        beat(&stage, "web-01").await;
    }
    let id: MonitorId = stage.monitor("web-01").await["uuid"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    // No sweep ran; TTL removes the state, and its stream record triggers the repair.
    assert!(stage.expire_all().await >= 1);
    assert!(
        stage
            .store
            .locate(id)
            .await
            .unwrap()
            .unwrap()
            .state
            .is_none()
    );
    assert_eq!(
        stage.monitor("web-01").await["status"],
        "down",
        "never unknown"
    );
    stage.idle(7_200_000).await;
    stage.carry().await;
    let monitor = stage.monitor("web-01").await;
    assert_eq!(
        (&monitor["status"], &monitor["pings"]),
        (&json!("down"), &json!(3))
    );
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(
        receiver.received()[0].body["data"]["flip_at"],
        "2025-11-21T04:40:03.000Z"
    );

    // A ping that arrives before the record is handled creates a new state; the old counters are
    // added.
    beat(&stage, "db-01").await;
    stage.expire_all().await;
    stage.idle(7_200_000).await;
    assert_eq!(beat(&stage, "db-01").await["status"], "up");
    stage.carry().await;
    let monitor = stage.monitor("db-01").await;
    assert_eq!(
        (&monitor["status"], &monitor["pings"]),
        (&json!("up"), &json!(2))
    );
    assert_eq!(monitor["flips"].as_array().unwrap().len(), 2, "{monitor}");

    // After an outage of Thrum the monitor is not down yet, and its pings still count.
    beat(&stage, "api-01").await;
    stage.expire_all().await;
    stage.world.advance(7_200_000);
    assert_eq!(beat(&stage, "api-01").await["status"], "up");
    for _ in 0..2 {
        stage.carry().await;
    }
    assert_eq!(stage.monitor("api-01").await["pings"], 2);
}

#[tokio::test]
async fn the_deep_check_follows_a_probe_through_the_pipeline() {
    let stage = Arc::new(Stage::new().await);
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let channel = stage.webhook(&receiver.url, json!({ "name": "ops" })).await;
    let test = format!("/v1/channels/{channel}/test");
    stage.call(Method::POST, &test, Value::Null).await;
    stage.run(1_000, 1_000).await;
    let deep_check = {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.call(Method::GET, "/v1/status", Value::Null).await })
    };
    for _ in 0..100 {
        stage.carry().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reply = deep_check.await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let failing = &reply.json()["failing_channels"];
    assert_eq!(failing[0]["name"], "ops");
    assert_eq!(failing[0]["failing"]["attempts"], 1, "{failing}");
    for key in ["", "hcr_nobody's_0123456789abcdefghij"] {
        let public = stage.send_as("GET", "/v1/status", key, "").await;
        assert_eq!(public.status, 200);
        assert_eq!(public.json().get("failing_channels"), None, "{key}");
    }
    // Sweeping and relaying stop.
    stage.world.advance(20 * 60_000);
    let deep_check = {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.call(Method::GET, "/v1/status", Value::Null).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    stage.world.advance(6_000);
    let reply = deep_check.await.unwrap();
    assert_eq!(reply.status, 503);
    let reasons = reply.json()["reasons"].to_string();
    assert!(
        reasons.contains("sweep") && reasons.contains("relayed"),
        "{reasons}"
    );
}

/// Up, down and up again within a minute: timers of two epochs share a slot and fire together.
#[tokio::test]
async fn timers_of_two_epochs_firing_together_cause_one_flip() {
    let stage = Stage::new().await;
    let times = json!({"monitor": "job", "period_s": 600, "grace_s": 3_600});
    stage.heartbeat(times.clone()).await;
    stage
        .heartbeat(json!({"monitor": "job", "status": "fail"}))
        .await;
    stage.heartbeat(times).await;
    stage.run(2 * 3_600_000, 60_000).await;
    assert_eq!(stage.monitor("job").await["status"], "down");
    let downs = stage.alerts().await;
    assert_eq!(
        downs
            .iter()
            .filter(|alert| alert["type"] == "monitor.down")
            .count(),
        2
    );
}

/// A new deadline in the past takes the monitor down at once; arming its timer behind the cursor
/// would lose it.
#[tokio::test]
async fn a_deadline_set_in_the_past_is_noticed() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    stage
        .heartbeat(json!({"monitor": "job", "period_s": 86_400}))
        .await;
    stage.run(2 * 3_600_000, 60_000).await;
    // A log ping does not reset the deadline, but it can set a shorter period.
    let body = json!({"monitor": "job", "status": "log", "period_s": 60, "grace_s": 30});
    stage.heartbeat(body).await;
    stage.run(2_000, 1_000).await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(receiver.received()[0].body["data"]["status"], "down");
    // A success of another run brings the monitor up; the first run, which times out, takes it down
    // again.
    let uuid = stage.monitor("job").await["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let rid = |n: u8| format!("rid=0a1b2c3d-4e5f-4a0b-8c1d-2e3f4051620{n}");
    stage.ping(&uuid).await;
    stage.ping(&format!("{uuid}/start?{}", rid(1))).await;
    stage.run(40_000, 1_000).await;
    stage.ping(&format!("{uuid}?{}", rid(2))).await;
    stage.run(40_000, 1_000).await;
    let changes: Vec<String> = receiver
        .received()
        .iter()
        .flat_map(|received| received.changes())
        .map(|(_, status)| status)
        .collect();
    assert_eq!(changes, ["down", "up", "down", "up", "down"]);
}

#[tokio::test]
async fn an_alert_that_a_channel_skips_does_not_break_its_order() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    stage
        .webhook(&receiver.url, json!({"notify_up": false}))
        .await;
    for status in ["fail", "ok", "fail"] {
        stage
            .heartbeat(json!({"monitor": "job", "status": status}))
            .await;
        stage.run(5_000, 1_000).await;
    }
    receiver.answer(200);
    stage.run(300_000, 5_000).await;
    let alerts = stage.alerts().await;
    let taken: Vec<String> = receiver
        .taken()
        .iter()
        .map(|received| {
            received.body["data"]["alert_id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let (first, third) = (
        alerts[2]["id"].as_str().unwrap(),
        alerts[0]["id"].as_str().unwrap(),
    );
    assert_eq!(taken, [first, third]);
}

#[tokio::test]
async fn a_group_and_a_redelivery_survive_lost_bus_events() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    stage
        .webhook(&receiver.url, json!({"group_threshold": 1}))
        .await;
    for i in 0..5 {
        beat(&stage, &format!("web-{i}")).await;
    }
    stage.run(8_000, 500).await;
    // The group's retry fires, and is lost on the bus with everything else.
    receiver.answer(200);
    for _ in 0..60 {
        stage.world.advance(1_000);
        stage.tick().await;
        stage.lose_bus().await;
    }
    assert!(receiver.taken().is_empty());
    stage.run(130_000, 1_000).await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].changes().len(), 5);
    assert!(
        stage
            .alerts()
            .await
            .iter()
            .all(|alert| alert["state"] == "delivered")
    );

    receiver.answer(410);
    stage
        .heartbeat(json!({"monitor": "job", "status": "fail"}))
        .await;
    stage.run(1_000, 500).await;
    let alert = stage.alerts().await[0].clone();
    assert_eq!(alert["state"], "dead");
    receiver.answer(200);
    let path = format!("/v1/alerts/{}/redeliver", alert["id"].as_str().unwrap());
    assert_eq!(
        stage.call(Method::POST, &path, Value::Null).await.status,
        202
    );
    stage.world.advance(100);
    stage.tick().await;
    stage.lose_bus().await;
    stage.run(70_000, 1_000).await;
    assert_eq!(stage.alerts().await[0]["state"], "delivered");
}

#[tokio::test]
async fn pending_deliveries_of_a_deleted_channel_become_dead_with_a_reason() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let id = stage.webhook(&receiver.url, json!({})).await;
    stage
        .heartbeat(json!({"monitor": "job", "status": "fail"}))
        .await;
    stage.run(1_000, 500).await;
    stage
        .call(Method::DELETE, &format!("/v1/channels/{id}"), Value::Null)
        .await;
    stage.run(60_000, 1_000).await;
    let alert = stage.alerts().await[0].clone();
    assert_eq!(
        (&alert["state"], &alert["deliveries"][0]["state"]),
        (&json!("dead"), &json!("dead"))
    );
    assert_eq!(alert["deliveries"][0]["error"], "the channel was deleted");
}

#[tokio::test]
async fn a_read_key_sees_nothing_that_allows_writing() {
    let stage = Stage::new().await;
    stage.webhook("http://127.0.0.1:9/hidden", json!({})).await;
    stage
        .heartbeat(json!({"monitor": "job", "status": "fail"}))
        .await;
    let uuid = stage.monitor("job").await["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    for path in [
        "/v1/monitors",
        "/v1/monitors/job",
        "/v1/channels",
        "/v1/alerts",
    ] {
        let request = axum::http::Request::get(path)
            .header("x-api-key", e2e::READ_KEY)
            .body(axum::body::Body::empty());
        let reply = stage.send(request.unwrap()).await;
        assert_eq!(reply.status, 200);
        let text = reply.text();
        assert!(
            !text.contains(&uuid) && !text.contains("hidden") && !text.contains("whsec_"),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn an_idle_pipeline_stays_healthy() {
    let stage = Arc::new(Stage::new().await);
    for _ in 0..12 {
        stage.run(60_000, 5_000).await;
        let deep_check = {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { stage.call(Method::GET, "/v1/status", Value::Null).await })
        };
        while !deep_check.is_finished() {
            stage.carry().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let reply = deep_check.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

#[tokio::test]
async fn each_sweep_after_a_long_outage_makes_progress() {
    let stage = Stage::new().await;
    beat(&stage, "web-01").await;
    stage.world.advance(12_000 * 60_000);
    let sweeper = stage.sweeper("test");
    let mut lows = Vec::new();
    for _ in 0..4 {
        sweeper.sweep(0).await.unwrap();
        lows.push(stage.store.cursor(0).await.unwrap().low.unwrap());
    }
    let now = stage.world.now().minute();
    assert!(lows[0] < lows[1] && lows[1] < lows[2], "{lows:?}");
    assert_eq!(lows[3], now - 2);
    stage.run(10_000, 1_000).await;
    assert_eq!(stage.alerts().await[0]["type"], "monitor.down");
}
