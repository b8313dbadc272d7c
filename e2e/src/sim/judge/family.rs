//! Rules for monitors that depend on each other, for snoozes, deletions and redeliveries.

use super::case::{Case, Note, s};
use crate::sim::history::{Asked, Outcome, Redelivered};
use crate::sim::model::{CLOCKS_MS, LATE_MS};
use crate::sim::scenario::{FaultKind, Kind, Script};
use crate::sim::seen::{SeenAlert, SeenFlip, SeenMonitor};

/// How long Thrum needs to catch up after the last fault, in milliseconds.
const SETTLED_MS: i64 = 180_000;
/// How long a held alert may wait once nothing holds it, in milliseconds: it is checked each minute.
const CHECKED_MS: i64 = 130_000;
/// How long a snooze lasts, in milliseconds.
const SNOOZE_MS: i64 = 60_000;
/// A monitor with this many flips may be flapping.
const FLAPS: usize = 6;

pub fn judge(case: &Case, note: &mut Note<'_>) {
    for (i, monitor) in case.seen.monitors.iter().enumerate() {
        deletion(case, i, note);
        let Ok(monitor) = monitor else { continue };
        snoozes(case, i, monitor, note);
        held(case, i, monitor, note);
        waited(case, i, monitor, note);
        announced(case, i, monitor, note);
    }
    redelivered(case, note);
}

/// The alerts about a monitor.
fn alerts_of<'a>(case: &'a Case, uuid: &'a str) -> impl Iterator<Item = &'a SeenAlert> {
    let alerts = case.seen.alerts.iter();
    alerts.filter(move |alert| alert.monitor.as_deref() == Some(uuid))
}

/// The requests of this kind about a monitor that were carried out.
fn done(case: &Case, i: usize, what: Kind) -> impl Iterator<Item = &Asked> {
    let asked = case.history.asked.iter();
    asked.filter(move |one| one.script == i && one.what == what && one.outcome == Outcome::Done)
}

/// A deleted monitor stays deleted, and raises no alert.
fn deletion(case: &Case, i: usize, note: &mut Note<'_>) {
    let Some(deletion) = done(case, i, Kind::Delete).next() else {
        return;
    };
    let at = s(deletion.ended_ms);
    if case.seen.monitors[i].is_ok() {
        note(
            "a deleted monitor stays deleted",
            format!("the {i}-th was deleted at {at}"),
        );
    }
    let uuid = case.setup.monitors[i].as_deref().unwrap_or_default();
    for alert in alerts_of(case, uuid) {
        if alert.created_ms > deletion.ended_ms + CLOCKS_MS {
            note(
                "a deleted monitor raises no alert",
                format!("{} at {}, deleted at {at}", alert.id, s(alert.created_ms)),
            );
        }
    }
}

/// A snoozed monitor raises no alert.
fn snoozes(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    for snooze in done(case, i, Kind::Snooze) {
        let silent = snooze.ended_ms + CLOCKS_MS..snooze.sent_ms + SNOOZE_MS - CLOCKS_MS;
        for alert in alerts_of(case, &monitor.uuid) {
            let (at, since) = (s(alert.created_ms), s(snooze.ended_ms));
            if silent.contains(&alert.created_ms) {
                note(
                    "a snoozed monitor raises no alert",
                    format!("{} at {at}, snoozed at {since}", alert.id),
                );
            }
        }
    }
}

/// The spans in which a monitor is down for certain, because Thrum has announced it: start and end.
fn known_down(case: &Case, monitor: &SeenMonitor) -> Vec<(i64, i64)> {
    let spans = monitor.flips.iter().enumerate().filter_map(|(n, flip)| {
        let mut alerts = alerts_of(case, &monitor.uuid);
        let down = alerts
            .find(|alert| alert.what == "monitor.down" && alert.flip_at_ms == Some(flip.at_ms))?;
        let next = monitor.flips.get(n + 1).map(|next| next.at_ms);
        let end_ms = next.unwrap_or(case.scenario.end_ms);
        (flip.to == "down").then_some((down.created_ms, end_ms))
    });
    spans.collect()
}

/// While a parent is down, no alert says that its child is down.
fn held(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let parent = case.scenario.scripts[i].parent;
    let Some(Ok(parent)) = parent.map(|parent| &case.seen.monitors[parent]) else {
        return;
    };
    let spans = known_down(case, parent);
    for alert in alerts_of(case, &monitor.uuid) {
        let at = alert.created_ms;
        let is_down = |(from, to): &&(i64, i64)| *from + LATE_MS < at && at + LATE_MS < *to;
        let found = spans.iter().find(is_down);
        if let (true, Some((from, to))) = (alert.what != "monitor.up", found) {
            let (at, from, to) = (s(at), s(*from), s(*to));
            note(
                "a child raises no down alert while its parent is down",
                format!("{} at {at}, parent down from {from} to {to}", alert.id),
            );
        }
    }
}

/// Period plus grace of a monitor, before and after its change.
fn patiences_ms(script: &Script) -> impl Iterator<Item = i64> {
    let limits = [Some((script.period_s, script.grace_s)), script.then_s];
    let limits = limits.into_iter().flatten();
    limits.map(|(period_s, grace_s)| (period_s + grace_s) * 1_000)
}

/// After its parent is back, a child has time for its next heartbeat.
fn waited(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let script = &case.scenario.scripts[i];
    let Some(Ok(parent)) = script.parent.map(|parent| &case.seen.monitors[parent]) else {
        return;
    };
    let patience_ms = patiences_ms(script).min().unwrap_or(0);
    for (_, back_ms) in known_down(case, parent) {
        let is_up = |flip: &SeenFlip| flip.at_ms == back_ms && flip.to == "up";
        if !parent.flips.iter().any(is_up) {
            continue;
        }
        let early = back_ms + CLOCKS_MS..back_ms + patience_ms - CLOCKS_MS;
        for alert in alerts_of(case, &monitor.uuid) {
            let is_down = alert.what == "monitor.down" && early.contains(&alert.created_ms);
            let mut flips = monitor.flips.iter();
            let flip = flips.find(|flip| Some(flip.at_ms) == alert.flip_at_ms);
            // What it reports itself after that is announced at once.
            if is_down && flip.is_some_and(|flip| flip.at_ms < back_ms - CLOCKS_MS) {
                note(
                    "a child has time to report once its parent is back",
                    format!(
                        "{} at {}, parent up since {}",
                        alert.id,
                        s(alert.created_ms),
                        s(back_ms)
                    ),
                );
            }
        }
    }
}

/// At the end, Thrum has alerted about each monitor that is down and not held.
fn announced(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let script = &case.scenario.scripts[i];
    let Some(down) = monitor.flips.last().filter(|flip| flip.to == "down") else {
        return;
    };
    let patience_ms = patiences_ms(script).max().unwrap_or(0);
    let mut since = down.at_ms.max(case.scenario.calm_ms + SETTLED_MS);
    let parent = script.parent.map(|parent| &case.seen.monitors[parent]);
    if let Some(Ok(parent)) = parent
        && let Some(last) = parent.flips.last()
    {
        if last.to == "down" {
            return;
        }
        since = since.max(last.at_ms + patience_ms);
    }
    let asked = case.history.asked.iter().filter(|one| {
        (one.script == i && one.what == Kind::Snooze)
            || (Some(one.script) == script.parent && one.what == Kind::Delete)
    });
    // After two silent changes, people still believe the status before them.
    let mut alerted = monitor.flips.iter().rev().filter(|flip| flip.alert);
    let is_known = alerted.next().is_some_and(|flip| flip.to == "down");
    let silent = asked.map(|one| one.ended_ms + LATE_MS + SNOOZE_MS);
    let since = silent.fold(since, i64::max);
    if since + CHECKED_MS < case.scenario.end_ms && !is_known && monitor.flips.len() < FLAPS {
        note(
            "an alert that is no longer held is sent",
            format!("{} is down since {}", monitor.uuid, s(down.at_ms)),
        );
    }
}

/// A redelivered alert arrives once its receiver is back.
fn redelivered(case: &Case, note: &mut Note<'_>) {
    let gone = case.scenario.spells.iter();
    let gone = gone.filter(|spell| matches!(spell.what, FaultKind::HookGone(_)));
    let back_ms = gone.map(|spell| spell.to_ms).max().unwrap_or(0);
    let again = case.history.redelivered.iter().filter(|one| one.done);
    for Redelivered { id, sent_ms, .. } in again {
        let Some(alert) = case.seen.alerts.iter().find(|alert| alert.id == *id) else {
            continue;
        };
        let due = (*sent_ms).max(case.scenario.calm_ms + SETTLED_MS) + CHECKED_MS;
        if *sent_ms > back_ms && due < case.scenario.end_ms && alert.state != "delivered" {
            note(
                "a redelivered alert arrives",
                format!(
                    "{id} was redelivered at {}, and is {}",
                    s(*sent_ms),
                    alert.state
                ),
            );
        }
    }
}
