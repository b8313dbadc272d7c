//! The operator's configuration.

#[cfg(feature = "lambda")]
mod fetcher;
mod proxies;
#[cfg(feature = "lambda")]
mod secrets_manager;

pub use crate::services::sns::Fetch;
#[cfg(feature = "lambda")]
pub use fetcher::Fetcher;
pub use proxies::Proxies;
#[cfg(feature = "lambda")]
pub use secrets_manager::SecretsManager;

use futures::future::BoxFuture;
use secrecy::SecretString;
use std::fmt::Debug;
use std::sync::Arc;
use thrum_schema::Plans;
use thrum_schema::network::Networks;
use thrum_store::regions::Regions;

/// The configuration of an installation.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether to log pings. Costs one more write for each ping.
    pub ping_log: bool,
    /// How many bytes of a ping's body to store.
    pub body_limit: usize,
    /// The private networks to which messages may be sent.
    pub networks: Networks,
    /// How many pings per minute a monitor may send in the long run, and how many at once; `None`
    /// is unlimited.
    pub pings_per_minute: Option<u32>,
    /// The public URL, such as `https://thrum.example.org`; `None` uses the host of each request.
    pub site_url: Option<String>,
    /// The limits of each plan.
    pub plans: Plans,
    /// The admin key, which is required to create projects.
    pub admin_key: AdminKey,
    /// The key for the operator's metrics.
    pub metrics_key: Option<SecretString>,
    /// The SNS topics that channels may use; `None` allows any topic.
    pub topics: Option<Vec<String>>,
    /// The EventBridge buses that channels may use; `None` allows any bus.
    pub buses: Option<Vec<String>>,
    /// The domain of the addresses for pings by e-mail, if Thrum receives them.
    pub mail_domain: Option<String>,
    /// The SNS topics whose messages are accepted; `None` accepts those of any topic.
    pub sns_topics: Option<Vec<String>>,
    /// Fetches the SNS certificates; `None` accepts no SNS messages.
    pub fetch: Option<Arc<dyn Fetch>>,
    /// The secret that signs the dashboard's cookies and forms. `None` derives it from the admin
    /// key, or else generates one per process, and a restart signs everyone out.
    pub session_secret: Option<SecretString>,
    /// The proxies whose word about a request's client is taken.
    pub proxies: Proxies,
    /// Whether e-mail addresses must confirm before they get alerts, if Thrum sends them itself.
    pub confirm_mail: ConfirmMail,
    /// Signs the links with which they confirm.
    pub confirm_secret: Option<SecretString>,
    /// Whether e-mail is sent through SNS. Each address then has a subscription that it must
    /// confirm.
    pub mail_by_topics: bool,
    /// The fence, in one of two regions.
    pub regions: Option<Regions>,
}

/// Whether e-mail addresses must confirm before they get alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmMail {
    /// If there are several projects: then channels are not only the operator's.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The default rate limit of a monitor, in pings per minute. It stops a runaway client and affects
/// no other monitor.
pub const PINGS_PER_MINUTE: u32 = 600;

/// A secret that is stored elsewhere.
pub trait SecretSource: Send + Sync + Debug {
    /// Fetches the secret. The error says why that failed.
    fn fetch(&self) -> BoxFuture<'_, Result<SecretString, String>>;
}

/// The admin key, which is required to create projects.
#[derive(Debug, Clone, Default)]
pub enum AdminKey {
    /// There is none, so projects can't be created.
    #[default]
    None,
    /// The key itself.
    Key(SecretString),
    /// The key is stored elsewhere.
    Kept(Arc<dyn SecretSource>),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_log: true,
            body_limit: 10_000,
            networks: Networks::default(),
            pings_per_minute: Some(PINGS_PER_MINUTE),
            site_url: None,
            plans: Plans::default(),
            admin_key: AdminKey::None,
            metrics_key: None,
            topics: None,
            buses: None,
            mail_domain: None,
            sns_topics: None,
            fetch: None,
            session_secret: None,
            proxies: Proxies::default(),
            confirm_mail: ConfirmMail::Off,
            confirm_secret: None,
            mail_by_topics: false,
            regions: None,
        }
    }
}

impl Config {
    /// Reads the configuration of the Lambda function from its environment, through `lookup`.
    ///
    /// # Errors
    /// A variable has an invalid value; the error names it.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let flag = |name: &str, default: bool| match lookup(name).as_deref() {
            None | Some("") => Ok(default),
            Some("on" | "true" | "1") => Ok(true),
            Some("off" | "false" | "0") => Ok(false),
            Some(_) => Err(format!("{name} must be on or off")),
        };
        let text = |name: &str| lookup(name).filter(|text| !text.is_empty());
        let list = |name: &str| -> Vec<String> {
            let all = lookup(name).unwrap_or_default();
            let items = all.split(',').map(str::trim);
            let items = items.filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
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
            networks: text("THRUM_ALLOW_NETWORKS").map_or(Ok(default.networks), |list| {
                Networks::parse(&list).map_err(|error| format!("THRUM_ALLOW_NETWORKS: {error}"))
            })?,
            pings_per_minute: match text("THRUM_PINGS_PER_MINUTE") {
                None => default.pings_per_minute,
                Some(text) => match text.parse() {
                    Ok(0) => None,
                    Ok(n) => Some(n),
                    Err(_) => {
                        return Err(
                            "THRUM_PINGS_PER_MINUTE must be a whole number; 0 means unlimited"
                                .into(),
                        );
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
            metrics_key: match text("THRUM_METRICS_KEY") {
                None => None,
                Some(key) => Some(check_metrics_key(&key)?),
            },
            // Channels publish with the function's own role, so without a list they may use no
            // topic and no bus.
            topics: Some(list("THRUM_TOPICS")),
            buses: Some(list("THRUM_BUSES")),
            mail_domain: None,
            sns_topics: Some(list("THRUM_SNS_TOPICS")).filter(|topics| !topics.is_empty()),
            fetch: None,
            session_secret: None,
            proxies: Proxies::default(),
            confirm_mail: ConfirmMail::Off,
            confirm_secret: None,
            mail_by_topics: true,
            regions: None,
        })
    }
}

/// Checks the URL of the site, and removes trailing slashes.
///
/// # Errors
/// It is not an http or https URL.
pub fn check_site_url(url: &str) -> Result<String, String> {
    let plain = url.trim_end_matches('/');
    let host = plain
        .strip_prefix("https://")
        .or_else(|| plain.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['?', '#', '@', ' ']) => {
            Ok(plain.to_owned())
        }
        _ => Err(
            "the site's URL must be an http or https URL, such as https://thrum.example.org"
                .to_owned(),
        ),
    }
}

/// Checks that an admin key is too long to guess.
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

/// Checks that a key for the metrics is too long to guess.
///
/// # Errors
/// It is shorter than 16 characters.
pub fn check_metrics_key(key: &str) -> Result<SecretString, String> {
    if key.len() >= 16 {
        Ok(key.into())
    } else {
        Err("the metrics key must have at least 16 characters".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_checked_and_invalid_ones_named() {
        let none = Config::from_lookup(|_| None).unwrap();
        assert!(none.ping_log && none.networks == Networks::default() && none.body_limit == 10_000);
        let off = Config::from_lookup(|name| (name == "THRUM_PING_LOG").then(|| "off".into()));
        assert!(!off.unwrap().ping_log);
        for name in ["THRUM_PING_LOG", "THRUM_BODY_LIMIT"] {
            let invalid = Config::from_lookup(|other| (other == name).then(|| "maybe".into()));
            assert!(invalid.unwrap_err().contains(name));
        }
    }
}
