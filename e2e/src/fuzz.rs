//! Fuzz targets for everything that parses outside input. Each takes any bytes and panics if an
//! invariant is broken. The fuzzers in `e2e/fuzz` call them with coverage-guided input, the
//! property tests with generated input.

use crate::{API_KEY, PING_KEY, START, TABLE, prepare};
use aws_lambda_events::event::dynamodb::Event;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::Value;
use std::cell::RefCell;
use std::sync::Arc;
use thrum_evaluate::{Bus, BusError, Evaluate};
use thrum_ingest::App;
use thrum_schema::work::Work;
use thrum_schema::world::ManualWorld;
use thrum_schema::{Schedule, UnixMs, World};
use thrum_store::Store;
use thrum_store::sqlite::{Options, SqliteTable};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// A target: its name, which is also the name of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 6] = [
    ("ping_path", ping_path),
    ("body", body),
    ("cron", cron),
    ("on_calendar", on_calendar),
    ("stream_records", stream_records),
    ("csv", csv),
];

/// How many inputs a stage takes before it is replaced by an empty one.
const INPUTS: u32 = 2_000;
/// How far the clock advances between two inputs, in milliseconds: enough to stay below every rate
/// limit.
const STEP_MS: i64 = 200;
/// Maximum input length in bytes; longer inputs only cost time.
const MAX: usize = 64 * 1024;

/// The methods of pings.
const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::HEAD, Method::PUT];

/// The routes for [`body`]; the first byte of an input selects one.
const ROUTES: [(&str, &str); 24] = [
    ("POST", "/v1/heartbeats"),
    ("POST", "/v1/heartbeat"),
    ("POST", "/v1/monitors"),
    ("PATCH", "/v1/monitors/web-01"),
    ("POST", "/v1/monitors/web-01/snooze"),
    ("POST", "/v1/channels"),
    ("POST", "/v1/keys"),
    ("PATCH", "/v1/project"),
    ("POST", "/v1/project/snooze"),
    ("POST", "/v1/series/eth/bars"),
    ("POST", "/v1/series/eth/values"),
    ("POST", "/v1/series/eth/sentiment"),
    ("POST", "/v1/signals"),
    ("POST", "/v1/backtests"),
    ("PUT", "/v1/strategies/mine"),
    ("POST", "/v1/watches"),
    ("POST", "/api/v1/checks/"),
    ("POST", "/api/v2/checks/"),
    ("POST", "/api/v3/checks/"),
    ("POST", "/api/v3/checks/{uuid}"),
    ("GET", "/v1/alerts"),
    ("GET", "/v1/series/eth/bars"),
    ("GET", "/v1/monitors"),
    ("POST", "/sign-in"),
];

/// An ingest service on a table of its own, one per thread.
struct Stage {
    runtime: Runtime,
    world: Arc<ManualWorld>,
    router: Router,
    evaluate: Evaluate,
    /// The id of its only monitor.
    uuid: String,
    inputs: u32,
}

/// A bus that discards everything.
#[derive(Debug)]
struct Nowhere;

impl Bus for Nowhere {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        Box::pin(std::future::ready(works.iter().map(|_| Ok(())).collect()))
    }
}

impl Stage {
    fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let world = ManualWorld::new(START, 7);
        let shared: Arc<dyn World> = world.clone();
        let table = SqliteTable::in_memory(Options::default()).expect("a table");
        let store = Store::new(Arc::new(table), TABLE, 1, shared);
        runtime.block_on(prepare(&store));
        let config = thrum_ingest::Config::default();
        let router = thrum_ingest::router(App::new(store.clone(), config));
        let evaluate = Evaluate::new(store, Arc::new(Nowhere), "fuzz", 60_000);
        let mut stage = Self {
            runtime,
            world,
            router,
            evaluate,
            uuid: String::new(),
            inputs: 0,
        };
        let beat = r#"{"monitor": "web-01", "period_s": 60}"#;
        let (status, reply) = stage
            .send("POST", "/v1/heartbeats", beat.as_bytes().to_vec())
            .expect("a request");
        assert_eq!(status, StatusCode::OK, "{reply}");
        let reply: Value = serde_json::from_str(&reply).expect("JSON");
        let uuid = reply["results"][0]["uuid"].as_str().expect("a uuid");
        stage.uuid = uuid.to_owned();
        stage
    }

    /// Status and body of the response; `None` if the input is not a valid HTTP request.
    fn send(&self, method: &str, uri: &str, body: Vec<u8>) -> Option<(StatusCode, String)> {
        self.world.advance(STEP_MS);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("x-api-key", API_KEY)
            .body(Body::from(body))
            .ok()?;
        let (status, bytes) = self.runtime.block_on(async {
            let reply = match self.router.clone().oneshot(request).await {
                Ok(reply) => reply,
                Err(never) => match never {},
            };
            let status = reply.status();
            let body = reply.into_body().collect().await.expect("a body");
            (status, body.to_bytes())
        });
        Some((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// Runs `act` with this thread's stage.
fn with_stage(act: impl FnOnce(&Stage)) {
    STAGE.with_borrow_mut(|slot| {
        if slot.as_ref().is_some_and(|stage| stage.inputs >= INPUTS) {
            *slot = None;
        }
        let stage = slot.get_or_insert_with(Stage::new);
        stage.inputs += 1;
        act(stage);
    });
}

/// A ping whose path and query are the input: gets one of the plain responses that
/// docs/compatibility.md documents, never a 5xx.
pub fn ping_path(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let Ok(path) = std::str::from_utf8(rest) else {
        return;
    };
    let method = &METHODS[usize::from(*first) % METHODS.len()];
    with_stage(|stage| {
        // Half of the inputs get a valid key, and a quarter the id of a monitor.
        let uri = match first >> 6 {
            0 => format!("/ping/{path}"),
            1 => format!("/ping/{}{path}", stage.uuid),
            _ => format!("/ping/{PING_KEY}/{path}"),
        };
        let Some((status, reply)) = stage.send(method.as_str(), &uri, Vec::new()) else {
            return;
        };
        match status.as_u16() {
            200 | 201 | 429 => {}
            // These have a text, except for HEAD.
            400 | 404 | 409 => assert!(
                method == Method::HEAD || !reply.is_empty(),
                "{uri}: {status} without a text"
            ),
            _ => panic!("{method} {uri:?}: {status} {reply}"),
        }
    });
}

/// A body, or a query for routes without a body: an error is JSON with a non-empty message, and
/// never a 5xx.
pub fn body(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first().filter(|(_, rest)| rest.len() <= MAX) else {
        return;
    };
    let (method, path) = ROUTES[usize::from(*first) % ROUTES.len()];
    with_stage(|stage| {
        let path = path.replace("{uuid}", &stage.uuid);
        let (uri, body) = match method {
            "GET" => match std::str::from_utf8(rest) {
                Ok(query) => (format!("{path}?{query}"), Vec::new()),
                Err(_) => return,
            },
            _ => (path, rest.to_vec()),
        };
        let Some((status, reply)) = stage.send(method, &uri, body) else {
            return;
        };
        assert!(status.as_u16() < 500, "{method} {uri}: {status} {reply}");
        if uri == "/sign-in" || !status.is_client_error() {
            return;
        }
        let said: Value = serde_json::from_str(&reply).unwrap_or_else(|_| panic!("{uri}: {reply}"));
        let words = said["detail"].as_str().or(said["error"].as_str());
        assert!(
            words.is_some_and(|words| !words.is_empty()),
            "{uri}: {reply}"
        );
    });
}

/// A cron expression: if it parses, its run times strictly increase, and it parses to the same
/// schedule again.
pub fn cron(bytes: &[u8]) {
    schedule(bytes, |text| {
        !text.contains('\n') && text.split_whitespace().count() == 5
    });
}

/// The same for systemd calendar events (OnCalendar).
pub fn on_calendar(bytes: &[u8]) {
    schedule(bytes, |text| {
        text.contains('\n') || text.split_whitespace().count() != 5
    });
}

fn schedule(bytes: &[u8], fits: fn(&str) -> bool) {
    const ZONES: [&str; 8] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "Africa/Casablanca",
        "America/Sao_Paulo",
    ];
    let Some((head, rest)) = bytes.split_at_checked(5) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    if !fits(text) {
        return;
    }
    let zone = ZONES[usize::from(head[0]) % ZONES.len()];
    // From 1970 to 2106.
    let after_s = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let mut last = UnixMs::from_secs(i64::from(after_s));
    let Ok(schedule) = Schedule::parse(text, zone) else {
        return;
    };
    for _ in 0..5 {
        let Some(next) = schedule.next_after(last) else {
            return;
        };
        assert!(
            next > last,
            "{text:?} in {zone}: {next} is not after {last}"
        );
        last = next;
    }
    let (Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz }) = &schedule else {
        panic!("{text:?} parsed to a schedule without an expression");
    };
    assert_eq!(
        Schedule::parse(expr, tz).ok().as_ref(),
        Some(&schedule),
        "{text:?}"
    );
}

/// A batch of stream records: none is reported as failed while the table works, because the shard
/// would retry it forever.
pub fn stream_records(bytes: &[u8]) {
    let Some(event) = serde_json::from_slice::<Event>(bytes)
        .ok()
        .filter(|_| bytes.len() <= MAX)
    else {
        return;
    };
    with_stage(|stage| {
        let response = stage.runtime.block_on(stage.evaluate.on_stream(&event));
        assert!(
            response.batch_item_failures.is_empty(),
            "{:?}",
            response.batch_item_failures
        );
    });
}

/// A CSV file of bars: each row is a bar of finite numbers, or has an error message.
pub fn csv(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let options = thrum::signals::csv::Options {
        utc: first & 1 == 1,
        columns: None,
    };
    let input = std::io::Cursor::new(rest.to_vec());
    let Ok(rows) = thrum::signals::csv::read(input, "the input", &options) else {
        return;
    };
    for row in rows {
        // Bytes that are not UTF-8.
        let Ok((line, row)) = row else { return };
        assert!(line > 0);
        match row {
            Ok(bar) => {
                let finite = [
                    bar.open,
                    bar.high,
                    bar.low,
                    bar.close,
                    bar.volume.unwrap_or(0.0),
                ];
                assert!(finite.iter().all(|x| x.is_finite()), "{bar:?}");
            }
            Err(error) => assert!(!error.is_empty()),
        }
    }
}
