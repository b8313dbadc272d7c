//! The handlers, surrounded by stand-ins for Lambda, EventBridge, SQS and the stream.

mod clockwork;
mod hooks;
mod wire;

pub use hooks::summary;

use super::chance::{Chance, Clock, Skewed, sleep_ms};
use super::history::{History, Outcome};
use super::net::{LIFE, Life, Net};
use super::scenario::{FaultKind, Place, Scenario, Spell};
use super::trace::Trace;
use crate::TABLE;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::future::{Either, select};
use hooks::{Hooks, NameServer};
use http_body_util::BodyExt;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use thrum_evaluate::{Evaluate, Pulse, Schedule};
use thrum_ingest::App;
use thrum_notify::send::{Email, EventBridge, Http, Mail, Sns};
use thrum_notify::{Config, Notify, Sender};
use thrum_schema::network::Networks;
use thrum_schema::{Plans, World};
use thrum_store::Store;
use thrum_store::table::Table;
use tokio::sync::Semaphore;
use tower::ServiceExt;
use wire::{OwnPing, Wire};

/// How long the process takes to restart after a crash, in milliseconds.
const RESTART_MS: (i64, i64) = (200, 20_000);
/// The longest time between two ticks after the faults, in milliseconds.
pub const CALM_TICK_MS: i64 = 30_000;
/// The gap between pulses that counts as an outage, the interval between pulses, in
/// milliseconds, and the pings of a pulse.
const SERVE_PULSE: (i64, i64, usize) = (60_000, 5_000, 3);
const LAMBDA_PULSE: (i64, i64, usize) = (150_000, 30_000, 3);

/// Most messages of the work queue that are handled at a time, as `MaximumConcurrency` in the template says.
const CONSUMERS: usize = 5;
/// How many pieces of other projects' long work wait for a consumer, and how long each takes, in
/// milliseconds.
const LONG_WORK: (usize, (i64, i64)) = (15, (20_000, 110_000));
/// Requests per second that an execution environment takes, and the most that other hosts send to all.
const ENVIRONMENT: i64 = 10;
const OTHER_HOSTS: i64 = 40;

/// The status of a request that the front door refused; Thrum itself never uses it.
const TURNED_AWAY: StatusCode = StatusCode::IM_A_TEAPOT;

/// The handlers of one process or one set of functions.
#[derive(Clone)]
pub struct Handlers {
    pub store: Store,
    pub router: Router,
    evaluate: Evaluate,
    notify: Notify,
    pulse: Arc<Pulse>,
}

/// A host of handlers: its clock, its connection to the table, and handlers that a deployment may
/// replace.
struct Node {
    name: &'static str,
    world: Arc<Skewed>,
    table: Arc<dyn Table>,
    handlers: Mutex<Handlers>,
    /// The invocations in progress.
    lives: Mutex<Vec<Life>>,
}

/// What the schedule calls for.
enum Call {
    Tick,
    Sweep(Range<u16>),
}

/// The running simulation.
pub struct Cast {
    pub scenario: Arc<Scenario>,
    pub clock: Clock,
    pub net: Arc<Net>,
    pub trace: Trace,
    pub chance: Chance,
    nodes: Vec<Node>,
    me: Weak<Self>,
    history: Mutex<History>,
    /// Number of crashes so far: messages in flight from before a crash are lost.
    process: AtomicU64,
    /// When the restarting process is back.
    down_until_ms: Mutex<i64>,
    /// The consumers of the work queue that are free.
    consumers: Semaphore,
}

impl fmt::Debug for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cast")
    }
}

impl Cast {
    /// Sets up all handlers on a prepared table.
    pub fn new(scenario: &Arc<Scenario>, clock: Clock, net: &Arc<Net>, trace: &Trace) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let names: &[&'static str] = match scenario.place {
                Place::Serve { .. } => &["serve"],
                Place::Lambda => &["a", "b"],
            };
            let nodes = names
                .iter()
                .zip(scenario.skews_ms)
                .map(|(name, skew_ms)| {
                    let world = Skewed::new(
                        clock,
                        skew_ms,
                        scenario.clock_step,
                        Chance::new(scenario.seed, &format!("world {name}")),
                    );
                    let table = net.table(name, Chance::new(scenario.seed, &format!("net {name}")));
                    Node {
                        name,
                        handlers: Mutex::new(handlers(name, &world, &table, scenario, weak)),
                        world,
                        table,
                        lives: Mutex::default(),
                    }
                })
                .collect();
            Self {
                scenario: Arc::clone(scenario),
                clock,
                net: Arc::clone(net),
                trace: trace.clone(),
                chance: Chance::new(scenario.seed, "cast"),
                nodes,
                me: Weak::clone(weak),
                history: Mutex::default(),
                process: AtomicU64::new(0),
                down_until_ms: Mutex::new(0),
                consumers: Semaphore::new(CONSUMERS),
            }
        })
    }

    /// What was recorded so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("not poisoned")
    }

    fn serves(&self) -> bool {
        matches!(self.scenario.place, Place::Serve { .. })
    }

    fn node(&self) -> &Node {
        self.chance.pick(&self.nodes)
    }

    /// The handlers of the first node.
    pub fn handlers(&self) -> Handlers {
        self.nodes[0].handlers.lock().expect("not poisoned").clone()
    }

    /// Whether a fault that `of` selects hits now, by its frequency.
    fn is_hit_by(&self, of: impl Fn(FaultKind) -> Option<u16>) -> bool {
        let ms = self.clock.ms();
        let active_faults: Vec<u16> = self.scenario.active_faults(ms, of).collect();
        ms < self.scenario.calm_ms && active_faults.into_iter().any(|n| self.chance.per_mille(n))
    }

    /// Whether all of Thrum is unavailable. It also is after the end of the scenario.
    pub fn is_away(&self) -> bool {
        let ms = self.clock.ms();
        if ms >= self.scenario.end_ms {
            return true;
        }
        let away = |what| matches!(what, FaultKind::Away).then_some(());
        self.scenario.active_faults(ms, away).next().is_some()
            || ms < *self.down_until_ms.lock().expect("not poisoned")
    }

    /// Invokes a handler; `None` if Thrum is unavailable or the handler was killed.
    async fn invoke<T, F>(&self, node: &Node, act: impl FnOnce(Handlers) -> F) -> Option<T>
    where
        F: Future<Output = T>,
    {
        if self.is_away() {
            return None;
        }
        let handlers = node.handlers.lock().expect("not poisoned").clone();
        let life = Life::default();
        node.lives.lock().expect("not poisoned").push(life.clone());
        let own = life.clone();
        let done = LIFE.scope(own, async {
            let act = pin!(act(handlers));
            let killed = pin!(life.killed());
            match select(act, killed).await {
                Either::Left((done, _)) => Some(done),
                Either::Right(_) => None,
            }
        });
        let done = done.await;
        node.lives
            .lock()
            .expect("not poisoned")
            .retain(|other| !other.is(&life));
        if done.is_none() {
            self.history().kills.push(self.clock.ms());
            self.trace.say(|| format!("{} was killed", node.name));
            if self.serves() {
                self.die(node);
            } else {
                self.renew(node);
            }
        }
        done
    }

    /// Kills the process and everything in progress; it restarts after a while.
    fn die(&self, node: &Node) {
        let ms = self.clock.ms();
        let mut down = self.down_until_ms.lock().expect("not poisoned");
        if ms < *down {
            return;
        }
        *down = ms + self.chance.range(RESTART_MS.0, RESTART_MS.1);
        self.process.fetch_add(1, Ordering::Relaxed);
        self.trace.say(|| {
            format!(
                "the process died; it is back at {:.3} s",
                *down as f64 / 1000.0
            )
        });
        let lives = std::mem::take(&mut *node.lives.lock().expect("not poisoned"));
        lives.iter().for_each(Life::kill);
        self.renew(node);
    }

    /// Replaces a node's handlers with new ones that have nothing in memory.
    fn renew(&self, node: &Node) {
        let new = handlers(
            node.name,
            &node.world,
            &node.table,
            &self.scenario,
            &self.me,
        );
        *node.handlers.lock().expect("not poisoned") = new;
    }

    /// Deploys a new version to all nodes.
    fn deploy(&self) {
        self.trace.say(|| "a new version is deployed".to_owned());
        for node in &self.nodes {
            self.renew(node);
            if self.serves() {
                // Unlike the real server, this one does not wait for requests in progress.
                self.history().kills.push(self.clock.ms());
                self.die(node);
            }
        }
    }

    /// Whether the front door admits nobody.
    pub fn is_shut(&self) -> bool {
        let shut = |what| matches!(what, FaultKind::Shut).then_some(());
        let mut spells = self.scenario.active_faults(self.clock.ms(), shut);
        spells.next().is_some()
    }

    /// Whether the front door refuses this request.
    pub fn turns_away(&self) -> bool {
        let by_chance = self.is_hit_by(|what| match what {
            FaultKind::TurnedAway(n) => Some(n),
            _ => None,
        });
        by_chance || self.lacks_environments()
    }

    /// Whether other hosts have used up this second's share of all execution environments.
    fn lacks_environments(&self) -> bool {
        let ms = self.clock.ms();
        let mut spells = self.scenario.active_faults(ms, |what| match what {
            FaultKind::Environments(n) => Some(i64::from(n)),
            _ => None,
        });
        let Some(environments) = spells.next() else {
            return false;
        };
        // What they send changes every ten seconds, and is spread evenly over a second.
        let chance = Chance::new(self.scenario.seed, &format!("other hosts {}", ms / 10_000));
        let before = chance.range(0, OTHER_HOSTS) * (ms % 1_000) / 1_000;
        before >= environments * ENVIRONMENT
    }

    /// Long work of other projects, as long as the spell lasts.
    async fn work_long(self: Arc<Self>, spell: Spell) {
        self.clock.until(spell.from_ms).await;
        while spell.holds(self.clock.ms()) {
            let _consumer = self.consumers.acquire().await.expect("never closed");
            sleep_ms(self.chance.range(LONG_WORK.1.0, LONG_WORK.1.1)).await;
        }
    }

    /// Sends a client's request over the network. If the client gives up, the handler still
    /// continues.
    pub async fn request(self: &Arc<Self>, request: Request<Body>) -> Option<(StatusCode, String)> {
        let network = |what| match what {
            FaultKind::Network(n) => Some(n),
            _ => None,
        };
        sleep_ms(self.chance.range(1, 20)).await;
        if self.is_hit_by(network) || self.is_shut() {
            return None;
        }
        if self.turns_away() {
            return Some((TURNED_AWAY, String::new()));
        }
        let lost = self.is_hit_by(network);
        let patience = Duration::from_millis(self.chance.range(5_000, 35_000).unsigned_abs());
        let cast = Arc::clone(self);
        let handled = tokio::spawn(async move {
            let node = cast.node();
            cast.invoke(node, |handlers| answer(handlers.router, request))
                .await
        });
        let reply = tokio::time::timeout(patience, handled).await.ok()?.ok()??;
        sleep_ms(self.chance.range(1, 20)).await;
        (!lost).then_some(reply)
    }

    /// Starts the background tasks: streams, schedule, TTL removals and deployments.
    pub fn start(self: &Arc<Self>) {
        let shards = if self.serves() { 1 } else { 2 };
        for shard in 0..shards {
            tokio::spawn(Arc::clone(self).stream(shard, shards));
        }
        match self.scenario.place {
            Place::Serve { tick_ms } => {
                tokio::spawn(Arc::clone(self).ticker(tick_ms));
            }
            Place::Lambda => {
                tokio::spawn(Arc::clone(self).schedule());
            }
        }
        for at_ms in self.scenario.removals_ms.clone() {
            let cast = Arc::clone(self);
            tokio::spawn(async move {
                cast.clock.until(at_ms).await;
                let now = cast.clock.now().secs();
                let removed = cast.net.table.remove_expired(now).await;
                let removed = removed.expect("the table removes expired items");
                cast.trace.say(|| format!("TTL removed {removed} items"));
                cast.net.wake();
            });
        }
        for spell in &self.scenario.spells {
            if spell.what == FaultKind::Deploy {
                let (cast, at_ms) = (Arc::clone(self), spell.from_ms);
                tokio::spawn(async move {
                    cast.clock.until(at_ms).await;
                    cast.deploy();
                });
            }
            if spell.what == FaultKind::LongWork {
                for _ in 0..LONG_WORK.0 {
                    tokio::spawn(Arc::clone(self).work_long(spell.clone()));
                }
            }
        }
    }
}

/// Sends a request to ingest and returns status and body.
pub async fn answer(router: Router, request: Request<Body>) -> (StatusCode, String) {
    let reply = match router.oneshot(request).await {
        Ok(reply) => reply,
        Err(never) => match never {},
    };
    let status = reply.status();
    let body = reply
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// New handlers, with nothing in memory.
fn handlers(
    name: &'static str,
    world: &Arc<Skewed>,
    table: &Arc<dyn Table>,
    scenario: &Scenario,
    cast: &Weak<Cast>,
) -> Handlers {
    let shared: Arc<dyn World> = world.clone();
    let serves = matches!(scenario.place, Place::Serve { .. });
    let store = Store::new(
        Arc::clone(table),
        TABLE,
        scenario.shards(),
        Arc::clone(&shared),
    );
    let config = thrum_ingest::Config {
        networks: Networks::all(),
        ..thrum_ingest::Config::default()
    };
    let router = thrum_ingest::router(App::new(store.clone(), config));
    let wire = Arc::new(Wire::new(cast));
    let door = OwnPing(Weak::clone(cast), serves.then(|| router.clone()));
    let (gap_ms, every_ms, pings) = if serves { SERVE_PULSE } else { LAMBDA_PULSE };
    let mut evaluate = Evaluate::new(store.clone(), wire.clone(), name, gap_ms);
    evaluate = if serves {
        evaluate.watching_clock()
    } else {
        let pulse = Pulse::new(Arc::new(door.clone()), every_ms, pings);
        // An invocation for each shard.
        let schedule = Schedule::new(pulse, 1);
        evaluate
            .with_timer_queue(Arc::new(Wire::of_timers(cast)))
            .on_schedule(schedule)
    };
    let sender = Sender {
        http: Http::by(
            Hooks(Weak::clone(cast)),
            Arc::new(NameServer(Weak::clone(cast))),
            shared,
        ),
        mail: Mail::Smtp(Email::new("thrum@example.org", None).expect("a printer")),
        sns: Sns::lazy(|| unreachable!("no channel uses SNS")),
        eventbridge: EventBridge::lazy(|| unreachable!("no channel uses EventBridge")),
    };
    let config = Config {
        delivery_window_ms: 86_400_000,
        max_at_once: thrum_notify::MAX_AT_ONCE,
        site_url: None,
        confirm: None,
        plans: Plans::default(),
    };
    let notify = Notify::new(store.clone(), sender, wire, config);
    Handlers {
        store,
        router,
        evaluate,
        notify,
        pulse: Arc::new(Pulse::new(Arc::new(door), every_ms, pings)),
    }
}

/// What a client concludes from a response.
pub fn outcome(reply: Option<&(StatusCode, String)>) -> Outcome {
    match reply {
        Some((status, _)) if status.is_success() => Outcome::Done,
        Some((status, _)) if *status == TURNED_AWAY => Outcome::TurnedAway,
        // Thrum was too slow, and may have done it.
        Some((status, _)) if *status == StatusCode::REQUEST_TIMEOUT => Outcome::Unknown,
        Some((status, _)) if status.is_client_error() => Outcome::Refused(status.as_u16()),
        _ => Outcome::Unknown,
    }
}
