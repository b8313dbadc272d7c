//! Features beyond the healthchecks-compatible API, from the API through the pipeline to the
//! webhook.

use axum::http::Method;
use e2e::{Receiver, Stage};
use serde_json::{Value, json};
use thrum_schema::World;
use thrum_schema::timer::{Timer, What};

/// Creates a monitor with a period of 60 s, a grace of 30 s and the fields in `more`, and pings it.
/// Returns its UUID.
async fn monitor(stage: &Stage, name: &str, more: Value) -> String {
    let mut body = json!({"name": name, "slug": name, "period_s": 60, "grace_s": 30});
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    let created = stage.call(Method::POST, "/v1/monitors", body).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let uuid = created.json()["uuid"].as_str().unwrap().to_owned();
    stage.ping(&uuid).await;
    uuid
}

async fn patch(stage: &Stage, path: &str, body: Value) -> Value {
    let reply = stage.call(Method::PATCH, path, body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The messages received since the last call, each as its type and its monitor's name.
fn new_messages(receiver: &Receiver, seen: &mut usize) -> Vec<(String, String)> {
    let received = receiver.received();
    let new = received[*seen..].iter().map(|r| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&r.body["type"]),
            text(&r.body["data"]["monitor"]["name"]),
        )
    });
    let new = new.collect();
    *seen = received.len();
    new
}

fn messages(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[tokio::test]
async fn reminders_repeat_while_a_monitor_is_down_and_stop_on_recovery() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let uuid = monitor(&stage, "job", json!({"remind_s": 600})).await;
    let quiet = monitor(&stage, "quiet", json!({"period_s": 86_400})).await;
    let mut seen = 0;
    stage.ping(&format!("{uuid}/fail")).await;
    stage.ping(&format!("{quiet}/fail")).await;
    stage.run(5_000, 1_000).await;
    assert_eq!(new_messages(&receiver, &mut seen).len(), 2);
    stage.run(590_000, 10_000).await;
    assert_eq!(new_messages(&receiver, &mut seen), []);
    stage.run(10_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.reminder", "job")])
    );
    let reminder = receiver.received().pop().unwrap().body;
    assert_eq!(
        (&reminder["data"]["status"], &reminder["data"]["reminder"]),
        (&json!("down"), &json!(true))
    );
    assert_eq!(
        reminder["data"]["flip_at"], "2025-11-21T04:40:00.000Z",
        "the time of the flip"
    );
    stage.run(1_800_000, 10_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen).len(),
        3,
        "one per interval"
    );
    // A reminder timer that fires twice, as after a crash, notifies once.
    let state = stage
        .store
        .states(&[uuid.parse().unwrap()])
        .await
        .unwrap()
        .remove(0);
    let what = |n| What::Remind {
        monitor: state.monitor,
        flip: state.flips,
        n,
    };
    let due = stage.world.now();
    for n in [state.reminded - 1, state.reminded, state.reminded + 1] {
        stage
            .store
            .arm(&[Timer { due, what: what(n) }])
            .await
            .unwrap();
    }
    stage.run(2_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        [],
        "no reminder is due yet"
    );
    // A shorter interval applies at once; without an interval there are no reminders.
    patch(&stage, "/v1/monitors/job", json!({"remind_s": 60})).await;
    stage.run(125_000, 1_000).await;
    assert!((2..=3).contains(&new_messages(&receiver, &mut seen).len()));
    patch(&stage, "/v1/monitors/job", json!({"remind_s": null})).await;
    stage.run(600_000, 10_000).await;
    assert_eq!(new_messages(&receiver, &mut seen), []);
    // The project's interval applies to monitors without their own; after a recovery there are no
    // more reminders.
    stage.ping(&quiet).await;
    stage.run(2_000, 1_000).await;
    new_messages(&receiver, &mut seen);
    patch(&stage, "/v1/project", json!({"remind_s": 60})).await;
    stage.ping(&uuid).await;
    stage.ping(&format!("{uuid}/fail")).await;
    stage.run(65_000, 1_000).await;
    let kinds: Vec<String> = new_messages(&receiver, &mut seen)
        .into_iter()
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(kinds, ["monitor.up", "monitor.down", "monitor.reminder"]);
    stage.ping(&uuid).await;
    stage.run(80_000, 10_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.up", "job")])
    );
    assert_eq!(receiver.received().len(), seen);
}

#[tokio::test]
async fn monitors_still_down_at_the_end_of_a_snooze_alert() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage
        .webhook(&receiver.url, json!({"group_threshold": 0}))
        .await;
    let [back, stays, early] = [
        monitor(&stage, "back", json!({"period_s": 86_400})).await,
        monitor(&stage, "stays", json!({"period_s": 86_400})).await,
        monitor(&stage, "early", json!({"period_s": 86_400})).await,
    ];
    let mut seen = 0;
    for name in ["back", "stays", "early"] {
        let path = format!("/v1/monitors/{name}/snooze");
        let reply = stage
            .call(Method::POST, &path, json!({"for_s": 3_600}))
            .await
            .json();
        assert_eq!(reply["silenced_until"], "2025-11-21T05:40:00.000Z");
    }
    for id in [&back, &stays, &early] {
        stage.ping(&format!("{id}/fail")).await;
    }
    stage.run(1_200_000, 10_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        [],
        "a snoozed monitor sends nothing"
    );
    let monitor = stage.monitor("stays").await;
    assert_eq!(
        monitor["status"], "down",
        "a snoozed monitor is shown as down"
    );
    assert_eq!(
        (
            &monitor["flips"][0]["alert"],
            &monitor["flips"][0]["silenced"]
        ),
        (&json!(false), &json!(true))
    );
    stage.ping(&back).await;
    // Ending a snooze early notifies at once.
    stage
        .call(Method::DELETE, "/v1/monitors/early/snooze", Value::Null)
        .await;
    stage.run(2_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.down", "early")])
    );
    stage.run(2_396_000, 10_000).await;
    assert_eq!(new_messages(&receiver, &mut seen), []);
    stage.run(3_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.down", "stays")]),
        "one alert, at the end of the snooze"
    );
    let down = receiver.received().pop().unwrap().body;
    assert_eq!(
        down["data"]["flip_at"], "2025-11-21T04:40:00.000Z",
        "the time of the flip, not of the alert"
    );
    // A recovery during a snooze, of a monitor that was reported down, is also sent at the end.
    stage
        .call(Method::POST, "/v1/project/snooze", json!({"for_s": 600}))
        .await;
    stage.ping(&stays).await;
    stage.run(50_000, 10_000).await;
    assert_eq!(new_messages(&receiver, &mut seen), []);
    let reply = stage
        .call(Method::DELETE, "/v1/project/snooze", Value::Null)
        .await;
    assert_eq!(reply.json()["snoozed_until"], Value::Null);
    stage.run(2_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.up", "stays")])
    );
    stage.ping(&back).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        [],
        "no recovery message for a silenced failure"
    );
}

#[tokio::test]
async fn a_maintenance_window_suppresses_alerts_and_downtime() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    // It is 04:40 UTC; the window is 06:00 to 07:00 in Berlin, which is 05:00 to 06:00 UTC.
    let window = json!([{"cron": "0 6 * * *", "duration_s": 3_600, "tz": "Europe/Berlin"}]);
    let a = monitor(&stage, "a", json!({"windows": window})).await;
    monitor(&stage, "b", json!({})).await;
    let mut seen = 0;
    let advance = async |to_s: i64| {
        while stage.world.now().secs() < to_s {
            stage.ping(&a).await;
            stage.ping(&format!("{}/b", e2e::PING_KEY)).await;
            stage.run(50_000, 50_000).await;
        }
    };
    let five = 1_763_701_200;
    advance(five + 60).await;
    assert_eq!(new_messages(&receiver, &mut seen), []);
    // Both stop pinging: both go down, but the one in maintenance sends no alert.
    stage.run(600_000, 10_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.down", "b")])
    );
    let shown = stage.monitor("a").await;
    assert_eq!(
        (&shown["status"], &shown["silenced_until"]),
        (&json!("down"), &json!("2025-11-21T06:00:00.000Z"))
    );
    // A recovery within the window: no message, no downtime.
    stage.ping(&a).await;
    stage.ping(&format!("{a}/start")).await;
    let uptime = async |name: &str| {
        let path = format!("/v1/monitors/{name}/uptime?days=1");
        stage.call(Method::GET, &path, Value::Null).await.json()
    };
    let report = uptime("a").await;
    assert_eq!(
        (&report["down_s"], &report["downs"], &report["uptime"]),
        (&json!(0), &json!(0), &json!(1.0))
    );
    let report = uptime("b").await;
    assert!(
        report["down_s"].as_i64().unwrap() > 500 && report["downs"] == 1,
        "{report}"
    );
    // Still down when the window closes: the alert is sent then.
    let six = five + 3_600;
    while stage.world.now().secs() < six - 10 {
        stage.run(10_000, 10_000).await;
    }
    assert_eq!(new_messages(&receiver, &mut seen), []);
    stage.run(12_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.down", "a")])
    );
    // A project's window applies to all its monitors.
    let window = json!([{"cron": "* * * * *", "duration_s": 3_600}]);
    patch(&stage, "/v1/project", json!({ "windows": window })).await;
    stage.ping(&a).await;
    stage.ping(&format!("{a}/fail")).await;
    stage.run(60_000, 10_000).await;
    assert_eq!(new_messages(&receiver, &mut seen), []);
    patch(&stage, "/v1/project", json!({"windows": []})).await;
    stage.run(5_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        [],
        "a silenced recovery between two failures needs no second alert"
    );
}

#[tokio::test]
async fn a_wake_that_fires_twice_notifies_once() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let uuid = monitor(&stage, "job", json!({})).await;
    stage
        .call(
            Method::POST,
            "/v1/monitors/job/snooze",
            json!({"for_s": 60}),
        )
        .await;
    stage.ping(&format!("{uuid}/fail")).await;
    stage.world.advance(60_000);
    let state = stage
        .store
        .states(&[uuid.parse().unwrap()])
        .await
        .unwrap()
        .remove(0);
    assert!(state.silenced);
    let what = What::Wake {
        monitor: state.monitor,
        flip: state.flips,
    };
    let due = stage.world.now() - 1;
    stage.store.arm(&[Timer { due, what }]).await.unwrap();
    let (a, b) = (stage.sweeper("a"), stage.sweeper("a"));
    let (a, b) = tokio::join!(a.sweep(0), b.sweep(0));
    a.unwrap();
    b.unwrap();
    stage.run(60_000, 1_000).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn failures_are_tolerated_and_a_run_has_its_own_grace() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let flaky = monitor(&stage, "flaky", json!({"failures": 3})).await;
    let long = monitor(&stage, "long", json!({"start_grace_s": 7_200})).await;
    let mut seen = 0;
    stage.ping(&format!("{long}/start")).await;
    for _ in 0..2 {
        stage.ping(&format!("{flaky}/fail")).await;
        stage.run(50_000, 10_000).await;
    }
    assert_eq!(stage.monitor("flaky").await["failures_in_a_row"], 2);
    assert_eq!(new_messages(&receiver, &mut seen), []);
    stage.ping(&format!("{flaky}/fail")).await;
    stage.run(2_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.down", "flaky")])
    );
    // The run has two hours of grace; after that, it is late.
    stage.run(7_090_000, 10_000).await;
    assert_eq!(new_messages(&receiver, &mut seen), []);
    stage.run(30_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.down", "long")])
    );
}

#[tokio::test]
async fn every_run_is_tracked_and_early_and_overlapping_runs_are_marked() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let more = json!({"all_runs": true, "early_s": 10, "period_s": 3_600, "grace_s": 60});
    let job = monitor(&stage, "job", more).await;
    let (a, b) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    stage.ping(&format!("{job}/start?rid={a}")).await;
    stage.run(30_000, 10_000).await;
    stage.ping(&format!("{job}/start?rid={b}")).await;
    let shown = stage.monitor("job").await;
    assert_eq!(shown["runs"].as_array().unwrap().len(), 2);
    let last = &shown["last_pings"];
    assert_eq!(
        (&last[0]["overlap"], &last[0]["early"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        (&last[1]["overlap"], &last[1]["early"]),
        (&json!(false), &json!(true))
    );
    // The later run ends in time. The earlier one, which by default would no longer be tracked,
    // does not.
    stage.run(10_000, 10_000).await;
    stage.ping(&format!("{job}?rid={b}")).await;
    stage.run(25_000, 1_000).await;
    let mut seen = 0;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.down", "job")])
    );
}

#[tokio::test]
async fn missed_runs_are_counted_and_reported() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let job = monitor(&stage, "job", json!({})).await;
    stage.run(600_000, 10_000).await;
    assert_eq!(
        stage.monitor("job").await["missed"],
        9,
        "missed runs are counted while the monitor is down"
    );
    stage.ping(&job).await;
    stage.run(2_000, 1_000).await;
    let up = receiver.received().pop().unwrap().body;
    assert_eq!(
        (&up["type"], &up["data"]["missed"]),
        (&json!("monitor.up"), &json!(9))
    );
    let shown = stage.monitor("job").await;
    assert_eq!(
        (&shown["missed"], &shown["flips"][0]["missed"]),
        (&json!(9), &json!(9))
    );
}

#[tokio::test]
async fn a_channels_failures_are_shown_until_it_works() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    let good = Receiver::start().await;
    let id = stage.webhook(&receiver.url, json!({"name": "pager"})).await;
    stage.webhook(&good.url, json!({"name": "chat"})).await;
    receiver.answer(500);
    let job = monitor(&stage, "job", json!({})).await;
    stage.ping(&format!("{job}/fail")).await;
    stage.run(10_000, 1_000).await;
    let failing = async || {
        let list = stage
            .call(Method::GET, "/v1/channels", Value::Null)
            .await
            .json();
        let channels = list["channels"].as_array().unwrap().clone();
        let of =
            |name: &str| channels.iter().find(|c| c["name"] == name).unwrap()["failing"].clone();
        (of("pager"), of("chat"))
    };
    let (pager, chat) = failing().await;
    assert!(
        pager["attempts"].as_u64().unwrap() >= 2 && chat.is_null(),
        "{pager}"
    );
    assert!(
        pager["last_error"].as_str().unwrap().contains("500"),
        "{pager}"
    );
    let search = async |query: &str| {
        let path = format!("/v1/alerts?{query}");
        let list = stage.call(Method::GET, &path, Value::Null).await.json();
        list["alerts"].as_array().unwrap().len()
    };
    assert_eq!(search("state=pending").await, 1);
    assert_eq!(search(&format!("state=pending&channel={id}")).await, 1);
    assert_eq!(search("state=dead").await, 0);
    receiver.answer(200);
    stage.run(60_000, 1_000).await;
    assert_eq!(failing().await, (Value::Null, Value::Null));
    assert_eq!(search("state=delivered").await, 1);
}

#[tokio::test]
async fn a_plan_limits_text_messages() {
    let config = thrum_ingest::Config::default();
    let stage = Stage::with(1, config).await;
    let channel = json!({"kind": "sms", "to": "+491701234567"});
    let created = stage
        .call(Method::POST, "/v1/channels", channel)
        .await
        .json();
    let id = created["id"].as_str().unwrap();
    // Use up the owner plan's 1000 text messages a day.
    for _ in 0..1_000 {
        let now = stage.world.now();
        let project = thrum_schema::ProjectId::FIRST;
        assert!(
            stage
                .store
                .take(project, "deliveries#sms", now, Some(1_000))
                .await
                .unwrap()
        );
    }
    let job = monitor(&stage, "job", json!({})).await;
    stage.ping(&format!("{job}/fail")).await;
    stage.run(3_000, 1_000).await;
    let alerts = stage.alerts().await;
    let down = alerts
        .iter()
        .find(|alert| alert["type"] == "monitor.down")
        .unwrap();
    assert_eq!(down["deliveries"][0]["channel"], id);
    assert_eq!(down["deliveries"][0]["state"], "suppressed");
    assert_eq!(
        down["deliveries"][0]["error"],
        "the plan's daily limit of 1000 text messages has been reached"
    );
    assert!(
        alerts
            .iter()
            .any(|alert| alert["type"] == "channel.limited"),
        "the limit is announced"
    );
}

#[tokio::test]
async fn reminders_reach_monitors_already_down_and_survive_a_silenced_recovery() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let job = monitor(&stage, "job", json!({"period_s": 86_400})).await;
    let mut seen = 0;
    stage.ping(&format!("{job}/fail")).await;
    stage.run(10_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.down", "job")])
    );
    patch(&stage, "/v1/project", json!({"remind_s": 60})).await;
    stage.run(52_000, 1_000).await;
    assert_eq!(
        new_messages(&receiver, &mut seen),
        messages(&[("monitor.reminder", "job")])
    );
    // Reminders delayed by a snooze resume soon after it is ended early.
    let snooze = "/v1/monitors/job/snooze";
    stage
        .call(Method::POST, snooze, json!({"for_s": 86_400}))
        .await;
    stage.run(300_000, 10_000).await;
    assert_eq!(new_messages(&receiver, &mut seen), []);
    stage.call(Method::DELETE, snooze, Value::Null).await;
    stage.run(600_000, 10_000).await;
    assert!(!new_messages(&receiver, &mut seen).is_empty());
    // After a silenced recovery and another failure, reminders continue.
    stage.call(Method::POST, snooze, json!({"for_s": 30})).await;
    stage.ping(&job).await;
    stage.ping(&format!("{job}/fail")).await;
    stage.run(200_000, 10_000).await;
    let kinds = new_messages(&receiver, &mut seen);
    assert!(
        kinds.len() >= 2 && kinds.iter().all(|(kind, _)| kind == "monitor.reminder"),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn a_snooze_may_outlast_the_history() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let job = monitor(&stage, "job", json!({"period_s": 86_400})).await;
    let snooze = json!({"for_s": 200 * 86_400});
    stage
        .call(Method::POST, "/v1/monitors/job/snooze", snooze)
        .await;
    stage.ping(&format!("{job}/fail")).await;
    // Long after the history has expired.
    stage.expire_all().await;
    let id = job.parse().unwrap();
    assert!(stage.store.flips(id, 9).await.unwrap().is_empty());
    stage
        .call(Method::DELETE, "/v1/monitors/job/snooze", Value::Null)
        .await;
    stage.run(2_000, 1_000).await;
    let down = receiver.received().pop().expect("a message").body;
    assert_eq!(down["type"], "monitor.down");
    assert_eq!(down["data"]["reason"], "fail");
    assert_eq!(down["data"]["flip_at"], "2025-11-21T04:40:00.000Z");
}
