//! Charts as inline SVG. The style sheet selects elements by colour and replaces the colours in
//! dark mode. Nothing depends on colour alone: shapes differ as well.

use askama::filters::HtmlSafe;
use chrono::{DateTime, Utc};
use plotters::prelude::*;
use std::fmt;
use thrum_schema::UnixMs;

/// Longer lines are thinned out: a chart has fewer pixels than this.
const MAX_POINTS: usize = 1_200;

/// The colours of lines and marks, as the style sheet refers to them. They can be distinguished by
/// people with colour blindness.
pub const BLUE: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
pub const ORANGE: RGBColor = RGBColor(0xc7, 0x5b, 0x12);
pub const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
pub const GREY: RGBColor = RGBColor(0x88, 0x88, 0x88);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// A line: a value over time, interrupted where there is none.
#[derive(Debug)]
pub struct Line {
    pub color: RGBColor,
    pub points: Vec<(UnixMs, Option<f64>)>,
}

/// A mark at a point: a triangle, or a circle.
#[derive(Debug)]
pub struct Mark {
    pub at: UnixMs,
    pub y: f64,
    pub triangle: bool,
    pub color: RGBColor,
}

/// A chart.
#[derive(Debug, Default)]
pub struct Chart {
    pub height: u32,
    pub lines: Vec<Line>,
    pub marks: Vec<Mark>,
    /// Whether the y-axis begins at zero.
    pub from_zero: bool,
}

/// A rendered SVG image. It is inserted into pages without escaping.
#[derive(Debug)]
pub struct Svg(String);

impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Svg {}

/// A chart of one line; `None` if it has fewer than two points.
pub fn line(points: Vec<(UnixMs, Option<f64>)>, from_zero: bool) -> Option<Svg> {
    if points.len() < 2 {
        return None;
    }
    let chart = Chart {
        height: 180,
        lines: vec![Line {
            color: BLUE,
            points,
        }],
        marks: Vec::new(),
        from_zero,
    };
    chart.draw()
}

impl Chart {
    /// Renders the chart; `None` if there is nothing to draw.
    pub fn draw(self) -> Option<Svg> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let times = points().map(|(at, _)| *at);
        let (first, last) = (times.clone().min()?, times.max()?);
        let values = points().filter_map(|(_, y)| *y);
        let values = values.chain(self.marks.iter().map(|mark| mark.y));
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), y| {
            (low.min(y), high.max(y))
        });
        if low > high {
            return None;
        }
        let room = ((high - low) * 0.06).max(high.abs() * 1e-6).max(1e-9);
        let low = if self.from_zero { 0.0 } else { low - room };
        let last = last.max(first + 1_000);
        let mut svg = String::new();
        match self.plot(&mut svg, (first, last), (low, high + room)) {
            Ok(()) => Some(Svg(svg.replacen("<svg ", "<svg aria-hidden=\"true\" ", 1))),
            Err(error) => {
                tracing::error!(%error, "failed to draw a chart");
                None
            }
        }
    }

    fn plot(&self, svg: &mut String, x: (UnixMs, UnixMs), y: (f64, f64)) -> Result<(), String> {
        let wrong = |error: DrawingAreaErrorKind<_>| error.to_string();
        let span_ms = x.1 - x.0;
        let form = match span_ms {
            ..172_800_000 => "%H:%M",
            172_800_000..31_536_000_000 => "%d %b",
            _ => "%Y-%m",
        };
        let root = SVGBackend::with_string(svg, (960, self.height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(8)
            .margin_right(16)
            .x_label_area_size(26)
            .y_label_area_size(72)
            .build_cartesian_2d(x.0.utc()..x.1.utc(), y.0..y.1)
            .map_err(wrong)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .y_labels((self.height / 45) as usize)
            .x_labels(8)
            .label_style(("sans-serif", 13).into_font().color(&INK))
            .x_label_formatter(&|at: &DateTime<Utc>| at.format(form).to_string())
            .y_label_formatter(&|y: &f64| super::words::number(*y))
            .draw()
            .map_err(wrong)?;
        for line in &self.lines {
            let each = line.points.len().div_ceil(MAX_POINTS).max(1);
            for stretch in line.points.split(|(_, y)| y.is_none()) {
                let points = stretch.iter().step_by(each);
                let points = points.filter_map(|(at, y)| Some((at.utc(), (*y)?)));
                let series = LineSeries::new(points, line.color.stroke_width(2));
                chart.draw_series(series).map_err(wrong)?;
            }
        }
        let marks = self.marks.iter().map(|mark| {
            let (at, style) = ((mark.at.utc(), mark.y), mark.color.filled());
            if mark.triangle {
                TriangleMarker::new(at, 7, style).into_dyn()
            } else {
                Circle::new(at, 5, style).into_dyn()
            }
        });
        chart.draw_series(marks).map_err(wrong)?;
        root.present().map_err(wrong)
    }
}
