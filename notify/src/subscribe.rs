//! E-mail channels where SNS sends the mail: each has a topic, and its address a subscription that is looked at again
//! and again. Every step may be done twice: SNS makes a topic or a subscription once.

use crate::send::{Mail, Topics};
use crate::{Notify, NotifyError};
use thrum_schema::UnixMs;
use thrum_schema::channel::{ChannelKind, Subscription, SubscriptionState};
use thrum_schema::delivery::MAX_ERROR;
use thrum_schema::id::{ChannelId, ProjectId};
use thrum_store::StoreError;

impl Notify {
    /// Sees to the topic and the subscription of an e-mail channel: makes what is missing, deletes what is no longer
    /// wanted, notes how far it is, and plans the next look.
    pub(crate) async fn subscribe(
        &self,
        project: ProjectId,
        id: ChannelId,
    ) -> Result<(), NotifyError> {
        let Mail::Topics(topics) = &self.sender.mail else {
            return Ok(());
        };
        let channel = self.store.channel(project, id).await?;
        let before = self.store.subscription(project, id).await?;
        let to = channel.and_then(|channel| match channel.via {
            ChannelKind::Email { to } => Some(to),
            _ => None,
        });
        let known = before.unwrap_or_default();
        let now = self.store.world().now();
        let seen = match (&to, &known.topic_arn) {
            (Some(to), _) => look(topics, id, to, &known, now).await.map(Some),
            (None, Some(left)) => topics.delete(left).await.map(|()| None),
            (None, None) => Ok(None),
        };
        // What SNS refuses is a fact about this channel, and no failure of ours: it is shown, and tried ever more rarely.
        let mut known = match seen {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(self.store.delete_subscription(project, id).await?),
            Err(error) => {
                tracing::warn!(channel = %id, "SNS refuses something of an e-mail channel; the channel says what");
                Subscription {
                    error: Some(error.chars().take(MAX_ERROR).collect()),
                    failures: known.failures.saturating_add(1),
                    ..known
                }
            }
        };
        known.checked = Some(now);
        known.next = Some(known.look_after(now));
        match self.store.put_subscription(project, id, &known).await {
            // Wanted anew or deleted meanwhile: that has a timer of its own.
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Looks at a channel's topic and subscription, and makes what is missing.
async fn look(
    topics: &Topics,
    channel: ChannelId,
    to: &str,
    known: &Subscription,
    now: UnixMs,
) -> Result<Subscription, String> {
    let arn = topics.arn(channel, to);
    let mut seen = Subscription {
        topic_arn: Some(arn.clone()),
        error: None,
        failures: 0,
        ..known.clone()
    };
    if let Some(old) = known.topic_arn.as_ref().filter(|old| **old != arn) {
        topics.delete(old).await?;
        seen.state = None;
        seen.begun = None;
    }
    let asks = seen.asks();
    let state = match topics.state(&arn, to).await? {
        // Asked again, if a person wants the mail once more.
        None | Some(SubscriptionState::Pending) if asks => {
            topics.make(&arn).await?;
            topics.ask(&arn, to).await?;
            SubscriptionState::Pending
        }
        Some(state) => state,
        None => SubscriptionState::Lost,
    };
    seen.state = Some(state);
    if asks {
        // Whatever was wanted is done.
        seen.begun = Some(now.max(seen.wanted.unwrap_or(now)));
    }
    Ok(seen)
}
