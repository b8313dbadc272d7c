//! Signals as shown to users.

use super::compile::CompiledStrategy;
use super::explanation::{Condition, Expected, Explanation, Holding};
use super::number::show;
use super::series::SeriesName;
use super::track::Signal;
use super::{Timeframe, Verdict};
use crate::time::UnixMs;
use serde::Serialize;
use std::collections::BTreeMap;

/// Which strategy was applied, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Applied {
    /// The series; null if the bars came with the request.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub series: Option<SeriesName>,
    /// Its timeframe.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub timeframe: Timeframe,
    /// The strategy.
    pub strategy: String,
    /// Its version.
    #[cfg_attr(feature = "openapi", schema(value_type = i32))]
    pub version: u32,
    /// Its mode.
    pub mode: String,
    /// All its parameters.
    pub params: BTreeMap<String, f64>,
}

impl Applied {
    /// How `compiled` was applied.
    pub fn new(
        series: Option<&SeriesName>,
        strategy: &str,
        version: u32,
        compiled: &CompiledStrategy,
    ) -> Self {
        Self {
            series: series.cloned(),
            timeframe: compiled.timeframe,
            strategy: strategy.to_owned(),
            version,
            mode: compiled.mode.clone(),
            params: compiled.params.clone(),
        }
    }
}

/// A signal, with its age.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignalView {
    /// The strategy.
    #[serde(flatten)]
    pub applied: Applied,
    /// The current signal.
    pub signal: Verdict,
    /// The signal at its bar, if it has become stale since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_known: Option<Verdict>,
    /// When its bar opened; null if there is no bar.
    pub bar: Option<String>,
    /// When its bar closed.
    pub bar_closed_at: Option<String>,
    /// The bar's close.
    pub close: Option<f64>,
    /// How many earlier signals of this bar it superseded.
    #[cfg_attr(feature = "openapi", schema(value_type = i32))]
    pub revision: u32,
    /// When it was computed.
    pub computed_at: String,
    /// The age of the data in seconds, counted from the bar's close.
    pub age_s: Option<i64>,
    /// Why.
    pub explanation: ExplanationView,
}

/// An explanation, with the age of its data.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplanationView {
    /// All conditions, with their outcomes.
    pub conditions: Vec<Condition>,
    /// The conditions whose outcome changed since the previous bar.
    pub changed: Vec<String>,
    /// The range that a detector expected the value in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// The position of a strategy that holds positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Holding>,
    /// The age of the data, in seconds.
    pub age_s: Option<i64>,
    /// A summary for users.
    pub summary: String,
}

impl ExplanationView {
    /// An explanation of data that is `age_s` seconds old.
    pub fn new(explanation: Explanation, age_s: i64) -> Self {
        Self {
            conditions: explanation.conditions,
            changed: explanation.changed,
            expected: explanation.expected,
            position: explanation.position,
            age_s: Some(age_s),
            summary: explanation.summary,
        }
    }
}

impl SignalView {
    /// A signal as shown at `now`, which is STALE from `stale_at` on.
    pub fn new(applied: Applied, signal: Signal, now: UnixMs, stale_at: Option<UnixMs>) -> Self {
        let timeframe = applied.timeframe;
        let closed = timeframe.close_of(signal.bar);
        let age_ms = (now - closed).max(0);
        let too_old = stale_at.is_some_and(|at| now > at);
        let mut explanation = ExplanationView::new(signal.explanation, age_ms / 1000);
        let mut verdict = signal.verdict;
        if too_old {
            explanation.summary = format!(
                "Unknown: the last {} {} ago, but more should have come by now. If none were due, set the \
                 series' calendar. The last signal: {}",
                match timeframe.ms() {
                    Some(_) => format!("{timeframe} bar closed"),
                    None => "value came".to_owned(),
                },
                ago(age_ms / 1000),
                explanation.summary
            );
            verdict = Verdict::Stale;
        }
        Self {
            applied,
            signal: verdict,
            last_known: too_old.then_some(signal.verdict),
            bar: Some(signal.bar.rfc3339()),
            bar_closed_at: Some(closed.rfc3339()),
            close: Some(signal.close),
            revision: signal.revision,
            computed_at: signal.computed.rfc3339(),
            age_s: Some(age_ms / 1000),
            explanation,
        }
    }

    /// The view when there is no bar.
    pub fn without_bars(applied: Applied, now: UnixMs) -> Self {
        Self {
            applied,
            signal: Verdict::Warming,
            last_known: None,
            bar: None,
            bar_closed_at: None,
            close: None,
            revision: 0,
            computed_at: now.rfc3339(),
            age_s: None,
            explanation: ExplanationView {
                conditions: Vec::new(),
                changed: Vec::new(),
                expected: None,
                position: None,
                age_s: None,
                summary: "Unknown: no bar had closed by then.".to_owned(),
            },
        }
    }
}

/// An age as shown to users, such as `90 min`.
pub fn ago(seconds: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "seconds of some years")]
    let of = |unit: i64| show((seconds as f64 / unit as f64 * 10.0).round() / 10.0);
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", of(60)),
        7_200..172_800 => format!("{} h", of(3_600)),
        _ => format!("{} days", of(86_400)),
    }
}
