//! The named operations, by subject.

mod alerts;
mod channels;
mod commit;
mod counted;
mod deliveries;
mod dependencies;
mod heartbeat;
mod keys;
mod log;
mod monitor_state;
mod monitors;
mod outages;
mod pipeline;
mod projects;
mod series;
mod signal_requests;
mod strategies;
mod timers;
pub(crate) mod touched;
mod tracks;
mod update;
mod usage;
mod watches;

pub use channels::ChannelHealth;
pub use commit::Commit;
pub use counted::{Counted, Kind};
pub use deliveries::{Claim, Settled};
pub use heartbeat::{Fast, Rules};
pub use monitor_state::Located;
pub use monitors::{Claims, Creation, MonitorCount};
pub use series::{Fed, Nudge, PutBar};
pub use timers::{Cursor, TimerItem};
pub use touched::Touched;
pub use tracks::Advance;
pub use update::{Change, RETRY_WRITES_MS, Raise, Snapshot, Updated};
pub use usage::{Balance, Charge, Charged};
