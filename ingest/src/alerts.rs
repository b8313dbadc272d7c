//! `/v1/alerts`: what was told, to whom, and what went wrong with it.

use crate::app::App;
use crate::auth::{Reader, Writer};
use crate::body::PathId;
use crate::monitors::OutageView;
use crate::problem::Problem;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use thrum_schema::UnixMs;
use thrum_schema::alert::{ALERT_TTL_S, Alert, AlertState, Reason};
use thrum_schema::delivery::{CLAIM_MS, Delivery, DeliveryState};
use thrum_schema::id::{AlertId, ChannelId, MonitorId};
use thrum_schema::monitor::unique_key;
use thrum_schema::signal::Verdict;
use thrum_schema::signal::watch::Change;
use thrum_store::Claim;
use thrum_store::StoreError;
use utoipa::ToSchema;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;
/// How many alerts' deliveries are read at a time.
const CONCURRENCY: usize = 16;

/// How many alerts are looked through for those that a filter asks for.
const MAX_SEARCHED: usize = 1_000;

/// What a client may ask for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertParams {
    /// At most so many, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// Only those with a delivery through this channel.
    pub channel: Option<String>,
    /// Only those in this state.
    #[param(value_type = Option<StateParam>)]
    pub state: Option<AlertState>,
}

/// How far an alert is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "it describes `AlertState`, which knows no descriptions"
)]
pub enum StateParam {
    Pending,
    Delivered,
    Dead,
}

/// Alerts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alerts {
    pub alerts: Vec<AlertView>,
}

/// What was told, to whom, and what went wrong with it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertView {
    #[schema(value_type = String)]
    pub id: AlertId,
    /// `monitor.down`, `monitor.up`, `monitor.reminder`, `signal.changed`, `channel.test` or `channel.limited`.
    #[serde(rename = "type")]
    pub what: &'static str,
    #[schema(value_type = StateParam)]
    pub state: AlertState,
    pub created_at: String,
    pub flip_at: Option<String>,
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    pub deadline: Option<String>,
    pub outage: Option<OutageView>,
    pub monitor: Option<SubjectView>,
    /// The change of a signal that it tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<ChangeView>,
    pub deliveries: Vec<DeliveryView>,
}

/// The monitor that an alert is about, as it was then.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubjectView {
    /// Not for read-only keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub uuid: Option<MonitorId>,
    /// What read-only clients call it.
    pub unique_key: String,
    pub name: String,
    pub slug: String,
    pub tags: Vec<String>,
}

/// A change of a signal.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeView {
    pub watch: String,
    pub series: String,
    pub timeframe: String,
    pub strategy: String,
    #[schema(value_type = crate::signals::SignalName)]
    pub from: Verdict,
    #[schema(value_type = crate::signals::SignalName)]
    pub to: Verdict,
    /// When the bar opened that it is so at.
    pub bar: String,
    /// A correction of the past undid what people were told of.
    pub undone: bool,
    pub summary: String,
}

impl From<&Change> for ChangeView {
    fn from(change: &Change) -> Self {
        Self {
            watch: change.name.clone(),
            series: change.series.to_string(),
            timeframe: change.timeframe.to_string(),
            strategy: change.strategy.clone(),
            from: change.from,
            to: change.to,
            bar: change.bar.rfc3339(),
            undone: change.undone,
            summary: change.explanation.summary.clone(),
        }
    }
}

/// An alert on its way through a channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    #[schema(value_type = Option<String>)]
    pub channel: Option<ChannelId>,
    /// `waiting`, `gathering`, `claimed`, `retry`, `sent`, `suppressed` or `dead`.
    #[schema(value_type = Option<String>)]
    pub state: Option<DeliveryState>,
    pub attempts: u32,
    pub sent_at: Option<String>,
    pub next_attempt_at: Option<String>,
    pub error: Option<String>,
    pub note: Option<String>,
    /// The group it went out with.
    #[schema(value_type = Option<String>)]
    pub group: Option<AlertId>,
}

/// Deliveries that are tried again.
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
    security(("api_key" = []), ("bearer" = [])), params(AlertParams),
    responses((status = 200, body = Alerts), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
    params: Result<Query<AlertParams>, QueryRejection>,
) -> Result<axum::Json<Alerts>, Problem> {
    let Query(params) = params.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "limit must be 1 to {MAX_LIMIT}"
        )));
    }
    let state = params.state;
    reader.caller.charge(&app).await?;
    let now = app.store.world().now();
    let days = ALERT_TTL_S / 86_400 + 1;
    let filtered = state.is_some() || params.channel.is_some();
    let most = if filtered { MAX_SEARCHED } else { limit };
    let mut alerts = app
        .store
        .recent_alerts(reader.project, now, days, most)
        .await?;
    alerts.retain(|alert| state.is_none_or(|state| alert.state() == state));
    let (store, reader, channel) = (&app.store, &reader, &params.channel);
    let alerts = stream::iter(alerts)
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
        .take(limit)
        .try_collect()
        .await?;
    Ok(axum::Json(Alerts { alerts }))
}

/// Brings an alert's dead deliveries back: each is tried again at once, for as long as the first time.
#[utoipa::path(
    post, path = "/v1/alerts/{id}/redeliver", operation_id = "redeliver_alert", tag = "alerts",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The alert's id")),
    responses((status = 202, body = Redelivered), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn redeliver(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
) -> Result<(StatusCode, axum::Json<Redelivered>), Problem> {
    let project = writer.project;
    let not_found = || Problem::not_found("alert");
    let id: AlertId = id.parse().map_err(|_| not_found())?;
    app.store.alert(project, id).await?.ok_or_else(not_found)?;
    let none_dead = || {
        Problem::new(
            StatusCode::CONFLICT,
            "no delivery of this alert is dead; those that are under way are retried by themselves",
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
            // Another request was quicker.
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

fn view(alert: &Alert, deliveries: &[Delivery], sees_secrets: bool) -> AlertView {
    let flip = alert.flip.as_ref();
    AlertView {
        id: alert.id,
        what: alert.what.as_str(),
        state: alert.state(),
        created_at: UnixMs(alert.id.created_ms()).rfc3339(),
        flip_at: flip.map(|flip| flip.at.rfc3339()),
        reason: flip.map(|flip| flip.reason),
        deadline: flip.and_then(|flip| flip.deadline).map(UnixMs::rfc3339),
        outage: alert.outage().map(Into::into),
        monitor: alert.monitor.as_ref().map(|subject| SubjectView {
            uuid: sees_secrets.then_some(subject.uuid),
            unique_key: unique_key(subject.uuid),
            name: subject.name.clone(),
            slug: subject.slug.clone(),
            tags: subject.tags.clone(),
        }),
        signal: alert.signal.as_deref().map(Into::into),
        deliveries: deliveries.iter().map(Into::into).collect(),
    }
}

impl From<&Delivery> for DeliveryView {
    fn from(delivery: &Delivery) -> Self {
        let retry = delivery.state == Some(DeliveryState::Retry);
        let sent = delivery.sent.filter(|at| at.0 > 0);
        let next = delivery.until.filter(|_| retry);
        Self {
            channel: delivery.channel,
            state: delivery.state,
            attempts: delivery.attempts,
            sent_at: sent.map(UnixMs::rfc3339),
            next_attempt_at: next.map(UnixMs::rfc3339),
            error: delivery.error.clone(),
            note: delivery.note.clone().filter(|note| !note.is_empty()),
            group: delivery.group,
        }
    }
}
