//! A monitor's page: its state, history, pings and ping snippets, and the actions on it.

mod edit;
mod log;
mod snippets;

pub use edit::{create, edit, new, save, windows};
pub use log::ping;

use super::chart::Svg;
use super::days::{DAY_MS, DAYS, Days, last_days};
use super::fields::Fields;
use super::live::Live;
use super::overview::{Row, path_of};
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{At, Relative, percent, took};
use crate::api::v1::channels;
use crate::api::v1::monitors::{self, Snooze};
use crate::app::App;
use crate::http::Problem;
use crate::http::site::Site;
use crate::http::{Edit, Params, Write, Writer};
use crate::http::{Json, PathId};
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use log::{Entry, Stroke};
use snippets::Snippet;
use thrum_schema::flip::{Flip, Reason};
use thrum_schema::monitor::unique_key;
use thrum_schema::signal::SeriesName;
use thrum_schema::uptime::Uptime;
use thrum_schema::{Monitor, MonitorId, Ping, PingKind, Status, UnixMs, silence};
use thrum_store::{Snapshot, StoreError};

/// Number of status changes shown.
const FLIPS: usize = 20;
/// The periods whose uptime is shown as a number, in days.
const WIDE: [i64; 3] = [7, 30, DAYS];

/// A row in the table of status changes.
struct FlipRow {
    at: At,
    from: &'static str,
    to: &'static str,
    reason: String,
    lasted: String,
    notified: &'static str,
}

/// The uptime over a number of days.
struct Span {
    days: i64,
    uptime: Option<String>,
    down: String,
    watched: String,
    downs: u32,
}

#[derive(Template)]
#[template(path = "monitor.html")]
struct MonitorPage<'a> {
    viewer: &'a Viewer,
    found: &'a Snapshot,
    row: Row<'a>,
    path: String,
    down_since: Option<(At, String)>,
    /// A summary of the last failure, if a failure took it down.
    failure: Option<String>,
    run_since: Option<Relative>,
    extended: Option<(At, At)>,
    missed: u64,
    spans: Vec<Span>,
    days: Days,
    strokes: Vec<Stroke>,
    durations: Option<Svg>,
    metrics: Vec<(String, Option<Svg>)>,
    flips: Vec<FlipRow>,
    log: Vec<Entry>,
    snippets: Vec<Snippet>,
    badge: String,
    channels: String,
    parents: Vec<Relation>,
    children: Vec<Relation>,
    now: UnixMs,
}

/// A monitor that this one depends on, or that depends on it.
struct Relation {
    name: String,
    path: String,
    is_down: bool,
}

impl MonitorPage<'_> {
    /// When a user acknowledged that it is down.
    fn acknowledged(&self) -> Option<At> {
        self.found.state.acknowledged_at.map(At)
    }

    /// The parents that hold its alert.
    fn held_by(&self) -> Vec<&str> {
        let held = self.found.state.silenced && self.found.state.status == Status::Down;
        let down = self.parents.iter().filter(|parent| held && parent.is_down);
        down.map(|parent| &*parent.name).collect()
    }

    fn silenced(&self) -> Option<Relative> {
        self.row.silenced.map(|at| Relative { at, now: self.now })
    }

    /// What is expected of its metrics: the name, the rules, and the page of the series, if a detector
    /// judges it.
    fn expectations(&self) -> Vec<(&str, String, Option<String>)> {
        let monitor = &self.found.monitor;
        let expected = monitor.options.expect.iter().map(|(name, expectation)| {
            let series = SeriesName::of_monitor(&monitor.slug, name);
            let page = expectation.detector.is_some();
            let page = page.then(|| super::signals::path_of(series.as_str(), "tick"));
            (name.as_str(), expectation.to_text(name), page)
        });
        expected.collect()
    }

    fn due(&self) -> Option<Relative> {
        self.row.expected.map(|at| Relative { at, now: self.now })
    }

    fn alerts(&self) -> Option<(At, Relative)> {
        let at = self.row.deadline?;
        Some((At(at), Relative { at, now: self.now }))
    }
}

/// The reason for a status change, as a sentence.
const fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Timeout => "it missed its deadline",
        Reason::Fail => "it reported a failure",
        Reason::Success => "it pinged again",
        Reason::Paused => "it was paused",
        Reason::Resumed => "it was resumed",
    }
}

/// `GET /monitors/{id}`
pub async fn get(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId,
    site: Site,
    query: Fields,
) -> Response {
    match show(&app, &viewer, &id, site, query.text("done")).await {
        Ok(response) => response,
        Err(problem) => failed(Some(&viewer), &problem),
    }
}

async fn show(
    app: &App,
    viewer: &Viewer,
    id: &str,
    site: Site,
    said: &str,
) -> Result<Response, Problem> {
    let project = &viewer.project;
    let found = app.monitors.find(viewer.key.project, id).await?;
    let (monitor, state) = (&found.monitor, &found.state);
    let ((parents, children), outages, pings, targets) = futures::try_join!(
        relations(app, monitor),
        app.store.outages(),
        app.store.pings(monitor.id),
        app.store.resolve(monitor.project, &monitor.targets),
    )?;
    let now = app.store.world().now();
    let mut spans = last_days(now);
    spans.extend(WIDE.map(|days| (now - days * DAY_MS, now)));
    let with_status = (monitor, state.status);
    let history = app.monitors.history(project, with_status, &spans).await?;
    let (by_day, wide) = history.uptimes.split_at(spans.len() - WIDE.len());
    let silent = silence::until(project.snoozed_until, &project.windows, now);
    let last_down = last_down(&history.flips).filter(|_| state.status == Status::Down);
    let outage = state
        .deadline_after(&outages)
        .and_then(|(_, outage)| outage);
    let run = state.runs().map(|run| run.at).min();
    let names: Vec<&str> = targets.iter().map(|target| &*target.name).collect();
    let body = MonitorPage {
        viewer,
        found: &found,
        row: Row::of(monitor, state, silent, &outages, now),
        path: path_of(monitor),
        failure: last_down.and_then(|flip| failure(flip, &pings, viewer)),
        down_since: last_down.map(|flip| (At(flip.at), why(flip))),
        run_since: run.map(|at| Relative { at, now }),
        extended: outage.map(|outage| (At(outage.start), At(outage.end))),
        missed: state.missed_so_far(monitor, now),
        spans: WIDE.iter().zip(wide).map(Span::of).collect(),
        days: Days::of(&spans, by_day),
        strokes: log::strokes(&pings),
        durations: log::durations(&pings),
        metrics: log::metrics(&pings),
        flips: flip_rows(&history.flips, now),
        log: pings.iter().map(|ping| Entry::of(ping, viewer)).collect(),
        snippets: if viewer.writes() {
            snippets::of(monitor, &site, app.config.mail_domain.as_deref())
        } else {
            Vec::new()
        },
        badge: format!("{}/b/3/{}.svg", site.root, monitor.badge()),
        channels: names.join(", "),
        parents,
        children,
        now,
    };
    let page = Page {
        section: "/",
        title: monitor.label(),
        viewer: Some(viewer),
        said,
        live: Live::of(app),
        ..Page::default()
    };
    Ok(page.show(&body))
}

/// The monitors that a monitor depends on, and those that depend on it.
async fn relations(
    app: &App,
    monitor: &Monitor,
) -> Result<(Vec<Relation>, Vec<Relation>), StoreError> {
    let (project, parents) = (monitor.project, &monitor.options.parents);
    let (above, states, below) = futures::try_join!(
        app.store.monitors_by_id(project, parents),
        app.store.states(parents),
        app.store.children_of(project, monitor.id),
    )?;
    let is_down = |id: MonitorId| {
        let mut states = states.iter();
        states.any(|state| state.monitor == id && state.status == Status::Down)
    };
    let above = above.iter().map(|parent| Relation {
        name: parent.label().to_owned(),
        path: path_of(parent),
        is_down: is_down(parent.id),
    });
    let below = below.into_iter().map(|child| Relation {
        name: child.name,
        path: format!("/monitors/{}", unique_key(child.monitor)),
        is_down: false,
    });
    Ok((above.collect(), below.collect()))
}

impl Span {
    fn of((days, uptime): (&i64, &Uptime)) -> Self {
        Self {
            days: *days,
            uptime: uptime.part().map(percent),
            down: took(uptime.down_ms),
            watched: took(uptime.watched_ms),
            downs: uptime.downs,
        }
    }
}

fn last_down(flips: &[Flip]) -> Option<&Flip> {
    flips.iter().rev().find(|flip| flip.to == Status::Down)
}

/// Why a monitor's status changed.
fn why(flip: &Flip) -> String {
    let known = flip.why.clone();
    known.unwrap_or_else(|| reason(flip.reason).to_owned())
}

/// A summary of the last failure, if `flip` was caused by one.
fn failure(flip: &Flip, pings: &[Ping], viewer: &Viewer) -> Option<String> {
    let mut failures = pings.iter().filter(|ping| ping.kind == PingKind::Fail);
    let last = failures.next().filter(|_| flip.reason == Reason::Fail)?;
    log::failure(last, viewer)
}

/// The last status changes, newest first.
fn flip_rows(flips: &[Flip], now: UnixMs) -> Vec<FlipRow> {
    let shown = flips.iter().enumerate().rev().take(FLIPS);
    let rows = shown.map(|(i, flip)| {
        let next = flips.get(i + 1);
        let lasted = took(next.map_or(now, |next| next.at) - flip.at);
        FlipRow {
            at: At(flip.at),
            from: flip.from.as_str(),
            to: flip.to.as_str(),
            reason: match flip.from {
                Status::New if flip.reason == Reason::Success => {
                    "it pinged for the first time".to_owned()
                }
                _ => why(flip),
            },
            lasted: match next {
                Some(_) => lasted,
                None => format!("{lasted} so far"),
            },
            notified: match (flip.silenced, flip.alert) {
                (true, _) => "silenced",
                (_, true) => "notified",
                _ => "",
            },
        }
    });
    rows.collect()
}

/// `POST /monitors/{id}/{action}`
pub async fn act(
    State(app): State<App>,
    axum::extract::Path((id, action)): axum::extract::Path<(String, String)>,
    post: Post,
) -> Response {
    match acted(&app, &post, &id, &action).await {
        Ok(path) => see_other(&path),
        Err(problem) => failed(Some(&post.viewer), &problem),
    }
}

async fn acted(app: &App, post: &Post, id: &str, action: &str) -> Result<String, Problem> {
    let Edit { writer, it: found } = Edit::<Snapshot>::of(app, post.writer(), id).await?;
    let path = path_of(&found.monitor);
    let state = State(app.clone());
    let done = match action {
        "pause" => {
            let monitor = Edit { writer, it: found }.charged(app).await?;
            monitors::pause(state, monitor).await.map(|_| "paused")?
        }
        "resume" => {
            let monitor = Edit { writer, it: found };
            monitors::resume(state, monitor).await.map(|_| "resumed")?
        }
        "acknowledge" => {
            let monitor = Edit { writer, it: found };
            let acknowledged = monitors::acknowledge(state, monitor).await;
            acknowledged.map(|_| "acknowledged")?
        }
        "snooze" => {
            let monitor = Edit { writer, it: found };
            let snooze = Json(snooze_of(&post.fields)?);
            let snoozed = monitors::snooze(state, monitor, snooze).await;
            snoozed.map(|_| "snoozed")?
        }
        "end-snooze" => {
            let monitor = Edit { writer, it: found }.charged(app).await?;
            let ended = monitors::end_snooze(state, monitor).await;
            ended.map(|_| "unsnoozed")?
        }
        "test" => test(app, writer, &found).await?,
        _ => return Err(Problem::not_found("action")),
    };
    Ok(format!("{path}?done={done}"))
}

/// `POST /monitors/{id}/delete`
pub async fn delete(State(app): State<App>, id: PathId, post: Post) -> Response {
    let deleted = async {
        let monitor = Write::of(&app, post.writer(), &id.0).await?;
        monitors::delete(State(app.clone()), monitor).await
    };
    match deleted.await {
        Ok(_) => see_other("/?done=deleted"),
        Err(problem) => failed(Some(&post.viewer), &problem),
    }
}

/// Reads the snooze request of a form.
pub fn snooze_of(fields: &Fields) -> Result<Snooze, Problem> {
    let mut body = super::fields::RequestFields::default();
    body.span(fields, "for", "for_s")?;
    Ok(body.read()?)
}

/// Sends a test alert through each of the monitor's channels.
async fn test(app: &App, writer: Writer, found: &Snapshot) -> Result<&'static str, Problem> {
    let monitor = &found.monitor;
    let targets = app.store.resolve(monitor.project, &monitor.targets).await?;
    if targets.is_empty() {
        return Ok("no-channels");
    }
    for it in targets {
        let writer = writer.clone();
        let channel = Edit { writer, it }.charged(app).await?;
        let of = channels::TestOf {
            monitor: Some(monitor.id.to_string()),
        };
        let _ = channels::test(State(app.clone()), channel, Params(of)).await?;
    }
    Ok("tested")
}

#[derive(Template)]
#[template(path = "delete.html")]
struct Deletion<'a> {
    viewer: &'a Viewer,
    name: &'a str,
    path: String,
    pings: u64,
}

/// `GET /monitors/{id}/delete`: asks for confirmation.
pub async fn confirm_delete(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId,
) -> Response {
    let found = match app.monitors.find(viewer.key.project, &id).await {
        Ok(found) => found,
        Err(error) => return failed(Some(&viewer), &error.into()),
    };
    let body = Deletion {
        viewer: &viewer,
        name: found.monitor.label(),
        path: path_of(&found.monitor),
        pings: found.state.pings,
    };
    let page = Page {
        section: "/",
        title: "Delete monitor",
        viewer: Some(&viewer),
        ..Page::default()
    };
    page.show(&body)
}
