//! `/v1/monitors`: what is watched, by which rules, and how it is.

mod request;
mod view;

pub use request::{MonitorRequest, check_channels, check_until, check_windows, some, some_object};
pub use view::{Around, MonitorView, OutageView, PingView, WindowSpec};

use crate::app::App;
use crate::auth::{Reader, Writer};
use crate::body::{Json, PathId};
use crate::change::{ChangeError, Edit, Found};
use crate::problem::Problem;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thrum_schema::error::Invalid;
use thrum_schema::monitor::check_heartbeat_name;
use thrum_schema::silence::{MAX_SNOOZE_MS, Window, maintenance};
use thrum_schema::state::{MonitorState, Shown};
use thrum_schema::transition::Flip;
use thrum_schema::uptime;
use thrum_schema::{Event, Monitor, MonitorId, PingKind, Project, ProjectId, Status, UnixMs};
use thrum_store::StoreError;
use utoipa::ToSchema;

/// How many flips and pings a monitor shows.
const LAST_FLIPS: usize = 20;
const LAST_PINGS: usize = 20;
/// Most flips that an uptime is reckoned from.
const MAX_FLIPS: usize = 10_000;
/// Most openings of a maintenance window that an uptime is reckoned from.
const MAX_OPENINGS: usize = 10_000;

/// Monitors.
#[derive(Debug, Serialize, ToSchema)]
pub struct Monitors {
    monitors: Vec<MonitorView>,
}

/// Which monitors to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only those with this tag.
    tag: Option<String>,
    /// Only those with this status.
    #[param(value_type = Option<StatusParam>)]
    status: Option<Shown>,
}

/// How a monitor is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "it describes `Shown`, which knows no descriptions"
)]
pub enum StatusParam {
    New,
    Up,
    Grace,
    Down,
    Paused,
}

/// Until when to snooze.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Snooze {
    /// Until this instant, RFC 3339.
    until: Option<String>,
    /// For so many seconds.
    #[schema(minimum = 1, maximum = 31_622_400)]
    for_s: Option<u64>,
}

/// Which span to judge.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Span {
    /// The last so many days, 1 to 93.
    #[param(minimum = 1, maximum = 93)]
    days: Option<i64>,
}

/// How long a monitor was down. Maintenance is left out of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Uptime {
    from: String,
    to: String,
    /// Seconds in which it was watched: neither new nor paused, nor in maintenance.
    watched_s: i64,
    /// Seconds of these in which it was down.
    down_s: i64,
    /// How often it went down.
    downs: u32,
    /// The part of the time in which it was up, 0 to 1; null if it was not watched.
    uptime: Option<f64>,
}

impl Snooze {
    /// The instant that it means.
    pub fn until(&self, now: UnixMs) -> Result<UnixMs, Invalid> {
        match (&self.until, self.for_s) {
            (Some(text), None) => check_until("until", text, now),
            (None, Some(s)) => match i64::try_from(s) {
                Ok(s) if s > 0 && s <= MAX_SNOOZE_MS / 1000 => Ok(now + s * 1000),
                _ => Err(Invalid::new("for_s", "must be 1 s to a year")),
            },
            _ => Err(Invalid::new("until", "or for_s is required, and not both")),
        }
    }
}

/// Lists the monitors of the project.
#[utoipa::path(
    get, path = "/v1/monitors", operation_id = "list_monitors", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])), params(Filter),
    responses((status = 200, body = Monitors), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<axum::Json<Monitors>, Problem> {
    let Query(filter) = filter.map_err(|error| Problem::bad_request(error.body_text()))?;
    reader.caller.charge(&app).await?;
    let id = reader.project;
    let now = app.store.world().now();
    let (monitors, outages) = futures::try_join!(app.monitors(id), app.store.outages())?;
    let project = app.project(id).await?;
    let wants = |monitor: &&Monitor| {
        filter
            .tag
            .as_ref()
            .is_none_or(|tag| monitor.tags.contains(tag))
    };
    let monitors = monitors.iter().map(AsRef::as_ref);
    let mut monitors: Vec<&Monitor> = monitors.filter(wants).collect();
    monitors.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    let states = app.states_of(&monitors).await?;
    let around = Around::new(&reader, &project, &outages, now);
    let monitors = monitors
        .iter()
        .zip(&states)
        .map(|(monitor, state)| around.view(monitor, state))
        .filter(|view| filter.status.is_none_or(|status| view.status == status))
        .collect();
    Ok(axum::Json(Monitors { monitors }))
}

/// Shows a monitor with its last flips, pings and failures.
#[utoipa::path(
    get, path = "/v1/monitors/{id}", operation_id = "get_monitor", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Its uuid, slug or name")),
    responses((status = 200, body = MonitorView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn get(
    State(app): State<App>,
    reader: Reader,
    PathId(id): PathId,
) -> Result<axum::Json<MonitorView>, Problem> {
    let found = find(&app, reader.project, &id).await?;
    reader.caller.charge(&app).await?;
    let id = found.monitor.id;
    let (flips, pings) = futures::try_join!(app.store.flips(id, LAST_FLIPS), app.store.pings(id))?;
    let mut view = show(&app, &reader, &found).await?;
    view.missed = found.missed(app.store.world().now());
    let failures = pings.iter().filter(|ping| ping.kind == PingKind::Fail);
    let shown = |ping| PingView::of(ping, reader.sees_secrets);
    view.last_failures = Some(failures.take(LAST_PINGS).map(shown).collect());
    view.last_pings = Some(pings.iter().take(LAST_PINGS).map(shown).collect());
    view.flips = Some(flips.iter().map(Into::into).collect());
    Ok(axum::Json(view))
}

/// Makes a monitor; or updates the one that `unique` knows it by.
#[utoipa::path(
    post, path = "/v1/monitors", operation_id = "create_monitor", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])), request_body = MonitorRequest,
    responses(
        (status = 200, description = "There was one, and it is as the request says", body = MonitorView),
        (status = 201, description = "It is made", body = MonitorView),
        crate::openapi::Problems, crate::openapi::Overload,
    ),
)]
pub async fn create(
    State(app): State<App>,
    writer: Writer,
    Json(request): Json<MonitorRequest>,
) -> Result<(StatusCode, axum::Json<MonitorView>), Problem> {
    let channels = app.store.channels(writer.project).await?;
    let now = app.store.world().now();
    let fit = request.check(&channels, now)?;
    // What is wrong with a new one, and whether there is room for it.
    let blank = Monitor::new(MonitorId(app.store.world().uuid_v4()), writer.project, now);
    let new = fit.applied_to(&blank, true)?;
    if new.name.is_empty() && new.slug.is_empty() {
        return Err(Problem::bad_request("name or slug is required"));
    }
    if fit.unique().is_none() && !app.has_room(writer.project).await? {
        return Err(full());
    }
    writer.caller.charge(&app).await?;
    let make = |monitor: &Monitor| {
        let is_new = *monitor == Monitor::new(monitor.id, monitor.project, monitor.created);
        fit.applied_to(monitor, is_new)
    };
    let same = |monitor: &Monitor| fit.means(monitor);
    let same: Option<&(dyn Fn(&Monitor) -> bool + Sync)> = fit.unique().map(|_| &same as _);
    let upserted = app
        .upsert(writer.project, same, fit.unique_slug(), make)
        .await
        .map_err(problem)?;
    let status = if upserted.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let view = show(&app, &writer.reader(), &upserted.found).await?;
    Ok((status, axum::Json(view)))
}

/// Changes a monitor: only what is given.
#[utoipa::path(
    patch, path = "/v1/monitors/{id}", operation_id = "update_monitor", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])), request_body = MonitorRequest,
    params(("id" = String, Path, description = "Its uuid, slug or name")),
    responses((status = 200, body = MonitorView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn update(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
    Json(request): Json<MonitorRequest>,
) -> Result<axum::Json<MonitorView>, Problem> {
    let found = find(&app, writer.project, &id).await?;
    let channels = app.store.channels(writer.project).await?;
    let fit = request.check(&channels, app.store.world().now())?;
    // What is wrong only together with what the monitor is.
    fit.applied_to(&found.monitor, false)?;
    writer.caller.charge(&app).await?;
    let edit = |monitor: &Monitor, _: &MonitorState| fit.applied_to(monitor, false).map(Edit::to);
    let changed = app.change(writer.project, found.monitor.id, edit).await;
    let found = changed.map_err(problem)?;
    Ok(axum::Json(show(&app, &writer.reader(), &found).await?))
}

/// Deletes a monitor.
#[utoipa::path(
    delete, path = "/v1/monitors/{id}", operation_id = "delete_monitor", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Its uuid, slug or name")),
    responses((status = 204, description = "It is gone"), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn delete(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let found = find(&app, writer.project, &id).await?;
    writer.caller.charge(&app).await?;
    app.delete::<Invalid>(writer.project, found.monitor.id)
        .await
        .map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pauses a monitor: it is not watched until its next success, or until it is resumed.
#[utoipa::path(
    post, path = "/v1/monitors/{id}/pause", operation_id = "pause_monitor", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Its uuid, slug or name")),
    responses((status = 200, body = MonitorView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn pause(
    state: State<App>,
    writer: Writer,
    id: PathId,
) -> Result<axum::Json<MonitorView>, Problem> {
    let pause = |_: &Monitor, _: &MonitorState| Ok(Edit::event(Event::Pause));
    edited(state, writer, id, pause).await
}

/// Resumes a monitor that is paused.
#[utoipa::path(
    post, path = "/v1/monitors/{id}/resume", operation_id = "resume_monitor", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Its uuid, slug or name")),
    responses((status = 200, body = MonitorView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn resume(
    state: State<App>,
    writer: Writer,
    id: PathId,
) -> Result<axum::Json<MonitorView>, Problem> {
    let not_paused = || Problem::new(StatusCode::CONFLICT, "the monitor is not paused");
    let resume = |_: &Monitor, state: &MonitorState| match state.status {
        Status::Paused => Ok(Edit::event(Event::Resume)),
        _ => Err(not_paused()),
    };
    edited(state, writer, id, resume).await
}

/// Silences a monitor's alerts for some time; at its end, what is still down alerts.
#[utoipa::path(
    post, path = "/v1/monitors/{id}/snooze", operation_id = "snooze_monitor", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])), request_body = Snooze,
    params(("id" = String, Path, description = "Its uuid, slug or name")),
    responses((status = 200, body = MonitorView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn snooze(
    State(app): State<App>,
    writer: Writer,
    id: PathId,
    Json(snooze): Json<Snooze>,
) -> Result<axum::Json<MonitorView>, Problem> {
    let until = snooze.until(app.store.world().now())?;
    edited(State(app), writer, id, snoozed(Some(until))).await
}

/// Ends a snooze.
#[utoipa::path(
    delete, path = "/v1/monitors/{id}/snooze", operation_id = "end_monitor_snooze", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Its uuid, slug or name")),
    responses((status = 200, body = MonitorView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn end_snooze(
    state: State<App>,
    writer: Writer,
    id: PathId,
) -> Result<axum::Json<MonitorView>, Problem> {
    edited(state, writer, id, snoozed(None)).await
}

fn snoozed(until: Option<UnixMs>) -> impl Fn(&Monitor, &MonitorState) -> Result<Edit, Problem> {
    move |monitor, _| {
        let mut monitor = monitor.clone();
        monitor.options.snoozed_until = until;
        Ok(Edit::to(monitor))
    }
}

/// How long a monitor was down in the last days, without its maintenance.
#[utoipa::path(
    get, path = "/v1/monitors/{id}/uptime", operation_id = "get_uptime", tag = "monitors",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "Its uuid, slug or name"), Span),
    responses((status = 200, body = Uptime), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn get_uptime(
    State(app): State<App>,
    reader: Reader,
    PathId(id): PathId,
    span: Result<Query<Span>, QueryRejection>,
) -> Result<axum::Json<Uptime>, Problem> {
    let Query(span) = span.map_err(|error| Problem::bad_request(error.body_text()))?;
    let days = span.days.unwrap_or(30);
    if !(1..=93).contains(&days) {
        return Err(Problem::bad_request("days must be 1 to 93"));
    }
    let found = find(&app, reader.project, &id).await?;
    reader.caller.charge(&app).await?;
    let to = app.store.world().now();
    let from = to - days * 86_400_000;
    let project = app.project(reader.project).await?;
    let judged = history(
        &app,
        &project,
        (&found.monitor, found.state.status),
        &[(from, to)],
    )
    .await?
    .judged[0];
    Ok(axum::Json(Uptime {
        from: from.rfc3339(),
        to: to.rfc3339(),
        watched_s: judged.watched_ms / 1000,
        down_s: judged.down_ms / 1000,
        downs: judged.downs,
        uptime: judged.part(),
    }))
}

/// What a monitor has been, and how long it was down in some spans.
pub struct History {
    /// Its flips, oldest first.
    pub flips: Vec<Flip>,
    /// The spans, judged.
    pub judged: Vec<uptime::Uptime>,
}

/// Judges spans of the past of a monitor that now has a status; each has its begin and end.
pub async fn history(
    app: &App,
    project: &Project,
    (monitor, status): (&Monitor, Status),
    spans: &[(UnixMs, UnixMs)],
) -> Result<History, StoreError> {
    let first = spans
        .iter()
        .map(|(from, _)| *from)
        .min()
        .unwrap_or_default();
    let last = spans.iter().map(|(_, to)| *to).max().unwrap_or_default();
    // From the beginning: what it was at the beginning of a span shows the flip before it.
    let mut flips = app
        .store
        .flips_between(monitor.id, UnixMs(0), last + 1, MAX_FLIPS)
        .await?;
    flips.reverse();
    let before = flips.first().map_or(status, |flip| flip.from);
    let windows = monitor.options.windows.iter().chain(&project.windows);
    let windows: Vec<Window> = windows.cloned().collect();
    // Many openings take some time to reckon: not on the threads that serve requests.
    let spans = spans.to_vec();
    let reckoned = tokio::task::spawn_blocking(move || {
        let windows: Vec<&Window> = windows.iter().collect();
        let closed = maintenance(&windows, first, last, MAX_OPENINGS);
        let judge =
            |(from, to): &(UnixMs, UnixMs)| uptime::uptime(before, &flips, &closed, *from, *to);
        let judged = spans.iter().map(judge).collect();
        History { flips, judged }
    });
    let failed = |error| StoreError::Unavailable(format!("an uptime was not reckoned: {error}"));
    reckoned.await.map_err(failed)
}

async fn edited(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
    edit: impl Fn(&Monitor, &MonitorState) -> Result<Edit, Problem>,
) -> Result<axum::Json<MonitorView>, Problem> {
    let found = find(&app, writer.project, &id).await?;
    edit(&found.monitor, &found.state)?;
    writer.caller.charge(&app).await?;
    let changed = app.change(writer.project, found.monitor.id, edit).await;
    let found = changed.map_err(|error| match error {
        ChangeError::Refused(problem) => problem,
        ChangeError::NotFound | ChangeError::Foreign => Problem::not_found("monitor"),
        ChangeError::Full => full(),
        ChangeError::Store(error) => error.into(),
    })?;
    Ok(axum::Json(show(&app, &writer.reader(), &found).await?))
}

/// The monitor that `id` means: a uuid, a unique key, a slug that one monitor has, or the name that it heartbeats by.
pub async fn find(app: &App, project: ProjectId, id: &str) -> Result<Found, Problem> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let id = if let Some(id) = MonitorId::parse_canonical(id) {
        Some(id)
    } else if id.len() == 40 && id.bytes().all(hex) {
        app.store.monitor_by_unique_key(project, id).await?
    } else {
        match *app.store.monitors_with_slug(project, id).await? {
            [id] => Some(id),
            [] if check_heartbeat_name("id", id).is_ok() => {
                app.store.monitor_named(project, id).await?
            }
            [] => None,
            _ => {
                return Err(Problem::new(
                    StatusCode::CONFLICT,
                    "several monitors have this slug; use a uuid",
                ));
            }
        }
    };
    let id = id.ok_or_else(|| Problem::not_found("monitor"))?;
    app.found::<Invalid>(project, id).await.map_err(problem)
}

async fn show(app: &App, reader: &Reader, found: &Found) -> Result<MonitorView, Problem> {
    let outages = app.store.outages().await?;
    let project = app.project(reader.project).await?;
    let around = Around::new(reader, &project, &outages, app.store.world().now());
    Ok(around.view(&found.monitor, &found.state))
}

fn full() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "the project has as many monitors as its plan allows; delete one first",
    )
}

fn problem(error: ChangeError<Invalid>) -> Problem {
    match error {
        ChangeError::NotFound | ChangeError::Foreign => Problem::not_found("monitor"),
        ChangeError::Full => full(),
        ChangeError::Refused(invalid) => invalid.into(),
        ChangeError::Store(error) => error.into(),
    }
}
