//! Thrum's front door. It authenticates, validates and writes; nothing is computed here that can be computed
//! later.

mod alerts;
mod app;
mod auth;
mod badges;
mod body;
mod cache;
mod change;
mod channels;
mod dashboard;
#[cfg(feature = "lambda")]
pub mod function_url;
mod health;
mod heartbeats;
mod keys;
mod management;
mod meter;
mod monitor_cache;
mod monitors;
mod observe;
mod openapi;
mod ping;
mod problem;
mod projects;
mod prometheus;
mod record;
mod router;
#[cfg(feature = "lambda")]
mod secret;
mod signals;
mod summary;
mod usage;

pub use app::{
    AdminKey, App, Config, PINGS_PER_MINUTE, SecretSource, check_admin_key, check_site_url,
};
pub use openapi::document;
pub use router::router;
#[cfg(feature = "lambda")]
pub use secret::SecretsManager;
