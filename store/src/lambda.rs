//! What a Lambda function needs besides the table: its configuration, log, metrics, traces and queue.

mod connect;
#[cfg(feature = "queue")]
mod sqs;
mod xray;

pub use connect::{Connected, connect, required};
#[cfg(feature = "queue")]
pub use sqs::Sqs;
pub use xray::Traces;

use crate::Store;
use crate::log::Quiet;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

/// Starts the log: one line of JSON per event, from the level `THRUM_LOG_LEVEL` up. Leave Lambda's
/// own log filter at its default, because it could drop the lines with metrics.
pub fn start_log(lookup: impl Fn(&str) -> Option<String>) {
    let level = lookup("THRUM_LOG_LEVEL").and_then(|level| level.parse().ok());
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_filter(Quiet::default());
    tracing_subscriber::registry()
        .with(level.unwrap_or(LevelFilter::INFO))
        .with(lines)
        .init();
}

/// Writes the metrics, unless that was less than `every_ms` ago. CloudWatch reads them from the
/// log.
pub fn write_metrics(store: &Store, every_ms: i64) {
    let line = store
        .metrics()
        .line(store.name(), store.world().now(), every_ms);
    if let Some(line) = line {
        println!("{line}");
    }
}
