//! Times in CSV files.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use thrum_schema::UnixMs;

/// Date and time without an offset. Dates with slashes are left out: nobody knows whether the day
/// or the month comes first.
const NAIVE: [&str; 9] = [
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y%m%d %H%M%S",
    "%Y%m%d %H:%M:%S",
    "%Y%m%d %H%M",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M",
];
const DATES: [&str; 3] = ["%Y-%m-%d", "%Y%m%d", "%d.%m.%Y"];

/// Parses a time: RFC 3339, Unix seconds, milliseconds, microseconds or nanoseconds, a date (which
/// begins at midnight UTC), or, if `utc` says that it is UTC, a time without an offset.
pub fn parse(text: &str, utc: bool) -> Result<UnixMs, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(UnixMs(at.timestamp_millis()));
    }
    if let Some(at) = epoch(text) {
        return Ok(at);
    }
    let dates = DATES.iter();
    let date = dates
        .filter_map(|format| NaiveDate::parse_from_str(text, format).ok())
        .find_map(|date| date.and_hms_opt(0, 0, 0));
    if let Some(midnight) = date {
        return Ok(UnixMs(midnight.and_utc().timestamp_millis()));
    }
    let (naive, is_utc) = match text.strip_suffix("UTC").or(text.strip_suffix('Z')) {
        Some(naive) => (naive.trim_end(), true),
        None => (text, utc),
    };
    let found = NAIVE
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(naive, format).ok());
    match found {
        Some(found) if is_utc => Ok(UnixMs(found.and_utc().timestamp_millis())),
        Some(_) => Err(format!(
            "time {text:?} has no UTC offset; pass --utc if the times are UTC"
        )),
        None => Err(format!(
            "time must be a timestamp such as 2026-11-21T05:00:00Z, or a Unix time (got {text:?})"
        )),
    }
}

/// A Unix time. Its length says its unit, for times from 2001 on.
pub fn epoch(text: &str) -> Option<UnixMs> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    if !whole.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: i64 = whole.parse().ok()?;
    match whole.len() {
        9..=10 => {
            let seconds: f64 = text.parse().ok()?;
            #[expect(clippy::cast_possible_truncation, reason = "at most 10 digits")]
            let ms = (seconds * 1_000.0).round() as i64;
            Some(UnixMs(ms))
        }
        12..=13 => Some(UnixMs(n)),
        15..=16 => Some(UnixMs(n / 1_000)),
        18..=19 => Some(UnixMs(n / 1_000_000)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_usual_form() {
        let at = UnixMs::parse("time", "2024-01-02T15:30:00Z").unwrap();
        for text in [
            "2024-01-02T15:30:00Z",
            "2024-01-02T16:30:00+01:00",
            "1704209400",
            "1704209400.0",
            "1704209400000",
            "1704209400000000",
            "1704209400000000000",
            "2024-01-02 15:30:00 UTC",
        ] {
            assert_eq!(parse(text, false), Ok(at), "{text}");
        }
        for text in [
            "2024-01-02 15:30:00",
            "2024-01-02T15:30",
            "20240102 153000",
            "20240102 15:30:00",
            "02.01.2024 15:30",
        ] {
            assert_eq!(parse(text, true), Ok(at), "{text}");
            assert!(parse(text, false).unwrap_err().contains("--utc"), "{text}");
        }
        let midnight = UnixMs::parse("time", "2024-01-02T00:00:00Z").unwrap();
        for text in ["2024-01-02", "20240102", "02.01.2024"] {
            assert_eq!(parse(text, false), Ok(midnight), "{text}");
        }
        for text in ["", "1/2/2024", "yesterday", "12345", "2024-13-01"] {
            assert!(parse(text, true).is_err(), "{text}");
        }
    }
}
