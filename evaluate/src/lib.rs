//! Evaluation: sweeps due timers on a schedule; relays alerts from the table's stream to the bus
//! and restores states that TTL removed; computes signals.

pub mod backtests;
mod bus;
mod clock;
mod deadlines;
#[cfg(feature = "lambda")]
mod eventbridge;
mod lookahead;
mod pulse;
mod queue;
mod regions;
mod relay;
mod reminders;
mod schedule;
mod signals;
mod stream;
mod sweep;
mod ttl;

pub use bus::{Bus, BusError};
use clock::ClockWatch;
#[cfg(feature = "lambda")]
pub use eventbridge::EventBridge;
pub use lookahead::WorkError;
pub use pulse::{HttpSelfPing, Pulse, SelfPing};
pub use schedule::{Schedule, SweptShards};
pub use signals::{Input, Other, fit, offline};
pub use stream::event_of;
pub use sweep::Swept;

use std::sync::Arc;
use thrum_schema::UnixMs;
use thrum_schema::work::Work;
use thrum_store::Store;
use thrum_store::queue::Later;
use thrum_store::regions::Regions;

/// How long a monitor is retried if other writes conflict, in milliseconds. Then its timer or stream
/// record is handled again: one busy monitor must not hold up a round of timers (T2).
const RETRY_MS: i64 = 2_000;

/// The evaluate handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Evaluate {
    store: Store,
    bus: Arc<dyn Bus>,
    /// The queue that delivers work at an exact time, if the schedule runs only once a minute.
    later: Option<Arc<dyn Later>>,
    /// The name under which this sweeper claims shards; unique to each sweeper.
    name: Arc<str>,
    /// A longer gap between pulses, in milliseconds, is an outage (T3).
    gap_ms: i64,
    /// Notices steps of the wall clock, in a process that always runs.
    clock: Option<ClockWatch>,
    /// What the ticks of a schedule share, where one calls.
    schedule: Option<Arc<Schedule>>,
    following: signals::Following,
    /// The fence, in one of two regions.
    regions: Option<Regions>,
    /// When this region became active, during work in one of two regions.
    since: Option<UnixMs>,
}

impl Evaluate {
    /// Creates a handler that works on `store`, relays to `bus`, claims shards as `name`, and
    /// treats a gap of more than `gap_ms` between pulses as an outage.
    pub fn new(store: Store, bus: Arc<dyn Bus>, name: &str, gap_ms: i64) -> Self {
        Self {
            store,
            bus,
            later: None,
            name: name.into(),
            gap_ms,
            clock: None,
            schedule: None,
            following: signals::Following::default(),
            regions: None,
            since: None,
        }
    }

    /// Watches the wall clock for steps. For a process that always runs.
    #[must_use]
    pub fn watching_clock(mut self) -> Self {
        self.clock = Some(ClockWatch::default());
        self
    }

    /// Adds a queue, for a schedule that runs only once a minute: work that is due in between goes
    /// through `later`.
    #[must_use]
    pub fn with_timer_queue(mut self, later: Arc<dyn Later>) -> Self {
        self.later = Some(later);
        self
    }

    /// Ticks as a schedule that calls once a minute demands.
    #[must_use]
    pub fn on_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(Arc::new(schedule));
        self
    }

    /// Publishes work, if there is any. The results are in the same order.
    pub(crate) async fn publish(&self, works: &[Work]) -> Vec<Result<(), BusError>> {
        if works.is_empty() {
            return Vec::new();
        }
        self.bus.publish(works).await
    }

    /// The store that the handler works on.
    pub const fn store(&self) -> &Store {
        &self.store
    }
}
