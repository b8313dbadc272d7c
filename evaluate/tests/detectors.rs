//! What the anomaly detectors promise, on small series with known answers.

use crate::support::letters;
use std::collections::BTreeMap;
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::strategy::{builtin, builtins};
use thrum_schema::signal::{Bar, Explanation, Timeframe, Verdict};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// A Monday.
const MONDAY: UnixMs = UnixMs(1_763_942_400_000);

fn detector(name: &str, params: &[(&str, f64)], timeframe: Timeframe) -> Program {
    let params: BTreeMap<String, f64> = params.iter().map(|(n, v)| ((*n).into(), *v)).collect();
    let strategy = builtin(name).expect("a built-in strategy");
    Program::new(strategy.compile(None, &params, timeframe).expect(name))
}

/// The names of all built-in detectors.
fn detectors() -> impl Iterator<Item = &'static str> {
    builtins().filter_map(|(name, strategy)| strategy.detector.map(|_| name))
}

/// The verdict and the explanation of each value.
fn judge(program: &Program, values: &[(UnixMs, f64)]) -> Vec<(Verdict, Explanation)> {
    let mut state = program.begin();
    let judged = values.iter().map(|(at, x)| {
        let bar = Bar::value(*at, *x);
        let verdict = program.step(&mut state, &bar, None);
        (verdict, program.explain(&state, &bar))
    });
    judged.collect()
}

fn shown(judged: &[(Verdict, Explanation)]) -> String {
    letters(
        &judged
            .iter()
            .map(|(verdict, _)| *verdict)
            .collect::<Vec<_>>(),
    )
}

/// Numbers between -1 and 1, from a seed.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

/// A value every hour.
fn hourly(values: impl IntoIterator<Item = f64>) -> Vec<(UnixMs, f64)> {
    let values = values.into_iter().enumerate();
    values.map(|(i, x)| (MONDAY + i as i64 * HOUR, x)).collect()
}

/// A value every night, a few minutes after two.
fn nightly(values: impl IntoIterator<Item = f64>) -> Vec<(UnixMs, f64)> {
    let values = values.into_iter().enumerate();
    values
        .map(|(i, x)| {
            (
                MONDAY + i as i64 * DAY + 2 * HOUR + (i as i64 * 7 % 11) * 60_000,
                x,
            )
        })
        .collect()
}

#[test]
fn a_missing_value_neither_alerts_nor_blinds() {
    for name in ["auto", "robust-zscore", "ewma"] {
        let mut noise = noise(1);
        let mut values = hourly((0..82).map(|i| if i < 80 { 100.0 + noise() } else { 0.0 }));
        values.remove(70);
        let judged = judge(&detector(name, &[], Timeframe::HOUR), &values);
        let shown = shown(&judged);
        assert!(shown.ends_with(".........LL"), "{name}: {shown}");
        assert!(!shown[..79].contains(['L', 'H', 'g']), "{name}: {shown}");
    }
}

#[test]
fn a_deviation_that_nobody_would_notice_is_normal() {
    let values = hourly((0..41).map(|i| if i < 40 { 100.0 } else { 100.000_001 }));
    for name in detectors().filter(|name| *name != "absent-change") {
        let judged = judge(&detector(name, &[], Timeframe::HOUR), &values);
        assert!(!judged[40].0.is_anomalous(), "{name}: {}", shown(&judged));
    }
}

#[test]
fn a_new_level_is_low_until_it_is_accepted() {
    let mut noise = noise(2);
    let rows = |i| if i < 60 { 1_000.0 } else { 500.0 };
    let values = nightly((0..120).map(|i| rows(i) * (1.0 + 0.02 * noise())));
    let judged = judge(&detector("auto", &[], Timeframe::TICK), &values);
    let shown = shown(&judged);
    let (before, after) = shown.split_at(60);
    assert!(before.ends_with(&".".repeat(40)), "{before}");
    // It becomes the usual level by itself after 28 days, and stays that.
    assert_eq!(after, format!("{}{}", "L".repeat(29), ".".repeat(31)));
    let accepted = &judged[89].1.summary;
    assert!(accepted.contains("accepted as the new level"), "{accepted}");
    let explained = &judged[62].1;
    assert_eq!(
        explained.summary.split(':').next(),
        Some(
            format!(
                "LOW at {}",
                thrum_schema::signal::number::quantity(values[62].1)
            )
            .as_str()
        )
    );
    let expected = explained.expected.unwrap();
    assert!(
        expected.low.unwrap() > 900.0 && expected.high.unwrap() < 1_100.0,
        "{expected:?}"
    );
    // Never by itself, if so configured.
    let never = detector("auto", &[("accept_days", 0.0)], Timeframe::TICK);
    assert!(self::shown(&judge(&never, &values)).ends_with(&"L".repeat(60)));
}

#[test]
fn a_weekday_pattern_hides_nothing() {
    for name in ["auto", "seasonal", "holt-winters"] {
        let mut noise = noise(3);
        let values = nightly((0..84).map(|i| {
            let weekend = if i % 7 >= 5 { 0.4 } else { 1.0 };
            let half = if i == 79 { 0.5 } else { 1.0 };
            1_000.0 * weekend * half * (1.0 + 0.02 * noise())
        }));
        let judged = judge(&detector(name, &[], Timeframe::TICK), &values);
        let shown = shown(&judged);
        assert_eq!(shown.find(['L', 'H']), Some(79), "{name}: {shown}");
        assert_eq!(&shown[79..], "L....", "{name}");
    }
}

/// Business hours in a zone whose clocks go forward: the pattern moves by an hour in UTC.
#[test]
fn clocks_that_are_put_forward_raise_few_alerts_and_hide_nothing() {
    let change = 24 * 7 * 6;
    let mut noise = noise(7);
    let values = hourly((0..24 * 7 * 9).map(|i| {
        let local = if i < change { i } else { i + 1 };
        let is_open = (9..18).contains(&(local % 24)) && local / 24 % 7 < 5;
        let down = if i == change + 24 * 7 + 11 { 0.3 } else { 1.0 };
        down * if is_open { 1_000.0 } else { 100.0 } * (1.0 + 0.05 * noise())
    }));
    let program = detector("auto", &[], Timeframe::HOUR);
    let shown = shown(&judge(&program, &values));
    let (week, later) = shown[change..].split_at(24 * 7);
    let alerts = week.chars().filter(|c| "LH".contains(*c)).count();
    assert!((1..=6).contains(&alerts), "{alerts}: {week}");
    assert_eq!(later.find(['L', 'H']), Some(11), "{later}");
    assert!(!later[12..].contains(['L', 'H']), "{later}");
}

#[test]
fn the_state_of_a_detector_is_small() {
    let values = hourly((0..24 * 7 * 12).map(|i| 100.0 + f64::from(i % 24)));
    for name in detectors() {
        let program = detector(name, &[], Timeframe::HOUR);
        let mut state = program.begin();
        for (at, x) in &values {
            program.step(&mut state, &Bar::value(*at, *x), None);
        }
        let bytes = state.encode().len();
        assert!(bytes < 20_000, "{name}: {bytes} bytes");
    }
}

#[test]
fn thresholds_have_hysteresis() {
    let limits = detector(
        "threshold",
        &[("min", 10.0), ("max", 20.0), ("hysteresis", 2.0)],
        Timeframe::HOUR,
    );
    let values = [15.0, 9.0, 11.0, 12.5, 21.0, 19.0, 17.0, 10.0, 20.0];
    assert_eq!(shown(&judge(&limits, &hourly(values))), ".LL.HH...");
}

#[test]
fn sums_of_small_deviations_show_a_shift() {
    let mut noise = noise(4);
    let values = hourly((0..160).map(|i| {
        let shift = if (100..130).contains(&i) { 0.8 } else { 0.0 };
        100.0 + 10.0 * (noise() + shift)
    }));
    let sums = detector("cusum", &[], Timeframe::HOUR);
    let found = shown(&judge(&sums, &values));
    assert!(!found[..100].contains(['L', 'H']), "{found}");
    assert!(
        found[100..125].contains('H') && found.ends_with("....."),
        "{found}"
    );
    let alone = detector("robust-zscore", &[], Timeframe::HOUR);
    let found = shown(&judge(&alone, &values));
    assert!(
        !found.contains(['L', 'H']),
        "no single value shows it: {found}"
    );
}

#[test]
fn a_change_since_the_last_normal_value_is_found() {
    let change = detector("rate-of-change", &[("pct", 30.0)], Timeframe::HOUR);
    let values = [100.0, 110.0, 60.0, 70.0, 115.0, 200.0, 120.0];
    assert_eq!(shown(&judge(&change, &hourly(values))), "w.LL.H.");
}

#[test]
fn values_that_do_not_change_are_stale() {
    let same = detector("absence", &[("n", 3.0)], Timeframe::HOUR);
    assert_eq!(
        shown(&judge(&same, &hourly([1.0, 2.0, 2.0, 2.0, 2.0, 3.0]))),
        "...ss."
    );
}

#[test]
fn only_the_chosen_direction_alerts() {
    let mut noise = noise(5);
    let values: Vec<_> = hourly((0..90).map(|i| match i {
        80 => 10.0,
        85 => 500.0,
        _ => 100.0 + noise(),
    }));
    for (direction, expected) in [
        (0.0, "L....H...."),
        (-1.0, "L........."),
        (1.0, ".....H...."),
    ] {
        let program = detector("auto", &[("direction", direction)], Timeframe::HOUR);
        assert_eq!(
            &shown(&judge(&program, &values))[80..],
            expected,
            "{direction}"
        );
    }
}

/// Values before the judged one decide, and anomalous ones are not among them: whatever an anomaly
/// is, the limits for the next value are the same.
#[test]
fn an_anomalous_value_changes_no_expectation() {
    for name in [
        "auto",
        "seasonal",
        "holt-winters",
        "robust-zscore",
        "ewma",
        "rate-of-change",
    ] {
        let limits = |anomaly: f64| {
            let mut noise = noise(6);
            let values = hourly((0..24 * 40).map(|i| match i {
                940 => anomaly,
                _ => 100.0 + noise(),
            }));
            let judged = judge(&detector(name, &[], Timeframe::HOUR), &values);
            assert!(judged[940].0.is_anomalous(), "{name}");
            let expected = judged[941].1.expected.unwrap();
            (expected.low, expected.high)
        };
        assert_eq!(limits(1_000.0), limits(5_000.0), "{name}");
    }
}
