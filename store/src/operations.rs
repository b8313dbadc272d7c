//! The named operations, by what they are about.

mod alerts;
mod channels;
mod deliveries;
mod heartbeat;
mod keys;
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
mod usage;
mod watches;

pub use channels::ChannelHealth;
pub use deliveries::{Claim, Settled};
pub use heartbeat::{Commit, Fast, Located, Rules, WAKE_MS};
pub use monitors::{Claims, Creation, MonitorCount};
pub use series::{Fed, Nudge, PutBar};
pub use timers::{Cursor, TimerItem};
pub use touched::Touched;
pub use tracks::Advance;
pub use usage::{Balance, Charge, Charged};
