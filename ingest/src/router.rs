//! Every route, in one table.

use crate::app::App;
use crate::observe::observe;
use crate::problem::Problem;
use crate::signals::{backtests, history, requests, series, strategies, watches};
use crate::{
    alerts, badges, channels, dashboard, health, heartbeats, keys, management, meter, monitors,
    openapi, ping, projects, prometheus, usage,
};
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
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
        // What existing clients speak: pings in plain text, checks in the words of the management API.
        .route("/ping/{*rest}", any(ping::ping))
        .route("/api/{*rest}", any(management::api))
        .route("/badge/{*path}", any(badges::of_tag))
        .route("/b/{states}/{badge}", any(badges::of_monitor))
        .route("/projects/{project}/metrics", get(prometheus::by_header))
        .route("/projects/{project}/metrics/", get(prometheus::by_header))
        .route("/projects/{project}/metrics/{key}", get(prometheus::by_url))
        // Our own API; errors are problem+json.
        .route("/v1/heartbeats", post(heartbeats::post))
        .route("/v1/heartbeat", post(heartbeats::legacy))
        .route("/v1/hearbeat", post(heartbeats::legacy))
        .route("/v1/monitors", get(monitors::list).post(monitors::create))
        .route(
            "/v1/monitors/{id}",
            get(monitors::get)
                .patch(monitors::update)
                .delete(monitors::delete),
        )
        .route("/v1/monitors/{id}/pause", post(monitors::pause))
        .route("/v1/monitors/{id}/resume", post(monitors::resume))
        .route(
            "/v1/monitors/{id}/snooze",
            post(monitors::snooze).delete(monitors::end_snooze),
        )
        .route("/v1/monitors/{id}/uptime", get(monitors::get_uptime))
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
        .route("/v1/keys/{id}/rotate", post(keys::rotate))
        .route(
            "/v1/ping-key",
            post(keys::rotate_ping_key).delete(keys::delete_ping_key),
        )
        .route(
            "/v1/project",
            get(projects::get_own).patch(projects::update_own),
        )
        .route(
            "/v1/project/snooze",
            post(projects::snooze).delete(projects::end_snooze),
        )
        .route("/v1/project/badge-key", post(projects::rotate_badge_key))
        .route("/v1/usage", get(usage::get))
        .route("/v1/series", get(series::list))
        .route(
            "/v1/series/{series}/bars",
            get(series::get_bars).post(series::post_bars),
        )
        .route("/v1/series/{series}/values", post(series::post_values))
        .route(
            "/v1/series/{series}/sentiment",
            post(series::post_sentiment),
        )
        .route("/v1/series/{series}/signal", get(history::latest))
        .route("/v1/series/{series}/signals", get(history::history))
        .route("/v1/signals", post(requests::post))
        .route("/v1/signals/{id}", get(requests::get))
        .route("/v1/backtests", post(backtests::post))
        .route("/v1/backtests/{id}", get(backtests::get))
        .route("/v1/strategies", get(strategies::list))
        .route(
            "/v1/strategies/{name}",
            get(strategies::get)
                .put(strategies::put)
                .delete(strategies::delete),
        )
        .route("/v1/watches", get(watches::list).post(watches::create))
        .route(
            "/v1/watches/{id}",
            get(watches::get)
                .patch(watches::update)
                .delete(watches::delete),
        )
        // For who runs the installation.
        .route("/v1/projects", get(projects::list).post(projects::create))
        .route(
            "/v1/projects/{id}",
            get(projects::get)
                .patch(projects::update)
                .delete(projects::delete),
        )
        .route("/v1/projects/{id}/keys", post(projects::create_key))
        // Pages for people.
        .merge(dashboard::routes())
        // For everybody.
        .route("/v1/status", get(health::status))
        .route("/health", get(health::health))
        .route("/openapi.json", get(openapi::get))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(meter::headers))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// A page for browsers, a problem for everybody else.
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
