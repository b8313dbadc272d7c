//! The indicators available to strategies, with their parameters and bounds. evaluate implements
//! the arithmetic.

use serde::{Deserialize, Serialize};

/// Maximum window, in bars.
pub const MAX_WINDOW: u32 = 1_000;

/// An indicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Simple moving average.
    Sma,
    /// Exponential moving average, seeded with the simple one.
    Ema,
    /// Linearly weighted moving average.
    Wma,
    /// Wilder's relative strength index.
    Rsi,
    /// The simple-mean (Cutler) relative strength index; its first, undefined change counts as 0.
    RsiCutler,
    /// Moving average convergence and divergence: `macd`, `signal`, `histogram`.
    Macd,
    /// Bollinger bands, with the population standard deviation: `upper`, `middle`, `lower`.
    Bollinger,
    /// Wilder's average true range.
    Atr,
    /// Wilder's average directional index.
    Adx,
    /// The slow stochastic: `k`, `d`.
    Stochastic,
    /// On-balance volume; a bar without volume adds nothing.
    Obv,
    /// The highest high and the lowest low: `upper`, `middle`, `lower`.
    Donchian,
    /// Sample standard deviation.
    Std,
    /// Distance from the mean in sample standard deviations; 0 if all values are equal.
    Zscore,
    /// Rate of change, in percent.
    Roc,
    /// The logarithm of the ratio to the value `n` bars earlier.
    LogReturn,
    /// The difference between the highest and the lowest value.
    Range,
    /// Distance from the exponentially weighted mean of the previous values, in exponentially
    /// weighted standard deviations.
    EwmaZ,
}

/// A parameter of an indicator.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// The default value; without one, the parameter is required.
    pub default: Option<f64>,
    /// The minimum value.
    pub min: f64,
    /// The maximum value.
    pub max: f64,
    /// Whether it counts bars, and so must be a whole number.
    pub whole: bool,
}

const fn bars(name: &'static str, default: Option<f64>, min: u32) -> Arg {
    Arg {
        name,
        default,
        min: min as f64,
        max: MAX_WINDOW as f64,
        whole: true,
    }
}

const fn factor(name: &'static str, default: f64, min: f64, max: f64) -> Arg {
    Arg {
        name,
        default: Some(default),
        min,
        max,
        whole: false,
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Sma,
        Self::Ema,
        Self::Wma,
        Self::Rsi,
        Self::RsiCutler,
        Self::Macd,
        Self::Bollinger,
        Self::Atr,
        Self::Adx,
        Self::Stochastic,
        Self::Obv,
        Self::Donchian,
        Self::Std,
        Self::Zscore,
        Self::Roc,
        Self::LogReturn,
        Self::Range,
        Self::EwmaZ,
    ];

    /// Its name in strategies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sma => "sma",
            Self::Ema => "ema",
            Self::Wma => "wma",
            Self::Rsi => "rsi",
            Self::RsiCutler => "rsi_cutler",
            Self::Macd => "macd",
            Self::Bollinger => "bollinger",
            Self::Atr => "atr",
            Self::Adx => "adx",
            Self::Stochastic => "stochastic",
            Self::Obv => "obv",
            Self::Donchian => "donchian",
            Self::Std => "std",
            Self::Zscore => "zscore",
            Self::Roc => "roc",
            Self::LogReturn => "log_return",
            Self::Range => "range",
            Self::EwmaZ => "ewma_z",
        }
    }

    /// The least and the greatest value that it can have, if there are any.
    pub fn bounds(self, args: [f64; 3]) -> Option<(f64, f64)> {
        match self {
            Self::Rsi | Self::RsiCutler | Self::Adx | Self::Stochastic => Some((0.0, 100.0)),
            Self::Zscore => {
                let most = (args[0] - 1.0) / args[0].sqrt();
                Some((-most, most))
            }
            _ => None,
        }
    }

    /// Its parameters, in the order of [`super::compile::Indicator::args`].
    pub const fn args(self) -> &'static [Arg] {
        const N: &[Arg] = &[bars("n", None, 1)];
        const N2: &[Arg] = &[bars("n", None, 2)];
        const N14: &[Arg] = &[bars("n", Some(14.0), 2)];
        const N20: &[Arg] = &[bars("n", Some(20.0), 1)];
        const ONE: &[Arg] = &[bars("n", Some(1.0), 1)];
        const MACD: &[Arg] = &[
            bars("fast", Some(12.0), 2),
            bars("slow", Some(26.0), 2),
            bars("signal", Some(9.0), 1),
        ];
        const BANDS: &[Arg] = &[bars("n", Some(20.0), 2), factor("k", 2.0, 0.0, 100.0)];
        const STOCHASTIC: &[Arg] = &[
            bars("n", Some(14.0), 1),
            bars("smooth", Some(3.0), 1),
            bars("d", Some(3.0), 1),
        ];
        const EWMA: &[Arg] = &[factor("alpha", 0.2, 0.001, 1.0), bars("n", Some(20.0), 2)];
        match self {
            Self::Sma | Self::Ema | Self::Wma | Self::Range => N,
            Self::Std | Self::Zscore => N2,
            Self::Rsi | Self::RsiCutler | Self::Atr | Self::Adx => N14,
            Self::Macd => MACD,
            Self::Bollinger => BANDS,
            Self::Stochastic => STOCHASTIC,
            Self::Obv => &[],
            Self::Donchian => N20,
            Self::Roc | Self::LogReturn => ONE,
            Self::EwmaZ => EWMA,
        }
    }

    /// Its outputs; the first is the default.
    pub const fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Macd => &["macd", "signal", "histogram"],
            Self::Bollinger | Self::Donchian => &["upper", "middle", "lower"],
            Self::Stochastic => &["k", "d"],
            _ => &["value"],
        }
    }

    /// Whether it is computed from one value per bar, chosen by `of`.
    pub const fn is_of_a_value(self) -> bool {
        !matches!(
            self,
            Self::Atr | Self::Adx | Self::Stochastic | Self::Obv | Self::Donchian
        )
    }

    /// How many bars it needs before all outputs have a value.
    pub const fn lookback(self, args: [f64; 3]) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "windows are whole and bounded"
        )]
        const fn whole(x: f64) -> u32 {
            x as u32
        }
        let n = whole(args[0]);
        match self {
            Self::Sma
            | Self::Ema
            | Self::Wma
            | Self::Bollinger
            | Self::Std
            | Self::Zscore
            | Self::Donchian
            | Self::Range
            | Self::RsiCutler => n,
            Self::Rsi | Self::Atr | Self::Roc | Self::LogReturn => n + 1,
            Self::Macd => {
                let slow = whole(args[1]);
                let longer = if slow > n { slow } else { n };
                longer + whole(args[2]) - 1
            }
            Self::Adx => 2 * n,
            Self::Stochastic => n + whole(args[1]) + whole(args[2]) - 2,
            Self::Obv => 1,
            Self::EwmaZ => whole(args[1]) + 1,
        }
    }
}
