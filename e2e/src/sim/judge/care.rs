//! Rules for what people do about alerts: acknowledge, snooze, be notified later, and have another
//! channel that stands in.

use super::alerts::entries;
use super::case::{Case, Note, s};
use crate::sim::history::{Asked, Outcome};
use crate::sim::model::{CLOCKS_MS, LATE_MS};
use crate::sim::scenario::{Care, Kind};
use crate::sim::seen::{SeenAlert, SeenFlip, SeenMonitor};

/// How long it takes from the decision to send to the start of the attempt, in milliseconds: some
/// table calls.
const STARTS_MS: i64 = 45_000;
/// How long a delivery without faults may take, in milliseconds, with the timers that make up for a lost
/// message.
const PROMPT_MS: i64 = 130_000;
/// How long after the last fault nothing is late any more, in milliseconds.
const SETTLED_MS: i64 = 180_000;

pub fn judge(case: &Case, note: &mut Note<'_>) {
    let Some(care) = &case.scenario.care else {
        return;
    };
    for (i, monitor) in case.seen.monitors.iter().enumerate() {
        let Ok(monitor) = monitor else { continue };
        for outage in outages(monitor) {
            reminders(case, i, monitor, &outage, note);
            if care.after_s.is_some() {
                escalation(case, care, i, monitor, &outage, note);
            }
        }
    }
    if care.falls_back {
        fallback(case, note);
        for monitor in case.seen.monitors.iter().flatten() {
            recoveries(case, monitor, note);
        }
    }
}

/// A time in which a monitor was down.
struct Outage<'a> {
    down: &'a SeenFlip,
    /// When it ended.
    ended_ms: Option<i64>,
}

impl Outage<'_> {
    /// Whether it lasted from `from` to `to` for certain.
    fn lasts(&self, from: i64, to: i64) -> bool {
        self.down.at_ms <= from && self.ended_ms.is_none_or(|ended| ended > to)
    }
}

fn outages(monitor: &SeenMonitor) -> Vec<Outage<'_>> {
    let mut flips = monitor.flips.iter().peekable();
    let mut found = Vec::new();
    while let Some(flip) = flips.next() {
        if flip.to == "down" {
            let ended_ms = flips.peek().map(|next| next.at_ms);
            found.push(Outage {
                down: flip,
                ended_ms,
            });
        }
    }
    found
}

/// The requests about a monitor of these kinds that were, or may have been, carried out.
fn asked<'a>(case: &'a Case, i: usize, kinds: &'a [Kind]) -> impl Iterator<Item = &'a Asked> {
    case.history.asked.iter().filter(move |asked| {
        asked.script == i
            && kinds.contains(&asked.what)
            && matches!(asked.outcome, Outcome::Done | Outcome::Unknown)
    })
}

/// The alerts about one outage of a monitor.
fn alerts_of<'a>(
    case: &'a Case,
    monitor: &'a SeenMonitor,
    outage: &'a Outage<'_>,
    what: &'a str,
) -> impl Iterator<Item = &'a SeenAlert> {
    case.seen.alerts.iter().filter(move |alert| {
        alert.monitor.as_deref() == Some(&*monitor.uuid)
            && alert.what == what
            && alert.flip_at_ms == Some(outage.down.at_ms)
    })
}

/// No reminder follows an acknowledgement, and none comes after the outage.
fn reminders(
    case: &Case,
    i: usize,
    monitor: &SeenMonitor,
    outage: &Outage<'_>,
    note: &mut Note<'_>,
) {
    for reminder in alerts_of(case, monitor, outage, "monitor.reminder") {
        let at = reminder.created_ms;
        let acknowledged = asked(case, i, &[Kind::Acknowledge])
            .filter(|asked| asked.outcome == Outcome::Done)
            .find(|asked| {
                outage.lasts(asked.sent_ms - LATE_MS, asked.ended_ms + LATE_MS)
                    && asked.ended_ms + CLOCKS_MS < at
            });
        if let Some(asked) = acknowledged {
            note(
                "an acknowledged outage has no reminders",
                format!(
                    "{} was acknowledged at {}, and reminded of at {}",
                    monitor.uuid,
                    s(asked.ended_ms),
                    s(at)
                ),
            );
        }
        if outage.ended_ms.is_some_and(|ended| ended + LATE_MS < at) {
            note(
                "reminders end with the outage",
                format!("{} was reminded of at {}", monitor.uuid, s(at)),
            );
        }
    }
}

/// A channel that is notified later gets what is still down and not acknowledged, and only that.
fn escalation(
    case: &Case,
    care: &Care,
    i: usize,
    monitor: &SeenMonitor,
    outage: &Outage<'_>,
    note: &mut Note<'_>,
) {
    let hook = case.scenario.hooks.len() - 1;
    let due = outage.down.at_ms + i64::from(care.after_s.unwrap_or_default()) * 1_000;
    let channel = &case.setup.channels[hook];
    // When it was decided to send it.
    let first = |alert: &SeenAlert| {
        let mut deliveries = alert.deliveries.iter();
        let own = deliveries.find(|one| one.channel == *channel && one.state != "suppressed");
        own.and_then(|delivery| delivery.first_ms)
    };
    let Some(down) = alerts_of(case, monitor, outage, "monitor.down").next() else {
        return;
    };
    let grouped = case.history.delivered.iter().any(|message| {
        message.hook == hook
            && entries(message).iter().any(|entry| entry.alert == down.id)
            && !message.id.starts_with(&down.id)
    });
    let got = case.history.delivered.iter().any(|message| {
        message.hook == hook
            && message.accepted
            && entries(message).iter().any(|entry| entry.alert == down.id)
    });
    if let Some(at) = first(down) {
        if at < due - CLOCKS_MS {
            note(
                "a later channel is not notified before its turn",
                format!("{} at {}, due {}", down.id, s(at), s(due)),
            );
        }
        let acknowledged = asked(case, i, &[Kind::Acknowledge])
            .filter(|asked| asked.outcome == Outcome::Done)
            .find(|asked| {
                outage.lasts(asked.sent_ms - LATE_MS, asked.ended_ms + LATE_MS)
                    && asked.ended_ms + STARTS_MS < at
            });
        if let Some(asked) = acknowledged {
            note(
                "an acknowledged outage is not escalated",
                format!(
                    "{} was acknowledged at {}, and escalated at {}",
                    down.id,
                    s(asked.ended_ms),
                    s(at)
                ),
            );
        }
        if outage
            .ended_ms
            .is_some_and(|ended| ended + LATE_MS + STARTS_MS < at)
        {
            note(
                "what is up again is not escalated",
                format!("{} at {}", down.id, s(at)),
            );
        }
    }
    let calm_ms = due.max(case.scenario.calm_ms + SETTLED_MS) + PROMPT_MS;
    let is_left_alone = asked(case, i, &[Kind::Acknowledge, Kind::Snooze])
        .next()
        .is_none();
    if is_left_alone
        && calm_ms < case.scenario.end_ms
        && outage.lasts(outage.down.at_ms, calm_ms)
        && outage.down.alert
        && !got
        && !grouped
    {
        note(
            "an outage that lasts is escalated",
            format!("{} was due at {}, and did not arrive", down.id, s(due)),
        );
    }
}

/// The channel that stood in for another when a monitor went down also gets its recovery.
fn recoveries(case: &Case, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let spare = case.scenario.hooks.len() - 1;
    for outage in outages(monitor) {
        let ended = monitor
            .flips
            .iter()
            .find(|flip| flip.n == outage.down.n + 1);
        let Some(up) = ended.filter(|flip| flip.to == "up" && flip.alert) else {
            continue;
        };
        let calm_ms = up.at_ms.max(case.scenario.calm_ms + SETTLED_MS) + PROMPT_MS;
        let is_of = |alert: &&SeenAlert, what: &str, at: i64| {
            alert.monitor.as_deref() == Some(&*monitor.uuid)
                && alert.what == what
                && alert.flip_at_ms == Some(at)
        };
        let find = |what: &str, at: i64| {
            let mut alerts = case.seen.alerts.iter();
            alerts.find(|alert| is_of(alert, what, at))
        };
        let down = find("monitor.down", outage.down.at_ms);
        let (Some(down), Some(recovery)) = (down, find("monitor.up", up.at_ms)) else {
            continue;
        };
        if took(case, spare, down) && calm_ms < case.scenario.end_ms && !took(case, spare, recovery)
        {
            note(
                "a channel that stands in gets the recovery",
                format!(
                    "{} stood for {}, but not for {}",
                    spare, down.id, recovery.id
                ),
            );
        }
    }
}

/// Whether a receiver took an alert.
fn took(case: &Case, hook: usize, alert: &SeenAlert) -> bool {
    case.history.delivered.iter().any(|message| {
        message.hook == hook
            && message.accepted
            && entries(message).iter().any(|entry| entry.alert == alert.id)
    })
}

/// What a channel fails to deliver three times arrives through the one that stands in.
fn fallback(case: &Case, note: &mut Note<'_>) {
    let spare = case.scenario.hooks.len() - 1;
    for alert in &case.seen.alerts {
        let mut attempts: Vec<i64> = case
            .history
            .attempts
            .iter()
            .filter(|(hook, id, _)| *hook == 0 && id.starts_with(&alert.id))
            .map(|(_, _, ms)| *ms)
            .collect();
        attempts.sort_unstable();
        let calm_ms = case.scenario.calm_ms + SETTLED_MS;
        let late = |third: &i64| (*third).max(calm_ms) + PROMPT_MS < case.scenario.end_ms;
        // The fourth attempt proves that the third one failed, unless the sender died with it.
        let has_died = attempts.get(2..4).is_some_and(|two| {
            let mut kills = case.history.kills.iter();
            kills.any(|at| (two[0]..=two[1]).contains(at))
        });
        if attempts.len() >= 4
            && !has_died
            && attempts.get(2).is_some_and(late)
            && !took(case, spare, alert)
        {
            note(
                "another channel stands in for one that fails",
                format!("{}: attempts at {attempts:?}", alert.id),
            );
        }
    }
}
