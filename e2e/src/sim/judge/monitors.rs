//! Monitors: no heartbeat that was answered is lost, and each is what its clients make it.

use super::{Case, Note, s};
use crate::sim::clients::name;
use crate::sim::history::Outcome;
use crate::sim::model::{CLOCKS_MS, LATE_MS, Limits, Model, away, surely_away};
use crate::sim::scenario::Kind;
use crate::sim::seen::{SeenFlip, SeenMonitor};
use std::collections::HashMap;

/// The log has a hundred slots.
const LOGGED: u64 = 100;
/// How long after its deadline TTL may remove a state, in milliseconds.
const HOUR_MS: i64 = 3_600_000;
/// A sweep that takes longer may have left something for the next one, in milliseconds.
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
            }
            Err(why) if done || case.made.monitors[i].is_some() => {
                note("one monitor for one name", why.clone());
            }
            Err(_) => {}
        }
    }
}

/// What is right is done, what is not is refused.
fn replies(case: &Case, i: usize, note: &mut Note<'_>) {
    for asked in case.history.asked.iter().filter(|asked| asked.script == i) {
        let lie = asked.what == Kind::Lie;
        let wrong = match asked.outcome {
            Outcome::Done => lie,
            // Nothing is there to resume.
            Outcome::Refused(409) if asked.what == Kind::Resume => false,
            Outcome::Refused(_) => !lie,
            Outcome::Unknown => false,
        };
        if wrong {
            note(
                "what is right is done, and what is not is refused",
                format!("{:?} {}: {:?}", asked.what, asked.token, asked.outcome),
            );
        }
    }
}

/// Every heartbeat that was answered is counted and logged, as what it was, when it was.
fn heartbeats(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let rule = "no answered heartbeat is lost";
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
                        "{} was last heard of at {}, and answered at {}",
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
    let most = asked.count() as u64 + case.doubts_about(&monitor.uuid);
    if monitor.pings > most {
        note(
            "no heartbeat is invented",
            format!("{} counts {} heartbeats, of {most}", name(i), monitor.pings),
        );
    }
    if monitor.pings < answered {
        note(
            rule,
            format!(
                "{} counts {} heartbeats; {answered} were answered",
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
            "heartbeats have numbers of their own",
            format!("{:?} of {}", numbers, name(i)),
        );
    }
}

/// Flips follow each other, and each has a cause.
fn flips(case: &Case, i: usize, monitor: &SeenMonitor, note: &mut Note<'_>) {
    let model = Model::new(&case.scenario.scripts[i], i, &case.history);
    let away = away(&case.history, case.gap_ms(), case.scenario.end_ms);
    let mut before: Option<&SeenFlip> = None;
    for flip in &monitor.flips {
        let whole = monitor.flips.len() < FLIPS;
        let (from, n, at) =
            before.map_or(("new", 0, i64::MIN), |flip| (&*flip.to, flip.n, flip.at_ms));
        // Who comes back before what TTL removed is restored was down in between, whether or not that was ours.
        let lost = flip.from == "down"
            && from != "down"
            && flip.n == n + 2
            && away.iter().any(|(from, to)| to - from > HOUR_MS);
        if (before.is_some() || whole) && (flip.from != from || flip.n != n + 1) && !lost {
            note(
                "flips follow each other",
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
            && is_ours(case, &model, monitor, flip)
        {
            note(
                "T3: our absence is nobody's",
                format!("{}: {flip:?}", name(i)),
            );
        }
        if let Some(why) = has_no_cause(&model, flip, before.map(|flip| flip.at_ms), &away) {
            note(
                "no flip without a cause",
                format!("{}: {why}: {flip:?}", name(i)),
            );
        }
        let told = flip.to == "down" || (flip.from == "down" && flip.to == "up");
        if flip.alert != told {
            note(
                "people hear of every way down, and of up after down",
                format!("{}: {flip:?}", name(i)),
            );
        }
        before = Some(flip);
    }
}

/// Why a flip can't be, if it can't.
fn has_no_cause(
    model: &Model<'_>,
    flip: &SeenFlip,
    before: Option<i64>,
    away: &[(i64, i64)],
) -> Option<&'static str> {
    // A flip is dated no earlier than the one before it, so its cause may be older.
    let moved = before == Some(flip.at_ms);
    let dated = |sent: i64| {
        let late = if moved { LATE_MS } else { 0 };
        (flip.at_ms - CLOCKS_MS - late..=flip.at_ms + CLOCKS_MS).contains(&sent)
    };
    let asked = |kinds: &[Kind]| {
        let mut all = model.happenings().iter();
        all.any(|one| kinds.contains(&one.what) && dated(one.sent_ms))
    };
    match (&*flip.to, &*flip.reason) {
        ("up", "success") => (!asked(&[Kind::Success])).then_some("nobody sent a success"),
        ("up" | "down", "fail") if !asked(&[Kind::Fail]) => Some("nobody sent a failure"),
        ("down", "fail") => model
            .too_few_failures(flip.at_ms, moved)
            .then_some("there were not so many failures in a row"),
        ("up", "fail") => None,
        ("paused", _) => {
            let done = model.happenings().iter().any(|one| {
                one.what == Kind::Pause
                    && (one.sent_ms - CLOCKS_MS..=one.done_ms + CLOCKS_MS).contains(&flip.at_ms)
            });
            (!done).then_some("nobody paused it")
        }
        ("new", _) => {
            let done = model.happenings().iter().any(|one| {
                one.what == Kind::Resume
                    && (one.sent_ms - CLOCKS_MS..=one.done_ms + CLOCKS_MS).contains(&flip.at_ms)
            });
            (!done).then_some("nobody resumed it")
        }
        ("down", "timeout") => missed(model, flip, moved, away),
        _ => Some("there is no such flip"),
    }
}

/// Whether we had been away for certain when it was judged, whatever it waited for when it missed that deadline.
fn is_ours(case: &Case, model: &Model<'_>, monitor: &SeenMonitor, flip: &SeenFlip) -> bool {
    let alerts = case.seen.alerts.iter().filter(|alert| {
        alert.monitor.as_deref() == Some(&*monitor.uuid)
            && alert.flip_at_ms == Some(flip.at_ms)
            && alert.what == "monitor.down"
    });
    let Some(judged) = alerts.map(|alert| alert.created_ms).min() else {
        return false;
    };
    let mut away = surely_away(&case.history, case.gap_ms());
    // Before it had lasted so long, it was none.
    away.retain(|(from, _)| judged > from + case.gap_ms() + CLOCKS_MS);
    let windows = model.happenings().iter().flat_map(|one| model.windows(one));
    let mut windows = windows
        .filter(|(_, deadline)| (deadline - flip.at_ms).abs() <= CLOCKS_MS)
        .peekable();
    windows.peek().is_some()
        && windows.all(|(opens, deadline)| {
            away.iter()
                .any(|(from, to)| *from < deadline - CLOCKS_MS && *to > opens + CLOCKS_MS)
        })
}

/// Why a deadline was not missed, if it was not.
fn missed(
    model: &Model<'_>,
    flip: &SeenFlip,
    moved: bool,
    away: &[(i64, i64)],
) -> Option<&'static str> {
    let deadlines = || {
        let windows = model.happenings().iter().flat_map(|one| model.windows(one));
        windows.map(|(_, deadline)| deadline)
    };
    match flip.outage {
        None if moved => deadlines()
            .all(|deadline| deadline > flip.at_ms + CLOCKS_MS)
            .then_some("nothing had a deadline by then"),
        None => deadlines()
            .all(|deadline| (deadline - flip.at_ms).abs() > CLOCKS_MS)
            .then_some("nothing had that deadline"),
        Some((start, end)) => {
            if !away.iter().any(|(from, to)| *from <= start && end <= *to) {
                return Some("we were not away");
            }
            let mut all = model.limits_after(i64::MIN).into_iter();
            let is_more =
                |limits: Limits| (end + limits.patience_ms() - flip.at_ms).abs() <= CLOCKS_MS;
            // Or a run that began since then, which has its own limit.
            let is_run = |at: i64| at > end && (at - flip.at_ms).abs() <= CLOCKS_MS;
            (!all.any(is_more) && !deadlines().any(is_run) && !moved)
                .then_some("that is not one more period after the outage")
        }
    }
}

/// What it is is what its clients make it, whenever that is certain.
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
                "who is heard of in time is up",
                format!("{}: {flip:?}", name(i)),
            );
        }
        for ms in [from, (to - 1).min(end)] {
            if ms >= from && at(ms).is_some_and(|status| status != "up") {
                note(
                    "who is heard of in time is up",
                    format!("{} is {:?} at {}", name(i), at(ms), s(ms)),
                );
            }
        }
    }
    for (from, to) in model.down_spans(end) {
        for ms in [from, to - 1] {
            if at(ms).is_some_and(|status| status != "down") {
                let how = format!("{} is {:?} at {}", name(i), at(ms), s(ms));
                note("who reports a failure is down", how);
            }
        }
    }
    for (from, to) in model.paused_spans(end) {
        for ms in [from, to - 1] {
            if at(ms).is_some_and(|status| status != "paused") {
                let how = format!("{} is {:?} at {}", name(i), at(ms), s(ms));
                note("who is paused stays so", how);
            }
        }
    }
    let away = away(&case.history, case.gap_ms(), end);
    let silences = model
        .silences(&away)
        .into_iter()
        .chain(model.endless_runs(&away));
    for silence in silences {
        // A sweep that began after the deadline, and ended well, has found it.
        let swept = case.history.ticks.iter().filter(|(begun, ended)| {
            *begun > silence.deadline_ms + CLOCKS_MS && ended - begun < SWEEP_MS
        });
        let Some((_, found)) = swept.min_by_key(|(_, ended)| *ended) else {
            continue;
        };
        if silence.until_ms.is_some_and(|until| *found >= until) {
            continue;
        }
        // A way down is dated when it was due, so its alert tells when it was found.
        let flip = monitor.flips.iter().rfind(|flip| flip.at_ms <= *found);
        let made = flip.filter(|flip| flip.to == "down").and_then(|flip| {
            let alerts = case.seen.alerts.iter().filter(|alert| {
                alert.monitor.as_deref() == Some(&*monitor.uuid)
                    && alert.what == "monitor.down"
                    && alert.flip_at_ms == Some(flip.at_ms)
            });
            alerts.map(|alert| alert.created_ms).min()
        });
        if let Some(made) = made.filter(|made| *made > found + CLOCKS_MS) {
            note(
                "who falls silent goes down by the next sweep",
                format!(
                    "{} was found down at {}; a sweep ended at {}, its deadline was {} at the latest",
                    name(i),
                    s(made),
                    s(*found),
                    s(silence.deadline_ms)
                ),
            );
        }
        if at(*found).is_some_and(|status| status != "down") {
            let how = format!(
                "{} is {:?} at {}; its deadline was {} at the latest",
                name(i),
                at(*found),
                s(*found),
                s(silence.deadline_ms)
            );
            note("who falls silent goes down", how);
        }
    }
}
