//! Sends messages, by the kind of the channel.

mod email;
#[cfg(feature = "aws")]
mod eventbridge;
#[cfg(feature = "aws")]
mod lazy;
#[cfg(feature = "aws")]
mod mail;
#[cfg(not(feature = "aws"))]
mod no_aws;
#[cfg(feature = "aws")]
mod sns;
mod webhook;

pub use crate::error::SendError;
pub use crate::http::{Answer, Call, Http, Lookup, Reach, Transport};
pub use email::Email;
#[cfg(feature = "aws")]
pub use eventbridge::EventBridge;
#[cfg(feature = "aws")]
pub use lazy::MakeClient;
#[cfg(feature = "aws")]
pub use mail::Topics;
#[cfg(not(feature = "aws"))]
pub use no_aws::{EventBridge, Sns};
#[cfg(feature = "aws")]
pub use sns::Sns;
pub use webhook::signature;

use crate::channels;
use crate::deliver::without_addresses;
use crate::letter::Letter;
use crate::message::Message;
use thrum_schema::channel::{Channel, ChannelKind};
use thrum_schema::mutant::{self, Mutant};
use thrum_store::Claim;
use thrum_store::trace::{self, Service};

/// How e-mails are sent.
#[derive(Debug)]
pub enum Mail {
    /// By SMTP, or printed if no server is set.
    Smtp(Email),
    /// By SNS, through one topic per channel.
    #[cfg(feature = "aws")]
    Topics(Topics),
}

impl Mail {
    /// Whether e-mails are sent through SNS topics.
    pub const fn uses_topics(&self) -> bool {
        match self {
            Self::Smtp(_) => false,
            #[cfg(feature = "aws")]
            Self::Topics(_) => true,
        }
    }
}

/// Sends messages to all kinds of channels.
#[derive(Debug)]
pub struct Sender {
    /// Webhooks, and services that are reached over HTTP.
    pub http: Http,
    /// E-mails.
    pub mail: Mail,
    /// SNS topics and text messages.
    pub sns: Sns,
    /// EventBridge buses.
    pub eventbridge: EventBridge,
}

impl Sender {
    /// Sends `message` to `channel`. The idempotency key `<alert or group>.<channel>` is the same
    /// at every attempt. Returns a note to store with the delivery, such as the receiver's status
    /// or SNS's message id.
    ///
    /// # Errors
    /// The receiver did not accept it, or did not answer in time; it may still have it.
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
        let service = Service::Channel {
            kind: channel.via.name(),
            key: &key,
        };
        let failure = |error: &SendError| Some(without_addresses(&error.reason));
        trace::call(service, failure, self.send_as(channel, message, &key)).await
    }

    /// Sends `message` with the idempotency key `key`.
    async fn send_as(
        &self,
        channel: &Channel,
        message: &Message,
        key: &str,
    ) -> Result<Option<String>, SendError> {
        match &channel.via {
            ChannelKind::Webhook { url, secret, more } => {
                let webhook = webhook::Webhook { url, secret, more };
                let now = self.http.now();
                let call = webhook.call(message, key, now)?;
                let answer = self.http.call(channel.project, &call).await?;
                webhook::judge(&answer, self.http.now())
            }
            ChannelKind::Service { kind, settings } if kind == "eventbridge" => {
                let bus = settings.get("bus").map_or("", String::as_str);
                self.eventbridge.put(bus, key, message).await
            }
            ChannelKind::Service { kind, settings } => {
                let letter = Letter {
                    settings,
                    notice: &message.notice,
                    id: key,
                    now: self.http.now(),
                };
                let call = channels::call(kind, &letter)?;
                let answer = self.http.call(channel.project, &call).await?;
                channels::judge(kind, &answer, self.http.now())
            }
            ChannelKind::Email { to } => match &self.mail {
                Mail::Smtp(email) => email.send(to, key, message).await,
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
