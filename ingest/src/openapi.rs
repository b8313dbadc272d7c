//! `/openapi.json`: the API's own description, made from the code that answers.

use crate::problem::Problem;
use crate::signals::{backtests, history, requests, series, strategies, watches};
use crate::{
    alerts, badges, channels, health, heartbeats, keys, management, monitors, ping, projects,
    prometheus, usage,
};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi};

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

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Thrum",
        description = "A dead man's switch that you own. Heartbeats come in by `/v1/heartbeats` or by ping URLs; \
                       monitors, channels, alerts and keys are managed by `/v1`, or by the management API that \
                       existing clients speak, `/api/v1`, `/api/v2` and `/api/v3` (of which version 3 is shown; \
                       its paths are good with and without their last slash).",
        license(name = "MIT"),
    ),
    paths(
        ping::by_uuid, ping::by_slug,
        heartbeats::post, heartbeats::legacy,
        monitors::list, monitors::get, monitors::create, monitors::update, monitors::delete, monitors::pause,
        monitors::resume, monitors::snooze, monitors::end_snooze, monitors::get_uptime,
        channels::list, channels::get, channels::create, channels::update, channels::delete, channels::test,
        alerts::list, alerts::redeliver,
        keys::list, keys::create, keys::rotate, keys::revoke, keys::rotate_ping_key, keys::delete_ping_key,
        projects::get_own, projects::update_own, projects::snooze, projects::end_snooze,
        projects::rotate_badge_key,
        usage::get,
        series::list, series::post_bars, series::get_bars, series::post_values, series::post_sentiment,
        history::latest, history::history, requests::post, requests::get, backtests::post, backtests::get,
        strategies::list, strategies::get, strategies::put, strategies::delete,
        watches::list, watches::get, watches::create, watches::update, watches::delete,
        projects::list, projects::create, projects::get, projects::update, projects::delete, projects::create_key,
        management::list_checks, management::create_check, management::get_check, management::update_check,
        management::delete_check, management::pause_check, management::resume_check, management::list_pings,
        management::get_ping_body, management::list_flips, management::list_channels, management::list_badges,
        management::status, management::metrics, management::notification_status, management::bounce,
        badges::of_tag, badges::of_monitor, prometheus::by_url, prometheus::by_header,
        health::health, health::status,
    ),
    components(schemas(Problem)),
    modifiers(&Finish),
)]
struct Api;

struct Finish;

impl Modify for Finish {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let header = |name: &str| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(name)));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("api_key", header("X-Api-Key"));
        components.add_security_scheme("admin_key", header("X-Admin-Key"));
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The description as it was last made: the code that makes it would be a tenth of the bootstrap.
const DOCUMENT: &str = include_str!("../openapi.json");

/// The description of the API, OpenAPI 3.1, made from the code that answers; a test holds `openapi.json` to it.
pub fn document() -> serde_json::Value {
    serde_json::to_value(Api::openapi()).expect("the document maps to JSON")
}

/// The description of the API.
pub async fn get() -> Response {
    let headers = [("content-type", "application/json")];
    (headers, DOCUMENT).into_response()
}
