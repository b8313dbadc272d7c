//! Timestamps as whole milliseconds since the Unix epoch, for storage and arithmetic.

use crate::error::Invalid;
use chrono::{DateTime, Datelike, NaiveTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// A timestamp, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// Whether less than `ms` milliseconds have passed since then at `now`. False for a time in the
    /// future: the clock was set back, and nobody knows how much has passed.
    pub const fn is_within(self, ms: i64, now: Self) -> bool {
        let age_ms = now.0 - self.0;
        0 <= age_ms && age_ms < ms
    }

    /// The latest timestamp that keys hold: 13 digits, in the year 2286.
    pub const LATEST: Self = Self(9_999_999_999_999);

    /// The timestamp `secs` seconds after the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs * 1000)
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Whole minutes since the epoch, rounded down: the bucket of the timing wheel.
    pub const fn minute(self) -> i64 {
        self.0.div_euclid(60_000)
    }

    /// This timestamp in UTC. Timestamps outside chrono's range (262 000 years either way)
    /// saturate.
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }

    /// RFC 3339 in UTC with milliseconds, `2026-11-21T05:00:00.123Z`.
    pub fn rfc3339(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// Parses an RFC 3339 timestamp of the field `field`.
    ///
    /// # Errors
    /// It is not one, or has no offset.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let parsed = DateTime::parse_from_rfc3339(text);
        parsed.map(|at| at.to_utc().into()).map_err(|_| {
            let problem =
                "must be a timestamp with a UTC offset (RFC 3339), such as 2026-11-21T05:00:00Z";
            Invalid::new(field, problem)
        })
    }

    /// The UTC day as `yyyymmdd`, which partitions outbox and usage items.
    pub fn day(self) -> String {
        self.utc().format("%Y%m%d").to_string()
    }

    /// The first millisecond of its month, in UTC.
    #[must_use]
    pub fn start_of_month(self) -> Self {
        let day = self.utc().date_naive().with_day(1).unwrap_or_default();
        Self(day.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
    }
}

impl From<DateTime<Utc>> for UnixMs {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_millis())
    }
}

impl Add<i64> for UnixMs {
    type Output = Self;
    /// Adds milliseconds, saturating.
    fn add(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub<i64> for UnixMs {
    type Output = Self;
    /// Subtracts milliseconds, saturating.
    fn sub(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

impl Sub for UnixMs {
    type Output = i64;
    /// The milliseconds from `earlier` to `self`.
    fn sub(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// Milliseconds as whole seconds, rounded up: long enough to wait.
pub const fn secs_to_wait(ms: i64) -> i64 {
    if ms <= 0 { 0 } else { (ms + 999) / 1000 }
}

/// Units of time and their seconds.
const UNITS: [(&str, i64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];

/// The whole seconds of a span as people type it: `90`, `90 s`, `5m`, `1h 30min`, `1 day`. `None` if
/// it is not a span, or not in whole seconds.
pub fn parse_span(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(seconds);
    }
    let span = humantime::parse_duration(text).ok()?;
    (span.subsec_nanos() == 0).then_some(span.as_secs())
}

/// A duration in seconds: `1 h 30 min`.
pub fn span(mut s: i64) -> String {
    if s == 0 {
        return "0 s".to_owned();
    }
    let mut parts = Vec::new();
    for (unit, size) in UNITS {
        let n = s / size;
        if n > 0 {
            parts.push(format!("{n} {unit}"));
            s %= size;
        }
    }
    parts.join(" ")
}

/// A time `ms` in the future, or in the past if negative: `in 56 s`, `4 min ago`. `relative` in
/// `script.js` must return the same text.
pub fn relative(ms: i64) -> String {
    let s = ms.abs() / 1000;
    let (n, unit) = match s {
        0..=99 => (s, "s"),
        100..=5_999 => (s / 60, "min"),
        6_000..=172_799 => (s / 3_600, "h"),
        _ => (s / 86_400, "d"),
    };
    if ms >= 0 {
        format!("in {n} {unit}")
    } else {
        format!("{n} {unit} ago")
    }
}
