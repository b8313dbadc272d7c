//! Channels.

use super::{Query, Result, Store, classify};
use crate::channel::{Channel, Targets};
use crate::id::{ChannelId, ProjectId};
use crate::item::{self, Key};

impl Store {
    /// A channel. 1 RU.
    pub async fn channel(&self, project: ProjectId, channel: ChannelId) -> Result<Option<Channel>> {
        self.get(&Key::channel(project, channel)).await
    }

    /// A project's channels. 1 RU per 4 kB.
    pub async fn channels(&self, project: ProjectId) -> Result<Vec<Channel>> {
        let query = Query {
            consistent: true,
            ..Query::default()
        };
        self.query_prefix(&Key::project(project).pk, "CH#", query)
            .await
    }

    /// The channels that `targets` means; those that are gone are left out. 1 RU per 4 kB, or one a channel.
    pub async fn resolve(&self, project: ProjectId, targets: &Targets) -> Result<Vec<Channel>> {
        match targets {
            Targets::All => self.channels(project).await,
            Targets::These(ids) => {
                let keys = ids.iter().map(|id| Key::channel(project, *id)).collect();
                self.get_many(keys).await
            }
        }
    }

    /// Writes a channel, new or changed. 1 WU.
    pub async fn put_channel(&self, channel: &Channel) -> Result<()> {
        self.put(item::channel(channel)).await
    }

    /// Writes a changed channel, on condition that it is still there. 1 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if it is gone.
    pub async fn replace_channel(&self, channel: &Channel) -> Result<()> {
        self.client
            .put_item()
            .table_name(&*self.table)
            .set_item(Some(item::channel(channel)))
            .condition_expression("attribute_exists(pk)")
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }

    /// Deletes a channel. What was on its way through it is given up. 1 WU.
    pub async fn delete_channel(&self, project: ProjectId, channel: ChannelId) -> Result<()> {
        self.client
            .delete_item()
            .table_name(&*self.table)
            .set_key(Some(Key::channel(project, channel).attributes()))
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }
}
