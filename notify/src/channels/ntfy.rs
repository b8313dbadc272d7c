//! ntfy, published as JSON. <https://docs.ntfy.sh/publish/#publish-as-json>, limits:
//! <https://docs.ntfy.sh/publish/#limitations>

use crate::http::Call;
use crate::layout::{PLAIN, bytes, lay_out};
use crate::letter::Letter;
use serde_json::json;
use thrum_schema::notice::News;

/// Longest message, in bytes; a longer one becomes an attachment.
const MAX_MESSAGE: usize = 4_000;
const MAX_TITLE: usize = 250;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let (priority, tag) = match notice.news {
        News::Down => (5, "rotating_light"),
        News::Reminder => (4, "warning"),
        News::Up => (3, "white_check_mark"),
        News::Info => (3, "information_source"),
    };
    let mut body = json!({
        "topic": letter.get("topic"),
        "title": bytes(&notice.title, MAX_TITLE),
        "message": lay_out(notice, PLAIN, false, (MAX_MESSAGE, str::len)),
        "priority": priority,
        "tags": [tag],
    });
    if let Some(link) = &notice.link {
        body["click"] = link.as_str().into();
    }
    let call = Call::json(letter.server("https://ntfy.sh"), &body);
    match letter.get("token") {
        "" => call,
        token => call.with("authorization", format!("Bearer {token}")),
    }
}
