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

/// The most metrics of a ping.
pub const MAX_METRICS: usize = 20;
/// The longest name of a metric.
pub const MAX_METRIC_NAME: usize = 64;
/// The seconds between two successes of a monitor, as the name of a series.
pub const INTERVAL: &str = "interval";
/// The seconds that a run took, as the name of a series.
pub const DURATION: &str = "duration";

/// Checks a metric: a name that no built-in series has, and a value that the table can store.
///
/// # Errors
/// What is wrong, continuing a sentence that begins with the metric.
pub fn check_metric(name: &str, value: f64) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    if !(1..=MAX_METRIC_NAME).contains(&name.len())
        || !name.bytes().all(plain)
        || matches!(name, "." | "..")
    {
        return Err(format!(
            "must have a name of 1 to {MAX_METRIC_NAME} letters, digits, '.', '_' or '-'"
        ));
    }
    if matches!(name, INTERVAL | DURATION) {
        return Err(format!(
            "must not be called `{name}`: Thrum computes that series itself"
        ));
    }
    if value != 0.0 && !(1e-100..1e100).contains(&value.abs()) {
        return Err("must be 0, or have a magnitude between 1e-100 and 1e100".to_owned());
    }
    Ok(())
}

/// Milliseconds as the value of [`DURATION`] or [`INTERVAL`].
#[expect(
    clippy::cast_precision_loss,
    reason = "the milliseconds of many years fit"
)]
pub fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// The value of a metric that is written as text.
///
/// # Errors
/// What is wrong, continuing a sentence that begins with the metric.
pub fn parse_metric(name: &str, value: &str) -> Result<f64, String> {
    let value = value
        .parse()
        .map_err(|_| format!("must have a number, as in {name}=12.5"))?;
    check_metric(name, value)?;
    Ok(value)
}

/// The first `limit` bytes of a body, without a character that they would cut in two, and whether there were more.
pub fn first_part(mut body: Vec<u8>, limit: usize) -> (Vec<u8>, bool) {
    if body.len() <= limit {
        return (body, false);
    }
    body.truncate(limit);
    if let Err(error) = std::str::from_utf8(&body)
        && error.error_len().is_none()
    {
        body.truncate(error.valid_up_to());
    }
    (body, true)
}

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
    /// `http`, `https` or `email`.
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
    /// What was not as expected in its metrics or its duration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unexpected: Vec<String>,
    /// The first bytes of its body, as sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "bytes")]
    pub body: Vec<u8>,
    /// The body was longer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl Ping {
    /// A ping over HTTP that arrived at `at`, with nothing else.
    pub fn new(at: UnixMs, kind: PingKind) -> Self {
        Self {
            n: 0,
            at,
            kind,
            scheme: "http".to_owned(),
            remote_addr: None,
            method: String::new(),
            ua: String::new(),
            rid: None,
            exit_status: None,
            duration_ms: None,
            early: false,
            overlap: false,
            metrics: Default::default(),
            body: Vec::new(),
            unexpected: Vec::new(),
            truncated: false,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_cut_between_characters() {
        let body = |text: &str, limit| {
            let (kept, cut) = first_part(text.as_bytes().to_vec(), limit);
            (String::from_utf8(kept).unwrap(), cut)
        };
        let long = format!("x{}", "ü".repeat(6_000));
        let (kept, cut) = body(&long, 10_000);
        assert!(cut && kept.len() == 9_999 && long.starts_with(&kept));
        assert_eq!(body("日本", 5), ("日".to_owned(), true));
        assert_eq!(body("日本", 6), ("日本".to_owned(), false));
        assert_eq!(body("", 0), (String::new(), false));
        // What is not text is cut anywhere.
        assert_eq!(first_part(vec![0xff; 9], 4), (vec![0xff; 4], true));
    }

    #[test]
    fn metrics_have_names_and_values_of_their_own() {
        assert_eq!(parse_metric("rows", "12.5"), Ok(12.5));
        for (name, value, problem) in [
            ("duration", "1", "must not be called"),
            ("interval", "1", "must not be called"),
            ("a b", "1", "must have a name"),
            ("", "1", "must have a name"),
            ("rows", "", "must have a number"),
            ("rows", "inf", "must be 0, or"),
            ("rows", "NaN", "must be 0, or"),
        ] {
            let error = parse_metric(name, value).unwrap_err();
            assert!(error.contains(problem), "{name}={value}: {error}");
        }
    }
}
