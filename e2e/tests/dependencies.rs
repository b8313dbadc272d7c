//! Monitors that depend on others: their alerts wait while a parent is down.

use axum::http::{Method, StatusCode};
use e2e::{Receiver, Stage};
use serde_json::{Value, json};

/// A monitor with a period of 60 s and a grace of 30 s that has pinged, and these parents.
async fn monitor(stage: &Stage, name: &str, parents: Value) -> String {
    let body = json!({
        "name": name, "slug": name, "period_s": 60, "grace_s": 30, "parents": parents,
    });
    let made = stage.call(Method::POST, "/v1/monitors", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    beat(stage, &[name]).await;
    made.json()["unique_key"].as_str().unwrap().to_owned()
}

async fn beat(stage: &Stage, names: &[&str]) {
    for name in names {
        stage.heartbeat(json!({ "monitor": name })).await;
    }
}

/// Lets this many seconds pass, while these monitors ping every 20 s.
async fn pass(stage: &Stage, s: i64, names: &[&str]) {
    for _ in 0..s / 20 {
        stage.run(20_000, 1_000).await;
        beat(stage, names).await;
    }
}

/// What was received: the kind, and the monitor's name.
fn received(receiver: &Receiver) -> Vec<String> {
    let all = receiver.received();
    let lines = all.iter().map(|one| {
        let monitor = &one.body["data"]["monitor"]["name"];
        format!("{} {monitor}", one.body["type"]).replace('"', "")
    });
    lines.collect()
}

#[tokio::test]
async fn a_dead_parent_alerts_alone_and_names_its_children() {
    let (stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.webhook(&receiver.url, json!({})).await;
    for (name, parents) in [
        ("web-02", json!(["switch"])),
        ("web-01", json!(["switch"])),
        ("job", json!(["web-01", "switch"])),
        ("other", json!([])),
    ] {
        if name == "web-02" {
            monitor(&stage, "switch", json!([])).await;
        }
        monitor(&stage, name, parents).await;
    }
    // The children's deadlines come a little before that of the switch.
    stage.run(20_000, 1_000).await;
    beat(&stage, &["switch"]).await;
    pass(&stage, 300, &["other"]).await;
    assert_eq!(received(&receiver), ["monitor.down switch"]);
    let dependents = &receiver.received()[0].body["data"]["dependents"];
    let expected = json!({ "names": ["job", "web-01", "web-02"], "count": 3 });
    assert_eq!(*dependents, expected);
    assert_eq!(stage.monitor("web-01").await["status"], "down");
    let flips = &stage.monitor("web-01").await["flips"];
    assert_eq!(flips[0]["silenced"], true);
    assert_eq!(stage.monitor("web-01").await["alert_held"], true);
    assert_eq!(stage.monitor("switch").await["alert_held"], false);
    // After the switch is back, only what stays silent is announced: web-02 after one more period
    // and its grace, and job at once with web-01, its other parent.
    beat(&stage, &["switch"]).await;
    stage.run(20_000, 1_000).await;
    beat(&stage, &["web-01", "switch", "other"]).await;
    pass(&stage, 200, &["switch", "web-01", "other"]).await;
    let mut late = received(&receiver)[1..].to_vec();
    assert_eq!(late.remove(0), "monitor.up switch");
    late.sort();
    assert_eq!(late, ["monitor.down job", "monitor.down web-02"]);
    // Their recoveries are announced as always.
    beat(&stage, &["web-02", "job"]).await;
    stage.run(20_000, 1_000).await;
    let mut ends = received(&receiver)[4..].to_vec();
    ends.sort();
    assert_eq!(ends, ["monitor.up job", "monitor.up web-02"]);
}

#[tokio::test]
async fn a_child_that_recovers_while_its_parent_is_down_is_never_announced() {
    let (stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.webhook(&receiver.url, json!({})).await;
    monitor(&stage, "db", json!([])).await;
    monitor(&stage, "app", json!(["db"])).await;
    stage
        .heartbeat(json!({ "monitor": "db", "status": "fail" }))
        .await;
    stage.run(5_000, 1_000).await;
    stage
        .heartbeat(json!({ "monitor": "app", "status": "fail" }))
        .await;
    pass(&stage, 120, &[]).await;
    beat(&stage, &["app"]).await;
    pass(&stage, 120, &["app"]).await;
    beat(&stage, &["db"]).await;
    pass(&stage, 120, &["app", "db"]).await;
    assert_eq!(received(&receiver), ["monitor.down db", "monitor.up db"]);
    // If Thrum alerted about a child before its parent went down, it sends the recovery, but no
    // reminder in between.
    let every = json!({ "remind_s": 60 });
    stage.call(Method::PATCH, "/v1/monitors/app", every).await;
    stage
        .heartbeat(json!({ "monitor": "app", "status": "fail" }))
        .await;
    pass(&stage, 40, &["db"]).await;
    stage
        .heartbeat(json!({ "monitor": "db", "status": "fail" }))
        .await;
    pass(&stage, 200, &[]).await;
    beat(&stage, &["app"]).await;
    stage.run(5_000, 1_000).await;
    let expected = ["monitor.down app", "monitor.down db", "monitor.up app"];
    assert_eq!(received(&receiver)[2..], expected);
}

#[tokio::test]
async fn a_held_alert_is_sent_when_nothing_holds_it_any_more() {
    for (method, path, body) in [
        (Method::PATCH, "/v1/monitors/app", json!({ "parents": [] })),
        (Method::DELETE, "/v1/monitors/db", Value::Null),
        (Method::POST, "/v1/monitors/db/pause", Value::Null),
    ] {
        let (stage, receiver) = (Stage::new().await, Receiver::start().await);
        stage.webhook(&receiver.url, json!({})).await;
        monitor(&stage, "db", json!([])).await;
        monitor(&stage, "app", json!(["db"])).await;
        stage
            .heartbeat(json!({ "monitor": "db", "status": "fail" }))
            .await;
        pass(&stage, 200, &[]).await;
        assert_eq!(received(&receiver), ["monitor.down db"]);
        let done = stage.call(method.clone(), path, body).await;
        assert!(done.status.is_success(), "{}", done.text());
        pass(&stage, 80, &[]).await;
        let expected = ["monitor.down db", "monitor.down app"];
        assert_eq!(received(&receiver), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_parent_that_notifies_nobody_holds_nothing() {
    let (stage, receiver) = (Stage::new().await, Receiver::start().await);
    stage.webhook(&receiver.url, json!({})).await;
    monitor(&stage, "db", json!([])).await;
    monitor(&stage, "app", json!(["db"])).await;
    let nobody = json!({ "channels": [] });
    stage.call(Method::PATCH, "/v1/monitors/db", nobody).await;
    for name in ["db", "app"] {
        let fail = json!({ "monitor": name, "status": "fail" });
        stage.heartbeat(fail).await;
        stage.run(2_000, 1_000).await;
    }
    assert_eq!(received(&receiver), ["monitor.down app"]);
}

#[tokio::test]
async fn parents_are_checked() {
    let stage = Stage::new().await;
    let a = monitor(&stage, "a", json!([])).await;
    let b = monitor(&stage, "b", json!(["a", "a"])).await;
    monitor(&stage, "c", json!([b])).await;
    assert_eq!(stage.monitor("b").await["parents"], json!([a]));
    let refused = async |path: &str, parents: Value| {
        let reply = stage
            .call(Method::PATCH, path, json!({ "parents": parents }))
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        reply.json()["detail"].as_str().unwrap().to_owned()
    };
    for (parents, problem) in [
        (
            json!(["c"]),
            "parents can't be used: the monitor would depend on itself",
        ),
        (
            json!(["a"]),
            "parents can't be used: the monitor would depend on itself",
        ),
        (
            json!(["x"]),
            "parents[0] can't be used: there is no such monitor (x)",
        ),
        (
            json!(["b", "5d2f0b1e-1c3a-4a4e-9a52-3f0c6a1b2d3e"]),
            "parents[1] can't be used",
        ),
        (
            json!(vec!["n"; 11]),
            "parents must have at most 10 items (got 11)",
        ),
    ] {
        for path in ["/v1/monitors/a", "/v1/monitors/a?check=true"] {
            let found = refused(path, parents.clone()).await;
            assert!(found.starts_with(problem), "{path} {parents}: {found}");
        }
    }
    assert_eq!(stage.monitor("a").await["parents"], json!([]));
    // Concurrent changes do not close a cycle, either.
    monitor(&stage, "d", json!([])).await;
    let set = |path, parents| stage.call(Method::PATCH, path, parents);
    let (one, two) = futures::join!(
        set("/v1/monitors/a", json!({ "parents": ["d"] })),
        set("/v1/monitors/d", json!({ "parents": ["c"] })),
    );
    let good = [one, two]
        .iter()
        .filter(|reply| reply.status == StatusCode::OK)
        .count();
    assert_eq!(good, 1);
    // The alert shows the new names of children, and no deleted children.
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    let renamed = json!({ "name": "bee" });
    stage.call(Method::PATCH, "/v1/monitors/b", renamed).await;
    monitor(&stage, "e", json!(["a"])).await;
    stage
        .call(Method::DELETE, "/v1/monitors/e", Value::Null)
        .await;
    stage
        .heartbeat(json!({ "monitor": "a", "status": "fail" }))
        .await;
    stage.run(5_000, 1_000).await;
    let dependents = &receiver.received()[0].body["data"]["dependents"];
    assert_eq!(*dependents, json!({ "names": ["bee"], "count": 1 }));
}

#[tokio::test]
async fn a_monitor_of_another_project_with_the_id_of_a_parent_holds_nothing() {
    let (stage, receiver) = (Stage::with_admin().await, Receiver::start().await);
    stage.webhook(&receiver.url, json!({})).await;
    monitor(&stage, "db", json!([])).await;
    monitor(&stage, "app", json!(["db"])).await;
    let uuid = stage.monitor("db").await["uuid"].clone();
    stage
        .call(Method::DELETE, "/v1/monitors/db", Value::Null)
        .await;
    let other = stage
        .admin(Method::POST, "/v1/projects", json!({ "name": "other" }))
        .await
        .json();
    let key = other["api_key"].as_str().unwrap();
    let body = json!({ "uuid": uuid, "name": "theirs", "slug": "theirs" }).to_string();
    let made = stage.send_as("POST", "/v1/monitors", key, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let body = json!({ "kind": "webhook", "url": receiver.url }).to_string();
    stage.send_as("POST", "/v1/channels", key, &body).await;
    let fail = r#"{"monitor": "theirs", "status": "fail"}"#;
    stage.send_as("POST", "/v1/heartbeats", key, fail).await;
    stage.run(2_000, 1_000).await;
    let fail = json!({ "monitor": "app", "status": "fail" });
    stage.heartbeat(fail).await;
    stage.run(2_000, 1_000).await;
    assert_eq!(
        received(&receiver),
        ["monitor.down theirs", "monitor.down app"]
    );
    assert_eq!(receiver.received()[0].body["data"].get("dependents"), None);
    let page = made.json()["unique_key"].as_str().unwrap().to_owned();
    let shown = stage
        .send_as("GET", &format!("/v1/monitors/{page}"), key, "")
        .await;
    assert_eq!(shown.status, StatusCode::OK);
}

#[tokio::test]
async fn a_deletion_that_races_a_new_parent_leaves_nothing() {
    let stage = Stage::new().await;
    monitor(&stage, "db", json!([])).await;
    for _ in 0..10 {
        monitor(&stage, "app", json!([])).await;
        let (set, gone) = futures::join!(
            stage.call(
                Method::PATCH,
                "/v1/monitors/app",
                json!({ "parents": ["db"] })
            ),
            stage.call(Method::DELETE, "/v1/monitors/app", Value::Null),
        );
        assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", set.text());
    }
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    stage
        .heartbeat(json!({ "monitor": "db", "status": "fail" }))
        .await;
    stage.run(2_000, 1_000).await;
    assert_eq!(receiver.received()[0].body["data"].get("dependents"), None);
}
