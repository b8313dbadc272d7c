//! Signals: series, strategies, watches and requests, and the rules that need no history.
//!
//! A strategy is data ([`Strategy`]). A [`CompiledStrategy`] has its numbers filled in; the
//! [engine] steps it bar by bar.

pub mod bar;
pub mod calendar;
pub mod compile;
pub mod detector;
pub mod engine;
pub mod explanation;
pub mod indicator;
pub mod lexicon;
pub mod number;
pub mod request;
pub mod series;
pub mod strategy;
pub mod track;
pub mod view;
pub mod watch;

pub use bar::{Bar, Score};
pub use calendar::Calendar;
pub use compile::CompiledStrategy;
pub use explanation::Explanation;
pub use request::{Request, RequestKind, RequestState};
pub use series::{SeriesName, Timeframe};
pub use strategy::Strategy;
pub use track::{Signal, TrackId};
pub use watch::Watch;

use serde::{Deserialize, Serialize};
use std::fmt;

/// A strategy's verdict on a bar: a decision, or why there is none. Trading strategies decide
/// between BUY, HOLD and SELL, detectors between NORMAL, LOW and HIGH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Buy.
    Buy,
    /// Neither buy nor sell.
    Hold,
    /// Sell.
    Sell,
    /// A detector: as expected.
    Normal,
    /// A detector: below the expected range.
    Low,
    /// A detector: above the expected range.
    High,
    /// Unknown: fewer bars than the windows need.
    Warming,
    /// Unknown: the newest bar is too old.
    Stale,
    /// Unknown: bars, or a value that a condition needs, are missing.
    Gap,
    /// Unknown: no sentiment, or it is too old.
    NoSentiment,
}

impl Verdict {
    /// Its spelling in texts and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "BUY",
            Self::Hold => "HOLD",
            Self::Sell => "SELL",
            Self::Normal => "NORMAL",
            Self::Low => "LOW",
            Self::High => "HIGH",
            Self::Warming => "WARMING",
            Self::Stale => "STALE",
            Self::Gap => "GAP",
            Self::NoSentiment => "NO_SENTIMENT",
        }
    }

    /// Whether it calls for action.
    pub const fn acts(self) -> bool {
        matches!(self, Self::Buy | Self::Sell) || self.is_anomalous()
    }

    /// Whether a detector found that the value is not normal.
    pub const fn is_anomalous(self) -> bool {
        matches!(self, Self::Low | Self::High)
    }

    /// Whether it is a decision.
    pub const fn is_known(self) -> bool {
        !matches!(
            self,
            Self::Warming | Self::Stale | Self::Gap | Self::NoSentiment
        )
    }

    /// The position it stands for: 1, 0 or -1; 0 if unknown.
    pub const fn position(self) -> i8 {
        match self {
            Self::Buy => 1,
            Self::Sell => -1,
            _ => 0,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
