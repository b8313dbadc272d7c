//! E-mail channels where SNS sends the mail: each has a topic, and its address a subscription that is looked at again
//! and again. Every step may be done twice: SNS makes a topic or a subscription once.

use crate::send::Mail;
use crate::{Notify, NotifyError};
use thrum_schema::StoreError;
use thrum_schema::channel::{ChannelKind, Subscription, SubscriptionState};
use thrum_schema::id::{ChannelId, ProjectId};

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
        let mut known = before.unwrap_or_default();
        let arn = to.as_deref().map(|to| topics.arn(id, to));
        let sns = |error| NotifyError::Sns(error);
        if let Some(old) = known.topic_arn.take_if(|old| Some(&*old) != arn.as_ref()) {
            topics.delete(&old).await.map_err(sns)?;
            known.state = None;
            known.begun = None;
        }
        let (Some(to), Some(arn)) = (to, arn) else {
            return Ok(self.store.delete_subscription(project, id).await?);
        };
        let now = self.store.world().now();
        known.state = match topics.state(&arn, &to).await.map_err(sns)? {
            Some(state) => Some(state),
            None if known.asks() => {
                topics.make(&arn).await.map_err(sns)?;
                topics.ask(&arn, &to).await.map_err(sns)?;
                known.begun = Some(now);
                Some(SubscriptionState::Pending)
            }
            None => Some(SubscriptionState::Lost),
        };
        let known = Subscription {
            topic_arn: Some(arn),
            begun: known.begun.or(Some(now)),
            checked: Some(now),
            next: Some(known.look_after(now)),
            ..known
        };
        match self.store.put_subscription(project, id, &known).await {
            // Wanted anew or deleted meanwhile: that has a timer of its own.
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
