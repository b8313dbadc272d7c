//! The notify Lambda: batches from its queue.

use anyhow::anyhow;
use aws_lambda_events::event::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use std::sync::Arc;
use thrum_notify::send::{Email, Sns, Webhook};
use thrum_notify::{Config, Notify, Sender, Sqs};
use thrum_schema::Plans;
use thrum_schema::alert::DELIVERY_WINDOW_S;
use thrum_schema::store::{connect, required};
use thrum_schema::world::SystemWorld;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().without_time().init();
    let lookup = |name: &str| std::env::var(name).ok();
    let (aws, store) = connect(lookup).await.map_err(|error| anyhow!(error))?;
    let smtp_url = lookup("THRUM_SMTP_URL").map(Into::into);
    let from = lookup("THRUM_MAIL_FROM").unwrap_or("thrum@localhost".into());
    let sender = Sender {
        webhook: Webhook::new(false, SystemWorld::arc())?,
        email: Email::new(&from, smtp_url.as_ref()).map_err(|error| anyhow!(error))?,
        sns: Sns::new(aws_sdk_sns::Client::new(&aws)),
    };
    let queue = required(lookup, "THRUM_QUEUE_URL").map_err(|error| anyhow!(error))?;
    let later = Sqs::new(aws_sdk_sqs::Client::new(&aws), &queue);
    let plans = match lookup("THRUM_PLANS") {
        Some(text) => Plans::from_json(&text).map_err(|error| anyhow!(error))?,
        None => Plans::default(),
    };
    let config = Config {
        delivery_window_ms: DELIVERY_WINDOW_S * 1000,
        plans,
    };
    let notify = Notify::new(store, sender, Arc::new(later), config);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| {
        let notify = notify.clone();
        async move { Ok::<_, Error>(notify.on_queue(&event.payload).await) }
    }))
    .await
    .map_err(|error| anyhow!(error))
}
