//! The table's stream: relays alerts, restores removed states, and does short work on signals.

use crate::Evaluate;
use crate::regions::Begun;
use aws_lambda_events::event::dynamodb::{Event, EventRecord, UserIdentity};
use aws_lambda_events::event::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use futures::FutureExt;
use serde_dynamo::Item;
use std::panic::AssertUnwindSafe;
use thrum_schema::id::{ProjectId, RequestId, WatchId};
use thrum_schema::metrics::Count;
use thrum_schema::signal::track::Head;
use thrum_schema::timer::{self, Timer};
use thrum_schema::work::{NotifyWork, Work};
use thrum_schema::{Alert, MonitorState, UnixMs};
use thrum_store::StoreError;
use thrum_store::stream::Change;

/// The principal of removals by TTL.
const TTL_PRINCIPAL: &str = "dynamodb.amazonaws.com";

/// What to do for a record.
#[derive(Debug)]
enum Meaning {
    /// Work for notify.
    Relay(NotifyWork),
    /// Restore a state that TTL removed.
    Removed(Box<MonitorState>),
    /// Queue timers that may be due before the next sweep.
    Soon(Vec<Timer>),
    /// Work on signals.
    Signal(SignalTask),
    /// Nothing.
    Nothing,
}

/// Work on signals that a record requires.
#[derive(Debug, Clone, PartialEq)]
enum SignalTask {
    /// Bars or scores arrived for a followed series.
    Nudge(ProjectId, Box<Head>),
    /// A watch was created or changed.
    Watch(ProjectId, WatchId),
    /// A signal or a backtest was requested.
    Request(RequestId),
}

/// The sequence number of a stream record.
type Sequence = Option<String>;

impl Evaluate {
    /// Handles a batch of stream records (A2): relays alerts first, then restores removed states,
    /// then works on signals, where it does short work itself and sends long work to the queue.
    /// Failed records are reported by sequence number and delivered again with all later ones, so
    /// everything here is idempotent. A record that can't be parsed is logged and skipped, because
    /// it would block its shard.
    ///
    /// In one of two regions, only the active one acts: in the other, records come from replication.
    pub async fn on_stream(&self, event: &Event) -> DynamoDbEventResponse {
        match self.begin().await {
            Ok(Begun::Work(active)) => active.handle_records(event).await,
            Ok(Begun::Passive) => DynamoDbEventResponse::default(),
            Ok(Begun::Repairing) => failed_at(event.records.first()),
            Err(error) => {
                tracing::error!(%error, "it is unknown whether this region is active; the stream will deliver a batch again");
                failed_at(event.records.first())
            }
        }
    }

    async fn handle_records(&self, event: &Event) -> DynamoDbEventResponse {
        let mut relays = Vec::new();
        let mut removals = Vec::new();
        let mut soon = Vec::new();
        let mut tasks = Vec::new();
        for record in &event.records {
            let sequence = record.change.sequence_number.clone();
            match meaning(record, self.since.map(|_| self.store.world().now())) {
                Ok(Meaning::Relay(work)) => relays.push((sequence, work)),
                Ok(Meaning::Removed(state)) => removals.push((sequence, state)),
                Ok(Meaning::Soon(timers)) => soon.extend(timers),
                Ok(Meaning::Signal(task)) => tasks.push((sequence, task)),
                Ok(Meaning::Nothing) => {}
                Err(error) => {
                    tracing::error!(?sequence, %error, "skipped a stream record that can't be parsed");
                }
            }
        }
        let mut failed = self.relay(relays).await;
        failed.extend(self.restore(removals).await);
        if !soon.is_empty() {
            self.queue_soon(&soon).await;
        }
        failed.extend(self.on_signal_tasks(tasks).await);
        let metrics = self.store.metrics();
        metrics.count(Count::Failures, failed.len() as u64);
        let mut response = DynamoDbEventResponse::default();
        response.batch_item_failures = failed
            .into_iter()
            .map(|item_identifier| {
                let mut failure = DynamoDbBatchItemFailure::default();
                failure.item_identifier = item_identifier;
                failure
            })
            .collect();
        response
    }

    /// Relays alerts to the bus. Returns the records that failed.
    async fn relay(&self, relays: Vec<(Sequence, NotifyWork)>) -> Vec<Sequence> {
        let works = relays.iter().map(|(_, work)| work.clone().into());
        let results = self.publish(&works.collect::<Vec<_>>()).await;
        let relays = relays.into_iter().zip(results);
        let failed = relays.filter_map(|((sequence, _), result)| {
            let error = result.err()?;
            tracing::error!(%error, "could not relay an alert; the stream will deliver it again");
            Some(sequence)
        });
        failed.collect()
    }

    /// Restores states that TTL removed. Returns the records that failed.
    async fn restore(&self, removals: Vec<(Sequence, Box<MonitorState>)>) -> Vec<Sequence> {
        let mut failed = Vec::new();
        for (sequence, state) in removals {
            match self.on_removed(&state).await {
                Ok(()) => {}
                Err(error @ StoreError::Corrupt(_)) => {
                    tracing::error!(%error, "could not restore a monitor state that TTL removed; skipped, because it can't be read");
                }
                Err(error) => {
                    tracing::error!(%error, "could not restore a monitor state that TTL removed; it will be retried");
                    failed.push(sequence);
                }
            }
        }
        failed
    }

    /// Works on signals. Returns the records that failed.
    async fn on_signal_tasks(&self, tasks: Vec<(Sequence, SignalTask)>) -> Vec<Sequence> {
        let mut failed = Vec::new();
        for (sequence, task) in tasks {
            let done = AssertUnwindSafe(self.on_signal_task(&task)).catch_unwind();
            match done.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "could not compute a signal; it will be retried");
                    failed.push(sequence);
                }
                // Not reported as failed: it would panic again, and block its shard.
                Err(_) => {
                    tracing::error!(matter = ?task, "the handler panicked on a signal; skipped");
                }
            }
        }
        failed
    }

    /// Does short work, and publishes long work for the queue.
    async fn on_signal_task(&self, task: &SignalTask) -> Result<(), String> {
        let works = match task {
            SignalTask::Nudge(project, head) => self.on_nudge(*project, head).await,
            SignalTask::Watch(project, watch) => self.on_watch(*project, *watch).await,
            SignalTask::Request(request) => self.on_request(*request).await,
        };
        let works = match works {
            Ok(works) => works,
            Err(StoreError::Corrupt(error)) => {
                // A retry would not help, and would block the shard: an operator must fix the item.
                tracing::error!(%error, "an item of the signals can't be read; skipped");
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        };
        let works: Vec<Work> = works.into_iter().map(Into::into).collect();
        let results = self.publish(&works).await;
        results
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(|error| error.to_string())
    }
}

/// The response that has a batch delivered again from a record on.
fn failed_at(record: Option<&EventRecord>) -> DynamoDbEventResponse {
    let mut response = DynamoDbEventResponse::default();
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = record.and_then(|record| record.change.sequence_number.clone());
    response.batch_item_failures = vec![failure];
    response
}

/// Converts changes of the embedded table to the event that Lambda would deliver.
pub fn event_of(changes: impl IntoIterator<Item = Change>) -> Event {
    let mut event = Event::default();
    event.records = changes.into_iter().map(record_of).collect();
    event
}

fn record_of(change: Change) -> EventRecord {
    let mut record = EventRecord::default();
    record.event_id = change.sequence.to_string();
    record.event_name = change.event_name().to_owned();
    record.change.sequence_number = Some(record.event_id.clone());
    record.change.keys = change.key.attributes();
    record.user_identity = change.expired.then(|| {
        let mut who = UserIdentity::default();
        who.type_ = "Service".to_owned();
        who.principal_id = TTL_PRINCIPAL.to_owned();
        who
    });
    record.change.new_image = change.new.unwrap_or_default();
    record.change.old_image = change.old.unwrap_or_default();
    record
}

/// What to do for a record, by the item's kind, the operation, and its principal. In one of two regions, `replicated` is
/// the time: what TTL removed in the other region is replicated without a principal.
fn meaning(
    record: &EventRecord,
    replicated: Option<UnixMs>,
) -> Result<Meaning, serde_dynamo::Error> {
    let (new, old) = (&record.change.new_image, &record.change.old_image);
    match record.event_name.as_str() {
        "INSERT" if kind(new) == Some("alert") => {
            let alert: Alert = serde_dynamo::from_item(new.clone())?;
            Ok(Meaning::Relay(NotifyWork::Alert {
                project: alert.project,
                alert: alert.id,
            }))
        }
        "INSERT" | "MODIFY" if kind(new) == Some("probe") => {
            #[derive(serde::Deserialize)]
            struct Probe {
                at: UnixMs,
            }
            let probe: Probe = serde_dynamo::from_item(new.clone())?;
            Ok(Meaning::Relay(NotifyWork::probe(probe.at)))
        }
        "INSERT" if kind(new) == Some("request") => {
            #[derive(serde::Deserialize)]
            struct Request {
                id: RequestId,
            }
            let request: Request = serde_dynamo::from_item(new.clone())?;
            Ok(Meaning::Signal(SignalTask::Request(request.id)))
        }
        "INSERT" | "MODIFY" if kind(new) == Some("watch") => {
            #[derive(serde::Deserialize)]
            struct Watch {
                project: ProjectId,
                id: WatchId,
            }
            let watch: Watch = serde_dynamo::from_item(new.clone())?;
            Ok(Meaning::Signal(SignalTask::Watch(watch.project, watch.id)))
        }
        // A head counts its nudges; its other changes are irrelevant.
        "INSERT" | "MODIFY"
            if kind(new) == Some("series") && new.get("nudge") != old.get("nudge") =>
        {
            let project = match new.get("pk") {
                Some(serde_dynamo::AttributeValue::S(pk)) => {
                    pk.strip_prefix("P#").and_then(|id| id.parse().ok())
                }
                _ => None,
            };
            let head: Head = serde_dynamo::from_item(new.clone())?;
            Ok(project.map_or(Meaning::Nothing, |project| {
                Meaning::Signal(SignalTask::Nudge(project, Box::new(head)))
            }))
        }
        "INSERT" | "MODIFY" if kind(new) == Some("soon") => match new.get("e") {
            Some(serde_dynamo::AttributeValue::B(bytes)) => {
                Ok(Meaning::Soon(timer::decode(bytes).unwrap_or_default()))
            }
            _ => Ok(Meaning::Nothing),
        },
        "REMOVE"
            if kind(old) == Some("lease")
                && (is_by_ttl(record) || replicated.is_some_and(|now| has_expired(old, now))) =>
        {
            Ok(Meaning::Removed(Box::new(serde_dynamo::from_item(
                old.clone(),
            )?)))
        }
        _ => Ok(Meaning::Nothing),
    }
}

fn kind(image: &Item) -> Option<&str> {
    match image.get("kind") {
        Some(serde_dynamo::AttributeValue::S(kind)) => Some(kind),
        _ => None,
    }
}

/// Whether TTL could have removed an item.
fn has_expired(image: &Item, now: UnixMs) -> bool {
    match image.get("expires_at") {
        Some(serde_dynamo::AttributeValue::N(seconds)) => {
            seconds.parse().is_ok_and(|at: i64| at <= now.secs())
        }
        _ => false,
    }
}

fn is_by_ttl(record: &EventRecord) -> bool {
    record
        .user_identity
        .as_ref()
        .is_some_and(|who| who.principal_id == TTL_PRINCIPAL)
}
