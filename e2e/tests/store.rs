//! The store's operations, each with the conditions that it relies on: the same suite on the
//! embedded table, and through the AWS SDK on two third-party DynamoDB emulators, dynoxide and
//! moto.
//!
//! `THRUM_TEST_DYNOXIDE` is the path of dynoxide's binary, `THRUM_TEST_PYTHON` a Python with
//! `moto[server]`; tests without their emulator report that they are skipped.

use crate::support::Moto;
use e2e::dynoxide::Dynoxide;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use thrum_schema::Targets;
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::channel::{Channel, ChannelKind, Subscription, SubscriptionState};
use thrum_schema::id::{AlertId, ChannelId, MonitorId, ProjectId, RequestId, WatchId};
use thrum_schema::key::{ApiKey, Scope, hash};
use thrum_schema::signal::request::{Request, RequestKind, RequestState};
use thrum_schema::signal::track::{Followed, Holds, Signal, TrackId, TrackState};
use thrum_schema::signal::watch::{On, Watch, WatchState};
use thrum_schema::signal::{Bar, Calendar, Explanation, Score, SeriesName, Timeframe};
use thrum_schema::timer::{Timer, What};
use thrum_schema::world::ManualWorld;
use thrum_schema::{
    DeliveryState, Event, Monitor, MonitorState, Outage, PingKind, Project, Rate, Status, UnixMs,
    World, transition,
};
use thrum_store::Advance;
use thrum_store::dynamodb::{DynamoTable, retrying};
use thrum_store::sqlite::{Options, SqliteTable};
use thrum_store::table::Table as Port;
use thrum_store::{
    Charge, Charged, Claim, Claims, Commit, Creation, Fast, Fed, Kind, Nudge, PutBar, Rules,
    Settled,
};
use thrum_store::{Store, StoreError};
use uuid::Uuid;

const NOW: UnixMs = UnixMs(1_763_700_000_000);
const PROJECT: ProjectId = ProjectId::FIRST;

/// A table under test.
struct Table {
    store: Store,
    /// Whether it supports concurrent calls. moto does not: its updates are not atomic, and
    /// cancelling a transaction also undoes concurrent writes.
    concurrent: bool,
    world: Arc<ManualWorld>,
}

async fn prepared(port: Arc<dyn Port>, name: &str, concurrent: bool) -> Table {
    // An account remembers the tokens of all its tables, so each table needs its own seed.
    let seed = name.bytes().fold(0, |seed: u64, b| {
        seed.wrapping_mul(31).wrapping_add(b.into())
    });
    let world = ManualWorld::new(NOW, seed);
    let store = Store::new(port, "thrum", 3, world.clone());
    store.ensure_pipeline(NOW).await.unwrap();
    store.ensure_pipeline(NOW).await.unwrap();
    let project = Project::with_badges(PROJECT, "default", &*world);
    assert!(store.create_project(&project).await.unwrap());
    Table {
        store,
        concurrent,
        world,
    }
}

async fn embedded() -> Table {
    let table = SqliteTable::temporary(Options::default()).unwrap();
    prepared(Arc::new(table), "embedded", true).await
}

async fn on_dynoxide(emulator: &Dynoxide, name: &str) -> Table {
    prepared(Arc::new(emulator.table(name).await), name, true).await
}

async fn on_moto(moto: &Moto, name: &str) -> Table {
    let config = retrying((&moto.config).into()).build();
    let table = DynamoTable::new(aws_sdk_dynamodb::Client::from_conf(config), name);
    table.create().await.unwrap();
    table.create().await.unwrap();
    prepared(Arc::new(table), name, false).await
}

impl Table {
    /// Runs the racers concurrently if the table supports that, else one after the other.
    async fn race<T>(&self, racers: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
        if self.concurrent {
            return join_all(racers).await;
        }
        let mut done = Vec::new();
        for racer in racers {
            done.push(racer.await);
        }
        done
    }
}

/// Runs each test on each table.
macro_rules! on_each {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test] async fn $name() { super::$name(super::embedded().await).await; })*
        }

        #[tokio::test]
        async fn on_dynoxide_too() {
            let Some(emulator) = Dynoxide::start().await else { return };
            $(
                eprintln!("{}", stringify!($name));
                $name(on_dynoxide(&emulator, stringify!($name)).await).await;
            )*
        }

        #[tokio::test]
        async fn on_moto_too() {
            let Some(moto) = Moto::start() else { return };
            $(
                eprintln!("{}", stringify!($name));
                $name(on_moto(&moto, stringify!($name)).await).await;
            )*
        }
    };
}

on_each!(
    a_heartbeat_is_one_conditional_write,
    a_commit_is_all_or_nothing,
    racing_creations_create_one_monitor,
    a_deleted_monitor_stays_deleted,
    timers_are_packed_ordered_and_armed_once,
    one_sweeper_claims_a_shard_and_cursors_never_go_back,
    a_limit_is_never_exceeded,
    a_quota_and_a_rate_are_enforced_together,
    one_worker_claims_a_delivery,
    a_later_alert_waits_for_an_earlier_one,
    a_group_is_formed_from_gathered_deliveries,
    an_alert_is_planned_once_and_closed_by_its_channels,
    alerts_are_listed_in_order_over_partitions_and_months,
    channels_keep_their_subscriptions_and_failures,
    bars_are_written_once_and_can_be_corrected,
    nudges_are_counted_and_a_series_head_never_goes_back,
    a_series_is_set_up_and_deleted_in_parts,
    a_request_is_finished_once,
    the_state_of_a_watch_is_guarded_by_its_version,
    keys_rotate_and_projects_are_replaced_only_if_unchanged,
    outages_are_extended_and_probes_and_pulses_are_recorded,
);

fn monitor(n: u128, name: &str) -> Monitor {
    Monitor {
        name: name.into(),
        slug: name.into(),
        ..Monitor::new(MonitorId(uuid_like(n)), PROJECT, NOW)
    }
}

/// A UUID that looks as random as a monitor's.
fn uuid_like(n: u128) -> Uuid {
    uuid::Builder::from_random_bytes(
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            .to_be_bytes(),
    )
    .into_uuid()
}

fn success(at: UnixMs) -> Event<'static> {
    Event::Ping {
        why: None,
        kind: PingKind::Success,
        rid: None,
        at,
    }
}

/// Creates `monitor` by its first heartbeat.
async fn create(store: &Store, monitor: &Monitor) -> Result<MonitorState, StoreError> {
    let outcome = transition(monitor, &MonitorState::new(monitor), &success(NOW), NOW);
    let commit = Commit {
        monitor,
        before: None,
        outcome: &outcome,
        alert: None,
        was: None,
    };
    let creation = Creation {
        commit,
        claims: Claims::Name,
        limit: Some(3),
        after: None,
    };
    store.create_monitor(&creation, NOW).await?;
    Ok(store.states(&[monitor.id]).await?.remove(0))
}

fn alert_id(n: u128) -> AlertId {
    let mut bytes = [0; 10];
    bytes[9] = u8::try_from(n).unwrap();
    AlertId(uuid::Builder::from_unix_timestamp_millis(NOW.0.unsigned_abs(), &bytes).into_uuid())
}

fn claim(alert: AlertId, token: u128, until: UnixMs) -> Claim {
    Claim {
        project: PROJECT,
        alert,
        channel: ChannelId(Uuid::from_u128(1)),
        token: Uuid::from_u128(token),
        until,
    }
}

fn is_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Conflict)), "{result:?}");
}

async fn a_heartbeat_is_one_conditional_write(table: Table) {
    let store = &table.store;
    let job = monitor(1, "job");
    let none = Rules::default();
    let unknown = store.heartbeat(job.id, NOW, none, None).await.unwrap();
    assert!(matches!(unknown, Fast::NeedsRules));
    let state = create(store, &job).await.unwrap();
    assert_eq!((state.status, state.pings), (Status::Up, 1));
    let Fast::Counted(state) = store.heartbeat(job.id, NOW + 5, none, None).await.unwrap() else {
        panic!("expected the fast path");
    };
    assert_eq!((state.pings, state.seen), (2, Some(NOW + 5)));
    assert_eq!(state.expires_at, Some((NOW + 5).secs() + state.ttl_span));
    // A heartbeat older than the last one, and one with another schedule, need the rules.
    let late = store.heartbeat(job.id, NOW + 1, none, None).await.unwrap();
    assert!(matches!(late, Fast::NeedsRules));
    let other = Rules {
        period_s: Some(7),
        ..none
    };
    let other = store.heartbeat(job.id, NOW + 9, other, None).await.unwrap();
    assert!(matches!(other, Fast::NeedsRules));
    // A rate limit: the burst passes, then nothing does.
    let rate = Some(Rate::per_minute(2));
    let mut passed = 0;
    for i in 10..15 {
        match store.heartbeat(job.id, NOW + i, none, rate).await.unwrap() {
            Fast::Counted(_) => passed += 1,
            Fast::TooMany(wait_ms) => assert!((1..=30_000).contains(&wait_ms), "{wait_ms}"),
            Fast::NeedsRules => panic!("expected the fast path"),
        }
    }
    assert_eq!(passed, 2);
    assert_eq!(store.states_lately(&[job.id]).await.unwrap()[0].pings, 4);
}

async fn a_commit_is_all_or_nothing(table: Table) {
    let store = &table.store;
    let job = monitor(1, "job");
    let state = create(store, &job).await.unwrap();
    let later = NOW + 200_000_000;
    let mut outcome = transition(&job, &state, &Event::Timer { outages: &[] }, later);
    let alert = store
        .announce(&job, &mut outcome, None, later)
        .await
        .unwrap()
        .expect("an alert for the flip to down");
    let commit = Commit {
        monitor: &job,
        before: Some(&state),
        outcome: &outcome,
        alert: Some(&alert),
        was: None,
    };
    // A heartbeat arrives in between.
    store
        .heartbeat(job.id, NOW + 1, Rules::default(), None)
        .await
        .unwrap();
    is_conflict(store.commit(&commit, later).await);
    assert_eq!(store.alert(PROJECT, alert.id).await.unwrap(), None);
    let located = store.locate(job.id).await.unwrap().unwrap();
    assert_eq!(located.project, PROJECT);
    let state = located.state.unwrap();
    assert_eq!(state.status, Status::Up);
    let outcome = transition(&job, &state, &Event::Timer { outages: &[] }, later);
    let commit = Commit {
        before: Some(&state),
        outcome: &outcome,
        ..commit
    };
    store.commit(&commit, later).await.unwrap();
    assert_eq!(
        store.alert(PROJECT, alert.id).await.unwrap(),
        Some(alert.clone())
    );
    let flips = store.flips(job.id, 10).await.unwrap();
    assert_eq!(flips[0].to, Status::Down);
    let between = store.flips_between(job.id, NOW + 1, later, 10).await;
    assert_eq!(between.unwrap().len(), 1);
    is_conflict(store.commit(&commit, later).await);
    let timers = store
        .timers_between(audit_shard(&alert, store), later, later + 60_000)
        .await;
    assert_eq!(timers.unwrap().len(), 1, "the audit timer of the alert");
}

fn audit_shard(alert: &Alert, store: &Store) -> u16 {
    let what = What::Audit {
        project: PROJECT,
        alert: alert.id,
    };
    Timer { due: NOW, what }.shard(store.shards())
}

async fn racing_creations_create_one_monitor(table: Table) {
    let store = &table.store;
    let racers: Vec<Monitor> = (1..=8).map(|n| monitor(n, "job")).collect();
    let created = table
        .race(racers.iter().map(|racer| create(store, racer)))
        .await;
    let created: Vec<&MonitorState> = created.iter().flatten().collect();
    assert_eq!(created.len(), 1);
    let named = store.monitor_named(PROJECT, "job").await.unwrap();
    assert_eq!(named, Some(created[0].monitor));
    let slugged = store.monitors_with_slug(PROJECT, "job").await.unwrap();
    assert_eq!(slugged, [created[0].monitor]);
    assert_eq!(store.census(PROJECT).await.unwrap().n, 1);
    // And never more monitors than the plan allows.
    create(store, &monitor(20, "second")).await.unwrap();
    create(store, &monitor(21, "third")).await.unwrap();
    is_conflict(create(store, &monitor(22, "fourth")).await);
    assert_eq!(store.monitors(PROJECT).await.unwrap().len(), 3);
}

async fn a_deleted_monitor_stays_deleted(table: Table) {
    let store = &table.store;
    let job = monitor(1, "job");
    let state = create(store, &job).await.unwrap();
    store.delete_monitor(&job).await.unwrap();
    is_conflict(store.delete_monitor(&job).await);
    assert_eq!(store.monitor(PROJECT, job.id).await.unwrap(), None);
    assert!(store.locate(job.id).await.unwrap().is_none());
    let badge = store.monitor_by_badge(job.badge()).await.unwrap();
    assert_eq!(badge, None);
    // A ping that races the deletion sees no state, as if TTL had removed it.
    let outcome = transition(&job, &state, &success(NOW + 9), NOW + 9);
    let commit = Commit {
        monitor: &job,
        before: None,
        outcome: &outcome,
        alert: None,
        was: None,
    };
    is_conflict(store.commit(&commit, NOW + 9).await);
    assert!(store.states(&[job.id]).await.unwrap().is_empty());
    assert_eq!(store.census(PROJECT).await.unwrap().n, 0);
}

async fn timers_are_packed_ordered_and_armed_once(table: Table) {
    let store = &table.store;
    let due = UnixMs(NOW.minute() * 60_000 + 10_000);
    let timer = |n: u128, due| Timer {
        due,
        what: What::Deadline {
            // All in the same shard.
            monitor: MonitorId(Uuid::from_u128(n << 16)),
            epoch: 1,
        },
    };
    let shard = timer(1, due).shard(store.shards());
    let together: Vec<Timer> = (1..=70).map(|n| timer(n, due)).collect();
    for _ in 0..2 {
        store.arm(&together).await.unwrap();
    }
    let apart: Vec<Timer> = (100..140)
        .map(|n| timer(n, due + 1_000 + n as i64))
        .collect();
    store.arm(&apart).await.unwrap();
    let later = timer(999, due + 40_000);
    store.arm(&[later]).await.unwrap();
    let mut found = Vec::new();
    loop {
        let (items, next) = store
            .due_timers(shard, NOW.minute(), due + 2_000, 10)
            .await
            .unwrap();
        if items.is_empty() {
            assert_eq!(next, Some(later.due));
            break;
        }
        let keys: Vec<_> = items.iter().map(|item| item.key.clone()).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        assert!(items.iter().all(|item| item.entries.len() <= 30));
        found.extend(items.into_iter().flat_map(|item| item.entries));
        store.delete_timers(&keys).await.unwrap();
    }
    assert_eq!(found.len(), 110, "each timer once");
    let ahead = store
        .timers_between(shard, due + 2_000, due + 120_000)
        .await
        .unwrap();
    assert_eq!(ahead, [later]);
    let before = store.timers_between(shard, due, due + 39_999).await;
    assert!(before.unwrap().is_empty());
}

async fn one_sweeper_claims_a_shard_and_cursors_never_go_back(table: Table) {
    let store = &table.store;
    let minute = NOW.minute();
    assert_eq!(store.cursor(1).await.unwrap().low, Some(minute - 2));
    store.ensure_cursor(1, minute + 99).await.unwrap();
    assert_eq!(store.cursor(1).await.unwrap().low, Some(minute - 2));
    let until = NOW + 55_000;
    let claim = async |by, now| store.claim_shard(1, by, until, now).await.unwrap();
    assert!(claim("a", NOW).await && claim("a", NOW).await);
    assert!(!claim("b", NOW).await);
    let advance_from = async |read, by, minute, now| {
        let advanced = store.advance_cursor(1, by, (read, minute), now);
        advanced.await.unwrap()
    };
    let advance = async |by, minute, now| advance_from(None, by, minute, now).await;
    assert!(!advance("b", minute, NOW).await);
    assert!(advance("a", minute, NOW).await);
    assert!(
        claim("b", NOW).await,
        "advancing the cursor releases the claim"
    );
    assert!(!advance("b", minute - 1, NOW).await, "never back");
    assert!(
        advance("c", minute + 1, until).await,
        "b's claim has expired"
    );
    assert_eq!(store.cursor(1).await.unwrap().low, Some(minute + 1));

    // It is set back after a takeover, and a sweep that had read it does not undo that.
    assert!(claim("d", until).await);
    store.rewind_cursor(1, Some("a"), minute - 9).await.unwrap();
    assert_eq!(
        store.cursor(1).await.unwrap().low,
        Some(minute + 1),
        "d has claimed it"
    );
    store.rewind_cursor(1, Some("d"), minute - 9).await.unwrap();
    assert!(!advance_from(Some(minute + 1), "c", minute + 2, until).await);
    assert_eq!(store.cursor(1).await.unwrap().low, Some(minute - 9));
    assert!(claim("d", until).await);
    store.rewind_cursor(1, None, minute).await.unwrap();
    assert_eq!(
        store.cursor(1).await.unwrap().low,
        Some(minute - 9),
        "never forward"
    );
    assert!(claim("c", until).await, "the claim is void");
    assert!(advance_from(Some(minute - 9), "c", minute + 2, until).await);
}

async fn a_limit_is_never_exceeded(table: Table) {
    let store = &table.store;
    let takes = (0..30).map(|_| store.take(PROJECT, "deliveries#sms", NOW, Some(7)));
    let taken = table.race(takes).await;
    assert_eq!(
        taken
            .iter()
            .filter(|taken| *taken.as_ref().unwrap())
            .count(),
        7
    );
    let count = store.taken(PROJECT, "deliveries#sms", NOW).await.unwrap();
    assert_eq!(count, 7);
    assert!(
        store
            .take(PROJECT, "deliveries#sms", NOW + 86_400_000, Some(7))
            .await
            .unwrap()
    );
    assert!(
        store
            .take(PROJECT, "deliveries#email", NOW, None)
            .await
            .unwrap()
    );
    let usage = store.usage(PROJECT, NOW).await.unwrap();
    assert_eq!(usage["deliveries#sms"], 7);
}

async fn a_quota_and_a_rate_are_enforced_together(table: Table) {
    let store = &table.store;
    let charge = Charge {
        project: PROJECT,
        key_id: "k",
        quota: Some(5),
        rate: Some(Rate::per_minute(60)),
    };
    let charged = table
        .race((0..20).map(|_| store.charge(&charge, NOW)))
        .await;
    let passed = charged
        .iter()
        .filter(|one| matches!(one, Ok(Charged::Taken(_))));
    assert_eq!(passed.count(), 5, "{charged:?}");
    let slow = Charge {
        key_id: "slow",
        quota: None,
        rate: Some(Rate::per_minute(2)),
        ..charge
    };
    let mut passed = 0;
    for _ in 0..5 {
        passed += usize::from(matches!(
            store.charge(&slow, NOW).await.unwrap(),
            Charged::Taken(_)
        ));
    }
    assert_eq!(passed, 2);
    let later = store.charge(&slow, NOW + 60_000).await.unwrap();
    assert!(matches!(later, Charged::Taken(_)));
}

async fn one_worker_claims_a_delivery(table: Table) {
    let store = &table.store;
    let id = alert_id(1);
    let until = NOW + 30_000;
    let racers: Vec<Claim> = (1..=6).map(|token| claim(id, token, until)).collect();
    let taken = table
        .race(racers.iter().map(|racer| store.claim(racer, NOW)))
        .await;
    let winners: Vec<usize> = (0..6).filter(|i| taken[*i].is_ok()).collect();
    let [winner] = winners[..] else {
        panic!("{taken:?}");
    };
    let (mine, other) = (racers[winner], racers[(winner + 1) % 6]);
    assert_eq!(
        store.claim(&mine, NOW).await.unwrap().attempts,
        2,
        "the same token can claim again"
    );
    let sent = Settled::Sent {
        at: NOW,
        note: Some("200 OK".into()),
    };
    is_conflict(store.settle(&other, &sent).await);
    let retry = Settled::Retry {
        at: NOW + 5_000,
        error: "it was down".into(),
    };
    let settled = store.settle(&mine, &retry).await.unwrap();
    assert_eq!(settled.state, Some(DeliveryState::Retry));
    assert!(settled.charged && settled.token.is_none());
    is_conflict(store.claim(&claim(id, 9, until), NOW + 4_999).await);
    let again = claim(id, 9, until);
    store.claim(&again, NOW + 5_000).await.unwrap();
    // Anyone can take over an expired claim.
    let last = claim(id, 10, until + 30_000);
    store.claim(&last, until).await.unwrap();
    is_conflict(store.settle(&again, &sent).await);
    let settled = store.settle(&last, &sent).await.unwrap();
    assert_eq!(
        (settled.state, settled.error),
        (Some(DeliveryState::Sent), None)
    );
    is_conflict(store.claim(&claim(id, 11, until), NOW + 1_000_000).await);
    assert_eq!(store.deliveries(id).await.unwrap().len(), 1);
}

async fn a_later_alert_waits_for_an_earlier_one(table: Table) {
    let store = &table.store;
    let (first, second) = (alert_id(1), alert_id(2));
    let channel = ChannelId(Uuid::from_u128(1));
    assert!(store.wait_for(first, second, channel).await.unwrap());
    store
        .mark_waiting(&claim(second, 5, NOW + 60_000))
        .await
        .unwrap();
    let waiting = store.delivery(second, channel).await.unwrap().unwrap();
    assert_eq!(waiting.state, Some(DeliveryState::Waiting));
    let mine = claim(first, 1, NOW + 30_000);
    store.claim(&mine, NOW).await.unwrap();
    let dead = Settled::Dead {
        error: "gone".into(),
    };
    let settled = store.settle(&mine, &dead).await.unwrap();
    assert_eq!(
        settled.next,
        Some(second),
        "settling the first alert returns the one that waits for it"
    );
    assert!(
        !store.wait_for(first, second, channel).await.unwrap(),
        "a settled alert is not waited for"
    );
    store
        .claim(&claim(second, 2, NOW + 30_000), NOW)
        .await
        .unwrap();
}

async fn a_group_is_formed_from_gathered_deliveries(table: Table) {
    let store = &table.store;
    let channel = ChannelId(Uuid::from_u128(1));
    let mut rates = Vec::new();
    for n in 1..=5 {
        rates.push(store.count_rate(channel, NOW).await.unwrap());
        store
            .gather(&claim(alert_id(n), n, NOW + 2_000))
            .await
            .unwrap();
    }
    assert_eq!(rates, [1, 2, 3, 4, 5]);
    assert_eq!(store.count_rate(channel, NOW + 10_000).await.unwrap(), 1);
    is_conflict(store.gather(&claim(alert_id(1), 9, NOW + 2_000)).await);
    let members = store.gathered(channel).await.unwrap();
    assert_eq!(members, (1..=5).map(alert_id).collect::<Vec<_>>());
    let group = claim(alert_id(100), 50, NOW + 30_000);
    let formed = store.form_group(&group, &members).await.unwrap();
    assert_eq!(formed.members, members);
    is_conflict(
        store
            .form_group(&claim(alert_id(101), 51, NOW + 30_000), &members)
            .await,
    );
    assert!(store.gathered(channel).await.unwrap().is_empty());
    let sent = Settled::Sent {
        at: NOW,
        note: None,
    };
    let member = store
        .settle_member(members[0], channel, group.alert, &sent)
        .await
        .unwrap();
    assert_eq!(
        (member.state, member.group),
        (Some(DeliveryState::Sent), Some(group.alert))
    );
}

async fn an_alert_is_planned_once_and_closed_by_its_channels(table: Table) {
    let store = &table.store;
    let channels = [ChannelId(Uuid::from_u128(1)), ChannelId(Uuid::from_u128(2))];
    let alert = Alert::of_channel(alert_id(1), PROJECT, AlertKind::Test, channels[0]);
    store.raise(&alert, NOW).await.unwrap();
    is_conflict(store.raise(&alert, NOW).await);
    let planned = store
        .plan(PROJECT, alert.id, &channels, &[])
        .await
        .unwrap()
        .unwrap();
    assert!(planned.planned && planned.open.as_ref().unwrap().len() == 2);
    let again = store
        .plan(PROJECT, alert.id, &channels[..1], &[])
        .await
        .unwrap();
    assert_eq!(again, Some(planned), "the first plan stays");
    // A fallback is added to a planned alert only, and is remembered.
    let third = ChannelId(Uuid::from_u128(3));
    assert!(store.add_channel(PROJECT, alert.id, third).await.unwrap());
    assert!(
        !store
            .add_channel(PROJECT, alert_id(99), third)
            .await
            .unwrap()
    );
    let added = store.alert(PROJECT, alert.id).await.unwrap().unwrap();
    assert!(added.open.unwrap().contains(&third.to_string()));
    assert_eq!(added.added, Some([third.to_string()].into()));
    store.close(PROJECT, alert.id, third, false).await.unwrap();
    // A delivery that has not started ends without being sent, once.
    let skipped = claim(alert_id(55), 1, NOW);
    store.mark_waiting(&skipped).await.unwrap();
    let ended = store.suppress(&skipped, "not needed").await.unwrap();
    assert_eq!(ended.state, Some(DeliveryState::Suppressed));
    is_conflict(store.suppress(&skipped, "not needed").await);
    is_conflict(store.claim(&skipped, NOW).await);
    store
        .close(PROJECT, alert.id, channels[0], false)
        .await
        .unwrap();
    store
        .close(PROJECT, alert.id, channels[1], true)
        .await
        .unwrap();
    let closed = store.alert(PROJECT, alert.id).await.unwrap().unwrap();
    assert!(closed.open.is_none() && closed.dead);
    // An alert that does not exist, and one that is raised at most once a day.
    store
        .close(PROJECT, alert_id(99), channels[0], false)
        .await
        .unwrap();
    let limited = |n| Alert::of_channel(alert_id(n), PROJECT, AlertKind::Limited, channels[0]);
    store
        .raise_once_a_day(&limited(2), "limited#x", NOW)
        .await
        .unwrap();
    is_conflict(store.raise_once_a_day(&limited(3), "limited#x", NOW).await);
    let recent = store.recent_alerts(PROJECT, NOW, 2, 10).await.unwrap();
    assert_eq!(
        recent.iter().map(|one| one.id).collect::<Vec<_>>(),
        [alert_id(2), alert_id(1)]
    );
}

async fn alerts_are_listed_in_order_over_partitions_and_months(table: Table) {
    let store = &table.store;
    let id = |ms_ago: i64, n: u8| {
        let at = (NOW - ms_ago).0.unsigned_abs();
        AlertId(uuid::Builder::from_unix_timestamp_millis(at, &[n; 10]).into_uuid())
    };
    let day = 86_400_000;
    // A burst in one partition, a burst over all, some in the previous month, and one that is too old.
    let mut ids: Vec<AlertId> = (0..20).map(|n| id(5_000 + n, 8)).collect();
    ids.extend((0..30).map(|n| id(60_000, n)));
    ids.extend((0..9).map(|n| id(25 * day + i64::from(n), n)));
    let old = id(40 * day, 1);
    for id in ids.iter().chain([&old]) {
        let alert = Alert::of_channel(*id, PROJECT, AlertKind::Limited, ChannelId(Uuid::nil()));
        store.raise(&alert, NOW).await.unwrap();
    }
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let ids_of = |alerts: Vec<Alert>| alerts.iter().map(|one| one.id).collect::<Vec<_>>();
    for limit in [1, 7, 25, 1_000] {
        let mut listed = Vec::new();
        let mut before = None;
        loop {
            let page = store.alerts_before(PROJECT, before, NOW, limit).await;
            let page = ids_of(page.unwrap());
            let is_last = page.len() < limit;
            before = page.last().copied();
            listed.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(listed, ids, "{limit} at a time");
    }
    let recent = store.recent_alerts(PROJECT, NOW, 1, 1_000).await.unwrap();
    assert_eq!(ids_of(recent), ids[..50]);
    let made_up = store
        .alerts_before(PROJECT, Some(id(-day, 3)), NOW, 5)
        .await;
    assert_eq!(ids_of(made_up.unwrap()), ids[..5]);
}

async fn channels_keep_their_subscriptions_and_failures(table: Table) {
    let store = &table.store;
    let channel = Channel {
        id: ChannelId(Uuid::from_u128(7)),
        project: PROJECT,
        name: "mail".into(),
        via: ChannelKind::Email {
            to: "a@b.example".into(),
        },
        notify_down: true,
        notify_up: true,
        group_threshold: 5,
        daily_limit: None,
        after_s: None,
        fallback: None,
        fallback_after: None,
        created: NOW,
    };
    is_conflict(store.replace_channel(&channel, None).await);
    let counted = store.before_count(PROJECT, Kind::Channels).await.unwrap();
    let create = || store.create_channel(&channel, Some(NOW), &counted);
    create().await.unwrap();
    is_conflict(create().await);
    let other = Channel {
        id: ChannelId(Uuid::from_u128(77)),
        ..channel.clone()
    };
    // It was decided by the same count.
    is_conflict(store.create_channel(&other, None, &counted).await);
    let all = store.resolve(PROJECT, &Targets::All).await.unwrap();
    assert_eq!(all, std::slice::from_ref(&channel));
    let known = store
        .subscription(PROJECT, channel.id)
        .await
        .unwrap()
        .unwrap();
    assert!(known.asks() && known.next == Some(NOW));
    let seen = Subscription {
        state: Some(SubscriptionState::Pending),
        begun: Some(NOW),
        next: Some(NOW + 60_000),
        ..known.clone()
    };
    store
        .put_subscription(PROJECT, channel.id, &seen)
        .await
        .unwrap();
    // A person asks for a new confirmation while another process checks the subscription.
    store
        .replace_channel(&channel, Some(NOW + 5))
        .await
        .unwrap();
    is_conflict(store.put_subscription(PROJECT, channel.id, &seen).await);
    let known = store
        .subscription(PROJECT, channel.id)
        .await
        .unwrap()
        .unwrap();
    assert!(known.asks() && known.state == Some(SubscriptionState::Pending));
    store
        .channel_failed(PROJECT, channel.id, "it was full", NOW)
        .await
        .unwrap();
    store
        .channel_failed(PROJECT, channel.id, "still", NOW + 1)
        .await
        .unwrap();
    let failing = store.failing_channels(PROJECT).await.unwrap();
    assert_eq!((failing[0].failures, failing[0].since), (2, NOW));
    store.channel_sent(PROJECT, channel.id).await.unwrap();
    assert!(store.failing_channels(PROJECT).await.unwrap().is_empty());
    store
        .delete_channel(PROJECT, channel.id, Some(NOW + 9))
        .await
        .unwrap();
    assert_eq!(store.channel(PROJECT, channel.id).await.unwrap(), None);
    store
        .delete_subscription(PROJECT, channel.id)
        .await
        .unwrap();
    assert_eq!(store.subscription(PROJECT, channel.id).await.unwrap(), None);
}

const HOUR: i64 = 3_600_000;

fn series_x() -> (SeriesName, Timeframe) {
    let name = SeriesName::parse("series", "x").unwrap();
    (name, Timeframe::parse("timeframe", "1h").unwrap())
}

fn bar(i: i64, close: f64) -> Bar {
    Bar {
        time: UnixMs(NOW.0 / HOUR * HOUR + i * HOUR),
        open: close,
        high: close,
        low: close,
        close,
        volume: Some(1.0),
    }
}

async fn bars_are_written_once_and_can_be_corrected(table: Table) {
    let store = &table.store;
    let (series, hours) = series_x();
    let put = async |bars: &[Bar]| {
        store
            .put_bars(PROJECT, &series, hours, bars, NOW)
            .await
            .unwrap()
    };
    let bars: Vec<Bar> = (0..400).map(|i| bar(i, i as f64 + 0.1)).collect();
    assert_eq!(put(&bars).await, [PutBar::Accepted; 400]);
    assert_eq!(put(&bars[..3]).await, [PutBar::Unchanged; 3]);
    assert_eq!(
        put(&[bar(1, 9.5), bars[2]]).await,
        [PutBar::Revised, PutBar::Unchanged]
    );
    let months = bars
        .iter()
        .map(|bar| thrum_schema::signal::track::month(bar.time))
        .collect();
    store
        .extend_series(PROJECT, &series, hours, &months, None)
        .await
        .unwrap();
    let head = store.head(PROJECT, &series, hours).await.unwrap().unwrap();
    assert_eq!(head.months, months);
    let read = store
        .bars(PROJECT, &head, bars[0].time, bars[399].time, 1_000)
        .await
        .unwrap();
    assert_eq!(read.len(), 400);
    assert!(read.is_sorted_by_key(|bar| bar.t) && read[1].rev == 1 && read[1].bar() == bar(1, 9.5));
    let some = store
        .bars(PROJECT, &head, bars[10].time, bars[399].time, 7)
        .await
        .unwrap();
    assert_eq!((some.len(), some[0].bar()), (7, bars[10]));
    let last = store
        .last_bars(PROJECT, &head, bars[300].time, 300)
        .await
        .unwrap();
    assert_eq!(
        (last.len(), last[0].bar(), last[299].bar()),
        (300, bars[300], bar(1, 9.5))
    );
    let scores = [1, 2, 3].map(|i| Score {
        time: bars[i].time,
        score: 0.5,
    });
    store.put_scores(PROJECT, &series, &scores).await.unwrap();
    let after = store
        .scores(PROJECT, &series, Some(bars[1].time), bars[9].time)
        .await
        .unwrap();
    assert_eq!(after, scores[1..]);
    let last = store
        .last_score(PROJECT, &series, bars[2].time)
        .await
        .unwrap();
    assert_eq!(last, Some(scores[1]));
}

async fn a_series_is_set_up_and_deleted_in_parts(table: Table) {
    let store = &table.store;
    let (series, hours) = series_x();
    let bars: Vec<Bar> = (0..30).map(|i| bar(i, i as f64 + 0.1)).collect();
    store
        .put_bars(PROJECT, &series, hours, &bars, NOW)
        .await
        .unwrap();
    let months = bars
        .iter()
        .map(|bar| thrum_schema::signal::track::month(bar.time))
        .collect();
    store
        .extend_series(PROJECT, &series, hours, &months, Some(Holds::Bars))
        .await
        .unwrap();
    let calendar = Calendar::parse(&serde_json::json!("weekdays"), 0).unwrap();
    store
        .set_calendar(PROJECT, &series, hours, &calendar)
        .await
        .unwrap();
    store
        .accept_level(PROJECT, &series, hours, bars[3].time)
        .await
        .unwrap();
    let score = Score {
        time: bars[0].time,
        score: 0.5,
    };
    store.put_scores(PROJECT, &series, &[score]).await.unwrap();
    let head = store.head(PROJECT, &series, hours).await.unwrap().unwrap();
    assert_eq!((&head.calendar, head.holds), (&calendar, Some(Holds::Bars)));
    assert_eq!(head.levels(), [bars[3].time]);
    // Signals of a track that is gone are deleted with their bars, too.
    let compiled = thrum_schema::signal::strategy::builtin("macd").unwrap();
    let compiled = compiled.compile(None, &Default::default(), hours).unwrap();
    let track = TrackId::new(PROJECT, &series, "macd", 1, &compiled);
    let signals = bars.iter().map(|bar| Signal {
        bar: bar.time,
        revision: 0,
        verdict: thrum_schema::signal::Verdict::Hold,
        close: bar.close,
        explanation: Explanation {
            conditions: Vec::new(),
            changed: Vec::new(),
            expected: None,
            position: None,
            summary: "x".into(),
        },
        bar_rev: 0,
        score: None,
        computed: NOW,
    });
    let signals: Vec<Signal> = signals.collect();
    let state = TrackState {
        of: Followed::new("macd", 1, &compiled),
        asked: NOW,
        version: 1,
        last: Some(bars[29].time),
        start: UnixMs(0),
        high: None,
        since: bars[0].time,
        begun: NOW,
        sentiment: false,
        levels: None,
        state: vec![1],
    };
    let advance = Advance {
        before: None,
        state: &state,
        signals: &signals,
        checkpoints: &[],
        nudge: None,
    };
    store.advance_track(&track, &advance, NOW).await.unwrap();
    let left = async || {
        let signals = store.signals(&track, UnixMs(0), UnixMs::LATEST, None, false);
        let bars = store.bars(PROJECT, &head, UnixMs(0), UnixMs::LATEST, 100);
        (signals.await.unwrap().len(), bars.await.unwrap().len())
    };
    let (first, last) = (bars[5].time, UnixMs::LATEST);
    let delete = async || store.delete_bars(PROJECT, &head, first, last, 10).await;
    assert_eq!(delete().await.unwrap(), 10);
    assert_eq!(left().await, (20, 20));
    assert!(
        store.track(&track).await.unwrap().is_none(),
        "it starts over"
    );
    assert_eq!(delete().await.unwrap(), 10);
    assert_eq!(delete().await.unwrap(), 5);
    assert_eq!(left().await, (5, 5));
    let after = store.head(PROJECT, &series, hours).await.unwrap().unwrap();
    assert!(after.nudge > head.nudge);
    store.delete_series(PROJECT, &series, hours).await.unwrap();
    assert_eq!(store.head(PROJECT, &series, hours).await.unwrap(), None);
    let scores = store.scores(PROJECT, &series, None, UnixMs::LATEST);
    assert!(scores.await.unwrap().is_empty());
}

async fn nudges_are_counted_and_a_series_head_never_goes_back(table: Table) {
    let store = &table.store;
    let (series, hours) = series_x();
    let none = BTreeSet::new();
    store
        .extend_series(PROJECT, &series, hours, &none, None)
        .await
        .unwrap();
    store.mark_followed(PROJECT, &series, hours).await.unwrap();
    let nudge = Nudge {
        fed: Fed::Bars,
        from: NOW,
        to: NOW + 5,
    };
    let nudges = (0..6).map(|_| store.nudge(PROJECT, &series, hours, nudge, Some(NOW)));
    assert!(table.race(nudges).await.iter().all(Result::is_ok));
    for through in [NOW + 5, NOW + 9, NOW + 7] {
        store
            .extend_through(PROJECT, &series, hours, through)
            .await
            .unwrap();
    }
    let head = store.head(PROJECT, &series, hours).await.unwrap().unwrap();
    assert!(head.followed);
    assert_eq!((head.nudge, head.through), (6, Some(NOW + 9)));
    assert_eq!(store.heads(PROJECT).await.unwrap().len(), 1);
}

async fn a_request_is_finished_once(table: Table) {
    let store = &table.store;
    let id = RequestId(table.world.uuid_v7(NOW));
    let request = Request {
        id,
        project: PROJECT,
        what: RequestKind::Signal { at: None },
        series: None,
        timeframe: series_x().1,
        strategy: "trend-rsi".into(),
        version: 1,
        mode: String::new(),
        params: Default::default(),
        inline: true,
        created: NOW,
        state: RequestState::Queued,
        finished: None,
        error: None,
        parts: None,
        attempt: None,
    };
    let bars: Vec<Bar> = (0..1_000).map(|i| bar(i, i as f64 / 3.0)).collect();
    store.put_request(&request, Some(&bars), NOW).await.unwrap();
    is_conflict(store.put_request(&request, None, NOW).await);
    assert_eq!(
        store.request_bars(id).await.unwrap(),
        bars,
        "bars must be exact to the last digit"
    );
    let long = format!("[{}]", "1234567890,".repeat(70_000));
    store.finish_request(id, Ok(&long), NOW).await.unwrap();
    store.finish_request(id, Ok("[]"), NOW + 1).await.unwrap();
    store.finish_request(id, Err("no"), NOW + 1).await.unwrap();
    let done = store.request(id).await.unwrap().unwrap();
    assert_eq!((done.state, done.finished), (RequestState::Done, Some(NOW)));
    assert_eq!(store.request_result(&done).await.unwrap(), Some(long));
}

async fn the_state_of_a_watch_is_guarded_by_its_version(table: Table) {
    let store = &table.store;
    let (series, timeframe) = series_x();
    let watch = Watch {
        id: WatchId(Uuid::from_u128(3)),
        project: PROJECT,
        name: "x".into(),
        series,
        timeframe,
        strategy: "trend-rsi".into(),
        mode: None,
        params: Default::default(),
        on: On::Bar,
        targets: Targets::All,
        cooldown_s: 0,
        confirm_bars: 1,
        expires: None,
        from: None,
        created: NOW,
    };
    let counted = store.before_count(PROJECT, Kind::Watches).await.unwrap();
    store.create_watch(&watch, &counted).await.unwrap();
    let counted = store.before_count(PROJECT, Kind::Watches).await.unwrap();
    is_conflict(store.create_watch(&watch, &counted).await);
    let head = store
        .head(PROJECT, &watch.series, watch.timeframe)
        .await
        .unwrap()
        .unwrap();
    assert!(head.followed && head.watches.contains(&watch.id.to_string()));
    let memory = store.watch_state(watch.id).await.unwrap().unwrap();
    assert_eq!(memory, WatchState::default());
    let alert = Alert::of_channel(
        alert_id(1),
        PROJECT,
        AlertKind::Signal,
        ChannelId(Uuid::nil()),
    );
    store
        .put_watch_state(&watch, &memory, Some(&alert), Some(NOW + 9), NOW)
        .await
        .unwrap();
    let other = Alert {
        id: alert_id(2),
        ..alert.clone()
    };
    is_conflict(
        store
            .put_watch_state(&watch, &memory, Some(&other), None, NOW)
            .await,
    );
    assert_eq!(
        store.alert(PROJECT, other.id).await.unwrap(),
        None,
        "a refused write leaves no alert"
    );
    assert!(store.alert(PROJECT, alert.id).await.unwrap().is_some());
    assert_eq!(
        store.watch_states(&[watch.id]).await.unwrap()[0]
            .as_ref()
            .unwrap()
            .version,
        1
    );
    let watches = store.watches(PROJECT).await.unwrap();
    assert_eq!(watches, std::slice::from_ref(&watch));
    store.delete_watch(&watch).await.unwrap();
    let head = store
        .head(PROJECT, &watch.series, watch.timeframe)
        .await
        .unwrap()
        .unwrap();
    assert!(head.watches.is_empty());
    is_conflict(store.replace_watch(&watch, None).await);
}

async fn keys_rotate_and_projects_are_replaced_only_if_unchanged(table: Table) {
    let store = &table.store;
    // A project that is being deleted has the limits of the free plan, not those of its old one.
    let gone = ProjectId(Uuid::from_u128(404));
    let plan = store.project_or_default(gone).await.unwrap().plan;
    assert_eq!(plan, "free");
    let secrets = ["a", "b"].map(|c| format!("hcw_{}", c.repeat(28)));
    let [first, second] = secrets
        .clone()
        .map(|secret| ApiKey::new(&secret, PROJECT, Scope::Write, "k", NOW));
    store.put_api_key(&first).await.unwrap();
    assert_eq!(
        store.api_key(&hash(&secrets[0])).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(store.api_key(&hash(&secrets[1])).await.unwrap(), None);
    let until = NOW + 60_000;
    let counted = store.before_count(PROJECT, Kind::Keys).await.unwrap();
    let rotate = |counted| {
        let store = store.clone();
        let (first, second) = (first.clone(), second.clone());
        async move { store.rotate_api_key(&first, until, &second, &counted).await }
    };
    rotate(counted).await.unwrap();
    let counted = store.before_count(PROJECT, Kind::Keys).await.unwrap();
    is_conflict(rotate(counted).await);
    let ending = ApiKey {
        until: Some(until),
        ..first.clone()
    };
    assert_eq!(store.api_keys(PROJECT).await.unwrap().len(), 2);
    store.delete_api_key(&ending, None).await.unwrap();
    assert_eq!(store.api_key(&hash(&secrets[0])).await.unwrap(), None);
    store
        .put_ping_key(PROJECT, "0123456789abcdefghijkl")
        .await
        .unwrap();
    let owner = store
        .project_of_ping_key("0123456789abcdefghijkl")
        .await
        .unwrap();
    assert_eq!(owner, Some(PROJECT));
    let hashes = store.ping_keys(PROJECT).await.unwrap();
    assert_eq!(hashes, [hash("0123456789abcdefghijkl")]);
    let other = Project::with_badges(ProjectId(Uuid::from_u128(9)), "other", &*table.world);
    assert!(store.create_project(&other).await.unwrap());
    assert!(
        !store.create_project(&other).await.unwrap(),
        "a project can't be created twice"
    );
    let after = Project {
        name: "renamed".into(),
        ..other.clone()
    };
    store.replace_project(&other, &after).await.unwrap();
    is_conflict(store.replace_project(&other, &after).await);
    is_conflict(store.delete_project(&other, None).await);
    let now = store.project(other.id).await.unwrap().unwrap();
    let in_other = |n, name| Monitor {
        project: other.id,
        ..monitor(n, name)
    };
    let job = in_other(30, "job");
    create(store, &job).await.unwrap();
    is_conflict(store.delete_project(&now, Some(NOW)).await);
    store.delete_monitor(&job).await.unwrap();
    store.delete_project(&now, Some(NOW)).await.unwrap();
    assert_eq!(store.projects().await.unwrap().len(), 1);
    // A request may have been admitted before.
    is_conflict(create(store, &in_other(31, "late")).await);
    assert!(store.monitors(other.id).await.unwrap().is_empty());
}

async fn outages_are_extended_and_probes_and_pulses_are_recorded(table: Table) {
    let store = &table.store;
    let outage = |end| Outage::total(NOW, end);
    for end in [NOW + 1_000, NOW + 2_000] {
        store.put_outage(&outage(end)).await.unwrap();
    }
    assert_eq!(store.outages().await.unwrap(), [outage(NOW + 2_000)]);
    store.probe(NOW).await.unwrap();
    assert_eq!(store.arrived_probe().await.unwrap(), None);
    store.probe_arrived(NOW).await.unwrap();
    assert_eq!(store.arrived_probe().await.unwrap(), Some(NOW));
    assert_eq!(store.pulse().await.unwrap(), Some(NOW));
    let pulse = store.pulse_id().await.unwrap().unwrap();
    let beat = store
        .heartbeat(pulse, NOW + 7, Rules::default(), None)
        .await
        .unwrap();
    assert!(matches!(beat, Fast::Counted(_)));
    store.ensure_pulse(NOW + 99).await.unwrap();
    assert_eq!(store.pulse().await.unwrap(), Some(NOW + 7));
}
