//! SNS in a build without it: says so.

use super::SendError;
use crate::message::Message;

/// Publishes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Sns;

impl Sns {
    #[expect(clippy::unused_async, reason = "as the one that publishes")]
    pub(super) async fn publish(&self, _: &str, _: &Message) -> Result<Option<String>, SendError> {
        Err(missing())
    }

    #[expect(clippy::unused_async, reason = "as the one that publishes")]
    pub(super) async fn text(&self, _: &str, _: &Message) -> Result<Option<String>, SendError> {
        Err(missing())
    }
}

fn missing() -> SendError {
    SendError::permanent(
        "this thrum was built without AWS; for SNS and SMS, build it with --features aws",
    )
}
