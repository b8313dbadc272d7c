//! Groups: many alerts in one message (A6).

use crate::message::Message;
use crate::overtaken::OVERTAKEN;
use crate::{Notify, NotifyError};
use futures::future::try_join_all;
use thrum_schema::Alert;
use thrum_schema::channel::Channel;
use thrum_schema::delivery::{CLAIM_MS, Delivery, MAX_GROUP};
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::mutant::{self, Mutant};
use thrum_store::{Claim, Settled, StoreError};

/// How many members are settled concurrently.
const CONCURRENCY: usize = 16;
/// How many groups a flush tries to form, including those that other handlers formed first.
const MAX_ATTEMPTS: usize = 10;

impl Notify {
    /// Sends the alerts gathered for a channel, in groups of at most [`MAX_GROUP`]. A group is
    /// stored with its members and its claim before it is sent.
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
            let id = AlertId::of_group(channel_id, &members);
            let claim = self.new_claim(project, id, channel_id, now, CLAIM_MS);
            match self.store.form_group(&claim, &members).await {
                Ok(group) => {
                    let channel = self.store.channel(project, channel_id).await?;
                    self.send_group(&claim, channel, group).await?;
                    if members.len() < MAX_GROUP {
                        return Ok(());
                    }
                }
                // Another handler took some of them: see what is left. Or the other of two regions formed this group, and
                // not all of that has arrived.
                Err(StoreError::Conflict) => {
                    if self.store.delivery(id, channel_id).await?.is_some() {
                        self.store.forget_gathered(channel_id, &members).await?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends the same group again, under the same idempotency key.
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

    /// Charges quota once for the group, sends it and settles it. Only then, when the group can't
    /// be sent again, settles its members and releases the alerts that wait for them (A8).
    async fn send_group(
        &self,
        claim: &Claim,
        channel: Option<Channel>,
        group: Delivery,
    ) -> Result<(), NotifyError> {
        let (alerts, project) = futures::try_join!(self.members(claim.project, &group), async {
            Ok(self.store.project_or_default(claim.project).await?)
        })?;
        let were = alerts.len();
        let alerts = match &channel {
            Some(channel) => self.leave_out(channel, alerts).await?,
            None => alerts,
        };
        let settled = match &channel {
            None => Settled::Dead {
                error: "the channel was deleted".into(),
            },
            Some(_) if were == 0 => Settled::Dead {
                error: "the alerts of this group no longer exist".into(),
            },
            Some(_) if alerts.is_empty() => Settled::Suppressed {
                error: OVERTAKEN.into(),
            },
            Some(channel) => match self.take_quota(channel, &project, &group, &alerts).await? {
                Some(error) => {
                    self.notify_limit_reached(channel).await?;
                    Settled::Suppressed { error }
                }
                None if self.is_too_late(claim) => return self.retry_at_once(claim).await,
                None => {
                    let voice = self.voice(&project);
                    let message = match &alerts[..] {
                        [alone] => Message::of_alert(alone, channel, &voice),
                        many => Message::of_group(claim.alert, many, &voice),
                    };
                    let sent = self.send(channel, &message, claim).await?;
                    self.outcome(sent, &group)
                }
            },
        };
        if mutant::is(Mutant::MembersFirst) && !matches!(settled, Settled::Retry { .. }) {
            self.settle_members(claim.alert, claim.channel, &alerts, &settled)
                .await?;
        }
        let Some(group) = self.settle(claim, &settled).await? else {
            return Ok(());
        };
        if let Some(channel) = &channel {
            for alert in &alerts {
                self.fall_back(alert, channel, &group, &settled).await?;
            }
        }
        if !matches!(settled, Settled::Retry { .. }) {
            self.settle_members(claim.alert, claim.channel, &alerts, &settled)
                .await?;
        }
        if channel.is_some() {
            self.note_health(claim, &settled).await;
        }
        Ok(())
    }

    /// Settles the members of a group that was settled by a handler that then crashed.
    pub(crate) async fn conclude_group(
        &self,
        project: ProjectId,
        id: AlertId,
        (channel_id, channel): (ChannelId, Option<Channel>),
        group: &Delivery,
    ) -> Result<(), NotifyError> {
        let Some(settled) = Settled::of(group).filter(|_| !group.concluded) else {
            return Ok(());
        };
        let mut alerts = self.members(project, group).await?;
        if let Some(channel) = &channel {
            alerts = self.leave_out(channel, alerts).await?;
            for alert in &alerts {
                self.fall_back(alert, channel, group, &settled).await?;
            }
        }
        self.settle_members(id, channel_id, &alerts, &settled).await
    }

    /// The alerts of a group, in the order in which they happened.
    async fn members(
        &self,
        project: ProjectId,
        group: &Delivery,
    ) -> Result<Vec<Alert>, NotifyError> {
        let mut alerts = self.store.alerts(project, &group.members).await?;
        alerts.sort_by_key(|alert| {
            let n = alert.flip.as_ref().map_or(0, |flip| flip.n);
            (alert.happened(), n, alert.id)
        });
        Ok(alerts)
    }

    async fn settle_members(
        &self,
        group: AlertId,
        channel: ChannelId,
        alerts: &[Alert],
        settled: &Settled,
    ) -> Result<(), NotifyError> {
        for chunk in alerts.chunks(CONCURRENCY) {
            let members = chunk
                .iter()
                .map(|alert| self.settle_member(alert, channel, group, settled));
            try_join_all(members).await?;
        }
        Ok(self.store.conclude_group(group, channel).await?)
    }

    async fn settle_member(
        &self,
        alert: &Alert,
        channel: ChannelId,
        group: AlertId,
        settled: &Settled,
    ) -> Result<(), NotifyError> {
        let member = self
            .store
            .settle_member(alert.id, channel, group, settled)
            .await;
        match member {
            Ok(member) => {
                let dead = matches!(settled, Settled::Dead { .. });
                self.conclude(alert, channel, &member, dead).await
            }
            // A person has asked for a redelivery since.
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
