//! Telegram, by a bot. <https://core.telegram.org/bots/api#sendmessage>,
//! errors: <https://core.telegram.org/bots/api#responseparameters>

use crate::error::SendError;
use crate::http::{Answer, Call};
use crate::layout::{HTML, in_chars, lay_out};
use crate::letter::{Letter, judged, seconds};
use serde_json::json;
use thrum_schema::UnixMs;
use thrum_schema::notice::News;

/// Longest text, in characters after its entities are parsed; the escaped text is longer.
const MAX_TEXT: usize = 4_096;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let mut body = json!({
        "chat_id": letter.get("chat"),
        "text": lay_out(notice, HTML, true, (MAX_TEXT, in_chars)),
        "parse_mode": "HTML",
        "link_preview_options": { "is_disabled": true },
        "disable_notification": notice.news == News::Up,
    });
    if let Ok(topic) = letter.get("topic").parse::<i64>() {
        body["message_thread_id"] = topic.into();
    }
    let token = letter.get("token");
    Call::json(
        format!("https://api.telegram.org/bot{token}/sendMessage"),
        &body,
    )
}

pub fn judge(answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    let body = answer.json();
    let parameters = &body["parameters"];
    if let Some(chat) = parameters["migrate_to_chat_id"].as_i64() {
        let words = format!("the group became a supergroup: change the channel's chat to {chat}");
        return judged(answer, now, None, Some(&words));
    }
    judged(answer, now, seconds(&parameters["retry_after"]), None)
}
