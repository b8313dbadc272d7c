//! Thrum's judge. On its schedule it sweeps the timers that are due; from the table's stream it relays alerts to
//! the bus, and notices leases that TTL removed.

mod bus;
mod judge;
mod pulse;
mod removal;
mod stream;
mod sweep;

pub use bus::{Bus, BusError, EventBridge};
pub use pulse::{FrontDoor, HttpDoor, Pulse};
pub use sweep::Swept;

use std::sync::Arc;
use thrum_schema::Store;

/// The evaluate handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Evaluate {
    store: Store,
    bus: Arc<dyn Bus>,
    /// Who claims shards: one name for each sweeper.
    name: Arc<str>,
}

impl Evaluate {
    /// A handler that reads and writes `store`, relays to `bus`, and claims shards as `name`.
    pub fn new(store: Store, bus: Arc<dyn Bus>, name: &str) -> Self {
        Self {
            store,
            bus,
            name: name.into(),
        }
    }

    /// The table it works on.
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
