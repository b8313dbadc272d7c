//! The judgement: what was promised, one by one, against what clients, receivers and the clock know. Rules are named as
//! ARCHITECTURE.md numbers them, where it does.

mod alerts;
mod monitors;
mod rest;

use super::cast::{CALM_TICK_MS, Cast};
use super::clients::Made;
use super::history::History;
use super::net::Faulty;
use super::plan::{Place, Plan};
use super::seen::Seen;
use std::fmt;

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
pub struct Case<'a> {
    pub plan: &'a Plan,
    pub history: &'a History,
    pub made: &'a Made,
    pub seen: &'a Seen,
    /// The calls of the table that went wrong.
    pub faults: &'a [Faulty],
}

impl Case<'_> {
    /// How many calls about something may have been done without their callers' knowing.
    pub fn doubts_about(&self, what: &str) -> u64 {
        let faults = self.faults.iter();
        faults
            .filter(|one| one.doubtful && one.body.contains(what))
            .count() as u64
    }

    /// How often something may have been charged for nothing: such calls of counters, and crashes.
    pub fn overcharges(&self) -> u64 {
        let crashes = self.history.kills.len() as u64;
        crashes + self.doubts_about("\"U#") + self.doubts_about("\"K#")
    }

    /// The longest time from a deadline to its flip, where nothing goes wrong.
    pub const fn detection_ms(&self) -> i64 {
        match self.plan.place {
            Place::Serve { .. } => CALM_TICK_MS + 2_000,
            Place::Lambda => 65_000,
        }
    }

    /// The gap between pulses that is an outage.
    pub const fn gap_ms(&self) -> i64 {
        match self.plan.place {
            Place::Serve { .. } => 60_000,
            Place::Lambda => 150_000,
        }
    }
}

/// What was not kept.
pub fn judge(cast: &Cast, made: &Made, seen: &Seen) -> Vec<Broken> {
    let history = cast.history();
    let faults = cast.net.faults.lock().expect("not poisoned");
    let case = Case {
        faults: &faults,
        plan: &cast.plan,
        history: &history,
        made,
        seen,
    };
    let mut broken = Vec::new();
    let mut note = |rule: &'static str, how: String| broken.push(Broken { rule, how });
    monitors::judge(&case, &mut note);
    alerts::judge(&case, &mut note);
    rest::judge(&case, &mut note);
    broken
}

/// Takes what was not kept.
pub type Note<'a> = dyn FnMut(&'static str, String) + 'a;

/// An instant of the simulation, for people.
pub fn s(ms: i64) -> String {
    format!("{:.3} s", ms as f64 / 1000.0)
}
