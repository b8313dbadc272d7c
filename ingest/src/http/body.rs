//! Request bodies: JSON, with errors that name the field, and raw bytes up to a limit.

use super::metering::Meter;
use super::problem::Problem;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use thrum_schema::error::Invalid;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The longest JSON body, in bytes. A batch of 100 heartbeats with messages fits.
pub const MAX_JSON: usize = 2 * 1024 * 1024;
/// The longest body that is read at once and parsed on the spot, in bytes.
pub const LARGE: usize = 64 * 1024;
/// How many larger bodies are read at a time: together they take at most 64 MiB.
const MAX_LARGE: usize = 32;
/// How long a large body waits for others.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(5);
/// How many bytes beyond the stored part of a body to read and drop before giving up on the rest.
const MAX_DRAINED: usize = 1024 * 1024;

/// A JSON body as `T`, whatever its content type. Errors name the field.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let meter = Meter::in_extensions(request.extensions());
        let (bytes, _room) = whole(request.into_body()).await?;
        meter.note_bytes(bytes.len());
        parse(bytes, |bytes| {
            let value: Value = serde_json::from_slice(&bytes)
                .map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
            from_value(value, "").map(Self).map_err(Problem::from)
        })
        .await
    }
}

/// Room for a large body, until this is dropped.
#[derive(Debug)]
pub struct Room(Option<SemaphorePermit<'static>>);

/// Reads a body of at most [`MAX_JSON`] bytes. Only for clients whose key was checked.
///
/// # Errors
/// 413 if it is longer, 400 if it is incomplete, 503 if there are too many large bodies.
pub async fn whole(mut body: Body) -> Result<(Bytes, Room), Problem> {
    static ROOM: Semaphore = Semaphore::const_new(MAX_LARGE);
    let mut room = Room(None);
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| incomplete())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.len() + data.len() > MAX_JSON {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body must be at most {MAX_JSON} bytes"),
            ));
        }
        if room.0.is_none() && read.len() + data.len() > LARGE {
            match tokio::time::timeout(WAIT_FOR_ROOM, ROOM.acquire()).await {
                Ok(Ok(permit)) => room = Room(Some(permit)),
                _ => {
                    return Err(Problem::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "too many large requests are in progress; try again",
                    ));
                }
            }
        }
        read.extend_from_slice(&data);
    }
    Ok((read.freeze(), room))
}

/// Parses a body. A large one is parsed on a thread of its own, because it takes long enough to
/// delay heartbeats.
pub async fn parse<T: Send + 'static>(
    bytes: Bytes,
    parse: impl FnOnce(Bytes) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if bytes.len() <= LARGE {
        return parse(bytes);
    }
    match tokio::task::spawn_blocking(move || parse(bytes)).await {
        Ok(parsed) => parsed,
        Err(error) => {
            tracing::error!(%error, "a body could not be parsed");
            Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error; the details are in Thrum's log",
            ))
        }
    }
}

fn incomplete() -> Problem {
    Problem::bad_request("the request ended before its body was complete")
}

/// Query parameters as `T`. Errors name the parameter.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::bad_request(error.body_text())),
        }
    }
}

/// The ID in a path. An ID that is not UTF-8 gets a 404.
#[derive(Debug)]
pub struct PathId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Problem::not_found("resource")),
        }
    }
}

/// Reads `value`, which must be an object, as `T`. Errors name the field, with `place` as a prefix.
pub fn from_value<T: DeserializeOwned>(value: Value, place: &str) -> Result<T, Invalid> {
    // serde would also accept a list, and take its items as the fields in order.
    if !value.is_object() {
        let field = if place.is_empty() { "the body" } else { place };
        return Err(Invalid::new(field, "must be an object"));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = match (place, path.as_str()) {
            ("", ".") => "the body".to_owned(),
            ("", path) => path.to_owned(),
            (place, ".") => place.to_owned(),
            (place, path) => format!("{place}.{path}"),
        };
        Invalid::new(field, format!("can't be read: {}", error.into_inner()))
    })
}

/// The first `limit` bytes of a body. The rest is read and dropped, up to a limit.
///
/// # Errors
/// The request ended before its body was complete.
pub async fn first_bytes(mut body: Body, limit: usize) -> Result<Bytes, axum::Error> {
    let mut kept = BytesMut::new();
    let mut dropped = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let room = limit - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        dropped += data.len().saturating_sub(room);
        if dropped > MAX_DRAINED {
            break;
        }
    }
    Ok(kept.freeze())
}
