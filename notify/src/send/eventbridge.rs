//! The user's own bus of EventBridge. AWS, EventBridge API reference, `PutEvents`.

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
/// Codes of AWS for what no retry can fix.
const PERMANENT: [&str; 4] = [
    "InvalidArgument",
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

/// The detail of an event: what a webhook gets as `data`, with the ID, the text and the time. A group
/// that is too large goes without descriptions and output.
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
        if let Some(change) = change.as_object_mut() {
            change.remove("output");
        }
        if let Some(monitor) = change["monitor"].as_object_mut() {
            monitor.remove("description");
        }
    }
    detail.to_string()
}
