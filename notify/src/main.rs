//! The notify Lambda: batches from its queue.

use anyhow::{Context, anyhow};
use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use aws_lambda_events::event::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use std::sync::Arc;
use std::time::Duration;
use thrum_notify::send::{Email, Sns, Webhook};
use thrum_notify::{Config, Notify, Sender, Sqs};
use thrum_schema::alert::DELIVERY_WINDOW_S;
use thrum_schema::world::SystemWorld;
use thrum_schema::{Store, store};

/// How long a call may take, with its retries: what arms a timer must not be late (T2).
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().without_time().init();
    let variable =
        |name: &'static str| std::env::var(name).with_context(|| format!("{name} must be set"));
    let world = SystemWorld::arc();
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let aws = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .load()
        .await;
    let shards = match std::env::var("THRUM_TIMER_SHARDS") {
        Ok(text) => text
            .parse()
            .context("THRUM_TIMER_SHARDS must be a number")?,
        Err(_) => 16,
    };
    let store = Store::new(
        aws_sdk_dynamodb::Client::from_conf(store::retrying((&aws).into()).build()),
        &variable("THRUM_TABLE")?,
        shards,
        Arc::clone(&world),
    );
    let smtp_url = std::env::var("THRUM_SMTP_URL").ok().map(Into::into);
    let from = std::env::var("THRUM_MAIL_FROM").unwrap_or("thrum@localhost".into());
    let sender = Sender {
        webhook: Webhook::new(false, world)?,
        email: Email::new(&from, smtp_url.as_ref()).map_err(|error| anyhow!(error))?,
        sns: Sns::new(aws_sdk_sns::Client::new(&aws)),
    };
    let later = Sqs::new(
        aws_sdk_sqs::Client::new(&aws),
        &variable("THRUM_QUEUE_URL")?,
    );
    let config = Config {
        delivery_window_ms: DELIVERY_WINDOW_S * 1000,
    };
    let notify = Notify::new(store, sender, Arc::new(later), config);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| {
        let notify = notify.clone();
        async move { Ok::<_, Error>(notify.on_queue(&event.payload).await) }
    }))
    .await
    .map_err(|error| anyhow!(error))
}
