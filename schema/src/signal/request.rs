//! Requests: a signal or a backtest that a client requested, and its result.

use super::bar::check_number;
use super::series::{SeriesName, Timeframe};
use super::strategy::MAX_PARAMS;
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
    Backtest(Box<Backtest>),
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

/// How much is invested with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sizing {
    /// This fraction of the equity.
    Fraction(f64),
    /// This fraction of the starting capital, or the whole equity if that is less.
    Fixed(f64),
    /// The fraction of the equity whose annual volatility is `target`, at most all of it.
    Volatility {
        /// The target, such as 0.2 for 20 percent.
        target: f64,
        /// How many returns before the entry the volatility is computed from.
        bars: u32,
    },
}

impl Default for Sizing {
    fn default() -> Self {
        Self::Fraction(1.0)
    }
}

/// A series of a portfolio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The series.
    pub series: SeriesName,
    /// Its share of the equity.
    pub weight: f64,
}

/// A Monte Carlo simulation: it shuffles and resamples the trades.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonteCarlo {
    /// The number of runs.
    pub runs: u32,
    /// The seed of the random numbers: the same seed gives the same result.
    pub seed: u64,
}

/// The values to try, by parameter; every combination is tried.
pub type Grid = BTreeMap<String, Vec<f64>>;

/// All combinations of the values, in grid order.
pub fn combinations(grid: &Grid) -> Vec<BTreeMap<String, f64>> {
    let mut all = vec![BTreeMap::new()];
    for (name, values) in grid {
        all = all
            .iter()
            .flat_map(|given| {
                values.iter().map(|value| {
                    let mut given = given.clone();
                    given.insert(name.clone(), *value);
                    given
                })
            })
            .collect();
    }
    all
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
    /// How much is invested with an entry.
    #[serde(default)]
    pub sizing: Sizing,
    /// The series of a portfolio; empty for one series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub portfolio: Vec<Part>,
    /// A series to compare with, beside holding what is traded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<SeriesName>,
    /// Parameters to try, on all bars.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub search: Grid,
    /// The Monte Carlo simulation, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monte_carlo: Option<MonteCarlo>,
    /// The maximum number of points in the equity curve; 500 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<u32>,
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
            sizing: Sizing::default(),
            portfolio: Vec::new(),
            benchmark: None,
            search: Grid::new(),
            monte_carlo: None,
            points: None,
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
    pub grid: Grid,
}

/// Maximum fee and slippage, in basis points: a tenth of the traded amount.
const MAX_BPS: f64 = 1_000.0;
/// Maximum bars per year: one per second.
const MAX_ANNUALIZATION: f64 = 31_536_000.0;
/// Maximum combinations of parameters in walk-forward testing.
const MAX_COMBINATIONS: usize = 100;
/// Maximum combinations of parameters in a search.
const MAX_SEARCH: usize = 400;
/// Maximum series of a portfolio.
pub const MAX_PARTS: usize = 20;
/// Maximum points of an equity curve in a request to the API.
pub const MAX_POINTS: u32 = 5_000;

/// Checks the assumptions of a backtest.
///
/// # Errors
/// The first one that is out of bounds.
pub fn check_backtest(spec: &Backtest) -> Result<(), Invalid> {
    for (name, bps) in [
        ("fee_bps", spec.fee_bps),
        ("slippage_bps", spec.slippage_bps),
    ] {
        check_number(name, bps)?;
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
    check_sizing(spec.sizing)?;
    check_portfolio(spec)?;
    if let Some(chances) = spec.monte_carlo
        && !(100..=10_000).contains(&chances.runs)
    {
        return Err(Invalid::new(
            "monte_carlo.runs",
            format!("must be between 100 and 10000 (got {})", chances.runs),
        ));
    }
    if !spec.search.is_empty() {
        check_grid("search", &spec.search, MAX_SEARCH)?;
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
    check_grid("walk_forward.grid", &forward.grid, MAX_COMBINATIONS)
}

/// Checks the names, the values and the number of combinations of a grid.
fn check_grid(place: &str, grid: &Grid, most: usize) -> Result<(), Invalid> {
    if grid.len() > MAX_PARAMS {
        return Err(Invalid::new(
            place,
            format!(
                "must have at most {MAX_PARAMS} parameters (got {})",
                grid.len()
            ),
        ));
    }
    for (name, values) in grid {
        for value in values {
            check_number(&format!("{place}.{name}"), *value)?;
        }
    }
    let combinations = grid
        .values()
        .try_fold(1_usize, |n, values| n.checked_mul(values.len()));
    if combinations.is_some_and(|n| (1..=most).contains(&n)) {
        return Ok(());
    }
    Err(Invalid::new(
        place,
        format!(
            "must have 1 to {most} combinations, such as {{\"fast\": [5, 10], \"slow\": [20, 50]}}"
        ),
    ))
}

/// Checks the assumptions of a backtest of a detector, which does not trade.
///
/// # Errors
/// The first one that has no effect.
pub fn check_detector(spec: &Backtest) -> Result<(), Invalid> {
    let without_effect = [
        ("sizing", spec.sizing != Sizing::default()),
        ("portfolio", !spec.portfolio.is_empty()),
        ("benchmark", spec.benchmark.is_some()),
        ("search", !spec.search.is_empty()),
        ("walk_forward", spec.walk_forward.is_some()),
        ("monte_carlo", spec.monte_carlo.is_some()),
    ];
    match without_effect.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((name, _)) => Err(Invalid::new(
            *name,
            "has no effect on a detector, which does not trade; leave it out",
        )),
    }
}

fn check_sizing(sizing: Sizing) -> Result<(), Invalid> {
    let (name, value, most) = match sizing {
        Sizing::Fraction(fraction) => ("sizing.fraction", fraction, 1.0),
        Sizing::Fixed(amount) => ("sizing.fixed", amount, 1.0),
        Sizing::Volatility { target, bars } => {
            if !(2..=1_000).contains(&bars) {
                return Err(Invalid::new(
                    "sizing.volatility.bars",
                    format!("must be between 2 and 1000 (got {bars})"),
                ));
            }
            ("sizing.volatility.target", target, 10.0)
        }
    };
    check_number(name, value)?;
    if value > 0.0 && value <= most {
        return Ok(());
    }
    Err(Invalid::new(
        name,
        format!("must be above 0 and at most {most} (got {value})"),
    ))
}

fn check_portfolio(spec: &Backtest) -> Result<(), Invalid> {
    if spec.fill == Fill::CloseToClose {
        let is_default = spec.sizing == Sizing::default() && spec.portfolio.is_empty();
        if !is_default {
            return Err(Invalid::new(
                "fill",
                "must be next_open with sizing or a portfolio; close_to_close supports neither",
            ));
        }
    }
    let parts = &spec.portfolio;
    if parts.is_empty() {
        return Ok(());
    }
    if parts.len() > MAX_PARTS {
        return Err(Invalid::new(
            "portfolio",
            format!("must have at most {MAX_PARTS} series (got {})", parts.len()),
        ));
    }
    for (i, part) in parts.iter().enumerate() {
        check_number(&format!("portfolio[{i}].weight"), part.weight)?;
        if !(part.weight > 0.0 && part.weight <= 1.0) {
            return Err(Invalid::new(
                format!("portfolio[{i}].weight"),
                format!("must be above 0 and at most 1 (got {})", part.weight),
            ));
        }
        if parts[..i].iter().any(|other| other.series == part.series) {
            return Err(Invalid::new(
                format!("portfolio[{i}].series"),
                format!("must not be named twice (got {})", part.series),
            ));
        }
    }
    let total: f64 = parts.iter().map(|part| part.weight).sum();
    if total > 1.0 + 1e-9 {
        return Err(Invalid::new(
            "portfolio",
            format!("must have weights that add up to at most 1 (got {total})"),
        ));
    }
    Ok(())
}
