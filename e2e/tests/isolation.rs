//! No key reaches another project, and read keys can't write: tested on every route of the OpenAPI
//! document.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{READ_KEY, Stage};
use serde_json::{Value, json};

/// Every method and path of the OpenAPI document, with each parameter replaced by its value in
/// `of`.
fn routes(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let document = thrum_ingest::document();
    let paths = document["paths"].as_object().unwrap();
    let mut routes = Vec::new();
    for (path, item) in paths {
        let mut path = path.clone();
        for (name, value) in of {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        for method in item.as_object().unwrap().keys() {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                routes.push((method.to_uppercase(), path.clone()));
            }
        }
    }
    assert!(routes.len() > 50, "{}", routes.len());
    routes
}

/// Everything that the API shows of the first project, except its request counters.
async fn everything(stage: &Stage) -> Vec<String> {
    let mut shown = Vec::new();
    for path in [
        "/v1/monitors",
        "/v1/monitors/job",
        "/v1/channels",
        "/v1/alerts",
        "/v1/keys",
        "/v1/project",
        "/v1/series",
        "/v1/series/job/bars?timeframe=1h",
        "/v1/strategies",
        "/v1/watches",
    ] {
        let reply = stage.call(Method::GET, path, Value::Null).await;
        assert_eq!(reply.status, 200, "{path}");
        shown.push(reply.text());
    }
    shown
}

/// A body that is valid for the route, so that the request is not refused for its body.
fn body_for(method: &str, path: &str) -> &'static str {
    match (method, path) {
        ("GET" | "DELETE", _) => "",
        (_, path) if path.ends_with("/heartbeats") => r#"{"monitor": "job", "status": "fail"}"#,
        (_, path) if path.ends_with("/heartbeat") => r#"{"hostId": "job"}"#,
        ("POST", path) if path.ends_with("snooze") => r#"{"for_s": 60}"#,
        ("POST", "/v1/keys") => r#"{"scope": "write"}"#,
        ("POST", "/v1/channels") => r#"{"kind": "email", "to": "a@example.org"}"#,
        (_, path) if path.starts_with("/v1/monitors") || path.starts_with("/v1/channels/") => {
            r#"{"name": "stolen"}"#
        }
        (_, "/v1/project") => r#"{"name": "stolen"}"#,
        ("POST", "/v1/signals" | "/v1/backtests") => {
            r#"{"series": "job", "timeframe": "1h", "strategy": "threshold"}"#
        }
        ("POST", path) if path.ends_with("/bars") => {
            r#"{"timeframe": "1h", "bars": [{"time": "2025-11-20T08:00:00Z", "open": 9, "high": 9, "low": 9, "close": 9}]}"#
        }
        ("POST", path) if path.ends_with("/values") => {
            r#"{"values": [{"time": "2025-11-20T08:00:00Z", "value": 9}]}"#
        }
        ("POST", path) if path.ends_with("/sentiment") => {
            r#"{"scores": [{"time": "2025-11-20T08:00:00Z", "score": 1}]}"#
        }
        ("PUT", path) if path.starts_with("/v1/strategies") => {
            r#"{"buy": {"any": []}, "sell": {"any": []}}"#
        }
        _ => "{}",
    }
}

#[tokio::test]
async fn another_projects_key_sees_nothing_and_a_read_key_changes_nothing() {
    let stage = Stage::with_admin().await;
    let created = stage
        .admin(
            Method::POST,
            "/v1/projects",
            json!({"name": "thief", "plan": "owner"}),
        )
        .await;
    let thief = created.json()["api_key"].as_str().unwrap().to_owned();
    let monitor = stage
        .call(
            Method::POST,
            "/v1/monitors",
            json!({"name": "job", "slug": "job", "tags": ["secret-tag"]}),
        )
        .await
        .json();
    let uuid = monitor["uuid"].as_str().unwrap();
    let channel = stage
        .webhook(
            "http://127.0.0.1:9/secret-hook",
            json!({"name": "secret-channel"}),
        )
        .await;
    let request = Request::post(format!("/ping/{uuid}/fail")).body(Body::from("secret-body"));
    stage.send(request.unwrap()).await;
    stage.carry().await;
    let alert = stage.alerts().await[0]["id"].as_str().unwrap().to_owned();
    let keys = stage
        .call(Method::GET, "/v1/keys", Value::Null)
        .await
        .json();
    let key = keys["keys"][0]["id"].as_str().unwrap().to_owned();
    for (method, path, body) in [
        (
            Method::POST,
            "/v1/series/job/bars",
            json!({"timeframe": "1h", "bars": [{"time": "2025-11-20T08:00:00Z", "open": 1, "high": 1, "low": 1, "close": 1}]}),
        ),
        (
            Method::PUT,
            "/v1/strategies/secret-strategy",
            json!({"buy": {"any": []}, "sell": {"any": []}}),
        ),
    ] {
        let reply = stage.call(method, path, body).await;
        assert!(reply.status.is_success(), "{}", reply.text());
    }
    let on = json!({"series": "job", "timeframe": "1h", "strategy": "secret-strategy"});
    let watch = stage
        .call(Method::POST, "/v1/watches", on.clone())
        .await
        .json();
    let watch = watch["id"].as_str().unwrap().to_owned();
    let request = stage.call(Method::POST, "/v1/signals", on).await.json();
    let request = request["id"].as_str().unwrap().to_owned();
    stage.carry().await;
    let before = everything(&stage).await;
    let mut requests = 0;
    for (whose, caller) in [
        ("another project's", thief.as_str()),
        ("a reader's", READ_KEY),
    ] {
        for id in [
            uuid,
            "job",
            monitor["unique_key"].as_str().unwrap(),
            &channel,
            &alert,
            &key,
            &watch,
            &request,
        ] {
            let first = thrum_schema::ProjectId::FIRST.to_string();
            let values = [
                ("id", id),
                ("check", uuid),
                ("n", "1"),
                ("project", &*first),
                ("key", caller),
                ("path", "x/y.svg"),
                ("states", "2"),
                ("badge", "x.svg"),
                ("uuid", "x"),
                ("ping_key", "x"),
                ("slug", "job"),
                ("series", "job"),
                ("name", "secret-strategy"),
            ];
            for (method, path) in routes(&values) {
                let writes_series = method != "GET" && path.starts_with("/v1/series/");
                let names_nothing = !path.contains(id) && !path.contains(uuid);
                let allowed = caller == thief && (names_nothing || writes_series);
                let path = match method.as_str() {
                    "GET" if path.ends_with("/bars") => format!("{path}?timeframe=1h"),
                    "GET" if path.starts_with("/v1/series/") => {
                        format!("{path}?timeframe=1h&strategy=threshold")
                    }
                    _ => path,
                };
                // The deep check waits on the clock, which stands still here.
                if path == "/v1/status"
                    || path.starts_with("/v1/projects/")
                    || path.starts_with("/ping/")
                    || allowed
                {
                    continue;
                }
                let reply = stage
                    .send_as(&method, &path, caller, body_for(&method, &path))
                    .await;
                let case = format!(
                    "{whose} key: {method} {path} → {} {}",
                    reply.status,
                    reply.text()
                );
                requests += 1;
                let callback = path.ends_with("/status") || path.ends_with("/bounces/");
                if callback && method == "POST" {
                    // Notification services call these without a key; they do nothing.
                    let nothing = reply.text().is_empty() || reply.status == 404;
                    assert!(nothing, "{case}");
                    continue;
                }
                if caller == thief {
                    assert!(
                        [401, 403, 404, 405, 409].contains(&reply.status.as_u16()),
                        "{case}"
                    );
                    for secret in [uuid, "secret", "job"] {
                        assert!(!reply.text().contains(secret), "{case}");
                    }
                } else if method == "GET" {
                    for secret in [uuid, "secret-hook", "secret-body"] {
                        // The ping log of `/v1` shows bodies to read keys; the compatible API's
                        // does not.
                        let may_see = secret == "secret-body" && path.starts_with("/v1/monitors/");
                        assert!(may_see || !reply.text().contains(secret), "{case}");
                    }
                } else {
                    assert!([401, 403, 404].contains(&reply.status.as_u16()), "{case}");
                }
            }
        }
        assert_eq!(
            everything(&stage).await,
            before,
            "{whose} key changed something"
        );
    }
    assert!(requests > 300, "{requests}");
    // Lists show only the caller's own project.
    for path in [
        "/v1/monitors",
        "/v1/channels",
        "/v1/alerts",
        "/v1/keys",
        "/v1/usage",
        "/api/v3/badges/",
    ] {
        let reply = stage.send_as("GET", path, &thief, "").await;
        assert_eq!(reply.status, 200, "{path}");
        for secret in [uuid, "secret", "job", &key, &alert] {
            assert!(!reply.text().contains(secret), "{path} reveals {secret}");
        }
    }
    // A heartbeat by the same name does not reach it, either.
    let reply = stage
        .send_as("POST", "/v1/heartbeats", &thief, r#"{"monitor": "job"}"#)
        .await;
    assert_ne!(reply.json()["results"][0]["uuid"], uuid);
    assert_eq!(everything(&stage).await, before);
}

/// A key for hosts sends heartbeats, one for feeds sends to series, and neither can do anything else.
#[tokio::test]
async fn a_key_with_a_narrow_scope_does_one_thing() {
    let stage = Stage::new().await;
    let monitor = json!({"name": "job", "slug": "job", "tags": ["secret-tag"]});
    let monitor = stage
        .call(Method::POST, "/v1/monitors", monitor)
        .await
        .json();
    let uuid = monitor["uuid"].as_str().unwrap();
    for scope in ["heartbeat", "series"] {
        let new = json!({"scope": scope, "name": scope});
        let created = stage.call(Method::POST, "/v1/keys", new).await.json();
        let key = created["key"].as_str().unwrap().to_owned();
        let before = everything_of_monitors(&stage).await;
        let first = thrum_schema::ProjectId::FIRST.to_string();
        let of = [
            ("id", uuid),
            ("check", uuid),
            ("n", "1"),
            ("project", &*first),
            ("key", &key),
            ("uuid", "x"),
            ("ping_key", "x"),
            ("slug", "job"),
            ("series", "feed"),
            ("name", "trend-rsi"),
            ("path", "x/y.svg"),
            ("states", "2"),
            ("badge", "x.svg"),
        ];
        let mut refused = 0;
        for (method, path) in routes(&of) {
            let is_heartbeat = method == "POST" && path.starts_with("/v1/he");
            let is_series = method == "POST" && path.starts_with("/v1/series/");
            let own = if scope == "heartbeat" {
                is_heartbeat
            } else {
                is_series
            };
            let is_public = ["/health", "/v1/status", "/openapi.json"].contains(&&*path)
                || path.starts_with("/api/v3/status")
                || path.starts_with("/ping/")
                || path.ends_with("/bounces/")
                || (path.starts_with("/api/v3/notifications/"));
            if own || is_public {
                continue;
            }
            let body = body_for(&method, &path);
            let reply = stage.send_as(&method, &path, &key, body).await;
            let case = format!(
                "{scope}: {method} {path} → {} {}",
                reply.status,
                reply.text()
            );
            assert!([401, 403, 404].contains(&reply.status.as_u16()), "{case}");
            assert!(!reply.text().contains("secret"), "{case}");
            refused += 1;
        }
        assert!(refused > 50, "{refused}");
        assert_eq!(everything_of_monitors(&stage).await, before);
        let (path, body) = match scope {
            "heartbeat" => ("/v1/heartbeats", r#"{"monitor": "host"}"#),
            _ => (
                "/v1/series/feed/values",
                body_for("POST", "/v1/series/feed/values"),
            ),
        };
        let reply = stage.send_as("POST", path, &key, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let form = Request::post("/sign-in").body(Body::from(format!("key={key}")));
        let page = stage.send(form.unwrap()).await;
        assert!(!page.headers.contains_key("set-cookie"), "{scope} signs in");
    }
}

async fn everything_of_monitors(stage: &Stage) -> Vec<String> {
    let mut shown = Vec::new();
    for path in [
        "/v1/monitors",
        "/v1/channels",
        "/v1/keys",
        "/v1/project",
        "/v1/series",
    ] {
        shown.push(stage.call(Method::GET, path, Value::Null).await.text());
    }
    shown
}

/// Every documented operation is routed. The reverse holds by construction: routes and description
/// come from one table.
#[tokio::test]
async fn every_documented_operation_is_routed() {
    let stage = Stage::new().await;
    let id = "0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273";
    let of = [("check", id), ("id", id), ("n", "1"), ("states", "2")];
    // The deep check waits for a pipeline, which does not run here.
    let routes = routes(&of).into_iter();
    for (method, path) in routes.filter(|(_, path)| path != "/v1/status") {
        let request = Request::builder()
            .method(&*method)
            .uri(path.replace(['{', '}'], ""))
            .body(Body::empty())
            .unwrap();
        let reply = stage.send(request).await;
        let text = reply.text();
        // An unknown path of the compatible API is a 404; a known one asks for a key first.
        let unknown = path.starts_with("/api/") && reply.status == 404;
        assert!(
            !unknown && reply.status != 405 && !text.contains("nothing at this path"),
            "{method} {path}: {} {text}",
            reply.status,
        );
    }
}
