//! The way from evaluate to notify: EventBridge on AWS, a channel in one process.

use futures::future::BoxFuture;
use std::fmt::Debug;
use thiserror::Error;
use thrum_schema::work::Work;

/// An event that was not taken; it must be published again.
#[derive(Debug, Clone, Error)]
#[error("the bus did not take an event: {0}")]
pub struct BusError(pub String);

/// Carries work to notify, at least once.
pub trait Bus: Send + Sync + Debug {
    /// Publishes each of `works`; the results are in their order.
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>>;
}
