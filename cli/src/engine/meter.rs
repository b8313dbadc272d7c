//! Counts what calls cost, by the engine's own ConsumedCapacity: for tests of the costs that we promise.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts calls and units. Cheap to clone; clones share their counts.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Consumed>>);

/// What was consumed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Consumed {
    /// Calls, by operation.
    pub calls: BTreeMap<String, u64>,
    /// Units of reads.
    pub read_units: f64,
    /// Units of writes.
    pub write_units: f64,
}

impl Consumed {
    /// How often `operation` was called.
    pub fn calls_of(&self, operation: &str) -> u64 {
        self.calls.get(operation).copied().unwrap_or(0)
    }
}

impl Meter {
    /// Returns what was consumed since the last call, and begins anew.
    pub fn take(&self) -> Consumed {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a call of `operation`, whose reply said that it consumed `capacity`: an object, or a list of them.
    pub(super) fn count(&self, operation: &str, capacity: &Value) {
        let tables = match capacity {
            Value::Array(tables) => tables.as_slice(),
            one => std::slice::from_ref(one),
        };
        let units: f64 = tables
            .iter()
            .filter_map(|table| table["CapacityUnits"].as_f64())
            .sum();
        let mut consumed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *consumed.calls.entry(operation.to_owned()).or_default() += 1;
        match super::dispatch::Kind::of(operation, &[]) {
            super::dispatch::Kind::Read => consumed.read_units += units,
            _ => consumed.write_units += units,
        }
    }
}
