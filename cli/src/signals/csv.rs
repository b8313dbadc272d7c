//! Reads bars from CSV files.

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use thrum_schema::UnixMs;
use thrum_schema::signal::Bar;

/// Names of the time column.
const TIME: [&str; 5] = ["time", "timestamp", "date", "datetime", "open_time"];

/// A row: its line number, and its bar or an error.
pub type Row = (u64, Result<Bar, String>);

/// Reads a CSV file whose header has `time`, `open`, `high`, `low`, `close` and optionally
/// `volume`, in any order; other columns are ignored. A row with a timestamp without an offset is
/// an error, unless `utc` says that such timestamps are UTC.
///
/// # Errors
/// The file can't be read, has no rows or lacks a column.
pub fn read(path: &Path, utc: bool) -> anyhow::Result<Vec<Row>> {
    let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    parse(file, &path.display().to_string(), utc)
}

/// Like [`read`], from any reader; `name` stands for the file in errors.
///
/// # Errors
/// The input can't be read, has no rows or lacks a column.
pub fn parse(from: impl Read, name: &str, utc: bool) -> anyhow::Result<Vec<Row>> {
    let mut reader = ::csv::ReaderBuilder::new()
        .flexible(true)
        .trim(::csv::Trim::All)
        .from_reader(from);
    let header: Vec<String> = reader
        .headers()?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_lowercase())
        .collect();
    let column = |names: &[&str]| {
        header
            .iter()
            .position(|name| names.contains(&name.as_str()))
    };
    let required = |names: &[&str]| {
        column(names).with_context(|| {
            format!(
                "{name} has no column {:?}; the header must be time,open,high,low,close,volume",
                names[0]
            )
        })
    };
    let time = required(&TIME)?;
    let prices = [
        required(&["open"])?,
        required(&["high"])?,
        required(&["low"])?,
        required(&["close"])?,
    ];
    let volume = column(&["volume"]);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, ::csv::Position::line);
        let number = |i: usize| {
            let name = header.get(i).map_or("", String::as_str);
            let text = record.get(i).unwrap_or_default();
            text.parse::<f64>()
                .ok()
                .filter(|x| x.is_finite())
                .ok_or_else(|| format!("{name} must be a number (got {text:?})"))
        };
        let bar = || -> Result<Bar, String> {
            Ok(Bar {
                time: timestamp(record.get(time).unwrap_or_default(), utc)?,
                open: number(prices[0])?,
                high: number(prices[1])?,
                low: number(prices[2])?,
                close: number(prices[3])?,
                volume: match volume.and_then(|i| record.get(i)) {
                    None | Some("") => None,
                    Some(_) => Some(number(volume.unwrap_or_default())?),
                },
            })
        };
        rows.push((line, bar()));
    }
    if rows.is_empty() {
        bail!("{name} has no rows");
    }
    Ok(rows)
}

fn timestamp(text: &str, utc: bool) -> Result<UnixMs, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(UnixMs(at.timestamp_millis()));
    }
    let naive = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .ok()?
                .and_hms_opt(0, 0, 0)
        });
    match naive {
        Some(naive) if utc => Ok(UnixMs(naive.and_utc().timestamp_millis())),
        Some(_) => Err(format!(
            "time {text:?} has no UTC offset; pass --utc if the times are UTC"
        )),
        None => Err(format!(
            "time must be a timestamp such as 2026-11-21T05:00:00Z (got {text:?})"
        )),
    }
}
