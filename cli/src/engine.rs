//! The embedded table: the AWS SDK's HTTP client is replaced by a connector that calls a DynamoDB engine on SQLite
//! in this process. Nothing above it knows the difference.

mod dispatch;
mod flush;
mod memory;
mod meter;
mod stream;

pub use memory::MemoryEngine;
pub use meter::{Consumed, Meter};
pub use stream::{Batch, StreamReader};

use anyhow::Context;
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder as ConfigBuilder, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use dispatch::Tokens;
use dynoxide::Database;
use flush::Flusher;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The table's name.
pub const TABLE: &str = "thrum";
/// The database's file in the data directory.
const FILE: &str = "thrum.db";
/// How long a call may take, with its retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk: it survives a power cut. One flush serves all writers that wait for it.
    Full,
    /// When the operating system has it: it survives a crash of this process, not of the machine.
    Normal,
}

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    database: Database,
    path: PathBuf,
    flusher: Option<Flusher>,
    meter: Option<Meter>,
    /// Wakes the reader of the stream.
    written: Notify,
    /// Held for as long as the database is open: one process at a time.
    _lock: File,
    /// Removed with the last handle, if the database is not to be kept.
    _temporary: Option<tempfile::TempDir>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the database in `directory`, making both if need be.
    ///
    /// # Errors
    /// The directory can't be made or written, or another process has it open.
    pub fn open(directory: &Path, durability: Durability) -> anyhow::Result<Self> {
        Self::open_with(directory, durability, None, None)
    }

    /// Opens a database that is gone with the last handle on it.
    ///
    /// # Errors
    /// There is no room for temporary files.
    pub fn temporary() -> anyhow::Result<Self> {
        Self::temporary_with(None)
    }

    /// [`Self::temporary`], with a count of calls and units.
    ///
    /// # Errors
    /// There is no room for temporary files.
    pub fn metered(meter: Meter) -> anyhow::Result<Self> {
        Self::temporary_with(Some(meter))
    }

    fn temporary_with(meter: Option<Meter>) -> anyhow::Result<Self> {
        // Memory, where the system has a file system for it.
        let shm = Path::new("/dev/shm");
        let directory = if shm.is_dir() {
            tempfile::Builder::new().prefix("thrum-").tempdir_in(shm)
        } else {
            tempfile::Builder::new().prefix("thrum-").tempdir()
        };
        let directory = directory.context("no temporary directory can be made")?;
        let path = directory.path().to_owned();
        Self::open_with(&path, Durability::Normal, meter, Some(directory))
    }

    fn open_with(
        directory: &Path,
        durability: Durability,
        meter: Option<Meter>,
        temporary: Option<tempfile::TempDir>,
    ) -> anyhow::Result<Self> {
        // It holds the secrets of webhooks and what pings said: for this user alone.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("can't make the data directory {}", directory.display()))?;
        let lock = File::create(directory.join("lock"))
            .with_context(|| format!("can't write in {}", directory.display()))?;
        if lock.try_lock().is_err() {
            anyhow::bail!(
                "{} is in use by another thrum; stop it, or choose another --data",
                directory.display()
            );
        }
        let path = directory.join(FILE);
        let text = path
            .to_str()
            .context("the data directory's name is not text")?;
        let database = Database::new(text).context("can't open the database")?;
        // Commits are not flushed one by one: the flusher does that for many at once.
        database.disable_bulk_loading()?;
        stream::prepare(&path)?;
        let flusher = match durability {
            Durability::Full => Some(Flusher::start(&path)?),
            Durability::Normal => None,
        };
        Ok(Self(Arc::new(Inner {
            database,
            path,
            flusher,
            meter,
            written: Notify::new(),
            _lock: lock,
            _temporary: temporary,
        })))
    }

    /// An SDK client whose calls come here.
    pub fn client(&self) -> Client {
        Client::from_conf(config(self.clone()).build())
    }

    /// A reader of the table's stream, from the oldest record that was not handled.
    ///
    /// # Errors
    /// The database can't be opened a second time.
    pub fn stream(&self) -> anyhow::Result<StreamReader> {
        StreamReader::open(&self.0.path)
    }

    /// Waits until something is written that the stream may carry on.
    pub async fn written(&self) {
        self.0.written.notified().await;
    }

    /// How often the log was flushed to the disk.
    pub fn flushes(&self) -> u64 {
        self.0.flusher.as_ref().map_or(0, Flusher::count)
    }

    /// Removes items whose TTL has passed, as DynamoDB does some time later. It scans the table.
    ///
    /// # Errors
    /// The database failed.
    pub fn sweep_ttl(&self) -> anyhow::Result<usize> {
        Ok(self.0.database.sweep_ttl()?)
    }

    async fn call_engine(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default().to_vec();
        let (status, reply) = self
            .answer(target, body)
            .await
            .map_err(|error| ConnectorError::io(error.into()))?;
        let status = status
            .try_into()
            .map_err(|_| ConnectorError::user("no such status".into()))?;
        Ok(HttpResponse::new(status, SdkBody::from(reply)))
    }

    /// Answers a request to DynamoDB, of which `target` is the header `x-amz-target`: an HTTP status and a body. A write is
    /// as durable then as the engine is.
    ///
    /// # Errors
    /// The log could not be flushed, or the runtime is shutting down.
    pub async fn answer(&self, target: &str, body: Vec<u8>) -> std::io::Result<(u16, Vec<u8>)> {
        let operation = target.split('.').next_back().unwrap_or_default().to_owned();
        let engine = Arc::clone(&self.0);
        let kind = dispatch::Kind::of(&operation, &body);
        // Calls hold a lock and may wait for the disk: not on the threads that serve requests.
        let (status, reply) = tokio::task::spawn_blocking(move || {
            let (database, meter) = (&engine.database, engine.meter.as_ref());
            dispatch::call(database, &operation, &body, Tokens::Dropped, meter)
        })
        .await
        .map_err(std::io::Error::other)?;
        if kind != dispatch::Kind::Read && status == 200 {
            if let Some(flusher) = &self.0.flusher {
                flusher.flushed().await?;
            }
            if kind == dispatch::Kind::WriteForStream {
                self.0.written.notify_one();
            }
        }
        Ok((status, reply))
    }
}

/// What configures an SDK client whose calls go by `connector`, and never over a network.
pub fn config(connector: impl HttpConnector + 'static) -> ConfigBuilder {
    let connector = SharedHttpConnector::new(connector);
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .endpoint_url("http://embedded.invalid")
        .credentials_provider(Credentials::new(
            "embedded", "embedded", None, None, "embedded",
        ))
        .timeout_config(timeouts)
        .http_client(http_client_fn(move |_, _| connector.clone()));
    thrum_schema::store::retrying(config)
}

impl HttpConnector for Engine {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().call_engine(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::Store;
    use thrum_schema::UnixMs;
    use thrum_schema::world::SystemWorld;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_flush_answers_many_writers_and_none_is_answered_without() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path(), Durability::Full).unwrap();
        let store = Store::new(engine.client(), TABLE, 1, SystemWorld::arc());
        store.ensure_table().await.unwrap();
        let before = engine.flushes();
        store
            .put_ping_key(thrum_schema::ProjectId::FIRST, "one")
            .await
            .unwrap();
        assert_eq!(engine.flushes(), before + 1, "a write alone has its own");
        store.probe(UnixMs(1)).await.unwrap();
        assert_eq!(engine.flushes(), before + 2, "a read has none");
        let writers = (0..200).map(|i| {
            let (store, engine) = (store.clone(), engine.clone());
            tokio::spawn(async move {
                let key = format!("key-{i}");
                let before = engine.flushes();
                store
                    .put_ping_key(thrum_schema::ProjectId::FIRST, &key)
                    .await
                    .unwrap();
                assert!(engine.flushes() > before, "{key} was answered without");
            })
        });
        for written in futures::future::join_all(writers).await {
            written.unwrap();
        }
        let flushes = engine.flushes() - before - 2;
        assert!(
            (1..200).contains(&flushes),
            "{flushes} flushes for 200 writers"
        );
    }

    #[tokio::test]
    async fn one_process_at_a_time_has_the_data() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path(), Durability::Normal).unwrap();
        let second = Engine::open(directory.path(), Durability::Normal);
        assert!(second.unwrap_err().to_string().contains("in use"));
        drop(engine);
        Engine::open(directory.path(), Durability::Normal).unwrap();
    }
}
