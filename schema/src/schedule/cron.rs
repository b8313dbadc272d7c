//! Cron expressions of five fields, by the `croner` crate.

use crate::time::UnixMs;
use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Parses five fields. Nicknames (`@daily`) have one field and are not taken.
pub fn parse(expr: &str) -> Option<Cron> {
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(expr)
        .ok()
}

/// The first instant strictly after `from`.
pub fn next_after(cron: &Cron, from: &DateTime<Tz>) -> Option<UnixMs> {
    cron.find_next_occurrence(from, false)
        .ok()
        .map(|next| next.to_utc().into())
}
