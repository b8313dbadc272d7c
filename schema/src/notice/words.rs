//! What happened to a monitor, in words.

use super::clock::{Clock, about};
use super::parts::Fact;
use crate::alert::{Alert, AlertKind, Subject};
use crate::announce::STABLE_MS;
use crate::flip::Reason;
use crate::time::UnixMs;
use std::fmt::Write;

/// The name of what an alert is about.
pub fn name(alert: &Alert) -> &str {
    match &alert.monitor {
        Some(Subject { name, slug, .. }) if name.is_empty() && slug.is_empty() => {
            "a monitor without a name"
        }
        Some(Subject { name, slug, .. }) if name.is_empty() => slug,
        Some(Subject { name, .. }) => name,
        None => alert.signal.as_ref().map_or("", |change| &change.name),
    }
}

/// What happened, in a line, with `name` for the monitor.
pub fn headline(alert: &Alert, what: AlertKind, name: &str) -> String {
    match what {
        AlertKind::Up => match lasted(alert) {
            Some(ms) => format!("UP: {name} (was down for {})", about(ms)),
            None => format!("UP: {name}"),
        },
        AlertKind::Reminder => match down_for(alert) {
            Some(ms) => format!("Still DOWN: {name} (for {})", about(ms)),
            None => format!("Still DOWN: {name}"),
        },
        _ => match (why(alert), cause(alert)) {
            (Some(why), _) => format!("DOWN: {name}: {why}"),
            (None, Some(cause)) => format!("DOWN: {name} {cause}"),
            (None, None) => format!("DOWN: {name}"),
        },
    }
}

/// What was not as expected in the run that took a monitor down.
pub fn why(alert: &Alert) -> Option<&str> {
    alert.flip.as_ref()?.why.as_deref()
}

/// Why a monitor is down, as a verb phrase.
pub fn cause(alert: &Alert) -> Option<&'static str> {
    match alert.flip.as_ref()?.reason {
        Reason::Timeout => Some("missed its deadline"),
        Reason::Fail => Some("reported a failure"),
        Reason::Success | Reason::Paused | Reason::Resumed => None,
    }
}

/// How long a monitor that is up again was down, in milliseconds.
pub fn lasted(alert: &Alert) -> Option<i64> {
    alert.flip.as_ref()?.lasted_ms.filter(|ms| *ms > 0)
}

/// How long a monitor has been down when a reminder is sent, in milliseconds.
pub fn down_for(alert: &Alert) -> Option<i64> {
    let since = alert.flip.as_ref()?.at;
    let ms = UnixMs(alert.id.created_ms()) - since;
    (alert.what == AlertKind::Reminder && ms > 0).then_some(ms)
}

/// What happened, since when, and why: a few short sentences.
pub fn sentences(alert: &Alert, what: AlertKind, clock: &Clock) -> String {
    let name = name(alert);
    let at = clock.show(alert.happened());
    let mut text = match (what, lasted(alert), down_for(alert)) {
        (AlertKind::Down | AlertKind::Test, ..) => format!("{name} has been DOWN since {at}"),
        (AlertKind::Reminder, _, Some(ms)) => {
            format!(
                "{name} has been DOWN for {}. It went down at {at}",
                about(ms)
            )
        }
        (AlertKind::Reminder, ..) => format!("{name} is still DOWN. It went down at {at}"),
        (_, Some(ms), _) => format!(
            "{name} is UP again. It was down for {} and recovered at {at}",
            about(ms)
        ),
        _ => format!("{name} is UP again. It recovered at {at}"),
    };
    if what != AlertKind::Up {
        if let Some(reason) = reason(alert, clock) {
            let _ = write!(text, ": {reason}");
        }
        if alert.last_ping.is_none() {
            text.push_str(". It has never pinged");
        }
    }
    text.push('.');
    let missed = alert.flip.as_ref().map_or(0, |flip| flip.missed);
    if missed > 0 {
        let runs = if missed == 1 { "run" } else { "runs" };
        let _ = write!(text, " It missed {missed} {runs}.");
    }
    if let Some(outage) = alert.outage() {
        let (start, end) = (clock.show(outage.start), clock.show(outage.end));
        let _ = match outage.takeover {
            true => write!(
                text,
                " Thrum moved to another region, and heartbeats from {start} to {end} may have been lost, so it extended the deadline."
            ),
            false => write!(
                text,
                " Thrum itself was unavailable from {start} to {end}, so it extended the deadline."
            ),
        };
    }
    if alert.flapping {
        let _ = write!(
            text,
            " It is flapping: Thrum sends no more alerts about it until it has been stable for {} minutes.",
            STABLE_MS / 60_000
        );
    }
    text
}

/// Why a monitor is down, after a colon.
fn reason(alert: &Alert, clock: &Clock) -> Option<String> {
    if let Some(why) = why(alert) {
        return Some(why.to_owned());
    }
    let flip = alert.flip.as_ref()?;
    let grace_s = alert
        .monitor
        .as_ref()
        .and_then(|subject| subject.grace_s)
        .filter(|_| flip.outage.is_none());
    if let (Reason::Timeout, Some(deadline), Some(grace_s)) = (flip.reason, flip.deadline, grace_s)
    {
        let grace_ms = i64::from(grace_s) * 1000;
        return Some(format!(
            "a ping was due at {}, but none arrived within the grace of {}",
            clock.short(deadline + -grace_ms, deadline),
            about(grace_ms)
        ));
    }
    Some(format!("it {}", cause(alert)?))
}

/// What else helps.
pub fn facts(alert: &Alert, what: AlertKind, clock: &Clock) -> Vec<Fact> {
    let mut facts = Vec::new();
    let flip = alert.flip.as_ref();
    if what != AlertKind::Up {
        let success = flip.and_then(|flip| flip.last_success);
        let found = match (success, alert.last_ping) {
            (Some(success), _) => Some(("Last success", success)),
            (None, Some(last)) => Some(("Last ping", last)),
            (None, None) => None,
        };
        if let Some((label, at)) = found {
            let before = alert.happened() - at;
            let mut value = clock.show(at);
            if before > 0 {
                let _ = write!(value, ", {} before it went down", about(before));
            }
            facts.push(Fact { label, value });
        }
    }
    if let Some(subject) = &alert.monitor {
        if !subject.schedule.is_empty() {
            facts.push(Fact {
                label: "Schedule",
                value: subject.schedule.clone(),
            });
        }
        if !subject.tags.is_empty() {
            facts.push(Fact {
                label: "Tags",
                value: subject.tags.join(", "),
            });
        }
        if !subject.children.is_empty() {
            let names = subject.children.join(", ");
            let more = match subject.more_children {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            facts.push(Fact {
                label: "Dependent monitors",
                value: format!(
                    "{names}{more}; Thrum sends no alerts about them while this monitor is down"
                ),
            });
        }
    }
    facts
}
