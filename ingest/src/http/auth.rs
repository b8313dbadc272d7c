//! Authentication: API keys and the admin key, read from a header and checked against their hashes.

use super::metering::Meter;
use super::problem::Problem;
use crate::app::App;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use thrum_schema::ProjectId;
use thrum_schema::key::{API_KEY_LEN, ApiKey, Scope};
use thrum_store::Charged;

/// A client with an API key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key.
    pub key: ApiKey,
    /// What is known about the charge.
    pub meter: Meter,
    /// Whether its requests are free, because a person is using the dashboard.
    pub free: bool,
}

impl Caller {
    /// The client that sent the request `parts` with `key`.
    pub fn new(key: ApiKey, parts: &Parts) -> Self {
        let meter = Meter::of(parts);
        meter.note_key(&key);
        Self {
            key,
            meter,
            free: false,
        }
    }

    /// The client with the key `secret` that sent the request `parts`, if the key is valid.
    ///
    /// # Errors
    /// 429 if too many of its requests were refused; 503 if the table failed.
    pub async fn of_key(app: &App, secret: &str, parts: &Parts) -> Result<Option<Self>, Problem> {
        match app.accounts.api_key(secret).await? {
            Some(key) => Self::checked(app, key, parts).await.map(Some),
            None => Ok(None),
        }
    }

    /// The client with `key`.
    ///
    /// # Errors
    /// 429 if too many of its requests were refused; 503 if the table failed.
    async fn checked(app: &App, key: ApiKey, parts: &Parts) -> Result<Self, Problem> {
        match app.accounts.check_refusals(&key).await? {
            Ok(()) => Ok(Self::new(key, parts)),
            Err(wait_ms) => {
                let what = "too many requests with this key were refused";
                Err(Problem::too_many(what, wait_ms))
            }
        }
    }

    /// Charges the request to the key.
    ///
    /// # Errors
    /// 429 if the quota or the rate limit is used up, and then nothing is charged; 503 if the table
    /// failed.
    pub async fn charge(&self, app: &App) -> Result<(), Problem> {
        if self.free {
            return Ok(());
        }
        match app.accounts.charge(&self.key).await? {
            Charged::Taken(balance) => {
                self.meter.note(balance);
                Ok(())
            }
            Charged::Refused {
                balance,
                wait_ms,
                quota,
            } => {
                self.meter.note(Some(balance));
                let what = if quota {
                    "this key has used up its requests for the day"
                } else {
                    "this key sends requests too fast"
                };
                Err(Problem::too_many(what, wait_ms))
            }
        }
    }
}

/// The caller may read `project`.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The project.
    pub project: ProjectId,
    /// Whether the caller may also see secrets: ping URLs and webhook URLs.
    pub sees_secrets: bool,
    /// The caller to charge.
    pub caller: Caller,
}

/// The caller may read and change `project`.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The project.
    pub project: ProjectId,
    /// The caller to charge.
    pub caller: Caller,
}

/// The caller has the admin key.
#[derive(Debug, Clone, Copy)]
pub struct Admin;

/// The caller may send heartbeats to `project`.
#[derive(Debug, Clone)]
pub struct Pinger {
    /// The project.
    pub project: ProjectId,
}

/// The caller may send bars, values and sentiment to `project`.
#[derive(Debug, Clone)]
pub struct Feeder {
    /// The project.
    pub project: ProjectId,
    /// The caller to charge.
    pub caller: Caller,
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = allowed(parts, app, &[Scope::Write, Scope::Read]).await?;
        Ok(Self {
            project: caller.key.project,
            sees_secrets: caller.key.scope == Scope::Write,
            caller,
        })
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = allowed(parts, app, &[Scope::Write]).await?;
        Ok(Self {
            project: caller.key.project,
            caller,
        })
    }
}

impl FromRequestParts<App> for Pinger {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        // Without the limit of refused requests: one host with a bug must not stop the heartbeats of
        // others that have the same key.
        let key = known(parts, app).await?;
        permit(key.scope, &[Scope::Write, Scope::Heartbeat])?;
        Ok(Self {
            project: key.project,
        })
    }
}

impl FromRequestParts<App> for Feeder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = allowed(parts, app, &[Scope::Write, Scope::Series]).await?;
        Ok(Self {
            project: caller.key.project,
            caller,
        })
    }
}

/// The caller, if its key has one of `scopes`, and not too many of its requests were refused.
async fn allowed(parts: &Parts, app: &App, scopes: &[Scope]) -> Result<Caller, Problem> {
    let key = known(parts, app).await?;
    let caller = Caller::checked(app, key, parts).await?;
    permit(caller.key.scope, scopes)?;
    Ok(caller)
}

fn permit(scope: Scope, scopes: &[Scope]) -> Result<(), Problem> {
    if scopes.contains(&scope) {
        return Ok(());
    }
    let may = match scope {
        Scope::Heartbeat => "may only send heartbeats",
        Scope::Series => "may only send bars, values and sentiment",
        Scope::Read | Scope::Write => "is read-only",
    };
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        format!("this key {may}; use a read-write key"),
    ))
}

impl Writer {
    /// The same caller, as a reader.
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
        match app.accounts.is_admin_key(given).await? {
            Some(true) => Ok(Self),
            Some(false) => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "the admin key is wrong",
            )),
            None => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "this installation has no admin key; set THRUM_ADMIN_KEY",
            )),
        }
    }
}

/// The key that a request was sent with.
async fn known(parts: &Parts, app: &App) -> Result<ApiKey, Problem> {
    let unauthorized = |detail| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let headers = &parts.headers;
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
        return Err(unauthorized("an API key must have exactly 32 characters"));
    }
    app.accounts
        .api_key(secret)
        .await?
        .ok_or_else(|| unauthorized("this API key is unknown"))
}
