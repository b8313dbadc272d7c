//! The only connection that writes, with group commit: jobs that arrive during a flush run together
//! in the next transaction, and are answered together after a single flush.

use super::fault::{failed, is_passing};
use super::{codec, reader};
use crate::key::Key;
use crate::stream::{is_wanted, may_be_wanted};
use crate::table::{
    Attempt, Condition, Item, MAX_ITEM_BYTES, MAX_TRANSACTION, MAX_WRITE_BATCH, Meter, Operation,
    Result, TableError, Value, Write, item_bytes, write_units,
};
use rusqlite::{Connection, ErrorCode, params};
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

/// Maximum jobs per transaction.
const MAX_JOBS: usize = 256;
/// Maximum size of a transaction's items, in bytes.
const MAX_TRANSACTION_BYTES: usize = 4 << 20;
/// Expiries are stored in units of this many seconds, rounded up, so that a steady heartbeat rarely
/// moves its index entry.
const EXPIRY_S: i64 = 600;

/// A job that runs in a transaction.
pub trait Job: Send {
    /// Runs it.
    fn carry_out(&mut self, writer: &mut Writer);

    /// Sends the result to the caller, once the transaction has been committed or has failed.
    fn answer(self: Box<Self>, committed: Result<()>);
}

/// A job that answers through a channel.
pub struct Task<F, T> {
    work: Option<F>,
    done: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Task<F, T> {
    /// A job, and the receiver of its answer.
    pub fn new(work: F) -> (Self, oneshot::Receiver<Result<T>>) {
        let (reply, answer) = oneshot::channel();
        let task = Self {
            work: Some(work),
            done: None,
            reply,
        };
        (task, answer)
    }
}

impl<F, T> Job for Task<F, T>
where
    F: FnOnce(&mut Writer) -> Result<T> + Send,
    T: Send,
{
    fn carry_out(&mut self, writer: &mut Writer) {
        self.done = self.work.take().map(|work| work(writer));
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let not_done = || {
            Err(TableError::Unavailable(
                "the write was not attempted; try again".to_owned(),
            ))
        };
        let done = self.done.unwrap_or_else(not_done);
        // The caller may have stopped waiting.
        let _ = self.reply.send(committed.and(done));
    }
}

/// The writing connection.
pub struct Writer {
    connection: Connection,
    /// The number of the last change.
    sequence: i64,
    /// Whether to record all changes, including those that do not concern evaluate.
    all_changes: bool,
    /// Whether this transaction recorded a change.
    recorded: bool,
    meter: Option<Meter>,
    shared: Arc<Shared>,
    /// A disk fault in this transaction.
    disk_fault: Cell<Option<TableError>>,
    /// Why no more writes are accepted.
    broken: Option<TableError>,
}

/// What the writer shares with the table's handles.
#[derive(Debug, Default)]
pub struct Shared {
    /// Wakes the reader of changes.
    pub changed: Notify,
    /// How many transactions were committed.
    pub commits: AtomicU64,
}

/// A planned write that was not carried out yet.
struct Planned {
    key: Key,
    /// Whether there was an item before.
    existed: bool,
    /// The item before, if the record of the change may need it.
    old: Option<Item>,
    /// The old item's expiry as stored, in units of [`EXPIRY_S`].
    old_expires: Option<i64>,
    effect: Effect,
    bytes: usize,
}

enum Effect {
    Put(Item),
    Remove { expired: bool },
    Nothing,
}

impl Writer {
    /// A writer on a connection; no other connection may write.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn new(
        connection: Connection,
        all_changes: bool,
        meter: Option<Meter>,
        shared: Arc<Shared>,
    ) -> rusqlite::Result<Self> {
        let last = "SELECT coalesce(max(sequence), 0) FROM changes";
        let sequence = connection.query_row(last, [], |row| row.get(0))?;
        Ok(Self {
            connection,
            sequence,
            all_changes,
            recorded: false,
            meter,
            shared,
            disk_fault: Cell::new(None),
            broken: None,
        })
    }

    /// Runs jobs as they arrive, until all senders are gone.
    pub fn run(mut self, mut jobs: Receiver<Box<dyn Job>>) {
        let mut together = Vec::with_capacity(MAX_JOBS);
        while jobs.blocking_recv_many(&mut together, MAX_JOBS) > 0 {
            self.transaction(&mut together);
        }
        // Move the log into the database, so that the next start has nothing to recover.
        if let Err(error) = self
            .connection
            .execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);")
        {
            tracing::warn!(%error, "can't checkpoint the write-ahead log; the next start will do it");
        }
    }

    /// Runs jobs in one transaction, and answers them once it is committed.
    pub fn transaction(&mut self, jobs: &mut Vec<Box<dyn Job>>) {
        self.recorded = false;
        let begun = match &self.broken {
            Some(broken) => Err(broken.clone()),
            None => self.execute("BEGIN IMMEDIATE"),
        };
        let committed = begun.and_then(|()| {
            for job in &mut *jobs {
                job.carry_out(self);
                // An error may have rolled back the transaction; nothing may run outside one.
                if self.connection.is_autocommit() {
                    break;
                }
            }
            self.commit()
        });
        for job in jobs.drain(..) {
            job.answer(committed.clone());
        }
        if committed.is_ok() && self.recorded {
            self.shared.changed.notify_one();
        }
    }

    fn commit(&mut self) -> Result<()> {
        if let Some(fault) = self.disk_fault.take() {
            return Err(self.give_up(fault));
        }
        if self.connection.is_autocommit() {
            return Err(TableError::Unavailable(
                "an error rolled back the transaction; try again".to_owned(),
            ));
        }
        let committed = self
            .connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]));
        let error = match committed {
            Ok(_) => {
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => error,
        };
        self.roll_back();
        if is_passing(&error) {
            let error = failed(error);
            tracing::error!(%error, "a commit failed and was rolled back");
            return Err(error);
        }
        Err(self.give_up(failed(error)))
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// Refuses all further writes: data that the system still caches can't be trusted to reach the
    /// disk later.
    fn give_up(&mut self, error: TableError) -> TableError {
        self.roll_back();
        tracing::error!(%error, "the disk failed; Thrum refuses all writes until you restart it");
        self.broken = Some(error.clone());
        error
    }

    /// Converts the error of a write. A disk fault ends this transaction and all later ones.
    fn fault(&self, error: rusqlite::Error) -> TableError {
        let is_disk_fault = error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        let error = failed(error);
        if is_disk_fault {
            self.disk_fault.set(Some(error.clone()));
        }
        error
    }

    fn execute(&self, sql: &str) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement.execute([]).map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// The connection, for reading.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Writes one item if its condition holds.
    pub fn write(&mut self, write: Write) -> Result<Option<Item>> {
        let operation = write.operation();
        if operation == Operation::TransactWriteItems {
            return Err(TableError::Invalid(
                "a condition without a write needs a transaction".to_owned(),
            ));
        }
        let planned = match self.plan(0, write) {
            Ok(planned) => [planned],
            Err(error) => {
                self.count(operation, 0.0);
                return Err(error);
            }
        };
        self.carry_out(&planned)?;
        self.count(operation, write_units(planned[0].bytes));
        let [planned] = planned;
        Ok(match planned.effect {
            Effect::Put(item) if operation == Operation::UpdateItem => Some(item),
            _ => None,
        })
    }

    /// Puts and deletes items unconditionally.
    pub fn write_many(&mut self, writes: Vec<Write>) -> Result<Vec<Write>> {
        let plain = |write: &Write| match write {
            Write::Put { condition, .. } | Write::Delete { condition, .. } => {
                *condition == Condition::Always
            }
            Write::Update { .. } | Write::Check { .. } => false,
        };
        if writes.is_empty() || writes.len() > MAX_WRITE_BATCH || !writes.iter().all(plain) {
            return Err(TableError::Invalid(format!(
                "a batch must have 1 to {MAX_WRITE_BATCH} puts and deletes without conditions (got {})",
                writes.len()
            )));
        }
        let planned = self.plan_all(writes)?;
        self.carry_out(&planned)?;
        let units = planned.iter().map(|planned| write_units(planned.bytes));
        self.count(Operation::BatchWriteItem, units.sum());
        Ok(Vec::new())
    }

    /// Carries out all writes or none.
    pub fn transact(&mut self, writes: Vec<Write>) -> Result<()> {
        if writes.is_empty() || writes.len() > MAX_TRANSACTION {
            return Err(TableError::Invalid(format!(
                "a transaction must have 1 to {MAX_TRANSACTION} writes (got {})",
                writes.len()
            )));
        }
        let planned = match self.plan_all(writes) {
            Ok(planned) => planned,
            Err(error) => {
                self.count(Operation::TransactWriteItems, 0.0);
                return Err(match error {
                    // Only a single write reports what it found.
                    TableError::Condition { at, .. } => TableError::Condition { at, found: None },
                    other => other,
                });
            }
        };
        if planned.iter().map(|planned| planned.bytes).sum::<usize>() > MAX_TRANSACTION_BYTES {
            return Err(TableError::Invalid(
                "the items of a transaction must not exceed 4 MB in total".to_owned(),
            ));
        }
        self.carry_out(&planned)?;
        let units = planned
            .iter()
            .map(|planned| 2.0 * write_units(planned.bytes));
        self.count(Operation::TransactWriteItems, units.sum());
        Ok(())
    }

    /// Removes at most `limit` items whose TTL has passed at `now_s`, in epoch seconds. Returns how
    /// many.
    pub fn expire(&mut self, now_s: i64, limit: usize) -> Result<usize> {
        let keys: Vec<Key> = self
            .connection
            .prepare_cached(
                "SELECT pk, sk FROM items WHERE expires <= ?1 ORDER BY expires LIMIT ?2",
            )
            .and_then(|mut statement| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let keys = statement
                    .query_map(params![now_s.div_euclid(EXPIRY_S), limit], |row| {
                        Ok(Key::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                    })?;
                keys.collect()
            })
            .map_err(failed)?;
        let mut planned = Vec::with_capacity(keys.len());
        for key in keys {
            let found = reader::get(&self.connection, &key);
            if let Err(error) = &found {
                // One bad item must not block the others.
                tracing::error!(?key, %error, "can't read an expired item; keeping it");
            }
            if let Ok(Some((item, old_expires))) = found {
                planned.push(Planned {
                    key,
                    bytes: 0,
                    existed: true,
                    old: Some(item),
                    old_expires,
                    effect: Effect::Remove { expired: true },
                });
            }
        }
        self.carry_out(&planned)?;
        Ok(planned.len())
    }

    /// Deletes at most `limit` changes up to `handled`. Returns how many.
    pub fn trim(&mut self, handled: i64, limit: usize) -> Result<usize> {
        self.connection
            .prepare_cached(
                "DELETE FROM changes WHERE sequence IN
                 (SELECT sequence FROM changes WHERE sequence <= ?1 ORDER BY sequence LIMIT ?2)",
            )
            .and_then(|mut delete| {
                delete.execute(params![handled, i64::try_from(limit).unwrap_or(i64::MAX)])
            })
            .map_err(failed)
    }

    fn count(&self, operation: Operation, units: f64) {
        if let Some(meter) = &self.meter {
            meter.count(operation, units);
        }
    }

    /// Plans all writes. A failed condition takes precedence over other errors.
    fn plan_all(&self, writes: Vec<Write>) -> Result<Vec<Planned>> {
        let mut keys = HashSet::with_capacity(writes.len());
        if let Some(twice) = writes.iter().find(|write| !keys.insert(write.key())) {
            let key = twice.key();
            return Err(TableError::Invalid(format!("{key:?} is written twice")));
        }
        let mut planned = Vec::with_capacity(writes.len());
        let mut failed = None;
        for (at, write) in writes.into_iter().enumerate() {
            match self.plan(at, write) {
                Ok(one) => planned.push(one),
                Err(error @ TableError::Condition { .. }) => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(planned), Err)
    }

    /// Decides what a write does to the current item.
    fn plan(&self, at: usize, write: Write) -> Result<Planned> {
        let key = match write.key() {
            Some(key) if !key.pk.is_empty() && !key.sk.is_empty() => key,
            _ => return Err(TableError::Invalid("an item must have a key".to_owned())),
        };
        let (mut old, old_expires) = match reader::get(&self.connection, &key)? {
            Some((item, expires)) => (Some(item), expires),
            None => (None, None),
        };
        let existed = old.is_some();
        let before = old.as_ref().map_or(0, item_bytes);
        let effect = match write {
            Write::Put { item, condition } => {
                condition.holds(old.as_ref()).then_some(Effect::Put(item))
            }
            Write::Delete { condition, .. } => condition
                .holds(old.as_ref())
                .then_some(Effect::Remove { expired: false }),
            Write::Check { condition, .. } => {
                condition.holds(old.as_ref()).then_some(Effect::Nothing)
            }
            Write::Update { attempts, .. } => match chosen(&attempts, old.as_ref()) {
                Some(attempt) => {
                    let recorded = |old: &Item| self.all_changes || may_be_wanted(old);
                    let item = if old.as_ref().is_some_and(recorded) {
                        old.clone()
                    } else {
                        // The old image is not needed, so it becomes the new one.
                        old.take()
                    };
                    let mut item = item.unwrap_or_else(|| key.attributes());
                    attempt.update.apply(&mut item)?;
                    Some(Effect::Put(item))
                }
                None => None,
            },
        };
        let Some(effect) = effect else {
            return Err(TableError::Condition {
                at,
                found: old.map(Box::new),
            });
        };
        let after = match &effect {
            Effect::Put(item) => item_bytes(item),
            Effect::Remove { .. } | Effect::Nothing => 0,
        };
        if after > MAX_ITEM_BYTES {
            return Err(TableError::Invalid(format!(
                "an item must have at most {MAX_ITEM_BYTES} bytes (got {after})"
            )));
        }
        Ok(Planned {
            key,
            existed,
            old,
            old_expires,
            effect,
            bytes: before.max(after),
        })
    }

    /// Carries out planned writes, all or none.
    fn carry_out(&mut self, planned: &[Planned]) -> Result<()> {
        // A single statement is atomic by itself.
        if let [alone] = planned
            && !self.records(alone)
        {
            return self.store(alone);
        }
        self.execute("SAVEPOINT job")?;
        let carried_out = planned
            .iter()
            .try_for_each(|planned| self.store(planned).and_then(|()| self.record(planned)));
        let ended = match &carried_out {
            Ok(()) => self.execute("RELEASE job"),
            // SQLite may have rolled back everything already.
            Err(_) if self.connection.is_autocommit() => Ok(()),
            Err(_) => self
                .execute("ROLLBACK TO job")
                .and_then(|()| self.execute("RELEASE job")),
        };
        if ended.is_err() {
            // No part of a job may be committed with the others.
            self.roll_back();
        }
        carried_out.and(ended)
    }

    fn store(&self, planned: &Planned) -> Result<()> {
        let Planned { key, existed, .. } = planned;
        let done = match &planned.effect {
            Effect::Nothing => return Ok(()),
            Effect::Remove { .. } if !existed => return Ok(()),
            Effect::Remove { .. } => self
                .connection
                .prepare_cached("DELETE FROM items WHERE pk = ?1 AND sk = ?2")
                .and_then(|mut delete| delete.execute(params![key.pk, key.sk])),
            Effect::Put(item) => {
                let (body, expires) = (codec::encode(item), expires(item));
                match existed {
                    false => self
                        .connection
                        .prepare_cached(
                            "INSERT INTO items (pk, sk, expires, body) VALUES (?1, ?2, ?3, ?4)",
                        )
                        .and_then(|mut insert| {
                            insert.execute(params![key.pk, key.sk, expires, body])
                        }),
                    // A statement without the expiry leaves its index alone.
                    true if expires == planned.old_expires => self
                        .connection
                        .prepare_cached("UPDATE items SET body = ?3 WHERE pk = ?1 AND sk = ?2")
                        .and_then(|mut update| update.execute(params![key.pk, key.sk, body])),
                    true => self
                        .connection
                        .prepare_cached(
                            "UPDATE items SET body = ?4, expires = ?3 WHERE pk = ?1 AND sk = ?2",
                        )
                        .and_then(|mut update| {
                            update.execute(params![key.pk, key.sk, expires, body])
                        }),
                }
            }
        };
        done.map(drop).map_err(|error| self.fault(error))
    }

    /// Whether the change is to be recorded.
    fn records(&self, planned: &Planned) -> bool {
        let (old, new, expired) = planned.images();
        let unknown = planned.existed && old.is_none();
        let changes = old.is_some() || new.is_some();
        changes && !unknown && (self.all_changes || is_wanted(old, new, expired))
    }

    fn record(&mut self, planned: &Planned) -> Result<()> {
        if !self.records(planned) {
            return Ok(());
        }
        let (old, new, expired) = planned.images();
        let record = codec::encode_change(&planned.key, old, new, expired);
        self.sequence += 1;
        self.connection
            .prepare_cached("INSERT INTO changes (sequence, record) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![self.sequence, record]))
            .map_err(|error| self.fault(error))?;
        self.recorded = true;
        Ok(())
    }
}

impl Planned {
    fn images(&self) -> (Option<&Item>, Option<&Item>, bool) {
        let old = self.old.as_ref();
        match &self.effect {
            Effect::Put(new) => (old, Some(new), false),
            Effect::Remove { expired } => (old, None, *expired),
            Effect::Nothing => (None, None, false),
        }
    }
}

/// The first attempt whose condition holds.
fn chosen<'a>(attempts: &'a [Attempt], old: Option<&Item>) -> Option<&'a Attempt> {
    attempts.iter().find(|attempt| attempt.condition.holds(old))
}

/// An item's expiry as stored, in units of [`EXPIRY_S`].
fn expires(item: &Item) -> Option<i64> {
    match item.get("expires_at") {
        Some(Value::N(seconds)) => {
            let seconds: i64 = seconds.parse().ok()?;
            Some(seconds.div_euclid(EXPIRY_S) + i64::from(seconds.rem_euclid(EXPIRY_S) > 0))
        }
        _ => None,
    }
}
