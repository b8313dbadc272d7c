//! The URLs of this site: the root, badges, the status page, ping URLs.

use super::peer::scheme;
use crate::app::App;
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha1::Sha1;
use sha2::Sha256;
use std::convert::Infallible;
use thrum_schema::{MonitorId, Project};
use utoipa::ToSchema;

/// The URLs of this site.
#[derive(Debug, Clone)]
pub struct Site {
    /// The root, without a trailing slash.
    pub root: String,
}

impl Site {
    /// The configured site, or else the host that the request was sent to.
    pub fn of(app: &App, headers: &HeaderMap, uri: &Uri) -> Self {
        if let Some(root) = &app.config.site_url {
            return Self { root: root.clone() };
        }
        let host = headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(|a| a.as_str()));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        let host = host.filter(|host| !host.is_empty() && host.bytes().all(plain));
        let (scheme, host) = (scheme(headers), host.unwrap_or("localhost"));
        Self {
            root: format!("{scheme}://{host}"),
        }
    }

    /// The ping URL of a monitor.
    pub fn ping_url(&self, id: MonitorId) -> String {
        format!("{}/ping/{id}", self.root)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Site
where
    App: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&App::from_ref(state), &parts.headers, &parts.uri))
    }
}

/// The URLs of a badge: with two states (late counts as up) and with three.
#[derive(Debug, Serialize, ToSchema)]
pub struct BadgeUrls {
    svg: String,
    pub svg3: String,
    json: String,
    json3: String,
    shields: String,
    shields3: String,
}

impl BadgeUrls {
    /// The URLs of the badge of a tag, or of all monitors for `*`.
    pub fn of(project: &Project, tag: &str, site: &Site) -> Self {
        let signature = signature(project, tag);
        let root = format!("{}/badge/{}", site.root, project.badge_key);
        let url = |states: &str, format: &str| match tag {
            "*" => format!("{root}/{signature}{states}.{format}"),
            tag => format!("{root}/{signature}{states}/{}.{format}", quote(tag)),
        };
        Self {
            svg: url("-2", "svg"),
            svg3: url("", "svg"),
            json: url("-2", "json"),
            json3: url("", "json"),
            shields: url("-2", "shields"),
            shields3: url("", "shields"),
        }
    }
}

/// The length of a badge's signature.
pub const SIGNATURE_LEN: usize = 8;

/// The signature in a badge's URL. docs/compatibility.md §4.
pub fn signature(project: &Project, tag: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(project.badge_secret.as_bytes())
        .expect("HMAC accepts keys of any length");
    mac.update(project.badge_key.as_bytes());
    mac.update(tag.as_bytes());
    let mut text = BASE64_URL_SAFE.encode(mac.finalize().into_bytes());
    text.truncate(SIGNATURE_LEN);
    text
}

/// The path of a project's status page. It can't be derived from a badge's URL, and changes when
/// the badge key is rotated.
pub fn status_path(project: &Project) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(project.badge_secret.as_bytes())
        .expect("HMAC accepts keys of any length");
    mac.update(b"status page");
    let signed = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("/status/{}.{signed}", project.badge_key)
}

/// Percent-encodes a text for use in a path.
pub fn quote(tag: &str) -> String {
    tag.bytes().fold(String::new(), |mut path, b| {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            path.push(char::from(b));
        } else {
            path.push_str(&format!("%{b:02X}"));
        }
        path
    })
}
