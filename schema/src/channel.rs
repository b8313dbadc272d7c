//! Channels: where alerts go.

use crate::alert::AlertKind;
use crate::error::Invalid;
use crate::id::{ChannelId, ProjectId};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// Alerts of one channel within two seconds beyond which they are sent as one, unless the channel says otherwise.
pub const DEFAULT_GROUP_THRESHOLD: u32 = 5;
/// Most channels a project may have.
pub const MAX_CHANNELS: usize = 100;
/// Longest webhook URL, in bytes.
pub const MAX_URL: usize = 2_000;

/// Which channels a monitor alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Targets {
    /// All of its project, whichever they are when an alert is raised.
    All,
    /// These.
    These(Vec<ChannelId>),
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// The project that owns it.
    pub project: ProjectId,
    /// What people call it.
    pub name: String,
    /// How it delivers, and to whom.
    pub via: ChannelKind,
    /// Tells of monitors that went down.
    pub notify_down: bool,
    /// Tells of monitors that are back.
    pub notify_up: bool,
    /// Alerts within two seconds beyond which they are sent as one; 0 never groups.
    pub group_threshold: u32,
    /// Most messages a (UTC) day; beyond, they are recorded as suppressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_limit: Option<u32>,
    /// When it was made.
    pub created: UnixMs,
}

/// How a channel delivers, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// A POST to a URL, signed as Standard Webhooks ask.
    Webhook {
        /// The URL.
        url: String,
        /// The secret, `whsec_` and base64.
        secret: String,
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
}

impl ChannelKind {
    /// The kind's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Email { .. } => "email",
            Self::Sms { .. } => "sms",
            Self::Sns { .. } => "sns",
        }
    }
}

impl Channel {
    /// Whether it tells of such an alert.
    pub const fn wants(&self, what: AlertKind) -> bool {
        match what {
            AlertKind::Down => self.notify_down,
            AlertKind::Up => self.notify_up,
            AlertKind::Test | AlertKind::Limited => true,
        }
    }
}

/// Checks an e-mail address as far as its form goes: something, `@`, a domain, no space, no control character.
pub fn check_email(field: &str, to: &str) -> Result<(), Invalid> {
    let fits = to.len() <= 254
        && to.split_once('@').is_some_and(|(user, domain)| {
            !user.is_empty() && !domain.is_empty() && !domain.contains('@')
        })
        && !to
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "<>(),;:\"\\[]".contains(c));
    if fits {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            "must be an e-mail address, such as ops@example.org",
        ))
    }
}

/// Checks a phone number: E.164, `+` and 7 to 15 digits.
pub fn check_phone(field: &str, to: &str) -> Result<(), Invalid> {
    let fits = to.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    });
    if fits {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            "must be a phone number in E.164 form, such as +491701234567",
        ))
    }
}

/// Checks the form of an SNS topic's ARN.
pub fn check_topic_arn(field: &str, arn: &str) -> Result<(), Invalid> {
    let parts: Vec<&str> = arn.split(':').collect();
    let fits = arn.len() <= 512
        && matches!(*parts, ["arn", partition, "sns", region, account, topic]
            if partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && !topic.is_empty()
                && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
    if fits {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            "must be the ARN of an SNS topic, such as arn:aws:sns:eu-central-1:123456789012:alerts",
        ))
    }
}
