//! The ingest Lambda: the router behind a function URL.

use anyhow::{Context, anyhow};
use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use std::time::Duration;
use thrum_ingest::{App, Config, router};
use thrum_schema::world::SystemWorld;
use thrum_schema::{Store, store};

/// How long a call may take, with its retries: what arms a timer must not be late (T2).
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().without_time().init();
    let lookup = |name: &str| std::env::var(name).ok();
    let config = Config::from_lookup(lookup).map_err(|error| anyhow!(error))?;
    let table = lookup("THRUM_TABLE").context("THRUM_TABLE must name the table")?;
    let shards = match lookup("THRUM_TIMER_SHARDS") {
        Some(text) => text
            .parse()
            .context("THRUM_TIMER_SHARDS must be a number")?,
        None => 16,
    };
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let aws = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .load()
        .await;
    let client = aws_sdk_dynamodb::Client::from_conf(store::retrying((&aws).into()).build());
    let store = Store::new(client, &table, shards, SystemWorld::arc());
    lambda_http::run(router(App::new(store, config)))
        .await
        .map_err(|error| anyhow!(error))
}
