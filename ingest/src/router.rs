//! Every route, in one table.

use crate::app::App;
use crate::problem::Problem;
use crate::{alerts, channels, health, heartbeats, keys, monitors, ping};
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The HTTP service: served by Lambda and by `thrum serve` alike, and called without a socket by tests.
pub fn router(app: App) -> Router {
    Router::new()
        // The pinging API of existing clients; errors are plain text.
        .route("/ping/{*rest}", any(ping::ping))
        // Our own API; errors are problem+json.
        .route("/v1/heartbeats", post(heartbeats::post))
        .route("/v1/heartbeat", post(heartbeats::legacy))
        .route("/v1/hearbeat", post(heartbeats::legacy))
        .route("/v1/monitors", get(monitors::list))
        .route("/v1/monitors/{id}", get(monitors::get))
        .route("/v1/channels", get(channels::list).post(channels::create))
        .route(
            "/v1/channels/{id}",
            get(channels::get)
                .patch(channels::update)
                .delete(channels::delete),
        )
        .route("/v1/channels/{id}/test", post(channels::test))
        .route("/v1/alerts", get(alerts::list))
        .route("/v1/alerts/{id}/redeliver", post(alerts::redeliver))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", delete(keys::revoke))
        .route("/v1/status", get(health::status))
        .route("/health", get(health::health))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(app)
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take this method; the Allow header says which it takes",
    )
}

/// Nothing should panic; if something does, the request fails alone and says nothing of the inside.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "an internal error; it is logged",
    )
    .into_response()
}
