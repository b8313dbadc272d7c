//! The table's stream: alerts are relayed, removed leases are noticed.

use crate::Evaluate;
use aws_lambda_events::event::dynamodb::{Event, EventRecord};
use aws_lambda_events::event::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use serde_dynamo::Item;
use thrum_schema::work::Work;
use thrum_schema::{Alert, Lease, StoreError, UnixMs};

/// Who removes an item whose TTL has passed.
const TTL_PRINCIPAL: &str = "dynamodb.amazonaws.com";

/// What a record means to us.
#[derive(Debug)]
enum Meaning {
    /// Work for notify.
    Relay(Work),
    /// A lease that TTL removed.
    Removed(Box<Lease>),
    /// Nothing.
    Nothing,
}

impl Evaluate {
    /// Handles a batch of stream records (A2): relays alerts first, then looks at removed leases. What failed is
    /// reported by its sequence number, and comes again with all that follows it; everything here may be done
    /// twice. A record that can't be understood is logged and passed over, for it would block its shard.
    pub async fn on_stream(&self, event: &Event) -> DynamoDbEventResponse {
        let mut relays = Vec::new();
        let mut removals = Vec::new();
        for record in &event.records {
            let sequence = record.change.sequence_number.clone();
            match meaning(record) {
                Ok(Meaning::Relay(work)) => relays.push((sequence, work)),
                Ok(Meaning::Removed(lease)) => removals.push((sequence, lease)),
                Ok(Meaning::Nothing) => {}
                Err(error) => {
                    tracing::error!(?sequence, %error, "a stream record was not understood");
                }
            }
        }
        let mut failed = Vec::new();
        let works: Vec<Work> = relays.iter().map(|(_, work)| work.clone()).collect();
        let results = if works.is_empty() {
            Vec::new()
        } else {
            self.bus.publish(&works).await
        };
        for ((sequence, _), result) in relays.into_iter().zip(results) {
            if let Err(error) = result {
                tracing::error!(%error, "an alert was not relayed; the stream will bring it again");
                failed.push(sequence);
            }
        }
        for (sequence, lease) in removals {
            match self.on_removed(&lease).await {
                Ok(()) => {}
                Err(error @ StoreError::Corrupt(_)) => {
                    tracing::error!(%error, "a removed lease was not restored");
                }
                Err(error) => {
                    tracing::error!(%error, "a removed lease was not restored; it will be tried again");
                    failed.push(sequence);
                }
            }
        }
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
