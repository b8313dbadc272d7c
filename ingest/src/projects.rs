//! Projects: a project's own settings by `/v1/project`; all of them, for who runs the installation, by `/v1/projects`.

use crate::app::App;
use crate::auth::{Admin, Reader, Writer};
use crate::body::{Json, PathId};
use crate::keys::{KeyRequest, NewKey};
use crate::monitors::{Snooze, WindowSpec, check_windows, some, some_object};
use crate::problem::Problem;
use crate::summary::status_path;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thrum_schema::error::Invalid;
use thrum_schema::key::{self, ApiKey, Scope};
use thrum_schema::monitor::MIN_REMIND_S;
use thrum_schema::plan::Limits;
use thrum_schema::project::StatusPage;
use thrum_schema::schedule::MAX_PERIOD_S;
use thrum_schema::timer::{Timer, What};
use thrum_schema::{Monitor, Project, ProjectId, Status, UnixMs};
use thrum_store::StoreError;
use utoipa::ToSchema;

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// How often a change is tried against others.
const MAX_ATTEMPTS: usize = 10;

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectView {
    #[schema(value_type = String)]
    pub id: ProjectId,
    pub name: String,
    /// The name of its plan.
    pub plan: String,
    pub limits: LimitsView,
    /// How many monitors it has.
    pub monitors: i64,
    pub snoozed_until: Option<String>,
    pub windows: Vec<WindowSpec>,
    /// Seconds between two reminders of monitors that say nothing of their own.
    pub remind_s: Option<u32>,
    /// What everybody may see who has its address.
    pub status_page: Option<StatusPageView>,
    pub created: String,
}

/// What a plan allows; null is no limit.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsView {
    /// Requests a key may make in a (UTC) day; heartbeats are not among them.
    pub requests_per_day: Option<u32>,
    /// Requests a key may make a minute in the long run.
    pub requests_per_minute: Option<u32>,
    /// Monitors that the API makes; pings and heartbeats may provision twice as many.
    pub monitors: Option<u32>,
    /// Text messages a (UTC) day.
    pub sms_per_day: Option<u32>,
    /// API keys.
    pub keys: Option<u32>,
}

impl From<Limits> for LimitsView {
    fn from(limits: Limits) -> Self {
        Self {
            requests_per_day: limits.requests_per_day,
            requests_per_minute: limits.requests_per_minute,
            monitors: limits.monitors,
            sms_per_day: limits.sms_per_day,
            keys: limits.keys,
        }
    }
}

/// A public status page.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusPageView {
    title: String,
    tag: String,
    /// Where it is.
    path: String,
}

/// What is asked of a public status page.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusPageRequest {
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    title: String,
    /// It shows the monitors with this tag; all of them without it.
    #[serde(default)]
    #[schema(max_length = 100)]
    tag: String,
}

/// Projects.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectList {
    projects: Vec<ProjectView>,
}

/// A new project with its keys: they are shown once.
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

/// What a project says of itself. Absent members keep their value.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectRequest {
    /// At most 100 characters.
    name: Option<String>,
    /// Recurring maintenance windows of all its monitors.
    windows: Option<Vec<WindowSpec>>,
    /// Seconds between two reminders of monitors that say nothing of their own; null for none.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Option<u64>)]
    remind_s: Option<Option<u64>>,
    /// What everybody may see who has its address; null for nothing.
    #[serde(deserialize_with = "some_object")]
    #[schema(value_type = Option<StatusPageRequest>)]
    status_page: Option<Option<StatusPageRequest>>,
}

/// What who runs the installation says of a project.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminProjectRequest {
    /// At most 100 characters.
    name: Option<String>,
    /// The name of a plan; `free` for a new project.
    plan: Option<String>,
}

async fn view(app: &App, project: &Project) -> Result<ProjectView, Problem> {
    let monitor_count = app.store.monitor_count(project.id).await?;
    Ok(ProjectView {
        id: project.id,
        name: project.name.clone(),
        plan: project.plan.clone(),
        limits: app.config.plans.limits(&project.plan).into(),
        monitors: monitor_count.n,
        snoozed_until: project.snoozed_until.map(UnixMs::rfc3339),
        windows: project.windows.iter().map(Into::into).collect(),
        remind_s: project.remind_s,
        status_page: project.status_page.as_ref().map(|page| StatusPageView {
            title: page.title.clone(),
            tag: page.tag.clone(),
            path: status_path(project),
        }),
        created: project.created.rfc3339(),
    })
}

impl App {
    /// A project, consistently.
    pub(crate) async fn fresh_project(&self, id: ProjectId) -> Result<Project, Problem> {
        let found = self.store.project(id).await?;
        found.ok_or_else(|| Problem::not_found("project"))
    }

    /// Changes a project, again and again until nobody else does at the same time.
    async fn change_project(
        &self,
        id: ProjectId,
        edit: impl Fn(&mut Project),
    ) -> Result<Project, Problem> {
        for _ in 0..MAX_ATTEMPTS {
            let before = self.fresh_project(id).await?;
            let mut after = before.clone();
            edit(&mut after);
            if after == before {
                return Ok(after);
            }
            match self.store.replace_project(&before, &after).await {
                Ok(()) => {
                    self.projects.forget(&id);
                    self.status_pages.forget(id);
                    self.look_again(&before, &after).await?;
                    return Ok(after);
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Where silences of the project changed, whatever was silenced is looked at again; where its reminders did, what is
    /// down is.
    async fn look_again(&self, before: &Project, after: &Project) -> Result<(), StoreError> {
        let silences =
            before.snoozed_until != after.snoozed_until || before.windows != after.windows;
        let every_s = after.remind_s.filter(|_| before.remind_s != after.remind_s);
        if !silences && every_s.is_none() {
            return Ok(());
        }
        let monitors = self.monitors(after.id).await?;
        let monitors: Vec<&Monitor> = monitors.iter().map(AsRef::as_ref).collect();
        let now = self.store.world().now();
        let states = self.states_of(&monitors).await?;
        let mut timers = Vec::new();
        for (monitor, state) in monitors.iter().zip(&states) {
            let (monitor_id, flip) = (monitor.id, state.flips);
            if silences && state.silenced {
                let what = What::Wake {
                    monitor: monitor_id,
                    flip,
                };
                timers.push(Timer { due: now, what });
            }
            let reminded = state.status == Status::Down && !state.silenced;
            if let (Some(every_s), true, None) = (every_s, reminded, monitor.options.remind_s) {
                let told = state.notified_at.unwrap_or(now);
                let what = What::Remind {
                    monitor: monitor_id,
                    flip,
                    n: state.reminded,
                };
                let due = (told + i64::from(every_s) * 1000).max(now);
                timers.push(Timer { due, what });
            }
        }
        self.store.arm(&timers).await
    }
}

/// Shows the project that the key belongs to.
#[utoipa::path(
    get, path = "/v1/project", operation_id = "get_project", tag = "project",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = ProjectView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn get_own(
    State(app): State<App>,
    reader: Reader,
) -> Result<axum::Json<ProjectView>, Problem> {
    reader.caller.charge(&app).await?;
    let project = app.fresh_project(reader.project).await?;
    Ok(axum::Json(view(&app, &project).await?))
}

/// Changes the project that the key belongs to.
#[utoipa::path(
    patch, path = "/v1/project", operation_id = "update_project", tag = "project",
    security(("api_key" = []), ("bearer" = [])), request_body = ProjectRequest,
    responses((status = 200, body = ProjectView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn update_own(
    State(app): State<App>,
    writer: Writer,
    Json(request): Json<ProjectRequest>,
) -> Result<axum::Json<ProjectView>, Problem> {
    let name = request.name.map(check_name).transpose()?;
    let windows = request.windows.as_deref().map(check_windows).transpose()?;
    let remind_s = request.remind_s.map(check_remind).transpose()?;
    let status_page = request.status_page.map(check_status_page).transpose()?;
    writer.caller.charge(&app).await?;
    let project = app
        .change_project(writer.project, |project| {
            if let Some(name) = &name {
                project.name.clone_from(name);
            }
            if let Some(windows) = &windows {
                project.windows.clone_from(windows);
            }
            if let Some(remind_s) = remind_s {
                project.remind_s = remind_s;
            }
            if let Some(status_page) = &status_page {
                project.status_page.clone_from(status_page);
            }
        })
        .await?;
    Ok(axum::Json(view(&app, &project).await?))
}

/// Silences all alerts of the project for some time; at its end, what is still down alerts.
#[utoipa::path(
    post, path = "/v1/project/snooze", operation_id = "snooze_project", tag = "project",
    security(("api_key" = []), ("bearer" = [])), request_body = Snooze,
    responses((status = 200, body = ProjectView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn snooze(
    State(app): State<App>,
    writer: Writer,
    Json(snooze): Json<Snooze>,
) -> Result<axum::Json<ProjectView>, Problem> {
    let until = snooze.until(app.store.world().now())?;
    writer.caller.charge(&app).await?;
    let edit = |project: &mut Project| project.snoozed_until = Some(until);
    let project = app.change_project(writer.project, edit).await?;
    Ok(axum::Json(view(&app, &project).await?))
}

/// Ends a snooze of the project.
#[utoipa::path(
    delete, path = "/v1/project/snooze", operation_id = "end_project_snooze", tag = "project",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = ProjectView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn end_snooze(
    State(app): State<App>,
    writer: Writer,
) -> Result<axum::Json<ProjectView>, Problem> {
    writer.caller.charge(&app).await?;
    let edit = |project: &mut Project| project.snoozed_until = None;
    let project = app.change_project(writer.project, edit).await?;
    Ok(axum::Json(view(&app, &project).await?))
}

/// Makes the keys of the project's public badges anew: the URLs of those before are no longer good.
#[utoipa::path(
    post, path = "/v1/project/badge-key", operation_id = "rotate_badge_key", tag = "project",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = ProjectView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn rotate_badge_key(
    State(app): State<App>,
    writer: Writer,
) -> Result<axum::Json<ProjectView>, Problem> {
    writer.caller.charge(&app).await?;
    let badge_key = key::new_badge_key(app.store.world());
    let badge_secret = key::new_badge_secret(app.store.world());
    let edit = |project: &mut Project| {
        project.badge_key.clone_from(&badge_key);
        project.badge_secret.clone_from(&badge_secret);
    };
    let project = app.change_project(writer.project, edit).await?;
    Ok(axum::Json(view(&app, &project).await?))
}

/// Lists all projects.
#[utoipa::path(
    get, path = "/v1/projects", operation_id = "list_projects", tag = "admin",
    security(("admin_key" = [])),
    responses((status = 200, body = ProjectList), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn list(State(app): State<App>, _: Admin) -> Result<axum::Json<ProjectList>, Problem> {
    let mut found = app.store.projects().await?;
    found.sort_by(|a, b| a.created.cmp(&b.created).then(a.id.cmp(&b.id)));
    let mut projects = Vec::with_capacity(found.len());
    for project in &found {
        projects.push(view(&app, project).await?);
    }
    Ok(axum::Json(ProjectList { projects }))
}

/// Makes a project, and its first keys; they are shown once.
#[utoipa::path(
    post, path = "/v1/projects", operation_id = "create_project", tag = "admin",
    security(("admin_key" = [])), request_body = AdminProjectRequest,
    responses((status = 201, body = NewProject), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn create(
    State(app): State<App>,
    _: Admin,
    Json(request): Json<AdminProjectRequest>,
) -> Result<(StatusCode, axum::Json<NewProject>), Problem> {
    let name = check_name(request.name.unwrap_or_else(|| "unnamed".to_owned()))?;
    let plan = request.plan.unwrap_or_else(|| "free".to_owned());
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
    // From now on, what is made here is known without a query.
    app.monitors(id).await?;
    let made = NewProject {
        project: view(&app, &project).await?,
        api_key,
        read_key,
        ping_key,
    };
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Shows a project.
#[utoipa::path(
    get, path = "/v1/projects/{id}", operation_id = "get_any_project", tag = "admin",
    security(("admin_key" = [])), params(("id" = String, Path, description = "The project's id")),
    responses((status = 200, body = ProjectView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn get(
    State(app): State<App>,
    _: Admin,
    PathId(id): PathId,
) -> Result<axum::Json<ProjectView>, Problem> {
    let project = app.fresh_project(parse(&id)?).await?;
    Ok(axum::Json(view(&app, &project).await?))
}

/// Changes a project's name or plan.
#[utoipa::path(
    patch, path = "/v1/projects/{id}", operation_id = "update_any_project", tag = "admin",
    security(("admin_key" = [])), request_body = AdminProjectRequest,
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 200, body = ProjectView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn update(
    State(app): State<App>,
    _: Admin,
    PathId(id): PathId,
    Json(request): Json<AdminProjectRequest>,
) -> Result<axum::Json<ProjectView>, Problem> {
    let id = parse(&id)?;
    let name = request.name.map(check_name).transpose()?;
    if let Some(plan) = &request.plan {
        check_plan(&app, plan)?;
    }
    let project = app
        .change_project(id, |project| {
            if let Some(name) = &name {
                project.name.clone_from(name);
            }
            if let Some(plan) = &request.plan {
                project.plan.clone_from(plan);
            }
        })
        .await?;
    Ok(axum::Json(view(&app, &project).await?))
}

/// Deletes a project that has no monitors, with its keys and channels.
#[utoipa::path(
    delete, path = "/v1/projects/{id}", operation_id = "delete_project", tag = "admin",
    security(("admin_key" = [])), params(("id" = String, Path, description = "The project's id")),
    responses((status = 204, description = "It is gone"), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn delete(
    State(app): State<App>,
    _: Admin,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let project = app.fresh_project(parse(&id)?).await?;
    if project.id == ProjectId::FIRST {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this is the project that every installation begins with; it stays",
        ));
    }
    let occupied = || {
        Problem::new(
            StatusCode::CONFLICT,
            "the project has monitors; delete them first",
        )
    };
    if app.store.monitor_count(project.id).await?.n > 0 {
        return Err(occupied());
    }
    if !app.store.watches(project.id).await?.is_empty() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "the project has watches; delete them first",
        ));
    }
    let see_to = app.config.mail_by_topics.then(|| app.store.world().now());
    let deleted = app.store.delete_project(&project, see_to).await;
    app.projects.forget(&project.id);
    match deleted {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(StoreError::Conflict) => Err(Problem::new(
            StatusCode::CONFLICT,
            "the project was changed meanwhile, or got a monitor; look again",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Makes an API key of a project, with limits of its own, above its plan's if need be.
#[utoipa::path(
    post, path = "/v1/projects/{id}/keys", operation_id = "create_any_key", tag = "admin",
    security(("admin_key" = [])), request_body = KeyRequest,
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 201, body = NewKey), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn create_key(
    State(app): State<App>,
    _: Admin,
    PathId(id): PathId,
    Json(request): Json<KeyRequest>,
) -> Result<(StatusCode, axum::Json<NewKey>), Problem> {
    request.check(&Limits::default())?;
    let project = app.fresh_project(parse(&id)?).await?;
    let made = app.make_key(project.id, request).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

fn parse(id: &str) -> Result<ProjectId, Problem> {
    id.parse().map_err(|_| Problem::not_found("project"))
}

fn check_name(name: String) -> Result<String, Invalid> {
    let fits = (1..=MAX_NAME).contains(&name.chars().count());
    if fits && !name.contains(char::is_control) {
        Ok(name)
    } else {
        Err(Invalid::new(
            "name",
            format!("must be 1 to {MAX_NAME} characters in one line"),
        ))
    }
}

fn check_status_page(page: Option<StatusPageRequest>) -> Result<Option<StatusPage>, Invalid> {
    let Some(page) = page else {
        return Ok(None);
    };
    let title = page.title.trim();
    if title.is_empty() || title.chars().count() > MAX_NAME {
        let problem = format!("must have 1 to {MAX_NAME} characters");
        return Err(Invalid::new("status_page.title", problem));
    }
    if page.tag.chars().count() > MAX_NAME {
        let problem = format!("must have at most {MAX_NAME} characters");
        return Err(Invalid::new("status_page.tag", problem));
    }
    Ok(Some(StatusPage {
        title: title.to_owned(),
        tag: page.tag,
    }))
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

fn check_remind(remind_s: Option<u64>) -> Result<Option<u32>, Invalid> {
    let range = u64::from(MIN_REMIND_S)..=u64::from(MAX_PERIOD_S);
    match remind_s {
        None => Ok(None),
        Some(s) if range.contains(&s) => Ok(u32::try_from(s).ok()),
        Some(_) => Err(Invalid::new(
            "remind_s",
            format!("must be {MIN_REMIND_S} to {MAX_PERIOD_S} seconds, or null"),
        )),
    }
}
