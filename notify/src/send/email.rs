//! E-mails by SMTP. Without a server, they are printed.

use crate::error::SendError;
use crate::message::Message;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Timeout of the whole exchange with the server.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends e-mails.
pub struct Email {
    from: Mailbox,
    transport: Option<AsyncSmtpTransport<Tokio1Executor>>,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("smtp", &self.transport.is_some())
            .finish_non_exhaustive()
    }
}

impl Email {
    /// Sends from the mailbox `from` through the server at `smtp_url` (`smtp://`, or `smtps://` and
    /// `smtp://…?tls=required` for TLS; user name and password in the URL). Without a URL, e-mails
    /// are printed.
    ///
    /// # Errors
    /// `from` or `smtp_url` is invalid.
    pub fn new(from: &str, smtp_url: Option<&SecretString>) -> Result<Self, String> {
        let from = from
            .parse()
            .map_err(|error| format!("the sender address of e-mails is invalid: {error}"))?;
        let transport = match smtp_url {
            None => None,
            Some(url) => Some(
                AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret())
                    .map_err(|error| format!("the SMTP URL is invalid: {error}"))?
                    .timeout(Some(TIMEOUT))
                    .build(),
            ),
        };
        Ok(Self { from, transport })
    }

    pub(crate) async fn send(
        &self,
        to: &str,
        key: &str,
        message: &Message,
    ) -> Result<Option<String>, SendError> {
        let Some(transport) = &self.transport else {
            println!(
                "\n┌ e-mail to {to} (printed: no SMTP server is set)\n│ {}\n│\n│ {}\n└",
                message.subject,
                message.text.replace('\n', "\n│ ")
            );
            return Ok(Some(format!(
                "printed, because no SMTP server is set: {}",
                message.subject
            )));
        };
        let address = address(to)
            .ok_or_else(|| SendError::permanent("the channel's e-mail address is invalid"))?;
        let id = format!("<{key}@{}>", self.from.email.domain());
        let email = lettre::Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address))
            .raw_header(subject(&message.subject))
            // The same at every attempt, so that a mailbox can drop duplicates.
            .message_id(Some(id))
            .multipart(MultiPart::alternative_plain_html(
                message.text.clone(),
                message.html(),
            ))
            .map_err(|error| SendError::permanent(error.to_string()))?;
        match tokio::time::timeout(TIMEOUT, transport.send(email)).await {
            Ok(Ok(answer)) => Ok(Some(format!("{}", answer.code()))),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_) => Err(SendError::passing(format!(
                "the mail server did not answer within {} s",
                TIMEOUT.as_secs()
            ))),
        }
    }
}

/// The address with its domain in ASCII, as servers without SMTPUTF8 need it.
fn address(to: &str) -> Option<Address> {
    let (user, domain) = to.rsplit_once('@')?;
    let url::Host::Domain(domain) = url::Host::parse(domain).ok()? else {
        return to.parse().ok();
    };
    Address::new(user, domain).ok()
}

/// The subject's header. It is encoded also if it looks encoded (RFC 2047): a mail client would show a monitor
/// called `=?utf-8?q?…?=` under another name.
fn subject(text: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Subject");
    if !text.contains("=?") {
        return HeaderValue::new(name, text.to_owned());
    }
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        // 45 bytes become 60 characters; a word has at most 75.
        if word.len() + c.len_utf8() > 45 {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let encoded: Vec<String> = words
        .iter()
        .map(|word| format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(word)))
        .collect();
    HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), encoded.join("\r\n "))
}

/// The replies that no retry changes: the mailbox does not exist, or the server refuses the sender or recipient
/// (RFC 5321 §4.2.3).
const PERMANENT: [u16; 4] = [550, 551, 553, 554];
/// The longest part of a server's words that is shown.
const MAX_WORDS: usize = 200;

/// What went wrong, with the server's words: they are about the channel's own address.
fn reason(error: &SmtpError) -> SendError {
    match error.status() {
        Some(code) => {
            let code = u16::from(code);
            let words = error.source().map(ToString::to_string).unwrap_or_default();
            let words: String = words
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(MAX_WORDS)
                .collect();
            let separator = if words.is_empty() { "" } else { ": " };
            SendError {
                reason: format!("the mail server answered {code}{separator}{words}"),
                permanent: PERMANENT.contains(&code),
                wait_ms: 0,
            }
        }
        None if error.is_timeout() => SendError::passing("the mail server did not answer in time"),
        None if error.is_tls() => SendError::passing("TLS with the mail server failed"),
        None => SendError::passing("the mail server could not be reached"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn international_domains_are_sent_in_ascii() {
        for (to, expected) in [
            ("ops@exämple.de", "ops@xn--exmple-cua.de"),
            ("ops@example.org", "ops@example.org"),
            ("ops@EXAMPLE.org", "ops@example.org"),
            ("ops@localhost", "ops@localhost"),
            ("a.b+c@例え.jp", "a.b+c@xn--r8jz45g.jp"),
        ] {
            assert_eq!(address(to).unwrap().to_string(), expected);
        }
        assert_eq!(address("nobody"), None);
    }

    #[test]
    fn subjects_that_look_encoded_are_encoded() {
        let header = |text: &str| {
            let email = lettre::Message::builder()
                .from("a@b.c".parse().unwrap())
                .to("d@e.f".parse().unwrap())
                .raw_header(subject(text))
                .body(String::new())
                .unwrap();
            let text = String::from_utf8(email.formatted()).unwrap();
            let start = text.find("Subject: ").unwrap();
            text[start..].split("\r\n\r\n").next().unwrap().to_owned()
        };
        assert!(header("DOWN: web-01").starts_with("Subject: DOWN: web-01"));
        assert!(header("DOWN: Größe").contains("=?utf-8?"));
        let spoofed = format!("DOWN: =?utf-8?q?all_is_well?= {}", "ü".repeat(50));
        let sent = header(&spoofed);
        assert!(!sent.contains("all_is_well"), "{sent}");
        let decoded: Vec<u8> = sent
            .split("=?utf-8?B?")
            .skip(1)
            .flat_map(|word| {
                BASE64_STANDARD
                    .decode(word.split("?=").next().unwrap())
                    .unwrap()
            })
            .collect();
        assert_eq!(String::from_utf8(decoded).unwrap(), spoofed);
        assert!(sent.lines().all(|line| line.len() <= 85), "{sent}");
    }
}
