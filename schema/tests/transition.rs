//! The state machine, case by case after the contract's table, and by property.

use proptest::prelude::*;
use thrum_schema::channel::Targets;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::lease::Shown;
use thrum_schema::timer::look_at;
use thrum_schema::{
    Event, Lease, Monitor, Outage, Outcome, PingKind, Schedule, Status, UnixMs, transition,
};
use uuid::Uuid;

const PERIOD_S: u32 = 60;
const GRACE_S: u32 = 30;
const T0: UnixMs = UnixMs(1_763_700_000_000);

fn monitor(manual_resume: bool) -> Monitor {
    Monitor {
        id: MonitorId(Uuid::from_u128(1)),
        project: ProjectId::FIRST,
        name: "web-01".into(),
        slug: "web-01".into(),
        tags: Vec::new(),
        schedule: Schedule::Simple { period_s: PERIOD_S },
        grace_s: GRACE_S,
        targets: Targets::All,
        manual_resume,
        post_only: false,
        filter: None,
        created: T0,
    }
}

fn ping(kind: PingKind, at: UnixMs) -> Event<'static> {
    let rid = None;
    Event::Ping { kind, rid, at }
}

fn s(seconds: i64) -> UnixMs {
    T0 + seconds * 1000
}

/// A lease brought to `status` by events, at T0, with a run in progress if `started`.
fn lease(monitor: &Monitor, status: Status, started: bool) -> Lease {
    let apply = |lease: &Lease, event: Event<'_>| transition(monitor, lease, &event, T0).lease;
    let new = Lease::new(monitor);
    let lease = match status {
        Status::New => new,
        Status::Up => apply(&new, ping(PingKind::Success, T0)),
        Status::Down => apply(&new, ping(PingKind::Fail, T0)),
        Status::Paused => {
            let up = apply(&new, ping(PingKind::Success, T0));
            apply(&up, Event::Pause)
        }
    };
    assert_eq!(lease.status, status);
    if started {
        // Past manual resume, which ignores pings: a run began while it was still watched.
        let watched = Monitor {
            manual_resume: false,
            ..monitor.clone()
        };
        transition(&watched, &lease, &ping(PingKind::Start, T0), T0).lease
    } else {
        lease
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

/// What a cell of the table says: the status afterwards, whether it is a flip, whether people are told, and whether
/// a run is in progress afterwards.
type Cell = (Status, bool, bool, bool);

#[test]
fn every_cell_of_the_contracts_table() {
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
        let before = lease(&monitor, from, started);
        let now = s(10_000);
        let event = match on {
            On::Ping(kind) => ping(kind, now),
            Deadline => Event::Timer { outages: &[] },
            Pause => Event::Pause,
            Resume => Event::Resume,
        };
        let outcome = transition(&monitor, &before, &event, now);
        let got: Cell = (
            outcome.lease.status,
            outcome.flip.is_some(),
            outcome.flip.as_ref().is_some_and(|flip| flip.alert),
            outcome.lease.run.is_some(),
        );
        let case = format!("{from:?} started={started} manual={manual_resume} {on:?}");
        assert_eq!(got, expected, "{case}");
        let counted = u64::from(matches!(on, On::Ping(_)));
        assert_eq!(outcome.lease.pings, before.pings + counted, "{case}");
        if matches!(on, On::Ping(Log | Ign)) {
            let same = Lease {
                pings: before.pings,
                version: before.version,
                ..outcome.lease
            };
            assert_eq!(same, before, "{case}: a log changes nothing else");
        }
    }
}

#[test]
fn boundaries_are_inclusive() {
    let monitor = monitor(false);
    let up = lease(&monitor, Status::Up, false);
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
        let up = lease(&monitor, Status::Up, false);
        let at = s(1);
        let start_event = Event::Ping {
            kind: PingKind::Start,
            rid: start,
            at,
        };
        let running = transition(&monitor, &up, &start_event, at).lease;
        let end_event = Event::Ping {
            kind,
            rid: end,
            at: s(6),
        };
        let outcome = transition(&monitor, &running, &end_event, s(6));
        let case = format!("{start:?} {kind:?} {end:?}");
        assert_eq!(outcome.duration_ms, duration.then_some(5_000), "{case}");
        assert_eq!(
            outcome.lease.last_duration_ms, outcome.duration_ms,
            "{case}"
        );
        assert_eq!(outcome.lease.run.is_some(), runs, "{case}");
    }
}

#[test]
fn a_run_brings_the_deadline_closer_and_rearms() {
    let monitor = monitor(false);
    let up = lease(&monitor, Status::Up, false);
    let at = s(5);
    let outcome = transition(&monitor, &up, &ping(PingKind::Start, at), at);
    let deadline = at + i64::from(GRACE_S) * 1000;
    assert_eq!(outcome.lease.deadline(), Some(deadline));
    assert_eq!(outcome.arm, Some(deadline));
    assert_eq!(outcome.lease.epoch, up.epoch + 1);
    assert_eq!(outcome.lease.seen, up.seen, "a start is not a success");
}

#[test]
fn a_shorter_period_rearms_and_a_longer_one_does_not() {
    let monitor = monitor(false);
    let up = lease(&monitor, Status::Up, false);
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
fn flip_times_never_run_backwards_and_late_pings_still_count() {
    let monitor = monitor(false);
    let up = lease(&monitor, Status::Up, false);
    let down = transition(&monitor, &up, &ping(PingKind::Fail, s(20)), s(20)).lease;
    let late = transition(&monitor, &down, &ping(PingKind::Success, s(10)), s(21));
    assert_eq!(late.lease.seen, Some(s(20)), "the latest is the maximum");
    assert_eq!(late.flip.unwrap().at, s(20));
    assert_eq!(late.lease.pings, down.pings + 1);
}

#[test]
fn an_outage_of_ours_gives_more_time_and_is_named() {
    let monitor = monitor(false);
    let up = lease(&monitor, Status::Up, false);
    // Expected at 60 s, deadline at 90 s; we were away from 50 s to 700 s.
    let outage = Outage {
        start: s(50),
        end: s(700),
    };
    let outages = [outage];
    let timer = Event::Timer { outages: &outages };
    let extended = s(700 + i64::from(PERIOD_S + GRACE_S));
    let judged = transition(&monitor, &up, &timer, s(701));
    assert!(judged.flip.is_none(), "no false alarm");
    assert_eq!(judged.lease.deadline(), Some(extended));
    assert_eq!(
        judged.lease.expires_at,
        Some(extended.secs() + thrum_schema::lease::TTL_SLACK_S),
        "TTL shows it too"
    );
    assert!(!judged.lease.plain, "the next success must clear it");
    let flip = transition(&monitor, &judged.lease, &timer, extended)
        .flip
        .unwrap();
    assert_eq!(
        (flip.at, flip.outage),
        (extended, Some(outage)),
        "no true one is missed"
    );
    // Heard again: as if nothing had been.
    let healed = transition(
        &monitor,
        &judged.lease,
        &ping(PingKind::Success, s(710)),
        s(710),
    );
    assert_eq!(healed.lease.extension, None);
    assert!(healed.lease.plain);
    // An outage that was over before a heartbeat could have been missed does not matter; nor one after the deadline.
    for (start, end) in [(-700, 0), (90, 800)] {
        let elsewhere = [Outage {
            start: s(start),
            end: s(end),
        }];
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
fn cron_monitors_expect_their_next_instant() {
    let monitor = Monitor {
        schedule: Schedule::parse("*/5 * * * *", "UTC").unwrap(),
        ..monitor(false)
    };
    let at = UnixMs(1_763_700_001_000); // 04:40:01
    let up = transition(
        &monitor,
        &Lease::new(&monitor),
        &ping(PingKind::Success, at),
        at,
    );
    let expected = UnixMs(1_763_700_300_000);
    assert_eq!(up.lease.expected(), Some(expected));
    assert_eq!(up.arm, Some(expected + i64::from(GRACE_S) * 1000));
    assert!(!up.lease.plain);
    // One that never comes again is never late.
    let past = Monitor {
        schedule: Schedule::parse("2001-01-01", "UTC").unwrap(),
        ..monitor
    };
    let up = transition(&past, &Lease::new(&past), &ping(PingKind::Success, at), at);
    assert_eq!((up.lease.deadline(), up.arm), (None, None));
    assert_eq!(up.lease.shown(UnixMs(i64::MAX / 2), &[]), Shown::Up);
}

/// Something that happens some milliseconds after what happened before.
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

/// The timers that the table would hold for one monitor: entries of an epoch, each with its due instant.
#[derive(Debug, Default)]
struct Timers(Vec<(UnixMs, u32)>);

impl Timers {
    /// Takes over what an outcome arms, and checks T1.
    fn follow(&mut self, outcome: &Outcome, now: UnixMs) {
        let lease = &outcome.lease;
        if let Some(deadline) = outcome.arm {
            let due = look_at(deadline, lease.grace_s, now);
            assert!(due >= now, "nobody looks behind the cursor");
            self.0.push((due, lease.epoch));
        }
        if let Some(deadline) = lease.deadline() {
            let deadline = deadline.max(now);
            let armed = self
                .0
                .iter()
                .any(|(due, epoch)| *epoch == lease.epoch && *due <= deadline);
            assert!(armed, "T1: {lease:?} has {:?}", self.0);
        }
        let current = self
            .0
            .iter()
            .filter(|(_, epoch)| *epoch == lease.epoch)
            .count();
        assert!(current <= 1, "entries never breed: {:?}", self.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever happens, in any order: no panic, T1 holds, versions and flips count, flip times never run backwards,
    /// and the one-write heartbeat does exactly what the rules would.
    #[test]
    fn any_history_keeps_the_invariants(history in steps(), cron in any::<bool>()) {
        let mut monitor = monitor(false);
        if cron {
            monitor.schedule = Schedule::parse("*/3 * * * *", "Europe/Berlin").unwrap();
        }
        let mut lease = Lease::new(&monitor);
        let mut timers = Timers::default();
        let mut outages = Vec::new();
        let mut now = T0;
        for (step, wait_ms) in history {
            let then = now + wait_ms;
            // The sweep: whatever is due fires, in order, before what happens next.
            while let Some(i) = timers.0.iter().position(|(due, _)| *due <= then) {
                let (due, epoch) = timers.0.remove(i);
                if epoch != lease.epoch {
                    continue;
                }
                now = now.max(due);
                let outcome = transition(&monitor, &lease, &Event::Timer { outages: &outages }, now);
                check(&lease, &outcome)?;
                lease = outcome.lease.clone();
                if let Some(deadline) = lease.deadline() {
                    prop_assert!(deadline > now, "a timer that fires at its deadline flips");
                    timers.0.push((look_at(deadline, lease.grace_s, now), lease.epoch));
                }
                timers.follow(&outcome, now);
            }
            now = then;
            let event = match step {
                Step::Ping(kind, rid, lag) => Event::Ping {
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
                    outages.push(Outage { start: now, end: now + ms });
                    now = now + ms;
                    continue;
                }
                Step::Wait => continue,
            };
            let outcome = transition(&monitor, &lease, &event, now);
            check(&lease, &outcome)?;
            if let Event::Ping { kind: PingKind::Success, at, .. } = event
                && lease.status == Status::Up && lease.plain && lease.seen <= Some(at)
            {
                let fast = Lease {
                    seen: Some(at),
                    expires_at: Some(at.secs() + lease.ttl_span),
                    pings: lease.pings + 1,
                    version: lease.version + 1,
                    last_duration_ms: None,
                    ..lease.clone()
                };
                prop_assert_eq!(&outcome.lease, &fast);
                prop_assert!(outcome.flip.is_none() && outcome.arm.is_none());
            }
            timers.follow(&outcome, now);
            lease = outcome.lease;
        }
    }
}

fn check(before: &Lease, outcome: &Outcome) -> Result<(), TestCaseError> {
    let after = &outcome.lease;
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
