//! Pings: what a client reported, and how the monitor classified it.

use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many pings a monitor's log keeps: the slots of its ring.
pub const LOG_SLOTS: u64 = 100;
/// How many failures it keeps separately, so that successes do not push them out.
pub const FAIL_SLOTS: u64 = 20;
/// How long a logged ping is kept, in seconds: 93 days.
pub const LOG_TTL_S: i64 = 93 * 86_400;
/// Maximum length of a stored user agent, in characters.
pub const MAX_USER_AGENT: usize = 200;

/// What a ping means for its monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PingKind {
    /// The job succeeded, or the host is alive.
    Success,
    /// A run started.
    Start,
    /// The job failed.
    Fail,
    /// Only logged.
    Log,
    /// Accepted and logged, but without effect because of the monitor's rules.
    Ign,
}

impl PingKind {
    /// Its name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Start => "start",
            Self::Fail => "fail",
            Self::Log => "log",
            Self::Ign => "ign",
        }
    }
}

/// A logged ping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ping {
    /// Its number, counting from 1 for each monitor.
    pub n: u64,
    /// When it was received.
    pub at: UnixMs,
    /// How it was classified.
    #[serde(rename = "type")]
    pub kind: PingKind,
    /// `http` or `https`.
    pub scheme: String,
    /// The client's address, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_addr: Option<String>,
    /// The HTTP method.
    pub method: String,
    /// The user agent, at most [`MAX_USER_AGENT`] characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ua: String,
    /// The id of the run it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<Uuid>,
    /// The exit status it reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<u8>,
    /// How long the run took that it ended, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// The run came too early for the schedule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early: bool,
    /// The run began while another was in progress.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overlap: bool,
    /// Metrics sent with it (`{"rows": 12.5}`).
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub metrics: std::collections::BTreeMap<String, f64>,
    /// The first bytes of its body, as sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "bytes")]
    pub body: Vec<u8>,
}

/// Bytes are stored as DynamoDB binary.
pub(crate) mod bytes {
    use serde::{Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(body: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(body)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> de::Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, v: &[u8]) -> Result<Vec<u8>, E> {
                Ok(v.to_vec())
            }
            fn visit_byte_buf<E>(self, v: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(v)
            }
        }
        from.deserialize_byte_buf(Bytes)
    }
}
