//! Explanations of a signal, from the state after a step.

use super::anomaly;
use super::program::{Program, State};
use crate::signal::explanation::{Condition, Explanation, Holding, Side};
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
        let memory = &state.memory;
        // The position that the exits were about at this bar: not one that begins with it.
        let of = memory.ended.map(|(held, _)| held).or(memory.held);
        let is_shown = |side: Side| match side {
            Side::Buy | Side::Sell => true,
            Side::ExitLong => of.is_some_and(|held| held.is_long),
            Side::ExitShort => of.is_some_and(|held| !held.is_long),
        };
        let leaves = self.compiled().leaves.iter().zip(&state.leaves);
        let leaves = leaves.filter(|(leaf, compared)| {
            is_shown(leaf.side) && !(leaf.of_position && compared.met.is_none())
        });
        let (conditions, changes): (Vec<Condition>, Vec<bool>) = leaves
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
                let condition = Condition {
                    side: leaf.side,
                    left,
                    op,
                    right: leaf.right_label.clone(),
                    value,
                    threshold,
                    margin,
                    met: compared.met.map(|met| met != leaf.negated),
                };
                (condition, compared.met != compared.before)
            })
            .unzip();
        let changed = conditions.iter().zip(changes);
        let changed = changed
            .filter(|(_, changed)| *changed)
            .map(|(condition, _)| condition.label())
            .collect();
        Explanation {
            summary: self.summary(state, bar, &conditions),
            conditions,
            changed,
            expected: None,
            position: holding(state),
        }
    }

    /// The signal of a strategy that holds positions, in words.
    fn position_summary(
        &self,
        state: &State,
        at: &str,
        conditions: &[Condition],
    ) -> Option<String> {
        self.compiled().exits.as_ref()?;
        let side = |is_long| if is_long { "long" } else { "short" };
        let reasons = |side, met| reasons(conditions, side, met);
        let because = |texts: String| match texts.as_str() {
            "" => String::new(),
            texts => format!(": {texts}"),
        };
        let ended = state.memory.ended.map(|(held, why)| {
            let holding = held.holding(Some(why));
            let exit = if held.is_long {
                Side::ExitLong
            } else {
                Side::ExitShort
            };
            let gain = holding
                .gain_pct
                .map_or_else(String::new, |gain| format!(", gain {}", signed(gain)));
            format!(
                "the {} position{} ended {} after {}{gain}",
                side(held.is_long),
                holding
                    .entry
                    .map_or_else(String::new, |entry| format!(" entered at {}", show(entry))),
                why.words(),
                bars(u64::from(holding.bars)),
            ) + &because(reasons(exit, true))
        });
        let held = state.memory.held.map(|held| held.holding(None));
        Some(match (ended, held) {
            (Some(ended), None) => format!("{at}{ended}."),
            (ended, Some(held)) => {
                let now = match held.entry {
                    None => {
                        let entry = if held.long { Side::Buy } else { Side::Sell };
                        format!(
                            "a {} position will be entered at the next open{}",
                            side(held.long),
                            because(reasons(entry, true))
                        )
                    }
                    Some(entry) => format!(
                        "the {} position entered at {} has been held for {}{}",
                        side(held.long),
                        show(entry),
                        bars(u64::from(held.bars)),
                        held.gain_pct
                            .map_or_else(String::new, |gain| format!(", gain {}", signed(gain)))
                    ),
                };
                let ended = ended.map_or_else(String::new, |ended| format!("{ended}; "));
                format!("{at}{ended}{now}.")
            }
            (None, None) => {
                let lacks = |of, name| match reasons(of, false) {
                    texts if texts.is_empty() => None,
                    texts => Some(format!("not {name}, because {texts}")),
                };
                let lacks = [lacks(Side::Buy, "long"), lacks(Side::Sell, "short")];
                let lacks: Vec<String> = lacks.into_iter().flatten().collect();
                match lacks.join("; ") {
                    lacks if lacks.is_empty() => format!("{at}no position is entered."),
                    lacks => format!("{at}{lacks}."),
                }
            }
        })
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
        let reasons = |side, met| reasons(conditions, side, met);
        let at = format!("{verdict} at {}: ", show(bar.close));
        let held = (verdict.is_known())
            .then(|| self.position_summary(state, &at, conditions))
            .flatten();
        let mut text = match verdict {
            _ if held.is_some() => held.unwrap_or_default(),
            Verdict::Buy => format!("{at}{}.", reasons(Side::Buy, true)),
            Verdict::Sell => format!("{at}{}.", reasons(Side::Sell, true)),
            Verdict::Hold if self.holds(&self.compiled().buy, state) => {
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

/// The position that is held, or that ended at the last bar.
fn holding(state: &State) -> Option<Holding> {
    let memory = &state.memory;
    let ended = memory.ended.map(|(held, why)| held.holding(Some(why)));
    // After a reversal, the new position is the one to show.
    memory.held.map(|held| held.holding(None)).or(ended)
}

/// The conditions of a side that are met, or not met, in words.
fn reasons(conditions: &[Condition], side: Side, met: bool) -> String {
    let of = |condition: &&Condition| condition.side == side && condition.met == Some(met);
    let texts: Vec<String> = conditions.iter().filter(of).map(sentence).collect();
    texts.join("; ")
}

fn bars(n: u64) -> String {
    format!("{n} {}", if n == 1 { "bar" } else { "bars" })
}

/// `+2.5 %`
fn signed(percent: f64) -> String {
    let rounded = (percent * 100.0).round() / 100.0;
    let sign = if rounded > 0.0 { "+" } else { "" };
    format!("{sign}{} %", show(rounded))
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
