//! The judgement: what was promised, one by one, against what clients, receivers and the clock know. Rules are named as
//! ARCHITECTURE.md numbers them, where it does.

mod alerts;
mod monitors;
mod rest;
#[cfg(test)]
mod tests;

use super::cast::CALM_TICK_MS;
use super::clients::Made;
use super::history::History;
use super::net::Faulty;
use super::scenario::{Place, Scenario};
use super::seen::Seen;
use crate::START;
use serde_json::Value;
use std::fmt;

/// How long ago something may have been begun that is not ended, in milliseconds.
pub const UNDER_WAY_MS: i64 = 60_000;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub rule: &'static str,
    /// How.
    pub how: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.how)
    }
}

/// All that a judgement is based on.
#[derive(Debug, Clone)]
pub struct Case {
    pub scenario: Scenario,
    pub history: History,
    pub made: Made,
    pub seen: Seen,
    /// The calls of the table that went wrong.
    pub faults: Vec<Faulty>,
}

impl Case {
    /// How many calls about something may have been done without their callers' knowing.
    pub fn doubts_about(&self, what: &str) -> u64 {
        let faults = self.faults.iter();
        faults
            .filter(|one| one.doubtful && one.asked.contains(what))
            .count() as u64
    }

    /// How often something may have been charged for nothing by a counter: such calls of it, and what crashes ended.
    pub fn overcharges(&self, counter: &str) -> u64 {
        self.history.kills.len() as u64 + self.doubts_about(counter)
    }

    /// Whether a channel has a group that will be tried again after the end.
    pub fn has_group_to_retry(&self, channel: &str) -> bool {
        let due = START.0 + self.scenario.end_ms;
        self.seen.items.iter().any(|item| {
            item["sk"]["S"] == format!("D#{channel}")
                && item["state"]["S"] == "retry"
                && item["members"].is_object()
                && number(item, "until").is_some_and(|until| until > due - 2 * UNDER_WAY_MS)
        })
    }

    /// The longest time from a deadline to its flip, where nothing goes wrong.
    pub const fn detection_ms(&self) -> i64 {
        match self.scenario.place {
            Place::Serve { .. } => CALM_TICK_MS + 2_000,
            Place::Lambda => 65_000,
        }
    }

    /// The gap between pulses that is an outage.
    pub const fn gap_ms(&self) -> i64 {
        match self.scenario.place {
            Place::Serve { .. } => 60_000,
            Place::Lambda => 150_000,
        }
    }
}

/// What was not kept.
pub fn judge(case: &Case) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut note = |rule: &'static str, how: String| broken.push(Broken { rule, how });
    monitors::judge(case, &mut note);
    alerts::judge(case, &mut note);
    rest::judge(case, &mut note);
    broken
}

/// A number of an item, as the table has it.
pub fn number(item: &Value, name: &str) -> Option<i64> {
    item[name]["N"].as_str()?.parse().ok()
}

/// Takes what was not kept.
pub type Note<'a> = dyn FnMut(&'static str, String) + 'a;

/// An instant of the simulation, for people.
pub fn s(ms: i64) -> String {
    format!("{:.3} s", ms as f64 / 1000.0)
}
