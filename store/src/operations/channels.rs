//! Channels.

use super::Counted;
use crate::item::{self, MAPPING_VERSION};
use crate::key::Key;
use crate::table::{Query, Write, add, attr, create, delete, exists, put, set, update};
use crate::{Result, Store};
use serde::Deserialize;
use thrum_schema::Targets;
use thrum_schema::channel::{Channel, Subscription};
use thrum_schema::id::{ChannelId, ProjectId};
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{Timer, What};

/// How long a channel's failures are kept, in seconds: 35 days.
const HEALTH_TTL_S: i64 = 35 * 86_400;

/// A channel whose last delivery failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChannelHealth {
    /// The channel.
    pub channel: ChannelId,
    /// How many attempts failed since the last success.
    pub failures: u64,
    /// When the first of them failed.
    pub since: UnixMs,
    /// When the last of them failed.
    pub failed_at: UnixMs,
    /// The last error.
    pub last_error: String,
}

impl Store {
    /// A channel. 1 RU.
    pub async fn channel(&self, project: ProjectId, channel: ChannelId) -> Result<Option<Channel>> {
        self.get(Key::channel(project, channel)).await
    }

    /// A project's channels. 1 RU per 4 kB.
    pub async fn channels(&self, project: ProjectId) -> Result<Vec<Channel>> {
        self.query(Query::of(Key::project(project).pk).prefix("CH#"))
            .await
    }

    /// The channels that `targets` refers to, without deleted ones. 1 RU per 4 kB, or 1 RU per
    /// channel.
    pub async fn resolve(&self, project: ProjectId, targets: &Targets) -> Result<Vec<Channel>> {
        match targets {
            Targets::All => self.channels(project).await,
            Targets::These(ids) => {
                let keys = ids.iter().map(|id| Key::channel(project, *id)).collect();
                self.get_many(keys).await
            }
        }
    }

    /// Creates a channel. With `check_at`, also arms a timer for its subscription. 4 WU, or 8.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if it exists, or another channel was
    /// created since `counted`.
    pub async fn create_channel(
        &self,
        channel: &Channel,
        check_at: Option<UnixMs>,
        counted: &Counted,
    ) -> Result<()> {
        let mut writes = vec![create(item::channel(channel)), counted.write()];
        writes.extend(self.subscription_writes(channel.project, channel.id, check_at, true));
        self.transact(writes).await
    }

    /// Replaces a channel if it still exists. With `check_at`, also arms a timer for its
    /// subscription, which requests confirmation again if it was lost. 2 WU, or 6.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if it is gone.
    pub async fn replace_channel(&self, channel: &Channel, check_at: Option<UnixMs>) -> Result<()> {
        let mut writes = vec![put(item::channel(channel)).when(exists())];
        writes.extend(self.subscription_writes(channel.project, channel.id, check_at, true));
        self.transact(writes).await
    }

    /// Deletes a channel. With `check_at`, also arms a timer that deletes its topic. Its pending
    /// deliveries are given up. 2 WU, or 4.
    pub async fn delete_channel(
        &self,
        project: ProjectId,
        channel: ChannelId,
        check_at: Option<UnixMs>,
    ) -> Result<()> {
        let mut writes = vec![delete(Key::channel(project, channel))];
        writes.extend(self.subscription_writes(project, channel, check_at, false));
        self.transact(writes).await
    }

    fn subscription_writes(
        &self,
        project: ProjectId,
        channel: ChannelId,
        due: Option<UnixMs>,
        wanted: bool,
    ) -> Vec<Write> {
        let Some(due) = due else {
            return Vec::new();
        };
        let what = What::Subscription { project, channel };
        let mut change = set("next", due)
            .set("kind", "subscription")
            .set("v", MAPPING_VERSION);
        if wanted {
            change = change.set("wanted", due);
        }
        vec![
            put(self.timer_item(Timer { due, what })),
            update(Key::subscription(project, channel), change),
        ]
    }

    /// An e-mail channel's subscription. 1 RU.
    pub async fn subscription(
        &self,
        project: ProjectId,
        channel: ChannelId,
    ) -> Result<Option<Subscription>> {
        self.get(Key::subscription(project, channel)).await
    }

    /// Records the result of a check of a subscription and arms the timer for the next one, unless
    /// a user has requested confirmation again since. 4 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if another process changed it.
    pub async fn put_subscription(
        &self,
        project: ProjectId,
        channel: ChannelId,
        subscription: &Subscription,
    ) -> Result<()> {
        let key = Key::subscription(project, channel);
        let unchanged = match subscription.wanted {
            Some(wanted) => attr("wanted").eq(wanted),
            None => attr("wanted").missing(),
        };
        let seen = item::encode(&key, "subscription", subscription);
        let mut writes = vec![put(seen).when(unchanged)];
        if let Some(due) = subscription.next {
            let what = What::Subscription { project, channel };
            writes.push(put(self.timer_item(Timer { due, what })));
        }
        self.transact(writes).await
    }

    /// Records that the address with the hash `address` has confirmed. Returns false if it was not
    /// asked. 1 WU.
    pub async fn confirm_address(
        &self,
        project: ProjectId,
        channel: ChannelId,
        address: &str,
    ) -> Result<bool> {
        let confirmed = set("state", "confirmed").remove("error");
        let write = update(Key::subscription(project, channel), confirmed);
        self.try_write(write.when(attr("address").eq(address)))
            .await
    }

    /// Deletes a subscription whose topic is gone. 1 WU.
    pub async fn delete_subscription(&self, project: ProjectId, channel: ChannelId) -> Result<()> {
        self.write(delete(Key::subscription(project, channel)))
            .await
            .map(drop)
    }

    /// Records that a delivery to a channel failed, and why. 1 WU.
    pub async fn channel_failed(
        &self,
        project: ProjectId,
        channel: ChannelId,
        error: &str,
        now: UnixMs,
    ) -> Result<()> {
        let failed = add("failures", 1)
            .set("kind", "health")
            .set("v", MAPPING_VERSION)
            .set("channel", channel)
            .set("last_error", error)
            .set("failed_at", now)
            .set_if_missing("since", now)
            .set("expires_at", now.secs() + HEALTH_TTL_S);
        self.write(update(Key::channel_health(project, channel), failed))
            .await
            .map(drop)
    }

    /// Records that a delivery to a channel was sent, which clears its failures. 1 WU.
    pub async fn channel_sent(&self, project: ProjectId, channel: ChannelId) -> Result<()> {
        self.write(delete(Key::channel_health(project, channel)))
            .await
            .map(drop)
    }

    /// The channels of a project whose last delivery failed. 0.5 RU per 4 kB.
    pub async fn failing_channels(&self, project: ProjectId) -> Result<Vec<ChannelHealth>> {
        let failing = Query::of(Key::project(project).pk).prefix("HEALTH#");
        self.query(failing.eventual()).await
    }
}
