//! Channels.

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
        self.get(Key::channel(project, channel)).await
    }

    /// A project's channels. 1 RU per 4 kB.
    pub async fn channels(&self, project: ProjectId) -> Result<Vec<Channel>> {
        self.query(Query::of(Key::project(project).pk).prefix("CH#"))
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

    /// Writes a new channel; with `see_to`, a timer of that instant that has its subscription seen to. 2 WU, or 6.
    pub async fn create_channel(&self, channel: &Channel, see_to: Option<UnixMs>) -> Result<()> {
        let mut writes = vec![create(item::channel(channel))];
        writes.extend(self.see_to(channel.project, channel.id, see_to, true));
        self.transact(writes).await
    }

    /// Writes a changed channel, on condition that it is still there; with `see_to`, a timer that has its subscription
    /// seen to, and asked anew if it is lost. 2 WU, or 6.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if it is gone.
    pub async fn replace_channel(&self, channel: &Channel, see_to: Option<UnixMs>) -> Result<()> {
        let mut writes = vec![put(item::channel(channel)).when(exists())];
        writes.extend(self.see_to(channel.project, channel.id, see_to, true));
        self.transact(writes).await
    }

    /// Deletes a channel; with `see_to`, a timer that has its topic deleted. What was on its way through it is given up.
    /// 2 WU, or 4.
    pub async fn delete_channel(
        &self,
        project: ProjectId,
        channel: ChannelId,
        see_to: Option<UnixMs>,
    ) -> Result<()> {
        let mut writes = vec![delete(Key::channel(project, channel))];
        writes.extend(self.see_to(project, channel, see_to, false));
        self.transact(writes).await
    }

    fn see_to(
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

    /// What is known of an e-mail channel's subscription. 1 RU.
    pub async fn subscription(
        &self,
        project: ProjectId,
        channel: ChannelId,
    ) -> Result<Option<Subscription>> {
        self.get(Key::subscription(project, channel)).await
    }

    /// Records what was seen of a subscription, and arms the timer of the next look, unless a person wanted it asked again
    /// meanwhile. 4 WU.
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

    /// Forgets a subscription whose topic is gone. 1 WU.
    pub async fn delete_subscription(&self, project: ProjectId, channel: ChannelId) -> Result<()> {
        self.write(delete(Key::subscription(project, channel)))
            .await
            .map(drop)
    }

    /// Records that a delivery of a channel failed, and why. 1 WU.
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

    /// Records that a delivery of a channel was sent: it fails no more. 1 WU.
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
