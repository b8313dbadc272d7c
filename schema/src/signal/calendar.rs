//! When bars of a series are due: always, on weekdays, or in the sessions of a market.

use super::series::Timeframe;
use crate::error::Invalid;
use crate::time::UnixMs;
use crate::zone::Zone;
use chrono::{Datelike, NaiveDate, Timelike};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;
/// Maximum holidays.
pub const MAX_HOLIDAYS: usize = 500;
/// How many bars ahead are looked at, at most: two weeks of minutes.
const MAX_STEPS: i64 = 20_160;
/// A bar of a day belongs to the date that it is so long after its open: whether it opens at local
/// midnight, at UTC midnight or with the session, that is the day of its session.
const SAME_DAY_MS: i64 = 8 * 3_600_000;

/// When bars of a series are due.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calendar {
    /// When bars open after the timeframe's grid, in seconds. The grid is UTC's; for bars of a day
    /// or longer with a time zone, that zone's.
    #[serde(skip_serializing_if = "is_zero")]
    pub offset_s: u32,
    /// The time zone of days, sessions and holidays; UTC if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tz: Option<String>,
    /// The days on which bars are due, from 1 for Monday; all if empty.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub days: BTreeSet<u8>,
    /// The session: minutes of the day at which it opens and closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<(u16, u16)>,
    /// Days without bars.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub holidays: BTreeSet<NaiveDate>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(x: &u32) -> bool {
    *x == 0
}

/// A calendar as clients write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sessions {
    tz: Option<String>,
    days: Option<BTreeSet<u8>>,
    open: Option<String>,
    close: Option<String>,
    #[serde(default)]
    holidays: BTreeSet<NaiveDate>,
}

impl Calendar {
    /// Reads `"24/7"`, `"weekdays"`, or `{"tz", "days", "open", "close", "holidays"}`.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(value: &Value, offset_s: u32) -> Result<Self, Invalid> {
        let weekdays = BTreeSet::from([1, 2, 3, 4, 5]);
        let base = Self {
            offset_s,
            ..Self::default()
        };
        let sessions: Sessions = match value {
            Value::String(text) if text == "24/7" => return Ok(base),
            Value::String(text) if text == "weekdays" => {
                return Ok(Self {
                    days: weekdays,
                    ..base
                });
            }
            Value::Object(_) => serde_json::from_value(value.clone())
                .map_err(|error| Invalid::new("calendar", format!("is not one: {error}")))?,
            _ => {
                return Err(Invalid::new(
                    "calendar",
                    "must be \"24/7\", \"weekdays\", or sessions such as {\"tz\": \"America/New_York\", \"open\": \
                     \"09:30\", \"close\": \"16:00\", \"holidays\": [\"2026-12-25\"]}",
                ));
            }
        };
        if let Some(tz) = &sessions.tz
            && Zone::named(tz).is_none()
        {
            return Err(Invalid::new(
                "calendar.tz",
                "must be a time zone such as America/New_York",
            ));
        }
        let days = sessions.days.unwrap_or(weekdays);
        if days.is_empty() || days.iter().any(|day| !(1..=7).contains(day)) {
            return Err(Invalid::new(
                "calendar.days",
                "must be days of the week, from 1 (Monday) to 7 (Sunday)",
            ));
        }
        if sessions.holidays.len() > MAX_HOLIDAYS {
            return Err(Invalid::new(
                "calendar.holidays",
                format!("must be at most {MAX_HOLIDAYS} dates"),
            ));
        }
        let session = match (sessions.open, sessions.close) {
            (None, None) => None,
            (Some(open), Some(close)) => {
                let open = minute("calendar.open", &open)?;
                let close = minute("calendar.close", &close)?;
                if open >= close {
                    return Err(Invalid::new("calendar.close", "must be after open"));
                }
                Some((open, close))
            }
            _ => {
                return Err(Invalid::new(
                    "calendar.close",
                    "and open must be given together",
                ));
            }
        };
        Ok(Self {
            tz: sessions.tz,
            days,
            session,
            holidays: sessions.holidays,
            ..base
        })
    }

    /// Always, with the offset of the first of some bars: for bars without a series. The offset of
    /// longer bars changes with the clocks, so it is that of each bar.
    pub fn of_bars(timeframe: Timeframe, first: UnixMs, this: UnixMs) -> Self {
        let is_long = timeframe.ms().is_some_and(|ms| ms >= DAY_MS);
        let at = if is_long { this } else { first };
        let after_grid = (at - timeframe.open_of(at)) / 1_000;
        Self {
            offset_s: u32::try_from(after_grid).unwrap_or(0),
            ..Self::default()
        }
    }

    /// What [`Self::parse`] reads.
    pub fn to_json(&self) -> Value {
        if self.tz.is_none() && self.session.is_none() && self.holidays.is_empty() {
            if self.days.is_empty() {
                return "24/7".into();
            }
            if self.days.iter().eq(&[1, 2, 3, 4, 5]) {
                return "weekdays".into();
            }
        }
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let mut fields = serde_json::Map::new();
        if let Some(tz) = &self.tz {
            fields.insert("tz".into(), tz.clone().into());
        }
        let days: Vec<u8> = self.days.iter().copied().collect();
        fields.insert("days".into(), days.into());
        if let Some((open, close)) = self.session {
            fields.insert("open".into(), time(open).into());
            fields.insert("close".into(), time(close).into());
        }
        if !self.holidays.is_empty() {
            let dates: Vec<String> = self.holidays.iter().map(ToString::to_string).collect();
            fields.insert("holidays".into(), dates.into());
        }
        fields.into()
    }

    /// Whether bars are always due.
    pub fn is_always(&self) -> bool {
        self.days.is_empty() && self.session.is_none() && self.holidays.is_empty()
    }

    fn zone(&self) -> Option<Zone> {
        self.tz.as_deref().and_then(Zone::named)
    }

    /// Whether a bar of `timeframe` may open at `at`.
    pub fn is_on_grid(&self, timeframe: Timeframe, at: UnixMs) -> bool {
        let Some(ms) = timeframe.ms() else {
            return true;
        };
        let offset = i64::from(self.offset_s) * 1_000;
        let local = match self.zone() {
            Some(zone) if ms >= DAY_MS => i64::from(zone.offset_s(at)) * 1_000,
            _ => 0,
        };
        let moved = at - offset + local;
        timeframe.open_of(moved) == moved
    }

    /// Whether a bar that opens at `open` is due.
    fn is_due(&self, zone: Option<&Zone>, ms: i64, open: UnixMs) -> bool {
        if ms > DAY_MS {
            return true;
        }
        let at = if ms == DAY_MS {
            open + SAME_DAY_MS
        } else {
            open
        };
        let local = at + zone.map_or(0, |zone| i64::from(zone.offset_s(at)) * 1_000);
        let local = local.utc();
        let day = u8::try_from(local.weekday().number_from_monday()).unwrap_or(1);
        if !(self.days.is_empty() || self.days.contains(&day))
            || self.holidays.contains(&local.date_naive())
        {
            return false;
        }
        let Some((opens, closes)) = self.session.filter(|_| ms < DAY_MS) else {
            return true;
        };
        let minute = i64::from(local.hour() * 60 + local.minute());
        minute < i64::from(closes) && minute + (ms / MINUTE_MS).max(1) > i64::from(opens)
    }

    /// How many bars are missing between those that opened at `last` and at `open`.
    pub fn missing(&self, timeframe: Timeframe, last: UnixMs, open: UnixMs) -> u64 {
        let Some(ms) = timeframe.ms() else { return 0 };
        let apart = open - last;
        if apart <= ms {
            return 0;
        }
        if self.is_always() {
            return (apart / ms - 1).unsigned_abs();
        }
        let zone = self.zone();
        // A day may be an hour longer or shorter.
        let between = (apart + ms / 2) / ms - 1;
        let opens = (1..=between.min(MAX_STEPS)).map(|n| last + n * ms);
        let due = opens.filter(|open| self.is_due(zone.as_ref(), ms, *open));
        due.count() as u64
    }

    /// When `bars` more bars should have closed after the one that opened at `open`, had they come
    /// like that one, which was received at `received`.
    pub fn overdue_at(
        &self,
        timeframe: Timeframe,
        open: UnixMs,
        received: UnixMs,
        bars: i64,
    ) -> Option<UnixMs> {
        let ms = timeframe.ms()?;
        let closed = timeframe.close_of(open);
        let late = (received - closed).max(0);
        if self.is_always() {
            return Some(closed + late + bars * ms);
        }
        let zone = self.zone();
        // What was received much later says nothing about bars before that.
        let (passed, late) = (late / ms, late % ms);
        let mut left = bars;
        for n in 1..=MAX_STEPS {
            let next = open + (passed + n) * ms;
            if self.is_due(zone.as_ref(), ms, next) {
                left -= 1;
            }
            if left == 0 {
                return Some(next + ms + late);
            }
        }
        None
    }

    /// Bars per year of 365 days; `None` for ticks.
    pub fn bars_a_year(&self, timeframe: Timeframe) -> Option<f64> {
        let all = timeframe.bars_a_year()?;
        let ms = timeframe.ms()?;
        if ms > DAY_MS || self.is_always() {
            return Some(all);
        }
        let days = if self.days.is_empty() {
            7
        } else {
            self.days.len()
        };
        #[expect(clippy::cast_precision_loss, reason = "days of a week")]
        let days = days as f64 / 7.0;
        let hours = match self.session.filter(|_| ms < DAY_MS) {
            Some((open, close)) => f64::from(close - open) / 1_440.0,
            None => 1.0,
        };
        Some(all * days * hours)
    }
}

/// A time of the day, `HH:MM`, in minutes.
fn minute(place: &str, text: &str) -> Result<u16, Invalid> {
    let parsed = text.split_once(':').and_then(|(hour, minute)| {
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour <= 24 && minute < 60 && hour * 60 + minute <= 1_440).then_some(hour * 60 + minute)
    });
    parsed.ok_or_else(|| Invalid::new(place, "must be a time such as 09:30"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> UnixMs {
        UnixMs::parse("t", text).unwrap()
    }

    fn frame(text: &str) -> Timeframe {
        Timeframe::parse("t", text).unwrap()
    }

    fn nyse() -> Calendar {
        let value = json!({
            "tz": "America/New_York", "open": "09:30", "close": "16:00", "holidays": ["2026-11-26"],
        });
        Calendar::parse(&value, 0).unwrap()
    }

    #[test]
    fn nothing_is_missing_while_the_market_is_closed() {
        let weekdays = Calendar::parse(&json!("weekdays"), 0).unwrap();
        let (friday, monday) = (at("2026-11-20T00:00:00Z"), at("2026-11-23T00:00:00Z"));
        assert_eq!(weekdays.missing(frame("1d"), friday, monday), 0);
        assert_eq!(Calendar::default().missing(frame("1d"), friday, monday), 2);
        let tuesday = at("2026-11-24T00:00:00Z");
        assert_eq!(weekdays.missing(frame("1d"), friday, tuesday), 1);
        // Local midnight moves by an hour when the clocks change, on 2026-11-01.
        let (before, after) = (at("2026-10-30T04:00:00Z"), at("2026-11-02T05:00:00Z"));
        assert_eq!(nyse().missing(frame("1d"), before, after), 0);
        // From the last hour of Wednesday to the first of Friday: Thursday is a holiday.
        let (last, first) = (at("2026-11-25T20:30:00Z"), at("2026-11-27T14:30:00Z"));
        assert_eq!(nyse().missing(frame("1h"), last, first), 0);
        assert_eq!(
            nyse().missing(
                frame("1h"),
                at("2026-11-25T15:30:00Z"),
                at("2026-11-25T18:30:00Z")
            ),
            2
        );
    }

    #[test]
    fn bars_are_overdue_when_the_market_was_open() {
        let day = frame("1d");
        let friday = at("2026-11-20T00:00:00Z");
        let weekdays = Calendar::parse(&json!("weekdays"), 0).unwrap();
        let received = at("2026-11-21T00:00:05Z");
        // Monday's bar and Tuesday's should have closed.
        let overdue = weekdays.overdue_at(day, friday, received, 2);
        assert_eq!(overdue, Some(at("2026-11-25T00:00:05Z")));
        let always = Calendar::default().overdue_at(day, friday, received, 2);
        assert_eq!(always, Some(at("2026-11-23T00:00:05Z")));
    }

    #[test]
    fn grids_have_an_offset() {
        let (day, hour) = (frame("1d"), frame("1h"));
        let offset = |offset_s| Calendar {
            offset_s,
            ..Calendar::default()
        };
        assert!(offset(5 * 3_600).is_on_grid(day, at("2026-11-20T05:00:00Z")));
        assert!(!offset(0).is_on_grid(day, at("2026-11-20T05:00:00Z")));
        assert!(offset(1_800).is_on_grid(hour, at("2026-11-20T14:30:00Z")));
        // Local midnight, in winter and in summer.
        assert!(nyse().is_on_grid(day, at("2026-11-20T05:00:00Z")));
        assert!(nyse().is_on_grid(day, at("2026-07-20T04:00:00Z")));
        assert!(!nyse().is_on_grid(day, at("2026-07-20T05:00:00Z")));
    }

    #[test]
    fn calendars_round_trip_and_errors_name_the_place() {
        for value in [json!("24/7"), json!("weekdays"), nyse().to_json()] {
            let calendar = Calendar::parse(&value, 7).unwrap();
            assert_eq!(calendar.to_json(), value);
            let text = serde_json::to_string(&calendar).unwrap();
            assert_eq!(serde_json::from_str::<Calendar>(&text).unwrap(), calendar);
        }
        for (value, field) in [
            (json!("nyse"), "calendar"),
            (json!({ "tz": "Mars" }), "calendar.tz"),
            (json!({ "days": [0] }), "calendar.days"),
            (json!({ "open": "9" , "close": "16:00" }), "calendar.open"),
            (
                json!({ "open": "16:00" , "close": "09:30" }),
                "calendar.close",
            ),
            (json!({ "open": "16:00" }), "calendar.close"),
            (json!({ "holidays": ["x"] }), "calendar"),
        ] {
            assert_eq!(
                Calendar::parse(&value, 0).unwrap_err().field,
                field,
                "{value}"
            );
        }
        assert!((nyse().bars_a_year(frame("1d")).unwrap() - 365.0 * 5.0 / 7.0).abs() < 1e-9);
    }
}
