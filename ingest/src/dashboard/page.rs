//! The frame around every page, and the security headers of every response.

use super::labels::at_fields;
use super::live::Live;
use super::session::Viewer;
use crate::http::Problem;
use askama::{DynTemplate, Template};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

/// The content security policy: pages load only what this host serves, submit forms only to it, and
/// have no inline scripts or styles.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The sections in the navigation: path and name.
const SECTIONS: [(&str, &str); 8] = [
    ("/", "Monitors"),
    ("/signals", "Signals"),
    ("/alerts", "Alerts"),
    ("/channels", "Channels"),
    ("/usage", "Usage"),
    ("/keys", "Keys"),
    ("/settings", "Settings"),
    ("/system", "System"),
];

/// The confirmation that a page shows after a form, by the word after `done=` in its URL.
const SAID: [(&str, &str); 20] = [
    ("created", "Created."),
    ("saved", "Saved."),
    ("deleted", "Deleted."),
    (
        "paused",
        "Paused: no alerts until it is resumed, by you or by a ping.",
    ),
    ("resumed", "Resumed: Thrum alerts again."),
    (
        "snoozed",
        "Snoozed: no alerts until the snooze ends. Thrum then alerts about anything that is still down.",
    ),
    ("unsnoozed", "Snooze ended."),
    (
        "acknowledged",
        "Acknowledged: no reminders and no escalation until it is up again.",
    ),
    (
        "tested",
        "A test alert is on its way. Its deliveries appear under Alerts.",
    ),
    ("redelivered", "Retrying the dead deliveries."),
    (
        "revoked",
        "Key revoked. It stops working everywhere within 30 seconds.",
    ),
    ("status-on", "The status page is now public."),
    ("status-off", "The status page is no longer public."),
    (
        "badges",
        "The badges and the status page have new URLs. The old URLs no longer work.",
    ),
    (
        "ping-key-off",
        "Ping key deleted. Ping URLs with a slug no longer work.",
    ),
    ("no-channels", "There is no channel to test. Add one first."),
    ("asked", "Signal requested."),
    (
        "accepted",
        "This is the new normal: the values from then on are judged by it.",
    ),
    (
        "watched",
        "Watch created: Thrum sends an alert when the signal changes.",
    ),
    ("signed-out", "You are signed out."),
];

/// A page: its title, messages and navigation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page<'a> {
    /// Path of the section that the page belongs to.
    pub section: &'a str,
    /// Title of the browser tab.
    pub title: &'a str,
    /// The signed-in user, if any.
    pub viewer: Option<&'a Viewer>,
    /// The key of the confirmation to show, from `done=` in the URL.
    pub said: &'a str,
    /// The error to show.
    pub wrong: Option<&'a Problem>,
    /// Whether the page shows errors next to its fields instead.
    pub invalid: bool,
    /// How the page stays up to date.
    pub live: Live,
}

#[derive(Template)]
#[template(path = "frame.html")]
struct Frame<'a> {
    page: Page<'a>,
    sections: &'static [(&'static str, &'static str)],
    said: Option<&'static str>,
    /// What is wrong with which fields.
    wrong: Vec<(String, String)>,
    body: String,
    version: &'static str,
    assets: &'static str,
}

impl Page<'_> {
    /// Renders the page around `body`, with the status of the error if there is one.
    pub fn show(self, body: &dyn DynTemplate) -> Response {
        let status = match self.wrong {
            Some(problem) => problem.status(),
            None if self.invalid => StatusCode::BAD_REQUEST,
            None => StatusCode::OK,
        };
        let rendered = body.dyn_render().and_then(|body| {
            let said = SAID.iter().find(|(word, _)| *word == self.said);
            let frame = Frame {
                page: self,
                sections: &SECTIONS,
                said: said.map(|(_, text)| *text),
                wrong: self.wrong.map(at_fields).unwrap_or_default(),
                body,
                version: env!("CARGO_PKG_VERSION"),
                assets: &super::assets::VERSION,
            };
            frame.render()
        });
        match rendered {
            Ok(html) => (status, Html(html)).into_response(),
            Err(error) => {
                tracing::error!(%error, "failed to render a page");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

#[derive(Template)]
#[template(path = "failed.html")]
struct Failed<'a> {
    title: &'a str,
    detail: &'a str,
}

/// The error page.
pub fn failed(viewer: Option<&Viewer>, problem: &Problem) -> Response {
    let body = Failed {
        title: problem.title(),
        detail: problem.detail(),
    };
    let page = Page {
        title: problem.title(),
        viewer,
        ..Page::default()
    };
    let mut response = page.show(&body);
    *response.status_mut() = problem.status();
    if let Some(after) = problem.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}

/// Redirects to another page, with GET.
pub fn see_other(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Middleware that adds the security headers.
pub async fn headers(request: Request, next: Next) -> Response {
    guarded(next.run(request).await)
}

/// Adds the security headers to a response. Without a cache header, it is not cached.
pub fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
