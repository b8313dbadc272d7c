//! The frame that every page stands in, and the headers that it goes out with.

use super::live::Live;
use super::session::Viewer;
use crate::http::Problem;
use askama::{DynTemplate, Template};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

/// What a page may load, and where its forms may go: nothing but what this host serves, and no script or style in the
/// page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The sections of the dashboard, as its navigation lists them.
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

/// What a page says to who comes back from a form, by the word in its address.
const SAID: [(&str, &str); 18] = [
    ("created", "It is made."),
    ("saved", "Saved."),
    ("deleted", "It is deleted."),
    (
        "paused",
        "Paused: it is not watched until it is resumed, or heard of.",
    ),
    ("resumed", "Resumed: it is watched again."),
    (
        "snoozed",
        "Snoozed: alerts are silent until then; what is down at the end alerts then.",
    ),
    ("unsnoozed", "The snooze is over."),
    (
        "tested",
        "A test alert is on its way; it shows among the alerts.",
    ),
    (
        "redelivered",
        "The deliveries that had been given up are tried again.",
    ),
    (
        "revoked",
        "The key is revoked; everybody forgets it within half a minute.",
    ),
    ("status-on", "The status page is public."),
    ("status-off", "The status page is no longer public."),
    (
        "badges",
        "The badges and the status page have new addresses; those before are no longer good.",
    ),
    (
        "ping-key-off",
        "The ping key is gone: URLs with slugs are no longer good.",
    ),
    ("no-channels", "There is no channel to test; add one first."),
    ("asked", "The signal is being reckoned."),
    ("watched", "It is watched: people are told of changes."),
    ("signed-out", "You are signed out."),
];

/// A page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page<'a> {
    /// The section that it belongs to, by its path.
    pub section: &'a str,
    /// What the tab says.
    pub title: &'a str,
    /// Who looks at it.
    pub viewer: Option<&'a Viewer>,
    /// What went well, or what the person comes back from.
    pub said: &'a str,
    /// What went wrong.
    pub wrong: Option<&'a Problem>,
    /// How it stays up to date.
    pub live: Live,
}

#[derive(Template)]
#[template(path = "frame.html")]
struct Frame<'a> {
    page: Page<'a>,
    sections: &'static [(&'static str, &'static str)],
    said: Option<&'static str>,
    body: String,
    version: &'static str,
    assets: &'static str,
}

impl Page<'_> {
    /// The page with `body` in it, as a reply.
    pub fn show(self, body: &dyn DynTemplate) -> Response {
        let status = self.wrong.map_or(StatusCode::OK, Problem::status);
        let rendered = body.dyn_render().and_then(|body| {
            let said = SAID.iter().find(|(word, _)| *word == self.said);
            let frame = Frame {
                page: self,
                sections: &SECTIONS,
                said: said.map(|(_, text)| *text),
                body,
                version: env!("CARGO_PKG_VERSION"),
                assets: &super::assets::VERSION,
            };
            frame.render()
        });
        match rendered {
            Ok(html) => (status, Html(html)).into_response(),
            Err(error) => {
                tracing::error!(%error, "a page was not rendered");
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

/// The page that says why there is none.
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

/// To another page, by GET.
pub fn see_other(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Adds what browsers need to keep pages to themselves.
pub async fn headers(request: Request, next: Next) -> Response {
    guarded(next.run(request).await)
}

/// A reply with what browsers need to keep it to itself.
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
