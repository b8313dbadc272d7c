//! `thrum import bars`: a CSV file into a series, some hundred bars at a time.

use super::csv::{self, Row};
use crate::remote::{Remote, segment};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// How many bars are sent at a time.
const BATCH: usize = 500;
/// How many rows that were wrong are shown.
const MAX_SHOWN: usize = 10;

/// What to import.
#[derive(Debug, Args)]
pub struct Import {
    #[command(subcommand)]
    what: What,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Bars of a CSV file: `thrum import bars eth.csv --series eth-usd --timeframe 1h`
    Bars {
        /// A file with the header time,open,high,low,close,volume
        file: PathBuf,
        /// The series
        #[arg(long)]
        series: String,
        /// How long a bar lasts: 1m, 15m, 1h, 4h, 1d …
        #[arg(long, default_value = "1h")]
        timeframe: String,
        /// Times without an offset are UTC
        #[arg(long)]
        utc: bool,
        /// Begin with the first row, even if an earlier import of the file broke off later
        #[arg(long)]
        restart: bool,
    },
}

/// How far an import got: kept beside the file until it is through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    server: String,
    modified: Option<std::time::SystemTime>,
    series: String,
    timeframe: String,
    bytes: u64,
    rows: usize,
}

/// `thrum import bars`
///
/// # Errors
/// The file can't be read, the server refused or can't be reached, or a row was wrong.
pub async fn import(args: Import) -> anyhow::Result<()> {
    let What::Bars {
        file,
        series,
        timeframe,
        utc,
        restart,
    } = args.what;
    let rows = csv::read(&file, utc)?;
    let path = format!("/v1/series/{}/bars", segment(&series)?);
    let note = note_of(&file);
    let mut progress = Progress {
        server: args.remote.url().to_owned(),
        modified: std::fs::metadata(&file)?.modified().ok(),
        series,
        timeframe: timeframe.clone(),
        bytes: std::fs::metadata(&file)?.len(),
        rows: 0,
    };
    if let Some(before) = earlier(&note, &progress).filter(|_| !restart) {
        eprintln!(
            "Going on after {} of {} rows; --restart begins anew.",
            before.rows,
            rows.len()
        );
        progress = before;
    }
    let bar = ProgressBar::new(rows.len() as u64).with_position(progress.rows as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} bars, {per_sec}, {eta} left",
    )?);
    let mut counts = [0_u64; 3];
    let mut wrong: Vec<String> = Vec::new();
    let begin = progress.rows.min(rows.len());
    for batch in rows[begin..].chunks(BATCH) {
        let (lines, bars) = sendable(batch, &mut wrong);
        if !bars.is_empty() {
            let body = json!({ "timeframe": timeframe, "bars": bars });
            let reply = args.remote.call(Method::POST, &path, Some(body)).await;
            let reply = reply.with_context(|| {
                format!(
                    "the import stopped at row {}; once that is mended, the same command goes on from there",
                    progress.rows
                )
            })?;
            for (count, name) in counts.iter_mut().zip(["accepted", "unchanged", "revised"]) {
                *count += reply[name].as_u64().unwrap_or(0);
            }
            for rejected in reply["rejected"].as_array().into_iter().flatten() {
                let index = rejected["index"]
                    .as_u64()
                    .and_then(|i| usize::try_from(i).ok())
                    .unwrap_or(0);
                let line = lines.get(index).copied().unwrap_or(0);
                wrong.push(format!(
                    "line {line}: {}",
                    rejected["error"].as_str().unwrap_or_default()
                ));
            }
        }
        progress.rows += batch.len();
        std::fs::write(&note, serde_json::to_vec(&progress)?).ok();
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    std::fs::remove_file(&note).ok();
    let [accepted, unchanged, revised] = counts;
    println!(
        "{accepted} accepted, {unchanged} unchanged, {revised} revised, {} rejected",
        wrong.len()
    );
    for line in wrong.iter().take(MAX_SHOWN) {
        eprintln!("{line}");
    }
    if wrong.len() > MAX_SHOWN {
        eprintln!("… and {} more", wrong.len() - MAX_SHOWN);
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        bail!("{} of the rows were wrong, and are not in", wrong.len())
    }
}

/// The rows that can be sent, and their lines.
fn sendable(rows: &[Row], wrong: &mut Vec<String>) -> (Vec<u64>, Vec<Value>) {
    let (mut lines, mut bars) = (Vec::new(), Vec::new());
    for (line, row) in rows {
        match row {
            Ok(bar) => {
                lines.push(*line);
                bars.push(json!({
                    "time": bar.time.rfc3339(), "open": bar.open, "high": bar.high, "low": bar.low,
                    "close": bar.close, "volume": bar.volume,
                }));
            }
            Err(error) => wrong.push(format!("line {line}: {error}")),
        }
    }
    (lines, bars)
}

fn note_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".thrum-import");
    file.with_file_name(name)
}

/// How far an earlier import of the same file to the same series got.
fn earlier(note: &Path, now: &Progress) -> Option<Progress> {
    let before: Progress = serde_json::from_slice(&std::fs::read(note).ok()?).ok()?;
    let rows = before.rows;
    let same = Progress {
        rows,
        ..now.clone()
    } == before;
    same.then_some(before)
}
