//! The heartbeat endpoint of the predecessor's clients. docs/compatibility.md §8.

use super::valid::{Valid, check_period_s, template};
use super::{Arrived, record_all, refuse_alone};
use crate::app::App;
use crate::http::{Json, Overload, Problem, Problems, Writer};
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use thrum_schema::monitor::check_heartbeat_name;
use utoipa::ToSchema;

/// A heartbeat of the predecessor's clients. Other fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Legacy {
    /// The monitor's name.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,100}$")]
    host_id: String,
    /// Milliseconds between two heartbeats.
    #[schema(minimum = 1)]
    interval_ms: Option<u64>,
}

/// The response that the predecessor's clients expect.
#[derive(Debug, Serialize, ToSchema)]
pub struct LegacyAnswer {
    message: &'static str,
}

/// Records a heartbeat of the predecessor's clients: `{"hostId", "intervalMs"}`.
///
/// `/v1/hearbeat`, as they misspell it, works too.
#[utoipa::path(
    post, path = "/v1/heartbeat", operation_id = "post_legacy_heartbeat", tag = "heartbeats",
    request_body = Legacy,
    responses((status = 200, body = LegacyAnswer), Problems, Overload),
)]
pub async fn legacy(
    State(app): State<App>,
    Arrived(at): Arrived,
    Writer { project, .. }: Writer,
    method: Method,
    headers: HeaderMap,
    Json(body): Json<Legacy>,
) -> Result<axum::Json<LegacyAnswer>, Problem> {
    check_heartbeat_name("hostId", &body.host_id)?;
    let period_s = match body.interval_ms {
        None => None,
        // A period is in whole seconds, so round up.
        Some(ms) => Some(check_period_s("intervalMs", ms.div_ceil(1000))?),
    };
    let mut incoming = template(at, &method, &headers);
    incoming.rules.period_s = period_s;
    let valid = Valid {
        name: body.host_id,
        incoming,
        warnings: Vec::new(),
    };
    refuse_alone(&record_all(&app, project, vec![(0, Ok(valid))]).await?)?;
    Ok(axum::Json(LegacyAnswer { message: "OK" }))
}
