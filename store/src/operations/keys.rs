//! API keys and ping keys, stored only as hashes.

use super::Counted;
use crate::item;
use crate::key::Key;
use crate::table::{Query, Write, attr, check, create, delete, exists, put};
use crate::{Result, Store, StoreError};
use serde::{Deserialize, Serialize};
use thrum_schema::id::ProjectId;
use thrum_schema::key::{ApiKey, hash};
use thrum_schema::time::UnixMs;

#[derive(Serialize, Deserialize)]
struct PingKey {
    hash: String,
    project: ProjectId,
}

/// The mark of a key that was preset.
#[derive(Serialize)]
struct Preset {}

impl Store {
    /// The API key whose secret has this hash. 1 RU.
    pub async fn api_key(&self, hash: &str) -> Result<Option<ApiKey>> {
        let found: Option<ApiKey> = self.get(Key::api_key(hash)).await?;
        Ok(found.filter(|key| key.hash == hash))
    }

    /// A project's API keys. 1 RU per 4 kB.
    pub async fn api_keys(&self, project: ProjectId) -> Result<Vec<ApiKey>> {
        self.query(Query::of(Key::project(project).pk).prefix("KEY#"))
            .await
    }

    /// Writes an API key; writing it again changes nothing. 4 WU.
    pub async fn put_api_key(&self, key: &ApiKey) -> Result<()> {
        let writes = item::api_key(key).map(create);
        match self.transact(writes.into()).await {
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates an API key. 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another key was created since `counted`.
    pub async fn create_api_key(&self, key: &ApiKey, counted: &Counted) -> Result<()> {
        let mut writes: Vec<Write> = item::api_key(key).map(create).into();
        writes.push(counted.write());
        self.transact(writes).await
    }

    /// Writes a key that the operator preset, unless that was done before: once revoked, it stays so.
    /// Returns whether it was done now. 5 WU, or 1 RU.
    pub async fn preset_api_key(&self, key: &ApiKey) -> Result<bool> {
        if self.is_preset(&key.hash).await? {
            return Ok(false);
        }
        self.put_api_key(key).await?;
        self.mark_preset(&key.hash).await
    }

    /// The same, for a ping key.
    pub async fn preset_ping_key(&self, project: ProjectId, secret: &str) -> Result<bool> {
        let hash = hash(secret);
        if self.is_preset(&hash).await? {
            return Ok(false);
        }
        self.put_ping_key(project, secret).await?;
        self.mark_preset(&hash).await
    }

    async fn is_preset(&self, hash: &str) -> Result<bool> {
        let found: Option<serde::de::IgnoredAny> = self.get(Key::preset(hash)).await?;
        Ok(found.is_some())
    }

    async fn mark_preset(&self, hash: &str) -> Result<bool> {
        let mark = item::encode(&Key::preset(hash), "preset", &Preset {});
        self.try_write(create(mark)).await
    }

    /// Writes the successor of an API key, and when the key itself expires. `before` is what the key
    /// was. 10 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the key is gone or was rotated, or another key was created since
    /// `counted`.
    pub async fn rotate_api_key(
        &self,
        before: &ApiKey,
        until: UnixMs,
        successor: &ApiKey,
        counted: &Counted,
    ) -> Result<()> {
        let unchanged = match before.until {
            Some(until) => attr("until").eq(until),
            None => attr("until").missing(),
        };
        let ending = ApiKey {
            until: Some(until),
            ..before.clone()
        };
        let mut writes: Vec<Write> = item::api_key(successor).map(create).into();
        let ends = |item| put(item).when(exists().and(unchanged.clone()));
        writes.extend(item::api_key(&ending).map(ends));
        writes.push(counted.write());
        self.transact(writes).await
    }

    /// Revokes an API key, on condition that `survivor`, if given, still exists. 4 WU, or 6.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the survivor is gone.
    pub async fn delete_api_key(&self, key: &ApiKey, survivor: Option<&ApiKey>) -> Result<()> {
        let mut writes = vec![
            delete(Key::api_key(&key.hash)),
            delete(Key::project_key(key.project, &key.hash)),
        ];
        writes.extend(survivor.map(|key| check(Key::api_key(&key.hash), exists())));
        self.transact(writes).await
    }

    /// The project with the ping key `secret`. 1 RU.
    pub async fn project_of_ping_key(&self, secret: &str) -> Result<Option<ProjectId>> {
        let found: Option<PingKey> = self.get(Key::ping_key(&hash(secret))).await?;
        Ok(found.map(|key| key.project))
    }

    /// Writes a ping key of a project. 4 WU.
    pub async fn put_ping_key(&self, project: ProjectId, secret: &str) -> Result<()> {
        let key = PingKey {
            hash: hash(secret),
            project,
        };
        self.transact(vec![
            put(item::encode(&Key::ping_key(&key.hash), "pingkey", &key)),
            put(item::encode(
                &Key::project_ping_key(project, &key.hash),
                "projectpingkey",
                &key,
            )),
        ])
        .await
    }

    /// The hashes of a project's ping keys. 0.5 RU per 4 kB.
    pub async fn ping_keys(&self, project: ProjectId) -> Result<Vec<String>> {
        let keys: Vec<PingKey> = self
            .query(Query::of(Key::project(project).pk).prefix("PINGKEY#"))
            .await?;
        Ok(keys.into_iter().map(|key| key.hash).collect())
    }

    /// Revokes a ping key by its hash. 4 WU.
    pub async fn delete_ping_key(&self, project: ProjectId, hash: &str) -> Result<()> {
        let keys = [Key::ping_key(hash), Key::project_ping_key(project, hash)];
        self.transact(keys.map(delete).into()).await
    }
}
