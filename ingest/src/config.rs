//! What an operator configures.

#[cfg(feature = "lambda")]
mod secrets_manager;

#[cfg(feature = "lambda")]
pub use secrets_manager::SecretsManager;

use futures::future::BoxFuture;
use secrecy::SecretString;
use std::fmt::Debug;
use std::sync::Arc;
use thrum_schema::Plans;

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether pings are logged: one more write for each.
    pub ping_log: bool,
    /// How many bytes of a ping's body are kept.
    pub body_limit: usize,
    /// Whether webhooks may go to private addresses.
    pub allow_private_webhooks: bool,
    /// How many pings a minute a monitor may send in the long run, and at once; no bound without it.
    pub pings_per_minute: Option<u32>,
    /// Where people reach it, `https://thrum.example.org`; as each request says, without it.
    pub site_url: Option<String>,
    /// What the projects' plans allow.
    pub plans: Plans,
    /// Who may make projects: the key itself, or where it is kept.
    pub admin_key: AdminKey,
    /// The key of the operator's metrics.
    pub metrics_key: Option<SecretString>,
    /// The SNS topics that channels may name; any, without a list.
    pub topics: Option<Vec<String>>,
    /// What signs the cookies and forms of the dashboard. Without it, that is made of the admin key, or else for this process
    /// alone: everybody signs in again after a restart.
    pub session_secret: Option<SecretString>,
    /// Whether e-mail goes by SNS: each address has a subscription then, which it must confirm.
    pub mail_by_topics: bool,
}

/// Most pings a monitor may send a minute, unless it is said otherwise: what runs wild is stopped, nobody else.
pub const PINGS_PER_MINUTE: u32 = 600;

/// Keeps a secret somewhere else.
pub trait SecretSource: Send + Sync + Debug {
    /// Fetches it; an error says why it could not be.
    fn fetch(&self) -> BoxFuture<'_, Result<SecretString, String>>;
}

/// Who may make projects.
#[derive(Debug, Clone, Default)]
pub enum AdminKey {
    /// Nobody.
    #[default]
    None,
    /// Who has this key.
    Key(SecretString),
    /// Who has the key that is kept there.
    Kept(Arc<dyn SecretSource>),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_log: true,
            body_limit: 10_000,
            allow_private_webhooks: false,
            pings_per_minute: Some(PINGS_PER_MINUTE),
            site_url: None,
            plans: Plans::default(),
            admin_key: AdminKey::None,
            metrics_key: None,
            topics: None,
            session_secret: None,
            mail_by_topics: false,
        }
    }
}

impl Config {
    /// Reads the configuration of the Lambda function from its environment, through `lookup`.
    ///
    /// # Errors
    /// The variable that has a value it can't have.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let flag = |name: &str, default: bool| match lookup(name).as_deref() {
            None | Some("") => Ok(default),
            Some("on" | "true" | "1") => Ok(true),
            Some("off" | "false" | "0") => Ok(false),
            Some(_) => Err(format!("{name} must be on or off")),
        };
        let text = |name: &str| lookup(name).filter(|text| !text.is_empty());
        let default = Self::default();
        let body_limit = match lookup("THRUM_BODY_LIMIT").as_deref() {
            None | Some("") => default.body_limit,
            Some(text) => text
                .parse()
                .ok()
                .filter(|bytes| *bytes <= 100_000)
                .ok_or("THRUM_BODY_LIMIT must be at most 100000 bytes")?,
        };
        Ok(Self {
            ping_log: flag("THRUM_PING_LOG", default.ping_log)?,
            body_limit,
            allow_private_webhooks: flag("THRUM_ALLOW_PRIVATE_WEBHOOKS", false)?,
            pings_per_minute: match text("THRUM_PINGS_PER_MINUTE") {
                None => default.pings_per_minute,
                Some(text) => match text.parse() {
                    Ok(0) => None,
                    Ok(n) => Some(n),
                    Err(_) => {
                        return Err("THRUM_PINGS_PER_MINUTE must be a number; 0 is no bound".into());
                    }
                },
            },
            site_url: text("THRUM_SITE_URL")
                .map(|url| check_site_url(&url))
                .transpose()?,
            plans: match text("THRUM_PLANS") {
                None => default.plans,
                Some(text) => {
                    Plans::from_json(&text).map_err(|error| format!("THRUM_PLANS: {error}"))?
                }
            },
            admin_key: match text("THRUM_ADMIN_KEY") {
                None => AdminKey::None,
                Some(key) => AdminKey::Key(check_admin_key(&key)?),
            },
            metrics_key: text("THRUM_METRICS_KEY").map(SecretString::from),
            // A function has a role of its own: without a list, nobody may use it to reach topics.
            topics: Some(
                text("THRUM_TOPICS")
                    .unwrap_or_default()
                    .split(',')
                    .map(str::trim)
                    .filter(|arn| !arn.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
            session_secret: None,
            mail_by_topics: true,
        })
    }
}

/// Checks the URL of the site, and takes its last slash off.
///
/// # Errors
/// It is no http or https URL.
pub fn check_site_url(url: &str) -> Result<String, String> {
    let plain = url.trim_end_matches('/');
    let host = plain
        .strip_prefix("https://")
        .or_else(|| plain.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['?', '#', '@', ' ']) => {
            Ok(plain.to_owned())
        }
        _ => Err("the site's URL must be like https://thrum.example.org".to_owned()),
    }
}

/// Checks that an admin key is long enough not to be guessed.
///
/// # Errors
/// It is shorter than 24 characters.
pub fn check_admin_key(key: &str) -> Result<SecretString, String> {
    if key.len() >= 24 {
        Ok(key.into())
    } else {
        Err("the admin key must have at least 24 characters".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_checked() {
        let none = Config::from_lookup(|_| None).unwrap();
        assert!(none.ping_log && !none.allow_private_webhooks && none.body_limit == 10_000);
        let off = Config::from_lookup(|name| (name == "THRUM_PING_LOG").then(|| "off".into()));
        assert!(!off.unwrap().ping_log);
        for name in ["THRUM_PING_LOG", "THRUM_BODY_LIMIT"] {
            let wrong = Config::from_lookup(|asked| (asked == name).then(|| "maybe".into()));
            assert!(wrong.unwrap_err().contains(name));
        }
    }
}
