//! Many alerts in one message (A6).

use crate::message::Message;
use crate::{Notify, NotifyError};
use futures::future::try_join_all;
use thrum_schema::channel::Channel;
use thrum_schema::delivery::{CLAIM_MS, Delivery, MAX_GROUP};
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::store::{Claim, Settled};
use thrum_schema::{Alert, StoreError};

/// How many members are settled at a time.
const CONCURRENCY: usize = 16;
/// How often a group is formed against others that form it too.
const MAX_ATTEMPTS: usize = 10;

impl Notify {
    /// Sends what was gathered for a channel, in groups of at most [`MAX_GROUP`]. A group is stored with its
    /// members and its claim before it is sent.
    pub(crate) async fn flush(
        &self,
        project: ProjectId,
        channel_id: ChannelId,
    ) -> Result<(), NotifyError> {
        for _ in 0..MAX_ATTEMPTS {
            let members = self.store.gathered(channel_id).await?;
            if members.is_empty() {
                return Ok(());
            }
            let now = self.store.world().now();
            let id = AlertId(self.store.world().uuid_v7(now));
            let claim = self.new_claim(project, id, channel_id, now, CLAIM_MS);
            match self.store.form_group(&claim, &members).await {
                Ok(group) => {
                    let channel = self.store.channel(project, channel_id).await?;
                    self.send_group(&claim, channel, group).await?;
                    if members.len() < MAX_GROUP {
                        return Ok(());
                    }
                }
                // Another took some of them: see what is left.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends exactly that group again, under its own key.
    pub(crate) async fn retry_group(
        &self,
        project: ProjectId,
        id: AlertId,
        channel_id: ChannelId,
        channel: Option<Channel>,
        group: Delivery,
    ) -> Result<(), NotifyError> {
        let now = self.store.world().now();
        let claim = self.new_claim(project, id, channel_id, now, CLAIM_MS);
        match self.store.claim(&claim, now).await {
            Ok(claimed) => {
                let group = Delivery {
                    members: group.members,
                    ..claimed
                };
                self.send_group(&claim, channel, group).await
            }
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes quota once for the group, sends it, and settles its members, then the group itself: a crash in between
    /// sends it again, under the same key.
    async fn send_group(
        &self,
        claim: &Claim,
        channel: Option<Channel>,
        group: Delivery,
    ) -> Result<(), NotifyError> {
        let mut alerts = self.store.alerts(claim.project, &group.members).await?;
        alerts.sort_by_key(|alert| {
            let n = alert.flip.as_ref().map_or(0, |flip| flip.n);
            (alert.happened(), n, alert.id)
        });
        let settled = match &channel {
            None => Settled::Dead {
                error: "the channel was deleted".into(),
            },
            Some(_) if alerts.is_empty() => Settled::Dead {
                error: "its alerts are gone".into(),
            },
            Some(channel) => match self.take_quota(channel, &group).await? {
                Some(error) => {
                    self.tell_of_limit(channel).await?;
                    Settled::Suppressed { error }
                }
                None => {
                    let message = match &alerts[..] {
                        [alone] => Message::of_alert(alone, channel),
                        many => Message::of_group(claim.alert, many),
                    };
                    let sent = self.sender.send(channel, &message, claim).await;
                    self.outcome(sent, claim, &group)
                }
            },
        };

        if !matches!(settled, Settled::Retry { .. }) {
            let dead = matches!(settled, Settled::Dead { .. });
            for chunk in alerts.chunks(CONCURRENCY) {
                let members = chunk
                    .iter()
                    .map(|alert| self.settle_member(alert, claim, &settled, dead));
                try_join_all(members).await?;
            }
        }
        self.settle(claim, &settled).await?;
        if channel.is_some() {
            self.note_health(claim, &settled).await?;
        }
        Ok(())
    }

    async fn settle_member(
        &self,
        alert: &Alert,
        claim: &Claim,
        settled: &Settled,
        dead: bool,
    ) -> Result<(), NotifyError> {
        let member = self
            .store
            .settle_member(alert.id, claim.channel, claim.alert, settled)
            .await?;
        self.conclude(alert, claim.channel, &member, dead).await
    }
}
