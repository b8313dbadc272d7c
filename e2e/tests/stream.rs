//! The stream handler as Lambda calls it: partial failures, irrelevant records and duplicates.

use aws_lambda_events::event::dynamodb::Event;
use e2e::{Receiver, Stage};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use thrum_evaluate::{Bus, BusError, Evaluate, event_of};
use thrum_schema::ProjectId;
use thrum_schema::work::Work;

/// A bus that refuses every second event.
#[derive(Debug, Default)]
struct Flaky(Mutex<Vec<Work>>);

impl Bus for Flaky {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        let results = works
            .iter()
            .enumerate()
            .map(|(i, work)| {
                if i % 2 == 1 {
                    return Err(BusError("full".into()));
                }
                self.0.lock().unwrap().push(work.clone());
                Ok(())
            })
            .collect();
        Box::pin(std::future::ready(results))
    }
}

fn record(sequence: &str, name: &str, new: Value) -> Value {
    json!({
        "eventID": sequence, "eventName": name, "awsRegion": "eu-central-1", "eventSource": "aws:dynamodb",
        "dynamodb": {"Keys": {}, "NewImage": new, "SequenceNumber": sequence, "SizeBytes": 1},
    })
}

/// The stream image of a real alert.
async fn alert_image(stage: &Stage) -> Value {
    stage
        .heartbeat(json!({"monitor": "job", "status": "fail"}))
        .await;
    let records = stage.records().await;
    let mut images = records
        .iter()
        .map(|record| record["dynamodb"]["NewImage"].clone());
    images
        .find(|image| image["kind"]["S"] == "alert")
        .expect("an alert")
}

#[tokio::test]
async fn only_records_that_were_not_relayed_are_reported() {
    let stage = Stage::new().await;
    let alert = alert_image(&stage).await;
    let bus = Arc::new(Flaky::default());
    let evaluate = Evaluate::new(stage.store.clone(), bus.clone(), "test", 60_000);
    let foreign = json!({"kind": {"S": "foreign"}});
    let broken = json!({"kind": {"S": "alert"}, "id": {"N": "7"}});
    let event: Event = serde_json::from_value(json!({"Records": [
        record("1", "INSERT", alert.clone()),
        record("2", "INSERT", foreign),
        record("3", "INSERT", broken),
        record("4", "INSERT", alert.clone()),
        record("5", "MODIFY", alert.clone()),
        record("6", "REMOVE", json!({})),
        record("7", "INSERT", alert),
        record("8", "INSERT", json!({})),
    ]}))
    .unwrap();
    let response = evaluate.on_stream(&event).await;
    let failed: Vec<Option<String>> = response
        .batch_item_failures
        .into_iter()
        .map(|failure| failure.item_identifier)
        .collect();
    assert_eq!(
        failed,
        [Some("4".to_owned())],
        "the second of the three relayed events"
    );
    assert_eq!(bus.0.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn duplicate_records_change_nothing() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    stage.webhook(&receiver.url, json!({})).await;
    alert_image(&stage).await;
    let event = event_of(stage.all_changes().await);
    let evaluate = stage.sweeper("test");
    for _ in 0..3 {
        assert!(
            evaluate
                .on_stream(&event)
                .await
                .batch_item_failures
                .is_empty()
        );
        stage.carry().await;
    }
    assert_eq!(receiver.received().len(), 1);
    let meter = "deliveries#webhook";
    let taken = stage.store.taken(
        ProjectId::FIRST,
        meter,
        thrum_schema::World::now(&*stage.world),
    );
    assert_eq!(taken.await.unwrap(), 1, "the delivery is charged once");
}
