//! The ingest Lambda: the router behind a function URL.

use anyhow::anyhow;
use std::sync::Arc;
use thrum_ingest::{AdminKey, App, Config, SecretsManager, router};
use thrum_schema::store::connect;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().without_time().init();
    let lookup = |name: &str| std::env::var(name).ok();
    let mut config = Config::from_lookup(lookup).map_err(|error| anyhow!(error))?;
    let (aws, store) = connect(lookup).await.map_err(|error| anyhow!(error))?;
    // Fetched when it is first asked for, and not on the way of a heartbeat.
    if let Some(arn) = lookup("THRUM_ADMIN_KEY_ARN") {
        let client = aws_sdk_secretsmanager::Client::new(&aws);
        config.admin_key = AdminKey::Kept(Arc::new(SecretsManager::new(client, &arn)));
    }
    lambda_http::run(router(App::new(store, config)))
        .await
        .map_err(|error| anyhow!(error))
}
