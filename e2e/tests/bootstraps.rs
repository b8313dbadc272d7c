//! The three bootstraps as Lambda runs them: processes that poll a Runtime API for events, valid
//! and invalid.

use axum::http::Method;
use e2e::dynoxide::Dynoxide;
use e2e::lambda::{Function, Outcome, TRACE, bootstrap, trace_id, url_event};
use e2e::{API_KEY, PING_KEY, Stage, TABLE};
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::world::SystemWorld;
use thrum_schema::{UnixMs, World};
use tokio::net::UdpSocket;

/// Payloads that no function understands, and oversized ones.
fn garbage() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "null",
        "true",
        "7",
        "\"text\"",
        "[]",
        "{}",
        "{\"Records\": 5}",
        "{\"Records\": []}",
        "{\"Records\": [null]}",
        "{\"Records\": [{}]}",
        "{\"Records\": [{\"eventSource\": 5}]}",
        "{\"Records\": [{\"eventSource\": \"aws:s3\"}]}",
        "{\"Records\": [{\"eventSource\": \"aws:sqs\", \"messageId\": {}}]}",
        "{\"Records\": [{\"eventSource\": \"aws:dynamodb\", \"dynamodb\": \"no\"}]}",
        "{\"version\": \"2.0\", \"rawPath\": 5}",
        "{\"version\": \"2.0\", \"requestContext\": {\"http\": {\"method\": \"\\u0000\"}}}",
        "{\"do\": [\"sweep\"]}",
        "{\"do\": \"dance\"}",
        "{",
        "",
        "not json at all",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    all.push((0..=255).collect());
    all.push("[".repeat(100_000).into_bytes());
    all.push(format!("\"{}\"", "x".repeat(6_000_000)).into_bytes());
    all.push(format!("{{\"a\": [{}1]}}", "1,".repeat(500_000)).into_bytes());
    all
}

/// Starts an emulator, a stage on its table, and a function; `None` without an emulator.
async fn start(name: &str) -> Option<(Dynoxide, Stage, Function)> {
    let emulator = Dynoxide::start().await?;
    let stage = Stage::on(&emulator).await;
    let function = Function::start(&bootstrap(name), &emulator, &[])
        .await
        .unwrap();
    function.ready().await.unwrap();
    Some((emulator, stage, function))
}

/// Sends garbage to the function, which must answer each payload without restarting.
async fn survives_garbage(function: &Function) {
    let process = function.process();
    for payload in garbage() {
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(60)]).into_owned();
        let outcome = function.invoke(payload).await.unwrap();
        if let Outcome::Answer(answer) = &outcome {
            let answer = String::from_utf8_lossy(answer);
            assert!(!answer.contains("\"statusCode\":5"), "{shown}: {answer}");
        }
    }
    assert_eq!(function.process(), process, "the process must not restart");
}

fn status(outcome: &Outcome) -> u64 {
    outcome.json()["statusCode"].as_u64().unwrap()
}

#[tokio::test]
async fn ingest_answers_function_url_requests() {
    let Some((_emulator, _stage, function)) = start("ingest").await else {
        return;
    };
    survives_garbage(&function).await;
    let event = |method, path: &str, headers: &[(&str, &str)], body: &str| {
        url_event(method, path, headers, body).to_string()
    };
    let ok = function
        .invoke(event("GET", "/health", &[], ""))
        .await
        .unwrap();
    assert_eq!(ok.json()["body"], "OK");
    // The same event twice counts as two pings.
    let ping = event(
        "POST",
        &format!("/ping/{PING_KEY}/job?create=1"),
        &[],
        "a line of output",
    );
    for expected in [201, 200] {
        assert_eq!(
            status(&function.invoke(ping.clone()).await.unwrap()),
            expected
        );
    }
    let key = [("x-api-key", API_KEY)];
    let monitor = function
        .invoke(event("GET", "/v1/monitors/job", &key, ""))
        .await
        .unwrap();
    let monitor: Value = serde_json::from_str(monitor.json()["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&monitor["status"], &monitor["last_pings"][0]["n"]),
        (&json!("up"), &json!(2)),
        "{monitor}"
    );
    // Valid and invalid base64 bodies, odd paths, and oversized bodies.
    let mut binary = url_event("POST", "/v1/heartbeats", &key, "eyJtb25pdG9yIjogImpvYiJ9");
    binary["isBase64Encoded"] = true.into();
    assert_eq!(
        status(&function.invoke(binary.to_string()).await.unwrap()),
        200
    );
    binary["body"] = "%%% not base64 %%%".into();
    let wrong = function.invoke(binary.to_string()).await.unwrap();
    assert!(
        matches!(wrong, Outcome::Error(_)) || status(&wrong) < 500,
        "{wrong:?}"
    );
    for path in [
        "/v1/monitors/%ff%fe",
        "//",
        "/ping/../../etc",
        "/v1/alerts?limit=%00",
    ] {
        let odd = function.invoke(event("GET", path, &key, "")).await.unwrap();
        assert!((400..500).contains(&status(&odd)), "{path}: {odd:?}");
    }
    let long = format!("{{\"monitor\": \"{}\"}}", "x".repeat(5_000_000));
    let long = function
        .invoke(event("POST", "/v1/heartbeats", &key, &long))
        .await
        .unwrap();
    assert_eq!(status(&long), 413);
    // The admin key is fetched only when a request needs it.
    assert!(function.calls().is_empty(), "{:?}", function.calls());
    let admin = [("x-admin-key", e2e::ADMIN_KEY)];
    let projects = function
        .invoke(event("GET", "/v1/projects", &admin, ""))
        .await
        .unwrap();
    assert_eq!(status(&projects), 200);
    assert_eq!(function.calls()[0].0, "GetSecretValue");
    // A browser's form, which Lambda may base64-encode; the cookie, which Lambda moves out of the
    // headers; and a page.
    let mut form = url_event(
        "POST",
        "/sign-in",
        &[("content-type", "application/x-www-form-urlencoded")],
        // key=hcw_0123456789abcdefghijklmnopqr&next=%2F
        "a2V5PWhjd18wMTIzNDU2Nzg5YWJjZGVmZ2hpamtsbW5vcHFyJm5leHQ9JTJG",
    );
    form["isBase64Encoded"] = true.into();
    let signed = function.invoke(form.to_string()).await.unwrap();
    assert_eq!(status(&signed), 303, "{signed:?}");
    let cookie = signed.json()["cookies"][0].as_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-thrum=") && cookie.contains("; Secure"));
    let mut page = url_event("GET", "/", &[("accept", "text/html")], "");
    page["cookies"] = json!([cookie.split(';').next().unwrap()]);
    let page = function.invoke(page.to_string()).await.unwrap();
    assert_eq!(status(&page), 200);
    let html = page.json()["body"].as_str().unwrap().to_owned();
    assert!(
        html.contains("data-live=\"poll\"") && html.contains(">job</a>"),
        "{html}"
    );
    let events = function
        .invoke(event("GET", "/events", &[], ""))
        .await
        .unwrap();
    assert_eq!(status(&events), 303, "no stream without a session");
    let metrics: Vec<Value> = metrics(&function).await;
    assert_eq!(metrics.len(), 1, "once a minute: {metrics:?}");
    for line in function.lines() {
        for secret in [API_KEY, PING_KEY, e2e::ADMIN_KEY, "a line of output"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

/// The metric lines of the log. Waits a moment for lines just written.
async fn metrics(function: &Function) -> Vec<Value> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let lines = function.lines();
    let metrics = lines
        .iter()
        .filter(|line| line.contains("CloudWatchMetrics"));
    metrics
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn failures(outcome: &Outcome) -> BTreeSet<String> {
    let answer = outcome.json();
    let failures = answer["batchItemFailures"].as_array().unwrap();
    let failures = failures
        .iter()
        .map(|one| one["itemIdentifier"].as_str().unwrap());
    failures.map(str::to_owned).collect()
}

#[tokio::test]
async fn evaluate_reports_only_the_failed_records_of_a_batch() {
    let Some((emulator, stage, function)) = start("evaluate").await else {
        return;
    };
    survives_garbage(&function).await;
    // Real alert records, and one invalid record.
    for name in ["a", "b", "c"] {
        stage
            .heartbeat(json!({"monitor": name, "status": "fail"}))
            .await;
    }
    let mut records = emulator.records(TABLE).await.unwrap();
    records.retain(|record| record["dynamodb"]["NewImage"]["kind"]["S"] == "alert");
    assert_eq!(records.len(), 3);
    let numbers: Vec<String> = records
        .iter()
        .map(|record| {
            record["dynamodb"]["SequenceNumber"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let mut odd = records[0].clone();
    odd["dynamodb"]["NewImage"] = json!({"kind": {"S": "alert"}});
    odd["dynamodb"]["SequenceNumber"] = "odd".into();
    records.push(odd);
    let batch = json!({ "Records": records }).to_string();
    function.refuse(1);
    let outcome = function.invoke(batch.clone()).await.unwrap();
    assert_eq!(failures(&outcome), BTreeSet::from([numbers[2].clone()]));
    // Delivered twice more, the batch is published in full each time.
    function.refuse(0);
    for _ in 0..2 {
        let outcome = function.invoke(batch.clone()).await.unwrap();
        assert!(failures(&outcome).is_empty());
    }
    let events = function.calls();
    let sent: Vec<usize> = events
        .iter()
        .filter(|(operation, _)| operation == "PutEvents")
        .map(|(_, body)| body.matches("\\\"alert\\\":").count())
        .collect();
    assert_eq!(sent, [3, 3, 3]);
    // A batch of ten thousand records that evaluate ignores.
    let irrelevant: Vec<Value> = (0..10_000)
        .map(|i| {
            json!({"eventSource": "aws:dynamodb", "eventName": "MODIFY", "eventID": i.to_string(), "awsRegion": "x",
                   "dynamodb": {"SequenceNumber": i.to_string(), "SizeBytes": 1, "NewImage": {"kind": {"S": "lease"}}}})
        })
        .collect();
    let outcome = function
        .invoke(json!({ "Records": irrelevant }).to_string())
        .await
        .unwrap();
    assert!(failures(&outcome).is_empty());
    // The work queue: messages that can't be parsed, or are for notify, are reported as failed.
    let outcome = function.invoke(messages().to_string()).await.unwrap();
    assert_eq!(
        failures(&outcome),
        BTreeSet::from([
            "garbage".into(),
            "foreign".into(),
            "empty".into(),
            "good".into()
        ])
    );
    let now = SystemWorld.now();
    let minute = now.minute() - 2;
    assert!(
        stage
            .store
            .advance_cursor(0, "test", (None, minute), now)
            .await
            .unwrap()
    );
    // The schedule calls twice in a row: the second time, a tick has just begun.
    for _ in 0..2 {
        let outcome = function.invoke("{\"do\": \"sweep\"}").await.unwrap();
        assert_eq!(outcome.json(), Value::Null);
    }
    assert!(
        function
            .calls()
            .iter()
            .any(|(operation, _)| operation == "GET"),
        "it sends the pulse"
    );
    let lag = metrics(&function)
        .await
        .into_iter()
        .filter(|line| !line["SweepLag"].is_null());
    assert_eq!(lag.count(), 1);
    let calls = function.calls();
    let ticks = calls.iter().filter(|(_, body)| body.contains("tick"));
    assert_eq!(ticks.count(), 1, "the next one, through the queue");
}

/// An SQS batch with one valid message.
fn messages() -> Value {
    let good = json!({"detail": {"do": "probe", "at": 5}, "detail-type": "probe", "version": "0"})
        .to_string();
    let bodies = [
        ("good", &*good),
        ("garbage", "\u{0}not json"),
        ("foreign", "{\"detail\": {\"do\": \"dance\"}}"),
        ("empty", ""),
    ];
    let records: Vec<Value> = bodies
        .iter()
        .map(|(id, body)| json!({"messageId": id, "body": body, "eventSource": "aws:sqs", "attributes": {}, "messageAttributes": {}}))
        .collect();
    json!({ "Records": records })
}

#[tokio::test]
async fn notify_reports_only_failed_messages_and_sends_the_rest_once() {
    let Some((_emulator, stage, function)) = start("notify").await else {
        return;
    };
    survives_garbage(&function).await;
    let outcome = function.invoke(messages().to_string()).await.unwrap();
    assert_eq!(
        failures(&outcome),
        BTreeSet::from(["garbage".into(), "foreign".into(), "empty".into()])
    );
    assert_eq!(stage.store.arrived_probe().await.unwrap(), Some(UnixMs(5)));
    // Two equal messages, delivered twice, send one text message.
    let reply = stage
        .call(
            Method::POST,
            "/v1/channels",
            json!({"kind": "sms", "to": "+491701234567"}),
        )
        .await;
    let channel: ChannelId = reply.json()["id"].as_str().unwrap().parse().unwrap();
    let now = SystemWorld.now();
    let id = AlertId(SystemWorld.uuid_v7(now));
    let alert = Alert::of_channel(id, ProjectId::FIRST, AlertKind::Test, channel);
    stage.store.raise(&alert, now).await.unwrap();
    let body =
        json!({"detail": {"do": "alert", "project": ProjectId::FIRST, "alert": id}}).to_string();
    let message = |id: &str| json!({"messageId": id, "body": body, "eventSource": "aws:sqs"});
    let batch = json!({"Records": [message("one"), message("two")]}).to_string();
    for _ in 0..2 {
        let outcome = function.invoke(batch.clone()).await.unwrap();
        assert!(failures(&outcome).is_empty(), "{outcome:?}");
    }
    let calls = function.calls();
    let texts = calls.iter().filter(|(operation, _)| operation == "Publish");
    assert_eq!(texts.count(), 1, "{calls:?}");
    for line in function.lines() {
        assert!(!line.contains("491701234567"), "{line}");
    }
    let sent: u64 = metrics(&function)
        .await
        .iter()
        .filter_map(|line| line["Deliveries"].as_u64())
        .sum();
    assert_eq!(sent, 1);
}

/// The documents that arrive at a socket in place of the X-Ray daemon, until none has for a while.
async fn documents(daemon: &UdpSocket) -> Vec<Value> {
    let mut documents = Vec::new();
    let mut buffer = vec![0; 65_536];
    while let Ok(received) =
        tokio::time::timeout(Duration::from_millis(500), daemon.recv(&mut buffer)).await
    {
        let text = std::str::from_utf8(&buffer[..received.unwrap()]).unwrap();
        let (header, document) = text.split_once('\n').unwrap();
        assert_eq!(header, r#"{"format":"json","version":1}"#);
        documents.push(serde_json::from_str(document).unwrap());
    }
    documents
}

#[tokio::test]
async fn an_alert_can_be_followed_back_to_its_request() {
    let Some(emulator) = Dynoxide::start().await else {
        return;
    };
    let stage = Stage::on(&emulator).await;
    let daemon = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = daemon.local_addr().unwrap().to_string();
    let variables = [("AWS_XRAY_DAEMON_ADDRESS", &*address)];
    let [ingest, notify] = ["ingest", "notify"].map(bootstrap);
    let ingest = Function::start(&ingest, &emulator, &variables)
        .await
        .unwrap();
    let notify = Function::start(&notify, &emulator, &variables)
        .await
        .unwrap();
    stage
        .call(
            Method::POST,
            "/v1/channels",
            json!({"kind": "sms", "to": "+491701234567"}),
        )
        .await;
    // A request that fails gets the ID; a heartbeat that is taken does not need it.
    let request = url_event("GET", "/v1/nothing", &[], "");
    let reply = ingest.invoke(request.to_string()).await.unwrap().json();
    assert_eq!(reply["headers"]["x-trace-id"], **TRACE, "{reply}");
    for path in ["", "/fail"] {
        let path = format!("/ping/{PING_KEY}/job{path}?create=1");
        let request = url_event("POST", &path, &[], "");
        let reply = ingest.invoke(request.to_string()).await.unwrap().json();
        assert_eq!(reply["headers"]["x-trace-id"], Value::Null, "{reply}");
    }
    let monitor = stage
        .call(Method::GET, "/v1/monitors/job", Value::Null)
        .await;
    let flips = &monitor.json()["flips"];
    assert_eq!(flips[0]["trace"], **TRACE, "{flips}");
    // The stage has a clock of its own.
    let now = SystemWorld.now();
    let alerts = stage.store.alerts_before(ProjectId::FIRST, None, now, 9);
    let alert = alerts.await.unwrap().remove(0);
    let cause = alert.trace().map(|trace| trace.to_string());
    assert_eq!(cause.as_deref(), Some(&**TRACE));
    let calls = documents(&daemon).await;
    let flip = calls
        .iter()
        .find(|call| call["aws"]["operation"] == "TransactWriteItems");
    let flip = flip.unwrap_or_else(|| panic!("{calls:?}"));
    assert_eq!(flip["trace_id"], **TRACE);
    assert_eq!(flip["parent_id"], "9a9197af755a6419");
    assert!(flip["end_time"].as_f64() >= flip["start_time"].as_f64());
    assert_eq!(flip["fault"], Value::Null, "{flip}");

    // The delivery belongs to another invocation, which says what caused it.
    let later = trace_id("000000000000000000000001");
    notify.trace(&format!("Root={later};Parent=1111111111111111;Sampled=1"));
    let project = ProjectId::FIRST;
    let work = json!({"do": "alert", "project": project, "alert": alert.id});
    let body = json!({ "detail": work }).to_string();
    let batch = json!({"Records": [{"messageId": "1", "body": body, "eventSource": "aws:sqs"}]});
    let outcome = notify.invoke(batch.to_string()).await.unwrap();
    assert!(failures(&outcome).is_empty(), "{outcome:?}");
    let parts = documents(&daemon).await;
    let delivery = parts.iter().find(|part| part["name"] == "sms");
    let delivery = delivery.unwrap_or_else(|| panic!("{parts:?}"));
    assert_eq!(delivery["trace_id"], later);
    assert_eq!(delivery["annotations"]["cause"], **TRACE, "{delivery}");
    let key = delivery["annotations"]["delivery"].as_str().unwrap();
    assert!(key.starts_with(&alert.id.to_string()), "{key}");
    for part in calls.iter().chain(&parts) {
        let text = part.to_string();
        for secret in [API_KEY, PING_KEY, "491701234567"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn a_managed_instance_answers_many_requests_at_once() {
    let Some(emulator) = Dynoxide::start().await else {
        return;
    };
    let stage = Stage::on(&emulator).await;
    let variables = [("AWS_LAMBDA_MAX_CONCURRENCY", "16")];
    let ingest = bootstrap("ingest");
    let function = Function::start(&ingest, &emulator, &variables);
    let function = function.await.unwrap();
    function.ready().await.unwrap();
    stage.heartbeat(json!({"monitor": "busy"})).await;
    // Heartbeats of one monitor race for its item, others register monitors; each must count once.
    let ping = |i: usize| {
        let slug = match i % 2 {
            0 => "busy".to_owned(),
            _ => format!("host-{}", i % 20),
        };
        let path = format!("/ping/{PING_KEY}/{slug}?create=1");
        function.invoke(url_event("POST", &path, &[], "").to_string())
    };
    let replies = join_all((0..400).map(ping)).await;
    let mut taken = 0;
    for reply in replies {
        let status = status(&reply.unwrap());
        // Pings of a monitor are limited; two that create a monitor may conflict.
        assert!(matches!(status, 200 | 201 | 429), "{status}");
        taken += usize::from(status != 429);
    }
    let list = stage.call(Method::GET, "/v1/monitors", Value::Null).await;
    let list = list.json()["monitors"].clone();
    let monitors = list.as_array().unwrap();
    assert_eq!(monitors.len(), 11);
    let pings = monitors.iter().map(|one| one["pings"].as_u64().unwrap());
    assert_eq!(pings.sum::<u64>(), taken as u64 + 1, "{list}");
    assert_eq!(function.most_at_once(), 16);
}
