//! Thrum's own API: a file for each resource.

pub mod alerts;
pub mod backtests;
pub mod channels;
pub mod heartbeats;
pub mod history;
pub mod keys;
pub mod monitors;
pub mod ping_key;
pub mod project;
pub mod projects;
pub mod regions;
pub mod series;
pub mod signal_params;
pub mod signals;
pub mod status;
pub mod strategies;
pub mod usage;
pub mod watches;
