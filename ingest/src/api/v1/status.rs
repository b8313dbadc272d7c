//! `/health` and `/v1/status`: whether Thrum is alive, and whether the whole pipeline works.

use super::channels::Failing;
use super::regions::RegionsView;
use crate::app::App;
use crate::http::Reader;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thrum_schema::zone::Data;
use thrum_schema::{ChannelId, ProjectId, UnixMs};
use thrum_store::StoreError;
use utoipa::ToSchema;

/// Whether the whole pipeline works.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeepStatus {
    /// `ok` or `failing`.
    status: &'static str,
    /// What is failing.
    reasons: Vec<String>,
    checked_at: Option<String>,
    /// The last step of the system's clock, if it was in the last 24 hours.
    clock_step: Option<ClockStepView>,
    /// The channels of the project whose last delivery failed; only with an API key that may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_channels: Option<Vec<FailingChannel>>,
    time_zones: TimeZonesView,
    /// The regions, in a deployment in two.
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<RegionsView>,
}

/// A channel whose last delivery failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailingChannel {
    #[schema(value_type = String)]
    id: ChannelId,
    name: String,
    failing: Failing,
}

/// The time zone data that schedules use.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimeZonesView {
    /// The release of tzdata, such as `2026f`; null if the directory does not state it.
    release: Option<String>,
    /// The directory it is read from; null if it is built in.
    directory: Option<String>,
    /// What to do, if it may be outdated.
    warning: Option<String>,
}

impl TimeZonesView {
    fn at(now: UnixMs) -> Self {
        let data = Data::in_use();
        let directory = data.directory.as_ref();
        Self {
            release: data.release.as_ref().map(ToString::to_string),
            directory: directory.map(|path| path.display().to_string()),
            warning: data.warning(now),
        }
    }
}

/// A step of the system's clock.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClockStepView {
    /// When Thrum noticed it, by the new time.
    at: String,
    /// How far the clock was set forward, in milliseconds; negative if it was set back.
    by_ms: i64,
}

/// Reports whether Thrum is alive. Needs no key and does no I/O.
///
/// In a deployment in two regions, it reports whether this region reaches the table of the active one, for the health
/// checks of DNS: 503 if it does not. It reads the table at most every two seconds.
#[utoipa::path(
    get, path = "/health", operation_id = "get_health", tag = "health",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 503, body = String, content_type = "text/plain"),
    ),
)]
pub async fn health(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.health.reaches().await {
        (StatusCode::OK, "OK")
    } else {
        let why = "this region does not reach the table of the active one";
        (StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

/// Checks the whole pipeline: 200 if it works, or 503 with reasons.
///
/// Thrum writes and reads the table, sends a probe along the path of an alert, and checks how far
/// behind the timer sweep is. Results are reused for ten seconds. With an API key that may read,
/// the response also lists the project's channels whose last delivery failed; they do not change the
/// status.
#[utoipa::path(
    get, path = "/v1/status", operation_id = "get_deep_status", tag = "health",
    responses((status = 200, body = DeepStatus), (status = 503, body = DeepStatus)),
)]
pub async fn status(State(app): State<App>, mut parts: Parts) -> Response {
    let reader = Reader::from_request_parts(&mut parts, &app).await.ok();
    let (checked, failing_channels) = futures::join!(app.health.checked(), async {
        let project = reader?.project;
        failing(&app, project).await.ok()
    });
    let (code, status) = if checked.reasons.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "failing")
    };
    let body = DeepStatus {
        status,
        reasons: checked.reasons,
        checked_at: Some(checked.at.rfc3339()),
        clock_step: checked.clock_step.map(|step| ClockStepView {
            at: step.at.rfc3339(),
            by_ms: step.by_ms,
        }),
        failing_channels,
        time_zones: TimeZonesView::at(checked.at),
        regions: checked.regions.as_ref().map(RegionsView::of),
    };
    (
        code,
        [(header::CACHE_CONTROL, "no-store")],
        axum::Json(body),
    )
        .into_response()
}

/// The channels of a project whose last delivery failed. 0.5 RU, and 1 RU for each of them.
async fn failing(app: &App, project: ProjectId) -> Result<Vec<FailingChannel>, StoreError> {
    let mut channels = Vec::new();
    for health in app.store.failing_channels(project).await? {
        // It may be deleted.
        if let Some(channel) = app.store.channel(project, health.channel).await? {
            channels.push(FailingChannel {
                id: channel.id,
                name: channel.name,
                failing: Failing::from(&health),
            });
        }
    }
    Ok(channels)
}
