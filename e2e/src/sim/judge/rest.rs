//! Rules for limits, quotas, timers and signals, and for work that is left over at the end.

use super::case::{Case, IN_PROGRESS_MS, Note, number, s};
use crate::START;
use crate::sim::history::Outcome;
use crate::sim::seen::SeenAlert;
use base64::Engine;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use thrum_schema::AlertId;
use thrum_schema::timer::{Timer, What, decode};

/// Maximum number of timer entries per monitor: its own, and a duplicate after a crash.
const ENTRIES: usize = 2;

pub fn judge(case: &Case, note: &mut Note<'_>) {
    limits(case, note);
    quota(case, note);
    timers(case, note);
    leftovers(case, note);
    signals(case, note);
}

/// A7: a channel's daily limit is never exceeded, and overcharged at most once per crash or failed
/// call on its counter.
fn limits(case: &Case, note: &mut Note<'_>) {
    for (hook, limit) in case.scenario.hooks.iter().enumerate() {
        let Some(limit) = limit.daily_limit.map(u64::from) else {
            continue;
        };
        let of = |limited: bool| {
            let messages = case
                .history
                .delivered
                .iter()
                .filter(|message| message.hook == hook);
            let own =
                messages.filter(|message| (message.body["type"] == "channel.limited") == limited);
            own.map(|message| &message.id)
                .collect::<BTreeSet<_>>()
                .len() as u64
        };
        let sent = of(false);
        // The first alert that a monitor is down passes.
        let passes = case.scenario.scripts.len() as u64;
        if sent > limit + passes {
            note(
                "A7: a limit is never exceeded",
                format!("hook {hook} got {sent} messages; its limit is {limit}"),
            );
        }
        if of(true) > 1 {
            note(
                "A7: the limit notice is sent once a day",
                format!("hook {hook} got {} notices", of(true)),
            );
        }
        let channel = &case.setup.channels[hook];
        let limited = case
            .seen
            .alerts
            .iter()
            .find(|alert| alert.what == "channel.limited" && is_to(alert, channel));
        let suppressed = case.seen.alerts.iter().any(|alert| {
            alert
                .deliveries
                .iter()
                .any(|one| one.channel == *channel && one.state == "suppressed")
        });
        if suppressed && limited.is_none() {
            note(
                "A7: reaching the limit sends a notice",
                format!("hook {hook} got no notice of its limit"),
            );
        }
        // A sender that could not record the outcome of a message is charged again.
        let unrecorded = case
            .faults
            .iter()
            .filter(|one| one.asked.contains(&format!("\"D#{channel}")));
        // A message that awaits a retry is charged, but not delivered yet.
        let mut own = case.seen.alerts.iter().flat_map(|alert| &alert.deliveries);
        let waits = own.any(|one| one.channel == *channel && one.state == "retry")
            || case.has_group_to_retry(channel);
        let overcharged =
            case.overcharges(&format!("channel#{channel}")) + unrecorded.count() as u64;
        // A monitor has half of the limit.
        let share = limit.div_ceil(2).max(2).min(limit);
        if suppressed && !waits && sent + overcharged < share {
            note(
                "A7: nothing is suppressed below the limit",
                format!("hook {hook} got {sent} messages; its limit is {limit}"),
            );
        }
    }
}

/// Whether an alert has a delivery on a channel.
fn is_to(alert: &SeenAlert, channel: &str) -> bool {
    alert.deliveries.iter().any(|one| one.channel == channel)
}

/// A key's quota is never exceeded, and refuses nothing below it.
fn quota(case: &Case, note: &mut Note<'_>) {
    let Some(quota) = case.scenario.quota.map(u64::from) else {
        return;
    };
    let count = |of: fn(&Outcome) -> bool| {
        case.history
            .metered
            .iter()
            .filter(|outcome| of(outcome))
            .count() as u64
    };
    let done = count(|outcome| *outcome == Outcome::Done);
    let refused = count(|outcome| *outcome == Outcome::Refused(429));
    let unknown = count(|outcome| *outcome == Outcome::Unknown);
    if done > quota {
        note(
            "a quota is never exceeded",
            format!("{done} requests succeeded; the quota is {quota}"),
        );
    }
    if refused > 0 && done + unknown + case.overcharges("\"requests#") < quota {
        note(
            "nothing is refused below the quota",
            format!("{done} requests succeeded and {refused} were refused; the quota is {quota}"),
        );
    }
}

/// T1, T2 and bounds on the number of timer entries.
fn timers(case: &Case, note: &mut Note<'_>) {
    let mut entries: Vec<Timer> = Vec::new();
    let cursors: HashMap<&str, i64> = case
        .seen
        .items
        .iter()
        .filter(|item| item["pk"]["S"] == "SWEEP")
        .filter_map(|item| Some((item["sk"]["S"].as_str()?, number(item, "low")?)))
        .collect();
    for item in case.seen.items.iter().filter(|item| is_of(item, "T#")) {
        let bucket = item["pk"]["S"].as_str().unwrap_or_default();
        let (shard, minute) = bucket[2..].split_once('#').unwrap_or_default();
        let low = cursors.get(shard).copied().unwrap_or(i64::MIN);
        if minute.parse().is_ok_and(|minute: i64| minute < low) {
            note(
                "T2: no timer is left behind the cursor",
                format!("{bucket} has a timer, but the cursor is at {low}"),
            );
        }
        let bytes = item["e"]["B"]
            .as_str()
            .and_then(|text| base64::prelude::BASE64_STANDARD.decode(text).ok());
        entries.extend(bytes.and_then(|bytes| decode(&bytes)).unwrap_or_default());
    }
    let mut by_monitor: HashMap<String, Vec<(i64, i64)>> = HashMap::new();
    for entry in &entries {
        if let What::Deadline { monitor, epoch } = entry.what {
            let due = entry.due.0 - START.0;
            by_monitor
                .entry(monitor.to_string())
                .or_default()
                .push((i64::from(epoch), due));
        }
    }
    let states = case
        .seen
        .items
        .iter()
        .filter(|item| item["sk"]["S"] == "LEASE");
    for state in states {
        let monitor = state["monitor"]["S"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let Some(shown) = case
            .seen
            .monitors
            .iter()
            .flatten()
            .find(|seen| seen.uuid == monitor)
        else {
            continue;
        };
        let none = Vec::new();
        let own = by_monitor.get(&monitor).unwrap_or(&none);
        // Entries that are due are done, but stay until the next sweep.
        let ahead = own.iter().filter(|(_, due)| *due >= case.scenario.end_ms);
        if ahead.count() > ENTRIES {
            note("timers never multiply", format!("{monitor} has {own:?}"));
        }
        // A lease with a deadline expires an hour after it.
        let deadline = number(state, "expires_at").map(|s| (s - 3_600) * 1000 - START.0);
        let epoch = number(state, "epoch").unwrap_or_default();
        let waits = deadline.filter(|_| shown.status != "down");
        if let Some(deadline) = waits {
            let armed = own
                .iter()
                .any(|(of, due)| *of == epoch && *due <= deadline + 1_000);
            if !armed {
                let how = format!(
                    "{monitor}, epoch {epoch}, deadline {}, has {own:?}",
                    s(deadline)
                );
                note(
                    "T1: a monitor that can go down has a timer at or before its deadline",
                    how,
                );
            }
        }
    }
    let bound = 20
        + 4 * case.scenario.scripts.len()
        + 4 * case.seen.alerts.len() * case.scenario.hooks.len();
    if entries.len() > bound {
        note("timers are bounded", format!("{} entries", entries.len()));
    }
}

fn is_of(item: &Value, prefix: &str) -> bool {
    item["pk"]["S"]
        .as_str()
        .is_some_and(|pk| pk.starts_with(prefix))
}

/// Whether a delivery belongs to a channel whose group awaits a retry.
fn is_in_retry(case: &Case, item: &Value) -> bool {
    let channel = item["sk"]["S"].as_str().unwrap_or_default();
    case.has_group_to_retry(channel.trim_start_matches("D#"))
}

/// After the faults, nothing waits forever.
fn leftovers(case: &Case, note: &mut Note<'_>) {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for item in &case.seen.items {
        let state = item["state"]["S"].as_str().unwrap_or_default();
        let kind = item["kind"]["S"].as_str().unwrap_or_default();
        // Work that started a moment ago may still be in progress.
        let is_recent = |ms: i64| ms > START.0 + case.scenario.end_ms - IN_PROGRESS_MS;
        match kind {
            "delivery"
                if (state == "claimed" || state == "gathering" && !is_in_retry(case, item))
                    && !number(item, "until").is_some_and(is_recent) =>
            {
                *left.entry("deliveries").or_default() += 1;
            }
            "gathered" => {
                let alert = item["alert"]["S"]
                    .as_str()
                    .and_then(|id| id.parse::<AlertId>().ok());
                if !alert.is_some_and(|alert| is_recent(alert.created_ms())) {
                    *left.entry("gathered alerts").or_default() += 1;
                }
            }
            _ => {}
        }
    }
    if !left.is_empty() {
        note("nothing waits forever", format!("{left:?}"));
    }
    // Ticks and Thrum's own heartbeats succeed again.
    let from = case.scenario.calm_ms + 2 * IN_PROGRESS_MS;
    let mut coming = vec![("pulse".to_owned(), pulses_of(case))];
    coming.extend((0..case.scenario.shards()).map(|shard| {
        let own = case.history.sweeps.iter();
        let own = own.filter(|sweep| sweep.shard == shard);
        let ends = own.map(|sweep| sweep.ended_ms).collect();
        (format!("sweep of shard {shard}"), ends)
    }));
    for (what, ends) in coming {
        let mut times: Vec<i64> = ends.into_iter().filter(|ms| *ms > from).collect();
        times.extend([from, case.scenario.end_ms]);
        times.sort_unstable();
        let gap = times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or(0);
        if gap > 2 * IN_PROGRESS_MS + IN_PROGRESS_MS / 2 {
            note(
                "ticks and pulses keep coming",
                format!("no {what} for {gap} ms after the last fault"),
            );
        }
    }
    let swept = case
        .seen
        .items
        .iter()
        .filter(|item| item["pk"]["S"] == "SWEEP");
    for cursor in swept {
        let low = cursor["low"]["N"]
            .as_str()
            .and_then(|n| n.parse::<i64>().ok())
            .unwrap_or_default();
        let now = (START.0 + case.scenario.end_ms) / 60_000;
        if now - low > 12 {
            note(
                "the sweep makes progress",
                format!("{} is {} minutes behind", cursor["sk"]["S"], now - low),
            );
        }
    }
}

fn pulses_of(case: &Case) -> Vec<i64> {
    let pulses = case.history.pulses.iter();
    pulses.map(|(_, answered)| *answered).collect()
}

/// Bars are stored as they were sent, and the signals are right.
fn signals(case: &Case, note: &mut Note<'_>) {
    if !case.scenario.bars {
        return;
    }
    let bars = &case.seen.bars;
    for (i, (index, close)) in bars.iter().enumerate() {
        if *index != i as i64 {
            note("no bar is lost", format!("bar {i} is missing"));
            return;
        }
        if !case.history.bars.contains(&(*index, *close)) {
            note(
                "no bar is invented",
                format!("bar {index} has a close of {close} that no client sent"),
            );
        }
    }
    let sent = case
        .history
        .bars
        .iter()
        .map(|(index, _)| index + 1)
        .max()
        .unwrap_or(0);
    if bars.len() as i64 != sent {
        note(
            "no bar is lost",
            format!("{} of {sent} bars are stored", bars.len()),
        );
    }
    super::signals::judge(case, bars, note);
}
