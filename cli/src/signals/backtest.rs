//! `thrum backtest`: what following a strategy would have come to, on a series or offline on a CSV file.

use super::{Choice, chart, csv, finished};
use crate::remote::{Remote, out, segment};
use anyhow::{Context, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use thrum_schema::UnixMs;
use thrum_schema::signal::compile::show;
use thrum_schema::signal::request::{self, Fill};
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::{Bar, Strategy, Timeframe};

/// What to test.
#[derive(Debug, Args)]
pub struct Backtest {
    /// A CSV file of bars, tested here; or else --series, tested by the server
    file: Option<PathBuf>,

    /// The series
    #[arg(long, conflicts_with = "file")]
    series: Option<String>,

    /// How long a bar lasts
    #[arg(long, short, default_value = "1h")]
    timeframe: String,

    #[command(flatten)]
    choice: Choice,

    /// A file with a strategy as JSON, in place of --strategy (with a CSV file)
    #[arg(long, requires = "file")]
    strategy_file: Option<PathBuf>,

    /// From this bar on, such as 2026-01-01T00:00:00Z
    #[arg(long)]
    from: Option<String>,

    /// Before this instant
    #[arg(long)]
    to: Option<String>,

    /// Fee, in hundredths of a per cent of what is traded
    #[arg(long, default_value_t = 10.0)]
    fee_bps: f64,

    /// Slippage, likewise
    #[arg(long, default_value_t = 5.0)]
    slippage_bps: f64,

    /// next-open, or close-to-close as the predecessor reckoned
    #[arg(long, default_value = "next-open", value_parser = ["next-open", "close-to-close"])]
    fill: String,

    /// Bars in a year; by the timeframe and the bars without it
    #[arg(long)]
    annualization: Option<f64>,

    /// SELL is no short position, only none
    #[arg(long)]
    long_only: bool,

    /// Times of the file without an offset are UTC
    #[arg(long, requires = "file")]
    utc: bool,

    /// Draw price, trades and equity into this file
    #[arg(long)]
    svg: Option<PathBuf>,

    /// List every trade
    #[arg(long)]
    trades: bool,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum backtest`
///
/// # Errors
/// The file or the strategy is wrong, or the server refused or can't be reached.
pub async fn backtest(args: Backtest) -> anyhow::Result<()> {
    let (report, bars) = match (&args.file, &args.series) {
        (Some(_), None) => offline(&args)?,
        (None, Some(_)) if args.strategy_file.is_some() => {
            bail!(
                "--strategy-file is for a CSV file; PUT the strategy to the server to test it on a series"
            )
        }
        (None, Some(series)) => remote(&args, series).await?,
        _ => bail!("give a CSV file to test here, or --series to test on the server"),
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
        std::fs::write(path, svg)
            .with_context(|| format!("{} can't be written", path.display()))?;
        eprintln!("Drawn into {}", path.display());
    }
    Ok(())
}

fn fill_of(args: &Backtest) -> Fill {
    match args.fill.as_str() {
        "close-to-close" => Fill::CloseToClose,
        _ => Fill::NextOpen,
    }
}

fn instant(name: &str, text: Option<&String>) -> anyhow::Result<Option<UnixMs>> {
    let parse = |text: &String| {
        let at = chrono::DateTime::parse_from_rfc3339(text);
        let at = at
            .with_context(|| format!("--{name} must be an instant such as 2026-01-01T00:00:00Z"))?;
        Ok(UnixMs(at.timestamp_millis()))
    };
    text.map(parse).transpose()
}

fn offline(args: &Backtest) -> anyhow::Result<(Value, Vec<Bar>)> {
    let timeframe = Timeframe::parse("--timeframe", &args.timeframe)?;
    let path = args.file.as_deref().context("a file is needed")?;
    let mut bars = BTreeMap::new();
    for (line, row) in csv::read(path, args.utc)? {
        let bar = row.map_err(|error| anyhow::anyhow!("line {line}: {error}"))?;
        bar.check(timeframe, UnixMs(i64::MAX / 2))
            .map_err(|error| anyhow::anyhow!("line {line}: {error}"))?;
        bars.insert(bar.time, bar);
    }
    let bars: Vec<Bar> = bars.into_values().collect();
    if bars.len() > request::MAX_BACKTEST_BARS {
        bail!(
            "at most {} bars are tested at a time",
            request::MAX_BACKTEST_BARS
        );
    }
    let (name, strategy) = match &args.strategy_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("{} can't be read", file.display()))?;
            let value: Value = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON", file.display()))?;
            (file.display().to_string(), Strategy::parse(&value)?)
        }
        None => {
            let name = &args.choice.strategy;
            let strategy = builtin(name).with_context(|| {
                format!("{name} is not built in; --strategy-file takes one of your own, or --series asks the server")
            })?;
            (name.clone(), strategy.clone())
        }
    };
    let params = args.choice.params.iter().cloned().collect();
    let compiled = strategy.compile(args.choice.mode.as_deref(), &params, timeframe)?;
    let spec = request::Backtest {
        from: instant("from", args.from.as_ref())?,
        to: instant("to", args.to.as_ref())?,
        fee_bps: args.fee_bps,
        slippage_bps: args.slippage_bps,
        fill: fill_of(args),
        short: !args.long_only,
        annualization: args.annualization,
        walk_forward: None,
    };
    let report = thrum_evaluate::offline(&name, &strategy, &compiled, &bars, &[], &spec)?;
    Ok((report, bars))
}

async fn remote(args: &Backtest, series: &str) -> anyhow::Result<(Value, Vec<Bar>)> {
    let mut body: Map<String, Value> = args.choice.members(&args.timeframe);
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
        eprintln!("still at it …");
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
                let time = instant("time", bar["time"].as_str().map(str::to_owned).as_ref())?;
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

fn print(report: &Value, trades: bool) -> anyhow::Result<()> {
    let mut lines = String::new();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let percent = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |x| format!("{:.2} %", x * 100.0))
    };
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), show);
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
        "filled at {}, fee {} bps, slippage {} bps, {} bars a year{}",
        text(&report["fill"]).replace('_', " "),
        number(&report["fee_bps"]),
        number(&report["slippage_bps"]),
        number(&report["annualization"]),
        match report["missing_bars"].as_i64() {
            Some(missing @ 1..) => format!(", {missing} bars are missing"),
            _ => String::new(),
        }
    );
    lines.push('\n');
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
        "\nDeepest fall from {} to {}. Look-ahead: {}.",
        text(&report["max_drawdown_from"]),
        text(&report["max_drawdown_to"]),
        if report["look_ahead"]["clean"] == true {
            "none, no signal changed when the future was cut off"
        } else {
            "FOUND, signals changed when the future was cut off"
        }
    );
    if !trades {
        return out(lines.trim_end());
    }
    lines.push('\n');
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
    out(lines.trim_end())
}
