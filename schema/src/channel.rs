//! Channels: where alerts go.

pub mod kind;

use crate::alert::AlertKind;
use crate::confirm;
use crate::error::Invalid;
use crate::id::{ChannelId, ProjectId};
use crate::network::Networks;
use crate::time::UnixMs;
use kind::{Kind, Settings};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Default group threshold: more alerts than this to one channel within two seconds are sent as one
/// message.
pub const DEFAULT_GROUP_THRESHOLD: u32 = 5;
/// Maximum channels per project.
pub const MAX_CHANNELS: usize = 100;
/// Maximum length of a webhook URL, in bytes.
pub const MAX_URL: usize = 2_000;

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
            created,
        }
    }
}

impl Channel {
    /// Whether the channel notifies about this kind of alert.
    pub const fn wants(&self, what: AlertKind) -> bool {
        match what {
            AlertKind::Down | AlertKind::Reminder => self.notify_down,
            AlertKind::Up => self.notify_up,
            AlertKind::Signal | AlertKind::Test | AlertKind::Limited => true,
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

/// Checks the form of an e-mail address: a local part, `@` and a domain, no spaces or control
/// characters, at most 254 bytes.
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
            "must be a phone number in E.164 format, such as +491701234567",
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

/// Checks a webhook URL: http or https, with a host, without credentials, at most [`MAX_URL`]
/// bytes. A literal IP address must be public or in `networks`; host names are checked when they
/// are resolved.
pub fn check_webhook_url(field: &str, url: &str, networks: &Networks) -> Result<(), Invalid> {
    let invalid = |problem: &str| Err(Invalid::new(field, problem));
    if url.len() > MAX_URL {
        return invalid(&format!(
            "must be at most {MAX_URL} bytes (got {})",
            url.len()
        ));
    }
    let Ok(url) = url::Url::parse(url) else {
        return invalid("must be a URL, such as https://example.org/hook");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return invalid("must be an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("must not contain a user name or password");
    }
    if literal_address(&url).is_some_and(|address| !networks.admit(address)) {
        return invalid(
            "must not be a private address, unless the operator allows its network with `thrum serve --allow-networks`",
        );
    }
    match url.host() {
        Some(_) => Ok(()),
        None => invalid("must have a host"),
    }
}

/// The IP address in a URL, if it has one in place of a host name.
fn literal_address(url: &url::Url) -> Option<IpAddr> {
    match url.host()? {
        url::Host::Ipv4(address) => Some(address.into()),
        url::Host::Ipv6(address) => Some(address.into()),
        url::Host::Domain(_) => None,
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

    #[test]
    fn webhook_urls_are_checked() {
        let check =
            |url: &str| check_webhook_url("url", url, &Networks::default()).map_err(|e| e.problem);
        assert!(check("https://example.org/hook?x=1").is_ok());
        for bad in [
            "",
            "example.org",
            "ftp://example.org",
            "https://",
            "file:///etc/passwd",
            "https://user:pw@example.org",
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            &format!("https://e.org/{}", "x".repeat(2_000)),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check_webhook_url("url", "http://127.0.0.1:9/", &Networks::all()).is_ok());
    }

    #[test]
    fn recipient_addresses_are_checked() {
        assert!(check_email("to", "ops@example.org").is_ok());
        for bad in [
            "",
            "ops",
            "@example.org",
            "a@b@c",
            "a b@c.d",
            "ops@example.org\r\nBcc: x@y.z",
        ] {
            assert!(check_email("to", bad).is_err(), "{bad}");
        }
        assert!(check_phone("to", "+491701234567").is_ok());
        for bad in [
            "",
            "491701234567",
            "+0491701234567",
            "+12345",
            "+1234567890123456",
            "+49 170",
        ] {
            assert!(check_phone("to", bad).is_err(), "{bad}");
        }
        assert!(check_topic_arn("t", "arn:aws:sns:eu-central-1:123456789012:alerts").is_ok());
        for bad in [
            "",
            "arn:aws:sqs:eu-central-1:123456789012:x",
            "arn:aws:sns::123456789012:x",
            "arn:aws:sns:eu-central-1:12:x",
        ] {
            assert!(check_topic_arn("t", bad).is_err(), "{bad}");
        }
    }
}
