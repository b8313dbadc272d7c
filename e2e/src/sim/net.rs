//! Between the SDK and the table: every call goes through here, and some go wrong.

use super::chance::{Chance, Clock, sleep_ms};
use super::plan::{Plan, Trouble};
use super::trace::Trace;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum::engine::{MemoryEngine, config};
use tokio::sync::Notify;

/// How long a call takes, in milliseconds.
const LATENCY_MS: (i64, i64) = (1, 6);
/// How long one takes that is slow: an operation is given up after 10 s.
const SLOW_MS: (i64, i64) = (500, 12_000);
/// How old a stale read is at the most, in milliseconds.
const STALE_MS: i64 = 1_500;
/// How many retries a client has before it has to earn them, as the SDK's own default is.
const RETRIES: usize = 500;

tokio::task_local! {
    /// The invocation that a task is.
    pub static LIFE: Life;
}

/// An invocation of a handler: it may be killed.
#[derive(Debug, Clone, Default)]
pub struct Life(Arc<(Notify, AtomicBool)>);

impl Life {
    /// Kills it: nothing of it happens from now on.
    pub fn kill(&self) {
        self.0.1.store(true, Ordering::Relaxed);
        self.0.0.notify_one();
    }

    /// Whether they are the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits until it is killed.
    pub async fn killed(&self) {
        while !self.0.1.load(Ordering::Relaxed) {
            self.0.0.notified().await;
        }
    }
}

/// The way to the table, for all handlers.
pub struct Net {
    /// The table.
    pub engine: MemoryEngine,
    /// Wakes the readers of the stream, shard by shard.
    pub written: [Notify; 2],
    /// How many calls there were.
    pub calls: AtomicU64,
    /// The calls that went wrong.
    pub faults: Mutex<Vec<Faulty>>,
    plan: Arc<Plan>,
    clock: Clock,
    trace: Trace,
    /// What eventually consistent reads were answered last.
    known: Mutex<HashMap<String, (i64, Vec<u8>)>>,
    /// Whether any read will be stale.
    forgets: bool,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

/// A call that went wrong.
#[derive(Debug, Clone)]
pub struct Faulty {
    pub at_ms: i64,
    /// It may have been done, and its caller can't know.
    pub doubtful: bool,
    /// What it asked for.
    pub body: String,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Refused,
    Failed,
    Reset,
    ReplyLost,
    Throttled,
    SlowBefore(i64),
    SlowAfter(i64),
    Stale,
    Partial,
    Conflict,
    KilledBefore,
    KilledAfter,
}

impl Net {
    pub fn new(plan: &Arc<Plan>, engine: MemoryEngine, clock: Clock, trace: Trace) -> Arc<Self> {
        Arc::new(Self {
            engine,
            written: Default::default(),
            calls: AtomicU64::new(0),
            faults: Mutex::default(),
            plan: Arc::clone(plan),
            clock,
            trace,
            known: Mutex::default(),
            forgets: plan
                .spells
                .iter()
                .any(|spell| matches!(spell.what, Trouble::Stale(_))),
        })
    }

    /// An SDK client of the handler `name`, whose faults follow from `chance`. Nothing in it is left to the system's chance.
    pub fn client(self: &Arc<Self>, name: &'static str, chance: Chance) -> Client {
        let way = Way {
            net: Arc::clone(self),
            name,
            chance,
        };
        let retries = RetryConfig::standard()
            .with_use_static_exponential_base(true)
            .with_initial_backoff(Duration::from_millis(200));
        let partition = RetryPartition::custom(name)
            .token_bucket(TokenBucket::new(RETRIES))
            .build();
        let config = config(way)
            .retry_config(retries)
            .retry_partition(partition)
            .time_source(self.clock);
        Client::from_conf(config.build())
    }

    /// Wakes the readers of the stream.
    pub fn wake(&self) {
        self.written.iter().for_each(Notify::notify_one);
    }
}

/// The way of one handler.
#[derive(Debug, Clone)]
struct Way {
    net: Arc<Net>,
    name: &'static str,
    chance: Chance,
}

impl Way {
    fn fault(&self, operation: &str, body: &[u8]) -> Fault {
        let ms = self.net.clock.ms();
        if ms >= self.net.plan.calm_ms {
            return Fault::None;
        }
        let chance = &self.chance;
        let once = |n, fault: Fault| chance.per_mille(n).then_some(fault);
        let consistent = contains(body, b"\"ConsistentRead\":true");
        self.net
            .plan
            .troubles(ms, |what| match what {
                Trouble::Refused(n) => once(n, Fault::Refused),
                Trouble::Failed(n) => once(n, Fault::Failed),
                Trouble::Reset(n) => once(n, Fault::Reset),
                Trouble::ReplyLost(n) => once(n, Fault::ReplyLost),
                Trouble::Throttled(n) => once(n, Fault::Throttled),
                Trouble::Slow(n) => {
                    let slow_ms = chance.range(SLOW_MS.0, SLOW_MS.1);
                    let before = chance.per_mille(500);
                    once(
                        n,
                        if before {
                            Fault::SlowBefore(slow_ms)
                        } else {
                            Fault::SlowAfter(slow_ms)
                        },
                    )
                }
                Trouble::Stale(n)
                    if !consistent && matches!(operation, "Query" | "GetItem" | "BatchGetItem") =>
                {
                    once(n, Fault::Stale)
                }
                Trouble::Partial(n) if operation.starts_with("Batch") => once(n, Fault::Partial),
                Trouble::Conflict(n)
                    if matches!(operation, "TransactWriteItems" | "UpdateItem" | "PutItem") =>
                {
                    once(n, Fault::Conflict)
                }
                Trouble::Killed(n) => {
                    let before = chance.per_mille(500);
                    once(
                        n,
                        if before {
                            Fault::KilledBefore
                        } else {
                            Fault::KilledAfter
                        },
                    )
                }
                _ => None,
            })
            .next()
            .unwrap_or(Fault::None)
    }

    async fn answer(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.split('.').next_back().unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let net = &self.net;
        net.calls.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault(operation, body);
        if fault != Fault::None {
            // What is stale or done in part has not failed.
            if !matches!(fault, Fault::Stale | Fault::Partial) {
                net.faults.lock().expect("not poisoned").push(Faulty {
                    at_ms: net.clock.ms(),
                    doubtful: matches!(
                        fault,
                        Fault::Failed
                            | Fault::ReplyLost
                            | Fault::SlowBefore(_)
                            | Fault::SlowAfter(_)
                    ),
                    body: String::from_utf8_lossy(body).into_owned(),
                });
            }
            net.trace
                .say(|| format!("{} {operation} {fault:?} {}", self.name, key_of(body)));
        }
        match fault {
            Fault::Refused => return error(500, "InternalServerError"),
            Fault::Throttled => return error(400, "ProvisionedThroughputExceededException"),
            Fault::Reset => return Err(ConnectorError::io("connection reset".into())),
            Fault::Conflict if operation == "TransactWriteItems" => {
                return reply(
                    400,
                    &json!({
                        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                        "Message": "Transaction cancelled",
                        "CancellationReasons": [{"Code": "TransactionConflict"}],
                    }),
                );
            }
            Fault::Conflict => return error(400, "TransactionConflictException"),
            Fault::KilledBefore => return die().await,
            Fault::Stale => {
                let known = net
                    .known
                    .lock()
                    .expect("not poisoned")
                    .get(&canonical(body))
                    .cloned();
                let fresh = known.filter(|(at, _)| net.clock.ms() - at <= STALE_MS);
                if let Some((_, reply)) = fresh {
                    sleep_ms(self.chance.range(LATENCY_MS.0, LATENCY_MS.1)).await;
                    return Ok(HttpResponse::new(
                        200.try_into().expect("a status"),
                        SdkBody::from(reply),
                    ));
                }
            }
            _ => {}
        }
        let (status, bytes) = match fault {
            Fault::Partial => in_part(&net.engine, target, body, &self.chance),
            // It arrives, whatever has become of who sent it.
            Fault::SlowBefore(ms) => {
                let (net, target, body) = (Arc::clone(net), target.to_owned(), body.to_vec());
                let arrived = tokio::spawn(async move {
                    sleep_ms(ms).await;
                    let answer = net.engine.answer(&target, &body);
                    net.wake();
                    answer
                });
                match arrived.await {
                    Ok(answer) => answer,
                    Err(_) => return die().await,
                }
            }
            _ => net.engine.answer(target, body),
        };
        net.trace.note(operation, status, net.clock.ms());
        net.trace.note_whole(|| canonical(body));
        if status == 200 {
            match operation {
                "TransactWriteItems" | "PutItem" => net.wake(),
                // A series' nudge, among all the updates of leases.
                "UpdateItem" if contains(body, b"ADD nudge") => net.wake(),
                "Query" | "GetItem" | "BatchGetItem"
                    if net.forgets && !contains(body, b"\"ConsistentRead\":true") =>
                {
                    let mut known = net.known.lock().expect("not poisoned");
                    known.insert(canonical(body), (net.clock.ms(), bytes.clone()));
                }
                _ => {}
            }
        }
        match fault {
            Fault::KilledAfter => return die().await,
            Fault::SlowAfter(ms) => sleep_ms(ms).await,
            _ => sleep_ms(self.chance.range(LATENCY_MS.0, LATENCY_MS.1)).await,
        }
        match fault {
            Fault::ReplyLost => Err(ConnectorError::io("connection reset".into())),
            Fault::Failed => error(500, "InternalServerError"),
            _ => Ok(HttpResponse::new(
                status.try_into().expect("a status"),
                SdkBody::from(bytes),
            )),
        }
    }
}

/// The invocation ends here.
pub async fn die<T>() -> T {
    if let Ok(life) = LIFE.try_with(Life::clone) {
        life.kill();
    }
    pending().await
}

/// Does the first part of a batch, and hands the rest back.
fn in_part(engine: &MemoryEngine, target: &str, body: &[u8], chance: &Chance) -> (u16, Vec<u8>) {
    let mut request: Value = serde_json::from_slice(body).unwrap_or_default();
    let is_read = target.ends_with("BatchGetItem");
    let pointer = if is_read {
        "/RequestItems/thrum/Keys"
    } else {
        "/RequestItems/thrum"
    };
    let all = request
        .pointer(pointer)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if all.len() < 2 {
        return engine.answer(target, body);
    }
    let kept =
        usize::try_from(chance.range(1, i64::try_from(all.len()).expect("few") - 1)).expect("few");
    let (done, left) = all.split_at(kept);
    let mut rest = request["RequestItems"].clone();
    if let Some(items) = request.pointer_mut(pointer) {
        *items = done.into();
    }
    let (status, bytes) = engine.answer(target, request.to_string().as_bytes());
    let mut answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let name = if is_read {
        rest["thrum"]["Keys"] = left.into();
        "UnprocessedKeys"
    } else {
        rest["thrum"] = left.into();
        "UnprocessedItems"
    };
    if status == 200 {
        answer[name] = rest;
    }
    (status, answer.to_string().into_bytes())
}

fn error(status: u16, name: &str) -> Result<HttpResponse, ConnectorError> {
    let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "it went wrong"});
    reply(status, &body)
}

fn reply(status: u16, body: &Value) -> Result<HttpResponse, ConnectorError> {
    let status = status.try_into().expect("a status");
    Ok(HttpResponse::new(status, SdkBody::from(body.to_string())))
}

/// A request as text that is the same whatever the order of its members.
fn canonical(body: &[u8]) -> String {
    let mut request: Value = serde_json::from_slice(body).unwrap_or_default();
    // The SDK's own chance: it tells one transaction from another, and decides nothing.
    if let Value::Object(request) = &mut request {
        request.remove("ClientRequestToken");
    }
    request.to_string()
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// What a call is about, for people.
fn key_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut found: Vec<&str> = Vec::new();
    for part in text.split("\"S\":\"").skip(1) {
        let value = part.split('"').next().unwrap_or_default();
        let known = [
            "P#", "M#", "A#", "T#", "SWEEP", "OUTAGE", "U#", "G#", "K#", "D#", "LEASE", "R#", "S#",
            "W#",
        ];
        if known.iter().any(|prefix| value.starts_with(prefix)) && !found.contains(&value) {
            found.push(value);
        }
    }
    found.truncate(3);
    found.join(" ")
}

impl HttpConnector for Way {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().answer(request))
    }
}
