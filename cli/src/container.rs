//! `thrum serve --table`: answers the requests of a deployment on AWS in a container, as its function
//! ingest does, on the same table. Evaluate and notify stay functions. Many containers may run at once.

use crate::serve::Listening;
#[cfg(feature = "aws")]
use anyhow::Context;
use anyhow::bail;
#[cfg(feature = "aws")]
use std::time::Duration;
#[cfg(feature = "aws")]
use thrum_ingest::App;
use thrum_ingest::{AdminKey, Config};

/// How often the metrics are written.
#[cfg(feature = "aws")]
const METRICS_EVERY: Duration = Duration::from_secs(60);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// An option is missing, AWS is not configured, or the table can't be read.
#[cfg(feature = "aws")]
pub async fn serve(table: &str, config: Config, listening: Listening) -> anyhow::Result<()> {
    check(&config)?;
    let (store, region, regions) = crate::remote::connect(table).await?;
    let shards = store.swept_shards().await.with_context(|| {
        format!("can't read table {table} in {region}; check its name, the region and the account")
    })?;
    if shards == 0 {
        bail!("no sweep has run on table {table} yet; is it the table of a deployment?");
    }
    let store = store.with_shards(shards);
    if listening.writes_metrics() {
        tokio::spawn(write_metrics(store.clone()));
    }
    let app = App::new(store, Config { regions, ..config });
    listening.greet(&format!("table {table} in {region}"));
    let router = thrum_ingest::router(app.clone());
    listening.open(app, router, || {}).await
}

/// Writes the metrics in the form that CloudWatch finds in logs.
#[cfg(feature = "aws")]
async fn write_metrics(store: thrum_store::Store) {
    loop {
        tokio::time::sleep(METRICS_EVERY).await;
        let now = store.world().now();
        if let Some(line) = store.metrics().line(store.name(), now, 0) {
            println!("{line}");
        }
    }
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "same signature as the real one")]
pub async fn serve(_: &str, config: Config, _: Listening) -> anyhow::Result<()> {
    check(&config)?;
    bail!("--table needs a build of thrum with AWS support (--features aws)")
}

fn check(config: &Config) -> anyhow::Result<()> {
    if matches!(config.admin_key, AdminKey::None) {
        bail!(
            "--table needs --admin-key, or THRUM_ADMIN_KEY: the deployment's admin key, with which the dashboard's cookies are signed, too"
        );
    }
    Ok(())
}
