//! Requests: a signal or a backtest that somebody asked for, and its result.

use super::series::{SeriesName, Timeframe};
use crate::error::Invalid;
use crate::id::{ProjectId, RequestId};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long a request and its result are kept, in seconds: a week.
pub const REQUEST_TTL_S: i64 = 7 * 86_400;
/// Most bars that come with a request.
pub const MAX_INLINE_BARS: usize = 1_000;
/// Most bars of a backtest.
pub const MAX_BACKTEST_BARS: usize = 200_000;
/// How long a request is tried before it is given up, in milliseconds: an hour.
pub const MAX_REQUEST_AGE_MS: i64 = 3_600_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestKind {
    /// A signal.
    Signal {
        /// As of when; now without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<UnixMs>,
    },
    /// A backtest.
    Backtest(Backtest),
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// It waits, or is being worked on.
    Queued,
    /// It has its result.
    Done,
    /// It can't have one, and why is said.
    Failed,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Who asks.
    pub project: ProjectId,
    /// What for.
    pub what: RequestKind,
    /// The series; none if the bars came with it.
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
    /// Its parameters, those that were given.
    #[serde(with = "super::track::json_text")]
    pub params: BTreeMap<String, f64>,
    /// Whether its bars are stored with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inline: bool,
    /// How far it is.
    pub state: RequestState,
    /// When it was asked.
    pub created: UnixMs,
    /// When it was finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<UnixMs>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// In how many parts its result is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u32>,
    /// The attempt that finished it: its parts have its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

/// When an order is filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// At the open of the bar after the signal's.
    #[default]
    NextOpen,
    /// At the very close that made the signal: as the predecessor reckoned, and nobody can trade.
    CloseToClose,
}

/// How a backtest is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backtest {
    /// The first bar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UnixMs>,
    /// The instant before which the last bar opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UnixMs>,
    /// Fee, in hundredths of a per cent of what is traded.
    pub fee_bps: f64,
    /// Slippage, likewise.
    pub slippage_bps: f64,
    /// When orders are filled.
    pub fill: Fill,
    /// Whether SELL is a short position, and not only none.
    pub short: bool,
    /// Bars in a year; by the timeframe and the bars without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annualization: Option<f64>,
    /// Parameters chosen on the past of each stretch.
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

/// Parameters chosen by their Sharpe ratio on the bars before, and judged on the bars after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WalkForward {
    /// Bars to choose on.
    pub train_bars: u32,
    /// Bars to judge on.
    pub test_bars: u32,
    /// Values to try, by parameter; every combination is.
    pub grid: BTreeMap<String, Vec<f64>>,
}

/// Most basis points of a fee, and of slippage: a tenth of what is traded.
const MAX_BPS: f64 = 1_000.0;
/// Most bars in a year: one a second.
const MAX_ANNUALIZATION: f64 = 31_536_000.0;
/// Most combinations of parameters in a walk forward.
const MAX_COMBINATIONS: usize = 100;

/// Checks the assumptions of a backtest.
///
/// # Errors
/// Which of them is out of its bounds.
pub fn check_backtest(spec: &Backtest) -> Result<(), Invalid> {
    for (name, bps) in [
        ("fee_bps", spec.fee_bps),
        ("slippage_bps", spec.slippage_bps),
    ] {
        if !(0.0..=MAX_BPS).contains(&bps) {
            return Err(Invalid::new(
                name,
                format!("must be 0 to {MAX_BPS} basis points (10 is a tenth of a per cent)"),
            ));
        }
    }
    if let Some(annualization) = spec.annualization
        && !(1.0..=MAX_ANNUALIZATION).contains(&annualization)
    {
        return Err(Invalid::new(
            "annualization",
            format!("must be 1 to {MAX_ANNUALIZATION} bars in a year, or absent"),
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
                "must be 10 to 100000 bars",
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
                "must have 1 to {MAX_COMBINATIONS} combinations: {{\"fast\": [5, 10], \"slow\": [20, 50]}}"
            ),
        )),
    }
}
