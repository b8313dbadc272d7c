//! `--table`: a front direct of our own on a deployment's table, for as long as a command runs. Who may write to the table is
//! its operator, and needs no key.

use anyhow::{Context, anyhow, bail};
use rand::Rng;
use secrecy::SecretString;
#[cfg(feature = "aws")]
use std::time::Duration;
use thrum_ingest::{AdminKey, App, Config};
use thrum_schema::Plans;
use thrum_schema::id::ProjectId;
use thrum_schema::key::{ApiKey, Scope, new_api_key};
#[cfg(feature = "aws")]
use thrum_schema::world::SystemWorld;
use thrum_store::Store;
use tokio::net::TcpListener;

/// How long the key of a command is good, should the command not get to delete it, in milliseconds.
const KEY_MS: i64 = 3_600_000;
/// How long a call to the table may take.
#[cfg(feature = "aws")]
const TIMEOUT: Duration = Duration::from_secs(20);

/// The operations on `table`, and the region that it is in.
#[cfg(feature = "aws")]
async fn connect(table: &str) -> anyhow::Result<(Store, String)> {
    use aws_config::BehaviorVersion;
    use aws_config::timeout::TimeoutConfig;
    use std::sync::Arc;
    use thrum_store::dynamodb::{DynamoTable, retrying};

    let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
    let aws = aws_config::defaults(BehaviorVersion::latest())
        .http_client(thrum_store::tls::http_client())
        .timeout_config(timeouts)
        .load()
        .await;
    let region = aws
        .region()
        .context("AWS has no region: set AWS_REGION, or AWS_PROFILE to a profile that has one")?;
    let region = region.to_string();
    let client = aws_sdk_dynamodb::Client::from_conf(retrying((&aws).into()).build());
    let port = Arc::new(DynamoTable::new(client, table));
    // A timer in the first shard is found, however many shards the deployment has.
    Ok((Store::new(port, table, 1, SystemWorld::arc()), region))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "same signature as the real one")]
async fn connect(_: &str) -> anyhow::Result<(Store, String)> {
    bail!("this build of thrum has no AWS support; to use --table, build it with --features aws")
}

/// A front direct on this machine's loopback address.
#[derive(Debug)]
pub struct Direct {
    /// Where it is.
    pub url: String,
    /// The admin key of this command.
    pub admin_key: SecretString,
    /// A key of the project, if it has to be one project.
    pub api_key: Option<SecretString>,
    store: Store,
    key: Option<ApiKey>,
}

impl Direct {
    /// Opens it on `table`; with a key of `project` (its id or name, or the only one that there is) if `keyed`.
    ///
    /// # Errors
    /// AWS is not set up, the table is not there or may not be read, or it is not clear which project is meant.
    pub async fn open(table: &str, project: Option<&str>, keyed: bool) -> anyhow::Result<Self> {
        let (store, region) = connect(table).await?;
        let projects = store.projects().await.with_context(|| {
            format!("the table {table} can't be read in {region}; is it the right name, region and account?")
        })?;
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
                    "there is no project yet; make one: thrum --table {table} projects create NAME"
                ),
                (None, _, Some(project)) => bail!(
                    "there is no project {project:?}; thrum --table {table} projects lists them"
                ),
                (Some(_), Some(_), _) => {
                    let names: Vec<&str> = projects.iter().map(|one| &*one.name).collect();
                    bail!(
                        "which project? Give --project with one of these names, or with an id: {}",
                        names.join(", ")
                    )
                }
            };
            let now = world.now();
            let secret = new_api_key(world, Scope::Write);
            let mut made = ApiKey::new(&secret, id, Scope::Write, "thrum --table", now);
            made.until = Some(now + KEY_MS);
            store.put_api_key(&made).await?;
            api_key = Some(SecretString::from(secret));
            key = Some(made);
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

    /// Closes it, and deletes the key.
    ///
    /// # Errors
    /// The table failed; the key is good for an hour then.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some(key) = &self.key {
            self.store.delete_api_key(key, None).await?;
        }
        Ok(())
    }
}
