//! What Thrum notices about requests: the operator's metrics, and heartbeats that it refuses for no
//! fault of their senders.

use crate::app::App;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use thrum_schema::metrics::{Count, Sample};

/// Records how long a request took, whether Thrum failed to answer it, whether a quota or rate limit
/// refused it, and whether Thrum failed to take a heartbeat.
pub async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = app.store.world().steady_ms();
    let is_heartbeat = is_heartbeat(request.uri().path());
    let response = next.run(request).await;
    let metrics = app.store.metrics();
    metrics.observe(Sample::Latency, app.store.world().steady_ms() - started);
    let status = response.status();
    let failed = i64::from(status.is_server_error());
    metrics.observe(Sample::ServerErrors, failed);
    if status == StatusCode::TOO_MANY_REQUESTS {
        metrics.count(Count::Refused, 1);
    }
    // What anyone can cause without a key or a ping URL does not count, in either direction.
    let refused = status.is_server_error();
    if is_heartbeat && (refused || status.is_success()) {
        app.refusals.count(&app.store, refused).await;
    }
    response
}

/// Whether a request to `path` is a heartbeat, in the forms that count.
pub(super) fn is_heartbeat(path: &str) -> bool {
    path.starts_with("/ping/") || path == "/v1/heartbeats"
}
