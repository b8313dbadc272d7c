//! The pinging API of existing clients, with plain-text responses. docs/compatibility.md §1.

mod route;

use super::badges::NEVER_CACHED;
use crate::app::App;
use crate::http::body::first_bytes;
use crate::http::peer::{remote_addr, scheme, user_agent};
use crate::services::monitors::{By, Incoming, RecordError, Recorded};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
pub use route::Refused;
use route::Target;
use std::borrow::Cow;
use thrum_schema::PingKind;
use thrum_schema::ping::{Ping, first_part, parse_metric};
use thrum_schema::time::secs_to_wait;
use thrum_store::Rules;
use thrum_store::StoreError;
use uuid::Uuid;

/// Handles a ping. Every method counts as a ping except OPTIONS, which is a CORS preflight.
pub async fn ping(State(app): State<App>, request: Request) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let mut response = match receive(&app, request).await {
        Ok((recorded, warnings)) => {
            let (status, text) = match recorded.created {
                true => (StatusCode::CREATED, "Created"),
                false => (StatusCode::OK, "OK"),
            };
            let mut text = text.to_owned();
            for warning in warnings {
                text += "; ";
                text += &warning;
            }
            (status, text).into_response()
        }
        Err(refused) => {
            let mut response = (refused.status(), refused.to_string()).into_response();
            let wait_s = match refused {
                Refused::TooMany(wait_s) => Some(wait_s),
                Refused::Unavailable(wait_s) => Some(wait_s),
                _ => None,
            };
            if let Some(wait_s) = wait_s {
                let headers = response.headers_mut();
                headers.insert(header::RETRY_AFTER, wait_s.into());
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("ping-body-limit"),
        app.config.body_limit.into(),
    );
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CACHE_CONTROL, NEVER_CACHED),
        (header::EXPIRES, "Thu, 01 Jan 1970 00:00:00 GMT"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Records a ping. The warnings are about metrics that were left out.
async fn receive(app: &App, request: Request) -> Result<(Recorded, Vec<String>), Refused> {
    // The time of a ping is its arrival, however long its body and the lookup of its monitor take.
    let at = app.store.world().now();
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let path = path.strip_prefix("/ping/").unwrap_or_default();
    let target = route::parse(path)?;
    let query = Query::parse(&parts.uri);
    let action = target.action();
    // An invalid exit status or run ID is a 400 only if the monitor exists, and never creates one.
    let checked = action.check().and_then(|action| {
        let rid = query.rid.as_deref().map(parse_rid).transpose()?;
        Ok((action, rid))
    });
    let ((kind, exit_status), rid) = match checked {
        Ok(checked) => checked,
        Err(refused) => {
            return Err(if exists(app, &target, query.create).await? {
                refused
            } else {
                Refused::NotFound
            });
        }
    };
    // One byte more shows that there is more.
    let limit = app.config.body_limit;
    let body = match first_bytes(body, limit + 1).await {
        Ok(body) => body,
        Err(_) => return Err(Refused::BrokenBody),
    };
    let mut incoming = incoming(app, &parts, kind, body.into());
    incoming.ping.at = at;
    incoming.ping.rid = rid;
    incoming.ping.exit_status = exit_status;
    let mut warnings = Vec::new();
    for (name, value) in query.metrics {
        incoming.add_metric(&name, parse_metric(&name, &value), &mut warnings);
    }
    let recorded = match target {
        Target::Monitor { id, .. } => app.monitors.record(id, incoming).await?,
        Target::Slug { key, slug, .. } => {
            let project = app.accounts.project_of_ping_key(key).await?;
            let project = project.ok_or(Refused::NotFound)?;
            app.monitors
                .record_named(project, By::Slug, slug, query.create, incoming)
                .await?
        }
    };
    Ok((recorded, warnings))
}

/// A ping that arrives now, with the first part of `body`.
pub fn incoming(app: &App, parts: &Parts, kind: PingKind, body: Vec<u8>) -> Incoming {
    let (body, truncated) = first_part(body, app.config.body_limit);
    Incoming {
        kind,
        rules: Rules::default(),
        ping: Ping {
            scheme: scheme(&parts.headers).to_owned(),
            remote_addr: remote_addr(&parts.extensions),
            method: parts.method.as_str().chars().take(16).collect(),
            ua: user_agent(&parts.headers),
            body,
            truncated,
            ..Ping::new(app.store.world().now(), kind)
        },
        text: None,
    }
}

/// Whether the ping's monitor exists, or would be created.
async fn exists(app: &App, target: &Target<'_>, create: bool) -> Result<bool, Refused> {
    match *target {
        Target::Monitor { id, .. } => Ok(app.store.locate(id).await?.is_some()),
        Target::Slug { key, slug, .. } => match app.accounts.project_of_ping_key(key).await? {
            Some(_) if create => Ok(true),
            Some(project) => Ok(app.monitors.named(project, By::Slug, slug).await?.is_some()),
            None => Ok(false),
        },
    }
}

impl From<RecordError> for Refused {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::NotFound => Self::NotFound,
            RecordError::Ambiguous => Self::Ambiguous,
            // docs/compatibility.md §1.5: above the limit, the answer is 404.
            RecordError::Full => Self::NotFound,
            RecordError::TooMany(wait_ms) => Self::TooMany(secs_to_wait(wait_ms)),
            RecordError::Crowded(wait_ms) => Self::Unavailable(secs_to_wait(wait_ms)),
            RecordError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a ping was not recorded");
        Self::Unavailable(1)
    }
}

impl Refused {
    /// The status of the response.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Url | Self::Rid | Self::BrokenBody => StatusCode::BAD_REQUEST,
            Self::Ambiguous => StatusCode::CONFLICT,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The query parameters of a ping. Others are ignored.
#[derive(Debug, Default)]
struct Query<'a> {
    rid: Option<String>,
    create: bool,
    /// `metric.rows=12.5`
    metrics: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    fn parse(uri: &'a Uri) -> Self {
        let mut query = Self::default();
        let text = uri.query().unwrap_or_default();
        for (name, value) in url_pairs(text) {
            match name {
                "rid" => query.rid = Some(value.to_owned()),
                "create" => query.create = value == "1",
                name if name.starts_with("metric.") => {
                    let name = decoded(name.trim_start_matches("metric."));
                    query.metrics.push((name, decoded(value)));
                }
                _ => {}
            }
        }
        query
    }
}

/// A part of a query without escapes. A `+` means itself, as in `1e+06`.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let escaped = text.replace('+', "%2B");
    let pair = url::form_urlencoded::parse(escaped.as_bytes()).next();
    Cow::Owned(pair.map_or_else(String::new, |(text, _)| text.into_owned()))
}

/// The name and value of each parameter, not decoded, because neither parameter needs escapes.
fn url_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Parses a run ID: a hyphenated UUID in any letter case.
fn parse_rid(text: &str) -> Result<Uuid, Refused> {
    match Uuid::try_parse(text) {
        Ok(rid) if text.len() == 36 => Ok(rid),
        _ => Err(Refused::Rid),
    }
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "HEAD, GET, POST, PUT, OPTIONS",
        ),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers, Body::empty()).into_response()
}

impl route::Action {
    /// The kind of ping, and the exit status that it reports.
    fn check(self) -> Result<(PingKind, Option<u8>), Refused> {
        Ok(match self {
            Self::Success => (PingKind::Success, None),
            Self::Start => (PingKind::Start, None),
            Self::Fail => (PingKind::Fail, None),
            Self::Log => (PingKind::Log, None),
            Self::ExitStatus(Some(0)) => (PingKind::Success, Some(0)),
            Self::ExitStatus(Some(status)) => (PingKind::Fail, Some(status)),
            Self::ExitStatus(None) => return Err(Refused::Url),
        })
    }
}

/// Pings a monitor by its uuid. Every method except OPTIONS counts as a ping.
#[utoipa::path(
    post, path = "/ping/{uuid}", operation_id = "ping_by_uuid", tag = "pings",
    params(
        ("uuid" = String, Path, description = "The monitor's uuid, optionally followed by `/start`, `/fail`, `/log` or `/<exit status>`"),
        ("rid" = Option<String>, Query, description = "The run ID, a uuid"),
        ("metric.NAME" = Option<String>, Query, description = "A number to store with the ping; up to 20"),
    ),
    request_body(content = String, description = "Stored with the ping, up to a limit", content_type = "text/plain"),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 400, body = String, content_type = "text/plain"),
        (status = 404, body = String, content_type = "text/plain"),
        (status = 429, body = String, content_type = "text/plain"),
        (status = 503, body = String, content_type = "text/plain"),
    ),
)]
#[expect(dead_code, reason = "only describes `ping`")]
pub fn by_uuid() {}

/// Pings a monitor by a ping key and a slug. Every method except OPTIONS counts as a ping.
#[utoipa::path(
    post, path = "/ping/{ping_key}/{slug}", operation_id = "ping_by_slug", tag = "pings",
    params(
        ("ping_key" = String, Path, description = "The project's ping key"),
        ("slug" = String, Path, description = "The monitor's slug, optionally followed by `/start`, `/fail`, `/log` or `/<exit status>`"),
        ("rid" = Option<String>, Query, description = "The run ID, a uuid"),
        ("metric.NAME" = Option<String>, Query, description = "A number to store with the ping; up to 20"),
        ("create" = Option<String>, Query, description = "1 creates the monitor if there is none"),
    ),
    request_body(content = String, description = "Stored with the ping, up to a limit", content_type = "text/plain"),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 201, body = String, content_type = "text/plain"),
        (status = 400, body = String, content_type = "text/plain"),
        (status = 404, body = String, content_type = "text/plain"),
        (status = 409, body = String, content_type = "text/plain"),
        (status = 429, body = String, content_type = "text/plain"),
        (status = 503, body = String, content_type = "text/plain"),
    ),
)]
#[expect(dead_code, reason = "only describes `ping`")]
pub fn by_slug() {}
