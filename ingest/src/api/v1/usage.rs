//! `GET /v1/usage`: what the project used, by day and meter.

use super::project::LimitsView;
use crate::app::App;
use crate::http::{Overload, Params, Problem, Problems, Reader};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thrum_store::item::USAGE_TTL_S;
use utoipa::ToSchema;

/// For how many days usage is stored and shown.
const MAX_DAYS: i64 = USAGE_TTL_S / 86_400;

/// Which days to show.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Days {
    /// How many days, including today, 1 to 35; 7 if absent.
    #[param(minimum = 1, maximum = 35)]
    pub days: Option<i64>,
}

/// What the project used.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// The name of its plan.
    pub plan: String,
    pub limits: LimitsView,
    /// Newest first, beginning with today.
    pub days: Vec<Day>,
}

/// What the project used on a day (UTC).
#[derive(Debug, Serialize, ToSchema)]
pub struct Day {
    /// The date, such as `2026-11-21`.
    pub day: String,
    /// Requests with all keys.
    pub requests: u64,
    /// Requests, by key ID.
    pub requests_by_key: BTreeMap<String, u64>,
    /// Sent messages, by kind of channel.
    pub deliveries: BTreeMap<String, u64>,
}

/// Shows what the project used.
#[utoipa::path(
    get, path = "/v1/usage", operation_id = "get_usage", tag = "project",
    params(Days),
    responses((status = 200, body = Usage), Problems, Overload),
)]
pub async fn get(
    State(app): State<App>,
    reader: Reader,
    Params(days): Params<Days>,
) -> Result<axum::Json<Usage>, Problem> {
    let days = days.days.unwrap_or(7);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(Problem::bad_request(format!(
            "days must be between 1 and {MAX_DAYS} (got {days})"
        )));
    }
    reader.caller.charge(&app).await?;
    let project = app.accounts.project(reader.project).await?;
    let now = app.store.world().now();
    let mut shown = Vec::new();
    for day in 0..days {
        let at = now - day * 86_400_000;
        let meters = app.store.usage(reader.project, at).await?;
        let of = |prefix: &str| -> BTreeMap<String, u64> {
            let meters = meters.iter();
            meters
                .filter_map(|(meter, n)| Some((meter.strip_prefix(prefix)?.to_owned(), *n)))
                .collect()
        };
        let requests_by_key = of("requests#");
        shown.push(Day {
            day: at.utc().format("%Y-%m-%d").to_string(),
            requests: requests_by_key.values().sum(),
            requests_by_key,
            deliveries: of("deliveries#"),
        });
    }
    Ok(axum::Json(Usage {
        plan: project.plan.clone(),
        limits: app.config.plans.limits(&project.plan).into(),
        days: shown,
    }))
}
