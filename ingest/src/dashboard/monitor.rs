//! A monitor: how it is, what came, how to reach it; and what can be done with it.

mod edit;

pub use edit::{create, edit, new, save, windows};

use super::chart::{self, Svg};
use super::fields::Fields;
use super::overview::{Row, name_of, path_of};
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{At, Relative, percent, took};
use crate::app::App;
use crate::body::{Json, PathId};
use crate::change::Found;
use crate::management::Site;
use crate::monitors::{self, PingView, Snooze};
use crate::problem::Problem;
use crate::{auth::Writer, channels};
use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use std::collections::BTreeMap;
use thrum_schema::alert::Reason;
use thrum_schema::uptime::Uptime;
use thrum_schema::{Ping, PingKind, Schedule, Status, UnixMs, silence};

const DAY_MS: i64 = 86_400_000;
/// Days with a bar each.
const DAYS: i64 = 90;
/// Changes of status that are shown.
const FLIPS: usize = 20;
/// Characters of a body that the log shows; its own page has all of it.
const SHOWN_OF_BODY: usize = 500;
/// Characters of a failure that the state's sentence has.
const FAILURE_CHARS: usize = 120;
/// Figures with a chart each.
const MAX_METRICS: usize = 6;

/// Downtime by day: taller the longer the monitor was down. Days in which it was not have a mark of one shape for all.
#[derive(Debug, Default)]
pub struct Days {
    /// Days in which it was up, as the path of an SVG.
    pub up: String,
    /// Days in which it was not watched, likewise.
    pub unwatched: String,
    /// Days in which it was down.
    pub down: Vec<DownDay>,
}

/// A day in which a monitor was down, as a bar.
#[derive(Debug)]
pub struct DownDay {
    pub x: i64,
    pub height: i64,
    pub text: String,
}

impl Days {
    /// The days, oldest first.
    pub fn of(days: &[(UnixMs, Uptime)]) -> Self {
        let mut drawn = Self::default();
        for ((from, judged), i) in days.iter().zip(0..) {
            let x = i * 8;
            match (judged.watched_ms, judged.down_ms) {
                (0, _) => drawn.unwatched.push_str(&format!("M{x} 31h6v3h-6z")),
                (_, 0) => drawn.up.push_str(&format!("M{x} 26h6v8h-6z")),
                (watched, down) => drawn.down.push(DownDay {
                    x,
                    height: 10 + (down * 22 / watched).min(22),
                    text: format!("{}: down {}", from.utc().format("%Y-%m-%d"), took(down)),
                }),
            }
        }
        drawn
    }
}

/// A ping, as a stroke on the timeline: taller the longer it took.
#[derive(Debug)]
struct Stroke {
    x: i64,
    y: i64,
    height: i64,
    class: &'static str,
    text: String,
}

/// A ping in the log.
struct Entry {
    at: At,
    kind: &'static str,
    view: PingView,
    took: Option<String>,
    /// How its body begins, if there is more of it than the log shows.
    begins: Option<String>,
}

impl Entry {
    fn of(ping: &Ping, viewer: &Viewer) -> Self {
        let view = PingView::of(ping, viewer.writes());
        let body = view.body.as_ref().or(view.body_base64.as_ref());
        let begins = body.and_then(|body| {
            let (end, _) = body.char_indices().nth(SHOWN_OF_BODY)?;
            Some(format!("{} …", &body[..end]))
        });
        Self {
            at: At(ping.at),
            kind: kind(ping.kind),
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

/// `GET /monitors/{id}/pings/{n}`: a ping with all of its body.
pub async fn ping(
    State(app): State<App>,
    viewer: Viewer,
    axum::extract::Path((id, n)): axum::extract::Path<(String, String)>,
) -> Response {
    let found = async {
        let found = monitors::find(&app, viewer.key.project, &id).await?;
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
        name: name_of(&found.monitor),
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

/// How to send pings.
struct Snippet {
    name: &'static str,
    id: &'static str,
    text: String,
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

const fn status(status: Status) -> &'static str {
    match status {
        Status::New => "new",
        Status::Up => "up",
        Status::Down => "down",
        Status::Paused => "paused",
    }
}

const fn kind(kind: PingKind) -> &'static str {
    match kind {
        PingKind::Success => "success",
        PingKind::Start => "start",
        PingKind::Fail => "fail",
        PingKind::Log => "log",
        PingKind::Ign => "ign",
    }
}

/// The spans of the last days, each by itself, oldest first; the last one is today so far.
pub fn last_days(now: UnixMs, days: i64) -> Vec<(UnixMs, UnixMs)> {
    let today = UnixMs(now.0 - now.0.rem_euclid(DAY_MS));
    let from = |back: i64| today - back * DAY_MS;
    (0..days)
        .rev()
        .map(|back| (from(back), (from(back) + DAY_MS).min(now)))
        .collect()
}

fn strokes(pings: &[Ping]) -> Vec<Stroke> {
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
            class: kind(ping.kind),
            text: format!(
                "{} {}{}",
                At(ping.at).plain(),
                kind(ping.kind),
                long.unwrap_or_default()
            ),
        }
    });
    strokes.collect()
}

/// What a failure said: its exit status, and how its body begins, for who may see it.
fn failure(ping: &Ping, viewer: &Viewer) -> Option<String> {
    let exit = ping.exit_status.map(|code| format!("exit {code}"));
    let said = std::str::from_utf8(&ping.body)
        .ok()
        .filter(|_| viewer.writes());
    let line = said.and_then(|body| body.lines().find(|line| !line.trim().is_empty()));
    let line = line.map(|line| line.chars().take(FAILURE_CHARS).collect());
    let parts: Vec<String> = exit.into_iter().chain(line).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

fn durations(pings: &[Ping]) -> Option<Svg> {
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

fn metrics(pings: &[Ping]) -> Vec<(String, Option<Svg>)> {
    let mut figures: BTreeMap<&str, Vec<(UnixMs, Option<f64>)>> = BTreeMap::new();
    for ping in pings.iter().rev() {
        for (name, value) in &ping.metrics {
            figures
                .entry(name)
                .or_default()
                .push((ping.at, Some(*value)));
        }
    }
    let figures = figures.into_iter().take(MAX_METRICS);
    let drawn = figures.map(|(name, points)| {
        let last = points.last().and_then(|(_, y)| *y).unwrap_or_default();
        (
            format!("{name}, last {}", super::words::number(last)),
            chart::line(points, false),
        )
    });
    drawn.collect()
}

/// A cron expression that comes about as often as a monitor is expected, and its zone.
fn cron_of(schedule: &Schedule) -> (String, Option<&str>) {
    match schedule {
        Schedule::Cron { expr, tz } => (expr.clone(), Some(tz.as_str()).filter(|tz| *tz != "UTC")),
        Schedule::OnCalendar { .. } => ("0 3 * * *".to_owned(), None),
        Schedule::Simple { period_s } => {
            let minutes = (period_s / 60).max(1);
            let cron = match minutes {
                1 => "* * * * *".to_owned(),
                2..60 => format!("*/{minutes} * * * *"),
                60..120 => "0 * * * *".to_owned(),
                120..1_440 => format!("0 */{} * * *", minutes / 60),
                1_440..10_080 => "0 3 * * *".to_owned(),
                _ => "0 3 * * 0".to_owned(),
            };
            (cron, None)
        }
    }
}

/// A systemd timer's `OnCalendar` lines, or how long it waits between two runs.
fn timer_of(schedule: &Schedule) -> String {
    match schedule {
        Schedule::OnCalendar { expr, tz } => {
            let lines = expr.lines().map(|line| format!("OnCalendar={line} {tz}"));
            lines.collect::<Vec<_>>().join("\n")
        }
        Schedule::Cron { .. } => "OnCalendar=…".to_owned(),
        Schedule::Simple { period_s } => format!("OnUnitActiveSec={period_s}\nOnBootSec=60"),
    }
}

fn snippets(found: &Found, site: &Site) -> Vec<Snippet> {
    let monitor = &found.monitor;
    let url = format!("{}/ping/{}", site.root, monitor.id);
    let curl = "curl -fsS -m 10 --retry 5 -o /dev/null";
    let (cron, zone) = cron_of(&monitor.schedule);
    let cron_zone = zone.map(|tz| format!("CRON_TZ={tz}\n")).unwrap_or_default();
    let job_zone = zone
        .map(|tz| format!("  timeZone: {tz}\n"))
        .unwrap_or_default();
    let timer = timer_of(&monitor.schedule);
    let job = if monitor.slug.is_empty() {
        "job"
    } else {
        &monitor.slug
    };
    let snippet = |name, id, text| Snippet { name, id, text };
    let mut snippets = vec![
        snippet("curl", "curl", format!("{curl} {url}")),
        snippet(
            "A job: start, success or failure, and how long it took",
            "exec",
            format!("thrum exec {url} -- ./job.sh"),
        ),
        snippet(
            "cron",
            "cron",
            format!("{cron_zone}{cron} {curl} {url}/start; ./job.sh; {curl} {url}/$?"),
        ),
        snippet(
            "systemd: what to add to the service, and its timer",
            "systemd",
            format!(
                "[Service]\nExecStartPre=-{curl} {url}/start\nExecStopPost=-/bin/sh -c 'if [ \"$$SERVICE_RESULT\" = success ]; \
                 then r=0; else r=fail; fi; {curl} {url}/$$r'\n\n[Timer]\n{timer}"
            ),
        ),
        snippet(
            "Kubernetes",
            "kubernetes",
            format!(
                "apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: {job}\nspec:\n  schedule: \"{cron}\"\n{job_zone}  \
                 jobTemplate:\n    spec:\n      template:\n        spec:\n          restartPolicy: Never\n          \
                 containers:\n            - name: {job}\n              image: your/image\n              command: [\"sh\", \
                 \"-c\"]\n              args:\n                - |\n                  {curl} {url}/start\n                  \
                 ./job.sh; code=$?\n                  {curl} {url}/$code\n                  exit $code"
            ),
        ),
    ];
    // Neither cron nor Kubernetes starts anything more often than every minute.
    if matches!(monitor.schedule, Schedule::Simple { period_s: ..60 }) {
        snippets.retain(|snippet| !["cron", "kubernetes"].contains(&snippet.id));
    }
    snippets
}

/// `GET /monitors/{id}`
pub async fn get(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let site = Site::of(&app, &headers, &uri);
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
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
    let (monitor, lease) = (&found.monitor, &found.lease);
    let (outages, pings, targets) = futures::try_join!(
        app.store.outages(),
        app.store.pings(monitor.id),
        app.store.resolve(monitor.project, &monitor.targets),
    )?;
    let now = app.store.world().now();
    let mut spans: Vec<(UnixMs, UnixMs)> = last_days(now, DAYS);
    let wide = [7, 30, DAYS];
    spans.extend(wide.map(|days| (now - days * DAY_MS, now)));
    let history = monitors::history(app, project, (monitor, lease.status), &spans).await?;
    let (days, wide_judged) = history.judged.split_at(spans.len() - wide.len());
    let bars: Vec<(UnixMs, Uptime)> = spans
        .iter()
        .map(|(from, _)| *from)
        .zip(days.iter().copied())
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "90 days of milliseconds fit")]
    let part = |judged: &Uptime| {
        (judged.watched_ms > 0)
            .then(|| percent(1.0 - judged.down_ms as f64 / judged.watched_ms as f64))
    };
    let spans = wide.iter().zip(wide_judged).map(|(days, judged)| Span {
        days: *days,
        uptime: part(judged),
        down: took(judged.down_ms),
        watched: took(judged.watched_ms),
        downs: judged.downs,
    });
    let silent = silence::until(project.snoozed_until, &project.windows, now);
    let row = Row::of(monitor, lease, silent, &outages, now);
    let last_down = history
        .flips
        .iter()
        .rev()
        .find(|flip| flip.to == Status::Down);
    let down_since = last_down
        .filter(|_| lease.status == Status::Down)
        .map(|flip| (At(flip.at), reason(flip.reason)));
    let run = lease.runs().map(|run| run.at).min();
    let outage = lease
        .deadline_after(&outages)
        .and_then(|(_, outage)| outage);
    let shown_flips = history.flips.iter().enumerate().rev().take(FLIPS);
    let flips = shown_flips.map(|(i, flip)| {
        let next = history.flips.get(i + 1).map_or(now, |flip| flip.at);
        FlipRow {
            at: At(flip.at),
            from: status(flip.from),
            to: status(flip.to),
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
            .filter(|flip| flip.reason == Reason::Fail && lease.status == Status::Down)
            .and_then(|_| pings.iter().find(|ping| ping.kind == PingKind::Fail))
            .and_then(|ping| failure(ping, viewer)),
        down_since,
        run_since: run.map(|at| Relative { at, now }),
        extended: outage.map(|outage| (At(outage.start), At(outage.end))),
        missed: found.missed(now),
        spans: spans.collect(),
        days: Days::of(&bars),
        strokes: strokes(&pings),
        durations: durations(&pings),
        metrics: metrics(&pings),
        flips: flips.collect(),
        log: pings.iter().map(|ping| Entry::of(ping, viewer)).collect(),
        snippets: if viewer.writes() {
            snippets(&found, &site)
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
        title: name_of(monitor),
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
    let field = if fields.given("for_other").is_some() {
        "for_other"
    } else {
        "for"
    };
    members.span(fields, field, "for_s")?;
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
        name: name_of(&found.monitor),
        path: path_of(&found.monitor),
        pings: found.lease.pings,
    };
    let page = Page {
        section: "/",
        title: "Delete a monitor",
        viewer: Some(&viewer),
        ..Page::default()
    };
    page.show(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_days_end_with_today_so_far() {
        let now = UnixMs(10 * DAY_MS + 5_000);
        let days = last_days(now, 3);
        assert_eq!(days.len(), 3);
        assert_eq!(days[0], (UnixMs(8 * DAY_MS), UnixMs(9 * DAY_MS)));
        assert_eq!(days[2], (UnixMs(10 * DAY_MS), now));
    }

    #[test]
    fn days_differ_in_form_too() {
        let day = |watched_ms, down_ms| {
            let uptime = Uptime {
                watched_ms,
                down_ms,
                downs: 0,
            };
            (UnixMs(0), uptime)
        };
        let days = Days::of(&[day(0, 0), day(DAY_MS, 0), day(DAY_MS, DAY_MS)]);
        assert_eq!(
            (&*days.unwatched, &*days.up),
            ("M0 31h6v3h-6z", "M8 26h6v8h-6z")
        );
        assert_eq!(
            (days.down[0].height, &*days.down[0].text),
            (32, "1970-01-01: down 1 d")
        );
    }
}
