//! Two replicas and the fence: the ways to them, and replication between them.
//!
//! Replication copies whole items, each at its own time: late, in any order, several writes of an item sometimes as one.
//! The last writer wins, by the clock of its replica's region. A region that is gone sends what is left when it is back.

use super::plan::{Plan, Trouble};
use crate::sim::chance::{Chance, Clock, Skewed, sleep_ms};
use crate::sim::net::{Answer, Answered, Reply, Request, die};
use crate::sim::trace::Trace;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use thrum_schema::World;
use thrum_schema::fence::Fence;
use thrum_store::key::Key;
use thrum_store::regions::FenceTable;
use thrum_store::sqlite::{Options, SqliteTable};
use thrum_store::table::{Call, Item, Read, Result, Table, TableError, delete, put};
use tokio::sync::Notify;
use uuid::Uuid;

/// How long a call takes, within a region and to the other one, in milliseconds.
const NEAR_MS: (i64, i64) = (1, 6);
const FAR_MS: (i64, i64) = (15, 60);
/// How long a call that hangs takes, in milliseconds: longer than its caller waits.
const HANGS_MS: i64 = 10_000;
/// How late a late call arrives at most, in milliseconds: the flight time of the protocol.
const LATE_MS: (i64, i64) = (500, 12_000);
/// How often replication looks for what is due, in milliseconds.
const STEP_MS: i64 = 100;

/// When an item was written, by the clock of its region; the rest only breaks ties.
type Stamp = (i64, usize, u64);

/// An item on its way to the other replica.
#[derive(Debug)]
struct Copy {
    due_ms: i64,
    key: Key,
    item: Option<Item>,
    stamp: Stamp,
}

/// Both replicas and the fence.
pub struct Replicas {
    pub tables: [SqliteTable; 2],
    pub fence: SqliteTable,
    /// Notifies the stream reader of each region.
    pub written: [Notify; 2],
    pub calls: AtomicU64,
    /// Writes to a replica whose region was not active.
    pub foreign: Mutex<Vec<String>>,
    /// Whether the setup is over.
    pub begun: std::sync::atomic::AtomicBool,
    plan: Arc<Plan>,
    clock: Clock,
    trace: Trace,
    worlds: [Arc<Skewed>; 2],
    chance: Chance,
    stamps: Mutex<[HashMap<Key, Stamp>; 2]>,
    /// What each region still has to send, in the order of its writes.
    copies: Mutex<[BTreeMap<u64, Copy>; 2]>,
    done: Mutex<HashSet<Uuid>>,
    n: AtomicU64,
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replicas")
    }
}

impl Replicas {
    pub fn new(
        plan: &Arc<Plan>,
        clock: Clock,
        trace: &Trace,
        worlds: [Arc<Skewed>; 2],
    ) -> Arc<Self> {
        let table = || SqliteTable::in_memory(Options::default()).expect("a table");
        Arc::new(Self {
            tables: [table(), table()],
            fence: table(),
            written: Default::default(),
            calls: AtomicU64::new(0),
            foreign: Mutex::default(),
            begun: false.into(),
            chance: Chance::new(plan.seed, "replication"),
            plan: Arc::clone(plan),
            clock,
            trace: trace.clone(),
            worlds,
            stamps: Mutex::default(),
            copies: Mutex::default(),
            done: Mutex::default(),
            n: AtomicU64::new(0),
        })
    }

    /// The way of a process in region `from` to a replica, or to the fence (`None`).
    pub fn way(self: &Arc<Self>, from: usize, to: Option<usize>) -> Arc<dyn Table> {
        let label = format!("way {from} {to:?}");
        Arc::new(Answered(Way {
            replicas: Arc::clone(self),
            from,
            to,
            chance: Chance::new(self.plan.seed, &label),
        }))
    }

    /// The fence as stored, whether or not a region reaches it.
    pub async fn fence(&self) -> Fence {
        let fence = FenceTable::new(Arc::new(self.fence.clone()), "fence");
        let read = fence.read().await.expect("the fence can be read");
        read.expect("there is a fence")
    }

    /// The index of the active region.
    pub async fn active(&self) -> usize {
        usize::from(self.fence().await.active.0 == "b")
    }

    /// Copies the table of the first region, before anything happens.
    pub async fn copy_all(&self) {
        for item in self.tables[0].items().await.expect("items") {
            self.tables[1].write(put(item)).await.expect("a copy");
        }
    }

    /// Notes what was written to a replica, so that it is replicated.
    async fn note(&self, replica: usize, keys: Vec<Key>) {
        for key in keys {
            let item = self.tables[replica].get(key.clone(), Read::Consistent);
            let item = item.await.expect("the item can be read");
            let n = self.n.fetch_add(1, Ordering::Relaxed);
            let stamp = (self.worlds[replica].now().0, replica, n);
            self.stamps.lock().expect("not poisoned")[replica].insert(key.clone(), stamp);
            let (usual, most) = self.plan.lag_ms;
            let late_ms = match self.chance.per_mille(800) {
                true => self.chance.range(20, usual),
                false => self.chance.range(20, most),
            };
            let mut copies = self.copies.lock().expect("not poisoned");
            let copies = &mut copies[replica];
            if self.chance.per_mille(500)
                && let Some(earlier) = copies.values_mut().find(|copy| copy.key == key)
            {
                (earlier.item, earlier.stamp) = (item, stamp);
                continue;
            }
            let due_ms = self.clock.ms() + late_ms;
            copies.insert(
                n,
                Copy {
                    due_ms,
                    key,
                    item,
                    stamp,
                },
            );
        }
    }

    /// Replicates what is due, as long as the simulation runs.
    pub async fn replicate(self: Arc<Self>) {
        loop {
            sleep_ms(STEP_MS).await;
            let ms = self.clock.ms();
            let stands = |what| matches!(what, Trouble::Stuck | Trouble::Dead(_));
            if self.plan.troubles(ms).any(stands) {
                continue;
            }
            for from in 0..2 {
                self.send(from, ms).await;
            }
        }
    }

    async fn send(&self, from: usize, ms: i64) {
        let to = 1 - from;
        let due: Vec<Copy> = {
            let mut copies = self.copies.lock().expect("not poisoned");
            let due = copies[from].iter().filter(|(_, copy)| copy.due_ms <= ms);
            let mut due: Vec<(i64, u64)> = due.map(|(n, copy)| (copy.due_ms, *n)).collect();
            due.sort_unstable();
            due.iter()
                .filter_map(|(_, n)| copies[from].remove(n))
                .collect()
        };
        for copy in due {
            let is_newer = {
                let mut stamps = self.stamps.lock().expect("not poisoned");
                let known = stamps[to].get(&copy.key);
                let newer = known.is_none_or(|known| *known < copy.stamp);
                if newer {
                    stamps[to].insert(copy.key.clone(), copy.stamp);
                }
                newer
            };
            self.trace.say(|| {
                let Key { pk, sk } = &copy.key;
                let fate = if is_newer { "arrives" } else { "is older" };
                format!("replicated to {to}: {pk} / {sk} {fate}")
            });
            if !is_newer {
                continue;
            }
            let write = match copy.item {
                Some(item) => put(item),
                None => delete(copy.key),
            };
            self.tables[to].write(write).await.expect("a copy");
            self.written[to].notify_one();
        }
    }

    /// Whether everything was replicated.
    pub fn is_settled(&self) -> bool {
        let copies = self.copies.lock().expect("not poisoned");
        copies.iter().all(BTreeMap::is_empty)
    }

    /// Carries out a request at a replica or the fence, once per transaction.
    async fn carry_out(&self, from: usize, to: Option<usize>, request: Request) -> Result<Reply> {
        let token = match &request {
            Request::Transact(_, token) => Some(*token),
            _ => None,
        };
        if token.is_some_and(|token| self.done.lock().expect("not poisoned").contains(&token)) {
            return Ok(Reply::Done);
        }
        let table = to.map_or(&self.fence, |replica| &self.tables[replica]);
        let keys = request.written();
        if let (Some(replica), false) = (to, keys.is_empty())
            && self.begun.load(Ordering::Relaxed)
        {
            let active = self.active().await;
            if active != replica {
                let about = request.about();
                let how = format!(
                    "{:.3} s: region {from} wrote to replica {replica}, but {active} is active: {about}",
                    self.clock.ms() as f64 / 1_000.0
                );
                self.trace.say(|| how.clone());
                self.foreign.lock().expect("not poisoned").push(how);
            }
        }
        let reply = request.carry_out(table).await?;
        self.done.lock().expect("not poisoned").extend(token);
        if let (Some(replica), false) = (to, keys.is_empty()) {
            if self.begun.load(Ordering::Relaxed) {
                self.note(replica, keys).await;
            }
            self.written[replica].notify_one();
        }
        Ok(reply)
    }
}

/// The way of a process to a replica, or to the fence.
#[derive(Debug)]
struct Way {
    replicas: Arc<Replicas>,
    from: usize,
    to: Option<usize>,
    chance: Chance,
}

impl Way {
    /// A call as the SDK makes it: a transient failure is retried once.
    async fn call(&self, request: Request) -> Result<Reply> {
        match self.attempt(request.clone()).await {
            Err(TableError::Unavailable(_)) => {
                sleep_ms(200).await;
                self.attempt(request).await
            }
            done => done,
        }
    }

    async fn attempt(&self, request: Request) -> Result<Reply> {
        let Replicas {
            plan, clock, trace, ..
        } = self.replicas.as_ref();
        self.replicas.calls.fetch_add(1, Ordering::Relaxed);
        let is_far = self.to.is_some_and(|to| to != self.from);
        let (least, most) = if is_far { FAR_MS } else { NEAR_MS };
        sleep_ms(self.chance.range(least, most)).await;
        let ms = clock.ms();
        let is_gone = self.to.is_some_and(|to| plan.is_dead(to, ms));
        let is_cut = self.to.is_none()
            && plan
                .troubles(ms)
                .any(|what| what == Trouble::Cut(self.from));
        if is_gone || is_cut {
            if self.chance.per_mille(300) {
                sleep_ms(HANGS_MS).await;
            }
            return Err(unavailable("the connection failed"));
        }
        let chance = &self.chance;
        let fault = plan.troubles(ms).find(|what| match what {
            Trouble::Refused(n) | Trouble::ReplyLost(n) | Trouble::Late(n) | Trouble::Killed(n) => {
                chance.per_mille(*n)
            }
            _ => false,
        });
        if let Some(fault) = fault {
            trace.say(|| {
                format!(
                    "{} to {:?}: {fault:?} {} {}",
                    self.from,
                    self.to,
                    request.name(),
                    request.about()
                )
            });
        }
        match fault {
            Some(Trouble::Refused(_)) => return Err(unavailable("refused")),
            Some(Trouble::Killed(_)) if chance.per_mille(500) => return die().await,
            Some(Trouble::Late(_)) => {
                let (replicas, from, to) = (Arc::clone(&self.replicas), self.from, self.to);
                let late_ms = chance.range(LATE_MS.0, LATE_MS.1);
                let arrived = tokio::spawn(async move {
                    sleep_ms(late_ms).await;
                    replicas.carry_out(from, to, request).await
                });
                return match arrived.await {
                    Ok(reply) => reply,
                    Err(_) => die().await,
                };
            }
            _ => {}
        }
        let name = request.name();
        let reply = self.replicas.carry_out(self.from, self.to, request).await;
        trace.note(name, u16::from(reply.is_ok()), clock.ms());
        match fault {
            Some(Trouble::Killed(_)) => die().await,
            Some(Trouble::ReplyLost(_)) => Err(unavailable("connection reset")),
            _ => reply,
        }
    }
}

fn unavailable(why: &str) -> TableError {
    TableError::Unavailable(why.to_owned())
}

impl Answer for Way {
    fn answer(&self, request: Request) -> Call<'_, Reply> {
        Box::pin(self.call(request))
    }
}
