//! The operator's metrics about requests.

use crate::app::App;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use thrum_schema::metrics::{Count, Span};

/// Records how long a request took, and whether a quota or rate limit refused it.
pub async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = app.store.world().now();
    let response = next.run(request).await;
    let metrics = app.store.metrics();
    metrics.observe(Span::Latency, app.store.world().now() - started);
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        metrics.count(Count::Refused, 1);
    }
    response
}
