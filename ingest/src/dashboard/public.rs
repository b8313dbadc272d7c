//! A project's public status page. It is opt-in, and its URL can't be guessed.

use super::days::{DAY_MS, DAYS, Days, last_days};
use super::live::Live;

use super::overview::word;
use super::page::{Page, failed};
use super::words::{At, percent, took};
use crate::app::App;
use crate::http::Problem;
use crate::http::body::PathId;
use crate::http::site::status_path;
use crate::services::ByProject;
use askama::Template;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use thrum_schema::key::same;
use thrum_schema::project::{self, Project};
use thrum_schema::{Monitor, MonitorState, UnixMs};
use thrum_store::StoreError;

/// How long a page's content is cached, in milliseconds, however many people view it.
const FRESH_MS: i64 = 10_000;
/// Maximum number of monitors on a page.
const MAX_MONITORS: usize = 100;
/// Number of histories read concurrently.
const CONCURRENCY: usize = 8;
/// Maximum number of cached pages.
const MAX_KEPT: usize = 1_000;

/// A monitor on the page.
#[derive(Debug)]
struct Line {
    name: String,
    state: &'static str,
    uptime: Option<String>,
    watched: String,
    days: Days,
}

/// The content of a page.
#[derive(Debug)]
struct Content {
    created: UnixMs,
    /// The project at that time: after an edit, the cached content is stale.
    project: Project,
    lines: Vec<Line>,
}

/// The status pages, cached by project. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusPages {
    app: App,
    kept: Arc<ByProject<Arc<Content>>>,
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage<'a> {
    title: &'a str,
    content: &'a Content,
}

impl StatusPage<'_> {
    fn down(&self) -> usize {
        let lines = self.content.lines.iter();
        lines.filter(|line| line.state == "down").count()
    }

    fn created(&self) -> At {
        At(self.content.created)
    }
}

/// `GET /status/{key}`
pub async fn get(State(pages): State<StatusPages>, PathId(key): PathId) -> Response {
    match pages.show(&key).await {
        Ok(response) => response,
        Err(problem) => failed(None, &problem),
    }
}

impl StatusPages {
    /// No pages yet.
    pub(super) fn new(app: App) -> Self {
        Self {
            app,
            kept: Arc::default(),
        }
    }

    async fn show(&self, key: &str) -> Result<Response, Problem> {
        let not_found = || Problem::not_found("status page");
        let app = &self.app;
        let (badge_key, _) = key.split_once('.').ok_or_else(not_found)?;
        let id = app.store.project_by_badge_key(badge_key).await?;
        let project = app.store.project(id.ok_or_else(not_found)?).await?;
        let project = project.ok_or_else(not_found)?;
        let public = project.status_page.as_ref();
        let public = public
            .filter(|_| same(&status_path(&project), &format!("/status/{key}")))
            .ok_or_else(not_found)?;
        let content = self.content(&project, public).await?;
        let body = StatusPage {
            title: &public.title,
            content: &content,
        };
        let page = Page {
            title: &public.title,
            live: Live::Poll,
            ..Page::default()
        };
        let mut response = page.show(&body);
        let cache = HeaderValue::from_static("public, max-age=10");
        response.headers_mut().insert(header::CACHE_CONTROL, cache);
        Ok(response)
    }

    /// The content of a project's page, from the cache if it is fresh.
    async fn content(
        &self,
        project: &Project,
        public: &project::StatusPage,
    ) -> Result<Arc<Content>, Problem> {
        let app = &self.app;
        let kept = self.kept.of(project.id, MAX_KEPT);
        let mut kept = kept.lock().await;
        let now = app.store.world().now();
        let is_fresh = |content: &&Arc<Content>| {
            content.created.is_within(FRESH_MS, now) && content.project == *project
        };
        if let Some(content) = kept.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(content));
        }
        let content = Arc::new(Content {
            created: now,
            project: project.clone(),
            lines: lines(app, project, &public.tag, now).await?,
        });
        *kept = Some(Arc::clone(&content));
        Ok(content)
    }
}

/// The lines of the monitors with a tag, or of all if the tag is empty.
async fn lines(app: &App, project: &Project, tag: &str, now: UnixMs) -> Result<Vec<Line>, Problem> {
    let monitors = app.monitors.list(project.id).await?;
    let tag = tag.to_owned();
    let mut shown: Vec<&Monitor> = monitors
        .iter()
        .map(AsRef::as_ref)
        .filter(|monitor| tag.is_empty() || monitor.tags.contains(&tag))
        .collect();
    shown.sort_by(|a, b| a.label().cmp(b.label()).then(a.id.cmp(&b.id)));
    shown.truncate(MAX_MONITORS);
    let (states, outages) = futures::try_join!(app.monitors.states(&shown), app.store.outages())?;
    let mut spans = last_days(now);
    spans.push((now - DAYS * DAY_MS, now));
    let (spans, outages) = (&spans, &outages);
    let shown: Vec<(Monitor, MonitorState)> = shown.into_iter().cloned().zip(states).collect();
    let lines = stream::iter(shown)
        .map(|(monitor, state)| async move {
            let with_status = (&monitor, state.status);
            let history = app.monitors.history(project, with_status, spans).await?;
            let (by_day, whole) = history.uptimes.split_at(spans.len() - 1);
            let whole = whole[0];
            Ok::<_, StoreError>(Line {
                name: monitor.label().to_owned(),
                state: word(state.shown(now, outages)),
                uptime: whole.part().map(percent),
                watched: took(whole.watched_ms),
                days: Days::of(spans, by_day),
            })
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(lines)
}
