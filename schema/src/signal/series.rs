//! Series: a name, and a timeframe or ticks.

use crate::error::Invalid;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Maximum length of the name of a series that clients feed.
pub const MAX_NAME: usize = 64;
/// The prefix of series that heartbeats feed.
const MONITOR: &str = "monitor:";
/// Milliseconds per day.
const DAY_MS: i64 = 86_400_000;
/// Weeks start on Monday; the epoch was a Thursday.
const MONDAY_MS: i64 = 4 * DAY_MS;
/// Maximum timeframe, in milliseconds.
const MAX_MS: i64 = 28 * DAY_MS;

/// The name of a series; case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeriesName(String);

impl SeriesName {
    /// Parses a name: 1 to 64 letters, digits, `.`, `_`, `-`; or `monitor:<slug>:<name>` for a
    /// series that heartbeats feed.
    ///
    /// # Errors
    /// The name has neither form.
    pub fn parse(field: &str, name: &str) -> Result<Self, Invalid> {
        let plain = |text: &str, max: usize| {
            (1..=max).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let fed = |rest: &str| {
            rest.split_once(':')
                .is_some_and(|(slug, name)| plain(slug, 100) && plain(name, MAX_NAME))
        };
        if plain(name, MAX_NAME) || name.strip_prefix(MONITOR).is_some_and(fed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(Invalid::new(
                field,
                "must be 1 to 64 letters, digits, '.', '_' or '-', or monitor:<slug>:<name>",
            ))
        }
    }

    /// The series of a metric in a monitor's heartbeats.
    pub fn of_monitor(slug: &str, name: &str) -> Self {
        Self(format!("{MONITOR}{slug}:{name}"))
    }

    /// The slug and the metric, if heartbeats feed it.
    pub fn monitor(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix(MONITOR)?.split_once(':')
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SeriesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The length of a bar; or `tick`, for values at arbitrary times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timeframe(i64);

impl Timeframe {
    /// Values at arbitrary times: each is closed immediately, none is ever missing.
    pub const TICK: Self = Self(0);
    /// An hour.
    pub const HOUR: Self = Self(3_600_000);

    /// Parses a timeframe: a number and `s`, `m`, `h`, `d` or `w` that divides a day or is a
    /// multiple of a day; or `tick`.
    ///
    /// # Errors
    /// The text has neither form.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        if text == "tick" {
            return Ok(Self::TICK);
        }
        let found = text
            .char_indices()
            .next_back()
            .and_then(|(end, unit)| {
                let unit_ms = match unit {
                    's' => 1_000,
                    'm' => 60_000,
                    'h' => 3_600_000,
                    'd' => DAY_MS,
                    'w' => 7 * DAY_MS,
                    _ => return None,
                };
                let digits = &text[..end];
                let plain = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
                let n: i64 = if plain {
                    digits.parse().ok()?
                } else {
                    return None;
                };
                Some(n * unit_ms)
            })
            .filter(|ms| (1..=MAX_MS).contains(ms))
            .filter(|ms| DAY_MS % ms == 0 || ms % DAY_MS == 0);
        found.map(Self).ok_or_else(|| {
            Invalid::new(
                field,
                "must be a timeframe such as 1m, 15m, 1h, 4h, 1d or 1w (a fraction of a day, or whole days up to 4w), or tick",
            )
        })
    }

    /// Milliseconds per bar; `None` for ticks.
    pub const fn ms(self) -> Option<i64> {
        match self.0 {
            0 => None,
            ms => Some(ms),
        }
    }

    /// When the bar that contains `at` opened.
    pub const fn open_of(self, at: UnixMs) -> UnixMs {
        match self.0 {
            0 => at,
            ms => {
                let origin = if ms % (7 * DAY_MS) == 0 { MONDAY_MS } else { 0 };
                UnixMs((at.0 - origin).div_euclid(ms) * ms + origin)
            }
        }
    }

    /// When the bar that opened at `open` closes.
    pub const fn close_of(self, open: UnixMs) -> UnixMs {
        UnixMs(open.0 + self.0)
    }

    /// Whether bars of `self` consist of whole bars of `base`.
    pub const fn is_made_of(self, base: Self) -> bool {
        match (self.0, base.0) {
            (0, _) => false,
            (_, 0) => true,
            (ms, base) => ms > base && ms % base == 0,
        }
    }

    /// Bars per year of 365 days; `None` for ticks.
    pub fn bars_a_year(self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a year")]
        self.ms().map(|ms| (365 * DAY_MS) as f64 / ms as f64)
    }
}

impl fmt::Display for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("tick");
        }
        let units = [
            (7 * DAY_MS, 'w'),
            (DAY_MS, 'd'),
            (3_600_000, 'h'),
            (60_000, 'm'),
        ];
        for (ms, unit) in units {
            if self.0 % ms == 0 {
                return write!(f, "{}{unit}", self.0 / ms);
            }
        }
        write!(f, "{}s", self.0 / 1_000)
    }
}

impl From<Timeframe> for String {
    fn from(timeframe: Timeframe) -> Self {
        timeframe.to_string()
    }
}

impl TryFrom<String> for Timeframe {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse("timeframe", &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in [
            "BTC",
            "eth-usd.1",
            "a",
            "monitor:backup:rows",
            &"x".repeat(64),
        ] {
            assert!(SeriesName::parse("series", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a/b",
            "é",
            "monitor:x",
            "a:b",
            "monitor::x",
            &"x".repeat(65),
        ] {
            assert!(SeriesName::parse("series", bad).is_err(), "{bad}");
        }
        let fed = SeriesName::of_monitor("backup", "rows");
        assert_eq!(fed.monitor(), Some(("backup", "rows")));
    }

    #[test]
    fn timeframes_are_canonical_and_aligned() {
        for (text, canonical) in [
            ("1h", "1h"),
            ("60m", "1h"),
            ("90s", "90s"),
            ("7d", "1w"),
            ("24h", "1d"),
        ] {
            assert_eq!(Timeframe::parse("t", text).unwrap().to_string(), canonical);
        }
        for bad in [
            "", "h", "0h", "5h", "7m", "1y", "-1h", "1.5h", "99999w", "１h", "29d",
        ] {
            assert!(Timeframe::parse("t", bad).is_err(), "{bad}");
        }
        let week = Timeframe::parse("t", "1w").unwrap();
        let open = week.open_of(UnixMs(1_763_700_000_000));
        assert_eq!(open.utc().format("%a %H:%M").to_string(), "Mon 00:00");
        let hour = Timeframe::HOUR;
        assert!(Timeframe::parse("t", "4h").unwrap().is_made_of(hour) && !hour.is_made_of(hour));
    }
}
