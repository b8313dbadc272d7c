//! The handlers, driven step by step: a test moves the clock, sweeps, and carries messages over the
//! bus.

use crate::dynoxide::Dynoxide;
use crate::faulty::Switch;
use crate::records::record;
use crate::vendors::Anywhere;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum_evaluate::{Bus, BusError, Evaluate, Pulse, Schedule, SelfPing, Swept, event_of};
use thrum_ingest::{AdminKey, App, Proxies};
use thrum_notify::send::{Email, EventBridge, Http, Mail, Reach, Sns, Transport};
use thrum_notify::{Config, Notify, Sender};
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::key::{ApiKey, Scope};
use thrum_schema::network::Networks;
use thrum_schema::work::Work;
use thrum_schema::world::ManualWorld;
use thrum_schema::{Plans, Project, UnixMs, World};
use thrum_store::Store;
use thrum_store::queue::{Later, LaterError};
use thrum_store::sqlite::{Feed, Options, SqliteTable};
use thrum_store::stream::Change;
use thrum_store::table::{Meter, Table};
use tower::ServiceExt;

/// The read-write key of the first project.
pub const API_KEY: &str = "hcw_0123456789abcdefghijklmnopqr";
/// Its read-only key.
pub const READ_KEY: &str = "hcr_0123456789abcdefghijklmnopqr";
/// Its ping key.
pub const PING_KEY: &str = "0123456789abcdefghijkl";

/// The admin key of a stage that has one.
pub const ADMIN_KEY: &str = "admin-0123456789abcdefghijklmn";
/// The metrics key of a stage that has one.
pub const METRICS_KEY: &str = "metrics-0123456789";

/// Where the pages of a [`Stage`] are, as its messages say.
pub const SITE: &str = "https://thrum.example.org";
/// The table's name.
pub const TABLE: &str = "thrum";
/// Where the requests of a [`Stage`] come from.
pub const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4711);

/// When tests begin: 2025-11-21T04:40:00Z.
pub const START: UnixMs = UnixMs(1_763_700_000_000);

/// A response of ingest.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub bytes: Vec<u8>,
}

impl Reply {
    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Work in transit, on the bus or in a queue.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<Vec<Work>>>);

impl Wire {
    fn push(&self, work: Work) {
        self.0.lock().expect("not poisoned").push(work);
    }

    fn take(&self) -> Vec<Work> {
        std::mem::take(&mut *self.0.lock().expect("not poisoned"))
    }
}

impl Bus for Wire {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        works.iter().for_each(|work| self.push(work.clone()));
        Box::pin(std::future::ready(works.iter().map(|_| Ok(())).collect()))
    }
}

/// Delayed work is dropped, because its timer in the table brings it back; work without delay waits
/// for the next turn.
impl Later for Wire {
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        if delay.is_zero() {
            self.push(work);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Sends the pipeline's own heartbeat through ingest.
#[derive(Debug)]
struct OwnPing(Router);

impl SelfPing for OwnPing {
    fn send(&self, pulse: MonitorId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let path = format!("/ping/{pulse}");
            let request = Request::get(path).body(Body::empty()).expect("a request");
            match self.0.clone().oneshot(request).await {
                Ok(reply) if reply.status().is_success() => Ok(()),
                Ok(reply) => Err(reply.status().to_string()),
                Err(never) => match never {},
            }
        })
    }
}

/// Mail that is only printed.
fn printed() -> Mail {
    Mail::Smtp(Email::new("thrum@example.org", None).expect("a printer"))
}

/// An SNS client whose endpoint refuses connections.
fn no_sns() -> Sns {
    let credentials = aws_sdk_sns::config::Credentials::new("id", "secret", None, None, "stage");
    let config = aws_sdk_sns::Config::builder()
        .behavior_version(aws_sdk_sns::config::BehaviorVersion::latest())
        .region(aws_sdk_sns::config::Region::from_static("local"))
        .credentials_provider(credentials)
        .endpoint_url("http://127.0.0.1:9");
    Sns::new(aws_sdk_sns::Client::from_conf(config.build()))
}

/// Sends over HTTP, and prints mail; nothing answers where AWS is expected.
fn sender(http: Http) -> Sender {
    Sender {
        http,
        mail: printed(),
        sns: no_sns(),
        eventbridge: EventBridge::lazy(|| unreachable!("the test uses no EventBridge")),
    }
}

fn notify_with(store: &Store, wire: &Wire, sender: Sender) -> Notify {
    let config = Config {
        delivery_window_ms: 86_400_000,
        max_at_once: thrum_notify::MAX_AT_ONCE,
        site_url: Some(SITE.to_owned()),
        confirm: None,
        plans: Plans::default(),
    };
    Notify::new(store.clone(), sender, Arc::new(wire.clone()), config)
}

/// Creates the cursors, the first project and its keys.
pub async fn prepare(store: &Store) {
    let world = store.world();
    let now = world.now();
    store.ensure_pipeline(now).await.expect("cursors");
    let project = ProjectId::FIRST;
    store
        .create_project(&Project::with_badges(project, "default", world))
        .await
        .expect("a project");
    for (secret, scope) in [(API_KEY, Scope::Write), (READ_KEY, Scope::Read)] {
        let key = ApiKey::new(secret, project, scope, "test", now);
        store.put_api_key(&key).await.expect("a key");
    }
    store
        .put_ping_key(project, PING_KEY)
        .await
        .expect("a ping key");
}

/// The pipeline without its schedule: nothing happens until a test triggers it.
#[derive(Debug)]
pub struct Stage {
    /// The clock.
    pub world: Arc<ManualWorld>,
    /// Meters the capacity units of table calls.
    pub meter: Meter,
    /// The table.
    pub store: Store,
    /// Ingest.
    pub router: Router,
    /// The embedded table.
    pub table: SqliteTable,
    /// Makes the table fail.
    pub switch: Switch,
    /// The notify handler.
    pub notify: Notify,
    feed: Mutex<Feed>,
    wire: Wire,
    pulse: Pulse,
}

impl Stage {
    /// A fresh table with the first project and its keys.
    pub async fn new() -> Self {
        Self::with(1, thrum_ingest::Config::default()).await
    }

    /// [`Self::new`], with an admin key and a metrics key.
    pub async fn with_admin() -> Self {
        let config = thrum_ingest::Config {
            admin_key: AdminKey::Key(ADMIN_KEY.into()),
            metrics_key: Some(METRICS_KEY.into()),
            ..Default::default()
        };
        Self::with(1, config).await
    }

    /// [`Self::new`], with a number of timer shards and a configuration of ingest. Private
    /// webhooks are always allowed.
    pub async fn with(shards: u16, config: thrum_ingest::Config) -> Self {
        let meter = Meter::default();
        let options = Options {
            meter: Some(meter.clone()),
            all_changes: true,
            ..Options::default()
        };
        let table = SqliteTable::temporary(options).expect("a table");
        let port = Arc::new(table.clone());
        Self::build(shards, config, meter, table, port).await
    }

    /// [`Self::new`], on an emulator's table. Methods that read the embedded table's feed find
    /// nothing there.
    pub async fn on(emulator: &Dynoxide) -> Self {
        let port = Arc::new(emulator.table(TABLE).await);
        let table = SqliteTable::temporary(Options::default()).expect("a table");
        let config = thrum_ingest::Config::default();
        Self::build(1, config, Meter::default(), table, port).await
    }

    async fn build(
        shards: u16,
        config: thrum_ingest::Config,
        meter: Meter,
        table: SqliteTable,
        port: Arc<dyn Table>,
    ) -> Self {
        let world = ManualWorld::new(START, 42);
        let switch = Switch::new(port);
        let shared: Arc<dyn World> = world.clone();
        let port = Arc::new(switch.clone());
        let store = Store::new(port, TABLE, shards, Arc::clone(&shared));
        prepare(&store).await;
        let config = thrum_ingest::Config {
            networks: Networks::all(),
            proxies: Proxies::parse(&PROXY.ip().to_string()).expect("an address"),
            ..config
        };
        let router = thrum_ingest::router(App::new(store.clone(), config));
        let wire = Wire::default();
        let http = Http::new(Reach::anywhere(), shared);
        let notify = notify_with(&store, &wire, sender(http));
        let pulse = Pulse::new(Arc::new(OwnPing(router.clone())), 5_000, 1);
        let feed = Mutex::new(table.feed());
        Self {
            world,
            meter,
            store,
            router,
            table,
            switch,
            notify,
            feed,
            wire,
            pulse,
        }
    }

    /// The same, with requests to receivers that go through `transport`.
    #[must_use]
    pub fn calling(mut self, transport: impl Transport + 'static) -> Self {
        let http = Http::by(transport, Arc::new(Anywhere), self.world.clone());
        self.notify = notify_with(&self.store, &self.wire, sender(http));
        self
    }

    /// A notify handler whose sender `change` has changed.
    pub fn notify_by(&self, change: impl FnOnce(Sender) -> Sender) -> Notify {
        let http = Http::new(Reach::anywhere(), self.world.clone());
        notify_with(&self.store, &self.wire, change(sender(http)))
    }

    /// A sweeper that claims shards as `name`.
    pub fn sweeper(&self, name: &str) -> Evaluate {
        Evaluate::new(
            self.store.clone(),
            Arc::new(self.wire.clone()),
            name,
            60_000,
        )
    }

    /// Sends the pipeline's own heartbeat through its ingest, if it is due.
    pub async fn keep_pulse(&self) {
        let evaluate = self.sweeper("test");
        evaluate.keep_pulse(&self.pulse).await.expect("a pulse");
    }

    /// A sweeper on a schedule that calls once a minute and sweeps `shards_at_a_time` shards in an
    /// invocation. Its queue is `later`.
    pub fn scheduled(&self, later: Arc<dyn Later>, shards_at_a_time: u16) -> Evaluate {
        let own_ping = OwnPing(self.router.clone());
        let pulse = Pulse::new(Arc::new(own_ping), 30_000, 3);
        self.sweeper("aws")
            .with_timer_queue(later)
            .on_schedule(Schedule::new(pulse, shards_at_a_time))
    }

    /// Keeps the pulse and sweeps every shard, as the schedule would.
    pub async fn tick(&self) -> Swept {
        self.keep_pulse().await;
        let evaluate = self.sweeper("test");
        let mut total = Swept::default();
        for shard in 0..self.store.shards() {
            let swept = evaluate.sweep(shard).await.expect("a sweep");
            total.fired += swept.fired;
            total.flips += swept.flips;
        }
        total
    }

    /// Advances the clock by `ms` and keeps the pulse, but does not sweep.
    pub async fn idle(&self, ms: i64) {
        let evaluate = self.sweeper("test");
        let end = self.world.now() + ms;
        while self.world.now() < end {
            self.world.advance((end - self.world.now()).min(50_000));
            evaluate.keep_pulse(&self.pulse).await.expect("a pulse");
        }
    }

    /// The unhandled changes that the stream forwards to evaluate, and the sequence number of the
    /// last unhandled change.
    async fn changes(&self) -> (Vec<Change>, i64) {
        let feed = self.feed.lock().expect("not poisoned").clone();
        let mut changes = feed.next(usize::MAX).await.expect("changes");
        let last = changes.last().map_or(0, |change| change.sequence);
        changes.retain(Change::is_wanted);
        (changes, last)
    }

    /// Delivers the changes to evaluate; returns how many there were.
    async fn stream(&self, evaluate: &Evaluate) -> usize {
        let (changes, last) = self.changes().await;
        let count = changes.len();
        for changes in changes.chunks(100) {
            let response = evaluate.on_stream(&event_of(changes.to_vec())).await;
            assert!(response.batch_item_failures.is_empty());
        }
        self.feed.lock().expect("not poisoned").advance(last);
        count
    }

    /// Delivers changes to evaluate and work to notify until none is left.
    pub async fn carry(&self) {
        let evaluate = self.sweeper("test");
        loop {
            let count = self.stream(&evaluate).await;
            let works = self.wire.take();
            if works.is_empty() && count == 0 {
                return;
            }
            let mut deliveries = Vec::new();
            for work in &works {
                match work {
                    Work::Evaluate(work) => evaluate.work(work).await.expect("evaluate"),
                    Work::Notify(work) => deliveries.push(work),
                }
            }
            let handled = deliveries.iter().map(|work| self.notify.handle(work));
            for result in futures::future::join_all(handled).await {
                result.expect("notify");
            }
        }
    }

    /// Every change since the beginning.
    pub async fn all_changes(&self) -> Vec<Change> {
        let feed = self.table.feed();
        feed.next(usize::MAX).await.expect("changes")
    }

    /// Every change since the beginning, as Lambda delivers it.
    pub async fn records(&self) -> Vec<Value> {
        self.all_changes().await.iter().map(record).collect()
    }

    /// Removes every item whose TTL expires within a year of [`START`]; returns how many there
    /// were.
    pub async fn expire_all(&self) -> usize {
        let year_s = 366 * 86_400;
        let removed = self.table.remove_expired(START.secs() + year_s);
        removed.await.expect("the table removes expired items")
    }

    /// Delivers every change since the beginning to evaluate once more, and carries all work that
    /// follows.
    pub async fn redeliver(&self) {
        let mut changes = self.all_changes().await;
        changes.retain(Change::is_wanted);
        for changes in changes.chunks(100) {
            let event = event_of(changes.to_vec());
            let response = self.sweeper("test").on_stream(&event).await;
            assert!(response.batch_item_failures.is_empty());
        }
        self.carry().await;
    }

    /// Delivers the changes to evaluate, and discards the work that it publishes, as in a crash.
    pub async fn lose_work(&self) {
        self.stream(&self.sweeper("test")).await;
        self.wire.take();
    }

    /// Discards the unhandled changes and all work in transit, as in a crash.
    pub async fn lose_bus(&self) {
        let (_, last) = self.changes().await;
        self.feed.lock().expect("not poisoned").advance(last);
        self.wire.take();
    }

    /// Advances the clock by `ms` in steps of `step_ms`, and does everything that is due at each
    /// step.
    pub async fn run(&self, ms: i64, step_ms: i64) {
        let end = self.world.now() + ms;
        while self.world.now() < end {
            let left = end - self.world.now();
            self.world.advance(step_ms.min(left));
            self.tick().await;
            self.carry().await;
        }
    }

    /// Sends a request through ingest, as from a trusted proxy.
    pub async fn send(&self, mut request: Request<Body>) -> Reply {
        request.extensions_mut().insert(ConnectInfo(PROXY));
        let reply = match self.router.clone().oneshot(request).await {
            Ok(reply) => reply,
            Err(never) => match never {},
        };
        let (parts, body) = reply.into_parts();
        Reply {
            status: parts.status,
            headers: parts.headers,
            bytes: body.collect().await.expect("a body").to_bytes().to_vec(),
        }
    }

    /// A request with the read-write key.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> Reply {
        self.call_by("x-api-key", API_KEY, method, path, body).await
    }

    /// A request with the admin key.
    pub async fn admin(&self, method: Method, path: &str, body: Value) -> Reply {
        self.call_by("x-admin-key", ADMIN_KEY, method, path, body)
            .await
    }

    async fn call_by(
        &self,
        header: &str,
        key: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> Reply {
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header, key)
            .body(body)
            .expect("a request");
        self.send(request).await
    }

    /// A request with any API key and a raw body.
    pub async fn send_as(&self, method: &str, path: &str, key: &str, body: &str) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", key)
            .body(Body::from(body.to_owned()));
        self.send(request.expect("a request")).await
    }

    /// Sends a ping.
    pub async fn ping(&self, path: &str) -> Reply {
        let request = Request::get(format!("/ping/{path}")).body(Body::empty());
        self.send(request.expect("a request")).await
    }

    /// Sends a heartbeat that must be accepted; returns its result.
    pub async fn heartbeat(&self, body: Value) -> Value {
        let reply = self.call(Method::POST, "/v1/heartbeats", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["results"][0].clone()
    }

    /// Creates a webhook channel to `url`, with `more` fields; returns its id.
    pub async fn webhook(&self, url: &str, more: Value) -> String {
        let mut body = json!({ "kind": "webhook", "url": url });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        let reply = self.call(Method::POST, "/v1/channels", body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["id"].as_str().expect("an id").to_owned()
    }

    /// The alerts, newest first.
    pub async fn alerts(&self) -> Vec<Value> {
        let reply = self
            .call(Method::GET, "/v1/alerts?limit=200", Value::Null)
            .await;
        reply.json()["alerts"].as_array().expect("alerts").clone()
    }

    /// A monitor as the API shows it.
    pub async fn monitor(&self, id: &str) -> Value {
        let path = format!("/v1/monitors/{id}");
        self.call(Method::GET, &path, Value::Null).await.json()
    }
}
