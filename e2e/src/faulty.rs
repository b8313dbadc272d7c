//! A table whose calls can be made to fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use thrum_store::key::Key;
use thrum_store::table::{Batch, Call, Item, Page, Query, Read, Table, TableError, Write};
use uuid::Uuid;

/// A table that can be switched off, or throttled in part. Cheap to clone; clones share the switch.
#[derive(Debug, Clone)]
pub struct Switch {
    table: Arc<dyn Table>,
    off: Arc<AtomicBool>,
    throttled: Arc<Mutex<Option<Throttled>>>,
}

/// A partition whose transactions are throttled. Other calls are not, because the SDK retries
/// those.
#[derive(Debug)]
struct Throttled {
    pk: String,
    /// How many more transactions to throttle.
    times: u32,
}

impl Switch {
    /// Wraps `table`, switched on.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self {
            table,
            off: Arc::default(),
            throttled: Arc::default(),
        }
    }

    /// Throttles the next `times` transactions on the partition `pk`.
    pub fn throttle(&self, pk: impl Into<String>, times: u32) {
        let throttled = Throttled {
            pk: pk.into(),
            times,
        };
        *self.throttled.lock().expect("not poisoned") = Some(throttled);
    }

    /// How many transactions are still to be throttled.
    pub fn still_throttled(&self) -> u32 {
        let throttled = self.throttled.lock().expect("not poisoned");
        throttled.as_ref().map_or(0, |throttled| throttled.times)
    }

    /// Fails if one of the writes hits the throttled partition.
    fn admit(&self, writes: &[Write]) -> Result<(), TableError> {
        let mut throttled = self.throttled.lock().expect("not poisoned");
        let Some(throttled) = throttled.as_mut().filter(|throttled| throttled.times > 0) else {
            return Ok(());
        };
        let meets = |write: &Write| write.key().is_some_and(|key| key.pk == throttled.pk);
        if writes.iter().any(meets) {
            throttled.times -= 1;
            return Err(TableError::Throttled("a hot partition".to_owned()));
        }
        Ok(())
    }

    /// Makes every call fail from now on.
    pub fn off(&self) {
        self.off.store(true, Ordering::Relaxed);
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a dyn Table) -> Call<'a, T>,
    ) -> Call<'a, T> {
        if self.off.load(Ordering::Relaxed) {
            let gone = TableError::Unavailable("the table is switched off".to_owned());
            return Box::pin(std::future::ready(Err(gone)));
        }
        call(self.table.as_ref())
    }
}

impl Table for Switch {
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>> {
        self.call(|table| table.get(key, read))
    }

    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch> {
        self.call(|table| table.get_many(keys, read))
    }

    fn query(&self, query: Query) -> Call<'_, Page> {
        self.call(|table| table.query(query))
    }

    fn write(&self, write: Write) -> Call<'_, Option<Item>> {
        self.call(|table| table.write(write))
    }

    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>> {
        self.call(|table| table.write_many(writes))
    }

    fn transact(&self, writes: Vec<Write>, token: Uuid) -> Call<'_, ()> {
        match self.admit(&writes) {
            Ok(()) => self.call(|table| table.transact(writes, token)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}
