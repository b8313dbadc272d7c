//! Calendar events as systemd.time(7) defines them and systemd 252 reads them:
//! `Mon..Fri *-*-* 09,12:00/30 Europe/Berlin`.
//!
//! - Weekdays, dates with lists, ranges, repetitions and `~` (counted from the month's end), times,
//!   shorthands (`daily`), a time zone at the end, and several lines as alternatives.
//! - Fractions of a second are rounded down. An event that never comes is refused.
//! - When the clock changes, events follow the wall clock: those in a skipped hour don't happen, and a repeated
//!   hour counts once, in its first pass (in its second, from there on).

use super::field::{digits, refuse};
use crate::time::UnixMs;
use crate::zone::{Instants, Zone};
use jiff::ToSpan;
use jiff::civil::{Date, DateTime};

/// The years that an event may name.
const YEARS: (u32, u32) = (1970, 2199);

/// One line: the times at which all of its parts match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Bits, Monday is 0.
    weekdays: u8,
    years: Part,
    months: Part,
    days: Part,
    days_from_end: bool,
    hours: Part,
    minutes: Part,
    seconds: Part,
    zone: Option<Zone>,
}

/// Parses the lines of an expression, or says what is wrong with one.
pub fn parse(expr: &str) -> Result<Vec<Event>, String> {
    let lines = expr.lines().map(str::trim).filter(|line| !line.is_empty());
    let events: Vec<Event> = lines.map(Event::parse).collect::<Result<_, _>>()?;
    if events.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(events)
}

/// The first match of any of `events` strictly after `after`; lines without a time zone use `zone`.
pub fn next_after(events: &[Event], after: UnixMs, zone: &Zone) -> Option<UnixMs> {
    let times = events.iter();
    times
        .filter_map(|event| event.next_after(after, event.zone.as_ref().unwrap_or(zone)))
        .min()
}

impl Event {
    fn parse(line: &str) -> Result<Self, String> {
        let (text, zone) = split_zone(line);
        let lower = text.to_ascii_lowercase();
        let text = match lower.as_str() {
            "minutely" => "*-*-* *:*:00",
            "hourly" => "*-*-* *:00:00",
            "daily" => "*-*-* 00:00:00",
            "weekly" => "mon *-*-* 00:00:00",
            "monthly" => "*-*-01 00:00:00",
            "quarterly" => "*-01,04,07,10-01 00:00:00",
            "semiannually" | "semi-annually" | "biannually" | "bi-annually" => {
                "*-01,07-01 00:00:00"
            }
            "yearly" | "annually" | "anually" => "*-01-01 00:00:00",
            other => other,
        };
        let (weekdays, text) = split_weekdays(text)?;
        if let Some(seconds) = text.strip_prefix('@') {
            return Self::instant(weekdays, seconds);
        }
        let mut event = Self {
            weekdays,
            years: Part::any(&YEAR),
            months: Part::any(&MONTH),
            days: Part::any(&DAY),
            days_from_end: false,
            hours: Part::only(&HOUR, 0),
            minutes: Part::only(&MINUTE, 0),
            seconds: Part::only(&SECOND, 0),
            zone,
        };
        let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
        if let Some(date) = words.next_if(|word| !word.contains(':')) {
            event.set_date(date)?;
        }
        if let Some(time) = words.next() {
            event.set_time(time)?;
        }
        match words.next() {
            None => Ok(event),
            Some(word) => Err(format!(
                "`{word}` is not expected here: write DATE TIME ZONE, with a zone such as Europe/Berlin"
            )),
        }
    }

    /// `@` and seconds since 1970.
    fn instant(weekdays: u8, seconds: &str) -> Result<Self, String> {
        let wall = seconds
            .parse()
            .ok()
            .and_then(|seconds: u32| Zone::utc().wall(UnixMs(i64::from(seconds) * 1000)))
            .ok_or_else(|| format!("`@{seconds}` is not a time in seconds since 1970"))?;
        let value = |of: i8| u32::from(of.unsigned_abs());
        Ok(Self {
            weekdays,
            years: Part::only(&YEAR, u32::from(wall.year().unsigned_abs())),
            months: Part::only(&MONTH, value(wall.month())),
            days: Part::only(&DAY, value(wall.day())),
            days_from_end: false,
            hours: Part::only(&HOUR, value(wall.hour())),
            minutes: Part::only(&MINUTE, value(wall.minute())),
            seconds: Part::only(&SECOND, value(wall.second())),
            zone: Some(Zone::utc()),
        })
    }

    /// `[year-]month-day`, where `~` instead of the last `-` counts days from the month's end.
    fn set_date(&mut self, word: &str) -> Result<(), String> {
        let parts: Vec<&str> = word.split(['-', '~']).collect();
        let (years, months, days) = match *parts {
            [months, days] => (None, months, days),
            [years, months, days] => (Some(years), months, days),
            _ => {
                return Err(format!(
                    "`{word}` is not a date: write YEAR-MONTH-DAY or MONTH-DAY, with * for any"
                ));
            }
        };
        self.days_from_end = match word.find('~') {
            None => false,
            Some(at) if at + 1 + days.len() == word.len() => true,
            Some(_) => {
                return Err(format!(
                    "`{word}`: write ~ only before the day, as in *-02~01"
                ));
            }
        };
        if let Some(years) = years {
            self.years = Part::parse(&YEAR, years)?;
        }
        self.months = Part::parse(&MONTH, months)?;
        self.days = if self.days_from_end {
            Part::parse_from_end(days)?
        } else {
            Part::parse(&DAY, days)?
        };
        Ok(())
    }

    /// `hours:minutes[:seconds]`.
    fn set_time(&mut self, word: &str) -> Result<(), String> {
        let (hours, minutes, seconds) = match *word.split(':').collect::<Vec<_>>() {
            [hours, minutes] => (hours, minutes, "0"),
            [hours, minutes, seconds] => (hours, minutes, seconds),
            _ => {
                return Err(format!(
                    "`{word}` is not a time: write HOUR:MINUTE or HOUR:MINUTE:SECOND, with * for any"
                ));
            }
        };
        self.hours = Part::parse(&HOUR, hours)?;
        self.minutes = Part::parse(&MINUTE, minutes)?;
        self.seconds = Part::parse(&SECOND, seconds)?;
        Ok(())
    }

    fn next_after(&self, after: UnixMs, zone: &Zone) -> Option<UnixMs> {
        let mut wall = zone.wall(after)?;
        // In the second pass of a repeated hour, the clock goes on from there.
        let again = matches!(zone.instants(wall)?, Instants::Two(_, second) if second <= after);
        loop {
            wall = self.next_wall(wall)?;
            match zone.instants(wall)? {
                Instants::One(at) => return Some(at),
                Instants::Two(first, second) => return Some(if again { second } else { first }),
                Instants::Skipped(..) => {}
            }
        }
    }

    /// The first matching time of a wall clock that never changes, strictly after `wall`.
    fn next_wall(&self, wall: DateTime) -> Option<DateTime> {
        let from = wall.checked_add(1.second()).ok()?;
        let mut date = from.date();
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        if self.matches_date(date)
            && let Some(time) = self.time_from(value(hour), value(minute), value(second))
        {
            return at(date, time);
        }
        let time = self.time_from(0, 0, 0)?;
        date = date.tomorrow().ok()?;
        while u32::from(date.year().unsigned_abs()) <= YEARS.1 {
            if !self.years.has(u32::from(date.year().unsigned_abs())) {
                date = date.last_of_year().tomorrow().ok()?;
            } else if !self.months.has(value(date.month())) {
                date = date.last_of_month().tomorrow().ok()?;
            } else if self.matches_date(date) {
                return at(date, time);
            } else {
                date = date.tomorrow().ok()?;
            }
        }
        None
    }

    fn matches_date(&self, date: Date) -> bool {
        let day = if self.days_from_end {
            date.days_in_month() - date.day() + 1
        } else {
            date.day()
        };
        self.weekdays & 1 << date.weekday().to_monday_zero_offset() != 0
            && self.years.has(u32::from(date.year().unsigned_abs()))
            && self.months.has(value(date.month()))
            && self.days.has(value(day))
    }

    /// The first matching time of day at or after the given one.
    fn time_from(&self, hour: u32, minute: u32, second: u32) -> Option<(u32, u32, u32)> {
        let (minutes, seconds) = (&self.minutes, &self.seconds);
        if self.hours.has(hour) {
            if minutes.has(minute)
                && let Some(second) = seconds.from(second)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = minutes.from(minute + 1) {
                return Some((hour, minute, seconds.from(0)?));
            }
        }
        Some((
            self.hours.from(hour + 1)?,
            minutes.from(0)?,
            seconds.from(0)?,
        ))
    }
}

/// The zone at the end of a line, if its last word names one.
fn split_zone(line: &str) -> (&str, Option<Zone>) {
    match line.rsplit_once(' ') {
        Some((rest, zone)) if zone.eq_ignore_ascii_case("utc") => (rest, Some(Zone::utc())),
        Some((rest, zone)) => match Zone::named(zone) {
            Some(zone) => (rest, Some(zone)),
            None => (line, None),
        },
        None => (line, None),
    }
}

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// The weekdays at the start of `text`, as bits, and the rest of it: names or their first three letters, in
/// lists and ranges.
fn split_weekdays(text: &str) -> Result<(u8, &str), String> {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok((0x7f, text));
    }
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let weekday = |name: &str| {
        let day = WEEKDAYS
            .iter()
            .position(|day| *day == name || day[..3] == *name);
        day.ok_or_else(|| {
            format!("`{name}` is neither a weekday nor a word such as daily; `{word}` is not a calendar event")
        })
    };
    let mut bits = 0;
    // A comma at the end is allowed.
    for item in word.strip_suffix(',').unwrap_or(word).split(',') {
        let (first, last) = match item.split_once("..").or_else(|| item.split_once('-')) {
            Some((first, last)) => (weekday(first)?, weekday(last)?),
            None => (weekday(item)?, weekday(item)?),
        };
        if first > last {
            return refuse(
                "weekday",
                item,
                "the range ends before it starts; the week starts with Monday",
            );
        }
        for day in first..=last {
            bits |= 1 << day;
        }
    }
    Ok((bits, rest.trim_start()))
}

fn at(date: Date, (hour, minute, second): (u32, u32, u32)) -> Option<DateTime> {
    let part = |value: u32| i8::try_from(value).ok();
    Some(date.at(part(hour)?, part(minute)?, part(second)?, 0))
}

fn value(of: i8) -> u32 {
    u32::from(of.unsigned_abs())
}

/// The bounds of a part, and its name.
#[derive(Debug, PartialEq, Eq)]
struct Bounds {
    name: &'static str,
    low: u32,
    high: u32,
    /// Whether its values may have fractions.
    fractions: bool,
    /// Whether repetitions count down.
    from_end: bool,
}

const fn bounds(name: &'static str, low: u32, high: u32) -> Bounds {
    Bounds {
        name,
        low,
        high,
        fractions: false,
        from_end: false,
    }
}

static YEAR: Bounds = bounds("year", YEARS.0, YEARS.1);
static MONTH: Bounds = bounds("month", 1, 12);
static DAY: Bounds = bounds("day", 1, 31);
/// Every month has 28 days.
static DAY_FROM_END: Bounds = Bounds {
    from_end: true,
    ..bounds("day", 1, 28)
};
static HOUR: Bounds = bounds("hour", 0, 23);
static MINUTE: Bounds = bounds("minute", 0, 59);
static SECOND: Bounds = Bounds {
    fractions: true,
    ..bounds("second", 0, 59)
};

/// The values that one part matches, as bits from `low` on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    low: u32,
    bits: [u64; 4],
}

impl Part {
    fn any(bounds: &Bounds) -> Self {
        let mut part = Self::none(bounds);
        (bounds.low..=bounds.high).for_each(|value| part.add(value));
        part
    }

    fn only(bounds: &Bounds, value: u32) -> Self {
        let mut part = Self::none(bounds);
        part.add(value);
        part
    }

    fn none(bounds: &Bounds) -> Self {
        Self {
            low: bounds.low,
            bits: [0; 4],
        }
    }

    fn add(&mut self, value: u32) {
        let index = value - self.low;
        self.bits[index as usize / 64] |= 1 << (index % 64);
    }

    fn add_micros(&mut self, value: u64) {
        self.add(u32::try_from(value / 1_000_000).unwrap_or(self.low));
    }

    fn has(&self, value: u32) -> bool {
        let index = value.checked_sub(self.low).map(|index| index as usize);
        index.is_some_and(|index| index < 256 && self.bits[index / 64] & 1 << (index % 64) != 0)
    }

    /// The first matching value at or after `value`, of a part with at most 60 values.
    fn from(&self, value: u32) -> Option<u32> {
        (value..60).find(|value| self.has(*value))
    }

    /// `*`, or a list of values, ranges `a..b` and repetitions `a/n` and `a..b/n`.
    fn parse(bounds: &Bounds, text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::any(bounds));
        }
        let mut part = Self::none(bounds);
        for item in text.split(',') {
            let Item { start, stop, step } = Item::parse(bounds, item)?;
            let last = match (stop, step) {
                (Some(stop), _) => stop,
                (None, Some(_)) => micros(bounds.high) + 999_999,
                (None, None) => start,
            };
            // Fractions are rounded down: a shorter step matches every second.
            let step = step.unwrap_or(1_000_000).max(1_000_000);
            let mut at = start;
            while at <= last {
                part.add_micros(at);
                at += step;
            }
        }
        Ok(part)
    }

    /// Days counted from the month's end: a repetition such as `~07/1` continues towards the end, down to 1.
    fn parse_from_end(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::any(&DAY));
        }
        let mut part = Self::none(&DAY);
        for item in text.split(',') {
            let Item { start, stop, step } = Item::parse(&DAY_FROM_END, item)?;
            let mut at = start;
            match (stop, step) {
                (Some(stop), step) => {
                    while at <= stop {
                        part.add_micros(at);
                        at += step.unwrap_or(1_000_000);
                    }
                }
                (None, Some(step)) => {
                    while at > 0 {
                        part.add_micros(at);
                        at = at.saturating_sub(step);
                    }
                }
                (None, None) => part.add_micros(start),
            }
        }
        Ok(part)
    }
}

/// One item of a list, in millionths.
struct Item {
    start: u64,
    stop: Option<u64>,
    step: Option<u64>,
}

fn micros(value: u32) -> u64 {
    u64::from(value) * 1_000_000
}

impl Item {
    fn parse(bounds: &Bounds, item: &str) -> Result<Self, String> {
        let number = |text: &str| {
            decimal(text, bounds.fractions)
                .ok_or_else(|| format!("{} `{item}`: `{text}` is not a number", bounds.name))
        };
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (item, None),
        };
        let (mut start, mut stop) = match range.split_once("..") {
            Some((start, stop)) => (number(start)?, Some(number(stop)?)),
            None => (number(range)?, None),
        };
        if bounds.low == YEARS.0 {
            start = full_year(start);
            stop = stop.map(full_year);
        }
        let (low, high) = (micros(bounds.low), micros(bounds.high));
        let high_end = if bounds.fractions {
            high + 999_999
        } else {
            high
        };
        let within = low..=high_end;
        // The range ends at its last repetition.
        if let (Some(last), Some(step @ 1..)) = (stop, step) {
            stop = Some(last - last.saturating_sub(start) % step);
        }
        if !within.contains(&start) || stop.is_some_and(|stop| !within.contains(&stop)) {
            let problem = format!("must be between {} and {}", bounds.low, bounds.high);
            return refuse(bounds.name, item, &problem);
        }
        if step == Some(0) {
            return refuse(bounds.name, item, "the step after / must not be 0");
        }
        match (stop, step) {
            (Some(stop), _) if start > stop => {
                return refuse(bounds.name, item, "the range ends before it starts");
            }
            (Some(stop), None) if bounds.fractions && stop - start < 1_000_000 => {
                return refuse(bounds.name, item, "the range is shorter than a second");
            }
            (None, Some(step)) if bounds.from_end && start < low + step => {
                return refuse(
                    bounds.name,
                    item,
                    "the step after / is too large: it allows only one value",
                );
            }
            (None, Some(step)) if !bounds.from_end && start + step > high_end => {
                return refuse(
                    bounds.name,
                    item,
                    "the step after / is too large: it allows only one value",
                );
            }
            _ => {}
        }
        Ok(Self { start, stop, step })
    }
}

/// `26` means 2026, and `99` means 1999.
fn full_year(micros: u64) -> u64 {
    micros
        + match micros / 1_000_000 {
            0..70 => 2_000_000_000,
            70..100 => 1_900_000_000,
            _ => 0,
        }
}

/// A number in millionths. A fraction has at most six digits that count.
fn decimal(text: &str, fractions: bool) -> Option<u64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if fractions => (whole, digits(fraction).map(|_| fraction)?),
        Some(_) => return None,
        None => (text, ""),
    };
    let micros: u64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    let whole = digits(whole).filter(|value| *value <= 100_000)?;
    Some(u64::from(whole) * 1_000_000 + micros)
}
