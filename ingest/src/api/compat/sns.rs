//! What reaches Thrum through an SNS topic: CloudWatch alarms, and e-mails that SES received.

use super::ping::{Refused, incoming};
use crate::app::App;
use crate::http::Problem;
use crate::services::monitors::{By, Incoming, Mail, RecordError};
use crate::services::sns::{Envelope, Kind, SnsError};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use thrum_schema::monitor::slugify;
use thrum_schema::schedule::MAX_PERIOD_S;
use thrum_schema::{PingKind, ProjectId, UnixMs};
use thrum_store::Rules;

/// Most recipients of an e-mail that are looked up.
const MAX_RECIPIENTS: usize = 50;
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
    /// Such as `2026-11-28T10:00:00.000+0000`.
    #[serde(default)]
    state_change_time: String,
}

/// What SES publishes about an e-mail that it received.
/// <https://docs.aws.amazon.com/ses/latest/dg/receiving-email-notifications-contents.html>
#[derive(Debug, Deserialize)]
struct Received {
    mail: ReceivedMail,
    receipt: Receipt,
    /// The whole message, up to 150 kB.
    content: String,
}

#[derive(Debug, Deserialize)]
struct ReceivedMail {
    source: String,
}

#[derive(Debug, Deserialize)]
struct Receipt {
    recipients: Vec<String>,
    #[serde(default)]
    action: Action,
}

#[derive(Debug, Default, Deserialize)]
struct Action {
    #[serde(default)]
    encoding: String,
}

/// `POST /hooks/sns/{ping key}`: confirms the subscription of a topic, and records what it sends.
///
/// The monitor's slug comes from the alarm's name. `ALARM` is a failure and `OK` is a success. Thrum
/// creates monitors when needed; they never miss a deadline. An e-mail is a ping of the monitor to which
/// its recipient belongs.
pub async fn messages(
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
        Problem::bad_request(format!("the body is not an SNS message: {error}"))
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
    if let Ok(received) = serde_json::from_str::<Received>(&envelope.message) {
        return received.record(&app, project).await;
    }
    let Ok(alarm) = serde_json::from_str::<Alarm>(&envelope.message) else {
        // SNS would only send it again.
        let error = "Message is neither a CloudWatch alarm nor an e-mail from SES";
        return Ok(axum::Json(json!({ "recorded": 0, "errors": [error] })));
    };
    let kind = match &*alarm.new_state_value {
        "ALARM" => PingKind::Fail,
        "OK" => PingKind::Success,
        // Too few data: neither good nor bad.
        _ => PingKind::Log,
    };
    let slug = slugify(&alarm.alarm_name.replace([':', '.', '/'], "-"));
    // SNS does not keep the order: what an alarm was before must not replace what it is now.
    let changed = alarm.changed(now);
    if kind != PingKind::Log
        && let Some(id) = app
            .monitors
            .named(project, By::Slug, &slug)
            .await
            .map_err(Refused::from)
            .map_err(refuse)?
        && let Some(found) = app.store.snapshot(id).await?
        && found.state.seen.is_some_and(|seen| seen >= changed)
    {
        let error = "a later change of this alarm is recorded already";
        return Ok(axum::Json(json!({ "recorded": 0, "errors": [error] })));
    }
    let mut ping = Incoming {
        rules: Rules {
            period_s: Some(MAX_PERIOD_S),
            grace_s: None,
        },
        ..incoming(&app, &parts, kind, alarm.text().into_bytes())
    };
    ping.ping.at = changed;
    let recorded = app
        .monitors
        .record_named(project, By::Slug, &slug, true, ping);
    recorded.await.map_err(Refused::from).map_err(refuse)?;
    Ok(axum::Json(json!({ "recorded": 1 })))
}

impl Received {
    /// Records it for each recipient that belongs to a monitor of `project`.
    async fn record(self, app: &App, project: ProjectId) -> Result<axum::Json<Value>, Problem> {
        let raw = match self.receipt.action.encoding.eq_ignore_ascii_case("base64") {
            true => BASE64_STANDARD
                .decode(&self.content)
                .map_err(|_| Problem::bad_request("content is not base64"))?,
            false => self.content.into_bytes(),
        };
        let mail = Mail {
            from: &self.mail.source,
            peer: None,
            raw: &raw,
        };
        let (mut recorded, mut errors) = (0, Vec::new());
        for address in self.receipt.recipients.iter().take(MAX_RECIPIENTS) {
            let done = async {
                let found = app.monitors.mailbox(address).await?;
                let to = found.ok_or(RecordError::NotFound)?;
                let located = app.store.locate(to).await?;
                if located.is_none_or(|located| located.project != project) {
                    return Err(RecordError::NotFound);
                }
                app.monitors.record_mail(to, mail).await
            };
            match done.await {
                Ok(_) => recorded += 1,
                Err(RecordError::Store(error)) => return Err(error.into()),
                // SNS sends it again.
                Err(error @ RecordError::TooMany(_)) => {
                    let refused = Refused::from(error);
                    return Err(Problem::new(refused.status(), refused.to_string()));
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        Ok(axum::Json(
            json!({ "recorded": recorded, "errors": errors }),
        ))
    }
}

impl Alarm {
    /// When it changed: not in the future, and at most an hour ago.
    fn changed(&self, now: UnixMs) -> UnixMs {
        let read =
            chrono::DateTime::parse_from_str(&self.state_change_time, "%Y-%m-%dT%H:%M:%S%.f%z");
        let at = read.map_or(now, |at| UnixMs(at.timestamp_millis()));
        at.clamp(now + -3_600_000, now)
    }

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
