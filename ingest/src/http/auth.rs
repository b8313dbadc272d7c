//! Authentication: API keys and the admin key, read from a header and checked against their hashes.

use super::metering::BalanceSlot;
use super::problem::Problem;
use crate::app::App;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use thrum_schema::ProjectId;
use thrum_schema::key::{API_KEY_LEN, ApiKey, Scope};
use thrum_store::Charged;

/// A client with an API key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key.
    pub key: ApiKey,
    /// Takes the key's balance, for the response headers.
    pub balance_slot: BalanceSlot,
    /// Whether its requests are free, because a person is using the dashboard.
    pub free: bool,
}

impl Caller {
    /// The client that sent the request `parts` with `key`.
    pub fn new(key: ApiKey, parts: &Parts) -> Self {
        Self {
            key,
            balance_slot: BalanceSlot::of(parts),
            free: false,
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
                self.balance_slot.note(balance);
                Ok(())
            }
            Charged::Refused {
                balance,
                wait_ms,
                quota,
            } => {
                self.balance_slot.note(Some(balance));
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

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = authenticate(&parts.headers, app).await?;
        Ok(Self {
            project: key.project,
            sees_secrets: key.scope == Scope::Write,
            caller: Caller::new(key, parts),
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
                caller: Caller::new(key, parts),
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
        return Err(unauthorized("an API key must have exactly 32 characters"));
    }
    app.accounts
        .api_key(secret)
        .await?
        .ok_or_else(|| unauthorized("this API key is unknown"))
}
