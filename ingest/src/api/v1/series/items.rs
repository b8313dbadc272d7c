//! Bars, values and sentiment: the types of requests and responses.

use super::super::signal_params::series_of;
use crate::http::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::track::{Head, StoredBar};
use thrum_schema::signal::{Bar, Calendar, SeriesName, Timeframe};
use utoipa::ToSchema;

/// The most bars, values, scores or texts in a request.
const MAX_BATCH: usize = 500;

/// Bars of a series.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BarsRequest {
    /// The length of a bar: `1m`, `15m`, `1h`, `4h`, `1d`, `1w` …
    #[schema(example = "1h")]
    pub timeframe: String,
    /// At most 500, each a `BarRequest`. The response lists invalid ones by index; the others are
    /// accepted.
    #[schema(value_type = Vec<Value>, min_items = 1, max_items = 500)]
    pub bars: Vec<Value>,
}

/// A closed bar.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BarRequest {
    /// When it opened, RFC 3339 with an offset.
    pub time: String,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    /// Null if unknown.
    pub volume: Option<f64>,
}

impl BarRequest {
    /// The bar, checked.
    pub fn check(
        &self,
        timeframe: Timeframe,
        calendar: &Calendar,
        now: UnixMs,
    ) -> Result<Bar, Invalid> {
        let bar = Bar {
            time: UnixMs::parse("time", &self.time)?,
            open: self.open,
            high: self.high,
            low: self.low,
            close: self.close,
            volume: self.volume,
        };
        bar.check(timeframe, calendar, now)?;
        Ok(bar)
    }
}

/// Plain values of a series.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValuesRequest {
    /// The default is `tick`: values may have any time.
    pub timeframe: Option<String>,
    /// At most 500, each `{"time", "value"}`. The response lists invalid ones by index; the others
    /// are accepted.
    #[schema(value_type = Vec<Value>, min_items = 1, max_items = 500)]
    pub values: Vec<Value>,
}

/// A value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueRequest {
    /// The time of the value, RFC 3339 with an offset.
    pub time: String,
    pub value: f64,
}

/// Sentiment, as scores or as texts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SentimentRequest {
    /// At most 500, each `{"time", "score"}`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Value>>, min_items = 1, max_items = 500)]
    pub scores: Option<Vec<Value>>,
    /// At most 500, each `{"time", "text"}`. Thrum scores each by its words.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Value>>, min_items = 1, max_items = 500)]
    pub texts: Option<Vec<Value>>,
}

/// A sentiment score.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// When it became known, RFC 3339 with an offset.
    pub time: String,
    /// 0 is the worst, 1 the best.
    #[schema(minimum = 0, maximum = 1)]
    pub score: f64,
}

/// A text to score.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRequest {
    /// When it became known, RFC 3339 with an offset.
    pub time: String,
    /// At most 10 000 characters.
    pub text: String,
}

/// How many bars or values were accepted, and which were rejected.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Taken {
    /// How many were new.
    pub accepted: usize,
    /// How many were already there.
    pub unchanged: usize,
    /// How many replaced one with the same time and other values.
    pub revised: usize,
    pub rejected: Vec<Rejected>,
}

/// A rejected item.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rejected {
    /// Its index in the request, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub error: String,
}

/// How many scores or texts were accepted, and which were rejected.
#[derive(Debug, Serialize, ToSchema)]
pub struct TakenScores {
    pub accepted: usize,
    pub rejected: Vec<Rejected>,
    /// The accepted scores, by time.
    pub scores: Vec<ScoreRequest>,
}

/// Bars, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bars {
    pub series: String,
    pub timeframe: String,
    pub bars: Vec<BarView>,
    /// The `from` of the next page, if there are more.
    pub next_from: Option<String>,
}

/// A stored bar.
#[derive(Debug, Serialize, ToSchema)]
pub struct BarView {
    pub time: String,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: Option<f64>,
    /// How many times it was corrected.
    pub revision: u32,
    pub received_at: String,
}

/// Series.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesList {
    pub series: Vec<SeriesView>,
}

/// A series and timeframe.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesView {
    pub series: String,
    pub timeframe: String,
    /// The first month with bars, such as `2026-11`.
    pub first_month: Option<String>,
    /// The last month with bars.
    pub last_month: Option<String>,
    /// How many watches it has.
    pub watches: usize,
    /// When its bars are due: `"24/7"`, `"weekdays"`, or `{"tz", "days", "open", "close",
    /// "holidays"}`.
    #[schema(value_type = Value)]
    pub calendar: Value,
    /// How many seconds after the timeframe's grid its bars open.
    #[schema(value_type = i32)]
    pub offset_s: u32,
    /// Times from which on its values are the new normal, as a person said.
    pub accepted_levels: Vec<String>,
}

impl SeriesView {
    /// A series as shown to users.
    pub fn new(head: &Head) -> Self {
        let month =
            |text: Option<&String>| text.map(|text| format!("{}-{}", &text[..4], &text[4..]));
        Self {
            series: head.series.to_string(),
            timeframe: head.timeframe.to_string(),
            first_month: month(head.months.first()),
            last_month: month(head.months.last()),
            watches: head.watches.len(),
            calendar: head.calendar.to_json(),
            offset_s: head.calendar.offset_s,
            accepted_levels: head.levels().into_iter().map(UnixMs::rfc3339).collect(),
        }
    }
}

/// When the bars of a series are due. Absent fields keep their value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeriesRequest {
    /// The default is `tick` for series from heartbeats.
    pub timeframe: Option<String>,
    /// `"24/7"` (the default of a series), `"weekdays"`, or the sessions of a market: `{"tz":
    /// "America/New_York", "days": [1, 2, 3, 4, 5], "open": "09:30", "close": "16:00", "holidays":
    /// ["2026-12-25"]}`.
    #[schema(value_type = Option<Value>)]
    pub calendar: Option<Value>,
    /// How many seconds after the timeframe's grid its bars open, such as 18000 for daily bars at
    /// 05:00Z. The grid is UTC's; for bars of a day or longer with a time zone, that zone's.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 604_800)]
    pub offset_s: Option<u32>,
}

/// A level to accept.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// The default is `tick` for series from heartbeats.
    pub timeframe: Option<String>,
    /// The first value of the new level, RFC 3339; the last value if absent.
    pub at: Option<String>,
}

/// How many bars were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    pub deleted: usize,
    /// Whether all of them were. If not, send the request again.
    pub complete: bool,
}

impl From<StoredBar> for BarView {
    fn from(bar: StoredBar) -> Self {
        Self {
            time: bar.t.rfc3339(),
            open: bar.o,
            high: bar.h,
            low: bar.l,
            close: bar.c,
            volume: bar.vol,
            revision: bar.rev,
            received_at: bar.at.rfc3339(),
        }
    }
}

/// Parses the name of a series that clients may send to.
pub fn own_series(text: &str) -> Result<SeriesName, Problem> {
    let series = series_of(text)?;
    if series.monitor().is_some() {
        return Err(Invalid::new("series", "is fed only by the monitor's heartbeats").into());
    }
    Ok(series)
}

/// Checks the number of items in a request.
pub fn check_batch(field: &str, items: Vec<Value>) -> Result<Vec<Value>, Invalid> {
    if items.is_empty() || items.len() > MAX_BATCH {
        return Err(Invalid::new(
            field,
            format!("must have 1 to {MAX_BATCH} items (got {})", items.len()),
        ));
    }
    Ok(items)
}

/// The valid items by time, the last one for each time; how many were the same as another one; and
/// the rejected items.
pub fn last_of_each<T: PartialEq>(
    checked: Vec<Result<T, Invalid>>,
    time: impl Fn(&T) -> UnixMs,
) -> (Vec<T>, usize, Vec<Rejected>) {
    let mut valid: BTreeMap<UnixMs, (usize, T)> = BTreeMap::new();
    let mut rejected = Vec::new();
    let mut same = 0;
    for (index, checked) in checked.into_iter().enumerate() {
        match checked {
            Ok(item) => {
                let at = time(&item);
                if valid.get(&at).is_some_and(|(_, other)| *other == item) {
                    same += 1;
                } else if let Some((index, _)) = valid.insert(at, (index, item)) {
                    let error = "another of the same time follows, and replaces it".to_owned();
                    rejected.push(Rejected { index, error });
                }
            }
            Err(error) => rejected.push(Rejected {
                index,
                error: error.to_string(),
            }),
        }
    }
    rejected.sort_by_key(|rejected| rejected.index);
    (
        valid.into_values().map(|(_, item)| item).collect(),
        same,
        rejected,
    )
}
