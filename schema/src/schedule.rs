//! When a monitor expects pings: at a fixed period, by cron, or by systemd calendar events.

mod cron;
mod field;
mod oncalendar;

use crate::error::Invalid;
use crate::time::UnixMs;
use crate::zone::Zone;
use serde::{Deserialize, Serialize};

/// Maximum period and grace, in seconds: 365 days.
pub const MAX_PERIOD_S: u32 = 365 * 86_400;
/// Maximum length of an expression, in characters.
pub const MAX_EXPRESSION: usize = 100;
/// Maximum missed runs counted at a time.
pub const MAX_MISSED: u32 = 1_000;
/// An expression must match a time after 2000-01-01T00:00:00Z, as clients of the
/// healthchecks-compatible API expect.
const FUTURE_FROM: UnixMs = UnixMs(946_684_800_000);

/// When a monitor expects its next success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Schedule {
    /// `period_s` seconds after the last one.
    Simple {
        /// Seconds between two successes, 1 … [`MAX_PERIOD_S`].
        period_s: u32,
    },
    /// At the times of a 5-field cron expression in an IANA time zone.
    Cron {
        /// The expression, as given.
        expr: String,
        /// The name of the time zone.
        tz: String,
    },
    /// At the times of systemd calendar events, one per line; any of them matches.
    OnCalendar {
        /// The lines, as given.
        expr: String,
        /// The name of the time zone for lines without one.
        tz: String,
    },
}

impl Schedule {
    /// A simple schedule, or what is wrong with the period.
    pub fn simple(field: &str, period_s: u64) -> Result<Self, Invalid> {
        match u32::try_from(period_s) {
            Ok(period_s @ 1..=MAX_PERIOD_S) => Ok(Self::Simple { period_s }),
            _ => Err(Invalid::new(
                field,
                format!("must be between 1 and {MAX_PERIOD_S} seconds (got {period_s})"),
            )),
        }
    }

    /// Parses an expression: five fields on one line and words such as `@daily` are cron, anything else is
    /// OnCalendar.
    ///
    /// # Errors
    /// The expression does not parse, never matches after 2000 or is too long, or the time zone is
    /// unknown. The error names the part that is wrong.
    pub fn parse(expr: &str, tz: &str) -> Result<Self, Invalid> {
        let zone = Zone::named(tz).ok_or_else(|| {
            Invalid::new(
                "tz",
                format!("must be the name of a time zone, such as Europe/Berlin (got {tz:?})"),
            )
        })?;
        let invalid = |problem: String| Invalid::new("schedule", problem);
        if expr.chars().count() > MAX_EXPRESSION {
            let problem = format!("must have at most {MAX_EXPRESSION} characters");
            return Err(invalid(problem));
        }
        let (expr, tz) = (expr.to_owned(), zone.name().to_owned());
        let times = if cron::is_meant(&expr) {
            let cron = cron::parse(&expr)
                .map_err(|error| invalid(format!("is not a valid cron expression: {error}")))?;
            Times::Cron(cron, zone)
        } else {
            let events = oncalendar::parse(&expr).map_err(|error| {
                let words = expr.split_whitespace().count();
                let hint = match words {
                    3..=7 if !expr.contains([':', '\n']) => {
                        format!(". A cron expression needs five fields (got {words})")
                    }
                    _ => String::new(),
                };
                invalid(format!(
                    "is not a valid cron or OnCalendar expression: {error}{hint}"
                ))
            })?;
            Times::OnCalendar(events, zone)
        };
        // 30 February parses but never comes.
        if times.next_after(FUTURE_FROM).is_none() {
            return Err(invalid(
                "has no time after 2000-01-01; check the day, month and year".to_owned(),
            ));
        }
        Ok(match times {
            Times::Cron(..) => Self::Cron { expr, tz },
            _ => Self::OnCalendar { expr, tz },
        })
    }

    /// The first expected time strictly after `last`, if there is one.
    pub fn next_after(&self, last: UnixMs) -> Option<UnixMs> {
        self.compute().next_after(last)
    }

    /// The expected times strictly after `last`, in order.
    pub fn times(&self, last: UnixMs) -> impl Iterator<Item = UnixMs> + use<> {
        let times = self.compute();
        let next = move |at: &UnixMs| times.next_after(*at);
        std::iter::successors(next(&last), next)
    }

    /// The parsed schedule. One that an earlier version stored, and that is refused today, is read as that version
    /// read it as far as possible, and otherwise as once a day: a monitor is never left unwatched.
    fn compute(&self) -> Times {
        let times = match self {
            Self::Simple { period_s } => Some(Times::Period(*period_s)),
            Self::Cron { expr, tz } => {
                let cron = cron::parse(expr).or_else(|_| cron::parse(&stored_cron(expr)));
                cron.ok()
                    .zip(Zone::named(tz))
                    .map(|(cron, zone)| Times::Cron(cron, zone))
            }
            Self::OnCalendar { expr, tz } => {
                let events = oncalendar::parse(expr);
                let events = events.or_else(|_| oncalendar::parse(&stored_calendar(expr)));
                let events = events.ok().zip(Zone::named(tz));
                events.map(|(events, zone)| Times::OnCalendar(events, zone))
            }
        };
        times.unwrap_or(Times::Period(86_400))
    }

    /// How many runs were missed from the last one at `last` until `now`, counting those whose
    /// grace is over; at most [`MAX_MISSED`].
    pub fn missed(&self, last: UnixMs, grace_s: u32, now: UnixMs) -> u32 {
        let by = now - i64::from(grace_s) * 1000;
        match self.period_s() {
            Some(period_s) => {
                let missed = (by - last).max(0) / (i64::from(period_s) * 1000);
                u32::try_from(missed).unwrap_or(MAX_MISSED).min(MAX_MISSED)
            }
            None => {
                let due = self.times(last).take_while(|at| *at <= by);
                u32::try_from(due.take(MAX_MISSED as usize).count()).unwrap_or(MAX_MISSED)
            }
        }
    }

    /// Seconds between successes, if the schedule is simple.
    pub const fn period_s(&self) -> Option<u32> {
        match self {
            Self::Simple { period_s } => Some(*period_s),
            Self::Cron { .. } | Self::OnCalendar { .. } => None,
        }
    }
}

/// A cron expression of an earlier version: `?` meant `*`, `5#L` meant `5L`, and `15W` the weekday next to the 15th,
/// which is at most a day away.
fn stored_cron(expr: &str) -> String {
    let expr = expr
        .to_ascii_lowercase()
        .replace('?', "*")
        .replace("#l", "l");
    let fields = expr.split_whitespace().enumerate();
    let fields: Vec<&str> = fields
        .map(|(i, field)| match i {
            2 if field != "lw" => field.trim_end_matches('w'),
            _ => field,
        })
        .collect();
    fields.join(" ")
}

/// Calendar events of an earlier version: `*/2` was accepted, too.
fn stored_calendar(expr: &str) -> String {
    let lines = expr.lines().map(|line| {
        let words = line.split_whitespace();
        let words: Vec<String> = words
            .map(|word| word.replace("*/", if word.contains(':') { "0/" } else { "1/" }))
            .collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A schedule whose expression is parsed.
enum Times {
    Period(u32),
    Cron(cron::Cron, Zone),
    OnCalendar(Vec<oncalendar::Event>, Zone),
}

impl Times {
    fn next_after(&self, last: UnixMs) -> Option<UnixMs> {
        match self {
            Self::Period(period_s) => Some(last + i64::from(*period_s) * 1000),
            Self::Cron(cron, zone) => cron.next_after(last, zone),
            Self::OnCalendar(events, zone) => oncalendar::next_after(events, last, zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rfc3339: &str) -> UnixMs {
        UnixMs::parse("at", rfc3339).unwrap()
    }

    #[track_caller]
    fn check(expr: &str, tz: &str, after: &str, expected: &[&str]) {
        let schedule = Schedule::parse(expr, tz).unwrap();
        let mut last = at(after);
        for time in expected {
            last = schedule.next_after(last).unwrap();
            assert_eq!(last, at(time), "{expr} in {tz}: got {last}");
        }
    }

    #[test]
    fn a_period_counts_from_the_last_success() {
        let every = Schedule::simple("period_s", 300).unwrap();
        assert_eq!(every.next_after(UnixMs(1_500)), Some(UnixMs(301_500)));
    }

    #[test]
    fn a_run_is_missed_once_its_grace_is_over() {
        let every = Schedule::simple("period_s", 60).unwrap();
        let cron = Schedule::parse("* * * * *", "UTC").unwrap();
        let last = at("2026-01-01T00:00:00Z");
        for schedule in [every, cron] {
            for (seconds, missed) in [
                (0, 0),
                (89, 0),
                (90, 1),
                (149, 1),
                (150, 2),
                (10_000_000, 1_000),
            ] {
                let now = last + seconds * 1000;
                assert_eq!(schedule.missed(last, 30, now), missed, "{seconds}");
            }
        }
    }

    #[test]
    fn cron_is_strictly_after_and_in_its_zone() {
        check(
            "*/5 * * * *",
            "UTC",
            "2026-01-01T00:05:00Z",
            &["2026-01-01T00:10:00Z", "2026-01-01T00:15:00Z"],
        );
        check(
            "30 9 * * 1-5",
            "America/New_York",
            "2026-01-02T14:30:00Z",
            &["2026-01-05T14:30:00Z"],
        );
        check(
            "0 12 1 * 1",
            "UTC",
            "2026-06-01T12:00:00Z",
            &["2026-06-08T12:00:00Z", "2026-06-15T12:00:00Z"],
        );
    }

    /// A job in the hour that a spring night skips still runs that night; a job in the hour that an
    /// autumn night repeats runs once; an hourly job stays hourly.
    #[test]
    fn cron_is_safe_on_both_dst_nights_of_three_zones() {
        // Berlin: 29 March 2026 02:00 → 03:00, 25 October 2026 03:00 → 02:00.
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        );
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        check(
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-24T23:00:00Z",
            &[
                "2026-10-25T00:00:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T02:00:00Z",
            ],
        );
        // New York: 8 March 2026 02:00 → 03:00, 1 November 2026 02:00 → 01:00.
        check(
            "30 2 * * *",
            "America/New_York",
            "2026-03-07T12:00:00Z",
            &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
        );
        check(
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T12:00:00Z",
            &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
        );
        check(
            "*/30 * * * *",
            "America/New_York",
            "2026-11-01T05:00:00Z",
            &[
                "2026-11-01T05:30:00Z",
                "2026-11-01T06:00:00Z",
                "2026-11-01T06:30:00Z",
            ],
        );
        // Lord Howe moves by half an hour: 4 October 2026 02:00 → 02:30, 5 April 2026 02:00 →
        // 01:30.
        check(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
        );
        check(
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
        );
    }

    #[test]
    fn oncalendar_matches_systemd() {
        let new_year = "2026-01-01T00:00:00Z";
        for (expr, expected) in [
            ("daily", "2026-01-02T00:00:00Z"),
            ("hourly", "2026-01-01T01:00:00Z"),
            ("weekly", "2026-01-05T00:00:00Z"),
            ("monthly", "2026-02-01T00:00:00Z"),
            ("quarterly", "2026-04-01T00:00:00Z"),
            ("semiannually", "2026-07-01T00:00:00Z"),
            ("yearly", "2027-01-01T00:00:00Z"),
            ("minutely", "2026-01-01T00:01:00Z"),
            ("*-*-* 04:30", "2026-01-01T04:30:00Z"),
            ("04:30:15", "2026-01-01T04:30:15Z"),
            ("Mon..Fri 12:00", "2026-01-01T12:00:00Z"),
            ("Sat,Sun *-*-* 08:00:00", "2026-01-03T08:00:00Z"),
            ("Mon", "2026-01-05T00:00:00Z"),
            ("*-*~01", "2026-01-31T00:00:00Z"),
            ("*-02~03", "2026-02-26T00:00:00Z"),
            ("Mon *-05~07/1", "2026-05-25T00:00:00Z"),
            ("*:0/15", "2026-01-01T00:15:00Z"),
            ("00/6:30", "2026-01-01T00:30:00Z"),
            ("12..14:10,20:00", "2026-01-01T12:10:00Z"),
            ("*:*:0/20", "2026-01-01T00:00:20Z"),
            ("2028-02-29", "2028-02-29T00:00:00Z"),
            ("03-05", "2026-03-05T00:00:00Z"),
            ("12:00 America/New_York", "2026-01-01T17:00:00Z"),
            ("12:00\n06:00", "2026-01-01T06:00:00Z"),
            // Short steps match every second, and cost no more.
            ("*:*:0/0.000001,5/0.000001", "2026-01-01T00:00:01Z"),
        ] {
            check(expr, "UTC", new_year, &[expected]);
        }
    }

    /// A run in the hour that a spring night skips does not happen; in the first pass of the hour that an autumn
    /// night repeats, the clock goes on, and jobs of the second pass run after it.
    #[test]
    fn oncalendar_is_safe_on_dst_nights() {
        check(
            "*-*-* 02:30:00",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-30T00:30:00Z"],
        );
        check(
            "*-*-* 02:30:00",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        check(
            "hourly",
            "Europe/Berlin",
            "2026-10-24T23:00:00Z",
            &["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"],
        );
        check(
            "*:0/15",
            "Europe/Berlin",
            "2026-10-25T01:20:00Z",
            &["2026-10-25T01:30:00Z"],
        );
    }

    #[test]
    fn errors_name_the_part_and_the_value() {
        for (expr, problem) in [
            ("61 * * * *", "minute `61`: must be between 0 and 59"),
            ("0 24 * * *", "hour `24`: must be between 0 and 23"),
            (
                "0 0 1-40 * *",
                "day of the month `1-40`: must be between 1 and 31",
            ),
            ("0 0 * foo *", "month `foo`: must be between 1 and 12"),
            (
                "0 0 * * 5#6",
                "weekday `5#6`: the week after # must be between 1 and 5",
            ),
            (
                "*/0 * * * *",
                "minute `*/0`: the step after / must be a number",
            ),
            (
                "30-10 * * * *",
                "minute `30-10`: the range ends before it starts",
            ),
            (
                "0 0 31 2,4,6,9,11 *",
                "no month of `2,4,6,9,11` has a day `31`",
            ),
            ("@reboot", "@reboot has no scheduled times"),
            ("@every 5m", "@every is not cron: use a period"),
            ("@fortnightly", "use @hourly, @daily"),
            ("25:00", "hour `25`: must be between 0 and 23"),
            ("*-13-01", "month `13`: must be between 1 and 12"),
            (
                "Sat..Mon",
                "weekday `sat..mon`: the range ends before it starts",
            ),
            (
                "every day",
                "`every` is neither a weekday nor a word such as daily",
            ),
            ("*/2:00", "hour `*/2`: `*` is not a number"),
            ("12:00 Mars/Olympus", "`mars/olympus` is not expected here"),
            ("* * * *", "needs five fields (got 4)"),
        ] {
            let error = Schedule::parse(expr, "UTC").unwrap_err();
            assert_eq!(error.field, "schedule");
            assert!(error.problem.contains(problem), "{expr}: {error}");
        }
    }

    #[test]
    fn a_past_expression_has_no_next_run() {
        let past = Schedule::parse("2001-01-01", "UTC").unwrap();
        assert_eq!(past.next_after(at("2026-01-01T00:00:00Z")), None);
    }

    /// What an earlier version stored, and would be refused today.
    #[test]
    fn stored_schedules_are_never_left_unwatched() {
        let tz = || "UTC".to_owned();
        let after = at("2026-11-28T12:00:00Z");
        for (expr, next) in [
            ("0 0 ? * 1", "2026-11-30T00:00:00Z"),
            ("0 9 15W * *", "2026-12-15T09:00:00Z"),
            ("0 0 * * 5#L", "2026-12-25T00:00:00Z"),
            ("0 0 * * 5+#", "2026-11-29T12:00:00Z"),
        ] {
            let expr = expr.to_owned();
            let stored = Schedule::Cron { expr, tz: tz() };
            assert_eq!(stored.next_after(after), Some(at(next)), "{stored:?}");
        }
        for (expr, next) in [
            ("*/2:00", "2026-11-28T14:00:00Z"),
            ("*-*/3-1 *:*/10", "2026-12-01T00:00:00Z"),
            ("nonsense", "2026-11-29T12:00:00Z"),
        ] {
            let expr = expr.to_owned();
            let stored = Schedule::OnCalendar { expr, tz: tz() };
            let got = stored.next_after(after);
            assert!(
                got >= Some(at(next)) && got < Some(at(next) + 60 * 86_400_000),
                "{stored:?} {got:?}"
            );
        }
    }

    #[test]
    fn invalid_schedules_are_rejected() {
        for expr in [
            "",
            "* * * *",
            "* * * * * *",
            "61 * * * *",
            "0 0 30 2 *",
            "@reboot",
            "1999-01-01",
            "*-13-01",
            "25:00",
            "*-*-* 12:61",
            "Mon..",
            "Foo",
            "12:00 Mars/Olympus",
            "\n",
            "0/0:00",
        ] {
            assert!(Schedule::parse(expr, "UTC").is_err(), "{expr:?}");
        }
        assert_eq!(
            Schedule::parse("* * * * *", "Mars/Olympus")
                .unwrap_err()
                .field,
            "tz"
        );
        assert!(Schedule::parse(&"1,".repeat(51), "UTC").is_err());
        for period in [0, u64::from(MAX_PERIOD_S) + 1, u64::MAX] {
            assert!(Schedule::simple("period_s", period).is_err());
        }
    }

    #[test]
    fn renamed_zones_are_accepted() {
        assert!(Schedule::parse("* * * * *", "Europe/Kiev").is_ok());
    }
}
