//! Queue batches: each message is handled on its own, and failed ones are reported by id.

use crate::Notify;
use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures::future::join_all;
use thrum_schema::metrics::Count;
use thrum_schema::work::{Envelope, NotifyWork};

impl Notify {
    /// Handles a batch of messages concurrently. A message that can't be parsed is reported as
    /// failed too, so that it ends up in the dead-letter queue.
    pub async fn on_queue(&self, event: &SqsEvent) -> SqsBatchResponse {
        let handled = event.records.iter().map(|message| async move {
            match self.on_message(message).await {
                Ok(()) => None,
                Err(error) => {
                    self.store.metrics().count(Count::Failures, 1);
                    let id = message.message_id.clone().unwrap_or_default();
                    tracing::error!(%id, %error, "a message failed; the queue will deliver it again");
                    let mut failure = BatchItemFailure::default();
                    failure.item_identifier = id;
                    Some(failure)
                }
            }
        });
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures = join_all(handled).await.into_iter().flatten().collect();
        response
    }

    async fn on_message(&self, message: &SqsMessage) -> Result<(), String> {
        let body = message.body.as_deref().unwrap_or_default();
        let envelope: Envelope<NotifyWork> =
            serde_json::from_str(body).map_err(|error| error.to_string())?;
        self.handle(&envelope.detail)
            .await
            .map_err(|error| error.to_string())
    }
}
