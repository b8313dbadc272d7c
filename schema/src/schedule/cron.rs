//! Five-field cron expressions, parsed by the `croner` crate.

use crate::time::UnixMs;
use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Parses five fields. Nicknames such as `@daily` are rejected.
pub fn parse(expr: &str) -> Option<Cron> {
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(expr)
        .ok()
}

/// The first matching time strictly after `from`.
pub fn next_after(cron: &Cron, from: &DateTime<Tz>) -> Option<UnixMs> {
    cron.find_next_occurrence(from, false)
        .ok()
        .map(|next| next.to_utc().into())
}
