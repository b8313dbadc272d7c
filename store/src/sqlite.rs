//! The table on SQLite, in this process: one file, one connection that writes, and some that read.
//!
//! A write is acknowledged when its commit is as durable as [`Durability`] says. Reads see every
//! write that was acknowledged before. Changes that concern evaluate are recorded in the same
//! transaction as the write that causes them, and read by a [`Feed`].

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

/// How many connections read.
const READERS: usize = 2;
/// How many calls may be queued for a thread; further calls wait.
const QUEUE: usize = 4_096;
/// How many expired items or handled changes to delete in one transaction.
const SMALL_BATCH: usize = 200;

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Once it is on the disk: it survives a power cut. One flush serves all writers that wait for
    /// it.
    #[default]
    Full,
    /// Once the operating system has it: it survives a crash of this process, but not of the
    /// machine.
    Normal,
}

/// Options for opening a table.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Counts calls by DynamoDB's formulas.
    pub meter: Option<Meter>,
    /// Whether the feed has all changes, including those that do not concern evaluate; for tests of
    /// the filters.
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

/// Where the work runs.
enum Mode {
    /// On background threads.
    Threads(Threads),
    /// On the calling thread, before the call returns.
    Inline(Mutex<Writer>),
}

struct Threads {
    writes: Option<Sender<Box<dyn Job>>>,
    reads: Option<Sender<ReadJob>>,
    handles: Vec<JoinHandle<()>>,
    /// Held while the database is open: only one process may use it.
    _lock: File,
    /// Deleted with the last handle, for a temporary table.
    _temporary: Option<tempfile::TempDir>,
}

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

impl fmt::Debug for SqliteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteTable")
    }
}

impl SqliteTable {
    /// Opens the table in `directory`, creating both if needed.
    ///
    /// # Errors
    /// The directory can't be written, another process has it open, or the file is not Thrum's.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        Self::start(directory, options, None)
    }

    /// Opens a table that is deleted with its last handle. It is in memory if the system has a file
    /// system for that.
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

    /// A table in memory, without threads: a call is done before it returns.
    ///
    /// # Errors
    /// SQLite is out of memory.
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

    /// A feed of the changes that concern evaluate, from the oldest that was not deleted.
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

    /// Removes items whose TTL has passed at `now_s`, in epoch seconds, in small transactions.
    /// Returns how many.
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

    /// All items of the table, in the order of their keys; for tests and tools.
    ///
    /// # Errors
    /// The database failed.
    pub async fn items(&self) -> Result<Vec<Item>> {
        self.reading(reader::scan).await
    }

    /// Runs a job in the writer's next transaction.
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

    /// Runs a read on one of the reading connections.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.0.mode {
            Mode::Threads(Threads { reads, .. }) => {
                let reads = reads.as_ref().ok_or_else(closed)?;
                let (reply, answer) = oneshot::channel();
                let job: ReadJob = Box::new(move |connection| {
                    // The caller may have stopped waiting.
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

/// Runs reads until all senders are gone.
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
            // A thread that panicked has already reported it.
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

    /// A reply can only be lost together with the process, so no token is remembered.
    fn transact(&self, writes: Vec<Write>, _: Uuid) -> Call<'_, ()> {
        Box::pin(self.job(move |writer| writer.transact(writes)))
    }
}

/// Reads the changes in order. Each feed has its own position.
#[derive(Debug, Clone)]
pub struct Feed {
    table: SqliteTable,
    handled: i64,
}

impl Feed {
    /// The next changes, at most `limit`; the same ones again until [`Feed::advance`].
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

    /// Deletes the changes up to `sequence`, in small transactions; feeds created later start after
    /// them.
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
