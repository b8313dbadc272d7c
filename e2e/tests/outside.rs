//! What outsiders and neighbours can do through the API: waste, leaks and collisions.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{API_KEY, Stage};
use serde_json::{Value, json};

/// A name means exactly itself, so that a live host never hides a dead one.
#[tokio::test]
async fn a_heartbeat_never_reaches_a_monitor_with_another_name() {
    let stage = Stage::new().await;
    let mut ids = Vec::new();
    for name in ["db.1", "db1", "DB1", "d-b1"] {
        let result = stage.heartbeat(json!({"monitor": name})).await;
        assert!(!ids.contains(&result["uuid"]), "{name} is another's");
        ids.push(result["uuid"].clone());
    }
    for (name, id) in ["db.1", "db1", "DB1", "d-b1"].iter().zip(&ids) {
        assert_eq!(stage.monitor(name).await["uuid"], *id, "{name}");
        let again = stage.heartbeat(json!({"monitor": name})).await;
        assert_eq!(again["uuid"], *id, "{name}");
    }
    // Without another name, the slug is the name.
    let slug = json!({"slug": "backup"});
    let created = stage.call(Method::POST, "/v1/monitors", slug).await.json();
    let beat = stage.heartbeat(json!({"monitor": "backup"})).await;
    assert_eq!(beat["uuid"], created["uuid"]);
    let named = json!({"name": "Nightly", "slug": "nightly-2"});
    let created = stage.call(Method::POST, "/v1/monitors", named).await.json();
    let beat = stage.heartbeat(json!({"monitor": "nightly-2"})).await;
    assert_ne!(beat["uuid"], created["uuid"]);
}

/// IDs that no item can have cause no error of the table.
#[tokio::test]
async fn malformed_ids_are_not_found() {
    let stage = Stage::new().await;
    let long = "x".repeat(2_100);
    for path in [
        format!("/badge/{long}/12345678.svg"),
        format!("/badge/{long}/12345678-2/{long}.json"),
        format!("/b/2/{long}.svg"),
        format!("/status/{long}.{long}"),
        format!("/ping/{long}"),
        format!("/ping/{long}/{long}"),
        format!("/v1/monitors/{long}"),
        format!("/v1/channels/{long}"),
        format!("/v1/alerts/{long}"),
        format!("/v1/strategies/{long}"),
        format!("/v1/series/{long}/bars?timeframe=1h"),
    ] {
        let reply = stage.send_as("GET", &path, API_KEY, "").await;
        let status = reply.status.as_u16();
        assert!((400..500).contains(&status), "{path}: {status}");
    }
}

/// Responses stay out of caches, and browsers don't guess what they are.
#[tokio::test]
async fn responses_with_data_are_not_cached() {
    let stage = Stage::new().await;
    stage.heartbeat(json!({"monitor": "job"})).await;
    for path in ["/v1/monitors", "/v1/keys", "/api/v3/checks/", "/nothing"] {
        let reply = stage.send_as("GET", path, API_KEY, "").await;
        assert!(
            reply.headers["cache-control"]
                .to_str()
                .unwrap()
                .contains("no-store"),
            "{path}"
        );
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{path}");
    }
}

/// Refused requests have a limit of their own; heartbeats with the same key are not stopped by it.
#[tokio::test]
async fn refused_requests_are_limited() {
    let stage = Stage::new().await;
    let new = json!({"scope": "write", "name": "buggy", "requests_per_minute": 20});
    let key = stage.call(Method::POST, "/v1/keys", new).await.json();
    let key = key["key"].as_str().unwrap();
    let refused = async || {
        let reply = stage.send_as("POST", "/v1/channels", key, "{").await;
        reply.status.as_u16()
    };
    let mut limited = 0;
    for _ in 0..30 {
        limited += usize::from(refused().await == 429);
    }
    assert!((5..=10).contains(&limited), "{limited}");
    let reply = stage
        .send_as("POST", "/v1/heartbeats", key, r#"{"monitor": "job"}"#)
        .await;
    assert_eq!(reply.status, 200);
}

/// Limits hold when many requests race.
#[tokio::test]
async fn limits_hold_under_races() {
    let stage = Stage::new().await;
    let new = json!({"kind": "email", "to": "a@example.org"});
    let all = (0..130).map(|_| stage.call(Method::POST, "/v1/channels", new.clone()));
    let replies = futures::future::join_all(all).await;
    let created = replies.iter().filter(|reply| reply.status == 201).count();
    let channels = stage.call(Method::GET, "/v1/channels", Value::Null).await;
    let channels = channels.json()["channels"].as_array().unwrap().len();
    assert_eq!(channels, created);
    assert!(created <= 100, "{created}");
}

/// Only a trusted proxy says where a ping comes from.
#[tokio::test]
async fn forwarded_addresses_are_believed_only_from_proxies() {
    let stage = Stage::new().await;
    let id = stage.heartbeat(json!({"monitor": "job"})).await["uuid"].clone();
    let ping = Request::get(format!("/ping/{}", id.as_str().unwrap()))
        .header("x-forwarded-for", "198.51.100.1, 203.0.113.9")
        .body(Body::empty());
    stage.send(ping.unwrap()).await;
    let log = stage.monitor("job").await["last_pings"].clone();
    assert_eq!(log[0]["remote_addr"], "203.0.113.9", "{log}");
}
