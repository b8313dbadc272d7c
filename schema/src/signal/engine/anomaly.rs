//! Explanations of a detector's verdict.

use super::detector::Judged;
use crate::signal::detector::Detector;
use crate::signal::explanation::{Basis, Expected, Explanation};
use crate::signal::number::quantity;
use crate::signal::{Bar, Verdict};

/// Limits beyond this are none.
const NO_LIMIT: f64 = 1e99;

/// Explains the verdict on the value of `bar`.
pub fn explain(judged: &Judged, detector: &Detector, bar: &Bar) -> Explanation {
    let limit = |x: f64| (x.is_finite() && x.abs() < NO_LIMIT).then_some(x);
    let (low, high) = (limit(judged.low), limit(judged.high));
    // What was never negative is not expected to be.
    let floor = |x: f64| {
        if judged.is_never_negative {
            x.max(0.0)
        } else {
            x
        }
    };
    let expected = Expected {
        low: low.map(floor),
        high,
        typical: limit(judged.centre),
        basis: judged.basis,
    };
    let is_known = judged.verdict != Verdict::Warming && judged.basis != Basis::Changes;
    Explanation {
        conditions: Vec::new(),
        changed: Vec::new(),
        expected: is_known.then_some(expected),
        position: None,
        summary: summary(judged, detector, bar, &expected),
    }
}

fn summary(judged: &Judged, detector: &Detector, bar: &Bar, expected: &Expected) -> String {
    let x = quantity(bar.close);
    let verdict = judged.verdict;
    if judged.accepted {
        return format!("NORMAL at {x}: accepted as the new level.");
    }
    let range = expected.range().unwrap_or_else(|| "anything".to_owned());
    let against = judged.basis.words();
    let more = match (verdict.is_anomalous(), judged.run) {
        (true, 2..) => format!(
            " It is value {} in a row, since {}.",
            judged.run,
            judged.since.utc().format("%Y-%m-%d %H:%M UTC")
        ),
        _ => String::new(),
    };
    let side = match verdict {
        Verdict::Low => "below",
        _ => "above",
    };
    match (verdict, judged.basis) {
        (Verdict::Warming, _) => format!(
            "Unknown: the detector is still warming up, with {} so far.",
            match judged.seen {
                1 => "one value".to_owned(),
                n => format!("{n} values"),
            }
        ),
        (Verdict::Stale, _) => format!(
            "Unknown: the value has been {x} for {} values, and should change.",
            judged.run.max(detector.arg("n") as u32)
        ),
        (Verdict::Normal, Basis::Changes) => format!("NORMAL at {x}: values come and change."),
        (Verdict::Normal, Basis::Sum) => format!("NORMAL at {x}: no shift of the level."),
        (Verdict::Normal, _) => format!("NORMAL at {x}: expected {range}, {against}."),
        (_, Basis::Sum) => format!(
            "{verdict} at {x}: the level has shifted; values have been {side} {} for some time.{more}",
            quantity(judged.centre)
        ),
        _ => {
            let far = if expected.is_far(bar.close) {
                "far "
            } else {
                ""
            };
            format!("{verdict} at {x}: {far}{side} its usual {range}, {against}.{more}")
        }
    }
}
