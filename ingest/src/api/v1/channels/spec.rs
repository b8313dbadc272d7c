//! Requests to create or change a channel. Absent fields keep their value, or get their default.

use super::super::monitors::some;
use crate::app::App;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use thrum_schema::World;
use thrum_schema::channel::{
    Channel, ChannelKind, check_email, check_phone, check_topic_arn, check_webhook_url,
};
use thrum_schema::error::Invalid;
use utoipa::ToSchema;

/// The longest name, in characters.
const MAX_NAME: usize = 100;
/// The prefix of Standard Webhooks secrets.
const SECRET_PREFIX: &str = "whsec_";

/// A channel to create, or the fields of a channel to change. Absent fields keep their value, or
/// get their default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelRequest {
    /// 1 to 100 characters. The default is the kind.
    #[schema(min_length = 1, max_length = 100)]
    pub(super) name: Option<String>,
    /// Can't be changed.
    pub(super) kind: Option<KindName>,
    /// Where a webhook posts.
    pub(super) url: Option<String>,
    /// The secret that signs webhooks: `whsec_` and the base64 of 24 to 64 bytes. Generated if
    /// absent.
    pub(super) secret: Option<String>,
    /// An e-mail address, or a phone number in E.164 format.
    pub(super) to: Option<String>,
    /// The ARN of an SNS topic.
    pub(super) topic_arn: Option<String>,
    /// Whether to notify when a monitor goes down.
    pub(super) notify_down: Option<bool>,
    /// Whether to notify when a monitor comes back up.
    pub(super) notify_up: Option<bool>,
    /// More alerts than this within two seconds are sent as one message; 0 never groups.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    pub(super) group_threshold: Option<u32>,
    /// The most messages per day (UTC); null for no limit.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    pub(super) daily_limit: Option<Option<u32>>,
}

/// How a channel delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    Webhook,
    Email,
    Sms,
    Sns,
}

impl KindName {
    /// The fields of a channel of this kind.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Webhook => &["url", "secret"],
            Self::Email | Self::Sms => &["to"],
            Self::Sns => &["topic_arn"],
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Sns => "sns",
        }
    }

    const fn of(via: &ChannelKind) -> Self {
        match via {
            ChannelKind::Webhook { .. } => Self::Webhook,
            ChannelKind::Email { .. } => Self::Email,
            ChannelKind::Sms { .. } => Self::Sms,
            ChannelKind::Sns { .. } => Self::Sns,
        }
    }
}

impl ChannelRequest {
    /// How the channel delivers after this request; `before` is how it delivered until now.
    ///
    /// # Errors
    /// A field is missing, invalid, or belongs to another kind.
    fn via(&self, before: Option<&ChannelKind>, app: &App) -> Result<ChannelKind, Invalid> {
        let kind = self.kind(before)?;
        let required = |name: &str, given: &Option<String>, before: Option<&String>| {
            let value = given.as_ref().or(before).cloned();
            let problem = || format!("is required for kind {}", kind.as_str());
            value.ok_or_else(|| Invalid::new(name, problem()))
        };
        match kind {
            KindName::Webhook => {
                let (url, secret) = match before {
                    Some(ChannelKind::Webhook { url, secret }) => (Some(url), Some(secret)),
                    _ => (None, None),
                };
                let url = required("url", &self.url, url)?;
                check_webhook_url("url", &url, app.config.allow_private_webhooks)?;
                let secret = match (&self.secret, secret) {
                    (Some(secret), _) => check_secret(secret)?,
                    (None, Some(secret)) => secret.clone(),
                    (None, None) => new_secret(app.store.world()),
                };
                Ok(ChannelKind::Webhook { url, secret })
            }
            KindName::Sns => {
                let before = match before {
                    Some(ChannelKind::Sns { topic_arn }) => Some(topic_arn),
                    _ => None,
                };
                let topic_arn = required("topic_arn", &self.topic_arn, before)?;
                check_topic(&topic_arn, app.config.topics.as_deref())?;
                Ok(ChannelKind::Sns { topic_arn })
            }
            KindName::Email | KindName::Sms => {
                let before = match before {
                    Some(ChannelKind::Email { to } | ChannelKind::Sms { to }) => Some(to),
                    _ => None,
                };
                let to = required("to", &self.to, before)?;
                if matches!(kind, KindName::Email) {
                    check_email("to", &to)?;
                    return Ok(ChannelKind::Email { to });
                }
                check_phone("to", &to)?;
                Ok(ChannelKind::Sms { to })
            }
        }
    }

    /// The channel's kind; no field of another kind may come with it.
    fn kind(&self, before: Option<&ChannelKind>) -> Result<KindName, Invalid> {
        let before = before.map(KindName::of);
        let kind = self.kind.or(before);
        let kind =
            kind.ok_or_else(|| Invalid::new("kind", "is required: webhook, email, sms or sns"))?;
        if before.is_some_and(|before| before != kind) {
            let problem = "can't be changed; create another channel";
            return Err(Invalid::new("kind", problem));
        }
        for (name, value) in [
            ("url", &self.url),
            ("secret", &self.secret),
            ("to", &self.to),
            ("topic_arn", &self.topic_arn),
        ] {
            if value.is_some() && !kind.fields().contains(&name) {
                let kind = kind.as_str();
                let problem = format!("does not belong to a channel of kind {kind}");
                return Err(Invalid::new(name, problem));
            }
        }
        Ok(kind)
    }

    /// How the channel delivers after this request, as [`Self::via`], if all other fields are valid, too.
    ///
    /// # Errors
    /// Every invalid field.
    pub fn check(
        &self,
        before: Option<&ChannelKind>,
        app: &App,
    ) -> Result<ChannelKind, Vec<Invalid>> {
        let mut invalid = Vec::new();
        if let Some(name) = &self.name
            && !(1..=MAX_NAME).contains(&name.chars().count())
        {
            let problem = format!("must be 1 to {MAX_NAME} characters");
            invalid.push(Invalid::new("name", problem));
        }
        if self.daily_limit == Some(Some(0)) {
            let problem = "must be at least 1, or null for no limit";
            invalid.push(Invalid::new("daily_limit", problem));
        }
        match self.via(before, app) {
            Ok(via) if invalid.is_empty() => Ok(via),
            Ok(_) => Err(invalid),
            Err(error) => {
                invalid.push(error);
                Err(invalid)
            }
        }
    }

    /// The channel with the checked request applied, except for its kind and destination.
    pub fn applied_to(self, mut channel: Channel) -> Channel {
        if let Some(name) = self.name {
            channel.name = name;
        }
        channel.notify_down = self.notify_down.unwrap_or(channel.notify_down);
        channel.notify_up = self.notify_up.unwrap_or(channel.notify_up);
        channel.group_threshold = self.group_threshold.unwrap_or(channel.group_threshold);
        channel.daily_limit = self.daily_limit.unwrap_or(channel.daily_limit);
        channel
    }
}

/// Checks a topic against those that the operator allows.
fn check_topic(topic_arn: &str, allowed: Option<&[String]>) -> Result<(), Invalid> {
    check_topic_arn("topic_arn", topic_arn)?;
    if allowed.is_none_or(|allowed| allowed.iter().any(|topic| topic == topic_arn)) {
        return Ok(());
    }
    Err(Invalid::new(
        "topic_arn",
        "is not a topic that this installation may publish to; the operator can add it to the \
         parameter TopicArns",
    ))
}

/// Checks a secret in the format of Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes.
fn check_secret(secret: &str) -> Result<String, Invalid> {
    let bytes = secret
        .strip_prefix(SECRET_PREFIX)
        .and_then(|text| BASE64_STANDARD.decode(text).ok());
    match bytes {
        Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(secret.to_owned()),
        _ => Err(Invalid::new(
            "secret",
            "must be whsec_ and the base64 of 24 to 64 bytes; omit it to generate one",
        )),
    }
}

fn new_secret(world: &dyn World) -> String {
    let (head, tail) = (world.random().to_be_bytes(), world.random().to_be_bytes());
    format!(
        "{SECRET_PREFIX}{}",
        BASE64_STANDARD.encode([head, tail].concat())
    )
}
