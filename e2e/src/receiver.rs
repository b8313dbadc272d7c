//! A real HTTP server that receives webhooks.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// A webhook that was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its `webhook-id`.
    pub id: String,
    /// Its `webhook-timestamp`.
    pub timestamp: String,
    /// Its `webhook-signature`.
    pub signature: String,
    /// Its raw body.
    pub raw: String,
    /// Its body as JSON; null if it is not JSON.
    pub body: Value,
    /// When it arrived.
    pub at: Instant,
    /// The status that was returned.
    pub answered: u16,
}

impl Received {
    /// The monitor name and `status` of each change that it contains, in order.
    pub fn changes(&self) -> Vec<(String, String)> {
        let data = &self.body["data"];
        let changes = match &data["changes"] {
            Value::Array(changes) => changes.clone(),
            _ => vec![data.clone()],
        };
        changes
            .iter()
            .map(|change| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (text(&change["monitor"]["name"]), text(&change["status"]))
            })
            .collect()
    }
}

#[derive(Debug, Default)]
struct Inner {
    received: Mutex<Vec<Received>>,
    status: Mutex<u16>,
    delay: Mutex<Duration>,
}

/// Receives webhooks on its own port.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// Where it listens.
    pub url: String,
    inner: Arc<Inner>,
}

impl Receiver {
    /// A receiver that answers 200 immediately.
    pub async fn start() -> Self {
        let inner = Arc::new(Inner::default());
        *inner.status.lock().expect("not poisoned") = 200;
        let app = Router::new()
            .route("/hook", post(receive))
            .with_state(Arc::clone(&inner));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, inner }
    }

    /// Answers with `status` from now on.
    pub fn answer(&self, status: u16) {
        *self.inner.status.lock().expect("not poisoned") = status;
    }

    /// Delays each response by `delay` from now on.
    pub fn delay(&self, delay: Duration) {
        *self.inner.delay.lock().expect("not poisoned") = delay;
    }

    /// All webhooks received so far.
    pub fn received(&self) -> Vec<Received> {
        self.inner.received.lock().expect("not poisoned").clone()
    }

    /// The webhooks that were answered with a success status so far.
    pub fn taken(&self) -> Vec<Received> {
        let mut received = self.received();
        received.retain(|received| (200..300).contains(&received.answered));
        received
    }

    /// Waits until `count` webhooks were answered with success, for at most `patience`; returns
    /// them.
    pub async fn wait_for(&self, count: usize, patience: Duration) -> Vec<Received> {
        let started = Instant::now();
        while self.taken().len() < count && started.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.taken()
    }
}

async fn receive(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let status = *inner.status.lock().expect("not poisoned");
    let delay = *inner.delay.lock().expect("not poisoned");
    let raw = String::from_utf8_lossy(&body).into_owned();
    inner.received.lock().expect("not poisoned").push(Received {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body: serde_json::from_str(&raw).unwrap_or_default(),
        raw,
        at: Instant::now(),
        answered: status,
    });
    tokio::time::sleep(delay).await;
    StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
}
