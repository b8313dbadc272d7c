//! The network between the handlers and the table: every call goes through here, and some fail.
//! Also simulates what the AWS SDK adds to a table: it retries transient failures, a transaction
//! under the same token, within a time limit.

use super::capacity::{Capacity, HOLD_MS};
use super::chance::{Chance, Clock, sleep_ms};
use super::scenario::{FaultKind, Scenario};
use super::trace::Trace;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum_store::key::Key;
use thrum_store::sqlite::SqliteTable;
use thrum_store::table::{
    Action, Batch, Call, Item, Operand, Page, Query, Read, Result, Table, TableError, Write,
};
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

/// How long a call takes, in milliseconds.
const LATENCY_MS: (i64, i64) = (1, 6);
/// How long a slow call takes, in milliseconds. Operations time out after 10 s.
const SLOW_MS: (i64, i64) = (500, 12_000);
/// Maximum age of a stale read, in milliseconds.
const STALE_MS: i64 = 1_500;
/// The time limit of an operation over all attempts, and the number of attempts.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
/// How long the SDK waits before the first retry, in milliseconds; doubles with each retry.
const BACKOFF_MS: i64 = 200;

tokio::task_local! {
    /// The invocation that the current task runs.
    pub static LIFE: Life;
}

/// An invocation of a handler, which may be killed.
#[derive(Debug, Clone, Default)]
pub struct Life(Arc<(Notify, AtomicBool)>);

impl Life {
    /// Kills it: it makes no further progress.
    pub fn kill(&self) {
        self.0.1.store(true, Ordering::Relaxed);
        self.0.0.notify_one();
    }

    /// Whether both are the same invocation.
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

/// The network to the table, shared by all handlers.
pub struct Net {
    /// The table.
    pub table: SqliteTable,
    /// Notifies the stream readers of a write, one per shard.
    pub written: [Notify; 2],
    /// Number of calls so far.
    pub calls: AtomicU64,
    /// The calls that failed.
    pub faults: Mutex<Vec<Faulty>>,
    scenario: Arc<Scenario>,
    clock: Clock,
    trace: Trace,
    /// The tokens of transactions that are done.
    done: Mutex<HashSet<Uuid>>,
    /// The last reply to each eventually consistent read, and when it was given.
    known: Mutex<HashMap<String, (i64, Reply)>>,
    /// Whether any fault makes reads stale, so that replies must be kept.
    forgets: bool,
    capacity: Capacity,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

/// A failed call.
#[derive(Debug, Clone)]
pub struct Faulty {
    pub at_ms: i64,
    /// Whether it may have been done without its caller knowing.
    pub doubtful: bool,
    /// The request as text.
    pub asked: String,
}

/// The fate of an attempt of a call.
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

/// A table call.
#[derive(Clone)]
pub enum Request {
    Get(Key, Read),
    GetMany(Vec<Key>, Read),
    Query(Query),
    Write(Write),
    WriteMany(Vec<Write>),
    Transact(Vec<Write>, Uuid),
}

/// The reply to a table call.
#[derive(Debug, Clone)]
pub enum Reply {
    Item(Option<Item>),
    Batch(Batch),
    Page(Page),
    Left(Vec<Write>),
    Done,
}

impl Request {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Get(..) => "get",
            Self::GetMany(..) => "get_many",
            Self::Query(_) => "query",
            Self::Write(_) => "write",
            Self::WriteMany(_) => "write_many",
            Self::Transact(..) => "transact",
        }
    }

    /// Whether it is a read that may be stale.
    const fn is_eventual(&self) -> bool {
        matches!(
            self,
            Self::Get(_, Read::Eventual)
                | Self::GetMany(_, Read::Eventual)
                | Self::Query(Query {
                    read: Read::Eventual,
                    ..
                })
        )
    }

    /// The request as text that identifies it.
    pub fn text(&self) -> String {
        match self {
            Self::Get(key, _) => format!("{key:?}"),
            Self::GetMany(keys, _) => format!("{keys:?}"),
            Self::Query(query) => format!("{query:?}"),
            Self::Write(write) => sorted(std::slice::from_ref(write)),
            Self::WriteMany(writes) | Self::Transact(writes, _) => sorted(writes),
        }
    }

    /// A short description for people.
    pub fn about(&self) -> String {
        let key = |key: Option<Key>| {
            key.map_or_else(String::new, |key| format!("{} / {}", key.pk, key.sk))
        };
        match self {
            Self::Get(one, _) => key(Some(one.clone())),
            Self::GetMany(keys, _) => format!("{} of {}", key(keys.first().cloned()), keys.len()),
            Self::Query(query) => format!("{} {:?}", query.pk, query.range),
            Self::Write(write) => key(write.key()),
            Self::WriteMany(writes) | Self::Transact(writes, _) => {
                let keys: Vec<String> = writes
                    .iter()
                    .take(3)
                    .map(|write| key(write.key()))
                    .collect();
                format!("{} of {}", keys.join(", "), writes.len())
            }
        }
    }

    /// The keys that it writes.
    pub fn written(&self) -> Vec<Key> {
        let writes = match self {
            Self::Write(write) => std::slice::from_ref(write),
            Self::WriteMany(writes) | Self::Transact(writes, _) => writes,
            Self::Get(..) | Self::GetMany(..) | Self::Query(_) => &[],
        };
        let changes = |write: &&Write| !matches!(write, Write::Check { .. });
        writes
            .iter()
            .filter(changes)
            .filter_map(Write::key)
            .collect()
    }

    /// Carries it out.
    pub async fn carry_out(self, table: &SqliteTable) -> Result<Reply> {
        Ok(match self {
            Self::Get(key, read) => Reply::Item(table.get(key, read).await?),
            Self::GetMany(keys, read) => Reply::Batch(table.get_many(keys, read).await?),
            Self::Query(query) => Reply::Page(table.query(query).await?),
            Self::Write(write) => Reply::Item(table.write(write).await?),
            Self::WriteMany(writes) => Reply::Left(table.write_many(writes).await?),
            Self::Transact(writes, token) => {
                table.transact(writes, token).await?;
                Reply::Done
            }
        })
    }
}

/// Writes as text that does not depend on the order of attributes in memory: JSON sorts them by
/// name.
fn sorted(writes: &[Write]) -> String {
    let mut text = String::new();
    for write in writes {
        let _ = match write {
            Write::Put { item, condition } => write!(text, "put {} {condition:?}; ", json!(item)),
            Write::Update { key, attempts } => {
                let _ = write!(text, "update {key:?}");
                for attempt in attempts {
                    let _ = write!(text, " {:?}", attempt.condition);
                    for action in &attempt.update.0 {
                        let _ = match action {
                            Action::Set(name, Operand::Value(value)) => {
                                write!(text, " {name} = {}", json!(value))
                            }
                            other => write!(text, " {other:?}"),
                        };
                    }
                }
                write!(text, "; ")
            }
            other => write!(text, "{other:?}; "),
        };
    }
    text
}

impl Net {
    pub fn new(
        scenario: &Arc<Scenario>,
        table: SqliteTable,
        clock: Clock,
        trace: Trace,
    ) -> Arc<Self> {
        Arc::new(Self {
            table,
            written: Default::default(),
            calls: AtomicU64::new(0),
            faults: Mutex::default(),
            scenario: Arc::clone(scenario),
            clock,
            trace,
            done: Mutex::default(),
            known: Mutex::default(),
            capacity: Capacity::default(),
            forgets: scenario
                .spells
                .iter()
                .any(|spell| matches!(spell.what, FaultKind::Stale(_))),
        })
    }

    /// The table as seen by the handler `name`; `chance` decides its faults.
    pub fn table(self: &Arc<Self>, name: &'static str, chance: Chance) -> Arc<dyn Table> {
        Arc::new(Answered(Way {
            net: Arc::clone(self),
            name,
            chance,
        }))
    }

    /// Notifies the stream readers.
    pub fn wake(&self) {
        self.written.iter().for_each(Notify::notify_one);
    }

    /// Carries a request out, and notifies the stream readers of a write. A transaction is done
    /// once, no matter how often its token is repeated.
    async fn carry_out(&self, request: Request) -> Result<Reply> {
        let token = match &request {
            Request::Transact(_, token) => Some(*token),
            _ => None,
        };
        if token.is_some_and(|token| self.done.lock().expect("not poisoned").contains(&token)) {
            return Ok(Reply::Done);
        }
        let writes = matches!(request, Request::Write(_) | Request::Transact(..));
        let reply = request.carry_out(&self.table).await;
        if writes && reply.is_ok() {
            self.wake();
            self.done.lock().expect("not poisoned").extend(token);
        }
        reply
    }
}

/// One handler's connection to the table.
#[derive(Debug, Clone)]
struct Way {
    net: Arc<Net>,
    name: &'static str,
    chance: Chance,
}

/// Why an attempt failed.
enum NoAnswer {
    /// The SDK retries, and returns this error after the last attempt.
    Again(TableError),
    /// The SDK does not retry.
    Final(TableError),
}

impl Way {
    fn fault(&self, request: &Request) -> Fault {
        let ms = self.net.clock.ms();
        if ms >= self.net.scenario.calm_ms {
            return Fault::None;
        }
        let chance = &self.chance;
        let once = |n, fault: Fault| chance.per_mille(n).then_some(fault);
        let either = |n, before: Fault, after: Fault| {
            let fault = if chance.per_mille(500) { before } else { after };
            once(n, fault)
        };
        self.net
            .scenario
            .active_faults(ms, |what| match what {
                FaultKind::Refused(n) => once(n, Fault::Refused),
                FaultKind::Failed(n) => once(n, Fault::Failed),
                FaultKind::Reset(n) => once(n, Fault::Reset),
                FaultKind::ReplyLost(n) => once(n, Fault::ReplyLost),
                FaultKind::Throttled(n) => once(n, Fault::Throttled),
                FaultKind::Slow(n) => {
                    let slow_ms = chance.range(SLOW_MS.0, SLOW_MS.1);
                    either(n, Fault::SlowBefore(slow_ms), Fault::SlowAfter(slow_ms))
                }
                FaultKind::Stale(n) if request.is_eventual() => once(n, Fault::Stale),
                FaultKind::Partial(n)
                    if matches!(request, Request::GetMany(..) | Request::WriteMany(_)) =>
                {
                    once(n, Fault::Partial)
                }
                FaultKind::Conflict(n)
                    if matches!(request, Request::Write(_) | Request::Transact(..)) =>
                {
                    once(n, Fault::Conflict)
                }
                FaultKind::Killed(n) => either(n, Fault::KilledBefore, Fault::KilledAfter),
                _ => None,
            })
            .next()
            .unwrap_or(Fault::None)
    }

    /// A request as the SDK sends it: up to three attempts, within the time limit.
    async fn call(&self, request: Request) -> Result<Reply> {
        let attempts = async {
            for attempt in 0.. {
                match self.attempt(&request).await {
                    Ok(reply) => return Ok(reply),
                    Err(NoAnswer::Final(error)) => return Err(error),
                    Err(NoAnswer::Again(error)) if attempt + 1 == ATTEMPTS => return Err(error),
                    Err(NoAnswer::Again(_)) => sleep_ms(BACKOFF_MS << attempt).await,
                }
            }
            unreachable!("the last attempt returns")
        };
        match timeout(OPERATION_TIMEOUT, attempts).await {
            Ok(reply) => reply,
            Err(_) => Err(unavailable("timed out")),
        }
    }

    async fn attempt(&self, request: &Request) -> Result<Reply, NoAnswer> {
        let net = &self.net;
        net.calls.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault(request);
        if fault != Fault::None {
            self.note(fault, request);
        }
        match fault {
            Fault::Refused => return Err(NoAnswer::Again(unavailable("refused"))),
            Fault::Reset => return Err(NoAnswer::Again(unavailable("connection reset"))),
            // The SDK does not retry a cancelled transaction.
            Fault::Throttled if matches!(request, Request::Transact(..)) => {
                return Err(NoAnswer::Final(TableError::Throttled(
                    "cancelled".to_owned(),
                )));
            }
            Fault::Throttled => {
                return Err(NoAnswer::Again(TableError::Throttled(
                    "a partition".to_owned(),
                )));
            }
            Fault::Conflict if matches!(request, Request::Transact(..)) => {
                return Err(NoAnswer::Final(TableError::Conflict));
            }
            Fault::Conflict => return Err(NoAnswer::Again(TableError::Conflict)),
            Fault::KilledBefore => return die().await,
            Fault::Stale => {
                let known = net
                    .known
                    .lock()
                    .expect("not poisoned")
                    .get(&request.text())
                    .cloned();
                if let Some((_, reply)) = known.filter(|(at, _)| net.clock.ms() - at <= STALE_MS) {
                    sleep_ms(self.chance.range(LATENCY_MS.0, LATENCY_MS.1)).await;
                    return Ok(reply);
                }
            }
            _ => {}
        }
        let hold = match self.partition_wu() {
            Some(units) => match net.capacity.admit(request, units, net.clock.ms()) {
                Ok(hold) => Some(hold),
                Err(error) => return Err(self.refused(error, request)),
            },
            None => None,
        };
        if hold.is_some() && matches!(request, Request::Transact(..)) {
            sleep_ms(self.chance.range(HOLD_MS.0, HOLD_MS.1)).await;
        }
        let reply = match fault {
            Fault::Partial => self.in_part(request.clone()).await,
            // It arrives even if the sender has died.
            Fault::SlowBefore(ms) => {
                let (net, request) = (Arc::clone(net), request.clone());
                let arrived = tokio::spawn(async move {
                    sleep_ms(ms).await;
                    net.carry_out(request).await
                });
                match arrived.await {
                    Ok(reply) => reply,
                    Err(_) => return die().await,
                }
            }
            _ => net.carry_out(request.clone()).await,
        };
        drop(hold);
        net.trace
            .note(request.name(), u16::from(reply.is_ok()), net.clock.ms());
        net.trace.note_whole(|| request.text());
        if let Ok(reply) = &reply
            && net.forgets
            && request.is_eventual()
        {
            let mut known = net.known.lock().expect("not poisoned");
            known.insert(request.text(), (net.clock.ms(), reply.clone()));
        }
        match fault {
            Fault::KilledAfter => return die().await,
            Fault::SlowAfter(ms) => sleep_ms(ms).await,
            _ => sleep_ms(self.chance.range(LATENCY_MS.0, LATENCY_MS.1)).await,
        }
        match fault {
            Fault::ReplyLost => Err(NoAnswer::Again(unavailable("connection reset"))),
            Fault::Failed => Err(NoAnswer::Again(unavailable("internal error"))),
            _ => reply.map_err(NoAnswer::Final),
        }
    }

    /// The write units per second that a partition takes now, if they are limited.
    fn partition_wu(&self) -> Option<u16> {
        let ms = self.net.clock.ms();
        let units = |what| match what {
            FaultKind::Capacity(units) => Some(units),
            _ => None,
        };
        let scenario = &self.net.scenario;
        let mut active = scenario.active_faults(ms, units);
        active.next().filter(|_| ms < scenario.calm_ms)
    }

    /// A request that DynamoDB can't take now. The SDK does not retry a cancelled transaction.
    fn refused(&self, error: TableError, request: &Request) -> NoAnswer {
        let fault = match error {
            TableError::Conflict => Fault::Conflict,
            _ => Fault::Throttled,
        };
        self.note(fault, request);
        match request {
            Request::Transact(..) => NoAnswer::Final(error),
            _ => NoAnswer::Again(error),
        }
    }

    fn note(&self, fault: Fault, request: &Request) {
        let net = &self.net;
        // A stale read or a partial batch is not a failure.
        if !matches!(fault, Fault::Stale | Fault::Partial) {
            net.faults.lock().expect("not poisoned").push(Faulty {
                at_ms: net.clock.ms(),
                doubtful: matches!(
                    fault,
                    Fault::Failed | Fault::ReplyLost | Fault::SlowBefore(_) | Fault::SlowAfter(_)
                ),
                asked: request.text(),
            });
        }
        net.trace.say(|| {
            format!(
                "{} {} {fault:?} {}",
                self.name,
                request.name(),
                request.about()
            )
        });
    }

    /// Processes the first part of a batch, and returns the rest as unprocessed.
    async fn in_part(&self, request: Request) -> Result<Reply> {
        let kept = |all: usize| {
            let most = i64::try_from(all).expect("few") - 1;
            usize::try_from(self.chance.range(1, most.max(1))).expect("few")
        };
        match request {
            Request::GetMany(mut keys, read) if keys.len() > 1 => {
                let left = keys.split_off(kept(keys.len()));
                let mut batch = self.net.table.get_many(keys, read).await?;
                batch.unprocessed = left;
                Ok(Reply::Batch(batch))
            }
            Request::WriteMany(mut writes) if writes.len() > 1 => {
                let left = writes.split_off(kept(writes.len()));
                self.net.table.write_many(writes).await?;
                Ok(Reply::Left(left))
            }
            whole => self.net.carry_out(whole).await,
        }
    }
}

fn unavailable(why: &str) -> TableError {
    TableError::Unavailable(why.to_owned())
}

/// Kills the current invocation; never returns.
pub async fn die<T>() -> T {
    if let Ok(life) = LIFE.try_with(Life::clone) {
        life.kill();
    }
    pending().await
}

/// Answers every kind of request.
pub trait Answer: fmt::Debug + Send + Sync + 'static {
    fn answer(&self, request: Request) -> Call<'_, Reply>;
}

/// A table that is one function.
#[derive(Debug)]
pub struct Answered<A>(pub A);

impl Answer for Way {
    fn answer(&self, request: Request) -> Call<'_, Reply> {
        Box::pin(self.call(request))
    }
}

/// Makes a call and unwraps the matching kind of reply.
macro_rules! answered {
    ($way:ident, $request:expr, $reply:pat => $value:expr) => {
        Box::pin(async move {
            match $way.0.answer($request).await? {
                $reply => Ok($value),
                other => unreachable!("unexpected kind of reply: {other:?}"),
            }
        })
    };
}

impl<A: Answer> Table for Answered<A> {
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>> {
        answered!(self, Request::Get(key, read), Reply::Item(item) => item)
    }

    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch> {
        answered!(self, Request::GetMany(keys, read), Reply::Batch(batch) => batch)
    }

    fn query(&self, query: Query) -> Call<'_, Page> {
        answered!(self, Request::Query(query), Reply::Page(page) => page)
    }

    fn write(&self, write: Write) -> Call<'_, Option<Item>> {
        answered!(self, Request::Write(write), Reply::Item(item) => item)
    }

    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>> {
        answered!(self, Request::WriteMany(writes), Reply::Left(left) => left)
    }

    fn transact(&self, writes: Vec<Write>, token: Uuid) -> Call<'_, ()> {
        answered!(self, Request::Transact(writes, token), Reply::Done => ())
    }
}
