//! SNS in a build without AWS: every send fails with an explanation.

use crate::error::SendError;
use crate::message::Message;

/// Stands in for SNS, and publishes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Sns;

impl Sns {
    #[expect(clippy::unused_async, reason = "same signature as the real Sns")]
    pub(super) async fn publish(&self, _: &str, _: &Message) -> Result<Option<String>, SendError> {
        Err(missing())
    }

    #[expect(clippy::unused_async, reason = "same signature as the real Sns")]
    pub(super) async fn text(&self, _: &str, _: &Message) -> Result<Option<String>, SendError> {
        Err(missing())
    }
}

fn missing() -> SendError {
    SendError::permanent(
        "this build of thrum has no AWS support; to use SNS or SMS, build it with --features aws",
    )
}
