//! Sessions of the dashboard: a signed cookie with an expiry, and a CSRF token for forms.
//!
//! The cookie contains the hash of the API key, never the key. Each request looks up the key, so
//! revoking it ends the session, and a read-only key gives a read-only dashboard.

use super::fields::Fields;
use super::page;
use crate::app::App;
use crate::config::AdminKey;
use crate::http::Caller;
use crate::http::Problem;
use crate::http::metering::Meter;
use crate::http::{Reader, Writer};
use crate::services::Limiter;
use axum::body::Body;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Limited};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::sync::Arc;
use thrum_schema::key::same;
use thrum_schema::key::{ApiKey, Scope};
use thrum_schema::plan::Rate;
use thrum_schema::{Project, UnixMs};

/// How long a session lasts, in seconds.
const SESSION_S: i64 = 7 * 86_400;
/// How long a secret derived from an externally stored admin key is cached, in milliseconds.
const SECRET_MS: i64 = 300_000;
/// Maximum number of page views per key per minute. A page that polls every 2 s needs 30.
const VIEWS_PER_MINUTE: u32 = 600;
/// Maximum size of a form, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// The secret that signs cookies and forms: the configured one; or one derived from the admin key,
/// which every instance of a function has; or else a random one for this process.
#[derive(Debug, Default)]
struct Signer(tokio::sync::Mutex<Option<(UnixMs, SecretString)>>);

/// Creates and checks sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions {
    app: App,
    signer: Arc<Signer>,
    /// Page views, by the hash of their key. They don't count against the quota.
    views: Arc<Limiter<String>>,
}

/// A signed-in user.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The API key of the session.
    pub key: ApiKey,
    /// The key's project.
    pub project: Arc<Project>,
    /// The CSRF token that the session's forms must contain.
    pub csrf: String,
    /// How many of the project's channels are failing.
    pub failing: usize,
    meter: Meter,
}

/// A form submitted with write access. Every handler that changes the project
/// takes one.
#[derive(Debug)]
pub struct Post {
    /// The user who submitted it.
    pub viewer: Viewer,
    /// Its fields.
    pub fields: Fields,
}

impl Viewer {
    /// Whether the key has write access.
    pub fn writes(&self) -> bool {
        self.key.scope == Scope::Write
    }

    /// Whether a form was submitted from a page of this session.
    pub fn sent(&self, headers: &HeaderMap, fields: &Fields) -> bool {
        is_same_origin(headers) && same(fields.text("csrf"), &self.csrf)
    }

    /// The caller for reading through the API. What a page reads does not count against the quota.
    pub fn reader(&self) -> Reader {
        Reader {
            project: self.key.project,
            sees_secrets: self.writes(),
            caller: Caller {
                key: self.key.clone(),
                meter: self.meter.clone(),
                free: true,
            },
        }
    }
}

impl Post {
    /// The caller for writing through the API. Writes count against the quota.
    pub fn writer(&self) -> Writer {
        Writer {
            project: self.viewer.key.project,
            caller: Caller {
                key: self.viewer.key.clone(),
                meter: self.viewer.meter.clone(),
                free: false,
            },
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
            && (!elsewhere || at.is_within(SECRET_MS, now))
        {
            return Ok(secret.clone());
        }
        let secret = match app.accounts.admin_secret().await {
            Ok(Some(admin)) => SecretString::from(mac(&admin, &["sessions of the dashboard"])),
            Ok(None) => {
                let world = app.store.world();
                SecretString::from(format!("{}{}", world.uuid_v4(), world.uuid_v4()))
            }
            // Keep using the cached secret while the admin key can't be fetched.
            Err(error) => match &*kept {
                Some((_, secret)) => secret.clone(),
                None => return Err(error.into()),
            },
        };
        *kept = Some((now, secret.clone()));
        Ok(secret)
    }
}

/// An HMAC of several texts. Each is terminated, so that `ab, c` and `a, bc` differ.
fn mac(secret: &SecretString, texts: &[&str]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC accepts keys of any length");
    for text in texts {
        mac.update(text.as_bytes());
        mac.update(b"\0");
    }
    BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Whether the browser uses https. If it uses plain http, as on localhost, it rejects `Secure`
/// cookies.
fn is_secure(app: &App, headers: &HeaderMap) -> bool {
    let forwarded = headers
        .get("x-forwarded-proto")
        .and_then(|value| value.to_str().ok());
    let site = app.config.site_url.as_deref();
    forwarded.is_some_and(|proto| proto.starts_with("https"))
        || site.is_some_and(|url| url.starts_with("https://"))
}

/// The name of the cookie. Browsers accept a `__Host-` cookie only from this host, over https.
const fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-thrum" } else { "thrum" }
}

fn cookie(secure: bool, value: &str, max_age_s: i64) -> HeaderValue {
    let name = cookie_name(secure);
    let flag = if secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{flag}");
    HeaderValue::try_from(text).expect("the value is ASCII without control characters")
}

/// Whether a form comes from this site, according to the browser's headers. This also protects the
/// sign-in form, which has no CSRF token.
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

/// The page to open after signing in: a path on this host, and nothing that browsers take for
/// another host.
pub fn local_path(next: &str) -> &str {
    let fits = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains(['\\', '\r', '\n', '\t'])
        && !next.starts_with("/sign-");
    if fits { next } else { "/" }
}

impl Sessions {
    /// Sessions of the app's keys.
    pub(super) fn new(app: App) -> Self {
        Self {
            app,
            signer: Arc::default(),
            views: Arc::default(),
        }
    }

    /// The cookie of a new session with `key`.
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

    /// The cookie that deletes a session.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> HeaderValue {
        cookie(is_secure(&self.app, headers), "", 0)
    }

    /// The signed-in user who sent a request, if there is one.
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
        let key = self.app.accounts.key_of_hash(hash).await?;
        let Some(key) = key.filter(|key| key.scope.reads()) else {
            return Ok(None);
        };
        let rate = Rate::per_minute(VIEWS_PER_MINUTE);
        if let Err(wait_ms) = self.views.take(key.hash.clone(), rate) {
            return Err(Problem::too_many("too many page views", wait_ms));
        }
        let (project, failing) = futures::try_join!(
            self.app.accounts.project(key.project),
            self.app.store.failing_channels(key.project)
        )?;
        Ok(Some(Viewer {
            failing: failing.len(),
            csrf: mac(&secret, &["form", text]),
            meter: Meter::of(parts),
            project,
            key,
        }))
    }
}

impl<S: Sync> FromRequestParts<S> for Viewer
where
    Sessions: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Sessions::from_ref(state).viewer(parts).await {
            Ok(Some(viewer)) => Ok(viewer),
            Ok(None) => Err(sign_in_first(parts)),
            Err(problem) => Err(page::failed(None, &problem)),
        }
    }
}

/// Redirects to the sign-in page, which then redirects back.
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

impl<S: Sync> FromRequest<S> for Post
where
    Sessions: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let viewer = Viewer::from_request_parts(&mut parts, state).await?;
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

/// 403, for a read-only key.
pub fn read_only() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "you are signed in with a read-only key; to change anything, sign in with a read-write key",
    )
}

/// 403, for a form without the session's CSRF token, or from another site.
pub fn foreign_form() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "this form does not belong to your session; go back, reload the page, and submit it again",
    )
}

/// Reads the body of a form, of at most `MAX_FORM` bytes.
pub async fn form(body: Body) -> Result<Fields, Problem> {
    let bytes = Limited::new(body, MAX_FORM).collect().await;
    let bytes = bytes.map_err(|_| {
        let detail = format!("the form is incomplete, or longer than {MAX_FORM} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    })?;
    Ok(Fields::parse(&bytes.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_never_redirects_to_another_host() {
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
    fn signatures_depend_on_how_the_text_is_split() {
        let secret = SecretString::from("secret");
        assert_ne!(mac(&secret, &["a", "bc"]), mac(&secret, &["ab", "c"]));
        assert_ne!(
            mac(&secret, &["form", "x"]),
            mac(&secret, &["session", "x"])
        );
    }

    #[test]
    fn forms_from_other_origins_are_detected_by_their_headers() {
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
