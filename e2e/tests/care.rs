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
    assert!(done.text().contains("no reminders"), "{}", done.text());
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
    assert!(done.text().contains("Snoozed"), "{}", done.text());
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
