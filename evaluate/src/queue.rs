//! The work queue: what is too long to be done while the stream waits.

use crate::Evaluate;
use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use thrum_schema::work::Envelope;

impl Evaluate {
    /// Handles a batch of messages one by one; those that failed are reported, and come again.
    pub async fn on_work(&self, event: &SqsEvent) -> SqsBatchResponse {
        let mut response = SqsBatchResponse::default();
        for message in &event.records {
            let body = message.body.as_deref().unwrap_or_default();
            let handled = match serde_json::from_str::<Envelope>(body) {
                Ok(envelope) => self
                    .work(&envelope.detail)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = handled {
                let id = message.message_id.clone().unwrap_or_default();
                tracing::error!(%id, %error, "a piece of work was not done; the queue will bring it again");
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = id;
                response.batch_item_failures.push(failure);
            }
        }
        response
    }
}
