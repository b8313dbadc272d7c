//! The evaluate Lambda function. The schedule, the table's stream and two queues call it.

#![recursion_limit = "256"]

use anyhow::anyhow;
use aws_lambda_events::event::dynamodb::Event;
use aws_lambda_events::event::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::sync::Arc;
use thrum_evaluate::{Evaluate, EventBridge, HttpSelfPing, Pulse, Schedule};
use thrum_schema::world::SystemWorld;
use thrum_store::lambda::{Connected, Sqs, Traces, connect, required, start_log, write_metrics};
use thrum_store::trace;

/// Shortest time between two pulses, in milliseconds.
const PULSE_EVERY_MS: i64 = 30_000;
/// Pings per pulse. With three, a share of refused requests shows three times as soon.
const PULSE_PINGS: usize = 3;
/// A longer gap between pulses, in milliseconds, is an outage (T3).
const PULSE_GAP_MS: i64 = 150_000;
/// Shards that an invocation sweeps; it leaves the others to further invocations.
const SHARDS_AT_A_TIME: u16 = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let lookup = |name: &str| std::env::var(name).ok();
    start_log(lookup);
    let variable = |name| required(lookup, name).map_err(|error| anyhow!(error));
    let Connected {
        aws,
        store,
        regions,
        ..
    } = connect(lookup).map_err(|error| anyhow!(error))?;
    let bus = EventBridge::new(
        aws_sdk_eventbridge::Client::new(&aws),
        &variable("THRUM_BUS")?,
    );
    let queue = Sqs::new(
        aws_sdk_sqs::Client::new(&aws),
        &variable("THRUM_TIMER_QUEUE_URL")?,
    );
    let self_ping = HttpSelfPing::new(&variable("THRUM_PULSE_URLS")?);
    let name = store.world().uuid_v4().to_string();
    let pulse = Pulse::new(Arc::new(self_ping), PULSE_EVERY_MS, PULSE_PINGS);
    let mut evaluate = Evaluate::new(store, Arc::new(bus), &name, PULSE_GAP_MS)
        .with_timer_queue(Arc::new(queue))
        .on_schedule(Schedule::new(pulse, SHARDS_AT_A_TIME));
    if let Some(regions) = regions {
        evaluate = evaluate.in_region(regions);
    }
    let traces = Traces::new(lookup, SystemWorld::arc());
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let (evaluate, traces) = (evaluate.clone(), traces.clone());
        async move {
            let trace = traces.of(event.context.xray_trace_id.as_deref());
            let answer = trace::within(trace, handle(&evaluate, event.payload)).await;
            write_metrics(evaluate.store(), 0);
            answer
        }
    }))
    .await
    .map_err(|error| anyhow!(error))
}

async fn handle(evaluate: &Evaluate, payload: Value) -> Result<Value, Error> {
    let source = payload.pointer("/Records/0/eventSource");
    match source.and_then(Value::as_str) {
        Some("aws:sqs") => {
            let event: SqsEvent = serde_json::from_value(payload)?;
            Ok(serde_json::to_value(evaluate.on_work(&event).await?)?)
        }
        Some("aws:dynamodb") => {
            let event: Event = serde_json::from_value(payload)?;
            Ok(serde_json::to_value(evaluate.on_stream(&event).await)?)
        }
        // The input that `template.yaml` sets for the schedule.
        None if payload["do"] == "sweep" => {
            evaluate.tick().await?;
            Ok(Value::Null)
        }
        _ => Err("unknown event: must come from the schedule, the stream or the queue".into()),
    }
}
