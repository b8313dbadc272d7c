//! API keys: created once, shown once, stored as SHA-256 hashes.

use crate::hex::hex;
use crate::id::ProjectId;
use crate::plan::Limits;
use crate::time::UnixMs;
use crate::world::World;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Length of an API key, as clients of the healthchecks-compatible API expect.
pub const API_KEY_LEN: usize = 32;
/// How many digits of its hash form a key's id.
pub const KEY_ID_LEN: usize = 16;
/// Length of a ping key.
pub const PING_KEY_LEN: usize = 22;

/// What an API key permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Full access to its project.
    Write,
    /// Read access to monitors and alerts.
    Read,
    /// May send heartbeats, and nothing else: for hosts.
    Heartbeat,
    /// May send bars, values and sentiment, and nothing else: for feeds.
    Series,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Write, Self::Read, Self::Heartbeat, Self::Series];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Heartbeat => "heartbeat",
            Self::Series => "series",
        }
    }

    /// What a key with it may do, as people read it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Write => "read-write",
            Self::Read => "read-only",
            Self::Heartbeat => "heartbeats only",
            Self::Series => "series only",
        }
    }

    /// Whether a key with it may read what is in its project.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Write | Self::Read)
    }
}

/// A stored API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The hex SHA-256 of the key.
    pub hash: String,
    /// The project it gives access to.
    pub project: ProjectId,
    /// What it permits.
    pub scope: Scope,
    /// The display name.
    pub name: String,
    /// When it was created.
    pub created: UnixMs,
    /// When it expires, if it was rotated: until then, both it and its successor are valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMs>,
    /// The id its usage is counted under, if not its own: its predecessor's, so that rotation does
    /// not reset quotas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
    /// Its own limits, where they differ from the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

impl ApiKey {
    /// The stored form of `secret`.
    pub fn new(
        secret: &str,
        project: ProjectId,
        scope: Scope,
        name: &str,
        created: UnixMs,
    ) -> Self {
        Self {
            hash: hash(secret),
            project,
            scope,
            name: name.to_owned(),
            created,
            until: None,
            meter: None,
            limits: None,
        }
    }

    /// Its public id: the first digits of its hash.
    pub fn id(&self) -> &str {
        self.hash.get(..KEY_ID_LEN).unwrap_or_default()
    }

    /// The id its usage is counted under.
    pub fn meter(&self) -> &str {
        self.meter.as_deref().unwrap_or(self.id())
    }

    /// Whether it is valid at `now`.
    pub fn holds(&self, now: UnixMs) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether `secret` is this key; compares in constant time.
    pub fn is(&self, secret: &str) -> bool {
        same(&self.hash, &hash(secret))
    }
}

/// Whether two secrets or hashes are equal, in constant time.
pub fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// The hex SHA-256 of a key, for storage and lookup.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// The hex HMAC-SHA256 of `what` with a secret: proof that Thrum wrote it.
pub fn signature(secret: &str, what: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC accepts keys of any length");
    mac.update(what.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// A new API key: `hcw_`, `hcr_`, `hch_` or `hcs_`, by its scope, then 28 letters and digits.
pub fn new_api_key(world: &dyn World, scope: Scope) -> String {
    let prefix = match scope {
        Scope::Write => "hcw_",
        Scope::Read => "hcr_",
        Scope::Heartbeat => "hch_",
        Scope::Series => "hcs_",
    };
    format!(
        "{prefix}{}",
        alphanumeric(world, API_KEY_LEN - prefix.len(), ALPHANUMERIC)
    )
}

/// A new ping key: 22 lowercase letters and digits.
pub fn new_ping_key(world: &dyn World) -> String {
    alphanumeric(world, PING_KEY_LEN, &ALPHANUMERIC[..36])
}

/// A new badge key: the start of a project's badge URLs.
pub fn new_badge_key(world: &dyn World) -> String {
    world.uuid_v4().to_string()
}

/// A new secret for signing a project's badge URLs.
pub fn new_badge_secret(world: &dyn World) -> String {
    alphanumeric(world, 40, ALPHANUMERIC)
}

const ALPHANUMERIC: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn alphanumeric(world: &dyn World, len: usize, alphabet: &[u8]) -> String {
    let mut text = String::with_capacity(len);
    while text.len() < len {
        for byte in world.random().to_be_bytes() {
            // Skip values that would make some letters more likely.
            let fair = 256 / alphabet.len() * alphabet.len();
            if usize::from(byte) < fair && text.len() < len {
                text.push(char::from(alphabet[usize::from(byte) % alphabet.len()]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::SystemWorld;

    #[test]
    fn keys_have_the_documented_form() {
        let write = new_api_key(&SystemWorld, Scope::Write);
        assert!(write.starts_with("hcw_") && write.len() == API_KEY_LEN);
        let ping = new_ping_key(&SystemWorld);
        assert_eq!(ping.len(), PING_KEY_LEN);
        assert!(
            ping.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
    }

    #[test]
    fn keys_are_hashed_with_sha256() {
        assert_eq!(
            hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
