//! `/v1/alerts`: alerts, and how their deliveries went.

mod view;

pub use view::{AlertView, DeliveryView};

use super::signal_params::check_limit;
use crate::app::App;
use crate::http::{Edit, Missing, Named, Overload, Params, Problem, Problems, Read, Reader};
use axum::extract::State;
use axum::http::StatusCode;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use thrum_schema::ProjectId;
use thrum_schema::alert::{Alert, AlertState};
use thrum_schema::delivery::{CLAIM_MS, Delivery, DeliveryState};
use thrum_schema::error::Invalid;
use thrum_schema::id::{AlertId, ChannelId};
use thrum_store::Claim;
use thrum_store::StoreError;
use utoipa::ToSchema;
use view::view;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;
/// For how many alerts to read the deliveries at a time.
const CONCURRENCY: usize = 16;

/// How many alerts to search for those that match a filter.
const MAX_SEARCHED: usize = 1_000;

/// Which alerts to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertParams {
    /// The maximum number of alerts to return, 1 to 200; 50 if absent.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// Only alerts with a delivery through this channel.
    pub channel: Option<String>,
    /// Only alerts in this state.
    pub state: Option<AlertState>,
    /// The `next_cursor` of the part before: only older alerts.
    pub cursor: Option<String>,
}

/// Alerts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alerts {
    pub alerts: Vec<AlertView>,
    /// The cursor of the next part, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The deliveries that are retried.
#[derive(Debug, Serialize, ToSchema)]
pub struct Redelivered {
    #[schema(value_type = String)]
    alert_id: AlertId,
    #[schema(value_type = Vec<String>)]
    channels: Vec<ChannelId>,
}

/// Lists the newest alerts with their deliveries.
#[utoipa::path(
    get, path = "/v1/alerts", operation_id = "list_alerts", tag = "alerts",
    params(AlertParams),
    responses((status = 200, body = Alerts), Problems, Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
    Params(params): Params<AlertParams>,
) -> Result<axum::Json<Alerts>, Problem> {
    let limit = check_limit(params.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let state = params.state;
    reader.caller.charge(&app).await?;
    let now = app.store.world().now();
    let before = match &params.cursor {
        None => None,
        Some(cursor) => Some(cursor.parse::<AlertId>().map_err(|_| {
            Invalid::new("cursor", "must be the next_cursor of an earlier response")
        })?),
    };
    let filtered = state.is_some() || params.channel.is_some();
    // One more shows that there are more.
    let most = if filtered { MAX_SEARCHED } else { limit + 1 };
    let mut alerts = app
        .store
        .alerts_before(reader.project, before, now, most)
        .await?;
    let searched = alerts
        .last()
        .map(|alert| alert.id)
        .filter(|_| alerts.len() == most);
    alerts.retain(|alert| state.is_none_or(|state| alert.state() == state));
    let (store, reader, channel) = (&app.store, &reader, &params.channel);
    let mut alerts: Vec<AlertView> = stream::iter(alerts)
        .map(|alert| async move {
            let deliveries = store.deliveries(alert.id).await?;
            Ok::<_, StoreError>(view(&alert, &deliveries, reader.sees_secrets))
        })
        .buffered(CONCURRENCY)
        .try_filter(|alert| {
            let through = channel.as_ref().is_none_or(|channel| {
                let mut channels = alert.deliveries.iter().filter_map(|d| d.channel);
                channels.any(|id| id.to_string() == *channel)
            });
            std::future::ready(through)
        })
        .take(limit + 1)
        .try_collect()
        .await?;
    let more = alerts.len() > limit;
    alerts.truncate(limit);
    let last = alerts.last().filter(|_| more).map(|alert| alert.id);
    Ok(axum::Json(Alerts {
        alerts,
        // With a filter, the next part begins where the search ended.
        next_cursor: last
            .or(searched.filter(|_| filtered))
            .map(|id| id.to_string()),
    }))
}

impl Named for Alert {
    async fn find(app: &App, project: ProjectId, id: &str) -> Result<Self, Problem> {
        let not_found = || Problem::not_found("alert");
        let id = id.parse().map_err(|_| not_found())?;
        app.store.alert(project, id).await?.ok_or_else(not_found)
    }
}

/// Shows an alert with its deliveries. Messages and the log name its ID.
#[utoipa::path(
    get, path = "/v1/alerts/{id}", operation_id = "get_alert", tag = "alerts",
    params(("id" = String, Path, description = "The alert's ID")),
    responses((status = 200, body = AlertView), Problems, Overload, Missing),
)]
pub async fn get(
    State(app): State<App>,
    Read { reader, it: alert }: Read<Alert>,
) -> Result<axum::Json<AlertView>, Problem> {
    let deliveries = app.store.deliveries(alert.id).await?;
    Ok(axum::Json(view(&alert, &deliveries, reader.sees_secrets)))
}

/// Retries the dead deliveries of an alert: at once, and then for as long as the first time.
#[utoipa::path(
    post, path = "/v1/alerts/{id}/redeliver", operation_id = "redeliver_alert", tag = "alerts",
    params(("id" = String, Path, description = "The alert's ID")),
    responses((status = 202, body = Redelivered), Problems, Overload, Missing),
)]
pub async fn redeliver(
    State(app): State<App>,
    Edit { writer, it: alert }: Edit<Alert>,
) -> Result<(StatusCode, axum::Json<Redelivered>), Problem> {
    let (project, id) = (alert.project, alert.id);
    let none_dead = || {
        Problem::conflict(
            "no delivery of this alert is dead; Thrum retries unfinished deliveries by itself",
        )
    };
    let deliveries = app.store.deliveries(id).await?;
    let is_dead = |delivery: &&Delivery| delivery.state == Some(DeliveryState::Dead);
    let dead = deliveries.iter().filter(is_dead);
    let dead: Vec<ChannelId> = dead.filter_map(|delivery| delivery.channel).collect();
    if dead.is_empty() {
        return Err(none_dead());
    }
    writer.caller.charge(&app).await?;
    let now = app.store.world().now();
    let mut channels = Vec::new();
    for channel in dead {
        let claim = Claim {
            project,
            alert: id,
            channel,
            token: app.store.world().uuid_v4(),
            until: now + CLAIM_MS,
        };
        match app.store.redeliver(&claim, now).await {
            Ok(()) => channels.push(channel),
            // Write conflict: another request has already retried it.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if channels.is_empty() {
        return Err(none_dead());
    }
    let redelivered = Redelivered {
        alert_id: id,
        channels,
    };
    Ok((StatusCode::ACCEPTED, axum::Json(redelivered)))
}
