//! Counts what calls cost, so that tests can check the costs that operations document.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts calls and units. Cheap to clone; clones share their counts.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Consumed>>);

/// Consumed capacity. A write whose condition failed counts as a call without units: DynamoDB
/// charges for it but does not report how much.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Consumed {
    /// Calls, by DynamoDB's name for the operation.
    pub calls: BTreeMap<&'static str, u64>,
    /// Read units.
    pub read_units: f64,
    /// Write units.
    pub write_units: f64,
}

/// DynamoDB's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are DynamoDB's")]
pub enum Operation {
    GetItem,
    BatchGetItem,
    Query,
    PutItem,
    UpdateItem,
    DeleteItem,
    BatchWriteItem,
    TransactWriteItems,
}

impl Operation {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetItem => "GetItem",
            Self::BatchGetItem => "BatchGetItem",
            Self::Query => "Query",
            Self::PutItem => "PutItem",
            Self::UpdateItem => "UpdateItem",
            Self::DeleteItem => "DeleteItem",
            Self::BatchWriteItem => "BatchWriteItem",
            Self::TransactWriteItems => "TransactWriteItems",
        }
    }

    /// Whether it writes.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::GetItem | Self::BatchGetItem | Self::Query)
    }
}

impl Consumed {
    /// How often `operation` was called.
    pub fn calls_of(&self, operation: &str) -> u64 {
        self.calls.get(operation).copied().unwrap_or(0)
    }
}

impl Meter {
    /// Returns what was consumed since the last call, and resets the counts.
    pub fn take(&self) -> Consumed {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a call that consumed this many units.
    pub fn count(&self, operation: Operation, units: f64) {
        let mut consumed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *consumed.calls.entry(operation.name()).or_default() += 1;
        if operation.writes() {
            consumed.write_units += units;
        } else {
            consumed.read_units += units;
        }
    }
}
