//! The rate limit headers: what is left of a key's quota.

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::time::secs_to_wait;
use thrum_store::Balance;

/// Carries the balance of a request's key to its response.
#[derive(Debug, Clone, Default)]
pub struct BalanceSlot(Arc<Mutex<Option<Balance>>>);

impl BalanceSlot {
    /// The slot of a request.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_default()
    }

    /// Sets the balance.
    pub fn note(&self, balance: Option<Balance>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = balance;
    }

    fn balance(&self) -> Option<Balance> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the rate limit headers to every metered response: with the names of the IETF draft, and
/// with the `X-` names that many clients still read.
pub async fn headers(mut request: Request, next: Next) -> Response {
    let slot = BalanceSlot::default();
    request.extensions_mut().insert(slot.clone());
    let mut response = next.run(request).await;
    if let Some(balance) = slot.balance() {
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
