//! Every item in the table. Keys, kinds and attributes are a format that must only change on
//! purpose.

use insta::assert_json_snapshot;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use thrum_schema::Targets;
use thrum_schema::alert::{Alert, AlertState};
use thrum_schema::channel::{Channel, ChannelKind};
use thrum_schema::delivery::{Delivery, DeliveryState};
use thrum_schema::dependency::Child;
use thrum_schema::expect::Expectation;
use thrum_schema::flip::Flip;
use thrum_schema::flip::Reason;
use thrum_schema::id::{AlertId, ChannelId, MonitorId, ProjectId};
use thrum_schema::id::{RequestId, WatchId};
use thrum_schema::key::{ApiKey, Scope};
use thrum_schema::monitor::{KeywordFilter, Options};
use thrum_schema::ping::Ping;
use thrum_schema::signal::request::{Request, RequestKind, RequestState};
use thrum_schema::signal::strategy::{Stored, builtin};
use thrum_schema::signal::track::{Checkpoint, Followed, Signal, StoredBar, TrackId, TrackState};
use thrum_schema::signal::watch::{Notified, On, Watch, WatchState};
use thrum_schema::signal::{Bar, Explanation, Score, SeriesName, Timeframe, Verdict};
use thrum_schema::silence::Window;
use thrum_schema::state::{Extension, Run};
use thrum_schema::timer::{MAX_ENTRIES, Timer, What};
use thrum_schema::{
    Limits, Monitor, MonitorState, Outage, PingKind, Project, Schedule, Status, UnixMs,
};
use thrum_store::item;
use thrum_store::key::Key;
use thrum_store::table::{Item, Value as V, item_bytes};
use uuid::Uuid;

const NOW: UnixMs = UnixMs(1_763_700_000_123);

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0a1b_2c3d_4e5f_4a0b_8c1d_2e3f_4051_6200 + n)
}

fn alert_id() -> AlertId {
    AlertId("019aa492-b07b-7000-8000-000000000001".parse().unwrap())
}

fn monitor() -> Monitor {
    Monitor {
        name: "Nightly backup".into(),
        slug: "backup".into(),
        tags: vec!["prod".into(), "db".into()],
        desc: "Every table".into(),
        schedule: Schedule::parse("0 3 * * *", "Europe/Berlin").unwrap(),
        grace_s: 600,
        targets: Targets::These(vec![ChannelId(id(2))]),
        manual_resume: true,
        post_only: true,
        filter: KeywordFilter {
            failure: "ERROR".into(),
            http_body: true,
            ..KeywordFilter::default()
        },
        options: Options {
            start_grace_s: Some(7_200),
            failures: Some(3),
            early_s: Some(60),
            all_runs: true,
            remind_s: Some(3_600),
            snoozed_until: Some(NOW),
            windows: vec![Window::new("w", "0 3 * * 0", 3_600, "UTC").unwrap()],
            parents: vec![MonitorId(id(9))],
            expect: BTreeMap::from([(
                "rows".to_owned(),
                Expectation::parse("rows", &json!("auto k=6 min 1000 warn")).unwrap(),
            )]),
        },
        ..Monitor::new(MonitorId(id(1)), ProjectId::FIRST, NOW)
    }
}

fn flip() -> Flip {
    Flip {
        n: 3,
        at: NOW,
        from: Status::Up,
        to: Status::Down,
        reason: Reason::Timeout,
        alert: true,
        silenced: true,
        why: Some("rows is 500, far below its usual 900 to 1,100".into()),
        missed: 3,
        deadline: Some(NOW),
        outage: Some(Outage::total(NOW - 900_000, NOW - 300_000)),
        lasted_ms: None,
        last_success: None,
        trace: "1-67891233-abcdef012345678912345678".parse().ok(),
    }
}

/// The largest possible state.
fn full_state() -> MonitorState {
    MonitorState {
        seen: Some(NOW),
        run: Some(Run {
            at: NOW,
            rid: Some(id(9)),
        }),
        last_duration_ms: Some(i64::MAX),
        pings: u64::MAX,
        resumed_pings: u64::MAX,
        failures: u32::MAX,
        fails: u64::MAX,
        missed: u64::MAX,
        tat: Some(i64::MAX),
        silenced: true,
        reminded: u32::MAX,
        notified_at: Some(NOW),
        version: u64::MAX,
        epoch: u32::MAX,
        flips: u64::MAX,
        flip_at: Some(NOW),
        last_alert: Some(alert_id()),
        period_s: Some(u32::MAX),
        grace_s: u32::MAX,
        start_grace_s: Some(u32::MAX),
        expected_at: Some(NOW),
        extension: Some(Extension {
            deadline: NOW,
            outage: NOW,
        }),
        ttl_span: i64::MAX,
        expires_at: Some(i64::MAX),
        ..MonitorState::new(&monitor())
    }
}

/// An item as DynamoDB JSON, sorted by name.
fn show(item: &Item) -> Value {
    fn typed(value: &V) -> Value {
        match value {
            V::S(text) => json!({ "S": text }),
            V::N(number) => json!({ "N": number }),
            V::Bool(flag) => json!({ "BOOL": flag }),
            V::B(bytes) => json!({ "B": format!("{} bytes", bytes.len()) }),
            V::L(list) => json!({ "L": list.iter().map(typed).collect::<Vec<_>>() }),
            V::M(map) => json!({ "M": members(map) }),
            V::Ss(set) => json!({ "SS": set.iter().collect::<BTreeSet<_>>() }),
            V::Null(_) => json!({ "NULL": true }),
            other => panic!("no item has {other:?}"),
        }
    }
    fn members(map: &HashMap<String, V>) -> Map<String, Value> {
        let sorted: BTreeMap<_, _> = map.iter().collect();
        sorted
            .into_iter()
            .map(|(name, v)| (name.clone(), typed(v)))
            .collect()
    }
    Value::Object(members(item))
}

#[test]
fn monitors_and_states() {
    assert_json_snapshot!("monitor", show(&item::monitor(&monitor())));
    assert_json_snapshot!("owner", show(&item::owner(&monitor())));
    let child = Child {
        project: ProjectId::FIRST,
        monitor: monitor().id,
        name: monitor().label().to_owned(),
    };
    assert_json_snapshot!("child", show(&item::child(MonitorId(id(9)), &child)));
    assert_json_snapshot!("name", show(&item::name(&monitor())));
    let plain = Monitor {
        schedule: Schedule::Simple { period_s: 300 },
        ..monitor()
    };
    assert_json_snapshot!("lease_new", show(&item::state(&MonitorState::new(&plain))));
    assert_json_snapshot!("lease_full", show(&item::state(&full_state())));
}

#[test]
fn a_full_state_costs_one_write_unit() {
    let size = item_bytes(&item::state(&full_state()));
    assert!(size < 1_000, "{size} bytes");
}

#[test]
fn pings_and_flips() {
    let ping = Ping {
        n: 1_207,
        at: NOW,
        kind: PingKind::Fail,
        scheme: "https".into(),
        remote_addr: Some("203.0.113.9".into()),
        method: "POST".into(),
        ua: "curl/8".into(),
        rid: Some(id(9)),
        exit_status: Some(7),
        duration_ms: Some(1_500),
        early: true,
        overlap: true,
        metrics: BTreeMap::from([("rows".into(), 12.5)]),
        unexpected: vec!["rows is 500, below the minimum of 1,000".to_owned()],
        truncated: true,
        body: b"\xff\x00disk full".to_vec(),
    };
    let stored = item::ping(MonitorId(id(1)), &ping);
    assert_json_snapshot!("ping", show(&stored));
    assert_eq!(item::decode::<Ping>(stored).unwrap(), ping);
    let stored = item::flip(MonitorId(id(1)), &flip());
    assert_json_snapshot!("flip", show(&stored));
    assert_eq!(item::decode::<Flip>(stored).unwrap(), flip());
}

#[test]
fn projects() {
    let project = Project {
        badge_key: "803f680d-e89b-492b-82ef-2be7b774a92d".into(),
        badge_secret: "secret".into(),
        created: NOW,
        snoozed_until: Some(NOW),
        windows: monitor().options.windows,
        remind_s: Some(3_600),
        version: 7,
        ..Project::new(ProjectId::FIRST, "default")
    };
    let [itself, among_all, badge_key] = item::project(&project);
    assert_eq!(item::decode::<Project>(itself.clone()).unwrap(), project);
    assert_json_snapshot!("project", show(&itself));
    assert_json_snapshot!("project_among_all", show(&among_all));
    assert_json_snapshot!("badge_key", show(&badge_key));
    assert_json_snapshot!("badge", show(&item::badge(&monitor())));
    assert_json_snapshot!("unique_key", show(&item::unique_key(&monitor())));
}

#[test]
fn alerts_and_deliveries() {
    let alert = Alert::of_flip(
        alert_id(),
        &monitor(),
        &flip(),
        Some(NOW),
        Some(alert_id()),
        Some(40),
    );
    assert_eq!(alert.state(), AlertState::Pending);
    let stored = item::alert(&alert);
    assert_json_snapshot!("alert", show(&stored));
    assert_eq!(item::decode::<Alert>(stored).unwrap(), alert);
    let group = Delivery {
        alert: Some(alert_id()),
        channel: Some(ChannelId(id(2))),
        project: Some(ProjectId::FIRST),
        state: Some(DeliveryState::Claimed),
        attempts: 1,
        token: Some(id(5)),
        until: Some(NOW),
        members: vec![alert_id()],
        ..Delivery::default()
    };
    let stored = item::delivery(alert_id(), ChannelId(id(2)), &group);
    assert_json_snapshot!("delivery_of_a_group", show(&stored));
    assert_eq!(item::decode::<Delivery>(stored).unwrap(), group);
}

#[test]
fn channels_keys_and_outages() {
    let channel = Channel {
        id: ChannelId(id(2)),
        project: ProjectId::FIRST,
        name: "ops".into(),
        via: ChannelKind::Webhook {
            url: "https://example.org/hook".into(),
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
            more: [("method".to_owned(), "PUT".to_owned())].into(),
        },
        notify_down: true,
        notify_up: false,
        group_threshold: 5,
        daily_limit: Some(100),
        after_s: Some(600),
        fallback: Some(ChannelId(id(3))),
        fallback_after: None,
        created: NOW,
    };
    let stored = item::channel(&channel);
    assert_json_snapshot!("channel", show(&stored));
    assert_eq!(item::decode::<Channel>(stored).unwrap(), channel);
    let key = ApiKey {
        until: Some(NOW),
        limits: Some(Limits {
            requests_per_day: Some(500),
            ..Limits::default()
        }),
        ..ApiKey::new("secret", ProjectId::FIRST, Scope::Write, "ci", NOW)
    };
    let [by_hash, by_project] = item::api_key(&key);
    assert_json_snapshot!("key", show(&by_hash));
    assert_json_snapshot!("key_of_project", show(&by_project));
    let outage = Outage::total(NOW - 600_000, NOW);
    assert_json_snapshot!("outage", show(&item::outage(&outage)));
    assert_json_snapshot!("probe", show(&item::probe(&Key::probe(), NOW)));
}

#[test]
fn timers() {
    let entries: Vec<Timer> = (0..MAX_ENTRIES as u128)
        .map(|n| Timer {
            due: NOW,
            what: What::Deadline {
                monitor: MonitorId(id(n)),
                epoch: u32::MAX,
            },
        })
        .collect();
    let one = item::timers(0, NOW, &entries[..1]);
    assert_json_snapshot!("timers_of_one", show(&one));
    let full = item::timers(15, NOW, &entries);
    assert_json_snapshot!("timers_full", show(&full));
    assert!(item_bytes(&full) < 1_000, "{} bytes", item_bytes(&full));
    assert_eq!(item::timers_of(&full).unwrap(), entries);
}

#[test]
fn signal_items() {
    let series = SeriesName::parse("series", "eth-usd").unwrap();
    let project = ProjectId::FIRST;
    let compiled = builtin("trend-rsi")
        .unwrap()
        .compile(None, &BTreeMap::new(), Timeframe::HOUR)
        .unwrap();
    let track = TrackId::new(project, &series, "trend-rsi", 1, &compiled);
    let bar = Bar {
        volume: Some(7.0),
        ..Bar::value(UnixMs(1_763_697_600_000), 0.1)
    };
    let stored = StoredBar::new(&bar, 1, NOW);
    assert_json_snapshot!(
        "bar",
        show(&item::bar(project, &series, Timeframe::HOUR, &stored))
    );
    let score = Score {
        time: NOW,
        score: 0.25,
    };
    assert_json_snapshot!("score", show(&item::score(project, &series, &score)));
    let signal = Signal {
        bar: bar.time,
        revision: 2,
        verdict: Verdict::NoSentiment,
        close: 0.1,
        explanation: Explanation {
            conditions: Vec::new(),
            changed: Vec::new(),
            expected: None,
            position: None,
            summary: "why".into(),
        },
        bar_rev: 1,
        score: Some(score),
        computed: NOW,
    };
    assert_json_snapshot!("signal", show(&item::signal(&track, &signal)));
    let state = TrackState {
        of: Followed::new("trend-rsi", 1, &compiled),
        asked: NOW,
        version: 9,
        last: Some(bar.time),
        start: UnixMs(0),
        high: Some(bar.time),
        since: bar.time,
        begun: NOW,
        sentiment: false,
        levels: None,
        state: vec![1, 2, 3],
    };
    assert_json_snapshot!("track", show(&item::track(&track, &state, NOW)));
    let checkpoint = Checkpoint {
        last: bar.time,
        state: vec![1, 2, 3],
    };
    assert_json_snapshot!(
        "checkpoint",
        show(&item::checkpoint(&track, &checkpoint, NOW))
    );
    let mine = Stored {
        name: "mine".into(),
        version: 3,
        strategy: builtin("threshold").unwrap().clone(),
        updated: NOW,
        deleted: false,
    };
    assert_json_snapshot!(
        "strategy",
        item::strategy(project, &mine)
            .iter()
            .map(show)
            .collect::<Vec<_>>()
    );
    let asked = Request {
        id: RequestId(alert_id().0),
        project,
        what: RequestKind::Backtest(Box::default()),
        series: Some(series.clone()),
        timeframe: Timeframe::HOUR,
        strategy: "trend-rsi".into(),
        version: 1,
        mode: "price_only".into(),
        params: BTreeMap::from([("n".into(), 5.0)]),
        inline: false,
        state: RequestState::Queued,
        created: NOW,
        finished: None,
        error: None,
        parts: None,
        attempt: None,
    };
    assert_json_snapshot!("request", show(&item::request(&asked)));
    let watch = Watch {
        id: WatchId(id(7)),
        project,
        name: "eth".into(),
        series,
        timeframe: Timeframe::HOUR,
        strategy: "trend-rsi".into(),
        mode: None,
        params: BTreeMap::new(),
        on: On::Schedule(Schedule::parse("0 8 * * *", "Europe/Berlin").unwrap()),
        targets: Targets::All,
        cooldown_s: 60,
        confirm_bars: 2,
        expires: Some(NOW),
        from: Some(bar.time),
        created: NOW,
    };
    assert_json_snapshot!("watch", show(&item::watch(&watch)));
    let memory = WatchState {
        signal: Some(Verdict::Buy),
        change: Some(Notified {
            bar: bar.time,
            to: Verdict::Buy,
            version: 1,
        }),
        ..WatchState::default()
    };
    assert_json_snapshot!("memory", show(&item::watch_state(watch.id, &memory)));
    let keys = [
        Key::head(project, &watch.series, watch.timeframe),
        Key::request_bars(asked.id),
        Key::result(asked.id, "0a1b2c3d", 1),
    ];
    let keys: Vec<String> = keys
        .iter()
        .map(|key| format!("{} / {}", key.pk, key.sk))
        .collect();
    assert_json_snapshot!("signal_keys", keys);
    // They round-trip.
    assert_eq!(
        item::decode::<Signal>(item::signal(&track, &signal)).unwrap(),
        signal
    );
    assert_eq!(
        item::decode::<TrackState>(item::track(&track, &state, NOW)).unwrap(),
        state
    );
    assert_eq!(item::decode::<Watch>(item::watch(&watch)).unwrap(), watch);
    assert_eq!(
        item::decode::<WatchState>(item::watch_state(watch.id, &memory)).unwrap(),
        memory
    );
    assert_eq!(
        item::decode::<Request>(item::request(&asked)).unwrap(),
        asked
    );
}

#[test]
fn other_keys() {
    let keys = [
        Key::project(ProjectId::FIRST),
        Key::slug(ProjectId::FIRST, "backup"),
        Key::ping_key(&thrum_schema::key::hash("ping")),
        Key::rate(ChannelId(id(2))),
        Key::gathered(ChannelId(id(2)), alert_id()),
        Key::usage(ProjectId::FIRST, NOW, "deliveries#sms"),
        Key::cursor(3),
        Key::probe_arrived(),
        Key::badge(monitor().badge()),
        Key::unique_key(ProjectId::FIRST, &monitor().unique_key()),
        Key::census(ProjectId::FIRST, 7),
        Key::requests(ProjectId::FIRST, NOW, "0123456789abcdef"),
        Key::failure(MonitorId(id(1)), 43),
        Key::channel_health(ProjectId::FIRST, ChannelId(id(2))),
        Key::project_ping_key(ProjectId::FIRST, &thrum_schema::key::hash("ping")),
    ];
    let shown: Vec<String> = keys
        .iter()
        .map(|key| format!("{} / {}", key.pk, key.sk))
        .collect();
    assert_json_snapshot!("other_keys", shown);
}

#[test]
fn a_malformed_item_is_an_error() {
    let mut broken = item::state(&full_state());
    broken.remove("status");
    let error = item::decode::<MonitorState>(broken)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("LEASE") && error.contains("status"),
        "{error}"
    );
}
