//! Benchmarks of the engine: one step, eight indicators, a replay of a million bars, a backtest of
//! two thousand.
//!
//! `cargo bench -p thrum-evaluate`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use thrum_evaluate::backtests::backtest;
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::{Program, Stepper, run};
use thrum_schema::signal::indicator::Kind;
use thrum_schema::signal::request::Backtest;
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::{Bar, CompiledStrategy, Timeframe};

/// A random walk of hourly bars.
fn walk(n: usize) -> Vec<Bar> {
    let mut state = 7_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut price = 1_000.0;
    (0..n)
        .map(|i| {
            let open = price;
            price *= 1.0 + (random() - 0.5) * 0.02;
            Bar {
                time: UnixMs(i as i64 * 3_600_000),
                open,
                high: open.max(price) * 1.002,
                low: open.min(price) * 0.998,
                close: price,
                volume: Some(random() * 1_000.0),
            }
        })
        .collect()
}

fn compile(strategy: &str) -> CompiledStrategy {
    let strategy = builtin(strategy).expect("built in");
    strategy
        .compile(None, &BTreeMap::new(), Timeframe::HOUR)
        .expect("compiles")
}

fn step(c: &mut Criterion) {
    let bars = walk(1_000);
    let program = Program::new(compile("trend-rsi"));
    let mut group = c.benchmark_group("bar");
    group.throughput(Throughput::Elements(bars.len() as u64));
    group.bench_function("step of trend-rsi", |b| {
        b.iter_batched_ref(
            || program.begin(),
            |state| {
                run(&program, state, &bars, &[], |_, _, verdict| {
                    black_box(verdict);
                });
            },
            BatchSize::SmallInput,
        );
    });
    let kinds = [
        (Kind::Sma, [20.0, 0.0, 0.0]),
        (Kind::Ema, [20.0, 0.0, 0.0]),
        (Kind::Rsi, [14.0, 0.0, 0.0]),
        (Kind::RsiCutler, [14.0, 0.0, 0.0]),
        (Kind::Macd, [12.0, 26.0, 9.0]),
        (Kind::Bollinger, [20.0, 2.0, 0.0]),
        (Kind::Atr, [14.0, 0.0, 0.0]),
        (Kind::Stochastic, [14.0, 3.0, 3.0]),
    ];
    group.bench_function("eight indicators", |b| {
        b.iter_batched_ref(
            || kinds.map(|(kind, args)| Stepper::new(kind, args)),
            |steppers| {
                for bar in &bars {
                    for stepper in steppers.iter_mut() {
                        black_box(stepper.step(bar, bar.close));
                    }
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn whole(c: &mut Criterion) {
    let strategy = builtin("trend-rsi").expect("built in");
    let compiled = compile("trend-rsi");
    let program = Program::new(compiled.clone());
    let mut group = c.benchmark_group("whole");
    group.sample_size(10);
    let million = walk(1_000_000);
    group.bench_function("replay of 1 000 000 bars", |b| {
        b.iter(|| {
            let mut state = program.begin();
            run(&program, &mut state, &million, &[], |_, _, verdict| {
                black_box(verdict);
            });
            state
        });
    });
    let bars = walk(2_000);
    group.sample_size(50);
    group.bench_function("backtest of 2 000 bars", |b| {
        b.iter(|| backtest(strategy, &compiled, &bars, &[], &Backtest::default()));
    });
    group.finish();
}

criterion_group!(benches, step, whole);
criterion_main!(benches);
