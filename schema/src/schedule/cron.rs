//! Five-field cron expressions, as the `cronsim` package reads them: Debian's cron with extensions.
//!
//! - If one of the two day fields starts with `*`, both must match. Otherwise, one match is enough.
//! - `5/15` means from 5 on. In the day field, `L` is the last day and `LW` the last weekday of the month.
//!   In the weekday field, `5L` is the last Friday and `5#2` the second.
//! - When the clock changes, a job whose minute and hour don't start with `*` runs once: right after the hour
//!   that is skipped, and in the first pass of the hour that is repeated. Other jobs follow the wall clock.

use super::field::{Field, refuse};
use crate::time::UnixMs;
use crate::zone::{Instants, Zone};
use jiff::ToSpan;
use jiff::civil::{Date, DateTime};

/// How far ahead to search: the fifth Monday of a February recurs after 28 years, 40 across 2100.
const HORIZON_YEARS: i16 = 50;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;

const MINUTES: Field = Field::new("minute", 0, 59, &[]);
const HOURS: Field = Field::new("hour", 0, 23, &[]);
const DAYS: Field = Field::new("day of the month", 1, 31, &[]);
const MONTHS: Field = Field::new(
    "month",
    1,
    12,
    &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
);
/// Sunday is 0 and 7.
const WEEKDAYS: Field = Field::new(
    "weekday",
    0,
    7,
    &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
);

/// An expression. Fields are sets of bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    /// The last day of the month; the last one that is not of a weekend.
    last_day: bool,
    last_weekday: bool,
    months: u64,
    weekdays: u64,
    /// By weekday, in which weeks of the month it matches: bits 1 … 5, and [`LAST`].
    weeks: [u8; 7],
    /// Whether the day and the weekday must both match.
    both_days: bool,
    /// Whether the minute and the hour are fixed, so that it runs once when the clock changes.
    fixed: bool,
}

/// The bit for the last such weekday of a month.
const LAST: u8 = 1 << 6;

/// Whether `expr` is meant as cron: five fields on one line, or a word such as `@daily`.
pub fn is_meant(expr: &str) -> bool {
    let mut words = expr.split_whitespace();
    let nickname = words
        .next()
        .and_then(|word| word.strip_prefix('@'))
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    !expr.contains('\n') && (nickname || expr.split_whitespace().count() == 5)
}

/// Parses an expression, or says which field is wrong.
pub fn parse(expr: &str) -> Result<Cron, String> {
    let expr = expr.trim().to_ascii_lowercase();
    let expr = match expr.as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        "@reboot" => {
            return Err(
                "@reboot has no scheduled times: use a period (`period_s`) instead".to_owned(),
            );
        }
        other if other.starts_with("@every") => {
            return Err("@every is not cron: use a period (`period_s`) instead".to_owned());
        }
        other if other.starts_with('@') => {
            return Err(format!(
                "`{other}` is unknown: use @hourly, @daily, @weekly, @monthly, @yearly or @midnight"
            ));
        }
        other => other,
    };
    let fields: Vec<&str> = expr.split_whitespace().collect();
    let &[minute, hour, day, month, weekday] = &fields[..] else {
        return Err(format!(
            "cron has five fields: minute, hour, day, month, weekday (got {})",
            fields.len()
        ));
    };
    let mut cron = Cron {
        minutes: MINUTES.cron_set(minute)?,
        hours: HOURS.cron_set(hour)?,
        days: 0,
        last_day: false,
        last_weekday: false,
        months: MONTHS.cron_set(month)?,
        weekdays: 0,
        weeks: [0; 7],
        both_days: day.starts_with('*') || weekday.starts_with('*'),
        fixed: !minute.starts_with('*') && !hour.starts_with('*'),
    };
    for item in day.split(',') {
        cron.add_day(item)?;
    }
    for item in weekday.split(',') {
        cron.add_weekday(item)?;
    }
    if cron.weekdays & 1 << 7 != 0 {
        cron.weekdays |= 1;
    }
    if cron.never_comes() {
        return Err(format!("no month of `{month}` has a day `{day}`"));
    }
    Ok(cron)
}

impl Cron {
    fn add_day(&mut self, item: &str) -> Result<(), String> {
        // A step on a single day that has no number changes nothing.
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(step)),
            None => (item, None),
        };
        if matches!(base, "l" | "lw") {
            if let Some(step) = step {
                DAYS.step(step, item)?;
            }
            self.last_day |= base == "l";
            self.last_weekday |= base == "lw";
        } else {
            self.days |= DAYS.cron_set(item)?;
        }
        Ok(())
    }

    fn add_weekday(&mut self, item: &str) -> Result<(), String> {
        if let Some(day) = item.strip_suffix('l').filter(|day| is_number(day)) {
            let day = WEEKDAYS.number(day, item)? % 7;
            self.weeks[day as usize] |= LAST;
        } else if let Some((day, week)) = item.split_once('#') {
            let day = WEEKDAYS.value(day, item)? % 7;
            match week.parse() {
                Ok(week @ 1..=5_u8) if is_number(&item[item.len() - 1..]) => {
                    self.weeks[day as usize] |= 1 << week;
                }
                _ => return refuse("weekday", item, "the week after # must be between 1 and 5"),
            }
        } else {
            self.weekdays |= WEEKDAYS.cron_set(item)?;
        }
        Ok(())
    }

    /// Whether none of the days is in any of the months, as in `0 0 31 2,4 *`: a search would go through
    /// every day of [`HORIZON_YEARS`].
    fn never_comes(&self) -> bool {
        let longest = |month: u32| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let months = (1..=12_u32).filter(|month| self.months & 1 << month != 0);
        let last = months.map(longest).max().unwrap_or(0);
        self.both_days && !self.last_day && !self.last_weekday && self.days.trailing_zeros() > last
    }

    /// The first matching time strictly after `after`.
    pub fn next_after(&self, after: UnixMs, zone: &Zone) -> Option<UnixMs> {
        if self.fixed {
            self.next_fixed(after, zone)
        } else {
            self.next_wild(after, zone)
        }
    }

    /// The next time of a job at fixed times: found on the wall clock, and moved to the end of an hour that
    /// is skipped.
    fn next_fixed(&self, after: UnixMs, zone: &Zone) -> Option<UnixMs> {
        let mut wall = zone.wall(after)?;
        let last_year = wall.year().checked_add(HORIZON_YEARS)?;
        loop {
            wall = self.next_wall(wall, last_year)?;
            let at = match zone.instants(wall)? {
                Instants::One(at) | Instants::Two(at, _) => at,
                Instants::Skipped(..) => {
                    wall = end_of_gap(wall, zone)?;
                    match zone.instants(wall)? {
                        Instants::One(at) | Instants::Two(at, _) => at,
                        Instants::Skipped(..) => return None,
                    }
                }
            };
            // In the second pass of a repeated hour, the wall clock's next time may have been in the first.
            if at > after {
                return Some(at);
            }
        }
    }

    /// The first matching time of a wall clock that never changes, strictly after `wall`.
    fn next_wall(&self, wall: DateTime, last_year: i16) -> Option<DateTime> {
        let from = wall
            .with()
            .second(0)
            .subsec_nanosecond(0)
            .build()
            .ok()?
            .checked_add(1.minute())
            .ok()?;
        let mut date = from.date();
        if self.matches_date(date)
            && let Some(time) = self.time_from(from.hour(), from.minute())
        {
            return Some(date.at(time.0, time.1, 0, 0));
        }
        let (hour, minute) = self.time_from(0, 0)?;
        date = self.next_date(date.tomorrow().ok()?, last_year)?;
        Some(date.at(hour, minute, 0, 0))
    }

    /// The first matching time of day at or after the given one.
    fn time_from(&self, hour: i8, minute: i8) -> Option<(i8, i8)> {
        if has(self.hours, hour)
            && let Some(minute) = first_from(self.minutes, minute)
        {
            return Some((hour, minute));
        }
        let hour = first_from(self.hours, hour + 1)?;
        Some((hour, first_from(self.minutes, 0)?))
    }

    /// The first matching date at or after `date`.
    fn next_date(&self, mut date: Date, last_year: i16) -> Option<Date> {
        while date.year() <= last_year {
            if !has(self.months, date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
            } else if self.matches_day(date) {
                return Some(date);
            } else {
                date = date.tomorrow().ok()?;
            }
        }
        None
    }

    /// The next time of a job that follows the wall clock. It passes from field to field in steps of real
    /// time, as cronsim does, so that it meets both passes of a repeated hour.
    fn next_wild(&self, after: UnixMs, zone: &Zone) -> Option<UnixMs> {
        let mut at = UnixMs(after.0.div_euclid(MINUTE) * MINUTE + MINUTE);
        let last_year = zone.wall(at)?.year().checked_add(HORIZON_YEARS)?;
        loop {
            let wall = zone.wall(at)?;
            if !self.matches_date(wall.date()) {
                let date = self.next_date(wall.date().tomorrow().ok()?, last_year)?;
                at = match zone.instants(date.at(0, 0, 0, 0))? {
                    Instants::One(at) | Instants::Two(at, _) => at,
                    // A midnight that is skipped: due when the day begins.
                    Instants::Skipped(at, _) if has(self.hours, 0) && has(self.minutes, 0) => {
                        return Some(at);
                    }
                    Instants::Skipped(at, _) => at,
                };
            } else if !has(self.hours, wall.hour()) {
                at = start_of_hour(at, wall, zone)?;
                loop {
                    at = at + HOUR;
                    let hour = zone.wall(at)?.hour();
                    if hour == 0 || has(self.hours, hour) {
                        break;
                    }
                }
            } else if !has(self.minutes, wall.minute()) {
                let minutes = if self.minutes.is_power_of_two() {
                    let only = i64::from(self.minutes.trailing_zeros());
                    (only - i64::from(wall.minute())).rem_euclid(60)
                } else {
                    1
                };
                at = at + minutes * MINUTE;
            } else {
                return Some(at);
            }
        }
    }

    fn matches_date(&self, date: Date) -> bool {
        has(self.months, date.month()) && self.matches_day(date)
    }

    fn matches_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day())
            || self.last_day && date.day() == date.days_in_month()
            || self.last_weekday && date.day() == last_weekday(date);
        let weekday = date.weekday().to_sunday_zero_offset();
        let weeks = self.weeks[weekday.unsigned_abs() as usize];
        let weekday = has(self.weekdays, weekday)
            || weeks & 1 << ((date.day() + 6) / 7) != 0
            || weeks & LAST != 0 && date.day() + 7 > date.days_in_month();
        if self.both_days {
            day && weekday
        } else {
            day || weekday
        }
    }
}

/// When the wall clock showed the start of the hour that it shows at `at`, in the same pass of a repeated hour.
fn start_of_hour(at: UnixMs, wall: DateTime, zone: &Zone) -> Option<UnixMs> {
    let again = matches!(zone.instants(wall)?, Instants::Two(_, second) if second <= at);
    Some(match zone.instants(wall.date().at(wall.hour(), 0, 0, 0))? {
        Instants::One(at) => at,
        Instants::Two(first, second) | Instants::Skipped(first, second) => {
            if again {
                second
            } else {
                first
            }
        }
    })
}

/// The first minute of the wall clock after a gap that contains `wall`.
fn end_of_gap(mut wall: DateTime, zone: &Zone) -> Option<DateTime> {
    while matches!(zone.instants(wall)?, Instants::Skipped(..)) {
        wall = wall.checked_add(1.minute()).ok()?;
    }
    Some(wall)
}

/// The last day of the month of `date` that is not of a weekend.
fn last_weekday(date: Date) -> i8 {
    let last = date.last_of_month();
    match last.weekday().to_monday_zero_offset() {
        weekday @ 5.. => last.day() - (weekday - 4),
        _ => last.day(),
    }
}

fn has(set: u64, value: i8) -> bool {
    set & 1 << value != 0
}

/// The first value of `set` at or after `value`.
fn first_from(set: u64, value: i8) -> Option<i8> {
    let rest = set >> value << value;
    (rest != 0).then(|| i8::try_from(rest.trailing_zeros()).ok())?
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
