//! Sending: a channel's kind decides how.

mod email;
#[cfg(feature = "aws")]
mod mail;
#[cfg(not(feature = "aws"))]
mod no_sns;
#[cfg(feature = "aws")]
mod sns;
mod webhook;

pub use email::Email;
#[cfg(feature = "aws")]
pub use mail::Topics;
#[cfg(not(feature = "aws"))]
pub use no_sns::Sns;
#[cfg(feature = "aws")]
pub use sns::{MakeClient, Sns};
pub use webhook::{Post, Posted, Webhook, signature};

use crate::message::Message;
use thiserror::Error;
use thrum_schema::channel::{Channel, ChannelKind};
use thrum_schema::mutant::{self, Mutant};
use thrum_store::Claim;

/// Why a message was not sent, said so that it may be shown to the channel's owner.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct SendError {
    /// What went wrong, without secrets and addresses.
    pub reason: String,
    /// Whether trying again is of no use.
    pub permanent: bool,
}

impl SendError {
    /// It may go better next time.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            permanent: false,
        }
    }

    /// It won't.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            permanent: true,
        }
    }
}

/// How e-mails go.
#[derive(Debug)]
pub enum Mail {
    /// By SMTP, or printed.
    Smtp(Email),
    /// By SNS, each channel through a topic of its own.
    #[cfg(feature = "aws")]
    Topics(Topics),
}

impl Mail {
    /// Whether each channel has a topic of its own.
    pub const fn is_by_topics(&self) -> bool {
        match self {
            Self::Smtp(_) => false,
            #[cfg(feature = "aws")]
            Self::Topics(_) => true,
        }
    }
}

/// The ways out.
#[derive(Debug)]
pub struct Sender {
    /// POSTs to URLs.
    pub webhook: Webhook,
    /// E-mails.
    pub mail: Mail,
    /// SNS topics and text messages.
    pub sns: Sns,
}

impl Sender {
    /// Sends `message` to `channel`, under the key `<alert or group>.<channel>`, which is the same at every
    /// attempt. Returns what is worth noting.
    ///
    /// # Errors
    /// The receiver did not take it, or did not say so in time; it may have it.
    pub async fn send(
        &self,
        channel: &Channel,
        message: &Message,
        claim: &Claim,
    ) -> Result<Option<String>, SendError> {
        let key = if mutant::is(Mutant::KeyOfAttempt) {
            format!("{}.{}", claim.token, claim.channel)
        } else {
            format!("{}.{}", claim.alert, claim.channel)
        };
        match &channel.via {
            ChannelKind::Webhook { url, secret } => {
                self.webhook.send(url, secret, &key, message).await
            }
            ChannelKind::Email { to } => match &self.mail {
                Mail::Smtp(email) => email.send(to, &key, message).await,
                #[cfg(feature = "aws")]
                Mail::Topics(topics) => {
                    let topic = topics.confirmed(channel.id, to).await?;
                    self.sns.publish(&topic, message).await
                }
            },
            ChannelKind::Sms { to } => self.sns.text(to, message).await,
            ChannelKind::Sns { topic_arn } => self.sns.publish(topic_arn, message).await,
        }
    }
}
