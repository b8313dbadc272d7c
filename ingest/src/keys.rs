//! `/v1/keys`: the API keys of a project, by their hashes' first digits; and its ping key.

use crate::app::App;
use crate::auth::Writer;
use crate::body::{Json, PathId};
use crate::problem::Problem;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thrum_schema::key::{self, ApiKey, KEY_ID_LEN, Scope};
use thrum_schema::plan::Limits;
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::StoreError;
use utoipa::ToSchema;

/// Most API keys a project may have, whatever its plan.
const MAX_KEYS: u32 = 100;
/// The greatest limit of a key.
const MAX_LIMIT: u32 = 1_000_000_000;
/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// How long a key and its successor are both good, unless it is said otherwise, in seconds: a day; and at most.
const OVERLAP_S: u64 = 86_400;
const MAX_OVERLAP_S: u64 = 30 * 86_400;

/// What a key allows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "it describes `Scope`, which knows no descriptions"
)]
pub enum KeyScope {
    Write,
    Read,
}

/// What a client sends to make a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    #[schema(value_type = KeyScope)]
    scope: Scope,
    /// At most 100 characters.
    #[serde(default)]
    #[schema(max_length = 100)]
    name: String,
    /// Requests a day; at most what the plan allows.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    requests_per_day: Option<u32>,
    /// Requests a minute; at most what the plan allows.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    requests_per_minute: Option<u32>,
}

/// How a key is to be rotated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// For so many seconds both are good; a day by default.
    #[schema(minimum = 0, maximum = 2_592_000)]
    overlap_s: Option<u64>,
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    pub id: String,
    pub name: String,
    #[schema(value_type = KeyScope)]
    pub scope: Scope,
    pub created: String,
    /// When it ends, if it was rotated.
    pub until: Option<String>,
    /// What it may use, where that is not what the plan says.
    pub requests_per_day: Option<u32>,
    pub requests_per_minute: Option<u32>,
}

/// An API key with its secret: shown once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewKey {
    /// The secret. It is shown here, and never again.
    pub key: String,
    #[serde(flatten)]
    pub view: KeyView,
}

/// API keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyList {
    pub keys: Vec<KeyView>,
}

/// A ping key: shown once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewPingKey {
    /// The secret. It is shown here, and never again.
    pub ping_key: String,
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
                    "{field} must be 1 to {most}, as the plan allows"
                )));
            }
        }
        Ok(())
    }

    /// A new key and its secret.
    pub fn key(self, app: &App, project: ProjectId) -> (String, ApiKey) {
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

impl App {
    /// Whether the project may have another key. Those that end count, for they are good until then.
    pub(crate) async fn check_room_for_key(&self, project: ProjectId) -> Result<(), Problem> {
        let most = self.limits(project).await?.keys.unwrap_or(MAX_KEYS);
        if self.good_keys(project).await?.len() >= most as usize {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!("a project of this plan has at most {most} keys; revoke one first"),
            ));
        }
        Ok(())
    }

    /// Takes one of the keys that a project may make a day: each has a quota of its own.
    async fn take_key(&self, project: ProjectId) -> Result<(), Problem> {
        let most = self.limits(project).await?.keys.unwrap_or(MAX_KEYS);
        let now = self.store.world().now();
        if self.store.take(project, "keys", now, Some(most)).await? {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::CONFLICT,
            format!("a project of this plan makes at most {most} keys a day; rotate one instead"),
        ))
    }

    /// Makes a key of a project.
    pub(crate) async fn make_key(
        &self,
        project: ProjectId,
        request: KeyRequest,
    ) -> Result<NewKey, Problem> {
        let (secret, key) = request.key(self, project);
        self.store.put_api_key(&key).await?;
        Ok(NewKey {
            key: secret,
            view: (&key).into(),
        })
    }

    /// The keys of a project that have not ended.
    pub(crate) async fn good_keys(&self, project: ProjectId) -> Result<Vec<ApiKey>, StoreError> {
        let now = self.store.world().now();
        let mut keys = self.store.api_keys(project).await?;
        keys.retain(|key| key.holds(now));
        keys.sort_by(|a, b| a.created.cmp(&b.created).then(a.hash.cmp(&b.hash)));
        Ok(keys)
    }
}

/// Lists the API keys of the project, without their secrets.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "list_keys", tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = KeyList), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn list(State(app): State<App>, writer: Writer) -> Result<axum::Json<KeyList>, Problem> {
    writer.caller.charge(&app).await?;
    let keys = app.good_keys(writer.project).await?;
    let keys = keys.iter().map(KeyView::from).collect();
    Ok(axum::Json(KeyList { keys }))
}

/// Makes an API key; its secret is shown once.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "create_key", tag = "keys",
    security(("api_key" = []), ("bearer" = [])), request_body = KeyRequest,
    responses((status = 201, body = NewKey), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn create(
    State(app): State<App>,
    writer: Writer,
    Json(request): Json<KeyRequest>,
) -> Result<(StatusCode, axum::Json<NewKey>), Problem> {
    request.check(&app.limits(writer.project).await?)?;
    app.check_room_for_key(writer.project).await?;
    writer.caller.charge(&app).await?;
    app.take_key(writer.project).await?;
    let made = app.make_key(writer.project, request).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Rotates an API key: makes its successor, and ends it after an overlap in which both are good.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", operation_id = "rotate_key", tag = "keys",
    security(("api_key" = []), ("bearer" = [])), request_body = Rotation,
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 201, body = NewKey), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn rotate(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
    Json(rotation): Json<Rotation>,
) -> Result<(StatusCode, axum::Json<NewKey>), Problem> {
    let overlap_s = rotation.overlap_s.unwrap_or(OVERLAP_S);
    if overlap_s > MAX_OVERLAP_S {
        return Err(Problem::bad_request(format!(
            "overlap_s must be at most {MAX_OVERLAP_S}"
        )));
    }
    let keys = app.good_keys(writer.project).await?;
    let key = named(&keys, &id)?;
    app.check_room_for_key(writer.project).await?;
    writer.caller.charge(&app).await?;
    let world = app.store.world();
    let now = world.now();
    let secret = key::new_api_key(world, key.scope);
    let mut successor = ApiKey::new(&secret, key.project, key.scope, &key.name, now);
    successor.limits = key.limits;
    successor.meter = Some(key.meter().to_owned());
    let until = now + i64::try_from(overlap_s * 1000).unwrap_or(0);
    let ending = ApiKey {
        until: Some(key.until.map_or(until, |before| before.min(until))),
        ..key.clone()
    };
    match app.store.rotate_api_key(&ending, &successor).await {
        Ok(()) => {}
        Err(StoreError::Conflict) => return Err(Problem::not_found("key")),
        Err(error) => return Err(error.into()),
    }
    app.forget_key(&key.hash);
    let made = NewKey {
        key: secret,
        view: (&successor).into(),
    };
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Revokes an API key.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", operation_id = "revoke_key", tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 204, description = "Handlers forget it within half a minute"), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn revoke(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let keys = app.good_keys(writer.project).await?;
    let key = named(&keys, &id)?;
    let lasting = |key: &&ApiKey| key.scope == Scope::Write && key.until.is_none();
    let last = || {
        Problem::new(
            StatusCode::CONFLICT,
            "this is the last read-write key; make another one first",
        )
    };
    let mut others = keys.iter().filter(lasting);
    let survivor = others.find(|other| other.hash != key.hash);
    let survivor = survivor.ok_or_else(last)?;
    writer.caller.charge(&app).await?;
    match app.store.delete_api_key(key, Some(survivor)).await {
        Ok(()) => {}
        // Revoked at the same moment.
        Err(StoreError::Conflict) => return Err(last()),
        Err(error) => return Err(error.into()),
    }
    app.forget_key(&key.hash);
    Ok(StatusCode::NO_CONTENT)
}

/// Makes the project's ping key anew: URLs with the one before are no longer good.
#[utoipa::path(
    post, path = "/v1/ping-key", operation_id = "rotate_ping_key", tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 201, body = NewPingKey), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn rotate_ping_key(
    State(app): State<App>,
    writer: Writer,
) -> Result<(StatusCode, axum::Json<NewPingKey>), Problem> {
    writer.caller.charge(&app).await?;
    let before = app.store.ping_keys(writer.project).await?;
    let ping_key = key::new_ping_key(app.store.world());
    app.store.put_ping_key(writer.project, &ping_key).await?;
    drop_ping_keys(&app, writer.project, &before).await?;
    Ok((StatusCode::CREATED, axum::Json(NewPingKey { ping_key })))
}

/// Takes the project's ping key away: no URL with a slug is good.
#[utoipa::path(
    delete, path = "/v1/ping-key", operation_id = "delete_ping_key", tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 204, description = "Handlers forget it within half a minute"), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn delete_ping_key(
    State(app): State<App>,
    writer: Writer,
) -> Result<StatusCode, Problem> {
    writer.caller.charge(&app).await?;
    let before = app.store.ping_keys(writer.project).await?;
    drop_ping_keys(&app, writer.project, &before).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn drop_ping_keys(app: &App, project: ProjectId, hashes: &[String]) -> Result<(), Problem> {
    for hash in hashes {
        app.store.delete_ping_key(project, hash).await?;
        app.forget_ping_key(hash);
    }
    Ok(())
}

fn named<'a>(keys: &'a [ApiKey], id: &str) -> Result<&'a ApiKey, Problem> {
    keys.iter()
        .find(|key| id.len() == KEY_ID_LEN && key.id() == id)
        .ok_or_else(|| Problem::not_found("key"))
}
