//! Tracks: a strategy followed along a series, bar by bar, and the signals it gave.

use super::bar::Score;
use super::compile::CompiledStrategy;
use super::explanation::Explanation;
use super::series::{SeriesName, Timeframe};
use super::{Bar, Calendar, Verdict};
use crate::id::ProjectId;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many bars between checkpoints of a track's state, from which corrections start.
pub const CHECKPOINT_BARS: u64 = 500;
/// How many existing bars of a series get stored signals when a track is created; for older ones,
/// run a backtest.
pub const BACKFILL_BARS: usize = 500;
/// How long a track is followed after it was last requested, in milliseconds: a week.
pub const FOLLOW_MS: i64 = 7 * 86_400_000;
/// Maximum tracks along a series that are followed at every bar: the most recently requested ones.
pub const MAX_FOLLOWED: usize = 8;
/// Maximum tracks per series and timeframe.
pub const MAX_TRACKS: usize = 50;
/// How long tracks and their signals are kept after the last write, in seconds: 400 days.
pub const TRACK_TTL_S: i64 = 400 * 86_400;

/// The id of a track: a series, and a strategy's version with its mode and parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrackId {
    /// The project.
    pub project: ProjectId,
    /// The series.
    pub series: SeriesName,
    /// Its timeframe.
    pub timeframe: Timeframe,
    /// `<timeframe>#<strategy>@<version>#<hash of mode and parameters>`
    pub key: String,
}

impl TrackId {
    /// The track of `compiled`, which is `strategy` in `version`.
    pub fn new(
        project: ProjectId,
        series: &SeriesName,
        strategy: &str,
        version: u32,
        compiled: &CompiledStrategy,
    ) -> Self {
        let text =
            serde_json::to_string(&(&compiled.mode, &compiled.params)).expect("numbers are finite");
        let hash = Sha256::digest(text);
        let hash: String = hash.iter().take(6).map(|b| format!("{b:02x}")).collect();
        Self {
            project,
            series: series.clone(),
            timeframe: compiled.timeframe,
            key: format!("{}#{strategy}@{version}#{hash}", compiled.timeframe),
        }
    }
}

/// A stored bar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StoredBar {
    /// When it opened.
    pub t: UnixMs,
    /// Open.
    pub o: f64,
    /// High.
    pub h: f64,
    /// Low.
    pub l: f64,
    /// Close.
    pub c: f64,
    /// Volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vol: Option<f64>,
    /// How often it was corrected.
    pub rev: u32,
    /// When it was received.
    pub at: UnixMs,
}

impl StoredBar {
    /// A bar received at `at`.
    pub const fn new(bar: &Bar, rev: u32, at: UnixMs) -> Self {
        Self {
            t: bar.time,
            o: bar.open,
            h: bar.high,
            l: bar.low,
            c: bar.close,
            vol: bar.volume,
            rev,
            at,
        }
    }

    /// The bar.
    pub const fn bar(&self) -> Bar {
        Bar {
            time: self.t,
            open: self.o,
            high: self.h,
            low: self.l,
            close: self.c,
            volume: self.vol,
        }
    }
}

/// A stored signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// When its bar opened.
    pub bar: UnixMs,
    /// How many earlier signals of this bar it superseded.
    pub revision: u32,
    /// The signal.
    pub verdict: Verdict,
    /// The bar's close.
    pub close: f64,
    /// Why.
    #[serde(with = "json_text")]
    pub explanation: Explanation,
    /// The revision of the bar that it was computed from.
    pub bar_rev: u32,
    /// The sentiment that it was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// When it was computed.
    pub computed: UnixMs,
}

impl Signal {
    /// Whether it says the same as `other`, regardless of when and from which bar revision they
    /// were computed.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.bar == other.bar
            && self.verdict == other.verdict
            && self.close.to_bits() == other.close.to_bits()
            && self.explanation.says_the_same_as(&other.explanation)
    }
}

/// Stores a value as JSON text, because the table's numbers have a smaller range than `f64`.
pub(crate) mod json_text {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(value).map_err(S::Error::custom)?;
        to.serialize_str(&text)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        serde_json::from_str(&text).map_err(D::Error::custom)
    }
}

/// A followed strategy, as requested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// The strategy.
    pub strategy: String,
    /// Its version.
    pub version: u32,
    /// Its mode.
    pub mode: String,
    /// All its parameters.
    #[serde(with = "json_text")]
    pub params: std::collections::BTreeMap<String, f64>,
}

impl Followed {
    /// The strategy that `compiled` came from.
    pub fn new(strategy: &str, version: u32, compiled: &CompiledStrategy) -> Self {
        Self {
            strategy: strategy.to_owned(),
            version,
            mode: compiled.mode.clone(),
            params: compiled.params.clone(),
        }
    }
}

/// The progress of a track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackState {
    /// What is followed.
    pub of: Followed,
    /// When it was last requested. A week later it is no longer followed, until it is requested
    /// again.
    pub asked: UnixMs,
    /// Incremented with every write, and guards it.
    pub version: u64,
    /// The last bar it processed; `None` at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<UnixMs>,
    /// It ignores the bars before: a track of a long series starts near the end.
    #[serde(default = "beginning", skip_serializing_if = "is_beginning")]
    pub start: UnixMs,
    /// The latest bar it ever processed: signals up to here may exist already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<UnixMs>,
    /// Signals are stored from this bar on.
    pub since: UnixMs,
    /// When it last started over: it has processed all bars received well before that.
    pub begun: UnixMs,
    /// Whether it uses sentiment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sentiment: bool,
    /// For a detector: the levels of the series that a person accepted, as this track applied them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<std::collections::BTreeSet<String>>,
    /// The engine's state; empty before the first bar.
    #[serde(with = "super::super::ping::bytes")]
    pub state: Vec<u8>,
}

impl TrackState {
    /// The accepted levels that it has applied, in order.
    pub fn levels(&self) -> Vec<UnixMs> {
        self.levels.as_ref().map(times).unwrap_or_default()
    }
}

/// The timestamps that a set of the table has as texts.
fn times(texts: &std::collections::BTreeSet<String>) -> Vec<UnixMs> {
    let times = texts.iter();
    times.filter_map(|at| at.parse().ok().map(UnixMs)).collect()
}

const fn beginning() -> UnixMs {
    UnixMs(0)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_beginning(start: &UnixMs) -> bool {
    start.0 == 0
}

/// The engine's state after a bar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The bar.
    pub last: UnixMs,
    /// The state.
    #[serde(with = "super::super::ping::bytes")]
    pub state: Vec<u8>,
}

/// A series and timeframe: which bars exist, and who watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The series.
    pub series: SeriesName,
    /// Its timeframe.
    pub timeframe: Timeframe,
    /// The months that have bars, such as `202611`.
    #[serde(default)]
    pub months: std::collections::BTreeSet<String>,
    /// Whether a strategy is followed along it, so that writes to it concern evaluate.
    #[serde(default)]
    pub followed: bool,
    /// The watches on it.
    #[serde(default)]
    pub watches: std::collections::BTreeSet<String>,
    /// Incremented by anything that may concern its watches: a change triggers evaluate.
    #[serde(default)]
    pub nudge: u64,
    /// The latest bar of all requests that are completely written. Later bars may belong to a
    /// request in progress and are not used before its nudge. `None` before the first nudge.
    #[serde(default)]
    pub through: Option<UnixMs>,
    /// The first bar that the last nudge concerns.
    #[serde(default)]
    pub from: Option<UnixMs>,
    /// The last bar that the last nudge concerns.
    #[serde(default)]
    pub to: Option<UnixMs>,
    /// Whether the last nudge concerns sentiment.
    #[serde(default)]
    pub sentiment: bool,
    /// When bars last arrived.
    #[serde(default)]
    pub heard: Option<UnixMs>,
    /// When its bars are due.
    #[serde(default, with = "json_text", skip_serializing_if = "is_default")]
    pub calendar: Calendar,
    /// Times from which on the values are the new normal, as a person said: Unix milliseconds.
    #[serde(default)]
    pub levels: std::collections::BTreeSet<String>,
    /// For a metric of heartbeats: the detector by which its monitor judges it, which is followed at
    /// every value.
    #[serde(default, with = "json_text", skip_serializing_if = "Option::is_none")]
    pub expect: Option<Followed>,
    /// Whether it holds bars or plain values, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Holds>,
}

impl Head {
    /// The times from which on the values are the new normal, in order.
    pub fn levels(&self) -> Vec<UnixMs> {
        times(&self.levels)
    }
}

impl CompiledStrategy {
    /// For a series with this head, or for one without a calendar.
    #[must_use]
    pub fn along(mut self, head: Option<&Head>) -> Self {
        if let Some(head) = head {
            self.calendar = head.calendar.clone();
            if self.detector.is_some() {
                self.levels = head.levels();
            }
        }
        self
    }
}

/// What a series holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// Bars.
    Bars,
    /// Plain values.
    Values,
}

fn is_default(calendar: &Calendar) -> bool {
    *calendar == Calendar::default()
}

impl Head {
    /// The head of a series without data.
    pub fn new(series: &SeriesName, timeframe: Timeframe) -> Self {
        Self {
            series: series.clone(),
            timeframe,
            months: std::collections::BTreeSet::new(),
            followed: false,
            watches: std::collections::BTreeSet::new(),
            nudge: 0,
            through: None,
            from: None,
            to: None,
            sentiment: false,
            heard: None,
            calendar: Calendar::default(),
            levels: std::collections::BTreeSet::new(),
            expect: None,
            holds: None,
        }
    }
}

/// The month of a timestamp, which partitions bars.
pub fn month(at: UnixMs) -> String {
    at.utc().format("%Y%m").to_string()
}
