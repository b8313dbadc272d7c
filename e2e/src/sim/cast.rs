//! The handlers, and what plays Lambda, EventBridge, SQS and the stream around them.

use super::chance::{Chance, Clock, Skewed, sleep_ms};
use super::history::{Delivered, History, Outcome};
use super::net::{LIFE, Life, Net, die};
use super::plan::{Place, Plan, Trouble};
use super::trace::Trace;
use aws_lambda_events::event::dynamodb::Event;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::future::{BoxFuture, Either, join_all, select};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use thrum::engine::TABLE;
use thrum_evaluate::{Bus, BusError, Evaluate, FrontDoor, Pulse};
use thrum_ingest::App;
use thrum_notify::send::{Email, Mail, Post, Posted, SendError, Sns, Webhook};
use thrum_notify::{Config, Notify, Sender};
use thrum_schema::queue::{Later, LaterError};
use thrum_schema::work::Work;
use thrum_schema::{MonitorId, Plans, Store, World};
use tower::ServiceExt;

/// How often a message is received before it goes to the dead letters.
const MAX_RECEIVES: u32 = 5;
/// How long a message is hidden from others while it is handled, in milliseconds.
const VISIBILITY_MS: i64 = 60_000;
/// How long a receiver may take, in milliseconds.
const HOOK_TIMEOUT_MS: i64 = 10_000;
/// How long the process takes to come back after it died, in milliseconds.
const RESTART_MS: (i64, i64) = (200, 20_000);
/// How long stream records that were handled are kept, and handled again after a crash, in milliseconds.
const REPLAYED_MS: i64 = 5_000;
/// The longest time between two ticks where nothing goes wrong any more, in milliseconds.
pub const CALM_TICK_MS: i64 = 30_000;
/// The gap between pulses that is an outage, and how often a pulse is sent, in milliseconds.
const SERVE_PULSE: (i64, i64) = (60_000, 5_000);
const LAMBDA_PULSE: (i64, i64) = (150_000, 30_000);

/// The handlers of one process, or of one set of functions.
#[derive(Clone)]
pub struct Handlers {
    pub store: Store,
    pub router: Router,
    evaluate: Evaluate,
    notify: Notify,
    pulse: Arc<Pulse>,
}

/// Where handlers run: a clock of its own, a way to the table, and a version that may be replaced.
struct Node {
    name: &'static str,
    world: Arc<Skewed>,
    client: aws_sdk_dynamodb::Client,
    handlers: Mutex<Handlers>,
    /// The invocations that are under way.
    lives: Mutex<Vec<Life>>,
}

/// The simulation.
pub struct Cast {
    pub plan: Arc<Plan>,
    pub clock: Clock,
    pub net: Arc<Net>,
    pub trace: Trace,
    pub chance: Chance,
    nodes: Vec<Node>,
    me: Weak<Self>,
    history: Mutex<History>,
    /// Counts the deaths of the process: what was on its way in an earlier one is gone.
    process: AtomicU64,
    /// Until when nothing is there, because the process starts again.
    down_until_ms: Mutex<i64>,
}

impl fmt::Debug for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cast")
    }
}

impl Cast {
    /// Everything, on a table that is prepared, before anything goes wrong.
    pub fn new(plan: &Arc<Plan>, clock: Clock, net: &Arc<Net>, trace: &Trace) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let names: &[&'static str] = match plan.place {
                Place::Serve { .. } => &["serve"],
                Place::Lambda => &["a", "b"],
            };
            let nodes = names
                .iter()
                .zip(plan.skews_ms)
                .map(|(name, skew_ms)| {
                    let world = Skewed::new(
                        clock,
                        skew_ms,
                        Chance::new(plan.seed, &format!("world {name}")),
                    );
                    let client = net.client(name, Chance::new(plan.seed, &format!("net {name}")));
                    Node {
                        name,
                        handlers: Mutex::new(handlers(name, &world, &client, plan, weak)),
                        world,
                        client,
                        lives: Mutex::default(),
                    }
                })
                .collect();
            Self {
                plan: Arc::clone(plan),
                clock,
                net: Arc::clone(net),
                trace: trace.clone(),
                chance: Chance::new(plan.seed, "cast"),
                nodes,
                me: Weak::clone(weak),
                history: Mutex::default(),
                process: AtomicU64::new(0),
                down_until_ms: Mutex::new(0),
            }
        })
    }

    /// What is known so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("not poisoned")
    }

    fn serves(&self) -> bool {
        matches!(self.plan.place, Place::Serve { .. })
    }

    fn node(&self) -> &Node {
        self.chance.pick(&self.nodes)
    }

    /// The handlers of the first node.
    pub fn handlers(&self) -> Handlers {
        self.nodes[0].handlers.lock().expect("not poisoned").clone()
    }

    /// Whether a trouble that comes so often meets this.
    fn meets(&self, of: impl Fn(Trouble) -> Option<u16>) -> bool {
        let ms = self.clock.ms();
        let troubles: Vec<u16> = self.plan.troubles(ms, of).collect();
        ms < self.plan.calm_ms && troubles.into_iter().any(|n| self.chance.per_mille(n))
    }

    /// Whether nothing is there at all.
    pub fn is_away(&self) -> bool {
        let ms = self.clock.ms();
        let away = |what| matches!(what, Trouble::Away).then_some(());
        self.plan.troubles(ms, away).next().is_some()
            || ms < *self.down_until_ms.lock().expect("not poisoned")
    }

    /// Lets a handler do something; `None` if nothing is there, or it was killed.
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
            self.history().kills += 1;
            self.trace.say(|| format!("{} was killed", node.name));
            if self.serves() {
                self.die(node);
            } else {
                self.renew(node);
            }
        }
        done
    }

    /// The process dies, with all that is under way in it, and starts again after a while.
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

    /// Replaces a node's handlers by new ones, with nothing in their memory.
    fn renew(&self, node: &Node) {
        let new = handlers(node.name, &node.world, &node.client, &self.plan, &self.me);
        *node.handlers.lock().expect("not poisoned") = new;
    }

    /// Replaces the handlers of all nodes.
    fn deploy(&self) {
        self.trace.say(|| "a new version is deployed".to_owned());
        for node in &self.nodes {
            self.renew(node);
            if self.serves() {
                // It ends what is under way for some seconds; here, it does not.
                self.history().kills += 1;
                self.die(node);
            }
        }
    }

    /// A request of a client: sent over a network, handled, answered. What the client gives up, its handler goes on with.
    pub async fn request(self: &Arc<Self>, request: Request<Body>) -> Option<(StatusCode, String)> {
        let network = |what| match what {
            Trouble::Network(n) => Some(n),
            _ => None,
        };
        sleep_ms(self.chance.range(1, 20)).await;
        if self.meets(network) {
            return None;
        }
        let lost = self.meets(network);
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

    /// Starts what happens by itself.
    pub fn start(self: &Arc<Self>) {
        let shards = if self.serves() { 1 } else { 2 };
        for shard in 0..shards {
            tokio::spawn(Arc::clone(self).stream(shard, shards));
        }
        match self.plan.place {
            Place::Serve { tick_ms } => {
                tokio::spawn(Arc::clone(self).ticker(tick_ms));
            }
            Place::Lambda => {
                tokio::spawn(Arc::clone(self).schedule());
            }
        }
        for at_ms in self.plan.removals_ms.clone() {
            let cast = Arc::clone(self);
            tokio::spawn(async move {
                cast.clock.until(at_ms).await;
                let removed = cast.net.engine.sweep_ttl().expect("the engine removes");
                cast.trace.say(|| format!("TTL removed {removed} items"));
                cast.net.wake();
            });
        }
        for spell in &self.plan.spells {
            if spell.what == Trouble::Deploy {
                let (cast, at_ms) = (Arc::clone(self), spell.from_ms);
                tokio::spawn(async move {
                    cast.clock.until(at_ms).await;
                    cast.deploy();
                });
            }
        }
    }

    /// The ticker of one process.
    async fn ticker(self: Arc<Self>, tick_ms: i64) {
        while self.clock.ms() < self.plan.end_ms {
            let begun = self.clock.ms();
            let tick_ms = if begun < self.plan.calm_ms {
                tick_ms
            } else {
                CALM_TICK_MS
            };
            let node = &self.nodes[0];
            let next = self
                .invoke(node, |handlers| async move { tick(&handlers, false).await })
                .await;
            let ended = self.clock.ms();
            let wait_ms = match next {
                Some(Ok(next)) => {
                    self.history().ticks.push((begun, ended));
                    next.map_or(tick_ms, |next| (next - node.world.now()).clamp(1, tick_ms))
                }
                Some(Err(error)) => {
                    self.trace.say(|| format!("a tick failed: {error}"));
                    tick_ms
                }
                None => 250,
            };
            sleep_ms(wait_ms).await;
        }
    }

    /// The schedule by the minute.
    async fn schedule(self: Arc<Self>) {
        let of = |what| match what {
            Trouble::Schedule(n) => Some(n),
            _ => None,
        };
        let mut minute = 0;
        loop {
            minute += 60_000;
            self.clock.until(minute + self.chance.range(0, 1_500)).await;
            let times = match (self.meets(of), self.chance.per_mille(500)) {
                (false, _) => 1,
                (true, true) => 2,
                (true, false) => 0,
            };
            for _ in 0..times {
                let cast = Arc::clone(&self);
                tokio::spawn(async move {
                    let (begun, node) = (cast.clock.ms(), cast.node());
                    // As the function's time limit has it.
                    let limit = Duration::from_secs(55);
                    let ticked = cast.invoke(node, |handlers| async move {
                        tokio::time::timeout(limit, tick(&handlers, true)).await
                    });
                    match ticked.await {
                        Some(Ok(Ok(_))) => {
                            let ended = cast.clock.ms();
                            cast.history().ticks.push((begun, ended));
                        }
                        Some(Ok(Err(error))) => cast
                            .trace
                            .say(|| format!("{} ticked in vain: {error}", node.name)),
                        Some(Err(_)) => cast
                            .trace
                            .say(|| format!("{} took too long to tick", node.name)),
                        None => {}
                    }
                });
            }
        }
    }

    /// One shard of the stream: records of an item come in their order, and what failed comes again with all after it.
    async fn stream(self: Arc<Self>, shard: u64, shards: u64) {
        let chance = Chance::new(self.plan.seed, &format!("stream {shard}"));
        let of = |what| match what {
            Trouble::Stream(n) => Some(n),
            _ => None,
        };
        let mut cursor = String::new();
        let mut waiting: Vec<Value> = Vec::new();
        let mut handled: Vec<(i64, Value)> = Vec::new();
        let mut process = 0;
        loop {
            let (records, next) = self
                .net
                .engine
                .records(&cursor)
                .expect("the stream is read");
            cursor = next;
            waiting.extend(
                records
                    .into_iter()
                    .filter(|record| is_wanted(record) && shard_of(record, shards) == shard),
            );
            let died = self.process.load(Ordering::Relaxed);
            if self.serves() && died != process {
                // The process begins at the oldest record that it had not deleted.
                process = died;
                let ms = self.clock.ms();
                let again = handled
                    .drain(..)
                    .filter(|(at, _)| ms - at <= REPLAYED_MS)
                    .map(|(_, record)| record);
                waiting.splice(0..0, again.collect::<Vec<_>>());
            }
            if waiting.is_empty() {
                let written = &self.net.written[usize::try_from(shard).expect("few")];
                let _ = tokio::time::timeout(Duration::from_secs(30), written.notified()).await;
                sleep_ms(chance.range(1, 30)).await;
                continue;
            }
            if self.meets(of) {
                sleep_ms(chance.range(100, 20_000)).await;
            }
            let size = usize::try_from(chance.range(1, 10))
                .expect("few")
                .min(waiting.len());
            let batch = waiting[..size].to_vec();
            let event: Event =
                serde_json::from_value(json!({ "Records": batch })).expect("records");
            let node = self.node();
            let response = self
                .invoke(node, |handlers| async move {
                    handlers.evaluate.on_stream(&event).await
                })
                .await;
            let done = match response {
                // All of it comes again.
                None => 0,
                Some(response) => {
                    let failed: Vec<String> = response
                        .batch_item_failures
                        .into_iter()
                        .filter_map(|failure| failure.item_identifier)
                        .collect();
                    let first = batch.iter().position(|record| {
                        let sequence = record["dynamodb"]["SequenceNumber"]
                            .as_str()
                            .unwrap_or_default();
                        failed.iter().any(|failed| failed == sequence)
                    });
                    first.unwrap_or(size)
                }
            };
            // A function that was done, and whose answer was lost.
            if done == size && self.meets(of) {
                self.trace
                    .say(|| "a batch of the stream comes again".to_owned());
                continue;
            }
            let ms = self.clock.ms();
            handled.extend(waiting.drain(..done).map(|record| (ms, record)));
            handled.retain(|(at, _)| ms - at <= 10 * REPLAYED_MS);
            if done < size {
                sleep_ms(chance.range(100, 2_000)).await;
            }
        }
    }

    /// A message on its way to whoever it is for.
    fn send(self: &Arc<Self>, work: Work, delay_ms: i64) {
        let of = |what| match what {
            Trouble::Queue(n) => Some(n),
            _ => None,
        };
        let copies = if self.meets(of) && !self.serves() {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let late_ms = if self.meets(of) {
                self.chance.range(0, 15_000)
            } else {
                0
            };
            let wait_ms = delay_ms + late_ms + self.chance.range(1, 30);
            tokio::spawn(Arc::clone(self).receive(work.clone(), wait_ms));
        }
    }

    async fn receive(self: Arc<Self>, work: Work, wait_ms: i64) {
        let process = self.process.load(Ordering::Relaxed);
        sleep_ms(wait_ms).await;
        for attempt in 1..=MAX_RECEIVES {
            // What one process had in its memory is gone with it.
            if self.serves() && self.process.load(Ordering::Relaxed) != process {
                return;
            }
            let (node, own) = (self.node(), work.clone());
            let handled = self
                .invoke(node, |handlers| async move {
                    if own.is_for_evaluate() {
                        handlers
                            .evaluate
                            .work(&own)
                            .await
                            .map_err(|error| error.to_string())
                    } else {
                        handlers
                            .notify
                            .handle(&own)
                            .await
                            .map_err(|error| error.to_string())
                    }
                })
                .await;
            match handled {
                Some(Ok(())) => return,
                Some(Err(error)) => self.trace.say(|| format!("{work:?} failed: {error}")),
                None => {}
            }
            let pause_ms = if self.serves() {
                1_000 * i64::from(attempt)
            } else {
                VISIBILITY_MS
            };
            sleep_ms(pause_ms).await;
        }
        self.trace
            .say(|| format!("{work:?} goes to the dead letters"));
    }
}

/// One tick, as the function's main has it.
async fn tick(handlers: &Handlers, ahead: bool) -> Result<Option<thrum_schema::UnixMs>, String> {
    let Handlers {
        store,
        evaluate,
        pulse,
        ..
    } = handlers;
    let begun = store.world().now();
    evaluate
        .keep_pulse(pulse)
        .await
        .map_err(|error| error.to_string())?;
    let swept = join_all((0..store.shards()).map(|shard| evaluate.sweep(shard))).await;
    let looked = if ahead {
        evaluate.look_ahead(begun).await
    } else {
        Ok(())
    };
    let mut next = None;
    for swept in swept {
        let swept = swept.map_err(|error| error.to_string())?;
        if swept.busy {
            return Err("another has the shard".to_owned());
        }
        next = [next, swept.next_due].into_iter().flatten().min();
    }
    looked.map_err(|error| error.to_string())?;
    Ok(next)
}

/// The answer of a front door.
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

/// New handlers, with nothing in their memory.
fn handlers(
    name: &'static str,
    world: &Arc<Skewed>,
    client: &aws_sdk_dynamodb::Client,
    plan: &Plan,
    cast: &Weak<Cast>,
) -> Handlers {
    let shared: Arc<dyn World> = world.clone();
    let serves = matches!(plan.place, Place::Serve { .. });
    let shards = if serves { 1 } else { 2 };
    let store = Store::new(client.clone(), TABLE, shards, Arc::clone(&shared));
    let config = thrum_ingest::Config {
        allow_private_webhooks: true,
        ..thrum_ingest::Config::default()
    };
    let router = thrum_ingest::router(App::new(store.clone(), config));
    let wire = Arc::new(Wire(Weak::clone(cast)));
    let (gap_ms, every_ms) = if serves { SERVE_PULSE } else { LAMBDA_PULSE };
    let mut evaluate = Evaluate::new(store.clone(), wire.clone(), name, gap_ms);
    if !serves {
        evaluate = evaluate.with_work_queue(wire.clone());
    }
    let sender = Sender {
        webhook: Webhook::by(Hooks(Weak::clone(cast)), shared),
        mail: Mail::Smtp(Email::new("thrum@example.org", None).expect("a printer")),
        sns: Sns::lazy(|| unreachable!("nobody is told by SNS")),
    };
    let config = Config {
        delivery_window_ms: 86_400_000,
        plans: Plans::default(),
    };
    let notify = Notify::new(store.clone(), sender, wire, config);
    let door = Door(Weak::clone(cast), serves.then(|| router.clone()));
    Handlers {
        store,
        router,
        evaluate,
        notify,
        pulse: Arc::new(Pulse::new(Arc::new(door), every_ms)),
    }
}

/// Bus and queues.
struct Wire(Weak<Cast>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Takes a message, or not, or takes it and says that it did not.
    fn take(&self, work: &Work, delay_ms: i64) -> Result<(), String> {
        let Some(cast) = self.0.upgrade() else {
            return Ok(());
        };
        let fails = cast.meets(|what| match what {
            Trouble::Bus(n) => Some(n),
            _ => None,
        });
        cast.trace.say(|| {
            format!(
                "on its way: {work:?}{}",
                if fails { ", refused" } else { "" }
            )
        });
        if !fails || cast.chance.per_mille(300) {
            cast.send(work.clone(), delay_ms);
        }
        if fails {
            Err("it was not taken".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Bus for Wire {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        Box::pin(async move {
            sleep_ms(2).await;
            works
                .iter()
                .map(|work| self.take(work, 0).map_err(BusError))
                .collect()
        })
    }
}

impl Later for Wire {
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        Box::pin(async move {
            sleep_ms(2).await;
            // SQS counts whole seconds.
            let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            self.take(&work, delay_ms).map_err(LaterError)
        })
    }
}

/// The front door that the pulse goes through.
struct Door(Weak<Cast>, Option<Router>);

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl FrontDoor for Door {
    fn knock(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let cast = self.0.upgrade().ok_or("it is over")?;
            let sent = cast.clock.ms();
            cast.history().knocks.push(sent);
            let path = format!("/ping/{}", MonitorId::PULSE);
            let request = Request::get(path)
                .body(Body::empty())
                .map_err(|error| error.to_string())?;
            let reply = match &self.1 {
                Some(router) => Some(answer(router.clone(), request).await),
                None => cast.request(request).await,
            };
            match reply {
                Some((status, _)) if status.is_success() => {
                    let answered = cast.clock.ms();
                    cast.history().pulses.push((sent, answered));
                    Ok(())
                }
                Some((status, _)) => Err(status.to_string()),
                None => Err("no answer".to_owned()),
            }
        })
    }
}

/// How often handlers are killed.
const fn killed(what: Trouble) -> Option<u16> {
    match what {
        Trouble::Killed(n) => Some(n),
        _ => None,
    }
}

/// Receivers of webhooks.
struct Hooks(Weak<Cast>);

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

impl Post for Hooks {
    fn post<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Result<StatusCode, SendError>> {
        Box::pin(async move {
            let cast = self
                .0
                .upgrade()
                .ok_or_else(|| SendError::passing("it is over"))?;
            let hook = posted.url.trim_start_matches("http://hook-");
            let hook = hook
                .split('.')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(usize::MAX);
            sleep_ms(cast.chance.range(1, 200)).await;
            if cast.meets(killed) && cast.chance.per_mille(500) {
                return die().await;
            }
            let ms = cast.clock.ms();
            let troubles: Vec<Trouble> = cast.plan.troubles(ms, Some).collect();
            let is = |of: fn(u8) -> Trouble| {
                troubles
                    .iter()
                    .any(|what| u8::try_from(hook).is_ok_and(|hook| *what == of(hook)))
            };
            let (takes, answers) = if is(Trouble::HookHangs) {
                (cast.chance.per_mille(500), None)
            } else if is(Trouble::HookFails) {
                (false, Some(StatusCode::INTERNAL_SERVER_ERROR))
            } else if is(Trouble::HookTakesAndFails) {
                (true, Some(StatusCode::INTERNAL_SERVER_ERROR))
            } else {
                (true, Some(StatusCode::OK))
            };
            if takes {
                let delivered = Delivered {
                    at_ms: ms,
                    hook,
                    id: posted.id.to_owned(),
                    body: serde_json::from_str(posted.body).unwrap_or_default(),
                    accepted: answers == Some(StatusCode::OK),
                };
                cast.trace
                    .say(|| format!("hook {hook} gets {}", told(&delivered.body)));
                cast.trace
                    .note(posted.id, u16::from(delivered.accepted), ms);
                cast.history().delivered.push(delivered);
            } else {
                cast.trace
                    .say(|| format!("hook {hook} does not take {}", posted.id));
            }
            match answers {
                Some(status) => {
                    sleep_ms(cast.chance.range(1, 100)).await;
                    if cast.meets(killed) {
                        return die().await;
                    }
                    Ok(status)
                }
                None => {
                    sleep_ms(HOOK_TIMEOUT_MS).await;
                    Err(SendError::passing(
                        "the receiver did not answer within 10 s",
                    ))
                }
            }
        })
    }
}

/// What a message tells, in a line.
pub fn told(body: &Value) -> String {
    let data = &body["data"];
    let one = |change: &Value| {
        format!(
            "{} {} of {} ({}, alert {})",
            change["monitor"]["name"].as_str().unwrap_or("-"),
            change["status"].as_str().unwrap_or("-"),
            change["flip_at"].as_str().unwrap_or("-"),
            change["reason"].as_str().unwrap_or("-"),
            change["alert_id"].as_str().unwrap_or("-"),
        )
    };
    match data["changes"].as_array() {
        Some(changes) => changes.iter().map(one).collect::<Vec<_>>().join("; "),
        None => format!("{}: {}", body["type"].as_str().unwrap_or("-"), one(data)),
    }
}

/// Whether evaluate is called for a record, as the event source's filters have it.
fn is_wanted(record: &Value) -> bool {
    let kind = |image: &str| record["dynamodb"][image]["kind"]["S"].as_str();
    match record["eventName"].as_str() {
        Some("INSERT") => matches!(
            kind("NewImage"),
            Some("alert" | "probe" | "request" | "watch" | "series" | "soon")
        ),
        Some("MODIFY") => matches!(
            kind("NewImage"),
            Some("probe" | "watch" | "series" | "soon")
        ),
        Some("REMOVE") => kind("OldImage") == Some("lease") && !record["userIdentity"].is_null(),
        _ => false,
    }
}

/// The shard of a record's partition.
fn shard_of(record: &Value, shards: u64) -> u64 {
    let pk = record["dynamodb"]["Keys"]["pk"]["S"]
        .as_str()
        .unwrap_or_default();
    pk.bytes().map(u64::from).sum::<u64>() % shards
}

/// What a client makes of a reply.
pub fn outcome(reply: Option<&(StatusCode, String)>) -> Outcome {
    match reply {
        Some((status, _)) if status.is_success() => Outcome::Done,
        Some((status, _)) if status.is_client_error() => Outcome::Refused(status.as_u16()),
        _ => Outcome::Unknown,
    }
}
