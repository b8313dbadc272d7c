//! Rules for alerts: one per flip, delivered to every channel, in order, under a stable key, and
//! none without a cause.

use super::case::{Case, Note, s};
use crate::sim::cast::summary;
use crate::sim::history::Delivered;
use crate::sim::scenario::Kind;
use crate::sim::seen::{SeenAlert, SeenMonitor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How long an alert may take to reach every channel without faults, in milliseconds: two seconds
/// for grouping, plus the timer that sends it if the queue loses the message.
const PROMPT_MS: i64 = 20_000;
/// How long after the last fault the bounds without faults apply again, in milliseconds.
const SETTLED_MS: i64 = 180_000;

/// An alert within a message.
pub struct Entry<'a> {
    message: &'a Delivered,
    pub alert: &'a str,
}

pub fn judge(case: &Case, note: &mut Note<'_>) {
    flips_have_alerts(case, note);
    messages(case, note);
    order(case, note);
    // What people do about alerts has rules of its own.
    if case.scenario.care.is_none() {
        alerts_arrive(case, note);
        detection(case, note);
    }
}

/// The alerts that a message contains.
pub fn entries(message: &Delivered) -> Vec<Entry<'_>> {
    let data = &message.body["data"];
    let all: Vec<&Value> = match data["changes"].as_array() {
        Some(changes) => changes.iter().collect(),
        None => vec![data],
    };
    all.into_iter()
        .filter_map(|change| change["alert_id"].as_str())
        .map(|alert| Entry { message, alert })
        .collect()
}

/// A1: each flip that alerts has exactly one alert, and each monitor alert has a flip.
fn flips_have_alerts(case: &Case, note: &mut Note<'_>) {
    for monitor in case.seen.monitors.iter().flatten() {
        let mut wanted: BTreeMap<(i64, String), i64> = BTreeMap::new();
        for flip in monitor.flips.iter().filter(|flip| flip.alert) {
            *wanted
                .entry((flip.at_ms, format!("monitor.{}", flip.to)))
                .or_default() += 1;
        }
        // The API shows only the last twenty flips.
        let whole = monitor.flips.len() < 20;
        let first = monitor.flips.first().map_or(i64::MIN, |flip| flip.at_ms);
        for alert in case
            .seen
            .alerts
            .iter()
            .filter(|alert| alert.monitor.as_deref() == Some(&*monitor.uuid))
            .filter(|alert| alert.what != "monitor.reminder")
        {
            let at = alert.flip_at_ms.unwrap_or_default();
            if whole || at > first {
                *wanted.entry((at, alert.what.clone())).or_default() -= 1;
            }
        }
        for ((at, what), more) in wanted {
            match more {
                0 => {}
                1.. if !whole && at <= first => {}
                1.. => note(
                    "A1: a flip that alerts has an alert",
                    format!("{what} at {} of {} has none", s(at), monitor.uuid),
                ),
                _ => note(
                    "A1: every alert has a flip",
                    format!("{what} at {} of {} has none", s(at), monitor.uuid),
                ),
            }
        }
    }
}

/// A2 to A5, A7: every alert reaches every channel, or shows why it does not or when it is retried.
fn alerts_arrive(case: &Case, note: &mut Note<'_>) {
    let end = case.scenario.end_ms;
    for alert in &case.seen.alerts {
        if alert.created_ms > end - PROMPT_MS {
            continue;
        }
        let mut waits = false;
        for (hook, channel) in case.setup.channels.iter().enumerate() {
            let own = ["channel.test", "channel.limited"].contains(&&*alert.what);
            let delivery = alert.deliveries.iter().find(|one| one.channel == *channel);
            let got = got_by(case, hook, alert, end);
            match delivery.map(|delivery| delivery.state.as_str()) {
                Some("sent") if got => {}
                // A sender that could not record the delivery is charged again, which may exceed
                // the limit.
                Some("suppressed")
                    if case.scenario.hooks[hook].daily_limit.is_some()
                        && !is_first_down(case, alert)
                        && (!got || was_unrecorded(case, hook, alert)) => {}
                // Waiting for the retry of its group.
                Some("gathering") if case.has_group_to_retry(channel) => waits = true,
                Some("waiting") if case.has_group_to_retry(channel) => waits = true,
                Some("retry")
                    if delivery.is_some_and(|one| one.next_ms > Some(end - PROMPT_MS)) =>
                {
                    waits = true;
                }
                // Waiting behind an earlier alert of the same monitor that is being retried.
                Some("waiting") if is_retried(case, alert, channel) => waits = true,
                Some("dead") if case.was_gone(hook, alert) => waits = true,
                None if own => {}
                state => note(
                    "every alert reaches every channel",
                    format!(
                        "hook {hook}: delivery is {state:?}, received: {got}; alert {} created at {}: {}",
                        alert.id,
                        s(alert.created_ms),
                        alert.what
                    ),
                ),
            }
        }
        if alert.state != "delivered" && !waits {
            note("every alert is eventually delivered", format!("{alert:?}"));
        }
    }
}

/// Whether it is the first alert that its monitor is down: that passes a channel's limit. A
/// scenario takes less than a day.
fn is_first_down(case: &Case, alert: &SeenAlert) -> bool {
    let down = |one: &&SeenAlert| one.what == "monitor.down" && one.monitor == alert.monitor;
    let first = case.seen.alerts.iter().find(down);
    first.is_some_and(|first| first.id == alert.id)
}

/// Whether an alert of the same monitor awaits a retry on that channel, so that later ones wait.
fn is_retried(case: &Case, alert: &SeenAlert, channel: &str) -> bool {
    let same = case
        .seen
        .alerts
        .iter()
        .filter(|other| other.monitor == alert.monitor);
    let mut deliveries = same.flat_map(|other| &other.deliveries);
    deliveries.any(|one| {
        one.channel == channel
            && one.state == "retry"
            && one.next_ms > Some(case.scenario.end_ms - PROMPT_MS)
    })
}

/// A3, A6: a message keeps its key and its body across repeats, and an alert is in only one
/// message.
fn messages(case: &Case, note: &mut Note<'_>) {
    let known: HashMap<&str, &SeenAlert> = case
        .seen
        .alerts
        .iter()
        .map(|alert| (alert.id.as_str(), alert))
        .collect();
    let mut bodies: HashMap<(usize, &str), &Value> = HashMap::new();
    let mut keys: BTreeMap<(usize, String), BTreeSet<&str>> = BTreeMap::new();
    let mut accepted: HashMap<(usize, &str), i64> = HashMap::new();
    for message in &case.history.delivered {
        let key = (message.hook, message.id.as_str());
        let channel = case
            .setup
            .channels
            .get(message.hook)
            .map_or("", String::as_str);
        if !message.id.ends_with(&format!(".{channel}")) {
            note(
                "A3: a message's key names its alert and channel",
                format!("{} at hook {}", message.id, message.hook),
            );
        }
        let first = bodies.entry(key).or_insert(&message.body);
        if **first != message.body {
            note(
                "A3: a repeated message is identical",
                format!(
                    "{}: {} and {}",
                    message.id,
                    summary(first),
                    summary(&message.body)
                ),
            );
        }
        // A sender that could not record the delivery sends it again.
        if let Some(before) = accepted.get(&key)
            && !has_excuse(case, &message.id, *before, message.at_ms)
        {
            note(
                "one message per alert",
                format!(
                    "{} came at {} and at {}, without a fault in between",
                    message.id,
                    s(*before),
                    s(message.at_ms)
                ),
            );
        }
        if message.accepted {
            accepted.insert(key, message.at_ms);
        }
        for entry in entries(message) {
            keys.entry((message.hook, entry.alert.to_owned()))
                .or_default()
                .insert(&message.id);
            if !known.contains_key(entry.alert) {
                note(
                    "no message without an alert",
                    format!("{} at {}", entry.alert, s(message.at_ms)),
                );
            }
        }
    }
    for ((hook, alert), keys) in keys {
        if keys.len() > 1 {
            note(
                "A3: repeats carry the same key",
                format!("hook {hook} got {alert} as {keys:?}"),
            );
        }
    }
}

/// Whether a fault may have kept the sender from recording this alert's delivery.
fn was_unrecorded(case: &Case, hook: usize, alert: &SeenAlert) -> bool {
    let mut own = case.history.delivered.iter().filter(|message| {
        message.hook == hook && entries(message).iter().any(|entry| entry.alert == alert.id)
    });
    own.any(|message| has_excuse(case, &message.id, alert.created_ms, case.scenario.end_ms))
}

/// Whether a fault between `from` and `to` may have kept the sender from recording a message: a
/// crash, or a failed call about it.
fn has_excuse(case: &Case, id: &str, from: i64, to: i64) -> bool {
    let between = from..=to;
    let alert = id.split('.').next().unwrap_or(id);
    let crashed = case.history.kills.iter().any(|at| between.contains(at));
    crashed
        || case
            .faults
            .iter()
            .any(|one| between.contains(&one.at_ms) && one.asked.contains(alert))
}

/// A8: no older alert of a monitor follows a newer one.
fn order(case: &Case, note: &mut Note<'_>) {
    for monitor in case.seen.monitors.iter().flatten() {
        let place = |alert: &SeenAlert| {
            let same = |flip: &&crate::sim::seen::SeenFlip| {
                Some(flip.at_ms) == alert.flip_at_ms && alert.what == format!("monitor.{}", flip.to)
            };
            let mut places = monitor.flips.iter().filter(same).map(|flip| flip.n);
            places.next().filter(|_| places.next().is_none())
        };
        let places: HashMap<&str, u64> = case
            .seen
            .alerts
            .iter()
            .filter(|alert| alert.monitor.as_deref() == Some(&*monitor.uuid))
            .filter_map(|alert| Some((alert.id.as_str(), place(alert)?)))
            .collect();
        let mut newest: HashMap<usize, u64> = HashMap::new();
        for message in &case.history.delivered {
            for entry in entries(message) {
                let Some(n) = places.get(entry.alert) else {
                    continue;
                };
                if case.is_redelivered(entry.alert) {
                    continue;
                }
                let newest = newest.entry(message.hook).or_default();
                if n < newest {
                    let how = format!(
                        "hook {} got flip {n} of {} at {} after flip {newest}",
                        message.hook,
                        monitor.uuid,
                        s(entry.message.at_ms)
                    );
                    note("A8: no older alert follows a newer one", how);
                }
                *newest = (*newest).max(*n);
            }
        }
    }
}

/// Without faults, deadlines are detected and alerts delivered in time.
fn detection(case: &Case, note: &mut Note<'_>) {
    let calm = if case.scenario.is_calm() {
        0
    } else {
        case.scenario.calm_ms + SETTLED_MS
    };
    for alert in &case.seen.alerts {
        let Some(flip_at) = alert
            .flip_at_ms
            .filter(|at| *at > calm && *at + SETTLED_MS < case.scenario.end_ms)
        else {
            continue;
        };
        let took = alert.created_ms - flip_at.max(changed_ms(case, alert));
        let most_ms = case.detection_ms() + case.goes_on_ms(flip_at);
        if alert.what == "monitor.down" && took > most_ms && !is_held(case, alert) {
            note(
                "a missed deadline is detected in time",
                format!("{} after {} ms", alert.id, took),
            );
        }
        for (hook, channel) in case.setup.channels.iter().enumerate() {
            let sent = alert
                .deliveries
                .iter()
                .any(|one| one.channel == *channel && one.state == "sent");
            // An undelivered earlier alert of the same monitor holds this one up.
            let earlier = case.seen.alerts.iter().any(|other| {
                other.monitor == alert.monitor
                    && other.id != alert.id
                    && other.created_ms <= alert.created_ms
                    && !got_by(case, hook, other, alert.created_ms)
            });
            let again = case.is_redelivered(&alert.id);
            if sent
                && !earlier
                && !again
                && !got_by(case, hook, alert, alert.created_ms + PROMPT_MS)
            {
                note(
                    "alerts are delivered in time",
                    format!(
                        "hook {hook} had not received {} by {}",
                        alert.id,
                        s(alert.created_ms + PROMPT_MS)
                    ),
                );
            }
        }
    }
}

/// Whether something may have held an alert.
fn is_held(case: &Case, alert: &SeenAlert) -> bool {
    let mut scripts = 0..case.scenario.scripts.len();
    scripts.any(|i| {
        let monitor = case.seen.monitors[i].as_ref().ok();
        let uuid = monitor.map(|monitor| &monitor.uuid);
        // A deleted monitor is missing from `seen`, so use its UUID from `setup`.
        uuid.or(case.setup.monitors[i].as_ref()) == alert.monitor.as_ref() && case.is_held(i)
    })
}

/// When the monitor's period and grace were last changed: that may put its deadline in the past.
fn changed_ms(case: &Case, alert: &SeenAlert) -> i64 {
    let is = |seen: &Result<SeenMonitor, _>| {
        seen.as_ref()
            .is_ok_and(|seen| Some(&seen.uuid) == alert.monitor.as_ref())
    };
    let script = case.seen.monitors.iter().position(is);
    let changes = case
        .history
        .asked
        .iter()
        .filter(|asked| Some(asked.script) == script && asked.what == Kind::Change);
    changes.map(|asked| asked.ended_ms).max().unwrap_or(0)
}

fn got_by(case: &Case, hook: usize, alert: &SeenAlert, ms: i64) -> bool {
    case.history.delivered.iter().any(|message| {
        message.hook == hook
            && message.at_ms <= ms
            && message.accepted
            && entries(message).iter().any(|entry| entry.alert == alert.id)
    })
}
