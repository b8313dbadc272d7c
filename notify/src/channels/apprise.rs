//! Apprise, an adapter to a hundred more services, by its API.
//! <https://github.com/caronc/apprise-api#api-details>

use super::Letter;
use super::layout::{PLAIN, chars, in_chars, lay_out};
use crate::send::http::Call;
use serde_json::json;
use thrum_schema::notice::News;

/// Apprise itself has no limit of a body; each service behind it cuts at its own.
const MAX_TEXT: usize = 8_000;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let kind = match notice.news {
        News::Down => "failure",
        News::Reminder => "warning",
        News::Up => "success",
        News::Info => "info",
    };
    let mut body = json!({
        "title": chars(&notice.title, 250),
        "body": lay_out(notice, PLAIN, false, (MAX_TEXT, in_chars)),
        "type": kind,
        "format": "text",
    });
    if !letter.get("tag").is_empty() {
        body["tag"] = letter.get("tag").into();
    }
    Call::json(letter.get("url"), &body)
}
