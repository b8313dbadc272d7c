//! A Lambda function's table, configured by the environment.

use super::xray::Traced;
use crate::Store;
use crate::dynamodb::{DynamoTable, retrying};
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use std::sync::Arc;
use std::time::Duration;
use thrum_schema::world::SystemWorld;

/// How long a call may take with its retries: one that arms a timer must not be late (T2).
const OPERATION_TIMEOUT: Duration = crate::regions::CALL;
/// Timer shards, unless `THRUM_TIMER_SHARDS` is set. Their number must never decrease.
const DEFAULT_SHARDS: u16 = 4;

/// Connects to the table that `THRUM_TABLE` names; the returned configuration is for the function's
/// other clients. Region and credentials come only from Lambda's environment variables, because the
/// SDK's default provider chain would be a tenth of the bootstrap. No call is made yet.
///
/// # Errors
/// A variable is missing or wrong.
pub fn connect(lookup: impl Fn(&str) -> Option<String>) -> Result<(SdkConfig, Store), String> {
    let table = required(&lookup, "THRUM_TABLE")?;
    let shards = match lookup("THRUM_TIMER_SHARDS") {
        None => DEFAULT_SHARDS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|shards| (1..=999).contains(shards))
            .ok_or("THRUM_TIMER_SHARDS must be 1 to 999")?,
    };
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let mut aws = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(required(&lookup, "AWS_REGION")?))
        .credentials_provider(SharedCredentialsProvider::new(
            EnvironmentVariableCredentialsProvider::new(),
        ))
        .timeout_config(timeouts)
        .http_client(crate::tls::http_client());
    aws.set_endpoint_url(lookup("AWS_ENDPOINT_URL"));
    let aws = aws.build();
    let client = Client::from_conf(retrying((&aws).into()).build());
    let store = Store::new(
        Arc::new(Traced(DynamoTable::new(client, &table))),
        &table,
        shards,
        SystemWorld::arc(),
    );
    Ok((aws, store))
}

/// The value of the variable `name`.
///
/// # Errors
/// It is not set.
pub fn required(lookup: impl Fn(&str) -> Option<String>, name: &str) -> Result<String, String> {
    lookup(name).ok_or_else(|| format!("{name} must be set"))
}
