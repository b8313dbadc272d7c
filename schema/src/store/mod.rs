//! The table: named operations, each with its conditions and its cost.
//!
//! Costs are in DynamoDB's units for items below 1 kB (writes) and 4 kB (reads): a write is 1 WU, one in a
//! transaction 2; a consistent read is 1 RU, an eventually consistent one a half.

mod alerts;
mod channels;
mod deliveries;
mod heartbeat;
mod keys;
mod monitors;
mod outages;
mod projects;
mod requests;
mod series;
mod strategies;
mod table;
mod timers;
mod touched;
mod tracks;
mod usage;
mod watches;

pub use channels::ChannelHealth;
pub use deliveries::{Claim, Settled};
pub use heartbeat::{Commit, Fast, Rules, State, WAKE_MS};
pub use monitors::{Census, Claims, Creation};
pub use series::{Fed, Nudge, PutBar};
pub use timers::{Cursor, TimerItem};
pub use touched::Touched;
pub use tracks::Advance;
pub use usage::{Balance, Charge, Charged};

use crate::item::{self, Item, Key, n, s};
use crate::metrics::Metrics;
use crate::plan::Rate;
use crate::time::UnixMs;
use crate::world::World;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder as ConfigBuilder;
use aws_sdk_dynamodb::config::interceptors::InterceptorContext;
use aws_sdk_dynamodb::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, KeysAndAttributes, Put, TransactWriteItem, Update,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// How many batches of a long read are under way at a time.
const BATCHES_AT_A_TIME: usize = 4;
/// How often a transaction is tried that meets others on their way.
const MAX_TRANSACTION_ATTEMPTS: u32 = 6;

/// Why an operation did not do what it is named for.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// A condition did not hold: somebody else was quicker. Nothing was written.
    #[error("somebody else was quicker")]
    Conflict,
    /// The table does not answer, or refuses; whether anything was written is not known.
    #[error("the table does not answer: {0}")]
    Unavailable(String),
    /// An item is not what its key says.
    #[error("an item can't be read: {0}")]
    Corrupt(String),
}

/// The result of an operation on the table.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    table: Arc<str>,
    shards: u16,
    world: Arc<dyn World>,
    metrics: Arc<Metrics>,
    touched: touched::Feed,
}

impl Store {
    /// The table named `table`, whose timers are spread over `shards`.
    pub fn new(client: Client, table: &str, shards: u16, world: Arc<dyn World>) -> Self {
        Self {
            client,
            table: table.into(),
            shards: shards.max(1),
            world,
            metrics: Arc::default(),
            touched: touched::Feed::default(),
        }
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// What happened on it since the figures were last written.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many shards the timers are spread over.
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The clock and the randomness that the handlers share.
    pub fn world(&self) -> &dyn World {
        self.world.as_ref()
    }

    /// Reads one item, consistently. 1 RU.
    async fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        let found = self
            .client
            .get_item()
            .table_name(&*self.table)
            .set_key(Some(key.attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(classify)?;
        found.item.map(item::decode).transpose()
    }

    /// Writes one item, whatever was there. 1 WU.
    async fn put(&self, item: Item) -> Result<()> {
        self.client
            .put_item()
            .table_name(&*self.table)
            .set_item(Some(item))
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }

    /// Reads items by their keys, consistently. 1 RU an item.
    async fn get_many<T: DeserializeOwned + Send + 'static>(
        &self,
        keys: Vec<Key>,
    ) -> Result<Vec<T>> {
        self.get_batches(keys, true).await
    }

    /// Reads items by their keys, as they are or were a moment ago. 0.5 RU an item.
    async fn get_many_lately<T: DeserializeOwned + Send + 'static>(
        &self,
        keys: Vec<Key>,
    ) -> Result<Vec<T>> {
        self.get_batches(keys, false).await
    }

    /// Reads in calls of 100, some at a time and each a task of its own: what costs time is making items of what the
    /// table answers.
    async fn get_batches<T: DeserializeOwned + Send + 'static>(
        &self,
        keys: Vec<Key>,
        consistent: bool,
    ) -> Result<Vec<T>> {
        if keys.len() <= 100 {
            return self.get_batch(keys, consistent).await;
        }
        let chunks: Vec<Vec<Key>> = keys.chunks(100).map(<[Key]>::to_vec).collect();
        let found: Vec<Vec<T>> = stream::iter(chunks)
            .map(|chunk| {
                let store = self.clone();
                let task = tokio::spawn(async move { store.get_batch(chunk, consistent).await });
                async move {
                    let failed = |error| StoreError::Unavailable(format!("a read failed: {error}"));
                    task.await.map_err(failed)?
                }
            })
            .buffered(BATCHES_AT_A_TIME)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads at most 100 items, asking again for those that the table left out.
    async fn get_batch<T: DeserializeOwned>(
        &self,
        keys: Vec<Key>,
        consistent: bool,
    ) -> Result<Vec<T>> {
        let mut found = Vec::with_capacity(keys.len());
        let mut wanted: Vec<Item> = keys.iter().map(Key::attributes).collect();
        let mut attempt = 0;
        while !wanted.is_empty() {
            self.pause_before_attempt(attempt).await?;
            attempt += 1;
            let request = KeysAndAttributes::builder()
                .set_keys(Some(wanted))
                .consistent_read(consistent)
                .build()
                .expect("keys are given");
            let mut answer = self
                .client
                .batch_get_item()
                .request_items(&*self.table, request)
                .send()
                .await
                .map_err(classify)?;
            let items = answer
                .responses
                .as_mut()
                .and_then(|tables| tables.remove(&*self.table));
            for item in items.unwrap_or_default() {
                found.push(item::decode(item)?);
            }
            wanted = answer
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(&*self.table))
                .map(|left| left.keys)
                .unwrap_or_default();
        }
        Ok(found)
    }

    /// Waits before batches are tried again that the table took in part; gives up after eight attempts.
    async fn pause_before_attempt(&self, attempt: u32) -> Result<()> {
        match attempt {
            0 => {}
            1..=8 => tokio::time::sleep(Duration::from_millis(25 << attempt)).await,
            _ => return Err(StoreError::Unavailable("throttled for seconds".into())),
        }
        Ok(())
    }

    /// Writes all of `writes` or none of them. 2 WU an item. A transaction that only met another one on its way,
    /// and no condition that failed, is tried again.
    async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<()> {
        debug_assert!(writes.len() <= 100);
        for attempt in 0..MAX_TRANSACTION_ATTEMPTS {
            let sent = self
                .client
                .transact_write_items()
                .set_transact_items(Some(writes.clone()))
                .send()
                .await;
            match sent {
                Ok(_) => return Ok(()),
                Err(error) => match cancelled_by(&error) {
                    Some(Cancelled::Condition) => return Err(StoreError::Conflict),
                    Some(Cancelled::OtherTransaction) => {
                        let most_ms = f64::from(10_u32 << attempt);
                        let wait = most_ms / 1000.0 * self.world.jitter();
                        tokio::time::sleep(Duration::from_secs_f64(wait)).await;
                    }
                    None => return Err(unavailable(&error)),
                },
            }
        }
        Err(StoreError::Conflict)
    }

    /// Reads a partition, or the part of it whose sort keys begin with `prefix`. 1 RU per 4 kB, or a half
    /// if not `consistent`.
    async fn query_prefix<T: DeserializeOwned>(
        &self,
        pk: &str,
        prefix: &str,
        query: Query,
    ) -> Result<Vec<T>> {
        // An empty key value is refused, even as a prefix.
        if prefix.is_empty() {
            return self.query("pk = :pk", vec![(":pk", s(pk))], query).await;
        }
        let values = vec![(":pk", s(pk)), (":prefix", s(prefix))];
        self.query("pk = :pk AND begins_with(sk, :prefix)", values, query)
            .await
    }

    /// Reads the part of a partition whose sort keys lie from `from` to `to`. Costs as [`Self::query_prefix`].
    async fn query_between<T: DeserializeOwned>(
        &self,
        pk: &str,
        from: &str,
        to: &str,
        query: Query,
    ) -> Result<Vec<T>> {
        if from > to {
            return Ok(Vec::new());
        }
        let values = vec![(":pk", s(pk)), (":from", s(from)), (":to", s(to))];
        self.query("pk = :pk AND sk BETWEEN :from AND :to", values, query)
            .await
    }

    async fn query<T: DeserializeOwned>(
        &self,
        condition: &str,
        values: Vec<(&str, AttributeValue)>,
        query: Query,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let left = query
                .limit
                .map(|limit| limit - i32::try_from(found.len()).unwrap_or(limit));
            let page = self
                .client
                .query()
                .table_name(&*self.table)
                .key_condition_expression(condition)
                .set_expression_attribute_values(values_of(values.clone()))
                .consistent_read(query.consistent)
                .scan_index_forward(!query.newest_first)
                .set_limit(left)
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(classify)?;
            for item in page.items.unwrap_or_default() {
                found.push(item::decode(item)?);
            }
            from = page.last_evaluated_key;
            let full = query
                .limit
                .is_some_and(|limit| found.len() >= usize::try_from(limit).unwrap_or(0));
            if from.is_none() || full {
                return Ok(found);
            }
        }
    }

    fn put_item(&self, item: Item) -> PutBuilder {
        Put::builder().table_name(&*self.table).set_item(Some(item))
    }

    /// A put in a transaction.
    fn write(&self, item: Item) -> TransactWriteItem {
        TransactWriteItem::builder()
            .put(self.put_item(item).build().expect("complete"))
            .build()
    }

    /// A put in a transaction of an item that must not be there yet.
    fn create(&self, item: Item) -> TransactWriteItem {
        let put = self
            .put_item(item)
            .condition_expression("attribute_not_exists(pk)");
        TransactWriteItem::builder()
            .put(put.build().expect("complete"))
            .build()
    }

    /// A condition in a transaction that an item is there.
    fn require(&self, key: &Key) -> TransactWriteItem {
        let check = ConditionCheck::builder()
            .table_name(&*self.table)
            .set_key(Some(key.attributes()))
            .condition_expression("attribute_exists(pk)");
        TransactWriteItem::builder()
            .condition_check(check.build().expect("complete"))
            .build()
    }

    /// A condition in a transaction on an item that is not written.
    fn check(
        &self,
        key: &Key,
        condition: &str,
        values: Vec<(&str, AttributeValue)>,
    ) -> TransactWriteItem {
        let check = ConditionCheck::builder()
            .table_name(&*self.table)
            .set_key(Some(key.attributes()))
            .condition_expression(condition)
            .set_expression_attribute_values(values_of(values));
        TransactWriteItem::builder()
            .condition_check(check.build().expect("complete"))
            .build()
    }

    /// The removal of an item in a transaction.
    fn remove(&self, key: &Key) -> TransactWriteItem {
        let delete = Delete::builder()
            .table_name(&*self.table)
            .set_key(Some(key.attributes()));
        TransactWriteItem::builder()
            .delete(delete.build().expect("complete"))
            .build()
    }

    /// The removal in a transaction of an item for which `condition` holds.
    fn remove_if(
        &self,
        key: &Key,
        names: &[(&str, &str)],
        condition: &str,
        values: Vec<(&str, AttributeValue)>,
    ) -> TransactWriteItem {
        let delete = Delete::builder()
            .table_name(&*self.table)
            .set_key(Some(key.attributes()))
            .condition_expression(condition)
            .set_expression_attribute_names(names_of(names))
            .set_expression_attribute_values(values_of(values));
        TransactWriteItem::builder()
            .delete(delete.build().expect("complete"))
            .build()
    }

    /// An update in a transaction, whatever was there if `condition` is empty.
    fn update(
        &self,
        key: &Key,
        expression: &str,
        condition: &str,
        names: &[(&str, &str)],
        values: Vec<(&str, AttributeValue)>,
    ) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&*self.table)
            .set_key(Some(key.attributes()))
            .update_expression(expression)
            .set_condition_expression((!condition.is_empty()).then(|| condition.to_owned()))
            .set_expression_attribute_names(names_of(names))
            .set_expression_attribute_values(values_of(values));
        TransactWriteItem::builder()
            .update(update.build().expect("complete"))
            .build()
    }
}

/// Makes a client try again what met a transaction on the same item: DynamoDB refuses the write, and the SDK would
/// give up.
pub fn retrying(config: ConfigBuilder) -> ConfigBuilder {
    config.retry_classifier(TransactionConflicts)
}

#[derive(Debug)]
struct TransactionConflicts;

impl ClassifyRetry for TransactionConflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let body = context.response().and_then(|reply| reply.body().bytes());
        let name = b"TransactionConflictException";
        match body {
            Some(body) if body.windows(name.len()).any(|text| text == name) => {
                RetryAction::transient_error()
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "a write met a transaction on its item"
    }
}

/// How an update takes its share of a rate (GCRA), in its own attribute `tat`; `:now` is the current instant.
struct Pace {
    set: &'static str,
    condition: &'static str,
    values: Vec<(&'static str, AttributeValue)>,
}

impl Pace {
    /// As long as the instant is behind: a steady sender passes so.
    fn steady(rate: Rate, now: UnixMs) -> Self {
        Self {
            set: "tat = :tat",
            condition: "(attribute_not_exists(tat) OR tat <= :now)",
            values: vec![(":tat", n(now.0 + rate.interval_ms))],
        }
    }

    /// As long as the instant is not too far ahead: a burst passes so.
    fn burst(rate: Rate, now: UnixMs) -> Self {
        Self {
            set: "tat = tat + :interval",
            condition: "tat > :now AND tat <= :most",
            values: vec![
                (":most", n(now.0 + rate.burst_ms)),
                (":interval", n(rate.interval_ms)),
            ],
        }
    }
}

type PutBuilder = aws_sdk_dynamodb::types::builders::PutBuilder;

/// How a partition is read.
#[derive(Debug, Clone, Copy, Default)]
struct Query {
    consistent: bool,
    newest_first: bool,
    limit: Option<i32>,
}

fn names_of(names: &[(&str, &str)]) -> Option<HashMap<String, String>> {
    (!names.is_empty()).then(|| {
        names
            .iter()
            .map(|(name, attribute)| ((*name).to_owned(), (*attribute).to_owned()))
            .collect()
    })
}

fn values_of(values: Vec<(&str, AttributeValue)>) -> Option<HashMap<String, AttributeValue>> {
    (!values.is_empty()).then(|| {
        values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    })
}

/// What an error of the SDK means to us.
fn classify<E, R>(error: SdkError<E, R>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    if error.code() == Some("ConditionalCheckFailedException") {
        return StoreError::Conflict;
    }
    unavailable(&error)
}

/// What was there, if an update failed by its condition; `None` if it failed for another reason.
#[expect(clippy::option_option, reason = "there may be nothing there")]
fn failed_condition<R>(error: &SdkError<UpdateItemError, R>) -> Option<Option<Item>> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
            Some(failed.item.clone().filter(|item| !item.is_empty()))
        }
        _ => None,
    }
}

/// Why a transaction was cancelled.
enum Cancelled {
    /// A condition did not hold: begun again, the caller will see what won.
    Condition,
    /// Another transaction was under way on one of the items.
    OtherTransaction,
}

fn cancelled_by<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Cancelled> {
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
        error.as_service_error()
    else {
        return None;
    };
    let has = |code| {
        let mut reasons = cancelled.cancellation_reasons().iter();
        reasons.any(|reason| reason.code() == Some(code))
    };
    if has("ConditionalCheckFailed") {
        Some(Cancelled::Condition)
    } else if has("TransactionConflict") {
        Some(Cancelled::OtherTransaction)
    } else {
        None
    }
}

fn unavailable<E, R>(error: &SdkError<E, R>) -> StoreError
where
    E: ProvideErrorMetadata,
{
    let kind = match error {
        SdkError::TimeoutError(_) => "timed out",
        SdkError::DispatchFailure(_) => "could not be reached",
        SdkError::ConstructionFailure(_) | SdkError::ResponseError(_) => "was not understood",
        _ => "refused",
    };
    let code = error.code().unwrap_or("no code");
    let message = error.message().unwrap_or_default();
    StoreError::Unavailable(format!("{kind} ({code}) {message}"))
}
