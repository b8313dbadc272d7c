//! Gotify. <https://gotify.net/api-docs#/message/createMessage>, extras:
//! <https://gotify.net/docs/msgextras>

use crate::http::Call;
use crate::layout::{PLAIN, chars, in_chars, lay_out};
use crate::letter::Letter;
use serde_json::json;
use thrum_schema::notice::News;

/// Gotify has no limit; this keeps a notification readable.
const MAX_MESSAGE: usize = 8_000;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let priority = match notice.news {
        News::Down => 8,
        News::Reminder => 6,
        News::Up => 4,
        News::Info => 2,
    };
    let mut body = json!({
        "title": chars(&notice.title, 250),
        "message": lay_out(notice, PLAIN, false, (MAX_MESSAGE, in_chars)),
        "priority": priority,
    });
    if let Some(link) = &notice.link {
        body["extras"] = json!({ "client::notification": { "click": { "url": link } } });
    }
    Call::json(format!("{}/message", letter.server("")), &body)
        .with("x-gotify-key", letter.get("token"))
}
