//! Tracks: a strategy followed along a series, bar by bar, and the signals that it gave.

use super::bar::Score;
use super::compile::CompiledStrategy;
use super::explanation::Explanation;
use super::series::{SeriesName, Timeframe};
use super::{Bar, Verdict};
use crate::id::ProjectId;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// After how many bars the state of a track is kept, for corrections to begin from.
pub const CHECKPOINT_BARS: u64 = 500;
/// How many bars of a series that was there before its track have stored signals; what is older, a backtest tells.
pub const BACKFILL_BARS: usize = 500;
/// How long a track is followed after somebody asked for it, in milliseconds: a week.
pub const FOLLOW_MS: i64 = 7 * 86_400_000;
/// Most tracks along a series that are followed at every bar, the last asked for first.
pub const MAX_FOLLOWED: usize = 8;
/// Most tracks along a series and timeframe.
pub const MAX_TRACKS: usize = 50;
/// How long tracks and their signals are kept after they were last written, in seconds: 400 days.
pub const TRACK_TTL_S: i64 = 400 * 86_400;
/// How many timeframes may pass after a bar's close before it is stale.
pub const STALE_BARS: i64 = 2;

/// Which track: a series, and a strategy's version with its mode and parameters.
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
    /// The track of `compiled`, which is of `strategy` in `version`.
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

/// A bar as it is stored.
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
    /// A bar that was received at `at`.
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

/// A signal as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// When its bar opened.
    pub bar: UnixMs,
    /// How often it was superseded before.
    pub revision: u32,
    /// What it is.
    pub verdict: Verdict,
    /// The bar's close.
    pub close: f64,
    /// Why it is so.
    #[serde(with = "json_text")]
    pub explanation: Explanation,
    /// The revision of the bar that it was reckoned from.
    pub bar_rev: u32,
    /// The sentiment that it was reckoned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// When it was reckoned.
    pub computed: UnixMs,
}

impl Signal {
    /// Whether it says the same as `other`, whenever and from whatever revision that was reckoned.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.bar == other.bar
            && self.verdict == other.verdict
            && self.close.to_bits() == other.close.to_bits()
            && self.explanation == other.explanation
    }
}

/// What is stored as JSON text: the table's numbers are not as wide as ours.
pub(super) mod json_text {
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

/// A strategy that is followed, as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// The strategy.
    pub strategy: String,
    /// Its version.
    pub version: u32,
    /// Its mode.
    pub mode: String,
    /// All of its parameters.
    #[serde(with = "json_text")]
    pub params: std::collections::BTreeMap<String, f64>,
}

impl Followed {
    /// The strategy of a compiled.
    pub fn new(strategy: &str, version: u32, compiled: &CompiledStrategy) -> Self {
        Self {
            strategy: strategy.to_owned(),
            version,
            mode: compiled.mode.clone(),
            params: compiled.params.clone(),
        }
    }
}

/// How far a track is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackState {
    /// What is followed.
    pub of: Followed,
    /// When somebody last asked for it: a week later it is followed no longer, until somebody asks again.
    pub asked: UnixMs,
    /// Counts the writes, and guards them.
    pub version: u64,
    /// The last bar that it took; none at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<UnixMs>,
    /// The last bar that it ever took: up to it, signals may be there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<UnixMs>,
    /// Signals are stored from this bar on.
    pub since: UnixMs,
    /// When it last began anew: bars that were received well before are among those that it took.
    pub begun: UnixMs,
    /// Whether sentiment means anything to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sentiment: bool,
    /// The engine's state; empty for the one before the first bar.
    #[serde(with = "super::super::ping::bytes")]
    pub state: Vec<u8>,
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

/// A series and timeframe: what is there, and who watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The series.
    pub series: SeriesName,
    /// Its timeframe.
    pub timeframe: Timeframe,
    /// The months that have bars, `202611`.
    #[serde(default)]
    pub months: std::collections::BTreeSet<String>,
    /// Whether a strategy is followed along it: what is written to it then concerns evaluate.
    #[serde(default)]
    pub followed: bool,
    /// The watches on it.
    #[serde(default)]
    pub watches: std::collections::BTreeSet<String>,
    /// Counts what may concern its watches: its change is what evaluate is called for.
    #[serde(default)]
    pub nudge: u64,
    /// The latest bar of any request that is written in whole: later ones may be of one that is under way, and are not
    /// looked at before its nudge. None if there never was a nudge.
    #[serde(default)]
    pub through: Option<UnixMs>,
    /// The first bar that the last nudge is about.
    #[serde(default)]
    pub from: Option<UnixMs>,
    /// And the last.
    #[serde(default)]
    pub to: Option<UnixMs>,
    /// Whether that was about sentiment.
    #[serde(default)]
    pub sentiment: bool,
    /// When bars last came.
    #[serde(default)]
    pub heard: Option<UnixMs>,
}

impl Head {
    /// A series that nothing was written to.
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
        }
    }
}

/// The month of an instant: how bars are partitioned.
pub fn month(at: UnixMs) -> String {
    at.utc().format("%Y%m").to_string()
}
