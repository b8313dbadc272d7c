//! Projects.

use crate::item;
use crate::key::Key;
use crate::table::{Query, attr, create, delete, put};
use crate::{Result, Store, StoreError};
use serde::Deserialize;
use thrum_schema::channel::ChannelKind;
use thrum_schema::id::ProjectId;
use thrum_schema::project::Project;
use thrum_schema::time::UnixMs;

impl Store {
    /// A project. 1 RU.
    pub async fn project(&self, project: ProjectId) -> Result<Option<Project>> {
        self.get(Key::project(project)).await
    }

    /// All projects. 0.5 RU per 4 kB, plus 1 RU each.
    pub async fn projects(&self) -> Result<Vec<Project>> {
        #[derive(Deserialize)]
        struct Ref {
            project: ProjectId,
        }
        let refs: Vec<Ref> = self.query(Query::of("PROJECTS").eventual()).await?;
        let keys = refs.iter().map(|found| Key::project(found.project));
        self.get_many(keys.collect()).await
    }

    /// Creates a project unless it exists. Returns whether this call created it. 6 WU.
    pub async fn create_project(&self, project: &Project) -> Result<bool> {
        let writes = item::project(project).map(create);
        match self.transact(writes.into()).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Replaces a project, if it is still `before`. 4 to 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it changed concurrently, or is gone.
    pub async fn replace_project(&self, before: &Project, after: &Project) -> Result<()> {
        let after = Project {
            version: before.version + 1,
            ..after.clone()
        };
        let [project, _, badge_key] = item::project(&after);
        let unchanged = attr("version").eq(before.version);
        let mut writes = vec![put(project).when(unchanged), put(badge_key)];
        if before.badge_key != after.badge_key {
            writes.push(delete(Key::badge_key(&before.badge_key)));
        }
        self.transact(writes).await
    }

    /// Deletes a project without monitors, then its keys and channels. After the first step these
    /// are unusable, because their project no longer exists. 2 WU each.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has monitors, or changed concurrently; then nothing is
    /// deleted.
    pub async fn delete_project(&self, project: &Project, check_at: Option<UnixMs>) -> Result<()> {
        let id = project.id;
        let (keys, ping_keys, channels) =
            futures::try_join!(self.api_keys(id), self.ping_keys(id), self.channels(id),)?;
        let census = self.census(id).await?;
        if census.n > 0 {
            return Err(StoreError::Conflict);
        }
        let mut writes = vec![
            delete(Key::project(id)).when(attr("version").eq(project.version)),
            delete(Key::project_ref(id)),
            delete(Key::badge_key(&project.badge_key)),
        ];
        writes.extend(Self::close_census(id, census));
        self.transact(writes).await?;
        for key in &keys {
            self.delete_api_key(key, None).await?;
        }
        for hash in &ping_keys {
            self.delete_ping_key(id, hash).await?;
        }
        for channel in &channels {
            let check_at = check_at.filter(|_| matches!(channel.via, ChannelKind::Email { .. }));
            self.delete_channel(id, channel.id, check_at).await?;
        }
        Ok(())
    }

    /// The project with this badge key. 1 RU.
    pub async fn project_by_badge_key(&self, badge_key: &str) -> Result<Option<ProjectId>> {
        #[derive(Deserialize)]
        struct To {
            project: ProjectId,
        }
        let found: Option<To> = self.get(Key::badge_key(badge_key)).await?;
        Ok(found.map(|found| found.project))
    }
}
