//! Plans, quotas and rate limits: never exceeded, exact to the second, and not charged for refused
//! requests.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{PING_KEY, Reply, Stage};
use serde_json::{Value, json};
use std::sync::Arc;
use thrum_schema::Plans;

/// A stage with the built-in plans changed by `plans`, as JSON.
async fn stage(plans: &str) -> Arc<Stage> {
    let config = thrum_ingest::Config {
        plans: Plans::from_json(plans).unwrap(),
        admin_key: thrum_ingest::AdminKey::Key(e2e::ADMIN_KEY.into()),
        ..Default::default()
    };
    Arc::new(Stage::with(1, config).await)
}

async fn project(stage: &Stage, plan: &str) -> Value {
    let body = json!({"name": "tenant", "plan": plan});
    let created = stage.admin(Method::POST, "/v1/projects", body).await;
    assert_eq!(created.status, 201, "{}", created.text());
    created.json()
}

fn header(reply: &Reply, name: &str) -> i64 {
    let value = reply.headers.get(name).unwrap_or_else(|| panic!("{name}"));
    value.to_str().unwrap().parse().unwrap()
}

async fn requests_today(stage: &Stage, key: &str) -> i64 {
    let reply = stage.send_as("GET", "/v1/usage?days=1", key, "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["days"][0]["requests"].as_i64().unwrap()
}

/// Sends `n` requests at the same time, and returns the replies.
async fn race(stage: &Arc<Stage>, n: usize, key: &str) -> Vec<Reply> {
    let racers = (0..n).map(|_| {
        let (stage, key) = (Arc::clone(stage), key.to_owned());
        tokio::spawn(async move { stage.send_as("GET", "/v1/keys", &key, "").await })
    });
    let replies = futures::future::join_all(racers).await;
    replies.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_concurrent_requests_exactly_the_remaining_50_pass() {
    let stage = stage(r#"{"free": {"requests_per_day": 60, "requests_per_minute": null}}"#).await;
    let tenant = project(&stage, "free").await;
    let key = tenant["api_key"].as_str().unwrap();
    for left in (50..60).rev() {
        let reply = stage.send_as("GET", "/v1/keys", key, "").await;
        assert_eq!(header(&reply, "ratelimit-remaining"), left);
    }
    let replies = race(&stage, 200, key).await;
    let (passed, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((passed.len(), refused.len()), (50, 150));
    let mut left: Vec<i64> = passed
        .iter()
        .map(|r| header(r, "ratelimit-remaining"))
        .collect();
    left.sort_unstable();
    assert_eq!(left, (0..50).collect::<Vec<_>>(), "headers count down");
    // It is 04:40 UTC: the quota resets in 19 h 20 min.
    for reply in refused {
        assert_eq!(reply.status, 429);
        assert_eq!(reply.headers["content-type"], "application/problem+json");
        for name in ["retry-after", "ratelimit-reset", "x-ratelimit-reset"] {
            assert_eq!(header(reply, name), 69_600, "{name}");
        }
        for prefix in ["", "x-"] {
            assert_eq!(header(reply, &format!("{prefix}ratelimit-limit")), 60);
            assert_eq!(header(reply, &format!("{prefix}ratelimit-remaining")), 0);
        }
    }
    // The counter stopped at exactly 60, as the next day shows.
    stage.idle(69_599_000).await;
    assert_eq!(
        stage.send_as("GET", "/v1/keys", key, "").await.status,
        429,
        "exact to the second"
    );
    stage.world.advance(1_000);
    let reply = stage
        .send_as("GET", "/v1/usage?days=2", key, "")
        .await
        .json();
    assert_eq!(reply["days"][1]["requests"], 60);
    assert_eq!(reply["days"][0]["requests"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_concurrent_requests_exactly_the_burst_passes() {
    let stage = stage(r#"{"free": {"requests_per_day": null, "requests_per_minute": 50}}"#).await;
    let tenant = project(&stage, "free").await;
    let key = tenant["api_key"].as_str().unwrap();
    let replies = race(&stage, 200, key).await;
    let (passed, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((passed.len(), refused.len()), (50, 150));
    let mut left: Vec<i64> = passed
        .iter()
        .map(|r| header(r, "x-ratelimit-remaining"))
        .collect();
    left.sort_unstable();
    assert_eq!(left, (0..50).collect::<Vec<_>>());
    for reply in refused {
        assert_eq!(
            (reply.status.as_u16(), header(reply, "retry-after")),
            (429, 2),
            "1.2 s, rounded up"
        );
    }
    // 50 requests a minute: one every 1.2 s, and a full burst after a minute.
    stage.world.advance(1_199);
    assert_eq!(stage.send_as("GET", "/v1/keys", key, "").await.status, 429);
    stage.world.advance(1);
    assert_eq!(stage.send_as("GET", "/v1/keys", key, "").await.status, 200);
    stage.world.advance(60_000);
    let passed = race(&stage, 60, key)
        .await
        .iter()
        .filter(|r| r.status == 200)
        .count();
    assert_eq!(passed, 50);
}

#[tokio::test]
async fn a_request_costs_one_write() {
    let stage = stage(r#"{"free": {"requests_per_day": 5, "requests_per_minute": 3}}"#).await;
    let tenant = project(&stage, "free").await;
    let key = tenant["api_key"].as_str().unwrap();
    stage.send_as("GET", "/v1/keys", key, "").await;
    let writes = async |advance: i64| {
        stage.world.advance(advance);
        stage.meter.take();
        let reply = stage.send_as("GET", "/v1/keys", key, "").await;
        let used = stage.meter.take();
        (reply.status.as_u16(), used.calls_of("UpdateItem"))
    };
    assert_eq!(writes(60_000).await, (200, 1), "steady");
    assert_eq!(writes(0).await, (200, 1), "a burst");
    assert_eq!(writes(0).await, (200, 1));
    assert_eq!(
        writes(0).await,
        (429, 1),
        "the rate is used up: no further write"
    );
    assert_eq!(writes(60_000).await, (200, 1));
    assert_eq!(writes(60_000).await, (429, 1), "the quota is used up");
}

#[tokio::test]
async fn failed_requests_and_heartbeats_are_not_charged() {
    let stage = stage(r#"{"free": {"requests_per_day": 20}}"#).await;
    let tenant = project(&stage, "free").await;
    let key = tenant["api_key"].as_str().unwrap();
    assert_eq!(requests_today(&stage, key).await, 1);
    for (method, path, body, status) in [
        ("POST", "/v1/monitors", "{", 400),
        ("POST", "/v1/monitors", r#"{"period_s": 0}"#, 400),
        ("POST", "/v1/channels", r#"{"kind": "email"}"#, 400),
        ("POST", "/v1/keys", r#"{"scope": "x"}"#, 400),
        (
            "POST",
            "/v1/keys",
            r#"{"scope": "read", "requests_per_day": 21}"#,
            400,
        ),
        ("POST", "/v1/project/snooze", "{}", 400),
        (
            "PATCH",
            "/v1/project",
            r#"{"windows": [{"cron": "x", "duration_s": 60}]}"#,
            400,
        ),
        ("GET", "/v1/usage?days=99", "", 400),
        ("GET", "/v1/alerts?limit=0", "", 400),
        ("POST", "/api/v3/checks/", r#"{"timeout": 1}"#, 400),
        ("POST", "/api/v3/checks/", r#"{"channels": "x"}"#, 400),
        ("GET", "/v1/monitors/nobody", "", 404),
        (
            "POST",
            "/v1/heartbeats",
            r#"{"monitor": "web-01", "period_s": 60}"#,
            200,
        ),
    ] {
        let reply = stage.send_as(method, path, key, body).await;
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{method} {path} {}",
            reply.text()
        );
        assert!(
            !reply.headers.contains_key("ratelimit-limit"),
            "{method} {path}"
        );
    }
    let reply = stage.send_as("GET", "/v1/monitors/web-01", key, "").await;
    assert_eq!(header(&reply, "ratelimit-remaining"), 18);
    assert_eq!(requests_today(&stage, key).await, 3);
}

#[tokio::test]
async fn plans_limit_monitors_and_provisioning_may_create_twice_as_many() {
    let stage = stage(r#"{"free": {"monitors": 2, "requests_per_day": null}}"#).await;
    let tenant = project(&stage, "free").await;
    let key = tenant["api_key"].as_str().unwrap();
    let ping_key = tenant["ping_key"].as_str().unwrap();
    let create = async |path: &str| stage.send_as("POST", path, key, r#"{"name": "x"}"#).await;
    assert_eq!(create("/v1/monitors").await.status, 201);
    assert_eq!(create("/api/v3/checks/").await.status, 201);
    let full = create("/v1/monitors").await;
    assert_eq!(full.status, 403, "{}", full.text());
    assert!(full.text().contains("as many monitors as its plan allows"));
    let full = create("/api/v3/checks/").await;
    assert_eq!((full.status.as_u16(), &*full.text()), (403, ""));
    assert_eq!(
        stage.ping(&format!("{ping_key}/a?create=1")).await.status,
        201
    );
    let heartbeat = r#"{"monitor": "b"}"#;
    assert_eq!(
        stage
            .send_as("POST", "/v1/heartbeats", key, heartbeat)
            .await
            .status,
        200
    );
    assert_eq!(
        stage.ping(&format!("{ping_key}/c?create=1")).await.status,
        404,
        "404, as in the compatible API"
    );
    let refused = stage
        .send_as("POST", "/v1/heartbeats", key, r#"{"monitor": "c"}"#)
        .await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    // Deleting one frees a slot.
    assert_eq!(
        stage
            .send_as("DELETE", "/v1/monitors/a", key, "")
            .await
            .status,
        204
    );
    assert_eq!(
        stage
            .send_as("POST", "/v1/heartbeats", key, r#"{"monitor": "c"}"#)
            .await
            .status,
        200
    );
    // So does a larger plan, within 30 s.
    let path = format!("/v1/projects/{}", tenant["id"].as_str().unwrap());
    let reply = stage
        .admin(Method::PATCH, &path, json!({"plan": "enterprise"}))
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["monitors"]),
        (200, &json!(4))
    );
    assert_eq!(create("/v1/monitors").await.status, 201);
}

#[tokio::test]
async fn pings_of_a_monitor_are_rate_limited_without_an_extra_write() {
    let config = thrum_ingest::Config {
        pings_per_minute: Some(60),
        ping_log: false,
        ..Default::default()
    };
    let stage = Stage::with(1, config).await;
    let uuid = stage
        .heartbeat(json!({"monitor": "loop", "period_s": 60}))
        .await["uuid"]
        .clone();
    let uuid = uuid.as_str().unwrap();
    stage.world.advance(60_000);
    stage.meter.take();
    assert_eq!(stage.ping(uuid).await.text(), "OK");
    let used = stage.meter.take();
    assert_eq!(used.calls.values().sum::<u64>(), 1, "steady: {used:?}");
    for i in 1..60 {
        assert_eq!(stage.ping(uuid).await.text(), "OK", "{i}");
        let used = stage.meter.take();
        assert_eq!(used.calls.values().sum::<u64>(), 1, "a burst: {used:?}");
    }
    // Then every kind of ping is refused, on every route.
    for path in [
        uuid.to_owned(),
        format!("{uuid}/start"),
        format!("{uuid}/fail"),
        format!("{PING_KEY}/loop"),
    ] {
        let reply = stage.ping(&path).await;
        assert_eq!(
            (reply.status.as_u16(), header(&reply, "retry-after")),
            (429, 1),
            "{path}"
        );
        assert_eq!(reply.text(), "too many pings; try again in 1 s");
    }
    let reply = stage
        .call(Method::POST, "/v1/heartbeats", json!({"monitor": "loop"}))
        .await;
    assert_eq!(
        (reply.status.as_u16(), header(&reply, "retry-after")),
        (429, 1)
    );
    assert_eq!(
        stage.monitor("loop").await["pings"],
        61,
        "refused pings are not counted"
    );
    stage.world.advance(999);
    assert_eq!(stage.ping(uuid).await.status, 429);
    stage.world.advance(1);
    assert_eq!(stage.ping(uuid).await.status, 200);
}

#[tokio::test]
async fn keys_are_rotated_with_an_overlap_and_revoked() {
    let stage = stage("{}").await;
    let tenant = project(&stage, "pro").await;
    let first = tenant["api_key"].as_str().unwrap().to_owned();
    let works = async |key: &str| stage.send_as("GET", "/v1/keys", key, "").await.status == 200;
    let list = stage.send_as("GET", "/v1/keys", &first, "").await.json();
    let id = |i: usize| list["keys"][i]["id"].as_str().unwrap().to_owned();
    let write = (0..2)
        .find(|i| list["keys"][i]["scope"] == "write")
        .unwrap();
    assert!(!list.to_string().contains(&first), "secrets are shown once");
    let path = format!("/v1/keys/{}", id(write));
    let refused = stage.send_as("DELETE", &path, &first, "").await;
    assert_eq!(refused.status, 409, "the last write key can't be deleted");
    let rotated = stage
        .send_as(
            "POST",
            &format!("{path}/rotate"),
            &first,
            r#"{"overlap_s": 3600}"#,
        )
        .await;
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    let second = rotated.json()["key"].as_str().unwrap().to_owned();
    assert!(second.len() == 32 && second.starts_with("hcw_"));
    assert!(
        works(&first).await && works(&second).await,
        "both keys are valid"
    );
    stage.world.advance(3_599_999);
    assert!(works(&first).await);
    stage.world.advance(1);
    assert!(
        !works(&first).await && works(&second).await,
        "exact to the millisecond"
    );
    let reply = stage
        .send_as(
            "POST",
            "/v1/keys",
            &second,
            r#"{"scope": "read", "name": "ci"}"#,
        )
        .await;
    let third = reply.json();
    let (id, key) = (
        third["id"].as_str().unwrap(),
        third["key"].as_str().unwrap(),
    );
    assert!(
        key.starts_with("hcr_")
            && stage.send_as("GET", "/v1/monitors", key, "").await.status == 200
    );
    assert_eq!(
        stage
            .send_as("DELETE", &format!("/v1/keys/{id}"), &second, "")
            .await
            .status,
        204
    );
    assert_eq!(
        stage.send_as("GET", "/v1/monitors", key, "").await.status,
        401
    );
    // Ping keys.
    let old = tenant["ping_key"].as_str().unwrap();
    assert_eq!(stage.ping(&format!("{old}/a?create=1")).await.status, 201);
    let new = stage
        .send_as("POST", "/v1/ping-key", &second, "")
        .await
        .json();
    let new = new["ping_key"].as_str().unwrap();
    assert_eq!(stage.ping(&format!("{old}/a")).await.status, 404);
    assert_eq!(stage.ping(&format!("{new}/a")).await.status, 200);
    assert_eq!(
        stage
            .send_as("DELETE", "/v1/ping-key", &second, "")
            .await
            .status,
        204
    );
    assert_eq!(
        stage.ping(&format!("{new}/a")).await.status,
        404,
        "the ping key can be removed"
    );
    // A project may give a key a lower quota than its plan; the admin may give it a higher one.
    let own = r#"{"scope": "read", "requests_per_day": 2}"#;
    let tight = stage.send_as("POST", "/v1/keys", &second, own).await.json();
    let tight = tight["key"].as_str().unwrap();
    let statuses = [200, 200, 429];
    for status in statuses {
        assert_eq!(
            stage
                .send_as("GET", "/v1/monitors", tight, "")
                .await
                .status
                .as_u16(),
            status
        );
    }
    let path = format!("/v1/projects/{}/keys", tenant["id"].as_str().unwrap());
    let wide = json!({"scope": "write", "requests_per_day": 1_000_000});
    assert_eq!(stage.admin(Method::POST, &path, wide).await.status, 201);
}

#[tokio::test]
async fn only_the_admin_key_creates_and_deletes_projects() {
    let without = Stage::new().await;
    let reply = without
        .admin(Method::GET, "/v1/projects", Value::Null)
        .await;
    assert_eq!(reply.status, 403, "refused when no admin key is configured");
    let stage = stage("{}").await;
    let tenant = project(&stage, "free").await;
    let id = tenant["id"].as_str().unwrap();
    for (name, value) in [
        ("x-api-key", e2e::API_KEY),
        ("x-admin-key", "wrong"),
        ("x-admin-key", e2e::API_KEY),
    ] {
        for (method, path) in [
            ("GET", "/v1/projects".to_owned()),
            ("DELETE", format!("/v1/projects/{id}")),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(&path)
                .header(name, value);
            let reply = stage.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(reply.status, 401, "{method} {path} {name}");
        }
    }
    let list = stage
        .admin(Method::GET, "/v1/projects", Value::Null)
        .await
        .json();
    assert_eq!(list["projects"].as_array().unwrap().len(), 2);
    let bad = stage
        .admin(Method::POST, "/v1/projects", json!({"plan": "golden"}))
        .await;
    assert!(
        bad.status == 400
            && bad
                .text()
                .contains("must be one of enterprise, free, owner, pro")
    );
    let key = tenant["api_key"].as_str().unwrap();
    stage
        .send_as("POST", "/v1/monitors", key, r#"{"slug": "a"}"#)
        .await;
    let first = format!("/v1/projects/{}", thrum_schema::ProjectId::FIRST);
    assert_eq!(
        stage
            .admin(Method::DELETE, &first, Value::Null)
            .await
            .status,
        409,
        "the first project can't be deleted"
    );
    let path = format!("/v1/projects/{id}");
    assert_eq!(
        stage.admin(Method::DELETE, &path, Value::Null).await.status,
        409,
        "a project with monitors can't be deleted"
    );
    stage.send_as("DELETE", "/v1/monitors/a", key, "").await;
    assert_eq!(
        stage.admin(Method::DELETE, &path, Value::Null).await.status,
        204
    );
    assert_eq!(
        stage.admin(Method::GET, &path, Value::Null).await.status,
        404
    );
    stage.world.advance(30_000);
    assert_eq!(
        stage.send_as("GET", "/v1/monitors", key, "").await.status,
        401
    );
}

#[tokio::test]
async fn a_rotation_does_not_reset_the_quota_and_keys_are_limited() {
    let stage = stage(r#"{"free": {"requests_per_day": 10, "keys": 4}}"#).await;
    let tenant = project(&stage, "free").await;
    let first = tenant["api_key"].as_str().unwrap().to_owned();
    let list = stage.send_as("GET", "/v1/keys", &first, "").await.json();
    let write = list["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["scope"] == "write");
    let path = format!("/v1/keys/{}/rotate", write.unwrap()["id"].as_str().unwrap());
    let rotated = stage.send_as("POST", &path, &first, "{}").await.json();
    let second = rotated["key"].as_str().unwrap().to_owned();
    let reply = stage.send_as("GET", "/v1/keys", &second, "").await;
    assert_eq!(
        header(&reply, "ratelimit-remaining"),
        7,
        "the count continues"
    );
    // There are three keys, including the expiring one; the fifth is refused without charge.
    let create = r#"{"scope": "read"}"#;
    assert_eq!(
        stage
            .send_as("POST", "/v1/keys", &second, create)
            .await
            .status,
        201
    );
    for (path, body) in [("/v1/keys", create), (&*path, "{}")] {
        let refused = stage.send_as("POST", path, &second, body).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert!(!refused.headers.contains_key("ratelimit-limit"));
    }
}

/// If the table can't be reached to check the quota, requests are refused.
#[tokio::test]
async fn no_request_passes_without_the_table() {
    let stage = stage("{}").await;
    let tenant = project(&stage, "free").await;
    let key = tenant["api_key"].as_str().unwrap();
    assert_eq!(stage.send_as("GET", "/v1/keys", key, "").await.status, 200);
    // Key and project are still cached; the remaining quota is not.
    stage.switch.off();
    for path in ["/v1/keys", "/v1/monitors", "/api/v3/channels/"] {
        let reply = stage.send_as("GET", path, key, "").await;
        assert_eq!(
            (reply.status.as_u16(), header(&reply, "retry-after")),
            (503, 1),
            "{path}"
        );
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
    assert_eq!(
        stage.ping(&format!("{PING_KEY}/a?create=1")).await.status,
        503
    );
}
