//! Notifications: turns alerts into deliveries, groups them, charges quota, claims, sends, and
//! records the outcome (A3–A8).

mod channel_limiter;
mod deliver;
mod group;
mod message;
mod queue;
pub mod send;
#[cfg(feature = "aws")]
mod subscribe;

pub use send::Sender;

use channel_limiter::ChannelLimiter;
use std::sync::Arc;
use thiserror::Error;
use thrum_schema::Plans;
use thrum_store::queue::{Later, LaterError};
use thrum_store::{Store, StoreError};

/// Why work could not be done now. The queue delivers it again.
#[derive(Debug, Error)]
pub enum NotifyError {
    /// The table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue did not accept work to be done later.
    #[error(transparent)]
    Later(#[from] LaterError),
}

/// The operator's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a failing delivery is retried, in milliseconds. After that it is dead.
    pub delivery_window_ms: i64,
    /// The limits of each plan.
    pub plans: Plans,
}

/// The notify handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notify {
    store: Store,
    sender: Arc<Sender>,
    later: Arc<dyn Later>,
    config: Arc<Config>,
    channel_limiter: Arc<ChannelLimiter>,
}

impl Notify {
    /// Creates a handler that works on `store`, sends through `sender`, and queues delayed work in
    /// `later`.
    pub fn new(store: Store, sender: Sender, later: Arc<dyn Later>, config: Config) -> Self {
        Self {
            store,
            sender: Arc::new(sender),
            later,
            config: Arc::new(config),
            channel_limiter: Arc::default(),
        }
    }

    /// The store that the handler works on.
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
