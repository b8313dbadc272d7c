//! Limits the concurrent deliveries of each channel, so that a slow receiver delays only its own
//! messages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::ChannelId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most concurrent deliveries of one channel.
const PER_CHANNEL: usize = 16;
/// Above this many channels, the semaphores of idle ones are dropped.
const MAX_IDLE: usize = 1_000;

#[derive(Debug, Default)]
pub struct ChannelLimiter(Mutex<HashMap<ChannelId, Arc<Semaphore>>>);

impl ChannelLimiter {
    /// Waits until `channel` has room.
    pub async fn enter(&self, channel: ChannelId) -> OwnedSemaphorePermit {
        let semaphore = {
            let mut semaphores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if semaphores.len() > MAX_IDLE {
                semaphores.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            }
            let semaphore = semaphores
                .entry(channel)
                .or_insert_with(|| Arc::new(Semaphore::new(PER_CHANNEL)));
            Arc::clone(semaphore)
        };
        semaphore
            .acquire_owned()
            .await
            .expect("these semaphores are never closed")
    }
}
