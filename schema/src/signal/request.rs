//! Requests: a signal or a backtest that a client requested, and its result.

use super::series::{SeriesName, Timeframe};
use crate::error::Invalid;
use crate::id::{ProjectId, RequestId};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long a request and its result are kept, in seconds: a week.
pub const REQUEST_TTL_S: i64 = 7 * 86_400;
/// Maximum bars sent with a request.
pub const MAX_INLINE_BARS: usize = 1_000;
/// Maximum bars in a backtest.
pub const MAX_BACKTEST_BARS: usize = 200_000;
/// How long a request is tried before it fails, in milliseconds: an hour.
pub const MAX_REQUEST_AGE_MS: i64 = 3_600_000;

/// What is requested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestKind {
    /// A signal.
    Signal {
        /// The time of the signal; now if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<UnixMs>,
    },
    /// A backtest.
    Backtest(Backtest),
}

/// The progress of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// Waiting or in progress.
    Queued,
    /// Finished, with a result.
    Done,
    /// Failed, with an error.
    Failed,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its ID.
    pub id: RequestId,
    /// The project that requested it.
    pub project: ProjectId,
    /// What is requested.
    pub what: RequestKind,
    /// The series; `None` if the bars came with the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesName>,
    /// The timeframe of the bars.
    pub timeframe: Timeframe,
    /// The strategy.
    pub strategy: String,
    /// Its version.
    pub version: u32,
    /// Its mode.
    pub mode: String,
    /// The parameters given.
    #[serde(with = "super::track::json_text")]
    pub params: BTreeMap<String, f64>,
    /// Whether its bars are stored with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inline: bool,
    /// Its progress.
    pub state: RequestState,
    /// When it was created.
    pub created: UnixMs,
    /// When it was finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<UnixMs>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many parts its result is stored in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u32>,
    /// The attempt that finished it; the parts are stored under its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

/// When an order is filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// At the open of the next bar.
    #[default]
    NextOpen,
    /// At the close that produced the signal. Nobody can trade like this; it reproduces the
    /// predecessor's results.
    CloseToClose,
}

/// How a backtest is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backtest {
    /// The time of the first bar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UnixMs>,
    /// The end: the last bar opens before this timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UnixMs>,
    /// The fee, in basis points (hundredths of a percent) of the traded amount.
    pub fee_bps: f64,
    /// The slippage, in basis points.
    pub slippage_bps: f64,
    /// When orders are filled.
    pub fill: Fill,
    /// Whether SELL is a short position, not only no position.
    pub short: bool,
    /// Bars per year; derived from the timeframe and the bars if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annualization: Option<f64>,
    /// Walk-forward testing, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walk_forward: Option<WalkForward>,
}

impl Default for Backtest {
    fn default() -> Self {
        Self {
            from: None,
            to: None,
            fee_bps: 10.0,
            slippage_bps: 5.0,
            fill: Fill::NextOpen,
            short: true,
            annualization: None,
            walk_forward: None,
        }
    }
}

/// Walk-forward testing: parameters are chosen by their Sharpe ratio on some bars and tested on the
/// bars that follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WalkForward {
    /// How many bars to choose on.
    pub train_bars: u32,
    /// How many bars to test on.
    pub test_bars: u32,
    /// The values to try, by parameter; every combination is tried.
    pub grid: BTreeMap<String, Vec<f64>>,
}

/// Maximum fee and slippage, in basis points: a tenth of the traded amount.
const MAX_BPS: f64 = 1_000.0;
/// Maximum bars per year: one per second.
const MAX_ANNUALIZATION: f64 = 31_536_000.0;
/// Maximum combinations of parameters in walk-forward testing.
const MAX_COMBINATIONS: usize = 100;

/// Checks the assumptions of a backtest.
///
/// # Errors
/// The first one that is out of bounds.
pub fn check_backtest(spec: &Backtest) -> Result<(), Invalid> {
    for (name, bps) in [
        ("fee_bps", spec.fee_bps),
        ("slippage_bps", spec.slippage_bps),
    ] {
        if !(0.0..=MAX_BPS).contains(&bps) {
            return Err(Invalid::new(
                name,
                format!("must be between 0 and {MAX_BPS} basis points (got {bps})"),
            ));
        }
    }
    if let Some(annualization) = spec.annualization
        && !(1.0..=MAX_ANNUALIZATION).contains(&annualization)
    {
        return Err(Invalid::new(
            "annualization",
            format!("must be between 1 and {MAX_ANNUALIZATION} bars per year, or absent"),
        ));
    }
    if let (Some(from), Some(to)) = (spec.from, spec.to)
        && from >= to
    {
        return Err(Invalid::new("to", "must be after from"));
    }
    let Some(forward) = &spec.walk_forward else {
        return Ok(());
    };
    for (name, bars) in [
        ("train_bars", forward.train_bars),
        ("test_bars", forward.test_bars),
    ] {
        if !(10..=100_000).contains(&bars) {
            return Err(Invalid::new(
                format!("walk_forward.{name}"),
                "must be between 10 and 100000 bars",
            ));
        }
    }
    let combinations = forward
        .grid
        .values()
        .try_fold(1_usize, |n, values| n.checked_mul(values.len()));
    match combinations {
        Some(1..=MAX_COMBINATIONS) => Ok(()),
        _ => Err(Invalid::new(
            "walk_forward.grid",
            format!(
                "must have 1 to {MAX_COMBINATIONS} combinations, such as {{\"fast\": [5, 10], \"slow\": [20, 50]}}"
            ),
        )),
    }
}
