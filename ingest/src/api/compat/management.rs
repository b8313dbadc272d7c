//! The management API of existing clients, versions 1, 2 and 3, with the same texts, status codes
//! and quirks. docs/compatibility.md §3.

mod check;
mod endpoints;
mod log;
mod route;
mod spec;

pub use endpoints::*;
pub use spec::CheckRequest;

use crate::app::App;
use crate::http::Caller;
use crate::http::Problem;
use crate::http::body::{LARGE, parse, whole};
use crate::http::site::Site;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use route::{Endpoint, Ref, Routed};
use serde_json::{Map, Value};
use thrum_schema::ProjectId;
use thrum_schema::key::{API_KEY_LEN, Scope};
use thrum_store::StoreError;

/// An error, in this API's own format.
#[derive(Debug)]
pub enum Refusal {
    /// `{"error": …}`.
    Error(StatusCode, String),
    /// Only a status.
    Empty(StatusCode),
    /// A line of text.
    Text(StatusCode, &'static str),
    /// Over a quota or rate limit, or the table failed.
    Problem(Box<Problem>),
}

impl Refusal {
    fn bad(problem: impl Into<String>) -> Self {
        Self::Error(StatusCode::BAD_REQUEST, problem.into())
    }

    fn invalid(problem: &str) -> Self {
        Self::bad(format!("json validation error: {problem}"))
    }

    fn unauthorized(problem: &str) -> Self {
        Self::Error(StatusCode::UNAUTHORIZED, problem.to_owned())
    }

    fn not_found() -> Self {
        Self::Error(StatusCode::NOT_FOUND, "not found".to_owned())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Problem(Box::new(error.into()))
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Error(status, error) => (status, axum::Json(ApiError { error })).into_response(),
            Self::Empty(status) => (status, Body::empty()).into_response(),
            Self::Text(status, text) => (status, text).into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

/// An authenticated call.
struct Call<'a> {
    app: &'a App,
    site: Site,
    version: u8,
    caller: Caller,
    /// The fields of the body; empty if there is no body.
    body: Map<String, Value>,
    query: String,
    uri: Uri,
}

impl Call<'_> {
    fn project(&self) -> ProjectId {
        self.caller.key.project
    }

    fn writes(&self) -> bool {
        self.caller.key.scope == Scope::Write
    }
}

/// Handles `/api/…`: routes, authenticates and calls, and adds CORS headers.
pub async fn api(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path();
    let Some(routed) = route::parse(path.strip_prefix("/api/").unwrap_or_default()) else {
        return Refusal::not_found().into_response();
    };
    let methods = routed.endpoint.methods();
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else if !methods.contains(request.method()) {
        StatusCode::METHOD_NOT_ALLOWED.into_response()
    } else {
        let called = call(&app, routed, request).await;
        called.unwrap_or_else(IntoResponse::into_response)
    };
    let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allowed = HeaderValue::try_from(allowed.join(", ")).expect("methods are ASCII");
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, allowed.clone());
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("X-Api-Key"),
        ),
        (header::ACCESS_CONTROL_ALLOW_METHODS, allowed),
        (
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("600"),
        ),
    ] {
        headers.insert(name, value);
    }
    response
}

async fn call(app: &App, routed: Routed, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    match routed.endpoint {
        Endpoint::Status => return status(app).await,
        Endpoint::Metrics => return metrics(app, &parts.headers).await,
        Endpoint::NotificationStatus | Endpoint::Bounces => return Ok(callback()),
        _ => {}
    }
    let posted = parts.method == Method::POST;
    let (caller, body) = match parts.headers.get("x-api-key") {
        Some(key) => {
            let caller = authenticate(app, &parts, key.to_str().unwrap_or_default()).await?;
            let body = if posted {
                fields(&caller, body).await?
            } else {
                Map::new()
            };
            (caller, body)
        }
        None => {
            let body = if posted {
                anonymous_fields(body).await?
            } else {
                Map::new()
            };
            let key = body.get("api_key").and_then(Value::as_str);
            let caller = authenticate(app, &parts, key.unwrap_or_default()).await?;
            (caller, body)
        }
    };
    let call = Call {
        app,
        site: Site::of(app, &parts.headers, &parts.uri),
        version: routed.version,
        caller,
        body,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        uri: parts.uri,
    };
    let reads = !posted && parts.method != Method::DELETE;
    let for_readers = reads
        && matches!(
            routed.endpoint,
            Endpoint::Checks | Endpoint::Check(_) | Endpoint::Flips(_) | Endpoint::Badges
        );
    let may_read = for_readers && call.caller.key.scope.reads();
    if !call.writes() && !may_read {
        return Err(Refusal::unauthorized("wrong api key"));
    }
    match (routed.endpoint, parts.method) {
        (Endpoint::Checks, Method::POST) => create_check(&call).await,
        (Endpoint::Checks, _) => list_checks(&call).await,
        (Endpoint::Check(Ref::Id(id)), Method::POST) => update_check(&call, id).await,
        (Endpoint::Check(Ref::Id(id)), Method::DELETE) => delete_check(&call, id).await,
        (Endpoint::Check(check), _) => get_check(&call, check).await,
        (Endpoint::Pause(id), _) => pause_check(&call, id).await,
        (Endpoint::Resume(id), _) => resume_check(&call, id).await,
        (Endpoint::Pings(id), _) => list_pings(&call, id).await,
        (Endpoint::PingBody(id, n), _) => get_ping_body(&call, id, n).await,
        (Endpoint::Flips(check), _) => list_flips(&call, check).await,
        (Endpoint::Channels, _) => list_channels(&call).await,
        (Endpoint::Badges, _) => list_badges(&call).await,
        (
            Endpoint::Status | Endpoint::Metrics | Endpoint::NotificationStatus | Endpoint::Bounces,
            _,
        ) => Err(Refusal::not_found()),
    }
}

/// The fields of a POST's body; none if the body is empty.
async fn fields(caller: &Caller, body: Body) -> Result<Map<String, Value>, Refusal> {
    let (bytes, _room) = match whole(body).await {
        Ok(read) => read,
        Err(problem) if problem.status().is_server_error() => return Err(problem.into()),
        Err(_) => return Err(unreadable()),
    };
    caller.meter.note_bytes(bytes.len());
    let parsed = parse(bytes, |bytes| Ok(fields_in(&bytes))).await;
    parsed.map_err(Refusal::from)?
}

/// The fields of a POST's body that must contain the API key. The sender is not known yet, so
/// it may not be large.
async fn anonymous_fields(body: Body) -> Result<Map<String, Value>, Refusal> {
    let read = Limited::new(body, LARGE).collect().await;
    fields_in(&read.map_err(|_| unreadable())?.to_bytes())
}

fn fields_in(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Refusal::invalid("value is not an object")),
        Err(_) => Err(unreadable()),
    }
}

fn unreadable() -> Refusal {
    Refusal::bad("could not parse request body")
}

/// The caller with the key `given`, from the header or from the field `api_key` of a POST's body.
async fn authenticate(app: &App, parts: &Parts, given: &str) -> Result<Caller, Refusal> {
    if given.chars().count() != API_KEY_LEN {
        return Err(Refusal::unauthorized("missing api key"));
    }
    let caller = Caller::of_key(app, given, parts).await?;
    caller.ok_or_else(|| Refusal::unauthorized("wrong api key"))
}
