//! The evidence of a run, and how to read it.

use crate::START;
use crate::sim::cast::CALM_TICK_MS;
use crate::sim::clients::Setup;
use crate::sim::history::{Asked, History, Redelivered};
use crate::sim::model::{CLOCKS_MS, away};
use crate::sim::net::Faulty;
use crate::sim::scenario::{FaultKind, Kind, Place, Scenario};
use crate::sim::seen::{Seen, SeenAlert};
use serde_json::Value;

/// Work that started less than this before the end may still be in progress, in milliseconds.
pub const IN_PROGRESS_MS: i64 = 60_000;

/// How long after its last record a partial outage may go on, in milliseconds, and some more.
const GOES_ON_MS: i64 = 185_000;

/// The evidence that a run is judged by.
#[derive(Debug, Clone)]
pub struct Case {
    pub scenario: Scenario,
    pub history: History,
    pub setup: Setup,
    pub seen: Seen,
    /// The table calls that failed.
    pub faults: Vec<Faulty>,
}

impl Case {
    /// How many failed calls that mention `what` may have been done anyway.
    pub fn unconfirmed_calls(&self, what: &str) -> u64 {
        let faults = self.faults.iter();
        faults
            .filter(|one| one.doubtful && one.asked.contains(what))
            .count() as u64
    }

    /// The most that a counter may have been overcharged: once per crash, and once per failed call
    /// on it that may have been done.
    pub fn overcharges(&self, counter: &str) -> u64 {
        self.history.kills.len() as u64 + self.unconfirmed_calls(counter)
    }

    /// Whether something may hold the alerts of the `i`-th monitor: a snooze, or its parent.
    pub fn is_held(&self, i: usize) -> bool {
        let mut asked = self.history.asked.iter();
        self.scenario.scripts[i].parent.is_some()
            || asked.any(|asked| asked.script == i && asked.what == Kind::Snooze)
    }

    /// The deletion of the `i`-th monitor, if a client asked for it.
    pub fn deletions(&self, i: usize) -> impl Iterator<Item = &Asked> {
        let asked = self.history.asked.iter();
        asked.filter(move |asked| asked.script == i && asked.what == Kind::Delete)
    }

    /// Whether a user redelivered this alert.
    pub fn is_redelivered(&self, alert: &str) -> bool {
        self.history.redelivered.iter().any(|one| one.id == alert)
    }

    /// Whether a receiver said that it was gone when this alert may have been sent, and the
    /// alert was not redelivered after that.
    pub fn was_gone(&self, hook: usize, alert: &SeenAlert) -> bool {
        self.scenario.spells.iter().any(|spell| {
            let again =
                |one: &Redelivered| one.done && one.id == alert.id && one.sent_ms > spell.to_ms;
            u8::try_from(hook).is_ok_and(|hook| spell.what == FaultKind::HookGone(hook))
                && alert.created_ms <= spell.to_ms
                && !self.history.redelivered.iter().any(again)
        })
    }

    /// Whether a channel has a group of alerts whose retry is due around the end or later.
    pub fn has_group_to_retry(&self, channel: &str) -> bool {
        let due = START.0 + self.scenario.end_ms;
        self.seen.items.iter().any(|item| {
            item["sk"]["S"] == format!("D#{channel}")
                && item["state"]["S"] == "retry"
                && item["members"].is_object()
                && number(item, "until").is_some_and(|until| until > due - 2 * IN_PROGRESS_MS)
        })
    }

    /// The recorded outages in which a part of the heartbeats was refused: start and end.
    pub fn partial_outages(&self) -> Vec<(i64, i64)> {
        let outages = self
            .seen
            .items
            .iter()
            .filter(|item| item["kind"]["S"] == "outage" && number(item, "refused").is_some());
        let span = |item| Some((number(item, "start")?, number(item, "end")?));
        let spans = outages.filter_map(span);
        spans
            .map(|(start, end)| (start - START.0, end - START.0))
            .collect()
    }

    /// How much later a deadline at `flip_at` may be detected, because a partial outage that ended
    /// shortly before seemed to go on.
    pub fn goes_on_ms(&self, flip_at: i64) -> i64 {
        let most = self.scenario.scripts.iter().map(|script| {
            let changed = script.then_s.map_or(0, |(period, grace)| period + grace);
            changed.max(script.period_s + script.grace_s) * 1_000
        });
        let most = most.max().unwrap_or(0) + GOES_ON_MS;
        let mut partial = self.partial_outages().into_iter();
        let late = partial.any(|(_, end)| (flip_at - most..flip_at + GOES_ON_MS).contains(&end));
        if late { GOES_ON_MS } else { 0 }
    }

    /// When Thrum may have been down, or refused heartbeats: every outage that it may have recorded
    /// is within one of these.
    pub fn away(&self) -> Vec<(i64, i64)> {
        let mut away = away(&self.history, self.gap_ms(), self.scenario.end_ms);
        let partial = self.partial_outages().into_iter();
        away.extend(partial.map(|(start, end)| (start - CLOCKS_MS, end + GOES_ON_MS)));
        away
    }

    /// The longest time from a deadline to its flip without faults, in milliseconds.
    pub const fn detection_ms(&self) -> i64 {
        match self.scenario.place {
            Place::Serve { .. } => CALM_TICK_MS + 2_000,
            Place::Lambda => 65_000,
        }
    }

    /// The gap between pulses from which it counts as an outage, in milliseconds.
    pub const fn gap_ms(&self) -> i64 {
        match self.scenario.place {
            Place::Serve { .. } => 60_000,
            Place::Lambda => 150_000,
        }
    }
}

/// A number attribute of an item in DynamoDB JSON.
pub fn number(item: &Value, name: &str) -> Option<i64> {
    item[name]["N"].as_str()?.parse().ok()
}

/// Reports a violation: the rule and the details.
pub type Note<'a> = dyn FnMut(&'static str, String) + 'a;

/// A simulated time in a readable form.
pub fn s(ms: i64) -> String {
    format!("{:.3} s", ms as f64 / 1000.0)
}
