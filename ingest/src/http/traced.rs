//! The trace of a request.

use super::observe::is_heartbeat;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request};
use axum::response::Response;
use std::convert::Infallible;
use thrum_store::trace::{self, Trace};
use tower::ServiceExt;

/// The header of a reply with the ID of its trace.
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// Answers a request within `trace`, and names the trace in the reply. Replies to accepted heartbeats omit it: at a
/// million monitors, the header would add terabytes, and clients ignore it.
pub async fn traced(router: Router, request: Request<Body>, trace: Trace) -> Response {
    let quiet = is_heartbeat(request.uri().path());
    let id = trace.id();
    let answered = trace::within(trace, router.oneshot(request)).await;
    let mut response = match answered {
        Ok(response) => response,
        Err::<_, Infallible>(never) => match never {},
    };
    if !(quiet && response.status().is_success()) {
        let id = HeaderValue::try_from(id.to_string()).expect("it is hex digits and hyphens");
        response.headers_mut().insert(TRACE_ID, id);
    }
    response
}
