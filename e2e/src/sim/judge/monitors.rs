//! Rules for monitors: no acknowledged heartbeat is lost, and each monitor's status follows from
//! what its clients sent.

use super::case::{Case, Note, s};
use super::hardship::{is_moved_by_periods, refused_by_chance};
use crate::sim::clients::name;
use crate::sim::history::Outcome;
use crate::sim::model::{CLOCKS_MS, LATE_MS, Limits, Model, surely_away};
use crate::sim::scenario::Kind;
use crate::sim::seen::{SeenFlip, SeenMonitor};
use std::collections::HashMap;

/// The ping log has a hundred slots.
const LOGGED: u64 = 100;
/// How long after its deadline TTL may remove a monitor's lease, in milliseconds.
const HOUR_MS: i64 = 3_600_000;
/// A sweep that takes longer may leave work for the next one, in milliseconds.
const SWEEP_MS: i64 = 40_000;
/// How many flips the API shows.
const FLIPS: usize = 20;

pub fn judge(case: &Case, note: &mut Note<'_>) {
    for (i, found) in case.seen.monitors.iter().enumerate() {
        let asked = case.history.asked.iter().filter(|asked| asked.script == i);
        let done = asked.clone().any(|asked| asked.outcome == Outcome::Done);
        match found {
            Ok(monitor) => {
                replies(case, i, note);
                heartbeats(case, i, monitor, note);
                flips(case, i, monitor, note);
                statuses(case, i, monitor, note);
                refused_by_chance(case, i, monitor, note);
            }
            Err(_) if case.deletions(i).next().is_some() => {}
            Err(why) if done || case.setup.monitors[i].is_some() => {
                note("one monitor per name", why.clone());
            }
            Err(_) => {}
        }
    }
}

/// Valid requests succeed, invalid ones are refused.
fn replies(case: &Case, i: usize, note: &mut Note<'_>) {
    for asked in case.history.asked.iter().filter(|asked| asked.script == i) {
        let invalid = asked.what == Kind::Invalid;
        let wrong = match asked.outcome {
            Outcome::Done => invalid,
            // The monitor was not paused.
            Outcome::Refused(409) if asked.what == Kind::Resume => false,
            // It was not down, or its first heartbeat had not created it.
            Outcome::Refused(404 | 409)
                if matches!(asked.what, Kind::Acknowledge | Kind::Snooze) =>
            {
                false
            }
            Outcome::Refused(status) => {
                let mut deletions = case.deletions(i);
                let is_deleted = deletions.any(|one| one.sent_ms <= asked.ended_ms);
                !(invalid || (status == 404 && is_deleted))
            }
            Outcome::TurnedAway | Outcome::Unknown => false,
        };
        if wrong {
            note(
                "valid requests succeed and invalid ones are refused",
                format!("{:?} {}: {:?}", asked.what, asked.token, asked.outcome),
            );
        }
    }
}

/// Every acknowledged heartbeat is counted, and logged with its kind and time.
fn heartbeats(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let rule = "no acknowledged heartbeat is lost";
    let logged: HashMap<&str, _> = monitor
        .log
        .iter()
        .map(|ping| (ping.token.as_str(), ping))
        .collect();
    let mine = || {
        case.history
            .asked
            .iter()
            .filter(move |asked| asked.script == i)
    };
    let pings = mine().filter(|asked| asked.what.is_ping());
    let mut answered = 0;
    for asked in pings {
        if asked.outcome != Outcome::Done {
            continue;
        }
        answered += 1;
        if asked.what != Kind::Log {
            let at = monitor.last_ping_ms.unwrap_or(i64::MIN);
            let cleared = mine().any(|other| other.what == Kind::Resume);
            if matches!(asked.what, Kind::Success | Kind::Fail)
                && at < asked.sent_ms - CLOCKS_MS
                && !cleared
            {
                note(
                    rule,
                    format!(
                        "{}: last ping is {}, but one sent at {} was acknowledged",
                        name(i),
                        s(at),
                        s(asked.sent_ms)
                    ),
                );
            }
        }
        match logged.get(&*asked.token) {
            Some(ping) => {
                let wanted = match asked.what {
                    Kind::Success => "success",
                    Kind::Fail => "fail",
                    Kind::Start => "start",
                    _ => "log",
                };
                if ping.kind != wanted {
                    note(
                        rule,
                        format!("{} is logged as {}, not {wanted}", asked.token, ping.kind),
                    );
                }
                if (ping.at_ms - asked.sent_ms).abs() > CLOCKS_MS {
                    note(
                        rule,
                        format!(
                            "{} is logged at {}, sent at {}",
                            asked.token,
                            s(ping.at_ms),
                            s(asked.sent_ms)
                        ),
                    );
                }
            }
            None if monitor.pings < LOGGED => {
                note(rule, format!("{} is not in the log", asked.token));
            }
            None => {}
        }
    }
    let asked = mine()
        .filter(|asked| asked.what.is_ping() && !matches!(asked.outcome, Outcome::Refused(_)));
    let most = asked.count() as u64 + case.unconfirmed_calls(&monitor.uuid);
    if monitor.pings > most {
        note(
            "no heartbeat is invented",
            format!(
                "{} counts {} heartbeats, but at most {most} were sent",
                name(i),
                monitor.pings
            ),
        );
    }
    if monitor.pings < answered {
        note(
            rule,
            format!(
                "{} counts {} heartbeats, but {answered} were acknowledged",
                name(i),
                monitor.pings
            ),
        );
    }
    let mut numbers: Vec<u64> = monitor.log.iter().map(|ping| ping.n).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() != monitor.log.len() {
        note(
            "heartbeat numbers are unique",
            format!("{:?} of {}", numbers, name(i)),
        );
    }
}

/// Flips are consecutive, and each has a cause.
fn flips(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let model = Model::new(&case.scenario.scripts[i], i, &case.history);
    let away = case.away();
    let mut before: Option<&SeenFlip> = None;
    // With a state that TTL removed, Thrum forgets how often its monitor flapped.
    let mut flapping = Flapping {
        unsure: case.is_held(i) || away.iter().any(|(from, to)| to - from > HOUR_MS),
        ..Flapping::default()
    };
    for flip in &monitor.flips {
        let whole = monitor.flips.len() < FLIPS;
        let (from, n, at) =
            before.map_or(("new", 0, i64::MIN), |flip| (&*flip.to, flip.n, flip.at_ms));
        // A ping before the lease that TTL removed was restored: the flip to down may be missing.
        let lost = flip.from == "down"
            && from != "down"
            && flip.n == n + 2
            && away.iter().any(|(from, to)| to - from > HOUR_MS);
        if (before.is_some() || whole) && (flip.from != from || flip.n != n + 1) && !lost {
            note(
                "flips are consecutive",
                format!("{}: {flip:?} after {before:?}", name(i)),
            );
        }
        if flip.at_ms < at {
            note(
                "flip times never run backwards",
                format!("{}: {flip:?} after {before:?}", name(i)),
            );
        }
        if flip.reason == "timeout"
            && flip.outage.is_none()
            && flip.at_ms > at
            // The alert of one that may be held does not show when it was detected.
            && !case.is_held(i)
            && was_away(case, &model, monitor, flip)
        {
            note(
                "T3: Thrum's downtime never counts against a monitor",
                format!("{}: {flip:?}", name(i)),
            );
        }
        if let Some(why) = has_no_cause(case, &model, flip, before.map(|flip| flip.at_ms), &away) {
            note(
                "no flip without a cause",
                format!("{}: {why}: {flip:?}", name(i)),
            );
        }
        if let Some(why) = flapping.next(case, monitor, flip, whole) {
            note(
                "every flip to down and every recovery alerts, unless the monitor flaps",
                format!("{}: {why}: {flip:?}", name(i)),
            );
        }
        before = Some(flip);
    }
}

/// Follows which flips of a monitor alert: after six in quick succession, it counts as flapping, and
/// one more is allowed every ten minutes. A flip after a silent one does not alert either, because
/// people believe its status already.
#[derive(Default)]
struct Flapping {
    /// When the allowance is whole again, in milliseconds.
    used_until: i64,
    silent: bool,
    /// Whether what came before is unknown.
    unsure: bool,
}

impl Flapping {
    const EACH_MS: i64 = 600_000;
    const MOST_MS: i64 = 5 * Self::EACH_MS;
    const STABLE_MS: i64 = 900_000;

    /// Why it is wrong that `flip` alerts, or does not.
    fn next(
        &mut self,
        case: &Case,
        monitor: &SeenMonitor,
        flip: &SeenFlip,
        whole: bool,
    ) -> Option<&'static str> {
        self.unsure |= !whole;
        let believed = std::mem::take(&mut self.silent);
        let must_alert = flip.to == "down" || (flip.from == "down" && flip.to == "up");
        if !must_alert || (believed && !(self.unsure && flip.alert)) {
            return flip.alert.then_some("it must not alert");
        }
        if !flip.alert {
            self.silent = true;
            let may_flap = self.used_until - flip.at_ms > Self::MOST_MS - CLOCKS_MS;
            return (!may_flap && !self.unsure).then_some("it must alert");
        }
        let alerts = case.seen.alerts.iter().filter(|alert| {
            alert.monitor.as_deref() == Some(&*monitor.uuid)
                && alert.flip_at_ms == Some(flip.at_ms)
                && alert.what != "monitor.reminder"
        });
        let raised = alerts
            .map(|alert| alert.created_ms)
            .min()
            .unwrap_or(flip.at_ms);
        // One that alerts after it was stable is not counted.
        if raised - flip.at_ms < Self::STABLE_MS - CLOCKS_MS {
            let flaps = self.used_until - raised > Self::MOST_MS + CLOCKS_MS;
            self.used_until = self.used_until.max(raised) + Self::EACH_MS;
            return (flaps && !self.unsure).then_some("the monitor flaps");
        }
        None
    }
}

/// Why a flip has no cause; `None` if it has one.
fn has_no_cause(
    case: &Case,
    model: &Model<'_>,
    flip: &SeenFlip,
    before: Option<i64>,
    away: &[(i64, i64)],
) -> Option<&'static str> {
    // A flip is never dated before the previous one, so its cause may be older.
    let moved = before == Some(flip.at_ms);
    let dated = |sent: i64| {
        let late = if moved { LATE_MS } else { 0 };
        (flip.at_ms - CLOCKS_MS - late..=flip.at_ms + CLOCKS_MS).contains(&sent)
    };
    let asked = |kinds: &[Kind]| {
        let mut all = model.events().iter();
        all.any(|one| kinds.contains(&one.what) && dated(one.sent_ms))
    };
    match (&*flip.to, &*flip.reason) {
        ("up", "success") => (!asked(&[Kind::Success])).then_some("no client sent a success"),
        ("up" | "down", "fail") if !asked(&[Kind::Fail]) => Some("no client sent a failure"),
        ("down", "fail") => model
            .too_few_failures(flip.at_ms, moved)
            .then_some("there were too few failures in a row"),
        ("up", "fail") => None,
        ("paused", _) => {
            let done = model.events().iter().any(|one| {
                one.what == Kind::Pause
                    && (one.sent_ms - CLOCKS_MS..=one.done_ms + CLOCKS_MS).contains(&flip.at_ms)
            });
            (!done).then_some("no user paused it")
        }
        ("new", _) => {
            let done = model.events().iter().any(|one| {
                one.what == Kind::Resume
                    && (one.sent_ms - CLOCKS_MS..=one.done_ms + CLOCKS_MS).contains(&flip.at_ms)
            });
            (!done).then_some("no user resumed it")
        }
        ("down", "timeout") => missed(case, model, flip, moved, away),
        _ => Some("such a flip is impossible"),
    }
}

/// Whether Thrum had certainly been down during every window that could have led to this flip.
fn was_away(case: &Case, model: &Model<'_>, monitor: &SeenMonitor, flip: &SeenFlip) -> bool {
    let alerts = case.seen.alerts.iter().filter(|alert| {
        alert.monitor.as_deref() == Some(&*monitor.uuid)
            && alert.flip_at_ms == Some(flip.at_ms)
            && alert.what == "monitor.down"
    });
    let Some(judged) = alerts.map(|alert| alert.created_ms).min() else {
        return false;
    };
    let mut away = surely_away(&case.history, &case.scenario, case.gap_ms());
    // A shorter absence did not yet count as an outage.
    away.retain(|(from, _)| judged > from + case.gap_ms() + CLOCKS_MS);
    let windows = model.events().iter().flat_map(|one| model.windows(one));
    let mut windows = windows
        .filter(|(_, deadline)| (deadline - flip.at_ms).abs() <= CLOCKS_MS)
        .peekable();
    windows.peek().is_some()
        && windows.all(|(opens, deadline)| {
            away.iter()
                .any(|(from, to)| *from < deadline - CLOCKS_MS && *to > opens + CLOCKS_MS)
        })
}

/// Why a timeout has no cause; `None` if a deadline was missed.
fn missed(
    case: &Case,
    model: &Model<'_>,
    flip: &SeenFlip,
    moved: bool,
    away: &[(i64, i64)],
) -> Option<&'static str> {
    let deadlines = || {
        let windows = model.events().iter().flat_map(|one| model.windows(one));
        windows.map(|(_, deadline)| deadline)
    };
    match flip.outage {
        None if moved => deadlines()
            .all(|deadline| deadline > flip.at_ms + CLOCKS_MS)
            .then_some("no deadline had passed by then"),
        None => deadlines()
            .all(|deadline| (deadline - flip.at_ms).abs() > CLOCKS_MS)
            .then_some("no such deadline existed"),
        Some((start, end)) => {
            if !away.iter().any(|(from, to)| *from <= start && end <= *to) {
                return Some("Thrum was not away");
            }
            let mut all = model.limits_after(i64::MIN).into_iter();
            let is_more =
                |limits: Limits| (end + limits.patience_ms() - flip.at_ms).abs() <= CLOCKS_MS;
            // Or a run that started after the outage, which has its own limit.
            let is_run = |at: i64| at > end && (at - flip.at_ms).abs() <= CLOCKS_MS;
            let by_periods = || {
                model.limits_after(i64::MIN).into_iter().any(|limits| {
                    let period_ms = limits.patience_ms() - limits.run_ms();
                    deadlines().any(|at| is_moved_by_periods(case, flip, period_ms, at))
                })
            };
            (!all.any(is_more) && !deadlines().any(is_run) && !moved && !by_periods())
                .then_some("the deadline is not one period after the outage")
        }
    }
}

/// The status follows from what its clients sent, wherever that is certain.
fn statuses(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let model = Model::new(&case.scenario.scripts[i], i, &case.history);
    let end = case.scenario.end_ms;
    let at = |ms: i64| {
        let known = monitor.flips.len() < FLIPS
            || monitor.flips.first().is_some_and(|flip| flip.at_ms <= ms);
        let last = monitor.flips.iter().rfind(|flip| flip.at_ms <= ms);
        known.then(|| last.map_or("new", |flip| flip.to.as_str()))
    };
    for (from, to) in model.up_spans() {
        let fell = monitor
            .flips
            .iter()
            .find(|flip| flip.to == "down" && flip.at_ms > from && flip.at_ms < to);
        if let Some(flip) = fell {
            note(
                "a monitor that is pinged in time stays up",
                format!("{}: {flip:?}", name(i)),
            );
        }
        for ms in [from, (to - 1).min(end)] {
            if ms >= from && at(ms).is_some_and(|status| status != "up") {
                note(
                    "a monitor that is pinged in time stays up",
                    format!("{} is {:?} at {}", name(i), at(ms), s(ms)),
                );
            }
        }
    }
    for (from, to) in model.down_spans(end) {
        for ms in [from, to - 1] {
            if at(ms).is_some_and(|status| status != "down") {
                let how = format!("{} is {:?} at {}", name(i), at(ms), s(ms));
                note("a monitor that reports a failure is down", how);
            }
        }
    }
    for (from, to) in model.paused_spans(end) {
        for ms in [from, to - 1] {
            if at(ms).is_some_and(|status| status != "paused") {
                let how = format!("{} is {:?} at {}", name(i), at(ms), s(ms));
                note("a paused monitor stays paused", how);
            }
        }
    }
    let away = case.away();
    let silences = model
        .silences(&away)
        .into_iter()
        .chain(model.endless_runs(&away));
    for silence in silences {
        // The first sweeps that started after the deadline and succeeded must have found it.
        let from_ms = silence.deadline_ms + CLOCKS_MS;
        let Some(found) = case
            .history
            .all_swept(case.scenario.shards(), from_ms, SWEEP_MS)
        else {
            continue;
        };
        if silence.until_ms.is_some_and(|until| found >= until) {
            continue;
        }
        // The alert of a snoozed monitor waits, and so does one whose parent is down.
        if case.is_held(i) {
            continue;
        }
        // A flip to down is dated at the deadline; its alert shows when it was detected.
        let flip = monitor.flips.iter().rfind(|flip| flip.at_ms <= found);
        let created = flip.filter(|flip| flip.to == "down").and_then(|flip| {
            let alerts = case.seen.alerts.iter().filter(|alert| {
                alert.monitor.as_deref() == Some(&*monitor.uuid)
                    && alert.what == "monitor.down"
                    && alert.flip_at_ms == Some(flip.at_ms)
            });
            alerts.map(|alert| alert.created_ms).min()
        });
        // The alert of a flapping monitor waits until it is stable.
        let waits = |created: i64| {
            flip.is_some_and(|flip| created >= flip.at_ms + Flapping::STABLE_MS - CLOCKS_MS)
        };
        let late = |created: &i64| *created > found + CLOCKS_MS && !waits(*created);
        if let Some(created) = created.filter(late) {
            note(
                "a silent monitor goes down by the next sweep",
                format!(
                    "{} was found down at {}; a sweep ended at {}, and its deadline was {} at the latest",
                    name(i),
                    s(created),
                    s(found),
                    s(silence.deadline_ms)
                ),
            );
        }
        if at(found).is_some_and(|status| status != "down") {
            let how = format!(
                "{} is {:?} at {}; its deadline was {} at the latest",
                name(i),
                at(found),
                s(found),
                s(silence.deadline_ms)
            );
            note("a silent monitor goes down", how);
        }
    }
}
