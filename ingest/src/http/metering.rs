//! What a request is charged: the rate limit headers show what is left of a key's quota, and
//! refused requests, which the quota does not count, have a limit of their own.

use crate::app::App;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::key::ApiKey;
use thrum_schema::time::secs_to_wait;
use thrum_store::Balance;

/// How many bytes of a refused body count as one more refusal.
const REFUSAL_BYTES: usize = 64 * 1024;

/// Carries what is known about the charge of a request to its response.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    /// Who sent it.
    key: Option<ApiKey>,
    /// What is left of the key's quota.
    balance: Option<Balance>,
    /// The length of the body.
    bytes: usize,
}

impl Meter {
    /// The meter of a request.
    pub fn of(parts: &Parts) -> Self {
        Self::in_extensions(&parts.extensions)
    }

    /// The meter of the request with these extensions.
    pub fn in_extensions(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Sets the sender.
    pub fn note_key(&self, key: &ApiKey) {
        self.with(|noted| noted.key = Some(key.clone()));
    }

    /// Sets the balance.
    pub fn note(&self, balance: Option<Balance>) {
        self.with(|noted| noted.balance = balance);
    }

    /// Sets the length of the body.
    pub fn note_bytes(&self, bytes: usize) {
        self.with(|noted| noted.bytes = bytes);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Noted) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds the rate limit headers to every metered response: with the names of the IETF draft, and
/// with the `X-` names that many clients still read. Charges refusals.
pub async fn meter(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let meter = Meter::default();
    request.extensions_mut().insert(meter.clone());
    let mut response = next.run(request).await;
    let (key, balance, bytes) = meter.with(|noted| (noted.key.take(), noted.balance, noted.bytes));
    if let (Some(key), true) = (key, is_refusal(response.status())) {
        let cost = 1 + bytes / REFUSAL_BYTES;
        app.accounts.count_refusal(&key, cost).await;
    }
    if let Some(balance) = balance {
        let values = [
            ("limit", balance.limit),
            ("remaining", balance.remaining),
            ("reset", secs_to_wait(balance.reset_ms)),
        ];
        for (name, value) in values {
            for prefix in ["ratelimit", "x-ratelimit"] {
                let name = HeaderName::try_from(format!("{prefix}-{name}"));
                if let Ok(name) = name {
                    let value = HeaderValue::from(value);
                    response.headers_mut().insert(name, value);
                }
            }
        }
    }
    response
}

/// Whether a request was refused for what the sender did. One over a limit costs nothing to refuse.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS
}
