//! The fields of `thrum monitors add` and `set`.

use crate::remote::cell;
use clap::{ArgAction, Args};
use serde_json::{Map, Value, json};
use thrum_schema::time::parse_span;

/// Fields of a monitor. Durations are like 90s, 15m or 1h30m.
#[derive(Debug, Args)]
pub struct Fields {
    /// Slug for ping URLs with the ping key: lowercase letters, digits, - and _
    #[arg(long)]
    slug: Option<String>,
    /// Tags, separated by commas; replaces all tags
    #[arg(
        long = "tag",
        value_name = "TAGS",
        value_delimiter = ',',
        alias = "tags"
    )]
    tags: Option<Vec<String>>,
    /// Description
    #[arg(long, value_name = "TEXT")]
    desc: Option<String>,
    /// Time between two pings
    #[arg(long, value_name = "DURATION", value_parser = span, conflicts_with = "schedule")]
    period: Option<u64>,
    /// Cron expression, or systemd calendar events
    #[arg(long, value_name = "EXPRESSION")]
    schedule: Option<String>,
    /// Time zone of the schedule, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// How late a ping may be
    #[arg(long, value_name = "DURATION", value_parser = span)]
    grace: Option<u64>,
    /// Name or ID of a channel to notify, or `all`; can be repeated
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Option<Vec<String>>,
    /// Name, slug or UUID of a parent, or `none`; can be repeated; replaces all parents
    #[arg(long = "parent", value_name = "MONITOR")]
    parents: Option<Vec<String>>,
    /// How long a run may take, or `none` for the grace
    #[arg(long, value_name = "DURATION", value_parser = span_or_none)]
    run_grace: Option<Nullable>,
    /// Failures in a row before it goes down
    #[arg(long, value_name = "N")]
    failures: Option<u64>,
    /// Mark a run as early if it comes more than this long before it is due; `none` never marks one
    #[arg(long, value_name = "DURATION", value_parser = span_or_none)]
    early: Option<Nullable>,
    /// How often to send a reminder while the monitor is down; `none` uses the project's interval
    #[arg(long, value_name = "DURATION", value_parser = span_or_none)]
    remind: Option<Nullable>,
    /// What a metric of a run, or its `duration`, must be; can be repeated, replaces all
    ///
    /// `METRIC: RULES`, where the rules are a detector that learns what is usual (`auto`), `min N`, `max N`, and `warn`
    /// if a violation is only shown and does not count as a failure. `none` removes all. Examples: "rows: auto", "rows: min 1000",
    /// "duration: max 30m", "rows: auto warn".
    #[arg(long, value_name = "METRIC: RULES", value_parser = expectation)]
    expect: Option<Vec<Expected>>,
    /// Watch every run by its run ID
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    all_runs: Option<bool>,
    /// Keep a paused monitor paused until you resume it, even if it pings
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    manual_resume: Option<bool>,
    /// Only POST requests count as pings
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    post_only: Option<bool>,
}

/// What is expected of a metric, or `None` for nothing.
type Expected = Option<(String, String)>;

fn expectation(text: &str) -> Result<Expected, String> {
    if text == "none" {
        return Ok(None);
    }
    let parts = text.split_once(':');
    let (name, rules) = parts.ok_or("must be METRIC: RULES, as in \"rows: auto\", or none")?;
    let (name, rules) = (name.trim(), rules.trim());
    let read = thrum_schema::expect::Expectation::parse(name, &json!(rules));
    read.map_err(|error| error.to_string())?;
    Ok(Some((name.to_owned(), rules.to_owned())))
}

/// Seconds, or `none`.
#[derive(Debug, Clone, Copy)]
struct Nullable(Option<u64>);

fn span(text: &str) -> Result<u64, String> {
    parse_span(text).ok_or_else(|| "must be a duration such as 90s, 15m or 1h30m".to_owned())
}

fn span_or_none(text: &str) -> Result<Nullable, String> {
    match text {
        "none" => Ok(Nullable(None)),
        text => span(text).map(|span| Nullable(Some(span))),
    }
}

impl Fields {
    /// The request of the API.
    pub fn body(&self, name: Option<String>) -> anyhow::Result<Value> {
        let mut body = Map::new();
        let mut expect = Map::new();
        for (name, rules) in self.expect.iter().flatten().flatten() {
            anyhow::ensure!(
                expect.insert(name.clone(), json!(rules)).is_none(),
                "--expect has {name} twice; write all its rules in one, as in \"rows: auto min 1000\""
            );
        }
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let seconds = |given: Option<Nullable>| given.map(|given| json!(given.0));
        set("name", name.map(Value::from));
        set("slug", text(&self.slug));
        let tags = self.tags.iter().flatten().map(|tag| tag.trim());
        let tags: Vec<&str> = tags.filter(|tag| !tag.is_empty()).collect();
        set("tags", self.tags.is_some().then(|| json!(tags)));
        set("desc", text(&self.desc));
        set("period_s", self.period.map(Value::from));
        set("schedule", text(&self.schedule));
        set("tz", text(&self.tz));
        set("grace_s", self.grace.map(Value::from));
        set(
            "channels",
            self.channels.as_ref().map(|channels| match &channels[..] {
                [all] if all == "all" => json!("all"),
                channels => json!(channels),
            }),
        );
        let parents = self.parents.as_deref().map(|parents| match parents {
            [none] if none == "none" => json!([]),
            parents => json!(parents),
        });
        set("parents", parents);
        set("start_grace_s", seconds(self.run_grace));
        set("failures", self.failures.map(Value::from));
        set("early_s", seconds(self.early));
        set("remind_s", seconds(self.remind));
        set("expect", self.expect.is_some().then_some(expect.into()));
        set("all_runs", self.all_runs.map(Value::from));
        set("manual_resume", self.manual_resume.map(Value::from));
        let methods = self
            .post_only
            .map(|post_only| if post_only { "POST" } else { "" });
        set("methods", methods.map(Value::from));
        anyhow::ensure!(
            !body.is_empty(),
            "nothing to change: pass at least one field, such as --grace 1h"
        );
        Ok(Value::Object(body))
    }
}

/// What to say about a new monitor.
pub fn added(server: &str, monitor: &Value) -> String {
    let name = cell(&monitor["name"]);
    let uuid = cell(&monitor["uuid"]);
    let server = server.trim_end_matches('/');
    format!("Added {name}. It goes up with its first ping:\n  curl {server}/ping/{uuid}")
}
