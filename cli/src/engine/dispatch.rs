//! From a request's target to the engine's methods.

use super::meter::Meter;
use dynoxide::actions::transact_write_items::TransactWriteItemsRequest;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a call may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Read,
    /// Items that the stream's reader need not hurry for.
    Write,
    /// Items that may be alerts.
    WriteForStream,
}

impl Kind {
    /// The kind of `operation`.
    pub fn of(operation: &str, body: &[u8]) -> Self {
        match operation {
            // A series' nudge, among all the updates of leases.
            "UpdateItem" if is_nudge(body) => Self::WriteForStream,
            "GetItem" | "BatchGetItem" | "Query" | "Scan" | "DescribeTable" => Self::Read,
            "TransactWriteItems" | "PutItem" => Self::WriteForStream,
            _ => Self::Write,
        }
    }
}

fn is_nudge(body: &[u8]) -> bool {
    const NUDGE: &[u8] = b"ADD nudge";
    body.windows(NUDGE.len()).any(|text| text == NUDGE)
}

/// Whether the engine remembers transactions by their tokens, so that one that is tried again is done once. It looks through
/// all of the last ten minutes at each, which costs more than the transaction where there are thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// It does: replies may be lost on their way.
    Kept,
    /// It need not: calls come from this process, and a reply is lost with the one who waits for it.
    Dropped,
}

/// Calls the engine; returns an HTTP status and a body, as DynamoDB would.
pub fn call(
    database: &Database,
    operation: &str,
    body: &[u8],
    tokens: Tokens,
    meter: Option<&Meter>,
) -> (u16, Vec<u8>) {
    if let Some(meter) = meter {
        return metered(database, operation, body, tokens, meter);
    }
    match operation {
        "GetItem" => run(body, |request| database.get_item(request)),
        "PutItem" => run(body, |request| database.put_item(request)),
        "UpdateItem" => run(body, |request| database.update_item(request)),
        "DeleteItem" => run(body, |request| database.delete_item(request)),
        "Query" => run(body, |request| database.query(request)),
        "Scan" => run(body, |request| database.scan(request)),
        "BatchGetItem" => run(body, |request| database.batch_get_item(request)),
        "BatchWriteItem" => run(body, |request| database.batch_write_item(request)),
        "TransactWriteItems" => run(body, |mut request: TransactWriteItemsRequest| {
            if tokens == Tokens::Dropped {
                request.client_request_token = None;
            }
            database.transact_write_items(request)
        }),
        "TransactGetItems" => run(body, |request| database.transact_get_items(request)),
        "CreateTable" => run(body, |request| database.create_table(request)),
        "DescribeTable" => run(body, |request| database.describe_table(request)),
        "DeleteTable" => run(body, |request| database.delete_table(request)),
        "UpdateTimeToLive" => run(body, |request| database.update_time_to_live(request)),
        _ => failure(&DynoxideError::ValidationException(format!(
            "the embedded table does not know {operation}"
        ))),
    }
}

/// Asks for the consumed capacity with every call, and counts it.
fn metered(
    database: &Database,
    operation: &str,
    body: &[u8],
    tokens: Tokens,
    meter: &Meter,
) -> (u16, Vec<u8>) {
    let mut request: Value = serde_json::from_slice(body).unwrap_or_default();
    request["ReturnConsumedCapacity"] = "TOTAL".into();
    let body = request.to_string();
    let (status, reply) = call(database, operation, body.as_bytes(), tokens, None);
    let answer: Value = serde_json::from_slice(&reply).unwrap_or_default();
    meter.count(operation, &answer["ConsumedCapacity"]);
    (status, reply)
}

fn run<Request: DeserializeOwned, Reply: Serialize>(
    body: &[u8],
    method: impl FnOnce(Request) -> Result<Reply, DynoxideError>,
) -> (u16, Vec<u8>) {
    let request = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            let error = DynoxideError::SerializationException(error.to_string());
            return failure(&error);
        }
    };
    match method(request) {
        Ok(reply) => match serde_json::to_vec(&reply) {
            Ok(reply) => (200, reply),
            Err(error) => failure(&DynoxideError::InternalServerError(error.to_string())),
        },
        Err(error) => failure(&error),
    }
}

fn failure(error: &DynoxideError) -> (u16, Vec<u8>) {
    (error.status_code(), error.to_json().into_bytes())
}
