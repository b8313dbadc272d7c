//! `thrum signal`: shows the signal of a strategy on a series, and why.

use super::{Choice, finished, timeframe_of};
use crate::remote::{Remote, out};
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use std::fmt::Write;
use thrum_schema::signal::number::show;

const EXAMPLES: &str = "\
Examples:
  thrum signal eth --strategy trend-rsi
  thrum signal eth --timeframe 4h --strategy sma-cross --param fast=5 --param slow=20
  thrum signal eth --at 2026-11-21T05:00:00Z --json";

/// Arguments of `thrum signal`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Signal {
    /// Name of the series
    series: String,

    /// Length of a bar: 1m, 15m, 1h, 4h, 1d, 1w …; tick for plain values; default: 1h, or tick for
    /// a series from heartbeats
    #[arg(long, short)]
    timeframe: Option<String>,

    #[command(flatten)]
    choice: Choice,

    /// Time of the signal, RFC 3339, such as 2026-11-21T05:00:00Z; default: now
    #[arg(long, value_name = "TIME")]
    at: Option<String>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum signal`
///
/// # Errors
/// The server refused the request or can't be reached.
pub async fn signal(args: Signal) -> anyhow::Result<()> {
    let timeframe = timeframe_of(args.timeframe.as_deref(), &args.series);
    let mut body = args.choice.fields(timeframe);
    body.insert("series".into(), args.series.clone().into());
    if let Some(at) = &args.at {
        body.insert("at".into(), at.clone().into());
    }
    let reply = args
        .remote
        .call_waiting(Method::POST, "/v1/signals", Some(body.into()))
        .await?;
    let reply = finished(reply)?;
    if args.remote.json {
        return out(&serde_json::to_string_pretty(&reply)?);
    }
    print(&args.series, &reply)
}

fn print(series: &str, reply: &Value) -> anyhow::Result<()> {
    let mut lines = String::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_f64().map_or_else(|| "unknown".to_owned(), show);
    let _ = writeln!(
        lines,
        "{series} {} {} ({}): {}",
        text(&reply["timeframe"]),
        text(&reply["strategy"]),
        text(&reply["mode"]),
        text(&reply["signal"])
    );
    let _ = writeln!(lines, "{}", text(&reply["explanation"]["summary"]));
    if let Some(bar) = reply["bar"].as_str() {
        let _ = writeln!(
            lines,
            "Bar of {bar}, closed at {}.",
            number(&reply["close"])
        );
    }
    let conditions = reply["explanation"]["conditions"].as_array();
    for condition in conditions.into_iter().flatten() {
        let met = match condition["met"].as_bool() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        let _ = writeln!(
            lines,
            "  {:<4} {:<34} {:<4} {} against {}, margin {}",
            text(&condition["side"]),
            format!(
                "{} {} {}",
                text(&condition["left"]),
                text(&condition["op"]),
                text(&condition["right"])
            ),
            met,
            number(&condition["value"]),
            number(&condition["threshold"]),
            number(&condition["margin"]),
        );
    }
    out(lines.trim_end())
}
