//! The reasons for a signal, and what would change it.

use super::super::super::words::number;
use thrum_schema::signal::Verdict;
use thrum_schema::signal::explanation::{Condition, Side};
use thrum_schema::signal::view::SignalView;

/// A condition that is not met, and by how much.
pub struct Missing {
    pub label: String,
    pub text: String,
}

/// A row of the explanation: a condition and its values.
pub struct Outcome {
    pub side: &'static str,
    pub label: String,
    pub value: String,
    pub threshold: String,
    pub margin: String,
    pub met: &'static str,
}

/// A number, or a dash if there is none.
pub fn optional(x: Option<f64>) -> String {
    x.map_or_else(|| "–".to_owned(), number)
}

/// The row of a condition.
pub fn outcome(condition: &Condition) -> Outcome {
    Outcome {
        side: match condition.side {
            Side::Buy => "BUY",
            Side::Sell => "SELL",
            Side::ExitLong => "exit long",
            Side::ExitShort => "exit short",
        },
        label: condition.label().replace('_', " "),
        value: optional(condition.value),
        threshold: optional(condition.threshold),
        margin: optional(condition.margin),
        met: match condition.met {
            Some(true) => "met",
            Some(false) => "not met",
            None => "unknown",
        },
    }
}

/// What would have to change to flip the signal: for each of the other sides, the conditions that
/// are not met.
pub fn flips(signal: &SignalView) -> Vec<(&'static str, Vec<Missing>)> {
    let sides = [
        (Side::Buy, Verdict::Buy, "BUY"),
        (Side::Sell, Verdict::Sell, "SELL"),
    ];
    let others = sides
        .into_iter()
        .filter(|(_, verdict, _)| signal.signal != *verdict);
    others
        .map(|(side, _, name)| {
            let conditions = signal.explanation.conditions.iter();
            let missing = conditions
                .filter(|condition| condition.side == side && condition.met != Some(true))
                .map(|condition| Missing {
                    label: condition.label().replace('_', " "),
                    text: match (condition.value, condition.threshold, condition.margin) {
                        (Some(value), Some(threshold), Some(margin)) => {
                            let (left, right) = (&condition.left, &condition.right);
                            let (value, away) = (number(value), number(margin.abs()));
                            // Don't repeat the value of a constant.
                            match right.parse::<f64>() {
                                Ok(_) => format!("{left} is {value}, {away} away from {right}"),
                                Err(_) => format!(
                                    "{left} is {value}, {away} away from {right}, which is {}",
                                    number(threshold)
                                ),
                            }
                        }
                        _ => "unknown at this bar".to_owned(),
                    },
                });
            (name, missing.collect())
        })
        .filter(|(_, missing): &(_, Vec<Missing>)| !missing.is_empty())
        .collect()
}
