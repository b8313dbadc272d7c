//! Channels: where alerts go.

mod address;
pub mod kind;

pub use address::{MAX_URL, check_email, check_phone, check_topic_arn, check_webhook_url};

use crate::alert::AlertKind;
use crate::confirm;
use crate::id::{ChannelId, ProjectId};
use crate::time::UnixMs;
use kind::{Kind, Settings};
use serde::{Deserialize, Serialize};

/// Default group threshold: more alerts than this to one channel within two seconds are sent as one
/// message.
pub const DEFAULT_GROUP_THRESHOLD: u32 = 5;
/// Longest time before a channel is notified, in seconds: a day.
pub const MAX_AFTER_S: u32 = 86_400;
/// Default number of failed attempts before the fallback gets an alert.
pub const FALLBACK_AFTER: u32 = 3;
/// Maximum for [`Channel::fallback_after`].
pub const MAX_FALLBACK_AFTER: u32 = 20;
/// Maximum channels per project.
pub const MAX_CHANNELS: usize = 100;

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its ID.
    pub id: ChannelId,
    /// The project that owns it.
    pub project: ProjectId,
    /// The display name.
    pub name: String,
    /// How it delivers, and to whom.
    pub via: ChannelKind,
    /// Whether it notifies about monitors that go down, and sends reminders.
    pub notify_down: bool,
    /// Whether it notifies about monitors that come back up.
    pub notify_up: bool,
    /// More alerts than this within two seconds are sent as one message; 0 never groups.
    pub group_threshold: u32,
    /// Maximum messages per UTC day; alerts beyond that are recorded as suppressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_limit: Option<u32>,
    /// It is notified only of monitors that are still down, and not acknowledged, this many seconds
    /// after they went down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_s: Option<u32>,
    /// The channel that gets what this one fails to deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<ChannelId>,
    /// After how many failed attempts, if not [`FALLBACK_AFTER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_after: Option<u32>,
    /// When it was created.
    pub created: UnixMs,
}

/// How a channel delivers, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// A request to a URL, signed according to Standard Webhooks.
    Webhook {
        /// The URL.
        url: String,
        /// The secret, `whsec_` and base64.
        secret: String,
        /// The other settings: method, headers and bodies.
        #[serde(flatten)]
        more: Settings,
    },
    /// An e-mail.
    Email {
        /// The address.
        to: String,
    },
    /// A text message.
    Sms {
        /// The number, E.164.
        to: String,
    },
    /// An SNS topic.
    Sns {
        /// Its ARN.
        topic_arn: String,
    },
    /// Another kind of [`KINDS`](kind::KINDS).
    Service {
        /// The kind's name.
        kind: String,
        /// Its settings.
        settings: Settings,
    },
}

impl ChannelKind {
    /// The kind's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Email { .. } => "email",
            Self::Sms { .. } => "sms",
            Self::Sns { .. } => "sns",
            Self::Service { kind, .. } => kind,
        }
    }

    /// The kind's definition; `None` if a newer version of Thrum created the channel.
    pub fn kind(&self) -> Option<&'static Kind> {
        Kind::named(self.name())
    }

    /// A channel of `kind` with checked settings. A webhook must have a secret.
    pub fn of(kind: &Kind, mut settings: Settings) -> Self {
        let mut take = |name: &str| settings.remove(name).unwrap_or_default();
        match kind.name {
            "webhook" => Self::Webhook {
                url: take("url"),
                secret: take("secret"),
                more: settings,
            },
            "email" => Self::Email { to: take("to") },
            "sms" => Self::Sms { to: take("to") },
            "sns" => Self::Sns {
                topic_arn: take("topic_arn"),
            },
            name => Self::Service {
                kind: name.to_owned(),
                settings,
            },
        }
    }

    /// Its settings, with their secrets.
    pub fn settings(&self) -> Settings {
        let one = |name: &str, value: &String| Settings::from([(name.to_owned(), value.clone())]);
        match self {
            Self::Webhook { url, secret, more } => {
                let mut all = more.clone();
                all.extend(one("url", url));
                all.extend(one("secret", secret));
                all
            }
            Self::Email { to } | Self::Sms { to } => one("to", to),
            Self::Sns { topic_arn } => one("topic_arn", topic_arn),
            Self::Service { settings, .. } => settings.clone(),
        }
    }
}

impl Channel {
    /// A channel with default options, named as its kind.
    pub fn new(id: ChannelId, project: ProjectId, via: ChannelKind, created: UnixMs) -> Self {
        Self {
            id,
            project,
            name: via.name().to_owned(),
            via,
            notify_down: true,
            notify_up: true,
            group_threshold: DEFAULT_GROUP_THRESHOLD,
            daily_limit: None,
            after_s: None,
            fallback: None,
            fallback_after: None,
            created,
        }
    }
}

impl Channel {
    /// After how many failed attempts of a delivery the fallback gets the alert.
    pub fn failures_to_fall_back(&self) -> u32 {
        self.fallback_after.unwrap_or(FALLBACK_AFTER)
    }

    /// Whether the channel notifies about this kind of alert. One that is notified later gets no
    /// signals, which nobody can acknowledge.
    pub const fn wants(&self, what: AlertKind) -> bool {
        match what {
            AlertKind::Signal => self.after_s.is_none(),
            AlertKind::Down | AlertKind::Reminder => self.notify_down,
            AlertKind::Up => self.notify_up,
            AlertKind::Test | AlertKind::Limited => true,
        }
    }
}

/// State of an e-mail channel's subscription, where SNS sends the mail. Each such channel has its
/// own topic with one subscribed address, which must confirm the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionState {
    /// Confirmation was requested; no answer yet.
    Pending,
    /// The address confirmed; mail arrives.
    Confirmed,
    /// The address unsubscribed or never confirmed: no mail arrives until confirmation is requested
    /// again.
    Lost,
}

/// What Thrum knows about an e-mail channel's subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subscription {
    /// The topic, once created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_arn: Option<String>,
    /// The state, once confirmation was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SubscriptionState>,
    /// When confirmation was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun: Option<UnixMs>,
    /// When a user last asked for another confirmation request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<UnixMs>,
    /// When Thrum last checked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<UnixMs>,
    /// When to check it next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<UnixMs>,
    /// The error of the last call to SNS, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many calls to SNS, or to the mail server, failed in a row.
    pub failures: u32,
    /// The address that was asked, or has confirmed, as a hash; only if Thrum asks by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Subscription {
    /// Whether the address `to` has confirmed, if Thrum asked by itself.
    pub fn is_confirmed_by(&self, to: &str) -> bool {
        self.state == Some(SubscriptionState::Confirmed)
            && self.address.as_deref() == Some(&*confirm::address(to))
    }

    /// Whether to request confirmation: it was never requested, or a user has asked for it since.
    pub fn asks(&self) -> bool {
        match (self.begun, self.wanted) {
            (None, _) => true,
            (Some(begun), Some(wanted)) => wanted > begun,
            (Some(_), None) => false,
        }
    }

    /// When to check again: often while the user may be about to confirm, later once a day, with
    /// backoff after errors.
    pub fn look_after(&self, now: UnixMs) -> UnixMs {
        let age_ms = now - self.begun.unwrap_or(now);
        let wait_s = match self.state {
            _ if self.error.is_some() => 60_i64 << self.failures.min(10),
            Some(SubscriptionState::Pending) if age_ms < 15 * 60_000 => 60,
            Some(SubscriptionState::Pending) if age_ms < 3 * 86_400_000 => 1_800,
            _ => 86_400,
        };
        now + wait_s * 1_000
    }
}

/// The channel that `identifier` means.
///
/// # Errors
/// It is empty, no channel has it, or several have.
pub fn identify(identifier: &str, channels: &[Channel]) -> Result<ChannelId, String> {
    if identifier.is_empty() {
        return Err("empty channel identifier".to_owned());
    }
    let mut matches = channels
        .iter()
        .filter(|channel| channel.id.to_string() == identifier || channel.name == identifier);
    match (matches.next(), matches.next()) {
        (Some(channel), None) => Ok(channel.id),
        (None, _) => Err(format!("invalid channel identifier: {identifier}")),
        (Some(_), Some(_)) => Err(format!("non-unique channel identifier: {identifier}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmation_is_requested_once_unless_a_user_asks_again() {
        let now = UnixMs(1_763_700_000_000);
        let mut subscription = Subscription::default();
        assert!(subscription.asks());
        subscription.begun = Some(now);
        subscription.state = Some(SubscriptionState::Pending);
        assert!(!subscription.asks());
        assert_eq!(subscription.look_after(now), now + 60_000);
        assert_eq!(
            subscription.look_after(now + 3_600_000),
            now + 3_600_000 + 1_800_000
        );
        subscription.state = Some(SubscriptionState::Lost);
        assert_eq!(subscription.look_after(now), now + 86_400_000);
        subscription.wanted = Some(now + 1);
        assert!(subscription.asks());
    }
}
