//! A function's own queue.

use crate::queue::{Later, LaterError};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use futures::future::BoxFuture;
use std::time::Duration;
use thrum_schema::work::{Envelope, Work};

/// Maximum delay of an SQS message, in seconds.
const MAX_DELAY_S: u64 = 900;

/// An SQS queue.
#[derive(Debug, Clone)]
pub struct Sqs {
    client: Client,
    url: String,
}

impl Sqs {
    /// The queue at `url`.
    pub fn new(client: Client, url: &str) -> Self {
        Self {
            client,
            url: url.to_owned(),
        }
    }
}

impl Later for Sqs {
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        Box::pin(async move {
            // Makes a queue fair: a project with much work does not hold up the others.
            let group = match &work {
                Work::Notify(work) => Some(work.project().to_string()),
                Work::Evaluate(_) => None,
            };
            let body =
                serde_json::to_string(&Envelope { detail: work }).expect("work maps to JSON");
            let seconds = delay.as_millis().div_ceil(1000).min(MAX_DELAY_S.into());
            self.client
                .send_message()
                .queue_url(&self.url)
                .message_body(body)
                .set_message_group_id(group)
                .delay_seconds(i32::try_from(seconds).unwrap_or(0))
                .send()
                .await
                .map(drop)
                .map_err(|error| LaterError(DisplayErrorContext(error).to_string()))
        })
    }
}
