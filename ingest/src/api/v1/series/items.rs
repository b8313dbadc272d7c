//! Bars, values and sentiment as they are sent, and as they are shown.

use super::super::signal_params::series_of;
use crate::http::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::track::StoredBar;
use thrum_schema::signal::{Bar, SeriesName, Timeframe};
use utoipa::ToSchema;

/// Most bars, values or scores in a request.
const MAX_BATCH: usize = 500;

/// Bars of a series.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BarsRequest {
    /// How long a bar lasts: `1m`, `15m`, `1h`, `4h`, `1d`, `1w` …
    #[schema(example = "1h")]
    pub timeframe: String,
    /// At most 500 `BarRequest`. What is wrong with one is said in its place, and the others are taken.
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
    /// Null if it is not known.
    pub volume: Option<f64>,
}

impl BarRequest {
    /// The bar, checked.
    pub fn check(&self, timeframe: Timeframe, now: UnixMs) -> Result<Bar, Invalid> {
        let bar = Bar {
            time: UnixMs::parse("time", &self.time)?,
            open: self.open,
            high: self.high,
            low: self.low,
            close: self.close,
            volume: self.volume,
        };
        bar.check(timeframe, now)?;
        Ok(bar)
    }
}

/// Plain values of a series.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValuesRequest {
    /// `tick` by default: at any time.
    pub timeframe: Option<String>,
    /// At most 500, each `{"time", "value"}`. What is wrong with one is said in its place, and the others are taken.
    #[schema(value_type = Vec<Value>, min_items = 1, max_items = 500)]
    pub values: Vec<Value>,
}

/// A value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueRequest {
    /// When it was so, RFC 3339 with an offset.
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
    /// At most 500, each `{"time", "text"}`, scored by the words in them.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Value>>, min_items = 1, max_items = 500)]
    pub texts: Option<Vec<Value>>,
}

/// A sentiment score.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// When it was known, RFC 3339 with an offset.
    pub time: String,
    /// 0 is the worst, 1 the best.
    #[schema(minimum = 0, maximum = 1)]
    pub score: f64,
}

/// A text that tells of sentiment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRequest {
    /// When it was known, RFC 3339 with an offset.
    pub time: String,
    /// At most 10 000 characters.
    pub text: String,
}

/// What became of bars or values.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Taken {
    /// New ones.
    pub accepted: usize,
    /// Those that were there already.
    pub unchanged: usize,
    /// Those that took the place of others of the same time.
    pub revised: usize,
    pub rejected: Vec<Rejected>,
}

/// What was wrong with an item.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rejected {
    /// Its place in the request.
    pub index: usize,
    pub error: String,
}

/// What became of scores or texts.
#[derive(Debug, Serialize, ToSchema)]
pub struct TakenScores {
    pub accepted: usize,
    pub rejected: Vec<Rejected>,
    /// The scores that were taken.
    pub scores: Vec<ScoreRequest>,
}

/// Bars, in the order of their times.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bars {
    pub series: String,
    pub timeframe: String,
    pub bars: Vec<BarView>,
    /// Where to go on from, if there are more.
    pub next_from: Option<String>,
}

/// A bar as it is stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct BarView {
    pub time: String,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: Option<f64>,
    /// How often it was corrected.
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
    /// The first and the last month that have bars, `2026-11`.
    pub first_month: Option<String>,
    pub last_month: Option<String>,
    pub watches: usize,
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

/// A series that clients feed themselves.
pub fn own_series(text: &str) -> Result<SeriesName, Problem> {
    let series = series_of(text)?;
    if series.monitor().is_some() {
        return Err(Invalid::new("series", "is fed by the monitor's heartbeats alone").into());
    }
    Ok(series)
}

/// Checks the number of items in a request.
pub fn check_batch(field: &str, items: Vec<Value>) -> Result<Vec<Value>, Invalid> {
    if items.is_empty() || items.len() > MAX_BATCH {
        return Err(Invalid::new(
            field,
            format!("must be 1 to {MAX_BATCH} at a time"),
        ));
    }
    Ok(items)
}

/// Those that are fit, in the order of their times and the last of each time, and what was wrong with the others.
pub fn last_of_each<T>(
    checked: Vec<Result<T, Invalid>>,
    time: impl Fn(&T) -> UnixMs,
) -> (Vec<T>, Vec<Rejected>) {
    let mut good: BTreeMap<UnixMs, (usize, T)> = BTreeMap::new();
    let mut rejected = Vec::new();
    for (index, checked) in checked.into_iter().enumerate() {
        match checked {
            Ok(item) => {
                if let Some((index, _)) = good.insert(time(&item), (index, item)) {
                    let error = "another of the same time follows it, and is taken".to_owned();
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
    (good.into_values().map(|(_, item)| item).collect(), rejected)
}
