//! Requests to receivers: without redirects, never to a private address, and bounded in time and size.

mod names;

pub use names::Lookup;

use crate::error::SendError;
use chrono::DateTime;
use futures::future::BoxFuture;
use names::{Names, System};
use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;
use std::error::Error;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thrum_schema::channel::check_webhook_url;
use thrum_schema::network::Networks;
use thrum_schema::time::secs_to_wait;
use thrum_schema::{ProjectId, UnixMs, World};

/// The longest wait that a receiver can ask for, in milliseconds.
const MAX_WAIT_MS: i64 = 86_400_000;
/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer is read, in bytes.
const MAX_ANSWER: usize = 16_384;

/// A request to a receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// The URL, which may be a secret.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Call {
    /// A POST of JSON.
    pub fn json(url: impl Into<String>, body: &Value) -> Self {
        Self {
            method: "POST",
            url: url.into(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    /// The same with another header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Its `Retry-After`.
    pub retry_after: Option<String>,
    /// The start of its body.
    pub body: String,
}

impl Answer {
    /// An answer that is only a status.
    pub const fn of(status: StatusCode) -> Self {
        Self {
            status,
            retry_after: None,
            body: String::new(),
        }
    }

    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Carries requests: over HTTP, or within a test.
pub trait Transport: Send + Sync + Debug {
    /// Carries a request and waits for the answer, at most 10 s.
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, SendError>>;
}

/// Where requests may go, and how.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Private networks that they may reach.
    pub networks: Networks,
    /// The URL of a proxy that carries all of them. It then looks up the names, and must itself keep
    /// requests from private addresses.
    pub proxy: Option<String>,
}

impl Reach {
    /// Anywhere, directly.
    pub fn anywhere() -> Self {
        Self {
            networks: Networks::all(),
            proxy: None,
        }
    }
}

/// Calls receivers.
#[derive(Debug)]
pub struct Http {
    transport: Box<dyn Transport>,
    /// `None` if a proxy looks up names.
    names: Option<Names>,
    networks: Networks,
    world: Arc<dyn World>,
}

impl Http {
    /// Calls over the network. Private addresses that `reach` does not name are refused when a name
    /// is resolved, so no name can lead to one.
    pub fn new(reach: Reach, world: Arc<dyn World>) -> Self {
        let Reach { networks, proxy } = reach;
        let names = proxy
            .is_none()
            .then(|| Names::new(Arc::new(System), networks.clone()));
        let transport = Network {
            client: OnceLock::new(),
            names: names.clone(),
            proxy,
        };
        Self {
            transport: Box::new(transport),
            names,
            networks,
            world,
        }
    }

    /// Calls through the caller's `transport` and `lookup`, to private addresses too.
    pub fn by(
        transport: impl Transport + 'static,
        lookup: Arc<dyn Lookup>,
        world: Arc<dyn World>,
    ) -> Self {
        let networks = Networks::all();
        Self {
            transport: Box::new(transport),
            names: Some(Names::new(lookup, networks.clone())),
            networks,
            world,
        }
    }

    /// The current time.
    pub fn now(&self) -> UnixMs {
        self.world.now()
    }

    /// Sends a request for a channel of `project`.
    ///
    /// # Errors
    /// The URL is not allowed, or there was no answer; the receiver may still have the request.
    pub async fn call(&self, project: ProjectId, call: &Call) -> Result<Answer, SendError> {
        check_webhook_url("url", &call.url, &self.networks)
            .map_err(|invalid| SendError::permanent(invalid.to_string()))?;
        if let (Some(names), Some(host)) = (&self.names, host_name(&call.url)) {
            names.find(project, &host).await?;
        }
        self.transport.call(call).await
    }
}

/// Calls over HTTP, without redirects.
#[derive(Debug)]
struct Network {
    /// Created when first needed: it reads the system's certificates, which would slow down cold
    /// starts.
    client: OnceLock<Client>,
    names: Option<Names>,
    proxy: Option<String>,
}

impl Network {
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
        if let Some(names) = &self.names {
            client = client.dns_resolver(Arc::new(names.clone()));
        }
        let proxy = self.proxy.as_ref().map(reqwest::Proxy::all).transpose();
        let client = proxy.and_then(|proxy| match proxy {
            Some(proxy) => client.proxy(proxy).build(),
            None => client.build(),
        });
        let client = client.map_err(|error| {
            tracing::error!(%error, "could not create the HTTP client");
            SendError::passing("Thrum can't send over HTTP now; its log says why")
        })?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl Transport for Network {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            let method = call.method.parse().unwrap_or(reqwest::Method::POST);
            let mut request = self.client()?.request(method, &call.url);
            for (name, value) in &call.headers {
                request = request.header(name, value);
            }
            let sent = request.body(call.body.clone()).send().await;
            let mut answer = sent.map_err(failure)?;
            let retry_after = answer.headers().get("retry-after");
            let retry_after = retry_after.and_then(|value| value.to_str().ok());
            let retry_after = retry_after.map(str::to_owned);
            let status = answer.status();
            let mut body = Vec::new();
            // The status decides; a body that does not arrive is only a worse explanation.
            while let Ok(Some(chunk)) = answer.chunk().await {
                body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
                if body.len() == MAX_ANSWER {
                    break;
                }
            }
            Ok(Answer {
                status,
                retry_after,
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        })
    }
}

/// The error of a failure that passes, with the wait that the receiver asks for: `own_ms` from its
/// answer, or its `Retry-After`.
pub fn busy(answer: &Answer, own_ms: Option<i64>, now: UnixMs) -> SendError {
    let header = answer.retry_after.as_deref();
    let wait_ms = own_ms
        .into_iter()
        .chain(header.and_then(|text| retry_after(text, now)));
    let wait_ms = wait_ms.max().unwrap_or(0).clamp(0, MAX_WAIT_MS);
    let status = answer.status;
    let reason = if wait_ms > 0 {
        format!(
            "the receiver answered {status}, and asks to wait {} s",
            secs_to_wait(wait_ms)
        )
    } else {
        format!("the receiver answered {status}")
    };
    SendError {
        wait_ms,
        ..SendError::passing(reason)
    }
}

/// Whether a status is one of a failure that passes by itself.
pub fn passes(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 421 | 423 | 425 | 429)
}

/// The wait that a receiver asks for, in milliseconds: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(text: &str, now: UnixMs) -> Option<i64> {
    let text = text.trim();
    let ms = match text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
        Ok(seconds) => (seconds * 1000.0).ceil() as i64,
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
            ("0.25", Some(250)),
            ("Sat, 28 Nov 2026 10:00:20 GMT", Some(20_000)),
            ("Sat, 28 Nov 2026 09:00:00 GMT", None),
            ("0", None),
            ("99999999", Some(MAX_WAIT_MS)),
            ("1e300", Some(MAX_WAIT_MS)),
            ("NaN", None),
            ("soon", None),
            ("-5", None),
        ] {
            assert_eq!(retry_after(text, now), ms, "{text}");
        }
    }

    #[test]
    fn the_longer_wait_counts() {
        let now = UnixMs(0);
        let mut answer = Answer::of(StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(busy(&answer, None, now).wait_ms, 0);
        answer.retry_after = Some("7".to_owned());
        assert_eq!(busy(&answer, Some(9_000), now).wait_ms, 9_000);
        assert_eq!(busy(&answer, Some(1), now).wait_ms, 7_000);
        assert_eq!(busy(&answer, Some(i64::MAX), now).wait_ms, MAX_WAIT_MS);
    }

    #[tokio::test]
    async fn a_private_address_is_refused_and_a_literal_one_fails_permanently() {
        let http = Http::new(Reach::default(), thrum_schema::world::SystemWorld::arc());
        for (url, permanent) in [
            ("http://localhost:9/", false),
            ("http://127.0.0.1:9/", true),
            ("http://[::1]:9/", true),
        ] {
            let call = Call::json(url, &Value::Null);
            let error = http.call(ProjectId::FIRST, &call).await.unwrap_err();
            assert_eq!(error.permanent, permanent, "{error}");
            assert!(error.reason.contains("private"), "{error}");
        }
    }
}
