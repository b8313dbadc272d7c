//! API keys and ping keys, by their hashes alone.

use super::{Query, Result, Store, StoreError};
use crate::id::ProjectId;
use crate::item::{self, Key};
use crate::key::{ApiKey, hash};
use aws_sdk_dynamodb::types::{Delete, TransactWriteItem};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct PingKey {
    hash: String,
    project: ProjectId,
}

/// A project.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Project {
    name: String,
}

impl Store {
    /// The API key that `secret` is. 1 RU.
    pub async fn api_key(&self, secret: &str) -> Result<Option<ApiKey>> {
        let found: Option<ApiKey> = self.get(&Key::api_key(&hash(secret))).await?;
        Ok(found.filter(|key| key.is(secret)))
    }

    /// A project's API keys. 0.5 RU per 4 kB.
    pub async fn api_keys(&self, project: ProjectId) -> Result<Vec<ApiKey>> {
        self.query_prefix(&Key::project(project).pk, "KEY#", Query::default())
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

    /// Revokes an API key. 4 WU.
    pub async fn delete_api_key(&self, key: &ApiKey) -> Result<()> {
        let keys = [
            Key::api_key(&key.hash),
            Key::project_key(key.project, &key.hash),
        ];
        let writes = keys.map(|key| {
            let delete = Delete::builder()
                .table_name(&*self.table)
                .set_key(Some(key.attributes()));
            TransactWriteItem::builder()
                .delete(delete.build().expect("complete"))
                .build()
        });
        self.transact(writes.into()).await
    }

    /// The project whose ping key `secret` is. 1 RU.
    pub async fn project_of_ping_key(&self, secret: &str) -> Result<Option<ProjectId>> {
        let found: Option<PingKey> = self.get(&Key::ping_key(&hash(secret))).await?;
        Ok(found.map(|key| key.project))
    }

    /// Writes a project's ping key. 1 WU.
    pub async fn put_ping_key(&self, project: ProjectId, secret: &str) -> Result<()> {
        let key = PingKey {
            hash: hash(secret),
            project,
        };
        self.put(item::encode(&Key::ping_key(&key.hash), "pingkey", &key))
            .await
    }

    /// Makes a project unless it is there. True if this call made it. 1 WU.
    pub async fn ensure_project(&self, project: ProjectId, name: &str) -> Result<bool> {
        let body = Project { name: name.into() };
        let made = self
            .transact(vec![self.create(item::encode(
                &Key::project(project),
                "project",
                &body,
            ))])
            .await;
        match made {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
