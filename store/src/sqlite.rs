//! The table in this process, on SQLite: one file, one connection that writes, and some that read beside it.
//!
//! A write is answered when the commit that contains it is as durable as [`Durability`] says. Reads see every write that
//! was answered before. What evaluate is called for is recorded with the write that causes it, in the same transaction,
//! and read by a [`Feed`].

mod codec;
mod fault;
mod file;
mod reader;
mod writer;

pub use file::{FILE, OpenError, backup};

use crate::key::Key;
use crate::stream::Change;
use crate::table::{
    Batch, Call, Item, MAX_READ_BATCH, Meter, Operation, Page, Query, Read, Result, Table,
    TableError, Write, item_bytes, read_units,
};
use rusqlite::Connection;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use uuid::Uuid;
use writer::{Job, Shared, Task, Writer};

/// How many connections read beside the one that writes.
const READERS: usize = 2;
/// How many calls may wait for a thread; more have to wait before they are queued.
const QUEUE: usize = 4_096;
/// How many items TTL removes, and how many changes are deleted, in one transaction.
const SMALL_BATCH: usize = 200;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on the disk: it survives a power cut. One flush serves all writers that wait for it.
    #[default]
    Full,
    /// When the operating system has it: it survives a crash of this process, not of the machine.
    Normal,
}

/// How a table is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// When a write counts as done.
    pub durability: Durability,
    /// Counts calls by DynamoDB's formulas.
    pub meter: Option<Meter>,
    /// Whether the feed has all changes, also those that evaluate is not called for: for tests of the filters.
    pub all_changes: bool,
}

/// A table on SQLite. Cheap to clone; closed with the last handle.
#[derive(Clone)]
pub struct SqliteTable(Arc<Inner>);

struct Inner {
    mode: Mode,
    shared: Arc<Shared>,
    meter: Option<Meter>,
}

/// Who does the work.
enum Mode {
    /// Threads of its own.
    Threads(Threads),
    /// The calling thread, before the call returns; there are no background threads.
    Inline(Mutex<Writer>),
}

struct Threads {
    writes: Option<Sender<Box<dyn Job>>>,
    reads: Option<Sender<ReadJob>>,
    handles: Vec<JoinHandle<()>>,
    /// Held for as long as the database is open: one process at a time.
    _lock: File,
    /// Removed with the last handle, if the database is not to be kept.
    _temporary: Option<tempfile::TempDir>,
}

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

impl fmt::Debug for SqliteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteTable")
    }
}

impl SqliteTable {
    /// Opens the table in `directory`, creating both if need be.
    ///
    /// # Errors
    /// The directory can't be written, another process has it open, or the file is not Thrum's.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        Self::start(directory, options, None)
    }

    /// Opens a table that is gone with the last handle on it: in memory, where the system has a file system for that.
    ///
    /// # Errors
    /// There is no room for temporary files.
    pub fn temporary(options: Options) -> Result<Self, OpenError> {
        let shm = Path::new("/dev/shm");
        let place = if shm.is_dir() {
            shm.to_owned()
        } else {
            std::env::temp_dir()
        };
        let directory = tempfile::Builder::new()
            .prefix("thrum-")
            .tempdir_in(&place)
            .map_err(|error| OpenError::Directory { path: place, error })?;
        let path = directory.path().to_owned();
        let options = Options {
            durability: Durability::Normal,
            ..options
        };
        Self::start(&path, options, Some(directory))
    }

    /// A table in memory without a thread: a call is done before it returns.
    ///
    /// # Errors
    /// SQLite has no memory.
    pub fn in_memory(options: Options) -> Result<Self, OpenError> {
        let shared = Arc::<Shared>::default();
        let connection = file::in_memory().and_then(|connection| {
            let shared = Arc::clone(&shared);
            Writer::new(
                connection,
                options.all_changes,
                options.meter.clone(),
                shared,
            )
        });
        let writer = connection.map_err(|error| OpenError::Database {
            path: ":memory:".into(),
            error,
        })?;
        Ok(Self(Arc::new(Inner {
            mode: Mode::Inline(Mutex::new(writer)),
            shared,
            meter: options.meter,
        })))
    }

    fn start(
        directory: &Path,
        options: Options,
        temporary: Option<tempfile::TempDir>,
    ) -> Result<Self, OpenError> {
        let lock = file::lock(directory)?;
        let path = directory.join(FILE);
        let connection = file::open_writer(&path, options.durability)?;
        let shared = Arc::<Shared>::default();
        let writer = Writer::new(
            connection,
            options.all_changes,
            options.meter.clone(),
            Arc::clone(&shared),
        );
        let writer = writer.map_err(|error| OpenError::Database {
            path: path.clone(),
            error,
        })?;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let started = thread::Builder::new().name(name.to_owned()).spawn(work);
            started.map_err(|error| OpenError::File {
                path: path.clone(),
                error,
            })
        };
        let (writes, jobs) = mpsc::channel(QUEUE);
        let mut handles = vec![spawn("table writer", Box::new(move || writer.run(jobs)))?];
        let (reads, jobs) = mpsc::channel::<ReadJob>(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let (connection, jobs) = (file::open_reader(&path)?, Arc::clone(&jobs));
            handles.push(spawn(
                "table reader",
                Box::new(move || read(&connection, &jobs)),
            )?);
        }
        Ok(Self(Arc::new(Inner {
            mode: Mode::Threads(Threads {
                writes: Some(writes),
                reads: Some(reads),
                handles,
                _lock: lock,
                _temporary: temporary,
            }),
            shared,
            meter: options.meter,
        })))
    }

    /// The changes that evaluate is called for, from the oldest that was not deleted.
    pub fn feed(&self) -> Feed {
        Feed {
            table: self.clone(),
            handled: 0,
        }
    }

    /// Waits until a change is recorded.
    pub async fn changed(&self) {
        self.0.shared.changed.notified().await;
    }

    /// How many transactions were committed.
    pub fn commits(&self) -> u64 {
        self.0.shared.commits.load(Ordering::Relaxed)
    }

    /// Removes items whose TTL has passed at `now_s`, in epoch seconds, in small transactions. Returns how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_expired(&self, now_s: i64) -> Result<usize> {
        let mut removed = 0;
        loop {
            let batch = self
                .job(move |writer| writer.expire(now_s, SMALL_BATCH))
                .await?;
            removed += batch;
            if batch < SMALL_BATCH {
                return Ok(removed);
            }
        }
    }

    /// Every item of the table, in the order of their keys: for tests and tools.
    ///
    /// # Errors
    /// The database failed.
    pub async fn items(&self) -> Result<Vec<Item>> {
        self.reading(reader::scan).await
    }

    /// Has the writer do something within its next transaction.
    async fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (task, answer) = Task::new(work);
        match &self.0.mode {
            Mode::Threads(Threads { writes, .. }) => {
                let writes = writes.as_ref().ok_or_else(closed)?;
                writes.send(Box::new(task)).await.map_err(|_| closed())?;
            }
            Mode::Inline(writer) => {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                writer.transaction(&mut vec![Box::new(task)]);
            }
        }
        answer.await.map_err(|_| closed())?
    }

    /// Reads on a connection beside the writer's.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.0.mode {
            Mode::Threads(Threads { reads, .. }) => {
                let reads = reads.as_ref().ok_or_else(closed)?;
                let (reply, answer) = oneshot::channel();
                let job: ReadJob = Box::new(move |connection| {
                    // Nobody may be waiting any more.
                    let _ = reply.send(work(connection));
                });
                reads.send(job).await.map_err(|_| closed())?;
                answer.await.map_err(|_| closed())?
            }
            Mode::Inline(writer) => {
                let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                work(writer.connection())
            }
        }
    }

    fn count(&self, operation: Operation, units: f64) {
        if let Some(meter) = &self.0.meter {
            meter.count(operation, units);
        }
    }
}

/// Reads for others, until all senders are gone.
fn read(connection: &Connection, jobs: &Mutex<Receiver<ReadJob>>) {
    loop {
        let job = jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        match job {
            Some(job) => job(connection),
            None => return,
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        for handle in self.handles.drain(..) {
            // One that panicked has said so.
            let _ = handle.join();
        }
    }
}

fn closed() -> TableError {
    TableError::Unavailable("the database is closed".to_owned())
}

impl Table for SqliteTable {
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>> {
        Box::pin(async move {
            let found = self
                .reading(move |connection| reader::get(connection, &key))
                .await?;
            let found = found.map(|(item, _)| item);
            let bytes = found.as_ref().map_or(0, item_bytes);
            self.count(Operation::GetItem, read_units(bytes, read));
            Ok(found)
        })
    }

    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch> {
        Box::pin(async move {
            let different: HashSet<&Key> = keys.iter().collect();
            if keys.is_empty() || keys.len() > MAX_READ_BATCH || different.len() < keys.len() {
                return Err(TableError::Invalid(format!(
                    "a batch must have 1 to {MAX_READ_BATCH} keys, all different (got {})",
                    keys.len()
                )));
            }
            let found = self.reading(move |connection| {
                keys.iter()
                    .map(|key| reader::get(connection, key))
                    .collect::<Result<Vec<_>>>()
            });
            let found = found.await?;
            let units = found.iter().map(|found| {
                let bytes = found.as_ref().map_or(0, |(item, _)| item_bytes(item));
                read_units(bytes, read)
            });
            self.count(Operation::BatchGetItem, units.sum());
            Ok(Batch {
                items: found.into_iter().flatten().map(|(item, _)| item).collect(),
                unprocessed: Vec::new(),
            })
        })
    }

    fn query(&self, query: Query) -> Call<'_, Page> {
        Box::pin(async move {
            let read = query.read;
            let (page, bytes) = self
                .reading(move |connection| reader::query(connection, &query))
                .await?;
            self.count(Operation::Query, read_units(bytes, read));
            Ok(page)
        })
    }

    fn write(&self, write: Write) -> Call<'_, Option<Item>> {
        Box::pin(self.job(move |writer| writer.write(write)))
    }

    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>> {
        Box::pin(self.job(move |writer| writer.write_many(writes)))
    }

    /// A reply is lost only with the process, so no token is remembered.
    fn transact(&self, writes: Vec<Write>, _: Uuid) -> Call<'_, ()> {
        Box::pin(self.job(move |writer| writer.transact(writes)))
    }
}

/// Reads the changes in their order. Each reader has a position of its own.
#[derive(Debug, Clone)]
pub struct Feed {
    table: SqliteTable,
    handled: i64,
}

impl Feed {
    /// The next changes, at most `limit`; the same again until [`Feed::advance`].
    ///
    /// # Errors
    /// The database failed.
    pub async fn next(&self, limit: usize) -> Result<Vec<Change>> {
        let after = self.handled;
        self.table
            .reading(move |connection| reader::changes(connection, after, limit))
            .await
    }

    /// Continues after the change with this number.
    pub fn advance(&mut self, sequence: i64) {
        self.handled = self.handled.max(sequence);
    }

    /// Deletes the changes up to `sequence`, in small transactions: no reader starts at them any more.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_through(&self, sequence: i64) -> Result<()> {
        loop {
            let trimmed = self
                .table
                .job(move |writer| writer.trim(sequence, SMALL_BATCH))
                .await?;
            if trimmed < SMALL_BATCH {
                return Ok(());
            }
        }
    }
}
