//! Webhooks by the Standard Webhooks specification (<https://www.standardwebhooks.com>): signed,
//! without redirects, and never to a private address.

use super::SendError;
use super::names::{Lookup, Names, System};
use crate::message::Message;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::DateTime;
use futures::future::BoxFuture;
use hmac::{Hmac, Mac};
use reqwest::{Client, StatusCode, redirect};
use sha2::Sha256;
use std::error::Error;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thrum_schema::channel::check_webhook_url;
use thrum_schema::time::secs_to_wait;
use thrum_schema::{ProjectId, UnixMs, World};

/// The longest wait that a receiver can ask for, in milliseconds.
const MAX_WAIT_MS: i64 = 86_400_000;

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A signed request to a receiver.
#[derive(Debug, Clone, Copy)]
pub struct Posted<'a> {
    /// The receiver's URL.
    pub url: &'a str,
    /// The idempotency key, the same at every attempt.
    pub id: &'a str,
    /// When it was signed, in epoch seconds.
    pub timestamp: i64,
    /// The `webhook-signature` header.
    pub signature: &'a str,
    /// The JSON body.
    pub body: &'a str,
}

/// Posts webhooks: over HTTP, or within a test.
pub trait Post: Send + Sync + Debug {
    /// Posts a request and waits for the status of the response, at most 10 s.
    fn post<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Result<StatusCode, SendError>>;
}

/// Signs webhooks, posts them, and decides by the response what to do next.
#[derive(Debug)]
pub struct Webhook {
    transport: Box<dyn Post>,
    names: Names,
    allow_private: bool,
    world: Arc<dyn World>,
}

impl Webhook {
    /// Sends over HTTP. Unless `allow_private`, private addresses are refused when a name is
    /// resolved, so no name can lead to one.
    pub fn new(allow_private: bool, world: Arc<dyn World>) -> Self {
        let names = Names::new(Arc::new(System), allow_private);
        let transport = Http {
            client: OnceLock::new(),
            names: names.clone(),
            world: Arc::clone(&world),
        };
        Self {
            transport: Box::new(transport),
            names,
            allow_private,
            world,
        }
    }

    /// Sends through the caller's `transport` and `lookup`, to private addresses too.
    pub fn by(
        transport: impl Post + 'static,
        lookup: Arc<dyn Lookup>,
        world: Arc<dyn World>,
    ) -> Self {
        Self {
            transport: Box::new(transport),
            names: Names::new(lookup, true),
            allow_private: true,
            world,
        }
    }

    pub(super) async fn send(
        &self,
        project: ProjectId,
        (url, secret): (&str, &str),
        key: &str,
        message: &Message,
    ) -> Result<Option<String>, SendError> {
        check_webhook_url("url", url, self.allow_private)
            .map_err(|invalid| SendError::permanent(invalid.to_string()))?;
        if let Some(host) = host_name(url) {
            self.names.find(project, &host).await?;
        }
        let body = message.json.to_string();
        let timestamp = self.world.now().secs();
        let signature = signature(secret, key, timestamp, &body).ok_or_else(|| {
            SendError::permanent("the channel's secret must be `whsec_` followed by base64")
        })?;
        let posted = Posted {
            url,
            id: key,
            timestamp,
            signature: &signature,
            body: &body,
        };
        let status = self.transport.post(posted).await?;
        if status.is_success() {
            Ok(Some(status.to_string()))
        } else if status == StatusCode::GONE {
            Err(SendError::permanent(
                "the receiver answered 410 Gone: it accepts no more messages",
            ))
        } else if status.is_redirection() {
            Err(SendError::passing(format!(
                "the receiver answered {status}; redirects are not followed"
            )))
        } else {
            Err(SendError::passing(format!(
                "the receiver answered {status}"
            )))
        }
    }
}

/// Posts over HTTP, without redirects and proxies.
#[derive(Debug)]
struct Http {
    /// Created when first needed: it reads the system's certificates, which would slow down cold
    /// starts.
    client: OnceLock<Client>,
    names: Names,
    world: Arc<dyn World>,
}

impl Http {
    fn client(&self) -> Result<&Client, SendError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        thrum_store::tls::install();
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("Thrum/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(self.names.clone()));
        let client = client.build().map_err(|error| {
            tracing::error!(%error, "could not create the HTTP client for webhooks");
            SendError::passing("Thrum can't send webhooks now; its log says why")
        })?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl Post for Http {
    fn post<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Result<StatusCode, SendError>> {
        Box::pin(async move {
            let sent = self
                .client()?
                .post(posted.url)
                .header("content-type", "application/json")
                .header("webhook-id", posted.id)
                .header("webhook-timestamp", posted.timestamp)
                .header("webhook-signature", posted.signature)
                .body(posted.body.to_owned())
                .send()
                .await;
            let answer = sent.map_err(failure)?;
            let status = answer.status();
            let after = answer.headers().get("retry-after");
            let after = after.and_then(|after| retry_after(after.to_str().ok()?, self.world.now()));
            match after {
                Some(wait_ms) if is_asked_to_wait(status) => Err(SendError {
                    wait_ms,
                    ..SendError::passing(format!(
                        "the receiver answered {status}, and asks to wait {} s",
                        secs_to_wait(wait_ms)
                    ))
                }),
                _ => Ok(status),
            }
        })
    }
}

/// Whether `Retry-After` counts with a status.
fn is_asked_to_wait(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// The wait that a receiver asks for, in milliseconds: seconds, or a date (RFC 9110 §10.2.3). At most a day.
fn retry_after(text: &str, now: UnixMs) -> Option<i64> {
    let text = text.trim();
    let ms = match text.parse::<u32>() {
        Ok(seconds) => i64::from(seconds) * 1000,
        Err(_) => {
            let at = DateTime::parse_from_rfc2822(text).ok()?;
            at.timestamp_millis() - now.0
        }
    };
    (ms > 0).then_some(ms.min(MAX_WAIT_MS))
}

/// The host of a URL, if it is a name.
fn host_name(url: &str) -> Option<String> {
    match reqwest::Url::parse(url).ok()?.host()? {
        url::Host::Domain(name) => Some(name.to_owned()),
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => None,
    }
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

/// What went wrong, from the innermost cause, which is the most specific; without the URL, which
/// may be a secret.
fn failure(error: reqwest::Error) -> SendError {
    if error.is_timeout() {
        let seconds = TIMEOUT.as_secs();
        return SendError::passing(format!("the receiver did not answer within {seconds} s"));
    }
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    SendError::passing(format!("the receiver could not be reached: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_ask_to_wait_in_seconds_or_until_a_date() {
        let now = UnixMs::parse("now", "2026-11-28T10:00:00Z").unwrap();
        for (text, ms) in [
            ("7", Some(7_000)),
            ("Sat, 28 Nov 2026 10:00:20 GMT", Some(20_000)),
            ("Sat, 28 Nov 2026 09:00:00 GMT", None),
            ("0", None),
            ("99999999", Some(MAX_WAIT_MS)),
            ("soon", None),
            ("-5", None),
        ] {
            assert_eq!(retry_after(text, now), ms, "{text}");
        }
        assert!(is_asked_to_wait(StatusCode::SERVICE_UNAVAILABLE));
        assert!(!is_asked_to_wait(StatusCode::GONE));
    }

    /// The example from the reference libraries of Standard Webhooks.
    #[test]
    fn signatures_match_the_standard_webhooks_example() {
        assert_eq!(
            signature(
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
            )
            .unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(signature("plain", "id", 0, ""), None);
    }

    #[tokio::test]
    async fn a_private_address_is_refused_and_a_literal_one_fails_permanently() {
        let webhook = Webhook::new(false, thrum_schema::world::SystemWorld::arc());
        let message = Message {
            json: serde_json::json!({}),
            subject: String::new(),
            text: String::new(),
            sms: String::new(),
            sns_subject: String::new(),
        };
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for (url, permanent) in [
            ("http://localhost:9/", false),
            ("http://127.0.0.1:9/", true),
            ("http://[::1]:9/", true),
        ] {
            let error = webhook
                .send(ProjectId::FIRST, (url, secret), "key", &message)
                .await
                .unwrap_err();
            assert_eq!(error.permanent, permanent, "{error}");
            assert!(error.reason.contains("private"), "{error}");
        }
    }
}
