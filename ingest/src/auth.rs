//! Who may do what: API keys, from a header, checked against their hashes.

use crate::app::App;
use crate::cache::Cache;
use crate::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use thrum_schema::ProjectId;
use thrum_schema::key::{API_KEY_LEN, ApiKey, Scope, hash};

/// Keys that were looked up within the last half minute, by their hashes.
#[derive(Debug, Default)]
pub struct Keys {
    api: Cache<String, ApiKey>,
    ping: Cache<String, ProjectId>,
}

/// The caller may read `project`.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// The project.
    pub project: ProjectId,
    /// Whether the caller may also see what lets others write: ping URLs, and the URLs of webhooks.
    pub sees_secrets: bool,
}

/// The caller may read and change `project`.
#[derive(Debug, Clone, Copy)]
pub struct Writer(pub ProjectId);

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = authenticate(&parts.headers, app).await?;
        Ok(Self {
            project: key.project,
            sees_secrets: key.scope == Scope::Write,
        })
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = authenticate(&parts.headers, app).await?;
        if key.scope == Scope::Write {
            Ok(Self(key.project))
        } else {
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                "this key is read-only; use a read-write key",
            ))
        }
    }
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
    let now = app.store.world().now();
    let hash = hash(secret);
    if let Some(key) = app.keys.api.get(&hash, now) {
        return Ok(key);
    }
    let key = app
        .store
        .api_key(secret)
        .await?
        .ok_or_else(|| unauthorized("this API key is not known"))?;
    app.keys.api.put(hash, key.clone(), now);
    Ok(key)
}

impl App {
    /// The project whose ping key `secret` is.
    pub(crate) async fn project_of_ping_key(
        &self,
        secret: &str,
    ) -> Result<Option<ProjectId>, thrum_schema::StoreError> {
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

    /// Forgets a key that was revoked here; other handlers forget it within half a minute.
    pub(crate) fn forget_key(&self, hash: &str) {
        self.keys.api.forget(&hash.to_owned());
    }
}
