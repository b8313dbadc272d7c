//! Rules for what the world around Thrum does: a front door that refuses heartbeats, and a clock that
//! is set.

use super::case::{Case, Note, s};
use crate::sim::clients::name;
use crate::sim::history::Outcome;
use crate::sim::model::{CLOCKS_MS, Model};
use crate::sim::scenario::{FaultKind, Kind};
use crate::sim::seen::{SeenFlip, SeenMonitor};
use serde_json::Value;

/// How long before a deadline a refused pulse must be for the refusals to be known in time, in
/// milliseconds.
const LATELY_MS: i64 = 150_000;
/// The time between two sweeps and some more, in milliseconds.
const NOTICED_MS: i64 = 60_000;

/// A monitor does not go down because its heartbeats were refused by chance, while Thrum knows that a
/// part of them is.
pub fn refused_by_chance(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let spell = case.scenario.spells.iter().find(|spell| {
        let refuses = matches!(
            spell.what,
            FaultKind::TurnedAway(_) | FaultKind::Environments(_)
        );
        refuses && case.scenario.spells.len() == 1
    });
    let Some(spell) = spell else {
        return;
    };
    let model = Model::new(&case.scenario.scripts[i], i, &case.history);
    let asked = case.history.asked.iter().filter(|asked| asked.script == i);
    let refused: Vec<i64> = asked
        .filter(|asked| asked.what == Kind::Success && asked.outcome == Outcome::TurnedAway)
        .map(|asked| asked.sent_ms)
        .collect();
    for flip in &monitor.flips {
        let lately = |at: &&i64| (flip.at_ms - LATELY_MS..flip.at_ms - NOTICED_MS).contains(*at);
        let known = case.history.pulse_refusals.iter().find(lately);
        let goes_on = spell.from_ms < flip.at_ms && flip.at_ms < spell.to_ms;
        let is_timeout = flip.to == "down" && flip.reason == "timeout" && flip.outage.is_none();
        let windows = model.events().iter().flat_map(|one| model.windows(one));
        let mut windows = windows.filter(|(_, at)| (at - flip.at_ms).abs() <= CLOCKS_MS);
        let was_refused = windows.any(|(opens, deadline)| {
            let in_time = opens + CLOCKS_MS..deadline - CLOCKS_MS;
            refused.iter().any(|sent| in_time.contains(sent))
        });
        if let (Some(known), true) = (known, goes_on && is_timeout && was_refused) {
            note(
                "refused heartbeats take no monitor down by chance",
                format!(
                    "{}: {flip:?}, although a pulse was refused at {}",
                    name(i),
                    s(*known)
                ),
            );
        }
    }
}

/// Judges a scenario in which the clock is set, by what clients and receivers see: the timestamps of
/// monitors mean nothing then.
pub fn clock(case: &Case, note: &mut Note<'_>) {
    let Some(step) = case.scenario.clock_step else {
        return;
    };
    for asked in &case.history.asked {
        let is_over = asked.ended_ms >= case.scenario.end_ms;
        if asked.outcome != Outcome::Done && !is_over {
            note(
                "a step of the clock refuses no heartbeat",
                format!("{}: {asked:?}", name(asked.script)),
            );
        }
    }
    for (i, script) in case.scenario.scripts.iter().enumerate() {
        let last = script.acts.last().map_or(0, |act| act.at_ms);
        let patience_ms = (script.period_s + script.grace_s) * 1_000;
        let steady = last > case.scenario.end_ms - patience_ms;
        let mut messages = case.history.delivered.iter();
        let down = messages.find(|one| is_down(&one.body, i));
        let down = down.map(|one| one.at_ms);
        if let (true, Some(at)) = (steady, down) {
            note(
                "a step of the clock takes no monitor down",
                format!("{} was reported down at {}, {step:?}", name(i), s(at)),
            );
        }
        // From its last heartbeat or the step, whichever is later, a monitor gets two periods.
        let latest = last.max(step.at_ms) + patience_ms + script.period_s * 1_000 + NOTICED_MS;
        if !steady && latest < case.scenario.end_ms && down.is_none_or(|at| at > latest) {
            note(
                "a silent monitor is reported in spite of a step of the clock",
                format!(
                    "{} was silent from {}, and reported at {down:?}, {step:?}",
                    name(i),
                    s(last)
                ),
            );
        }
    }
}

/// Whether a message, alone or as a group, reports that the `i`-th monitor is down.
fn is_down(body: &Value, i: usize) -> bool {
    let is_own = |change: &Value| change["monitor"]["name"] == name(i);
    let group = body["data"]["changes"].as_array().into_iter().flatten();
    let mut changes = group.filter(|change| change["status"] == "down");
    changes.any(is_own) || (body["type"] == "monitor.down" && is_own(&body["data"]))
}

/// Whether a deadline was moved by whole periods because a part of the heartbeats was refused.
pub fn is_moved_by_periods(case: &Case, flip: &SeenFlip, period_ms: i64, deadline: i64) -> bool {
    let partial = case.partial_outages();
    let of_flip = |(start, _): &(i64, i64)| flip.outage.is_some_and(|(at, _)| at == *start);
    let more = flip.at_ms - deadline;
    let rest = more.rem_euclid(period_ms);
    partial.iter().any(of_flip) && more > 0 && (rest <= CLOCKS_MS || rest >= period_ms - CLOCKS_MS)
}
