//! Limits concurrent deliveries: of each channel, so that a slow receiver delays only its own
//! messages; of each project, so that one with many slow receivers delays no other; and of all, so
//! that file descriptors are left for clients and the database.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::{ChannelId, ProjectId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most concurrent deliveries of one channel.
const PER_CHANNEL: usize = 16;
/// A project may have this share of all deliveries.
const PROJECT_SHARE: usize = 8;
/// Above this many channels or projects, the semaphores of idle ones are dropped.
const MAX_IDLE: usize = 1_000;

/// Limits concurrent deliveries.
#[derive(Debug)]
pub struct Limiter {
    all: Arc<Semaphore>,
    projects: Semaphores<ProjectId>,
    channels: Semaphores<ChannelId>,
}

/// Room for a delivery, until this is dropped.
#[derive(Debug)]
pub struct Room {
    _of_channel: OwnedSemaphorePermit,
    _of_project: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Limiter {
    /// At most `most` deliveries at a time.
    pub fn new(most: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(most)),
            projects: Semaphores::new((most / PROJECT_SHARE).max(1)),
            channels: Semaphores::new(PER_CHANNEL),
        }
    }

    /// Waits until `channel` has room.
    pub async fn enter(&self, project: ProjectId, channel: ChannelId) -> Room {
        // The narrowest first, so that an attempt that waits there takes no room from others.
        Room {
            _of_channel: acquire(self.channels.of(channel)).await,
            _of_project: acquire(self.projects.of(project)).await,
            _of_all: acquire(Arc::clone(&self.all)).await,
        }
    }
}

/// Waits for a permit.
pub async fn acquire(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = semaphore.acquire_owned().await;
    permit.expect("these semaphores are never closed")
}

/// A semaphore for each of many.
#[derive(Debug)]
pub struct Semaphores<K> {
    permits: usize,
    used: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash> Semaphores<K> {
    /// Semaphores with `permits` each.
    pub fn new(permits: usize) -> Self {
        Self {
            permits,
            used: Mutex::default(),
        }
    }

    /// The semaphore of `key`.
    pub fn of(&self, key: K) -> Arc<Semaphore> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() > MAX_IDLE {
            used.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.permits));
        Arc::clone(used.entry(key).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_project_leaves_room_for_others() {
        let limiter = Limiter::new(32);
        let project = |n| ProjectId(Uuid::from_u128(n));
        let channel = |n| ChannelId(Uuid::from_u128(n));
        let mut held = Vec::new();
        for n in 0..100 {
            held.extend(limiter.enter(project(1), channel(n)).now_or_never());
        }
        assert_eq!(held.len(), 4);
        assert!(
            limiter
                .enter(project(2), channel(0))
                .now_or_never()
                .is_some()
        );
    }
}
