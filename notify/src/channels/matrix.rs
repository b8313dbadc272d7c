//! Matrix. The delivery's ID is the transaction ID, so that the homeserver recognises a repeated
//! request. <https://spec.matrix.org/v1.16/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>

use crate::error::SendError;
use crate::http::{Answer, Call};
use crate::layout::{HTML_LINES, PLAIN, in_chars, lay_out};
use crate::letter::{Letter, judged};
use serde_json::json;
use thrum_schema::UnixMs;

/// Longest text, in characters: an event has at most 65,536 bytes, and this one has the text twice.
const MAX_TEXT: usize = 6_000;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let body = json!({
        "msgtype": "m.text",
        // No name can mention the room.
        "m.mentions": {},
        "body": lay_out(notice, PLAIN, true, (MAX_TEXT, in_chars)),
        "format": "org.matrix.custom.html",
        "formatted_body": lay_out(notice, HTML_LINES, true, (MAX_TEXT, in_chars)),
    });
    let segment = |text: &str| -> String {
        let escape = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(escape).collect()
    };
    let url = format!(
        "{}/_matrix/client/v3/rooms/{}/send/m.room.message/{}",
        letter.server(""),
        segment(letter.get("room")),
        segment(letter.id),
    );
    Call {
        method: "PUT",
        ..Call::json(url, &body)
    }
    .with("authorization", format!("Bearer {}", letter.get("token")))
}

/// <https://spec.matrix.org/v1.16/client-server-api/#standard-error-response>
pub fn judge(answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    let body = answer.json();
    let words = match body["errcode"].as_str() {
        Some("M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN") => Some("the access token is no longer valid"),
        Some("M_FORBIDDEN") => Some("the account is not in the room, or must not write there"),
        Some("M_NOT_FOUND") => Some("there is no such room"),
        _ => None,
    };
    judged(answer, now, body["retry_after_ms"].as_i64(), words)
}
