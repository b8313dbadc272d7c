//! API keys: made once, shown once, stored as their SHA-256.

use crate::id::ProjectId;
use crate::time::UnixMs;
use crate::world::World;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// Length of an API key, as the contract's clients expect.
pub const API_KEY_LEN: usize = 32;
/// Length of a ping key.
pub const PING_KEY_LEN: usize = 22;

/// What an API key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything in its project.
    Write,
    /// Reading monitors and alerts.
    Read,
}

/// A stored API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The hex SHA-256 of the key.
    pub hash: String,
    /// The project it opens.
    pub project: ProjectId,
    /// What it allows.
    pub scope: Scope,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created: UnixMs,
}

impl ApiKey {
    /// Whether `secret` is this key, in constant time.
    pub fn is(&self, secret: &str) -> bool {
        self.hash.as_bytes().ct_eq(hash(secret).as_bytes()).into()
    }
}

/// The hex SHA-256 of a key: what is stored and looked up.
pub fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes())
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// A new API key: `hcw_` or `hcr_`, then 28 letters and digits.
pub fn new_api_key(world: &dyn World, scope: Scope) -> String {
    let prefix = match scope {
        Scope::Write => "hcw_",
        Scope::Read => "hcr_",
    };
    format!(
        "{prefix}{}",
        alphanumeric(world, API_KEY_LEN - prefix.len(), ALPHANUMERIC)
    )
}

/// A new ping key: 22 lower-case letters and digits.
pub fn new_ping_key(world: &dyn World) -> String {
    alphanumeric(world, PING_KEY_LEN, &ALPHANUMERIC[..36])
}

const ALPHANUMERIC: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn alphanumeric(world: &dyn World, len: usize, alphabet: &[u8]) -> String {
    let mut text = String::with_capacity(len);
    while text.len() < len {
        for byte in world.random().to_be_bytes() {
            // Values that would favour some letters are drawn again.
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
    fn keys_have_the_contracts_form() {
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
    fn a_key_is_known_by_its_hash_alone() {
        assert_eq!(
            hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
