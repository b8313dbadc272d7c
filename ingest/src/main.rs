//! The ingest Lambda: the router behind a function URL.

use anyhow::anyhow;
use aws_lambda_events::event::lambda_function_urls::LambdaFunctionUrlRequest;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use std::sync::Arc;
use thrum_ingest::function_url::{Doors, answer};
use thrum_ingest::{AdminKey, App, Config, Fetcher, SecretsManager, router};
use thrum_schema::world::SystemWorld;
use thrum_store::lambda::{Traces, connect, start_log, write_metrics};
use tokio::runtime::Builder;

/// Writes metrics at most this often, because pings are not logged one by one.
const METRICS_EVERY_MS: i64 = 60_000;

fn main() -> anyhow::Result<()> {
    // Lambda sends one request at a time, except on managed instances: there it sends up to this many, so use all CPUs.
    let mut runtime = match lookup("AWS_LAMBDA_MAX_CONCURRENCY") {
        Some(_) => Builder::new_multi_thread(),
        None => Builder::new_current_thread(),
    };
    runtime.enable_all().build()?.block_on(run())
}

fn lookup(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn run() -> anyhow::Result<()> {
    start_log(lookup);
    let mut config = Config::from_lookup(lookup).map_err(|error| anyhow!(error))?;
    config.fetch = Some(Arc::new(Fetcher::default()));
    let connected = connect(lookup).map_err(|error| anyhow!(error))?;
    let (aws, store) = (connected.aws.clone(), connected.front());
    config.regions = connected.regions;
    // Fetched on first use, so that no heartbeat waits for it.
    if let Some(arn) = lookup("THRUM_ADMIN_KEY_ARN") {
        let client = aws_sdk_secretsmanager::Client::new(&aws);
        config.admin_key = AdminKey::Kept(Arc::new(SecretsManager::new(client, &arn)));
    }
    let doors = match lookup("THRUM_FUNCTION_URL").as_deref() {
        None | Some("" | "open") => Doors::All,
        Some("closed") => Doors::OnlyDomain,
        Some(_) => return Err(anyhow!("THRUM_FUNCTION_URL must be open or closed")),
    };
    let router = router(App::new(store.clone(), config));
    let traces = Traces::new(lookup, SystemWorld::arc());
    let handler = service_fn(move |event: LambdaEvent<LambdaFunctionUrlRequest>| {
        let (router, store, traces) = (router.clone(), store.clone(), traces.clone());
        async move {
            let trace = traces.of(event.context.xray_trace_id.as_deref());
            let reply = answer(router, event.payload, doors, trace).await;
            write_metrics(&store, METRICS_EVERY_MS);
            Ok::<_, Error>(reply)
        }
    });
    lambda_runtime::run_concurrent(handler)
        .await
        .map_err(|error| anyhow!(error))
}
