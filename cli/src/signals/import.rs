//! `thrum import`: sends a CSV file to a series, in batches, and brings over what other programs have.

use super::csv::{self, Row, Rows};
use crate::remote::{Healthchecks, Kuma, Remote, segment};
use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rows per request.
const BATCH: usize = 500;
/// How often to say how far the import is, if stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Maximum number of rejected rows to print.
const MAX_SHOWN: usize = 10;

const BARS_EXAMPLES: &str = "\
Examples:
  thrum import bars eth.csv --series eth
  thrum import bars BTCUSDT-1m-2026-10.csv.gz --series btc --timeframe 1m
  thrum import bars days.csv --series eth --timeframe 1d --columns time=Day,open=O,high=H,low=L,close=C";

const VALUES_EXAMPLES: &str = "\
Examples:
  thrum import values rows.csv --series rows
  thrum import values hits.csv --series hits --timeframe 1h --columns time=1,value=3";

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
        #[command(flatten)]
        source: Source,
        /// Length of a bar: 1m, 15m, 1h, 4h, 1d, 1w …
        #[arg(long, default_value = "1h")]
        timeframe: String,
    },
    /// Import plain values
    ///
    /// The file has the columns time and value. Apart from that, it is like `thrum import bars`.
    #[command(after_help = VALUES_EXAMPLES)]
    Values {
        #[command(flatten)]
        source: Source,
        /// Time between two values: 1m, 1h, 1d …, or tick for any
        #[arg(long, default_value = "tick")]
        timeframe: String,
    },
    /// Import the checks of Healthchecks, so that their ping URLs go on working here
    ///
    /// Checks keep their UUIDs: once the name of the old server leads to this one, no client has to
    /// change. Importing again updates what differs. Channels are assigned by name.
    Healthchecks(Healthchecks),
    /// Import the push monitors and notifications of Uptime Kuma, so that their push URLs go on working
    /// here
    ///
    /// Importing again updates what differs.
    UptimeKuma(Kuma),
}

/// The file, and the series that it belongs to.
#[derive(Debug, Args)]
struct Source {
    /// CSV file, or one compressed with gzip
    ///
    /// These layouts are recognised: columns with the names time, open, high, low, close and volume, in any order, separated
    /// by commas, semicolons or tabs; and the files of Binance (with and without a header), Kraken, CryptoDataDownload,
    /// TradingView, Yahoo Finance and Stooq. The time of a bar is when it opens: 2026-11-21T05:00:00Z, a date, or a Unix
    /// time.
    file: PathBuf,
    /// Name of the series
    #[arg(long, value_name = "NAME")]
    series: String,
    /// Which column is what, by name or by position from 1, as in time=Date,open=2,high=3,low=4,close=5
    ///
    /// The parts are time, clock (the time of day, if it has a column of its own), open, high, low, close, volume; or value.
    #[arg(long, value_name = "COLUMNS")]
    columns: Option<csv::Columns>,
    /// Treat times without a UTC offset as UTC; by default they are rejected
    #[arg(long)]
    utc: bool,
    /// Start with the first row, even if an earlier import of this file was interrupted
    #[arg(long)]
    restart: bool,
}

/// What a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Bars,
    Values,
}

impl Holds {
    const fn name(self) -> &'static str {
        match self {
            Self::Bars => "bars",
            Self::Values => "values",
        }
    }
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

/// `thrum import`
///
/// # Errors
/// The file can't be read, the server refused the request or can't be reached, or a row was
/// rejected.
pub async fn import(args: Import) -> anyhow::Result<()> {
    let (holds, source, timeframe) = match args.what {
        What::Bars { source, timeframe } => (Holds::Bars, source, timeframe),
        What::Values { source, timeframe } => (Holds::Values, source, timeframe),
        What::Healthchecks(other) => return other.import(&args.remote).await,
        What::UptimeKuma(other) => return other.import(&args.remote).await,
    };
    let file = &source.file;
    let options = csv::Options {
        utc: source.utc,
        columns: source.columns,
    };
    let mut rows = csv::open(file, &options)?;
    let has_values = rows.layout.columns.value.is_some();
    ensure!(
        has_values == (holds == Holds::Values),
        "{} has {}; use `thrum import {}`",
        file.display(),
        rows.layout,
        if has_values { "values" } else { "bars" }
    );
    eprintln!("{}: {}", file.display(), rows.layout);
    let path = format!("/v1/series/{}/{}", segment(&source.series)?, holds.name());
    let progress_file = progress_file(file);
    let mut progress = Progress {
        server: args.remote.url().to_owned(),
        modified: std::fs::metadata(file)?.modified().ok(),
        series: source.series,
        timeframe: timeframe.clone(),
        bytes: rows.size,
        rows: 0,
    };
    if let Some(before) = earlier(&progress_file, &progress).filter(|_| !source.restart) {
        eprintln!(
            "Continuing after {} rows; --restart starts again from the first row.",
            before.rows
        );
        progress = before;
        for row in rows.by_ref().take(progress.rows) {
            drop(row?);
        }
    }
    let mut shown = Shown::new(rows.size)?;
    let mut tally = Tally::default();
    let mut total = progress.rows;
    loop {
        let batch: Vec<Row> = rows.by_ref().take(BATCH).collect::<anyhow::Result<_>>()?;
        if batch.is_empty() {
            break;
        }
        let (lines, items) = sendable(holds, &batch, &mut tally.rejected);
        if !items.is_empty() {
            let body = json!({ "timeframe": timeframe, holds.name(): items });
            let reply = args.remote.call(Method::POST, &path, Some(body)).await;
            let reply = reply.with_context(|| {
                format!(
                    "the import stopped after {} rows; run the same command again to continue",
                    progress.rows
                )
            })?;
            tally.add(&reply, &lines);
        }
        total += batch.len();
        progress.rows = total;
        std::fs::write(&progress_file, serde_json::to_vec(&progress)?).ok();
        shown.at(&rows, total);
    }
    shown.bar.finish_and_clear();
    std::fs::remove_file(&progress_file).ok();
    ensure!(total > 0, "{} has no rows", file.display());
    tally.print()
}

/// Shows how far an import is: as a bar on a terminal, otherwise as a line now and then.
struct Shown {
    bar: ProgressBar,
    size: u64,
    begun: Instant,
    last_line: Instant,
}

impl Shown {
    fn new(size: u64) -> anyhow::Result<Self> {
        let bar = ProgressBar::new(size);
        bar.set_style(ProgressStyle::with_template(
            "{bar:40} {percent} %, {msg}, {eta} left",
        )?);
        Ok(Self {
            bar,
            size,
            begun: Instant::now(),
            last_line: Instant::now(),
        })
    }

    fn at(&mut self, rows: &Rows, total: usize) {
        self.bar.set_position(rows.bytes().min(self.size));
        self.bar.set_message(format!("{total} rows"));
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let percent = (100 * rows.bytes())
                .checked_div(self.size)
                .unwrap_or(0)
                .min(100);
            let seconds = self.begun.elapsed().as_secs();
            eprintln!("{total} rows, {percent} %, after {seconds} s");
        }
    }
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
fn sendable(holds: Holds, rows: &[Row], wrong: &mut Vec<String>) -> (Vec<u64>, Vec<Value>) {
    let (mut lines, mut bars) = (Vec::new(), Vec::new());
    for (line, row) in rows {
        match row {
            Ok(bar) => {
                lines.push(*line);
                let time = bar.time.rfc3339();
                bars.push(match holds {
                    Holds::Values => json!({ "time": time, "value": bar.close }),
                    Holds::Bars => json!({
                        "time": time, "open": bar.open, "high": bar.high, "low": bar.low,
                        "close": bar.close, "volume": bar.volume,
                    }),
                });
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
