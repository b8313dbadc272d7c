//! `/v1/projects`: all projects, for the operator of the installation.

use super::keys::{KeyRequest, NewKey, create_with};
use super::project::{ProjectView, changed, check_name, view};
use crate::app::App;
use crate::config::ConfirmMail;
use crate::http::{Admin, Json, Missing, Overload, Page, Params, PathId, Problem, Problems};
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use thrum_schema::error::Invalid;
use thrum_schema::key::{self, ApiKey, Scope};
use thrum_schema::plan::{FREE, Limits};
use thrum_schema::{Project, ProjectId};
use thrum_store::StoreError;
use utoipa::ToSchema;

/// Projects.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectList {
    projects: Vec<ProjectView>,
    /// The cursor of the next part, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A new project with its keys, which are shown only once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewProject {
    #[serde(flatten)]
    project: ProjectView,
    /// Its read-write key.
    api_key: String,
    /// Its read-only key.
    read_key: String,
    /// Its ping key.
    ping_key: String,
}

/// A project to create, or the fields of a project to change.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminProjectRequest {
    /// 1 to 100 characters.
    name: Option<String>,
    /// The name of a plan; `free` for a new project.
    plan: Option<String>,
}

/// Lists all projects.
#[utoipa::path(
    get, path = "/v1/projects", operation_id = "list_projects", tag = "admin",
    params(Page),
    responses((status = 200, body = ProjectList), Problems, Overload),
)]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Params(page): Params<Page>,
) -> Result<axum::Json<ProjectList>, Problem> {
    let mut found = app.store.projects().await?;
    found.sort_by(|a, b| a.created.cmp(&b.created).then(a.id.cmp(&b.id)));
    let key = |project: &Project| format!("{:020}{}", project.created.0, project.id);
    let (found, next_cursor) = page.of(found, key)?;
    let mut projects = Vec::with_capacity(found.len());
    for project in &found {
        projects.push(view(&app, project).await?);
    }
    Ok(axum::Json(ProjectList {
        projects,
        next_cursor,
    }))
}

/// Creates a project and its first keys, which are shown only once.
#[utoipa::path(
    post, path = "/v1/projects", operation_id = "create_project", tag = "admin",
    request_body = AdminProjectRequest,
    responses((status = 201, body = NewProject), Problems, Overload),
)]
pub async fn create(
    State(app): State<App>,
    _: Admin,
    Json(request): Json<AdminProjectRequest>,
) -> Result<(StatusCode, axum::Json<NewProject>), Problem> {
    let name = check_name(request.name.unwrap_or_else(|| "unnamed".to_owned()))?;
    let plan = request.plan.unwrap_or_else(|| FREE.to_owned());
    check_plan(&app, &plan)?;
    let world = app.store.world();
    let id = ProjectId(world.uuid_v4());
    let project = Project {
        plan,
        ..Project::with_badges(id, &name, world)
    };
    let api_key = key::new_api_key(world, Scope::Write);
    let read_key = key::new_api_key(world, Scope::Read);
    let ping_key = key::new_ping_key(world);
    app.store.create_project(&project).await?;
    for (secret, scope, name) in [
        (&api_key, Scope::Write, "first"),
        (&read_key, Scope::Read, "first, read-only"),
    ] {
        let key = ApiKey::new(secret, id, scope, name, project.created);
        app.store.put_api_key(&key).await?;
    }
    app.store.put_ping_key(id, &ping_key).await?;
    // Fill the cache, so that monitors created here need no query.
    app.monitors.list(id).await?;
    let created = NewProject {
        project: view(&app, &project).await?,
        api_key,
        read_key,
        ping_key,
    };
    Ok((StatusCode::CREATED, axum::Json(created)))
}

/// Any project, named by the path, for the operator.
pub struct Any(Project);

impl FromRequestParts<App> for Any {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Admin::from_request_parts(parts, app).await?;
        let PathId(id) = PathId::from_request_parts(parts, app).await?;
        let project = app.store.project(parse(&id)?).await?;
        project
            .map(Self)
            .ok_or_else(|| Problem::not_found("project"))
    }
}

fn parse(id: &str) -> Result<ProjectId, Problem> {
    id.parse().map_err(|_| Problem::not_found("project"))
}

/// Shows a project.
#[utoipa::path(
    get, path = "/v1/projects/{id}", operation_id = "get_any_project", tag = "admin",
    params(("id" = String, Path, description = "The project's ID")),
    responses((status = 200, body = ProjectView), Problems, Overload, Missing),
)]
pub async fn get(
    State(app): State<App>,
    Any(project): Any,
) -> Result<axum::Json<ProjectView>, Problem> {
    Ok(axum::Json(view(&app, &project).await?))
}

/// Changes a project's name or plan.
#[utoipa::path(
    patch, path = "/v1/projects/{id}", operation_id = "update_any_project", tag = "admin",
    request_body = AdminProjectRequest,
    params(("id" = String, Path, description = "The project's ID")),
    responses((status = 200, body = ProjectView), Problems, Overload, Missing),
)]
pub async fn update(
    State(app): State<App>,
    _: Admin,
    PathId(id): PathId,
    Json(request): Json<AdminProjectRequest>,
) -> Result<axum::Json<ProjectView>, Problem> {
    let name = request.name.map(check_name).transpose()?;
    if let Some(plan) = &request.plan {
        check_plan(&app, plan)?;
    }
    changed(&app, parse(&id)?, |project| {
        if let Some(name) = &name {
            project.name.clone_from(name);
        }
        if let Some(plan) = &request.plan {
            project.plan.clone_from(plan);
        }
    })
    .await
}

/// Deletes a project that has no monitors, with its keys and channels.
#[utoipa::path(
    delete, path = "/v1/projects/{id}", operation_id = "delete_project", tag = "admin",
    params(("id" = String, Path, description = "The project's ID")),
    responses((status = 204, description = "Deleted"), Problems, Overload, Missing),
)]
pub async fn delete(State(app): State<App>, Any(project): Any) -> Result<StatusCode, Problem> {
    if project.id == ProjectId::FIRST {
        return Err(Problem::conflict(
            "the first project of an installation can't be deleted",
        ));
    }
    if app.store.census(project.id).await?.n > 0 {
        return Err(Problem::conflict(
            "the project has monitors; delete them first",
        ));
    }
    if !app.store.watches(project.id).await?.is_empty() {
        return Err(Problem::conflict(
            "the project has watches; delete them first",
        ));
    }
    let check_at = (app.config.mail_by_topics || app.config.confirm_mail != ConfirmMail::Off)
        .then(|| app.store.world().now());
    let deleted = app.store.delete_project(&project, check_at).await;
    app.accounts.forget_project(project.id);
    match deleted {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(StoreError::Conflict) => Err(Problem::conflict(
            "the project was changed at the same time, or got a monitor; check it and try again",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Creates an API key for a project. Its limits may exceed the plan's.
#[utoipa::path(
    post, path = "/v1/projects/{id}/keys", operation_id = "create_any_key", tag = "admin",
    request_body = KeyRequest,
    params(("id" = String, Path, description = "The project's ID")),
    responses((status = 201, body = NewKey), Problems, Overload, Missing),
)]
pub async fn create_key(
    State(app): State<App>,
    Any(project): Any,
    Json(request): Json<KeyRequest>,
) -> Result<(StatusCode, axum::Json<NewKey>), Problem> {
    request.check(&Limits::default())?;
    let created = create_with(&app, project.id, request).await?;
    Ok((StatusCode::CREATED, axum::Json(created)))
}

fn check_plan(app: &App, plan: &str) -> Result<(), Invalid> {
    let names: Vec<&str> = app.config.plans.names().collect();
    if names.contains(&plan) {
        Ok(())
    } else {
        Err(Invalid::new(
            "plan",
            format!("must be one of {}", names.join(", ")),
        ))
    }
}
