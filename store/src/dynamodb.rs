//! The table on DynamoDB, through the AWS SDK.

mod expression;

use crate::key::Key;
use crate::table::{
    Attempt, Batch, Call, Item, Meter, Operation, Page, Query, Read, Result, Table, TableError,
    Write,
};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder as ConfigBuilder;
use aws_sdk_dynamodb::config::interceptors::InterceptorContext;
use aws_sdk_dynamodb::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, ConsumedCapacity, Delete,
    DeleteRequest, KeySchemaElement, KeyType, KeysAndAttributes, Put, PutRequest,
    ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure, ScalarAttributeType,
    StreamSpecification, StreamViewType, TimeToLiveSpecification, TransactWriteItem,
    Update as SdkUpdate, WriteRequest,
};
use aws_smithy_types::error::operation::BuildError;
use expression::Expression;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Maximum calls for an update with several attempts before it fails.
const MAX_ATTEMPTS: usize = 4;

type SdkItem = HashMap<String, AttributeValue>;

/// A table on DynamoDB. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DynamoTable {
    client: Client,
    name: Arc<str>,
    meter: Option<Meter>,
}

/// Adds to a write what every write has: its table, and its condition.
macro_rules! conditional {
    ($table:ident, $write:ident, $expression:expr, $condition:expr) => {{
        let mut expression = $expression;
        let condition = expression.condition($condition);
        $write
            .table_name(&*$table.name)
            .set_condition_expression(condition)
            .set_expression_attribute_names(expression.names())
            .set_expression_attribute_values(expression.values())
    }};
}

/// Sends a single write, counts its cost, and maps its errors.
macro_rules! send_write {
    ($table:ident, $request:ident, $operation:ident, $error:ident) => {{
        let sent = $request
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .set_return_consumed_capacity($table.capacity())
            .send()
            .await;
        match sent {
            Ok(done) => {
                $table.count(Operation::$operation, done.consumed_capacity());
                Ok(done)
            }
            Err(error) => Err(match error.as_service_error() {
                Some($error::ConditionalCheckFailedException(failed)) => {
                    $table.count(Operation::$operation, None);
                    refused(failed.item.clone())
                }
                _ => failure(&error),
            }),
        }
    }};
}

impl DynamoTable {
    /// The table `name`.
    pub fn new(client: Client, name: &str) -> Self {
        Self {
            client,
            name: name.into(),
            meter: None,
        }
    }

    /// The same table, counting its calls and the capacity that DynamoDB reports for them.
    #[must_use]
    pub fn metered(self, meter: Meter) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    /// Creates the table unless it exists: on-demand, with TTL and a stream of new and old images.
    /// On AWS, the template does this.
    ///
    /// # Errors
    /// DynamoDB refuses.
    pub async fn create(&self) -> Result<()> {
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewAndOldImages)
            .build()
            .map_err(incomplete)?;
        let mut create = self
            .client
            .create_table()
            .table_name(&*self.name)
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(stream);
        for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build()
                .map_err(incomplete)?;
            let element = KeySchemaElement::builder()
                .attribute_name(name)
                .key_type(kind)
                .build()
                .map_err(incomplete)?;
            create = create.attribute_definitions(attribute).key_schema(element);
        }
        match create.send().await {
            Ok(_) => {}
            Err(error) if error.code() == Some("ResourceInUseException") => return Ok(()),
            Err(error) => return Err(failure(&error)),
        }
        let ttl = TimeToLiveSpecification::builder()
            .attribute_name("expires_at")
            .enabled(true)
            .build()
            .map_err(incomplete)?;
        self.client
            .update_time_to_live()
            .table_name(&*self.name)
            .time_to_live_specification(ttl)
            .send()
            .await
            .map_err(|error| failure(&error))?;
        Ok(())
    }

    /// Asks DynamoDB to report capacity if there is a meter.
    fn capacity(&self) -> Option<ReturnConsumedCapacity> {
        self.meter.as_ref().map(|_| ReturnConsumedCapacity::Total)
    }

    fn count<'a>(
        &self,
        operation: Operation,
        consumed: impl IntoIterator<Item = &'a ConsumedCapacity>,
    ) {
        if let Some(meter) = &self.meter {
            let units = consumed.into_iter().filter_map(|one| one.capacity_units);
            meter.count(operation, units.sum());
        }
    }

    async fn get_one(&self, key: Key, read: Read) -> Result<Option<Item>> {
        let sent = self
            .client
            .get_item()
            .table_name(&*self.name)
            .set_key(Some(sdk_key(key)))
            .consistent_read(read == Read::Consistent)
            .set_return_consumed_capacity(self.capacity())
            .send()
            .await;
        let found = sent.map_err(|error| failure(&error))?;
        self.count(Operation::GetItem, found.consumed_capacity());
        Ok(found.item.map(Item::from))
    }

    async fn get_batch(&self, keys: Vec<Key>, read: Read) -> Result<Batch> {
        let request = KeysAndAttributes::builder()
            .set_keys(Some(keys.into_iter().map(sdk_key).collect()))
            .consistent_read(read == Read::Consistent)
            .build()
            .map_err(incomplete)?;
        let sent = self
            .client
            .batch_get_item()
            .request_items(&*self.name, request)
            .set_return_consumed_capacity(self.capacity())
            .send()
            .await;
        let mut found = sent.map_err(|error| failure(&error))?;
        self.count(Operation::BatchGetItem, found.consumed_capacity());
        let items = found
            .responses
            .as_mut()
            .and_then(|tables| tables.remove(&*self.name));
        let unprocessed = found
            .unprocessed_keys
            .as_mut()
            .and_then(|tables| tables.remove(&*self.name));
        let unprocessed = unprocessed.map(|left| left.keys).unwrap_or_default();
        Ok(Batch {
            items: items
                .unwrap_or_default()
                .into_iter()
                .map(Item::from)
                .collect(),
            unprocessed: unprocessed.into_iter().map(key_of).collect::<Result<_>>()?,
        })
    }

    async fn get_page(&self, query: Query) -> Result<Page> {
        // DynamoDB rejects an empty range.
        if query.range.is_empty() {
            return Ok(Page::default());
        }
        let mut expression = Expression::default();
        let condition = expression.range(&query.pk, &query.range);
        let limit = query
            .limit
            .map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
        let sent = self
            .client
            .query()
            .table_name(&*self.name)
            .key_condition_expression(condition)
            .set_expression_attribute_names(expression.names())
            .set_expression_attribute_values(expression.values())
            .consistent_read(query.read == Read::Consistent)
            .scan_index_forward(!query.newest_first)
            .set_limit(limit)
            .set_exclusive_start_key(query.after.map(sdk_key))
            .set_return_consumed_capacity(self.capacity())
            .send()
            .await;
        let page = sent.map_err(|error| failure(&error))?;
        self.count(Operation::Query, page.consumed_capacity());
        Ok(Page {
            items: page
                .items
                .unwrap_or_default()
                .into_iter()
                .map(Item::from)
                .collect(),
            next: page.last_evaluated_key.map(key_of).transpose()?,
        })
    }

    async fn write_one(&self, write: Write) -> Result<Option<Item>> {
        match write {
            Write::Put { item, condition } => {
                let put = self.client.put_item().set_item(Some(item.into()));
                let put = conditional!(self, put, Expression::default(), &condition);
                send_write!(self, put, PutItem, PutItemError)?;
                Ok(None)
            }
            Write::Delete { key, condition } => {
                let delete = self.client.delete_item().set_key(Some(sdk_key(key)));
                let delete = conditional!(self, delete, Expression::default(), &condition);
                send_write!(self, delete, DeleteItem, DeleteItemError)?;
                Ok(None)
            }
            Write::Update { key, attempts } => self.update(&key, &attempts).await.map(Some),
            Write::Check { .. } => Err(TableError::Invalid(
                "a condition without a write needs a transaction".to_owned(),
            )),
        }
    }

    /// Tries the first attempt. If its condition fails, tries the first attempt whose condition
    /// holds for the item that DynamoDB returned, and so on while the item keeps changing.
    async fn update(&self, key: &Key, attempts: &[Attempt]) -> Result<Item> {
        let mut next = attempts.first();
        let mut failed = TableError::Invalid("an update must have an attempt".to_owned());
        for _ in 0..MAX_ATTEMPTS {
            let Some(attempt) = next else {
                return Err(failed);
            };
            let found = match self.attempt(key.clone(), attempt).await {
                Err(TableError::Condition { found, .. }) => found,
                done => return done,
            };
            next = attempts
                .iter()
                .find(|attempt| attempt.condition.holds(found.as_deref()))
                // A single attempt has no alternative: the caller must read the item again.
                .filter(|_| attempts.len() > 1);
            failed = TableError::Condition { at: 0, found };
        }
        Err(failed)
    }

    async fn attempt(&self, key: Key, attempt: &Attempt) -> Result<Item> {
        let mut expression = Expression::default();
        let update = expression.update(&attempt.update);
        let request = self.client.update_item().set_key(Some(sdk_key(key)));
        let request = request
            .set_update_expression(update)
            .return_values(ReturnValue::AllNew);
        let request = conditional!(self, request, expression, &attempt.condition);
        let done = send_write!(self, request, UpdateItem, UpdateItemError)?;
        Ok(done.attributes.map(Item::from).unwrap_or_default())
    }

    async fn write_batch(&self, writes: Vec<Write>) -> Result<Vec<Write>> {
        let requests: Vec<WriteRequest> = writes.into_iter().map(batched).collect::<Result<_>>()?;
        let sent = self
            .client
            .batch_write_item()
            .request_items(&*self.name, requests)
            .set_return_consumed_capacity(self.capacity())
            .send()
            .await;
        let mut done = sent.map_err(|error| failure(&error))?;
        self.count(Operation::BatchWriteItem, done.consumed_capacity());
        let left = done
            .unprocessed_items
            .as_mut()
            .and_then(|tables| tables.remove(&*self.name));
        left.unwrap_or_default()
            .into_iter()
            .map(unbatched)
            .collect()
    }

    async fn transaction(&self, writes: Vec<Write>, token: Uuid) -> Result<()> {
        let items: Vec<TransactWriteItem> = writes
            .into_iter()
            .map(|write| self.transacted(write))
            .collect::<Result<_>>()?;
        let sent = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .client_request_token(token.to_string())
            .set_return_consumed_capacity(self.capacity())
            .send()
            .await;
        let done = sent.map_err(|error| {
            self.count(Operation::TransactWriteItems, None);
            cancelled(&error)
        })?;
        self.count(Operation::TransactWriteItems, done.consumed_capacity());
        Ok(())
    }

    /// A write as part of a transaction.
    fn transacted(&self, write: Write) -> Result<TransactWriteItem> {
        let item = TransactWriteItem::builder();
        let mut expression = Expression::default();
        Ok(match write {
            Write::Put {
                item: image,
                condition,
            } => {
                let put = Put::builder().set_item(Some(image.into()));
                let put = conditional!(self, put, expression, &condition);
                item.put(put.build().map_err(incomplete)?)
            }
            Write::Update { key, attempts } => {
                let [attempt] = &attempts[..] else {
                    return Err(TableError::Invalid(
                        "an update in a transaction must have exactly one attempt".to_owned(),
                    ));
                };
                let update = expression.update(&attempt.update);
                let update = SdkUpdate::builder()
                    .set_key(Some(sdk_key(key)))
                    .set_update_expression(update);
                let update = conditional!(self, update, expression, &attempt.condition);
                item.update(update.build().map_err(incomplete)?)
            }
            Write::Delete { key, condition } => {
                let delete = Delete::builder().set_key(Some(sdk_key(key)));
                let delete = conditional!(self, delete, expression, &condition);
                item.delete(delete.build().map_err(incomplete)?)
            }
            Write::Check { key, condition } => {
                let check = ConditionCheck::builder().set_key(Some(sdk_key(key)));
                let check = conditional!(self, check, expression, &condition);
                item.condition_check(check.build().map_err(incomplete)?)
            }
        }
        .build())
    }
}

impl Table for DynamoTable {
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>> {
        Box::pin(self.get_one(key, read))
    }

    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch> {
        Box::pin(self.get_batch(keys, read))
    }

    fn query(&self, query: Query) -> Call<'_, Page> {
        Box::pin(self.get_page(query))
    }

    fn write(&self, write: Write) -> Call<'_, Option<Item>> {
        Box::pin(self.write_one(write))
    }

    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>> {
        Box::pin(self.write_batch(writes))
    }

    fn transact(&self, writes: Vec<Write>, token: Uuid) -> Call<'_, ()> {
        Box::pin(self.transaction(writes, token))
    }
}

/// Makes a client retry writes that conflict with a transaction on the same item. The SDK does not
/// do so by default.
pub fn retrying(config: ConfigBuilder) -> ConfigBuilder {
    config.retry_classifier(TransactionConflicts)
}

#[derive(Debug)]
struct TransactionConflicts;

impl ClassifyRetry for TransactionConflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        // A successful reply may contain the same text.
        let failed = context.response().filter(|_| context.is_failed());
        let body = failed.and_then(|reply| reply.body().bytes());
        let name = b"TransactionConflictException";
        match body {
            Some(body) if body.windows(name.len()).any(|text| text == name) => {
                RetryAction::transient_error()
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "transaction conflicts"
    }
}

fn sdk_key(key: Key) -> SdkItem {
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(key.pk)),
        ("sk".to_owned(), AttributeValue::S(key.sk)),
    ])
}

fn key_of(item: SdkItem) -> Result<Key> {
    let no_key = || TableError::Unavailable("DynamoDB returned an item without a key".to_owned());
    Key::of(&item.into()).ok_or_else(no_key)
}

fn batched(write: Write) -> Result<WriteRequest> {
    let request = WriteRequest::builder();
    Ok(match write {
        Write::Put { item, .. } => {
            let put = PutRequest::builder().set_item(Some(item.into()));
            request.put_request(put.build().map_err(incomplete)?)
        }
        Write::Delete { key, .. } => {
            let delete = DeleteRequest::builder().set_key(Some(sdk_key(key)));
            request.delete_request(delete.build().map_err(incomplete)?)
        }
        Write::Update { .. } | Write::Check { .. } => {
            return Err(TableError::Invalid(
                "a batch may contain only puts and deletes".to_owned(),
            ));
        }
    }
    .build())
}

fn unbatched(request: WriteRequest) -> Result<Write> {
    match (request.put_request, request.delete_request) {
        (Some(put), _) => Ok(crate::table::put(put.item.into())),
        (None, Some(delete)) => Ok(crate::table::delete(key_of(delete.key)?)),
        (None, None) => Err(TableError::Unavailable(
            "DynamoDB returned an unprocessed request without a write".to_owned(),
        )),
    }
}

fn incomplete(error: BuildError) -> TableError {
    TableError::Invalid(error.to_string())
}

/// A condition that did not hold.
fn refused(found: Option<SdkItem>) -> TableError {
    TableError::condition(found.filter(|item| !item.is_empty()).map(Item::from))
}

/// Why a transaction was cancelled. A failed condition takes precedence, since a retry would fail
/// again.
fn cancelled<R>(error: &SdkError<TransactWriteItemsError, R>) -> TableError {
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
        error.as_service_error()
    else {
        return failure(error);
    };
    let reasons = cancelled.cancellation_reasons();
    let first = |codes: &[&str]| {
        reasons
            .iter()
            .position(|reason| reason.code().is_some_and(|code| codes.contains(&code)))
    };
    if let Some(at) = first(&["ConditionalCheckFailed"]) {
        TableError::Condition { at, found: None }
    } else if first(&["ThrottlingError", "ProvisionedThroughputExceeded"]).is_some() {
        TableError::Throttled("a transaction was cancelled".to_owned())
    } else if first(&["TransactionConflict"]).is_some() {
        TableError::Conflict
    } else if first(&["ValidationError", "ItemCollectionSizeLimitExceeded"]).is_some() {
        TableError::Invalid(error.message().unwrap_or_default().to_owned())
    } else {
        failure(error)
    }
}

/// All codes with which DynamoDB reports throttling.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
const THROTTLED: [&str; 5] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TransactionInProgressException",
    "LimitExceededException",
];

fn failure<E, R>(error: &SdkError<E, R>) -> TableError
where
    E: ProvideErrorMetadata,
{
    let kind = match error {
        SdkError::TimeoutError(_) => "the request timed out",
        SdkError::DispatchFailure(_) => "DynamoDB could not be reached",
        SdkError::ConstructionFailure(_) | SdkError::ResponseError(_) => {
            "the request or the response was invalid"
        }
        _ => "DynamoDB refused the request",
    };
    let code = error.code().unwrap_or("no code");
    let message = error.message().unwrap_or_default();
    if THROTTLED.contains(&code) {
        return TableError::Throttled(format!("{code} {message}"));
    }
    match code {
        "TransactionConflictException" => TableError::Conflict,
        "ValidationException" => TableError::Invalid(format!("{code} {message}")),
        _ => TableError::Unavailable(format!("{kind} ({code}) {message}")),
    }
}
