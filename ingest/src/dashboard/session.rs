//! Who looks at a page: a signed cookie that names an API key and ends, and what may come with a form.
//!
//! The cookie holds the key's hash, never the key. Each request looks the key up, so a key that is revoked opens nothing
//! any more, and a read-only key makes a read-only dashboard.

use super::fields::Fields;
use super::{Dashboard, page};
use crate::app::App;
use crate::config::AdminKey;
use crate::http::Caller;
use crate::http::Problem;
use crate::http::metering::Tab;
use crate::http::{Reader, Writer};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Limited};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::key::same;
use thrum_schema::key::{ApiKey, Scope};
use thrum_schema::plan::Rate;
use thrum_schema::{Project, UnixMs};

/// How long somebody stays signed in, in seconds.
const SESSION_S: i64 = 7 * 86_400;
/// How long a secret that is kept elsewhere is believed, in milliseconds.
const SECRET_MS: i64 = 300_000;
/// Pages that a key may look at a minute, at most: a dashboard on the wall takes thirty.
const LOOKS_PER_MINUTE: u32 = 600;
/// Keys whose looks are counted.
const MAX_KEYS: usize = 10_000;
/// Longest form, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// What signs cookies and forms: the secret that is configured; or one made of the admin key, which every instance of a
/// function knows; or else one of this process.
#[derive(Debug, Default)]
pub struct Signer(tokio::sync::Mutex<Option<(UnixMs, SecretString)>>);

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The key they signed in with.
    pub key: ApiKey,
    /// Its project.
    pub project: Arc<Project>,
    /// What their forms must bring.
    pub csrf: String,
    tab: Tab,
}

/// A form of somebody who may change things. There is no other way to a handler that does.
#[derive(Debug)]
pub struct Post {
    /// Who sent it.
    pub viewer: Viewer,
    /// What it says.
    pub fields: Fields,
}

impl Viewer {
    /// Whether they may change things.
    pub fn writes(&self) -> bool {
        self.key.scope == Scope::Write
    }

    /// Whether a form is from a page of theirs.
    pub fn sent(&self, headers: &HeaderMap, fields: &Fields) -> bool {
        is_same_origin(headers) && same(fields.text("csrf"), &self.csrf)
    }

    /// As one who asks the API. What a page reads is not charged: it is one look of one person.
    pub fn reader(&self) -> Reader {
        Reader {
            project: self.key.project,
            sees_secrets: self.writes(),
            caller: Caller {
                key: self.key.clone(),
                tab: self.tab.clone(),
                free: true,
            },
        }
    }
}

impl Post {
    /// As one who changes things by the API, and is charged for it.
    pub fn writer(&self) -> Writer {
        Writer {
            project: self.viewer.key.project,
            caller: Caller {
                key: self.viewer.key.clone(),
                tab: self.viewer.tab.clone(),
                free: false,
            },
        }
    }
}

/// How often pages were looked at, by key: what pages read is not charged, and yet is not free of bounds.
#[derive(Debug, Default)]
pub struct PageRateLimiter(Mutex<HashMap<String, i64>>);

impl PageRateLimiter {
    fn take(&self, key: &ApiKey, now: UnixMs) -> Result<(), Problem> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() > MAX_KEYS {
            looks.retain(|_, tat| *tat > now.0);
        }
        let tat = looks.get(&key.hash).copied();
        match Rate::per_minute(LOOKS_PER_MINUTE).take(tat, now.0) {
            Ok(tat) => {
                looks.insert(key.hash.clone(), tat);
                Ok(())
            }
            Err(wait_ms) => Err(Problem::too_many("you look at pages too fast", wait_ms)),
        }
    }
}

impl Signer {
    async fn secret(&self, app: &App) -> Result<SecretString, Problem> {
        if let Some(secret) = &app.config.session_secret {
            return Ok(secret.clone());
        }
        let mut kept = self.0.lock().await;
        let now = app.store.world().now();
        let elsewhere = matches!(app.config.admin_key, AdminKey::Kept(_));
        if let Some((at, secret)) = &*kept
            && (!elsewhere || now - *at < SECRET_MS)
        {
            return Ok(secret.clone());
        }
        let secret = match app.accounts.admin_secret().await {
            Ok(Some(admin)) => SecretString::from(mac(&admin, &["sessions of the dashboard"])),
            Ok(None) => {
                let world = app.store.world();
                SecretString::from(format!("{}{}", world.uuid_v4(), world.uuid_v4()))
            }
            // What was believed until now is good enough while it can't be had anew.
            Err(error) => match &*kept {
                Some((_, secret)) => secret.clone(),
                None => return Err(error.into()),
            },
        };
        *kept = Some((now, secret.clone()));
        Ok(secret)
    }
}

/// An HMAC of some texts, each told apart from the next.
fn mac(secret: &SecretString, texts: &[&str]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("a key of any length will do");
    for text in texts {
        mac.update(text.as_bytes());
        mac.update(b"\0");
    }
    BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Whether the browser came by https: what `Secure` asks for, and what plain http on one's own machine can't give.
fn is_secure(app: &App, headers: &HeaderMap) -> bool {
    let forwarded = headers
        .get("x-forwarded-proto")
        .and_then(|value| value.to_str().ok());
    let site = app.config.site_url.as_deref();
    forwarded.is_some_and(|proto| proto.starts_with("https"))
        || site.is_some_and(|url| url.starts_with("https://"))
}

/// The cookie's name: a `__Host-` cookie can be set by nobody but this host, over https.
const fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-thrum" } else { "thrum" }
}

fn cookie(secure: bool, value: &str, max_age_s: i64) -> HeaderValue {
    let name = cookie_name(secure);
    let flag = if secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{flag}");
    HeaderValue::try_from(text).expect("letters")
}

/// Whether a form comes from a page of ours, as far as the browser says: there is no cookie to go by before a sign-in.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => matches!(site, "same-origin" | "none"),
        None => match (text("origin"), text("host")) {
            (Some(origin), Some(host)) => {
                origin.split_once("://").map(|(_, origin)| origin) == Some(host)
            }
            _ => true,
        },
    }
}

/// Where to go after signing in: a path of ours, and nothing that a browser takes for another host.
pub fn local_path(next: &str) -> &str {
    let fits = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains(['\\', '\r', '\n', '\t'])
        && !next.starts_with("/sign-");
    if fits { next } else { "/" }
}

impl Dashboard {
    /// The cookie of somebody who has just signed in with `key`.
    pub(super) async fn sign_in(
        &self,
        headers: &HeaderMap,
        key: &ApiKey,
    ) -> Result<HeaderValue, Problem> {
        let secret = self.signer.secret(&self.app).await?;
        let world = self.app.store.world();
        let ends = world.now().secs() + SESSION_S;
        let nonce = world.uuid_v4().simple();
        let text = format!("{}.{ends}.{nonce}", key.hash);
        let signed = format!("{text}.{}", mac(&secret, &["session", &text]));
        Ok(cookie(is_secure(&self.app, headers), &signed, SESSION_S))
    }

    /// The cookie that takes a session away.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> HeaderValue {
        cookie(is_secure(&self.app, headers), "", 0)
    }

    /// Who sent a request, if they are signed in.
    pub(super) async fn viewer(&self, parts: &Parts) -> Result<Option<Viewer>, Problem> {
        let name = cookie_name(is_secure(&self.app, &parts.headers));
        let cookies = parts.headers.get_all(header::COOKIE).iter();
        let mut cookies = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let Some((_, value)) = cookies.find(|(found, _)| *found == name) else {
            return Ok(None);
        };
        let Some((text, signature)) = value.rsplit_once('.') else {
            return Ok(None);
        };
        let secret = self.signer.secret(&self.app).await?;
        if !same(&mac(&secret, &["session", text]), signature) {
            return Ok(None);
        }
        let mut pieces = text.split('.');
        let (Some(hash), Some(ends)) = (pieces.next(), pieces.next()) else {
            return Ok(None);
        };
        let now = self.app.store.world().now();
        if !ends.parse().is_ok_and(|ends: i64| now.secs() < ends) {
            return Ok(None);
        }
        let Some(key) = self.app.accounts.key_of_hash(hash).await? else {
            return Ok(None);
        };
        self.page_rate.take(&key, now)?;
        let project = self.app.accounts.project(key.project).await?;
        Ok(Some(Viewer {
            csrf: mac(&secret, &["form", text]),
            tab: Tab::of(parts),
            project,
            key,
        }))
    }
}

impl FromRequestParts<Dashboard> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        dashboard: &Dashboard,
    ) -> Result<Self, Response> {
        match dashboard.viewer(parts).await {
            Ok(Some(viewer)) => Ok(viewer),
            Ok(None) => Err(sign_in_first(parts)),
            Err(problem) => Err(page::failed(None, &problem)),
        }
    }
}

/// To the sign-in, and back from there.
fn sign_in_first(parts: &Parts) -> Response {
    let here = match parts.method {
        Method::GET => parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        _ => "/",
    };
    let next = url::form_urlencoded::byte_serialize(here.as_bytes()).collect::<String>();
    page::see_other(&if here == "/" {
        "/sign-in".to_owned()
    } else {
        format!("/sign-in?next={next}")
    })
}

impl FromRequest<Dashboard> for Post {
    type Rejection = Response;

    async fn from_request(request: Request, dashboard: &Dashboard) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let viewer = Viewer::from_request_parts(&mut parts, dashboard).await?;
        if !viewer.writes() {
            return Err(page::failed(Some(&viewer), &read_only()));
        }
        let fields = match form(body).await {
            Ok(fields) => fields,
            Err(problem) => return Err(page::failed(Some(&viewer), &problem)),
        };
        if !viewer.sent(&parts.headers, &fields) {
            return Err(page::failed(Some(&viewer), &foreign_form()));
        }
        Ok(Self { viewer, fields })
    }
}

/// What is said to who may not change anything.
pub fn read_only() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "you are signed in with a read-only key, which changes nothing; sign in with a read-write key",
    )
}

/// What is said of a form that is from elsewhere.
pub fn foreign_form() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "the form is not from your session's pages; go back, load the page again, and send it once more",
    )
}

/// Reads a form.
pub async fn form(body: Body) -> Result<Fields, Problem> {
    let bytes = Limited::new(body, MAX_FORM).collect().await;
    let bytes = bytes.map_err(|_| {
        let detail = format!("the form broke off, or has more than {MAX_FORM} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    })?;
    Ok(Fields::parse(&bytes.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for (next, goes) in [
            ("/monitors/1?a=b", "/monitors/1?a=b"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/sign-out", "/"),
        ] {
            assert_eq!(local_path(next), goes);
        }
    }

    #[test]
    fn texts_that_are_signed_are_told_apart() {
        let secret = SecretString::from("secret");
        assert_ne!(mac(&secret, &["a", "bc"]), mac(&secret, &["ab", "c"]));
        assert_ne!(
            mac(&secret, &["form", "x"]),
            mac(&secret, &["session", "x"])
        );
    }

    #[test]
    fn forms_of_other_origins_are_known_by_what_the_browser_says() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            headers
        };
        assert!(is_same_origin(&headers(&[])));
        assert!(is_same_origin(&headers(&[(
            "sec-fetch-site",
            "same-origin"
        )])));
        assert!(!is_same_origin(&headers(&[(
            "sec-fetch-site",
            "cross-site"
        )])));
        assert!(!is_same_origin(&headers(&[(
            "sec-fetch-site",
            "same-site"
        )])));
        assert!(is_same_origin(&headers(&[
            ("origin", "http://a:1"),
            ("host", "a:1")
        ])));
        assert!(!is_same_origin(&headers(&[
            ("origin", "http://b"),
            ("host", "a")
        ])));
    }
}
