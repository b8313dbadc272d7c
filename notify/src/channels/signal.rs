//! Signal, by the REST API of signal-cli. <https://bbernhard.github.io/signal-cli-rest-api/>

use crate::error::SendError;
use crate::http::{Answer, Call, busy};
use crate::layout::{PLAIN, in_chars, lay_out};
use crate::letter::{Letter, judged, said};
use serde_json::json;
use thrum_schema::UnixMs;
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

/// 400 stands for all failures of Signal itself, such as a lost connection, so it may pass.
pub fn judge(answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    if answer.status.as_u16() == 400 {
        let said = said(&answer.json()).map_or_else(String::new, |said| format!(": {said}"));
        let busy = busy(answer, None, now);
        return Err(SendError {
            reason: format!("{}{said}", busy.reason),
            ..busy
        });
    }
    judged(answer, now, None, None)
}
