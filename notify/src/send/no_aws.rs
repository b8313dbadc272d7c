//! SNS and EventBridge in a build without AWS: every send fails with an explanation.

#![expect(clippy::unused_async, reason = "same signatures as the real ones")]

use crate::error::SendError;
use crate::message::Message;

/// Stands in for SNS, and publishes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Sns;

/// Stands in for EventBridge, and puts no event anywhere.
#[derive(Debug, Clone, Copy)]
pub struct EventBridge;

impl Sns {
    pub(super) async fn publish(&self, _: &str, _: &Message) -> Result<Option<String>, SendError> {
        Err(missing())
    }

    pub(super) async fn text(&self, _: &str, _: &Message) -> Result<Option<String>, SendError> {
        Err(missing())
    }
}

impl EventBridge {
    pub(super) async fn put(
        &self,
        _: &str,
        _: &str,
        _: &Message,
    ) -> Result<Option<String>, SendError> {
        Err(missing())
    }
}

fn missing() -> SendError {
    SendError::permanent(
        "this build of thrum has no AWS support; to use SNS, SMS or EventBridge, build it with --features aws",
    )
}
