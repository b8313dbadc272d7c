//! Rocket.Chat, by an incoming integration.
//! <https://docs.rocket.chat/docs/integrations#create-an-incoming-webhook>

use crate::error::SendError;
use crate::http::{Answer, Call};
use crate::layout::{MARKDOWN, chars, in_chars, lay_out};
use crate::letter::{Letter, judged, said};
use serde_json::json;
use thrum_schema::UnixMs;

/// Longest text: the default of the server's limit of a message.
const MAX_TEXT: usize = 5_000;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let mut body = json!({
        "alias": "Thrum",
        "attachments": [{
            "color": format!("#{:06x}", letter.colour()),
            "title": chars(&notice.title, 300),
            "text": lay_out(notice, MARKDOWN, false, (MAX_TEXT, in_chars)),
            "ts": notice.at.rfc3339(),
        }],
    });
    if !letter.get("channel").is_empty() {
        body["channel"] = letter.get("channel").into();
    }
    Call::json(letter.get("url"), &body)
}

/// A 200 can be a failure.
pub fn judge(answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    let body = answer.json();
    if answer.status.is_success() && body["success"] == false {
        let words = said(&body).unwrap_or_default();
        return Err(SendError::permanent(format!(
            "the receiver refused the message: {words}"
        )));
    }
    judged(answer, now, None, None)
}
