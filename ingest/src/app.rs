//! What the handlers share.

use crate::auth::Keys;
use crate::cache::Cache;
use crate::health::Health;
use std::sync::Arc;
use thrum_schema::{MonitorId, ProjectId, Store};

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether pings are logged: one more write for each.
    pub ping_log: bool,
    /// How many bytes of a ping's body are kept.
    pub body_limit: usize,
    /// Whether webhooks may go to private addresses.
    pub allow_private_webhooks: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_log: true,
            body_limit: 10_000,
            allow_private_webhooks: false,
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
        })
    }
}

/// The state of the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    pub(crate) store: Store,
    pub(crate) config: Arc<Config>,
    pub(crate) keys: Arc<Keys>,
    /// Monitors by project and name.
    pub(crate) names: Arc<Cache<(ProjectId, String), MonitorId>>,
    /// Monitors by project and slug, where it is not ambiguous.
    pub(crate) slugs: Arc<Cache<(ProjectId, String), MonitorId>>,
    pub(crate) health: Arc<Health>,
}

impl App {
    /// A service on `store`.
    pub fn new(store: Store, config: Config) -> Self {
        Self {
            store,
            config: Arc::new(config),
            keys: Arc::default(),
            names: Arc::default(),
            slugs: Arc::default(),
            health: Arc::default(),
        }
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
