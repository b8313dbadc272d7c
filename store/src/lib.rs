//! The table: named operations, with their conditions and costs.
//!
//! [`Store`] has the operations; their files are in `operations/`. They use the port in [`table`],
//! which has an adapter for DynamoDB ([`dynamodb`]) and one for SQLite in this process
//! ([`sqlite`]). Keys are built in [`key`], items in [`item`].
//!
//! Costs are in DynamoDB's units, for items below 1 kB (writes) and 4 kB (reads): a write is 1 WU,
//! in a transaction 2 WU; a consistent read is 1 RU, an eventually consistent one 0.5 RU.

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod item;
pub mod key;
#[cfg(feature = "lambda")]
pub mod lambda;
#[cfg(feature = "log")]
pub mod log;
mod operations;
pub mod queue;
pub mod regions;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod stream;
pub mod table;
#[cfg(feature = "tls")]
pub mod tls;
pub mod trace;

pub use operations::*;

use futures::{StreamExt, TryStreamExt, stream as futures_stream};
use key::Key;
use regions::{Act, FencedTable};
use serde::de::DeserializeOwned;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use table::{Item, MAX_READ_BATCH, MAX_TRANSACTION, Query, Read, Table, TableError, Write, put};
use thiserror::Error;
use thrum_schema::dependency::MAX_ANCESTORS;
use thrum_schema::id::MonitorId;
use thrum_schema::metrics::Metrics;
use thrum_schema::world::World;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How many batches of a long read run concurrently.
const BATCHES_AT_A_TIME: usize = 4;
/// How many times to resend a batch's unprocessed items.
const MAX_BATCH_ATTEMPTS: u32 = 8;
/// How long to keep retrying a transaction that conflicts or is throttled. A caller that arms
/// timers must finish within 30 s of reading the clock (T2): it starts its last transaction within
/// 20 s, and a call takes at most 8 s.
const RETRY_FOR: Duration = Duration::from_secs(2);
/// The same for the transaction that creates a monitor. If thousands are created at once, an answer
/// that says when to come back is better than many requests that wait.
const RETRY_CREATION_FOR: Duration = Duration::from_millis(300);
/// The longest pause before a transaction's first retry; it doubles with each retry, up to
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How many conflicts to retry before the caller must read the items again.
const MAX_CONFLICTS: u32 = 6;

/// Why an operation failed.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// A condition did not hold: an item changed concurrently. Nothing was written.
    #[error("write conflict: the item changed concurrently")]
    Conflict,
    /// A monitor would depend on itself. Nothing was written.
    #[error("the monitor would depend on itself")]
    Cycle,
    /// A monitor would depend on too many others. Nothing was written.
    #[error(
        "the monitor would depend on more than {MAX_ANCESTORS} monitors, directly or through its parents"
    )]
    TooDeep,
    /// The table is throttled; a retry may succeed.
    #[error("the table is throttled: {0}")]
    Throttled(String),
    /// The table did not respond, or refused. It is unknown whether anything was written.
    #[error("the table is unavailable: {0}")]
    Unavailable(String),
    /// An item cannot be decoded.
    #[error("an item can't be read: {0}")]
    Corrupt(String),
}

impl From<TableError> for StoreError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Condition { .. } => Self::Conflict,
            TableError::Throttled(why) => Self::Throttled(why),
            // A single write may have been carried out by an attempt whose reply was lost.
            busy @ TableError::Conflict => Self::Unavailable(busy.to_string()),
            TableError::Unavailable(why) | TableError::Invalid(why) => Self::Unavailable(why),
        }
    }
}

/// The result of an operation on the table.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The operations on the table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    table: Arc<dyn Table>,
    name: Arc<str>,
    shards: u16,
    world: Arc<dyn World>,
    metrics: Arc<Metrics>,
    touched: touched::Feed,
    pulse_id: Arc<OnceLock<MonitorId>>,
    /// Which run of the process this is, if only one process uses the table.
    run: Option<Uuid>,
    /// Whether the table is a replica of one in another region.
    replicated: bool,
}

impl Store {
    /// The operations on `table`, which is called `name` in logs and metrics and has `shards` timer
    /// shards.
    pub fn new(table: Arc<dyn Table>, name: &str, shards: u16, world: Arc<dyn World>) -> Self {
        Self {
            table,
            name: name.into(),
            shards: shards.max(1),
            world,
            metrics: Arc::default(),
            touched: touched::Feed::default(),
            pulse_id: Arc::default(),
            run: None,
            replicated: false,
        }
    }

    /// The same, for the only process that uses the table: claims of its earlier runs are void, because
    /// the process that made them is gone.
    #[must_use]
    pub fn as_only_process(mut self) -> Self {
        self.run = Some(self.world.uuid_v4());
        self
    }

    /// The same, for a table that is a replica of one in another region: items may be missing.
    #[must_use]
    pub const fn replicated(mut self) -> Self {
        self.replicated = true;
        self
    }

    /// The same, with another number of timer shards.
    #[must_use]
    pub fn with_shards(mut self, shards: u16) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// The same operations on another table.
    #[must_use]
    pub fn on(mut self, table: Arc<dyn Table>) -> Self {
        self.table = table;
        self
    }

    /// The table, to share.
    pub fn shared_table(&self) -> Arc<dyn Table> {
        Arc::clone(&self.table)
    }

    /// The same, for work in one of two regions: every call is refused once the work may not go on.
    #[must_use]
    pub fn during(mut self, act: &Act) -> Self {
        self.table = Arc::new(FencedTable::own(act, self.table));
        self.replicated()
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The table itself.
    pub fn table(&self) -> &dyn Table {
        self.table.as_ref()
    }

    /// The metrics since they were last written.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The number of timer shards.
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The clock and the source of randomness for all handlers.
    pub fn world(&self) -> &dyn World {
        self.world.as_ref()
    }

    /// The same, to share.
    pub fn shared_world(&self) -> Arc<dyn World> {
        Arc::clone(&self.world)
    }

    /// Reads one item, consistently. 1 RU.
    async fn get<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>> {
        if !key.fits() {
            return Ok(None);
        }
        let found = self.table.get(key, Read::Consistent).await?;
        found.map(item::decode).transpose()
    }

    /// Writes one item if its condition holds. Returns the item after an update. 1 WU.
    async fn write(&self, write: Write) -> Result<Option<Item>> {
        Ok(self.table.write(write).await?)
    }

    /// Updates an item if its condition holds, and returns the new item. 1 WU.
    async fn updated<T: DeserializeOwned>(&self, write: Write) -> Result<T> {
        item::decode(self.write(write).await?.unwrap_or_default())
    }

    /// Writes one item if its condition holds; returns false if it does not. 1 WU.
    async fn try_write(&self, write: Write) -> Result<bool> {
        match self.write(write).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts one item unconditionally. 1 WU.
    async fn put(&self, item: Item) -> Result<()> {
        self.write(put(item)).await.map(drop)
    }

    /// Reads items by their keys, consistently. 1 RU per item.
    async fn get_many<T: DeserializeOwned + Send + 'static>(
        &self,
        keys: Vec<Key>,
    ) -> Result<Vec<T>> {
        self.get_batches(keys, Read::Consistent).await
    }

    /// Reads items by their keys, possibly without the latest writes. 0.5 RU per item.
    async fn get_many_eventual<T: DeserializeOwned + Send + 'static>(
        &self,
        keys: Vec<Key>,
    ) -> Result<Vec<T>> {
        self.get_batches(keys, Read::Eventual).await
    }

    /// Reads in calls of 100, several at a time and each in its own task, because decoding takes
    /// most of the time.
    async fn get_batches<T: DeserializeOwned + Send + 'static>(
        &self,
        keys: Vec<Key>,
        read: Read,
    ) -> Result<Vec<T>> {
        if keys.len() <= MAX_READ_BATCH {
            return self.get_batch(keys, read).await;
        }
        let chunks: Vec<Vec<Key>> = keys.chunks(MAX_READ_BATCH).map(<[Key]>::to_vec).collect();
        let found: Vec<Vec<T>> = futures_stream::iter(chunks)
            .map(|chunk| {
                let store = self.clone();
                let batch = async move { store.get_batch(chunk, read).await };
                let task = tokio::spawn(trace::carried(batch));
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

    /// Reads at most 100 items, requesting unprocessed ones again.
    async fn get_batch<T: DeserializeOwned>(&self, keys: Vec<Key>, read: Read) -> Result<Vec<T>> {
        let mut found = Vec::with_capacity(keys.len());
        let mut wanted: Vec<Key> = keys.into_iter().filter(Key::fits).collect();
        let mut attempt = 0;
        while !wanted.is_empty() {
            pause_before_attempt(attempt).await?;
            attempt += 1;
            let batch = self.table.get_many(wanted, read).await?;
            for item in batch.items {
                found.push(item::decode(item)?);
            }
            wanted = batch.unprocessed;
        }
        Ok(found)
    }

    /// Reads all pages of a range of a partition. 1 RU per 4 kB, or half if not consistent.
    async fn query<T: DeserializeOwned>(&self, query: Query) -> Result<Vec<T>> {
        let mut found = Vec::new();
        let mut left = query.limit;
        let mut page = self.table.query(query.clone()).await?;
        loop {
            left = left.map(|left| left.saturating_sub(page.items.len()));
            let next = page.next.take().filter(|_| left != Some(0));
            let Some(after) = next else {
                item::decode_all(page.items, &mut found)?;
                return Ok(found);
            };
            let rest = Query {
                limit: left,
                after: Some(after),
                ..query.clone()
            };
            // The next page is read while this one is decoded.
            let decoded = async { item::decode_all(page.items, &mut found) };
            let (read, decoded) = futures::join!(self.table.query(rest), decoded);
            decoded?;
            page = read?;
        }
    }

    /// Carries out all of `writes` or none. 2 WU per item. Conflicts and throttling are retried
    /// with jitter. A failed condition is not: the caller must read the items again.
    async fn transact(&self, writes: Vec<Write>) -> Result<()> {
        self.transact_within(writes, RETRY_FOR).await
    }

    /// The same, but retries only for `patience`.
    async fn transact_within(&self, writes: Vec<Write>, patience: Duration) -> Result<()> {
        debug_assert!(writes.len() <= MAX_TRANSACTION);
        // One token for all attempts, so that the transaction is carried out once even if a reply
        // is lost.
        let token = self.world.uuid_v4();
        let started = Instant::now();
        let mut conflicts = 0;
        let mut longest = FIRST_PAUSE;
        loop {
            let error = match self.table.transact(writes.clone(), token).await {
                Ok(()) => return Ok(()),
                Err(error @ (TableError::Conflict | TableError::Throttled(_))) => error,
                Err(error) => return Err(error.into()),
            };
            conflicts += u32::from(error == TableError::Conflict);
            let pause = longest.mul_f64(self.world.jitter());
            if conflicts > MAX_CONFLICTS || started.elapsed() + pause > patience {
                return Err(match error {
                    // The caller must read the concurrent writes first.
                    TableError::Conflict => StoreError::Conflict,
                    error => error.into(),
                });
            }
            sleep(pause).await;
            longest = LONGEST_PAUSE.min(longest * 2);
        }
    }
}

/// Waits before the unprocessed part of a batch is sent again.
///
/// # Errors
/// There were too many attempts.
async fn pause_before_attempt(attempt: u32) -> Result<()> {
    match attempt {
        0 => {}
        1..=MAX_BATCH_ATTEMPTS => sleep(Duration::from_millis(25 << attempt)).await,
        _ => {
            return Err(StoreError::Throttled(
                "items were still unprocessed after 8 retries".into(),
            ));
        }
    }
    Ok(())
}
