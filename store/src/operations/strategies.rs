//! Strategies: the current ones, and all of their versions.

use super::Counted;
use crate::item;
use crate::key::Key;
use crate::table::{Query, attr, create, put};
use crate::{Result, Store};
use thrum_schema::id::ProjectId;
use thrum_schema::signal::strategy::Stored;
use thrum_schema::time::UnixMs;

impl Store {
    /// A strategy of a project, possibly a deleted one. 1 RU.
    pub async fn strategy(&self, project: ProjectId, name: &str) -> Result<Option<Stored>> {
        self.get(Key::strategy(project, name)).await
    }

    /// A given version of a strategy. 1 RU.
    pub async fn strategy_version(
        &self,
        project: ProjectId,
        name: &str,
        version: u32,
    ) -> Result<Option<Stored>> {
        self.get(Key::strategy_version(project, name, version))
            .await
    }

    /// The strategies of a project, including deleted ones. 0.5 RU per 4 kB.
    pub async fn strategies(&self, project: ProjectId) -> Result<Vec<Stored>> {
        let pk = Key::project(project).pk;
        self.query(Query::of(pk).prefix("STRATEGY#").eventual())
            .await
    }

    /// The latest version of a strategy at a given time, if it existed. 0.5 RU per 4 kB.
    pub async fn version_at(
        &self,
        project: ProjectId,
        name: &str,
        at: UnixMs,
    ) -> Result<Option<u32>> {
        let key = Key::strategy_version(project, name, 0);
        let prefix = key.sk.trim_end_matches(|c: char| c.is_ascii_digit());
        let all = Query::of(key.pk).prefix(prefix).eventual();
        let all: Vec<Stored> = self.query(all).await?;
        let known = all
            .iter()
            .filter(|stored| stored.updated <= at && !stored.deleted);
        Ok(known.map(|stored| stored.version).max())
    }

    /// Writes a new version of a strategy, if `before` is the current one. 4 WU.
    ///
    /// # Errors
    /// [`crate::StoreError::Conflict`] if another process changed it.
    pub async fn put_strategy(
        &self,
        project: ProjectId,
        stored: &Stored,
        before: Option<u32>,
        counted: Option<&Counted>,
    ) -> Result<()> {
        let [now, version] = item::strategy(project, stored);
        let now = match before {
            None => create(now),
            Some(before) => put(now).when(attr("version").eq(before)),
        };
        let mut writes = vec![now, create(version)];
        writes.extend(counted.map(Counted::write));
        self.transact(writes).await
    }
}
