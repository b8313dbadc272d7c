//! The evaluate Lambda: stream batches, the schedule's ticks and the work queue come to the same function.

use anyhow::anyhow;
use aws_lambda_events::event::dynamodb::Event;
use aws_lambda_events::event::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::sync::Arc;
use thrum_evaluate::{Evaluate, EventBridge, HttpDoor, Pulse};
use thrum_schema::Store;
use thrum_schema::store::{connect, required};

/// How often the pulse is kept at most, and the gap between pulses that is an outage (T3).
const PULSE_EVERY_MS: i64 = 30_000;
const PULSE_GAP_MS: i64 = 150_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().without_time().init();
    let lookup = |name: &str| std::env::var(name).ok();
    let variable = |name| required(lookup, name).map_err(|error| anyhow!(error));
    let (aws, store) = connect(lookup).await.map_err(|error| anyhow!(error))?;
    let bus = EventBridge::new(
        aws_sdk_eventbridge::Client::new(&aws),
        &variable("THRUM_BUS")?,
    );
    let door = HttpDoor::new(variable("THRUM_PULSE_URL")?)?;
    let pulse = Arc::new(Pulse::new(Arc::new(door), PULSE_EVERY_MS));
    let name = store.world().uuid_v4().to_string();
    let evaluate = Evaluate::new(store.clone(), Arc::new(bus), &name, PULSE_GAP_MS);
    store.ensure_pipeline(store.world().now()).await?;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let (evaluate, pulse, store) = (evaluate.clone(), Arc::clone(&pulse), store.clone());
        async move { handle(&evaluate, &pulse, &store, event.payload).await }
    }))
    .await
    .map_err(|error| anyhow!(error))
}

async fn handle(
    evaluate: &Evaluate,
    pulse: &Pulse,
    store: &Store,
    payload: Value,
) -> Result<Value, Error> {
    let source = payload.pointer("/Records/0/eventSource");
    if source.and_then(Value::as_str) == Some("aws:sqs") {
        let event: SqsEvent = serde_json::from_value(payload)?;
        return Ok(serde_json::to_value(evaluate.on_work(&event).await)?);
    }
    if payload.get("Records").is_some() {
        let event: Event = serde_json::from_value(payload)?;
        return Ok(serde_json::to_value(evaluate.on_stream(&event).await)?);
    }
    evaluate.keep_pulse(pulse).await?;
    let sweeps = (0..store.shards()).map(|shard| evaluate.sweep(shard));
    // Every shard is swept, whatever becomes of another; an error then makes the alarm ring.
    for swept in futures::future::join_all(sweeps).await {
        swept?;
    }
    Ok(Value::Null)
}
