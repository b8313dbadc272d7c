//! A Lambda function's table, configured by the environment.

use super::xray::Traced;
use crate::Store;
use crate::dynamodb::{DynamoTable, retrying};
use crate::regions::{FenceTable, FencedTable, Regions};
use crate::table::Table;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use std::sync::Arc;
use std::time::Duration;
use thrum_schema::fence::Region as FenceRegion;
use thrum_schema::world::SystemWorld;

/// How long a call may take with its retries: one that arms a timer must not be late (T2).
const OPERATION_TIMEOUT: Duration = crate::regions::CALL;
/// Timer shards, unless `THRUM_TIMER_SHARDS` is set. Their number must never decrease.
const DEFAULT_SHARDS: u16 = 4;

/// A function's connection to AWS.
#[derive(Debug)]
pub struct Connected {
    /// The configuration for the function's other clients.
    pub aws: SdkConfig,
    /// The table, in one of two regions this region's replica.
    pub store: Store,
    /// The fence, in one of two regions.
    pub regions: Option<Regions>,
    /// The other region's configuration.
    other: Option<(FenceRegion, SdkConfig)>,
}

/// Connects to the table that `THRUM_TABLE` names. Region and credentials come only from Lambda's environment variables,
/// because the SDK's default provider chain would be a tenth of the bootstrap. No call is made yet.
///
/// In one of two regions, `THRUM_REGIONS` has both, with a comma in between, the one that creates the fence first; and
/// `THRUM_FENCE_TABLE` is the table with the fence.
///
/// # Errors
/// A variable is missing or wrong.
pub fn connect(lookup: impl Fn(&str) -> Option<String>) -> Result<Connected, String> {
    let table = required(&lookup, "THRUM_TABLE")?;
    let shards = match lookup("THRUM_TIMER_SHARDS") {
        None => DEFAULT_SHARDS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|shards| (1..=999).contains(shards))
            .ok_or("THRUM_TIMER_SHARDS must be 1 to 999")?,
    };
    let here = required(&lookup, "AWS_REGION")?;
    let world = SystemWorld::arc();
    let aws = config(&lookup, &here);
    let store = Store::new(dynamo(&aws, &table), &table, shards, world.clone());
    let named = lookup("THRUM_REGIONS").filter(|regions| !regions.is_empty());
    let fenced = lookup("THRUM_FENCE_TABLE").filter(|table| !table.is_empty());
    if named.is_some() != fenced.is_some() {
        return Err("THRUM_REGIONS and THRUM_FENCE_TABLE must be set together".to_owned());
    }
    let (regions, other) = match named {
        None => (None, None),
        Some(named) => {
            let name = required(&lookup, "THRUM_FENCE_TABLE")?;
            let fence = FenceTable::new(dynamo(&aws, &name), &name);
            let (first, other) = two_regions(&named, &here)?;
            let both = [&here, &other].map(|region| FenceRegion(region.clone()));
            let regions = Regions::new(both, fence, world);
            let regions = match first {
                true => regions.creating(),
                false => regions,
            };
            let other_aws = config(&lookup, &other);
            (Some(regions), Some((FenceRegion(other), other_aws)))
        }
    };
    Ok(Connected {
        aws,
        store,
        regions,
        other,
    })
}

impl Connected {
    /// The table as ingest uses it: in one of two regions, the active one's replica.
    pub fn front(&self) -> Store {
        let (Some(regions), Some((other, aws))) = (&self.regions, &self.other) else {
            return self.store.clone();
        };
        let own = (regions.me().clone(), self.store.shared_table());
        let far = (other.clone(), dynamo(aws, self.store.name()));
        let table = FencedTable::active(regions.clone(), [own, far]);
        self.store.clone().on(Arc::new(table)).replicated()
    }
}

/// Whether `here` is the first of the two regions, and which is the other.
fn two_regions(named: &str, here: &str) -> Result<(bool, String), String> {
    let both: Vec<&str> = named.split(',').map(str::trim).collect();
    match both[..] {
        [first, second] if first != second && first == here => Ok((true, second.to_owned())),
        [first, second] if first != second && second == here => Ok((false, first.to_owned())),
        _ => Err(format!(
            "THRUM_REGIONS must be two regions with a comma in between, one of them {here}; it is {named:?}"
        )),
    }
}

fn config(lookup: impl Fn(&str) -> Option<String>, region: &str) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let mut aws = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(
            EnvironmentVariableCredentialsProvider::new(),
        ))
        .timeout_config(timeouts)
        .http_client(crate::tls::http_client());
    aws.set_endpoint_url(lookup("AWS_ENDPOINT_URL"));
    aws.build()
}

fn dynamo(aws: &SdkConfig, table: &str) -> Arc<dyn Table> {
    let client = Client::from_conf(retrying(aws.into()).build());
    Arc::new(Traced(DynamoTable::new(client, table)))
}

/// The value of the variable `name`.
///
/// # Errors
/// It is not set.
pub fn required(lookup: impl Fn(&str) -> Option<String>, name: &str) -> Result<String, String> {
    lookup(name).ok_or_else(|| format!("{name} must be set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_regions_are_wanted_one_of_them_this_one() {
        let (here, there) = ("eu-central-1", "eu-west-1");
        let first = two_regions("eu-central-1,eu-west-1", here);
        assert_eq!(first, Ok((true, there.to_owned())));
        let second = two_regions("eu-west-1, eu-central-1", here);
        assert_eq!(second, Ok((false, there.to_owned())));
        for wrong in [
            "eu-west-1",
            "eu-central-1,eu-central-1",
            "a,b",
            "a,b,eu-central-1",
            ",",
        ] {
            assert!(two_regions(wrong, here).is_err(), "{wrong}");
        }
    }
}
