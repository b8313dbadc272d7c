//! The queues: one for timers that fire at an exact time, and one for work that takes too long for the
//! stream.

use crate::Evaluate;
use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures::future::join_all;
use thrum_schema::metrics::Count;
use thrum_schema::work::{Envelope, EvaluateWork};

impl Evaluate {
    /// Handles a batch of messages. Failed ones are reported, and delivered again. Timers go first,
    /// concurrently, and are never reported: a retry minutes later would be useless, because the
    /// sweep handles them before that.
    pub async fn on_work(&self, event: &SqsEvent) -> SqsBatchResponse {
        let mut response = SqsBatchResponse::default();
        let mut failed = |id: &Option<String>, error: String| {
            let id = id.clone().unwrap_or_default();
            tracing::error!(%id, %error, "work failed; the queue will deliver it again");
            self.store.metrics().count(Count::Failures, 1);
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            response.batch_item_failures.push(failure);
        };
        let mut timers = Vec::new();
        let mut long = Vec::new();
        for message in &event.records {
            let body = message.body.as_deref().unwrap_or_default();
            match serde_json::from_str::<Envelope<EvaluateWork>>(body) {
                Ok(Envelope {
                    detail: work @ EvaluateWork::Fire { .. },
                }) => timers.push(work),
                Ok(envelope) => long.push((&message.message_id, envelope.detail)),
                Err(error) => failed(&message.message_id, error.to_string()),
            }
        }
        for fired in join_all(timers.iter().map(|work| self.work(work))).await {
            if let Err(error) = fired {
                tracing::warn!(%error, "timers failed; the next sweep will handle them");
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
