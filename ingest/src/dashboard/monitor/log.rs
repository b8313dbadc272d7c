//! The log of a monitor's pings: a list, a timeline, charts of durations and metrics, and a page
//! for each ping with its full body.

use super::super::chart::{self, Svg};
use super::super::overview::path_of;
use super::super::page::{Page, failed};
use super::super::session::Viewer;
use super::super::words::{At, number, took};
use crate::api::v1::monitors::PingView;
use crate::app::App;
use crate::http::Problem;
use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use std::collections::BTreeMap;
use thrum_schema::{Ping, UnixMs};

/// Number of characters of a body in the log. The ping's own page has the full body.
const SHOWN_OF_BODY: usize = 500;
/// Number of characters of a failure's body in the sentence that describes the state.
const FAILURE_CHARS: usize = 120;
/// Maximum number of metrics with a chart.
const MAX_METRICS: usize = 6;

/// A ping on the timeline, as a bar: the longer the run took, the taller.
#[derive(Debug)]
pub struct Stroke {
    pub x: i64,
    pub y: i64,
    pub height: i64,
    pub class: &'static str,
    pub text: String,
}

/// A ping in the log.
pub struct Entry {
    pub at: At,
    pub kind: &'static str,
    pub view: PingView,
    pub took: Option<String>,
    /// The beginning of the body, if it is too long for the log.
    pub begins: Option<String>,
}

impl Entry {
    pub fn of(ping: &Ping, viewer: &Viewer) -> Self {
        let view = PingView::of(ping, viewer.writes());
        let body = view.body.as_ref().or(view.body_base64.as_ref());
        let begins = body.and_then(|body| {
            let (end, _) = body.char_indices().nth(SHOWN_OF_BODY)?;
            Some(format!("{} …", &body[..end]))
        });
        Self {
            at: At(ping.at),
            kind: ping.kind.as_str(),
            took: ping.duration_ms.map(took),
            begins,
            view,
        }
    }
}

#[derive(Template)]
#[template(path = "ping.html")]
struct PingPage<'a> {
    name: &'a str,
    path: String,
    entry: Entry,
}

/// `GET /monitors/{id}/pings/{n}`: a ping with its full body.
pub async fn ping(
    State(app): State<App>,
    viewer: Viewer,
    Path((id, n)): Path<(String, String)>,
) -> Response {
    let found = async {
        let found = app.monitors.find(viewer.key.project, &id).await?;
        let pings = app.store.pings(found.monitor.id).await?;
        let ping = pings.into_iter().find(|ping| ping.n.to_string() == n);
        let ping = ping.ok_or_else(|| Problem::not_found("ping in the log"))?;
        Ok::<_, Problem>((found, ping))
    };
    let (found, ping) = match found.await {
        Ok(found) => found,
        Err(problem) => return failed(Some(&viewer), &problem),
    };
    let body = PingPage {
        name: found.monitor.label(),
        path: path_of(&found.monitor),
        entry: Entry::of(&ping, &viewer),
    };
    let page = Page {
        section: "/",
        title: "Ping",
        viewer: Some(&viewer),
        ..Page::default()
    };
    page.show(&body)
}

/// The timeline of the pings.
pub fn strokes(pings: &[Ping]) -> Vec<Stroke> {
    let Some((first, last)) = pings.last().zip(pings.first()) else {
        return Vec::new();
    };
    let span_ms = (last.at - first.at).max(1);
    let longest = pings.iter().filter_map(|ping| ping.duration_ms).max();
    let strokes = pings.iter().map(|ping| {
        let height = match (ping.duration_ms, longest) {
            (Some(ms), Some(longest)) if longest > 0 => 10 + ms * 26 / longest,
            _ => 10,
        };
        let long = ping.duration_ms.map(|ms| format!(", took {}", took(ms)));
        Stroke {
            x: 4 + (ping.at - first.at) * 712 / span_ms,
            y: 40 - height,
            height,
            class: ping.kind.as_str(),
            text: format!(
                "{} {}{}",
                At(ping.at).plain(),
                ping.kind.as_str(),
                long.unwrap_or_default()
            ),
        }
    });
    strokes.collect()
}

/// A summary of a failure: its exit status and, unless the viewer is read-only, the first line of
/// its body.
pub fn failure(ping: &Ping, viewer: &Viewer) -> Option<String> {
    let exit = ping.exit_status.map(|code| format!("exit {code}"));
    let said = std::str::from_utf8(&ping.body)
        .ok()
        .filter(|_| viewer.writes());
    let line = said.and_then(|body| body.lines().find(|line| !line.trim().is_empty()));
    let line = line.map(|line| line.chars().take(FAILURE_CHARS).collect());
    let parts: Vec<String> = exit.into_iter().chain(line).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

/// A chart of the durations of runs.
pub fn durations(pings: &[Ping]) -> Option<Svg> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "durations are far below 2^52 ms"
    )]
    let points = pings.iter().rev().filter_map(|ping| {
        let ms = ping.duration_ms?;
        Some((ping.at, Some(ms as f64 / 1000.0)))
    });
    chart::line(points.collect(), true)
}

/// A chart of each metric, with its name and its last value.
pub fn metrics(pings: &[Ping]) -> Vec<(String, Option<Svg>)> {
    let mut metrics: BTreeMap<&str, Vec<(UnixMs, Option<f64>)>> = BTreeMap::new();
    for ping in pings.iter().rev() {
        for (name, value) in &ping.metrics {
            metrics
                .entry(name)
                .or_default()
                .push((ping.at, Some(*value)));
        }
    }
    let metrics = metrics.into_iter().take(MAX_METRICS);
    let drawn = metrics.map(|(name, points)| {
        let last = points.last().and_then(|(_, y)| *y).unwrap_or_default();
        (
            format!("{name}, last {}", number(last)),
            chart::line(points, false),
        )
    });
    drawn.collect()
}
