//! Clients of other programs: what they send, and what they get back.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{PING_KEY, Reply, Stage};
use serde_json::{Value, json};

async fn send(stage: &Stage, method: &str, path: &str, key: &str, body: &Value) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", key)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    stage.send(request).await
}

#[tokio::test]
async fn heartbeats_of_opsgenie_are_pings() {
    let stage = Stage::new().await;
    let monitor = json!({ "name": "Backup DB", "slug": "backup-db" });
    stage.call(Method::POST, "/v1/monitors", monitor).await;
    let path = "/v2/heartbeats/Backup%20DB/ping";
    let key = format!("GenieKey {PING_KEY}");
    for method in ["GET", "POST", "PUT", "PATCH"] {
        let reply = send(&stage, method, path, &key, &Value::Null).await;
        assert_eq!(reply.status, 202, "{method}");
        assert_eq!(reply.json()["result"], "PONG - Heartbeat received");
    }
    assert_eq!(stage.monitor("backup-db").await["pings"], 4);
    for wrong in ["GenieKey x", "Bearer y", ""] {
        let reply = send(&stage, "GET", path, wrong, &Value::Null).await;
        assert_eq!(reply.status, 401, "{wrong}");
    }
    let unknown = send(
        &stage,
        "GET",
        "/v2/heartbeats/none/ping",
        &key,
        &Value::Null,
    )
    .await;
    assert_eq!(unknown.status, 404);
    assert_eq!(
        unknown.json()["message"],
        "Heartbeat with name [none] does not exist"
    );
}

fn alert(status: &str, labels: Value) -> Value {
    json!({
        "status": status,
        "labels": labels,
        "annotations": { "summary": "disk is full", "description": "94 %" },
        "startsAt": "2026-11-28T10:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": "1",
    })
}

#[tokio::test]
async fn alerts_of_alertmanager_and_grafana_are_failures_and_a_watchdog_is_a_heartbeat() {
    let stage = Stage::new().await;
    let path = format!("/hooks/alerts/{PING_KEY}");
    let hook = |alerts: Vec<Value>| json!({ "version": "4", "status": "firing", "alerts": alerts });
    let disk = json!({ "alertname": "DiskFull", "instance": "web-01:9100" });
    let fires = hook(vec![
        alert("firing", disk.clone()),
        alert(
            "firing",
            json!({ "alertname": "Watchdog", "instance": "x" }),
        ),
    ]);
    let reply = send(&stage, "POST", &path, "", &fires).await;
    assert_eq!(
        reply.json(),
        json!({ "recorded": 2, "errors": [] }),
        "{}",
        reply.text()
    );
    let monitor = stage.monitor("diskfull-web-01-9100").await;
    assert_eq!(monitor["status"], "down", "{monitor}");
    assert_eq!(monitor["last_pings"][0]["body"], "disk is full\n94 %");
    assert_eq!(monitor["period_s"], 31_536_000);
    assert_eq!(stage.monitor("watchdog").await["status"], "up");
    // Alertmanager repeats what still fires.
    send(&stage, "POST", &path, "", &fires).await;
    assert_eq!(
        stage.monitor("diskfull-web-01-9100").await["flips"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let resolved = hook(vec![alert("resolved", disk)]);
    send(&stage, "POST", &path, "", &resolved).await;
    assert_eq!(stage.monitor("diskfull-web-01-9100").await["status"], "up");
    // Of several alerts of one monitor, one that fires counts.
    let two = hook(vec![
        alert("firing", json!({ "alertname": "Load", "job": "web" })),
        alert("resolved", json!({ "alertname": "Load", "job": "web" })),
    ]);
    send(&stage, "POST", &path, "", &two).await;
    assert_eq!(stage.monitor("load-web").await["status"], "down");
    // What is wrong is said, and nothing is recorded for it.
    let bad = send(&stage, "POST", &path, "", &json!({ "alerts": 7 })).await;
    assert_eq!(bad.status, 400);
    let nameless = hook(vec![alert("firing", json!({ "alertname": "!!!" }))]);
    let reply = send(&stage, "POST", &path, "", &nameless).await;
    assert_eq!(reply.json()["recorded"], 0);
    assert_eq!(
        send(&stage, "POST", "/hooks/alerts/nobody", "", &fires)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn pushes_of_uptime_kuma_are_pings_of_the_monitor_of_their_token() {
    let stage = Stage::new().await;
    let uuid = thrum_schema::MonitorId::of_push_token("pAbC12345z");
    let monitor = json!({ "uuid": uuid, "name": "backup", "period_s": 60 });
    let made = stage
        .call(Method::POST, "/v1/monitors", monitor.clone())
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["uuid"], json!(uuid));
    // Nobody else gets the same one, and it stays.
    let other = json!({ "uuid": uuid, "name": "other" });
    let taken = stage
        .call(Method::POST, "/v1/monitors", other.clone())
        .await;
    assert_eq!(taken.status, 409, "{}", taken.text());
    let checked = stage
        .call(Method::POST, "/v1/monitors?check=true", other)
        .await;
    assert_eq!(checked.status, 409);
    let path = format!("/v1/monitors/{uuid}");
    let changed = json!({ "uuid": "5d2f0b1e-1c3a-4a4e-9a52-3f0c6a1b2d3e" });
    assert_eq!(stage.call(Method::PATCH, &path, changed).await.status, 400);
    let bad = json!({ "uuid": "5D2F", "name": "x" });
    let refused = stage.call(Method::POST, "/v1/monitors", bad).await;
    assert!(
        refused.text().contains("uuid must be a UUID"),
        "{}",
        refused.text()
    );

    let push = |query: &str| format!("/api/push/pAbC12345z{query}");
    let reply = stage
        .call(Method::GET, &push("?status=up&msg=OK&ping="), Value::Null)
        .await;
    assert_eq!(reply.json(), json!({ "ok": true }));
    let reply = stage
        .call(
            Method::POST,
            &push("?status=down&msg=a%20b&ping=7.5"),
            Value::Null,
        )
        .await;
    assert_eq!(reply.json(), json!({ "ok": true }));
    let monitor = stage.monitor("backup").await;
    assert_eq!(monitor["status"], "down");
    assert_eq!(monitor["last_pings"][0]["metrics"]["ping"], 7.5);
    assert_eq!(monitor["last_pings"][0]["body"], "a b");
    let unknown = stage.call(Method::GET, "/api/push/none", Value::Null).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["ok"], false);
}

#[tokio::test]
async fn a_project_has_its_own_words_and_time_zone() {
    let stage = Stage::new().await;
    let change = json!({
        "tz": "Europe/Berlin",
        "messages": { "title": "{{ name }} is {{ event }}", "text": "" },
    });
    let changed = stage.call(Method::PATCH, "/v1/project", change).await;
    assert_eq!(changed.json()["tz"], "Europe/Berlin", "{}", changed.text());
    let receiver = e2e::Receiver::start().await;
    let body = "{\"title\": {{ title }}, \"text\": {{ text }}}";
    stage
        .webhook(&receiver.url, json!({ "settings": { "down_body": body } }))
        .await;
    stage
        .heartbeat(json!({ "monitor": "backup", "status": "fail" }))
        .await;
    stage.run(2_000, 1_000).await;
    let got = receiver.received()[0].body.clone();
    assert_eq!(got["title"], "backup is down");
    assert!(got["text"].as_str().unwrap().contains("CET ("), "{got}");
    let preview = json!({ "title": "{{ name|upper }}" });
    let shown = stage
        .call(Method::POST, "/v1/project/messages/preview", preview)
        .await
        .json();
    assert_eq!(shown["messages"][0]["title"], "NIGHTLY BACKUP");
    assert_eq!(shown["messages"].as_array().unwrap().len(), 3);
    for bad in [
        json!({ "tz": "Mars/Olympus" }),
        json!({ "messages": { "title": "{{ nam }}" } }),
    ] {
        let refused = stage.call(Method::PATCH, "/v1/project", bad.clone()).await;
        assert_eq!(refused.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_test_looks_like_an_alert_of_a_monitor() {
    let vendor = e2e::vendors::Vendor::new("slack");
    let stage = Stage::new().await.calling(vendor.clone());
    let url = "https://hooks.slack.com/services/T0/B0/x";
    let body = json!({ "kind": "slack", "settings": { "url": url } });
    stage.call(Method::POST, "/v1/channels", body).await;
    let monitor = json!({ "name": "backup", "desc": "see the wiki", "period_s": 60 });
    stage.call(Method::POST, "/v1/monitors", monitor).await;
    let path = "/v1/channels/slack/test?monitor=backup";
    let sent = stage.call(Method::POST, path, Value::Null).await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    stage.run(2_000, 1_000).await;
    let got = &vendor.taken()[0].call.body;
    for part in [
        "TEST: DOWN: backup",
        "nothing is wrong",
        "see the wiki",
        "every 1 min",
    ] {
        assert!(got.contains(part), "{part}: {got}");
    }
    let unknown = stage
        .call(
            Method::POST,
            "/v1/channels/slack/test?monitor=x",
            Value::Null,
        )
        .await;
    assert_eq!(unknown.status, 404);
}
