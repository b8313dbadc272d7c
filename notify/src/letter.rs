//! A message to a service, and the common handling of answers.

use crate::error::SendError;
use crate::http::{Answer, busy, passes};
use serde_json::Value;
use thrum_schema::UnixMs;
use thrum_schema::channel::kind::Settings;
use thrum_schema::notice::{News, Notice};

/// Longest error text of a receiver that Thrum keeps, in characters.
const MAX_WORDS: usize = 200;

/// A message to a service.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// The channel's settings.
    pub settings: &'a Settings,
    /// The message.
    pub notice: &'a Notice,
    /// The idempotency key, the same at every attempt.
    pub id: &'a str,
    /// The current time.
    pub now: UnixMs,
}

impl Letter<'_> {
    /// A setting; empty if it is not given.
    pub fn get(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// A setting, or else its default.
    pub fn or<'b>(&'b self, name: &str, default: &'b str) -> &'b str {
        self.settings.get(name).map_or(default, String::as_str)
    }

    /// The setting `server`, or its default, without a slash at its end.
    pub fn server<'b>(&'b self, default: &'b str) -> &'b str {
        self.or("server", default).trim_end_matches('/')
    }

    /// Red, orange, green or grey, as `0xRRGGBB`.
    pub const fn colour(&self) -> u32 {
        match self.notice.news {
            News::Down => 0x00D6_3A3A,
            News::Reminder => 0x00E0_8A1E,
            News::Up => 0x0023_8636,
            News::Info => 0x006E_7781,
        }
    }
}

/// The usual meaning of an answer. `wait_ms` is a wait that its body asks for, and `words` a better
/// explanation than its body has.
pub fn judged(
    answer: &Answer,
    now: UnixMs,
    wait_ms: Option<i64>,
    words: Option<&str>,
) -> Result<Option<String>, SendError> {
    let status = answer.status;
    if status.is_success() {
        return Ok(Some(status.to_string()));
    }
    if passes(status) {
        return Err(busy(answer, wait_ms, now));
    }
    if status.is_redirection() {
        return Err(SendError::permanent(format!(
            "the receiver answered {status}; redirects are not followed: check the URL"
        )));
    }
    let hint = match status.as_u16() {
        401 | 403 => "the key or token is wrong, or was revoked",
        404 | 410 => "the URL, room or topic does not exist; check the channel's settings",
        413 => "the message is too long",
        _ => "it rejected the message",
    };
    let said = words.map_or_else(|| said(&answer.json()), |words| Some(words.to_owned()));
    let said = said.map_or_else(String::new, |said| format!(" ({said})"));
    Err(SendError::permanent(format!(
        "the receiver answered {status}: {hint}{said}"
    )))
}

/// The explanation in a JSON answer, in the fields where services put it.
pub fn said(body: &Value) -> Option<String> {
    let found = ["message", "error", "errorDescription", "description"]
        .into_iter()
        .find_map(|field| body[field].as_str())
        .or_else(|| body["errors"][0].as_str());
    let text = found?.trim();
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let clean: String = clean.take(MAX_WORDS).collect();
    (!clean.is_empty()).then_some(clean)
}

/// Seconds in JSON, as milliseconds.
pub fn seconds(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
    value
        .as_f64()
        .map(|seconds| (seconds * 1000.0).ceil() as i64)
}
