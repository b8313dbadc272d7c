//! The names of fields, as the pages label them.

use crate::http::Problem;
use thrum_schema::error::Invalid;

/// A field of a form or of the API, such as `remind_s`, as the pages label it.
pub fn label(field: &str) -> &str {
    match field.strip_suffix("_s").unwrap_or(field) {
        "name" => "Name",
        "slug" => "Slug",
        "tags" => "Tags",
        "desc" => "Description",
        "period" => "Period",
        "schedule" => "Schedule",
        "tz" => "Time zone",
        "grace" => "Grace",
        "channel" | "channels" => "Channels",
        "remind" => "Reminder interval",
        "failures" => "Failures in a row",
        "start_grace" => "Run grace",
        "early" => "Early runs",
        "windows" => "Maintenance windows",
        "parents" => "Depends on",
        "expect" => "Expected metrics",
        "kind" => "Kind",
        "url" => "Webhook URL",
        "secret" => "Signing secret",
        "to" => "E-mail address or phone number",
        "topic_arn" => "SNS topic ARN",
        "group_threshold" => "Group threshold",
        "daily_limit" => "Daily message limit",
        "for" => "Snooze",
        "title" => "Title",
        "overlap" => "Old key expires",
        "scope" => "Scope",
        "requests_per_day" => "Requests per day",
        "requests_per_minute" => "Requests per minute",
        "confirm_bars" => "Bars to confirm a change",
        "cooldown" => "Cooldown after an alert",
        "timeframe" => "Timeframe",
        "strategy" => "Strategy",
        "mode" => "Mode",
        "series" | "of" => "Series",
        "from" => "From",
        "fee_bps" => "Fee in basis points",
        "slippage_bps" => "Slippage in basis points",
        _ => field,
    }
}

/// What is wrong with fields of a form, in words that begin with their labels; the field comes first.
pub fn at_fields(problem: &Problem) -> Vec<(String, String)> {
    let wrong = problem.fields().into_iter();
    wrong
        .map(|Invalid { field, problem }| {
            let base = field.split(['[', '.']).next().unwrap_or_default();
            let words = format!("{} {problem}", label(base));
            (base.to_owned(), words)
        })
        .collect()
}
