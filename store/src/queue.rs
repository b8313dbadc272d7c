//! Work put off for some seconds: a delayed message to a function's own queue. Timers in the table stand behind it.

use futures::future::BoxFuture;
use std::fmt::Debug;
use std::time::Duration;
use thiserror::Error;
use thrum_schema::work::Work;

/// The queue did not take a message.
#[derive(Debug, Clone, Error)]
#[error("the queue did not take a message: {0}")]
pub struct LaterError(pub String);

/// Brings work back after a while, at least once.
pub trait Later: Send + Sync + Debug {
    /// Brings `work` back after `delay`.
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>>;
}
