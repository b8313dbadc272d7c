//! The database file: opening, checking and copying it.

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

use super::Durability;

/// The database's file in the data directory.
pub const FILE: &str = "thrum.db";
/// Marks a file as Thrum's: "Thrm".
const APPLICATION_ID: i32 = 0x5468_726d;
/// The version of the SQL schema, and of the items' keys.
const USER_VERSION: i32 = 2;
/// How long a connection waits for another process's lock.
const BUSY: Duration = Duration::from_secs(5);
/// How many pages the write-ahead log holds before a checkpoint.
const CHECKPOINT_PAGES: i32 = 2_000;
/// Page cache in KiB, of the writer and of each reader.
const WRITER_CACHE_KIB: i32 = 16_384;
const READER_CACHE_KIB: i32 = 4_096;
/// How many pages a backup copies at a time.
const BACKUP_STEP: i32 = 256;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS items (
        pk TEXT NOT NULL,
        sk TEXT NOT NULL,
        -- When TTL removes it, in units of ten minutes, rounded up.
        expires INTEGER,
        body BLOB NOT NULL,
        PRIMARY KEY (pk, sk)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS items_by_expiry ON items (expires) WHERE expires IS NOT NULL;
    CREATE TABLE IF NOT EXISTS changes (sequence INTEGER PRIMARY KEY, record BLOB NOT NULL);
";

/// Why a database can't be opened or copied.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The data directory can't be created or written.
    #[error("can't write in the data directory {path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process has it open.
    #[error(
        "{path} is in use by another thrum process; stop it, or set --data to another directory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file is not a Thrum database.
    #[error(
        "{path} is not a database that this version of Thrum can read; move it away, or set --data to another directory"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error(
        "{path} was written by a newer Thrum (format {found}; this version supports {USER_VERSION}); upgrade Thrum"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// The file is damaged.
    #[error(
        "{path} is damaged; restore a backup into an empty directory, and set --data to that directory"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// SQLite can't open it.
    #[error("can't open {path}: {error}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// The backup file exists already.
    #[error("{path} already exists; choose another file name")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file can't be created or written.
    #[error("can't write {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Creates the data directory if needed, and locks it: only one process may use it.
pub fn lock(directory: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::Directory {
        path: directory.to_owned(),
        error,
    };
    // It holds webhook secrets and the bodies of pings, so only this user may read it.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(_) => Err(OpenError::InUse {
            path: directory.to_owned(),
        }),
    }
}

/// Opens the writing connection, creating the tables if the file is new.
pub fn open_writer(path: &Path, durability: Durability) -> Result<Connection, OpenError> {
    private(path)?;
    let database = |error| refused(path, error);
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(database)?;
    connection.busy_timeout(BUSY).map_err(database)?;
    check(&connection, path)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(database)?;
    if mode != "wal" {
        tracing::warn!(
            mode,
            "the database can't use a write-ahead log; is it on a network file system?"
        );
    }
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection
        .pragma_update(None, "synchronous", synchronous)
        .and_then(|()| connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES))
        .and_then(|()| prepare(&connection, WRITER_CACHE_KIB))
        .map_err(database)?;
    Ok(connection)
}

/// A database in memory.
pub fn in_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    prepare(&connection, WRITER_CACHE_KIB)?;
    Ok(connection)
}

fn prepare(connection: &Connection, cache_kib: i32) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        // In one transaction: a file with tables but without these marks would be rejected.
        connection.execute_batch(&format!(
            "BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {USER_VERSION}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// Opens a read-only connection.
pub fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    );
    connection
        .and_then(|connection| {
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(64);
            connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
            Ok(connection)
        })
        .map_err(|error| refused(path, error))
}

/// Copies a snapshot of the database at `from` to a new file `to`, while others keep writing.
/// `progress` gets the number of pages and how many are left.
///
/// # Errors
/// `from` is not a Thrum database, or `to` exists or can't be written.
pub fn backup(from: &Path, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), OpenError> {
    let file = |error| OpenError::File {
        path: to.to_owned(),
        error,
    };
    let exists = || OpenError::Exists {
        path: to.to_owned(),
    };
    if to.exists() {
        return Err(exists());
    }
    let source = open_reader(from)?;
    check_format(&source, from)?;
    let directory = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Under a temporary name until it is complete. Only this user may read it.
    let partial = tempfile::Builder::new()
        .prefix(".thrum-backup-")
        .tempfile_in(directory)
        .map_err(file)?;
    copy(&source, partial.path(), &mut progress).map_err(|error| refused(from, error))?;
    partial.as_file().sync_all().map_err(file)?;
    partial
        .persist_noclobber(to)
        .map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => file(error.error),
        })?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(file)
}

fn copy(
    source: &Connection,
    target: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> rusqlite::Result<()> {
    let mut target = Connection::open(target)?;
    // A read transaction: without it, each write by another connection would restart the copy.
    source.execute_batch("BEGIN")?;
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let copied: rusqlite::Result<()> = (|| {
        let backup = Backup::new(source, &mut target)?;
        loop {
            match backup.step(BACKUP_STEP)? {
                StepResult::Done => return Ok(()),
                StepResult::Busy | StepResult::Locked => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ => {}
            }
            let state = backup.progress();
            let pages = |n: i32| u64::from(n.unsigned_abs());
            progress(pages(state.pagecount), pages(state.remaining));
        }
    })();
    source.execute_batch("ROLLBACK")?;
    copied?;
    // A copy of a damaged database must not replace a good backup.
    let check: String = target.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if check == "ok" {
        return Ok(());
    }
    let damaged = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(damaged, Some(check)))
}

/// Creates a file unless it exists; only this user may read it.
fn private(path: &Path) -> Result<(), OpenError> {
    let created = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)));
    created.map_err(|error| OpenError::File {
        path: path.to_owned(),
        error,
    })
}

/// Rejects a file that is neither empty nor Thrum's.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| refused(path, error))?;
    let marked = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i32>(0));
    let application = marked("PRAGMA application_id").map_err(|error| refused(path, error))?;
    let version = marked("PRAGMA user_version").map_err(|error| refused(path, error))?;
    if (tables, application, version) == (0, 0, 0) {
        return Ok(());
    }
    check_format(connection, path)
}

fn check_format(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i32>(0));
    let failed = |error| refused(path, error);
    let application = number("PRAGMA application_id").map_err(failed)?;
    let version = number("PRAGMA user_version").map_err(failed)?;
    if application != APPLICATION_ID || version < USER_VERSION {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    if version > USER_VERSION {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: version,
        });
    }
    Ok(())
}

fn refused(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path },
        _ => OpenError::Database { path, error },
    }
}
