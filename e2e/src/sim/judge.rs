//! The judge: checks each promise against what clients, receivers and the clock recorded. Rules are
//! numbered as in ARCHITECTURE.md, where it numbers them.

mod alerts;
mod care;
mod case;
mod family;
mod hardship;
mod monitors;
mod prompt;
mod rest;
mod signals;
#[cfg(test)]
mod tests;

pub use case::Case;
use std::fmt;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name of the rule.
    pub rule: &'static str,
    /// What violated it.
    pub how: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.how)
    }
}

/// The broken promises of a run.
pub fn judge(case: &Case) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut note = |rule: &'static str, how: String| broken.push(Broken { rule, how });
    if case.scenario.clock_step.is_some() {
        hardship::clock(case, &mut note);
        return broken;
    }
    monitors::judge(case, &mut note);
    care::judge(case, &mut note);
    family::judge(case, &mut note);
    alerts::judge(case, &mut note);
    prompt::judge(case, &mut note);
    rest::judge(case, &mut note);
    broken
}
