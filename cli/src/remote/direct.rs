//! `--table`: runs Thrum's API in this process, on a deployment's table, while a command runs.
//! Anyone with AWS permissions on the table is its operator and needs no key.

use anyhow::{Context, anyhow, bail};
#[cfg(feature = "aws")]
use aws_config::{BehaviorVersion, SdkConfig, timeout::TimeoutConfig};
use rand::Rng;
use secrecy::SecretString;
#[cfg(feature = "aws")]
use std::{sync::Arc, time::Duration};
use thrum_ingest::{AdminKey, App, Config};
use thrum_schema::Plans;
use thrum_schema::id::ProjectId;
use thrum_schema::key::{ApiKey, Scope, new_api_key};
use thrum_store::Store;
use thrum_store::regions::Regions;
use tokio::net::TcpListener;
#[cfg(feature = "aws")]
use {
    thrum_schema::fence::{FencePlace, Region},
    thrum_schema::world::SystemWorld,
    thrum_store::dynamodb::{DynamoTable, retrying},
    thrum_store::regions::{FenceTable, FencedTable},
    thrum_store::table::Table,
};

/// Lifetime in milliseconds of the command's temporary API key, in case the command can't delete
/// it.
const KEY_MS: i64 = 3_600_000;
/// Time limit for a call to DynamoDB, with its retries: one that arms a timer must not be late (T2).
#[cfg(feature = "aws")]
const TIMEOUT: Duration = Duration::from_secs(8);

/// Opens `table`; returns the store, the region, and the fence of a deployment in two regions: then the store is the active
/// one's.
#[cfg(feature = "aws")]
pub(crate) async fn connect(table: &str) -> anyhow::Result<(Store, String, Option<Regions>)> {
    let aws = aws_config::defaults(BehaviorVersion::latest())
        .http_client(thrum_store::tls::http_client())
        .timeout_config(TimeoutConfig::builder().operation_timeout(TIMEOUT).build())
        .load()
        .await;
    let region = aws.region().context(
        "no AWS region is set: set AWS_REGION, or AWS_PROFILE to a profile with a region",
    )?;
    let region = Region(region.to_string());
    let dynamo = |aws: &SdkConfig, table: &str| -> Arc<dyn Table> {
        let client = aws_sdk_dynamodb::Client::from_conf(retrying(aws.into()).build());
        Arc::new(DynamoTable::new(client, table))
    };
    let own = dynamo(&aws, table);
    // One shard is enough for writing: every deployment sweeps the first shard.
    let store = Store::new(Arc::clone(&own), table, 1, SystemWorld::arc());
    let place = store.fence_place().await.with_context(|| {
        format!("can't read table {table} in {region}; check its name, the region and the account")
    })?;
    let Some(FencePlace {
        regions,
        table: name,
    }) = place
    else {
        return Ok((store, region.0, None));
    };
    let other = regions.into_iter().find(|other| *other != region);
    let other = other.context("the table names only one region")?;
    let there = aws_config::Region::new(other.0.clone());
    let far = dynamo(&aws.to_builder().region(there).build(), table);
    let fence = FenceTable::new(dynamo(&aws, &name), &name);
    let both = [region.clone(), other.clone()];
    let regions = Regions::new(both, fence, SystemWorld::arc());
    let active = FencedTable::active(regions.clone(), [(region.clone(), own), (other, far)]);
    Ok((store.on(Arc::new(active)), region.0, Some(regions)))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "same signature as the real one")]
async fn connect(_: &str) -> anyhow::Result<(Store, String, Option<Regions>)> {
    bail!("--table needs a build of thrum with AWS support (--features aws)")
}

/// Thrum's API on the loopback address, backed by a deployment's table.
#[derive(Debug)]
pub struct Direct {
    /// URL of the API.
    pub url: String,
    /// Random admin key, valid for this process.
    pub admin_key: SecretString,
    /// Temporary API key of the project, for commands that work on one project.
    pub api_key: Option<SecretString>,
    store: Store,
    key: Option<ApiKey>,
}

impl Direct {
    /// Starts the API on `table`. If `keyed`, creates a temporary API key of `project` (id or
    /// name); without `project`, the table must have exactly one.
    ///
    /// # Errors
    /// AWS is not configured, the table does not exist or can't be read, or the project is unknown
    /// or ambiguous.
    pub async fn open(table: &str, project: Option<&str>, keyed: bool) -> anyhow::Result<Self> {
        let (store, region, regions) = connect(table).await?;
        // A deployment in two regions may have no active one; its operator must still get through.
        let projects = match keyed || regions.is_none() {
            true => store.projects().await.with_context(|| {
                format!("can't read table {table} in {region}; check its name, the region and the account")
            })?,
            false => Vec::new(),
        };
        let world = store.world();
        let secret: String = rand::rng()
            .sample_iter(rand::distr::Alphanumeric)
            .take(48)
            .map(char::from)
            .collect();
        let admin_key = SecretString::from(secret);
        let mut key = None;
        let mut api_key = None;
        if keyed {
            let wanted = |id: ProjectId, name: &str| match project {
                Some(project) => project == name || project == id.to_string(),
                None => true,
            };
            let mut found = projects.iter().filter(|one| wanted(one.id, &one.name));
            let id = match (found.next(), found.next(), project) {
                (Some(one), None, _) => one.id,
                (None, _, None) => bail!(
                    "the table has no project yet; create one: thrum projects create NAME --table {table}"
                ),
                (None, _, Some(project)) => {
                    bail!("no project {project:?}; list them with: thrum projects --table {table}")
                }
                (Some(_), Some(_), _) => {
                    let names: Vec<&str> = projects.iter().map(|one| &*one.name).collect();
                    bail!(
                        "--project is required, with one of these names or an ID: {}",
                        names.join(", ")
                    )
                }
            };
            let now = world.now();
            let secret = new_api_key(world, Scope::Write);
            let mut created = ApiKey::new(&secret, id, Scope::Write, "thrum --table", now);
            created.until = Some(now + KEY_MS);
            store.put_api_key(&created).await?;
            api_key = Some(SecretString::from(secret));
            key = Some(created);
        }
        let plans = match std::env::var("THRUM_PLANS") {
            Ok(text) if !text.is_empty() => {
                Plans::from_json(&text).map_err(|error| anyhow!("THRUM_PLANS: {error}"))?
            }
            _ => Plans::default(),
        };
        let config = Config {
            plans,
            admin_key: AdminKey::Key(admin_key.clone()),
            mail_by_topics: true,
            regions,
            ..Config::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = thrum_ingest::router(App::new(store.clone(), config));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            url,
            admin_key,
            api_key,
            store,
            key,
        })
    }

    /// Deletes the temporary API key.
    ///
    /// # Errors
    /// The table failed; the key then expires within an hour.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some(key) = &self.key {
            self.store.delete_api_key(key, None).await?;
        }
        Ok(())
    }
}
