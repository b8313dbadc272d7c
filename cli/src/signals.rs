//! Commands of the signals: bars from CSV files, signals, backtests and their charts.

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

/// Which strategy, and how.
#[derive(Debug, Args)]
pub struct Choice {
    /// The strategy: trend-rsi, sma-cross, ema-cross, macd, bollinger, donchian, zscore, threshold, ewma, absent-change, or
    /// one of your own
    #[arg(long, short, default_value = "trend-rsi")]
    strategy: String,

    /// Its mode, if not the default one (trend-rsi: price_only or combined)
    #[arg(long)]
    mode: Option<String>,

    /// A number in place of the strategy's own, such as --param fast=5; may be repeated
    #[arg(long = "param", value_name = "NAME=NUMBER", value_parser = parameter)]
    params: Vec<(String, f64)>,
}

fn parameter(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text
        .split_once('=')
        .ok_or("must be NAME=NUMBER, such as fast=5")?;
    let number = number
        .parse()
        .map_err(|_| format!("{number:?} is no number"))?;
    Ok((name.to_owned(), number))
}

impl Choice {
    /// The members of a request that say so.
    fn members(&self, timeframe: &str) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("timeframe".into(), timeframe.into());
        members.insert("strategy".into(), self.strategy.clone().into());
        if let Some(mode) = &self.mode {
            members.insert("mode".into(), mode.clone().into());
        }
        let params: Map<String, Value> = self
            .params
            .iter()
            .map(|(name, value)| (name.clone(), (*value).into()))
            .collect();
        if !params.is_empty() {
            members.insert("params".into(), params.into());
        }
        members
    }
}

/// The reply to a request that was waited for; an error if it failed, or takes longer than a client may wait.
fn finished(reply: Value) -> anyhow::Result<Value> {
    match reply["status"].as_str() {
        Some("done") => Ok(reply),
        Some("failed") => bail!("{}", reply["error"].as_str().unwrap_or("no reason given")),
        _ => bail!(
            "it is not finished yet; look at {} later",
            reply["href"].as_str().context("the reply has no address")?
        ),
    }
}
