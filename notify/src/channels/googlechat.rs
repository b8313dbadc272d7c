//! Google Chat, by a webhook: one thread for each monitor.
//! <https://developers.google.com/workspace/chat/quickstart/webhooks>, threads:
//! <https://developers.google.com/workspace/chat/create-messages#create-message-thread>

use crate::http::Call;
use crate::layout::{MRKDWN, in_chars, lay_out};
use crate::letter::Letter;
use serde_json::json;

/// Longest text, in characters.
const MAX_TEXT: usize = 4_096;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let body = json!({
        "text": lay_out(notice, MRKDWN, true, (MAX_TEXT, in_chars)),
        "thread": { "threadKey": notice.key },
    });
    let url = letter.get("url");
    let glue = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{glue}messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD");
    Call {
        headers: vec![(
            "content-type".to_owned(),
            "application/json; charset=UTF-8".to_owned(),
        )],
        ..Call::json(url, &body)
    }
}
