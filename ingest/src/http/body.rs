//! Request bodies: JSON with errors that name the place, and raw bytes up to a limit.

use super::problem::Problem;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thrum_schema::error::Invalid;

/// Longest JSON body, in bytes: a batch of 100 heartbeats with their messages fits.
pub const MAX_JSON: usize = 2 * 1024 * 1024;
/// How much of a body beyond its kept part is read and dropped before the connection is given up.
const MAX_DRAINED: usize = 1024 * 1024;

/// A JSON body as `T`, parsed whatever its content type; an error names the field.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = Limited::new(request.into_body(), MAX_JSON)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Problem::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        format!("the body must be at most {MAX_JSON} bytes"),
                    )
                } else {
                    Problem::bad_request("the body broke off")
                }
            })?
            .to_bytes();
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
        from_value(value, "").map(Self).map_err(Problem::from)
    }
}

/// The parameters of a query; an error says which one is wrong.
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

/// The id in a path. One that is no text names nothing.
#[derive(Debug)]
pub struct PathId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Problem::not_found("thing")),
        }
    }
}

/// Reads `value`, which must be an object, as `T`; an error names the field, below `place`.
pub fn from_value<T: DeserializeOwned>(value: Value, place: &str) -> Result<T, Invalid> {
    // A list would do for serde: its items, one by one, as members.
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
        Invalid::new(field, format!("is wrong: {}", error.into_inner()))
    })
}

/// The first `limit` bytes of a body; the rest is read and dropped, up to a bound.
///
/// # Errors
/// The body broke off.
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
