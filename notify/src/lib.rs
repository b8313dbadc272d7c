//! Thrum's voice: it turns alerts into deliveries. It groups them, takes quota, claims, sends, and records what
//! became of it (A3–A8).

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

/// Why work could not be done now; the queue brings it again.
#[derive(Debug, Error)]
pub enum NotifyError {
    /// The table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Work could not be put off.
    #[error(transparent)]
    Later(#[from] LaterError),
}

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long an alert's delivery is tried, in milliseconds.
    pub delivery_window_ms: i64,
    /// What the projects' plans allow.
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
    /// A handler that reads and writes `store`, sends by `sender`, and puts work off by `later`.
    pub fn new(store: Store, sender: Sender, later: Arc<dyn Later>, config: Config) -> Self {
        Self {
            store,
            sender: Arc::new(sender),
            later,
            config: Arc::new(config),
            channel_limiter: Arc::default(),
        }
    }

    /// The table it works on.
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
