//! Rules for a schedule that is late: while nothing but EventBridge Scheduler is at fault, Thrum records
//! no outage of its own, and notices a missed deadline within seconds.

use super::case::{Case, Note, s};
use crate::sim::history::Outcome;
use crate::sim::scenario::{FaultKind, Kind, Place};

/// How long after a deadline its alert may be raised, in milliseconds: the queue delays by whole
/// seconds, and a tick comes every few.
const PROMPT_MS: i64 = 5_000;
/// The alert of a flapping monitor waits at least this long, in milliseconds.
const FLAPPING_MS: i64 = 600_000;

pub fn judge(case: &Case, note: &mut Note<'_>) {
    let harmless = |what| {
        use FaultKind::{HookFails, LongWork, Schedule};
        matches!(what, Schedule(_) | HookFails(_) | LongWork)
    };
    if !case
        .scenario
        .spells
        .iter()
        .all(|spell| harmless(spell.what))
    {
        return;
    }
    let outages = case.seen.items.iter();
    for outage in outages.filter(|item| item["kind"]["S"] == "outage") {
        note("no outage while Thrum works", outage.to_string());
    }
    // Until the first tick, nothing looks ahead. One process ticks less often here than it really does.
    let ticked = case.history.all_swept(case.scenario.shards(), 0, i64::MAX);
    let held = (0..case.scenario.scripts.len()).any(|i| case.is_held(i));
    let (Some(ticked), Place::Lambda, false) = (ticked, case.scenario.place, held) else {
        return;
    };
    for alert in case.seen.alerts.iter() {
        let Some(flip_ms) = alert.flip_at_ms.filter(|_| alert.what == "monitor.down") else {
            continue;
        };
        // A change of the monitor may have brought the deadline closer, even into the past.
        let script = case.seen.monitors.iter().position(|monitor| {
            let uuid = monitor.as_ref().ok().map(|monitor| &monitor.uuid);
            uuid.is_some() && uuid == alert.monitor.as_ref()
        });
        let changes = case.history.asked.iter().filter(|asked| {
            let is_own = Some(asked.script) == script && asked.what == Kind::Change;
            let is_done = matches!(asked.outcome, Outcome::Done | Outcome::Unknown);
            is_own && is_done && asked.sent_ms < alert.created_ms
        });
        let changed_ms = changes
            .map(|asked| asked.ended_ms.min(alert.created_ms))
            .max();
        let late_ms = alert.created_ms - flip_ms.max(changed_ms.unwrap_or(flip_ms));
        if flip_ms > ticked && (PROMPT_MS..FLAPPING_MS).contains(&late_ms) {
            note(
                "a missed deadline is noticed within seconds",
                format!(
                    "{} was due at {}, {late_ms} ms before",
                    alert.id,
                    s(flip_ms)
                ),
            );
        }
    }
}
