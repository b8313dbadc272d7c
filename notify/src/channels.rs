//! The services that messages go to over HTTP, one file each: what Thrum sends, and what an answer
//! means. Each file names the vendor's documentation.

mod alertmanager;
mod apprise;
mod discord;
mod googlechat;
mod gotify;
pub mod layout;
mod matrix;
mod mattermost;
mod ntfy;
mod opsgenie;
mod pagerduty;
mod pushover;
mod rocketchat;
mod signal;
mod slack;
mod teams;
mod telegram;

use crate::send::SendError;
use crate::send::http::{Answer, Call, busy, passes};
use serde_json::Value;
use thrum_schema::UnixMs;
use thrum_schema::channel::kind::Settings;
use thrum_schema::notice::{News, Notice};

/// Longest explanation of a receiver that is kept, in characters.
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
    fn get(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// A setting, or else its default.
    fn or<'b>(&'b self, name: &str, default: &'b str) -> &'b str {
        self.settings.get(name).map_or(default, String::as_str)
    }

    /// The setting `server`, or its default, without a slash at its end.
    fn server<'b>(&'b self, default: &'b str) -> &'b str {
        self.or("server", default).trim_end_matches('/')
    }

    /// Red, orange, green or grey, as `0xRRGGBB`.
    const fn colour(&self) -> u32 {
        match self.notice.news {
            News::Down => 0x00D6_3A3A,
            News::Reminder => 0x00E0_8A1E,
            News::Up => 0x0023_8636,
            News::Info => 0x006E_7781,
        }
    }
}

/// The request that brings a message to a service of the kind `kind`.
///
/// # Errors
/// There is no such kind.
pub fn call(kind: &str, letter: &Letter<'_>) -> Result<Call, SendError> {
    Ok(match kind {
        "alertmanager" => alertmanager::call(letter),
        "apprise" => apprise::call(letter),
        "discord" => discord::call(letter),
        "googlechat" => googlechat::call(letter),
        "gotify" => gotify::call(letter),
        "jira-ops" => opsgenie::call(letter, opsgenie::JIRA),
        "matrix" => matrix::call(letter),
        "mattermost" => mattermost::call(letter),
        "ntfy" => ntfy::call(letter),
        "opsgenie" => opsgenie::call(letter, opsgenie::server(letter)),
        "pagerduty" => pagerduty::call(letter),
        "pushover" => pushover::call(letter),
        "rocketchat" => rocketchat::call(letter),
        "signal" => signal::call(letter),
        "slack" => slack::call(letter),
        "teams" => teams::call(letter),
        "telegram" => telegram::call(letter),
        _ => {
            return Err(SendError::permanent(format!(
                "this version of Thrum does not know channels of kind {kind}"
            )));
        }
    })
}

/// What the answer of a service of the kind `kind` means: a note to keep, such as the status.
///
/// # Errors
/// The service did not accept the message: for now, or for ever.
pub fn judge(kind: &str, answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    match kind {
        "discord" => discord::judge(answer, now),
        "matrix" => matrix::judge(answer, now),
        "opsgenie" | "jira-ops" => opsgenie::judge(answer, now),
        "rocketchat" => rocketchat::judge(answer, now),
        "slack" => slack::judge(answer, now),
        "telegram" => telegram::judge(answer, now),
        _ => judged(answer, now, None, None),
    }
}

/// The usual meaning of an answer. `wait_ms` is a wait that its body asks for, and `words` a better
/// explanation than its body has.
fn judged(
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
        404 | 410 => "it no longer exists: check the channel's settings",
        413 => "the message is too long for it",
        _ => "it refuses the message",
    };
    let said = words.map_or_else(|| said(&answer.json()), |words| Some(words.to_owned()));
    let said = said.map_or_else(String::new, |said| format!(" ({said})"));
    Err(SendError::permanent(format!(
        "the receiver answered {status}: {hint}{said}"
    )))
}

/// The explanation in a JSON answer, in the fields where services put it.
fn said(body: &Value) -> Option<String> {
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
fn seconds(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
    value
        .as_f64()
        .map(|seconds| (seconds * 1000.0).ceil() as i64)
}

#[cfg(test)]
mod tests;
