//! The error responses that many operations share, for the OpenAPI document.

use super::problem::Problem;
use utoipa::IntoResponses;

/// The responses of any operation under overload.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the variants only describe responses")]
pub enum Overload {
    /// The request took too long.
    #[response(status = 408)]
    Timeout,
    /// The key is over its quota or rate limit. `Retry-After` says how many seconds to wait.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// The database is not available. Try again after `Retry-After` seconds.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// The error responses of any operation that needs a key.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the variants only describe responses")]
pub enum Problems {
    /// The request is invalid. The problem says what is wrong, where, and what to do.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// The key is missing or unknown.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The key or the plan does not allow it.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// It conflicts with what is stored.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
}

/// The further response of an operation whose path names a resource.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the variant only describes a response")]
pub enum Missing {
    /// There is no such resource in the project.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}
