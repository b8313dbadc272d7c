//! The keys of every item in the table.
//!
//! A key says what its item is: `M#…/LEASE` is a monitor's state. Numbers in keys are zero-padded,
//! so that they sort as numbers.

use crate::table::{Item, Value};
use sha2::{Digest, Sha256};
use thrum_schema::fence::Region;
use thrum_schema::flip::Flip;
use thrum_schema::id::{AlertId, BadgeId, ChannelId, MonitorId, ProjectId, RequestId, WatchId};
use thrum_schema::ping::{FAIL_SLOTS, LOG_SLOTS};
use thrum_schema::signal::series::{SeriesName, Timeframe};
use thrum_schema::signal::track::{TrackId, month};
use thrum_schema::timer::{self, Timer};
use thrum_schema::{MonitorState, UnixMs};

/// DynamoDB's longest partition and sort key, in bytes.
const MAX_PK: usize = 2_048;
const MAX_SK: usize = 1_024;

/// How many items a project's census has.
pub const CENSUS_ITEMS: usize = 16;
/// Over how many partitions a month's alerts are spread: each takes about 500 new alerts a second.
pub const ALERT_SLOTS: u8 = 8;

/// A primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Partition key.
    pub pk: String,
    /// Sort key.
    pub sk: String,
}

impl Key {
    /// The partition of the cursors.
    pub const CURSORS: &str = "SWEEP";

    /// The key with this partition and sort key.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self {
            pk: pk.into(),
            sk: sk.into(),
        }
    }

    /// Whether an item can have this key. One that is built from what a client sent may be too long;
    /// then there is no such item.
    pub fn fits(&self) -> bool {
        (1..=MAX_PK).contains(&self.pk.len()) && (1..=MAX_SK).contains(&self.sk.len())
    }

    /// The key of an item that is alone in its partition.
    fn lone(pk: String) -> Self {
        Self { sk: pk.clone(), pk }
    }

    /// The attributes of the key.
    pub fn attributes(&self) -> Item {
        let mut item = Item::default();
        for (name, text) in [("pk", &self.pk), ("sk", &self.sk)] {
            item.insert(name.to_owned(), Value::S(text.clone()));
        }
        item
    }

    /// The key of an item; `None` if it has none.
    pub fn of(item: &Item) -> Option<Self> {
        let text = |name| match item.get(name) {
            Some(Value::S(text)) => Some(text.clone()),
            _ => None,
        };
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

    /// A monitor's state.
    pub fn state(monitor: MonitorId) -> Self {
        Self::new(format!("M#{monitor}"), "LEASE")
    }

    /// A monitor that depends on `parent`.
    pub fn child(parent: MonitorId, child: MonitorId) -> Self {
        Self::new(format!("M#{parent}"), format!("CHILD#{child}"))
    }

    /// Finds a monitor by name, for heartbeats.
    pub fn name(project: ProjectId, name: &str) -> Self {
        Self::lone(format!("N#{project}#{name}"))
    }

    /// Finds monitors by slug, for ping-key URLs.
    pub fn slug(project: ProjectId, slug: &str) -> Self {
        Self::lone(format!("SLUG#{project}#{slug}"))
    }

    /// An API key, by the hex SHA-256 of its secret.
    pub fn api_key(hash: &str) -> Self {
        Self::lone(format!("K#{hash}"))
    }

    /// An API key in its project's list.
    pub fn project_key(project: ProjectId, hash: &str) -> Self {
        Self::new(format!("P#{project}"), format!("KEY#{hash}"))
    }

    /// A ping key, by the hex SHA-256 of its secret.
    pub fn ping_key(hash: &str) -> Self {
        Self::lone(format!("PK#{hash}"))
    }

    /// Finds a monitor by its public badge.
    pub fn badge(badge: BadgeId) -> Self {
        Self::lone(format!("B#{badge}"))
    }

    /// Finds a monitor by its unique key, for read-only clients.
    pub fn unique_key(project: ProjectId, unique_key: &str) -> Self {
        Self::lone(format!("UK#{project}#{unique_key}"))
    }

    /// The partition of a project's census.
    pub fn census_of(project: ProjectId) -> String {
        format!("C#{project}")
    }

    /// An item of a project's census.
    pub fn census(project: ProjectId, item: usize) -> Self {
        Self::new(Self::census_of(project), format!("{item:02}"))
    }

    /// A project in the list of all projects.
    pub fn project_ref(project: ProjectId) -> Self {
        Self::new("PROJECTS", project.to_string())
    }

    /// A ping key in its project's list.
    pub fn project_ping_key(project: ProjectId, hash: &str) -> Self {
        Self::new(format!("P#{project}"), format!("PINGKEY#{hash}"))
    }

    /// Finds a project by its badge key.
    pub fn badge_key(badge_key: &str) -> Self {
        Self::lone(format!("BK#{badge_key}"))
    }

    /// An API key's use of its daily quota and its rate.
    pub fn requests(project: ProjectId, at: UnixMs, key_id: &str) -> Self {
        Self::usage(project, at, &format!("requests#{key_id}"))
    }

    /// The partition of a project's usage on the day of `at`.
    pub fn usage_of(project: ProjectId, at: UnixMs) -> String {
        format!("U#{project}#{}", at.day())
    }

    /// A slot in a monitor's failure log, for its `fails`-th failure.
    pub fn failure(monitor: MonitorId, fails: u64) -> Self {
        let slot = fails % FAIL_SLOTS;
        Self::new(format!("M#{monitor}"), format!("FAIL#{slot:03}"))
    }

    /// The health of a channel's deliveries.
    pub fn channel_health(project: ProjectId, channel: ChannelId) -> Self {
        Self::new(format!("P#{project}"), format!("HEALTH#{channel}"))
    }

    /// A slot in a monitor's log, for its `n`-th ping.
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

    /// The mark that a state removed by TTL was restored.
    pub fn restored(lost: &MonitorState) -> Self {
        Self::new(
            format!("M#{}", lost.monitor),
            format!("RESTORED#{:020}", lost.version),
        )
    }

    /// An alert, partitioned by the month in which it was created, which its ID contains, and by a
    /// random part of its ID.
    pub fn alert(project: ProjectId, alert: AlertId) -> Self {
        let slot = alert.0.as_bytes()[15] % ALERT_SLOTS;
        Self::new(
            Self::alerts_of(project, UnixMs(alert.created_ms()), slot),
            alert.to_string(),
        )
    }

    /// A partition of a project's alerts in the month of `at`.
    pub fn alerts_of(project: ProjectId, at: UnixMs, slot: u8) -> String {
        format!("P#{project}#A#{}#{slot}", month(at))
    }

    /// The delivery of an alert or a group to a channel.
    pub fn delivery(alert: AlertId, channel: ChannelId) -> Self {
        Self::new(Self::deliveries_of(alert), format!("D#{channel}"))
    }

    /// The partition of the deliveries of an alert.
    pub fn deliveries_of(alert: AlertId) -> String {
        format!("A#{alert}")
    }

    /// A channel.
    pub fn channel(project: ProjectId, channel: ChannelId) -> Self {
        Self::new(format!("P#{project}"), format!("CH#{channel}"))
    }

    /// How many alerts a channel had in the current two seconds.
    pub fn rate(channel: ChannelId) -> Self {
        Self::new(format!("G#{channel}"), "RATE")
    }

    /// The state of an e-mail channel's subscription.
    pub fn subscription(project: ProjectId, channel: ChannelId) -> Self {
        Self::new(format!("P#{project}"), format!("SUB#{channel}"))
    }

    /// An alert collected for a channel.
    pub fn gathered(channel: ChannelId, alert: AlertId) -> Self {
        Self::new(format!("G#{channel}"), format!("W#{alert}"))
    }

    /// A usage counter of a project for a day.
    pub fn usage(project: ProjectId, at: UnixMs, meter: &str) -> Self {
        Self::new(Self::usage_of(project, at), meter)
    }

    /// The partition of the timers of a shard that are due in a minute.
    pub fn timers_of(shard: u16, minute: i64) -> String {
        format!("T#{shard:03}#{minute:010}")
    }

    /// A timer item. Its name is the same for the same entries, so that arming twice has the effect
    /// of arming once.
    pub fn timers(shard: u16, due: UnixMs, entries: &[Timer]) -> Self {
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
        Self::new(Self::CURSORS, format!("{shard:03}"))
    }

    /// The fence between two regions, in a table of its own.
    pub fn fence() -> Self {
        Self::new("FENCE", "FENCE")
    }

    /// Where the fence is, in a deployment in two regions.
    pub fn regions() -> Self {
        Self::new("REGIONS", "REGIONS")
    }

    /// What a region reports, next to the fence.
    pub fn report(region: &Region) -> Self {
        Self::new("REPORT", region.0.as_str())
    }

    /// The repair after a takeover, next to the fence.
    pub fn repair() -> Self {
        Self::new("REPAIR", "REPAIR")
    }

    /// When the schedule last ticked.
    pub fn tick() -> Self {
        Self::new("TICK", "TICK")
    }

    /// When the schedule last ticked in a region, next to the fence.
    pub fn tick_in(region: &Region) -> Self {
        Self::new("TICK", region.0.as_str())
    }

    /// The head of a series and timeframe.
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

    /// The partition of the tracks of a series.
    pub fn tracks_of(track: &TrackId) -> String {
        format!("S#{}#{}", track.project, track.series)
    }

    /// A signal.
    pub fn signal(track: &TrackId, bar: UnixMs, revision: u32) -> Self {
        Self::new(
            Self::tracks_of(track),
            format!("SIG#{}#{:013}#{revision:05}", track.key, bar.0),
        )
    }

    /// The signals of all tracks of a series and timeframe; the sort key is a prefix.
    pub fn signals_of(project: ProjectId, series: &SeriesName, timeframe: Timeframe) -> Self {
        Self::new(format!("S#{project}#{series}"), format!("SIG#{timeframe}#"))
    }

    /// A track's progress.
    pub fn track(track: &TrackId) -> Self {
        Self::new(Self::tracks_of(track), format!("STATE#{}", track.key))
    }

    /// The state of a track after a bar.
    pub fn checkpoint(track: &TrackId, bar: UnixMs) -> Self {
        Self::new(
            Self::tracks_of(track),
            format!("CHECK#{}#{:013}", track.key, bar.0),
        )
    }

    /// The current version of a strategy.
    pub fn strategy(project: ProjectId, name: &str) -> Self {
        Self::new(format!("P#{project}"), format!("STRATEGY#{name}"))
    }

    /// A given version of a strategy.
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

    /// The bars that were sent with a request.
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

    /// The state of a watch.
    pub fn watch_state(watch: WatchId) -> Self {
        Self::new(format!("W#{watch}"), "MEMORY")
    }

    /// What guards the number of things of a kind in a project.
    pub fn counted(project: ProjectId, kind: &str) -> Self {
        Self::new(format!("P#{project}"), format!("COUNTED#{kind}"))
    }

    /// The mark of a key that the operator preset: it is created once.
    pub fn preset(hash: &str) -> Self {
        Self::lone(format!("PRESET#{hash}"))
    }

    /// The ID of the pulse.
    pub fn pulse() -> Self {
        Self::lone("PULSE".to_owned())
    }

    /// The heartbeats of a minute in which some were refused.
    pub fn refusals(at: UnixMs) -> Self {
        Self::new("REFUSALS", format!("{:013}", at.minute() * 60_000))
    }

    /// A step of the clock.
    pub fn clock_step(at: UnixMs) -> Self {
        Self::new("CLOCK", format!("{:013}", at.0))
    }

    /// An outage of Thrum itself.
    pub fn outage(start: UnixMs) -> Self {
        Self::new("OUTAGE", format!("{:013}", start.0))
    }

    /// The mark that the deep health check writes.
    pub fn probe() -> Self {
        Self::new("PROBE", "SENT")
    }

    /// The mark that notify writes when the check reaches it.
    pub fn probe_arrived() -> Self {
        Self::new("PROBE", "ARRIVED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use thrum_schema::World;
    use thrum_schema::world::ManualWorld;

    #[test]
    fn a_burst_of_alerts_is_spread_over_partitions() {
        let now = UnixMs(1_763_700_000_000);
        let world = ManualWorld::new(now, 7);
        let mut partitions: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..8_000 {
            let key = Key::alert(ProjectId::FIRST, AlertId(world.uuid_v7(now)));
            *partitions.entry(key.pk).or_default() += 1;
        }
        assert_eq!(partitions.len(), usize::from(ALERT_SLOTS));
        let even = partitions.values().all(|n| (800..1_200).contains(n));
        assert!(even, "{partitions:?}");
    }
}
