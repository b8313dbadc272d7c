//! What people do about an alert: acknowledge it, snooze its monitor.

use axum::http::{Method, StatusCode};
use e2e::{Receiver, SITE, Stage};
use serde_json::{Value, json};

/// A monitor that is down, and the path of the link in its alert.
async fn down(stage: &Stage, receiver: &Receiver) -> String {
    stage.webhook(&receiver.url, json!({})).await;
    let every = json!({ "remind_s": 60 });
    stage.call(Method::PATCH, "/v1/project", every).await;
    stage
        .heartbeat(json!({ "monitor": "backup", "period_s": 10, "grace_s": 5 }))
        .await;
    stage.run(20_000, 1_000).await;
    let link = receiver.received()[0].body["data"]["link"].clone();
    let path = link.as_str().and_then(|link| link.strip_prefix(SITE));
    path.expect("a link").to_owned()
}

fn kinds(receiver: &Receiver) -> Vec<String> {
    let received = receiver.received();
    let kinds = received.iter().map(|one| one.body["type"].to_string());
    kinds.map(|kind| kind.replace('"', "")).collect()
}

async fn form(stage: &Stage, path: &str, form: &'static str) -> e2e::Reply {
    let request = axum::http::Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(axum::body::Body::from(form))
        .unwrap();
    stage.send(request).await
}

#[tokio::test]
async fn acknowledging_by_the_link_stops_reminders_until_the_next_outage() {
    let (stage, receiver) = (Stage::new().await, Receiver::start().await);
    let path = down(&stage, &receiver).await;
    stage.run(70_000, 1_000).await;
    assert_eq!(kinds(&receiver), ["monitor.down", "monitor.reminder"]);
    // Opening the link changes nothing: chats open links.
    let page = stage.call(Method::GET, &path, Value::Null).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Acknowledge") && page.text().contains("backup missed"));
    assert!(
        stage
            .monitor("backup")
            .await
            .get("acknowledged_at")
            .is_none()
    );
    let done = form(&stage, &path, "action=acknowledge").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text());
    let to = done.headers["location"].to_str().unwrap().to_owned();
    let page = stage.call(Method::GET, &to, Value::Null).await;
    assert!(page.text().contains("no reminders"), "{}", page.text());
    assert!(stage.monitor("backup").await["acknowledged_at"].is_string());
    stage.run(300_000, 5_000).await;
    assert_eq!(kinds(&receiver).len(), 2);
    // The next outage is a new one.
    let beat = json!({ "monitor": "backup", "period_s": 10, "grace_s": 5 });
    stage.heartbeat(beat).await;
    assert!(
        stage
            .monitor("backup")
            .await
            .get("acknowledged_at")
            .is_none()
    );
    stage.run(100_000, 1_000).await;
    let expected = ["monitor.up", "monitor.down", "monitor.reminder"];
    assert_eq!(kinds(&receiver)[2..], expected);
    // The old link is not about it.
    let old = form(&stage, &path, "action=acknowledge").await;
    assert_eq!(old.status, StatusCode::CONFLICT);
    assert!(
        stage
            .monitor("backup")
            .await
            .get("acknowledged_at")
            .is_none()
    );
}

#[tokio::test]
async fn a_link_snoozes_is_signed_and_expires() {
    let (stage, receiver) = (Stage::new().await, Receiver::start().await);
    let path = down(&stage, &receiver).await;
    for bad in [
        "action=snooze&for=2d",
        "action=snooze&for=soon",
        "action=fly",
    ] {
        assert_eq!(
            form(&stage, &path, bad).await.status,
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
    let done = form(&stage, &path, "action=snooze&for=1h").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text());
    assert!(stage.monitor("backup").await["snoozed_until"].is_string());
    let (link, token) = path.rsplit_once('/').unwrap();
    let forged = format!("{link}/{}", token.chars().rev().collect::<String>());
    for bad in [&*forged, "/a/x/y/z", &format!("{link}/")] {
        let page = stage.call(Method::GET, bad, Value::Null).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{bad}");
        let done = form(&stage, bad, "action=acknowledge").await;
        assert_ne!(done.status, StatusCode::OK, "{bad}");
    }
    stage.world.advance(7 * 86_400_000);
    let old = stage.call(Method::GET, &path, Value::Null).await;
    assert_eq!(old.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_a_monitor_that_is_down_can_be_acknowledged() {
    let stage = Stage::new().await;
    stage.heartbeat(json!({ "monitor": "backup" })).await;
    let path = "/v1/monitors/backup/acknowledge";
    let refused = stage.call(Method::POST, path, Value::Null).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    stage
        .heartbeat(json!({ "monitor": "backup", "status": "fail" }))
        .await;
    let done = stage.call(Method::POST, path, Value::Null).await;
    assert_eq!(done.status, 200);
    let first = done.json()["acknowledged_at"].clone();
    stage.world.advance(1_000);
    // A second time changes nothing.
    let again = stage.call(Method::POST, path, Value::Null).await;
    assert_eq!(again.json()["acknowledged_at"], first);
}

/// A channel to `receiver` with more fields; returns its ID.
async fn channel(stage: &Stage, receiver: &Receiver, more: Value) -> String {
    stage.webhook(&receiver.url, more).await
}

async fn beat(stage: &Stage) {
    let body = json!({ "monitor": "backup", "period_s": 10, "grace_s": 5 });
    stage.heartbeat(body).await;
}

#[tokio::test]
async fn a_channel_is_notified_later_only_of_what_is_still_down() {
    let (stage, first, later) = (
        Stage::new().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    channel(&stage, &first, json!({ "name": "first" })).await;
    channel(&stage, &later, json!({ "name": "later", "after_s": 120 })).await;
    // Back in time: only the first channel hears of it.
    beat(&stage).await;
    stage.run(60_000, 1_000).await;
    beat(&stage).await;
    stage.run(300_000, 5_000).await;
    assert_eq!(kinds(&first)[..2], ["monitor.down", "monitor.up"]);
    // It went down again, for longer.
    let down = first.received().len();
    assert_eq!(kinds(&first)[2..], ["monitor.down"]);
    assert_eq!(kinds(&later), ["monitor.down"]);
    beat(&stage).await;
    stage.run(2_000, 1_000).await;
    assert_eq!(kinds(&first)[down..], ["monitor.up"]);
    assert_eq!(kinds(&later), ["monitor.down", "monitor.up"]);
    let alerts = stage.alerts().await;
    assert!(
        alerts.iter().all(|alert| alert["state"] == "delivered"),
        "{alerts:?}"
    );
}

#[tokio::test]
async fn acknowledging_and_snoozing_stop_escalation() {
    for action in ["acknowledge", "snooze"] {
        let (stage, first, later) = (
            Stage::new().await,
            Receiver::start().await,
            Receiver::start().await,
        );
        channel(&stage, &first, json!({ "name": "first" })).await;
        channel(&stage, &later, json!({ "name": "later", "after_s": 120 })).await;
        beat(&stage).await;
        stage.run(60_000, 1_000).await;
        let path = format!("/v1/monitors/backup/{action}");
        let body = match action {
            "snooze" => json!({ "for_s": 600 }),
            _ => Value::Null,
        };
        let done = stage.call(Method::POST, &path, body).await;
        assert_eq!(done.status, 200, "{}", done.text());
        stage.run(500_000, 5_000).await;
        assert!(later.received().is_empty(), "{action}");
        let deliveries = stage.alerts().await[0]["deliveries"].clone();
        let states: Vec<String> = deliveries
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["state"].to_string())
            .collect();
        let expected = if action == "snooze" {
            "\"waiting\""
        } else {
            "\"suppressed\""
        };
        assert!(
            states.contains(&expected.to_owned()),
            "{action}: {states:?}"
        );
        // After the snooze, it is the channel's turn.
        stage.run(900_000, 10_000).await;
        assert_eq!(
            later.received().len(),
            usize::from(action == "snooze"),
            "{action}"
        );
    }
}

#[tokio::test]
async fn a_fallback_gets_what_a_channel_fails_to_deliver_and_its_recovery() {
    for status in [500, 403] {
        let (stage, broken, spare) = (
            Stage::new().await,
            Receiver::start().await,
            Receiver::start().await,
        );
        let other = channel(
            &stage,
            &spare,
            json!({ "name": "spare", "notify_down": true }),
        )
        .await;
        let more = json!({ "name": "ops", "fallback": "spare", "fallback_after": 2 });
        let ops = channel(&stage, &broken, more).await;
        // The monitor alerts on the broken channel only.
        let monitor = json!({
            "name": "backup", "period_s": 10, "grace_s": 5, "channels": [ops],
        });
        let made = stage.call(Method::POST, "/v1/monitors", monitor).await;
        assert_eq!(made.status, 201, "{}", made.text());
        broken.answer(status);
        beat(&stage).await;
        stage.run(30_000, 1_000).await;
        assert_eq!(kinds(&spare), ["monitor.down"], "{status}");
        broken.answer(200);
        beat(&stage).await;
        stage.run(10_000, 1_000).await;
        assert_eq!(kinds(&spare), ["monitor.down", "monitor.up"], "{status}");
        stage.run(600_000, 10_000).await;
        assert_eq!(kinds(&spare).len(), 2, "the next outage goes to the first");
        let seen = stage
            .call(Method::GET, &format!("/v1/channels/{ops}"), Value::Null)
            .await;
        assert_eq!(seen.json()["fallback"], other);
    }
}

#[tokio::test]
async fn two_channels_that_stand_in_for_each_other_end() {
    let (stage, one, two) = (
        Stage::new().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    let first = channel(&stage, &one, json!({ "name": "one" })).await;
    channel(&stage, &two, json!({ "name": "two", "fallback": "one" })).await;
    let path = format!("/v1/channels/{first}");
    let back = stage
        .call(Method::PATCH, &path, json!({ "fallback": "two" }))
        .await;
    assert_eq!(back.status, 200, "{}", back.text());
    let own = stage
        .call(Method::PATCH, &path, json!({ "fallback": "one" }))
        .await;
    assert_eq!(own.status, StatusCode::BAD_REQUEST);
    one.answer(403);
    two.answer(403);
    stage
        .heartbeat(json!({ "monitor": "backup", "status": "fail" }))
        .await;
    stage.run(600_000, 10_000).await;
    assert_eq!((one.received().len(), two.received().len()), (1, 1));
    assert_eq!(stage.alerts().await[0]["state"], "dead");
}

/// Two receivers: the first channel of a monitor, and its fallback.
async fn with_fallback(more: Value) -> (Stage, Receiver, Receiver) {
    let (stage, broken, spare) = (
        Stage::new().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    channel(&stage, &spare, json!({ "name": "spare" })).await;
    let ops = json!({ "name": "ops", "fallback": "spare" });
    let ops = channel(&stage, &broken, ops).await;
    let mut monitor = json!({ "name": "backup", "period_s": 10, "grace_s": 5, "channels": [ops] });
    if let (Value::Object(monitor), Value::Object(more)) = (&mut monitor, more) {
        monitor.extend(more);
    }
    let made = stage.call(Method::POST, "/v1/monitors", monitor).await;
    assert_eq!(made.status, 201, "{}", made.text());
    (stage, broken, spare)
}

#[tokio::test]
async fn a_fallback_gets_the_recovery_after_reminders_too() {
    let (stage, broken, spare) = with_fallback(json!({ "remind_s": 60 })).await;
    broken.answer(403);
    beat(&stage).await;
    stage.run(30_000, 1_000).await;
    broken.answer(200);
    stage.run(150_000, 1_000).await;
    beat(&stage).await;
    stage.run(2_000, 1_000).await;
    let expected = [
        "monitor.down",
        "monitor.reminder",
        "monitor.reminder",
        "monitor.up",
    ];
    assert_eq!(kinds(&spare), expected);
}

#[tokio::test]
async fn a_fallback_gets_a_recovery_that_was_planned_before_it_was_used() {
    let (stage, broken, spare) = with_fallback(json!({})).await;
    broken.answer(500);
    beat(&stage).await;
    // The first attempt fails; then the monitor recovers, and its alert waits.
    stage.run(15_000, 1_000).await;
    assert_eq!(broken.received().len(), 1);
    beat(&stage).await;
    stage.run(12_000, 1_000).await;
    assert_eq!(kinds(&spare), ["monitor.down", "monitor.up"]);
    broken.answer(200);
    stage.run(120_000, 1_000).await;
    assert_eq!(kinds(&spare).len(), 2);
}

#[tokio::test]
async fn a_channel_that_is_a_fallback_is_not_deleted_by_accident() {
    let (stage, ..) = with_fallback(json!({})).await;
    let refused = stage
        .call(Method::DELETE, "/v1/channels/spare", Value::Null)
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text().contains("ops"), "{}", refused.text());
    let path = "/v1/channels/spare?force=true";
    let done = stage.call(Method::DELETE, path, Value::Null).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT);
    let left = stage
        .call(Method::GET, "/v1/channels/ops", Value::Null)
        .await;
    assert_eq!(left.json()["fallback"], Value::Null);
}
