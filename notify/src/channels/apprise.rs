//! Apprise, an adapter to a hundred more services, by its API.
//! <https://github.com/caronc/apprise-api#api-details>

use crate::error::SendError;
use crate::http::{Answer, Call, busy};
use crate::layout::{PLAIN, chars, in_chars, lay_out};
use crate::letter::{Letter, judged};
use reqwest::StatusCode;
use serde_json::json;
use thrum_schema::UnixMs;
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
    let body = json!({
        "title": chars(&notice.title, 250),
        "body": lay_out(notice, PLAIN, false, (MAX_TEXT, in_chars)),
        "type": kind,
        "format": "text",
        "tag": letter.or("tag", "all"),
    });
    Call::json(letter.get("url"), &body)
}

/// 204 is an unknown key, and 424 a failure of one of the services behind it, which may pass.
pub fn judge(answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    if answer.status == StatusCode::NO_CONTENT {
        return Err(SendError::permanent(
            "Apprise has no configuration under this key: check the channel's URL",
        ));
    }
    if answer.status == StatusCode::FAILED_DEPENDENCY {
        return Err(busy(answer, None, now));
    }
    judged(answer, now, None, None)
}
