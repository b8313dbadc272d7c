//! Explanations of a signal, from the state after a step.

use super::anomaly;
use super::program::{Program, State, holds};
use crate::signal::explanation::{Condition, Explanation, Side};
use crate::signal::number::show;
use crate::signal::strategy::Gaps;
use crate::signal::{Bar, Verdict};

impl Program {
    /// Explains the signal of the last bar, which must be `bar`.
    pub fn explain(&self, state: &State, bar: &Bar) -> Explanation {
        if let (Some(detector), Some(of)) = (&state.detector, &self.compiled().detector) {
            return anomaly::explain(&detector.judged, of, bar);
        }
        let known = |x: f64| (!x.is_nan()).then_some(x);
        let leaves = || self.compiled().leaves.iter().zip(&state.leaves);
        let conditions: Vec<Condition> = leaves()
            .map(|(leaf, compared)| {
                let (value, threshold) = (known(compared.left), known(compared.right));
                // Under a `not`, the opposite must hold.
                let opposite = leaf.op.opposite().filter(|_| leaf.negated);
                let op = opposite.unwrap_or(leaf.op);
                let left = match (leaf.negated, opposite) {
                    (true, None) => format!("not {}", leaf.left_label),
                    _ => leaf.left_label.clone(),
                };
                let margin = value.zip(threshold).map(|(value, threshold)| {
                    if op.wants_more() {
                        value - threshold
                    } else {
                        threshold - value
                    }
                });
                Condition {
                    side: leaf.side,
                    left,
                    op,
                    right: leaf.right_label.clone(),
                    value,
                    threshold,
                    margin,
                    met: compared.met.map(|met| met != leaf.negated),
                }
            })
            .collect();
        let changed = conditions.iter().zip(&state.leaves);
        let changed = changed
            .filter(|(_, compared)| compared.met != compared.before)
            .map(|(condition, _)| condition.label())
            .collect();
        Explanation {
            summary: self.summary(state, bar, &conditions),
            conditions,
            changed,
            expected: None,
        }
    }

    /// The sides of conditions that have no value at the last bar.
    fn unknowns(&self, state: &State) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (leaf, compared) in self.compiled().leaves.iter().zip(&state.leaves) {
            let sides = [
                (&leaf.left_label, compared.left),
                (&leaf.right_label, compared.right),
            ];
            for (label, value) in sides {
                if value.is_nan() && !names.contains(&label.as_str()) {
                    names.push(label);
                }
            }
        }
        names.join(", ")
    }

    fn summary(&self, state: &State, bar: &Bar, conditions: &[Condition]) -> String {
        let verdict = state.verdict.unwrap_or(Verdict::Warming);
        let reasons = |side: Side, met: bool| {
            let of = |condition: &&Condition| condition.side == side && condition.met == Some(met);
            let texts: Vec<String> = conditions.iter().filter(of).map(sentence).collect();
            texts.join("; ")
        };
        let at = format!("{verdict} at {}: ", show(bar.close));
        let mut text = match verdict {
            Verdict::Buy => format!("{at}{}.", reasons(Side::Buy, true)),
            Verdict::Sell => format!("{at}{}.", reasons(Side::Sell, true)),
            Verdict::Hold if holds(&self.compiled().buy, state) => {
                format!("{at}the rules for BUY and SELL both hold, so they cancel each other out.")
            }
            Verdict::Hold => {
                let lacks = |side, name| match reasons(side, false) {
                    texts if texts.is_empty() => format!("there is no condition for {name}"),
                    texts => format!("not {name}, because {texts}"),
                };
                format!(
                    "{at}{}; {}.",
                    lacks(Side::Buy, "BUY"),
                    lacks(Side::Sell, "SELL")
                )
            }
            Verdict::Warming => {
                let needs = self.needs().max(state.bars + 1);
                format!(
                    "Unknown: the strategy is still warming up, with {} of at least {needs} bars.",
                    state.bars
                )
            }
            Verdict::NoSentiment => match &state.score {
                None => {
                    "Unknown: there is no sentiment score at or before this bar's close.".to_owned()
                }
                Some(score) => format!(
                    "Unknown: the last sentiment score, of {}, is too old.",
                    score.time.utc().format("%Y-%m-%d %H:%M UTC")
                ),
            },
            Verdict::Gap => match state.hole.filter(|hole| hole.since < self.refill()) {
                Some(hole) => format!(
                    "Unknown: a gap of {} ended {} ago, and the windows need {} bars without a gap; {} to go. If \
                     those bars were never due, set the series' calendar.",
                    bars(hole.missing),
                    bars(hole.since),
                    self.refill(),
                    self.refill() - hole.since
                ),
                None => format!(
                    "Unknown: a value that a condition needs is missing: {}.",
                    self.unknowns(state)
                ),
            },
            Verdict::Stale | Verdict::Normal | Verdict::Low | Verdict::High => String::new(),
        };
        let hole = state.hole.filter(|hole| hole.since < self.refill());
        if let (Gaps::Count, Some(hole)) = (self.compiled().gaps, hole) {
            text.push_str(&format!(
                " A gap of {} ended {} ago; the windows count bars and ignore it.",
                bars(hole.missing),
                bars(hole.since)
            ));
        }
        text
    }
}

fn bars(n: u64) -> String {
    format!("{n} {}", if n == 1 { "bar" } else { "bars" })
}

/// `close 4704.56 is above sma(20) 4596.13, by 108.43`
fn sentence(condition: &Condition) -> String {
    let (Some(value), Some(threshold)) = (condition.value, condition.threshold) else {
        return format!("{} is unknown", condition.label());
    };
    let met = condition.met == Some(true);
    if condition.op.crosses() && !met {
        return format!(
            "{} {} did not cross {} {}",
            condition.left,
            show(value),
            if condition.op.wants_more() {
                "above"
            } else {
                "below"
            },
            condition.right
        );
    }
    let more = if met {
        condition.op.wants_more()
    } else {
        value > threshold
    };
    let word = match (value == threshold, more, met && condition.op.crosses()) {
        (true, ..) => "equals",
        (_, true, true) => "crossed above",
        (_, false, true) => "crossed below",
        (_, true, false) => "is above",
        (_, false, false) => "is below",
    };
    let named = |label: &str, x: f64| {
        let number = show(x);
        if label == number {
            number
        } else {
            format!("{label} {number}")
        }
    };
    let mut text = format!(
        "{} {word} {}",
        named(&condition.left, value),
        named(&condition.right, threshold)
    );
    if value != threshold {
        text.push_str(&format!(", by {}", show((value - threshold).abs())));
    }
    text
}
