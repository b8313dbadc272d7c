//! Series and strategies for tests: bars from a seed, and real bars with known results.

use std::collections::BTreeMap;
use std::path::PathBuf;
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::strategy::{Strategy, builtin};
use thrum_schema::signal::{Bar, Timeframe, Verdict};

/// The path of a file of real bars, in the folder `THRUM_TEST_DATA`. Without that variable, tests
/// that need them print that they are skipped.
pub fn data(file: &str) -> Option<PathBuf> {
    match std::env::var_os("THRUM_TEST_DATA").filter(|folder| !folder.is_empty()) {
        Some(folder) => Some(PathBuf::from(folder).join(file)),
        None => {
            eprintln!("\n*** SKIPPED: THRUM_TEST_DATA must be the folder of {file} ***\n");
            None
        }
    }
}

/// The bars of a CSV file with `time,open,high,low,close,volume`.
pub fn bars_of(path: &PathBuf) -> Vec<Bar> {
    read_bars(std::fs::File::open(path).expect("a file"))
}

/// The bars of CSV with `time,open,high,low,close,volume`.
pub fn read_bars(from: impl std::io::Read) -> Vec<Bar> {
    csv::Reader::from_reader(from)
        .records()
        .map(|row| {
            let row = row.expect("a row");
            let number = |i: usize| row[i].parse::<f64>().expect("a number");
            let time: chrono::DateTime<chrono::Utc> = row[0].parse().expect("a time");
            Bar {
                time: time.into(),
                open: number(1),
                high: number(2),
                low: number(3),
                close: number(4),
                volume: (!row[5].is_empty()).then(|| number(5)),
            }
        })
        .collect()
}

/// A random walk of hourly bars, determined by `seed`.
pub fn walk(seed: u64, n: usize) -> Vec<Bar> {
    let mut state = seed;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut price = 1_000.0;
    (0..n)
        .map(|i| {
            let open = price;
            price *= 1.0 + (random() - 0.5) * 0.02;
            Bar {
                time: UnixMs(1_700_000_000_000 / 3_600_000 * 3_600_000 + i as i64 * 3_600_000),
                open,
                high: open.max(price) * (1.0 + random() * 0.005),
                low: open.min(price) * (1.0 - random() * 0.005),
                close: price,
                volume: Some(random() * 1_000.0),
            }
        })
        .collect()
}

/// A built-in strategy, compiled for hourly bars.
pub fn program(name: &str, mode: Option<&str>) -> Program {
    let strategy = builtin(name).expect("a built-in strategy");
    Program::new(
        strategy
            .compile(mode, &BTreeMap::new(), Timeframe::HOUR)
            .expect("compiles"),
    )
}

/// A strategy from JSON, compiled for hourly bars.
pub fn custom(json: serde_json::Value) -> (Strategy, Program) {
    let strategy = Strategy::parse(&json).expect("a strategy");
    let compiled = strategy
        .compile(None, &BTreeMap::new(), Timeframe::HOUR)
        .expect("compiles");
    (strategy, Program::new(compiled))
}

/// Signals as letters: B, H, S; lowercase initials for unknown ones.
pub fn letters(verdicts: &[Verdict]) -> String {
    verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Buy => 'B',
            Verdict::Hold => 'H',
            Verdict::Sell => 'S',
            Verdict::Normal => '.',
            Verdict::Low => 'L',
            Verdict::High => 'H',
            Verdict::Warming => 'w',
            Verdict::Stale => 's',
            Verdict::Gap => 'g',
            Verdict::NoSentiment => 'n',
        })
        .collect()
}
