//! The charts of a series: its price, and the operands of the strategy's conditions.

use super::super::super::chart::{BLUE, Chart, GREY, INK, Line, Mark, ORANGE, Svg};
use super::super::super::words::at;
use crate::api::v1::series::BarView;
use std::collections::HashMap;
use thrum_schema::UnixMs;
use thrum_schema::signal::Verdict;
use thrum_schema::signal::view::SignalView;

/// Maximum number of operands with a pane of their own, below the price.
const MAX_PANES: usize = 3;
/// Maximum number of operands drawn over the price.
const MAX_OVERLAYS: usize = 2;

/// A value over time.
pub type Points = Vec<(UnixMs, Option<f64>)>;
/// An operand and its chart.
pub type Pane = (String, Option<Svg>);

/// The range that a detector expects, and the operands of the conditions over time: first those that are compared with the close, to draw
/// over the price, and then a pane for each of the others.
pub fn operands(found: &[SignalView]) -> (Vec<(String, Points)>, Vec<Pane>) {
    let mut along: Vec<(String, Points)> = Vec::new();
    let mut panes: Vec<(String, Points, HashMap<String, Points>)> = Vec::new();
    for signal in found {
        let Some(bar) = signal.bar.as_deref().map(|bar| at(bar).0) else {
            continue;
        };
        if let Some(expected) = &signal.explanation.expected {
            push(&mut along, "lower limit", bar, expected.low);
            push(&mut along, "upper limit", bar, expected.high);
        }
        for condition in &signal.explanation.conditions {
            let (left, right) = (&condition.left, &condition.right);
            if left == "close" || right == "close" {
                let (name, value) = if left == "close" {
                    (right, condition.threshold)
                } else {
                    (left, condition.value)
                };
                push(&mut along, name, bar, value);
            } else {
                let place = panes.iter().position(|(name, ..)| name == left);
                let place = place.unwrap_or_else(|| {
                    panes.push((left.clone(), Vec::new(), HashMap::new()));
                    panes.len() - 1
                });
                let (_, values, thresholds) = &mut panes[place];
                add(values, bar, condition.value);
                add(
                    thresholds.entry(right.clone()).or_default(),
                    bar,
                    condition.threshold,
                );
            }
        }
    }
    along.truncate(MAX_OVERLAYS);
    let panes = panes
        .into_iter()
        .take(MAX_PANES)
        .map(|(name, values, thresholds)| {
            let mut lines: Vec<Line> = thresholds
                .into_values()
                .map(|points| Line {
                    color: GREY,
                    points,
                })
                .collect();
            lines.push(Line {
                color: BLUE,
                points: values,
            });
            let chart = Chart {
                height: 150,
                lines,
                ..Chart::default()
            };
            (name, chart.draw())
        });
    (along, panes.collect())
}

fn push(lines: &mut Vec<(String, Points)>, name: &str, bar: UnixMs, value: Option<f64>) {
    let place = lines.iter().position(|(found, _)| found == name);
    let place = place.unwrap_or_else(|| {
        lines.push((name.to_owned(), Vec::new()));
        lines.len() - 1
    });
    add(&mut lines[place].1, bar, value);
}

/// Adds a point, unless another condition has already added it.
fn add(points: &mut Points, bar: UnixMs, value: Option<f64>) {
    if points.last().is_none_or(|(last, _)| *last != bar) {
        points.push((bar, value));
    }
}

/// A chart of the price or value, with marks where the signal became BUY or SELL, and at every LOW or
/// HIGH.
pub fn price(bars: &[BarView], found: &[SignalView], overlays: &[(String, Points)]) -> Option<Svg> {
    if bars.len() < 2 {
        return None;
    }
    let first = at(&bars[0].time).0;
    let mut lines = vec![Line {
        color: INK,
        points: bars
            .iter()
            .map(|bar| (at(&bar.time).0, Some(bar.close)))
            .collect(),
    }];
    for ((_, points), color) in overlays.iter().zip([GREY, BLUE]) {
        let points = points
            .iter()
            .filter(|(at, _)| *at >= first)
            .copied()
            .collect();
        lines.push(Line { color, points });
    }
    let before = std::iter::once(None).chain(found.iter().map(|signal| Some(signal.signal)));
    let marks = found.iter().zip(before).filter_map(|(signal, before)| {
        let bar = at(signal.bar.as_deref()?).0;
        let turns = before.is_some_and(|before| before != signal.signal);
        let (triangle, color) = match signal.signal {
            Verdict::Buy if turns => (true, BLUE),
            Verdict::Sell if turns => (false, ORANGE),
            Verdict::High => (true, BLUE),
            Verdict::Low => (false, ORANGE),
            _ => return None,
        };
        (bar >= first).then_some(Mark {
            at: bar,
            y: signal.close?,
            triangle,
            color,
        })
    });
    let chart = Chart {
        height: 340,
        marks: marks.collect(),
        lines,
        from_zero: false,
    };
    chart.draw()
}
