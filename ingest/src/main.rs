//! The ingest Lambda: the router behind a function URL.

use anyhow::anyhow;
use thrum_ingest::{App, Config, router};
use thrum_schema::store::connect;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().without_time().init();
    let lookup = |name: &str| std::env::var(name).ok();
    let config = Config::from_lookup(lookup).map_err(|error| anyhow!(error))?;
    let (_, store) = connect(lookup).await.map_err(|error| anyhow!(error))?;
    lambda_http::run(router(App::new(store, config)))
        .await
        .map_err(|error| anyhow!(error))
}
