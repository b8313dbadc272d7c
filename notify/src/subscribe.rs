//! E-mail channels whose mail SNS sends: maintains the topic of each channel and the subscription
//! of its address. Every step may run twice: SNS creates a topic or a subscription only once.

use crate::send::Topics;
use crate::{Notify, NotifyError};
use thrum_schema::UnixMs;
use thrum_schema::channel::{ChannelKind, Subscription, SubscriptionState};
use thrum_schema::delivery::MAX_ERROR;
use thrum_schema::id::{ChannelId, ProjectId};
use thrum_store::StoreError;

impl Notify {
    /// Checks the topic and the subscription of an e-mail channel: creates what is missing, deletes
    /// what is no longer needed, records the state, and schedules the next check.
    pub(crate) async fn subscribe(
        &self,
        topics: &Topics,
        project: ProjectId,
        id: ChannelId,
    ) -> Result<(), NotifyError> {
        let channel = self.store.channel(project, id).await?;
        let before = self.store.subscription(project, id).await?;
        let to = channel.and_then(|channel| match channel.via {
            ChannelKind::Email { to } => Some(to),
            _ => None,
        });
        let known = before.unwrap_or_default();
        let now = self.store.world().now();
        let seen = match (&to, &known.topic_arn) {
            (Some(to), _) => check(topics, id, to, &known, now).await.map(Some),
            (None, Some(left)) => topics.delete(left).await.map(|()| None),
            (None, None) => Ok(None),
        };
        // An error of SNS concerns only this channel: show it there, and retry less and less often.
        let mut known = match seen {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(self.store.delete_subscription(project, id).await?),
            Err(error) => {
                tracing::warn!(channel = %id, "SNS refused to set up an e-mail channel; the channel shows the error");
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
            // Requested again or deleted in the meantime: that has its own timer.
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Checks a channel's topic and subscription, and creates what is missing.
async fn check(
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
        // SNS sends the mail again if a person asked for that.
        None | Some(SubscriptionState::Pending) if asks => {
            topics.create(&arn).await?;
            topics.subscribe(&arn, to).await?;
            SubscriptionState::Pending
        }
        Some(state) => state,
        None => SubscriptionState::Lost,
    };
    seen.state = Some(state);
    if asks {
        // Everything requested so far is done.
        seen.begun = Some(now.max(seen.wanted.unwrap_or(now)));
    }
    Ok(seen)
}
