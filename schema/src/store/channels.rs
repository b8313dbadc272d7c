//! Channels.

use super::{Query, Result, Store, classify};
use crate::channel::{Channel, Targets};
use crate::id::{ChannelId, ProjectId};
use crate::item::{self, Key, n, s};
use crate::time::UnixMs;
use serde::Deserialize;

/// How long a channel's failure is remembered, in seconds: 35 days.
const HEALTH_TTL_S: i64 = 35 * 86_400;

/// A channel whose last delivery failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChannelHealth {
    /// The channel.
    pub channel: ChannelId,
    /// How many attempts failed since one was sent.
    pub failures: u64,
    /// When the first of them failed.
    pub since: UnixMs,
    /// When the last of them failed.
    pub failed_at: UnixMs,
    /// Why.
    pub last_error: String,
}

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

    /// Records that a delivery of a channel failed, and why. 1 WU.
    pub async fn channel_failed(
        &self,
        project: ProjectId,
        channel: ChannelId,
        error: &str,
        now: UnixMs,
    ) -> Result<()> {
        self.client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::channel_health(project, channel).attributes()))
            .update_expression(
                "SET kind = :kind, v = :v, channel = :channel, last_error = :error, failed_at = :now, \
                 #since = if_not_exists(#since, :now), expires_at = :expires ADD failures :one",
            )
            .expression_attribute_names("#since", "since")
            .set_expression_attribute_values(super::values_of(vec![
                (":kind", s("health")),
                (":v", n(item::MAPPING_VERSION)),
                (":channel", s(channel.to_string())),
                (":error", s(error)),
                (":now", n(now.0)),
                (":expires", n(now.secs() + HEALTH_TTL_S)),
                (":one", n(1)),
            ]))
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }

    /// Records that a delivery of a channel was sent: it fails no more. 1 WU.
    pub async fn channel_sent(&self, project: ProjectId, channel: ChannelId) -> Result<()> {
        self.client
            .delete_item()
            .table_name(&*self.table)
            .set_key(Some(Key::channel_health(project, channel).attributes()))
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }

    /// The channels of a project whose last delivery failed. 0.5 RU per 4 kB.
    pub async fn failing_channels(&self, project: ProjectId) -> Result<Vec<ChannelHealth>> {
        self.query_prefix(&Key::project(project).pk, "HEALTH#", Query::default())
            .await
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
