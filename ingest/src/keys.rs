//! `/v1/keys`: the API keys of a project, by their hashes' first digits.

use crate::app::App;
use crate::auth::Writer;
use crate::body::{Json, PathId};
use crate::problem::Problem;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use thrum_schema::key::{self, ApiKey, Scope};

/// Most API keys a project may have.
const MAX_KEYS: usize = 100;
/// How many digits of its hash name a key.
const ID_LEN: usize = 16;

/// What a client sends to make a key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    scope: Scope,
    #[serde(default)]
    name: String,
}

pub async fn list(
    State(app): State<App>,
    Writer(project): Writer,
) -> Result<axum::Json<Value>, Problem> {
    let keys = app.store.api_keys(project).await?;
    let keys: Vec<Value> = keys.iter().map(view).collect();
    Ok(axum::Json(json!({ "keys": keys })))
}

pub async fn create(
    State(app): State<App>,
    Writer(project): Writer,
    Json(request): Json<Request>,
) -> Result<(StatusCode, axum::Json<Value>), Problem> {
    if request.name.chars().count() > 100 {
        return Err(Problem::bad_request("name must be at most 100 characters"));
    }
    if app.store.api_keys(project).await?.len() >= MAX_KEYS {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("a project has at most {MAX_KEYS} keys; revoke one first"),
        ));
    }
    let secret = key::new_api_key(app.store.world(), request.scope);
    let key = ApiKey {
        hash: key::hash(&secret),
        project,
        scope: request.scope,
        name: request.name,
        created: app.store.world().now(),
    };
    app.store.put_api_key(&key).await?;
    let mut body = view(&key);
    // Shown here, and never again.
    body["key"] = json!(secret);
    Ok((StatusCode::CREATED, axum::Json(body)))
}

pub async fn revoke(
    State(app): State<App>,
    Writer(project): Writer,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let keys = app.store.api_keys(project).await?;
    let key = keys
        .iter()
        .find(|key| id.len() == ID_LEN && key.hash.starts_with(&id))
        .ok_or_else(|| Problem::not_found("key"))?;
    let others = keys
        .iter()
        .any(|other| other.hash != key.hash && other.scope == Scope::Write);
    if !others {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this is the last read-write key; make another one first",
        ));
    }
    app.store.delete_api_key(key).await?;
    app.forget_key(&key.hash);
    Ok(StatusCode::NO_CONTENT)
}

fn view(key: &ApiKey) -> Value {
    json!({
        "id": key.hash[..ID_LEN],
        "name": key.name,
        "scope": key.scope,
        "created": key.created.rfc3339(),
    })
}
