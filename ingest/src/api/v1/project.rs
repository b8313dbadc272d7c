//! `/v1/project`: the project of the caller's key.

use super::monitors::{Snooze, WindowSpec, check_windows, some, some_object};
use crate::app::App;
use crate::http::site::status_path;
use crate::http::{Json, Missing, Overload, Problem, Problems, Reader, Writer};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use thrum_schema::alert::AlertKind;
use thrum_schema::channel::{Channel, ChannelKind};
use thrum_schema::error::Invalid;
use thrum_schema::id::ChannelId;
use thrum_schema::key;
use thrum_schema::monitor::MIN_REMIND_S;
use thrum_schema::notice::{Notice, Voice, sample, samples, template};
use thrum_schema::plan::Limits;
use thrum_schema::project::{StatusPage, Templates};
use thrum_schema::schedule::MAX_PERIOD_S;
use thrum_schema::zone::Zone;
use thrum_schema::{Project, ProjectId, UnixMs};
use utoipa::ToSchema;

/// The longest name, in characters.
const MAX_NAME: usize = 100;

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
    /// Seconds between two reminders, for monitors that do not set `remind_s` themselves.
    pub remind_s: Option<u32>,
    /// The time zone of times in messages, an IANA name; null for UTC.
    pub tz: Option<String>,
    /// Its own texts of messages.
    pub messages: MessagesView,
    /// The public status page; null for none.
    pub status_page: Option<StatusPageView>,
    pub created: String,
}

/// The limits of a plan; null for no limit.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsView {
    /// Requests per key per day (UTC). Heartbeats and pings do not count.
    pub requests_per_day: Option<u32>,
    /// Requests per key per minute, in the long run.
    pub requests_per_minute: Option<u32>,
    /// Monitors that the API may create. Pings and heartbeats may create up to twice as many.
    pub monitors: Option<u32>,
    /// Text messages per day (UTC).
    pub sms_per_day: Option<u32>,
    pub emails_per_day: Option<u32>,
    pub webhooks_per_day: Option<u32>,
    pub sns_per_day: Option<u32>,
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
            emails_per_day: limits.emails_per_day,
            webhooks_per_day: limits.webhooks_per_day,
            sns_per_day: limits.sns_per_day,
            keys: limits.keys,
        }
    }
}

/// Templates of messages; an empty one leaves Thrum's text.
#[derive(Debug, Default, Clone, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MessagesView {
    /// The title, in one line.
    pub title: String,
    /// The sentences under it.
    pub text: String,
}

impl From<MessagesView> for Templates {
    fn from(messages: MessagesView) -> Self {
        Self {
            title: messages.title,
            text: messages.text,
        }
    }
}

/// Messages as templates make them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Previews {
    pub messages: Vec<Preview>,
}

/// A message as templates make it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Preview {
    /// `monitor.down`, `monitor.reminder` or `monitor.up`.
    pub event: &'static str,
    pub title: String,
    pub body: String,
}

/// A public status page.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusPageView {
    title: String,
    tag: String,
    /// Its path.
    path: String,
}

/// A public status page to publish.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusPageRequest {
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    title: String,
    /// The page shows the monitors with this tag; if empty, all of them.
    #[serde(default)]
    #[schema(max_length = 100)]
    tag: String,
}

/// The fields of a project to change. Absent fields keep their value.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectRequest {
    /// 1 to 100 characters.
    name: Option<String>,
    /// Recurring maintenance windows, for all monitors.
    windows: Option<Vec<WindowSpec>>,
    /// Seconds between two reminders, for monitors that do not set `remind_s` themselves; null for
    /// none.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Option<u64>)]
    remind_s: Option<Option<u64>>,
    /// The time zone of times in messages, an IANA name; null for UTC.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Option<String>)]
    tz: Option<Option<String>>,
    /// Its own texts of messages; null for Thrum's.
    #[serde(deserialize_with = "some_object")]
    #[schema(value_type = Option<MessagesView>)]
    messages: Option<Option<MessagesView>>,
    /// A public status page, for anyone who has its URL; null for none.
    #[serde(deserialize_with = "some_object")]
    #[schema(value_type = Option<StatusPageRequest>)]
    status_page: Option<Option<StatusPageRequest>>,
}

/// A project with the number of its monitors.
pub async fn view(app: &App, project: &Project) -> Result<ProjectView, Problem> {
    let census = app.store.census(project.id).await?;
    Ok(ProjectView {
        id: project.id,
        name: project.name.clone(),
        plan: project.plan.clone(),
        limits: app.config.plans.limits(&project.plan).into(),
        monitors: census.n,
        snoozed_until: project.snoozed_until.map(UnixMs::rfc3339),
        windows: project.windows.iter().map(Into::into).collect(),
        remind_s: project.remind_s,
        tz: project.zone.clone(),
        messages: MessagesView {
            title: project.templates.title.clone(),
            text: project.templates.text.clone(),
        },
        status_page: project.status_page.as_ref().map(|page| StatusPageView {
            title: page.title.clone(),
            tag: page.tag.clone(),
            path: status_path(project),
        }),
        created: project.created.rfc3339(),
    })
}

/// Changes a project, and shows the result.
pub async fn changed(
    app: &App,
    id: ProjectId,
    edit: impl Fn(&mut Project),
) -> Result<axum::Json<ProjectView>, Problem> {
    let project = app.projects.change(id, edit).await?;
    let project = project.ok_or_else(|| Problem::not_found("project"))?;
    Ok(axum::Json(view(app, &project).await?))
}

/// Shows the project that the key belongs to.
#[utoipa::path(
    get, path = "/v1/project", operation_id = "get_project", tag = "project",
    responses((status = 200, body = ProjectView), Problems, Overload, Missing),
)]
pub async fn get_own(
    State(app): State<App>,
    reader: Reader,
) -> Result<axum::Json<ProjectView>, Problem> {
    reader.caller.charge(&app).await?;
    let project = app.store.project(reader.project).await?;
    let project = project.ok_or_else(|| Problem::not_found("project"))?;
    Ok(axum::Json(view(&app, &project).await?))
}

/// Changes the project that the key belongs to.
#[utoipa::path(
    patch, path = "/v1/project", operation_id = "update_project", tag = "project",
    request_body = ProjectRequest,
    responses((status = 200, body = ProjectView), Problems, Overload, Missing),
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
    let zone = request.tz.map(check_zone).transpose()?;
    let now = app.store.world().now();
    let templates = request
        .messages
        .map(|messages| check_messages(messages.unwrap_or_default(), now));
    let templates = templates.transpose()?;
    writer.caller.charge(&app).await?;
    changed(&app, writer.project, |project| {
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
        if let Some(zone) = &zone {
            project.zone.clone_from(zone);
        }
        if let Some(templates) = &templates {
            project.templates.clone_from(templates);
        }
    })
    .await
}

/// Shows what templates would make of the alerts of a sample monitor, without storing them.
#[utoipa::path(
    post, path = "/v1/project/messages/preview", operation_id = "preview_messages", tag = "project",
    request_body = MessagesView,
    responses((status = 200, body = Previews), Problems, Overload, Missing),
)]
pub async fn preview(
    State(app): State<App>,
    writer: Writer,
    Json(messages): Json<MessagesView>,
) -> Result<axum::Json<Previews>, Problem> {
    let now = app.store.world().now();
    let templates = check_messages(messages, now)?;
    writer.caller.charge(&app).await?;
    let project = app.accounts.project(writer.project).await?;
    let project = Project {
        templates,
        ..Project::clone(&project)
    };
    let messages = previews(&project, app.config.site_url.as_deref(), now);
    Ok(axum::Json(Previews { messages }))
}

/// What the project says about a sample monitor.
pub fn previews(project: &Project, site: Option<&str>, now: UnixMs) -> Vec<Preview> {
    let voice = Voice::new(project, site);
    let nobody = Channel::new(
        ChannelId(uuid::Uuid::nil()),
        project.id,
        ChannelKind::Email { to: String::new() },
        now,
    );
    let one = |what: AlertKind| {
        let notice = Notice::of_alert(&sample(what, now), &nobody, &voice);
        Preview {
            event: what.as_str(),
            title: notice.title.clone(),
            body: notice.body(),
        }
    };
    [AlertKind::Down, AlertKind::Reminder, AlertKind::Up]
        .map(one)
        .into()
}

/// Checks templates with sample messages.
fn check_messages(messages: MessagesView, now: UnixMs) -> Result<Templates, Vec<Invalid>> {
    let samples = samples(now);
    let mut invalid = Vec::new();
    for (field, text) in [
        ("messages.title", &messages.title),
        ("messages.text", &messages.text),
    ] {
        invalid.extend(template::check(field, text, false, &samples).err());
    }
    if invalid.is_empty() {
        Ok(messages.into())
    } else {
        Err(invalid)
    }
}

fn check_zone(zone: Option<String>) -> Result<Option<String>, Invalid> {
    match zone {
        None => Ok(None),
        Some(name) => match Zone::named(&name) {
            Some(zone) => Ok(Some(zone.name().to_owned())),
            None => Err(Invalid::new(
                "tz",
                "must be a time zone such as Europe/Berlin, or null for UTC",
            )),
        },
    }
}

/// Silences all alerts of the project for a while. A monitor that is down at the end alerts then.
#[utoipa::path(
    post, path = "/v1/project/snooze", operation_id = "snooze_project", tag = "project",
    request_body = Snooze,
    responses((status = 200, body = ProjectView), Problems, Overload, Missing),
)]
pub async fn snooze(
    State(app): State<App>,
    writer: Writer,
    Json(snooze): Json<Snooze>,
) -> Result<axum::Json<ProjectView>, Problem> {
    let until = snooze.until(app.store.world().now())?;
    writer.caller.charge(&app).await?;
    let edit = |project: &mut Project| project.snoozed_until = Some(until);
    changed(&app, writer.project, edit).await
}

/// Ends a snooze of the project.
#[utoipa::path(
    delete, path = "/v1/project/snooze", operation_id = "end_project_snooze", tag = "project",
    responses((status = 200, body = ProjectView), Problems, Overload, Missing),
)]
pub async fn end_snooze(
    State(app): State<App>,
    writer: Writer,
) -> Result<axum::Json<ProjectView>, Problem> {
    writer.caller.charge(&app).await?;
    let edit = |project: &mut Project| project.snoozed_until = None;
    changed(&app, writer.project, edit).await
}

/// Replaces the key of the project's public badges and status page. The old URLs stop working.
#[utoipa::path(
    post, path = "/v1/project/badge-key", operation_id = "rotate_badge_key", tag = "project",
    responses((status = 200, body = ProjectView), Problems, Overload, Missing),
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
    changed(&app, writer.project, edit).await
}

/// Checks the name of a project.
pub fn check_name(name: String) -> Result<String, Invalid> {
    let fits = (1..=MAX_NAME).contains(&name.chars().count());
    if fits && !name.contains(char::is_control) {
        Ok(name)
    } else {
        Err(Invalid::new(
            "name",
            format!("must be 1 to {MAX_NAME} characters on one line"),
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

fn check_remind(remind_s: Option<u64>) -> Result<Option<u32>, Invalid> {
    let range = u64::from(MIN_REMIND_S)..=u64::from(MAX_PERIOD_S);
    match remind_s {
        None => Ok(None),
        Some(s) if range.contains(&s) => Ok(u32::try_from(s).ok()),
        Some(s) => Err(Invalid::new(
            "remind_s",
            format!("must be between {MIN_REMIND_S} and {MAX_PERIOD_S} seconds, or null (got {s})"),
        )),
    }
}
