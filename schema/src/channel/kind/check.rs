//! What the values of settings must be.

use super::Must;
use crate::channel::address::{check_email, check_phone, check_topic_arn, check_webhook_url};
use crate::error::Invalid;
use crate::network::Networks;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Longest value of a setting, in bytes, unless its [`Must`] says otherwise.
const MAX_VALUE: usize = 2_000;
/// Longest template of a body, in bytes.
pub const MAX_TEMPLATE: usize = 16_000;
/// Longest name of a header, in bytes.
const MAX_HEADER: usize = 100;
/// Most headers of a webhook.
const MAX_HEADERS: usize = 20;
/// Headers that Thrum or HTTP sets.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

impl Must {
    /// Checks a value.
    pub(super) fn check(self, name: &str, value: &str, networks: &Networks) -> Result<(), Invalid> {
        let longest = match self {
            Self::Template => MAX_TEMPLATE,
            _ => MAX_VALUE,
        };
        let invalid = |problem: String| Err(Invalid::new(name, problem));
        if value.len() > longest {
            return invalid(format!(
                "must be at most {longest} bytes (got {})",
                value.len()
            ));
        }
        match self {
            Self::Url => check_webhook_url(name, value, networks),
            Self::Email => check_email(name, value),
            Self::Phone => check_phone(name, value),
            Self::TopicArn => check_topic_arn(name, value),
            Self::EventBus if is_event_bus(value) => Ok(()),
            Self::EventBus => invalid(
                "must be the name of an event bus or its ARN, such as arn:aws:events:eu-central-1:123456789012:event-bus/alerts"
                    .to_owned(),
            ),
            Self::SigningSecret => check_signing_secret(name, value),
            Self::Headers => check_headers(name, value),
            Self::Template => Ok(()),
            Self::Word if value.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
            Self::Word => invalid("must be printable ASCII characters without spaces".to_owned()),
            Self::Line if !value.chars().any(char::is_control) => Ok(()),
            Self::Line => invalid("must be one line of text".to_owned()),
            Self::Among(choices) if choices.contains(&value) => Ok(()),
            Self::Among(choices) => invalid(format!("must be one of {}", choices.join(", "))),
            Self::Topic if is_topic(value) => Ok(()),
            Self::Topic => {
                invalid("must be 1 to 64 letters, digits, _ and - (not a URL)".to_owned())
            }
            Self::Recipients if recipients(value).all(is_recipient) => Ok(()),
            Self::Recipients => invalid(
                "must be phone numbers in E.164 format or IDs of groups (group.…), separated by commas"
                    .to_owned(),
            ),
        }
    }
}

/// The recipients in a list that is separated by commas.
pub fn recipients(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

fn is_recipient(text: &str) -> bool {
    check_phone("", text).is_ok()
        || text.strip_prefix("group.").is_some_and(|id| {
            !id.is_empty()
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte))
        })
}

/// Whether it is the name of an event bus, or an ARN that ends with one. AWS, EventBridge API reference,
/// PutEventsRequestEntry.
fn is_event_bus(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let name = match *parts {
        ["arn", partition, "events", region, account, bus]
            if partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit()) =>
        {
            bus.strip_prefix("event-bus/").unwrap_or_default()
        }
        [name] => name,
        _ => return false,
    };
    (1..=256).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/.-_".contains(&b))
}

fn is_topic(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Checks a secret in the format of Standard Webhooks.
fn check_signing_secret(name: &str, secret: &str) -> Result<(), Invalid> {
    let bytes = secret
        .strip_prefix("whsec_")
        .and_then(|text| BASE64_STANDARD.decode(text).ok());
    match bytes {
        Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(()),
        _ => Err(Invalid::new(
            name,
            "must be whsec_ followed by the base64 of 24 to 64 bytes; omit it to generate one",
        )),
    }
}

/// The headers in lines of `Name: value`; blank lines are skipped. A line without a colon has no value.
pub fn headers(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.trim(), value.trim())
        })
}

fn check_headers(setting: &str, lines: &str) -> Result<(), Invalid> {
    let invalid = |problem: String| Err(Invalid::new(setting, problem));
    if headers(lines).count() > MAX_HEADERS {
        return invalid(format!("must have at most {MAX_HEADERS} headers"));
    }
    for (n, (name, value)) in headers(lines).enumerate() {
        let n = n + 1;
        let is_token = (1..=MAX_HEADER).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_token {
            return invalid(format!(
                "has an invalid name in header {n}: write `Name: value`, such as Authorization: Bearer 1234"
            ));
        }
        let lower = name.to_ascii_lowercase();
        if OWN_HEADERS.contains(&&*lower) || lower.starts_with("webhook-") {
            return invalid(format!("must not set {name}, which Thrum sets"));
        }
        let is_text = !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t'));
        if !is_text {
            return invalid(format!(
                "has no valid value for {name} in header {n}: write `Name: value` with printable ASCII characters"
            ));
        }
    }
    Ok(())
}
