//! The table's stream, read through a second connection: records come to evaluate as Lambda would bring them, and
//! are deleted when they have been handled.
//!
//! The engine keeps its records in `_stream_records`, without an index and for ever, and looks for the greatest
//! sequence number at every write. Here it gets the index it lacks, and is kept short.

use anyhow::Context;
use aws_lambda_events::event::dynamodb::Event;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// How many records a batch has at the most, as for a Lambda function.
const BATCH: usize = 100;
/// How long records that were handled are kept, in seconds: a crash soon after replays what it may have cut short.
const KEEP_S: i64 = 5;
/// What evaluate is called for, as the filters of its event source say on AWS: alerts, probes, requests, watches, heads of
/// series, removals by TTL. The
/// text is a first sieve; evaluate looks at what comes through.
const WANTED: &str = "(user_identity IS NOT NULL
     OR (event_name = 'INSERT' AND instr(new_image, '\"kind\":{\"S\":\"alert\"}'))
     OR (event_name <> 'REMOVE' AND (instr(keys_json, '\"PROBE\"') OR instr(keys_json, '\"REQ\"')
         OR instr(keys_json, '\"W#') OR instr(keys_json, '\"SERIES#'))))";

/// Gives the engine's stream table the index that its writes need.
pub fn prepare(path: &Path) -> anyhow::Result<()> {
    let connection = connect(path)?;
    connection
        .execute_batch(
            "CREATE INDEX IF NOT EXISTS thrum_stream_sequence
             ON _stream_records (table_name, CAST(sequence_number AS INTEGER))",
        )
        .context("the engine's stream table is not as expected")
}

fn connect(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path).context("can't open the database again")?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// Reads the stream from the oldest record that was not handled.
#[derive(Debug)]
pub struct StreamReader {
    connection: Connection,
    /// Every record up to this one is handled.
    handled: i64,
    /// And up to this one, deleted.
    deleted: i64,
}

/// Records to handle, and where they end.
#[derive(Debug)]
pub struct Batch {
    /// The records that evaluate is called for; perhaps none.
    pub event: Event,
    /// Whether there were more to read.
    pub full: bool,
    end: i64,
}

impl StreamReader {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            connection: connect(path)?,
            handled: 0,
            deleted: 0,
        })
    }

    /// The records after those that were handled.
    ///
    /// # Errors
    /// The database failed.
    pub fn next(&self) -> anyhow::Result<Batch> {
        let last: i64 = self.connection.query_row(
            "SELECT COALESCE(MAX(id), 0) FROM _stream_records",
            [],
            |row| row.get(0),
        )?;
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT id, sequence_number, event_name, keys_json, new_image, old_image, user_identity
             FROM _stream_records WHERE id > ?1 AND id <= ?2 AND {WANTED} ORDER BY id LIMIT ?3"
        ))?;
        let mut rows = statement.query(params![self.handled, last, BATCH])?;
        let mut records = Vec::new();
        let mut end = self.handled;
        while let Some(row) = rows.next()? {
            end = row.get(0)?;
            records.push(record(row)?);
        }
        let full = records.len() == BATCH;
        if !full {
            end = last.max(end);
        }
        let event = serde_json::from_value(json!({ "Records": records }))
            .context("the engine's stream records are not as expected")?;
        Ok(Batch { event, full, end })
    }

    /// Every record that there is, wanted or not, as Lambda would bring it: for tests of the filters on AWS.
    ///
    /// # Errors
    /// The database failed.
    pub fn records(&self) -> anyhow::Result<Vec<Value>> {
        let mut statement = self.connection.prepare(
            "SELECT id, sequence_number, event_name, keys_json, new_image, old_image, user_identity
             FROM _stream_records ORDER BY id",
        )?;
        let mut rows = statement.query([])?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            records.push(record(row)?);
        }
        Ok(records)
    }

    /// Goes on after `batch`: all of it is handled.
    pub fn advance(&mut self, batch: &Batch) {
        self.handled = batch.end;
    }

    /// Deletes the records that were handled some seconds before `now_s`.
    ///
    /// # Errors
    /// The database failed.
    pub fn trim(&mut self, now_s: i64) -> anyhow::Result<usize> {
        if self.deleted == self.handled {
            return Ok(0);
        }
        let trimmed = self.connection.execute(
            "DELETE FROM _stream_records WHERE id <= ?1 AND created_at < ?2",
            params![self.handled, now_s - KEEP_S],
        )?;
        let oldest: Option<i64> =
            self.connection
                .query_row("SELECT MIN(id) FROM _stream_records", [], |row| row.get(0))?;
        self.deleted = oldest.map_or(self.handled, |id| (id - 1).min(self.handled));
        Ok(trimmed)
    }
}

/// A row as the record of a Lambda event.
fn record(row: &rusqlite::Row<'_>) -> anyhow::Result<Value> {
    let id: i64 = row.get(0)?;
    let sequence: String = row.get(1)?;
    let json = |i| -> anyhow::Result<Option<Value>> {
        let text: Option<String> = row.get(i)?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    };
    let mut change = json!({
        "Keys": json(3)?,
        "SequenceNumber": sequence,
        "SizeBytes": 0,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    });
    // What there is not is not there: filters can tell.
    for (name, image) in [("NewImage", json(4)?), ("OldImage", json(5)?)] {
        if let Some(image) = image {
            change[name] = image;
        }
    }
    Ok(json!({
        "eventID": id.to_string(),
        "eventName": row.get::<_, String>(2)?,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "local",
        "dynamodb": change,
        "userIdentity": json(6)?,
    }))
}

#[cfg(test)]
mod tests {
    use crate::engine::{Engine, TABLE};
    use thrum_schema::world::SystemWorld;
    use thrum_schema::{Store, UnixMs};

    /// The facts about the pinned engine that this file leans on.
    #[tokio::test]
    async fn the_engine_is_the_one_we_know() {
        let engine = Engine::temporary().unwrap();
        let store = Store::new(engine.client(), TABLE, 1, SystemWorld::arc());
        store.ensure_table().await.unwrap();
        store.probe(UnixMs(1)).await.unwrap();
        store.probe(UnixMs(2)).await.unwrap();
        let mut reader = engine.stream().unwrap();
        let plan: String = reader
            .connection
            .query_row(
                "EXPLAIN QUERY PLAN SELECT COALESCE(MAX(CAST(sequence_number AS INTEGER)), 0) + 1
                 FROM _stream_records WHERE table_name = ?1",
                [TABLE],
                |row| row.get(3),
            )
            .unwrap();
        assert!(plan.contains("thrum_stream_sequence"), "{plan}");
        let batch = reader.next().unwrap();
        assert_eq!(batch.event.records.len(), 2);
        let [first, second] = &batch.event.records[..] else {
            unreachable!()
        };
        assert_eq!(
            (&*first.event_name, &*second.event_name),
            ("INSERT", "MODIFY")
        );
        assert!(first.change.sequence_number < second.change.sequence_number);
        // Not handled: it comes again. Handled: it does not, and is deleted after a while.
        assert_eq!(reader.next().unwrap().event.records.len(), 2);
        reader.advance(&batch);
        assert!(reader.next().unwrap().event.records.is_empty());
        assert_eq!(reader.trim(0).unwrap(), 0);
        assert_eq!(reader.trim(i64::MAX - 10).unwrap(), 2);
        // An empty stream goes on where it was: numbers are never used twice.
        store.probe(UnixMs(3)).await.unwrap();
        let next = reader.next().unwrap();
        assert!(next.event.records[0].change.sequence_number > second.change.sequence_number);
    }

    #[tokio::test]
    async fn a_removal_by_ttl_names_its_remover() {
        let engine = Engine::temporary().unwrap();
        let store = Store::new(engine.client(), TABLE, 1, SystemWorld::arc());
        store.ensure_table().await.unwrap();
        let client = engine.client();
        use aws_sdk_dynamodb::types::AttributeValue;
        client
            .put_item()
            .table_name(TABLE)
            .item("pk", AttributeValue::S("M#x".into()))
            .item("sk", AttributeValue::S("LEASE".into()))
            .item("expires_at", AttributeValue::N("1000".into()))
            .send()
            .await
            .unwrap();
        assert_eq!(engine.sweep_ttl().unwrap(), 1);
        let batch = engine.stream().unwrap().next().unwrap();
        let record = batch.event.records.last().unwrap();
        assert_eq!(record.event_name, "REMOVE");
        let who = record.user_identity.as_ref().unwrap();
        assert_eq!(who.principal_id, "dynamodb.amazonaws.com");
        assert_eq!(who.type_, "Service");
    }
}
