//! A stand-in for Lambda's Runtime API and the AWS endpoints, around the real bootstraps. The table
//! is an emulator's; calls to the bus, queues and topics are recorded.
//!
//! See <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use crate::TABLE;
use crate::dynoxide::Dynoxide;
use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use thrum_schema::world::SystemWorld;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};

/// The timeout of a start and of an invocation.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The trace of each invocation, unless [`Function::trace`] sets another.
pub static TRACE: LazyLock<String> = LazyLock::new(|| trace_id("ad49b0e87f6ef6c87fc2e700"));

/// The ID of a trace that has just started.
pub fn trace_id(random: &str) -> String {
    let now = thrum_schema::World::now(&SystemWorld);
    format!("1-{:08x}-{random}", now.secs())
}

/// The outcome of an invocation.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The function returned a response.
    Answer(Vec<u8>),
    /// The function reported an error.
    Error(Vec<u8>),
}

impl Outcome {
    /// The response as JSON.
    ///
    /// # Panics
    /// If it is an error, or not JSON.
    pub fn json(&self) -> Value {
        match self {
            Self::Answer(bytes) => serde_json::from_slice(bytes).expect("a JSON response"),
            Self::Error(bytes) => panic!("the function failed: {}", String::from_utf8_lossy(bytes)),
        }
    }
}

type Waiting = HashMap<String, oneshot::Sender<Outcome>>;

struct Invocation {
    id: String,
    payload: Vec<u8>,
}

/// Everything that the function talks to.
struct World {
    table: Dynoxide,
    invocations: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    waiting: Mutex<Waiting>,
    asked: watch::Sender<Option<Instant>>,
    calls: Mutex<Vec<(String, String)>>,
    /// How many entries of each call the bus refuses.
    refuses: Mutex<usize>,
    /// The header with the trace of each invocation.
    trace: Mutex<String>,
    /// How many invocations are in progress, and the most that were.
    running: AtomicUsize,
    most: AtomicUsize,
}

/// A running bootstrap.
pub struct Function {
    world: Arc<World>,
    sender: mpsc::UnboundedSender<Invocation>,
    child: Child,
    spawned: Instant,
    lines: Arc<Mutex<Vec<String>>>,
    next: Mutex<u64>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function")
            .field("child", &self.child)
            .finish_non_exhaustive()
    }
}

impl Function {
    /// Starts `binary` on `table`, with the environment variables that the template sets, and
    /// `variables`.
    ///
    /// # Errors
    /// It can't be started.
    pub async fn start(
        binary: &Path,
        table: &Dynoxide,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let (sender, invocations) = mpsc::unbounded_channel();
        let world = Arc::new(World {
            table: table.clone(),
            invocations: tokio::sync::Mutex::new(invocations),
            waiting: Mutex::default(),
            asked: watch::Sender::new(None),
            calls: Mutex::default(),
            refuses: Mutex::default(),
            trace: Mutex::new(format!("Root={};Parent=9a9197af755a6419;Sampled=1", *TRACE)),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route(
                "/2018-06-01/runtime/invocation/{id}/response",
                post(respond),
            )
            .route("/2018-06-01/runtime/invocation/{id}/error", post(fail))
            .fallback(aws)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&world));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        let endpoint = format!("http://{address}");
        let arn = "arn:aws:sns:eu-central-1:123456789012:thrum-mail-";
        let spawned = Instant::now();
        let mut child = Command::new(binary)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "thrum")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "group")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_SESSION_TOKEN", "token")
            .env("AWS_ENDPOINT_URL", &endpoint)
            .env("THRUM_TABLE", TABLE)
            .env("THRUM_TIMER_SHARDS", "1")
            .env("THRUM_BUS", "thrum")
            .env("THRUM_QUEUE_URL", format!("{endpoint}/queue"))
            .env("THRUM_TIMER_QUEUE_URL", format!("{endpoint}/work"))
            .env("THRUM_PULSE_URLS", format!("{endpoint}/pulse"))
            .env("THRUM_MAIL_TOPICS", arn)
            .env("THRUM_ADMIN_KEY_ARN", "arn:aws:secretsmanager:admin")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't run {}", binary.display()))?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        tokio::spawn(keep(BufReader::new(stdout), Arc::clone(&lines)));
        tokio::spawn(keep(BufReader::new(stderr), Arc::clone(&lines)));
        Ok(Self {
            world,
            sender,
            child,
            spawned,
            lines,
            next: Mutex::new(0),
        })
    }

    /// The time from its start until it asked for its first event.
    ///
    /// # Errors
    /// It did not ask within a minute.
    pub async fn ready(&self) -> anyhow::Result<Duration> {
        let mut asked = self.world.asked.subscribe();
        let asked = asked.wait_for(Option::is_some);
        let asked = tokio::time::timeout(TIMEOUT, asked)
            .await
            .with_context(|| format!("the function did not start: {:?}", self.lines()))?;
        Ok(asked?.context("a time")?.duration_since(self.spawned))
    }

    /// Invokes the function with an event.
    ///
    /// # Errors
    /// It did not respond within a minute, or has ended.
    pub async fn invoke(&self, payload: impl Into<Vec<u8>>) -> anyhow::Result<Outcome> {
        let id = {
            let mut next = self.next.lock().expect("not poisoned");
            *next += 1;
            format!("00000000-0000-4000-8000-{:012}", *next)
        };
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.world.waiting.lock().expect("not poisoned");
            waiting.insert(id.clone(), sender);
        }
        let payload = payload.into();
        self.sender.send(Invocation { id, payload })?;
        let outcome = tokio::time::timeout(TIMEOUT, receiver).await;
        Ok(outcome
            .with_context(|| format!("the function did not respond: {:?}", self.lines()))??)
    }

    /// The calls that it sent to AWS, except to the table: operation and body.
    pub fn calls(&self) -> Vec<(String, String)> {
        self.world.calls.lock().expect("not poisoned").clone()
    }

    /// Makes the bus refuse the last `n` entries of each call from now on.
    pub fn refuse(&self, n: usize) {
        *self.world.refuses.lock().expect("not poisoned") = n;
    }

    /// Sets the header with the trace of the next invocations.
    pub fn trace(&self, header: &str) {
        header.clone_into(&mut self.world.trace.lock().expect("not poisoned"));
    }

    /// The most invocations that were in progress at a time.
    pub fn most_at_once(&self) -> usize {
        self.world.most.load(Ordering::SeqCst)
    }

    /// The lines of its output.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("not poisoned").clone()
    }

    /// Its process id; `None` if it has ended.
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }
}

async fn keep(reader: impl AsyncBufReadExt + Unpin, lines: Arc<Mutex<Vec<String>>>) {
    let mut read = reader.lines();
    while let Ok(Some(line)) = read.next_line().await {
        lines.lock().expect("not poisoned").push(line);
    }
}

async fn next(State(world): State<Arc<World>>) -> Response {
    world.asked.send_if_modified(|asked| {
        let first = asked.is_none();
        asked.get_or_insert_with(Instant::now);
        first
    });
    let Some(invocation) = world.invocations.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let running = world.running.fetch_add(1, Ordering::SeqCst) + 1;
    world.most.fetch_max(running, Ordering::SeqCst);
    let deadline = thrum_schema::World::now(&SystemWorld) + 60_000;
    let headers = [
        ("lambda-runtime-aws-request-id", invocation.id),
        ("lambda-runtime-deadline-ms", deadline.0.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:thrum:live".to_owned(),
        ),
        (
            "lambda-runtime-trace-id",
            world.trace.lock().expect("not poisoned").clone(),
        ),
    ];
    (headers, invocation.payload).into_response()
}

async fn respond(
    State(world): State<Arc<World>>,
    UrlPath(id): UrlPath<String>,
    body: Bytes,
) -> StatusCode {
    world.settle(&id, Outcome::Answer(body.to_vec()))
}

async fn fail(
    State(world): State<Arc<World>>,
    UrlPath(id): UrlPath<String>,
    body: Bytes,
) -> StatusCode {
    world.settle(&id, Outcome::Error(body.to_vec()))
}

impl World {
    fn settle(&self, id: &str, outcome: Outcome) -> StatusCode {
        self.running.fetch_sub(1, Ordering::SeqCst);
        match self.waiting.lock().expect("not poisoned").remove(id) {
            Some(waiting) => {
                let _ = waiting.send(outcome);
                StatusCode::ACCEPTED
            }
            None => StatusCode::BAD_REQUEST,
        }
    }
}

/// AWS: table calls go to the emulator; all others are recorded and answered with success.
async fn aws(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok());
    let target = target.unwrap_or_default();
    if target.starts_with("DynamoDB") {
        return match world.table.answer(target, body.to_vec()).await {
            Ok((status, reply)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                let headers = [("content-type", "application/x-amz-json-1.0")];
                (status, headers, reply).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        };
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let operation = match target.rsplit('.').next() {
        Some("") | None => text
            .split('&')
            .find_map(|pair| pair.strip_prefix("Action="))
            .unwrap_or("GET")
            .to_owned(),
        Some(operation) => operation.to_owned(),
    };
    let reply = match &*operation {
        "PutEvents" => {
            let sent: Value = serde_json::from_str(&text).unwrap_or_default();
            let n = sent["Entries"].as_array().map_or(0, Vec::len);
            let refused = (*world.refuses.lock().expect("not poisoned")).min(n);
            let entry = |i: usize| {
                if i + refused >= n {
                    json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "too many"})
                } else {
                    json!({"EventId": i.to_string()})
                }
            };
            let entries: Vec<Value> = (0..n).map(entry).collect();
            json!({"FailedEntryCount": refused, "Entries": entries})
        }
        "SendMessage" => json!({"MessageId": "1"}),
        "GetSecretValue" => json!({"SecretString": crate::ADMIN_KEY, "Name": "admin"}),
        _ => Value::Null,
    };
    let reply = match &*operation {
        "Publish" => PUBLISHED.to_owned(),
        _ => reply.to_string(),
    };
    let mut calls = world.calls.lock().expect("not poisoned");
    calls.push((operation, text));
    drop(calls);
    reply.into_response()
}

/// The SNS API answers in XML.
const PUBLISHED: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>1</MessageId></PublishResult></PublishResponse>";

/// The bootstrap of a function: the one that `cargo test --workspace` builds, or the one in
/// `THRUM_TEST_BOOTSTRAPS`, laid out as by `cargo lambda build`.
///
/// # Panics
/// If it does not exist.
pub fn bootstrap(function: &str) -> PathBuf {
    let name = format!("bootstrap-{function}");
    if let Some(directory) = std::env::var_os("THRUM_TEST_BOOTSTRAPS") {
        return Path::new(&directory).join(name).join("bootstrap");
    }
    let mut directory = std::env::current_exe().expect("this program has a path");
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    let path = directory.join(name);
    let shown = path.display();
    assert!(
        path.exists(),
        "{shown} does not exist; build it with `cargo test --workspace`"
    );
    path
}

/// The event of a function URL for a request.
pub fn url_event(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut all = json!({
        "host": "abc.lambda-url.eu-central-1.on.aws", "x-forwarded-proto": "https", "x-forwarded-port": "443",
        "x-forwarded-for": "203.0.113.7", "user-agent": "curl/8.0", "accept": "*/*",
    });
    for (name, value) in headers {
        all[*name] = (*value).into();
    }
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": all,
        "requestContext": {
            "accountId": "anonymous", "apiId": "abc", "domainName": "abc.lambda-url.eu-central-1.on.aws",
            "domainPrefix": "abc", "requestId": "1", "routeKey": "$default", "stage": "$default",
            "time": "21/Nov/2025:04:40:00 +0000", "timeEpoch": 1_763_700_000_000_i64,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "curl/8.0"},
        },
        "body": body, "isBase64Encoded": false,
    })
}
