//! What a detector would have said about past values.

use serde::Serialize;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::engine::{Program, run};
use thrum_schema::signal::explanation::Expected;
use thrum_schema::signal::request::Backtest;
use thrum_schema::signal::{Bar, Verdict};

/// Most values in a report, if the request does not say.
const MAX_POINTS: usize = 500;
/// Most alerts in a report.
const MAX_ALERTS: usize = 1_000;

/// The result of a detector on past values.
#[derive(Debug, Clone, Serialize)]
pub struct Detected {
    pub rows: usize,
    pub from: String,
    pub to: String,
    /// The time from the first value to the last.
    pub days: f64,
    /// How many values had no verdict.
    pub unknown_values: usize,
    /// How often a watch would have sent an alert, without those that say that it is over.
    pub alert_count: usize,
    pub low: usize,
    pub high: usize,
    /// The last 1 000 alerts.
    pub alerts: Vec<Alerted>,
    /// The values, at no more than 500 times, or as many as requested.
    pub values: Vec<Judged>,
}

/// A value at a time.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub time: String,
    pub value: f64,
}

/// An alert that would have been sent.
#[derive(Debug, Clone, Serialize)]
pub struct Alerted {
    pub signal: Verdict,
    /// The time of its first value.
    pub from: String,
    /// The time of the first normal value after it, or of the alert that follows it; null if there
    /// was none.
    pub until: Option<String>,
    /// How many values it lasted.
    pub values: usize,
    pub value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    pub summary: String,
}

/// The alert that is not over, if there is one.
fn open(alerts: &mut [Alerted]) -> Option<&mut Alerted> {
    alerts.last_mut().filter(|alert| alert.until.is_none())
}

/// Ends the alert that is not over.
fn end(alerts: &mut [Alerted], at: UnixMs) {
    if let Some(alert) = open(alerts) {
        alert.until = Some(at.rfc3339());
    }
}

/// What a detector would have said about `bars`.
///
/// # Errors
/// There are no values in the requested period.
pub fn detect(
    compiled: &CompiledStrategy,
    bars: &[Bar],
    spec: &Backtest,
) -> Result<Detected, Invalid> {
    let is_asked = |bar: &Bar| {
        spec.from.is_none_or(|from| bar.time >= from) && spec.to.is_none_or(|to| bar.time < to)
    };
    let program = Program::new(compiled.clone());
    let asked = || bars.iter().filter(|bar| is_asked(bar));
    let (Some(first), Some(last)) = (asked().next(), asked().next_back()) else {
        return Err(Invalid::new(
            "the values",
            "are none in the requested period",
        ));
    };
    let mut alerts = Vec::<Alerted>::new();
    let mut before: Option<Bar> = None;
    let mut unknown = 0;
    run(
        &program,
        &mut program.begin(),
        bars,
        &[],
        |state, bar, verdict| {
            if !is_asked(bar) {
                return;
            }
            // Values that stopped coming for a while.
            let missed = before.replace(*bar).and_then(|last| {
                let closed = compiled.timeframe.close_of(last.time);
                let stale = compiled.stale_at(last.time, closed)?;
                let arrived = compiled.timeframe.close_of(bar.time);
                (stale < arrived).then_some((stale, last))
            });
            if let Some((at, last)) = missed {
                end(&mut alerts, at);
                alerts.push(Alerted {
                    signal: Verdict::Stale,
                    from: at.rfc3339(),
                    until: Some(bar.time.rfc3339()),
                    values: 0,
                    value: last.close,
                    expected: None,
                    summary: format!(
                        "STALE: no value after {} until {}.",
                        last.time.rfc3339(),
                        bar.time.rfc3339()
                    ),
                });
            }
            let is_wrong = verdict.is_anomalous() || verdict == Verdict::Stale;
            match open(&mut alerts) {
                Some(alert) if alert.signal == verdict => alert.values += 1,
                // Without a verdict, it goes on.
                Some(_) if !is_wrong && verdict != Verdict::Normal => {}
                _ => end(&mut alerts, bar.time),
            }
            if is_wrong && open(&mut alerts).is_none() {
                let explanation = program.explain(state, bar);
                alerts.push(Alerted {
                    signal: verdict,
                    from: bar.time.rfc3339(),
                    until: None,
                    values: 1,
                    value: bar.close,
                    expected: explanation.expected,
                    summary: explanation.summary,
                });
            }
            unknown += usize::from(!verdict.is_known() && !is_wrong);
        },
    );
    let most = spec.points.map_or(MAX_POINTS, |points| points as usize);
    let step = asked().count().div_ceil(most).max(1);
    let values = asked().step_by(step).map(|bar| Judged {
        time: bar.time.rfc3339(),
        value: bar.close,
    });
    let values = values.collect();
    let of = |verdict| {
        alerts
            .iter()
            .filter(|alert| alert.signal == verdict)
            .count()
    };
    let (low, high) = (of(Verdict::Low), of(Verdict::High));
    let alert_count = alerts.len();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of some years")]
    let days = (last.time - first.time) as f64 / 86_400_000.0;
    Ok(Detected {
        rows: asked().count(),
        from: first.time.rfc3339(),
        to: last.time.rfc3339(),
        days,
        unknown_values: unknown,
        alert_count,
        low,
        high,
        values,
        alerts: alerts.split_off(alert_count.saturating_sub(MAX_ALERTS)),
    })
}
