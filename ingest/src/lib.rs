//! Thrum's front door. It authenticates, validates and writes; nothing is computed here that can be computed
//! later.

mod alerts;
mod app;
mod auth;
mod body;
mod cache;
mod channels;
mod health;
mod heartbeats;
mod keys;
mod monitors;
mod ping;
mod problem;
mod record;
mod router;

pub use app::{App, Config};
pub use router::router;
