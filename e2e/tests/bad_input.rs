//! Bad input gets a precise error in the protocol's own format, and writes nothing.

use axum::body::Body;
use axum::http::{Method, Request};
use e2e::{API_KEY, PING_KEY, Stage};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::cell::Cell;

#[tokio::test]
async fn each_bad_request_gets_a_precise_error_and_writes_nothing() {
    let stage = Stage::new().await;
    stage
        .heartbeat(json!({"monitor": "web-01", "period_s": 60}))
        .await;
    let id = stage.webhook("http://127.0.0.1:9/", json!({})).await;
    let before = stage
        .call(Method::GET, "/v1/monitors", Value::Null)
        .await
        .json();
    stage.meter.take();
    let many: Vec<Value> = (0..101)
        .map(|i| json!({"monitor": format!("m{i}")}))
        .collect();
    let heartbeats = "/v1/heartbeats";
    let channels = "/v1/channels";
    let channel = &format!("/v1/channels/{id}");
    let nowhere = "/v1/channels/0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273";
    let post = Method::POST;
    let patch = Method::PATCH;
    let text = |value: Value| value.to_string();
    // (method, path, body, status, text that the detail must contain)
    let cases: Vec<(&Method, &str, String, u16, &str)> = vec![
        (&post, heartbeats, String::new(), 400, "not JSON"),
        (
            &post,
            heartbeats,
            "{".into(),
            400,
            "not JSON: EOF while parsing",
        ),
        (
            &post,
            heartbeats,
            "[]".into(),
            400,
            "the body must be an object",
        ),
        (
            &post,
            heartbeats,
            "{}".into(),
            400,
            "missing field `monitor`",
        ),
        (&post, heartbeats, "\u{0}".into(), 400, "not JSON"),
        (
            &post,
            heartbeats,
            "[".repeat(100_000),
            400,
            "not JSON: recursion",
        ),
        (
            &post,
            heartbeats,
            "x".repeat(3 * 1024 * 1024),
            413,
            "at most 2097152 bytes",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": 7})),
            400,
            "monitor can't be read: invalid type: integer `7`, expected a string",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": ""})),
            400,
            "monitor must be 1 to 100 letters",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "a b"})),
            400,
            "monitor must be",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "x".repeat(101)})),
            400,
            "monitor must be",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "new", "status": "up"})),
            400,
            "status can't be read: unknown variant `up`",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "new", "period_s": 0})),
            400,
            "period_s must be between 1 and 31536000 seconds (got 0)",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "new", "period_s": 31_536_001})),
            400,
            "period_s must be",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "new", "period_s": -1})),
            400,
            "period_s can't be read",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "new", "period_s": 1.5})),
            400,
            "period_s can't be read",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "new", "period_s": "60"})),
            400,
            "period_s can't be read",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "new", "grace_s": 31_536_001})),
            400,
            "grace_s must be between 0 and",
        ),
        (
            &post,
            heartbeats,
            text(json!({"monitor": "new", "peroid_s": 60})),
            400,
            "unknown field `peroid_s`",
        ),
        (
            &post,
            heartbeats,
            r#"{"monitor": "new", "metrics": {"a": 1e999}}"#.into(),
            400,
            "out of range",
        ),
        (
            &post,
            heartbeats,
            text(json!({"heartbeats": many})),
            400,
            "at most 100",
        ),
        (
            &post,
            heartbeats,
            text(json!({"heartbeats": {}})),
            400,
            "heartbeats can't be read",
        ),
        (
            &post,
            heartbeats,
            text(json!({"heartbeats": [], "x": 1})),
            400,
            "unknown field `x`",
        ),
        (
            &post,
            "/v1/hearbeat",
            text(json!({"intervalMs": 1})),
            400,
            "missing field `hostId`",
        ),
        (
            &post,
            "/v1/hearbeat",
            text(json!({"hostId": "a b"})),
            400,
            "hostId must be",
        ),
        (
            &post,
            "/v1/hearbeat",
            text(json!({"hostId": "new", "intervalMs": 0})),
            400,
            "intervalMs must be between 1 and",
        ),
        (&post, channels, "{}".into(), 400, "kind is required"),
        (
            &post,
            channels,
            text(json!({"kind": "pigeon"})),
            400,
            "kind must be email, webhook, slack,",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "webhook"})),
            400,
            "url is required",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "webhook", "url": "ftp://x"})),
            400,
            "url must be an http or https URL",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "webhook", "url": "https://x", "secret": "s3"})),
            400,
            "secret must be whsec_",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "webhook", "url": "https://x", "to": "y"})),
            400,
            "to is not a setting of webhook; its settings are url, secret",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "email", "to": "nobody"})),
            400,
            "to must be an e-mail address",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "email", "to": "a@b\r\nBcc: c@d"})),
            400,
            "to must be an e-mail address",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "sms", "to": "12345"})),
            400,
            "to must be a phone number",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "sns", "topic_arn": "arn:x"})),
            400,
            "topic_arn must be the ARN",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "email", "to": "a@b.c", "name": ""})),
            400,
            "name must be 1 to 100",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "email", "to": "a@b.c", "group_threshold": -1})),
            400,
            "group_threshold can't be read",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "email", "to": "a@b.c", "daily_limit": 0})),
            400,
            "daily_limit must be at least 1",
        ),
        (
            &post,
            channels,
            text(json!({"kind": "email", "to": "a@b.c", "colour": "red"})),
            400,
            "unknown field `colour`",
        ),
        (
            &patch,
            channel,
            text(json!({"kind": "email", "to": "a@b.c"})),
            400,
            "kind can't be changed",
        ),
        (
            &patch,
            channel,
            text(json!({"url": "nonsense"})),
            400,
            "url must be a URL",
        ),
        (&patch, nowhere, "{}".into(), 404, "no such channel"),
        (
            &post,
            "/v1/channels/x/test",
            String::new(),
            404,
            "no such channel",
        ),
        (
            &post,
            "/v1/alerts/x/redeliver",
            String::new(),
            404,
            "no such alert",
        ),
        (
            &post,
            "/v1/keys",
            text(json!({"scope": "root"})),
            400,
            "scope can't be read",
        ),
        (
            &Method::GET,
            "/v1/alerts?limit=0",
            String::new(),
            400,
            "limit must be between 1 and 200 (got 0)",
        ),
        (
            &Method::GET,
            "/v1/alerts?limit=x",
            String::new(),
            400,
            "limit",
        ),
        (
            &Method::GET,
            "/v1/alerts?page=2",
            String::new(),
            400,
            "page",
        ),
        (
            &Method::GET,
            "/v1/monitors/unknown",
            String::new(),
            404,
            "no such monitor",
        ),
        (
            &Method::GET,
            "/v1/monitors/%ff",
            String::new(),
            404,
            "no such",
        ),
        (
            &Method::GET,
            "/v1/nothing",
            String::new(),
            404,
            "nothing at this path",
        ),
        (
            &Method::DELETE,
            "/v1/monitors",
            String::new(),
            405,
            "Allow header",
        ),
    ];
    for (method, path, body, status, expected) in cases {
        let shown: String = body.chars().take(80).collect();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", API_KEY)
            .body(Body::from(body))
            .unwrap();
        let reply = stage.send(request).await;
        let detail = reply.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(reply.status, status, "{method} {path} {shown}: {detail}");
        assert!(
            detail.contains(expected),
            "{method} {path} {shown}: {detail}"
        );
        assert_eq!(reply.headers["content-type"], "application/problem+json");
        assert_eq!(reply.json()["status"], status);
        let used = stage.meter.take();
        assert_eq!(
            used.write_units, 0.0,
            "{method} {path} {shown} wrote to the table"
        );
    }
    let after = stage
        .call(Method::GET, "/v1/monitors", Value::Null)
        .await
        .json();
    assert_eq!(after, before);
}

/// Nearly valid JSON: known field names with arbitrary values.
fn almost_valid() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("web-01")),
        Just(json!("webhook")),
        Just(json!("http://example.org")),
    ];
    let name = prop::sample::select(vec![
        "monitor",
        "status",
        "period_s",
        "grace_s",
        "message",
        "exit_status",
        "metrics",
        "heartbeats",
        "hostId",
        "intervalMs",
        "kind",
        "url",
        "to",
        "secret",
        "name",
        "daily_limit",
        "group_threshold",
        "scope",
    ]);
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|m| m
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        almost_valid().prop_map(|value| value.to_string().into_bytes()),
        // A valid body with some of its bytes changed.
        (
            Just(
                br#"{"monitor":"web-01","status":"ok","period_s":300,"metrics":{"rows":12.5}}"#
                    .to_vec()
            ),
            prop::collection::vec((0..70_usize, any::<u8>()), 0..4)
        )
            .prop_map(|(mut body, changes)| {
                for (at, byte) in changes {
                    body[at] = byte;
                }
                body
            }),
    ]
}

fn paths() -> impl Strategy<Value = String> {
    let tail = "[-a-zA-Z0-9_./%?=&~]{0,40}";
    prop_oneof![
        3 => prop::sample::select(vec![
            "/v1/heartbeats", "/v1/hearbeat", "/v1/channels", "/v1/keys", "/v1/alerts", "/v1/monitors", "/health",
        ]).prop_map(str::to_owned),
        2 => tail.prop_map(|tail| format!("/ping/{tail}")),
        1 => tail.prop_map(|tail| format!("/ping/{PING_KEY}/{tail}")),
        1 => tail.prop_map(|tail| format!("/ping/0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273/{tail}")),
        1 => tail.prop_map(|tail| format!("/v1/monitors/{tail}")),
        1 => tail.prop_map(|tail| format!("/v1/channels/{tail}")),
        1 => tail.prop_map(|tail| format!("/{tail}")),
    ]
}

fn methods() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "BREW",
    ])
}

#[test]
fn no_input_causes_a_panic_or_a_server_error() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stage = runtime.block_on(Stage::new());
    let cases = ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let header = prop::collection::vec(
        any::<u8>().prop_filter("valid header bytes", |b| *b >= 32 && *b != 127),
        0..40,
    );
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    proptest!(cases, |(method in methods(), path in paths(), body in bodies(), value in header, keyed in any::<bool>())| {
        let mut request = Request::builder()
            .method(method)
            .uri(path.as_str())
            .header("x-forwarded-for", value.as_slice())
            .header("user-agent", value.as_slice());
        request = if keyed {
            request.header("x-api-key", API_KEY)
        } else {
            request.header("authorization", value.as_slice())
        };
        let Ok(request) = request.body(Body::from(body)) else {
            // Thrum never receives a request whose URI is invalid.
            return Ok(());
        };
        let reply = runtime.block_on(stage.send(request));
        match reply.status.as_u16() {
            200..300 => accepted.set(accepted.get() + 1),
            _ => refused.set(refused.get() + 1),
        }
        prop_assert!(reply.status.as_u16() < 500, "{} {}: {}", method, path, reply.text());
    });
    let (accepted, refused) = (accepted.get(), refused.get());
    println!("{accepted} accepted, {refused} refused");
    assert!(
        accepted > 100 && refused > 1_000,
        "too few requests were accepted or refused"
    );
}
