//! Five-field cron expressions, parsed by the `croner` crate.

use crate::time::UnixMs;
use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Parses five fields. Nicknames such as `@daily` are rejected.
pub fn parse(expr: &str) -> Option<Cron> {
    let cron = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(expr)
        .ok()?;
    (!never_comes(expr, &cron)).then_some(cron)
}

/// Whether none of the days is in any of the months, as in `0 0 31 2,4 *`. A search would look for it
/// through thousands of years.
fn never_comes(expr: &str, cron: &Cron) -> bool {
    let fields: Vec<&str> = expr.split_whitespace().collect();
    let [_, _, days, _, weekdays] = fields[..] else {
        return false;
    };
    // With a restricted weekday, either of the two may match; `L` and `W` always find a day.
    if !weekdays.starts_with(['*', '?']) || days.contains(['L', 'l', 'W', 'w']) {
        return false;
    }
    let longest = |month: u16| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let first = cron.pattern.days.values().into_iter().min();
    let months = cron.pattern.months.values();
    first.is_some_and(|first| months.iter().all(|month| first > longest(*month)))
}

/// The first matching time strictly after `from`.
pub fn next_after(cron: &Cron, from: &DateTime<Tz>) -> Option<UnixMs> {
    cron.find_next_occurrence(from, false)
        .ok()
        .map(|next| next.to_utc().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_no_month_has_are_refused_without_a_search() {
        for expr in ["0 0 31 2,4,6,9,11 *", "0 0 30 2 *", "0 0 30-31 2 ?"] {
            assert!(parse(expr).is_none(), "{expr}");
        }
        for expr in [
            "0 0 29 2 *",
            "0 0 31 2,3 *",
            "0 0 31 2 1",
            "0 0 L 2 *",
            "0 0 * 2 *",
        ] {
            assert!(parse(expr).is_some(), "{expr}");
        }
    }
}
