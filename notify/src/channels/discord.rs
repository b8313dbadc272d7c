//! Discord, by a webhook. <https://docs.discord.com/developers/resources/webhook#execute-webhook>,
//! limits: <https://docs.discord.com/developers/resources/message#embed-object-embed-limits>,
//! rate limits: <https://docs.discord.com/developers/topics/rate-limits>

use crate::error::SendError;
use crate::http::{Answer, Call};
use crate::layout::{MARKDOWN, chars, in_chars, lay_out};
use crate::letter::{Letter, judged, seconds};
use serde_json::json;
use thrum_schema::UnixMs;

/// Longest title of an embed.
const MAX_TITLE: usize = 256;
/// Longest description of an embed.
const MAX_TEXT: usize = 4_096;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let body = json!({
        "embeds": [{
            "title": chars(&notice.title, MAX_TITLE),
            "description": lay_out(notice, MARKDOWN, false, (MAX_TEXT, in_chars)),
            "color": letter.colour(),
            "timestamp": notice.at.rfc3339(),
        }],
        // No name can mention anybody.
        "allowed_mentions": { "parse": [] },
    });
    Call::json(letter.get("url"), &body)
}

/// A 429 says in its JSON how long to wait.
pub fn judge(answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    let body = answer.json();
    let words = match body["code"].as_i64() {
        Some(10015) => Some("the webhook was deleted"),
        Some(50027) => Some("the webhook's token is invalid"),
        _ => None,
    };
    judged(answer, now, seconds(&body["retry_after"]), words)
}
