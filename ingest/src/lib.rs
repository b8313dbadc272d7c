//! Thrum's HTTP front end. It authenticates, validates and writes; it computes nothing that can be
//! computed later.

mod api;
mod app;
mod config;
mod dashboard;
mod http;
mod openapi;
mod router;
mod services;

pub use app::App;
pub use config::{
    AdminKey, Config, ConfirmMail, Fetch, PINGS_PER_MINUTE, Proxies, SecretSource, check_admin_key,
    check_metrics_key, check_site_url,
};
#[cfg(feature = "lambda")]
pub use config::{Fetcher, SecretsManager};
pub use dashboard::{backtest_html, equity_csv, trades_csv};
#[cfg(feature = "lambda")]
pub use http::function_url;
pub use http::traced::traced;
pub use openapi::document;
pub use router::router;
pub use services::monitors::{Mail, RecordError};
