//! Deadlines, alerts and deliveries, step by step under a clock that the test moves.

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

/// A monitor with a period of 2 s and a grace of 1 s, heard of now.
async fn beat(stage: &Stage, name: &str) -> Value {
    stage
        .heartbeat(json!({"monitor": name, "period_s": 2, "grace_s": 1}))
        .await
}

#[tokio::test]
async fn a_missed_deadline_is_told_once_and_so_is_the_return() {
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
    // Signed as Standard Webhooks ask, under a key of alert and channel.
    let down = &received[0];
    let channel = stage
        .store
        .channels(ProjectId::FIRST)
        .await
        .unwrap()
        .remove(0);
    let thrum_schema::ChannelKind::Webhook { secret, .. } = &channel.via else {
        panic!("a webhook");
    };
    let timestamp = down.timestamp.parse().unwrap();
    let signature = thrum_notify::send::signature(secret, &down.id, timestamp, &down.raw);
    assert_eq!(signature.as_deref(), Some(down.signature.as_str()));
    let alert = down.body["data"]["alert_id"].as_str().unwrap();
    assert_eq!(down.id, format!("{alert}.{}", channel.id));
    // And nothing waits any more: every timer was dropped, every alert is delivered.
    stage.run(600_000, 10_000).await;
    let alerts = stage.alerts().await;
    assert!(alerts.iter().all(|alert| alert["state"] != "pending"));
}

#[tokio::test]
async fn a_restart_never_extends_a_deadline() {
    let stage = Stage::new().await;
    beat(&stage, "web-01").await;
    // Away for 20 s: less than an outage. A new sweeper finds what the old one did not see.
    stage.world.advance(20_000);
    let swept = stage.sweeper("another").sweep(0).await.unwrap();
    assert_eq!(swept.flips, 1);
    let flip = stage.monitor("web-01").await["flips"][0].clone();
    assert_eq!(flip["at"], "2025-11-21T04:40:03.000Z");
    assert_eq!(flip["outage"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_sweepers_at_once_make_one_flip() {
    let stage = Stage::new().await;
    for i in 0..60 {
        beat(&stage, &format!("web-{i:02}")).await;
    }
    stage.world.advance(4_000);
    // Under one name neither is kept out by the other's claim: both handle the same timers.
    let (a, b) = (stage.sweeper("a"), stage.sweeper("a"));
    let (a, b) = tokio::join!(a.sweep(0), b.sweep(0));
    a.unwrap();
    b.unwrap();
    stage.tick().await;
    stage.carry().await;
    let alerts = stage.alerts().await;
    assert_eq!(alerts.len(), 60, "one alert a monitor");
    let told: HashSet<&str> = alerts
        .iter()
        .map(|alert| alert["monitor"]["uuid"].as_str().unwrap())
        .collect();
    assert_eq!(told.len(), 60);
    // A sweeper that meets another's claim leaves the shard alone.
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
async fn timers_that_were_missed_for_days_are_found() {
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
async fn a_pipeline_that_was_away_raises_no_false_alarm_and_misses_no_true_one() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    for name in ["alive", "dead"] {
        stage
            .heartbeat(json!({"monitor": name, "period_s": 60, "grace_s": 30}))
            .await;
    }
    stage.run(20_000, 1_000).await;
    // Away for ten minutes: nothing ran, nothing could be heard.
    stage.world.advance(600_000);
    stage.tick().await;
    stage.carry().await;
    assert!(receiver.received().is_empty(), "no false alarm at once");
    let monitor = stage.monitor("dead").await;
    assert_eq!(monitor["status"], "grace");
    assert_eq!(monitor["outage"]["start"], "2025-11-21T04:40:16.000Z");
    let deadline = monitor["deadline"].as_str().unwrap().to_owned();
    assert_eq!(
        deadline, "2025-11-21T04:51:50.000Z",
        "a period and a grace from the outage's end"
    );
    // One is heard of again, the other is not.
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
        "the alert names it"
    );
}

/// A front door that nobody comes through.
#[derive(Debug)]
struct Shut;

impl SelfPing for Shut {
    fn send(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Err("it is shut".to_owned()) })
    }
}

#[tokio::test]
async fn while_our_own_heartbeat_fails_nobody_goes_down() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    stage
        .heartbeat(json!({"monitor": "web-01", "period_s": 60, "grace_s": 30}))
        .await;
    stage.run(10_000, 1_000).await;
    let pulse = Pulse::new(Arc::new(Shut), 5_000);
    for _ in 0..120 {
        stage.world.advance(5_000);
        let sweeper = stage.sweeper("a");
        sweeper.keep_pulse(&pulse).await.unwrap();
        sweeper.sweep(0).await.unwrap();
        stage.carry().await;
    }
    assert_eq!(pulse.failure().as_deref(), Some("it is shut"));
    assert!(receiver.received().is_empty());
    assert_eq!(stage.monitor("web-01").await["status"], "grace");
    // Once it opens, whoever is still silent is told of when a period and a grace are over.
    stage.run(80_000, 1_000).await;
    assert!(receiver.received().is_empty());
    stage.run(20_000, 1_000).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_is_down_gets_its_alerts_later_and_in_order() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(503);
    stage.webhook(&receiver.url, json!({})).await;
    beat(&stage, "web-01").await;
    stage.run(10_000, 500).await;
    // Back, while "down" is still on its way: "up" must not overtake it (A8).
    stage
        .heartbeat(json!({"monitor": "web-01", "period_s": 3_600}))
        .await;
    stage.run(20_000, 500).await;
    let tried = receiver.received();
    assert!(tried.len() >= 3, "it is retried");
    let ids: HashSet<&str> = tried.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids.len(), 1, "always under the same key");
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
async fn a_delivery_that_always_fails_is_dead_visible_and_redelivered() {
    let stage = Stage::new().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    receiver.answer(500);
    stage.webhook(&receiver.url, json!({})).await;
    stage.webhook(&other.url, json!({})).await;
    beat(&stage, "web-01").await;
    stage.run(10_000, 500).await;
    assert_eq!(other.taken().len(), 1, "each channel is on its own");
    // The last attempt is the last that the day has room for; they are up to 37 minutes and a half apart.
    stage.run(23 * 3_600_000 + 1_200_000, 60_000).await;
    assert_eq!(stage.alerts().await[0]["state"], "pending");
    stage.run(2 * 3_600_000, 60_000).await;
    let alert = stage.alerts().await[0].clone();
    assert_eq!(alert["state"], "dead");
    let mut deliveries = alert["deliveries"].as_array().unwrap().iter();
    let delivery = deliveries.find(|one| one["state"] == "dead").unwrap();
    assert!(delivery["error"].as_str().unwrap().contains("500"));
    let attempts = delivery["attempts"].as_u64().unwrap();
    assert!(
        (40..80).contains(&attempts),
        "backed off: {attempts} attempts in a day"
    );
    let tried = receiver.received().len();
    stage.run(3_600_000, 60_000).await;
    assert_eq!(receiver.received().len(), tried, "and then no more");

    receiver.answer(200);
    let path = format!("/v1/alerts/{}/redeliver", alert["id"].as_str().unwrap());
    let reply = stage.call(Method::POST, &path, Value::Null).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let again = stage.call(Method::POST, &path, Value::Null).await;
    assert_eq!(again.status, 409, "{}", again.text());
    stage.run(1_000, 500).await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].id, receiver.received()[0].id, "under the same key");
    assert_eq!(stage.alerts().await[0]["state"], "delivered");
    assert_eq!(other.received().len(), 1, "who had it gets no other");
}

#[tokio::test]
async fn forty_hosts_lost_at_once_are_one_message() {
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
    // All of them back, one by one: a few singly, the rest together.
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
async fn more_than_ninety_at_once_are_two_messages() {
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
async fn a_group_that_fails_is_sent_again_as_it_was() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    stage.webhook(&receiver.url, json!({})).await;
    for i in 0..10 {
        beat(&stage, &format!("web-{i}")).await;
    }
    stage.run(8_000, 500).await;
    // More alerts come while it fails; they are no part of it.
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
async fn a_channels_limit_is_never_exceeded_and_told_once() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    let limits = json!({"daily_limit": 3, "group_threshold": 0});
    stage.webhook(&receiver.url, limits).await;
    for i in 0..10 {
        stage
            .heartbeat(json!({"monitor": format!("web-{i}"), "status": "fail"}))
            .await;
    }
    stage.run(5_000, 500).await;
    let kinds: Vec<String> = receiver
        .received()
        .iter()
        .map(|r| r.body["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "monitor.down").count(),
        3
    );
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| *kind == "channel.limited")
            .count(),
        1
    );
    let suppressed = stage
        .alerts()
        .await
        .iter()
        .filter(|alert| alert["deliveries"][0]["state"] == "suppressed")
        .count();
    assert_eq!(suppressed, 7);
    let taken = stage
        .store
        .taken(ProjectId::FIRST, "deliveries#webhook", stage.world.now())
        .await;
    assert_eq!(taken.unwrap(), 3, "and metered by kind");
}

#[tokio::test]
async fn switches_decide_what_a_channel_hears() {
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
    // A test goes through, whatever the switches say.
    let path = format!("/v1/channels/{id}/test");
    assert_eq!(
        stage.call(Method::POST, &path, Value::Null).await.status,
        202
    );
    stage.carry().await;
    assert_eq!(ups.received()[1].body["type"], "channel.test");
    // A channel that is deleted gets nothing more, and holds nothing up.
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
async fn what_a_crash_loses_on_the_bus_is_found_by_the_audit() {
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
async fn a_claim_whose_taker_died_ends_and_is_taken_over() {
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
    // Somebody plans, claims, and dies.
    let project = ProjectId::FIRST;
    stage.store.plan(project, alert, &[channel]).await.unwrap();
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
    assert!(receiver.received().is_empty(), "a live claim is respected");
    stage.run(CLAIM_MS + 1_000, 1_000).await;
    assert_eq!(receiver.received().len(), 1);
    let delivery = stage.store.delivery(alert, channel).await.unwrap().unwrap();
    assert_eq!(delivery.attempts, 2);
    // The old taker comes back to life too late: what it settles is refused.
    let settled = thrum_store::Settled::Dead {
        error: "late".into(),
    };
    assert!(stage.store.settle(&claim, &settled).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_work_at_the_same_time_is_done_once() {
    // By itself, and where so much of it looks like a burst, and is gathered.
    for threshold in [0, 5] {
        let stage = Stage::new().await;
        let receiver = Receiver::start().await;
        receiver.delay(Duration::from_millis(50));
        let more = json!({"group_threshold": threshold});
        stage.webhook(&receiver.url, more).await;
        let failure = json!({"monitor": "job", "status": "fail"});
        stage.heartbeat(failure).await;
        let alert = stage.alerts().await[0]["id"].as_str().unwrap().parse();
        let work = thrum_schema::work::Work::Alert {
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
async fn a_state_that_ttl_removed_is_restored_down() {
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
    // Nothing swept; the table's own net catches it.
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

    // A ping that comes before the record is handled makes a new state; the counters are added to it.
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

    // After an outage of ours it is not down yet, and its pings count all the same.
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
    stage.tick().await;
    let asked = {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.call(Method::GET, "/v1/status", Value::Null).await })
    };
    for _ in 0..100 {
        stage.carry().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reply = asked.await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    // Nobody sweeps any more, and nobody relays.
    stage.world.advance(20 * 60_000);
    let asked = {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.call(Method::GET, "/v1/status", Value::Null).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    stage.world.advance(6_000);
    let reply = asked.await.unwrap();
    assert_eq!(reply.status, 503);
    let reasons = reply.json()["reasons"].to_string();
    assert!(
        reasons.contains("sweep") && reasons.contains("relayed"),
        "{reasons}"
    );
}

/// Up, down and up again within a minute: timers of two epochs wait in the same slot, and fire together.
#[tokio::test]
async fn timers_of_two_epochs_in_one_round_are_one_monitor() {
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

/// What makes a deadline that is over already goes down at once: its timer is not armed behind the cursor.
#[tokio::test]
async fn a_deadline_that_is_over_when_it_is_made_is_noticed() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    stage
        .heartbeat(json!({"monitor": "job", "period_s": 86_400}))
        .await;
    stage.run(2 * 3_600_000, 60_000).await;
    // A log does not count as heard of, but brings a shorter period.
    let body = json!({"monitor": "job", "status": "log", "period_s": 60, "grace_s": 30});
    stage.heartbeat(body).await;
    stage.run(2_000, 1_000).await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(receiver.received()[0].body["data"]["status"], "down");
    // A run that timed out goes on while another one succeeds: up, and down again for the first.
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
async fn an_alert_that_is_not_for_a_channel_does_not_break_its_order() {
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
async fn a_group_and_a_redelivery_survive_the_loss_of_the_bus() {
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
    // The group's retry fires, and is lost with everything else on the bus.
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
async fn what_a_deleted_channel_still_had_to_tell_is_dead_and_says_why() {
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
async fn a_reader_sees_nothing_that_lets_others_write() {
    let stage = Stage::new().await;
    stage.webhook("http://127.0.0.1:9/secret", json!({})).await;
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
            !text.contains(&uuid) && !text.contains("secret"),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn an_idle_pipeline_is_healthy_at_every_minute() {
    let stage = Arc::new(Stage::new().await);
    for _ in 0..12 {
        stage.run(60_000, 5_000).await;
        let asked = {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { stage.call(Method::GET, "/v1/status", Value::Null).await })
        };
        while !asked.is_finished() {
            stage.carry().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let reply = asked.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

#[tokio::test]
async fn after_a_long_absence_sweep_by_sweep_gets_on() {
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
