//! The mapping of every item in the table. Every item has `kind`, which stream filters match on,
//! and `v`, the version of its mapping.

use crate::StoreError;
use crate::key::Key;
use crate::table::{IntoValue, Item, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use thrum_schema::alert::{ALERT_TTL_S, Alert};
use thrum_schema::channel::Channel;
use thrum_schema::delivery::Delivery;
use thrum_schema::dependency::Child;
use thrum_schema::flip::{FLIP_TTL_S, Flip};
use thrum_schema::id::{AlertId, ChannelId, MonitorId, ProjectId, RequestId, WatchId};
use thrum_schema::key::ApiKey;
use thrum_schema::monitor::Monitor;
use thrum_schema::outage::{OUTAGE_TTL_S, Outage};
use thrum_schema::ping::{LOG_TTL_S, Ping};
use thrum_schema::project::Project;
use thrum_schema::signal::Score;
use thrum_schema::signal::request::{REQUEST_TTL_S, Request};
use thrum_schema::signal::series::{SeriesName, Timeframe};
use thrum_schema::signal::strategy;
use thrum_schema::signal::track::{
    Checkpoint, Signal, StoredBar, TRACK_TTL_S, TrackId, TrackState,
};
use thrum_schema::signal::watch::{Watch, WatchState};
use thrum_schema::state::MonitorState;
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{self, Timer};

/// The version of the mapping, written to every item as `v`.
pub const MAPPING_VERSION: i64 = 1;
/// How long usage counters are kept, in seconds: 35 days.
pub const USAGE_TTL_S: i64 = 35 * 86_400;

/// An item of `kind` with the fields of `body`.
pub(crate) fn encode<T: Serialize>(key: &Key, kind: &str, body: &T) -> Item {
    let mut item = Item::default();
    // `to_item` would build every map twice.
    match serde_dynamo::to_attribute_value(body) {
        Ok(Value::M(members)) => *item.inner_mut() = members,
        other => unreachable!("domain types map to items: {other:?}"),
    }
    item.extend(key.attributes().into_inner());
    item.insert("kind".into(), kind.into_value());
    item.insert("v".into(), MAPPING_VERSION.into_value());
    item
}

/// An item that TTL removes at `expires_s`, in epoch seconds.
pub(crate) fn expiring<T: Serialize>(key: &Key, kind: &str, body: &T, expires_s: i64) -> Item {
    let mut item = encode(key, kind, body);
    item.insert("expires_at".into(), expires_s.into_value());
    item
}

/// Reads an item back.
pub fn decode<T: DeserializeOwned>(item: Item) -> Result<T, StoreError> {
    let key = Key::of(&item);
    // `from_item` would build every map twice.
    serde_dynamo::from_attribute_value(Value::M(item.into_inner()))
        .map_err(|error| StoreError::Corrupt(format!("{key:?}: {error}")))
}

/// Reads many items back.
pub fn decode_all<T: DeserializeOwned>(
    items: Vec<Item>,
    into: &mut Vec<T>,
) -> Result<(), StoreError> {
    into.reserve(items.len());
    items.into_iter().try_for_each(|item| {
        into.push(decode(item)?);
        Ok(())
    })
}

/// The owner of a monitor.
pub fn owner(monitor: &Monitor) -> Item {
    #[derive(Serialize)]
    struct Owner {
        project: ProjectId,
    }
    encode(
        &Key::owner(monitor.id),
        "owner",
        &Owner {
            project: monitor.project,
        },
    )
}

/// A monitor's configuration.
pub fn monitor(monitor: &Monitor) -> Item {
    encode(
        &Key::monitor(monitor.project, monitor.id),
        "monitor",
        monitor,
    )
}

/// A monitor that depends on `parent`.
pub fn child(parent: MonitorId, child: &Child) -> Item {
    encode(&Key::child(parent, child.monitor), "child", child)
}

/// A monitor's state.
pub fn state(state: &MonitorState) -> Item {
    encode(&Key::state(state.monitor), "lease", state)
}

/// The mark that a state removed by TTL was restored.
pub fn restored(lost: &MonitorState) -> Item {
    let key = Key::restored(lost);
    let expires_s = lost.expires_at.unwrap_or(0) + FLIP_TTL_S;
    expiring(
        &key,
        "restored",
        &HashMap::<String, String>::new(),
        expires_s,
    )
}

/// An item that points to a monitor.
fn points_to(monitor: &Monitor, key: &Key, kind: &str) -> Item {
    #[derive(Serialize)]
    struct To {
        project: ProjectId,
        monitor: MonitorId,
    }
    let to = To {
        project: monitor.project,
        monitor: monitor.id,
    };
    encode(key, kind, &to)
}

/// The item that finds a monitor by name.
pub fn name(monitor: &Monitor) -> Item {
    points_to(monitor, &Key::name(monitor.project, &monitor.name), "name")
}

/// The item that finds a monitor by its public badge.
pub fn badge(monitor: &Monitor) -> Item {
    points_to(monitor, &Key::badge(monitor.badge()), "badge")
}

/// The item that finds a monitor for read-only clients.
pub fn unique_key(monitor: &Monitor) -> Item {
    let key = Key::unique_key(monitor.project, &monitor.unique_key());
    points_to(monitor, &key, "uniquekey")
}

/// A project: the project itself, its entry in the list of projects, and the item that finds it by
/// its badge key.
pub fn project(project: &Project) -> [Item; 3] {
    #[derive(Serialize)]
    struct To {
        project: ProjectId,
    }
    let to = To {
        project: project.id,
    };
    [
        encode(&Key::project(project.id), "project", project),
        encode(&Key::project_ref(project.id), "projectref", &to),
        encode(&Key::badge_key(&project.badge_key), "badgekey", &to),
    ]
}

/// A failure in the separate log of the latest failures.
pub fn failure(monitor: MonitorId, fails: u64, ping: &Ping) -> Item {
    let key = Key::failure(monitor, fails);
    expiring(&key, "ping", ping, ping.at.secs() + LOG_TTL_S)
}

/// A logged ping.
pub fn ping(monitor: MonitorId, ping: &Ping) -> Item {
    let key = Key::ping(monitor, ping.n);
    expiring(&key, "ping", ping, ping.at.secs() + LOG_TTL_S)
}

/// A flip.
pub fn flip(monitor: MonitorId, flip: &Flip) -> Item {
    let key = Key::flip(monitor, flip);
    expiring(&key, "flip", flip, flip.at.secs() + FLIP_TTL_S)
}

/// An alert.
pub fn alert(alert: &Alert) -> Item {
    let key = Key::alert(alert.project, alert.id);
    let expires_s = UnixMs(alert.id.created_ms()).secs() + ALERT_TTL_S;
    expiring(&key, "alert", alert, expires_s)
}

/// A group's delivery as a whole. Other deliveries are written attribute by attribute.
pub fn delivery(alert: AlertId, channel: ChannelId, delivery: &Delivery) -> Item {
    let key = Key::delivery(alert, channel);
    expiring(&key, "delivery", delivery, delivery_expires_s(alert))
}

/// When TTL removes the deliveries of an alert, in epoch seconds.
pub(crate) fn delivery_expires_s(alert: AlertId) -> i64 {
    UnixMs(alert.created_ms()).secs() + ALERT_TTL_S
}

/// A channel.
pub fn channel(channel: &Channel) -> Item {
    encode(
        &Key::channel(channel.project, channel.id),
        "channel",
        channel,
    )
}

/// An API key: the item found by its secret, and its entry in the project's list.
pub fn api_key(api_key: &ApiKey) -> [Item; 2] {
    let mut items = [
        encode(&Key::api_key(&api_key.hash), "key", api_key),
        encode(
            &Key::project_key(api_key.project, &api_key.hash),
            "projectkey",
            api_key,
        ),
    ];
    if let Some(until) = api_key.until {
        for item in &mut items {
            item.insert("expires_at".into(), (until.secs() + 1).into_value());
        }
    }
    items
}

/// A mark of the deep health check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// When the check began.
    pub at: UnixMs,
}

/// A mark of the deep health check. Only the sent mark has the kind that the stream forwards.
pub fn probe(key: &Key, at: UnixMs) -> Item {
    let kind = if *key == Key::probe() {
        "probe"
    } else {
        "arrived"
    };
    encode(key, kind, &Probe { at })
}

/// An outage of Thrum itself.
pub fn outage(outage: &Outage) -> Item {
    let expires_s = outage.end.secs() + OUTAGE_TTL_S;
    expiring(&Key::outage(outage.start), "outage", outage, expires_s)
}

/// A bar. Bars fed by heartbeats keep coming, so they expire; bars sent by clients are kept.
pub fn bar(project: ProjectId, series: &SeriesName, timeframe: Timeframe, bar: &StoredBar) -> Item {
    let key = Key::bar(project, series, timeframe, bar.t);
    match series.monitor() {
        Some(_) => expiring(&key, "bar", bar, bar.t.secs() + TRACK_TTL_S),
        None => encode(&key, "bar", bar),
    }
}

/// A sentiment score.
pub fn score(project: ProjectId, series: &SeriesName, score: &Score) -> Item {
    encode(&Key::score(project, series, score.time), "score", score)
}

/// A signal.
pub fn signal(track: &TrackId, signal: &Signal) -> Item {
    let key = Key::signal(track, signal.bar, signal.revision);
    expiring(&key, "signal", signal, signal.computed.secs() + TRACK_TTL_S)
}

/// A track's progress.
pub fn track(track: &TrackId, state: &TrackState, now: UnixMs) -> Item {
    expiring(&Key::track(track), "track", state, now.secs() + TRACK_TTL_S)
}

/// The state of a track after a bar.
pub fn checkpoint(track: &TrackId, checkpoint: &Checkpoint, now: UnixMs) -> Item {
    let key = Key::checkpoint(track, checkpoint.last);
    expiring(&key, "checkpoint", checkpoint, now.secs() + TRACK_TTL_S)
}

/// A strategy: the current one, and this version of it.
pub fn strategy(project: ProjectId, stored: &strategy::Stored) -> [Item; 2] {
    [
        encode(&Key::strategy(project, &stored.name), "strategy", stored),
        encode(
            &Key::strategy_version(project, &stored.name, stored.version),
            "strategyversion",
            stored,
        ),
    ]
}

/// A request.
pub fn request(request: &Request) -> Item {
    expiring(
        &Key::request(request.id),
        "request",
        request,
        request_expires_s(request.id),
    )
}

/// A text of a request: the bars that were sent with it, or a part of its result.
pub fn request_text(key: &Key, request: RequestId, text: &str) -> Item {
    #[derive(Serialize)]
    struct Text<'a> {
        text: &'a str,
    }
    expiring(
        key,
        "requesttext",
        &Text { text },
        request_expires_s(request),
    )
}

fn request_expires_s(request: RequestId) -> i64 {
    UnixMs(request.created_ms()).secs() + REQUEST_TTL_S
}

/// A watch.
pub fn watch(watch: &Watch) -> Item {
    encode(&Key::watch(watch.project, watch.id), "watch", watch)
}

/// The state of a watch.
pub fn watch_state(watch: WatchId, watch_state: &WatchState) -> Item {
    encode(&Key::watch_state(watch), "memory", watch_state)
}

/// The kind of timer items.
const TIMERS: &str = "timers";
/// The kind of a timer item that is due before a per-minute sweep may find it: the stream forwards
/// it.
const SOON: &str = "soon";

/// A timer item that the stream forwards.
pub fn soon(shard: u16, timer: Timer) -> Item {
    let mut item = timers(shard, timer.due, &[timer]);
    item.insert("kind".into(), SOON.into_value());
    item
}

/// An item of at most [`timer::MAX_ENTRIES`] timers of one shard, due together at `due`.
pub fn timers(shard: u16, due: UnixMs, entries: &[Timer]) -> Item {
    debug_assert!(entries.len() <= timer::MAX_ENTRIES && !entries.is_empty());
    let mut item = Key::timers(shard, due, entries).attributes();
    item.insert("kind".into(), TIMERS.into_value());
    item.insert("v".into(), MAPPING_VERSION.into_value());
    item.insert("e".into(), Value::B(timer::encode(entries)));
    item
}

/// The entries of a timer item.
pub fn timers_of(item: &Item) -> Result<Vec<Timer>, StoreError> {
    let entries = match item.get("e") {
        Some(Value::B(bytes)) => timer::decode(bytes),
        _ => None,
    };
    entries.ok_or_else(|| StoreError::Corrupt(format!("{:?}: not timers", Key::of(item))))
}
