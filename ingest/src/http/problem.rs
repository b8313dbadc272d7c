//! The errors of `/v1`, as problem details (RFC 9457).
//!
//! The policy: a 4xx says what is wrong, where, and what to do. A 5xx reveals no internals and is
//! logged once, here.

use crate::services::monitors::{ChangeError, FindError};
use crate::services::{AdminKeyUnavailable, ServiceError};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use thrum_schema::error::Invalid;
use thrum_schema::time::secs_to_wait;
use thrum_store::StoreError;
use utoipa::ToSchema;

/// An error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Seconds until a retry may succeed.
    #[serde(skip)]
    retry_after_s: Option<i64>,
    /// More about it: all `errors`, or the `results` of a batch.
    #[serde(flatten)]
    #[schema(ignore)]
    more: Option<Box<Map<String, Value>>>,
}

impl Problem {
    /// A problem of `status`, explained by `detail`.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            retry_after_s: None,
            more: None,
        }
    }

    /// The fields that are wrong.
    pub fn fields(&self) -> Vec<Invalid> {
        let errors = self.more.as_ref().and_then(|more| more.get("errors"));
        let errors: Vec<(&str, &str)> = match errors.and_then(Value::as_array) {
            Some(errors) => {
                let pairs = errors.iter();
                let pairs = pairs.filter_map(|error| {
                    Some((error["field"].as_str()?, error["detail"].as_str()?))
                });
                pairs.collect()
            }
            None => self
                .field
                .as_deref()
                .map(|field| (field, &*self.detail))
                .into_iter()
                .collect(),
        };
        let errors = errors.into_iter();
        errors
            .map(|(field, detail)| {
                let problem = detail.strip_prefix(field).unwrap_or(detail);
                Invalid::new(field, problem.trim_start())
            })
            .collect()
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The reason phrase of the status.
    pub const fn title(&self) -> &'static str {
        self.title
    }

    /// What is wrong, and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The value of `Retry-After`, if a retry may succeed.
    pub fn retry_after(&self) -> Option<HeaderValue> {
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => Some(self.retry_after_s.unwrap_or(1).into()),
            _ => self.retry_after_s.map(HeaderValue::from),
        }
    }

    /// The problem with one more field.
    pub fn with(mut self, name: &str, value: &impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        let more = self.more.get_or_insert_default();
        more.insert(name.to_owned(), value);
        self
    }

    /// 503, with the milliseconds after which to try again.
    pub fn unavailable(why: &str, wait_ms: i64) -> Self {
        Self {
            retry_after_s: Some(secs_to_wait(wait_ms)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }

    /// 429, with the milliseconds until a retry may succeed.
    pub fn too_many(what: &str, wait_ms: i64) -> Self {
        let wait_s = secs_to_wait(wait_ms);
        Self {
            retry_after_s: Some(wait_s),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("{what}; try again in {wait_s} s"),
            )
        }
    }

    /// 400, for an invalid body or parameter.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 409, for a request that conflicts with what is stored.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 403, for a monitor that the plan does not allow.
    pub fn no_room_for_monitor() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "the project has as many monitors as its plan allows; delete one first",
        )
    }

    /// 404, for something that does not exist.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self {
            detail: invalid.to_string(),
            field: Some(invalid.field),
            ..Self::bad_request("")
        }
    }
}

/// All fields that are wrong. The first one also sets `field` and `detail`.
impl From<Vec<Invalid>> for Problem {
    fn from(invalid: Vec<Invalid>) -> Self {
        let Some(first) = invalid.first() else {
            return Self::bad_request("the request is invalid");
        };
        let problem = Self::from(first.clone());
        if invalid.len() == 1 {
            return problem;
        }
        let errors: Vec<Value> = invalid
            .iter()
            .map(|error| json!({ "field": error.field, "detail": error.to_string() }))
            .collect();
        problem.with("errors", &errors)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Cycle | StoreError::TooDeep) {
            return Invalid::new("parents", format!("can't be used: {error}")).into();
        }
        tracing::error!(%error, "the request failed");
        match error {
            StoreError::Corrupt(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error; the details are in Thrum's log",
            ),
            _ => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the table is unavailable; try again",
            ),
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::NotFound(detail) => Self::new(StatusCode::NOT_FOUND, detail),
            ServiceError::Conflict(detail) => Self::conflict(detail),
            ServiceError::Invalid(invalid) => invalid.into(),
            ServiceError::Store(error) => error.into(),
        }
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        match error {
            FindError::NotFound => Self::not_found("monitor"),
            FindError::Ambiguous => {
                Self::conflict("several monitors have this slug or name; use the uuid")
            }
            FindError::Store(error) => error.into(),
        }
    }
}

impl<E: Into<Self>> From<ChangeError<E>> for Problem {
    fn from(error: ChangeError<E>) -> Self {
        match error {
            ChangeError::NotFound => Self::not_found("monitor"),
            ChangeError::Full => Self::no_room_for_monitor(),
            ChangeError::Taken => Self::conflict("there is a monitor with this uuid"),
            ChangeError::Refused(refused) => refused.into(),
            ChangeError::Store(error) => error.into(),
        }
    }
}

impl From<AdminKeyUnavailable> for Problem {
    fn from(error: AdminKeyUnavailable) -> Self {
        tracing::error!(%error, "the admin key could not be fetched");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the admin key can't be checked now; try again",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, after);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
