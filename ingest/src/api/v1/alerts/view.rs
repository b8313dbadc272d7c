//! Alerts in responses of `/v1`.

use super::super::monitors::OutageView;
use serde::Serialize;
use thrum_schema::alert::{Alert, AlertState};
use thrum_schema::delivery::{Delivery, DeliveryState};
use thrum_schema::flip::Reason;
use thrum_schema::id::{AlertId, ChannelId, MonitorId};
use thrum_schema::monitor::unique_key;
use thrum_schema::signal::Verdict;
use thrum_schema::signal::watch::Change;
use thrum_schema::{TraceId, UnixMs};
use utoipa::ToSchema;

/// An alert with its deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertView {
    #[schema(value_type = String)]
    pub id: AlertId,
    /// `monitor.down`, `monitor.up`, `monitor.reminder`, `signal.changed`, `channel.test` or
    /// `channel.limited`.
    #[serde(rename = "type")]
    pub what: &'static str,
    pub state: AlertState,
    pub created_at: String,
    pub flip_at: Option<String>,
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// What was not as expected in the run that took it down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub deadline: Option<String>,
    pub outage: Option<OutageView>,
    pub monitor: Option<SubjectView>,
    /// The change of a signal that it reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<ChangeView>,
    /// The trace ID of the request, the run of the schedule, or the batch of the stream or a queue that caused it. The
    /// same ID is in Thrum's log and in AWS X-Ray.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub trace: Option<TraceId>,
    pub deliveries: Vec<DeliveryView>,
}

/// The monitor that an alert is about, as it was at the time.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubjectView {
    /// Hidden from read-only keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub uuid: Option<MonitorId>,
    /// Identifies it for read-only keys.
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
    pub from: Verdict,
    pub to: Verdict,
    /// When the bar with the new signal opened.
    pub bar: String,
    /// Whether a correction of past bars undid a change that was notified before.
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

/// The delivery of an alert through a channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    #[schema(value_type = Option<String>)]
    pub channel: Option<ChannelId>,
    /// `waiting`, `gathering`, `claimed`, `retry`, `sent`, `suppressed` or `dead`.
    #[schema(value_type = Option<String>)]
    pub state: Option<DeliveryState>,
    pub attempts: u32,
    /// When the first attempt started, or the redelivery that a user requested. Null before that,
    /// and for alerts that were sent in a group.
    pub first_attempt_at: Option<String>,
    pub sent_at: Option<String>,
    pub next_attempt_at: Option<String>,
    pub error: Option<String>,
    pub note: Option<String>,
    /// The alert that it was grouped into.
    #[schema(value_type = Option<String>)]
    pub group: Option<AlertId>,
}

/// An alert with its deliveries. Read-only keys do not see uuids.
pub fn view(alert: &Alert, deliveries: &[Delivery], sees_secrets: bool) -> AlertView {
    let flip = alert.flip.as_ref();
    AlertView {
        id: alert.id,
        what: alert.what.as_str(),
        state: alert.state(),
        created_at: UnixMs(alert.id.created_ms()).rfc3339(),
        flip_at: flip.map(|flip| flip.at.rfc3339()),
        reason: flip.map(|flip| flip.reason),
        why: flip.and_then(|flip| flip.why.clone()),
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
        trace: alert.trace(),
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
            first_attempt_at: delivery.first_attempt().map(UnixMs::rfc3339),
            sent_at: sent.map(UnixMs::rfc3339),
            next_attempt_at: next.map(UnixMs::rfc3339),
            error: delivery.error.clone(),
            note: delivery.note.clone().filter(|note| !note.is_empty()),
            group: delivery.group,
        }
    }
}
