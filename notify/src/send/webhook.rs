//! Webhooks by the Standard Webhooks specification (<https://www.standardwebhooks.com>): signed, with
//! Thrum's JSON or a body that the user's templates make.

use crate::error::SendError;
use crate::http::{Answer, Call, busy, passes};
use crate::message::Message;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use reqwest::StatusCode;
use sha2::Sha256;
use thrum_schema::UnixMs;
use thrum_schema::channel::kind::{Settings, headers};
use thrum_schema::notice::News;
use thrum_schema::notice::template::{body, is_json};

/// A channel's webhook.
#[derive(Debug, Clone, Copy)]
pub struct Webhook<'a> {
    /// Where it goes.
    pub url: &'a str,
    /// The secret that signs it.
    pub secret: &'a str,
    /// Method, headers and templates.
    pub more: &'a Settings,
}

impl Webhook<'_> {
    /// The signed request for `message`, whose idempotency key is `key`.
    ///
    /// # Errors
    /// The secret is invalid, or a template fails.
    pub fn call(self, message: &Message, key: &str, now: UnixMs) -> Result<Call, SendError> {
        let more = |name: &str| self.more.get(name).map(String::as_str);
        let template = match message.notice.news {
            News::Up => more("up_body"),
            News::Reminder => more("reminder_body").or_else(|| more("down_body")),
            News::Down | News::Info => more("down_body"),
        };
        let (text, kind) = match template {
            None => (message.json.to_string(), "application/json"),
            Some(template) => {
                let made = body(template, &message.values).map_err(|error| {
                    SendError::permanent(format!("the channel's template failed: {error}"))
                })?;
                let kind = if is_json(template) {
                    "application/json"
                } else {
                    "text/plain; charset=utf-8"
                };
                (made, kind)
            }
        };
        let method = match more("method") {
            Some("PUT") => "PUT",
            Some("PATCH") => "PATCH",
            Some("GET") => "GET",
            _ => "POST",
        };
        let text = if method == "GET" { String::new() } else { text };
        let timestamp = now.secs();
        let signature = signature(self.secret, key, timestamp, &text).ok_or_else(|| {
            SendError::permanent("the channel's secret must be `whsec_` followed by base64")
        })?;
        let mut call = Call {
            method,
            url: self.url.to_owned(),
            headers: Vec::new(),
            body: text,
        };
        let own = more("headers").unwrap_or_default();
        for (name, value) in headers(own) {
            call = call.with(name, value);
        }
        if call.header("content-type").is_none() && method != "GET" {
            call = call.with("content-type", kind);
        }
        Ok(call
            .with("webhook-id", key)
            .with("webhook-timestamp", timestamp.to_string())
            .with("webhook-signature", signature))
    }
}

/// What an answer means. A receiver that is being deployed may answer 404 for a while, so that is
/// retried; what the receiver will never accept is not.
///
/// # Errors
/// The receiver did not accept the message.
pub fn judge(answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    let status = answer.status;
    if status.is_success() {
        return Ok(Some(status.to_string()));
    }
    if status == StatusCode::GONE {
        return Err(SendError::permanent(
            "the receiver answered 410 Gone: it accepts no more messages",
        ));
    }
    if status.is_redirection() {
        return Err(SendError::permanent(format!(
            "the receiver answered {status}; redirects are not followed: change the channel's URL"
        )));
    }
    if passes(status) || status == StatusCode::NOT_FOUND {
        return Err(busy(answer, None, now));
    }
    let hint = match status.as_u16() {
        401 | 403 => "check the URL, the signing secret and the headers",
        405 => "check the method",
        413 => "the message is too long",
        _ => "it does not accept the message",
    };
    Err(SendError::permanent(format!(
        "the receiver answered {status}: {hint}"
    )))
}

/// The `webhook-signature` header of a request: `v1,` and the base64 HMAC-SHA256 of
/// `id.timestamp.body`. `timestamp` is in epoch seconds. `None` if the secret is not `whsec_`
/// followed by base64.
pub fn signature(secret: &str, id: &str, timestamp: i64, body: &str) -> Option<String> {
    let secret = BASE64_STANDARD
        .decode(secret.strip_prefix("whsec_")?)
        .ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).ok()?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Some(format!(
        "v1,{}",
        BASE64_STANDARD.encode(mac.finalize().into_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example from the reference libraries of Standard Webhooks.
    #[test]
    fn signatures_match_the_standard_webhooks_example() {
        assert_eq!(
            signature(
                SECRET,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
            )
            .unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(signature("plain", "id", 0, ""), None);
    }

    #[test]
    fn answers_are_judged() {
        let judge = |status: u16| {
            judge(
                &Answer::of(StatusCode::from_u16(status).unwrap()),
                UnixMs(0),
            )
        };
        assert_eq!(judge(204), Ok(Some("204 No Content".to_owned())));
        for (status, is_permanent) in [
            (301, true),
            (400, true),
            (401, true),
            (404, false),
            (405, true),
            (408, false),
            (410, true),
            (413, true),
            (422, true),
            (429, false),
            (500, false),
            (503, false),
        ] {
            assert_eq!(
                judge(status).unwrap_err().permanent,
                is_permanent,
                "{status}"
            );
        }
    }
}
