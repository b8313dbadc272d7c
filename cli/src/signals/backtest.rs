//! `thrum backtest`: backtests a strategy, on the server's series or offline on CSV files.

mod options;
mod print;

use super::{Choice, chart, csv, finished, timeframe_of};
use crate::remote::{Remote, out, segment};
use anyhow::{Context, bail, ensure};
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thrum_evaluate::Input;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::request::{self, Fill, Grid, MonteCarlo, Part, Sizing, WalkForward};
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::{Bar, Calendar, SeriesName, Strategy, Timeframe};

/// [`request::MAX_BACKTEST_BARS`], as a number of points.
const MAX_BACKTEST_BARS: u32 = 200_000;

const EXAMPLES: &str = "\
Examples:
  thrum backtest eth.csv --strategy sma-cross --param fast=5 --svg chart.svg
  thrum backtest eth.csv --strategy-file mine.json --long-only --trades --html report.html
  thrum backtest eth.csv btc.csv --weights 0.6,0.4 --size volatility=0.2 --benchmark btc.csv
  thrum backtest eth.csv --strategy sma-cross --grid fast=5,10,20 --grid slow=50,100
  thrum backtest eth.csv --strategy sma-cross --grid fast=5,10,20 --walk-forward 2000,500
  thrum backtest rows.csv --strategy auto
  thrum backtest --series eth --timeframe 1d --from 2026-01-01T00:00:00Z";

/// Arguments of `thrum backtest`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Backtest {
    /// CSV files of bars, to test on this machine; several form a portfolio. Or use --series
    ///
    /// Thrum recognises their layout, like `thrum import bars`. A file can have any size; Thrum tests at most the last 200,000
    /// bars before --to. A detector also accepts a file of times and values, and reports how often it would have sent an
    /// alert.
    files: Vec<PathBuf>,

    /// Series to test on the server; repeatable: several form a portfolio
    #[arg(long, conflicts_with = "files", value_name = "NAME")]
    series: Vec<String>,

    /// Length of a bar: 1m, 15m, 1h, 4h, 1d, 1w …; default: 1h, or tick for values
    #[arg(long, short)]
    timeframe: Option<String>,

    #[command(flatten)]
    choice: Choice,

    /// JSON file with a strategy to use instead of --strategy; only with a CSV file
    #[arg(long, requires = "files", value_name = "FILE")]
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

    /// Weight of each series, such as 0.6,0.4; default: equal weights
    #[arg(long, value_delimiter = ',', value_name = "WEIGHTS")]
    weights: Vec<f64>,

    /// How much an entry invests: fraction=0.5 of the equity, fixed=0.1 of the starting capital, or volatility=0.2 (the fraction
    /// of the equity that gives this annual volatility, measured over the last 20 bars; volatility=0.2,50 measures over 50);
    /// default: the whole equity
    #[arg(long, value_name = "SIZE", value_parser = options::sizing)]
    size: Option<Sizing>,

    /// Series to compare with; with CSV files, the CSV file of that series
    #[arg(long, value_name = "SERIES")]
    benchmark: Option<String>,

    /// Values to try for a parameter, such as fast=5,10,20; repeatable: every combination is tried
    #[arg(long, value_name = "NAME=NUMBERS", value_parser = options::values)]
    grid: Vec<(String, Vec<f64>)>,

    /// Walk-forward test: repeatedly choose the best combination of --grid on TRAIN bars and test it on the next TEST bars
    #[arg(long, requires = "grid", value_name = "TRAIN,TEST", value_parser = options::stretches)]
    walk_forward: Option<(u32, u32)>,

    /// Shuffle and resample the trades in this many Monte Carlo runs, 100 to 10,000
    #[arg(long, value_name = "RUNS")]
    monte_carlo: Option<u32>,

    /// Seed of --monte-carlo: the same seed gives the same result
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,

    /// Treat times without a UTC offset as UTC; by default they are rejected
    #[arg(long, requires = "files")]
    utc: bool,

    /// Which column of the file is what, as in time=Date,open=2,high=3,low=4,close=5; see `thrum import bars --help`
    #[arg(long, requires = "files", value_name = "COLUMNS")]
    columns: Option<csv::Columns>,

    /// Write a chart of price, trades and equity to this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Write a self-contained report to this HTML file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write the trades to this CSV file
    #[arg(long, value_name = "FILE")]
    trades_csv: Option<PathBuf>,

    /// Write the equity curve to this CSV file
    #[arg(long, value_name = "FILE")]
    equity_csv: Option<PathBuf>,

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
    ensure!(
        args.svg.is_none() || names(&args).len() < 2,
        "--svg draws one series; use --html for a portfolio"
    );
    let (report, bars) = match (args.files.is_empty(), args.series.is_empty()) {
        (false, _) => offline(&args)?,
        (true, false) if args.strategy_file.is_some() => {
            bail!(
                "--strategy-file needs a CSV file; to test the strategy on a series, store it with \
                 `thrum strategies set NAME FILE` and use --strategy NAME"
            )
        }
        (true, false) => remote(&args).await?,
        (true, true) => bail!("a CSV file or --series is required"),
    };
    if args.remote.json {
        out(&serde_json::to_string_pretty(&report)?)?;
    } else {
        print::print(&report, args.trades)?;
    }
    let write =
        |path: &Option<PathBuf>, what: &str, content: &dyn Fn() -> anyhow::Result<String>| {
            let Some(path) = path else {
                return Ok(());
            };
            std::fs::write(path, content()?)
                .with_context(|| format!("can't write {}", path.display()))?;
            eprintln!("Wrote the {what} to {}", path.display());
            anyhow::Ok(())
        };
    write(&args.html, "report", &|| {
        Ok(thrum_ingest::backtest_html(&report))
    })?;
    write(&args.svg, "chart", &|| {
        ensure!(
            report["equity"].is_array(),
            "--svg draws trades, and a detector has none; use --html"
        );
        let title = format!(
            "{} {}, {}",
            report["strategy"].as_str().unwrap_or_default(),
            report["timeframe"].as_str().unwrap_or_default(),
            names(&args).join(", ")
        );
        chart::draw(&title, &bars, &report)
    })?;
    let listed = if report["alerts"].is_array() {
        "alerts"
    } else {
        "trades"
    };
    write(&args.trades_csv, listed, &|| {
        Ok(thrum_ingest::trades_csv(&report))
    })?;
    write(&args.equity_csv, "equity curve", &|| {
        Ok(thrum_ingest::equity_csv(&report))
    })
}

/// The names of what is tested.
fn names(args: &Backtest) -> Vec<String> {
    if args.files.is_empty() {
        return args.series.clone();
    }
    args.files.iter().map(|file| stem(file)).collect()
}

/// The name of a file, without its folder and endings.
fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// What is tested, and how, without the strategy.
fn spec(args: &Backtest, names: &[String]) -> anyhow::Result<request::Backtest> {
    if !args.weights.is_empty() && args.weights.len() != names.len() {
        bail!(
            "--weights must have one number per series (got {} for {} series)",
            args.weights.len(),
            names.len()
        );
    }
    let parts = if names.len() > 1 { names } else { &[] };
    if parts.is_empty() && !args.weights.is_empty() {
        bail!("--weights needs several series");
    }
    let portfolio = parts.iter().enumerate().map(|(i, name)| {
        #[expect(clippy::cast_precision_loss, reason = "a few series")]
        let equal = 1.0 / names.len() as f64;
        Ok(Part {
            series: SeriesName::parse("the name of a series", name)?,
            weight: args.weights.get(i).copied().unwrap_or(equal),
        })
    });
    let portfolio = portfolio.collect::<Result<Vec<Part>, Invalid>>()?;
    let grid: Grid = args.grid.iter().cloned().collect();
    let walk_forward = args
        .walk_forward
        .map(|(train_bars, test_bars)| WalkForward {
            train_bars,
            test_bars,
            grid: grid.clone(),
        });
    Ok(request::Backtest {
        from: timestamp("--from", args.from.as_ref())?,
        to: timestamp("--to", args.to.as_ref())?,
        fee_bps: args.fee_bps,
        slippage_bps: args.slippage_bps,
        fill: fill_of(args),
        short: !args.long_only,
        annualization: args.annualization,
        search: if walk_forward.is_some() {
            Grid::new()
        } else {
            grid
        },
        walk_forward,
        sizing: args.size.unwrap_or_default(),
        portfolio,
        benchmark: None,
        monte_carlo: args.monte_carlo.map(|runs| MonteCarlo {
            runs,
            seed: args.seed,
        }),
        // As many as the equity curve may have.
        points: (args.equity_csv.is_some()).then_some(if args.files.is_empty() {
            request::MAX_POINTS
        } else {
            MAX_BACKTEST_BARS
        }),
    })
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
    let names = names(args);
    let spec = spec(args, &names)?;
    let (name, strategy) = strategy(args)?;
    let params = args.choice.params.iter().cloned().collect();
    let (mut inputs, mut timeframe) = (Vec::new(), args.timeframe.clone());
    for (i, path) in args.files.iter().enumerate() {
        let (bars, frame) = read(args, path, timeframe.as_deref(), spec.to)?;
        timeframe.get_or_insert_with(|| frame.to_string());
        let compiled = strategy.compile(args.choice.mode.as_deref(), &params, frame)?;
        let most = request::MAX_BACKTEST_BARS / names.len();
        let bars = thrum_evaluate::fit(bars, &compiled, &spec, most)
            .map_err(|error| anyhow::anyhow!("--{error}"))?;
        inputs.push(Input {
            series: (names.len() > 1).then(|| names[i].clone()),
            weight: spec.portfolio.get(i).map_or(1.0, |part| part.weight),
            compiled,
            bars,
            scores: Vec::new(),
        });
    }
    let other = match &args.benchmark {
        Some(file) => {
            let path = Path::new(file);
            let (bars, _) = read(args, path, timeframe.as_deref(), spec.to)?;
            Some((stem(path), bars))
        }
        None => None,
    };
    let series = match &names[..] {
        [one] => SeriesName::parse("file", one).ok(),
        _ => None,
    };
    let of = (name.as_str(), series.as_ref());
    let report = thrum_evaluate::offline(of, &strategy, &inputs, other.as_ref(), &spec)?;
    let bars = inputs
        .into_iter()
        .next()
        .map_or_else(Vec::new, |input| input.bars);
    Ok((report, bars))
}

/// The strategy of an offline test, and its name.
fn strategy(args: &Backtest) -> anyhow::Result<(String, Strategy)> {
    if let Some(file) = &args.strategy_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("can't read {}", file.display()))?;
        let value: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is not JSON", file.display()))?;
        return Ok((file.display().to_string(), Strategy::parse(&value)?));
    }
    let name = &args.choice.strategy;
    let strategy = builtin(name).with_context(|| {
        format!(
            "{name} is not a built-in strategy; use --strategy-file for your own, or --series for \
             one on the server"
        )
    })?;
    Ok((name.clone(), strategy.clone()))
}

/// The last bars of a file before `to`, one more than a backtest can have, and their timeframe: the
/// file may have any size, and any order.
fn read(
    args: &Backtest,
    path: &Path,
    timeframe: Option<&str>,
    to: Option<UnixMs>,
) -> anyhow::Result<(Vec<Bar>, Timeframe)> {
    let options = csv::Options {
        utc: args.utc,
        columns: args.columns.clone(),
    };
    let rows = csv::open(path, &options)?;
    let has_values = rows.layout.columns.value.is_some();
    let timeframe = timeframe.unwrap_or(if has_values { "tick" } else { "1h" });
    let timeframe = Timeframe::parse("--timeframe", timeframe)?;
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
    Ok((bars.into_values().skip(less).collect(), timeframe))
}

async fn remote(args: &Backtest) -> anyhow::Result<(Value, Vec<Bar>)> {
    let names = names(args);
    let spec = spec(args, &names)?;
    let first = names.first().map_or("", String::as_str);
    let timeframe = timeframe_of(args.timeframe.as_deref(), first);
    let mut body: Map<String, Value> = args.choice.fields(timeframe);
    // The fields of the request are those of its stored form, apart from times.
    if let Value::Object(fields) = serde_json::to_value(&spec)? {
        body.extend(fields);
    }
    for (name, time) in [("from", spec.from), ("to", spec.to)] {
        if let Some(time) = time {
            body.insert(name.into(), time.rfc3339().into());
        }
    }
    if let [series] = &names[..] {
        body.insert("series".into(), series.clone().into());
    }
    if let Some(benchmark) = &args.benchmark {
        body.insert("benchmark".into(), benchmark.clone().into());
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
    if let ([series], true) = (&names[..], args.svg.is_some()) {
        let mut from = report["from"].as_str().unwrap_or_default().to_owned();
        let to = report["to"].as_str().unwrap_or_default().to_owned();
        loop {
            let path = format!(
                "/v1/series/{}/bars?timeframe={}&limit=1000&from={from}",
                segment(series)?,
                timeframe
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
