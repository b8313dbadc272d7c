//! `thrum import bars`: sends a CSV file to a series, in batches.

use super::csv::{self, Row};
use crate::remote::{Remote, segment};
use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Bars per request.
const BATCH: usize = 500;
/// Maximum number of rejected rows to print.
const MAX_SHOWN: usize = 10;

const BARS_EXAMPLES: &str = "\
Examples:
  thrum import bars eth.csv --series eth
  thrum import bars days.csv --series eth --timeframe 1d --utc";

/// Arguments of `thrum import`.
#[derive(Debug, Args)]
pub struct Import {
    #[command(subcommand)]
    what: What,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Import price bars
    ///
    /// Valid rows are imported even if others are rejected; the first 10 rejected rows are listed.
    /// If an import is interrupted, the same command continues where it stopped. Importing a bar
    /// again changes nothing; with other numbers, it replaces the bar.
    #[command(after_help = BARS_EXAMPLES)]
    Bars {
        /// CSV file with the columns time, open, high, low, close and, optionally, volume
        ///
        /// Columns may have any order; others are ignored. The time of a bar is when it opens, such
        /// as 2026-11-21T05:00:00Z.
        file: PathBuf,
        /// Name of the series
        #[arg(long, value_name = "NAME")]
        series: String,
        /// Length of a bar: 1m, 15m, 1h, 4h, 1d, 1w …
        #[arg(long, default_value = "1h")]
        timeframe: String,
        /// Treat times without a UTC offset as UTC; by default they are rejected
        #[arg(long)]
        utc: bool,
        /// Start with the first row, even if an earlier import of this file was interrupted
        #[arg(long)]
        restart: bool,
    },
}

/// How far an import got; stored beside the CSV file until the import is complete.
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
/// The file can't be read, the server refused the request or can't be reached, or a row was
/// rejected.
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
    let progress_file = progress_file(&file);
    let mut progress = Progress {
        server: args.remote.url().to_owned(),
        modified: std::fs::metadata(&file)?.modified().ok(),
        series,
        timeframe: timeframe.clone(),
        bytes: std::fs::metadata(&file)?.len(),
        rows: 0,
    };
    if let Some(before) = earlier(&progress_file, &progress).filter(|_| !restart) {
        eprintln!(
            "Continuing after {} of {} rows; --restart starts again from the first row.",
            before.rows,
            rows.len()
        );
        progress = before;
    }
    let bar = ProgressBar::new(rows.len() as u64).with_position(progress.rows as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} bars, {per_sec}, {eta} left",
    )?);
    let mut tally = Tally::default();
    let begin = progress.rows.min(rows.len());
    for batch in rows[begin..].chunks(BATCH) {
        let (lines, bars) = sendable(batch, &mut tally.rejected);
        if !bars.is_empty() {
            let body = json!({ "timeframe": timeframe, "bars": bars });
            let reply = args.remote.call(Method::POST, &path, Some(body)).await;
            let reply = reply.with_context(|| {
                format!(
                    "the import stopped after {} rows; run the same command again to continue",
                    progress.rows
                )
            })?;
            tally.add(&reply, &lines);
        }
        progress.rows += batch.len();
        std::fs::write(&progress_file, serde_json::to_vec(&progress)?).ok();
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    std::fs::remove_file(&progress_file).ok();
    tally.print()
}

/// What became of the rows.
#[derive(Default)]
struct Tally {
    accepted: u64,
    unchanged: u64,
    revised: u64,
    /// The errors, with their lines.
    rejected: Vec<String>,
}

impl Tally {
    /// Counts a batch; `lines` are the lines of its rows.
    fn add(&mut self, reply: &Value, lines: &[u64]) {
        let count = |name: &str| reply[name].as_u64().unwrap_or(0);
        self.accepted += count("accepted");
        self.unchanged += count("unchanged");
        self.revised += count("revised");
        for rejected in reply["rejected"].as_array().into_iter().flatten() {
            let index = rejected["index"]
                .as_u64()
                .and_then(|i| usize::try_from(i).ok())
                .unwrap_or(0);
            let line = lines.get(index).copied().unwrap_or(0);
            let error = rejected["error"].as_str().unwrap_or_default();
            self.rejected.push(format!("line {line}: {error}"));
        }
    }

    fn print(&self) -> anyhow::Result<()> {
        let rejected = self.rejected.len();
        println!(
            "{} accepted, {} unchanged, {} revised, {rejected} rejected",
            self.accepted, self.unchanged, self.revised
        );
        for line in self.rejected.iter().take(MAX_SHOWN) {
            eprintln!("{line}");
        }
        if rejected > MAX_SHOWN {
            eprintln!("… and {} more", rejected - MAX_SHOWN);
        }
        ensure!(
            rejected == 0,
            "not every row was imported (rejected: {rejected})"
        );
        Ok(())
    }
}

/// The valid rows as JSON, with their line numbers; errors go to `wrong`.
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

fn progress_file(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".thrum-import");
    file.with_file_name(name)
}

/// The progress of an earlier import of the same file into the same series.
fn earlier(progress_file: &Path, now: &Progress) -> Option<Progress> {
    let before: Progress = serde_json::from_slice(&std::fs::read(progress_file).ok()?).ok()?;
    let rows = before.rows;
    let same = Progress {
        rows,
        ..now.clone()
    } == before;
    same.then_some(before)
}
