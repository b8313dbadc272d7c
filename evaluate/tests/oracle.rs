//! Compares every standard indicator with TA-Lib, over random walks with jumps, flat stretches and
//! extremes.

use proptest::prelude::*;
use ta_lib::{Core, MAType, OutRange};
use thrum_schema::UnixMs;
use thrum_schema::signal::Bar;
use thrum_schema::signal::engine::Stepper;
use thrum_schema::signal::indicator::Kind;

/// A stretch of a series.
#[derive(Debug, Clone)]
enum Stretch {
    Walk(u16, f64),
    Flat(u16),
    Jump(f64),
}

fn stretches() -> impl Strategy<Value = Vec<Stretch>> {
    let stretch = prop_oneof![
        4 => (1..120u16, 1e-5..0.05).prop_map(|(n, step)| Stretch::Walk(n, step)),
        2 => (1..60u16).prop_map(Stretch::Flat),
        // A gap, a split, a crash, a misplaced decimal point.
        2 => prop_oneof![Just(1e-6), Just(1e6), 0.2..5.0].prop_map(Stretch::Jump),
    ];
    prop::collection::vec(stretch, 3..12)
}

fn bars(stretches: &[Stretch], seed: u64) -> Vec<Bar> {
    let mut state = seed;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut price: f64 = 100.0;
    let mut bars = Vec::new();
    let mut push = |price: f64, before: f64, wide: f64, volume: f64| {
        let (high, low) = (
            price.max(before) * (1.0 + wide),
            price.min(before) * (1.0 - wide),
        );
        bars.push(Bar {
            time: UnixMs(bars.len() as i64 * 3_600_000),
            open: before,
            high,
            low,
            close: price,
            volume: Some(volume),
        });
    };
    for stretch in stretches {
        match *stretch {
            Stretch::Walk(n, step) => {
                for _ in 0..n {
                    let before = price;
                    price *= 1.0 + (random() - 0.5) * step;
                    push(price, before, random() * step, (random() * 1e6).round());
                }
            }
            Stretch::Flat(n) => (0..n).for_each(|_| push(price, price, 0.0, 1.0)),
            Stretch::Jump(factor) => {
                let before = price;
                price = (price * factor).clamp(1e-3, 1e12);
                push(price, before, 0.0, 10.0);
            }
        }
    }
    bars
}

struct Columns {
    high: Vec<f64>,
    low: Vec<f64>,
    close: Vec<f64>,
    volume: Vec<f64>,
}

/// The outputs of an indicator at each bar.
fn outputs(kind: Kind, args: [f64; 3], bars: &[Bar]) -> Vec<[f64; 3]> {
    let mut stepper = Stepper::new(kind, args);
    bars.iter()
        .map(|bar| stepper.step(bar, bar.close))
        .collect()
}

/// Compares the values at the bars where TA-Lib has one; Thrum may have more. `slack` allows for
/// the precision that TA-Lib's own arithmetic loses there.
fn same(
    name: &str,
    found: &[[f64; 3]],
    output: usize,
    range: OutRange,
    expected: &[f64],
    slack: impl Fn(usize) -> f64,
) -> Result<(), TestCaseError> {
    for (i, expected) in expected.iter().take(range.count).enumerate() {
        let at = range.beg_idx + i;
        let found = found[at][output];
        let tolerance = 1e-9 * expected.abs().max(found.abs()) + slack(at);
        prop_assert!(
            (found - expected).abs() <= tolerance,
            "{name}[{output}] at {at}: Thrum {found}, TA-Lib {expected}, tolerance {tolerance}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn standard_indicators_agree_with_ta_lib(
        stretches in stretches(), seed in any::<u64>(), n in 2..60u32, m in 2..30u32,
    ) {
        let bars = bars(&stretches, seed);
        let last = bars.len() - 1;
        let c = Columns {
            high: bars.iter().map(|bar| bar.high).collect(),
            low: bars.iter().map(|bar| bar.low).collect(),
            close: bars.iter().map(|bar| bar.close).collect(),
            volume: bars.iter().map(|bar| bar.volume.unwrap_or(0.0)).collect(),
        };
        let core = Core::new();
        let (period, args) = (n as i32, [f64::from(n), 0.0, 0.0]);
        let (mut a, mut b, mut d) = (vec![0.0; bars.len()], vec![0.0; bars.len()], vec![0.0; bars.len()]);
        // TA-Lib's running sums keep a rounding error of 1e-16 of the largest value that ever
        // passed; Thrum's do not.
        let mut greatest = Vec::with_capacity(bars.len());
        let mut most = 0.0_f64;
        for bar in &bars {
            most = most.max(bar.high);
            greatest.push(most);
        }
        let count = bars.len() as f64;
        let lost = |at: usize| greatest[at] * 1e-15 * count.sqrt().max(10.0);
        let none = |_: usize| 0.0;

        let range = core.sma(0, last, &c.close, period, &mut a).unwrap();
        same("sma", &outputs(Kind::Sma, args, &bars), 0, range, &a, lost)?;
        let range = core.ema(0, last, &c.close, period, &mut a).unwrap();
        same("ema", &outputs(Kind::Ema, args, &bars), 0, range, &a, none)?;
        let range = core.wma(0, last, &c.close, period, &mut a).unwrap();
        same("wma", &outputs(Kind::Wma, args, &bars), 0, range, &a, |at| lost(at) * f64::from(n))?;
        let range = core.rsi(0, last, &c.close, period, &mut a).unwrap();
        same("rsi", &outputs(Kind::Rsi, args, &bars), 0, range, &a, none)?;
        let range = core.atr(0, last, &c.high, &c.low, &c.close, period, &mut a).unwrap();
        same("atr", &outputs(Kind::Atr, args, &bars), 0, range, &a, none)?;
        let range = core.adx(0, last, &c.high, &c.low, &c.close, period, &mut a).unwrap();
        // ADX is a percentage of sums, in which small values vanish beside large ones: after a
        // price fell by a factor of a million, neither implementation has digits left.
        same("adx", &outputs(Kind::Adx, args, &bars), 0, range, &a, |_| 1e-9)?;
        let range = core.obv(0, last, &c.close, &c.volume, &mut a).unwrap();
        same("obv", &outputs(Kind::Obv, [0.0; 3], &bars), 0, range, &a, none)?;
        let range = core.roc(0, last, &c.close, period, &mut a).unwrap();
        same("roc", &outputs(Kind::Roc, args, &bars), 0, range, &a, |_| 1e-12)?;

        let donchian = outputs(Kind::Donchian, args, &bars);
        let range = core.max(0, last, &c.high, period, &mut a).unwrap();
        same("donchian", &donchian, 0, range, &a, none)?;
        let range = core.min(0, last, &c.low, period, &mut a).unwrap();
        same("donchian", &donchian, 2, range, &a, none)?;

        // TA-Lib subtracts squares, so small deviations from large means are noise there.
        let noise = |at: usize| lost(at).max(greatest[at] * 1e-7);
        let range = core.stddev(0, last, &c.close, period, 1.0, &mut a).unwrap();
        let sample = f64::from(n - 1) / f64::from(n);
        let std: Vec<[f64; 3]> = outputs(Kind::Std, args, &bars).iter().map(|o| [o[0] * sample.sqrt(), 0.0, 0.0]).collect();
        same("std", &std, 0, range, &a, noise)?;
        let range = core.bbands(0, last, &c.close, period, 2.0, 2.0, MAType::SMA, &mut a, &mut b, &mut d).unwrap();
        let bands = outputs(Kind::Bollinger, [f64::from(n), 2.0, 0.0], &bars);
        for (output, expected) in [&a, &b, &d].into_iter().enumerate() {
            same("bollinger", &bands, output, range, expected, |at| 4.0 * noise(at))?;
        }

        let (fast, slow) = (n.min(m), n.max(m) + 1);
        let range = core.macd(0, last, &c.close, fast as i32, slow as i32, m as i32, &mut a, &mut b, &mut d).unwrap();
        let macd = outputs(Kind::Macd, [f64::from(fast), f64::from(slow), f64::from(m)], &bars);
        // MACD is a difference of large means.
        for (output, expected) in [&a, &b, &d].into_iter().enumerate() {
            same("macd", &macd, output, range, expected, |at| greatest[at] * 1e-14)?;
        }
        let range = core
            .stoch(0, last, &c.high, &c.low, &c.close, period, 3, MAType::SMA, m as i32, MAType::SMA, &mut a, &mut b)
            .unwrap();
        let stochastic = outputs(Kind::Stochastic, [f64::from(n), 3.0, f64::from(m)], &bars);
        for (output, expected) in [&a, &b].into_iter().enumerate() {
            same("stochastic", &stochastic, output, range, expected, |_| 1e-9)?;
        }
    }

    /// Compares indicators that TA-Lib lacks, or computes less precisely, with their definition,
    /// recomputed at every bar.
    #[test]
    fn windows_stay_exact_whatever_values_passed_through(
        stretches in stretches(), seed in any::<u64>(), n in 2..60usize,
    ) {
        let bars = bars(&stretches, seed);
        let args = [n as f64, 0.0, 0.0];
        let kinds = [Kind::Sma, Kind::Wma, Kind::Std, Kind::Zscore, Kind::RsiCutler, Kind::LogReturn, Kind::Range];
        let found: Vec<_> = kinds.iter().map(|kind| outputs(*kind, args, &bars)).collect();
        let closes: Vec<f64> = bars.iter().map(|bar| bar.close).collect();
        for i in n..closes.len() {
            let window = &closes[i + 1 - n..=i];
            let mean = exact(window.iter().copied()) / n as f64;
            let weighted = exact(window.iter().enumerate().map(|(k, x)| x * (k + 1) as f64));
            let deviation = (exact(window.iter().map(|x| (x - mean).powi(2))) / (n - 1) as f64).sqrt();
            let changes: Vec<f64> = (i + 1 - n..=i).map(|k| closes[k] - closes[k - 1]).collect();
            let gain = exact(changes.iter().map(|x| x.max(0.0))) / n as f64;
            let loss = exact(changes.iter().map(|x| (-x).max(0.0))) / n as f64;
            let flat = window.iter().all(|x| *x == window[0]);
            let high = window.iter().copied().fold(f64::MIN, f64::max);
            let low = window.iter().copied().fold(f64::MAX, f64::min);
            let expected = [
                if flat { window[0] } else { mean },
                weighted / (n * (n + 1) / 2) as f64,
                if flat { 0.0 } else { deviation },
                if flat { 0.0 } else { (window[n - 1] - mean) / deviation },
                if gain == 0.0 { 0.0 } else { 100.0 - 100.0 / (1.0 + gain / loss) },
                (closes[i] / closes[i - n]).ln(),
                high - low,
            ];
            for ((kind, found), expected) in kinds.iter().zip(&found).zip(expected) {
                let found = found[i][0];
                let scale = match kind {
                    // The rounding error of the mean itself.
                    Kind::Zscore => (mean.abs() / deviation.max(1e-300)) * 1e-6,
                    _ => 0.0,
                };
                let tolerance = 1e-9 * (expected.abs() + scale) + if *kind == Kind::Std { mean.abs() * 1e-14 } else { 1e-12 };
                prop_assert!((found - expected).abs() <= tolerance, "{kind:?} at {i}: expected {expected} (got {found})");
                if flat && matches!(kind, Kind::Sma | Kind::Std) {
                    prop_assert_eq!(found.to_bits(), expected.to_bits());
                }
            }
        }
    }
}

/// A compensated sum (Neumaier).
fn exact(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut error) = (0.0_f64, 0.0);
    for x in values {
        let t = sum + x;
        error += if sum.abs() >= x.abs() {
            (sum - t) + x
        } else {
            (x - t) + sum
        };
        sum = t;
    }
    sum + error
}
