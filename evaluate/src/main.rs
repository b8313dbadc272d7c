//! The evaluate Lambda function. The schedule, the table's stream and two queues call it.

#![recursion_limit = "256"]

use anyhow::anyhow;
use aws_lambda_events::event::dynamodb::Event;
use aws_lambda_events::event::sqs::SqsEvent;
use futures::future::join_all;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use std::sync::Arc;
use thrum_evaluate::{Evaluate, EventBridge, HttpSelfPing, Pulse};
use thrum_schema::metrics::Sample;
use thrum_store::lambda::{Sqs, connect, required, start_log, write_metrics};
use tokio::sync::OnceCell;

/// Shortest time between two pulses, in milliseconds.
const PULSE_EVERY_MS: i64 = 30_000;
/// Pings per pulse. With three, a share of refused requests shows three times as soon.
const PULSE_PINGS: usize = 3;
/// A longer gap between pulses, in milliseconds, is an outage (T3).
const PULSE_GAP_MS: i64 = 150_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let lookup = |name: &str| std::env::var(name).ok();
    start_log(lookup);
    let variable = |name| required(lookup, name).map_err(|error| anyhow!(error));
    let (aws, store) = connect(lookup).map_err(|error| anyhow!(error))?;
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
    let evaluate =
        Evaluate::new(store, Arc::new(bus), &name, PULSE_GAP_MS).with_timer_queue(Arc::new(queue));
    let schedule = Arc::new(Schedule {
        pulse: Pulse::new(Arc::new(self_ping), PULSE_EVERY_MS, PULSE_PINGS),
        ready: OnceCell::new(),
    });
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let (evaluate, schedule) = (evaluate.clone(), Arc::clone(&schedule));
        async move {
            let answer = handle(&evaluate, &schedule, event.payload).await;
            write_metrics(evaluate.store(), 0);
            answer
        }
    }))
    .await
    .map_err(|error| anyhow!(error))
}

async fn handle(evaluate: &Evaluate, schedule: &Schedule, payload: Value) -> Result<Value, Error> {
    let source = payload.pointer("/Records/0/eventSource");
    match source.and_then(Value::as_str) {
        Some("aws:sqs") => {
            let event: SqsEvent = serde_json::from_value(payload)?;
            Ok(serde_json::to_value(evaluate.on_work(&event).await)?)
        }
        Some("aws:dynamodb") => {
            let event: Event = serde_json::from_value(payload)?;
            Ok(serde_json::to_value(evaluate.on_stream(&event).await)?)
        }
        // The input that `template.yaml` sets for the schedule.
        None if payload["do"] == "sweep" => {
            schedule.tick(evaluate).await?;
            Ok(Value::Null)
        }
        _ => Err("unknown event: must come from the schedule, the stream or the queue".into()),
    }
}

/// State that is kept between the ticks of the schedule.
struct Schedule {
    pulse: Pulse,
    /// Set once the table has the cursors and the pulse that the pipeline needs.
    ready: OnceCell<()>,
}

impl Schedule {
    /// One tick: records an outage, if there was one, sweeps every shard, and queues what is due
    /// before the next tick. The outage comes first, because deadlines are judged by it (T3).
    async fn tick(&self, evaluate: &Evaluate) -> Result<(), Error> {
        let store = evaluate.store();
        let started = store.world().now();
        self.ready
            .get_or_try_init(|| store.ensure_pipeline(started))
            .await?;
        evaluate.keep_pulse(&self.pulse).await?;
        // Sweep every shard even if another fails; the error still triggers the alarm.
        let swept = join_all((0..store.shards()).map(|shard| evaluate.sweep(shard))).await;
        let ahead = evaluate.look_ahead(started).await;
        let lag_ms = swept.iter().flatten().map(|swept| swept.lag_ms).max();
        let swept: Result<Vec<_>, _> = swept.into_iter().collect();
        swept?;
        store
            .metrics()
            .observe(Sample::SweepLag, lag_ms.unwrap_or(0));
        ahead?;
        // All work is done, but no monitor goes down while the pulse fails: fail, to trigger the
        // alarm.
        match self.pulse.failure() {
            None => Ok(()),
            Some(error) => {
                Err(format!("the pipeline's own heartbeat did not get through: {error}").into())
            }
        }
    }
}
