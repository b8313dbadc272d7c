//! The bus on AWS: EventBridge.

use crate::{Bus, BusError};
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::{DisplayErrorContext, SdkError};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use futures::future::BoxFuture;
use std::fmt::Debug;
use thrum_schema::work::{SOURCE, Work};

/// Most entries in one PutEvents call.
const MAX_ENTRIES: usize = 10;

/// An EventBridge bus.
#[derive(Debug, Clone)]
pub struct EventBridge {
    client: Client,
    bus: String,
}

impl EventBridge {
    /// Publishes to the bus named `bus`.
    pub fn new(client: Client, bus: &str) -> Self {
        Self {
            client,
            bus: bus.to_owned(),
        }
    }

    async fn put(&self, works: &[Work]) -> Vec<Result<(), BusError>> {
        let entries = works
            .iter()
            .map(|work| {
                PutEventsRequestEntry::builder()
                    .event_bus_name(&self.bus)
                    .source(SOURCE)
                    .detail_type(work.detail_type())
                    .detail(serde_json::to_string(work).expect("work serializes to JSON"))
                    .build()
            })
            .collect();
        match self
            .client
            .put_events()
            .set_entries(Some(entries))
            .send()
            .await
        {
            // A 200 response may still reject single entries.
            Ok(answer) => works
                .iter()
                .enumerate()
                .map(|(i, _)| match answer.entries().get(i) {
                    Some(entry) if entry.error_code().is_none() => Ok(()),
                    Some(entry) => Err(BusError(format!(
                        "{}: {}",
                        entry.error_code().unwrap_or_default(),
                        entry.error_message().unwrap_or_default()
                    ))),
                    None => Err(BusError("the response lacks this entry".into())),
                })
                .collect(),
            Err(error) => {
                let error = BusError(describe(&error));
                works.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }
}

fn describe<E: std::error::Error + 'static, R: Debug + 'static>(error: &SdkError<E, R>) -> String {
    DisplayErrorContext(error).to_string()
}

impl Bus for EventBridge {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(works.len());
            for chunk in works.chunks(MAX_ENTRIES) {
                results.extend(self.put(chunk).await);
            }
            results
        })
    }
}
