//! The project's settings: its name, snooze and maintenance windows, badges, and public status
//! page.

use super::fields::{Fields, RequestFields};
use super::monitor::{snooze_of, windows};
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{Relative, span};
use crate::api::v1::project as own;
use crate::app::App;
use crate::http::Problem;
use crate::http::body::Json;
use crate::http::site::{BadgeUrls, Site, status_path};

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use thrum_schema::{Project, silence};

/// Maximum number of badges listed.
const MAX_TAGS: usize = 50;

struct Badge {
    id: usize,
    tag: String,
    svg: String,
    /// The path on this host: the page may load nothing from other hosts, such as the site's public
    /// name.
    path: String,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings<'a> {
    viewer: &'a Viewer,
    project: &'a Project,
    fields: Fields,
    silenced: Option<Relative>,
    tags: BTreeSet<String>,
    badges: Vec<Badge>,
    status_url: String,
    previews: Vec<own::Preview>,
}

impl Settings<'_> {
    fn is_public(&self) -> bool {
        self.project.status_page.is_some()
    }
}

fn fields_of(project: &Project) -> Fields {
    let windows = project.windows.iter().map(|window| {
        let length = span(window.duration_s.into());
        format!("{} | {length} | {}", window.cron, window.tz)
    });
    let mut fields = Fields::default()
        .with("name", &project.name)
        .with("windows", windows.collect::<Vec<_>>().join("\n"))
        .with("tz", project.zone.clone().unwrap_or_default())
        .with("message-title", &project.templates.title)
        .with("message-text", &project.templates.text);
    if let Some(remind_s) = project.remind_s {
        fields = fields.with("remind", span(remind_s.into()));
    }
    match &project.status_page {
        Some(page) => fields.with("title", &page.title).with("tag", &page.tag),
        None => fields.with("title", &project.name),
    }
}

async fn show(
    app: &App,
    viewer: &Viewer,
    site: &Site,
    fields: Option<Fields>,
    said: &str,
    wrong: Option<&Problem>,
) -> Response {
    // Read from the table: the cached project may be up to 30 s old.
    let project = match app.store.project(viewer.key.project).await {
        Ok(Some(project)) => project,
        Ok(None) => return failed(Some(viewer), &Problem::not_found("project")),
        Err(error) => return failed(Some(viewer), &error.into()),
    };
    let monitors = match app.monitors.list(project.id).await {
        Ok(monitors) => monitors,
        Err(error) => return failed(Some(viewer), &error.into()),
    };
    let tags = monitors
        .iter()
        .flat_map(|monitor| monitor.tags.iter().cloned());
    let tags: BTreeSet<String> = tags.collect();
    let listed = std::iter::once("*").chain(tags.iter().map(String::as_str));
    let badges = listed.take(MAX_TAGS).enumerate().map(|(id, tag)| {
        let svg = BadgeUrls::of(&project, tag, site).svg3;
        Badge {
            id,
            tag: if tag == "*" {
                project.name.clone()
            } else {
                tag.to_owned()
            },
            path: svg.trim_start_matches(&site.root).to_owned(),
            svg,
        }
    });
    let now = app.store.world().now();
    let silenced = silence::until(project.snoozed_until, &project.windows, now);
    let body = Settings {
        viewer,
        fields: fields.unwrap_or_else(|| fields_of(&project)),
        silenced: silenced.map(|at| Relative { at, now }),
        badges: badges.collect(),
        tags,
        previews: own::previews(&project, app.config.site_url.as_deref(), now),
        status_url: format!("{}{}", site.root, status_path(&project)),
        project: &project,
    };
    let page = Page {
        section: "/settings",
        title: "Settings",
        viewer: Some(viewer),
        said,
        wrong,
        ..Page::default()
    };
    page.show(&body)
}

/// `GET /settings`
pub async fn get(State(app): State<App>, viewer: Viewer, site: Site, query: Fields) -> Response {
    show(&app, &viewer, &site, None, query.text("done"), None).await
}

/// `POST /settings/{action}`
pub async fn act(
    State(app): State<App>,
    Path(action): Path<String>,
    site: Site,
    post: Post,
) -> Response {
    match acted(&app, &post, &action).await {
        Ok(done) => see_other(&format!("/settings?done={done}")),
        Err(problem) => {
            let typed = fields_of(&post.viewer.project);
            let fields = if ["save", "status", "messages"].contains(&&*action) {
                post.fields.clone().or(typed)
            } else {
                typed
            };
            show(&app, &post.viewer, &site, Some(fields), "", Some(&problem)).await
        }
    }
}

async fn acted(app: &App, post: &Post, action: &str) -> Result<&'static str, Problem> {
    let (state, writer, fields) = (State(app.clone()), post.writer(), &post.fields);
    let mut body = RequestFields::default();
    match action {
        "save" => {
            body.text(fields, "name");
            body.set("remind_s", Value::Null);
            body.span(fields, "remind", "remind_s")?;
            body.set("windows", windows(fields.text("windows"))?);
            body.set("tz", json!(fields.given("tz")));
            let _ = own::update_own(state, writer, Json(body.read()?)).await?;
            Ok("saved")
        }
        "status" => {
            let public = fields.is_on("public");
            let page = json!({ "title": fields.text("title"), "tag": fields.text("tag") });
            body.set("status_page", if public { page } else { Value::Null });
            let _ = own::update_own(state, writer, Json(body.read()?)).await?;
            Ok(if public { "status-on" } else { "status-off" })
        }
        "messages" => {
            let messages = json!({
                "title": fields.text("message-title"),
                "text": fields.text("message-text"),
            });
            body.set("messages", messages);
            let _ = own::update_own(state, writer, Json(body.read()?)).await?;
            Ok("saved")
        }
        "snooze" => {
            let _ = own::snooze(state, writer, Json(snooze_of(fields)?)).await?;
            Ok("snoozed")
        }
        "end-snooze" => {
            let _ = own::end_snooze(state, writer).await?;
            Ok("unsnoozed")
        }
        "badges" => {
            let _ = own::rotate_badge_key(state, writer).await?;
            Ok("badges")
        }
        _ => Err(Problem::not_found("action")),
    }
}
