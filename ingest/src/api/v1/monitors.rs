//! `/v1/monitors`: monitors, snoozes and uptime.

mod spec;
mod view;

pub use spec::{MonitorRequest, check_channels, check_until, check_windows, some, some_object};
pub use view::{Around, ChannelsView, MonitorView, OutageView, PingView, WindowSpec};

use crate::app::App;
use crate::http::{
    Edit, Json, Missing, Named, Overload, Page, Params, PathId, Problem, Problems, Read, Reader,
    Write, Writer,
};
use crate::services::monitors::{Edit as Editing, FindError, Upserted};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use spec::ValidRequest;
use thrum_schema::error::Invalid;
use thrum_schema::monitor::MAX_NAME;
use thrum_schema::silence::MAX_SNOOZE_MS;
use thrum_schema::state::{MonitorState, Shown};
use thrum_schema::{Event, Monitor, MonitorId, PingKind, ProjectId, Status, UnixMs};
use thrum_store::Snapshot;
use utoipa::ToSchema;

/// How many flips and pings a monitor shows.
const LAST_FLIPS: usize = 20;
const LAST_PINGS: usize = 20;
/// The longest span of an uptime, in days: as long as flips are kept.
const MAX_DAYS: i64 = 93;

/// Monitors.
#[derive(Debug, Serialize, ToSchema)]
pub struct Monitors {
    monitors: Vec<MonitorView>,
    /// The cursor of the next part, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which monitors to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only monitors with this tag.
    tag: Option<String>,
    /// Only monitors with this status.
    status: Option<Shown>,
    /// The maximum number of monitors to return, 1 to 1000; all if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next_cursor` of the part before.
    cursor: Option<String>,
}

/// Whether to only check a request.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Check {
    /// Change nothing: only check the request, and show what the monitor would be.
    #[serde(default)]
    check: bool,
}

/// How long to snooze: either `until` or `for_s`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Snooze {
    /// Until this time, RFC 3339; at most a year from now.
    until: Option<String>,
    /// For this many seconds.
    #[schema(minimum = 1, maximum = 31_622_400)]
    for_s: Option<u64>,
}

/// The span of an uptime.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Span {
    /// How many days up to now, 1 to 93; 30 if absent.
    #[param(minimum = 1, maximum = 93)]
    days: Option<i64>,
}

/// How long a monitor was down. Maintenance does not count.
#[derive(Debug, Serialize, ToSchema)]
pub struct Uptime {
    from: String,
    to: String,
    /// Seconds during which it was watched: not new, not paused, and not in maintenance.
    watched_s: i64,
    /// Seconds of these during which it was down.
    down_s: i64,
    /// How often it went down.
    downs: u32,
    /// The fraction of the watched time that it was up, 0 to 1; null if it was not watched.
    uptime: Option<f64>,
}

impl Snooze {
    /// When the snooze ends.
    pub fn until(&self, now: UnixMs) -> Result<UnixMs, Invalid> {
        match (&self.until, self.for_s) {
            (Some(text), None) => check_until("until", text, now),
            (None, Some(s)) => match i64::try_from(s) {
                Ok(s) if s > 0 && s <= MAX_SNOOZE_MS / 1000 => Ok(now + s * 1000),
                _ => Err(Invalid::new("for_s", "must be between 1 second and a year")),
            },
            _ => Err(Invalid::new("until", "or for_s is required, but not both")),
        }
    }
}

impl Named for Snapshot {
    async fn find(app: &App, project: ProjectId, id: &str) -> Result<Self, Problem> {
        Ok(app.monitors.find(project, id).await?)
    }
}

/// Lists the monitors of the project.
#[utoipa::path(
    get, path = "/v1/monitors", operation_id = "list_monitors", tag = "monitors",
    params(Filter),
    responses((status = 200, body = Monitors), Problems, Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
    Params(filter): Params<Filter>,
) -> Result<axum::Json<Monitors>, Problem> {
    reader.caller.charge(&app).await?;
    let id = reader.project;
    let now = app.store.world().now();
    let (monitors, outages) = futures::try_join!(app.monitors.list(id), app.store.outages())?;
    let project = app.accounts.project(id).await?;
    let tag = filter.tag.as_ref();
    let monitors = monitors.iter().map(AsRef::as_ref);
    let mut monitors: Vec<&Monitor> = monitors
        .filter(|monitor| tag.is_none_or(|tag| monitor.tags.contains(tag)))
        .collect();
    monitors.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    let page = Page {
        limit: filter.limit,
        cursor: filter.cursor,
    };
    let key = |monitor: &Monitor| format!("{}\0{}", monitor.name, monitor.id);
    let around = Around::new(&reader, &project, &outages, now);
    // A filter by status needs the states of all.
    let (monitors, next_cursor) = match filter.status {
        None => {
            let (monitors, next) = page.of(monitors, |monitor| key(monitor))?;
            let states = app.monitors.states(&monitors).await?;
            let views = monitors.iter().zip(&states);
            let views = views.map(|(monitor, state)| around.view(monitor, state));
            (views.collect(), next)
        }
        Some(status) => {
            let states = app.monitors.states(&monitors).await?;
            let views = monitors.iter().zip(&states);
            let views = views.map(|(monitor, state)| (key(monitor), around.view(monitor, state)));
            let views = views.filter(|(_, view)| view.status == status).collect();
            let (views, next) = page.of(views, |(key, _)| key.clone())?;
            (views.into_iter().map(|(_, view)| view).collect(), next)
        }
    };
    Ok(axum::Json(Monitors {
        monitors,
        next_cursor,
    }))
}

/// Shows a monitor with its last flips, pings and failures.
#[utoipa::path(
    get, path = "/v1/monitors/{id}", operation_id = "get_monitor", tag = "monitors",
    params(("id" = String, Path, description = "The monitor's uuid, slug or name")),
    responses((status = 200, body = MonitorView), Problems, Overload, Missing),
)]
pub async fn get(
    State(app): State<App>,
    Read { reader, it: found }: Read<Snapshot>,
) -> Result<axum::Json<MonitorView>, Problem> {
    let id = found.monitor.id;
    let (flips, pings) = futures::try_join!(app.store.flips(id, LAST_FLIPS), app.store.pings(id))?;
    let mut view = show(&app, &reader, &found).await?;
    let now = app.store.world().now();
    view.missed = found.state.missed_so_far(&found.monitor, now);
    let failures = pings.iter().filter(|ping| ping.kind == PingKind::Fail);
    let shown = |ping| PingView::of(ping, reader.sees_secrets);
    view.last_failures = Some(failures.take(LAST_PINGS).map(shown).collect());
    view.last_pings = Some(pings.iter().take(LAST_PINGS).map(shown).collect());
    view.flips = Some(flips.iter().map(Into::into).collect());
    Ok(axum::Json(view))
}

/// Creates a monitor, or updates the one that `unique` identifies.
#[utoipa::path(
    post, path = "/v1/monitors", operation_id = "create_monitor", tag = "monitors",
    request_body = MonitorRequest,
    params(Check),
    responses(
        (status = 200, description = "Updated, or checked", body = MonitorView),
        (status = 201, description = "Created", body = MonitorView),
        Problems, Overload,
    ),
)]
pub async fn create(
    State(app): State<App>,
    writer: Writer,
    Params(Check { check }): Params<Check>,
    Json(request): Json<MonitorRequest>,
) -> Result<(StatusCode, axum::Json<MonitorView>), Problem> {
    let project = writer.project;
    let now = app.store.world().now();
    let valid = valid(&app, project, request).await?;
    // Check whether a new monitor would be valid, and whether the plan has room for it.
    let blank = Monitor::new(MonitorId(app.store.world().uuid_v4()), project, now);
    let new = valid.applied_to(&blank, true)?;
    if new.name.is_empty() && new.slug.is_empty() {
        return Err(Problem::bad_request("name or slug is required"));
    }
    if valid.unique().is_none() {
        app.monitors.check_expectations(&new, None).await?;
    }
    app.store.check_parents(&new).await?;
    if valid.unique().is_none() && !app.monitors.has_room(project).await? {
        return Err(Problem::no_room_for_monitor());
    }
    if new.id != blank.id && app.store.locate(new.id).await?.is_some() {
        return Err(Problem::conflict("there is a monitor with this uuid"));
    }
    writer.caller.charge(&app).await?;
    if check {
        let view = show_checked(&app, &writer, &new, &MonitorState::new(&new)).await?;
        return Ok((StatusCode::OK, view));
    }
    let make = |monitor: &Monitor, is_new: bool| valid.applied_to(monitor, is_new);
    let means = |monitor: &Monitor| valid.means(monitor);
    let means = valid.unique().map(|_| &means as _);
    let upserted = app
        .monitors
        .upsert(project, means, valid.unique_slug(), make);
    let Upserted { found, created } = upserted.await?;
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let view = show(&app, &writer.reader(), &found).await?;
    Ok((status, axum::Json(view)))
}

/// Changes a monitor: only the given fields.
#[utoipa::path(
    patch, path = "/v1/monitors/{id}", operation_id = "update_monitor", tag = "monitors",
    request_body = MonitorRequest,
    params(("id" = String, Path, description = "The monitor's uuid, slug or name"), Check),
    responses((status = 200, body = MonitorView), Problems, Overload, Missing),
)]
pub async fn update(
    State(app): State<App>,
    Edit { writer, it: found }: Edit<Snapshot>,
    Params(Check { check }): Params<Check>,
    Json(request): Json<MonitorRequest>,
) -> Result<axum::Json<MonitorView>, Problem> {
    let valid = valid(&app, writer.project, request).await?;
    // Check the request together with the monitor's other fields.
    let changed = valid.applied_to(&found.monitor, false)?;
    let state = Some(&found.state);
    app.monitors.check_expectations(&changed, state).await?;
    if changed.options.parents != found.monitor.options.parents {
        app.store.check_parents(&changed).await?;
    }
    writer.caller.charge(&app).await?;
    if check {
        return show_checked(&app, &writer, &changed, &found.state).await;
    }
    let edit = |monitor: &Monitor, _: &MonitorState| {
        let edited = valid.applied_to(monitor, false);
        edited.map(Editing::to)
    };
    edited(&app, &writer, &found, edit).await
}

/// Deletes a monitor.
#[utoipa::path(
    delete, path = "/v1/monitors/{id}", operation_id = "delete_monitor", tag = "monitors",
    params(("id" = String, Path, description = "The monitor's uuid, slug or name")),
    responses((status = 204, description = "Deleted"), Problems, Overload, Missing),
)]
pub async fn delete(
    State(app): State<App>,
    Write { it: found, .. }: Write<Snapshot>,
) -> Result<StatusCode, Problem> {
    app.monitors.delete(found).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pauses a monitor until its next success, or until it is resumed.
#[utoipa::path(
    post, path = "/v1/monitors/{id}/pause", operation_id = "pause_monitor", tag = "monitors",
    params(("id" = String, Path, description = "The monitor's uuid, slug or name")),
    responses((status = 200, body = MonitorView), Problems, Overload, Missing),
)]
pub async fn pause(
    State(app): State<App>,
    Write { writer, it: found }: Write<Snapshot>,
) -> Result<axum::Json<MonitorView>, Problem> {
    let pause = |_: &Monitor, _: &MonitorState| Ok::<_, Problem>(Editing::event(Event::Pause));
    edited(&app, &writer, &found, pause).await
}

/// Resumes a paused monitor.
#[utoipa::path(
    post, path = "/v1/monitors/{id}/resume", operation_id = "resume_monitor", tag = "monitors",
    params(("id" = String, Path, description = "The monitor's uuid, slug or name")),
    responses((status = 200, body = MonitorView), Problems, Overload, Missing),
)]
pub async fn resume(
    State(app): State<App>,
    Edit { writer, it: found }: Edit<Snapshot>,
) -> Result<axum::Json<MonitorView>, Problem> {
    let resume = |_: &Monitor, state: &MonitorState| match state.status {
        Status::Paused => Ok(Editing::event(Event::Resume)),
        _ => Err(Problem::conflict("the monitor is not paused")),
    };
    resume(&found.monitor, &found.state)?;
    writer.caller.charge(&app).await?;
    edited(&app, &writer, &found, resume).await
}

/// Acknowledges that a monitor is down: no more reminders, and no escalation, until it is up again.
#[utoipa::path(
    post, path = "/v1/monitors/{id}/acknowledge", operation_id = "acknowledge_monitor", tag = "monitors",
    params(("id" = String, Path, description = "The monitor's uuid, slug or name")),
    responses((status = 200, body = MonitorView), Problems, Overload, Missing),
)]
pub async fn acknowledge(
    State(app): State<App>,
    Edit { writer, it: found }: Edit<Snapshot>,
) -> Result<axum::Json<MonitorView>, Problem> {
    acknowledging(&found.monitor, &found.state)?;
    writer.caller.charge(&app).await?;
    edited(&app, &writer, &found, acknowledging).await
}

/// The edit that acknowledges that a monitor is down.
///
/// # Errors
/// It is not down.
pub fn acknowledging(_: &Monitor, state: &MonitorState) -> Result<Editing, Problem> {
    match state.status {
        Status::Down => Ok(Editing::event(Event::Acknowledge)),
        _ => Err(Problem::conflict("the monitor is not down")),
    }
}

/// Silences a monitor's alerts for a while. If it is down when the snooze ends, it alerts then.
#[utoipa::path(
    post, path = "/v1/monitors/{id}/snooze", operation_id = "snooze_monitor", tag = "monitors",
    request_body = Snooze,
    params(("id" = String, Path, description = "The monitor's uuid, slug or name")),
    responses((status = 200, body = MonitorView), Problems, Overload, Missing),
)]
pub async fn snooze(
    State(app): State<App>,
    Edit { writer, it: found }: Edit<Snapshot>,
    Json(snooze): Json<Snooze>,
) -> Result<axum::Json<MonitorView>, Problem> {
    let until = snooze.until(app.store.world().now())?;
    writer.caller.charge(&app).await?;
    edited(&app, &writer, &found, snoozed(Some(until))).await
}

/// Ends a snooze.
#[utoipa::path(
    delete, path = "/v1/monitors/{id}/snooze", operation_id = "end_monitor_snooze", tag = "monitors",
    params(("id" = String, Path, description = "The monitor's uuid, slug or name")),
    responses((status = 200, body = MonitorView), Problems, Overload, Missing),
)]
pub async fn end_snooze(
    State(app): State<App>,
    Write { writer, it: found }: Write<Snapshot>,
) -> Result<axum::Json<MonitorView>, Problem> {
    edited(&app, &writer, &found, snoozed(None)).await
}

/// The edit that silences a monitor's alerts until then.
pub fn snoozed(
    until: Option<UnixMs>,
) -> impl Fn(&Monitor, &MonitorState) -> Result<Editing, Problem> {
    move |monitor, _| {
        let mut monitor = monitor.clone();
        monitor.options.snoozed_until = until;
        Ok(Editing::to(monitor))
    }
}

/// Shows how long a monitor was down in the last days.
#[utoipa::path(
    get, path = "/v1/monitors/{id}/uptime", operation_id = "get_uptime", tag = "monitors",
    params(("id" = String, Path, description = "The monitor's uuid, slug or name"), Span),
    responses((status = 200, body = Uptime), Problems, Overload, Missing),
)]
pub async fn get_uptime(
    State(app): State<App>,
    reader: Reader,
    PathId(id): PathId,
    Params(span): Params<Span>,
) -> Result<axum::Json<Uptime>, Problem> {
    let days = span.days.unwrap_or(30);
    if !(1..=MAX_DAYS).contains(&days) {
        let detail = format!("days must be between 1 and {MAX_DAYS} (got {days})");
        return Err(Problem::bad_request(detail));
    }
    let Read { reader, it: found } = Read::<Snapshot>::of(&app, reader, &id).await?;
    let to = app.store.world().now();
    let from = to - days * 86_400_000;
    let project = app.accounts.project(reader.project).await?;
    let monitor = (&found.monitor, found.state.status);
    let spans = [(from, to)];
    let history = app.monitors.history(&project, monitor, &spans).await?;
    let uptime = history.uptimes[0];
    Ok(axum::Json(Uptime {
        from: from.rfc3339(),
        to: to.rfc3339(),
        watched_s: uptime.watched_ms / 1000,
        down_s: uptime.down_ms / 1000,
        downs: uptime.downs,
        uptime: uptime.part(),
    }))
}

/// Checks a request, and finds the channels and the parents that it names.
async fn valid(
    app: &App,
    project: ProjectId,
    request: MonitorRequest,
) -> Result<ValidRequest, Problem> {
    let channels = app.store.channels(project).await?;
    let valid = request.check(&channels, app.store.world().now())?;
    let Some(named) = valid.named_parents() else {
        return Ok(valid);
    };
    let (mut parents, mut wrong) = (Vec::new(), Vec::new());
    for (i, text) in named.iter().enumerate() {
        match app.monitors.find(project, text).await {
            Ok(found) if parents.contains(&found.monitor.id) => {}
            Ok(found) => parents.push(found.monitor.id),
            Err(FindError::Store(error)) => return Err(error.into()),
            Err(error) => {
                let text: String = text.chars().take(MAX_NAME).collect();
                let problem = format!("can't be used: {error} ({text})");
                wrong.push(Invalid::new(format!("parents[{i}]"), problem));
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(valid.with_parents(parents)),
        false => Err(wrong.into()),
    }
}

/// Changes a monitor, and shows the result.
async fn edited<E: Into<Problem> + Send>(
    app: &App,
    writer: &Writer,
    found: &Snapshot,
    edit: impl Fn(&Monitor, &MonitorState) -> Result<Editing, E> + Send,
) -> Result<axum::Json<MonitorView>, Problem> {
    let found = app.monitors.change(found, edit).await?;
    Ok(axum::Json(show(app, &writer.reader(), &found).await?))
}

/// Shows what a monitor would be.
async fn show_checked(
    app: &App,
    writer: &Writer,
    monitor: &Monitor,
    state: &MonitorState,
) -> Result<axum::Json<MonitorView>, Problem> {
    let outages = app.store.outages().await?;
    let project = app.accounts.project(writer.project).await?;
    let reader = writer.reader();
    let around = Around::new(&reader, &project, &outages, app.store.world().now());
    Ok(axum::Json(around.view(monitor, state)))
}

async fn show(app: &App, reader: &Reader, found: &Snapshot) -> Result<MonitorView, Problem> {
    let outages = app.store.outages().await?;
    let project = app.accounts.project(reader.project).await?;
    let around = Around::new(reader, &project, &outages, app.store.world().now());
    Ok(around.view(&found.monitor, &found.state))
}
