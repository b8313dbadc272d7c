//! Two regions on embedded tables: a fence, and a replica for each.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use e2e::vendors::Anywhere;
use e2e::{Stage, Switch};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use thrum_evaluate::{Bus, BusError, Evaluate};
use thrum_ingest::{AdminKey, App, Config};
use thrum_notify::Sender;
use thrum_notify::send::{Answer, Call as Outgoing, Http, SendError, Transport};
use thrum_schema::fence::{Fence, Refused, Region, Report, TIMING};
use thrum_schema::work::{EvaluateWork, NotifyWork, Work};
use thrum_schema::world::{ManualWorld, World};
use thrum_schema::{
    Alert, AlertId, Channel, ChannelId, ChannelKind, Delivery, DeliveryState, Event, Flip, Monitor,
    MonitorId, MonitorState, Outage, PingKind, Project, ProjectId, Status, Targets, UnixMs,
    transition,
};
use thrum_store::key::Key;
use thrum_store::regions::{CALL, ChangeError, FenceTable, FencedTable, Regions, Role};
use thrum_store::sqlite::{Options, SqliteTable};
use thrum_store::table::{
    self, Batch, Call, Item, Page, Query, Read, Table, TableError, Write, put,
};
use thrum_store::{Claim, Standing, Store, item};
use tower::ServiceExt;
use uuid::Uuid;

const NOW: UnixMs = UnixMs(1_763_700_000_000);

fn new_table() -> Arc<SqliteTable> {
    Arc::new(SqliteTable::temporary(Options::default()).unwrap())
}

fn region(name: &str) -> Region {
    Region(name.to_owned())
}

/// Both regions; `a` is active.
struct Pair {
    world: Arc<ManualWorld>,
    /// The fence, and each region's way to it.
    fence: FenceTable,
    ways: [Arc<Switch>; 2],
    replicas: [Arc<SqliteTable>; 2],
    regions: [Regions; 2],
    ingest: [FencedTable; 2],
}

impl Pair {
    async fn new() -> Self {
        let world = ManualWorld::new(NOW, 7);
        let stored = new_table();
        let fence = FenceTable::new(stored.clone(), "fence");
        let first = Fence::new(region("a"), NOW, &TIMING);
        assert!(fence.create(&first).await.unwrap());
        let replicas = [new_table(), new_table()];
        let ways = [(); 2].map(|()| Arc::new(Switch::new(stored.clone())));
        let regions = [0, 1].map(|i| {
            let both = [region(["a", "b"][i]), region(["b", "a"][i])];
            Regions::new(
                both,
                FenceTable::new(ways[i].clone(), "fence"),
                world.clone(),
            )
        });
        let ingest = [0, 1].map(|i| {
            let replica = |i: usize| {
                let table: Arc<dyn Table> = replicas[i].clone();
                (region(["a", "b"][i]), table)
            };
            FencedTable::active(regions[i].clone(), [replica(0), replica(1)])
        });
        Self {
            world,
            fence,
            ways,
            replicas,
            regions,
            ingest,
        }
    }

    /// Writes an item through ingest in a region; in which replicas it is then.
    async fn write(&self, from: usize, name: &str) -> Result<[bool; 2], TableError> {
        let key = Key::new(name, "x");
        let mut item = Item::default();
        item.insert("pk".into(), table::Value::S(name.to_owned()));
        item.insert("sk".into(), table::Value::S("x".to_owned()));
        self.ingest[from].write(put(item)).await?;
        let mut found = [false; 2];
        for (found, replica) in found.iter_mut().zip(&self.replicas) {
            let read = replica.get(key.clone(), Read::Consistent).await?;
            *found = read.is_some();
        }
        Ok(found)
    }

    async fn renew(&self, region: usize) -> Result<Option<Fence>, ChangeError> {
        let now = self.world.now();
        let renew = |fence: &Fence, me: &Region| fence.renewed(me, now, &TIMING);
        self.regions[region].change(renew).await
    }

    async fn take_over(&self, region: usize) -> Result<Option<Fence>, ChangeError> {
        let now = self.world.now();
        let take = |fence: &Fence, me: &Region| fence.taken_over(me, now, &TIMING);
        self.regions[region].change(take).await
    }
}

async fn may_act(pair: &Pair, region: usize) -> Option<u64> {
    match pair.regions[region].role().await.unwrap() {
        Role::Active(act) => act.may(CALL).await.is_ok().then_some(act.epoch()),
        Role::Repairing(_) | Role::Passive => None,
    }
}

#[tokio::test]
async fn ingest_everywhere_writes_to_the_active_region_alone() {
    let pair = Pair::new().await;
    assert_eq!(pair.write(0, "one").await.unwrap(), [true, false]);
    assert_eq!(pair.write(1, "two").await.unwrap(), [true, false]);
    assert_eq!(may_act(&pair, 0).await, Some(1));
    assert_eq!(may_act(&pair, 1).await, None);

    // `a` dies. Its replica is written as long as its lease lasts, and nobody's after that.
    pair.world.advance(52_000);
    assert_eq!(pair.write(1, "three").await.unwrap(), [true, false]);
    pair.world.advance(1);
    for from in [0, 1] {
        let refused = pair.write(from, "four").await.unwrap_err().to_string();
        assert!(refused.contains("the lease of a ends"), "{refused}");
    }
    let early = pair.take_over(1).await.unwrap_err();
    assert!(matches!(
        early,
        ChangeError::Refused(Refused::Leased { .. })
    ));
    pair.world.advance(22_000);
    let taken = pair.take_over(1).await.unwrap().unwrap();
    assert_eq!((taken.active, taken.epoch), (region("b"), 2));
    assert_eq!(pair.write(1, "five").await.unwrap(), [false, true]);
    assert_eq!(pair.write(0, "six").await.unwrap(), [false, true]);
    // It does not judge before it has repaired.
    assert_eq!(may_act(&pair, 1).await, None);
    let repaired = |fence: &Fence, me: &Region| fence.repaired(me);
    assert!(pair.regions[1].change(repaired).await.unwrap().is_some());
    assert_eq!(may_act(&pair, 1).await, Some(2));
    // `a` comes back, and learns that it is not active any more.
    let late = pair.renew(0).await.unwrap_err();
    assert!(matches!(late, ChangeError::Refused(Refused::NotActive(_))));
    assert_eq!(may_act(&pair, 0).await, None);
}

#[tokio::test]
async fn a_region_that_is_cut_off_from_the_fence_stops_within_seconds() {
    let pair = Pair::new().await;
    pair.write(0, "one").await.unwrap();
    pair.ways[0].off();
    pair.world.advance(4_999);
    assert_eq!(pair.write(0, "two").await.unwrap(), [true, false]);
    pair.world.advance(1);
    assert!(pair.write(0, "three").await.is_err());
    assert!(pair.regions[0].role().await.is_err());
    assert!(pair.renew(0).await.is_err());
    // The other one still reaches it.
    assert_eq!(pair.write(1, "four").await.unwrap(), [true, false]);
}

#[tokio::test]
async fn of_two_changes_one_succeeds_and_its_repetition_is_recognised() {
    let pair = Pair::new().await;
    let read = pair.fence.read().await.unwrap().unwrap();
    let renewed = read.renewed(&region("a"), NOW + 20_000, &TIMING).unwrap();
    let handed = read.handed_over(&region("b")).unwrap();
    assert!(pair.fence.replace(&read, &renewed).await.unwrap());
    assert!(pair.fence.replace(&read, &renewed).await.unwrap(), "again");
    assert!(!pair.fence.replace(&read, &handed).await.unwrap());
    assert!(!pair.fence.create(&read).await.unwrap());
    assert_eq!(pair.fence.read().await.unwrap(), Some(renewed));
}

/// Everything that Thrum does with its table works on the active replica.
#[tokio::test]
async fn a_store_works_on_the_active_replica() {
    let Pair {
        world,
        replicas,
        ingest,
        ..
    } = Pair::new().await;
    let [_, from] = ingest;
    let store = Store::new(Arc::new(from), "two regions", 1, world.clone());
    store.ensure_pipeline(world.now()).await.unwrap();
    store.probe(world.now()).await.unwrap();
    assert!(store.project(ProjectId::PIPELINE).await.is_ok());
    assert!(!replicas[0].items().await.unwrap().is_empty());
    assert!(replicas[1].items().await.unwrap().is_empty());
}

/// An operator sees both regions, and switches only to one that has caught up.
#[tokio::test]
async fn an_operator_switches_to_a_region_that_has_caught_up() {
    let pair = Pair::new().await;
    let Pair {
        world,
        fence,
        replicas,
        regions: [a, _],
        ..
    } = &pair;
    let table: Arc<dyn Table> = replicas[0].clone();
    let store = Store::new(table, "two regions", 1, world.clone());
    store.ensure_pipeline(world.now()).await.unwrap();
    let config = Config {
        admin_key: AdminKey::Key(e2e::ADMIN_KEY.into()),
        regions: Some(a.clone()),
        ..Config::default()
    };
    let router = thrum_ingest::router(App::new(store, config));
    let call = async |method: &str, path: &str, key: &str, body: Value| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-admin-key", key)
            .body(Body::from(body.to_string()))
            .unwrap();
        let reply = router.clone().oneshot(request).await.unwrap();
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        (status, body)
    };
    let to = |region: &str, force: bool| json!({ "to": region, "force": force });
    let switch = async |body: Value| call("POST", "/v1/regions/switch", e2e::ADMIN_KEY, body).await;
    let (status, _) = call("GET", "/v1/regions", "wrong", Value::Null).await;
    assert_eq!(status, 401);
    let (status, shown) = call("GET", "/v1/regions", e2e::ADMIN_KEY, Value::Null).await;
    assert_eq!(
        (status, &shown["active"], &shown["ready"]),
        (200, &json!("a"), &json!(true))
    );
    assert_eq!(shown["passive"], Value::Null);
    let (status, problem) = switch(to("c", false)).await;
    assert_eq!((status, &problem["field"]), (400, &json!("to")));
    let (status, _) = switch(to("a", false)).await;
    assert_eq!(status, 409, "it is active, and no switch is under way");

    let (status, problem) = switch(to("b", false)).await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .starts_with("b has not reported")
    );
    let read = fence.read().await.unwrap().unwrap();
    for (pulse_ms, why) in [
        (None, Some("b has no replica of the table yet")),
        (Some(80_000), Some("the replica in b is 80 s behind")),
        (Some(30_000), None),
    ] {
        let pulse = pulse_ms.map(|ms| world.now() - ms);
        let report = Report::after(None, &region("b"), &read, pulse, world.now());
        fence.put_report(&report).await.unwrap();
        let (status, reply) = switch(to("b", false)).await;
        match why {
            Some(why) => assert!(
                reply["detail"].as_str().unwrap().starts_with(why),
                "{reply}"
            ),
            None => assert_eq!((status, &reply["next"]), (200, &json!("b"))),
        }
    }
    let (status, shown) = switch(to("a", false)).await;
    assert_eq!(
        (status, &shown["next"]),
        (200, &Value::Null),
        "it is withdrawn"
    );
    world.advance(120_000);
    let (status, _) = switch(to("b", false)).await;
    assert_eq!(status, 409, "b has not reported for two minutes");
    let (status, _) = switch(to("b", true)).await;
    assert_eq!(status, 200);
}

/// Counts the calls of a table.
#[derive(Debug)]
struct Counted(Arc<SqliteTable>, AtomicUsize);

impl Counted {
    fn count(&self) -> &SqliteTable {
        self.1.fetch_add(1, Ordering::Relaxed);
        &self.0
    }
}

impl Table for Counted {
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>> {
        self.count().get(key, read)
    }

    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch> {
        self.count().get_many(keys, read)
    }

    fn query(&self, query: Query) -> Call<'_, Page> {
        self.count().query(query)
    }

    fn write(&self, write: Write) -> Call<'_, Option<Item>> {
        self.count().write(write)
    }

    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>> {
        self.count().write_many(writes)
    }

    fn transact(&self, writes: Vec<Write>, token: Uuid) -> Call<'_, ()> {
        self.count().transact(writes, token)
    }
}

#[derive(Debug)]
struct Nothing;

impl Bus for Nothing {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        Box::pin(async move { works.iter().map(|_| Ok(())).collect() })
    }
}

/// A takeover checks every monitor and arms the timers that are missing; what that takes bounds the time in which nobody
/// evaluates. docs/regions.md has the times, from the number of calls.
#[tokio::test]
async fn a_takeover_of_many_monitors_takes_few_calls() {
    const MONITORS: usize = 2_000;
    let pair = Pair::new().await;
    let table = Arc::new(Counted(pair.replicas[1].clone(), AtomicUsize::new(0)));
    let store = Store::new(table.clone(), "b", 4, pair.world.clone());
    store.ensure_pipeline(NOW).await.unwrap();
    let project = Project::new(ProjectId::FIRST, "many");
    assert!(store.create_project(&project).await.unwrap());
    for i in 0..MONITORS {
        let id = MonitorId(pair.world.uuid_v4());
        let monitor = Monitor {
            name: format!("host-{i}"),
            ..Monitor::new(id, ProjectId::FIRST, NOW - 3_600_000)
        };
        let ping = Event::Ping {
            kind: PingKind::Success,
            rid: None,
            at: NOW,
            why: None,
        };
        let outcome = transition(&monitor, &MonitorState::new(&monitor), &ping, NOW);
        // Its timer was not replicated.
        let items = [
            item::monitor(&monitor),
            item::owner(&monitor),
            item::state(&outcome.state),
        ];
        for item in items {
            pair.replicas[1].write(put(item)).await.unwrap();
        }
    }
    pair.world.advance(80_000);
    pair.take_over(1).await.unwrap().unwrap();
    table.1.store(0, Ordering::Relaxed);
    let evaluate = Evaluate::new(store.clone(), Arc::new(Nothing), "b", 150_000)
        .in_region(pair.regions[1].clone());
    // By now, nobody believes the fence of before.
    pair.world.advance(6_000);
    evaluate.work(&EvaluateWork::Tend).await.unwrap();
    let fence = pair.fence.read().await.unwrap().unwrap();
    assert!(fence.ready, "{fence:?}");
    let repair = pair.fence.repair().await.unwrap().unwrap();
    assert_eq!((repair.monitors, repair.timers), (2_000, 2_000));
    let calls = table.1.load(Ordering::Relaxed);
    // It reads the timers of a day, because the monitors are due by then: 4 shards of 1,440 minutes, and some before.
    let timers = 4 * (24 * 60 + 10);
    assert!(calls < timers + MONITORS / 10, "{calls}");
}

/// A region whose name nobody knows is written by nobody.
#[tokio::test]
async fn an_unknown_region_has_no_replica() {
    let pair = Pair::new().await;
    let read = pair.fence.read().await.unwrap().unwrap();
    let wrong = Fence {
        active: region("A"),
        version: read.version + 1,
        ..read.clone()
    };
    assert!(pair.fence.replace(&read, &wrong).await.unwrap());
    let refused = pair.write(0, "one").await.unwrap_err();
    assert!(matches!(refused, TableError::Invalid(_)), "{refused}");
}

/// Work that began before a takeover writes nowhere after it, not even if its region is active again.
#[tokio::test]
async fn work_ends_with_its_epoch() {
    let pair = Pair::new().await;
    let Role::Active(act) = pair.regions[0].role().await.unwrap() else {
        panic!("a is active");
    };
    let own = FencedTable::own(&act, pair.replicas[0].clone());
    let read = async || own.get(Key::fence(), Read::Consistent).await;
    assert!(read().await.is_ok());
    pair.world.advance(100_000);
    assert!(read().await.is_err(), "the lease has ended");
    pair.take_over(1).await.unwrap().unwrap();
    // An ended lease is looked at again after a second.
    pair.world.advance(1_000);
    let refused = read().await.unwrap_err().to_string();
    assert!(refused.contains("before b became active"), "{refused}");
    let back = |fence: &Fence, _: &Region| fence.handed_over(&region("a"));
    pair.regions[1].change(back).await.unwrap().unwrap();
    pair.world.advance(100_000);
    pair.take_over(0).await.unwrap().unwrap();
    let refused = read().await.unwrap_err().to_string();
    assert!(refused.contains("before a became active"), "{refused}");
}

fn success(at: UnixMs) -> Event<'static> {
    Event::Ping {
        kind: PingKind::Success,
        rid: None,
        at,
        why: None,
    }
}

/// A monitor whose first heartbeat has arrived, and what its creation writes.
fn created(world: &ManualWorld, at: UnixMs) -> (Monitor, Vec<Item>) {
    let monitor = Monitor {
        name: "job".into(),
        slug: "job".into(),
        targets: Targets::All,
        ..Monitor::new(MonitorId(world.uuid_v4()), ProjectId::FIRST, at)
    };
    let outcome = transition(&monitor, &MonitorState::new(&monitor), &success(at), at);
    let flip = outcome
        .flip
        .as_ref()
        .expect("the first heartbeat is a flip");
    let items = vec![
        item::monitor(&monitor),
        item::owner(&monitor),
        item::name(&monitor),
        item::state(&outcome.state),
        item::flip(monitor.id, flip),
    ];
    (monitor, items)
}

/// The store of a region, to which only some of these items were replicated.
async fn replicated(pair: &Pair, items: &[Item]) -> Store {
    let store = Store::new(pair.replicas[1].clone(), "b", 1, pair.world.clone()).replicated();
    store.ensure_pipeline(NOW).await.unwrap();
    for item in items {
        pair.replicas[1].write(put(item.clone())).await.unwrap();
    }
    store
}

/// A state that was not replicated is what the flips show, and not that of a monitor that TTL removed because it was
/// down: otherwise its next failure would raise no alert.
#[tokio::test]
async fn a_state_that_did_not_arrive_is_not_taken_for_an_expired_one() {
    let pair = Pair::new().await;
    let (monitor, mut items) = created(&pair.world, NOW);
    items.remove(3);
    let store = replicated(&pair, &items).await;
    pair.world.advance(120_000);
    let found = store.snapshot(monitor.id).await.unwrap().unwrap();
    assert_eq!((found.stored, found.state.flips), (false, 1));
    assert_eq!(found.state.status, Status::Up);
    // Much later, TTL may have removed it: then it was down, and that flip counts.
    let waits_ms = 1_000 * i64::from(monitor.grace_s + monitor.schedule.period_s().unwrap());
    pair.world.advance(waits_ms + 3_600_000);
    let found = store.snapshot(monitor.id).await.unwrap().unwrap();
    assert_eq!(found.state.flips, 2);
    assert_eq!(found.state.status, Status::Down);
}

/// A name whose monitor did not arrive is free again, and only then.
#[tokio::test]
async fn a_name_whose_monitor_did_not_arrive_is_free_again() {
    let pair = Pair::new().await;
    let (monitor, items) = created(&pair.world, NOW);
    let project = monitor.project;
    let store = replicated(&pair, &items).await;
    store
        .release_name(project, "job", monitor.id)
        .await
        .unwrap();
    let named = store.monitor_named(project, "job").await.unwrap();
    assert_eq!(named, Some(monitor.id), "it has a configuration");
    let config = Key::monitor(project, monitor.id);
    pair.replicas[1].write(table::delete(config)).await.unwrap();
    let other = MonitorId(pair.world.uuid_v4());
    store.release_name(project, "job", other).await.unwrap();
    assert!(store.monitor_named(project, "job").await.unwrap().is_some());
    store
        .release_name(project, "job", monitor.id)
        .await
        .unwrap();
    assert_eq!(store.monitor_named(project, "job").await.unwrap(), None);
}

/// An alert of the lost region that contradicts what this one has decided since is not sent, even if this one has missed
/// flips, so that it counts fewer; nor is one of a monitor that was created here again before it arrived.
#[tokio::test]
async fn an_alert_that_arrives_too_late_is_superseded() {
    let pair = Pair::new().await;
    let (monitor, items) = created(&pair.world, NOW);
    let store = replicated(&pair, &items).await;
    // The second flip of the monitor.
    let alert = |at: UnixMs| {
        let first: Flip = item::decode(items[4].clone()).unwrap();
        let flip = Flip { n: 2, at, ..first };
        let id = AlertId(pair.world.uuid_v7(at));
        Alert::of_flip(id, &monitor, &flip, None, None, None)
    };
    let standing = async |at: UnixMs| store.standing(&alert(at)).await.unwrap();
    assert_eq!(standing(NOW + 30_000).await, Standing::Unknown);
    assert_eq!(standing(NOW - 30_000).await, Standing::Superseded);
    let again = Monitor {
        id: MonitorId(pair.world.uuid_v4()),
        created: NOW + 70_000,
        ..monitor.clone()
    };
    let outage = Outage::takeover(NOW - 90_000, NOW + 150_000);
    store.put_outage(&outage).await.unwrap();
    for item in [item::name(&again), item::monitor(&again)] {
        pair.replicas[1].write(put(item)).await.unwrap();
    }
    assert_eq!(standing(NOW + 30_000).await, Standing::Superseded);
}

/// A receiver that accepts everything.
#[derive(Debug, Clone, Default)]
struct Inbox(Arc<AtomicUsize>);

impl Transport for Inbox {
    fn call<'a>(&'a self, _: &'a Outgoing) -> BoxFuture<'a, Result<Answer, SendError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(Answer::of(StatusCode::OK)) })
    }
}

/// The failure of a monitor, which is replicated after its recovery was sent, is not sent any more. But what a person asks
/// for is.
#[tokio::test]
async fn an_overtaken_alert_is_sent_only_if_a_person_asks_for_it() {
    let stage = Stage::new().await;
    let (world, store) = (stage.world.clone(), stage.store.clone());
    let now = world.now();
    let fence = FenceTable::new(new_table(), "fence");
    let first = Fence::new(region("a"), now, &TIMING);
    assert!(fence.create(&first).await.unwrap());
    let regions = Regions::new([region("b"), region("a")], fence, world.clone());
    let inbox = Inbox::default();
    let sent = inbox.0.clone();
    let http = Http::by(inbox, Arc::new(Anywhere), world.clone());
    let notify = stage
        .notify_by(|sender| Sender { http, ..sender })
        .in_region(regions.clone());

    // It went down and up again before the takeover.
    let (monitor, items) = created(&world, now);
    let last: Flip = item::decode(items[4].clone()).unwrap();
    let flip = |n: u64, to: Status| Flip {
        n,
        to,
        at: now + i64::try_from(n).unwrap() * 1_000,
        ..last.clone()
    };
    let down = flip(2, Status::Down);
    let up = flip(3, Status::Up);
    let [l, m] = [&down, &up].map(|flip| AlertId(world.uuid_v7(flip.at)));
    let alerts = [
        Alert::of_flip(l, &monitor, &down, None, None, None),
        Alert::of_flip(m, &monitor, &up, None, Some(l), None),
    ];
    let state = MonitorState {
        last_alert: Some(m),
        ..up.state_of(&monitor, None)
    };
    let channels = [(); 2].map(|()| {
        let via = ChannelKind::Webhook {
            url: "https://hook.example.org/".into(),
            secret: "whsec_c2VjcmV0".into(),
            more: std::collections::BTreeMap::new(),
        };
        Channel::new(ChannelId(world.uuid_v4()), monitor.project, via, now)
    });
    let ids = channels.each_ref().map(|channel| channel.id);
    let dead = Delivery {
        state: Some(DeliveryState::Dead),
        ..Delivery::default()
    };
    let items = items
        .into_iter()
        .filter(|item| item["sk"] != item::state(&state)["sk"]);
    let items = items
        .chain([item::state(&state), item::delivery(l, ids[1], &dead)])
        .chain(alerts.iter().map(item::alert))
        .chain(channels.iter().map(item::channel));
    for item in items {
        stage.table.write(put(item)).await.unwrap();
    }
    for alert in [l, m] {
        store.plan(monitor.project, alert, &ids, &[]).await.unwrap();
    }
    for channel in ids {
        store
            .close(monitor.project, m, channel, false)
            .await
            .unwrap();
    }
    world.advance(80_000);
    let now = world.now();
    let taken = regions.change(|fence, me| fence.taken_over(me, now, &TIMING));
    taken.await.unwrap().unwrap();
    let repaired = regions.change(Fence::repaired);
    repaired.await.unwrap().unwrap();

    let deliver = |channel: ChannelId| NotifyWork::Deliver {
        project: monitor.project,
        alert: l,
        channel,
    };
    notify.handle(&deliver(ids[0])).await.unwrap();
    assert_eq!(sent.load(Ordering::Relaxed), 0);
    let ended = store.delivery(l, ids[0]).await.unwrap().unwrap();
    assert_eq!(ended.state, Some(DeliveryState::Suppressed));

    let claim = Claim {
        project: monitor.project,
        alert: l,
        channel: ids[1],
        token: world.uuid_v4(),
        until: now,
    };
    store.redeliver(&claim, now).await.unwrap();
    notify.handle(&deliver(ids[1])).await.unwrap();
    assert_eq!(sent.load(Ordering::Relaxed), 1);
    let open = store.alert(monitor.project, l).await.unwrap().unwrap().open;
    assert_eq!(open, None, "all of it has ended");
}
