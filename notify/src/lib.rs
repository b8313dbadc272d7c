//! Notifications: turns alerts into deliveries, groups them, charges quota, claims, sends, and
//! records the outcome (A3–A8).

pub mod channels;
mod confirm;
mod deliver;
mod error;
mod escalate;
mod group;
mod http;
mod layout;
mod letter;
mod limiter;
mod message;
mod overtaken;
mod queue;
pub mod send;
#[cfg(feature = "aws")]
mod subscribe;

pub use confirm::Confirm;
pub use letter::Letter;
pub use message::Message;
pub use send::Sender;

use limiter::Limiter;
use std::sync::Arc;
use thiserror::Error;
use thrum_schema::{Plans, UnixMs};
use thrum_store::queue::{Later, LaterError};
use thrum_store::regions::{Act, Regions};
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
    /// This region has taken over, and repairs what replication lost before it sends anything.
    #[error("this region has just taken over; it repairs what replication lost first")]
    Repairing,
}

/// Most deliveries at a time, unless there are few file descriptors.
pub const MAX_AT_ONCE: usize = 512;

/// The operator's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a failing delivery is retried, in milliseconds. After that it is dead.
    pub delivery_window_ms: i64,
    /// The limits of each plan.
    pub plans: Plans,
    /// Most deliveries at a time.
    pub max_at_once: usize,
    /// The public URL of the pages, for links in messages; without it there are none.
    pub site_url: Option<String>,
    /// How addresses are asked to confirm; `None` if e-mail goes through SNS, which asks by itself.
    pub confirm: Option<Confirm>,
}

/// The notify handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notify {
    store: Store,
    sender: Arc<Sender>,
    later: Arc<dyn Later>,
    config: Arc<Config>,
    limiter: Arc<Limiter>,
    /// When this invocation ends, if it is one: no claim lasts longer.
    ends: Option<UnixMs>,
    /// The fence, in one of two regions.
    regions: Option<Regions>,
    /// For how long the current work may go on, in one of two regions.
    act: Option<Act>,
}

impl Notify {
    /// Creates a handler that works on `store`, sends through `sender`, and queues delayed work in
    /// `later`.
    pub fn new(store: Store, sender: Sender, later: Arc<dyn Later>, config: Config) -> Self {
        Self {
            limiter: Arc::new(Limiter::new(config.max_at_once)),
            store,
            sender: Arc::new(sender),
            later,
            config: Arc::new(config),
            ends: None,
            regions: None,
            act: None,
        }
    }

    /// The handler in one of two regions.
    #[must_use]
    pub fn in_region(mut self, regions: Regions) -> Self {
        self.regions = Some(regions);
        self
    }

    /// This handler, for work that may go on as long as `act` does.
    fn during(&self, act: &Act) -> Self {
        Self {
            store: self.store.clone().during(act),
            act: Some(act.clone()),
            ..self.clone()
        }
    }

    /// The same, for an invocation that ends at `ends`, whether or not it is done then.
    #[must_use]
    pub fn until(mut self, ends: UnixMs) -> Self {
        self.ends = Some(ends);
        self
    }

    /// The store that the handler works on.
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
