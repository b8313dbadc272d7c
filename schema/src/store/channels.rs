//! Channels.

use super::{Query, Result, Store, classify};
use crate::channel::{Channel, Subscription, Targets};
use crate::id::{ChannelId, ProjectId};
use crate::item::{self, Key, n, s};
use crate::time::UnixMs;
use crate::timer::{Timer, What};
use aws_sdk_dynamodb::types::TransactWriteItem;
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

    /// Writes a new channel; with `see_to`, a timer of that instant that has its subscription seen to. 2 WU, or 6.
    pub async fn create_channel(&self, channel: &Channel, see_to: Option<UnixMs>) -> Result<()> {
        let mut writes = vec![self.create(item::channel(channel))];
        writes.extend(self.see_to(channel.project, channel.id, see_to, true));
        self.transact(writes).await
    }

    /// Writes a changed channel, on condition that it is still there; with `see_to`, a timer that has its subscription
    /// seen to, and asked anew if it is lost. 2 WU, or 6.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if it is gone.
    pub async fn replace_channel(&self, channel: &Channel, see_to: Option<UnixMs>) -> Result<()> {
        let put = self
            .put_item(item::channel(channel))
            .condition_expression("attribute_exists(pk)");
        let put = TransactWriteItem::builder()
            .put(put.build().expect("complete"))
            .build();
        let mut writes = vec![put];
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
        let mut writes = vec![self.remove(&Key::channel(project, channel))];
        writes.extend(self.see_to(project, channel, see_to, false));
        self.transact(writes).await
    }

    fn see_to(
        &self,
        project: ProjectId,
        channel: ChannelId,
        due: Option<UnixMs>,
        wanted: bool,
    ) -> Vec<TransactWriteItem> {
        let Some(due) = due else {
            return Vec::new();
        };
        let what = What::Subscription { project, channel };
        let expression = if wanted {
            "SET #next = :now, kind = :kind, v = :v, wanted = :now"
        } else {
            "SET #next = :now, kind = :kind, v = :v"
        };
        let values = vec![
            (":now", n(due.0)),
            (":kind", s("subscription")),
            (":v", n(item::MAPPING_VERSION)),
        ];
        let key = Key::subscription(project, channel);
        vec![
            self.write(self.timer_item(Timer { due, what })),
            self.update(&key, expression, "", &[("#next", "next")], values),
        ]
    }

    /// What is known of an e-mail channel's subscription. 1 RU.
    pub async fn subscription(
        &self,
        project: ProjectId,
        channel: ChannelId,
    ) -> Result<Option<Subscription>> {
        self.get(&Key::subscription(project, channel)).await
    }

    /// Records what was seen of a subscription, and arms the timer of the next look, unless a person wanted it asked again
    /// meanwhile. 4 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if somebody did.
    pub async fn put_subscription(
        &self,
        project: ProjectId,
        channel: ChannelId,
        subscription: &Subscription,
    ) -> Result<()> {
        let key = Key::subscription(project, channel);
        let put = self.put_item(item::encode(&key, "subscription", subscription));
        let put = match subscription.wanted {
            Some(wanted) => put
                .condition_expression("wanted = :wanted")
                .expression_attribute_values(":wanted", n(wanted.0)),
            None => put.condition_expression("attribute_not_exists(wanted)"),
        };
        let put = TransactWriteItem::builder()
            .put(put.build().expect("complete"))
            .build();
        let mut writes = vec![put];
        if let Some(due) = subscription.next {
            let what = What::Subscription { project, channel };
            writes.push(self.write(self.timer_item(Timer { due, what })));
        }
        self.transact(writes).await
    }

    /// Forgets a subscription whose topic is gone. 1 WU.
    pub async fn delete_subscription(&self, project: ProjectId, channel: ChannelId) -> Result<()> {
        self.client
            .delete_item()
            .table_name(&*self.table)
            .set_key(Some(Key::subscription(project, channel).attributes()))
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
}
