//! Public badges: of a tag, of all monitors of a project, and of one monitor. They are signed and
//! never cached. docs/compatibility.md §4.

use crate::app::App;
use crate::http::Problem;
use crate::http::site::{SIGNATURE_LEN, signature};
use crate::services::monitors::{Glance, Tally};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use thrum_schema::MonitorState;
use thrum_schema::id::BadgeId;
use thrum_schema::key::same;
use thrum_store::StoreError;

/// The average width of a letter in the badge's font, in tenths of a pixel.
const LETTER_W: usize = 68;

/// How many states a badge distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum States {
    /// Late counts as up.
    Two,
    Three,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Svg,
    Json,
    Shields,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BadgeStatus {
    Up,
    Late,
    Down,
}

/// Returns the badge of a tag, or of all monitors of a project.
///
/// The path is `/badge/<badge key>/<signature>[-2][/<tag>].<format>`.
#[utoipa::path(
    get, path = "/badge/{path}", operation_id = "get_tag_badge", tag = "badges",
    params(("path" = String, Path, description = "Badge key, signature, tag and format, as in the URLs from `GET /api/v3/badges/`")),
    responses(
        (status = 200, description = "The badge, as SVG or JSON", content((String = "image/svg+xml"), (serde_json::Value = "application/json"))),
        (status = 404, description = "No such badge, or an invalid signature", body = Problem, content_type = "application/problem+json"),
        crate::http::Overload,
    ),
)]
pub async fn of_tag(State(app): State<App>, method: Method, Path(path): Path<String>) -> Response {
    answer(method, async {
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        let (badge_key, signed, tag) = match *parts {
            [key, signed] => (key, signed, None),
            [key, signed, tag] => (key, signed, Some(tag)),
            _ => return Ok(None),
        };
        let Some((rest, format)) = split_format(tag.unwrap_or(signed)) else {
            return Ok(None);
        };
        let (signed, tag) = match tag {
            Some(_) => (signed, rest),
            None => (rest, "*"),
        };
        // The eight letters of a signature may themselves end in `-2`.
        let (signed, states) = match signed.strip_suffix("-2") {
            Some(signed) if signed.len() == SIGNATURE_LEN => (signed, States::Two),
            _ => (signed, States::Three),
        };
        let Some(id) = app.store.project_by_badge_key(badge_key).await? else {
            return Ok(None);
        };
        let project = app.accounts.project(id).await?;
        if project.badge_key != badge_key || !same(&signature(&project, tag), signed) {
            return Ok(None);
        }
        let summary = app.monitors.summary(id).await?;
        let tally = Tally::of(summary.tagged(tag));
        let label = if tag == "*" { &project.name } else { tag };
        Ok(Some(draw(label, tally, states, format)))
    })
    .await
}

/// Returns the badge of a monitor.
///
/// The path is `/b/<2|3>/<badge uuid>.<format>`.
#[utoipa::path(
    get, path = "/b/{states}/{badge}", operation_id = "get_badge", tag = "badges",
    params(
        ("states" = String, Path, description = "2 (late counts as up) or 3"),
        ("badge" = String, Path, description = "The badge's uuid, followed by `.svg`, `.json` or `.shields`"),
    ),
    responses(
        (status = 200, description = "The badge, as SVG or JSON", content((String = "image/svg+xml"), (serde_json::Value = "application/json"))),
        (status = 404, description = "No such badge", body = Problem, content_type = "application/problem+json"),
        crate::http::Overload,
    ),
)]
pub async fn of_monitor(
    State(app): State<App>,
    method: Method,
    Path((states, badge)): Path<(String, String)>,
) -> Response {
    answer(method, async {
        let states = match states.as_str() {
            "2" => States::Two,
            "3" => States::Three,
            _ => return Ok(None),
        };
        let Some((id, format)) = split_format(&badge) else {
            return Ok(None);
        };
        let Ok(id) = id.parse::<BadgeId>() else {
            return Ok(None);
        };
        let Some((project, monitor)) = app.store.monitor_by_badge(id).await? else {
            return Ok(None);
        };
        let (monitor, located, outages) = futures::try_join!(
            app.store.monitor(project, monitor),
            app.store.locate(monitor),
            app.store.outages(),
        )?;
        let (Some(monitor), Some(located)) = (monitor, located) else {
            return Ok(None);
        };
        let state = located
            .state
            .unwrap_or_else(|| MonitorState::lost(&monitor));
        let now = app.store.world().now();
        let glance = Glance::of(&monitor, &state, &outages, now);
        let tally = Tally::of(std::iter::once(&glance));
        Ok(Some(draw(monitor.label(), tally, states, format)))
    })
    .await
}

async fn answer(
    method: Method,
    badge: impl Future<Output = Result<Option<Response>, StoreError>>,
) -> Response {
    let mut response = if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else if method != Method::GET {
        let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
        let allowed = HeaderValue::from_static("GET");
        response.headers_mut().insert(header::ALLOW, allowed);
        response
    } else {
        match badge.await {
            Ok(Some(response)) => response,
            Ok(None) => Problem::not_found("badge").into_response(),
            Err(error) => Problem::from(error).into_response(),
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::CACHE_CONTROL, NEVER_CACHED),
        (header::EXPIRES, "Thu, 01 Jan 1970 00:00:00 GMT"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The `Cache-Control` that prevents all caching.
pub const NEVER_CACHED: &str = "max-age=0, no-cache, no-store, must-revalidate, private";

fn split_format(name: &str) -> Option<(&str, Format)> {
    let (rest, format) = name.rsplit_once('.')?;
    let format = match format {
        "svg" => Format::Svg,
        "json" => Format::Json,
        "shields" => Format::Shields,
        _ => return None,
    };
    Some((rest, format))
}

fn draw(label: &str, tally: Tally, states: States, format: Format) -> Response {
    let badge_status = match (tally, states) {
        (Tally { down: 1.., .. }, _) => BadgeStatus::Down,
        (Tally { grace: 1.., .. }, States::Three) => BadgeStatus::Late,
        _ => BadgeStatus::Up,
    };
    let (status, color, fill) = match badge_status {
        BadgeStatus::Up => ("up", "success", "#4c1"),
        BadgeStatus::Late => ("late", "important", "#fe7d37"),
        BadgeStatus::Down => ("down", "critical", "#e05d44"),
    };
    match format {
        Format::Svg => {
            let headers = [(header::CONTENT_TYPE, "image/svg+xml")];
            (headers, svg(label, status, fill)).into_response()
        }
        Format::Json => axum::Json(json!({
            "status": status,
            "total": tally.total,
            "grace": tally.grace,
            "down": tally.down,
        }))
        .into_response(),
        Format::Shields => axum::Json(json!({
            "schemaVersion": 1,
            "label": label,
            "message": status,
            "color": color,
        }))
        .into_response(),
    }
}

fn svg(label: &str, status: &str, fill: &str) -> String {
    let label: String = label.chars().filter(|c| !c.is_control()).take(50).collect();
    let width = |text: &str| text.chars().count() * LETTER_W / 10 + 10;
    let (left, right) = (width(&label), width(status));
    let (all, middle_left, middle_right) = (left + right, left / 2, left + right / 2);
    let label = escape(&label);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" \
         aria-label=\"{label}: {status}\"><title>{label}: {status}</title>\
         <clipPath id=\"r\"><rect width=\"{all}\" height=\"20\" rx=\"3\" fill=\"#fff\"/></clipPath>\
         <g clip-path=\"url(#r)\"><rect width=\"{left}\" height=\"20\" fill=\"#555\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"{fill}\"/></g>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,Geneva,DejaVu Sans,sans-serif\" \
         font-size=\"11\"><text x=\"{middle_left}\" y=\"14\">{label}</text>\
         <text x=\"{middle_right}\" y=\"14\">{status}</text></g></svg>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
