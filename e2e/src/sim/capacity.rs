//! What DynamoDB can take: units per second and partition, and one transaction at a time on an item.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html>,
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html> and
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html>. Items are
//! counted as if they were below 1 kB (writes) and 4 kB (reads), which almost all of Thrum's are.

use super::net::Request;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use thrum_store::key::Key;
use thrum_store::table::{Read, TableError, Write};

/// The write units per second of a partition in reality.
pub const PARTITION_WU: u16 = 1_000;
/// How much more than that a partition can read, and a new on-demand table can write and read.
const READS: f64 = 3.0;
const TABLE: f64 = 4.0;
/// The smallest bucket, in write units, so that the largest transaction can pass.
const SMALLEST: f64 = 20.0;
/// How long a transaction keeps its items busy, in milliseconds.
pub const HOLD_MS: (i64, i64) = (5, 20);

/// The capacity that is left, and the items that are busy.
#[derive(Debug, Default)]
pub struct Capacity {
    buckets: Mutex<HashMap<String, Bucket>>,
    busy: Mutex<HashSet<Key>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    units: f64,
    at_ms: i64,
}

/// Keeps the items of a transaction busy until it is dropped.
#[derive(Debug)]
pub struct Hold<'a> {
    capacity: &'a Capacity,
    keys: Vec<Key>,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut busy = lock(&self.capacity.busy);
        for key in &self.keys {
            busy.remove(key);
        }
    }
}

impl Capacity {
    /// Admits a request at `ms`, if each partition takes `partition_wu` write units per second.
    ///
    /// # Errors
    /// It is throttled, or an item is busy.
    pub fn admit(
        &self,
        request: &Request,
        partition_wu: u16,
        ms: i64,
    ) -> Result<Hold<'_>, TableError> {
        let rate = f64::from(partition_wu);
        let mut buckets = lock(&self.buckets);
        let mut needs: HashMap<String, (f64, f64)> = HashMap::new();
        let mut need = |name: String, rate: f64, units: f64| {
            let needed = needs.entry(name).or_insert((rate, 0.0));
            needed.1 += units;
        };
        for (pk, write, read) in costs(request) {
            need(format!("write {pk}"), rate, write);
            need(format!("read {pk}"), rate * READS, read);
            need("write".to_owned(), rate * TABLE, write);
            need("read".to_owned(), rate * TABLE * READS, read);
        }
        let mut left = Vec::new();
        for (name, (rate, units)) in needs {
            let size = rate.max(SMALLEST);
            let full = Bucket {
                units: size,
                at_ms: ms,
            };
            let bucket = *buckets.get(&name).unwrap_or(&full);
            let refilled = bucket.units + rate * (ms - bucket.at_ms) as f64 / 1_000.0;
            let units = refilled.min(size) - units;
            if units < 0.0 {
                return Err(TableError::Throttled(name));
            }
            left.push((name, Bucket { units, at_ms: ms }));
        }
        buckets.extend(left);
        let mut busy = lock(&self.busy);
        let (keys, holds): (Vec<Key>, bool) = match request {
            Request::Write(write) => (write.key().into_iter().collect(), false),
            Request::Transact(writes, _) => (writes.iter().filter_map(Write::key).collect(), true),
            _ => (Vec::new(), false),
        };
        if keys.iter().any(|key| busy.contains(key)) {
            return Err(TableError::Conflict);
        }
        let keys = if holds { keys } else { Vec::new() };
        busy.extend(keys.iter().cloned());
        Ok(Hold {
            capacity: self,
            keys,
        })
    }
}

/// The partitions that a request touches, with its write and read units for each item.
fn costs(request: &Request) -> Vec<(String, f64, f64)> {
    let reads = |read: Read| match read {
        Read::Consistent => 1.0,
        Read::Eventual => 0.5,
    };
    let keys = |writes: &[Write], units: f64| {
        let keys = writes.iter().filter_map(Write::key);
        keys.map(|key| (key.pk, units, 0.0)).collect()
    };
    match request {
        Request::Get(key, read) => vec![(key.pk.clone(), 0.0, reads(*read))],
        Request::GetMany(all, read) => {
            let each = all.iter().map(|key| (key.pk.clone(), 0.0, reads(*read)));
            each.collect()
        }
        Request::Query(query) => vec![(query.pk.clone(), 0.0, reads(query.read))],
        Request::Write(write) => keys(std::slice::from_ref(write), 1.0),
        Request::WriteMany(writes) => keys(writes, 1.0),
        Request::Transact(writes, _) => keys(writes, 2.0),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
