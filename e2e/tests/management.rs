//! The healthchecks-compatible management API (docs/compatibility.md): every endpoint, with every
//! kind of key and every error, as data.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{API_KEY, READ_KEY, Reply, Stage};
use serde_json::{Value, json};

/// A second project, which the first one's keys must not reach.
struct Other {
    api_key: String,
    read_key: String,
    uuid: String,
    unique_key: String,
}

async fn call(stage: &Stage, method: &str, path: &str, key: &str, body: &str) -> Reply {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "thrum.test");
    if !key.is_empty() {
        request = request.header("x-api-key", key);
    }
    stage
        .send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

async fn create(stage: &Stage, body: Value) -> Value {
    let body = body.to_string();
    let reply = call(stage, "POST", "/api/v3/checks/", API_KEY, &body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

async fn other_project(stage: &Stage) -> Other {
    let created = stage
        .admin(
            Method::POST,
            "/v1/projects",
            json!({"name": "other", "plan": "pro"}),
        )
        .await;
    assert_eq!(created.status, 201, "{}", created.text());
    let created = created.json();
    let key = |name: &str| created[name].as_str().unwrap().to_owned();
    let (api_key, read_key) = (key("api_key"), key("read_key"));
    let check = call(
        stage,
        "POST",
        "/api/v3/checks/",
        &api_key,
        r#"{"name": "theirs"}"#,
    )
    .await
    .json();
    let uuid = check["uuid"].as_str().unwrap().to_owned();
    let theirs = call(
        stage,
        "GET",
        &format!("/api/v3/checks/{uuid}"),
        &read_key,
        "",
    )
    .await
    .json();
    Other {
        unique_key: theirs["unique_key"].as_str().unwrap().to_owned(),
        api_key,
        read_key,
        uuid,
    }
}

/// The documented status codes and bodies: endpoint × key × error.
#[tokio::test]
async fn every_endpoint_checks_its_key_and_reports_errors() {
    let stage = Stage::with_admin().await;
    let other = other_project(&stage).await;
    let mine = create(&stage, json!({"name": "mine", "slug": "mine"})).await;
    let id = mine["uuid"].as_str().unwrap();
    stage.ping(id).await;
    let ro = call(&stage, "GET", &format!("/api/v3/checks/{id}"), READ_KEY, "")
        .await
        .json();
    let unique = ro["unique_key"].as_str().unwrap();
    let unknown = "0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273";
    let wrong = "x".repeat(32);
    let missing = r#"{"error":"missing api key"}"#;
    let wrong_key = r#"{"error":"wrong api key"}"#;
    // (method, path, allowed methods, whether a read-only key is enough)
    let endpoints = [
        ("GET", "checks/".to_owned(), "GET, POST", true),
        ("POST", "checks/".to_owned(), "GET, POST", false),
        ("GET", format!("checks/{id}"), "GET, POST, DELETE", true),
        ("POST", format!("checks/{id}"), "GET, POST, DELETE", false),
        ("GET", format!("checks/{unique}"), "GET", true),
        ("POST", format!("checks/{id}/pause"), "POST", false),
        ("POST", format!("checks/{id}/resume"), "POST", false),
        ("GET", format!("checks/{id}/pings/"), "GET", false),
        ("GET", format!("checks/{id}/pings/1/body"), "GET", false),
        ("GET", format!("checks/{id}/flips/"), "GET", true),
        ("GET", format!("checks/{unique}/flips/"), "GET", true),
        ("GET", "channels/".to_owned(), "GET", false),
        ("GET", "badges/".to_owned(), "GET", true),
        ("DELETE", format!("checks/{id}"), "GET, POST, DELETE", false),
    ];
    for version in ["v1", "v2", "v3"] {
        for (method, path, methods, for_read_keys) in &endpoints {
            for path in [
                path.trim_end_matches('/').to_owned(),
                format!("{}/", path.trim_end_matches('/')),
            ] {
                let path = &format!("/api/{version}/{path}");
                let case = format!("{method} {path}");
                for (key, body) in [("", missing), ("short", missing), (&*wrong, wrong_key)] {
                    let reply = call(&stage, method, path, key, "").await;
                    assert_eq!(
                        (reply.status.as_u16(), reply.text().as_str()),
                        (401, body),
                        "{case} {key}"
                    );
                    assert_eq!(reply.headers["content-type"], "application/json", "{case}");
                }
                let reply = call(&stage, method, path, READ_KEY, "").await;
                if *for_read_keys {
                    assert_eq!(reply.status, 200, "{case}");
                } else {
                    assert_eq!(
                        (reply.status.as_u16(), &*reply.text()),
                        (401, wrong_key),
                        "{case}"
                    );
                }
                let options = call(&stage, "OPTIONS", path, "", "").await;
                assert_eq!(
                    (options.status.as_u16(), &*options.text()),
                    (204, ""),
                    "{case}"
                );
                for not_taken in ["HEAD", "PUT", "PATCH", "TRACE"] {
                    let reply = call(&stage, not_taken, path, API_KEY, "").await;
                    assert_eq!(
                        (reply.status.as_u16(), &*reply.text()),
                        (405, ""),
                        "{not_taken} {path}"
                    );
                }
                for reply in [options, reply] {
                    for (name, value) in [
                        ("access-control-allow-origin", "*"),
                        ("access-control-allow-headers", "X-Api-Key"),
                        ("access-control-allow-methods", methods),
                        ("access-control-max-age", "600"),
                    ] {
                        assert_eq!(reply.headers[name], *value, "{case} {name}");
                    }
                }
                // Another project's key: 403 for a uuid, 404 for a unique key.
                if path.contains(id) {
                    let reply = call(&stage, method, path, &other.api_key, "{}").await;
                    assert_eq!((reply.status.as_u16(), &*reply.text()), (403, ""), "{case}");
                    let gone = path.replace(id, unknown);
                    assert_eq!(
                        call(&stage, method, &gone, API_KEY, "{}").await.status,
                        404,
                        "{case}"
                    );
                } else if path.contains(unique) {
                    assert_eq!(
                        call(&stage, method, path, &other.read_key, "").await.status,
                        404,
                        "{case}"
                    );
                }
            }
        }
    }
    for (method, path) in [("GET", "checks"), ("GET", "badges"), ("GET", "channels")] {
        let theirs = call(
            &stage,
            method,
            &format!("/api/v3/{path}"),
            &other.api_key,
            "",
        )
        .await;
        assert!(
            !theirs.text().contains(id) && theirs.status == 200,
            "{path}"
        );
    }
    let foreign = format!("/api/v3/checks/{}", other.unique_key);
    assert_eq!(
        call(&stage, "GET", &foreign, READ_KEY, "").await.status,
        404
    );
    let foreign = format!("/api/v3/checks/{}", other.uuid);
    assert_eq!(
        call(&stage, "GET", &foreign, READ_KEY, "").await.status,
        403
    );
    // An unreadable body is reported before the key is checked; invalid fields after the check is
    // found.
    let unreadable = r#"{"error":"could not parse request body"}"#;
    let no_object = r#"{"error":"json validation error: value is not an object"}"#;
    let too_small = r#"{"error":"json validation error: timeout is too small"}"#;
    for path in [
        "checks/".to_owned(),
        format!("checks/{id}"),
        format!("checks/{id}/pause"),
    ] {
        let path = format!("/api/v3/{path}");
        for (body, expected) in [
            ("{", unreadable),
            ("\u{0}", unreadable),
            ("[]", no_object),
            ("null", no_object),
        ] {
            let reply = call(&stage, "POST", &path, "", body).await;
            assert_eq!(
                (reply.status.as_u16(), &*reply.text()),
                (400, expected),
                "{path} {body}"
            );
        }
    }
    let bad = r#"{"timeout": 1}"#;
    for (path, key, status, expected) in [
        ("checks/".to_owned(), API_KEY, 400, too_small),
        (format!("checks/{id}"), API_KEY, 400, too_small),
        (format!("checks/{id}"), &*other.api_key, 403, ""),
        (
            format!("checks/{unknown}"),
            API_KEY,
            404,
            r#"{"error":"not found"}"#,
        ),
    ] {
        let reply = call(&stage, "POST", &format!("/api/v3/{path}"), key, bad).await;
        assert_eq!(
            (reply.status.as_u16(), &*reply.text()),
            (status, expected),
            "{path}"
        );
    }
    // POSTs may carry the key in the body.
    let keyed = json!({"api_key": API_KEY, "name": "renamed"}).to_string();
    let path = format!("/api/v3/checks/{id}");
    assert_eq!(
        call(&stage, "POST", &path, "", &keyed).await.json()["name"],
        "renamed"
    );
    let keyed = json!({"api_key": READ_KEY}).to_string();
    assert_eq!(
        call(&stage, "POST", &path, "", &keyed).await.text(),
        wrong_key
    );
    for nowhere in [
        "/api/v4/checks/",
        "/api/v3/",
        "/api/v3/checks/nothing",
        "/api/",
    ] {
        assert_eq!(
            call(&stage, "GET", nowhere, API_KEY, "").await.status,
            404,
            "{nowhere}"
        );
    }
}

#[tokio::test]
async fn public_endpoints_need_no_key_and_metrics_have_their_own() {
    let stage = Stage::with_admin().await;
    let status = call(&stage, "GET", "/api/v3/status/", "", "").await;
    assert_eq!((status.status.as_u16(), &*status.text()), (200, "OK"));
    let uuid = "0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273";
    let callback = format!("/api/v3/notifications/{uuid}/status");
    assert_eq!(
        call(&stage, "POST", &callback, "", "error=x").await.status,
        200
    );
    assert_eq!(call(&stage, "GET", &callback, "", "").await.status, 405);
    assert_eq!(
        call(&stage, "POST", "/api/v3/bounces/", "", "x")
            .await
            .status,
        200
    );
    let metrics = async |key: &str| {
        let request = Request::get("/api/v3/metrics/").header("x-metrics-key", key);
        stage.send(request.body(Body::empty()).unwrap()).await
    };
    for wrong in ["", "wrong"] {
        let reply = metrics(wrong).await;
        assert_eq!((reply.status.as_u16(), &*reply.text()), (403, ""));
    }
    let reply = metrics(e2e::METRICS_KEY).await.json();
    assert!(
        reply["ts"].is_i64() && reply["num_unprocessed_flips"] == 0,
        "{reply}"
    );
}

#[tokio::test]
async fn a_check_has_the_documented_fields_and_can_be_cloned() {
    let stage = Stage::new().await;
    let channel = stage
        .webhook("http://127.0.0.1:9/", json!({"name": "ops"}))
        .await;
    let given = json!({
        "name": "DB Backup", "slug": "db", "tags": "prod db", "desc": "nightly", "grace": 600,
        "schedule": "0 3 * * *", "tz": "Europe/Kiev", "manual_resume": true, "methods": "POST",
        "start_kw": "begin", "success_kw": "done", "failure_kw": "ERROR", "filter_subject": true,
        "filter_body": true, "filter_http_body": true, "filter_default_fail": true, "channels": "ops",
        "whatever": null,
    });
    let created = create(&stage, given).await;
    let id = created["uuid"].as_str().unwrap();
    let badge = created["badge_url"].as_str().unwrap().to_owned();
    assert!(badge.starts_with("http://thrum.test/b/2/") && badge.ends_with(".svg"));
    let expected = json!({
        "name": "DB Backup", "slug": "db", "tags": "prod db", "desc": "nightly", "grace": 600, "n_pings": 0,
        "status": "new", "started": false, "last_ping": null, "next_ping": null, "manual_resume": true,
        "methods": "POST", "subject": "done", "subject_fail": "ERROR", "start_kw": "begin", "success_kw": "done",
        "failure_kw": "ERROR", "filter_subject": true, "filter_body": true, "filter_http_body": true,
        "filter_default_fail": true, "badge_url": badge, "uuid": id,
        "ping_url": format!("http://thrum.test/ping/{id}"),
        "update_url": format!("http://thrum.test/api/v3/checks/{id}"),
        "pause_url": format!("http://thrum.test/api/v3/checks/{id}/pause"),
        "resume_url": format!("http://thrum.test/api/v3/checks/{id}/resume"),
        "channels": channel, "schedule": "0 3 * * *", "tz": "Europe/Kyiv",
    });
    assert_eq!(created, expected);
    // A check from the list can be posted back, which creates a clone.
    let list = call(&stage, "GET", "/api/v3/checks/", API_KEY, "")
        .await
        .json();
    let clone = create(&stage, list["checks"][0].clone()).await;
    for field in created.as_object().unwrap().keys() {
        let own = [
            "uuid",
            "badge_url",
            "ping_url",
            "update_url",
            "pause_url",
            "resume_url",
        ];
        if !own.contains(&field.as_str()) {
            assert_eq!(clone[field], created[field], "{field}");
        }
    }
    assert_ne!(clone["uuid"], created["uuid"]);
    // A read key sees only the documented fields.
    let path = format!("/api/v3/checks/{id}");
    let read = call(&stage, "GET", &path, READ_KEY, "").await.json();
    for hidden in [
        "uuid",
        "ping_url",
        "update_url",
        "pause_url",
        "resume_url",
        "channels",
    ] {
        assert!(read.get(hidden).is_none(), "{hidden}");
    }
    let unique = read["unique_key"].as_str().unwrap();
    let by_key = call(
        &stage,
        "GET",
        &format!("/api/v3/checks/{unique}"),
        READ_KEY,
        "",
    )
    .await;
    assert_eq!(by_key.json(), read);
    // Defaults.
    let blank = create(&stage, json!({})).await;
    for (field, value) in [
        ("name", json!("")),
        ("slug", json!("")),
        ("tags", json!("")),
        ("timeout", json!(86_400)),
        ("grace", json!(3_600)),
        ("channels", json!("")),
        ("methods", json!("")),
        ("manual_resume", json!(false)),
    ] {
        assert_eq!(blank[field], value, "{field}");
    }
    assert!(blank.get("schedule").is_none() && blank.get("last_duration").is_none());
}

#[tokio::test]
async fn the_life_of_a_check_matches_the_documented_api() {
    let stage = Stage::new().await;
    let created = create(&stage, json!({"name": "job", "timeout": 60, "grace": 60})).await;
    let id = created["uuid"].as_str().unwrap().to_owned();
    let path = &format!("/api/v3/checks/{id}");
    let check = async |version: &str| {
        let path = path.replace("v3", version);
        call(&stage, "GET", &path, API_KEY, "").await.json()
    };
    stage.ping(&id).await;
    let up = check("v3").await;
    assert_eq!((&up["status"], &up["n_pings"]), (&json!("up"), &json!(1)));
    assert_eq!(up["last_ping"], "2025-11-21T04:40:00+00:00");
    assert_eq!(up["next_ping"], "2025-11-21T04:41:00+00:00");
    stage.world.advance(10_000);
    stage.ping(&format!("{id}/start")).await;
    let started = check("v3").await;
    assert_eq!(
        (&started["status"], &started["started"]),
        (&json!("up"), &json!(true))
    );
    assert_eq!(started["next_ping"], "2025-11-21T04:40:10+00:00");
    assert_eq!(check("v1").await["status"], "started");
    assert!(
        check("v1").await["ping_url"]
            .as_str()
            .unwrap()
            .contains("/ping/")
    );
    assert!(
        check("v2").await["pause_url"]
            .as_str()
            .unwrap()
            .contains("/api/v2/")
    );
    stage.world.advance(400);
    stage.ping(&format!("{id}/7")).await;
    let down = check("v3").await;
    assert_eq!(
        (&down["status"], &down["last_duration"]),
        (&json!("down"), &json!(0))
    );
    assert!(down["next_ping"].is_null());
    // Pause is idempotent, resume is not.
    for _ in 0..2 {
        let paused = call(&stage, "POST", &format!("{path}/pause"), API_KEY, "").await;
        assert_eq!(
            (paused.status.as_u16(), &paused.json()["status"]),
            (200, &json!("paused"))
        );
    }
    let resume = format!("{path}/resume/");
    let resumed = call(&stage, "POST", &resume, API_KEY, "").await;
    assert_eq!(
        (resumed.status.as_u16(), &resumed.json()["status"]),
        (200, &json!("new"))
    );
    assert!(resumed.json()["last_ping"].is_null());
    let again = call(&stage, "POST", &resume, API_KEY, "").await;
    assert_eq!(
        (again.status.as_u16(), &*again.text()),
        (409, "check is not paused")
    );
    // Flips, newest first, filtered.
    let flips = async |query: &str| {
        let reply = call(
            &stage,
            "GET",
            &format!("{path}/flips/{query}"),
            READ_KEY,
            "",
        )
        .await;
        (reply.status.as_u16(), reply.json()["flips"].clone())
    };
    let (_, all) = flips("").await;
    let ups: Vec<i64> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["up"].as_i64().unwrap())
        .collect();
    assert_eq!(ups, [0, 0, 0, 1]);
    assert_eq!(
        all[3],
        json!({"timestamp": "2025-11-21T04:40:00+00:00", "up": 1})
    );
    let first_ping_s = 1_763_700_000;
    for (query, n) in [
        ("?seconds=0".to_owned(), 4),
        ("?seconds=10".to_owned(), 3),
        (format!("?start={first_ping_s}"), 4),
        (format!("?start={}", first_ping_s + 1), 3),
        (format!("?end={}", first_ping_s + 1), 1),
        (
            format!("?start={}&end={}", first_ping_s + 5, first_ping_s + 6),
            0,
        ),
        (format!("?start=9&end={first_ping_s}"), 0),
    ] {
        let (status, found) = flips(&query).await;
        assert_eq!(
            (status, found.as_array().unwrap().len()),
            (200, n),
            "{query}"
        );
    }
    for bad in [
        "?start=",
        "?seconds=x",
        "?seconds=31536001",
        "?end=-1",
        "?end=10000000001",
    ] {
        let reply = call(&stage, "GET", &format!("{path}/flips/{bad}"), READ_KEY, "").await;
        assert_eq!((reply.status.as_u16(), &*reply.text()), (400, ""), "{bad}");
    }
    // DELETE answers with the check, without its channels; then it is gone.
    let deleted = call(&stage, "DELETE", path, API_KEY, "").await.json();
    assert_eq!(
        (&deleted["name"], &deleted["channels"]),
        (&json!("job"), &json!(""))
    );
    assert_eq!(call(&stage, "GET", path, API_KEY, "").await.status, 404);
    assert_eq!(stage.ping(&id).await.status, 404);
    let list = call(&stage, "GET", "/api/v3/checks/", API_KEY, "")
        .await
        .json();
    assert_eq!(list, json!({"checks": []}));
}

#[tokio::test]
async fn updates_change_only_given_fields_and_upserts_find_their_check() {
    let stage = Stage::new().await;
    let ops = stage
        .webhook("http://127.0.0.1:9/", json!({"name": "ops"}))
        .await;
    let dev = stage
        .webhook("http://127.0.0.1:9/", json!({"name": "dev"}))
        .await;
    stage
        .webhook("http://127.0.0.1:9/", json!({"name": "dev"}))
        .await;
    let post = async |path: &str, body: Value| {
        call(&stage, "POST", path, API_KEY, &body.to_string()).await
    };
    let created = create(
        &stage,
        json!({"name": "a", "slug": "a", "tags": "x y", "timeout": 60}),
    )
    .await;
    let path = format!("/api/v3/checks/{}", created["uuid"].as_str().unwrap());
    let changed = post(&path, json!({"grace": 90})).await.json();
    assert_eq!(
        (&changed["grace"], &changed["timeout"], &changed["tags"]),
        (&json!(90), &json!(60), &json!("x y"))
    );
    let changed = post(&path, json!({"channels": "*"})).await.json();
    assert_eq!(changed["channels"].as_str().unwrap().split(',').count(), 3);
    assert_eq!(
        post(&path, json!({"channels": "ops"})).await.json()["channels"],
        ops.as_str()
    );
    assert_eq!(
        post(&path, json!({"channels": &dev})).await.json()["channels"],
        dev.as_str()
    );
    assert_eq!(
        post(&path, json!({"name": "a"})).await.json()["channels"],
        dev.as_str(),
        "unchanged"
    );
    assert_eq!(
        post(&path, json!({"channels": ""})).await.json()["channels"],
        ""
    );
    for (channels, error) in [
        ("dev", "non-unique channel identifier: dev"),
        ("nobody", "invalid channel identifier: nobody"),
        ("ops,", "empty channel identifier"),
    ] {
        let reply = post(&path, json!({"channels": channels, "name": "changed"})).await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()),
            (400, json!({"error": error}))
        );
    }
    // Versions 1 and 2 derive the slug from the name, unless it is given.
    for (version, body, slug) in [
        ("v1", json!({"name": "My Job"}), "my-job"),
        ("v2", json!({"name": "My Job", "slug": "own"}), "own"),
        ("v3", json!({"name": "My Job"}), ""),
    ] {
        let reply = post(&format!("/api/{version}/checks/"), body).await;
        assert_eq!(reply.json()["slug"], slug, "{version}");
    }
    // Upserts.
    for (body, status, is_same) in [
        (
            json!({"name": "a", "unique": ["name"], "grace": 120}),
            200,
            true,
        ),
        (
            json!({"slug": "a", "tags": "x y", "unique": ["slug", "tags"]}),
            200,
            true,
        ),
        (
            json!({"timeout": 60, "grace": 120, "unique": ["timeout", "grace"]}),
            200,
            true,
        ),
        (json!({"name": "b", "unique": ["name"]}), 201, false),
        (json!({"name": "a", "unique": ["name", "slug"]}), 201, false),
        (json!({"name": "a", "unique": []}), 201, false),
    ] {
        let reply = post("/api/v3/checks/", body.clone()).await;
        assert_eq!(reply.status.as_u16(), status, "{body}");
        assert_eq!(reply.json()["uuid"] == created["uuid"], is_same, "{body}");
    }
    // The new name and slug find the check; the old ones don't.
    let renamed = post(&path, json!({"name": "new-name", "slug": "new-slug"}))
        .await
        .json();
    let pinged = stage.heartbeat(json!({"monitor": "new-name"})).await;
    assert_eq!(pinged["uuid"], renamed["uuid"]);
    assert_eq!(
        stage
            .ping(&format!("{}/new-slug", e2e::PING_KEY))
            .await
            .status,
        200
    );
    assert_eq!(
        stage.ping(&format!("{}/a", e2e::PING_KEY)).await.status,
        404
    );
    // Lists can be filtered by slug and by tags, all of which must match.
    for (query, n) in [
        ("?slug=new-slug", 1),
        ("?slug=none", 0),
        ("?tag=x", 1),
        ("?tag=x&tag=y", 1),
        ("?tag=x&tag=z", 0),
        ("?tag=x%20y", 0),
    ] {
        let list = call(
            &stage,
            "GET",
            &format!("/api/v3/checks/{query}"),
            READ_KEY,
            "",
        )
        .await
        .json();
        assert_eq!(list["checks"].as_array().unwrap().len(), n, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_upserts_create_one_check() {
    let stage = std::sync::Arc::new(Stage::new().await);
    for unique in ["name", "slug"] {
        let racers = (0..24).map(|_| {
            let stage = std::sync::Arc::clone(&stage);
            let body = json!({unique: format!("by-{unique}"), "unique": [unique]}).to_string();
            tokio::spawn(async move {
                let reply = call(&stage, "POST", "/api/v3/checks/", API_KEY, &body).await;
                (
                    reply.status.as_u16(),
                    reply.json()["uuid"].as_str().unwrap().to_owned(),
                )
            })
        });
        let replies: Vec<(u16, String)> = futures::future::join_all(racers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let created = replies.iter().filter(|(status, _)| *status == 201).count();
        assert_eq!(created, 1, "{replies:?}");
        assert!(replies.iter().all(|(_, uuid)| *uuid == replies[0].1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pings_racing_a_deletion_restore_nothing_and_never_fail() {
    let stage = std::sync::Arc::new(Stage::new().await);
    let created = create(&stage, json!({"name": "job", "slug": "job"})).await;
    let id = created["uuid"].as_str().unwrap().to_owned();
    let pingers = (0..40).map(|i| {
        let (stage, id) = (std::sync::Arc::clone(&stage), id.clone());
        tokio::spawn(async move {
            let action = ["", "/start", "/fail", "/log"][i % 4];
            stage.ping(&format!("{id}{action}")).await.status.as_u16()
        })
    });
    let pingers: Vec<_> = pingers.collect();
    let path = format!("/api/v3/checks/{id}");
    let deleted = call(&stage, "DELETE", &path, API_KEY, "").await;
    assert_eq!(deleted.status, 200);
    for status in futures::future::join_all(pingers).await {
        assert!([200, 404].contains(&status.unwrap()));
    }
    assert_eq!(stage.ping(&id).await.status, 404);
    assert!(
        stage
            .store
            .locate(id.parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        stage
            .store
            .census(thrum_schema::ProjectId::FIRST)
            .await
            .unwrap()
            .n,
        0
    );
}

#[tokio::test]
async fn the_ping_log_shows_runs_and_keeps_bodies_and_failures() {
    let stage = Stage::new().await;
    let created = create(&stage, json!({"name": "job"})).await;
    let id = created["uuid"].as_str().unwrap().to_owned();
    let (a, b) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    for (path, after_ms) in [
        (format!("/start?rid={a}"), 0),
        (format!("/start?rid={b}"), 1_000),
        (format!("?rid={a}"), 1_500),
        (format!("/fail?rid={b}"), 2_000),
        (format!("?rid={b}"), 10),
    ] {
        stage.world.advance(after_ms);
        stage.ping(&format!("{id}{path}")).await;
    }
    let request =
        Request::post(format!("/ping/{id}/3")).body(Body::from(&b"\xff\x00disk full"[..]));
    stage.send(request.unwrap()).await;
    let path = format!("/api/v3/checks/{id}/pings/");
    let log = call(&stage, "GET", &path, API_KEY, "").await.json();
    let pings = log["pings"].as_array().unwrap();
    let seen: Vec<(u64, &str, Value)> = pings
        .iter()
        .map(|p| {
            (
                p["n"].as_u64().unwrap(),
                p["type"].as_str().unwrap(),
                p["duration"].clone(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (6, "fail", Value::Null),
            (5, "success", Value::Null),
            (4, "fail", json!(3.5)),
            (3, "success", json!(2.5)),
            (2, "start", Value::Null),
            (1, "start", Value::Null),
        ]
    );
    let newest = &pings[0];
    assert_eq!(newest["date"], "2025-11-21T04:40:04.510000+00:00");
    assert_eq!(
        (&newest["method"], &newest["scheme"], &newest["rid"]),
        (&json!("POST"), &json!("http"), &Value::Null)
    );
    let body_url = newest["body_url"].as_str().unwrap();
    let body = call(
        &stage,
        "GET",
        body_url.strip_prefix("http://thrum.test").unwrap(),
        API_KEY,
        "",
    )
    .await;
    assert_eq!(body.bytes, b"\xff\x00disk full");
    assert_eq!(body.headers["content-type"], "text/plain");
    for n in [1, 99] {
        assert_eq!(
            call(&stage, "GET", &format!("{path}{n}/body"), API_KEY, "")
                .await
                .status,
            404,
            "{n}"
        );
    }
    // However many successes follow, the last failures stay in the log, with their bodies.
    for _ in 0..130 {
        stage.world.advance(1_000);
        stage.ping(&id).await;
    }
    let log = call(&stage, "GET", &path, API_KEY, "").await.json();
    let pings = log["pings"].as_array().unwrap();
    let (last, failures) = (pings.len() - 2, &pings[pings.len() - 2..]);
    assert_eq!(last, 100);
    assert_eq!(
        (&failures[0]["n"], &failures[1]["n"]),
        (&json!(6), &json!(4))
    );
    let kept = call(&stage, "GET", &format!("{path}6/body"), API_KEY, "").await;
    assert_eq!(kept.bytes, b"\xff\x00disk full");
}

#[tokio::test]
async fn badges_are_signed_and_never_cached() {
    let stage = Stage::new().await;
    for (name, tags) in [("a", "prod db"), ("b", "prod"), ("c", "späte/ecke")] {
        let created = create(
            &stage,
            json!({"name": name, "tags": tags, "timeout": 60, "grace": 60}),
        )
        .await;
        let id = created["uuid"].as_str().unwrap();
        stage
            .ping(&format!("{id}/{}", if name == "b" { "fail" } else { "" }))
            .await;
    }
    let list = call(&stage, "GET", "/api/v3/badges/", READ_KEY, "")
        .await
        .json();
    let url = |tag: &str, format: &str| {
        let url = list["badges"][tag][format].as_str().unwrap();
        url.strip_prefix("http://thrum.test").unwrap().to_owned()
    };
    stage.world.advance(70_000);
    for (tag, format, expected) in [
        (
            "prod",
            "json",
            json!({"status": "down", "total": 2, "grace": 1, "down": 1}),
        ),
        (
            "db",
            "json",
            json!({"status": "up", "total": 1, "grace": 1, "down": 0}),
        ),
        (
            "db",
            "json3",
            json!({"status": "late", "total": 1, "grace": 1, "down": 0}),
        ),
        (
            "*",
            "json",
            json!({"status": "down", "total": 3, "grace": 2, "down": 1}),
        ),
        (
            "späte/ecke",
            "json3",
            json!({"status": "late", "total": 1, "grace": 1, "down": 0}),
        ),
        (
            "db",
            "shields3",
            json!({"schemaVersion": 1, "label": "db", "message": "late", "color": "important"}),
        ),
        (
            "prod",
            "shields",
            json!({"schemaVersion": 1, "label": "prod", "message": "down", "color": "critical"}),
        ),
    ] {
        let reply = call(&stage, "GET", &url(tag, format), "", "").await;
        assert_eq!(reply.json(), expected, "{tag} {format}");
        assert!(
            reply.headers["cache-control"]
                .to_str()
                .unwrap()
                .contains("no-store")
        );
        assert_eq!(reply.headers["access-control-allow-origin"], "*");
    }
    let svg = call(&stage, "GET", &url("db", "svg3"), "", "").await;
    assert_eq!(svg.headers["content-type"], "image/svg+xml");
    assert!(svg.text().contains("#fe7d37") && svg.text().contains(">late<"));
    let path = url("db", "json");
    assert_eq!(call(&stage, "POST", &path, "", "").await.status, 405);
    assert_eq!(call(&stage, "OPTIONS", &path, "", "").await.status, 204);
    for forged in [
        path.replace("/db.", "/prod."),
        path.replace(".json", ".png"),
        path.replace("-2/", "/"),
        "/badge/x/y.svg".into(),
        "/badge/x".into(),
    ] {
        let reply = call(&stage, "GET", &forged, "", "").await;
        let is_same = forged == path.replace("-2/", "/");
        assert_eq!(
            reply.status.as_u16(),
            if is_same { 200 } else { 404 },
            "{forged}"
        );
    }
    // The badge of a single check.
    let checks = call(&stage, "GET", "/api/v3/checks/", API_KEY, "")
        .await
        .json();
    let checks = checks["checks"].as_array().unwrap();
    let late = checks.iter().find(|check| check["name"] == "a").unwrap();
    let badge = late["badge_url"].as_str().unwrap();
    let badge = badge
        .strip_prefix("http://thrum.test")
        .unwrap()
        .replace(".svg", ".json");
    assert_eq!(
        call(&stage, "GET", &badge, "", "").await.json()["status"],
        "up"
    );
    let three = badge.replace("/b/2/", "/b/3/");
    assert_eq!(
        call(&stage, "GET", &three, "", "").await.json()["status"],
        "late"
    );
    assert_eq!(
        call(&stage, "GET", &badge.replace("/b/2/", "/b/4/"), "", "")
            .await
            .status,
        404
    );
    assert_eq!(
        call(
            &stage,
            "GET",
            "/b/2/0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273.svg",
            "",
            ""
        )
        .await
        .status,
        404
    );
    // A new badge key invalidates the old badge URLs.
    stage
        .call(Method::POST, "/v1/project/badge-key", Value::Null)
        .await;
    assert_eq!(call(&stage, "GET", &path, "", "").await.status, 404);
}

#[tokio::test]
async fn prometheus_scrapes_with_the_read_only_key() {
    let stage = Stage::with_admin().await;
    let other = other_project(&stage).await;
    let created = create(&stage, json!({"name": "a", "tags": "prod"})).await;
    stage
        .ping(&format!("{}/fail", created["uuid"].as_str().unwrap()))
        .await;
    let first = thrum_schema::ProjectId::FIRST;
    let path = format!("/projects/{first}/metrics");
    let scrape = async |path: &str, token: &str| {
        let mut request = Request::get(path);
        if !token.is_empty() {
            request = request.header("authorization", token);
        }
        stage.send(request.body(Body::empty()).unwrap()).await
    };
    for (path, token, status) in [
        (format!("{path}/{READ_KEY}"), String::new(), 200),
        (format!("{path}/"), format!("Bearer {READ_KEY}"), 200),
        (path.clone(), format!("Bearer {READ_KEY}"), 200),
        (format!("{path}/"), String::new(), 401),
        (format!("{path}/"), format!("Basic {READ_KEY}"), 401),
        (format!("{path}/short"), String::new(), 400),
        (format!("{path}/{API_KEY}"), String::new(), 403),
        (format!("{path}/{}", "x".repeat(32)), String::new(), 403),
        (format!("{path}/{}", other.read_key), String::new(), 404),
    ] {
        let reply = scrape(&path, &token).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {token}");
        if status == 200 {
            assert!(
                reply.headers["content-type"]
                    .to_str()
                    .unwrap()
                    .starts_with("text/plain")
            );
            let text = reply.text();
            assert!(
                text.contains("hc_check_up{name=\"a\",tags=\"prod\",unique_key=\""),
                "{text}"
            );
            assert!(
                text.contains("hc_tag_up{tag=\"prod\"} 0") && text.contains("hc_checks_total 1")
            );
            assert!(!text.contains("theirs"));
        }
    }
}

#[tokio::test]
async fn names_and_slugs_never_conflict() {
    let stage = Stage::new().await;
    let key = e2e::PING_KEY;
    // Another check has this slug as its name.
    create(&stage, json!({"name": "backup", "slug": "nightly"})).await;
    let created = stage.ping(&format!("{key}/backup?create=1")).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(stage.ping(&format!("{key}/backup")).await.status, 200);
    // An invalid slug is refused before anything is created.
    let long = format!("{key}/{}?create=1", "x".repeat(101));
    let refused = stage.ping(&long).await;
    assert_eq!(
        (refused.status.as_u16(), &*refused.text()),
        (400, "invalid url format")
    );
    // The name of a heartbeat need not be a valid slug: the monitor is found by its name, and can
    // be posted back as it was read.
    stage.heartbeat(json!({"monitor": "Web.01"})).await;
    stage.heartbeat(json!({"monitor": "web.01"})).await;
    let list = call(&stage, "GET", "/api/v3/checks/", API_KEY, "")
        .await
        .json();
    let slugs: Vec<&str> = list["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["name"].as_str().unwrap().ends_with(".01"))
        .map(|check| check["slug"].as_str().unwrap())
        .collect();
    assert_eq!(slugs.len(), 2);
    assert!(slugs.contains(&"web01") && slugs.contains(&""), "{slugs:?}");
    for check in list["checks"].as_array().unwrap() {
        create(&stage, check.clone()).await;
    }
    assert_eq!(stage.monitor("Web.01").await["name"], "Web.01");
    // A slug that becomes ambiguous is refused at once.
    let one = create(&stage, json!({"name": "one", "slug": "same"})).await;
    assert_eq!(stage.ping(&format!("{key}/same")).await.status, 200);
    let other = create(&stage, json!({"name": "other"})).await;
    let path = format!("/api/v3/checks/{}", other["uuid"].as_str().unwrap());
    call(&stage, "POST", &path, API_KEY, r#"{"slug": "same"}"#).await;
    let ambiguous = stage.ping(&format!("{key}/same")).await;
    assert_eq!(
        (ambiguous.status.as_u16(), &*ambiguous.text()),
        (409, "ambiguous slug")
    );
    call(&stage, "DELETE", &path, API_KEY, "").await;
    assert_eq!(stage.ping(&format!("{key}/same")).await.status, 200);
    assert_eq!(
        stage.monitor(one["uuid"].as_str().unwrap()).await["pings"],
        2
    );
}

#[tokio::test]
async fn a_channel_in_use_is_not_deleted_by_accident() {
    let stage = Stage::new().await;
    let id = stage
        .webhook("http://127.0.0.1:9/", json!({"name": "ops"}))
        .await;
    let body = json!({"name": "job", "channels": ["ops"]});
    stage.call(Method::POST, "/v1/monitors", body).await;
    let path = format!("/v1/channels/{id}");
    let refused = stage.call(Method::DELETE, &path, Value::Null).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("job"), "{}", refused.text());
    let forced = stage
        .call(Method::DELETE, &format!("{path}?force=true"), Value::Null)
        .await;
    assert_eq!(forced.status, 204);
    // Keywords must be an object, and by default look at the HTTP body.
    let list = json!({"name": "k", "keywords": ["ERROR"]});
    let refused = stage.call(Method::POST, "/v1/monitors", list).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let keywords = json!({"name": "k", "keywords": {"failure": "ERROR"}});
    let created = stage
        .call(Method::POST, "/v1/monitors", keywords)
        .await
        .json();
    assert_eq!(created["keywords"]["http_body"], true);
    let nameless = stage.call(Method::POST, "/v1/monitors", json!({})).await;
    assert_eq!(nameless.status, 400);
}

#[tokio::test]
async fn listing_queries_the_monitors_only_after_a_change() {
    let stage = Stage::new().await;
    for i in 0..150 {
        stage
            .heartbeat(json!({"monitor": format!("host-{i}")}))
            .await;
    }
    let list = async || {
        stage.meter.take();
        let list = call(&stage, "GET", "/api/v3/checks/", API_KEY, "")
            .await
            .json();
        assert_eq!(list["checks"].as_array().unwrap().len(), 150);
        let used = stage.meter.take();
        (used.calls_of("Query"), used.calls_of("BatchGetItem"))
    };
    assert_eq!(
        list().await,
        (4, 2),
        "queries the census, channels, outages and monitors; gets states in batches of 100"
    );
    assert_eq!(
        list().await,
        (3, 2),
        "nothing changed: no query of the monitors"
    );
    // A handler knows its own changes; it notices another handler's by the change counter in the
    // table.
    stage
        .call(Method::PATCH, "/v1/monitors/host-7", json!({"desc": "x"}))
        .await;
    assert_eq!(list().await, (3, 2));
    let other = thrum_ingest::App::new(stage.store.clone(), Default::default());
    let request = Request::patch("/v1/monitors/host-8").header("x-api-key", API_KEY);
    let request = request.body(Body::from(r#"{"desc": "y"}"#)).unwrap();
    let reply = tower::ServiceExt::oneshot(thrum_ingest::router(other), request)
        .await
        .unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(list().await, (4, 2));
}

/// What the original accepts and leaves out, too.
#[tokio::test]
async fn long_descriptions_old_zones_and_lone_pings_are_as_in_the_original() {
    let stage = Stage::new().await;
    let desc = "ü".repeat(12_000);
    let check = create(
        &stage,
        json!({"name": "x", "desc": desc, "schedule": "0 3 * * *", "tz": "America/Godthab"}),
    )
    .await;
    assert_eq!(
        (&check["desc"], &check["tz"]),
        (&json!(desc), &json!("America/Nuuk"))
    );
    let id = check["uuid"].as_str().unwrap();
    let path = format!("/api/v3/checks/{id}/pings/");
    let durations = async || {
        let log = call(&stage, "GET", &path, API_KEY, "").await.json();
        let pings = log["pings"].as_array().unwrap();
        pings
            .iter()
            .filter(|ping| ping["duration"].is_number())
            .count()
    };
    let ping = async |path: &str, rid: u32| {
        stage.world.advance(1_000);
        let rid = format!("00000000-0000-4000-8000-{rid:012}");
        let reply = stage.ping(&format!("{id}{path}?rid={rid}")).await;
        assert_eq!(reply.text(), "OK");
    };
    ping("/start", 0).await;
    ping("", 0).await;
    for rid in 1..=10 {
        ping("", rid).await;
    }
    assert_eq!(durations().await, 1);
    // The eleventh needs a look beyond the log: then no ping has a duration.
    ping("", 11).await;
    assert_eq!(durations().await, 0);
}
