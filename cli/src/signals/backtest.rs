//! `thrum backtest`: backtests a strategy, on the server's series or offline on a CSV file.

use super::{Choice, chart, csv, finished};
use crate::remote::{Remote, out, segment};
use anyhow::{Context, bail, ensure};
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::number::show;
use thrum_schema::signal::request::{self, Fill};
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::{Bar, Calendar, Strategy, Timeframe};

const EXAMPLES: &str = "\
Examples:
  thrum backtest eth.csv --strategy sma-cross --param fast=5 --svg chart.svg
  thrum backtest eth.csv --strategy-file mine.json --long-only --trades
  thrum backtest --series eth --timeframe 1d --from 2026-01-01T00:00:00Z";

/// Arguments of `thrum backtest`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Backtest {
    /// CSV file of bars, tested on this machine; or use --series
    ///
    /// Its layout is recognised, as by `thrum import bars`. It may be of any size: the test has at most 200,000 bars up to
    /// --to.
    file: Option<PathBuf>,

    /// Series to test on the server
    #[arg(long, conflicts_with = "file", value_name = "NAME")]
    series: Option<String>,

    /// Length of a bar: 1m, 15m, 1h, 4h, 1d, 1w …
    #[arg(long, short, default_value = "1h")]
    timeframe: String,

    #[command(flatten)]
    choice: Choice,

    /// JSON file with a strategy to use instead of --strategy; only with a CSV file
    #[arg(long, requires = "file", value_name = "FILE")]
    strategy_file: Option<PathBuf>,

    /// First bar, RFC 3339, such as 2026-01-01T00:00:00Z; default: the first bar
    #[arg(long, value_name = "TIME")]
    from: Option<String>,

    /// End, RFC 3339: only bars that open before it; default: the last bar
    #[arg(long, value_name = "TIME")]
    to: Option<String>,

    /// Fee per trade, in basis points (0.01 %) of the traded amount
    #[arg(long, default_value_t = 10.0, value_name = "BPS")]
    fee_bps: f64,

    /// Slippage per trade, in basis points (0.01 %) of the traded amount
    #[arg(long, default_value_t = 5.0, value_name = "BPS")]
    slippage_bps: f64,

    /// Price at which a signal is traded
    ///
    /// next-open: the open of the bar after the signal's. close-to-close: the close that gave the
    /// signal, a price that nobody can trade at in practice; it allows a comparison with Thrum's
    /// predecessor.
    #[arg(long, default_value = "next-open", value_parser = ["next-open", "close-to-close"])]
    fill: String,

    /// Bars per year, for annualized figures; default: from the timeframe, less missing bars
    #[arg(long, value_name = "BARS")]
    annualization: Option<f64>,

    /// On SELL, hold no position instead of a short one
    #[arg(long)]
    long_only: bool,

    /// Treat times without a UTC offset as UTC; by default they are rejected
    #[arg(long, requires = "file")]
    utc: bool,

    /// Which column of the file is what, as in time=Date,open=2,high=3,low=4,close=5; see `thrum import bars --help`
    #[arg(long, requires = "file", value_name = "COLUMNS")]
    columns: Option<csv::Columns>,

    /// Write a chart of price, trades and equity to this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// List all trades
    #[arg(long)]
    trades: bool,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum backtest`
///
/// # Errors
/// The file or the strategy is invalid, or the server refused the request or can't be reached.
pub async fn backtest(args: Backtest) -> anyhow::Result<()> {
    let (report, bars) = match (&args.file, &args.series) {
        (Some(_), None) => offline(&args)?,
        (None, Some(_)) if args.strategy_file.is_some() => {
            bail!(
                "--strategy-file needs a CSV file; to test the strategy on a series, store it with \
                 PUT /v1/strategies/NAME and use --strategy NAME"
            )
        }
        (None, Some(series)) => remote(&args, series).await?,
        _ => bail!("a CSV file or --series is required"),
    };
    if args.remote.json {
        out(&serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&report, args.trades)?;
    }
    if let Some(path) = &args.svg {
        let title = format!(
            "{} {}, {}",
            report["strategy"].as_str().unwrap_or_default(),
            report["timeframe"].as_str().unwrap_or_default(),
            args.series.clone().unwrap_or_else(|| {
                let file = args.file.as_deref().and_then(|file| file.file_stem());
                file.unwrap_or_default().to_string_lossy().into_owned()
            })
        );
        let svg = chart::draw(&title, &bars, &report)?;
        std::fs::write(path, svg).with_context(|| format!("can't write {}", path.display()))?;
        eprintln!("Wrote the chart to {}", path.display());
    }
    Ok(())
}

fn fill_of(args: &Backtest) -> Fill {
    match args.fill.as_str() {
        "close-to-close" => Fill::CloseToClose,
        _ => Fill::NextOpen,
    }
}

fn timestamp(name: &str, text: Option<&String>) -> Result<Option<UnixMs>, Invalid> {
    text.map(|text| UnixMs::parse(name, text)).transpose()
}

fn offline(args: &Backtest) -> anyhow::Result<(Value, Vec<Bar>)> {
    let timeframe = Timeframe::parse("--timeframe", &args.timeframe)?;
    let path = args.file.as_deref().context("a CSV file is required")?;
    let to = timestamp("--to", args.to.as_ref())?;
    let bars = read(args, path, timeframe, to)?;
    let (name, strategy) = match &args.strategy_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("can't read {}", file.display()))?;
            let value: Value = serde_json::from_str(&text)
                .with_context(|| format!("{} is not JSON", file.display()))?;
            (file.display().to_string(), Strategy::parse(&value)?)
        }
        None => {
            let name = &args.choice.strategy;
            let strategy = builtin(name).with_context(|| {
                format!(
                    "{name} is not a built-in strategy; use --strategy-file for your own, or \
                     --series for one on the server"
                )
            })?;
            (name.clone(), strategy.clone())
        }
    };
    let params = args.choice.params.iter().cloned().collect();
    let compiled = strategy.compile(args.choice.mode.as_deref(), &params, timeframe)?;
    let spec = request::Backtest {
        from: timestamp("--from", args.from.as_ref())?,
        to,
        fee_bps: args.fee_bps,
        slippage_bps: args.slippage_bps,
        fill: fill_of(args),
        short: !args.long_only,
        annualization: args.annualization,
        walk_forward: None,
    };
    let bars = thrum_evaluate::fit(bars, &compiled, &spec)
        .map_err(|error| anyhow::anyhow!("--{error}"))?;
    let report = thrum_evaluate::offline(&name, &strategy, &compiled, &bars, &[], &spec)?;
    Ok((report, bars))
}

/// The last bars of a file before `to`, one more than a backtest can have: the file may have any
/// size, and any order.
fn read(
    args: &Backtest,
    path: &Path,
    timeframe: Timeframe,
    to: Option<UnixMs>,
) -> anyhow::Result<Vec<Bar>> {
    let options = csv::Options {
        utc: args.utc,
        columns: args.columns.clone(),
    };
    let rows = csv::open(path, &options)?;
    if !args.remote.json {
        eprintln!("{}: {}", path.display(), rows.layout);
    }
    let most = request::MAX_BACKTEST_BARS + 1;
    let mut bars = BTreeMap::new();
    let mut first = None;
    for row in rows {
        let (line, row) = row?;
        let bar = row.map_err(|error| anyhow::anyhow!("line {line}: {error}"))?;
        let first = *first.get_or_insert(bar.time);
        let calendar = Calendar::of_bars(timeframe, first, bar.time);
        bar.check(timeframe, &calendar, UnixMs(i64::MAX / 2))
            .map_err(|error| anyhow::anyhow!("line {line}: {error}"))?;
        if to.is_none_or(|to| bar.time < to) {
            bars.insert(bar.time, bar);
        }
        if bars.len() > 2 * most {
            let oldest = bars.keys().nth(bars.len() - most).copied();
            bars = bars.split_off(&oldest.unwrap_or_default());
        }
    }
    ensure!(first.is_some(), "{} has no rows", path.display());
    let less = bars.len().saturating_sub(most);
    Ok(bars.into_values().skip(less).collect())
}

async fn remote(args: &Backtest, series: &str) -> anyhow::Result<(Value, Vec<Bar>)> {
    let mut body: Map<String, Value> = args.choice.fields(&args.timeframe);
    body.insert("series".into(), series.into());
    body.insert("fee_bps".into(), args.fee_bps.into());
    body.insert("slippage_bps".into(), args.slippage_bps.into());
    body.insert("fill".into(), args.fill.replace('-', "_").into());
    body.insert("short".into(), (!args.long_only).into());
    for (name, value) in [("from", &args.from), ("to", &args.to)] {
        if let Some(value) = value {
            body.insert(name.into(), value.clone().into());
        }
    }
    if let Some(annualization) = args.annualization {
        body.insert("annualization".into(), annualization.into());
    }
    let mut reply = args
        .remote
        .call_waiting(Method::POST, "/v1/backtests", Some(body.into()))
        .await?;
    let href = reply["href"].as_str().unwrap_or_default().to_owned();
    while reply["status"] == "queued" {
        eprintln!("waiting for the backtest …");
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        reply = args.remote.call(Method::GET, &href, None).await?;
    }
    let report = finished(reply)?;
    let mut bars = Vec::new();
    if args.svg.is_some() {
        let mut from = report["from"].as_str().unwrap_or_default().to_owned();
        let to = report["to"].as_str().unwrap_or_default().to_owned();
        loop {
            let path = format!(
                "/v1/series/{}/bars?timeframe={}&limit=1000&from={from}",
                segment(series)?,
                args.timeframe
            );
            let page = args.remote.call(Method::GET, &path, None).await?;
            for bar in page["bars"].as_array().into_iter().flatten() {
                let number = |name: &str| bar[name].as_f64().unwrap_or_default();
                let time = timestamp("time", bar["time"].as_str().map(str::to_owned).as_ref())?;
                bars.push(Bar {
                    time: time.unwrap_or_default(),
                    open: number("open"),
                    high: number("high"),
                    low: number("low"),
                    close: number("close"),
                    volume: None,
                });
            }
            match page["next_from"].as_str() {
                Some(next) if next <= to.as_str() => next.clone_into(&mut from),
                _ => break,
            }
        }
    }
    Ok((report, bars))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn percent(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |x| format!("{:.2} %", x * 100.0))
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), show)
}

fn print(report: &Value, trades: bool) -> anyhow::Result<()> {
    let mut lines = String::new();
    print_inputs(&mut lines, report);
    lines.push('\n');
    print_results(&mut lines, report);
    if trades {
        lines.push('\n');
        print_trades(&mut lines, report);
    }
    out(lines.trim_end())
}

fn print_inputs(lines: &mut String, report: &Value) {
    let _ = writeln!(
        lines,
        "{} ({}) on {} bars of {}, {} to {}",
        text(&report["strategy"]),
        text(&report["mode"]),
        number(&report["rows"]),
        text(&report["timeframe"]),
        text(&report["from"]),
        text(&report["to"])
    );
    let _ = writeln!(
        lines,
        "fill {}, fee {} bps, slippage {} bps, {} bars per year{}",
        text(&report["fill"]).replace('_', " "),
        number(&report["fee_bps"]),
        number(&report["slippage_bps"]),
        number(&report["annualization"]),
        match report["missing_bars"].as_i64() {
            Some(missing @ 1..) => format!(", {missing} bars missing"),
            _ => String::new(),
        }
    );
}

fn print_results(lines: &mut String, report: &Value) {
    let _ = writeln!(lines, "{:<16}{:>14}{:>16}", "", "strategy", "buy and hold");
    let held = &report["buy_and_hold"];
    for (label, name, is_percent) in [
        ("total return", "total_return", true),
        ("CAGR", "cagr", true),
        ("volatility", "volatility", true),
        ("Sharpe", "sharpe", false),
        ("Sortino", "sortino", false),
        ("max drawdown", "max_drawdown", true),
    ] {
        let cell = |of: &Value| {
            if is_percent {
                percent(&of[name])
            } else {
                number(&of[name])
            }
        };
        let _ = writeln!(lines, "{label:<16}{:>14}{:>16}", cell(report), cell(held));
    }
    for (label, cell) in [
        ("round trips", number(&report["round_trips"])),
        ("win rate", percent(&report["win_rate"])),
        ("profit factor", number(&report["profit_factor"])),
        ("exposure", percent(&report["exposure"])),
        ("turnover", number(&report["turnover"])),
    ] {
        let _ = writeln!(lines, "{label:<16}{cell:>14}");
    }
    let _ = writeln!(
        lines,
        "\nMaximum drawdown from {} to {}. Look-ahead: {}.",
        text(&report["max_drawdown_from"]),
        text(&report["max_drawdown_to"]),
        if report["look_ahead"]["clean"] == true {
            "none (no signal changed when later bars were removed)"
        } else {
            "FOUND (signals changed when later bars were removed)"
        }
    );
}

fn print_trades(lines: &mut String, report: &Value) {
    for trade in report["trades"].as_array().into_iter().flatten() {
        let _ = writeln!(
            lines,
            "{:<6}{} at {:<12}{} at {:<12}{:>10}{}",
            text(&trade["side"]),
            text(&trade["entered_at"]),
            number(&trade["entry_price"]),
            text(&trade["exited_at"]),
            number(&trade["exit_price"]),
            percent(&trade["net_return"]),
            if trade["open"] == true { "  open" } else { "" }
        );
    }
}
