//! Delayed work: messages to a function's own queue. Timers in the table are the fallback.

use futures::future::BoxFuture;
use std::fmt::Debug;
use std::time::Duration;
use thiserror::Error;
use thrum_schema::work::Work;

/// The queue did not accept a message.
#[derive(Debug, Clone, Error)]
#[error("the queue did not accept a message: {0}")]
pub struct LaterError(pub String);

/// Redelivers work after a delay, at least once.
pub trait Later: Send + Sync + Debug {
    /// Redelivers `work` after `delay`.
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>>;
}
