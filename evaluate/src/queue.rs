//! The queues: one for ticks, sweeps and timers at their exact times, and one for work that takes too
//! long for the stream.

use crate::{Evaluate, WorkError};
use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures::future::join_all;
use thrum_schema::metrics::Count;
use thrum_schema::work::{Envelope, EvaluateWork};

impl Evaluate {
    /// Handles a batch of messages. Those that failed are reported, and delivered again. Ticks, sweeps
    /// and timers go first, concurrently, and are not reported one by one: a retry minutes later would be
    /// useless, because the next tick does their work before that.
    ///
    /// # Errors
    /// A tick or a sweep failed, which an operator must know. The rest of the batch is done, and the queue
    /// delivers all of it again, without effect.
    pub async fn on_work(&self, event: &SqsEvent) -> Result<SqsBatchResponse, WorkError> {
        let mut response = SqsBatchResponse::default();
        let mut failed = |id: &Option<String>, error: String| {
            let id = id.clone().unwrap_or_default();
            tracing::error!(%id, %error, "work failed; the queue will deliver it again");
            self.store.metrics().count(Count::Failures, 1);
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            response.batch_item_failures.push(failure);
        };
        let mut prompt = Vec::new();
        let mut long = Vec::new();
        for message in &event.records {
            let body = message.body.as_deref().unwrap_or_default();
            match serde_json::from_str::<Envelope<EvaluateWork>>(body) {
                Ok(Envelope { detail: work }) if work.is_prompt() => prompt.push(work),
                Ok(Envelope { detail: work }) => long.push((&message.message_id, work)),
                Err(error) => failed(&message.message_id, error.to_string()),
            }
        }
        let mut result = Ok(());
        let done = join_all(prompt.iter().map(|work| self.work(work))).await;
        for (work, done) in prompt.iter().zip(done) {
            match (done, work) {
                (Ok(()), _) => {}
                (Err(error), EvaluateWork::Fire { .. }) => {
                    tracing::warn!(%error, "timers failed; the next sweep will handle them");
                }
                (Err(error), _) => result = Err(error),
            }
        }
        for (id, work) in long {
            if let Err(error) = self.work(&work).await {
                failed(id, error.to_string());
            }
        }
        result.map(|()| response)
    }
}
