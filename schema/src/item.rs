//! Keys and mappings of every item in the table, all in one place.
//!
//! A key tells what it is: `M#…/LEASE` is a monitor's lease. Numbers in keys are zero-padded, so that their
//! order as text is their order as numbers. Every item has `kind`, which stream filters match on, and `v`, the
//! version of its mapping.

use crate::alert::{ALERT_TTL_S, Alert};
use crate::channel::Channel;
use crate::delivery::Delivery;
use crate::id::{AlertId, BadgeId, ChannelId, MonitorId, ProjectId, RequestId, WatchId};
use crate::key::ApiKey;
use crate::lease::Lease;
use crate::monitor::Monitor;
use crate::outage::{OUTAGE_TTL_S, Outage};
use crate::ping::{FAIL_SLOTS, LOG_SLOTS, LOG_TTL_S, Ping};
use crate::project::Project;
use crate::signal::Score;
use crate::signal::request::{REQUEST_TTL_S, Request};
use crate::signal::series::{SeriesName, Timeframe};
use crate::signal::strategy;
use crate::signal::track::{
    Checkpoint, Signal, StoredBar, TRACK_TTL_S, TrackId, TrackState, month,
};
use crate::signal::watch::{Memory, Watch};
use crate::store::StoreError;
use crate::time::UnixMs;
use crate::timer::{self, Timer};
use crate::transition::{FLIP_TTL_S, Flip};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1 as dynamo;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// An item: attribute values by name.
pub type Item = HashMap<String, AttributeValue>;

/// The version of the mapping, written to every item as `v`.
pub const MAPPING_VERSION: i64 = 1;
/// How long usage counters are kept, in seconds: 35 days.
pub const USAGE_TTL_S: i64 = 35 * 86_400;

/// A primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Partition key.
    pub pk: String,
    /// Sort key.
    pub sk: String,
}

impl Key {
    fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self {
            pk: pk.into(),
            sk: sk.into(),
        }
    }

    /// A key that stands for a single item, found by it alone.
    fn lone(pk: String) -> Self {
        Self { sk: pk.clone(), pk }
    }

    /// The key as the SDK wants it.
    pub fn attributes(&self) -> Item {
        HashMap::from([("pk".into(), s(&self.pk)), ("sk".into(), s(&self.sk))])
    }

    /// The key of an item; `None` if it has none.
    pub fn of(item: &Item) -> Option<Self> {
        let text = |name| item.get(name)?.as_s().ok().cloned();
        Some(Self::new(text("pk")?, text("sk")?))
    }

    /// A project.
    pub fn project(project: ProjectId) -> Self {
        Self::new(format!("P#{project}"), "PROJECT")
    }

    /// A monitor's configuration.
    pub fn monitor(project: ProjectId, monitor: MonitorId) -> Self {
        Self::new(format!("P#{project}"), format!("M#{monitor}"))
    }

    /// The owner of a monitor.
    pub fn owner(monitor: MonitorId) -> Self {
        Self::new(format!("M#{monitor}"), "OWNER")
    }

    /// A monitor's lease.
    pub fn lease(monitor: MonitorId) -> Self {
        Self::new(format!("M#{monitor}"), "LEASE")
    }

    /// The monitor that heartbeats by name mean.
    pub fn name(project: ProjectId, name: &str) -> Self {
        Self::new(format!("P#{project}"), format!("NAME#{name}"))
    }

    /// The monitors that ping-key URLs mean.
    pub fn slug(project: ProjectId, slug: &str) -> Self {
        Self::new(format!("P#{project}"), format!("SLUG#{slug}"))
    }

    /// An API key, by the hex SHA-256 of its secret.
    pub fn api_key(hash: &str) -> Self {
        Self::lone(format!("K#{hash}"))
    }

    /// An API key among its project's.
    pub fn project_key(project: ProjectId, hash: &str) -> Self {
        Self::new(format!("P#{project}"), format!("KEY#{hash}"))
    }

    /// A ping key, by the hex SHA-256 of its secret.
    pub fn ping_key(hash: &str) -> Self {
        Self::lone(format!("PK#{hash}"))
    }

    /// The monitor that a public badge shows.
    pub fn badge(badge: BadgeId) -> Self {
        Self::lone(format!("B#{badge}"))
    }

    /// The monitor that read-only clients mean.
    pub fn unique_key(project: ProjectId, unique_key: &str) -> Self {
        Self::new(format!("P#{project}"), format!("UK#{unique_key}"))
    }

    /// How many monitors a project has.
    pub fn census(project: ProjectId) -> Self {
        Self::new(format!("P#{project}"), "CENSUS")
    }

    /// A project among all of them.
    pub fn project_ref(project: ProjectId) -> Self {
        Self::new("PROJECTS", project.to_string())
    }

    /// A ping key among its project's.
    pub fn project_ping_key(project: ProjectId, hash: &str) -> Self {
        Self::new(format!("P#{project}"), format!("PINGKEY#{hash}"))
    }

    /// The project that a badge key means.
    pub fn badge_key(badge_key: &str) -> Self {
        Self::lone(format!("BK#{badge_key}"))
    }

    /// What an API key used of its day's quota and of its rate.
    pub fn requests(project: ProjectId, at: UnixMs, key_id: &str) -> Self {
        Self::usage(project, at, &format!("requests#{key_id}"))
    }

    /// The partition of a project's usage of the day of `at`.
    pub fn usage_of(project: ProjectId, at: UnixMs) -> String {
        format!("U#{project}#{}", at.day())
    }

    /// A slot of the failures in a monitor's log, for its `fails`-th failure.
    pub fn failure(monitor: MonitorId, fails: u64) -> Self {
        let slot = fails % FAIL_SLOTS;
        Self::new(format!("M#{monitor}"), format!("FAIL#{slot:03}"))
    }

    /// How a channel's deliveries fare.
    pub fn channel_health(project: ProjectId, channel: ChannelId) -> Self {
        Self::new(format!("P#{project}"), format!("HEALTH#{channel}"))
    }

    /// A slot of a monitor's log, for its `n`-th ping.
    pub fn ping(monitor: MonitorId, n: u64) -> Self {
        Self::new(format!("M#{monitor}"), format!("PING#{:03}", n % LOG_SLOTS))
    }

    /// A monitor's flip.
    pub fn flip(monitor: MonitorId, flip: &Flip) -> Self {
        Self::new(
            format!("M#{monitor}"),
            format!("FLIP#{:013}#{:09}", flip.at.0, flip.n),
        )
    }

    /// The mark that a lease which TTL removed was restored.
    pub fn restored(lost: &Lease) -> Self {
        Self::new(
            format!("M#{}", lost.monitor),
            format!("RESTORED#{:020}", lost.version),
        )
    }

    /// An alert: partitioned by the day it was made, which its id tells.
    pub fn alert(project: ProjectId, alert: AlertId) -> Self {
        Self::new(
            Self::alerts_of(project, UnixMs(alert.created_ms())),
            alert.to_string(),
        )
    }

    /// The partition of a project's alerts of the day of `at`.
    pub fn alerts_of(project: ProjectId, at: UnixMs) -> String {
        format!("P#{project}#A#{}", at.day())
    }

    /// The delivery of an alert or a group to a channel.
    pub fn delivery(alert: AlertId, channel: ChannelId) -> Self {
        Self::new(format!("A#{alert}"), format!("D#{channel}"))
    }

    /// A channel.
    pub fn channel(project: ProjectId, channel: ChannelId) -> Self {
        Self::new(format!("P#{project}"), format!("CH#{channel}"))
    }

    /// How many alerts a channel had in the current two seconds.
    pub fn rate(channel: ChannelId) -> Self {
        Self::new(format!("G#{channel}"), "RATE")
    }

    /// What is known of an e-mail channel's subscription.
    pub fn subscription(project: ProjectId, channel: ChannelId) -> Self {
        Self::new(format!("P#{project}"), format!("SUB#{channel}"))
    }

    /// An alert that is gathered for a channel.
    pub fn gathered(channel: ChannelId, alert: AlertId) -> Self {
        Self::new(format!("G#{channel}"), format!("W#{alert}"))
    }

    /// A counter of a project's day.
    pub fn usage(project: ProjectId, at: UnixMs, meter: &str) -> Self {
        Self::new(Self::usage_of(project, at), meter)
    }

    /// The partition of the timers of a shard that are due in a minute.
    pub fn timers_of(shard: u16, minute: i64) -> String {
        format!("T#{shard:03}#{minute:010}")
    }

    /// An item of timers. Its name is the same for the same entries, so that arming twice is arming once.
    fn timers(shard: u16, due: UnixMs, entries: &[Timer]) -> Self {
        let name = match entries {
            [one] => one.name(),
            many => {
                let hash = Sha256::digest(timer::encode(many));
                let hex: String = hash.iter().take(10).map(|b| format!("{b:02x}")).collect();
                format!("p{hex}")
            }
        };
        Self::new(
            Self::timers_of(shard, due.minute()),
            format!("{:013}#{name}", due.0),
        )
    }

    /// A shard's cursor.
    pub fn cursor(shard: u16) -> Self {
        Self::new("SWEEP", format!("{shard:03}"))
    }

    /// A series and timeframe: what is there, and who watches.
    pub fn head(project: ProjectId, series: &SeriesName, timeframe: Timeframe) -> Self {
        Self::new(
            format!("P#{project}"),
            format!("SERIES#{series}#{timeframe}"),
        )
    }

    /// The partition of a month's bars.
    pub fn bars_of(
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        month: &str,
    ) -> String {
        format!("S#{project}#{series}#{timeframe}#{month}")
    }

    /// A bar.
    pub fn bar(
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        open: UnixMs,
    ) -> Self {
        let pk = Self::bars_of(project, series, timeframe, &month(open));
        Self::new(pk, format!("{:013}", open.0))
    }

    /// A sentiment score.
    pub fn score(project: ProjectId, series: &SeriesName, at: UnixMs) -> Self {
        Self::new(
            format!("S#{project}#{series}"),
            format!("SENT#{:013}", at.0),
        )
    }

    /// A signal.
    pub fn signal(track: &TrackId, bar: UnixMs, revision: u32) -> Self {
        Self::new(
            track.pk(),
            format!("SIG#{}#{:013}#{revision:05}", track.key, bar.0),
        )
    }

    /// How far a track is.
    pub fn track(track: &TrackId) -> Self {
        Self::new(track.pk(), format!("STATE#{}", track.key))
    }

    /// The state of a track after a bar.
    pub fn checkpoint(track: &TrackId, bar: UnixMs) -> Self {
        Self::new(track.pk(), format!("CHECK#{}#{:013}", track.key, bar.0))
    }

    /// A strategy, as it now is.
    pub fn strategy(project: ProjectId, name: &str) -> Self {
        Self::new(format!("P#{project}"), format!("STRATEGY#{name}"))
    }

    /// A strategy, as it was.
    pub fn strategy_version(project: ProjectId, name: &str, version: u32) -> Self {
        Self::new(
            format!("P#{project}"),
            format!("STRATEGYVERSION#{name}#{version:06}"),
        )
    }

    /// A request.
    pub fn request(request: RequestId) -> Self {
        Self::new(format!("R#{request}"), "REQ")
    }

    /// The bars that came with a request.
    pub fn request_bars(request: RequestId) -> Self {
        Self::new(format!("R#{request}"), "BARS")
    }

    /// A part of a request's result.
    pub fn result(request: RequestId, attempt: &str, part: u32) -> Self {
        Self::new(
            format!("R#{request}"),
            format!("RESULT#{attempt}#{part:03}"),
        )
    }

    /// A watch.
    pub fn watch(project: ProjectId, watch: WatchId) -> Self {
        Self::new(format!("P#{project}"), format!("W#{watch}"))
    }

    /// What a watch remembers.
    pub fn memory(watch: WatchId) -> Self {
        Self::new(format!("W#{watch}"), "MEMORY")
    }

    /// An outage of ours.
    pub fn outage(start: UnixMs) -> Self {
        Self::new("OUTAGE", format!("{:013}", start.0))
    }

    /// What the deep health check writes.
    pub fn probe() -> Self {
        Self::new("PROBE", "SENT")
    }

    /// What notify writes when that came through to it.
    pub fn probe_arrived() -> Self {
        Self::new("PROBE", "ARRIVED")
    }
}

/// A string value.
pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number value.
pub(crate) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// An item of `kind` with the members of `body`.
pub(crate) fn encode<T: Serialize>(key: &Key, kind: &str, body: &T) -> Item {
    let mut item: Item = dynamo::to_item(body).expect("domain types map to items");
    item.extend(key.attributes());
    item.insert("kind".into(), s(kind));
    item.insert("v".into(), n(MAPPING_VERSION));
    item
}

/// An item that TTL removes.
fn expiring<T: Serialize>(key: &Key, kind: &str, body: &T, expires_s: i64) -> Item {
    let mut item = encode(key, kind, body);
    item.insert("expires_at".into(), n(expires_s));
    item
}

/// Reads an item back.
pub fn decode<T: DeserializeOwned>(item: Item) -> Result<T, StoreError> {
    let key = Key::of(&item);
    dynamo::from_item(item).map_err(|error| StoreError::Corrupt(format!("{key:?}: {error}")))
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

/// A monitor's lease.
pub fn lease(lease: &Lease) -> Item {
    encode(&Key::lease(lease.monitor), "lease", lease)
}

/// The mark that a lease which TTL removed was restored.
pub fn restored(lost: &Lease) -> Item {
    let key = Key::restored(lost);
    let expires_s = lost.expires_at.unwrap_or(0) + FLIP_TTL_S;
    expiring(
        &key,
        "restored",
        &HashMap::<String, String>::new(),
        expires_s,
    )
}

/// An item that leads to a monitor.
fn leads_to(monitor: &Monitor, key: &Key, kind: &str) -> Item {
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

/// The monitor that a name means.
pub fn name(monitor: &Monitor) -> Item {
    leads_to(monitor, &Key::name(monitor.project, &monitor.name), "name")
}

/// The monitor that a public badge shows.
pub fn badge(monitor: &Monitor) -> Item {
    leads_to(monitor, &Key::badge(monitor.badge()), "badge")
}

/// The monitor that read-only clients mean.
pub fn unique_key(monitor: &Monitor) -> Item {
    let key = Key::unique_key(monitor.project, &monitor.unique_key());
    leads_to(monitor, &key, "uniquekey")
}

/// A project: itself, its place among all of them, and what its badges lead by.
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

/// A failure in the part of the log that keeps the last of them.
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

/// A group's delivery, in whole. Other deliveries are written attribute by attribute.
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

/// An API key: the item that a secret finds, and the one that its project lists.
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
            item.insert("expires_at".into(), n(until.secs() + 1));
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

/// A mark of the deep health check. Only what is sent has the kind that the stream carries on.
pub fn probe(key: &Key, at: UnixMs) -> Item {
    let kind = if *key == Key::probe() {
        "probe"
    } else {
        "arrived"
    };
    encode(key, kind, &Probe { at })
}

/// An outage of ours.
pub fn outage(outage: &Outage) -> Item {
    let expires_s = outage.end.secs() + OUTAGE_TTL_S;
    expiring(&Key::outage(outage.start), "outage", outage, expires_s)
}

impl TrackId {
    /// The partition of a series' tracks.
    pub fn pk(&self) -> String {
        format!("S#{}#{}", self.project, self.series)
    }
}

/// A bar. What heartbeats feed goes on for ever, and is removed after a while; what clients send is theirs.
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

/// How far a track is.
pub fn track(track: &TrackId, state: &TrackState, now: UnixMs) -> Item {
    expiring(&Key::track(track), "track", state, now.secs() + TRACK_TTL_S)
}

/// The state of a track after a bar.
pub fn checkpoint(track: &TrackId, checkpoint: &Checkpoint, now: UnixMs) -> Item {
    let key = Key::checkpoint(track, checkpoint.last);
    expiring(&key, "checkpoint", checkpoint, now.secs() + TRACK_TTL_S)
}

/// A strategy: as it now is, and as this version of it.
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

/// Some text of a request: the bars that came with it, or a part of its result.
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

/// What a watch remembers.
pub fn memory(watch: WatchId, memory: &Memory) -> Item {
    encode(&Key::memory(watch), "memory", memory)
}

/// The kind of items of timers.
const TIMERS: &str = "timers";
/// The kind of an item of a timer that is due before a sweep by the minute may find it: the stream carries it on.
const SOON: &str = "soon";

/// An item of a timer that the stream carries on.
pub fn soon(shard: u16, timer: Timer) -> Item {
    let mut item = timers(shard, timer.due, &[timer]);
    item.insert("kind".into(), s(SOON));
    item
}

/// An item of at most [`timer::MAX_ENTRIES`] timers of one shard, due together at `due`.
pub fn timers(shard: u16, due: UnixMs, entries: &[Timer]) -> Item {
    debug_assert!(entries.len() <= timer::MAX_ENTRIES && !entries.is_empty());
    let mut item = Key::timers(shard, due, entries).attributes();
    item.insert("kind".into(), s(TIMERS));
    item.insert("v".into(), n(MAPPING_VERSION));
    item.insert(
        "e".into(),
        AttributeValue::B(Blob::new(timer::encode(entries))),
    );
    item
}

/// The entries of an item of timers.
pub fn timers_of(item: &Item) -> Result<Vec<Timer>, StoreError> {
    item.get("e")
        .and_then(|bytes| bytes.as_b().ok())
        .and_then(|bytes| timer::decode(bytes.as_ref()))
        .ok_or_else(|| StoreError::Corrupt(format!("{:?}: not timers", Key::of(item))))
}
