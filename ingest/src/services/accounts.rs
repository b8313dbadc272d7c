//! Accounts: API keys and ping keys, the admin key, projects with their plans, and the charging of
//! requests.

use super::cache::Cache;
use super::limiter::Limiter;
use crate::config::{AdminKey, Config};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use thiserror::Error;
use thrum_schema::key::{ApiKey, hash, same};
use thrum_schema::plan::{FREE, Limits, Rate};
use thrum_schema::{Project, ProjectId, UnixMs};
use thrum_store::{Charge, Charged, Result, Store};
use tokio::sync::Mutex;

/// How long to trust an admin key that is stored elsewhere, in milliseconds.
const ADMIN_KEY_MS: i64 = 300_000;
/// Shortest time between two fetches of the admin key, in milliseconds. A caller with a different
/// key triggers a fetch, because the key may have been rotated.
const WRONG_ADMIN_KEY_MS: i64 = 10_000;
/// The most API keys a project may have, whatever its plan.
const MAX_KEYS: u32 = 100;

/// API keys, plans and quotas. Lookups are cached for half a minute.
#[derive(Debug)]
pub struct Accounts {
    store: Store,
    config: Arc<Config>,
    api_keys: Cache<String, ApiKey>,
    ping_keys: Cache<String, ProjectId>,
    projects: Cache<ProjectId, Arc<Project>>,
    /// Refused requests, by the hash of their key.
    refusals: Limiter<String>,
    /// The hash of an admin key that is stored elsewhere, and when it was fetched.
    admin_key: Mutex<Option<(UnixMs, String)>>,
}

/// The admin key is stored elsewhere, and can't be fetched.
#[derive(Debug, Error)]
#[error("the admin key could not be fetched: {0}")]
pub struct AdminKeyUnavailable(String);

impl Accounts {
    /// The accounts in `store`.
    pub fn new(store: Store, config: Arc<Config>) -> Self {
        Self {
            store,
            config,
            api_keys: Cache::default(),
            ping_keys: Cache::default(),
            projects: Cache::default(),
            refusals: Limiter::default(),
            admin_key: Mutex::default(),
        }
    }

    /// The API key with this secret.
    pub async fn api_key(&self, secret: &str) -> Result<Option<ApiKey>> {
        let found = self.key_of_hash(&hash(secret)).await?;
        Ok(found.filter(|key| key.is(secret)))
    }

    /// The API key whose secret has this hash.
    pub async fn key_of_hash(&self, hash: &str) -> Result<Option<ApiKey>> {
        let now = self.store.world().now();
        let key = match self.api_keys.get(&hash.to_owned(), now) {
            Some(key) => Some(key),
            None => self.store.api_key(hash).await?.inspect(|key| {
                self.api_keys.put(hash.to_owned(), key.clone(), now);
            }),
        };
        let Some(key) = key.filter(|key| key.holds(now)) else {
            return Ok(None);
        };
        // A key of a deleted project is invalid, even if it is still stored.
        let project = self.find_project(key.project).await?;
        Ok(project.map(|_| key))
    }

    /// The project with this ping key.
    pub async fn project_of_ping_key(&self, secret: &str) -> Result<Option<ProjectId>> {
        let now = self.store.world().now();
        let hash = hash(secret);
        if let Some(project) = self.ping_keys.get(&hash, now) {
            return Ok(Some(project));
        }
        let project = self.store.project_of_ping_key(secret).await?;
        if let Some(project) = project {
            self.ping_keys.put(hash, project, now);
        }
        Ok(project)
    }

    /// Forgets an API key that changed here. Other handlers forget it within half a minute.
    pub fn forget_key(&self, hash: &str) {
        self.api_keys.forget(&hash.to_owned());
    }

    /// Deletes ping keys of a project. Other handlers forget them within half a minute.
    pub async fn drop_ping_keys(&self, project: ProjectId, hashes: &[String]) -> Result<()> {
        for hash in hashes {
            self.store.delete_ping_key(project, hash).await?;
            self.ping_keys.forget(hash);
        }
        Ok(())
    }

    /// The API keys of a project that are valid, oldest first.
    pub async fn valid_keys(&self, project: ProjectId) -> Result<Vec<ApiKey>> {
        let now = self.store.world().now();
        let mut keys = self.store.api_keys(project).await?;
        keys.retain(|key| key.holds(now));
        keys.sort_by(|a, b| a.created.cmp(&b.created).then(a.hash.cmp(&b.hash)));
        Ok(keys)
    }

    /// How many API keys a project may have, and how many it may create per day.
    pub async fn most_keys(&self, project: ProjectId) -> Result<u32> {
        Ok(self.limits(project).await?.keys.unwrap_or(MAX_KEYS))
    }

    /// Takes one of the keys that a project may create per day; false if none is left. Each key has
    /// its own quota, so the number of keys must be limited, too.
    pub async fn take_key(&self, project: ProjectId) -> Result<bool> {
        let most = self.most_keys(project).await?;
        let now = self.store.world().now();
        self.store.take(project, "keys", now, Some(most)).await
    }

    /// A project, at most half a minute out of date, if it exists.
    pub async fn find_project(&self, id: ProjectId) -> Result<Option<Arc<Project>>> {
        let now = self.store.world().now();
        if let Some(project) = self.projects.get(&id, now) {
            return Ok(Some(project));
        }
        let found = self.store.project(id).await?.map(Arc::new);
        if let Some(project) = &found {
            self.projects.put(id, Arc::clone(project), now);
        }
        Ok(found)
    }

    /// The project of a key. If it is being deleted, a project with the smallest plan stands in.
    pub async fn project(&self, id: ProjectId) -> Result<Arc<Project>> {
        let found = self.find_project(id).await?;
        Ok(found.unwrap_or_else(|| {
            Arc::new(Project {
                plan: FREE.to_owned(),
                ..Project::new(id, "")
            })
        }))
    }

    /// Forgets a project that changed here. Other handlers forget it within half a minute.
    pub fn forget_project(&self, id: ProjectId) {
        self.projects.forget(&id);
    }

    /// What a project's plan allows.
    pub async fn limits(&self, id: ProjectId) -> Result<Limits> {
        let project = self.project(id).await?;
        Ok(self.config.plans.limits(&project.plan))
    }

    /// Charges a request to a key: against its own limits, or its plan's where it has none. One
    /// conditional update, or two.
    pub async fn charge(&self, key: &ApiKey) -> Result<Charged> {
        let plan = self.limits(key.project).await?;
        let own = key.limits.unwrap_or_default();
        let charge = Charge {
            project: key.project,
            key_id: key.meter(),
            quota: own.requests_per_day.or(plan.requests_per_day),
            rate: self.rate(key).await?,
        };
        self.store.charge(&charge, self.store.world().now()).await
    }

    /// Whether the refused requests of a key are within their limit: as many per minute as the
    /// requests that are carried out, but counted separately, and by this process only. The inner
    /// error is the milliseconds until they are.
    pub async fn check_refusals(&self, key: &ApiKey) -> Result<Result<(), i64>> {
        let rate = self.rate(key).await?;
        Ok(rate.map_or(Ok(()), |rate| self.refusals.check(&key.hash, rate)))
    }

    /// Counts a refused request as `cost` of a key's limit.
    pub async fn count_refusal(&self, key: &ApiKey, cost: usize) {
        if let Ok(Some(rate)) = self.rate(key).await {
            self.refusals.count(key.hash.clone(), cost, rate);
        }
    }

    async fn rate(&self, key: &ApiKey) -> Result<Option<Rate>> {
        let own = key.limits.unwrap_or_default().requests_per_minute;
        let plan = self.limits(key.project).await?.requests_per_minute;
        Ok(own.or(plan).map(Rate::per_minute))
    }

    /// The admin key itself, if there is one.
    pub async fn admin_secret(&self) -> Result<Option<SecretString>, AdminKeyUnavailable> {
        match &self.config.admin_key {
            AdminKey::None => Ok(None),
            AdminKey::Key(key) => Ok(Some(key.clone())),
            AdminKey::Kept(source) => source.fetch().await.map(Some).map_err(AdminKeyUnavailable),
        }
    }

    /// Whether `given` is the admin key; `None` if there is none.
    pub async fn is_admin_key(&self, given: &str) -> Result<Option<bool>, AdminKeyUnavailable> {
        let given = hash(given);
        let source = match &self.config.admin_key {
            AdminKey::None => return Ok(None),
            AdminKey::Key(key) => return Ok(Some(same(&hash(key.expose_secret()), &given))),
            AdminKey::Kept(source) => source,
        };
        let mut known = self.admin_key.lock().await;
        let now = self.store.world().now();
        if let Some((at, hash)) = &*known {
            let fits = same(hash, &given);
            if at.is_within(WRONG_ADMIN_KEY_MS, now) || (fits && at.is_within(ADMIN_KEY_MS, now)) {
                return Ok(Some(fits));
            }
        }
        let key = source.fetch().await.map_err(AdminKeyUnavailable)?;
        let hash = hash(key.expose_secret());
        let fits = same(&hash, &given);
        *known = Some((now, hash));
        Ok(Some(fits))
    }
}
