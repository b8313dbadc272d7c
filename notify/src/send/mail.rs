//! E-mail by SNS: each channel has a topic with one subscribed address, which must confirm the
//! subscription.

use crate::error::SendError;
use aws_sdk_sns::Client;
use aws_sdk_sns::error::{DisplayErrorContext, ProvideErrorMetadata};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use thrum_schema::ChannelId;
use thrum_schema::channel::SubscriptionState;
use thrum_schema::key::hash;

/// How long a confirmed subscription is cached.
const CACHE_FOR: Duration = Duration::from_secs(600);
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
        let mut confirmed = self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state == Some(SubscriptionState::Confirmed) {
            if confirmed.len() >= MAX_CACHED {
                confirmed.retain(|_, since| since.elapsed() < CACHE_FOR);
            }
            confirmed.insert(arn.to_owned(), Instant::now());
        } else {
            confirmed.remove(arn);
        }
        Ok(state)
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
        let cached = {
            let confirmed = self
                .confirmed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            confirmed
                .get(&arn)
                .is_some_and(|since| since.elapsed() < CACHE_FOR)
        };
        if !cached {
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
