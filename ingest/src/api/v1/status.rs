//! `/health` and `/v1/status`: whether Thrum is alive, and whether the whole pipeline works.

use crate::app::App;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
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
#[utoipa::path(
    get, path = "/health", operation_id = "get_health", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain")),
)]
pub async fn health() -> &'static str {
    "OK"
}

/// Checks the whole pipeline: 200 if it works, or 503 with reasons.
///
/// Thrum writes and reads the table, sends a probe along the path of an alert, and checks how far
/// behind the timer sweep is. Results are reused for ten seconds.
#[utoipa::path(
    get, path = "/v1/status", operation_id = "get_deep_status", tag = "health",
    responses((status = 200, body = DeepStatus), (status = 503, body = DeepStatus)),
)]
pub async fn status(State(app): State<App>) -> Response {
    let checked = app.health.checked().await;
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
    };
    (
        code,
        [(header::CACHE_CONTROL, "no-store")],
        axum::Json(body),
    )
        .into_response()
}
