//! Alarms of CloudWatch, which reach Thrum through an SNS topic.

use super::ping::{Refused, incoming};
use crate::app::App;
use crate::http::Problem;
use crate::services::monitors::{By, Incoming};
use crate::services::sns::{Envelope, Kind, SnsError};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use thrum_schema::PingKind;
use thrum_schema::monitor::slugify;
use thrum_schema::schedule::MAX_PERIOD_S;
use thrum_store::Rules;

/// Longest text of an alarm that is kept, in characters.
const MAX_TEXT: usize = 2_000;

/// What CloudWatch publishes when an alarm changes.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Alarm {
    alarm_name: String,
    #[serde(default)]
    alarm_description: Option<String>,
    new_state_value: String,
    #[serde(default)]
    new_state_reason: String,
    #[serde(default)]
    region: String,
}

/// `POST /hooks/sns/{ping key}`: confirms the subscription of a topic, and records alarms of
/// CloudWatch. An alarm is a failure of the monitor that has its name, and OK a success. Monitors are
/// created when needed, and never miss a deadline.
pub async fn alarms(
    State(app): State<App>,
    Path(key): Path<String>,
    request: Request,
) -> Result<axum::Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let refuse = |refused: Refused| Problem::new(refused.status(), refused.to_string());
    let project = app.accounts.project_of_ping_key(&key).await?;
    let project =
        project.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such ping key"))?;
    let (bytes, _room) = crate::http::body::whole(body).await?;
    let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request(format!("the body is not a message of SNS: {error}"))
    })?;
    let now = app.store.world().now();
    app.sns.verify(&envelope, now).await?;
    match envelope.kind {
        Kind::Notification => {}
        Kind::SubscriptionConfirmation => {
            app.sns.confirm(&envelope).await?;
            tracing::warn!(%project, topic = envelope.topic_arn, "confirmed the subscription of an SNS topic");
            return Ok(axum::Json(json!({ "confirmed": envelope.topic_arn })));
        }
        Kind::UnsubscribeConfirmation => return Ok(axum::Json(json!({ "recorded": 0 }))),
    }
    let Ok(alarm) = serde_json::from_str::<Alarm>(&envelope.message) else {
        // SNS would only send it again.
        let error = "Message is not an alarm of CloudWatch";
        return Ok(axum::Json(json!({ "recorded": 0, "errors": [error] })));
    };
    let kind = match &*alarm.new_state_value {
        "ALARM" => PingKind::Fail,
        "OK" => PingKind::Success,
        // Too few data: neither good nor bad.
        _ => PingKind::Log,
    };
    let slug = slugify(&alarm.alarm_name.replace([':', '.', '/'], "-"));
    let ping = Incoming {
        rules: Rules {
            period_s: Some(MAX_PERIOD_S),
            grace_s: None,
        },
        ..incoming(&app, &parts, kind, alarm.text().into_bytes())
    };
    let recorded = app
        .monitors
        .record_named(project, By::Slug, &slug, true, ping);
    recorded.await.map_err(Refused::from).map_err(refuse)?;
    Ok(axum::Json(json!({ "recorded": 1 })))
}

impl Alarm {
    fn text(&self) -> String {
        let description = self.alarm_description.as_deref().unwrap_or_default();
        let region = match &*self.region {
            "" => String::new(),
            region => format!(" ({region})"),
        };
        let texts = [&*self.new_state_reason, description];
        let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        let state = format!("{} is {}{region}", self.alarm_name, self.new_state_value);
        let text = format!("{state}\n{}", texts.join("\n"));
        text.chars().take(MAX_TEXT).collect()
    }
}

impl From<SnsError> for Problem {
    fn from(error: SnsError) -> Self {
        let status = match error {
            SnsError::Forged(_) | SnsError::Topic => StatusCode::FORBIDDEN,
            SnsError::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
