//! Thrum's domain: monitors, states, alerts and timers, and the pure rules that change them.
//!
//! No I/O (but for the system's time zones), no async, no AWS: rules take `now` as an argument. `thrum-store`
//! stores the data.

pub mod alert;
pub mod announce;
pub mod channel;
pub mod confirm;
pub mod delivery;
pub mod dependency;
pub mod error;
pub mod expect;
pub mod fence;
pub mod flip;
mod hex;
pub mod id;
pub mod key;
pub mod link;
pub mod metrics;
pub mod monitor;
pub mod mutant;
pub mod network;
pub mod notice;
pub mod outage;
pub mod ping;
pub mod plan;
pub mod project;
pub mod schedule;
pub mod signal;
pub mod silence;
pub mod state;
pub mod targets;
pub mod time;
pub mod timer;
pub mod trace;
pub mod transition;
pub mod uptime;
pub mod work;
pub mod world;
pub mod zone;

pub use alert::{Alert, AlertKind, AlertState};
pub use channel::{Channel, ChannelKind};
pub use delivery::{Delivery, DeliveryState};
pub use flip::{Flip, Reason};
pub use id::{AlertId, BadgeId, ChannelId, MonitorId, ProjectId, RequestId, WatchId};
pub use monitor::Monitor;
pub use outage::Outage;
pub use ping::{Ping, PingKind};
pub use plan::{Limits, Plans, Rate};
pub use project::Project;
pub use schedule::Schedule;
pub use state::{MonitorState, Run, Status};
pub use targets::Targets;
pub use time::UnixMs;
pub use timer::Timer;
pub use trace::TraceId;
pub use transition::{Event, Outcome, transition};
pub use world::World;
