//! Changed signals in words.

use super::clock::Clock;
use crate::signal::Verdict;
use crate::signal::number::{quantity, show};
use crate::signal::view::ago;
use crate::signal::watch::Change;
use std::fmt::Write;

/// `eth-usd 1h trend-rsi: HOLD -> BUY`, or, for a detector, `LOW: rows of backup is 60,000, usually
/// 118,000 to 126,000`
pub fn headline(change: &Change) -> String {
    if !change.is_of_a_detector() {
        let what = match change.series.monitor() {
            Some((slug, figure)) => format!("{slug}: {figure} is {}", show(change.close)),
            None => format!("{} {}", change.series, change.timeframe),
        };
        return format!(
            "{what} {}: {} -> {}",
            change.strategy, change.from, change.to
        );
    }
    let (of, x) = (series_words(change), quantity(change.close));
    match change.to {
        Verdict::Low | Verdict::High => {
            let usual = usual(change).map(|range| format!(", usually {range}"));
            format!("{}: {of} is {x}{}", change.to, usual.unwrap_or_default())
        }
        Verdict::Stale => format!("No data: {of}, last {x}"),
        _ => format!("Back to normal: {of} is {x}"),
    }
}

/// A series in words: `rows of backup`, or its name.
fn series_words(change: &Change) -> String {
    match change.series.monitor() {
        Some((slug, figure)) => format!("{figure} of {slug}"),
        None => change.series.to_string(),
    }
}

/// The range that a detector expected.
fn usual(change: &Change) -> Option<String> {
    change.explanation.expected.as_ref()?.range()
}

/// What changed, and why.
pub fn text(change: &Change, clock: &Clock) -> String {
    if change.is_of_a_detector() {
        return anomaly_text(change, clock);
    }
    let changed = &change.explanation.changed;
    let mut text = format!(
        "{} changed from {} to {} at the {} bar of {} (closed {} before this alert).\n{}",
        change.name,
        change.from,
        change.to,
        change.timeframe,
        clock.show(change.bar),
        ago(change.age_s),
        change.explanation.summary
    );
    if !changed.is_empty() && change.to != Verdict::Stale {
        let _ = write!(
            text,
            "\nConditions that changed at that bar: {}.",
            changed.join("; ")
        );
    }
    text
}

/// What a detector found, in plain words.
fn anomaly_text(change: &Change, clock: &Clock) -> String {
    let (of, x) = (series_words(change), quantity(change.close));
    let at = format!(
        "{} ({} before this alert)",
        clock.show(change.bar),
        ago(change.age_s)
    );
    let usual = usual(change);
    let mut text = match change.to {
        Verdict::Low | Verdict::High => {
            let expected = change.explanation.expected.as_ref();
            let is_far = expected.is_some_and(|expected| expected.is_far(change.close));
            let far = if is_far { "far " } else { "" };
            let side = if change.to == Verdict::Low {
                "below"
            } else {
                "above"
            };
            match usual {
                Some(range) => format!("{of} is {x}, {far}{side} its usual {range}."),
                None => format!("{of} is {x}."),
            }
        }
        Verdict::Stale => {
            format!("{of} has stopped: no new value since {at}. The last one was {x}.")
        }
        _ => match usual {
            Some(range) => format!("{of} is back to normal: it is {x}, usually {range}."),
            None => format!("{of} is {x}, and this is the new normal."),
        },
    };
    if change.to != Verdict::Stale {
        let _ = write!(text, " The value is from {at}");
        if let Some(expected) = &change.explanation.expected {
            let _ = write!(text, ", {}", expected.basis.words());
        }
        text.push('.');
    }
    if change.undone {
        text.push_str(
            " The earlier alert no longer applies: its values were corrected, or accepted as normal.",
        );
    }
    let _ = write!(text, "\nWatch: {}.", change.name);
    text
}
