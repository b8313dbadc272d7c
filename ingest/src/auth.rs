//! Who may do what: API keys and the admin key, from a header, checked against their hashes.

use crate::app::App;
use crate::cache::Cache;
use crate::meter::{Caller, Tab};
use crate::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;
use thrum_schema::ProjectId;
use thrum_schema::key::{API_KEY_LEN, ApiKey, Scope, hash};
use thrum_store::StoreError;

/// Keys that were looked up within the last half minute, by their hashes.
#[derive(Debug, Default)]
pub struct Keys {
    api: Cache<String, ApiKey>,
    ping: Cache<String, ProjectId>,
}

/// The caller may read `project`.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The project.
    pub project: ProjectId,
    /// Whether the caller may also see what lets others write: ping URLs, and the URLs of webhooks.
    pub sees_secrets: bool,
    /// Whom to charge.
    pub caller: Caller,
}

/// The caller may read and change `project`.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The project.
    pub project: ProjectId,
    /// Whom to charge.
    pub caller: Caller,
}

/// The caller runs this installation.
#[derive(Debug, Clone, Copy)]
pub struct Admin;

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = authenticate(&parts.headers, app).await?;
        Ok(Self {
            project: key.project,
            sees_secrets: key.scope == Scope::Write,
            caller: Caller {
                key,
                tab: Tab::of(parts),
                free: false,
            },
        })
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = authenticate(&parts.headers, app).await?;
        if key.scope == Scope::Write {
            Ok(Self {
                project: key.project,
                caller: Caller {
                    key,
                    tab: Tab::of(parts),
                    free: false,
                },
            })
        } else {
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                "this key is read-only; use a read-write key",
            ))
        }
    }
}

impl Writer {
    /// The same caller, as one who reads.
    pub fn reader(&self) -> Reader {
        Reader {
            project: self.project,
            sees_secrets: true,
            caller: self.caller.clone(),
        }
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let given = parts
            .headers
            .get("x-admin-key")
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| {
                Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "the admin key is required: X-Admin-Key: <key>",
                )
            })?;
        match app.is_admin_key(given).await? {
            Some(true) => Ok(Self),
            Some(false) => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "this is not the admin key",
            )),
            None => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "there is no admin key; set THRUM_ADMIN_KEY",
            )),
        }
    }
}

/// Whether two hashes are the same, in constant time.
pub fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

async fn authenticate(headers: &HeaderMap, app: &App) -> Result<ApiKey, Problem> {
    let unauthorized = |detail| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let given = headers
        .get("x-api-key")
        .or_else(|| headers.get(header::AUTHORIZATION));
    let text = given
        .ok_or_else(|| {
            unauthorized("an API key is required: X-Api-Key: <key>, or Authorization: Bearer <key>")
        })?
        .to_str()
        .unwrap_or_default();
    let secret = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    if secret.len() != API_KEY_LEN {
        return Err(unauthorized("an API key has exactly 32 characters"));
    }
    app.api_key(secret)
        .await?
        .ok_or_else(|| unauthorized("this API key is not known"))
}

impl App {
    /// The API key that `secret` is, believed for at most half a minute.
    pub(crate) async fn api_key(&self, secret: &str) -> Result<Option<ApiKey>, StoreError> {
        let found = self.key_of_hash(&hash(secret)).await?;
        Ok(found.filter(|key| key.is(secret)))
    }

    /// The API key whose secret has this hash, believed for at most half a minute.
    pub(crate) async fn key_of_hash(&self, hash: &str) -> Result<Option<ApiKey>, StoreError> {
        let now = self.store.world().now();
        let key = match self.keys.api.get(&hash.to_owned(), now) {
            Some(key) => Some(key),
            None => self.store.api_key(hash).await?.inspect(|key| {
                self.keys.api.put(hash.to_owned(), key.clone(), now);
            }),
        };
        let Some(key) = key.filter(|key| key.holds(now)) else {
            return Ok(None);
        };
        // The key of a project that is gone opens nothing, even if it is still there.
        let project = self.find_project(key.project).await?;
        Ok(project.map(|_| key))
    }

    /// The project whose ping key `secret` is.
    pub(crate) async fn project_of_ping_key(
        &self,
        secret: &str,
    ) -> Result<Option<ProjectId>, StoreError> {
        let now = self.store.world().now();
        let hash = hash(secret);
        if let Some(project) = self.keys.ping.get(&hash, now) {
            return Ok(Some(project));
        }
        let project = self.store.project_of_ping_key(secret).await?;
        if let Some(project) = project {
            self.keys.ping.put(hash, project, now);
        }
        Ok(project)
    }

    /// Forgets an API key that was changed here; other handlers forget it within half a minute.
    pub(crate) fn forget_key(&self, hash: &str) {
        self.keys.api.forget(&hash.to_owned());
    }

    /// Forgets a ping key that was revoked here; other handlers forget it within half a minute.
    pub(crate) fn forget_ping_key(&self, hash: &str) {
        self.keys.ping.forget(&hash.to_owned());
    }
}
