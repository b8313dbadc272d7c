//! `thrum monitors show`: a monitor for people.

use crate::remote::{Remote, ago, cell, colours, moment, out, painted, segment, show as line};
use reqwest::Method;
use serde_json::Value;
use thrum_schema::UnixMs;
use thrum_schema::expect::Expectation;
use thrum_schema::world::SystemWorld;

/// How many pings and status changes to show.
const PINGS: usize = 5;
const FLIPS: usize = 5;

/// Prints a monitor, or the server's response.
pub async fn show(remote: &Remote, monitor: &Value) -> anyhow::Result<()> {
    if remote.json {
        return out(&serde_json::to_string_pretty(monitor)?);
    }
    let mut parents = Vec::new();
    for key in monitor["parents"].as_array().into_iter().flatten() {
        let path = format!("/v1/monitors/{}", segment(&cell(key))?);
        // It may be deleted.
        if let Ok(parent) = remote.call(Method::GET, &path, None).await {
            let name = ["name", "slug"].map(|field| cell(&parent[field]));
            parents.extend(name.into_iter().find(|name| !name.is_empty()));
        }
    }
    let now = SystemWorld::arc().now();
    let time = |at: &Value| moment(at, now);
    let seconds = |value: &Value| match value.as_u64() {
        Some(s) => humantime::format_duration(std::time::Duration::from_secs(s)).to_string(),
        None => String::new(),
    };
    let list = |value: &Value| match value {
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        value => cell(value),
    };
    let held = match monitor["alert_held"] == true {
        true => "held: by a snooze, a maintenance window, flapping, or a parent that is down",
        false => "",
    };
    let status = cell(&monitor["status"]);
    let status = if colours() {
        painted("status", &status)
    } else {
        status
    };
    line(&format!("{:<14} {status}", "status"))?;
    let schedule = match monitor["schedule"].as_str() {
        Some(expr) => format!("{} ({})", expr.replace('\n', "; "), cell(&monitor["tz"])),
        None => format!("every {}", seconds(&monitor["period_s"])),
    };
    for (name, value) in [
        ("name", cell(&monitor["name"])),
        ("slug", cell(&monitor["slug"])),
        ("uuid", cell(&monitor["uuid"])),
        ("tags", list(&monitor["tags"])),
        ("description", cell(&monitor["desc"])),
        ("schedule", schedule),
        ("grace", seconds(&monitor["grace_s"])),
        ("run grace", seconds(&monitor["start_grace_s"])),
        ("depends on", parents.join("\n")),
        ("expects", expectations(&monitor["expect"])),
        ("last ping", time(&monitor["last_ping"])),
        ("deadline", time(&monitor["deadline"])),
        ("alert", held.to_owned()),
        ("acknowledged", time(&monitor["acknowledged_at"])),
        ("snoozed until", time(&monitor["snoozed_until"])),
        ("pings", cell(&monitor["pings"])),
        ("missed runs", cell(&monitor["missed"])),
    ] {
        let is_shown = name != "missed runs" || value != "0";
        if is_shown && !value.is_empty() {
            let value = value.replace('\n', &format!("\n{:<15}", ""));
            out(&format!("{name:<14} {value}"))?;
        }
    }
    rows(&monitor["last_pings"], "Last pings", PINGS, |ping| {
        ping_row(ping, now)
    })?;
    rows(&monitor["flips"], "Status changes", FLIPS, |flip| {
        let at = flip["at"].as_str().unwrap_or_default();
        let why = match flip["why"].as_str() {
            Some(why) => format!(": {why}"),
            None => String::new(),
        };
        format!(
            "{:<12} {} → {}{why}",
            ago(at, now),
            cell(&flip["from"]),
            cell(&flip["to"])
        )
    })
}

/// What is expected of metrics, one per line, as `--expect` takes it.
fn expectations(expect: &Value) -> String {
    let expect = expect.as_object().into_iter().flatten();
    let lines = expect.filter_map(|(name, value)| {
        let expectation = Expectation::parse(name, value).ok()?;
        Some(format!("{name}: {}", expectation.to_text(name)))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn rows(
    items: &Value,
    title: &str,
    most: usize,
    row: impl Fn(&Value) -> String,
) -> anyhow::Result<()> {
    let items = items.as_array().into_iter().flatten();
    for (i, item) in items.take(most).enumerate() {
        if i == 0 {
            out(&format!("\n{title}"))?;
        }
        out(&format!("  {}", row(item)))?;
    }
    Ok(())
}

fn ping_row(ping: &Value, now: UnixMs) -> String {
    let at = ping["at"].as_str().unwrap_or_default();
    let mut row = format!("{:<12} {:<8}", ago(at, now), cell(&ping["type"]));
    if let Some(code) = ping["exit_status"].as_u64() {
        row += &format!(" exit {code}");
    }
    if let Some(ms) = ping["duration_ms"].as_u64() {
        row += &format!(
            " took {}",
            humantime::format_duration(std::time::Duration::from_millis(ms))
        );
    }
    for problem in ping["unexpected"].as_array().into_iter().flatten() {
        row += &format!("  {}", cell(problem));
    }
    let body = ping["body"].as_str().unwrap_or_default().trim();
    if let Some(last) = body.lines().last() {
        let last: String = last.chars().take(80).collect();
        row += &format!("  {last}");
    }
    row.trim_end().to_owned()
}
