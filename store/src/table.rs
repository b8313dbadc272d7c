//! The table port: what one DynamoDB table can do, as data.
//!
//! An operation of [`Store`](crate::Store) describes what it reads, writes and requires with these
//! types, and knows nothing else about the table. Two adapters carry it out:
//! [`dynamodb`](crate::dynamodb) through the AWS SDK, and [`sqlite`](crate::sqlite) in this
//! process. The semantics are DynamoDB's; one conformance suite checks both adapters.

mod condition;
mod meter;
mod number;
mod size;
mod update;
mod write;

pub use condition::{Condition, attr, exists, missing};
pub use meter::{Consumed, Meter, Operation};
pub use number::Number;
pub use size::{MAX_ITEM_BYTES, item_bytes, read_units, write_units};
pub use update::{Action, Operand, Update, add, remove, set, set_if_missing, set_sum, take_from};
pub use write::{Attempt, Write, check, create, delete, put, update};

use crate::key::Key;
use futures::future::BoxFuture;
use std::fmt::Debug;
use thiserror::Error;
use uuid::Uuid;

/// The value of an attribute.
pub type Value = serde_dynamo::AttributeValue;
/// Attribute values by name; `pk` and `sk` are among them.
pub type Item = serde_dynamo::Item;

/// Maximum writes per transaction.
pub const MAX_TRANSACTION: usize = 100;
/// Maximum items per batch read.
pub const MAX_READ_BATCH: usize = 100;
/// Maximum items per batch write.
pub const MAX_WRITE_BATCH: usize = 25;

/// The result of a call.
pub type Result<T, E = TableError> = std::result::Result<T, E>;
/// A call in progress.
pub type Call<'a, T> = BoxFuture<'a, Result<T>>;

/// One table with a partition key `pk` and a sort key `sk`, both strings.
pub trait Table: Debug + Send + Sync {
    /// Reads one item.
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>>;

    /// Reads up to [`MAX_READ_BATCH`] items, in any order; items that do not exist are left out.
    /// The table may leave keys unprocessed.
    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch>;

    /// Reads a range of a partition, page by page.
    fn query(&self, query: Query) -> Call<'_, Page>;

    /// Writes one item if its condition holds. Returns the item after an update, nothing after a
    /// put or a delete.
    ///
    /// # Errors
    /// [`TableError::Condition`] with the item that failed it.
    fn write(&self, write: Write) -> Call<'_, Option<Item>>;

    /// Puts and deletes up to [`MAX_WRITE_BATCH`] items unconditionally. Returns the writes that
    /// the table left unprocessed.
    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>>;

    /// Carries out up to [`MAX_TRANSACTION`] writes, all or none; no two may concern the same item.
    /// Where a reply may get lost, repeating a call with its `token` has no further effect; the
    /// embedded table loses no reply.
    ///
    /// # Errors
    /// [`TableError::Condition`] with the index of a write whose condition failed, or
    /// [`TableError::Conflict`] if another transaction kept one of the items busy.
    fn transact(&self, writes: Vec<Write>, token: Uuid) -> Call<'_, ()>;
}

/// The consistency of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Read {
    /// Sees all writes that were acknowledged before. Costs twice as much.
    Consistent,
    /// May miss the latest writes.
    #[default]
    Eventual,
}

/// The result of a batch read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The items that exist.
    pub items: Vec<Item>,
    /// The keys that the table left unprocessed.
    pub unprocessed: Vec<Key>,
}

/// A range of sort keys. Keys are ordered by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// All of them.
    All,
    /// Those that start with this.
    Prefix(String),
    /// Those from the first to the second, inclusive; none if the first is greater.
    Between(String, String),
}

impl Range {
    /// Whether it contains no keys.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Between(first, last) if first > last)
    }
}

/// A query for a range of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The partition.
    pub pk: String,
    /// The range.
    pub range: Range,
    /// The consistency.
    pub read: Read,
    /// Whether the greatest sort key comes first.
    pub newest_first: bool,
    /// Maximum items per page.
    pub limit: Option<usize>,
    /// The key after which the page starts.
    pub after: Option<Key>,
}

impl Query {
    /// The whole partition, read consistently.
    pub fn of(pk: impl Into<String>) -> Self {
        Self {
            pk: pk.into(),
            range: Range::All,
            read: Read::Consistent,
            newest_first: false,
            limit: None,
            after: None,
        }
    }

    /// Only sort keys that start with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.range = Range::Prefix(prefix.into());
        self
    }

    /// Only sort keys from `first` to `last`, inclusive.
    #[must_use]
    pub fn between(mut self, first: impl Into<String>, last: impl Into<String>) -> Self {
        self.range = Range::Between(first.into(), last.into());
        self
    }

    /// Eventually consistent: half the price, possibly without the latest writes.
    #[must_use]
    pub const fn eventual(mut self) -> Self {
        self.read = Read::Eventual;
        self
    }

    /// Greatest sort key first.
    #[must_use]
    pub const fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// At most `limit` items.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// A page of a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Its items, in order.
    pub items: Vec<Item>,
    /// The key after which the next page starts, if there may be one.
    pub next: Option<Key>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TableError {
    /// A condition did not hold. Nothing was written.
    #[error("the condition of write {at} did not hold")]
    Condition {
        /// The index of the write in its transaction; 0 for a single write.
        at: usize,
        /// The item that failed it, if it exists and the write was a single one.
        found: Option<Box<Item>>,
    },
    /// Another transaction keeps an item busy. If this was a transaction, nothing was written; a
    /// single write may have been carried out by an earlier attempt of the SDK.
    #[error("an item is busy with another transaction")]
    Conflict,
    /// The table is throttled. A transaction may be repeated with its token.
    #[error("the table is throttled: {0}")]
    Throttled(String),
    /// The table does not respond or failed. It is unknown whether anything was written.
    #[error("{0}")]
    Unavailable(String),
    /// The table can never do this, or an item is malformed.
    #[error("{0}")]
    Invalid(String),
}

impl TableError {
    /// The failed condition of a single write.
    pub fn condition(found: Option<Item>) -> Self {
        Self::Condition {
            at: 0,
            found: found.map(Box::new),
        }
    }
}

/// Something that can be stored in an attribute.
pub trait IntoValue {
    /// The value.
    fn into_value(self) -> Value;
}

impl IntoValue for Value {
    fn into_value(self) -> Value {
        self
    }
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::S(self.to_owned())
    }
}

impl IntoValue for String {
    fn into_value(self) -> Value {
        Value::S(self)
    }
}

impl IntoValue for bool {
    fn into_value(self) -> Value {
        Value::Bool(self)
    }
}

impl IntoValue for thrum_schema::UnixMs {
    fn into_value(self) -> Value {
        Value::N(self.0.to_string())
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl IntoValue for $number {
            fn into_value(self) -> Value {
                Value::N(self.to_string())
            }
        }
    )*};
}
numbers!(i32, i64, u16, u32, u64, u128, usize);

macro_rules! identifiers {
    ($($id:ident),*) => {$(
        impl IntoValue for thrum_schema::$id {
            fn into_value(self) -> Value {
                Value::S(self.to_string())
            }
        }
    )*};
}
identifiers!(AlertId, ChannelId, MonitorId, ProjectId, WatchId);

impl IntoValue for Uuid {
    fn into_value(self) -> Value {
        Value::S(self.to_string())
    }
}

/// A set of strings.
pub fn strings(members: impl IntoIterator<Item = impl ToString>) -> Value {
    Value::Ss(
        members
            .into_iter()
            .map(|member| member.to_string())
            .collect(),
    )
}
