//! Thrum's judge. On its schedule it sweeps the timers that are due; from the table's stream it relays alerts to
//! the bus, and notices leases that TTL removed.

mod bus;
pub mod engine;
mod judge;
mod pulse;
mod queue;
mod removal;
mod signals;
mod stream;
mod sweep;
mod tell;

pub use bus::{Bus, BusError, EventBridge};
pub use pulse::{FrontDoor, HttpDoor, Pulse};
pub use signals::offline;
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
    /// A gap between pulses of more than so many milliseconds is an outage (T3).
    gap_ms: i64,
}

impl Evaluate {
    /// A handler that reads and writes `store`, relays to `bus`, claims shards as `name`, and takes a gap between
    /// pulses of more than `gap_ms` for an outage.
    pub fn new(store: Store, bus: Arc<dyn Bus>, name: &str, gap_ms: i64) -> Self {
        Self {
            store,
            bus,
            name: name.into(),
            gap_ms,
        }
    }

    /// The table it works on.
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
