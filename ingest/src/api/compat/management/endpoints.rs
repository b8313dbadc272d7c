//! The endpoints of the management API. docs/compatibility.md §3.

use super::check::{Check, View};
use super::log::{FlipEntry, PingEntry, entries, span};
use super::route::Ref;
use super::spec::Spec;
use super::{Call, Refusal};
use crate::app::App;
use crate::http::Overload;
use crate::http::site::BadgeUrls;
use crate::services::monitors::{ChangeError, Edit, FindError};
use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use thrum_schema::channel::Channel;
use thrum_schema::key::hash;
use thrum_schema::key::same;
use thrum_schema::{Event, Monitor, MonitorId, MonitorState, Outage, Status};
use thrum_store::Snapshot;
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

/// The most flips in a response.
const MAX_FLIPS: usize = 10_000;
/// How many days of alerts the operator's metrics cover.
const METRICS_DAYS: i64 = 2;
/// How many alerts per project they cover.
const METRICS_ALERTS: usize = 1_000;

/// Checks.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checks {
    checks: Vec<Check>,
}

/// Pings, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pings {
    pings: Vec<PingEntry>,
}

/// Flips, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Flips {
    flips: Vec<FlipEntry>,
}

/// A channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelEntry {
    #[schema(value_type = String)]
    id: Uuid,
    name: String,
    kind: String,
}

/// Channels.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelEntries {
    channels: Vec<ChannelEntry>,
}

/// The URLs of badges, by tag; `*` is for all checks.
#[derive(Debug, Serialize, ToSchema)]
pub struct Badges {
    badges: BTreeMap<String, BadgeUrls>,
}

/// The operator's metrics.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorMetrics {
    /// The current time, in epoch seconds.
    ts: i64,
    /// How many of the pipeline's own pings arrived.
    max_ping_id: u64,
    /// Always 0: Thrum does not number notifications.
    max_notification_id: u64,
    /// How many alerts are still being delivered.
    num_unprocessed_flips: usize,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiError {
    /// What is wrong.
    pub error: String,
}

/// The further response of any endpoint that needs a key.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the variant only describes a response")]
enum Unauthorized {
    /// The key is missing or unknown.
    #[response(status = 401)]
    Error(ApiError),
}

/// The further responses of an endpoint whose path names a check.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the variants only describe responses")]
enum ForeignOrMissing {
    /// It belongs to another project.
    #[response(status = 403)]
    Foreign,
    /// There is no such check.
    #[response(status = 404)]
    Missing(ApiError),
}

/// What is needed to show checks, besides the checks themselves.
struct Surroundings {
    channels: Vec<Channel>,
    outages: Vec<Outage>,
}

impl Call<'_> {
    async fn surroundings(&self) -> Result<Surroundings, Refusal> {
        let store = &self.app.store;
        let (channels, outages) =
            futures::try_join!(store.channels(self.project()), store.outages())?;
        Ok(Surroundings { channels, outages })
    }

    fn view<'a>(&'a self, around: &'a Surroundings) -> View<'a> {
        View {
            site: &self.site,
            version: self.version,
            writes: self.writes(),
            channels: &around.channels,
            outages: &around.outages,
            now: self.app.store.world().now(),
        }
    }

    async fn charge(&self) -> Result<(), Refusal> {
        Ok(self.caller.charge(self.app).await?)
    }

    async fn found(&self, id: MonitorId) -> Result<Snapshot, Refusal> {
        let found = self.app.store.snapshot(id).await?;
        let found = found.ok_or_else(Refusal::not_found)?;
        if found.monitor.project == self.project() {
            Ok(found)
        } else {
            Err(Refusal::Empty(StatusCode::FORBIDDEN))
        }
    }

    /// The ID of a check. The unique key of another project's check gets a 404.
    async fn resolve(&self, check: Ref) -> Result<MonitorId, Refusal> {
        match check {
            Ref::Id(id) => Ok(id),
            Ref::UniqueKey(key) => {
                let store = &self.app.store;
                let found = store.monitor_by_unique_key(self.project(), &key).await?;
                found.ok_or_else(Refusal::not_found)
            }
        }
    }

    /// Changes a check, and responds with the result.
    async fn change(
        &self,
        found: &Snapshot,
        edit: impl Fn(&Monitor, &MonitorState) -> Result<Edit, Refusal> + Send,
    ) -> Result<Response, Refusal> {
        let changed = self.app.monitors.change(found, edit).await;
        let found = changed.map_err(|error| refusal(error, |refused| refused))?;
        self.reply(StatusCode::OK, &found).await
    }

    async fn reply(&self, status: StatusCode, found: &Snapshot) -> Result<Response, Refusal> {
        let around = self.surroundings().await?;
        let check = self.view(&around).of(&found.monitor, &found.state);
        Ok((status, axum::Json(check)).into_response())
    }
}

fn refusal<E>(error: ChangeError<E>, refused: impl Fn(E) -> Refusal) -> Refusal {
    match error {
        ChangeError::NotFound => Refusal::not_found(),
        ChangeError::Full => Refusal::Empty(StatusCode::FORBIDDEN),
        ChangeError::Taken => Refusal::Empty(StatusCode::CONFLICT),
        ChangeError::Refused(error) => refused(error),
        ChangeError::Store(error) => error.into(),
    }
}

/// Lists the checks of a project.
#[utoipa::path(
    get, path = "/api/v3/checks/", operation_id = "list_checks", tag = "management",
    security(("api_key" = [])),
    params(
        ("slug" = Option<String>, Query, description = "Only checks with this slug"),
        ("tag" = Option<Vec<String>>, Query, description = "Only checks with all of these tags"),
    ),
    responses((status = 200, body = Checks), Unauthorized, Overload),
)]
pub(super) async fn list_checks(call: &Call<'_>) -> Result<Response, Refusal> {
    call.charge().await?;
    let Query(query): Query<Vec<(String, String)>> =
        Query::try_from_uri(&call.uri).unwrap_or_default();
    let wants = |monitor: &Monitor| {
        query.iter().all(|(name, value)| match name.as_str() {
            "slug" => monitor.slug == *value,
            "tag" => monitor.tags.contains(value),
            _ => true,
        })
    };
    let around = call.surroundings().await?;
    let monitors = call.app.monitors.list(call.project()).await?;
    let monitors: Vec<&Monitor> = monitors
        .iter()
        .map(AsRef::as_ref)
        .filter(|monitor| wants(monitor))
        .collect();
    let states = call.app.monitors.states(&monitors).await?;
    let view = call.view(&around);
    let checks = monitors.iter().zip(&states);
    let checks = checks
        .map(|(monitor, state)| view.of(monitor, state))
        .collect();
    Ok(axum::Json(Checks { checks }).into_response())
}

/// Creates a check, or updates the one that `unique` identifies.
#[utoipa::path(
    post, path = "/api/v3/checks/", operation_id = "create_check", tag = "management",
    security(("api_key" = [])),
    request_body = Option<super::CheckRequest>,
    responses(
        (status = 200, description = "Updated", body = Check),
        (status = 201, description = "Created", body = Check),
        (status = 400, body = ApiError),
        (status = 403, description = "The project has as many checks as its plan allows"),
        Unauthorized, Overload,
    ),
)]
pub(super) async fn create_check(call: &Call<'_>) -> Result<Response, Refusal> {
    let spec = Spec::parse(&call.body).map_err(|problem| Refusal::invalid(&problem))?;
    let channels = call.app.store.channels(call.project()).await?;
    let targets = spec.targets(&channels).map_err(Refusal::bad)?;
    if spec.unique.is_empty() && !call.app.monitors.has_room(call.project()).await? {
        return Err(Refusal::Empty(StatusCode::FORBIDDEN));
    }
    call.charge().await?;
    let make = |monitor: &Monitor, _: bool| {
        Ok::<_, Infallible>(spec.applied_to(monitor, targets.as_ref(), call.version))
    };
    let same = |monitor: &Monitor| spec.means(monitor);
    let same = (!spec.unique.is_empty()).then_some(&same as _);
    let slug = spec.slug.as_deref().filter(|_| spec.knows_by_slug());
    let upserted = call
        .app
        .monitors
        .upsert(call.project(), same, slug, make)
        .await;
    let upserted = upserted.map_err(|error| refusal(error, |never| match never {}))?;
    let status = if upserted.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    call.reply(status, &upserted.found).await
}

/// Shows a check, by its uuid or its unique key.
#[utoipa::path(
    get, path = "/api/v3/checks/{check}", operation_id = "get_check", tag = "management",
    security(("api_key" = [])),
    params(("check" = String, Path, description = "The check's uuid or unique key")),
    responses((status = 200, body = Check), Unauthorized, Overload, ForeignOrMissing),
)]
pub(super) async fn get_check(call: &Call<'_>, check: Ref) -> Result<Response, Refusal> {
    let id = call.resolve(check).await?;
    let found = call.found(id).await?;
    call.charge().await?;
    call.reply(StatusCode::OK, &found).await
}

/// Updates a check: only the given fields.
#[utoipa::path(
    post, path = "/api/v3/checks/{check}", operation_id = "update_check", tag = "management",
    security(("api_key" = [])),
    params(("check" = String, Path, description = "The check's uuid")),
    request_body = Option<super::CheckRequest>,
    responses(
        (status = 200, body = Check),
        (status = 400, body = ApiError),
        Unauthorized, Overload, ForeignOrMissing,
    ),
)]
pub(super) async fn update_check(call: &Call<'_>, id: MonitorId) -> Result<Response, Refusal> {
    let found = call.found(id).await?;
    let spec = Spec::parse(&call.body).map_err(|problem| Refusal::invalid(&problem))?;
    let channels = call.app.store.channels(call.project()).await?;
    let targets = spec.targets(&channels).map_err(Refusal::bad)?;
    call.charge().await?;
    call.change(&found, |monitor, _| {
        let changed = spec.applied_to(monitor, targets.as_ref(), call.version);
        Ok(Edit::to(changed))
    })
    .await
}

/// Deletes a check, and shows it one last time.
#[utoipa::path(
    delete, path = "/api/v3/checks/{check}", operation_id = "delete_check", tag = "management",
    security(("api_key" = [])),
    params(("check" = String, Path, description = "The check's uuid")),
    responses((status = 200, body = Check), Unauthorized, Overload, ForeignOrMissing),
)]
pub(super) async fn delete_check(call: &Call<'_>, id: MonitorId) -> Result<Response, Refusal> {
    let found = call.found(id).await?;
    call.charge().await?;
    let around = call.surroundings().await?;
    let deleted = call.app.monitors.delete(found).await;
    let found = deleted.map_err(|error| match error {
        FindError::NotFound | FindError::Ambiguous => Refusal::not_found(),
        FindError::Store(error) => error.into(),
    })?;
    let check = call.view(&around).of(&found.monitor, &found.state);
    Ok(axum::Json(check.deleted()).into_response())
}

/// Pauses a check.
#[utoipa::path(
    post, path = "/api/v3/checks/{check}/pause", operation_id = "pause_check", tag = "management",
    security(("api_key" = [])),
    params(("check" = String, Path, description = "The check's uuid")),
    responses(
        (status = 200, body = Check),
        (status = 400, body = ApiError),
        Unauthorized, Overload, ForeignOrMissing,
    ),
)]
pub(super) async fn pause_check(call: &Call<'_>, id: MonitorId) -> Result<Response, Refusal> {
    let found = call.found(id).await?;
    call.charge().await?;
    call.change(&found, |_, _| Ok(Edit::event(Event::Pause)))
        .await
}

/// Resumes a paused check.
#[utoipa::path(
    post, path = "/api/v3/checks/{check}/resume", operation_id = "resume_check", tag = "management",
    security(("api_key" = [])),
    params(("check" = String, Path, description = "The check's uuid")),
    responses(
        (status = 200, body = Check),
        (status = 400, body = ApiError),
        (status = 409, description = "It is not paused", body = String, content_type = "text/plain"),
        Unauthorized, Overload, ForeignOrMissing,
    ),
)]
pub(super) async fn resume_check(call: &Call<'_>, id: MonitorId) -> Result<Response, Refusal> {
    let not_paused = || Refusal::Text(StatusCode::CONFLICT, "check is not paused");
    let found = call.found(id).await?;
    if found.state.status != Status::Paused {
        return Err(not_paused());
    }
    call.charge().await?;
    call.change(&found, |_, state| match state.status {
        Status::Paused => Ok(Edit::event(Event::Resume)),
        _ => Err(not_paused()),
    })
    .await
}

/// Lists the logged pings of a check.
#[utoipa::path(
    get, path = "/api/v3/checks/{check}/pings/", operation_id = "list_pings", tag = "management",
    security(("api_key" = [])),
    params(("check" = String, Path, description = "The check's uuid")),
    responses((status = 200, body = Pings), Unauthorized, Overload, ForeignOrMissing),
)]
pub(super) async fn list_pings(call: &Call<'_>, id: MonitorId) -> Result<Response, Refusal> {
    call.found(id).await?;
    call.charge().await?;
    let pings = call.app.store.pings(id).await?;
    let pings = entries(id, &pings, &call.site, call.version);
    Ok(axum::Json(Pings { pings }).into_response())
}

/// Returns the body of a logged ping, as it was sent.
#[utoipa::path(
    get, path = "/api/v3/checks/{check}/pings/{n}/body", operation_id = "get_ping_body", tag = "management",
    security(("api_key" = [])),
    params(
        ("check" = String, Path, description = "The check's uuid"),
        ("n" = u64, Path, description = "The ping's number"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 403, description = "It belongs to another project"),
        (status = 404, description = "No such ping, or it has no body or is no longer in the log", body = ApiError),
        Unauthorized, Overload,
    ),
)]
pub(super) async fn get_ping_body(
    call: &Call<'_>,
    id: MonitorId,
    n: u64,
) -> Result<Response, Refusal> {
    call.found(id).await?;
    call.charge().await?;
    let pings = call.app.store.pings(id).await?;
    let ping = pings.into_iter().find(|ping| ping.n == n);
    let body = ping.map(|ping| ping.body).filter(|body| !body.is_empty());
    let body = body.ok_or_else(Refusal::not_found)?;
    let headers = [(header::CONTENT_TYPE, "text/plain")];
    Ok((headers, Body::from(body)).into_response())
}

/// Lists the status changes of a check.
#[utoipa::path(
    get, path = "/api/v3/checks/{check}/flips/", operation_id = "list_flips", tag = "management",
    security(("api_key" = [])),
    params(
        ("check" = String, Path, description = "The check's uuid or unique key"),
        ("seconds" = Option<i64>, Query, description = "Only flips at most this many seconds old"),
        ("start" = Option<i64>, Query, description = "Only flips from this time on, in epoch seconds"),
        ("end" = Option<i64>, Query, description = "Only flips before this time, in epoch seconds"),
    ),
    responses(
        (status = 200, body = Flips),
        (status = 400, description = "A parameter is not a number, or out of range"),
        Unauthorized, Overload, ForeignOrMissing,
    ),
)]
pub(super) async fn list_flips(call: &Call<'_>, check: Ref) -> Result<Response, Refusal> {
    let id = call.resolve(check).await?;
    call.found(id).await?;
    let now = call.app.store.world().now();
    let (from, to) =
        span(&call.query, now).map_err(|()| Refusal::Empty(StatusCode::BAD_REQUEST))?;
    call.charge().await?;
    let flips = call
        .app
        .store
        .flips_between(id, from, to, MAX_FLIPS)
        .await?;
    let flips = flips.iter().map(FlipEntry::from).collect();
    Ok(axum::Json(Flips { flips }).into_response())
}

/// Lists the channels of a project.
#[utoipa::path(
    get, path = "/api/v3/channels/", operation_id = "list_channel_entries", tag = "management",
    security(("api_key" = [])),
    responses((status = 200, body = ChannelEntries), Unauthorized, Overload),
)]
pub(super) async fn list_channels(call: &Call<'_>) -> Result<Response, Refusal> {
    call.charge().await?;
    let mut channels = call.app.store.channels(call.project()).await?;
    channels.sort_by_key(|channel| (channel.created, channel.id));
    let channels = channels
        .into_iter()
        .map(|channel| ChannelEntry {
            id: channel.id.0,
            kind: channel.via.name().to_owned(),
            name: channel.name,
        })
        .collect();
    Ok(axum::Json(ChannelEntries { channels }).into_response())
}

/// Lists the URLs of a project's badges, by tag.
#[utoipa::path(
    get, path = "/api/v3/badges/", operation_id = "list_badges", tag = "management",
    security(("api_key" = [])),
    responses((status = 200, body = Badges), Unauthorized, Overload),
)]
pub(super) async fn list_badges(call: &Call<'_>) -> Result<Response, Refusal> {
    call.charge().await?;
    let project = call.app.accounts.project(call.project()).await?;
    let monitors = call.app.monitors.list(call.project()).await?;
    let tags = monitors.iter().flat_map(|monitor| monitor.tags.clone());
    let badges = tags
        .chain(["*".to_owned()])
        .collect::<BTreeSet<String>>()
        .into_iter()
        .map(|tag| {
            let urls = BadgeUrls::of(&project, &tag, &call.site);
            (tag, urls)
        })
        .collect();
    Ok(axum::Json(Badges { badges }).into_response())
}

/// Checks whether the database answers.
#[utoipa::path(
    get, path = "/api/v3/status/", operation_id = "get_status", tag = "management",
    responses((status = 200, body = String, content_type = "text/plain"), Overload),
)]
pub(super) async fn status(app: &App) -> Result<Response, Refusal> {
    app.store.pulse().await?;
    Ok("OK".into_response())
}

/// Shows the operator's metrics. Requires the metrics key.
#[utoipa::path(
    get, path = "/api/v3/metrics/", operation_id = "get_metrics", tag = "management",
    params(("X-Metrics-Key" = String, Header, description = "The metrics key")),
    responses((status = 200, body = OperatorMetrics), (status = 403, description = "Not the metrics key"), Overload),
)]
pub(super) async fn metrics(app: &App, headers: &HeaderMap) -> Result<Response, Refusal> {
    let given = headers
        .get("x-metrics-key")
        .and_then(|key| key.to_str().ok());
    let is_right = match (&app.config.metrics_key, given) {
        (Some(key), Some(given)) => same(&hash(key.expose_secret()), &hash(given)),
        _ => false,
    };
    if !is_right {
        return Err(Refusal::Empty(StatusCode::FORBIDDEN));
    }
    let now = app.store.world().now();
    let mut open_alerts = 0;
    for project in app.store.projects().await? {
        let store = &app.store;
        let alerts = store
            .recent_alerts(project.id, now, METRICS_DAYS, METRICS_ALERTS)
            .await?;
        open_alerts += alerts.iter().filter(|alert| alert.is_open()).count();
    }
    let pulse = app.store.pulse_state().await?;
    let metrics = OperatorMetrics {
        ts: now.secs(),
        max_ping_id: pulse.map_or(0, |state| state.pings),
        max_notification_id: 0,
        num_unprocessed_flips: open_alerts,
    };
    Ok(axum::Json(metrics).into_response())
}

/// Accepts callbacks about deliveries, and ignores them.
#[utoipa::path(
    post, path = "/api/v3/notifications/{id}/status", operation_id = "post_notification_status", tag = "management",
    params(("id" = String, Path, description = "A uuid")),
    responses((status = 200, description = "Always"), (status = 404, body = ApiError)),
)]
#[expect(dead_code, reason = "only describes `callback`")]
pub fn notification_status() {}

/// Accepts bounces, and ignores them.
#[utoipa::path(
    post, path = "/api/v3/bounces/", operation_id = "post_bounce", tag = "management",
    responses((status = 200, description = "Always")),
)]
#[expect(dead_code, reason = "only describes `callback`")]
pub fn bounce() {}

/// Answers callbacks. No channel of Thrum has any, but a 200 keeps the sender from retrying.
pub(super) fn callback() -> Response {
    StatusCode::OK.into_response()
}
