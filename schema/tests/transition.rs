//! The state machine: every cell of the table in docs/compatibility.md, and its properties.

use proptest::prelude::*;
use thrum_schema::Targets;
use thrum_schema::id::{AlertId, MonitorId, ProjectId};
use thrum_schema::monitor::Options;
use thrum_schema::state::Shown;
use thrum_schema::timer::look_at;
use thrum_schema::{
    Event, Monitor, MonitorState, Outage, Outcome, PingKind, Schedule, Status, UnixMs, transition,
};
use uuid::Uuid;

const PERIOD_S: u32 = 60;
const GRACE_S: u32 = 30;
const T0: UnixMs = UnixMs(1_763_700_000_000);

fn monitor(manual_resume: bool) -> Monitor {
    Monitor {
        name: "web-01".into(),
        slug: "web-01".into(),
        schedule: Schedule::Simple { period_s: PERIOD_S },
        grace_s: GRACE_S,
        targets: Targets::All,
        manual_resume,
        ..Monitor::new(MonitorId(Uuid::from_u128(1)), ProjectId::FIRST, T0)
    }
}

fn ping(kind: PingKind, at: UnixMs) -> Event<'static> {
    let rid = None;
    Event::Ping {
        kind,
        rid,
        at,
        why: None,
    }
}

fn s(seconds: i64) -> UnixMs {
    T0 + seconds * 1000
}

/// A state brought to `status` by events, at T0, with a run in progress if `started`.
fn state(monitor: &Monitor, status: Status, started: bool) -> MonitorState {
    let apply =
        |state: &MonitorState, event: Event<'_>| transition(monitor, state, &event, T0).state;
    let new = MonitorState::new(monitor);
    let state = match status {
        Status::New => new,
        Status::Up => apply(&new, ping(PingKind::Success, T0)),
        Status::Down => apply(&new, ping(PingKind::Fail, T0)),
        Status::Paused => {
            let up = apply(&new, ping(PingKind::Success, T0));
            apply(&up, Event::Pause)
        }
    };
    assert_eq!(state.status, status);
    if started {
        // With manual resume a paused monitor would ignore the start.
        let watched = Monitor {
            manual_resume: false,
            ..monitor.clone()
        };
        transition(&watched, &state, &ping(PingKind::Start, T0), T0).state
    } else {
        state
    }
}

#[derive(Debug, Clone, Copy)]
enum On {
    Ping(PingKind),
    /// A timer, long after every deadline.
    Deadline,
    Pause,
    Resume,
}

/// A cell of the table: the status afterwards, whether it is a flip, whether it alerts, and whether
/// a run is in progress afterwards.
type Cell = (Status, bool, bool, bool);

#[test]
fn every_cell_of_the_documented_table() {
    use On::{Deadline, Pause, Resume};
    use PingKind::{Fail, Ign, Log, Start, Success};
    use Status::{Down, New, Paused, Up};
    const FLIP: bool = true;
    const ALERT: bool = true;
    const RUNS: bool = true;
    const NO: bool = false;
    // (from, started, manual resume, event) → (to, flip, alert, started)
    let cases: &[(Status, bool, bool, On, Cell)] = &[
        (New, NO, NO, On::Ping(Success), (Up, FLIP, NO, NO)),
        (Up, NO, NO, On::Ping(Success), (Up, NO, NO, NO)),
        (Down, NO, NO, On::Ping(Success), (Up, FLIP, ALERT, NO)),
        (Paused, NO, NO, On::Ping(Success), (Up, FLIP, NO, NO)),
        (Paused, NO, true, On::Ping(Success), (Paused, NO, NO, NO)),
        (New, RUNS, NO, On::Ping(Success), (Up, FLIP, NO, NO)),
        (Up, RUNS, NO, On::Ping(Success), (Up, NO, NO, NO)),
        (Down, RUNS, NO, On::Ping(Success), (Up, FLIP, ALERT, NO)),
        (Paused, RUNS, NO, On::Ping(Success), (Up, FLIP, NO, NO)),
        (
            Paused,
            RUNS,
            true,
            On::Ping(Success),
            (Paused, NO, NO, RUNS),
        ),
        (New, NO, NO, On::Ping(Fail), (Down, FLIP, ALERT, NO)),
        (Up, NO, NO, On::Ping(Fail), (Down, FLIP, ALERT, NO)),
        (Down, NO, NO, On::Ping(Fail), (Down, NO, NO, NO)),
        (Paused, NO, NO, On::Ping(Fail), (Down, FLIP, ALERT, NO)),
        (Paused, NO, true, On::Ping(Fail), (Paused, NO, NO, NO)),
        (New, RUNS, NO, On::Ping(Fail), (Down, FLIP, ALERT, NO)),
        (Up, RUNS, NO, On::Ping(Fail), (Down, FLIP, ALERT, NO)),
        (Down, RUNS, NO, On::Ping(Fail), (Down, NO, NO, NO)),
        (Paused, RUNS, NO, On::Ping(Fail), (Down, FLIP, ALERT, NO)),
        (New, NO, NO, On::Ping(Start), (New, NO, NO, RUNS)),
        (Up, NO, NO, On::Ping(Start), (Up, NO, NO, RUNS)),
        (Down, NO, NO, On::Ping(Start), (Down, NO, NO, RUNS)),
        (Paused, NO, NO, On::Ping(Start), (Paused, NO, NO, RUNS)),
        (Paused, NO, true, On::Ping(Start), (Paused, NO, NO, NO)),
        (Up, RUNS, NO, On::Ping(Start), (Up, NO, NO, RUNS)),
        (New, NO, NO, On::Ping(Log), (New, NO, NO, NO)),
        (Up, NO, NO, On::Ping(Log), (Up, NO, NO, NO)),
        (Down, NO, NO, On::Ping(Log), (Down, NO, NO, NO)),
        (Paused, NO, NO, On::Ping(Log), (Paused, NO, NO, NO)),
        (Up, RUNS, NO, On::Ping(Log), (Up, NO, NO, RUNS)),
        (New, NO, NO, On::Ping(Ign), (New, NO, NO, NO)),
        (Up, NO, NO, On::Ping(Ign), (Up, NO, NO, NO)),
        (Down, NO, NO, On::Ping(Ign), (Down, NO, NO, NO)),
        (Paused, NO, NO, On::Ping(Ign), (Paused, NO, NO, NO)),
        (New, NO, NO, Deadline, (New, NO, NO, NO)),
        (New, RUNS, NO, Deadline, (Down, FLIP, ALERT, RUNS)),
        (Up, NO, NO, Deadline, (Down, FLIP, ALERT, NO)),
        (Up, RUNS, NO, Deadline, (Down, FLIP, ALERT, RUNS)),
        (Down, NO, NO, Deadline, (Down, NO, NO, NO)),
        (Down, RUNS, NO, Deadline, (Down, NO, NO, RUNS)),
        (Paused, NO, NO, Deadline, (Paused, NO, NO, NO)),
        (Paused, RUNS, NO, Deadline, (Down, FLIP, ALERT, RUNS)),
        (New, NO, NO, Pause, (Paused, FLIP, NO, NO)),
        (New, RUNS, NO, Pause, (Paused, FLIP, NO, NO)),
        (Up, NO, NO, Pause, (Paused, FLIP, NO, NO)),
        (Up, RUNS, NO, Pause, (Paused, FLIP, NO, NO)),
        (Down, NO, NO, Pause, (Paused, FLIP, NO, NO)),
        (Paused, NO, NO, Pause, (Paused, NO, NO, NO)),
        (New, NO, NO, Resume, (New, NO, NO, NO)),
        (Up, NO, NO, Resume, (Up, NO, NO, NO)),
        (Down, NO, NO, Resume, (Down, NO, NO, NO)),
        (Paused, NO, NO, Resume, (New, FLIP, NO, NO)),
        (Paused, RUNS, true, Resume, (New, FLIP, NO, NO)),
    ];
    for &(from, started, manual_resume, on, expected) in cases {
        let monitor = monitor(manual_resume);
        let before = state(&monitor, from, started);
        let now = s(10_000);
        let event = match on {
            On::Ping(kind) => ping(kind, now),
            Deadline => Event::Timer { outages: &[] },
            Pause => Event::Pause,
            Resume => Event::Resume,
        };
        let outcome = transition(&monitor, &before, &event, now);
        let got: Cell = (
            outcome.state.status,
            outcome.flip.is_some(),
            outcome.flip.as_ref().is_some_and(|flip| flip.alert),
            outcome.state.run.is_some(),
        );
        let case = format!("{from:?} started={started} manual={manual_resume} {on:?}");
        assert_eq!(got, expected, "{case}");
        let counted = u64::from(matches!(on, On::Ping(_)));
        assert_eq!(outcome.state.pings, before.pings + counted, "{case}");
        if matches!(on, On::Ping(Log | Ign)) {
            let same = MonitorState {
                pings: before.pings,
                version: before.version,
                ..outcome.state
            };
            assert_eq!(same, before, "{case}: a log changes nothing else");
        }
    }
}

#[test]
fn boundaries_are_inclusive() {
    let monitor = monitor(false);
    let up = state(&monitor, Status::Up, false);
    let period = i64::from(PERIOD_S) * 1000;
    let deadline = T0 + period + i64::from(GRACE_S) * 1000;
    for (now, expected) in [
        (T0 + period - 1, Shown::Up),
        (T0 + period, Shown::Grace),
        (deadline - 1, Shown::Grace),
        (deadline, Shown::Down),
    ] {
        assert_eq!(up.shown(now, &[]), expected, "{now}");
    }
    let timer = Event::Timer { outages: &[] };
    assert!(
        transition(&monitor, &up, &timer, deadline - 1)
            .flip
            .is_none()
    );
    let flip = transition(&monitor, &up, &timer, deadline + 99_999)
        .flip
        .unwrap();
    assert_eq!(flip.at, deadline, "a timeout is dated at the deadline");
    assert_eq!(flip.deadline, Some(deadline));
}

#[test]
fn runs_are_matched_by_their_ids() {
    let monitor = monitor(false);
    let (a, b) = (Some(Uuid::from_u128(10)), Some(Uuid::from_u128(11)));
    use PingKind::{Fail, Success};
    // (start's rid, ending kind, ending rid) → (duration known, run still in progress)
    for (start, kind, end, duration, runs) in [
        (None, Success, None, true, false),
        (a, Success, a, true, false),
        (a, Fail, a, true, false),
        (a, Success, b, false, true),
        (a, Success, None, false, false),
        (None, Success, a, false, true),
        (a, Fail, b, false, false),
        (None, Fail, a, false, false),
    ] {
        let up = state(&monitor, Status::Up, false);
        let at = s(1);
        let start_event = Event::Ping {
            why: None,
            kind: PingKind::Start,
            rid: start,
            at,
        };
        let running = transition(&monitor, &up, &start_event, at).state;
        let end_event = Event::Ping {
            why: None,
            kind,
            rid: end,
            at: s(6),
        };
        let outcome = transition(&monitor, &running, &end_event, s(6));
        let case = format!("{start:?} {kind:?} {end:?}");
        assert_eq!(outcome.duration_ms, duration.then_some(5_000), "{case}");
        assert_eq!(
            outcome.state.last_duration_ms, outcome.duration_ms,
            "{case}"
        );
        assert_eq!(outcome.state.run.is_some(), runs, "{case}");
    }
}

#[test]
fn a_run_brings_the_deadline_closer_and_rearms() {
    let monitor = monitor(false);
    let up = state(&monitor, Status::Up, false);
    let at = s(5);
    let outcome = transition(&monitor, &up, &ping(PingKind::Start, at), at);
    let deadline = at + i64::from(GRACE_S) * 1000;
    assert_eq!(outcome.state.deadline(), Some(deadline));
    assert_eq!(outcome.arm, Some(deadline));
    assert_eq!(outcome.state.epoch, up.epoch + 1);
    assert_eq!(outcome.state.seen, up.seen, "a start is not a success");
}

#[test]
fn a_shorter_period_rearms_and_a_longer_one_does_not() {
    let monitor = monitor(false);
    let up = state(&monitor, Status::Up, false);
    for (period_s, rearms) in [
        (PERIOD_S - 1, true),
        (PERIOD_S, false),
        (PERIOD_S + 1, false),
    ] {
        let changed = Monitor {
            schedule: Schedule::Simple { period_s },
            ..monitor.clone()
        };
        let outcome = transition(&changed, &up, &Event::Reconfigured, s(1));
        assert_eq!(outcome.arm.is_some(), rearms, "{period_s}");
        assert_eq!(outcome.changed(&up), period_s != PERIOD_S);
    }
}

#[test]
fn flip_times_never_go_backwards_and_late_pings_still_count() {
    let monitor = monitor(false);
    let up = state(&monitor, Status::Up, false);
    let down = transition(&monitor, &up, &ping(PingKind::Fail, s(20)), s(20)).state;
    let late = transition(&monitor, &down, &ping(PingKind::Success, s(10)), s(21));
    assert_eq!(late.state.seen, Some(s(20)), "the latest is the maximum");
    assert_eq!(late.flip.unwrap().at, s(20));
    assert_eq!(late.state.pings, down.pings + 1);
}

#[test]
fn a_run_started_after_an_outage_gets_no_extra_time() {
    let monitor = monitor(false);
    let up = state(&monitor, Status::Up, false);
    let outage = Outage::total(s(50), s(700));
    let outages = [outage];
    let timer = Event::Timer { outages: &outages };
    let judged = transition(&monitor, &up, &timer, s(701)).state;
    let started = transition(&monitor, &judged, &ping(PingKind::Start, s(705)), s(705)).state;
    // The schedule's deadline moved to 790 s; the run's grace ends before that.
    let over = s(705 + i64::from(GRACE_S));
    let waiting = transition(&monitor, &started, &timer, s(706)).state;
    assert_eq!(waiting.status, Status::Up);
    assert_eq!(waiting.deadline(), Some(over));
    let flip = transition(&monitor, &waiting, &timer, over).flip.unwrap();
    assert_eq!(
        (flip.at, flip.deadline, flip.outage),
        (over, Some(over), Some(outage))
    );
    // If it ends in time, the schedule counts from there.
    let ended = ping(PingKind::Success, s(720));
    let ended = transition(&monitor, &waiting, &ended, s(720)).state;
    let next = s(720 + i64::from(PERIOD_S + GRACE_S));
    assert_eq!(ended.deadline(), Some(next));
}

#[test]
fn a_run_that_may_have_ended_in_an_outage_extends_the_schedule_too() {
    let period_s = 800;
    let monitor = Monitor {
        schedule: Schedule::Simple { period_s },
        ..monitor(false)
    };
    let up = state(&monitor, Status::Up, false);
    let started = transition(&monitor, &up, &ping(PingKind::Start, s(40)), s(40)).state;
    // The run's grace ends in the outage, and nothing is expected near it. A success at 69 s, which
    // Thrum would have missed, would have postponed the schedule's deadline at 830 s.
    let outages = [Outage::total(s(50), s(150))];
    let timer = Event::Timer { outages: &outages };
    let extended = s(150 + i64::from(period_s + GRACE_S));
    let judged = transition(&monitor, &started, &timer, s(840));
    assert!(judged.flip.is_none(), "no false alarm");
    assert_eq!(judged.state.deadline(), Some(extended));
}

#[test]
fn an_outage_extends_deadlines_by_at_most_an_hour_and_the_grace() {
    let day_s = 86_400;
    let monitor = Monitor {
        schedule: Schedule::Simple { period_s: day_s },
        ..monitor(false)
    };
    let up = state(&monitor, Status::Up, false);
    let end = s(i64::from(day_s) + 300);
    let outages = [Outage::total(s(i64::from(day_s) - 300), end)];
    let timer = Event::Timer { outages: &outages };
    let judged = transition(&monitor, &up, &timer, end);
    let extended = end + (3_600 + i64::from(GRACE_S)) * 1000;
    assert!(judged.flip.is_none(), "no false alarm");
    assert_eq!(judged.state.deadline(), Some(extended));
    let flip = transition(&monitor, &judged.state, &timer, extended).flip;
    assert_eq!(flip.unwrap().at, extended);
}

#[test]
fn an_outage_extends_the_deadline_and_is_named() {
    let monitor = monitor(false);
    let up = state(&monitor, Status::Up, false);
    // Expected at 60 s, deadline at 90 s; Thrum was down from 50 s to 700 s.
    let outage = Outage::total(s(50), s(700));
    let outages = [outage];
    let timer = Event::Timer { outages: &outages };
    let extended = s(700 + i64::from(PERIOD_S + GRACE_S));
    let judged = transition(&monitor, &up, &timer, s(701));
    assert!(judged.flip.is_none(), "no false alarm");
    assert_eq!(judged.state.deadline(), Some(extended));
    assert_eq!(
        judged.state.expires_at,
        Some(extended.secs() + thrum_schema::state::TTL_SLACK_S),
        "TTL moves too"
    );
    assert!(!judged.state.plain, "the next success must clear it");
    let flip = transition(&monitor, &judged.state, &timer, extended)
        .flip
        .unwrap();
    assert_eq!(
        (flip.at, flip.outage),
        (extended, Some(outage)),
        "no true alarm is missed"
    );
    // Pinged again: as if nothing had happened.
    let healed = transition(
        &monitor,
        &judged.state,
        &ping(PingKind::Success, s(710)),
        s(710),
    );
    assert_eq!(healed.state.extension, None);
    assert!(healed.state.plain);
    // An outage does not matter if it ended before a heartbeat could have been missed, or started
    // after the deadline.
    for (start, end) in [(-700, 0), (90, 800)] {
        let elsewhere = [Outage::total(s(start), s(end))];
        let timer = Event::Timer {
            outages: &elsewhere,
        };
        assert!(
            transition(&monitor, &up, &timer, s(801)).flip.is_some(),
            "{start}"
        );
    }
}

#[test]
fn cron_monitors_expect_their_next_run() {
    let monitor = Monitor {
        schedule: Schedule::parse("*/5 * * * *", "UTC").unwrap(),
        ..monitor(false)
    };
    let at = UnixMs(1_763_700_001_000); // 04:40:01
    let up = transition(
        &monitor,
        &MonitorState::new(&monitor),
        &ping(PingKind::Success, at),
        at,
    );
    let expected = UnixMs(1_763_700_300_000);
    assert_eq!(up.state.expected(), Some(expected));
    assert_eq!(up.arm, Some(expected + i64::from(GRACE_S) * 1000));
    assert!(!up.state.plain);
    // A schedule without a next run is never late.
    let past = Monitor {
        schedule: Schedule::parse("2001-01-01", "UTC").unwrap(),
        ..monitor
    };
    let up = transition(
        &past,
        &MonitorState::new(&past),
        &ping(PingKind::Success, at),
        at,
    );
    assert_eq!((up.state.deadline(), up.arm), (None, None));
    assert_eq!(up.state.shown(UnixMs(i64::MAX / 2), &[]), Shown::Up);
}

fn with(options: Options) -> Monitor {
    Monitor {
        options,
        ..monitor(false)
    }
}

fn run(kind: PingKind, rid: Option<u8>, at: UnixMs) -> Event<'static> {
    let rid = rid.map(|rid| Uuid::from_u128(rid.into()));
    Event::Ping {
        kind,
        rid,
        at,
        why: None,
    }
}

/// Plays events, each at its second, and returns the last outcome.
fn play(
    monitor: &Monitor,
    start: &MonitorState,
    events: &[(i64, PingKind, Option<u8>)],
) -> Outcome {
    let mut state = start.clone();
    let mut last = None;
    for &(at, kind, rid) in events {
        let outcome = transition(monitor, &state, &run(kind, rid, s(at)), s(at));
        state = outcome.state.clone();
        last = Some(outcome);
    }
    last.expect("at least one event")
}

#[test]
fn failures_are_tolerated_up_to_the_limit() {
    use PingKind::{Fail, Success};
    let three = with(Options {
        failures: Some(3),
        ..Options::default()
    });
    // (from, pings) → (status, whether the last ping alerts)
    for (from, kinds, status, alerts) in [
        (Status::Up, &[Fail][..], Status::Up, false),
        (Status::Up, &[Fail, Fail], Status::Up, false),
        (Status::Up, &[Fail, Fail, Fail], Status::Down, true),
        (
            Status::Up,
            &[Fail, Fail, Success, Fail, Fail],
            Status::Up,
            false,
        ),
        (Status::Up, &[Fail, Fail, Fail, Fail], Status::Down, false),
        (Status::New, &[Fail], Status::Up, false),
        (Status::New, &[Fail, Fail, Fail], Status::Down, true),
        (Status::Paused, &[Fail], Status::Up, false),
        (Status::Down, &[Fail], Status::Down, false),
        (Status::Down, &[Success], Status::Up, true),
    ] {
        let start = match from {
            // After a missed deadline.
            Status::Down => {
                let up = state(&three, Status::Up, false);
                transition(&three, &up, &Event::Timer { outages: &[] }, s(1_000)).state
            }
            from => state(&three, from, false),
        };
        let events: Vec<_> = kinds
            .iter()
            .zip(2_000..)
            .map(|(k, at)| (at, *k, None))
            .collect();
        let outcome = play(&three, &start, &events);
        let case = format!("{from:?} {kinds:?}");
        assert_eq!(outcome.state.status, status, "{case}");
        assert_eq!(
            outcome.flip.is_some_and(|flip| flip.alert),
            alerts,
            "{case}"
        );
        let fails = kinds.iter().filter(|kind| **kind == Fail).count() as u64;
        assert_eq!(outcome.state.fails, fails, "{case}: all are counted");
    }
    // A deadline still alerts at once, and a tolerated failure waits for the next ping.
    let up = state(&three, Status::Up, false);
    let passed = play(&three, &up, &[(10, Fail, None)]).state;
    assert!(!passed.plain, "the next success must reset the count");
    assert_eq!(
        passed.deadline(),
        Some(s(10 + i64::from(PERIOD_S + GRACE_S)))
    );
    assert_eq!(
        play(&three, &passed, &[(20, Success, None)]).state.failures,
        0
    );
}

#[test]
fn a_run_can_have_its_own_grace() {
    use PingKind::Start;
    let long = with(Options {
        start_grace_s: Some(600),
        ..Options::default()
    });
    let up = state(&long, Status::Up, false);
    let deadline = |state: &MonitorState| state.deadline().map(|at| (at - T0) / 1000);
    assert_eq!(deadline(&up), Some(90), "no run: period and grace");
    let running = play(&long, &up, &[(50, Start, None)]).state;
    assert_eq!(deadline(&running), Some(650), "the run has its own grace");
    assert_eq!(running.next_ping(), Some(s(50)), "shown as documented");
    // A job that starts again and again but never ends is noticed: after the schedule, its grace
    // and the run's.
    let again = play(&long, &up, &[(50, Start, None), (300, Start, None)]).state;
    assert_eq!(deadline(&again), Some(690));
    let shorter = with(Options {
        start_grace_s: Some(10),
        ..Options::default()
    });
    let up = state(&shorter, Status::Up, false);
    let outcome = play(&shorter, &up, &[(50, Start, None)]);
    assert_eq!(deadline(&outcome.state), Some(60));
    assert_eq!(outcome.arm, Some(s(60)), "T1");
    assert_eq!(outcome.state.shown(s(60), &[]), Shown::Down);
}

#[test]
fn every_run_can_be_watched_separately() {
    use PingKind::{Fail, Start, Success};
    let all = with(Options {
        all_runs: true,
        ..Options::default()
    });
    let up = state(&all, Status::Up, false);
    let (a, b, c) = (Some(1), Some(2), Some(3));
    let runs = |state: &MonitorState| {
        state
            .runs()
            .map(|run| (run.at - T0) / 1000)
            .collect::<Vec<_>>()
    };
    let three = play(&all, &up, &[(1, Start, a), (5, Start, b), (9, Start, c)]).state;
    assert_eq!(runs(&three), [1, 5, 9]);
    assert_eq!(three.deadline(), Some(s(31)), "the earliest counts");
    // (what ends, duration, what is still running)
    for (kind, rid, duration_s, left) in [
        (Success, a, Some(19), vec![5, 9]),
        (Success, b, Some(15), vec![1, 9]),
        (Fail, c, Some(11), vec![1, 5]),
        (Success, None, None, vec![1, 5, 9]),
        (Fail, Some(9), None, vec![1, 5, 9]),
    ] {
        let outcome = play(&all, &three, &[(20, kind, rid)]);
        assert_eq!(outcome.duration_ms, duration_s.map(|s| s * 1000), "{rid:?}");
        assert_eq!(runs(&outcome.state), left, "{rid:?}");
    }
    // Starting a run again replaces it.
    assert_eq!(
        runs(&play(&all, &three, &[(12, Start, a)]).state),
        [5, 9, 12]
    );
    // The others end in time; the one that does not alerts, once.
    let left = play(&all, &three, &[(20, Success, b), (21, Success, c)]).state;
    assert_eq!(runs(&left), [1]);
    let late = transition(&all, &left, &Event::Timer { outages: &[] }, s(31));
    assert!(late.flip.is_some_and(|flip| flip.alert && flip.at == s(31)));
    assert_eq!(runs(&late.state), Vec::<i64>::new(), "each alerts once");
    let back = play(&all, &late.state, &[(40, Success, Some(7))]).state;
    assert_eq!((back.status, back.deadline()), (Status::Up, Some(s(130))));
    // A run that was overdue while the monitor was down does not take it down again.
    let down = transition(&all, &three, &Event::Timer { outages: &[] }, s(31)).state;
    assert_eq!(runs(&down), [5, 9]);
    let back = play(&all, &down, &[(60, Success, Some(7))]).state;
    assert_eq!((back.status, runs(&back)), (Status::Up, vec![]));
    // With too many runs, the oldest ones are kept.
    let many: Vec<_> = (0..60_u8).map(|i| (i64::from(i), Start, Some(i))).collect();
    let many = play(&all, &up, &many).state;
    assert_eq!(many.runs().count(), thrum_schema::state::MAX_RUNS);
    assert_eq!(many.runs().next().map(|run| run.at), Some(s(0)));
    // By default only the latest is watched.
    let default = monitor(false);
    let latest = play(&default, &up, &[(1, Start, a), (5, Start, b)]).state;
    assert_eq!(runs(&latest), [5]);
    // When the option is turned off, the others are forgotten.
    let plain = transition(&default, &three, &Event::Reconfigured, s(10)).state;
    assert_eq!(runs(&plain), [9]);
}

#[test]
fn early_and_overlapping_runs_are_marked() {
    use PingKind::{Fail, Log, Start, Success};
    let marks = with(Options {
        early_s: Some(10),
        ..Options::default()
    });
    let up = state(&marks, Status::Up, false);
    // Expected at 60 s; what comes before 50 s is early.
    for (events, early, overlap) in [
        (&[(49, Success, None)][..], true, false),
        (&[(50, Success, None)], false, false),
        (&[(49, Start, None)], true, false),
        (&[(49, Fail, None)], true, false),
        (&[(49, Log, None)], false, false),
        (&[(45, Start, None), (49, Success, None)], false, false),
        (&[(55, Start, None), (60, Start, None)], false, true),
        (&[(55, Start, Some(1)), (60, Start, Some(2))], false, true),
        (&[(55, Start, None), (90, Start, None)], false, false),
    ] {
        let outcome = play(&marks, &up, events);
        assert_eq!(
            (outcome.early, outcome.overlap),
            (early, overlap),
            "{events:?}"
        );
    }
    assert!(!up.plain, "the rules must decide");
    let default = state(&monitor(false), Status::Up, false);
    assert!(!play(&monitor(false), &default, &[(1, Success, None)]).early);
}

#[test]
fn missed_runs_are_counted_on_recovery() {
    use PingKind::Success;
    let monitor = monitor(false);
    let up = state(&monitor, Status::Up, false);
    let down = transition(&monitor, &up, &Event::Timer { outages: &[] }, s(90)).state;
    // Due at 60, 120, 180 … with 30 s of grace each.
    for (at, missed) in [(91, 1), (149, 1), (150, 2), (700, 11)] {
        let outcome = play(&monitor, &down, &[(at, Success, None)]);
        assert_eq!(outcome.flip.unwrap().missed, missed, "{at}");
        assert_eq!(outcome.state.missed, u64::from(missed), "{at}");
    }
    // A failure in between does not hide the runs missed before it.
    let failed = play(
        &monitor,
        &down,
        &[(700, PingKind::Fail, None), (701, Success, None)],
    );
    assert_eq!(failed.state.missed, 11);
    assert_eq!(play(&monitor, &up, &[(89, Success, None)]).state.missed, 0);
}

#[test]
fn users_are_only_notified_of_news() {
    use PingKind::{Fail, Success};
    let monitor = monitor(false);
    let up = state(&monitor, Status::Up, false);
    let silent = |mut outcome: Outcome| {
        outcome.silence(s(1_000));
        assert!(
            outcome
                .flip
                .as_ref()
                .is_some_and(|flip| flip.silenced && !flip.alert)
        );
        assert_eq!(outcome.wake, Some(s(1_000)));
        outcome.state
    };
    let alerts = |outcome: &Outcome| outcome.flip.as_ref().is_some_and(|flip| flip.alert);
    // Down while silenced, and back up: no alert for either.
    let down = silent(play(&monitor, &up, &[(1, Fail, None)]));
    assert!(down.silenced);
    let back = play(&monitor, &down, &[(2, Success, None)]);
    assert!(!alerts(&back) && !back.state.silenced);
    // The next time, it alerts.
    assert!(alerts(&play(&monitor, &back.state, &[(3, Fail, None)])));
    // Users were notified that it is down; back up while silenced, and down again: they already
    // believe that.
    let notified = play(&monitor, &up, &[(1, Fail, None)]).state;
    let back = silent(play(&monitor, &notified, &[(2, Success, None)]));
    let again = play(&monitor, &back, &[(3, Fail, None)]);
    assert!(!alerts(&again) && !again.state.silenced);
    assert!(alerts(&play(&monitor, &again.state, &[(4, Success, None)])));
    // A pause clears it.
    assert!(
        !transition(&monitor, &down, &Event::Pause, s(5))
            .state
            .silenced
    );
    // A flip that does not alert cannot be silenced.
    let mut new = play(
        &monitor,
        &MonitorState::new(&monitor),
        &[(1, Success, None)],
    );
    new.silence(s(9));
    assert!(new.wake.is_none() && !new.state.silenced);
}

/// A step, some milliseconds after the previous one.
#[derive(Debug, Clone)]
enum Step {
    Ping(PingKind, Option<u8>, i64),
    Pause,
    Resume,
    Reconfigure(u32, u32),
    Outage(i64),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<(Step, i64)>> {
    use PingKind::{Fail, Ign, Log, Start, Success};
    let kind = prop_oneof![4 => Just(Success), 1 => Just(Fail), 2 => Just(Start), 1 => Just(Log), 1 => Just(Ign)];
    let step = prop_oneof![
        8 => (kind, prop::option::of(0..3_u8), 0..5_000_i64).prop_map(|(k, r, lag)| Step::Ping(k, r, lag)),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => (1..200_u32, 0..100_u32).prop_map(|(p, g)| Step::Reconfigure(p, g)),
        1 => (60_000..900_000_i64).prop_map(Step::Outage),
        3 => Just(Step::Wait),
    ];
    prop::collection::vec((step, 0..200_000_i64), 1..60)
}

/// Options beyond docs/compatibility.md; mostly none.
fn options() -> impl Strategy<Value = Options> {
    let rare = |seconds: std::ops::Range<u32>| prop::option::weighted(0.3, seconds);
    (
        rare(1..300),
        rare(1..4),
        rare(0..60),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(start_grace_s, failures, early_s, all_runs)| Options {
            start_grace_s,
            failures,
            early_s,
            all_runs,
            ..Options::default()
        })
}

/// The timers that the table would hold for one monitor: their due times and epochs.
#[derive(Debug, Default)]
struct Timers(Vec<(UnixMs, u32)>);

impl Timers {
    /// Adds what an outcome arms, and checks T1.
    fn follow(&mut self, outcome: &Outcome, now: UnixMs) {
        let state = &outcome.state;
        if let Some(deadline) = outcome.arm {
            let due = look_at(deadline, state.grace_s, now);
            assert!(due >= now, "no sweep looks behind the cursor");
            self.0.push((due, state.epoch));
        }
        if let Some(deadline) = state.deadline() {
            let deadline = deadline.max(now);
            let armed = self
                .0
                .iter()
                .any(|(due, epoch)| *epoch == state.epoch && *due <= deadline);
            assert!(armed, "T1: {state:?} has {:?}", self.0);
        }
        let current = self
            .0
            .iter()
            .filter(|(_, epoch)| *epoch == state.epoch)
            .count();
        assert!(current <= 1, "at most one entry is current: {:?}", self.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Any events in any order: no panic, T1 holds, versions and flips are counted, flip times
    /// never go backwards, and the one-write heartbeat does exactly what the rules do.
    #[test]
    fn any_history_keeps_the_invariants(history in steps(), cron in any::<bool>(), options in options()) {
        let mut monitor = with(options);
        if cron {
            monitor.schedule = Schedule::parse("*/3 * * * *", "Europe/Berlin").unwrap();
        }
        let mut state = MonitorState::new(&monitor);
        let mut timers = Timers::default();
        let mut outages = Vec::new();
        let mut now = T0;
        for (step, wait_ms) in history {
            let then = now + wait_ms;
            // The sweep: everything that is due fires, in order, before the next step.
            while let Some(i) = timers.0.iter().position(|(due, _)| *due <= then) {
                let (due, epoch) = timers.0.remove(i);
                if epoch != state.epoch {
                    continue;
                }
                now = now.max(due);
                let outcome = transition(&monitor, &state, &Event::Timer { outages: &outages }, now);
                check(&state, &outcome)?;
                state = outcome.state.clone();
                if let Some(deadline) = state.deadline() {
                    prop_assert!(deadline > now, "a timer that fires at its deadline flips");
                    timers.0.push((look_at(deadline, state.grace_s, now), state.epoch));
                }
                timers.follow(&outcome, now);
            }
            now = then;
            let event = match step {
                Step::Ping(kind, rid, lag) => Event::Ping {
                    why: None,
                    kind,
                    rid: rid.map(|rid| Uuid::from_u128(rid.into())),
                    at: now - lag,
                },
                Step::Pause => Event::Pause,
                Step::Resume => Event::Resume,
                Step::Reconfigure(period_s, grace_s) => {
                    if !cron {
                        monitor.schedule = Schedule::Simple { period_s };
                    }
                    monitor.grace_s = grace_s;
                    Event::Reconfigured
                }
                Step::Outage(ms) => {
                    outages.push(Outage::total(now, now + ms));
                    now = now + ms;
                    continue;
                }
                Step::Wait => continue,
            };
            let outcome = transition(&monitor, &state, &event, now);
            check(&state, &outcome)?;
            if let Event::Ping { kind: PingKind::Success, at, .. } = event
                && state.status == Status::Up && state.plain && state.seen <= Some(at)
            {
                let fast = MonitorState {
                    seen: Some(at),
                    expires_at: Some(at.secs() + state.ttl_span),
                    pings: state.pings + 1,
                    version: state.version + 1,
                    last_duration_ms: None,
                    ..state.clone()
                };
                prop_assert_eq!(&outcome.state, &fast);
                prop_assert!(outcome.flip.is_none() && outcome.arm.is_none());
            }
            timers.follow(&outcome, now);
            state = outcome.state;
        }
    }
}

fn check(before: &MonitorState, outcome: &Outcome) -> Result<(), TestCaseError> {
    let after = &outcome.state;
    let changed = *after != *before;
    prop_assert_eq!(after.version, before.version + u64::from(changed));
    prop_assert_eq!(
        after.flips,
        before.flips + u64::from(outcome.flip.is_some())
    );
    prop_assert!(after.flip_at >= before.flip_at);
    prop_assert!(after.seen >= before.seen || after.status == Status::New);
    prop_assert_eq!(after.expires_at.is_some(), after.deadline().is_some());
    if let Some(flip) = &outcome.flip {
        prop_assert_eq!(flip.n, after.flips);
        prop_assert_ne!(flip.from, flip.to);
        prop_assert_eq!(Some(flip.at), after.flip_at);
    }
    Ok(())
}

/// A flip that the state does not have, because it was not replicated, is gone on from; and if the monitor recovered
/// meanwhile, the next flip says so.
#[test]
fn a_flip_that_only_its_alert_knows_is_gone_on_from() {
    let monitor = monitor(false);
    let up = transition(
        &monitor,
        &MonitorState::new(&monitor),
        &ping(PingKind::Success, T0),
        T0,
    );
    let failed = transition(
        &monitor,
        &up.state,
        &ping(PingKind::Fail, T0 + 10_000),
        T0 + 10_000,
    );
    let flip = failed.flip.expect("it goes down");
    let alert = AlertId(Uuid::from_u128(7));
    let known = Event::Known { flip: &flip, alert };

    let after = transition(&monitor, &up.state, &known, T0 + 100_000);
    assert_eq!(
        (after.state.status, after.state.flips),
        (Status::Down, flip.n)
    );
    assert_eq!(after.state.last_alert, Some(alert));
    assert_eq!(after.flip, None, "its alert exists already");

    // It has it, or a later one: nothing happens.
    let again = transition(&monitor, &after.state, &known, T0 + 110_000);
    assert_eq!(again.state, after.state);

    let later = transition(
        &monitor,
        &up.state,
        &ping(PingKind::Success, T0 + 50_000),
        T0 + 50_000,
    );
    let recovered = transition(&monitor, &later.state, &known, T0 + 100_000);
    let back = recovered
        .flip
        .expect("people must learn that it is up again");
    assert_eq!(
        (back.n, back.to, back.alert),
        (flip.n + 1, Status::Up, true)
    );
    assert_eq!(
        recovered.state.last_alert,
        Some(alert),
        "which the next alert follows"
    );
}
