//! Draws a backtest: price and trades above, equity of the strategy and of buy and hold below.

use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use serde_json::Value;
use std::ops::Range;
use thrum_schema::signal::Bar;

const SIZE: (u32, u32) = (1_100, 640);
/// Blue and orange are distinguishable with color blindness.
const LONG: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const SHORT: RGBColor = RGBColor(0xc7, 0x5b, 0x12);
const PRICE: RGBColor = RGBColor(0x33, 0x33, 0x33);
const HELD: RGBColor = RGBColor(0x88, 0x88, 0x88);

type At = DateTime<Utc>;

/// Where a chart is drawn.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A chart of numbers over time.
type Chart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedDateTime<At>, RangedCoordf64>>;
/// An error of the drawing library.
type Failed = DrawingAreaErrorKind<std::io::Error>;

/// Draws a report as SVG.
///
/// # Errors
/// The report lacks a field, or the chart can't be drawn.
pub fn draw(title: &str, bars: &[Bar], report: &Value) -> anyhow::Result<String> {
    let from = time(&report["from"]).context("the report has no `from`")?;
    let to = time(&report["to"]).context("the report has no `to`")?;
    let price: Vec<(At, f64)> = bars
        .iter()
        .map(|bar| (bar.time.utc(), bar.close))
        .filter(|(at, _)| (from..=to).contains(at))
        .collect();
    let points = report["equity"]
        .as_array()
        .context("the report has no `equity`")?;
    let line = |name: &str| -> Vec<(At, f64)> {
        let point = |point: &Value| Some((time(&point["time"])?, point[name].as_f64()?));
        points.iter().filter_map(point).collect()
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let draw = || -> Result<(), Failed> {
            root.fill(&WHITE)?;
            let (above, below) = root.split_vertically(SIZE.1 * 3 / 5);
            draw_price(&above, title, from..to, price, &report["trades"])?;
            draw_equity(&below, from..to, line("equity"), line("buy_and_hold"))?;
            root.present()
        };
        draw().map_err(|error| anyhow!("can't draw the chart: {error}"))?;
    }
    Ok(svg)
}

fn draw_price(
    area: &Area<'_>,
    title: &str,
    period: Range<At>,
    price: Vec<(At, f64)>,
    trades: &Value,
) -> Result<(), Failed> {
    let mut chart = ChartBuilder::on(area);
    chart.caption(title, ("sans-serif", 20));
    let mut chart = axes(&mut chart, period, price.iter(), "price")?;
    chart.draw_series(LineSeries::new(price, PRICE))?;
    for (side, color) in [("long", LONG), ("short", SHORT)] {
        let entries = trades.as_array().into_iter().flatten();
        let entries = entries.filter(|trade| trade["side"] == side);
        let entries = entries.filter_map(|trade| {
            Some((time(&trade["entered_at"])?, trade["entry_price"].as_f64()?))
        });
        // BUY is a triangle and SELL a circle, so that the shape shows the side without color.
        let marks = entries.map(|at| match side {
            "long" => TriangleMarker::new(at, 6, color.filled()).into_dyn(),
            _ => Circle::new(at, 4, color.filled()).into_dyn(),
        });
        chart
            .draw_series(marks)?
            .label(if side == "long" { "BUY" } else { "SELL" })
            .legend(move |(x, y)| match side {
                "long" => TriangleMarker::new((x + 8, y), 6, color.filled()).into_dyn(),
                _ => Circle::new((x + 8, y), 4, color.filled()).into_dyn(),
            });
    }
    let exits = trades.as_array().into_iter().flatten();
    let exits = exits.filter(|trade| trade["open"] == false);
    let exits =
        exits.filter_map(|trade| Some((time(&trade["exited_at"])?, trade["exit_price"].as_f64()?)));
    chart
        .draw_series(exits.map(|at| Cross::new(at, 4, PRICE.stroke_width(2))))?
        .label("exit")
        .legend(|(x, y)| Cross::new((x + 8, y), 4, PRICE.stroke_width(2)));
    legend(&mut chart)
}

fn draw_equity(
    area: &Area<'_>,
    period: Range<At>,
    equity: Vec<(At, f64)>,
    held: Vec<(At, f64)>,
) -> Result<(), Failed> {
    let both = equity.iter().chain(&held);
    let mut chart = axes(&mut ChartBuilder::on(area), period, both, "equity")?;
    for (points, color, label) in [(held, HELD, "buy and hold"), (equity, LONG, "strategy")] {
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 16, y)], color.stroke_width(2))
            });
    }
    legend(&mut chart)
}

/// A chart over a period, with axes that fit its points.
fn axes<'a, 'b, 'p>(
    builder: &mut ChartBuilder<'_, 'a, SVGBackend<'b>>,
    period: Range<At>,
    points: impl Iterator<Item = &'p (At, f64)>,
    label: &str,
) -> Result<Chart<'a, 'b>, Failed> {
    let (low, high) = range(points.map(|(_, y)| *y));
    let mut chart = builder
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(70)
        .build_cartesian_2d(period, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&|at: &At| at.format("%Y-%m-%d").to_string())
        .y_desc(label)
        .draw()?;
    Ok(chart)
}

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Result<(), Failed> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()
}

fn time(value: &Value) -> Option<At> {
    value.as_str()?.parse().ok()
}

/// The range of the values, with a margin of 5 % on each side.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), y| {
        (low.min(y), high.max(y))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.05).max(high.abs() * 1e-6).max(1e-9);
    (low - room, high + room)
}
