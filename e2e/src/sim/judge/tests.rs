//! Tests of the judge: for each rule, evidence of a correct run is falsified in one way that the
//! rule must catch.

use super::{Case, judge};
use crate::sim::clients::name;
use crate::sim::history::{Delivered, Outcome};
use crate::sim::play;
use crate::sim::scenario::{Kind, Place, Scenario, Script};
use crate::sim::seen::{SeenAlert, SeenFlip, SeenMonitor};
use serde_json::{Value, json};

/// How many seeds to try until one has something to falsify.
const SEEDS: u64 = 150;

/// Falsifies the evidence; `None` if there is nothing to falsify.
type Falsify = fn(&mut Case) -> Option<()>;

const FALSIFIED: &[(&str, Falsify)] = &[
    ("one monitor per name", |case| {
        *case.seen.monitors.first_mut()? = Err("there are two".to_owned());
        Some(())
    }),
    (
        "valid requests succeed and invalid ones are refused",
        |case| {
            let mut asked = case.history.asked.iter_mut();
            asked.find(|one| one.outcome == Outcome::Done)?.outcome = Outcome::Refused(400);
            Some(())
        },
    ),
    ("a step of the clock refuses no heartbeat", |case| {
        case.scenario.clock_step?;
        case.history.asked.last_mut()?.outcome = Outcome::Refused(429);
        Some(())
    }),
    ("a step of the clock takes no monitor down", |case| {
        case.scenario.clock_step?;
        // The shortest patience of a monitor in such a scenario is 30 s.
        let end = case.scenario.end_ms - 30_000;
        let is_steady = |script: &Script| script.acts.last().is_some_and(|act| act.at_ms > end);
        let steady = case.scenario.scripts.iter().position(is_steady)?;
        let body = json!({"type": "monitor.down", "data": {"monitor": {"name": name(steady)}}});
        case.history.delivered.push(Delivered {
            at_ms: end,
            hook: 0,
            id: "invented".to_owned(),
            body,
            accepted: true,
        });
        Some(())
    }),
    (
        "a silent monitor is reported in spite of a step of the clock",
        |case| {
            case.scenario.clock_step?;
            let before = case.history.delivered.len();
            let about_down = |one: &Delivered| one.body.to_string().contains("down");
            case.history.delivered.retain(|one| !about_down(one));
            (case.history.delivered.len() < before).then_some(())
        },
    ),
    ("no acknowledged heartbeat is lost", |case| {
        monitor(case, |monitor| !monitor.log.is_empty())?.log.pop();
        Some(())
    }),
    ("no heartbeat is invented", |case| {
        monitor(case, |_| true)?.pings += 1_000;
        Some(())
    }),
    ("heartbeat numbers are unique", |case| {
        let log = &mut monitor(case, |monitor| monitor.log.len() > 1)?.log;
        log[1].n = log[0].n;
        Some(())
    }),
    ("flips are consecutive", |case| {
        let with_three = monitor(case, |monitor| monitor.flips.len() > 2)?;
        with_three.flips.remove(1);
        Some(())
    }),
    ("flip times never run backwards", |case| {
        let flips = &mut monitor(case, |monitor| monitor.flips.len() > 1)?.flips;
        flips[1].at_ms = flips[0].at_ms - 1;
        Some(())
    }),
    (
        "T3: Thrum's downtime never counts against a monitor",
        |case| {
            // Pretend that Thrum was away from before the deadline until after it.
            let flips = &monitor(case, |monitor| monitor.flips.iter().any(is_late))?.flips;
            let at_ms = flips.iter().find(|flip| is_late(flip))?.at_ms;
            let away = at_ms - 2 * case.gap_ms()..at_ms + 2_000;
            case.history.pulse_attempts.retain(|at| !away.contains(at));
            Some(())
        },
    ),
    ("no flip without a cause", |case| {
        case.history.asked.retain(|asked| asked.script != 0);
        Some(())
    }),
    (
        "every flip to down and every recovery alerts, unless the monitor flaps",
        |case| {
            let flips = &mut monitor(case, |monitor| !monitor.flips.is_empty())?.flips;
            flips[0].alert = !flips[0].alert;
            Some(())
        },
    ),
    ("a deleted monitor stays deleted", |case| {
        let i = deleted(case)?;
        let other = monitor(case, |_| true)?.clone();
        case.seen.monitors[i] = Ok(other);
        Some(())
    }),
    ("a deleted monitor raises no alert", |case| {
        let uuid = case.setup.monitors[deleted(case)?].clone();
        let mut late = downs(case).next()?.clone();
        (late.monitor, late.created_ms) = (uuid, case.scenario.end_ms);
        case.seen.alerts.push(late);
        Some(())
    }),
    ("a snoozed monitor raises no alert", |case| {
        let asked = case.history.asked.iter();
        let mut snoozes = asked.filter(|one| one.what == Kind::Snooze);
        let snooze = snoozes.find(|one| one.outcome == Outcome::Done)?.clone();
        let uuid = case.seen.monitors[snooze.script]
            .as_ref()
            .ok()?
            .uuid
            .clone();
        let mut loud = downs(case).next()?.clone();
        (loud.monitor, loud.created_ms) = (Some(uuid), snooze.ended_ms + 30_000);
        case.seen.alerts.push(loud);
        Some(())
    }),
    (
        "a child raises no down alert while its parent is down",
        |case| {
            let mut scripts = case.scenario.scripts.iter();
            let child = scripts.position(|script| script.parent.is_some())?;
            let uuid = case.seen.monitors[child].as_ref().ok()?.uuid.clone();
            for second in 0..case.scenario.end_ms / 1_000 {
                let mut loud = downs(case).next()?.clone();
                (loud.monitor, loud.created_ms) = (Some(uuid.clone()), second * 1_000);
                case.seen.alerts.push(loud);
            }
            Some(())
        },
    ),
    (
        "a child has time to report once its parent is back",
        |case| {
            let mut scripts = case.scenario.scripts.iter();
            let child = scripts.position(|script| script.parent.is_some())?;
            let monitor = case.seen.monitors[child].as_ref().ok()?;
            let mut flips = monitor.flips.iter();
            let flip = flips.find(|flip| flip.to == "down")?;
            let (uuid, flip_at_ms) = (monitor.uuid.clone(), flip.at_ms);
            for second in 0..case.scenario.end_ms / 1_000 {
                let mut loud = downs(case).next()?.clone();
                (loud.monitor, loud.created_ms) = (Some(uuid.clone()), second * 1_000);
                loud.flip_at_ms = Some(flip_at_ms);
                case.seen.alerts.push(loud);
            }
            Some(())
        },
    ),
    ("an alert that is no longer held is sent", |case| {
        flips(case).for_each(|flip| flip.alert = false);
        Some(())
    }),
    ("a redelivered alert arrives", |case| {
        let mut again = case.history.redelivered.iter();
        let id = again.rfind(|one| one.done)?.id.clone();
        let mut alerts = case.seen.alerts.iter_mut();
        alerts.find(|alert| alert.id == id)?.state = "dead".to_owned();
        Some(())
    }),
    ("a monitor that is pinged in time stays up", |case| {
        let flips = flips(case).filter(|flip| flip.to == "up");
        flips.for_each(|flip| flip.to = "paused".to_owned());
        Some(())
    }),
    ("a monitor that reports a failure is down", |case| {
        without_flips(case, |flip| flip.reason == "fail")
    }),
    ("a paused monitor stays paused", |case| {
        without_flips(case, |flip| flip.to == "paused")
    }),
    ("a silent monitor goes down", |case| {
        without_flips(case, is_late)
    }),
    ("a silent monitor goes down by the next sweep", |case| {
        downs(case).for_each(|alert| alert.created_ms += 100_000);
        Some(())
    }),
    ("a missed deadline is detected in time", |case| {
        downs(case).for_each(|alert| alert.created_ms += 100_000);
        Some(())
    }),
    ("A1: a flip that alerts has an alert", |case| {
        case.seen.alerts.retain(|one| one.what != "monitor.down");
        Some(())
    }),
    ("A1: every alert has a flip", |case| {
        let twin = downs(case).next()?.clone();
        case.seen.alerts.push(twin);
        Some(())
    }),
    ("every alert reaches every channel", |case| {
        case.history.delivered.clear();
        Some(())
    }),
    ("alerts are delivered in time", |case| {
        let all = case.history.delivered.iter_mut();
        all.for_each(|message| message.at_ms += 60_000);
        Some(())
    }),
    ("every alert is eventually delivered", |case| {
        case.seen.alerts.first_mut()?.state = "pending".to_owned();
        Some(())
    }),
    ("A3: a message's key names its alert and channel", |case| {
        case.history.delivered.first_mut()?.id.push('x');
        Some(())
    }),
    ("A3: a repeated message is identical", |case| {
        again(case, |message| message.body["data"]["text"] = json!("else"))
    }),
    ("A3: repeats carry the same key", |case| {
        again(case, |message| message.id.insert(0, 'x'))
    }),
    ("one message per alert", |case| again(case, |_| {})),
    ("no message without an alert", |case| {
        case.seen.alerts.clear();
        Some(())
    }),
    ("A8: no older alert follows a newer one", |case| {
        case.history.delivered.reverse();
        Some(())
    }),
    ("A7: a limit is never exceeded", |case| limit(case, 0)),
    ("A7: nothing is suppressed below the limit", |case| {
        limit(case, 1_000)
    }),
    ("A7: reaching the limit sends a notice", |case| {
        case.seen.alerts.retain(|one| one.what != "channel.limited");
        Some(())
    }),
    ("A7: the limit notice is sent once a day", |case| {
        let mut all = case.history.delivered.iter();
        let mut twin = all
            .find(|message| message.body["type"] == "channel.limited")?
            .clone();
        twin.id.insert(0, 'x');
        case.history.delivered.push(twin);
        Some(())
    }),
    ("a quota is never exceeded", |case| {
        *case.scenario.quota.as_mut()? = 0;
        Some(())
    }),
    ("nothing is refused below the quota", |case| {
        *case.scenario.quota.as_mut()? = 1_000;
        Some(())
    }),
    (
        "T1: a monitor that can go down has a timer at or before its deadline",
        |case| {
            case.seen.items.retain(|item| !is_timers(item));
            Some(())
        },
    ),
    ("T2: no timer is left behind the cursor", |case| {
        cursors(case, "999999999")
    }),
    ("the sweep makes progress", |case| cursors(case, "0")),
    ("timers never multiply", |case| multiply(case, 3)),
    ("timers are bounded", |case| multiply(case, 500)),
    ("nothing waits forever", |case| {
        let mut items = case.seen.items.iter_mut();
        let delivery = items.find(|item| item["kind"]["S"] == "delivery")?;
        delivery["state"] = json!({"S": "claimed"});
        delivery["until"] = json!({"N": "0"});
        Some(())
    }),
    ("no outage while Thrum works", |case| {
        let outage = json!({"kind": {"S": "outage"}});
        case.scenario
            .spells
            .is_empty()
            .then(|| case.seen.items.push(outage))
    }),
    ("a missed deadline is noticed within seconds", |case| {
        case.scenario.spells.clear();
        let ticked = case
            .history
            .all_swept(case.scenario.shards(), 0, i64::MAX)?;
        let mut downs = case.seen.alerts.iter_mut();
        let down =
            downs.find(|alert| alert.what == "monitor.down" && alert.flip_at_ms > Some(ticked))?;
        down.created_ms += 20_000;
        (case.scenario.place == Place::Lambda).then_some(())
    }),
    ("ticks and pulses keep coming", |case| {
        case.history.sweeps.clear();
        Some(())
    }),
    ("no bar is lost", |case| case.seen.bars.pop().map(|_| ())),
    ("no bar is invented", |case| {
        case.seen.bars.first_mut()?.1 += 0.5;
        Some(())
    }),
    ("signals match a replay of the bars", |case| {
        let mut of = case.seen.signals.values_mut();
        of.next()?.pop_last().map(|_| ())
    }),
    ("a signal change alerts once", |case| {
        let mut alerts = case.seen.alerts.iter();
        let twin = alerts.find(|alert| alert.signal.is_some())?.clone();
        case.seen.alerts.push(twin);
        Some(())
    }),
    ("the last signal alert matches the signal", |case| {
        let alerts = &mut case.seen.alerts;
        let acts = |(_, _, to): &(String, String, String)| matches!(&**to, "BUY" | "SELL");
        let last = alerts
            .iter()
            .rposition(|alert| alert.signal.as_ref().is_some_and(acts))?;
        alerts.remove(last);
        Some(())
    }),
];

fn monitor(case: &mut Case, is: fn(&SeenMonitor) -> bool) -> Option<&mut SeenMonitor> {
    case.seen
        .monitors
        .iter_mut()
        .flatten()
        .find(|monitor| is(monitor))
}

/// A script whose monitor was deleted.
fn deleted(case: &Case) -> Option<usize> {
    let mut asked = case.history.asked.iter();
    let deletion = asked.find(|one| one.what == Kind::Delete && one.outcome == Outcome::Done);
    deletion.map(|deletion| deletion.script)
}

fn flips(case: &mut Case) -> impl Iterator<Item = &mut SeenFlip> {
    let monitors = case.seen.monitors.iter_mut().flatten();
    monitors.flat_map(|monitor| &mut monitor.flips)
}

fn without_flips(case: &mut Case, which: fn(&SeenFlip) -> bool) -> Option<()> {
    for monitor in case.seen.monitors.iter_mut().flatten() {
        monitor.flips.retain(|flip| !which(flip));
    }
    Some(())
}

/// Whether it is a timeout that no outage delayed.
fn is_late(flip: &SeenFlip) -> bool {
    flip.reason == "timeout" && flip.outage.is_none()
}

fn downs(case: &mut Case) -> impl Iterator<Item = &mut SeenAlert> {
    let alerts = case.seen.alerts.iter_mut();
    alerts.filter(|alert| alert.what == "monitor.down")
}

/// Delivers the last accepted message once more, after `change`.
fn again(case: &mut Case, change: fn(&mut Delivered)) -> Option<()> {
    let mut taken = case.history.delivered.iter();
    let mut twin = taken.rfind(|message| message.accepted)?.clone();
    change(&mut twin);
    case.history.delivered.push(twin);
    Some(())
}

/// Changes the limit of every channel that has one.
fn limit(case: &mut Case, limit: u32) -> Option<()> {
    let limits = case.scenario.hooks.iter_mut();
    limits
        .filter_map(|hook| hook.daily_limit.as_mut())
        .for_each(|own| *own = limit);
    Some(())
}

fn is_timers(item: &Value) -> bool {
    item["pk"]["S"]
        .as_str()
        .is_some_and(|pk| pk.starts_with("T#"))
}

/// Moves the sweep's cursors.
fn cursors(case: &mut Case, low: &str) -> Option<()> {
    let items = case.seen.items.iter_mut();
    items
        .filter(|item| item["pk"]["S"] == "SWEEP")
        .for_each(|cursor| cursor["low"] = json!({ "N": low }));
    Some(())
}

/// Adds `times` copies of each timer.
fn multiply(case: &mut Case, times: usize) -> Option<()> {
    let timers = case.seen.items.iter().filter(|item| is_timers(item));
    let timers: Vec<Value> = timers.cloned().collect();
    for _ in 0..times {
        case.seen.items.extend_from_slice(&timers);
    }
    Some(())
}

#[test]
fn each_rule_catches_its_violation() {
    let mut unnoticed: Vec<&(&str, Falsify)> = FALSIFIED.iter().collect();
    for seed in 1..=SEEDS {
        if unnoticed.is_empty() {
            return;
        }
        let case = play(&Scenario::of(seed), false).case;
        unnoticed.retain(|(rule, falsify)| {
            let mut case = case.clone();
            let falsified = falsify(&mut case);
            falsified.is_none() || judge(&case).iter().all(|broken| broken.rule != *rule)
        });
    }
    let unnoticed: Vec<&str> = unnoticed.iter().map(|(rule, _)| *rule).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

/// A rule that no falsified run breaks is untested.
#[test]
fn each_rule_is_falsified() {
    let judges = [
        include_str!("alerts.rs"),
        include_str!("family.rs"),
        include_str!("monitors.rs"),
        include_str!("rest.rs"),
    ];
    for judge in judges {
        for call in judge.split("note(").skip(1) {
            let name = call.trim_start().strip_prefix('"');
            let Some((rule, _)) = name.and_then(|name| name.split_once('"')) else {
                continue;
            };
            assert!(FALSIFIED.iter().any(|(own, _)| *own == rule), "{rule}");
        }
    }
}
