//! The domain of Thrum: what a monitor, a lease, an alert or a timer is, the pure rules that move them,
//! and the one table that keeps them.
//!
//! Everything but [`item`], [`store`], [`queue`] and `lambda` is free of AWS types and of the clock: rules take `now` as an
//! argument. Built without the default feature `dynamodb`, this crate has no AWS dependency at all, and CI
//! proves it.

pub mod alert;
pub mod channel;
pub mod delivery;
pub mod error;
pub mod id;
pub mod key;
pub mod lease;
pub mod metrics;
pub mod monitor;
pub mod mutant;
pub mod outage;
pub mod ping;
pub mod plan;
pub mod project;
pub mod schedule;
pub mod signal;
pub mod silence;
pub mod time;
pub mod timer;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transition;
pub mod uptime;
pub mod work;
pub mod world;

#[cfg(feature = "dynamodb")]
pub mod item;
#[cfg(feature = "lambda")]
pub mod lambda;
#[cfg(feature = "dynamodb")]
pub mod queue;
#[cfg(feature = "dynamodb")]
pub mod store;

pub use alert::{Alert, AlertKind, AlertState, Reason};
pub use channel::{Channel, ChannelKind, Targets};
pub use delivery::{Delivery, DeliveryState};
pub use id::{AlertId, BadgeId, ChannelId, MonitorId, ProjectId, RequestId, WatchId};
pub use lease::{Lease, Run, Status};
pub use monitor::Monitor;
pub use outage::Outage;
pub use ping::{Ping, PingKind};
pub use plan::{Limits, Plans, Rate};
pub use project::Project;
pub use schedule::Schedule;
pub use time::UnixMs;
pub use timer::Timer;
pub use transition::{Event, Flip, Outcome, transition};
pub use world::World;

#[cfg(feature = "dynamodb")]
pub use store::{Store, StoreError};
