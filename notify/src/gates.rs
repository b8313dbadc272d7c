//! How many deliveries a channel has under way at a time: a slow receiver queues its own messages, and nobody
//! else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::ChannelId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Deliveries of one channel at a time.
const PER_CHANNEL: usize = 16;
/// Gates beyond which those that nobody uses are forgotten.
const MAX_IDLE: usize = 1_000;

#[derive(Debug, Default)]
pub struct Gates(Mutex<HashMap<ChannelId, Arc<Semaphore>>>);

impl Gates {
    /// Waits until `channel` has room.
    pub async fn enter(&self, channel: ChannelId) -> OwnedSemaphorePermit {
        let gate = {
            let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if gates.len() > MAX_IDLE {
                gates.retain(|_, gate| Arc::strong_count(gate) > 1);
            }
            let gate = gates
                .entry(channel)
                .or_insert_with(|| Arc::new(Semaphore::new(PER_CHANNEL)));
            Arc::clone(gate)
        };
        gate.acquire_owned().await.expect("gates are never closed")
    }
}
