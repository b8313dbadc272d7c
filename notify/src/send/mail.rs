//! E-mail by SNS: a topic for each channel, with one address subscribed, which has to confirm that it wants to be.

use super::SendError;
use aws_sdk_sns::Client;
use aws_sdk_sns::error::{DisplayErrorContext, ProvideErrorMetadata};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use thrum_schema::ChannelId;
use thrum_schema::channel::SubscriptionState;
use thrum_schema::key::hash;

/// How long a confirmed subscription is taken for one.
const BELIEVED: Duration = Duration::from_secs(600);
/// Topics beyond which those that are no longer believed are forgotten.
const MAX_BELIEVED: usize = 1_000;

/// The topics of e-mail channels.
#[derive(Debug)]
pub struct Topics {
    client: Client,
    /// `arn:aws:sns:<region>:<account>:<prefix>`, as the function's role may use it.
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

    /// The topic of a channel and its address: another address has another topic.
    pub fn arn(&self, channel: ChannelId, to: &str) -> String {
        let address = &hash(to)[..8];
        format!("{}{channel}-{address}", self.arn_prefix)
    }

    /// Makes a topic, if it is not there.
    ///
    /// # Errors
    /// What SNS says.
    pub async fn make(&self, arn: &str) -> Result<(), String> {
        let name = arn.rsplit(':').next().unwrap_or_default();
        let made = self.client.create_topic().name(name).send().await;
        made.map(drop)
            .map_err(|error| DisplayErrorContext(error).to_string())
    }

    /// Asks `to` whether it wants what comes through a topic.
    ///
    /// # Errors
    /// What SNS says.
    pub async fn ask(&self, arn: &str, to: &str) -> Result<(), String> {
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

    /// How far the subscription of a topic is; `None` if SNS knows of none.
    ///
    /// # Errors
    /// What SNS says.
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
            if confirmed.len() >= MAX_BELIEVED {
                confirmed.retain(|_, since| since.elapsed() < BELIEVED);
            }
            confirmed.insert(arn.to_owned(), Instant::now());
        } else {
            confirmed.remove(arn);
        }
        Ok(state)
    }

    /// Deletes a topic and what is subscribed to it.
    ///
    /// # Errors
    /// What SNS says.
    pub async fn delete(&self, arn: &str) -> Result<(), String> {
        let deleted = self.client.delete_topic().topic_arn(arn).send().await;
        deleted
            .map(drop)
            .map_err(|error| DisplayErrorContext(error).to_string())
    }

    /// The topic of a channel whose address confirmed: SNS takes what nobody will get, and so nothing is sent before.
    pub(super) async fn confirmed(
        &self,
        channel: ChannelId,
        to: &str,
    ) -> Result<String, SendError> {
        let arn = self.arn(channel, to);
        let believed = {
            let confirmed = self
                .confirmed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            confirmed
                .get(&arn)
                .is_some_and(|since| since.elapsed() < BELIEVED)
        };
        if !believed {
            match self.state(&arn, to).await {
                Ok(Some(SubscriptionState::Confirmed)) => {}
                Ok(Some(_)) => {
                    return Err(SendError::passing(
                        "the address has not confirmed yet: it must follow the link in the mail from AWS Notifications",
                    ));
                }
                Ok(None) => {
                    return Err(SendError::passing(
                        "the address is not subscribed: it unsubscribed, or was not asked yet",
                    ));
                }
                Err(error) => {
                    tracing::warn!(%error, "a subscription could not be looked at");
                    return Err(SendError::passing(
                        "SNS did not say whether the address is subscribed",
                    ));
                }
            }
        }
        Ok(arn)
    }
}

/// What SNS shows in place of an ARN says how far a subscription is
/// (<https://docs.aws.amazon.com/sns/latest/api/API_Subscription.html>).
fn state_of(arn: &str) -> Option<SubscriptionState> {
    match arn {
        "PendingConfirmation" => Some(SubscriptionState::Pending),
        arn if arn.starts_with("arn:") => Some(SubscriptionState::Confirmed),
        // `Deleted`: it unsubscribed lately.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The emulators that we have confirm by themselves.
    #[test]
    fn a_subscription_that_is_not_confirmed_is_pending() {
        let arn = "arn:aws:sns:eu-central-1:123456789012:t:0b6ad2c4-1d0f-4b5e-9d0e-0d6c0a3a0b1c";
        assert_eq!(state_of(arn), Some(SubscriptionState::Confirmed));
        assert_eq!(
            state_of("PendingConfirmation"),
            Some(SubscriptionState::Pending)
        );
        assert_eq!(state_of("Deleted"), None);
    }
}
