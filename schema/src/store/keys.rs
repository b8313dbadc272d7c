//! API keys and ping keys, by their hashes alone.

use super::{Query, Result, Store, StoreError};
use crate::id::ProjectId;
use crate::item::{self, Key};
use crate::key::{ApiKey, hash};
use aws_sdk_dynamodb::types::TransactWriteItem;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct PingKey {
    hash: String,
    project: ProjectId,
}

impl Store {
    /// The API key whose secret has this hash. 1 RU.
    pub async fn api_key(&self, hash: &str) -> Result<Option<ApiKey>> {
        let found: Option<ApiKey> = self.get(&Key::api_key(hash)).await?;
        Ok(found.filter(|key| key.hash == hash))
    }

    /// A project's API keys. 1 RU per 4 kB.
    pub async fn api_keys(&self, project: ProjectId) -> Result<Vec<ApiKey>> {
        let query = Query {
            consistent: true,
            ..Query::default()
        };
        self.query_prefix(&Key::project(project).pk, "KEY#", query)
            .await
    }

    /// Writes an API key; writing it again changes nothing. 4 WU.
    pub async fn put_api_key(&self, key: &ApiKey) -> Result<()> {
        let writes = item::api_key(key).map(|item| self.create(item));
        match self.transact(writes.into()).await {
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes the successor of an API key, and when the key itself ends. 8 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the key is gone.
    pub async fn rotate_api_key(&self, ending: &ApiKey, successor: &ApiKey) -> Result<()> {
        let mut writes: Vec<TransactWriteItem> = item::api_key(successor)
            .map(|item| self.create(item))
            .into();
        for item in item::api_key(ending) {
            let put = self
                .put_item(item)
                .condition_expression("attribute_exists(pk)");
            writes.push(
                TransactWriteItem::builder()
                    .put(put.build().expect("complete"))
                    .build(),
            );
        }
        self.transact(writes).await
    }

    /// Revokes an API key, on condition that `survivor` is still there, if one is named. 4 WU, or 6.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the survivor is gone.
    pub async fn delete_api_key(&self, key: &ApiKey, survivor: Option<&ApiKey>) -> Result<()> {
        let mut writes = vec![
            self.remove(&Key::api_key(&key.hash)),
            self.remove(&Key::project_key(key.project, &key.hash)),
        ];
        writes.extend(survivor.map(|key| self.require(&Key::api_key(&key.hash))));
        self.transact(writes).await
    }

    /// The project whose ping key `secret` is. 1 RU.
    pub async fn project_of_ping_key(&self, secret: &str) -> Result<Option<ProjectId>> {
        let found: Option<PingKey> = self.get(&Key::ping_key(&hash(secret))).await?;
        Ok(found.map(|key| key.project))
    }

    /// Writes a ping key of a project. 4 WU.
    pub async fn put_ping_key(&self, project: ProjectId, secret: &str) -> Result<()> {
        let key = PingKey {
            hash: hash(secret),
            project,
        };
        self.transact(vec![
            self.write(item::encode(&Key::ping_key(&key.hash), "pingkey", &key)),
            self.write(item::encode(
                &Key::project_ping_key(project, &key.hash),
                "projectpingkey",
                &key,
            )),
        ])
        .await
    }

    /// The hashes of a project's ping keys. 0.5 RU per 4 kB.
    pub async fn ping_keys(&self, project: ProjectId) -> Result<Vec<String>> {
        let query = Query {
            consistent: true,
            ..Query::default()
        };
        let keys: Vec<PingKey> = self
            .query_prefix(&Key::project(project).pk, "PINGKEY#", query)
            .await?;
        Ok(keys.into_iter().map(|key| key.hash).collect())
    }

    /// Revokes a ping key by its hash. 4 WU.
    pub async fn delete_ping_key(&self, project: ProjectId, hash: &str) -> Result<()> {
        let keys = [Key::ping_key(hash), Key::project_ping_key(project, hash)];
        self.transact(keys.map(|key| self.remove(&key)).into())
            .await
    }
}
