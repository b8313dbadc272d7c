//! The speed of the rules: what a heartbeat, a deadline and a sweep compute.
//!
//! `cargo bench -p thrum-schema`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use thrum_schema::timer::{MAX_ENTRIES, Timer, What, decode, encode, look_at};
use thrum_schema::transition::Event;
use thrum_schema::{
    Monitor, MonitorId, MonitorState, Outage, PingKind, ProjectId, Schedule, UnixMs, transition,
};
use uuid::Uuid;

const NOW: UnixMs = UnixMs(1_763_700_000_000);

fn monitor(schedule: Schedule) -> Monitor {
    Monitor {
        schedule,
        grace_s: 60,
        ..Monitor::new(MonitorId(Uuid::from_u128(7)), ProjectId::FIRST, NOW)
    }
}

fn success(at: UnixMs) -> Event<'static> {
    Event::Ping {
        why: None,
        kind: PingKind::Success,
        rid: None,
        at,
    }
}

fn rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("rules");
    let simple = monitor(Schedule::Simple { period_s: 60 });
    let cron = monitor(Schedule::parse("*/5 * * * *", "Europe/Berlin").expect("a schedule"));
    let up = |monitor: &Monitor| {
        transition(monitor, &MonitorState::new(monitor), &success(NOW), NOW).state
    };
    for (name, monitor) in [
        ("success, simple schedule", &simple),
        ("success, cron", &cron),
    ] {
        let state = up(monitor);
        let at = NOW + 50_000;
        group.bench_function(name, |b| {
            b.iter(|| transition(monitor, black_box(&state), &success(at), at));
        });
    }
    let state = up(&simple);
    let outages: Vec<Outage> = (0..100)
        .map(|i| Outage::total(NOW - i * 7_200_000, NOW - i * 7_200_000 + 100_000))
        .collect();
    group.bench_function("deadline missed, 100 outages known", |b| {
        let late = NOW + 200_000;
        let event = Event::Timer { outages: &outages };
        b.iter(|| transition(&simple, black_box(&state), &event, late));
    });
    group.finish();
}

fn schedules(c: &mut Criterion) {
    let mut group = c.benchmark_group("next instant");
    for (name, expr) in [
        ("cron", "*/15 2-6 1,15 * 1-5"),
        ("OnCalendar", "Mon..Fri *-*-* 10..18/2:30:00"),
    ] {
        let schedule = Schedule::parse(expr, "Europe/Berlin").expect("a schedule");
        group.bench_function(name, |b| b.iter(|| schedule.next_after(black_box(NOW))));
    }
    group.finish();
}

fn wheel(c: &mut Criterion) {
    let mut group = c.benchmark_group("timing wheel");
    let entries: Vec<Timer> = (0..MAX_ENTRIES as u128)
        .map(|i| Timer {
            due: NOW,
            what: What::Deadline {
                monitor: MonitorId(Uuid::from_u128(i)),
                epoch: 3,
            },
        })
        .collect();
    let bytes = encode(&entries);
    group.throughput(Throughput::Elements(MAX_ENTRIES as u64));
    group.bench_function("encode an entry", |b| {
        b.iter(|| encode(black_box(&entries)));
    });
    group.bench_function("decode an entry", |b| b.iter(|| decode(black_box(&bytes))));
    group.throughput(Throughput::Elements(1));
    group.bench_function("place on the grid", |b| {
        b.iter(|| look_at(black_box(NOW + 61_234), 60, NOW));
    });
    group.finish();
}

criterion_group!(benches, rules, schedules, wheel);
criterion_main!(benches);
