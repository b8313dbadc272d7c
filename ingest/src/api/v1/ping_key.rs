//! `/v1/ping-key`: the key in a project's ping URLs.

use crate::app::App;
use crate::http::{Overload, Problem, Problems, Writer};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use thrum_schema::key;
use utoipa::ToSchema;

/// A new ping key.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewPingKey {
    /// The key. It is shown only once.
    pub ping_key: String,
}

/// Replaces the project's ping key. URLs with the old key stop working.
#[utoipa::path(
    post, path = "/v1/ping-key", operation_id = "rotate_ping_key", tag = "keys",
    responses((status = 201, body = NewPingKey), Problems, Overload),
)]
pub async fn rotate(
    State(app): State<App>,
    writer: Writer,
) -> Result<(StatusCode, axum::Json<NewPingKey>), Problem> {
    writer.caller.charge(&app).await?;
    let before = app.store.ping_keys(writer.project).await?;
    let ping_key = key::new_ping_key(app.store.world());
    app.store.put_ping_key(writer.project, &ping_key).await?;
    app.accounts.drop_ping_keys(writer.project, &before).await?;
    Ok((StatusCode::CREATED, axum::Json(NewPingKey { ping_key })))
}

/// Deletes the project's ping key. URLs with a slug stop working.
#[utoipa::path(
    delete, path = "/v1/ping-key", operation_id = "delete_ping_key", tag = "keys",
    responses((status = 204, description = "Deleted; it stops working within 30 seconds"), Problems, Overload),
)]
pub async fn delete(State(app): State<App>, writer: Writer) -> Result<StatusCode, Problem> {
    writer.caller.charge(&app).await?;
    let before = app.store.ping_keys(writer.project).await?;
    app.accounts.drop_ping_keys(writer.project, &before).await?;
    Ok(StatusCode::NO_CONTENT)
}
