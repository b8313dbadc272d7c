//! `/v1/alerts`: what was told, to whom, and what went wrong with it.

use crate::app::App;
use crate::auth::{Reader, Writer};
use crate::body::PathId;
use crate::monitors::outage_view;
use crate::problem::Problem;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use thrum_schema::alert::{ALERT_TTL_S, Alert};
use thrum_schema::delivery::{CLAIM_MS, Delivery, DeliveryState};
use thrum_schema::id::AlertId;
use thrum_schema::store::Claim;
use thrum_schema::{StoreError, UnixMs};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;
/// How many alerts' deliveries are read at a time.
const CONCURRENCY: usize = 16;

/// What a client may ask for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    limit: Option<usize>,
}

pub async fn list(
    State(app): State<App>,
    reader: Reader,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<axum::Json<Value>, Problem> {
    let project = reader.project;
    let Query(params) = params.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "limit must be 1 to {MAX_LIMIT}"
        )));
    }
    let now = app.store.world().now();
    let days = ALERT_TTL_S / 86_400 + 1;
    let alerts = app.store.recent_alerts(project, now, days, limit).await?;
    let store = &app.store;
    let views: Vec<Value> = stream::iter(alerts)
        .map(|alert| async move {
            let deliveries = store.deliveries(alert.id).await?;
            let mut view = view(&alert, &deliveries);
            if let (false, Some(monitor)) = (reader.sees_secrets, view["monitor"].as_object_mut()) {
                monitor.remove("uuid");
            }
            Ok::<_, StoreError>(view)
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(axum::Json(json!({ "alerts": views })))
}

/// Brings an alert's dead deliveries back: each is tried again at once, for as long as the first time.
pub async fn redeliver(
    State(app): State<App>,
    Writer(project): Writer,
    PathId(id): PathId,
) -> Result<(StatusCode, axum::Json<Value>), Problem> {
    let not_found = || Problem::not_found("alert");
    let id: AlertId = id.parse().map_err(|_| not_found())?;
    app.store.alert(project, id).await?.ok_or_else(not_found)?;
    let now = app.store.world().now();
    let mut channels = Vec::new();
    for delivery in app.store.deliveries(id).await? {
        let (Some(DeliveryState::Dead), Some(channel)) = (delivery.state, delivery.channel) else {
            continue;
        };
        let claim = Claim {
            project,
            alert: id,
            channel,
            token: app.store.world().uuid_v4(),
            until: now + CLAIM_MS,
        };
        match app.store.redeliver(&claim, now).await {
            Ok(()) => channels.push(channel),
            // Another request was quicker.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if channels.is_empty() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "no delivery of this alert is dead; those that are under way are retried by themselves",
        ));
    }
    let body = json!({ "alert_id": id, "channels": channels });
    Ok((StatusCode::ACCEPTED, axum::Json(body)))
}

fn view(alert: &Alert, deliveries: &[Delivery]) -> Value {
    let deliveries: Vec<Value> = deliveries
        .iter()
        .map(|delivery| {
            let retry = delivery.state == Some(DeliveryState::Retry);
            json!({
                "channel": delivery.channel,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "sent_at": delivery.sent.filter(|at| at.0 > 0).map(UnixMs::rfc3339),
                "next_attempt_at": delivery.until.filter(|_| retry).map(UnixMs::rfc3339),
                "error": delivery.error,
                "note": delivery.note.as_ref().filter(|note| !note.is_empty()),
                "group": delivery.group,
            })
        })
        .collect();
    json!({
        "id": alert.id,
        "type": alert.what,
        "state": alert.state(),
        "created_at": UnixMs(alert.id.created_ms()).rfc3339(),
        "flip_at": alert.flip.as_ref().map(|flip| flip.at.rfc3339()),
        "reason": alert.flip.as_ref().map(|flip| flip.reason),
        "deadline": alert.flip.as_ref().and_then(|flip| flip.deadline).map(UnixMs::rfc3339),
        "outage": alert.outage().map(outage_view),
        "monitor": alert.monitor,
        "deliveries": deliveries,
    })
}
