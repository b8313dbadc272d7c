//! The notify Lambda function: handles batches from its queue.

use anyhow::anyhow;
use aws_lambda_events::event::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use std::sync::Arc;
use thrum_notify::send::{EventBridge, Http, Mail, Reach, Sns, Topics};
use thrum_notify::{Config, Notify, Sender};
use thrum_schema::alert::DELIVERY_WINDOW_S;
use thrum_schema::world::SystemWorld;
use thrum_schema::{Plans, UnixMs};
use thrum_store::lambda::{Connected, Sqs, Traces, connect, required, start_log, write_metrics};
use thrum_store::trace;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let lookup = |name: &str| std::env::var(name).ok();
    start_log(lookup);
    let Connected {
        aws,
        store,
        regions,
        ..
    } = connect(lookup).map_err(|error| anyhow!(error))?;
    let sns = aws_sdk_sns::Client::new(&aws);
    let mail_topics = required(lookup, "THRUM_MAIL_TOPICS").map_err(|error| anyhow!(error))?;
    let sender = Sender {
        http: Http::new(Reach::default(), SystemWorld::arc()),
        mail: Mail::Topics(Topics::new(sns.clone(), &mail_topics)),
        sns: Sns::new(sns),
        eventbridge: EventBridge::new(aws_sdk_eventbridge::Client::new(&aws)),
    };
    let queue = required(lookup, "THRUM_QUEUE_URL").map_err(|error| anyhow!(error))?;
    let later = Sqs::new(aws_sdk_sqs::Client::new(&aws), &queue);
    let plans = match lookup("THRUM_PLANS").filter(|text| !text.is_empty()) {
        Some(text) => Plans::from_json(&text).map_err(|error| anyhow!(error))?,
        None => Plans::default(),
    };
    let config = Config {
        delivery_window_ms: DELIVERY_WINDOW_S * 1000,
        max_at_once: thrum_notify::MAX_AT_ONCE,
        site_url: lookup("THRUM_SITE_URL")
            .map(|url| url.trim_end_matches('/').to_owned())
            .filter(|url| !url.is_empty()),
        confirm: None,
        plans,
    };
    let mut notify = Notify::new(store, sender, Arc::new(later), config);
    if let Some(regions) = regions {
        notify = notify.in_region(regions);
    }
    let traces = Traces::new(lookup, SystemWorld::arc());
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| {
        let ends = i64::try_from(event.context.deadline).unwrap_or(i64::MAX);
        let notify = notify.clone().until(UnixMs(ends));
        let trace = traces.of(event.context.xray_trace_id.as_deref());
        async move {
            let answer = trace::within(trace, notify.on_queue(&event.payload)).await;
            write_metrics(notify.store(), 0);
            Ok::<_, Error>(answer)
        }
    }))
    .await
    .map_err(|error| anyhow!(error))
}
