//! E-mail by SNS: each channel has a topic with one subscribed address, which must confirm the
//! subscription.

use crate::error::SendError;
use aws_sdk_sns::Client;
use aws_sdk_sns::error::{DisplayErrorContext, ProvideErrorMetadata};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thrum_schema::channel::{Subscription, SubscriptionState};
use thrum_schema::key::hash;
use thrum_schema::{ChannelId, UnixMs};

/// How long a confirmed subscription is cached.
const CACHE_FOR: Duration = Duration::from_secs(600);
/// How long the stored state of a confirmed subscription is believed, in milliseconds: it is checked once
/// a day.
const BELIEVED_MS: i64 = 26 * 3_600_000;
/// With this many topics in the cache, expired ones are evicted.
const MAX_CACHED: usize = 1_000;

/// The topics of e-mail channels.
#[derive(Debug)]
pub struct Topics {
    client: Client,
    /// `arn:aws:sns:<region>:<account>:<prefix>`: the topics that the function's role may use.
    arn_prefix: String,
    confirmed: Mutex<HashMap<String, Instant>>,
}

impl Topics {
    /// Topics whose ARNs begin with `arn_prefix`.
    pub fn new(client: Client, arn_prefix: &str) -> Self {
        Self {
            client,
            arn_prefix: arn_prefix.to_owned(),
            confirmed: Mutex::default(),
        }
    }

    /// The ARN of the topic of a channel and its address. A new address gets a new topic.
    pub fn arn(&self, channel: ChannelId, to: &str) -> String {
        let address = &hash(to)[..8];
        format!("{}{channel}-{address}", self.arn_prefix)
    }

    /// Creates a topic, if it does not exist.
    ///
    /// # Errors
    /// The error of SNS.
    pub async fn create(&self, arn: &str) -> Result<(), String> {
        let name = arn.rsplit(':').next().unwrap_or_default();
        let created = self.client.create_topic().name(name).send().await;
        created
            .map(drop)
            .map_err(|error| DisplayErrorContext(error).to_string())
    }

    /// Subscribes `to` to a topic. AWS then sends a mail that asks it to confirm.
    ///
    /// # Errors
    /// The error of SNS.
    pub async fn subscribe(&self, arn: &str, to: &str) -> Result<(), String> {
        let asked = self
            .client
            .subscribe()
            .topic_arn(arn)
            .protocol("email")
            .endpoint(to)
            .send()
            .await;
        asked
            .map(drop)
            .map_err(|error| DisplayErrorContext(error).to_string())
    }

    /// The state of the subscription of `to` to a topic; `None` if there is none.
    ///
    /// # Errors
    /// The error of SNS.
    pub async fn state(&self, arn: &str, to: &str) -> Result<Option<SubscriptionState>, String> {
        let listed = self
            .client
            .list_subscriptions_by_topic()
            .topic_arn(arn)
            .send()
            .await;
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) if error.code() == Some("NotFound") => return Ok(None),
            Err(error) => return Err(DisplayErrorContext(error).to_string()),
        };
        let found = listed.subscriptions().iter().find(|one| {
            one.endpoint()
                .is_some_and(|endpoint| endpoint.eq_ignore_ascii_case(to))
        });
        let state = found.and_then(|found| state_of(found.subscription_arn()?));
        if state == Some(SubscriptionState::Confirmed) {
            self.note(arn);
        } else {
            self.cached().remove(arn);
        }
        Ok(state)
    }

    /// Whether the subscription of a topic is known to be confirmed.
    pub fn knows(&self, arn: &str) -> bool {
        let since = self.cached().get(arn).copied();
        since.is_some_and(|since| since.elapsed() < CACHE_FOR)
    }

    /// Takes the stored state of a subscription, which is checked once a day, for the state: SNS allows
    /// only 30 requests a second to list subscriptions, and each sender would need one for each channel.
    pub fn believe(&self, arn: &str, stored: Option<&Subscription>, now: UnixMs) {
        let is_confirmed = stored.is_some_and(|stored| {
            stored.state == Some(SubscriptionState::Confirmed)
                && stored.topic_arn.as_deref() == Some(arn)
                && stored.checked.is_some_and(|at| now - at < BELIEVED_MS)
        });
        if is_confirmed {
            self.note(arn);
        }
    }

    fn note(&self, arn: &str) {
        let mut confirmed = self.cached();
        if confirmed.len() >= MAX_CACHED {
            confirmed.retain(|_, since| since.elapsed() < CACHE_FOR);
        }
        confirmed.insert(arn.to_owned(), Instant::now());
    }

    fn cached(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes a topic and its subscriptions.
    ///
    /// # Errors
    /// The error of SNS.
    pub async fn delete(&self, arn: &str) -> Result<(), String> {
        let deleted = self.client.delete_topic().topic_arn(arn).send().await;
        deleted
            .map(drop)
            .map_err(|error| DisplayErrorContext(error).to_string())
    }

    /// The ARN of a channel's topic, if its address has confirmed. SNS also accepts messages for a
    /// topic without a confirmed subscription, and would deliver them to no one.
    pub(super) async fn confirmed(
        &self,
        channel: ChannelId,
        to: &str,
    ) -> Result<String, SendError> {
        let arn = self.arn(channel, to);
        if !self.knows(&arn) {
            match self.state(&arn, to).await {
                Ok(Some(SubscriptionState::Confirmed)) => {}
                Ok(Some(_)) => {
                    return Err(SendError::passing(
                        "the address has not confirmed yet: open the link in the mail from AWS Notifications",
                    ));
                }
                Ok(None) => {
                    return Err(SendError::passing(
                        "the address is not subscribed: it unsubscribed, or was not asked to confirm yet",
                    ));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not read the state of an SNS subscription");
                    return Err(SendError::passing(
                        "SNS did not say whether the address is subscribed",
                    ));
                }
            }
        }
        Ok(arn)
    }
}

/// The state of a subscription. SNS puts it in place of the ARN until the address confirms
/// (<https://docs.aws.amazon.com/sns/latest/api/API_Subscription.html>).
fn state_of(arn: &str) -> Option<SubscriptionState> {
    match arn {
        "PendingConfirmation" => Some(SubscriptionState::Pending),
        arn if arn.starts_with("arn:") => Some(SubscriptionState::Confirmed),
        // `Deleted`: it unsubscribed recently.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_stored_state_needs_no_request() {
        let config = aws_sdk_sns::Config::builder()
            .behavior_version(aws_sdk_sns::config::BehaviorVersion::latest())
            .build();
        let topics = Topics::new(Client::from_conf(config), "arn:aws:sns:x:1:p-");
        let now = UnixMs(1_764_324_600_000);
        let stored = |state, topic: &str, checked| Subscription {
            state: Some(state),
            topic_arn: Some(topic.to_owned()),
            checked: Some(checked),
            ..Subscription::default()
        };
        use SubscriptionState::{Confirmed, Lost};
        for (subscription, is_known) in [
            (None, false),
            (Some(stored(Lost, "a", now)), false),
            (Some(stored(Confirmed, "b", now)), false),
            (Some(stored(Confirmed, "a", now + -BELIEVED_MS)), false),
            (Some(stored(Confirmed, "a", now + -3_600_000)), true),
        ] {
            topics.believe("a", subscription.as_ref(), now);
            assert_eq!(topics.knows("a"), is_known, "{subscription:?}");
        }
    }

    /// Tested here, because the emulators confirm by themselves.
    #[test]
    fn an_unconfirmed_subscription_is_pending() {
        let arn = "arn:aws:sns:eu-central-1:123456789012:t:0b6ad2c4-1d0f-4b5e-9d0e-0d6c0a3a0b1c";
        assert_eq!(state_of(arn), Some(SubscriptionState::Confirmed));
        assert_eq!(
            state_of("PendingConfirmation"),
            Some(SubscriptionState::Pending)
        );
        assert_eq!(state_of("Deleted"), None);
    }
}
