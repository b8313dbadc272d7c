//! A monitor: how it is, what came, how to reach it; and what can be done with it.

mod edit;
mod log;
mod snippets;

pub use edit::{create, edit, new, save, windows};
pub use log::ping;

use super::chart::Svg;
use super::days::{DAY_MS, DAYS, Days, last_days};
use super::fields::Fields;
use super::overview::{Row, path_of};
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{At, Relative, percent, took};
use crate::app::App;
use crate::body::{Json, PathId};
use crate::change::Found;
use crate::management::Site;
use crate::monitors::{self, Snooze};
use crate::problem::Problem;
use crate::{auth::Writer, channels};
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use log::{Entry, Stroke};
use snippets::Snippet;
use thrum_schema::alert::Reason;
use thrum_schema::{PingKind, Status, UnixMs, silence};

/// Changes of status that are shown.
const FLIPS: usize = 20;

/// A change of status.
struct FlipRow {
    at: At,
    from: &'static str,
    to: &'static str,
    reason: &'static str,
    lasted: String,
    told: &'static str,
}

/// How long it was up in some days.
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
    found: &'a Found,
    row: Row<'a>,
    path: String,
    down_since: Option<(At, &'static str)>,
    /// What the last failure said, where a failure made it go down.
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
    now: UnixMs,
}

impl MonitorPage<'_> {
    fn silenced(&self) -> Option<Relative> {
        self.row.silenced.map(|at| Relative { at, now: self.now })
    }

    fn due(&self) -> Option<Relative> {
        self.row.expected.map(|at| Relative { at, now: self.now })
    }

    fn alerts(&self) -> Option<(At, Relative)> {
        let at = self.row.deadline?;
        Some((At(at), Relative { at, now: self.now }))
    }
}

/// A reason, in words.
const fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Timeout => "nothing was heard in time",
        Reason::Fail => "a failure was reported",
        Reason::Success => "it was heard of again",
        Reason::Paused => "somebody paused it",
        Reason::Resumed => "somebody resumed it",
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
    let found = monitors::find(app, viewer.key.project, id).await?;
    let (monitor, state) = (&found.monitor, &found.state);
    let (outages, pings, targets) = futures::try_join!(
        app.store.outages(),
        app.store.pings(monitor.id),
        app.store.resolve(monitor.project, &monitor.targets),
    )?;
    let now = app.store.world().now();
    let mut spans = last_days(now);
    let wide = [7, 30, DAYS];
    spans.extend(wide.map(|days| (now - days * DAY_MS, now)));
    let history = monitors::history(app, project, (monitor, state.status), &spans).await?;
    let (by_day, judged) = history.judged.split_at(spans.len() - wide.len());
    let days = Days::of(&spans, by_day);
    let spans = wide.iter().zip(judged).map(|(days, judged)| Span {
        days: *days,
        uptime: judged.part().map(percent),
        down: took(judged.down_ms),
        watched: took(judged.watched_ms),
        downs: judged.downs,
    });
    let silent = silence::until(project.snoozed_until, &project.windows, now);
    let row = Row::of(monitor, state, silent, &outages, now);
    let last_down = history
        .flips
        .iter()
        .rev()
        .find(|flip| flip.to == Status::Down);
    let down_since = last_down
        .filter(|_| state.status == Status::Down)
        .map(|flip| (At(flip.at), reason(flip.reason)));
    let run = state.runs().map(|run| run.at).min();
    let outage = state
        .deadline_after(&outages)
        .and_then(|(_, outage)| outage);
    let shown_flips = history.flips.iter().enumerate().rev().take(FLIPS);
    let flips = shown_flips.map(|(i, flip)| {
        let next = history.flips.get(i + 1).map_or(now, |flip| flip.at);
        FlipRow {
            at: At(flip.at),
            from: flip.from.as_str(),
            to: flip.to.as_str(),
            reason: match flip.from {
                Status::New if flip.reason == Reason::Success => {
                    "it was heard of for the first time"
                }
                _ => reason(flip.reason),
            },
            lasted: if i + 1 == history.flips.len() {
                format!("{} so far", took(next - flip.at))
            } else {
                took(next - flip.at)
            },
            told: match (flip.silenced, flip.alert) {
                (true, _) => "silenced",
                (_, true) => "told",
                _ => "",
            },
        }
    });
    let names: Vec<&str> = targets
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    let body = MonitorPage {
        viewer,
        found: &found,
        path: path_of(monitor),
        failure: last_down
            .filter(|flip| flip.reason == Reason::Fail && state.status == Status::Down)
            .and_then(|_| pings.iter().find(|ping| ping.kind == PingKind::Fail))
            .and_then(|ping| log::failure(ping, viewer)),
        down_since,
        run_since: run.map(|at| Relative { at, now }),
        extended: outage.map(|outage| (At(outage.start), At(outage.end))),
        missed: found.missed(now),
        spans: spans.collect(),
        days,
        strokes: log::strokes(&pings),
        durations: log::durations(&pings),
        metrics: log::metrics(&pings),
        flips: flips.collect(),
        log: pings.iter().map(|ping| Entry::of(ping, viewer)).collect(),
        snippets: if viewer.writes() {
            snippets::of(monitor, &site)
        } else {
            Vec::new()
        },
        badge: format!("{}/b/3/{}.svg", site.root, monitor.badge()),
        channels: names.join(", "),
        now,
        row,
    };
    let page = Page {
        section: "/",
        title: monitor.label(),
        viewer: Some(viewer),
        said,
        live: app.live(),
        ..Page::default()
    };
    Ok(page.show(&body))
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
    let found = monitors::find(app, post.viewer.key.project, id).await?;
    let path = path_of(&found.monitor);
    let state = State(app.clone());
    let (writer, key) = (post.writer(), PathId(id.to_owned()));
    let done = match action {
        "pause" => monitors::pause(state, writer, key)
            .await
            .map(|_| "paused")?,
        "resume" => monitors::resume(state, writer, key)
            .await
            .map(|_| "resumed")?,
        "snooze" => {
            let snooze = Json(snooze_of(&post.fields)?);
            monitors::snooze(state, writer, key, snooze)
                .await
                .map(|_| "snoozed")?
        }
        "end-snooze" => monitors::end_snooze(state, writer, key)
            .await
            .map(|_| "unsnoozed")?,
        "test" => test(app, writer, &found).await?,
        _ => return Err(Problem::not_found("action")),
    };
    Ok(format!("{path}?done={done}"))
}

/// `POST /monitors/{id}/delete`
pub async fn delete(State(app): State<App>, id: PathId, post: Post) -> Response {
    match monitors::delete(State(app), post.writer(), id).await {
        Ok(_) => see_other("/?done=deleted"),
        Err(problem) => failed(Some(&post.viewer), &problem),
    }
}

/// The snooze that a form asks for.
pub fn snooze_of(fields: &Fields) -> Result<Snooze, Problem> {
    let mut members = super::fields::Members::default();
    members.span(fields, "for", "for_s")?;
    Ok(members.read()?)
}

/// A test alert to every channel that the monitor alerts.
async fn test(app: &App, writer: Writer, found: &Found) -> Result<&'static str, Problem> {
    let monitor = &found.monitor;
    let targets = app.store.resolve(monitor.project, &monitor.targets).await?;
    for channel in &targets {
        let id = PathId(channel.id.to_string());
        let _ = channels::test(State(app.clone()), writer.clone(), id).await?;
    }
    Ok(if targets.is_empty() {
        "no-channels"
    } else {
        "tested"
    })
}

#[derive(Template)]
#[template(path = "delete.html")]
struct Deletion<'a> {
    viewer: &'a Viewer,
    name: &'a str,
    path: String,
    pings: u64,
}

/// `GET /monitors/{id}/delete`: asks once more.
pub async fn confirm_delete(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId,
) -> Response {
    let found = match monitors::find(&app, viewer.key.project, &id).await {
        Ok(found) => found,
        Err(problem) => return failed(Some(&viewer), &problem),
    };
    let body = Deletion {
        viewer: &viewer,
        name: found.monitor.label(),
        path: path_of(&found.monitor),
        pings: found.state.pings,
    };
    let page = Page {
        section: "/",
        title: "Delete a monitor",
        viewer: Some(&viewer),
        ..Page::default()
    };
    page.show(&body)
}
