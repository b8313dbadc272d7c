//! Every route. The routes of the API come from
//! [`openapi::operations`](crate::openapi::operations): each handler's `#[utoipa::path]` states its
//! path and method.

use crate::api::compat::{badges, management, others, ping, prometheus, sns};
use crate::api::v1::heartbeats;
use crate::app::App;
use crate::dashboard;
use crate::http::{Problem, headers, metering, observe, peer};
use crate::openapi;
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The HTTP service. Lambda and `thrum serve` serve it; tests call it without a socket.
pub fn router(app: App) -> Router {
    Router::new()
        // The compatible APIs. Their handlers parse the paths themselves, as the original does.
        .route("/ping/{*rest}", any(ping::ping))
        .route("/api/push/{token}", any(others::push))
        .route("/v2/heartbeats/{name}/ping", any(others::opsgenie))
        .route("/hooks/alerts/{key}", post(others::alerts))
        .route("/hooks/sns/{key}", post(sns::messages))
        .route("/api/{*rest}", any(management::api))
        .route("/badge/{*path}", any(badges::of_tag))
        .route("/b/{states}/{badge}", any(badges::of_monitor))
        .route("/projects/{project}/metrics", get(prometheus::by_header))
        // The predecessor's clients misspell this path.
        .route("/v1/hearbeat", post(heartbeats::legacy))
        // Thrum's own API.
        .merge(openapi::operations())
        .route("/openapi.json", get(openapi::get))
        .route("/strategy.schema.json", get(openapi::strategy_schema))
        // Pages.
        .merge(dashboard::routes(app.clone()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(headers::guard))
        .layer(from_fn_with_state(app.clone(), metering::meter))
        .layer(from_fn_with_state(app.clone(), observe::observe))
        .layer(from_fn_with_state(app.clone(), peer::identify))
        .with_state(app)
}

/// A page for browsers, problem details for all other clients.
async fn not_found(headers: HeaderMap) -> Response {
    let problem = Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path");
    let accepts = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    if accepts.is_some_and(|accepts| accepts.starts_with(b"text/html")) {
        dashboard::not_found(&problem)
    } else {
        problem.into_response()
    }
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not support this method; the Allow header lists the methods that it supports",
    )
}

/// Handlers should not panic. If one does, only its request fails, and the reply reveals nothing.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal error; the details are in Thrum's log",
    )
    .into_response()
}
