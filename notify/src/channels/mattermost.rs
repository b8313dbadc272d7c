//! Mattermost, by an incoming webhook. <https://developers.mattermost.com/integrate/webhooks/incoming/>

use crate::http::Call;
use crate::layout::{MARKDOWN, chars, in_chars, lay_out};
use crate::letter::Letter;
use serde_json::json;

/// Longest text of an attachment, within a post of at most 16,383 characters.
const MAX_TEXT: usize = 7_000;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let mut body = json!({
        "username": "Thrum",
        "attachments": [{
            "fallback": notice.title,
            "color": format!("#{:06x}", letter.colour()),
            "title": chars(&notice.title, 300),
            "text": lay_out(notice, MARKDOWN, false, (MAX_TEXT, in_chars)),
        }],
    });
    if !letter.get("channel").is_empty() {
        body["channel"] = letter.get("channel").into();
    }
    Call::json(letter.get("url"), &body)
}
