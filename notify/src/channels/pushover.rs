//! Pushover. <https://pushover.net/api>, limits: <https://pushover.net/api#limits>

use crate::http::Call;
use crate::layout::{PLAIN, chars, in_chars, lay_out};
use crate::letter::Letter;
use serde_json::json;
use thrum_schema::notice::{News, Notice};

const MAX_TITLE: usize = 250;
const MAX_MESSAGE: usize = 1_024;
const MAX_URL: usize = 512;
/// How often an emergency is repeated, and for how long, in seconds.
const RETRY_S: u32 = 60;
const EXPIRE_S: u32 = 3_600;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let priority: i8 = match notice.news {
        News::Down | News::Reminder => letter.or("priority", "1").parse().unwrap_or(1),
        News::Up | News::Info => 0,
    };
    // The link has a field of its own.
    let linkless = Notice {
        link: None,
        ..notice.clone()
    };
    let mut body = json!({
        "token": letter.get("token"),
        "user": letter.get("user"),
        "title": chars(&notice.title, MAX_TITLE),
        "message": lay_out(&linkless, PLAIN, false, (MAX_MESSAGE, in_chars)),
        "priority": priority,
        "timestamp": notice.at.secs(),
    });
    if priority == 2 {
        body["retry"] = RETRY_S.into();
        body["expire"] = EXPIRE_S.into();
    }
    if let Some(link) = notice.link.as_ref().filter(|link| link.len() <= MAX_URL) {
        body["url"] = link.as_str().into();
        body["url_title"] = notice.link_label.into();
    }
    Call::json("https://api.pushover.net/1/messages.json", &body)
}
