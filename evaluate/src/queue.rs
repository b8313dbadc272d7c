//! The work queue: what is due at its very instant, and what is too long to be done while the stream waits.

use crate::Evaluate;
use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures::future::join_all;
use thrum_schema::metrics::Count;
use thrum_schema::work::{Envelope, Work};

impl Evaluate {
    /// Handles a batch of messages; those that failed are reported, and come again. Timers go first, all at a time, and are
    /// never reported: minutes later they would be worth nothing, and the sweep has them.
    pub async fn on_work(&self, event: &SqsEvent) -> SqsBatchResponse {
        let mut response = SqsBatchResponse::default();
        let mut failed = |id: &Option<String>, error: String| {
            let id = id.clone().unwrap_or_default();
            tracing::error!(%id, %error, "a piece of work was not done; the queue will bring it again");
            self.store.metrics().count(Count::Failures, 1);
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            response.batch_item_failures.push(failure);
        };
        let mut timers = Vec::new();
        let mut long = Vec::new();
        for message in &event.records {
            let body = message.body.as_deref().unwrap_or_default();
            match serde_json::from_str::<Envelope>(body) {
                Ok(Envelope {
                    detail: work @ Work::Fire { .. },
                }) => timers.push(work),
                Ok(envelope) => long.push((&message.message_id, envelope.detail)),
                Err(error) => failed(&message.message_id, error.to_string()),
            }
        }
        for fired in join_all(timers.iter().map(|work| self.work(work))).await {
            if let Err(error) = fired {
                tracing::warn!(%error, "timers wait for the sweep");
            }
        }
        for (id, work) in long {
            if let Err(error) = self.work(&work).await {
                failed(id, error.to_string());
            }
        }
        response
    }
}
