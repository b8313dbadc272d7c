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
mod requests;
mod series;
mod strategies;
mod timers;
pub(crate) mod touched;
mod tracks;
mod usage;
mod watches;

pub use channels::ChannelHealth;
pub use deliveries::{Claim, Settled};
pub use heartbeat::{Commit, Fast, Rules, State, WAKE_MS};
pub use monitors::{Census, Claims, Creation};
pub use series::{Fed, Nudge, PutBar};
pub use timers::{Cursor, TimerItem};
pub use touched::Touched;
pub use tracks::Advance;
pub use usage::{Balance, Charge, Charged};
