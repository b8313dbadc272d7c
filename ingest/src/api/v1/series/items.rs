//! Bars, values and sentiment: the types of requests and responses.

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

/// The valid items by time, the last one for each time, and the rejected items.
pub fn last_of_each<T>(
    checked: Vec<Result<T, Invalid>>,
    time: impl Fn(&T) -> UnixMs,
) -> (Vec<T>, Vec<Rejected>) {
    let mut valid: BTreeMap<UnixMs, (usize, T)> = BTreeMap::new();
    let mut rejected = Vec::new();
    for (index, checked) in checked.into_iter().enumerate() {
        match checked {
            Ok(item) => {
                if let Some((index, _)) = valid.insert(time(&item), (index, item)) {
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
        rejected,
    )
}
