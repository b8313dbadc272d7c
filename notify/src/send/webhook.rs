//! Webhooks, as <https://www.standardwebhooks.com> has them: signed, without redirects, and never to a private
//! address.

use super::SendError;
use crate::message::Message;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use hmac::{Hmac, Mac};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, StatusCode, redirect};
use sha2::Sha256;
use std::error::Error;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thrum_schema::World;
use thrum_schema::channel::{check_webhook_url, is_public};

/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A signed request on its way to a receiver.
#[derive(Debug, Clone, Copy)]
pub struct Posted<'a> {
    /// Where it goes.
    pub url: &'a str,
    /// The idempotency key, the same at every attempt.
    pub id: &'a str,
    /// When it was signed, in epoch seconds.
    pub timestamp: i64,
    /// Its signature.
    pub signature: &'a str,
    /// JSON.
    pub body: &'a str,
}

/// The way of a webhook to its receiver.
pub trait Post: Send + Sync + Debug {
    /// Posts it and waits for the answer's status, 10 s at the most.
    fn post<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Result<StatusCode, SendError>>;
}

/// Signs webhooks, and judges what receivers say.
#[derive(Debug)]
pub struct Webhook {
    way: Box<dyn Post>,
    allow_private: bool,
    world: Arc<dyn World>,
}

impl Webhook {
    /// A sender over HTTP. Private addresses are refused where a name is resolved, so that no name can lead there, unless
    /// `allow_private`.
    pub fn new(allow_private: bool, world: Arc<dyn World>) -> Self {
        let way = Http {
            client: OnceLock::new(),
            allow_private,
        };
        Self {
            way: Box::new(way),
            allow_private,
            world,
        }
    }

    /// A sender by a way of the caller's, which may lead to private addresses.
    pub fn by(way: impl Post + 'static, world: Arc<dyn World>) -> Self {
        Self {
            way: Box::new(way),
            allow_private: true,
            world,
        }
    }

    pub(super) async fn send(
        &self,
        url: &str,
        secret: &str,
        key: &str,
        message: &Message,
    ) -> Result<Option<String>, SendError> {
        check_webhook_url("url", url, self.allow_private)
            .map_err(|invalid| SendError::permanent(invalid.to_string()))?;
        let body = message.json.to_string();
        let timestamp = self.world.now().secs();
        let signature = signature(secret, key, timestamp, &body)
            .ok_or_else(|| SendError::permanent("the channel's secret is not base64"))?;
        let posted = Posted {
            url,
            id: key,
            timestamp,
            signature: &signature,
            body: &body,
        };
        let status = self.way.post(posted).await?;
        if status.is_success() {
            Ok(Some(status.to_string()))
        } else if status == StatusCode::GONE {
            Err(SendError::permanent(
                "the receiver answered 410 Gone: it wants no more",
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

/// HTTP: without redirects and proxies.
#[derive(Debug)]
struct Http {
    /// Made when it is first needed: it reads the system's certificates, and a cold start need not.
    client: OnceLock<Client>,
    allow_private: bool,
}

impl Http {
    fn client(&self) -> Result<&Client, SendError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        thrum_store::tls::install();
        let mut client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("Thrum/", env!("CARGO_PKG_VERSION")));
        if !self.allow_private {
            client = client.dns_resolver(Arc::new(PublicOnly));
        }
        let client = client.build().map_err(|error| {
            tracing::error!(%error, "no HTTP client can be made");
            SendError::passing("webhooks can't be sent from here now")
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
            sent.map(|answer| answer.status()).map_err(failure)
        })
    }
}

/// The `webhook-signature` of a body: `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`. `None` if the secret
/// is not `whsec_` and base64.
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

/// What went wrong, without the URL, which may be a secret: the innermost cause says it best.
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

/// A name leads to addresses that are not public. A resolver that fails may say so for a while, so this passes as any failure to
/// reach a receiver does; addresses that are written out are refused for good.
#[derive(Debug, thiserror::Error)]
#[error(
    "the URL's name leads to a private address; only `thrum serve --allow-private-webhooks` allows it"
)]
struct PrivateAddress;

/// Resolves names to their public addresses alone.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (public, private): (Vec<_>, Vec<_>) =
                found.partition(|address| is_public(address.ip()));
            if public.is_empty() && !private.is_empty() {
                return Err(PrivateAddress.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn signatures_are_standard() {
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
    async fn a_private_address_is_never_sent_to_and_given_up_at_once_if_it_is_written_out() {
        let webhook = Webhook::new(false, thrum_schema::world::SystemWorld::arc());
        let message = Message {
            json: serde_json::json!({}),
            subject: String::new(),
            text: String::new(),
            sms: String::new(),
        };
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for (url, permanent) in [
            ("http://localhost:9/", false),
            ("http://127.0.0.1:9/", true),
            ("http://[::1]:9/", true),
        ] {
            let error = webhook
                .send(url, secret, "key", &message)
                .await
                .unwrap_err();
            assert_eq!(error.permanent, permanent, "{error}");
            assert!(error.reason.contains("private"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_refused() {
        let error = match PublicOnly.resolve("localhost".parse().unwrap()).await {
            Ok(_) => panic!("localhost was resolved"),
            Err(error) => error,
        };
        assert!(error.to_string().contains("private"));
    }
}
