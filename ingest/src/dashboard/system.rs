//! The health of the pipeline.

use super::live::Live;
use super::page::{Page, failed};
use super::session::Viewer;
use super::words::{At, Relative, took};
use crate::app::App;
use crate::http::Problem;
use crate::services::Checked;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use thrum_schema::alert::AlertState;
use thrum_schema::zone::Data;
use thrum_schema::{Outage, UnixMs};
use thrum_store::regions::Overview;

/// Maximum number of alerts read to count late and dead ones.
const MAX_ALERTS: usize = 1_000;
/// An alert that has been pending for longer than this, in milliseconds, is late.
const LATE_MS: i64 = 300_000;
/// Number of outages shown.
const OUTAGES: usize = 20;

/// An outage of Thrum.
struct OutageLine {
    from: At,
    to: At,
    lasted: String,
    /// How many heartbeats in a hundred were refused, if it was partial.
    refused: Option<f64>,
    /// Whether another region took over.
    takeover: bool,
}

/// The regions of a deployment in two.
struct RegionLines {
    active: String,
    since: At,
    epoch: u64,
    /// What happens now, if something does.
    now: Option<String>,
    /// The passive region, when it reported, and how far behind it was at most.
    passive: Option<(String, Relative, Option<String>)>,
    takeover: Option<TakeoverLine>,
}

/// The last takeover.
struct TakeoverLine {
    lost: At,
    ready: Option<At>,
    monitors: u64,
    timers: u64,
    alerts: u64,
}

impl RegionLines {
    fn of(overview: &Overview, now: UnixMs) -> Self {
        let fence = &overview.fence;
        let doing = match (&fence.next, fence.ready) {
            (Some(next), _) => Some(format!("{next} takes over when its lease has ended")),
            (None, false) => Some("it repairs what replication lost".to_owned()),
            (None, true) => None,
        };
        let passive = overview.passive().map(|report| {
            let seen = Relative { at: report.at, now };
            (report.region.0.clone(), seen, report.lag_ms().map(took))
        });
        Self {
            active: fence.active.0.clone(),
            since: At(fence.since),
            epoch: fence.epoch,
            now: doing,
            passive,
            takeover: overview.repair.as_ref().map(|repair| TakeoverLine {
                lost: At(repair.lost),
                ready: repair.ready.map(At),
                monitors: repair.monitors,
                timers: repair.timers,
                alerts: repair.alerts,
            }),
        }
    }
}

#[derive(Template)]
#[template(path = "system.html")]
struct System {
    checked: Checked,
    /// The lag of each shard's sweep, in minutes; up to seven while nothing is due.
    lags: Vec<(u16, Option<i64>)>,
    pulse: Option<Relative>,
    dead: usize,
    late: usize,
    outages: Vec<OutageLine>,
    /// The last step of the clock: when, and how far.
    clock_step: Option<(At, String)>,
    /// `None` for read-only viewers.
    table: Option<String>,
    version: &'static str,
    /// The time zone data: its release, and what to do if it may be outdated.
    time_zones: (String, Option<String>),
    live: Live,
    regions: Option<RegionLines>,
}

/// `GET /system`
pub async fn get(State(app): State<App>, viewer: Viewer) -> Response {
    match show(&app, &viewer).await {
        Ok(response) => response,
        Err(problem) => failed(Some(&viewer), &problem),
    }
}

fn time_zones(now: UnixMs) -> (String, Option<String>) {
    let data = Data::in_use();
    let release = data.release.as_ref();
    let release = release.map_or("unknown release".to_owned(), ToString::to_string);
    let from = match &data.directory {
        Some(directory) => format!("{release}, from {}", directory.display()),
        None => format!("{release}, built in"),
    };
    (from, data.warning(now))
}

async fn show(app: &App, viewer: &Viewer) -> Result<Response, Problem> {
    let checked = app.health.checked().await;
    let now = app.store.world().now();
    let mut lags = Vec::new();
    for shard in 0..app.store.shards() {
        let low = app.store.cursor(shard).await?.low;
        lags.push((shard, low.map(|low| now.minute() - low)));
    }
    let (pulse, outages, alerts) = futures::try_join!(
        app.store.pulse(),
        app.store.outages(),
        app.store
            .recent_alerts(viewer.key.project, now, 2, MAX_ALERTS),
    )?;
    let mut outages: Vec<Outage> = outages;
    outages.sort_by_key(|outage| std::cmp::Reverse(outage.start));
    let state = |state| alerts.iter().filter(move |alert| alert.state() == state);
    let late =
        state(AlertState::Pending).filter(|alert| now - UnixMs(alert.id.created_ms()) > LATE_MS);
    let clock_step = checked.clock_step.map(|step| {
        let way = if step.by_ms < 0 { "back" } else { "forward" };
        (At(step.at), format!("{way} by {}", took(step.by_ms.abs())))
    });
    let regions = checked.regions.as_ref();
    let regions = regions.map(|overview| RegionLines::of(overview, now));
    let body = System {
        regions,
        clock_step,
        checked,
        lags,
        pulse: pulse.map(|at| Relative { at, now }),
        dead: state(AlertState::Dead).count(),
        late: late.count(),
        outages: outages
            .iter()
            .take(OUTAGES)
            .map(|outage| OutageLine {
                from: At(outage.start),
                to: At(outage.end),
                lasted: took(outage.end - outage.start),
                refused: outage.refused.map(|permille| f64::from(permille) / 10.0),
                takeover: outage.takeover,
            })
            .collect(),
        table: viewer.writes().then(|| app.store.name().to_owned()),
        version: env!("CARGO_PKG_VERSION"),
        time_zones: time_zones(now),
        live: Live::of(app),
    };
    let page = Page {
        section: "/system",
        title: "System",
        viewer: Some(viewer),
        ..Page::default()
    };
    Ok(page.show(&body))
}
