//! Parameters that the resources for signals share.

use crate::http::Problem;
use serde_json::Value;
use std::collections::BTreeMap;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::{SeriesName, Timeframe};

/// The timestamp in a parameter, if it is given.
pub fn timestamp(field: &str, text: Option<&String>) -> Result<Option<UnixMs>, Invalid> {
    text.map(|text| UnixMs::parse(field, text)).transpose()
}

/// The series in a path.
pub fn series_of(text: &str) -> Result<SeriesName, Problem> {
    Ok(SeriesName::parse("series", text)?)
}

/// The given timeframe, or `tick` if none is given and the series is one of heartbeats.
pub fn timeframe_of(
    text: Option<&String>,
    series: Option<&SeriesName>,
) -> Result<Timeframe, Invalid> {
    match text {
        Some(text) => Timeframe::parse("timeframe", text),
        None if series.is_some_and(|series| series.monitor().is_some()) => Ok(Timeframe::TICK),
        None => Err(Invalid::new(
            "timeframe",
            "is required, such as 1h, or tick for plain values",
        )),
    }
}

/// The parameters of a strategy in a query, a JSON object.
pub fn params_of(text: Option<&String>) -> Result<BTreeMap<String, f64>, Invalid> {
    let Some(text) = text else {
        return Ok(BTreeMap::new());
    };
    let wrong = || {
        Invalid::new(
            "params",
            "must be a JSON object of numbers, such as {\"fast\": 5}",
        )
    };
    let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let fields = value.as_object().ok_or_else(wrong)?;
    fields
        .iter()
        .map(|(name, value)| Ok((name.clone(), value.as_f64().ok_or_else(wrong)?)))
        .collect()
}

/// Checks the limit of a list.
pub fn check_limit(given: Option<usize>, default: usize, most: usize) -> Result<usize, Problem> {
    let limit = given.unwrap_or(default);
    if (1..=most).contains(&limit) {
        Ok(limit)
    } else {
        Err(Invalid::new(
            "limit",
            format!("must be between 1 and {most} (got {limit})"),
        )
        .into())
    }
}
