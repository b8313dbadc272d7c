//! Calendar events as systemd.time(7) defines them: `Mon..Fri *-*-* 09:00/30 Europe/Berlin`.
//!
//! Supported: weekdays, dates with lists, ranges, repetitions and `~` (counted from the month's
//! end), times to the second, shorthands (`daily`), a time zone at the end, and several lines as
//! alternatives. Fractions of a second are not supported.

use crate::time::UnixMs;
use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike,
};
use chrono_tz::Tz;

/// The years that an event may name.
const YEARS: std::ops::RangeInclusive<u32> = 1970..=2199;
/// How far ahead to search: leap days on a given weekday recur within 40 years.
const HORIZON_YEARS: i32 = 40;

/// One line: the times at which all of its parts match.
#[derive(Debug, Clone)]
pub struct Event {
    weekdays: Set,
    years: Set,
    months: Set,
    days: Set,
    days_from_end: bool,
    hours: Set,
    minutes: Set,
    seconds: Set,
    zone: Option<Tz>,
}

/// Parses the lines of an expression; `None` if any of them is not a calendar event.
pub fn parse(expr: &str) -> Option<Vec<Event>> {
    let lines: Vec<&str> = expr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return None;
    }
    lines.into_iter().map(Event::parse).collect()
}

/// The first match of any of `events` strictly after `from`; lines without a time zone use that of
/// `from`.
pub fn next_after(events: &[Event], from: &DateTime<Tz>) -> Option<UnixMs> {
    events
        .iter()
        .filter_map(|event| event.next_after(from))
        .min()
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let line = match line.to_ascii_lowercase().as_str() {
            "minutely" => "*-*-* *:*:00",
            "hourly" => "*-*-* *:00:00",
            "daily" => "*-*-* 00:00:00",
            "weekly" => "Mon *-*-* 00:00:00",
            "monthly" => "*-*-01 00:00:00",
            "quarterly" => "*-01,04,07,10-01 00:00:00",
            "semiannually" => "*-01,07-01 00:00:00",
            "yearly" | "annually" => "*-01-01 00:00:00",
            _ => line,
        };
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let zone = words.last().and_then(|word| word.parse().ok());
        if zone.is_some() {
            words.pop();
        }
        if words.is_empty() {
            return None;
        }
        let mut words = words.into_iter().peekable();
        let weekdays = match words
            .peek()
            .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            Some(word) => {
                let weekdays = Set::weekdays(word)?;
                words.next();
                weekdays
            }
            None => Set::All,
        };
        let mut event = Self {
            weekdays,
            years: Set::All,
            months: Set::All,
            days: Set::All,
            days_from_end: false,
            hours: Set::only(0),
            minutes: Set::only(0),
            seconds: Set::only(0),
            zone,
        };
        if let Some(word) = words.peek().filter(|word| !word.contains(':')) {
            event.set_date(word)?;
            words.next();
        }
        if let Some(word) = words.next() {
            event.set_time(word)?;
        }
        words.next().is_none().then_some(event)
    }

    /// `[year-]month-day`, where `~` instead of the last `-` counts days from the month's end.
    fn set_date(&mut self, word: &str) -> Option<()> {
        self.days_from_end = word.contains('~');
        let word = word.replacen('~', "-", 1);
        let (years, months, days) = match *word.split('-').collect::<Vec<_>>() {
            [months, days] => (None, months, days),
            [years, months, days] => (Some(years), months, days),
            _ => return None,
        };
        if let Some(years) = years {
            self.years = Set::parse(years, *YEARS.start(), *YEARS.end())?;
        }
        self.months = Set::parse(months, 1, 12)?;
        self.days = if self.days_from_end {
            Set::parse_from_end(days)?
        } else {
            Set::parse(days, 1, 31)?
        };
        Some(())
    }

    /// `hours:minutes[:seconds]`.
    fn set_time(&mut self, word: &str) -> Option<()> {
        let (hours, minutes, seconds) = match *word.split(':').collect::<Vec<_>>() {
            [hours, minutes] => (hours, minutes, "0"),
            [hours, minutes, seconds] => (hours, minutes, seconds),
            _ => return None,
        };
        self.hours = Set::parse(hours, 0, 23)?;
        self.minutes = Set::parse(minutes, 0, 59)?;
        self.seconds = Set::parse(seconds, 0, 59)?;
        Some(())
    }

    fn next_after(&self, from: &DateTime<Tz>) -> Option<UnixMs> {
        let zone = self.zone.unwrap_or_else(|| from.timezone());
        let from = from.with_timezone(&zone);
        let mut candidate = from.naive_local().with_nanosecond(0)?;
        // In the hour that a night repeats, start an hour earlier, since the wall clock shows it
        // again.
        if matches!(
            zone.from_local_datetime(&candidate),
            LocalResult::Ambiguous(..)
        ) {
            candidate -= TimeDelta::hours(1);
        }
        let last_year = candidate.year() + HORIZON_YEARS;
        loop {
            candidate = self.next_local(candidate, last_year)?;
            if let Some(time) = self.time_after(candidate, &from, zone) {
                return Some(time);
            }
        }
    }

    /// The time at which the wall clock shows `local`, if it is after `from`.
    fn time_after(&self, local: NaiveDateTime, from: &DateTime<Tz>, zone: Tz) -> Option<UnixMs> {
        let time = match zone.from_local_datetime(&local) {
            LocalResult::Single(time) => time,
            // Hourly events match the repeated hour again; a daily job has already run in the first
            // one.
            LocalResult::Ambiguous(first, second) => {
                if first <= *from && matches!(self.hours, Set::All) {
                    second
                } else {
                    first
                }
            }
            // Skipped by the clock change: due right after it.
            LocalResult::None => (1..=240).find_map(|minutes| {
                let moved = local.with_second(0)? + TimeDelta::minutes(minutes);
                zone.from_local_datetime(&moved).earliest()
            })?,
        };
        (time > *from).then(|| time.to_utc().into())
    }

    /// The first matching wall-clock time strictly after `local`, up to the end of `last_year`.
    fn next_local(&self, local: NaiveDateTime, last_year: i32) -> Option<NaiveDateTime> {
        let local = local + TimeDelta::seconds(1);
        if self.matches_date(local.date())
            && let Some(time) = self.time_from(local.hour(), local.minute(), local.second())
        {
            return local.date().and_hms_opt(time.0, time.1, time.2);
        }
        let mut date = local.date().checked_add_days(Days::new(1))?;
        while date.year() <= last_year {
            if !self.years.has(date.year().cast_unsigned()) {
                date = NaiveDate::from_ymd_opt(date.year() + 1, 1, 1)?;
            } else if !self.months.has(date.month()) {
                let months = date.year() * 12 + date.month0().cast_signed() + 1;
                date = NaiveDate::from_ymd_opt(
                    months.div_euclid(12),
                    months.rem_euclid(12).cast_unsigned() + 1,
                    1,
                )?;
            } else if self.matches_date(date) {
                let time = self.time_from(0, 0, 0)?;
                return date.and_hms_opt(time.0, time.1, time.2);
            } else {
                date = date.checked_add_days(Days::new(1))?;
            }
        }
        None
    }

    fn matches_date(&self, date: NaiveDate) -> bool {
        let day = if self.days_from_end {
            u32::from(date.num_days_in_month()) - date.day() + 1
        } else {
            date.day()
        };
        self.years.has(date.year().cast_unsigned())
            && self.months.has(date.month())
            && self.days.has(day)
            && self.weekdays.has(date.weekday().num_days_from_monday())
    }

    /// The first matching time of day at or after the given one.
    fn time_from(&self, hour: u32, minute: u32, second: u32) -> Option<(u32, u32, u32)> {
        let first_minute = self.minutes.from(0)?;
        let first_second = self.seconds.from(0)?;
        let h = self.hours.from(hour)?;
        if h > hour {
            return (h < 24).then_some((h, first_minute, first_second));
        }
        if let Some(m) = self.minutes.from(minute).filter(|m| *m < 60) {
            if m > minute {
                return Some((h, m, first_second));
            }
            if let Some(s) = self.seconds.from(second).filter(|s| *s < 60) {
                return Some((h, m, s));
            }
            if let Some(m) = self.minutes.from(minute + 1).filter(|m| *m < 60) {
                return Some((h, m, first_second));
            }
        }
        self.hours
            .from(hour + 1)
            .filter(|h| *h < 24)
            .map(|h| (h, first_minute, first_second))
    }
}

/// The values that one component matches.
#[derive(Debug, Clone)]
enum Set {
    All,
    /// Sorted, without duplicates, not empty.
    These(Vec<u32>),
}

impl Set {
    fn only(value: u32) -> Self {
        Self::These(vec![value])
    }

    fn has(&self, value: u32) -> bool {
        match self {
            Self::All => true,
            Self::These(values) => values.binary_search(&value).is_ok(),
        }
    }

    /// The first matching value at or after `value`.
    fn from(&self, value: u32) -> Option<u32> {
        match self {
            Self::All => Some(value),
            Self::These(values) => values.iter().copied().find(|v| *v >= value),
        }
    }

    /// `*`, or a list of values, ranges `a..b` and repetitions `a/n`, each within `low..=high`.
    fn parse(text: &str, low: u32, high: u32) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let mut values = Vec::new();
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
                None => (part, None),
            };
            let (first, last) = match range.split_once("..") {
                Some((first, last)) => (number(first)?, number(last)?),
                None if range == "*" => (low, high),
                None => {
                    let first = number(range)?;
                    (first, if step.is_some() { high } else { first })
                }
            };
            if first < low || last > high || first > last {
                return None;
            }
            let step = usize::try_from(step.unwrap_or(1)).ok()?;
            values.extend((first..=last).step_by(step));
        }
        Some(Self::sorted(values))
    }

    /// Days counted from the month's end: a repetition such as `~07/1` continues towards the end,
    /// down to 1.
    fn parse_from_end(text: &str) -> Option<Self> {
        match text.split_once('/') {
            Some((first, step)) if !text.contains(',') && !text.contains("..") => {
                let first = number(first).filter(|day| (1..=31).contains(day))?;
                let step = usize::try_from(number(step)?)
                    .ok()
                    .filter(|step| *step > 0)?;
                Some(Self::sorted((1..=first).rev().step_by(step).collect()))
            }
            _ => Self::parse(text, 1, 31),
        }
    }

    /// A list of weekdays and ranges of them, by their English names or first three letters.
    fn weekdays(text: &str) -> Option<Self> {
        let mut values = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = match part.split_once("..").or_else(|| part.split_once('-')) {
                Some((first, last)) => (weekday(first)?, weekday(last)?),
                None => (weekday(part)?, weekday(part)?),
            };
            // A range may wrap around the end of the week.
            let length = (last + 7 - first) % 7;
            values.extend((0..=length).map(|i| (first + i) % 7));
        }
        (!values.is_empty()).then(|| Self::sorted(values))
    }

    fn sorted(mut values: Vec<u32>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self::These(values)
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn weekday(text: &str) -> Option<u32> {
    let day: chrono::Weekday = text.parse().ok()?;
    Some(day.num_days_from_monday())
}
