//! The figures of a run: a table, a JSON file and a chart.

use super::Endure;
use super::watch::Verdict;
use anyhow::{Context, anyhow, ensure};
use hdrhistogram::Histogram;
use plotters::prelude::*;
use serde::Serialize;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const SIZE: (u32, u32) = (900, 640);
const INK: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const SECOND: RGBColor = RGBColor(0xc7, 0x5b, 0x12);
/// The fraction of the run that the check for growth skips, because tables and caches fill first.
const WARM: f64 = 0.25;
/// How much larger memory and database may get after that, as a factor: allocators and checkpoints
/// fluctuate.
const MOST_MEMORY: f64 = 1.3;
const MOST_DATABASE: f64 = 1.1;
/// The warm-up: each first heartbeat takes a monitor up, which is a transaction instead of an
/// update. Latencies are reported for the whole run and for the time after the warm-up.
const FIRST: Duration = Duration::from_secs(120);
/// Maximum 99th percentile of the time from deadline to alert, in milliseconds.
const MOST_LAG_MS: u128 = 2_000;

/// The server's state at one time, and its latencies since the previous sample.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub at_s: f64,
    /// Answered pings.
    pub pings: u64,
    /// Latencies from the scheduled times of the pings, in milliseconds.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Resident bytes.
    pub memory: Option<u64>,
    /// Bytes on disk.
    pub database: Option<u64>,
}

#[derive(Debug)]
struct Inner {
    /// Latencies in microseconds: all, those after [`FIRST`], and those since the last sample.
    all: Histogram<u64>,
    steady: Histogram<u64>,
    since_sample: Histogram<u64>,
    samples: Vec<Sample>,
    unanswered: u64,
    retries: u64,
    kills: Vec<Duration>,
    cpu_ms_a_second: Option<f64>,
    verdict: Option<Figures>,
}

/// The figures of the JSON file.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    monitors: usize,
    minutes: u64,
    sync: &'static str,
    kill_every_s: u64,
    kills: usize,
    /// The longest time from SIGKILL to listening again, in milliseconds.
    restart_ms: u128,
    answered: u64,
    unanswered: u64,
    retries: u64,
    lost: u64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    /// Latencies of pings scheduled after the first two minutes.
    steady_p50_ms: f64,
    steady_p99_ms: f64,
    steady_p999_ms: f64,
    #[serde(rename = "told")]
    notified: u64,
    missed: u64,
    false_alerts: u64,
    repeats: u64,
    lag_p50_ms: u128,
    lag_p99_ms: u128,
    lag_max_ms: u128,
    /// CPU time, in milliseconds per second.
    cpu_ms_a_second: Option<f64>,
    /// Bytes at the end of the first quarter, and the maximum after it.
    memory: Option<(u64, u64)>,
    database: Option<(u64, u64)>,
    samples: Vec<Sample>,
}

/// Collects the figures.
#[derive(Debug)]
pub struct Report {
    monitors: usize,
    minutes: u64,
    sync: &'static str,
    kill_every_s: u64,
    started: Instant,
    inner: Mutex<Inner>,
}

impl Report {
    pub fn new(options: &Endure, started: Instant) -> Self {
        let histogram = || Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds that fit");
        Self {
            monitors: options.monitors,
            minutes: options.minutes,
            sync: options.sync.as_str(),
            kill_every_s: options.kill_every,
            started,
            inner: Mutex::new(Inner {
                all: histogram(),
                steady: histogram(),
                since_sample: histogram(),
                samples: Vec::new(),
                unanswered: 0,
                retries: 0,
                kills: Vec::new(),
                cpu_ms_a_second: None,
                verdict: None,
            }),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a ping that was answered or given up, `took` after its scheduled time.
    pub fn ping(&self, took: Duration, answered: bool, attempts: u64) {
        let mut inner = self.inner();
        inner.retries += attempts - 1;
        if !answered {
            inner.unanswered += 1;
            return;
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        inner.all.saturating_record(us);
        inner.since_sample.saturating_record(us);
        if self.started.elapsed().saturating_sub(took) >= FIRST {
            inner.steady.saturating_record(us);
        }
    }

    /// Records a kill; the server listened again after `took`.
    pub fn killed(&self, took: Duration) {
        self.inner().kills.push(took);
    }

    /// Records the CPU time at the start and the end of the run, in seconds.
    pub fn note_cpu(&self, from: Option<f64>, to: Option<f64>) {
        let seconds = self.started.elapsed().as_secs_f64();
        let used = from
            .zip(to)
            .map(|(from, to)| (to - from) / seconds * 1000.0);
        self.inner().cpu_ms_a_second = used;
    }

    /// Takes a sample: `make` gets the time, the latencies p50 and p99, and the number of pings.
    pub fn sample(&self, make: impl FnOnce(f64, f64, f64, u64) -> Sample) {
        let mut inner = self.inner();
        let ms = |q| inner.since_sample.value_at_quantile(q) as f64 / 1000.0;
        let at_s = self.started.elapsed().as_secs_f64();
        let sample = make(at_s, ms(0.5), ms(0.99), inner.since_sample.len());
        inner.since_sample.reset();
        inner.samples.push(sample);
    }

    /// The progress in one line.
    pub fn line(&self) -> String {
        let inner = self.inner();
        let last = inner.samples.last();
        let p99 = last.map_or(0.0, |sample| sample.p99_ms);
        let memory = last.and_then(|sample| sample.memory).unwrap_or(0) >> 20;
        format!(
            "{} pings, p99 {p99:.1} ms, {memory} MiB, {} kills",
            inner.all.len(),
            inner.kills.len()
        )
    }

    /// Computes the figures.
    pub fn finish(&self, verdict: &Verdict) {
        let mut inner = self.inner();
        let ms = |q| inner.all.value_at_quantile(q) as f64 / 1000.0;
        let steady_ms = |q| inner.steady.value_at_quantile(q) as f64 / 1000.0;
        let last = verdict.lags.len().saturating_sub(1);
        let lag = |q: f64| {
            let lag = verdict.lags.get((last as f64 * q) as usize);
            lag.map_or(0, Duration::as_millis)
        };
        let growth = |of: fn(&Sample) -> Option<u64>| {
            let warm = (inner.samples.len() as f64 * WARM) as usize;
            let from = inner.samples.get(warm).and_then(of)?;
            let most = inner.samples[warm..].iter().filter_map(of).max()?;
            Some((from, most))
        };
        let figures = Figures {
            monitors: self.monitors,
            minutes: self.minutes,
            sync: self.sync,
            kill_every_s: self.kill_every_s,
            kills: inner.kills.len(),
            restart_ms: inner.kills.iter().max().map_or(0, Duration::as_millis),
            answered: verdict.answered,
            unanswered: inner.unanswered,
            retries: inner.retries,
            lost: verdict.lost,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: inner.all.max() as f64 / 1000.0,
            steady_p50_ms: steady_ms(0.5),
            steady_p99_ms: steady_ms(0.99),
            steady_p999_ms: steady_ms(0.999),
            notified: verdict.notified,
            missed: verdict.missed,
            false_alerts: verdict.false_alerts,
            repeats: verdict.repeats,
            lag_p50_ms: lag(0.5),
            lag_p99_ms: lag(0.99),
            lag_max_ms: lag(1.0),
            cpu_ms_a_second: inner.cpu_ms_a_second,
            memory: growth(|sample| sample.memory),
            database: growth(|sample| sample.database),
            samples: inner.samples.clone(),
        };
        inner.verdict = Some(figures);
    }

    /// # Errors
    /// Pings were unanswered although the server was never killed, alerts were late, or memory or
    /// database grew too much.
    pub fn check(&self) -> anyhow::Result<()> {
        let inner = self.inner();
        let figures = inner.verdict.as_ref().context("figures")?;
        ensure!(
            figures.unanswered == 0 || figures.kill_every_s > 0,
            "{} pings were not answered",
            figures.unanswered
        );
        // A killed process has no memory to compare, and sends no alerts while it is down.
        let killed = figures.kill_every_s > 0;
        ensure!(
            killed || figures.lag_p99_ms <= MOST_LAG_MS,
            "one alert in a hundred took {} ms or more after its deadline (at most {MOST_LAG_MS} allowed)",
            figures.lag_p99_ms
        );
        for (what, grew, most) in [
            ("memory", figures.memory.filter(|_| !killed), MOST_MEMORY),
            ("database", figures.database, MOST_DATABASE),
        ] {
            if let Some((from, to)) = grew {
                let by = to as f64 / from.max(1) as f64;
                ensure!(by <= most, "the {what} grew by {:.0} %", (by - 1.0) * 100.0);
            }
        }
        Ok(())
    }

    /// The figures as a table.
    pub fn table(&self) -> String {
        let inner = self.inner();
        let Some(figures) = &inner.verdict else {
            return String::new();
        };
        let grew = |figure: Option<(u64, u64)>| match figure {
            Some((from, most)) => format!("{} → {} MiB", from >> 20, most >> 20),
            None => "unknown".to_owned(),
        };
        let rows = [
            (
                "pings answered, unanswered, retries",
                format!(
                    "{}, {}, {}",
                    figures.answered, figures.unanswered, figures.retries
                ),
            ),
            ("answered but lost", figures.lost.to_string()),
            (
                "ping latency p50, p99, p99.9, max",
                format!(
                    "{:.1}, {:.1}, {:.1}, {:.0} ms",
                    figures.p50_ms, figures.p99_ms, figures.p999_ms, figures.max_ms
                ),
            ),
            (
                "after the first two minutes p50, p99, p99.9",
                format!(
                    "{:.1}, {:.1}, {:.1} ms",
                    figures.steady_p50_ms, figures.steady_p99_ms, figures.steady_p999_ms
                ),
            ),
            (
                "changes notified, missed, false; repeated messages",
                format!(
                    "{}, {}, {}; {}",
                    figures.notified, figures.missed, figures.false_alerts, figures.repeats
                ),
            ),
            (
                "deadline to message p50, p99, max",
                format!(
                    "{}, {}, {} ms",
                    figures.lag_p50_ms, figures.lag_p99_ms, figures.lag_max_ms
                ),
            ),
            (
                "kills, longest restart",
                format!("{}, {} ms", figures.kills, figures.restart_ms),
            ),
            (
                "CPU",
                figures.cpu_ms_a_second.map_or("unknown".to_owned(), |ms| {
                    format!("{:.0} % of a core", ms / 10.0)
                }),
            ),
            (
                "memory at 25 % of the run → max later",
                grew(figures.memory),
            ),
            (
                "database at 25 % of the run → max later",
                grew(figures.database),
            ),
        ];
        let mut table = format!(
            "| {} monitors, --sync {} | |\n|---|---|\n",
            figures.monitors, figures.sync
        );
        for (name, value) in rows {
            table.push_str(&format!("| {name} | {value} |\n"));
        }
        table
    }

    /// Writes `name.json` and `name.svg`.
    ///
    /// # Errors
    /// They can't be written.
    pub fn write(&self, name: &Path) -> anyhow::Result<()> {
        let figures = self.inner().verdict.clone().context("figures")?;
        if let Some(directory) = name.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let json = serde_json::to_string_pretty(&figures)?;
        std::fs::write(name.with_extension("json"), json + "\n")?;
        std::fs::write(name.with_extension("svg"), draw(&figures)?)?;
        Ok(())
    }
}

/// Draws the chart: latency, memory and database, from top to bottom.
fn draw(figures: &Figures) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(wrong)?;
        let kills = match figures.kill_every_s {
            0 => String::new(),
            seconds => format!(", killed every {seconds} s"),
        };
        let title = format!(
            "{} monitors, --sync {}{kills}",
            figures.monitors, figures.sync
        );
        let root = root.titled(&title, ("sans-serif", 20)).map_err(wrong)?;
        let areas = root.split_evenly((3, 1));
        let line = |of: &dyn Fn(&Sample) -> Option<f64>| -> Vec<(f64, f64)> {
            let points = figures.samples.iter();
            points
                .filter_map(|sample| Some((sample.at_s, of(sample)?)))
                .collect()
        };
        let mib = |bytes: Option<u64>| Some(bytes? as f64 / f64::from(1 << 20));
        let panels = [
            (
                "latency, ms",
                vec![
                    ("p50", INK, line(&|s| Some(s.p50_ms))),
                    ("p99", SECOND, line(&|s| Some(s.p99_ms))),
                ],
            ),
            (
                "memory, MiB",
                vec![("resident", INK, line(&|s| mib(s.memory)))],
            ),
            (
                "database, MiB",
                vec![("on the disk", INK, line(&|s| mib(s.database)))],
            ),
        ];
        for (area, (name, lines)) in areas.iter().zip(panels) {
            panel(area, name, lines)?;
        }
        root.present().map_err(wrong)?;
    }
    Ok(svg)
}

type Lines = Vec<(&'static str, RGBColor, Vec<(f64, f64)>)>;

fn panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    name: &str,
    lines: Lines,
) -> anyhow::Result<()>
where
    DB::ErrorType: 'static,
{
    let points = || lines.iter().flat_map(|(_, _, points)| points);
    let end = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let most = points().map(|(_, y)| *y).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..most)
        .map_err(wrong)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&|s| format!("{s:.0} s"))
        .y_labels(5)
        .y_desc(name)
        .draw()
        .map_err(wrong)?;
    let several = lines.len() > 1;
    for (label, color, points) in lines {
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))
            .map_err(wrong)?
            .label(label)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 16, y)], color.stroke_width(2))
            });
    }
    if several {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .draw()
            .map_err(wrong)?;
    }
    Ok(())
}

fn wrong(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw the chart: {error}")
}
