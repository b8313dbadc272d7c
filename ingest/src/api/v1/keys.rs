//! `/v1/keys`: the API keys of a project, identified by the first digits of their hashes.

use crate::app::App;
use crate::http::{Edit, Json, Missing, Named, Overload, Page, Params, Problem, Problems, Writer};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thrum_schema::key::{self, ApiKey, KEY_ID_LEN, Scope};
use thrum_schema::plan::Limits;
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::{Kind, StoreError};
use utoipa::ToSchema;

/// How often to try again while other keys are created.
const MAX_ATTEMPTS: u32 = 64;
/// The highest limit of a key.
const MAX_LIMIT: u32 = 1_000_000_000;
/// The longest name, in characters.
const MAX_NAME: usize = 100;
/// How long a rotated key and its successor are both valid by default, in seconds: a day.
const OVERLAP_S: u64 = 86_400;
/// The longest overlap, in seconds: 30 days.
const MAX_OVERLAP_S: u64 = 30 * 86_400;

/// An API key to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    scope: Scope,
    /// At most 100 characters.
    #[serde(default)]
    #[schema(max_length = 100)]
    name: String,
    /// Requests per day, at most the plan's limit.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    requests_per_day: Option<u32>,
    /// Requests per minute, at most the plan's limit.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    requests_per_minute: Option<u32>,
}

/// How to rotate a key.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// For how many seconds both keys are valid; a day if absent.
    #[schema(minimum = 0, maximum = 2_592_000)]
    overlap_s: Option<u64>,
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    pub id: String,
    pub name: String,
    pub scope: Scope,
    pub created: String,
    /// When it stops working, if it was rotated.
    pub until: Option<String>,
    /// Its own limit of requests per day; null if the plan's applies.
    pub requests_per_day: Option<u32>,
    /// Its own limit of requests per minute; null if the plan's applies.
    pub requests_per_minute: Option<u32>,
}

/// A new API key with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewKey {
    /// The secret. It is shown only once.
    pub key: String,
    #[serde(flatten)]
    pub view: KeyView,
}

/// API keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyList {
    pub keys: Vec<KeyView>,
    /// The cursor of the next part, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl From<&ApiKey> for KeyView {
    fn from(key: &ApiKey) -> Self {
        let limits = key.limits.unwrap_or_default();
        Self {
            id: key.id().to_owned(),
            name: key.name.clone(),
            scope: key.scope,
            created: key.created.rfc3339(),
            until: key.until.map(UnixMs::rfc3339),
            requests_per_day: limits.requests_per_day,
            requests_per_minute: limits.requests_per_minute,
        }
    }
}

impl KeyRequest {
    /// Checks the request against `plan`, whose limits it may not exceed.
    pub fn check(&self, plan: &Limits) -> Result<(), Problem> {
        if self.name.chars().count() > MAX_NAME {
            return Err(Problem::bad_request(format!(
                "name must be at most {MAX_NAME} characters"
            )));
        }
        for (field, given, most) in [
            (
                "requests_per_day",
                self.requests_per_day,
                plan.requests_per_day,
            ),
            (
                "requests_per_minute",
                self.requests_per_minute,
                plan.requests_per_minute,
            ),
        ] {
            let most = most.unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
            if given.is_some_and(|given| !(1..=most).contains(&given)) {
                return Err(Problem::bad_request(format!(
                    "{field} must be between 1 and {most}"
                )));
            }
        }
        Ok(())
    }

    /// A new key and its secret.
    pub fn key(&self, app: &App, project: ProjectId) -> (String, ApiKey) {
        let world = app.store.world();
        let secret = key::new_api_key(world, self.scope);
        let limits = Limits {
            requests_per_day: self.requests_per_day,
            requests_per_minute: self.requests_per_minute,
            ..Limits::default()
        };
        let mut key = ApiKey::new(&secret, project, self.scope, &self.name, world.now());
        key.limits = (limits != Limits::default()).then_some(limits);
        (secret, key)
    }
}

/// Lists the API keys of the project, without their secrets.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "list_keys", tag = "keys",
    params(Page),
    responses((status = 200, body = KeyList), Problems, Overload),
)]
pub async fn list(
    State(app): State<App>,
    writer: Writer,
    Params(page): Params<Page>,
) -> Result<axum::Json<KeyList>, Problem> {
    writer.caller.charge(&app).await?;
    let keys = app.accounts.valid_keys(writer.project).await?;
    let key = |key: &ApiKey| format!("{:020}{}", key.created.0, key.hash);
    let (keys, next_cursor) = page.of(keys, key)?;
    let keys = keys.iter().map(KeyView::from).collect();
    Ok(axum::Json(KeyList { keys, next_cursor }))
}

/// Creates an API key. Its secret is shown once.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "create_key", tag = "keys",
    request_body = KeyRequest,
    responses((status = 201, body = NewKey), Problems, Overload),
)]
pub async fn create(
    State(app): State<App>,
    writer: Writer,
    Json(request): Json<KeyRequest>,
) -> Result<(StatusCode, axum::Json<NewKey>), Problem> {
    let project = writer.project;
    request.check(&app.accounts.limits(project).await?)?;
    let mut charged = false;
    for attempt in 0..MAX_ATTEMPTS {
        let counted = app.store.before_count(project, Kind::Keys).await?;
        let keys = app.accounts.valid_keys(project).await?;
        check_room(&app, project, keys.len()).await?;
        if !charged {
            writer.caller.charge(&app).await?;
            if !app.accounts.take_key(project).await? {
                let most = app.accounts.most_keys(project).await?;
                return Err(Problem::conflict(format!(
                    "a project with this plan may create at most {most} keys per day; rotate a key instead"
                )));
            }
            charged = true;
        }
        let (secret, key) = request.key(&app, project);
        match app.store.create_api_key(&key, &counted).await {
            Ok(()) => {
                let view = (&key).into();
                let created = NewKey { key: secret, view };
                return Ok((StatusCode::CREATED, axum::Json(created)));
            }
            Err(StoreError::Conflict) => app.store.back_off(attempt).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// Creates a key for a project, without further checks.
pub async fn create_with(
    app: &App,
    project: ProjectId,
    request: KeyRequest,
) -> Result<NewKey, Problem> {
    let (secret, key) = request.key(app, project);
    app.store.put_api_key(&key).await?;
    Ok(NewKey {
        key: secret,
        view: (&key).into(),
    })
}

/// Checks that the project may have another key than its `n`. A rotated key counts until it stops
/// working.
async fn check_room(app: &App, project: ProjectId, n: usize) -> Result<(), Problem> {
    let most = app.accounts.most_keys(project).await?;
    if n >= most as usize {
        return Err(Problem::conflict(format!(
            "a project with this plan has at most {most} keys; revoke one first"
        )));
    }
    Ok(())
}

/// A valid key of a project, and the other valid ones: all are read together.
pub struct OneKey {
    key: ApiKey,
    others: Vec<ApiKey>,
}

impl Named for OneKey {
    async fn find(app: &App, project: ProjectId, id: &str) -> Result<Self, Problem> {
        let mut keys = app.accounts.valid_keys(project).await?;
        let is_it = |key: &ApiKey| id.len() == KEY_ID_LEN && key.id() == id;
        let at = keys.iter().position(is_it);
        let at = at.ok_or_else(|| Problem::not_found("key"))?;
        Ok(Self {
            key: keys.swap_remove(at),
            others: keys,
        })
    }
}

/// Rotates an API key: creates a successor. The old key stops working after an overlap.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", operation_id = "rotate_key", tag = "keys",
    request_body = Rotation,
    params(("id" = String, Path, description = "The key's ID")),
    responses((status = 201, body = NewKey), Problems, Overload, Missing),
)]
pub async fn rotate(
    State(app): State<App>,
    Edit { writer, it }: Edit<OneKey>,
    Json(rotation): Json<Rotation>,
) -> Result<(StatusCode, axum::Json<NewKey>), Problem> {
    let overlap_s = rotation.overlap_s.unwrap_or(OVERLAP_S);
    if overlap_s > MAX_OVERLAP_S {
        return Err(Problem::bad_request(format!(
            "overlap_s must be at most {MAX_OVERLAP_S} (got {overlap_s})"
        )));
    }
    let OneKey { key, .. } = it;
    let mut charged = false;
    for attempt in 0..MAX_ATTEMPTS {
        let counted = app.store.before_count(writer.project, Kind::Keys).await?;
        let OneKey { key, others } = OneKey::find(&app, writer.project, key.id()).await?;
        check_room(&app, writer.project, others.len() + 1).await?;
        if !charged {
            writer.caller.charge(&app).await?;
            charged = true;
        }
        let world = app.store.world();
        let now = world.now();
        let secret = key::new_api_key(world, key.scope);
        let mut successor = ApiKey::new(&secret, key.project, key.scope, &key.name, now);
        successor.limits = key.limits;
        successor.meter = Some(key.meter().to_owned());
        let until = now + i64::try_from(overlap_s * 1000).unwrap_or(0);
        let until = key.until.map_or(until, |before| before.min(until));
        let rotated = app.store.rotate_api_key(&key, until, &successor, &counted);
        match rotated.await {
            Ok(()) => {
                app.accounts.forget_key(&key.hash);
                let created = NewKey {
                    key: secret,
                    view: (&successor).into(),
                };
                return Ok((StatusCode::CREATED, axum::Json(created)));
            }
            Err(StoreError::Conflict) => app.store.back_off(attempt).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// Revokes an API key.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", operation_id = "revoke_key", tag = "keys",
    params(("id" = String, Path, description = "The key's ID")),
    responses((status = 204, description = "Revoked; it stops working within 30 seconds"), Problems, Overload, Missing),
)]
pub async fn revoke(
    State(app): State<App>,
    Edit { writer, it }: Edit<OneKey>,
) -> Result<StatusCode, Problem> {
    let last = || Problem::conflict("this is the last read-write key; create another one first");
    let OneKey { key, others } = it;
    let mut others = others.iter();
    let survivor = others.find(|other| other.scope == Scope::Write && other.until.is_none());
    let survivor = survivor.ok_or_else(last)?;
    writer.caller.charge(&app).await?;
    match app.store.delete_api_key(&key, Some(survivor)).await {
        Ok(()) => {}
        // The survivor was revoked at the same time.
        Err(StoreError::Conflict) => return Err(last()),
        Err(error) => return Err(error.into()),
    }
    app.accounts.forget_key(&key.hash);
    Ok(StatusCode::NO_CONTENT)
}
