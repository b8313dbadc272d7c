//! The table's stream: alerts are relayed, removed states are noticed, and what is short of the signals is done.

use crate::Evaluate;
use aws_lambda_events::event::dynamodb::{Event, EventRecord, UserIdentity};
use aws_lambda_events::event::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use futures::FutureExt;
use serde_dynamo::Item;
use std::panic::AssertUnwindSafe;
use thrum_schema::id::{ProjectId, RequestId, WatchId};
use thrum_schema::metrics::Count;
use thrum_schema::signal::track::Head;
use thrum_schema::timer::{self, Timer};
use thrum_schema::work::Work;
use thrum_schema::{Alert, MonitorState, UnixMs};
use thrum_store::StoreError;
use thrum_store::stream::Change;

/// Who removes an item whose TTL has passed.
const TTL_PRINCIPAL: &str = "dynamodb.amazonaws.com";

/// What a record means to us.
#[derive(Debug)]
enum Meaning {
    /// Work for notify.
    Relay(Work),
    /// A state that TTL removed.
    Removed(Box<MonitorState>),
    /// A timer that is due before the next sweep may find it.
    Soon(Vec<Timer>),
    /// Something of the signals.
    Signal(Matter),
    /// Nothing.
    Nothing,
}

/// What a record means to the signals.
#[derive(Debug, Clone, PartialEq)]
enum Matter {
    /// Bars or scores came for a series that is followed.
    Nudge(ProjectId, Box<Head>),
    /// A watch was made or changed.
    Watch(ProjectId, WatchId),
    /// Somebody asks for something.
    Request(RequestId),
}

impl Evaluate {
    /// Handles a batch of stream records (A2): relays alerts first, then looks at removed states, and then at signals, of
    /// which it does what is short and sends the rest on. What failed is
    /// reported by its sequence number, and comes again with all that follows it; everything here may be done
    /// twice. A record that can't be understood is logged and passed over, for it would block its shard.
    pub async fn on_stream(&self, event: &Event) -> DynamoDbEventResponse {
        let mut relays = Vec::new();
        let mut removals = Vec::new();
        let mut soon = Vec::new();
        let mut matters = Vec::new();
        for record in &event.records {
            let sequence = record.change.sequence_number.clone();
            match meaning(record) {
                Ok(Meaning::Relay(work)) => relays.push((sequence, work)),
                Ok(Meaning::Removed(state)) => removals.push((sequence, state)),
                Ok(Meaning::Soon(timers)) => soon.extend(timers),
                Ok(Meaning::Signal(matter)) => matters.push((sequence, matter)),
                Ok(Meaning::Nothing) => {}
                Err(error) => {
                    tracing::error!(?sequence, %error, "a stream record was not understood");
                }
            }
        }
        let mut failed = Vec::new();
        let works: Vec<Work> = relays.iter().map(|(_, work)| work.clone()).collect();
        let results = self.publish(&works).await;
        for ((sequence, _), result) in relays.into_iter().zip(results) {
            if let Err(error) = result {
                tracing::error!(%error, "an alert was not relayed; the stream will bring it again");
                failed.push(sequence);
            }
        }
        for (sequence, state) in removals {
            match self.on_removed(&state).await {
                Ok(()) => {}
                Err(error @ StoreError::Corrupt(_)) => {
                    tracing::error!(%error, "a monitor state that TTL removed was not restored");
                }
                Err(error) => {
                    tracing::error!(%error, "a monitor state that TTL removed was not restored; it will be tried again");
                    failed.push(sequence);
                }
            }
        }
        if !soon.is_empty() {
            self.on_soon(&soon).await;
        }
        for (sequence, matter) in matters {
            match AssertUnwindSafe(self.on_matter(&matter))
                .catch_unwind()
                .await
            {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "a signal was not reckoned; it will be tried again");
                    failed.push(sequence);
                }
                // It would do so again, and block its shard.
                Err(_) => {
                    tracing::error!(?matter, "something of the signals made its handler panic");
                }
            }
        }
        self.store
            .metrics()
            .count(Count::Failures, failed.len() as u64);
        let mut response = DynamoDbEventResponse::default();
        response.batch_item_failures = failed
            .into_iter()
            .map(|item_identifier| {
                let mut failure = DynamoDbBatchItemFailure::default();
                failure.item_identifier = item_identifier;
                failure
            })
            .collect();
        response
    }
}

impl Evaluate {
    /// Does what is short, and sends on what is long.
    async fn on_matter(&self, matter: &Matter) -> Result<(), String> {
        let works = match matter {
            Matter::Nudge(project, head) => self.on_nudge(*project, head).await,
            Matter::Watch(project, watch) => self.on_watch(*project, *watch).await,
            Matter::Request(request) => self.on_request(*request).await,
        };
        let works = match works {
            Ok(works) => works,
            Err(StoreError::Corrupt(error)) => {
                // It must not block the shard; it is logged, and somebody will mend it.
                tracing::error!(%error, "something of the signals can't be read");
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        };
        let results = self.publish(&works).await;
        results
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(|error| error.to_string())
    }
}

/// Changes of an embedded table as the event that Lambda would bring.
pub fn event_of(changes: impl IntoIterator<Item = Change>) -> Event {
    let mut event = Event::default();
    event.records = changes.into_iter().map(record_of).collect();
    event
}

fn record_of(change: Change) -> EventRecord {
    let mut record = EventRecord::default();
    record.event_id = change.sequence.to_string();
    record.event_name = change.event_name().to_owned();
    record.change.sequence_number = Some(record.event_id.clone());
    record.change.keys = change.key.attributes();
    record.user_identity = change.expired.then(|| {
        let mut who = UserIdentity::default();
        who.type_ = "Service".to_owned();
        who.principal_id = TTL_PRINCIPAL.to_owned();
        who
    });
    record.change.new_image = change.new.unwrap_or_default();
    record.change.old_image = change.old.unwrap_or_default();
    record
}

/// What a record means; decided by the item's kind, what happened to it, and who did it.
fn meaning(record: &EventRecord) -> Result<Meaning, serde_dynamo::Error> {
    let (new, old) = (&record.change.new_image, &record.change.old_image);
    match record.event_name.as_str() {
        "INSERT" if kind(new) == Some("alert") => {
            let alert: Alert = serde_dynamo::from_item(new.clone())?;
            Ok(Meaning::Relay(Work::Alert {
                project: alert.project,
                alert: alert.id,
            }))
        }
        "INSERT" | "MODIFY" if kind(new) == Some("probe") => {
            #[derive(serde::Deserialize)]
            struct Probe {
                at: UnixMs,
            }
            let probe: Probe = serde_dynamo::from_item(new.clone())?;
            Ok(Meaning::Relay(Work::Probe { at: probe.at }))
        }
        "INSERT" if kind(new) == Some("request") => {
            #[derive(serde::Deserialize)]
            struct Request {
                id: RequestId,
            }
            let request: Request = serde_dynamo::from_item(new.clone())?;
            Ok(Meaning::Signal(Matter::Request(request.id)))
        }
        "INSERT" | "MODIFY" if kind(new) == Some("watch") => {
            #[derive(serde::Deserialize)]
            struct Watch {
                project: ProjectId,
                id: WatchId,
            }
            let watch: Watch = serde_dynamo::from_item(new.clone())?;
            Ok(Meaning::Signal(Matter::Watch(watch.project, watch.id)))
        }
        // A head counts its nudges; what else changes in it is of no account.
        "INSERT" | "MODIFY"
            if kind(new) == Some("series") && new.get("nudge") != old.get("nudge") =>
        {
            let project = match new.get("pk") {
                Some(serde_dynamo::AttributeValue::S(pk)) => {
                    pk.strip_prefix("P#").and_then(|id| id.parse().ok())
                }
                _ => None,
            };
            let head: Head = serde_dynamo::from_item(new.clone())?;
            Ok(project.map_or(Meaning::Nothing, |project| {
                Meaning::Signal(Matter::Nudge(project, Box::new(head)))
            }))
        }
        "INSERT" | "MODIFY" if kind(new) == Some("soon") => match new.get("e") {
            Some(serde_dynamo::AttributeValue::B(bytes)) => {
                Ok(Meaning::Soon(timer::decode(bytes).unwrap_or_default()))
            }
            _ => Ok(Meaning::Nothing),
        },
        "REMOVE" if kind(old) == Some("lease") && is_by_ttl(record) => Ok(Meaning::Removed(
            Box::new(serde_dynamo::from_item(old.clone())?),
        )),
        _ => Ok(Meaning::Nothing),
    }
}

fn kind(image: &Item) -> Option<&str> {
    match image.get("kind") {
        Some(serde_dynamo::AttributeValue::S(kind)) => Some(kind),
        _ => None,
    }
}

fn is_by_ttl(record: &EventRecord) -> bool {
    record
        .user_identity
        .as_ref()
        .is_some_and(|who| who.principal_id == TTL_PRINCIPAL)
}
