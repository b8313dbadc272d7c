//! The engine in memory, called inline and by a clock that is given: nothing in it happens by itself, so whoever calls it
//! decides everything.

use super::dispatch::{self, Tokens};
use super::{TABLE, config, stream};
use anyhow::{Context, anyhow, ensure};
use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use dynoxide::Database;
use dynoxide::storage_backend::Clock;
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use thrum_schema::World;

/// Most records that are read at once.
const PAGE: usize = 1_000;

/// A database in memory. Cheap to clone; gone with the last handle.
#[derive(Clone)]
pub struct MemoryEngine(Database);

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryEngine")
    }
}

/// The clock of a world, for TTL and the stream.
struct WorldClock(Arc<dyn World>);

impl Clock for WorldClock {
    fn now_unix_secs(&self) -> u64 {
        self.0.now().secs().max(0).unsigned_abs()
    }

    fn now_unix_secs_f64(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of centuries fit")]
        let secs = self.0.now().0 as f64 / 1000.0;
        secs
    }
}

/// A file with an empty database whose stream has the index that its writes need: memory has no second connection to make
/// it by.
fn empty(directory: &Path) -> anyhow::Result<String> {
    let path = |name: &str| {
        let path = directory.join(name).into_os_string().into_string();
        path.map_err(|_| anyhow!("the temporary directory's name is not text"))
    };
    let (file, copy) = (path("empty.db")?, path("copy.db")?);
    let database = Database::new(&file)?;
    stream::prepare(Path::new(&file))?;
    database.vacuum_into(&copy)?;
    Ok(copy)
}

impl MemoryEngine {
    /// An empty database that takes the time from `world`.
    ///
    /// # Errors
    /// The engine can't be made.
    pub fn new(world: Arc<dyn World>) -> anyhow::Result<Self> {
        let database = Database::memory_with_clock(Arc::new(WorldClock(world)))?;
        let directory = tempfile::tempdir()?;
        database.restore_from(&empty(directory.path())?)?;
        Ok(Self(database))
    }

    /// Answers a request to DynamoDB, as [`Engine::answer`](super::Engine::answer) does, before it returns.
    pub fn answer(&self, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let operation = target.split('.').next_back().unwrap_or_default();
        dispatch::call(&self.0, operation, body, Tokens::Kept, None)
    }

    /// An SDK client whose calls come here.
    pub fn client(&self) -> Client {
        Client::from_conf(config(self.clone()).build())
    }

    /// Removes items whose TTL has passed, as DynamoDB does some time later.
    ///
    /// # Errors
    /// The engine failed.
    pub fn sweep_ttl(&self) -> anyhow::Result<usize> {
        Ok(self.0.sweep_ttl()?)
    }

    /// The records of the stream after `cursor`, as Lambda would bring them, and the cursor after them. The first cursor is
    /// empty.
    ///
    /// # Errors
    /// The engine failed, or its stream is not as expected.
    pub fn records(&self, cursor: &str) -> anyhow::Result<(Vec<Value>, String)> {
        let cursor = match cursor {
            "" => self.first_cursor()?,
            cursor => cursor.to_owned(),
        };
        let request = serde_json::from_value(json!({"ShardIterator": cursor, "Limit": PAGE}))?;
        let page = serde_json::to_value(self.0.get_records(request)?)?;
        let next = page["NextShardIterator"].as_str().context("a cursor")?;
        let records = page["Records"].as_array().context("records")?.clone();
        Ok((records, next.to_owned()))
    }

    fn first_cursor(&self) -> anyhow::Result<String> {
        let streams = serde_json::from_value(json!({"TableName": TABLE}))?;
        let streams = serde_json::to_value(self.0.list_streams(streams)?)?;
        let arn = &streams["Streams"][0]["StreamArn"];
        let described = serde_json::from_value(json!({"StreamArn": arn}))?;
        let described = serde_json::to_value(self.0.describe_stream(described)?)?;
        let shards = &described["StreamDescription"]["Shards"];
        ensure!(
            shards.as_array().is_some_and(|shards| shards.len() == 1),
            "one shard"
        );
        let asked = json!({
            "StreamArn": arn,
            "ShardId": shards[0]["ShardId"],
            "ShardIteratorType": "TRIM_HORIZON",
        });
        let found = self.0.get_shard_iterator(serde_json::from_value(asked)?)?;
        found.shard_iterator.context("a cursor")
    }

    /// Every item of the table, as DynamoDB's JSON.
    ///
    /// # Errors
    /// The engine failed.
    pub fn items(&self) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut start = Value::Null;
        loop {
            let mut asked = json!({"TableName": TABLE});
            if !start.is_null() {
                asked["ExclusiveStartKey"] = start;
            }
            let page = self.0.scan(serde_json::from_value(asked)?)?;
            let mut page = serde_json::to_value(page)?;
            if let Value::Array(found) = page["Items"].take() {
                items.extend(found);
            }
            start = page["LastEvaluatedKey"].take();
            if start.is_null() {
                return Ok(items);
            }
        }
    }
}

impl HttpConnector for MemoryEngine {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let (status, reply) = self.answer(target, body);
        let response = status
            .try_into()
            .map(|status| HttpResponse::new(status, SdkBody::from(reply)))
            .map_err(|_| ConnectorError::user("no such status".into()));
        HttpConnectorFuture::ready(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::world::ManualWorld;
    use thrum_schema::{Store, UnixMs};

    #[tokio::test]
    async fn its_stream_and_its_clock_are_the_callers() {
        let world = ManualWorld::new(UnixMs(1_763_700_000_000), 1);
        let engine = MemoryEngine::new(world.clone()).unwrap();
        let store = Store::new(engine.client(), TABLE, 1, world.clone());
        store.ensure_table().await.unwrap();
        assert!(engine.items().unwrap().is_empty());
        let now = world.now();
        let outage = thrum_schema::Outage {
            start: now,
            end: now,
        };
        store.put_outage(&outage).await.unwrap();
        store
            .put_outage(&thrum_schema::Outage {
                end: now + 1,
                ..outage
            })
            .await
            .unwrap();
        let (records, cursor) = engine.records("").unwrap();
        let names: Vec<&str> = records
            .iter()
            .filter_map(|record| record["eventName"].as_str())
            .collect();
        assert_eq!(names, ["INSERT", "MODIFY"]);
        let (none, same) = engine.records(&cursor).unwrap();
        assert!(none.is_empty());
        assert_eq!(same, cursor);
        assert_eq!(engine.items().unwrap().len(), 1);
        assert_eq!(engine.sweep_ttl().unwrap(), 0);
        world.advance(3 * 366 * 86_400_000);
        assert_eq!(engine.sweep_ttl().unwrap(), 1);
        let (removed, _) = engine.records(&cursor).unwrap();
        let who = &removed[0]["userIdentity"]["principalId"];
        assert_eq!(who, "dynamodb.amazonaws.com");
    }
}
