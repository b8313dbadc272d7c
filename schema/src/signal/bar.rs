//! Bars and sentiment scores, the input of strategies.

use super::calendar::Calendar;
use super::series::Timeframe;
use crate::error::Invalid;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// Latest allowed time of a bar: 2100-01-01.
const MAX_TIME: UnixMs = UnixMs(4_102_444_800_000);
/// How far a client's clock may be ahead of Thrum's, in milliseconds.
pub const SKEW_MS: i64 = 2_000;

/// A bar. A plain value is a bar whose prices are all the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// When it opened.
    #[serde(rename = "t")]
    pub time: UnixMs,
    /// The first price.
    #[serde(rename = "o")]
    pub open: f64,
    /// The highest.
    #[serde(rename = "h")]
    pub high: f64,
    /// The lowest.
    #[serde(rename = "l")]
    pub low: f64,
    /// The last.
    #[serde(rename = "c")]
    pub close: f64,
    /// The traded volume, if known.
    #[serde(rename = "vol", default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<f64>,
}

impl Bar {
    /// A plain value.
    pub const fn value(time: UnixMs, value: f64) -> Self {
        Self {
            time,
            open: value,
            high: value,
            low: value,
            close: value,
            volume: None,
        }
    }

    /// Checks that it is a closed bar of `timeframe` with consistent prices.
    ///
    /// # Errors
    /// The first problem found.
    pub fn check(
        &self,
        timeframe: Timeframe,
        calendar: &Calendar,
        now: UnixMs,
    ) -> Result<(), Invalid> {
        check_time(self.time)?;
        if !calendar.is_on_grid(timeframe, self.time) {
            return Err(Invalid::new(
                "time",
                format!(
                    "must be when a {timeframe} bar opens ({} is inside a bar); if the bars of this series open at \
                     another time, such as 14:30Z, set its offset first",
                    self.time
                ),
            ));
        }
        let closes = timeframe.close_of(self.time);
        if closes > now + SKEW_MS {
            return Err(Invalid::new(
                "time",
                format!(
                    "must be the opening time of a closed bar; this bar closes at {closes}, send it after that"
                ),
            ));
        }
        let prices = [
            ("open", self.open),
            ("high", self.high),
            ("low", self.low),
            ("close", self.close),
        ];
        for (name, price) in prices {
            check_number(name, price)?;
        }
        if self.high < self.open.max(self.close).max(self.low) {
            return Err(Invalid::new(
                "high",
                "must be the highest of the four prices",
            ));
        }
        if self.low > self.open.min(self.close) {
            return Err(Invalid::new("low", "must be the lowest of the four prices"));
        }
        if let Some(volume) = self.volume {
            check_number("volume", volume)?;
            if volume < 0.0 {
                return Err(Invalid::new("volume", "must not be negative"));
            }
        }
        Ok(())
    }

    /// Merges the next bar within the same longer bar into this one.
    pub fn absorb(&mut self, next: &Self) {
        self.high = self.high.max(next.high);
        self.low = self.low.min(next.low);
        self.close = next.close;
        self.volume = match (self.volume, next.volume) {
            (Some(a), Some(b)) => Some(a + b),
            _ => None,
        };
    }
}

/// Sentiment about a series: 0 is the worst, 1 the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// When it became known.
    #[serde(rename = "t")]
    pub time: UnixMs,
    /// 0 to 1.
    #[serde(rename = "s")]
    pub score: f64,
}

impl Score {
    /// Checks the score and its time.
    ///
    /// # Errors
    /// The first problem found.
    pub fn check(&self, now: UnixMs) -> Result<(), Invalid> {
        check_time(self.time)?;
        if self.time > now + SKEW_MS {
            return Err(Invalid::new("time", "must not be in the future"));
        }
        if !(0.0..=1.0).contains(&self.score) {
            return Err(Invalid::new("score", "must be between 0 and 1"));
        }
        if self.score != 0.0 && self.score < 1e-100 {
            return Err(Invalid::new("score", "must be 0, or at least 1e-100"));
        }
        Ok(())
    }
}

fn check_time(time: UnixMs) -> Result<(), Invalid> {
    if (UnixMs(0)..=MAX_TIME).contains(&time) {
        Ok(())
    } else {
        Err(Invalid::new("time", "must be between 1970 and 2100"))
    }
}

/// Checks that the table can store a number and its square.
///
/// # Errors
/// The number is too large or too small.
pub fn check_number(field: &str, number: f64) -> Result<(), Invalid> {
    if number == 0.0 || (1e-100..1e100).contains(&number.abs()) {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            "must be 0, or have a magnitude between 1e-100 and 1e100",
        ))
    }
}
