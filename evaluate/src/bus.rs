//! The bus that carries work from evaluate to notify: EventBridge on AWS, a channel in one process.

use futures::future::BoxFuture;
use std::fmt::Debug;
use thiserror::Error;
use thrum_schema::work::Work;

/// The bus did not accept an event; it must be published again.
#[derive(Debug, Clone, Error)]
#[error("the bus did not accept an event: {0}")]
pub struct BusError(pub String);

/// Carries work to notify, with at-least-once delivery.
pub trait Bus: Send + Sync + Debug {
    /// Publishes each of `works`. The results are in the same order.
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>>;
}
