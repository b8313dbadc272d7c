//! Thrum's judge. On its schedule it sweeps the timers that are due; from the table's stream it relays alerts to
//! the bus, and notices states that TTL removed.

mod bus;
mod deadlines;
pub mod engine;
#[cfg(feature = "lambda")]
mod eventbridge;
mod lookahead;
mod pulse;
mod queue;
mod reminders;
mod signals;
mod stream;
mod sweep;
mod ttl;

pub use bus::{Bus, BusError};
#[cfg(feature = "lambda")]
pub use eventbridge::EventBridge;
pub use lookahead::WorkError;
pub use pulse::{HttpSelfPing, Pulse, SelfPing};
pub use signals::offline;
pub use stream::event_of;
pub use sweep::Swept;

use std::sync::Arc;
use thrum_schema::work::Work;
use thrum_store::Store;
use thrum_store::queue::Later;

/// The evaluate handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Evaluate {
    store: Store,
    bus: Arc<dyn Bus>,
    /// Where the schedule comes by the minute: what brings work back at its very instant.
    later: Option<Arc<dyn Later>>,
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
            later: None,
            name: name.into(),
            gap_ms,
        }
    }

    /// The same handler, where its schedule comes by the minute only: what is due in between comes back by `later`.
    #[must_use]
    pub fn with_work_queue(mut self, later: Arc<dyn Later>) -> Self {
        self.later = Some(later);
        self
    }

    /// Publishes work, if there is any; the results are in its order.
    pub(crate) async fn publish(&self, works: &[Work]) -> Vec<Result<(), BusError>> {
        if works.is_empty() {
            return Vec::new();
        }
        self.bus.publish(works).await
    }

    /// The table it works on.
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
