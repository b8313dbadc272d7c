//! Signal commands: import bars from CSV files, show signals, run backtests and draw charts.

mod backtest;
mod chart;
pub mod csv;
mod demo;
mod import;
mod signal;

pub use backtest::{Backtest, backtest};
pub use demo::{DemoBars, demo_bars};
pub use import::{Import, import};
pub use signal::{Signal, signal};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value};

/// The choice of strategy, mode and parameters.
#[derive(Debug, Args)]
pub struct Choice {
    /// Strategy: built in, or stored on the server
    ///
    /// Built in are the trading strategies trend-rsi, sma-cross, ema-cross, macd, bollinger, donchian, zscore,
    /// turtle and rsi-dip, and the
    /// detectors auto, seasonal, holt-winters, robust-zscore, ewma, cusum, threshold, rate-of-change and absence.
    #[arg(long, short, default_value = "trend-rsi", value_name = "NAME")]
    strategy: String,

    /// Mode of the strategy (trend-rsi: price_only or combined); default: the strategy's default
    /// mode
    #[arg(long)]
    mode: Option<String>,

    /// Override a parameter of the strategy, such as --param fast=5; repeatable
    #[arg(long = "param", value_name = "NAME=NUMBER", value_parser = parameter)]
    params: Vec<(String, f64)>,
}

fn parameter(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text
        .split_once('=')
        .ok_or("must be NAME=NUMBER, such as fast=5")?;
    let number = number
        .parse()
        .map_err(|_| format!("{number:?} is not a number"))?;
    Ok((name.to_owned(), number))
}

impl Choice {
    /// The fields of an API request for this choice.
    fn fields(&self, timeframe: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("timeframe".into(), timeframe.into());
        fields.insert("strategy".into(), self.strategy.clone().into());
        if let Some(mode) = &self.mode {
            fields.insert("mode".into(), mode.clone().into());
        }
        let params: Map<String, Value> = self
            .params
            .iter()
            .map(|(name, value)| (name.clone(), (*value).into()))
            .collect();
        if !params.is_empty() {
            fields.insert("params".into(), params.into());
        }
        fields
    }
}

/// The timeframe given, or the usual one of the series: hourly bars, or the values of heartbeats.
fn timeframe_of<'a>(given: Option<&'a str>, series: &str) -> &'a str {
    let default = if series.starts_with("monitor:") {
        "tick"
    } else {
        "1h"
    };
    given.unwrap_or(default)
}

/// The result of a signal or backtest request; an error if it failed or is not finished yet.
fn finished(reply: Value) -> anyhow::Result<Value> {
    match reply["status"].as_str() {
        Some("done") => Ok(reply),
        Some("failed") => bail!("{}", reply["error"].as_str().unwrap_or("no reason given")),
        _ => bail!(
            "the result is not ready yet; get it later from {}",
            reply["href"].as_str().context("the response has no href")?
        ),
    }
}
