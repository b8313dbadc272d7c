//! The result of a backtest as files.

use super::report::Outcome;
use askama::Template;
use serde_json::Value;
use std::fmt::Write;

#[derive(Template)]
#[template(path = "report.html")]
struct Report<'a> {
    outcome: Outcome,
    style: &'a str,
    version: &'a str,
}

/// A result as an HTML document that needs no other file.
pub fn html(report: &Value) -> String {
    let report = Report {
        outcome: Outcome::new(report),
        style: include_str!("../../../../assets/style.css"),
        version: env!("CARGO_PKG_VERSION"),
    };
    report.render().unwrap_or_else(|error| {
        tracing::error!(%error, "failed to render a report");
        String::new()
    })
}

/// A field as CSV; empty if there is none. Names and times have no characters to escape.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn csv(header: &str, rows: &Value) -> String {
    let mut lines = format!("{header}\n");
    for row in rows.as_array().into_iter().flatten() {
        let cells: Vec<String> = header.split(',').map(|name| cell(&row[name])).collect();
        let _ = writeln!(lines, "{}", cells.join(","));
    }
    lines
}

/// The trades of a result, or the alerts of a detector.
pub fn trades_csv(report: &Value) -> String {
    if report["alerts"].is_array() {
        return csv("from,until,signal,value,values", &report["alerts"]);
    }
    csv(
        "series,side,entered_at,entry_price,exited_at,exit_price,open,exit,bars,size,net_return",
        &report["trades"],
    )
}

/// The equity curve of a result, or the values that a detector judged.
pub fn equity_csv(report: &Value) -> String {
    if report["alerts"].is_array() {
        return csv("time,value", &report["values"]);
    }
    csv("time,equity,buy_and_hold,benchmark", &report["equity"])
}
