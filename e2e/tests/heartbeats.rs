//! Heartbeats and pings through the HTTP API: their answers, writes, costs and races.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{API_KEY, PING_KEY, Stage};
use serde_json::{Value, json};
use std::collections::HashSet;
use thrum_schema::World;

#[tokio::test]
async fn a_steady_heartbeat_is_one_update_of_one_unit() {
    let stage = Stage::new().await;
    let uuid = stage
        .heartbeat(json!({"monitor": "web-01", "period_s": 60}))
        .await["uuid"]
        .clone();
    let path = uuid.as_str().unwrap().to_owned();
    stage.meter.take();

    // With the ping log: one more write, and one more unit.
    stage.world.advance(1_000);
    assert_eq!(stage.ping(&path).await.text(), "OK");
    let used = stage.meter.take();
    assert_eq!(
        (used.calls_of("UpdateItem"), used.calls_of("PutItem")),
        (1, 1)
    );
    assert_eq!(used.calls.len(), 2, "{used:?}");
    assert_eq!((used.write_units, used.read_units), (2.0, 0.0));

    // /v1 costs the same: key and name are cached, and the write is conditional on period and
    // grace.
    stage.world.advance(1_000);
    stage
        .heartbeat(json!({"monitor": "web-01", "period_s": 60, "grace_s": 60}))
        .await;
    let used = stage.meter.take();
    assert_eq!((used.write_units, used.read_units), (2.0, 0.0), "{used:?}");

    // Without the ping log: one write of one unit, and nothing else.
    let config = thrum_ingest::Config {
        ping_log: false,
        ..Default::default()
    };
    let stage = Stage::with(1, config).await;
    let uuid = stage
        .heartbeat(json!({"monitor": "web-01", "period_s": 60}))
        .await["uuid"]
        .clone();
    stage.meter.take();
    stage.world.advance(1_000);
    stage.ping(uuid.as_str().unwrap()).await;
    let used = stage.meter.take();
    assert_eq!(used.calls_of("UpdateItem"), 1);
    assert_eq!(used.calls.values().sum::<u64>(), 1, "{used:?}");
    assert_eq!((used.write_units, used.read_units), (1.0, 0.0));
}

#[tokio::test]
async fn timers_cost_at_most_a_tenth_of_a_unit_per_heartbeat() {
    let config = thrum_ingest::Config {
        ping_log: false,
        ..Default::default()
    };
    let stage = Stage::with(1, config).await;
    let mut ids = Vec::new();
    for chunk in 0..10 {
        let heartbeats: Vec<Value> = (0..100)
            .map(|i| json!({"monitor": format!("host-{chunk}-{i}"), "period_s": 60, "grace_s": 60}))
            .collect();
        let body = json!({ "heartbeats": heartbeats });
        let reply = stage
            .call(Method::POST, "/v1/heartbeats", body)
            .await
            .json();
        for result in reply["results"].as_array().unwrap() {
            ids.push(result["uuid"].as_str().unwrap().to_owned());
        }
        // Spread the monitors over the minute.
        stage.world.advance(6_000);
    }
    let (mut heartbeats, mut timer_units) = (0.0, 0.0);
    // The first timer of each monitor has its own item; later timers share items.
    const WARM_UP: usize = 180;
    for second in 0..WARM_UP + 600 {
        stage.world.advance(1_000);
        // The host of the i-th monitor sends in second i·60/1000 of each minute.
        for (i, id) in ids.iter().enumerate() {
            if i * 60 / ids.len() == second % 60 {
                stage.ping(id).await;
                heartbeats += f64::from(u8::from(second >= WARM_UP));
            }
        }
        stage.meter.take();
        assert_eq!(stage.tick().await.flips, 0);
        let used = stage.meter.take();
        if second >= WARM_UP {
            timer_units += used.write_units;
        }
    }
    let each = timer_units / heartbeats;
    println!("{timer_units} timer units for {heartbeats} heartbeats: {each:.3} each");
    assert!(heartbeats == 10_000.0 && each <= 0.1, "{each}");
}

#[tokio::test]
async fn an_idle_sweep_costs_reads_per_shard_not_per_monitor() {
    let shards = 4;
    let stage = Stage::with(shards, Default::default()).await;
    use thrum_schema::id::MonitorId;
    use thrum_schema::timer::{Timer, What};
    // A hundred thousand monitors whose deadlines are half an hour away or more.
    let timers: Vec<Timer> = (0..100_000_u32)
        .map(|i| Timer {
            due: stage.world.now() + 1_800_000 + i64::from(i / 100) * 1_000,
            what: What::Deadline {
                monitor: MonitorId(stage.world.uuid_v4()),
                epoch: 1,
            },
        })
        .collect();
    stage.store.arm(&timers).await.unwrap();
    stage.world.advance(61_000);
    stage.meter.take();
    for shard in 0..shards {
        let swept = stage.sweeper("test").sweep(shard).await.unwrap();
        assert_eq!(swept.fired, 0);
    }
    let used = stage.meter.take();
    let each = used.read_units / f64::from(shards);
    assert!(each <= 5.0, "{each} read units per shard");
    assert_eq!(used.write_units, 0.0);
    assert!(
        used.calls.values().sum::<u64>() <= 5 * u64::from(shards),
        "{used:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_racing_first_heartbeats_create_one_monitor() {
    for by_ping in [true, false] {
        let stage = std::sync::Arc::new(Stage::new().await);
        let racers = (0..64).map(|_| {
            let stage = std::sync::Arc::clone(&stage);
            tokio::spawn(async move {
                if by_ping {
                    let reply = stage.ping(&format!("{PING_KEY}/web-01?create=1")).await;
                    (reply.status.as_u16(), reply.text())
                } else {
                    let result = stage
                        .heartbeat(json!({"monitor": "web-01", "period_s": 60}))
                        .await;
                    (200, result["uuid"].as_str().unwrap().to_owned())
                }
            })
        });
        let replies: Vec<(u16, String)> = futures::future::join_all(racers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        if by_ping {
            let created = replies.iter().filter(|(status, _)| *status == 201).count();
            assert_eq!(created, 1, "exactly one reply must be 201: {replies:?}");
            assert!(
                replies
                    .iter()
                    .all(|(status, _)| [200, 201].contains(status))
            );
        } else {
            let ids: HashSet<&String> = replies.iter().map(|(_, id)| id).collect();
            assert_eq!(ids.len(), 1);
        }
        let list = stage
            .call(Method::GET, "/v1/monitors", Value::Null)
            .await
            .json();
        assert_eq!(list["monitors"].as_array().unwrap().len(), 1);
        assert_eq!(list["monitors"][0]["pings"], 64, "every ping counts");
        assert_eq!(stage.monitor("web-01").await["status"], "up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_starts_and_failures_all_count() {
    let stage = std::sync::Arc::new(Stage::new().await);
    let uuid = stage.heartbeat(json!({"monitor": "job"})).await["uuid"].clone();
    let racers = (0..40).map(|i| {
        let stage = std::sync::Arc::clone(&stage);
        let action = ["start", "fail", "log", ""][i % 4];
        let path = format!("{}/{action}", uuid.as_str().unwrap());
        tokio::spawn(async move { stage.ping(&path).await.status })
    });
    for status in futures::future::join_all(racers).await {
        assert_eq!(status.unwrap(), 200);
    }
    let monitor = stage.monitor("job").await;
    assert_eq!(monitor["pings"], 41);
    // Each flip has at most one alert.
    stage.carry().await;
    let flips = monitor["flips"].as_array().unwrap();
    let alerting = flips.iter().filter(|flip| flip["alert"] == true).count();
    assert_eq!(stage.alerts().await.len(), alerting);
}

#[tokio::test]
async fn a_heartbeat_creates_and_updates_its_monitor() {
    let stage = Stage::new().await;
    let first = stage
        .heartbeat(json!({"monitor": "Web.01_x", "period_s": 300, "grace_s": 60}))
        .await;
    assert_eq!(first["status"], "up");
    assert_eq!(first["pings"], 1);
    assert_eq!(first["deadline"], "2025-11-21T04:46:00.000Z");
    stage.world.advance(1_000);
    // A new period updates the monitor; omitted fields stay.
    let changed = stage
        .heartbeat(json!({"monitor": "Web.01_x", "period_s": 10}))
        .await;
    assert_eq!(changed["uuid"], first["uuid"]);
    assert_eq!(changed["deadline"], "2025-11-21T04:41:11.000Z");
    let monitor = stage.monitor(first["uuid"].as_str().unwrap()).await;
    assert_eq!(
        (&monitor["period_s"], &monitor["grace_s"]),
        (&json!(10), &json!(60))
    );
    assert_eq!(monitor["channels"], "all");

    // A failure with an exit status, a message and metrics.
    let failed = stage
        .heartbeat(
            json!({"monitor": "Web.01_x", "exit_status": 3, "message": "disk full",
            "metrics": {"rows": 12.5}}),
        )
        .await;
    assert_eq!(failed["status"], "down");
    assert_eq!(failed["deadline"], Value::Null);
    let monitor = stage.monitor(first["uuid"].as_str().unwrap()).await;
    let ping = &monitor["last_pings"][0];
    assert_eq!(ping["type"], "fail");
    assert_eq!(ping["body"], "disk full");
    assert_eq!(ping["exit_status"], 3);
    assert_eq!(ping["metrics"]["rows"], 12.5);
    assert_eq!(monitor["flips"][0]["reason"], "fail");
}

#[tokio::test]
async fn a_batch_handles_its_items_independently_and_in_order() {
    let stage = Stage::new().await;
    let body = json!({"heartbeats": [
        {"monitor": "a", "status": "start"},
        {"monitor": "bad name"},
        {"monitor": "b", "period_s": 0},
        {"monitor": "a", "status": "fail"},
        {"monitor": "c", "colour": "red"},
        {"monitor": "d"},
        7,
    ]});
    let reply = stage.call(Method::POST, "/v1/heartbeats", body).await;
    assert_eq!(reply.status, 200);
    let results = reply.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 7);
    assert_eq!(
        (&results[0]["status"], &results[0]["pings"]),
        (&json!("new"), &json!(1))
    );
    assert_eq!(
        (&results[3]["status"], &results[3]["pings"]),
        (&json!("down"), &json!(2))
    );
    assert_eq!(results[5]["status"], "up");
    for (i, expected) in [
        (1, "heartbeats[1].monitor must be 1 to 100 letters"),
        (2, "heartbeats[2].period_s must be between 1 and 31536000"),
        (4, "colour"),
        (6, "heartbeats[6]"),
    ] {
        let error = results[i]["error"].as_str().unwrap();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(results[1]["monitor"], "bad name");
    let list = stage
        .call(Method::GET, "/v1/monitors", Value::Null)
        .await
        .json();
    assert_eq!(
        list["monitors"].as_array().unwrap().len(),
        2,
        "only a and d are created"
    );
}

#[tokio::test]
async fn clients_of_the_predecessor_keep_working() {
    let stage = Stage::new().await;
    for path in ["/v1/hearbeat", "/v1/heartbeat"] {
        let body = json!({"hostId": "web-01", "intervalMs": 600_000, "extra": 1});
        let reply = stage.call(Method::POST, path, body).await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()),
            (200, json!({"message": "OK"}))
        );
    }
    let monitor = stage.monitor("web-01").await;
    assert_eq!(
        (&monitor["pings"], &monitor["period_s"]),
        (&json!(2), &json!(600))
    );
}

#[tokio::test]
async fn pings_match_the_documented_api() {
    let stage = Stage::new().await;
    let created = stage.ping(&format!("{PING_KEY}/job?create=1")).await;
    assert_eq!(
        (created.status.as_u16(), created.text().as_str()),
        (201, "Created")
    );
    let monitor = stage.monitor("job").await;
    let uuid = monitor["uuid"].as_str().unwrap().to_owned();
    assert_eq!(
        (&monitor["period_s"], &monitor["grace_s"]),
        (&json!(86_400), &json!(3_600))
    );
    let ok = stage.ping(&format!("{uuid}/")).await;
    assert_eq!((ok.status.as_u16(), ok.text().as_str()), (200, "OK"));
    assert_eq!(ok.headers["access-control-allow-origin"], "*");
    assert_eq!(ok.headers["ping-body-limit"], "10000");
    assert!(
        ok.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("no-store")
    );

    let other = "0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273";
    let nowhere = "k".repeat(22);
    for (path, status, text) in [
        (other.to_owned(), 404, "not found"),
        (format!("{other}/999"), 404, "not found"),
        (format!("{uuid}/256"), 400, "invalid url format"),
        (format!("{uuid}?rid=x"), 400, "invalid uuid format"),
        (format!("{uuid}?rid={other}%0A"), 400, "invalid uuid format"),
        (format!("{uuid}/foo"), 404, "not found"),
        (format!("{uuid}/fail/"), 404, "not found"),
        (uuid.to_uppercase(), 404, "not found"),
        (format!("{PING_KEY}/Job"), 400, "invalid url format"),
        (format!("{PING_KEY}/unknown"), 404, "not found"),
        (format!("{PING_KEY}/unknown?create=2"), 404, "not found"),
        (format!("{nowhere}/job?create=1"), 404, "not found"),
        // Validated first: an invalid ping creates nothing.
        (
            format!("{PING_KEY}/new/256?create=1"),
            400,
            "invalid url format",
        ),
        (
            format!("{PING_KEY}/new?create=1&rid=x"),
            400,
            "invalid uuid format",
        ),
        (format!("{PING_KEY}/new"), 404, "not found"),
    ] {
        let reply = stage.ping(&path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (status, text),
            "{path}"
        );
    }
    assert_eq!(
        stage.monitor("job").await["pings"],
        2,
        "none of these pings count"
    );

    // Every method except OPTIONS counts.
    for (method, counted) in [
        ("HEAD", 3),
        ("POST", 4),
        ("PUT", 5),
        ("DELETE", 6),
        ("OPTIONS", 6),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("/ping/{uuid}"));
        let reply = stage.send(request.body(Body::empty()).unwrap()).await;
        assert!(reply.status.is_success(), "{method}");
        assert_eq!(stage.monitor("job").await["pings"], counted, "{method}");
    }
    assert_eq!(
        stage.ping(&format!("{PING_KEY}/job/007")).await.text(),
        "OK"
    );
    let monitor = stage.monitor("job").await;
    assert_eq!(monitor["status"], "down");
    assert_eq!(monitor["last_pings"][0]["exit_status"], 7);
}

#[tokio::test]
async fn no_body_or_header_fails_a_ping() {
    let stage = Stage::new().await;
    stage.ping(&format!("{PING_KEY}/job?create=1")).await;
    let uuid = stage.monitor("job").await["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let long = "x".repeat(25_000);
    for (name, value, body) in [
        (
            "x-forwarded-for",
            b"garbage".to_vec(),
            b"\xff\xfe\x00".to_vec(),
        ),
        (
            "x-forwarded-for",
            b"203.0.113.9:4711, 10.0.0.1".to_vec(),
            Vec::new(),
        ),
        ("x-forwarded-for", b"\xff\xff".to_vec(), Vec::new()),
        (
            "x-forwarded-proto",
            "h".repeat(5_000).into_bytes(),
            Vec::new(),
        ),
        (
            "user-agent",
            "ü".repeat(300).into_bytes(),
            long.clone().into_bytes(),
        ),
        (
            "content-type",
            b"nonsense".to_vec(),
            b"{\"not\": json".to_vec(),
        ),
    ] {
        let request = Request::post(format!("/ping/{uuid}")).header(name, value.as_slice());
        let reply = stage.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(reply.status, 200, "{name}");
    }
    let pings = stage.monitor("job").await["last_pings"].clone();
    assert_eq!(
        pings[1]["body"].as_str().unwrap().len(),
        10_000,
        "the body is truncated"
    );
    assert_eq!(pings[1]["ua"].as_str().unwrap().chars().count(), 200);
    assert_eq!(pings[4]["remote_addr"], "203.0.113.9");
    assert_eq!(pings[5]["body_base64"], "//4A");
    assert_eq!(pings[5]["remote_addr"], "10.0.0.1");
}

#[tokio::test]
async fn the_ping_log_keeps_the_last_hundred() {
    let stage = Stage::new().await;
    stage.ping(&format!("{PING_KEY}/job?create=1")).await;
    for _ in 0..120 {
        stage.ping(&format!("{PING_KEY}/job/log")).await;
    }
    let id = stage.monitor("job").await["uuid"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let pings = stage.store.pings(id).await.unwrap();
    assert_eq!(pings.len(), 100);
    assert_eq!((pings[0].n, pings[99].n), (121, 22));
}

#[tokio::test]
async fn read_keys_can_only_read_and_unknown_keys_are_refused() {
    let stage = Stage::new().await;
    let send = |method: &str, path: &str, name: &str, value: String| {
        Request::builder()
            .method(method)
            .uri(path)
            .header(name, value)
            .body(Body::from(r#"{"monitor": "web-01"}"#))
            .unwrap()
    };
    let bearer = format!("Bearer {API_KEY}");
    let wrong = "x".repeat(32);
    for (method, path, name, value, status) in [
        (
            "POST",
            "/v1/heartbeats",
            "x-api-key",
            API_KEY.to_owned(),
            200,
        ),
        ("POST", "/v1/heartbeats", "authorization", bearer, 200),
        (
            "POST",
            "/v1/heartbeats",
            "x-api-key",
            e2e::READ_KEY.to_owned(),
            403,
        ),
        (
            "GET",
            "/v1/monitors",
            "x-api-key",
            e2e::READ_KEY.to_owned(),
            200,
        ),
        ("POST", "/v1/heartbeats", "x-api-key", wrong.clone(), 401),
        ("GET", "/v1/monitors", "x-api-key", wrong, 401),
        (
            "GET",
            "/v1/keys",
            "x-api-key",
            e2e::READ_KEY.to_owned(),
            403,
        ),
        ("GET", "/v1/alerts", "x-api-key", "short".to_owned(), 401),
        ("GET", "/v1/alerts", "x-other", API_KEY.to_owned(), 401),
    ] {
        let reply = stage.send(send(method, path, name, value)).await;
        assert_eq!(reply.status, status, "{method} {path} {name}");
        if status >= 400 {
            assert_eq!(reply.headers["content-type"], "application/problem+json");
        }
    }
    assert_eq!(stage.monitor("web-01").await["pings"], 2);
}

#[tokio::test]
async fn keywords_and_methods_decide_what_a_ping_means() {
    let stage = Stage::new().await;
    stage.ping(&format!("{PING_KEY}/job?create=1")).await;
    let reconfigure = async |body: Value| {
        let reply = stage.call(Method::PATCH, "/v1/monitors/job", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    let send = async |method: &str, path: &str, body: &'static [u8]| {
        let request = Request::builder()
            .method(method)
            .uri(format!("/ping/{PING_KEY}/job{path}"))
            .body(Body::from(body))
            .unwrap();
        assert_eq!(stage.send(request).await.text(), "OK");
        let monitor = stage.monitor("job").await;
        let kind = monitor["last_pings"][0]["type"]
            .as_str()
            .unwrap()
            .to_owned();
        (kind, monitor["status"].as_str().unwrap().to_owned())
    };
    let pair = |kind: &str, status: &str| (kind.to_owned(), status.to_owned());
    let keywords =
        json!({"failure": "ERROR", "success": "done", "start": "begin", "http_body": true});
    reconfigure(json!({ "keywords": keywords })).await;
    // Keywords override the URL, also in bodies that are not UTF-8.
    assert_eq!(send("POST", "", b"ERROR at 7").await, pair("fail", "down"));
    assert_eq!(
        send("POST", "/fail", b"\xff done \xfe").await,
        pair("success", "up")
    );
    assert_eq!(send("POST", "", b"begin").await, pair("start", "up"));
    assert_eq!(send("GET", "", b"").await, pair("ign", "up"));
    reconfigure(json!({"keywords": {}, "methods": "POST"})).await;
    assert_eq!(send("GET", "/fail", b"").await, pair("ign", "up"));
    assert_eq!(send("POST", "/fail", b"").await, pair("fail", "down"));
}

#[tokio::test]
async fn a_list_shows_what_another_handler_changed_whatever_pings_came_before() {
    let mut stage = Stage::new().await;
    let beat = |status: &str| json!({"monitor": "web-01", "period_s": 60, "status": status});
    let list = async |stage: &Stage| stage.call(Method::GET, "/v1/monitors", Value::Null).await;
    stage.heartbeat(beat("ok")).await;
    list(&stage).await;
    // It repeats the period, so the configuration does not change.
    stage.heartbeat(beat("fail")).await;
    let app = thrum_ingest::App::new(stage.store.clone(), thrum_ingest::Config::default());
    let first = std::mem::replace(&mut stage.router, thrum_ingest::router(app));
    let change = json!({"desc": "changed"});
    let reply = stage
        .call(Method::PATCH, "/v1/monitors/web-01", change)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    stage.router = first;
    let listed = list(&stage).await.json();
    assert_eq!(listed["monitors"][0]["desc"], "changed", "{listed}");
}

/// A heartbeat that arrives counts. What is wrong with its message, exit status or metrics is in the reply.
#[tokio::test]
async fn a_heartbeat_with_bad_extras_counts() {
    let stage = Stage::new().await;
    let many: serde_json::Map<String, Value> =
        (0..21).map(|i| (format!("m{i:02}"), json!(i))).collect();
    for (extras, status, warnings) in [
        (
            json!({"message": "x".repeat(20_000)}),
            "up",
            "message was cut to its first 10000 bytes (got 20000)",
        ),
        (
            json!({"message": 7}),
            "up",
            "message must be text; it was left out",
        ),
        (
            json!({"exit_status": 256}),
            "down",
            "exit_status must be between 0 and 255 (got 256); it was left out",
        ),
        (
            json!({"exit_status": -1}),
            "down",
            "exit_status must be between 0 and 255 (got -1); it was left out",
        ),
        (
            json!({"exit_status": "x"}),
            "up",
            "exit_status must be between 0 and 255 (got \"x\"); it was left out",
        ),
        (json!({"exit_status": "3"}), "down", ""),
        (json!({"exit_status": "0"}), "up", ""),
        (
            json!({"exit_status": 256, "status": "ok"}),
            "up",
            "exit_status must be between",
        ),
        (
            json!({"exit_status": 0, "message": null, "metrics": null}),
            "up",
            "",
        ),
        (
            json!({"metrics": {"a b": 1, "rows": 1}}),
            "up",
            "metrics.a b must have a name of 1 to 64",
        ),
        (
            json!({"metrics": {"a": 1e300}}),
            "up",
            "metrics.a must be 0, or have a magnitude",
        ),
        (
            json!({"metrics": {"a": "1"}}),
            "up",
            "metrics.a must be a number",
        ),
        (
            json!({"metrics": {"duration": 1}}),
            "up",
            "metrics.duration must not be called",
        ),
        (json!({"metrics": [1]}), "up", "metrics must be an object"),
        (
            json!({"metrics": many}),
            "up",
            "metrics must have at most 20 entries; m20 was left out",
        ),
    ] {
        let mut heartbeat = json!({"monitor": "web-01", "period_s": 60});
        for (name, value) in extras.as_object().unwrap() {
            heartbeat[name] = value.clone();
        }
        stage.world.advance(1_000);
        let result = stage.heartbeat(heartbeat).await;
        assert_eq!(result["status"], status, "{extras}: {result}");
        let said = result["warnings"][0].as_str().unwrap_or_default();
        assert!(
            said.starts_with(warnings) && said.is_empty() == warnings.is_empty(),
            "{extras}: {said}"
        );
    }
    let monitor = stage
        .call(Method::GET, "/v1/monitors/web-01", Value::Null)
        .await
        .json();
    assert_eq!(monitor["pings"], 15, "each one counts");
    let metrics = monitor["last_pings"][0]["metrics"].as_object().unwrap();
    assert_eq!(metrics.len(), 20);
}

/// Bodies are cut between characters, and show that they were.
#[tokio::test]
async fn bodies_are_cut_between_characters() {
    let stage = Stage::new().await;
    let uuid = stage.heartbeat(json!({"monitor": "web-01"})).await["uuid"].clone();
    let long = format!("x{}", "ü".repeat(6_000));
    let ping = Request::post(format!("/ping/{}", uuid.as_str().unwrap()));
    stage
        .send(ping.body(Body::from(long.clone())).unwrap())
        .await;
    stage
        .heartbeat(json!({"monitor": "web-01", "message": long}))
        .await;
    stage
        .heartbeat(json!({"monitor": "web-01", "message": "short"}))
        .await;
    let monitor = stage
        .call(Method::GET, "/v1/monitors/web-01", Value::Null)
        .await
        .json();
    for (i, cut) in [(0, false), (1, true), (2, true)] {
        let ping = &monitor["last_pings"][i];
        assert_eq!(ping["body_truncated"] == true, cut, "{i}");
        let body = ping["body"].as_str().expect("text");
        assert!(
            long.starts_with(body) && body.len() == 9_999 || !cut,
            "{}",
            body.len()
        );
    }
}

/// A client that looks only at the status notices that nothing was recorded.
#[tokio::test]
async fn a_batch_that_records_nothing_is_an_error() {
    let stage = Stage::new().await;
    let batch = async |items: Value| {
        let reply = stage
            .call(Method::POST, "/v1/heartbeats", json!({"heartbeats": items}))
            .await;
        (reply.status.as_u16(), reply.json())
    };
    let (status, reply) = batch(json!([{"monitor": "a b"}, {"monitor": "c", "period_s": 0}])).await;
    assert_eq!(status, 400);
    assert_eq!(
        reply["detail"],
        "Thrum recorded none of these heartbeats (2); `results` has the reasons"
    );
    assert!(
        reply["results"][1]["error"]
            .as_str()
            .unwrap()
            .contains("period_s"),
        "{reply}"
    );
    let (status, reply) = batch(json!([{"monitor": "a b"}, {"monitor": "c"}])).await;
    assert_eq!(
        (status, &reply["results"][1]["monitor"]),
        (200, &json!("c"))
    );
    assert_eq!(batch(json!([])).await.0, 200);
}

/// Metrics in the parameters of a ping URL.
#[tokio::test]
async fn pings_have_metrics_too() {
    let stage = Stage::new().await;
    let uuid = stage.heartbeat(json!({"monitor": "web-01"})).await["uuid"].clone();
    let path = format!(
        "{}?metric.rows=12.5&metric.interval=1&metric.x=",
        uuid.as_str().unwrap()
    );
    let reply = stage.ping(&path).await;
    assert_eq!(reply.status.as_u16(), 200);
    let text = reply.text();
    assert!(
        text.starts_with("OK; metrics.interval must not be called"),
        "{text}"
    );
    assert!(
        text.contains("metrics.x must have a number, as in x=12.5"),
        "{text}"
    );
    let monitor = stage
        .call(Method::GET, "/v1/monitors/web-01", Value::Null)
        .await
        .json();
    assert_eq!(monitor["last_pings"][0]["metrics"], json!({"rows": 12.5}));
}

/// A client whose clock is two seconds ahead pings every day before the scheduled time.
#[tokio::test]
async fn a_client_that_is_slightly_ahead_of_its_schedule_stays_up() {
    let stage = Stage::new().await;
    let monitor = json!({"name": "ahead", "slug": "ahead", "schedule": "0 3 * * *", "grace_s": 5});
    stage.call(Method::POST, "/v1/monitors", monitor).await;
    let path = format!("{PING_KEY}/ahead");
    for day in 0..4 {
        let night = 86_400_000;
        let ahead_of = 3 * 3_600_000 - 2_000;
        let now = stage.world.now().0;
        let wait = (ahead_of - now).rem_euclid(night);
        stage.idle(wait).await;
        let shown = stage
            .call(Method::GET, "/v1/monitors/ahead", Value::Null)
            .await
            .json();
        assert_eq!(
            shown["status"],
            if day == 0 { "new" } else { "up" },
            "day {day}"
        );
        stage.ping(&path).await;
        // Past the scheduled time and its grace.
        stage.idle(60_000).await;
    }
    let alerts = stage
        .call(Method::GET, "/v1/alerts", Value::Null)
        .await
        .json();
    assert_eq!(alerts["alerts"], json!([]));
    // It is still noticed when it stops.
    stage.idle(86_400_000).await;
    let shown = stage
        .call(Method::GET, "/v1/monitors/ahead", Value::Null)
        .await
        .json();
    assert_eq!(shown["status"], "down");
}
