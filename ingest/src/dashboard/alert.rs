//! The page of an alert, to which its messages link. Anyone who has the link may acknowledge the alert
//! and snooze its monitor, without a key. Opening it changes nothing, because chats and mail scanners
//! open links.

use super::fields::Fields;
use super::overview::{Row, path_of};
use super::page::{Page, failed, see_other};
use super::session::form;
use super::words::At;
use crate::api::v1::monitors::{acknowledging, snoozed};
use crate::app::App;
use crate::http::Problem;
use askama::Template;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use thrum_schema::link::{is_good, path};
use thrum_schema::notice::{Notice, Voice};
use thrum_schema::silence;
use thrum_schema::time::parse_span;
use thrum_schema::{
    Alert, AlertId, Channel, ChannelId, ChannelKind, Monitor, MonitorState, Project, ProjectId,
    Status, TraceId, UnixMs,
};
use thrum_store::Snapshot;

/// Longest snooze by a link, in seconds: a day.
const MAX_SNOOZE_S: u64 = 86_400;

/// The link in a message: project, alert, token.
type Link = Path<(String, String, String)>;

#[derive(Template)]
#[template(path = "alert.html")]
struct AlertPage {
    notice: Notice,
    done: &'static str,
    now: Option<Now>,
    id: AlertId,
    trace: Option<TraceId>,
}

/// The state of the monitor when the page is opened.
struct Now {
    state: &'static str,
    acknowledged: Option<At>,
    silenced: Option<At>,
    /// Whether the alert's outage goes on, and nobody has acknowledged it.
    can_acknowledge: bool,
    path: String,
}

/// `GET /a/{project}/{alert}/{token}`
pub async fn get(State(app): State<App>, Path(link): Link, query: Fields) -> Response {
    let done = match query.text("done") {
        "acknowledged" => "Acknowledged: no reminders and no escalation until it is up again.",
        "snoozed" => "Snoozed: no alerts until the snooze ends.",
        _ => "",
    };
    match asked(&app, &link).await {
        Ok((project, alert)) => shown(&app, &project, &alert, done).await,
        Err(problem) => failed(None, &problem),
    }
}

/// `POST /a/{project}/{alert}/{token}`
pub async fn post(State(app): State<App>, Path(link): Link, body: Body) -> Response {
    let acted = async {
        let (project, alert) = asked(&app, &link).await?;
        let done = act(&app, &alert, body).await?;
        Ok(format!(
            "{}?done={done}",
            path(&project.badge_secret, &alert)
        ))
    };
    match acted.await {
        Ok(page) => see_other(&page),
        Err(problem) => failed(None, &problem),
    }
}

async fn act(app: &App, alert: &Alert, body: Body) -> Result<&'static str, Problem> {
    let fields = form(body).await?;
    let found = monitor_of(app, alert).await?.ok_or_else(gone)?;
    match fields.text("action") {
        "acknowledge" => {
            let n = alert.flip.as_ref().map(|flip| flip.n);
            let edit = |monitor: &Monitor, state: &MonitorState| {
                if Some(state.flips) == n {
                    acknowledging(monitor, state)
                } else {
                    Err(Problem::conflict(
                        "the outage of this alert is over; the monitor's status has changed since",
                    ))
                }
            };
            app.monitors.change(&found, edit).await?;
            Ok("acknowledged")
        }
        "snooze" => {
            let for_s = parse_span(fields.text("for")).filter(|s| (1..=MAX_SNOOZE_S).contains(s));
            let for_s = for_s.and_then(|s| i64::try_from(s).ok()).ok_or_else(|| {
                Problem::bad_request("for must be a duration of up to a day, such as 1h")
            })?;
            let until = app.store.world().now() + for_s * 1000;
            let edit = |monitor: &Monitor, state: &MonitorState| {
                // A link never ends a longer snooze.
                let until = monitor
                    .options
                    .snoozed_until
                    .map_or(until, |own| own.max(until));
                snoozed(Some(until))(monitor, state)
            };
            app.monitors.change(&found, edit).await?;
            Ok("snoozed")
        }
        _ => Err(Problem::bad_request("action must be acknowledge or snooze")),
    }
}

async fn monitor_of(app: &App, alert: &Alert) -> Result<Option<Snapshot>, Problem> {
    let found = match &alert.monitor {
        Some(subject) => app.store.snapshot(subject.uuid).await?,
        None => None,
    };
    Ok(found.filter(|found| found.monitor.project == alert.project))
}

async fn shown(app: &App, project: &Project, alert: &Alert, done: &'static str) -> Response {
    let now = async {
        let Some(found) = monitor_of(app, alert).await? else {
            return Ok(None);
        };
        let at = app.store.world().now();
        let silent = silence::until(project.snoozed_until, &project.windows, at);
        let outages = app.store.outages().await?;
        let row = Row::of(&found.monitor, &found.state, silent, &outages, at);
        Ok::<_, Problem>(Some(Now {
            state: row.state(),
            acknowledged: found.state.acknowledged_at.map(At),
            can_acknowledge: found.state.status == Status::Down
                && found.state.acknowledged_at.is_none()
                && alert
                    .flip
                    .as_ref()
                    .is_some_and(|flip| flip.n == found.state.flips),
            silenced: row.silenced.map(At),
            path: path_of(&found.monitor),
        }))
    };
    let now = match now.await {
        Ok(now) => now,
        Err(problem) => return failed(None, &problem),
    };
    let notice = Notice {
        link: None,
        ..Notice::of_alert(alert, &nobody(project.id), &Voice::new(project, None))
    };
    let title = notice.title.clone();
    let page = Page {
        title: &title,
        ..Page::default()
    };
    page.show(&AlertPage {
        notice,
        done,
        now,
        id: alert.id,
        trace: alert.trace(),
    })
}

/// A channel, for a message that goes to none.
fn nobody(project: ProjectId) -> Channel {
    let via = ChannelKind::Email { to: String::new() };
    Channel::new(ChannelId(uuid::Uuid::nil()), project, via, UnixMs(0))
}

fn gone() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "this link is not valid, or older than a week",
    )
}

/// The alert that a link is for, and its project.
async fn asked(
    app: &App,
    (project, alert, token): &(String, String, String),
) -> Result<(Project, Alert), Problem> {
    let ids = (project.parse::<ProjectId>(), alert.parse::<AlertId>());
    let (Ok(project), Ok(alert)) = ids else {
        return Err(gone());
    };
    let project = app.store.project(project).await?.ok_or_else(gone)?;
    let now = app.store.world().now();
    if !is_good(token, &project.badge_secret, (project.id, alert), now) {
        return Err(gone());
    }
    let alert = app.store.alert(project.id, alert).await?.ok_or_else(gone)?;
    Ok((project, alert))
}
