//! Signal, by the REST API of signal-cli. <https://bbernhard.github.io/signal-cli-rest-api/>

use super::Letter;
use super::layout::{PLAIN, in_chars, lay_out};
use crate::send::http::Call;
use serde_json::json;
use thrum_schema::channel::kind::recipients;

/// Longest message: Signal turns a longer one into an attachment.
const MAX_TEXT: usize = 2_000;

pub fn call(letter: &Letter<'_>) -> Call {
    let recipients: Vec<&str> = recipients(letter.get("recipients")).collect();
    let body = json!({
        "message": lay_out(letter.notice, PLAIN, true, (MAX_TEXT, in_chars)),
        "number": letter.get("number"),
        "recipients": recipients,
    });
    Call::json(format!("{}/v2/send", letter.server("")), &body)
}
