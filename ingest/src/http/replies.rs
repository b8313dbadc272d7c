//! Error replies that many operations have in common, for the API's description.

use super::problem::Problem;
use utoipa::IntoResponses;

/// What any call may answer when there is too much of something.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "they stand for replies")]
pub enum Overload {
    /// The request did not come in time.
    #[response(status = 408)]
    Timeout,
    /// The key's requests are used up, or come too fast; `Retry-After` says when to try again.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// The table does not answer.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// What any call may answer that takes a key.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "they stand for replies")]
pub enum Problems {
    /// The request is wrong: the problem says what, where, and what instead.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// There is no key, or it is not known.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The key does not allow it, or the plan.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// It is at odds with what is there.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
}

/// What a call answers besides that names a thing.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it stands for a reply")]
pub enum Missing {
    /// There is no such thing in the project.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}
