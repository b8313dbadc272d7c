//! Rules for signals: they match a replay of the stored bars, which is computed here by other code,
//! and alert about their changes.

use super::case::{Case, Note};
use crate::sim::scenario::FaultKind;
use std::collections::VecDeque;

/// How long after bars were acknowledged they must have been evaluated, in milliseconds, whatever
/// goes wrong.
const LOOKED_MS: i64 = 100_000;

/// Judges the signals of every strategy that watches `bars`.
pub fn judge(case: &Case, bars: &[(i64, f64)], note: &mut Note<'_>) {
    let closes: Vec<f64> = bars.iter().map(|(_, close)| *close).collect();
    for strategy in case.scenario.strategies() {
        let expected = match *strategy {
            "positions" => positions(&closes),
            "robust-zscore" => robust_zscore(&closes),
            _ => crossing(&closes),
        };
        let Some(said) = case.seen.signals.get(strategy) else {
            continue;
        };
        let wrong = bars
            .iter()
            .zip(&expected)
            .find(|((index, _), expected)| said.get(index).map(String::as_str) != Some(**expected));
        if let Some(((index, _), expected)) = wrong {
            note(
                "signals match a replay of the bars",
                format!(
                    "{strategy}: bar {index} should be {expected}, but is {:?}",
                    said.get(index)
                ),
            );
            return;
        }
        watch(
            case,
            strategy,
            expected.last().copied().unwrap_or("WARMING"),
            note,
        );
    }
}

/// The close above or below its mean of three bars.
fn crossing(closes: &[f64]) -> Vec<&'static str> {
    let signal = |i: usize| {
        let Some(from) = i.checked_sub(2) else {
            return "WARMING";
        };
        let mean = closes[from..=i].iter().sum::<f64>() / 3.0;
        if closes[i] > mean {
            "BUY"
        } else if closes[i] < mean {
            "SELL"
        } else {
            "HOLD"
        }
    };
    (0..closes.len()).map(signal).collect()
}

/// The strategy with positions that the clients store. Bars open at their close.
fn positions(closes: &[f64]) -> Vec<&'static str> {
    // Whether it is long, its entry price, its best close, and its bars.
    let mut held: Option<(bool, f64, f64, u32)> = None;
    let mut low_for = 0;
    let signal = |close: &f64| {
        let close = *close;
        low_for = if close < 95.0 { low_for + 1 } else { 0 };
        let entry = match (close > 106.0, low_for >= 2) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        };
        if let Some((is_long, price, best, bars)) = held {
            let price = if bars == 0 { close } else { price };
            let best = match (bars, is_long) {
                (0, _) => close,
                (_, true) => best.max(close),
                (_, false) => best.min(close),
            };
            let bars = bars + 1;
            let ends = if is_long {
                (close - price) / price * 100.0 <= -6.0 || bars >= 9 || close < 98.0
            } else {
                -(best - close) / best * 100.0 >= 4.0
            };
            held = Some((is_long, price, best, bars));
            if ends || entry == Some(!is_long) {
                held = entry
                    .filter(|entry| *entry != is_long)
                    .map(|is_long| (is_long, 0.0, 0.0, 0));
            }
        } else {
            held = entry.map(|is_long| (is_long, 0.0, 0.0, 0));
        }
        match held {
            Some((true, ..)) => "BUY",
            Some((false, ..)) => "SELL",
            None => "HOLD",
        }
    };
    closes.iter().map(signal).collect()
}

/// The detector `robust-zscore` with n = 10 and k = 3: the distance from the median of the ten
/// normal values before, in median absolute deviations. An alert ends at 0.7 of the limit.
fn robust_zscore(closes: &[f64]) -> Vec<&'static str> {
    let mut window: VecDeque<f64> = VecDeque::new();
    let mut before = "WARMING";
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        f64::midpoint(values[(n - 1) / 2], values[n / 2])
    };
    let signal = |close: &f64| {
        let mut signal = "WARMING";
        if window.len() == 10 {
            let centre = median(window.iter().copied().collect());
            let distances = window.iter().map(|x| (x - centre).abs());
            let limit = 3.0 * 1.482_602 * median(distances.collect());
            let distance = close - centre;
            let side = if distance > 0.0 { "HIGH" } else { "LOW" };
            let share = if before == side { 0.7 } else { 1.0 };
            let is_beyond =
                (distance / limit).abs() > share && distance.abs() > share * 0.02 * centre.abs();
            signal = if is_beyond { side } else { "NORMAL" };
        }
        if matches!(signal, "WARMING" | "NORMAL") {
            window.push_back(*close);
            if window.len() > 10 {
                window.pop_front();
            }
        }
        before = signal;
        signal
    };
    closes.iter().map(signal).collect()
}

/// Each change from or to a signal that acts alerts once, and the alerts lead to the current signal.
/// Alerts created within a second of each other have no visible order, because clocks differ; but
/// in any order, each starts at the signal where another ended.
fn watch(case: &Case, strategy: &str, last: &str, note: &mut Note<'_>) {
    let acts = |signal: &str| matches!(signal, "BUY" | "SELL" | "LOW" | "HIGH");
    let alerts = || {
        let alerts = case.seen.alerts.iter();
        alerts.filter_map(|alert| {
            let (of, from, to) = alert.signal.as_ref()?;
            (of == strategy).then_some((alert.created_ms, (from.as_str(), to.as_str())))
        })
    };
    let changes: Vec<(&str, &str)> = alerts().map(|(_, signal)| signal).collect();
    let mut shown = None;
    for signal in ["BUY", "SELL", "LOW", "HIGH", "STALE"] {
        let to = changes.iter().filter(|(_, to)| *to == signal).count();
        let from = changes.iter().filter(|(from, _)| *from == signal).count();
        match to.checked_sub(from) {
            Some(0) => {}
            Some(1) if shown.is_none() => shown = Some(signal),
            _ => note(
                "a signal change alerts once",
                format!("{strategy}: {to} alerts to {signal}, but {from} from it: {changes:?}"),
            ),
        }
    }
    // STALE is not a signal: the signal before it still counts, unless a correction came later.
    if shown == Some("STALE") {
        let mut stale = alerts().filter(|(_, (_, to))| *to == "STALE");
        let Some((at, (from, _))) = stale.next_back() else {
            return;
        };
        // If the table took nothing for minutes, the signal was stale before the watch saw it.
        let starved = |what| matches!(what, FaultKind::Capacity(_));
        let mut spells = case.scenario.spells.iter();
        if at < case.history.bars_ended_ms + LOOKED_MS || spells.any(|spell| starved(spell.what)) {
            return;
        }
        shown = Some(from);
    }
    let shown = shown.filter(|signal| acts(signal));
    if shown != Some(last).filter(|signal| acts(signal)) {
        note(
            "the last signal alert matches the signal",
            format!(
                "the signal of {strategy} is {last}, but the alerts end at {shown:?}: {changes:?}"
            ),
        );
    }
}
