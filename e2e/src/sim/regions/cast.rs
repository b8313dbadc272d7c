//! The handlers of both regions, with stand-ins for Lambda, the queues, the streams, the schedule and the receivers.

use super::plan::{Act, Client, Plan, Trouble};
use super::replicas::Replicas;
use crate::sim::cast::answer;
use crate::sim::chance::{Chance, Clock, Skewed, sleep_ms};
use crate::sim::clients::{api, name};
use crate::sim::net::{LIFE, Life, die};
use crate::sim::trace::Trace;
use crate::{API_KEY, PING_KEY, TABLE};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use futures::future::{BoxFuture, Either, select};
use serde_json::{Value, json};
use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use thrum_evaluate::{Bus, BusError, Evaluate, Pulse, Schedule, SelfPing, event_of};
use thrum_ingest::App;
use thrum_notify::send::{
    Answer, Email, EventBridge, Http, Lookup, Mail, SendError, Sns, Transport,
};
use thrum_notify::{Config, Notify, Sender};
use thrum_schema::fence::Region;
use thrum_schema::network::Networks;
use thrum_schema::work::{EvaluateWork, Work};
use thrum_schema::{MonitorId, Plans, World};
use thrum_store::Store;
use thrum_store::queue::{Later, LaterError};
use thrum_store::regions::{FenceTable, FencedTable, Regions};

/// The names of the regions.
pub const NAMES: [&str; 2] = ["a", "b"];
/// Timer shards.
pub const SHARDS: u16 = 2;
/// The gap between pulses that is an outage, the time between two, and the pings of each.
const PULSE: (i64, i64, usize) = (150_000, 30_000, 3);
/// How long a message is invisible after a failure, in milliseconds, and how often it is received.
const VISIBILITY_MS: i64 = 60_000;
const MAX_RECEIVES: u32 = 10;
/// How long evaluate may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A region's handlers.
#[derive(Clone)]
pub struct Handlers {
    pub router: Router,
    pub regions: Regions,
    evaluate: Evaluate,
    notify: Notify,
}

struct Node {
    world: Arc<Skewed>,
    handlers: Mutex<Handlers>,
    lives: Mutex<Vec<Life>>,
}

/// A heartbeat that a client sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub client: usize,
    pub act: Act,
    pub sent_ms: i64,
    pub ended_ms: i64,
    /// Whether it was acknowledged; `None` if it may have been recorded.
    pub done: Option<bool>,
    pub token: String,
}

/// A message that a receiver got.
#[derive(Debug, Clone)]
pub struct Got {
    pub at_ms: i64,
    pub hook: usize,
    pub from: usize,
    pub id: String,
    pub body: Value,
    /// Whether its region was active then.
    pub allowed: bool,
}

/// What was recorded.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub sent: Vec<Sent>,
    pub got: Vec<Got>,
    /// When each epoch began, its region, and when the lease before would have ended.
    pub epochs: Vec<(i64, usize, i64)>,
    /// When each takeover was repaired.
    pub ready: Vec<i64>,
    /// When functions were killed.
    pub kills: Vec<i64>,
}

/// The running simulation.
pub struct Cast {
    pub plan: Arc<Plan>,
    pub clock: Clock,
    pub replicas: Arc<Replicas>,
    pub trace: Trace,
    chance: Chance,
    nodes: [Node; 2],
    history: Mutex<History>,
    me: Weak<Self>,
}

impl fmt::Debug for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cast")
    }
}

impl Cast {
    pub fn new(
        plan: &Arc<Plan>,
        clock: Clock,
        replicas: &Arc<Replicas>,
        worlds: [Arc<Skewed>; 2],
        trace: &Trace,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| {
            let mut region = 0;
            let nodes = worlds.map(|world| {
                let handlers = Mutex::new(handlers(region, &world, replicas, me));
                region += 1;
                Node {
                    world,
                    handlers,
                    lives: Mutex::default(),
                }
            });
            Self {
                plan: Arc::clone(plan),
                clock,
                replicas: Arc::clone(replicas),
                trace: trace.clone(),
                chance: Chance::new(plan.seed, "cast"),
                nodes,
                history: Mutex::default(),
                me: Weak::clone(me),
            }
        })
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("not poisoned")
    }

    pub fn handlers(&self, region: usize) -> Handlers {
        let handlers = self.nodes[region].handlers.lock();
        handlers.expect("not poisoned").clone()
    }

    fn is_still(&self, region: usize) -> bool {
        let ms = self.clock.ms();
        ms >= self.plan.end_ms || self.plan.is_still(region, ms)
    }

    /// Invokes a handler; `None` if the region is still, or the handler was killed.
    async fn invoke<T, F: Future<Output = T>>(
        &self,
        region: usize,
        act: impl FnOnce(Handlers) -> F,
    ) -> Option<T> {
        if self.is_still(region) {
            return None;
        }
        let node = &self.nodes[region];
        let handlers = self.handlers(region);
        let life = Life::default();
        node.lives.lock().expect("not poisoned").push(life.clone());
        let own = life.clone();
        let done = LIFE.scope(own, async {
            let act = pin!(tokio::time::timeout(LIMIT, act(handlers)));
            let killed = pin!(life.killed());
            match select(act, killed).await {
                Either::Left((done, _)) => done.ok(),
                Either::Right(_) => None,
            }
        });
        let done = done.await;
        let mut lives = node.lives.lock().expect("not poisoned");
        lives.retain(|other| !other.is(&life));
        drop(lives);
        if done.is_none() {
            self.history().kills.push(self.clock.ms());
            self.trace
                .say(|| format!("a function in {region} was killed"));
            self.renew(region);
        }
        done
    }

    /// Replaces a region's handlers with new ones that have nothing in memory.
    fn renew(&self, region: usize) {
        let node = &self.nodes[region];
        let new = handlers(region, &node.world, &self.replicas, &self.me);
        *node.handlers.lock().expect("not poisoned") = new;
    }

    /// Waits until a region's functions run.
    async fn until_running(&self, region: usize) {
        while self.is_still(region) {
            sleep_ms(1_000).await;
        }
    }

    /// Delivers a message in a region after `delay_ms`.
    fn send(self: &Arc<Self>, region: usize, work: &Work, delay_ms: i64) {
        let mut troubles = self.plan.troubles(self.clock.ms());
        let is_hit = troubles.any(|what| match what {
            Trouble::Queue(n) => self.chance.per_mille(n),
            _ => false,
        });
        let copies = if is_hit { 2 } else { 1 };
        for _ in 0..copies {
            let late_ms = if is_hit {
                self.chance.range(0, 15_000)
            } else {
                0
            };
            let wait_ms = delay_ms + late_ms + self.chance.range(1, 30);
            tokio::spawn(Arc::clone(self).receive(region, work.clone(), wait_ms));
        }
    }

    async fn receive(self: Arc<Self>, region: usize, work: Work, wait_ms: i64) {
        sleep_ms(wait_ms).await;
        for _ in 0..MAX_RECEIVES {
            self.until_running(region).await;
            let own = work.clone();
            let handled = self.invoke(region, |handlers| async move {
                match &own {
                    Work::Evaluate(work) => {
                        let done = handlers.evaluate.work(work).await;
                        done.map_err(|error| error.to_string())
                    }
                    Work::Notify(work) => {
                        let done = handlers.notify.handle(work).await;
                        done.map_err(|error| error.to_string())
                    }
                }
            });
            match handled.await {
                Some(Ok(())) => return,
                Some(Err(error)) => {
                    self.trace
                        .say(|| format!("{region}: {work:?} failed: {error}"));
                }
                None => {}
            }
            if let Work::Evaluate(work) = &work
                && matches!(work, EvaluateWork::Tick | EvaluateWork::Tend)
            {
                return;
            }
            sleep_ms(VISIBILITY_MS).await;
        }
        self.trace.say(|| format!("{work:?} becomes a dead letter"));
    }

    /// Starts everything that runs by itself.
    pub fn start(self: &Arc<Self>) {
        tokio::spawn(Arc::clone(&self.replicas).replicate());
        tokio::spawn(Arc::clone(self).watch_fence());
        for region in 0..2 {
            tokio::spawn(Arc::clone(self).stream(region));
            tokio::spawn(Arc::clone(self).schedule(region));
        }
        for spell in &self.plan.spells {
            if let Trouble::Dead(region) = spell.what {
                let (cast, from_ms) = (Arc::clone(self), spell.from_ms);
                tokio::spawn(async move {
                    cast.clock.until(from_ms).await;
                    cast.trace.say(|| format!("region {region} is lost"));
                    let lives = cast.nodes[region].lives.lock().expect("not poisoned");
                    lives.iter().for_each(Life::kill);
                });
            }
        }
        for (at_ms, next) in self.plan.switches.clone() {
            let cast = Arc::clone(self);
            tokio::spawn(async move {
                cast.clock.until(at_ms).await;
                let regions = cast.handlers(next).regions;
                let to = Region(NAMES[next].to_owned());
                let handed = regions.change(|read, _| read.handed_over(&to)).await;
                cast.trace
                    .say(|| format!("an operator switches to {next}: {handed:?}"));
            });
        }
    }

    /// Records when epochs begin and are repaired.
    async fn watch_fence(self: Arc<Self>) {
        let mut known = self.replicas.fence().await;
        loop {
            sleep_ms(50).await;
            let fence = self.replicas.fence().await;
            let ms = self.clock.ms();
            if fence.epoch != known.epoch {
                let region = usize::from(fence.active.0 == "b");
                let until_ms = known.until - crate::START;
                self.trace
                    .say(|| format!("region {region} takes over: {fence:?}"));
                self.history().epochs.push((ms, region, until_ms));
            }
            if fence.ready && (!known.ready || fence.epoch != known.epoch) {
                self.trace.say(|| "the takeover is repaired".to_owned());
                self.history().ready.push(ms);
            }
            known = fence;
        }
    }

    async fn schedule(self: Arc<Self>, region: usize) {
        let mut minute = 0;
        loop {
            let late_ms = self.chance.range(0, 59_000);
            let cast = Arc::clone(&self);
            tokio::spawn(async move {
                cast.clock.until(minute + late_ms).await;
                let ticked =
                    cast.invoke(
                        region,
                        |handlers| async move { handlers.evaluate.tick().await },
                    );
                if let Some(Err(error)) = ticked.await {
                    cast.trace
                        .say(|| format!("{region}: a tick failed: {error}"));
                }
            });
            minute += 60_000;
            self.clock.until(minute).await;
        }
    }

    async fn stream(self: Arc<Self>, region: usize) {
        let chance = Chance::new(self.plan.seed, &format!("stream {region}"));
        let mut feed = self.replicas.tables[region].feed();
        let mut waiting = Vec::new();
        loop {
            let changes = feed.next(usize::MAX).await.expect("the feed can be read");
            if let Some(last) = changes.last() {
                feed.advance(last.sequence);
            }
            waiting.extend(changes);
            if waiting.is_empty() {
                let written = self.replicas.written[region].notified();
                let _ = tokio::time::timeout(Duration::from_secs(30), written).await;
                sleep_ms(chance.range(1, 30)).await;
                continue;
            }
            self.until_running(region).await;
            let size = usize::try_from(chance.range(1, 10)).expect("few");
            let size = size.min(waiting.len());
            let event = event_of(waiting[..size].to_vec());
            let response = self.invoke(region, |handlers| async move {
                handlers.evaluate.on_stream(&event).await
            });
            let failed = match response.await {
                None => true,
                Some(response) => !response.batch_item_failures.is_empty(),
            };
            if failed {
                sleep_ms(chance.range(100, 2_000)).await;
            } else {
                waiting.drain(..size);
            }
        }
    }

    /// Sends a request to ingest in a region.
    async fn request(
        self: &Arc<Self>,
        region: usize,
        request: Request<Body>,
    ) -> Option<(StatusCode, String)> {
        sleep_ms(self.chance.range(1, 20)).await;
        let cast = Arc::clone(self);
        let handled = tokio::spawn(async move {
            let answered = cast.invoke(region, |handlers| answer(handlers.router, request));
            answered.await
        });
        let reply = tokio::time::timeout(Duration::from_secs(30), handled).await;
        sleep_ms(self.chance.range(1, 20)).await;
        reply.ok()?.ok()?
    }

    /// Creates channels and monitors; returns their IDs.
    pub async fn set_up(self: &Arc<Self>) -> (Vec<String>, Vec<Option<String>>) {
        let router = self.handlers(0).router;
        let create = async |path: &str, body: Value| {
            let request = api(Method::POST, path, API_KEY, &body);
            let (status, body) = answer(router.clone(), request).await;
            assert!(status.is_success(), "{status} {body}");
            serde_json::from_str::<Value>(&body).expect("JSON")
        };
        let mut channels = Vec::new();
        for (i, threshold) in self.plan.hooks.iter().enumerate() {
            let body = json!({
                "kind": "webhook", "url": format!("http://hook-{i}.example.org/"),
                "name": format!("hook-{i}"), "group_threshold": threshold,
            });
            let channel = create("/v1/channels", body).await;
            channels.push(channel["id"].as_str().expect("an ID").to_owned());
        }
        let mut monitors = Vec::new();
        for (i, client) in self.plan.clients.iter().enumerate() {
            if client.by_name {
                monitors.push(None);
                continue;
            }
            let body = json!({
                "name": name(i), "slug": name(i), "period_s": client.period_s,
                "grace_s": client.grace_s, "channels": "all",
            });
            let monitor = create("/v1/monitors", body).await;
            monitors.push(monitor["uuid"].as_str().map(str::to_owned));
        }
        (channels, monitors)
    }

    /// Starts every client.
    pub fn start_clients(self: &Arc<Self>) {
        for (i, client) in self.plan.clients.iter().enumerate() {
            for (n, (at_ms, act)) in client.acts.iter().enumerate() {
                let (cast, client) = (Arc::clone(self), client.clone());
                let (at_ms, act) = (*at_ms, *act);
                tokio::spawn(async move {
                    cast.clock.until(at_ms).await;
                    cast.play(i, n, &client, act).await;
                });
            }
        }
    }

    async fn play(self: &Arc<Self>, i: usize, n: usize, client: &Client, act: Act) {
        for attempt in 0..4 {
            // Its name server knows which region works, more or less.
            let ms = self.clock.ms();
            let running = (0..2).find(|region| !self.plan.is_still(*region, ms));
            let region = match self.chance.per_mille(700) {
                true => running.unwrap_or(0),
                false => usize::from(self.chance.per_mille(500)),
            };
            let token = format!("sim-{i}-{n}-{attempt}");
            let reply = self
                .request(region, heartbeat(i, client, act, &token))
                .await;
            let done = match &reply {
                Some((status, _)) if status.is_success() => Some(true),
                Some((status, _)) if status.is_client_error() && status.as_u16() != 408 => {
                    Some(false)
                }
                _ => None,
            };
            let sent = Sent {
                client: i,
                act,
                sent_ms: ms,
                ended_ms: self.clock.ms(),
                done,
                token,
            };
            self.trace
                .say(|| format!("{sent:?} in {region}: {reply:?}"));
            self.trace
                .note(&sent.token, u16::from(done == Some(true)), sent.ended_ms);
            self.history().sent.push(sent);
            if done.is_some() {
                return;
            }
            sleep_ms(self.chance.range(200, 4_000)).await;
        }
    }
}

fn heartbeat(i: usize, client: &Client, act: Act, token: &str) -> Request<Body> {
    let mut request = if client.by_name {
        let status = match act {
            Act::Success => "ok",
            Act::Fail => "fail",
        };
        let body = json!({
            "monitor": name(i), "status": status,
            "period_s": client.period_s, "grace_s": client.grace_s,
        });
        api(Method::POST, "/v1/heartbeats", API_KEY, &body)
    } else {
        let action = match act {
            Act::Success => "",
            Act::Fail => "/fail",
        };
        let path = format!("/ping/{PING_KEY}/{}{action}", name(i));
        Request::get(path).body(Body::empty()).expect("a request")
    };
    let token = token.parse().expect("a header");
    request.headers_mut().insert("user-agent", token);
    request
}

/// New handlers of a region, with nothing in memory.
fn handlers(
    region: usize,
    world: &Arc<Skewed>,
    replicas: &Arc<Replicas>,
    cast: &Weak<Cast>,
) -> Handlers {
    let shared: Arc<dyn World> = world.clone();
    let name = |i: usize| Region(NAMES[i].to_owned());
    let fence = FenceTable::new(replicas.way(region, None), "fence");
    let regions = Regions::new([name(region), name(1 - region)], fence, Arc::clone(&shared));
    let store = |table| Store::new(table, TABLE, SHARDS, Arc::clone(&shared)).replicated();
    let both = [0, 1].map(|to| (name(to), replicas.way(region, Some(to))));
    let front = store(Arc::new(FencedTable::active(regions.clone(), both)));
    let config = thrum_ingest::Config {
        networks: Networks::all(),
        regions: Some(regions.clone()),
        ..thrum_ingest::Config::default()
    };
    let router = thrum_ingest::router(App::new(front, config));
    let own = store(replicas.way(region, Some(region)));
    let wire = Arc::new(Wire {
        cast: Weak::clone(cast),
        region,
    });
    let (gap_ms, every_ms, pings) = PULSE;
    let pulse = Pulse::new(wire.clone(), every_ms, pings);
    let evaluate = Evaluate::new(own.clone(), wire.clone(), NAMES[region], gap_ms)
        .with_timer_queue(wire.clone())
        .on_schedule(Schedule::new(pulse, SHARDS))
        .in_region(regions.clone());
    let sender = Sender {
        http: Http::by(
            Hooks {
                cast: Weak::clone(cast),
                region,
            },
            Arc::new(Names),
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
    let notify = Notify::new(own, sender, wire, config).in_region(regions.clone());
    Handlers {
        router,
        regions,
        evaluate,
        notify,
    }
}

/// The bus, the queues, and the way to ingest, of a region.
struct Wire {
    cast: Weak<Cast>,
    region: usize,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    fn take(&self, work: &Work, delay_ms: i64) {
        if let Some(cast) = self.cast.upgrade() {
            cast.trace
                .say(|| format!("{}: published {work:?}", self.region));
            cast.send(self.region, work, delay_ms);
        }
    }
}

impl Bus for Wire {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        Box::pin(async move {
            sleep_ms(2).await;
            works.iter().for_each(|work| self.take(work, 0));
            works.iter().map(|_| Ok(())).collect()
        })
    }
}

impl Later for Wire {
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        Box::pin(async move {
            sleep_ms(2).await;
            // The queue delays by whole seconds.
            let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            self.take(&work, (delay_ms + 999) / 1_000 * 1_000);
            Ok(())
        })
    }
}

impl SelfPing for Wire {
    fn send(&self, pulse: MonitorId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let cast = self.cast.upgrade().ok_or("the simulation has ended")?;
            let request = Request::get(format!("/ping/{pulse}"))
                .body(Body::empty())
                .map_err(|error| error.to_string())?;
            match cast.request(self.region, request).await {
                Some((status, _)) if status.is_success() => Ok(()),
                Some((status, _)) => Err(status.to_string()),
                None => Err("no answer".to_owned()),
            }
        })
    }
}

/// The name server that knows the receivers.
#[derive(Debug)]
struct Names;

impl Lookup for Names {
    fn lookup(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async { Ok(vec![IpAddr::from([203, 0, 113, 7])]) })
    }
}

/// The webhook receivers, as a region reaches them.
struct Hooks {
    cast: Weak<Cast>,
    region: usize,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

impl Transport for Hooks {
    fn call<'a>(
        &'a self,
        call: &'a thrum_notify::send::Call,
    ) -> BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            let cast = self.cast.upgrade();
            let cast = cast.ok_or_else(|| SendError::passing("the simulation has ended"))?;
            let id = call.header("webhook-id").unwrap_or_default().to_owned();
            let host = call.url.trim_start_matches("http://hook-");
            let hook = host.split('.').next().and_then(|n| n.parse().ok());
            sleep_ms(cast.chance.range(1, 200)).await;
            let got = Got {
                at_ms: cast.clock.ms(),
                hook: hook.unwrap_or(usize::MAX),
                from: self.region,
                allowed: cast.replicas.active().await == self.region,
                body: serde_json::from_str(&call.body).unwrap_or_default(),
                id,
            };
            cast.trace.say(|| {
                let what = crate::sim::cast::summary(&got.body);
                format!("hook {} gets {what} from {}", got.hook, got.from)
            });
            cast.trace.note(&got.id, 1, got.at_ms);
            cast.history().got.push(got);
            let mut troubles = cast.plan.troubles(cast.clock.ms());
            let killed = troubles.any(|what| match what {
                Trouble::Killed(n) => cast.chance.per_mille(n),
                _ => false,
            });
            if killed {
                return die().await;
            }
            sleep_ms(cast.chance.range(1, 100)).await;
            Ok(Answer::of(StatusCode::OK))
        })
    }
}
