//! The promises of a deployment in two regions, against what clients, receivers and the fence recorded.

use super::cast::{History, SHARDS};
use super::plan::{Act, Plan, Trouble};
use crate::START;
use crate::sim::Broken;
use crate::sim::clients::name;
use crate::sim::seen::ms_of;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use thrum_schema::AlertId;

/// How far the clocks of client and region may be apart, and a request's way, in milliseconds.
const CLOCKS_MS: i64 = 1_500;
/// How late replication may be, in milliseconds.
const LAG_MS: i64 = 90_000;
/// How long before the end of a lease it was last renewed, at most, in milliseconds.
const LEASE_MS: i64 = 60_000;
/// How long before a takeover its cause may be, in milliseconds: a lease, the flight time, polling, and a few failing
/// calls.
const CAUSE_MS: i64 = 240_000;
/// How long it may take from the loss of a region until the other one evaluates, if nothing else fails, in milliseconds.
pub const RTO_MS: i64 = 105_000;
/// How long after the last fault everyone must know the truth, in milliseconds.
const SETTLED_MS: i64 = 420_000;

/// From how many alerts on a monitor may count as flapping, so that an alert is held until it is stable.
const FLAPS: usize = 6;

/// The evidence.
pub struct Case {
    pub plan: Plan,
    pub history: History,
    pub foreign: Vec<String>,
    /// The monitors as the active region shows them, by client.
    pub monitors: Vec<Option<Value>>,
    /// The user agents in the monitors' logs.
    pub logged: Vec<String>,
    /// The items of both replicas, if everything was replicated.
    pub items: Option<[BTreeMap<String, Value>; 2]>,
    /// The items of the active replica.
    pub own: Vec<Value>,
}

/// A change that a receiver was told of.
struct Told<'a> {
    at_ms: i64,
    hook: usize,
    monitor: &'a str,
    alert: &'a str,
    status: &'a str,
    reason: &'a str,
    flip_ms: i64,
}

impl Case {
    /// When what was written or sent may be unknown to the region that took over.
    fn lost_spans(&self) -> Vec<(i64, i64)> {
        let epochs = self.history.epochs.iter();
        let span = |(taken, _, until): &(i64, usize, i64)| (until - LEASE_MS - LAG_MS, *taken);
        epochs.map(span).collect()
    }

    fn is_lost(&self, ms: i64) -> bool {
        self.lost_spans()
            .iter()
            .any(|(from, to)| (from - CLOCKS_MS..=to + CLOCKS_MS).contains(&ms))
    }

    /// What receivers were told of a monitor, in order.
    fn told(&self, client: usize) -> Vec<Told<'_>> {
        let mut told = Vec::new();
        for got in &self.history.got {
            let data = &got.body["data"];
            let all: &[Value] = match data["changes"].as_array() {
                Some(changes) => changes,
                None => std::slice::from_ref(data),
            };
            for change in all
                .iter()
                .filter(|one| one["monitor"]["name"] == name(client))
            {
                told.push(Told {
                    at_ms: got.at_ms,
                    hook: got.hook,
                    monitor: change["monitor"]["unique_key"].as_str().unwrap_or_default(),
                    alert: change["alert_id"].as_str().unwrap_or_default(),
                    status: change["status"].as_str().unwrap_or_default(),
                    reason: change["reason"].as_str().unwrap_or_default(),
                    flip_ms: ms_of(&change["flip_at"]).unwrap_or_default(),
                });
            }
        }
        told
    }
}

/// The broken promises of a run.
pub fn judge(case: &Case) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut note = |rule: &'static str, how: String| broken.push(Broken { rule, how });
    if let Some(how) = case.foreign.first() {
        note("only the active region's replica is written", how.clone());
    }
    for got in case.history.got.iter().filter(|got| !got.allowed) {
        note(
            "nothing is sent without the fence",
            format!("{} sent {} at {} ms", got.from, got.id, got.at_ms),
        );
    }
    takeovers(case, &mut note);
    replicas(case, &mut note);
    for i in 0..case.plan.clients.len() {
        replies(case, i, &mut note);
        heartbeats(case, i, &mut note);
        false_alarms(case, i, &mut note);
        messages(case, i, &mut note);
        beliefs(case, i, &mut note);
    }
    timers(case, &mut note);
    broken
}

/// A region takes over only if something kept the other from renewing its lease, or an operator wanted it; and soon.
fn takeovers(case: &Case, note: &mut impl FnMut(&'static str, String)) {
    let plan = &case.plan;
    for (at, region, _) in &case.history.epochs {
        let lately = at - CAUSE_MS..=*at;
        let switched = plan
            .switches
            .iter()
            .any(|(ms, next)| next == region && lately.contains(ms));
        let stopped = plan.spells.iter().any(|spell| {
            spell.what.can_stop(1 - region)
                && spell.from_ms <= *at
                && spell.to_ms >= *lately.start()
        });
        if !switched && !stopped {
            note(
                "a region takes over only if the other one can't go on",
                format!("{region} at {at} ms"),
            );
        }
    }
    if let [spell] = plan.spells[..]
        && spell.what == Trouble::Dead(0)
        && plan.switches.is_empty()
        && spell.to_ms - spell.from_ms > RTO_MS
    {
        let by = spell.from_ms + RTO_MS;
        let ready = case.history.ready.iter().min();
        if ready.is_none_or(|ready| *ready > by) {
            note(
                "the other region soon takes over",
                format!("lost at {} ms, repaired at {ready:?}", spell.from_ms),
            );
        }
    }
}

/// Replicas agree once they can.
fn replicas(case: &Case, note: &mut impl FnMut(&'static str, String)) {
    let Some([a, b]) = &case.items else {
        return;
    };
    let keys = a.keys().chain(b.keys());
    let different = keys.filter(|key| a.get(*key) != b.get(*key));
    if let Some(key) = different.min() {
        let how = format!("{key}: {:?} and {:?}", a.get(key), b.get(key));
        note("replicas agree once they can", how);
    }
}

/// A valid heartbeat is never refused for good.
fn replies(case: &Case, i: usize, note: &mut impl FnMut(&'static str, String)) {
    let mut sent = case.history.sent.iter().filter(|sent| sent.client == i);
    if let Some(refused) = sent.find(|sent| sent.done == Some(false)) {
        note("valid heartbeats are not refused", format!("{refused:?}"));
    }
}

/// An acknowledged heartbeat is lost only if it was not replicated.
fn heartbeats(case: &Case, i: usize, note: &mut impl FnMut(&'static str, String)) {
    let pings = case.monitors[i]
        .as_ref()
        .and_then(|shown| shown["pings"].as_u64());
    if pings.is_none_or(|pings| pings >= 100) {
        return;
    }
    let sent = case.history.sent.iter().filter(|sent| sent.client == i);
    for sent in sent.filter(|sent| sent.done == Some(true)) {
        // A late write may be that of a lost region, too.
        let safe = !case.is_lost(sent.sent_ms) && !case.is_lost(sent.ended_ms);
        if safe && !case.logged.contains(&sent.token) && !overwritten(case, i) {
            note(
                "a heartbeat that was replicated is not lost",
                format!("{sent:?}, {:?}", case.history.epochs),
            );
        }
    }
}

/// Whether numbers of heartbeats may have been given twice: the log is a ring of slots by number.
fn overwritten(case: &Case, i: usize) -> bool {
    let mut sent = case.history.sent.iter().filter(|sent| sent.client == i);
    sent.any(|sent| sent.done != Some(false) && case.is_lost(sent.ended_ms))
}

/// Nobody goes down by a timeout in whose window a heartbeat was acknowledged, whether or not it was replicated.
fn false_alarms(case: &Case, i: usize, note: &mut impl FnMut(&'static str, String)) {
    let client = &case.plan.clients[i];
    let patience_ms = (client.period_s + client.grace_s) * 1_000;
    for told in case.told(i) {
        if told.status != "down" || told.reason != "timeout" {
            continue;
        }
        let window = told.flip_ms - patience_ms + CLOCKS_MS..told.flip_ms - CLOCKS_MS;
        let pinged = case.history.sent.iter().find(|sent| {
            sent.client == i
                && sent.done == Some(true)
                && window.contains(&sent.sent_ms)
                && window.contains(&sent.ended_ms)
        });
        if let Some(pinged) = pinged {
            note(
                "nobody goes down falsely, even if heartbeats were not replicated",
                format!("{} at {} ms, in spite of {pinged:?}", name(i), told.flip_ms),
            );
        }
    }
}

/// Each change is announced once, in order, except for what the lost region announced shortly before.
fn messages(case: &Case, i: usize, note: &mut impl FnMut(&'static str, String)) {
    for hook in 0..case.plan.hooks.len() {
        let told = case.told(i);
        let told: Vec<&Told<'_>> = told.iter().filter(|told| told.hook == hook).collect();
        let mut firsts: HashMap<&str, &Told<'_>> = HashMap::new();
        let mut last: Option<&Told<'_>> = None;
        for one in told {
            if firsts.contains_key(one.alert) {
                continue;
            }
            firsts.insert(one.alert, one);
            if let Some(last) = last {
                let unknown = case.is_lost(last.at_ms) || was_recreated(case, i, last, one);
                if !unknown && last.status == one.status {
                    note(
                        "no change is announced twice under different IDs",
                        format!(
                            "hook {hook}: {} is {} by {} at {} and by {} at {} ms",
                            name(i),
                            one.status,
                            last.alert,
                            last.at_ms,
                            one.alert,
                            one.at_ms
                        ),
                    );
                }
                // IDs begin with the time, by the clock of the region that raised the alert.
                if !unknown && created_ms(one.alert) + CLOCKS_MS < created_ms(last.alert) {
                    note(
                        "A8: no older alert follows a newer one",
                        format!("hook {hook}: {} at {} ms", one.alert, one.at_ms),
                    );
                }
            }
            last = Some(one);
        }
    }
}

/// Whether `last` is about a monitor that was lost in part, and `one` about the one that was created in its place: the
/// recovery of the first is not announced. Its failure must not be, either, once the client had a success acknowledged.
fn was_recreated(case: &Case, i: usize, last: &Told<'_>, one: &Told<'_>) -> bool {
    let mut sent = case.history.sent.iter().filter(|sent| sent.client == i);
    let is_late = sent.any(|sent| {
        sent.done == Some(true)
            && sent.act == Act::Success
            && (last.flip_ms + CLOCKS_MS..last.at_ms).contains(&sent.ended_ms)
    });
    last.monitor != one.monitor && case.is_lost(last.flip_ms) && !is_late
}

fn created_ms(alert: &str) -> i64 {
    let id: Option<AlertId> = alert.parse().ok();
    id.map_or(0, AlertId::created_ms)
}

/// At the end, everyone believes the truth.
fn beliefs(case: &Case, i: usize, note: &mut impl FnMut(&'static str, String)) {
    let plan = &case.plan;
    let client = &plan.clients[i];
    let patience_ms = (client.period_s + client.grace_s) * 1_000;
    let done = |act: Act| {
        let sent = case
            .history
            .sent
            .iter()
            .filter(move |sent| sent.client == i);
        let done = sent.filter(move |sent| sent.done == Some(true) && sent.act == act);
        done.map(|sent| sent.ended_ms).max()
    };
    let (success, fail) = (done(Act::Success), done(Act::Fail));
    let Some(last) = success.max(fail) else {
        return;
    };
    // A monitor that exists nowhere any more tells nothing.
    let existed = case.monitors[i].is_some();
    let unsure =
        case.history.sent.iter().any(|sent| {
            sent.client == i && sent.done.is_none() && sent.ended_ms >= last - CLOCKS_MS
        });
    if unsure || !existed {
        // One that is acknowledged long after the last fault must be watched.
        if !existed && last > plan.calm_ms + SETTLED_MS {
            note(
                "a heartbeat is acknowledged only if its monitor exists",
                format!("{} at {last} ms", name(i)),
            );
        }
        if !existed && !case.is_lost(last) {
            let first = case
                .history
                .sent
                .iter()
                .find(|sent| sent.client == i && sent.done == Some(true));
            if first.is_some_and(|first| !case.is_lost(first.sent_ms)) {
                note("a monitor that was replicated is not lost", name(i));
            }
        }
        return;
    }
    let known = case
        .history
        .sent
        .iter()
        .any(|sent| sent.client == i && sent.done == Some(true) && !case.is_lost(sent.sent_ms));
    if !known {
        // A monitor whose heartbeats were all lost waits for nothing.
        return;
    }
    let failed = fail > success;
    let is_late = last + patience_ms + SETTLED_MS + 3_600_000.min(patience_ms) < plan.end_ms;
    let fresh = success.is_some_and(|at| at + patience_ms > plan.end_ms + CLOCKS_MS);
    let expected = if failed {
        // The failure itself may be lost.
        (!case.is_lost(last) && last + SETTLED_MS < plan.end_ms).then_some("down")
    } else if is_late && plan.calm_ms + SETTLED_MS < plan.end_ms {
        Some("down")
    } else if fresh {
        Some("up")
    } else {
        None
    };
    let Some(expected) = expected else {
        return;
    };
    let shown = case.monitors[i]
        .as_ref()
        .and_then(|shown| shown["status"].as_str());
    // What should be up has been silent since the end.
    if expected == "down" && shown != Some(expected) {
        note(
            "the status at the end is the truth",
            format!("{} is {shown:?}, but must be {expected}", name(i)),
        );
    }
    let told = case.told(i);
    let alerts: BTreeSet<&str> = told.iter().map(|told| told.alert).collect();
    if alerts.len() >= FLAPS {
        return;
    }
    for hook in 0..plan.hooks.len() {
        let last = told.iter().rfind(|told| told.hook == hook);
        let believed = last.map_or("up", |last| last.status);
        // What the lost region told shortly before, this one may never have learned.
        let unknown = last.is_some_and(|last| case.is_lost(last.at_ms));
        if believed != expected && !unknown {
            note(
                "no alert is lost: everyone believes the truth at the end",
                format!(
                    "hook {hook} believes that {} is {believed}, but it is {expected}",
                    name(i)
                ),
            );
        }
    }
}

/// T2: no timer stays behind the cursor.
fn timers(case: &Case, note: &mut impl FnMut(&'static str, String)) {
    let low: HashMap<&str, i64> = case
        .own
        .iter()
        .filter(|item| item["pk"]["S"] == "SWEEP")
        .filter_map(|item| {
            let low = item["low"]["N"].as_str()?.parse().ok()?;
            Some((item["sk"]["S"].as_str()?, low))
        })
        .collect();
    let now = (START.0 + case.plan.end_ms) / 60_000;
    for shard in 0..SHARDS {
        let low = low.get(&*format!("{shard:03}")).copied().unwrap_or(0);
        // Checks after a takeover go back.
        if now - low > 12 && case.history.epochs.is_empty() {
            note(
                "the sweep makes progress",
                format!("shard {shard} is at {low}, now is {now}"),
            );
        }
    }
    for item in &case.own {
        let pk = item["pk"]["S"].as_str().unwrap_or_default();
        let Some((shard, minute)) = pk.strip_prefix("T#").and_then(|rest| rest.split_once('#'))
        else {
            continue;
        };
        let low = low.get(shard).copied().unwrap_or(i64::MIN);
        if minute.parse().is_ok_and(|minute: i64| minute < low) {
            note(
                "T2: no timer is left behind the cursor",
                format!("{pk}, cursor at {low}"),
            );
        }
    }
}
