//! The user's own EventBridge bus. AWS, EventBridge API reference, `PutEvents`.

use super::lazy::{Lazy, MakeClient, unreachable};
use crate::error::SendError;
use crate::message::Message;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::ProvideErrorMetadata;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde_json::{Value, json};

/// The `source` of the events.
const SOURCE: &str = "thrum";
/// Most bytes of an event's detail: an entry has at most 256 kB, with its other fields.
const MAX_DETAIL: usize = 250_000;
/// AWS error codes that a retry can't fix.
const PERMANENT: [&str; 8] = [
    "InvalidAccountIdException",
    "InvalidArgument",
    "MalformedDetail",
    "NotAuthorizedForDetailTypeException",
    "NotAuthorizedForSourceException",
    "NotFoundException",
    "ResourceNotFoundException",
    "ValidationException",
];

/// Puts events on buses.
#[derive(Debug)]
pub struct EventBridge(Lazy<Client>);

impl EventBridge {
    /// Creates the client when it is first needed.
    pub fn lazy(make: MakeClient<Client>) -> Self {
        Self(Lazy::made_by(make))
    }

    /// Puts events through `client`.
    pub fn new(client: Client) -> Self {
        Self(Lazy::of(client))
    }

    /// Puts one event on a bus. Its `id` in the detail is the same at every attempt, so that a rule's
    /// target recognizes a repeated one.
    pub(super) async fn put(
        &self,
        bus: &str,
        id: &str,
        message: &Message,
    ) -> Result<Option<String>, SendError> {
        let event = PutEventsRequestEntry::builder()
            .event_bus_name(bus)
            .source(SOURCE)
            .detail_type(message.json["type"].as_str().unwrap_or_default())
            .detail(detail(id, message));
        let sent = self.0.get().await?.put_events().entries(event.build());
        let answer = sent.send().await.map_err(|error| match error.code() {
            Some(code) => refused(code),
            None => unreachable("EventBridge"),
        })?;
        // The request can succeed and its only entry fail.
        let entry = answer
            .entries
            .and_then(|entries| entries.into_iter().next());
        match entry {
            Some(entry) if entry.error_code.is_none() => {
                Ok(entry.event_id.map(|id| format!("EventBridge event {id}")))
            }
            Some(entry) => Err(refused(entry.error_code().unwrap_or_default())),
            None => Err(SendError::passing("EventBridge answered without an entry")),
        }
    }
}

fn refused(code: &str) -> SendError {
    SendError {
        reason: format!("EventBridge answered {code}"),
        permanent: PERMANENT.contains(&code),
        wait_ms: 0,
    }
}

/// The detail of an event: what a webhook gets as `data`, with the ID, the text and the time. If a group
/// is too large, leaves out descriptions and output.
fn detail(id: &str, message: &Message) -> String {
    let mut detail = message.json["data"].clone();
    if let Value::Object(fields) = &mut detail {
        fields.insert("id".to_owned(), json!(id));
        fields.insert("title".to_owned(), json!(message.subject));
        fields.insert("timestamp".to_owned(), message.json["timestamp"].clone());
    }
    let whole = detail.to_string();
    if whole.len() <= MAX_DETAIL {
        return whole;
    }
    for change in detail["changes"].as_array_mut().into_iter().flatten() {
        for field in ["output", "dependents", "explanation"] {
            change.as_object_mut().map(|change| change.remove(field));
        }
        for field in ["description", "tags"] {
            let monitor = change.get_mut("monitor").and_then(Value::as_object_mut);
            monitor.map(|monitor| monitor.remove(field));
        }
    }
    let mut left_out = 0;
    while detail.to_string().len() > MAX_DETAIL {
        let changes = detail["changes"].as_array_mut();
        if changes.and_then(Vec::pop).is_none() {
            break;
        }
        left_out += 1;
        detail["left_out"] = json!(left_out);
    }
    detail.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::Project;
    use thrum_schema::UnixMs;
    use thrum_schema::alert::AlertKind;
    use thrum_schema::id::AlertId;
    use thrum_schema::notice::{Voice, sample};

    #[test]
    fn the_largest_group_fits() {
        let alerts: Vec<_> = (0..90)
            .map(|n| {
                let mut alert = sample(AlertKind::Down, UnixMs(1_764_324_600_000));
                let monitor = alert.monitor.as_mut().unwrap();
                monitor.name = format!("{n} {}", "監".repeat(98));
                monitor.slug = "x".repeat(100);
                monitor.desc = "視".repeat(1_000);
                monitor.schedule = "\u{1}".repeat(2_000);
                monitor.children = vec!["視".repeat(100); 10];
                alert.output = Some("出".repeat(500));
                alert
            })
            .collect();
        let project = Project::new(thrum_schema::ProjectId::FIRST, "");
        let voice = Voice::new(&project, None);
        let id = AlertId(uuid::Uuid::from_u128(7));
        let detail = detail("x", &Message::of_group(id, &alerts, &voice));
        assert!(detail.len() <= MAX_DETAIL, "{}", detail.len());
        let read: Value = serde_json::from_str(&detail).unwrap();
        let kept = read["changes"].as_array().unwrap().len();
        assert_eq!(read["left_out"], json!(90 - kept));
    }
}
