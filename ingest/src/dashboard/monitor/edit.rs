//! The form that creates or edits a monitor, with a preview of its next deadlines.

use super::super::fields::{Fields, RequestFields, span_of};
use super::super::labels::label;
use super::super::overview::path_of;
use super::super::page::{Page, failed, see_other};
use super::super::session::{Post, Viewer, read_only};
use super::super::words::{At, Relative, span};
use crate::api::v1::monitors::{self, Check, MonitorRequest};
use crate::app::App;
use crate::http::Problem;
use crate::http::{Edit, Json, Params, PathId};
use crate::services::monitors::ProjectMonitors;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use thrum_schema::Targets;
use thrum_schema::channel::Channel;
use thrum_schema::error::Invalid;
use thrum_schema::monitor::check_grace_s;
use thrum_schema::{Monitor, Schedule, UnixMs};
use thrum_store::Snapshot;

/// Number of deadlines in the preview.
const PREVIEW: usize = 5;

/// A row of the preview: when a ping is due, and when Thrum alerts if none arrives.
struct Deadline {
    expected: At,
    alerts: At,
    left: Relative,
}

#[derive(Template)]
#[template(path = "edit.html")]
struct Form<'a> {
    viewer: &'a Viewer,
    title: &'a str,
    /// The path that the form is submitted to.
    action: &'a str,
    back: &'a str,
    fields: &'a Fields,
    channels: &'a [Channel],
    preview: Vec<Deadline>,
    /// What is wrong with the fields.
    wrong: &'a [Invalid],
}

impl Form<'_> {
    fn value(&self, name: &str) -> &str {
        self.fields.text(name)
    }

    /// What is wrong with a field, in words that begin with its label.
    fn error(&self, name: &str) -> Option<String> {
        let wrong = self.wrong.iter().find(|wrong| wrong.field == name)?;
        Some(format!("{} {}", label(name), wrong.problem))
    }
}

/// The form's field for a field of the API.
fn field_of(api: &str) -> &str {
    let (field, rest) = api.split_at(api.find(['[', '.']).unwrap_or(api.len()));
    match field {
        "period_s" => "period",
        "grace_s" => "grace",
        "start_grace_s" => "start_grace",
        "remind_s" => "remind",
        "early_s" => "early",
        "channels" => "channel",
        "windows" | "tags" | "expect" | "parents" => field,
        _ if rest.is_empty() => field,
        _ => api,
    }
}

/// The wrong fields of a problem, if it is about fields of this form.
fn wrong_fields(problem: &Problem) -> Vec<Invalid> {
    let fields = problem.fields().into_iter();
    fields
        .map(|wrong| {
            let field = field_of(&wrong.field).to_owned();
            // Which line of several is wrong.
            let problem = match wrong.field.strip_prefix("windows[") {
                Some(rest) => {
                    let (index, part) = rest.split_once(']').unwrap_or((rest, ""));
                    let line = index.parse::<usize>().map_or(1, |index| index + 1);
                    let part = part.trim_start_matches('.');
                    format!("line {line}: {part} {}", wrong.problem)
                }
                None => match wrong.field.strip_prefix("expect.") {
                    Some(path) => format!("{path} {}", wrong.problem),
                    None => wrong.problem,
                },
            };
            Invalid { field, problem }
        })
        .collect()
}

/// Reads the schedule and the grace of a form, and everything that is wrong with them.
fn schedule_of(fields: &Fields) -> Result<(Schedule, u32), Vec<Invalid>> {
    let span = |field: &str| span_of(field, fields.text(field));
    let grace_s = span("grace").and_then(|grace_s| check_grace_s("grace", grace_s));
    let schedule = if fields.text("kind") == "schedule" {
        Schedule::parse(fields.text("schedule"), fields.given("tz").unwrap_or("UTC"))
    } else {
        span("period").and_then(|period_s| Schedule::simple("period", period_s))
    };
    match (schedule, grace_s) {
        (Ok(schedule), Ok(grace_s)) => Ok((schedule, grace_s)),
        (schedule, grace_s) => Err(schedule.err().into_iter().chain(grace_s.err()).collect()),
    }
}

/// The next deadlines, if every ping arrives on time.
fn preview(fields: &Fields, now: UnixMs) -> Result<Vec<Deadline>, Vec<Invalid>> {
    let (schedule, grace_s) = schedule_of(fields)?;
    let deadlines = schedule.times(now).take(PREVIEW).map(|expected| {
        let alerts = expected + i64::from(grace_s) * 1000;
        Deadline {
            expected: At(expected),
            alerts: At(alerts),
            left: Relative { at: alerts, now },
        }
    });
    Ok(deadlines.collect())
}

/// The form for a new monitor.
fn blank() -> Fields {
    Fields::default()
        .with("kind", "period")
        .with("period", "5 min")
        .with("grace", "1 min")
        .with("tz", "UTC")
        .with("all", "on")
        .with("failures", "1")
}

/// The form for an existing monitor.
fn fields_of(monitor: &Monitor) -> Fields {
    let options = &monitor.options;
    let spanned = |s: Option<u32>| s.map(|s| span(s.into())).unwrap_or_default();
    let mut fields = Fields::default()
        .with("name", &monitor.name)
        .with("slug", &monitor.slug)
        .with("tags", monitor.tags.join(" "))
        .with("desc", &monitor.desc)
        .with("grace", span(monitor.grace_s.into()))
        .with("start_grace", spanned(options.start_grace_s))
        .with("remind", spanned(options.remind_s))
        .with("early", spanned(options.early_s))
        .with("failures", monitor.failures_to_alert().to_string());
    let windows = options.windows.iter().map(|window| {
        let length = span(window.duration_s.into());
        format!("{} | {length} | {}", window.cron, window.tz)
    });
    fields = fields.with("windows", windows.collect::<Vec<_>>().join("\n"));
    let expect = options.expect.iter();
    let expect = expect.map(|(name, expectation)| format!("{name}: {}", expectation.to_text(name)));
    fields = fields.with("expect", expect.collect::<Vec<_>>().join("\n"));
    fields = match &monitor.schedule {
        Schedule::Simple { period_s } => fields
            .with("kind", "period")
            .with("period", span(i64::from(*period_s)))
            .with("tz", "UTC"),
        Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => fields
            .with("kind", "schedule")
            .with("schedule", expr)
            .with("tz", tz),
    };
    for (name, is_on) in [
        ("manual_resume", monitor.manual_resume),
        ("post_only", monitor.post_only),
        ("all_runs", options.all_runs),
        ("all", monitor.targets == Targets::All),
    ] {
        if is_on {
            fields = fields.with(name, "on");
        }
    }
    if let Targets::These(ids) = &monitor.targets {
        for id in ids {
            fields = fields.with("channel", id.to_string());
        }
    }
    fields
}

/// The parents of a monitor as the form shows them, one per line: by name, or by UUID if several
/// monitors have the name.
fn parents_of(monitor: &Monitor, all: &ProjectMonitors) -> String {
    let parents = all
        .iter()
        .filter(|other| monitor.options.parents.contains(&other.id));
    let lines = parents.map(|parent| {
        let same = |other: &&Arc<Monitor>| other.label() == parent.label();
        match all.iter().filter(same).count() {
            1 => parent.label().to_owned(),
            _ => parent.id.to_string(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Converts the form to an API request that sets everything the form shows, or says all that is wrong.
fn request(
    fields: &Fields,
    channels: &[Channel],
    now: UnixMs,
) -> Result<MonitorRequest, Vec<Invalid>> {
    // Report blank required fields here: the API would leave them unchanged instead.
    let mut wrong = schedule_of(fields).err().unwrap_or_default();
    let mut body = RequestFields::default();
    let mut note = |checked: Result<(), Invalid>| wrong.extend(checked.err());
    for name in ["name", "slug", "desc"] {
        body.set(name, fields.text(name));
    }
    if fields.given("name").or(fields.given("slug")).is_none() {
        note(Err(Invalid::new("name", "or slug is required")));
    }
    let tags = fields.text("tags").split([',', ' ', '\n', '\t']);
    let tags: Vec<&str> = tags.map(str::trim).filter(|tag| !tag.is_empty()).collect();
    body.set("tags", json!(tags));
    for (field, name) in [
        ("start_grace", "start_grace_s"),
        ("remind", "remind_s"),
        ("early", "early_s"),
    ] {
        body.set(name, Value::Null);
        note(body.span(fields, field, name));
    }
    note(body.number(fields, "failures"));
    body.set("manual_resume", fields.is_on("manual_resume"));
    body.set("all_runs", fields.is_on("all_runs"));
    body.set(
        "methods",
        if fields.is_on("post_only") {
            "POST"
        } else {
            ""
        },
    );
    if fields.is_on("all") {
        body.set("channels", "all");
    } else {
        let chosen: Vec<&str> = fields.all("channel").collect();
        body.set("channels", json!(chosen));
    }
    let parents = fields.text("parents").lines().map(str::trim);
    let parents: Vec<&str> = parents.filter(|line| !line.is_empty()).collect();
    body.set("parents", json!(parents));
    match windows(fields.text("windows")) {
        Ok(windows) => body.set("windows", windows),
        Err(error) => note(Err(error)),
    }
    match expectations(fields.text("expect")) {
        Ok(expect) => body.set("expect", expect),
        Err(error) => note(Err(error)),
    }
    // schedule_of already reports these fields.
    if wrong
        .iter()
        .all(|error| !matches!(&*error.field, "period" | "grace" | "schedule" | "tz"))
    {
        let _ = body.span(fields, "grace", "grace_s");
        if fields.text("kind") == "schedule" {
            body.text(fields, "schedule");
            body.text(fields, "tz");
        } else {
            let _ = body.span(fields, "period", "period_s");
        }
    }
    let request: MonitorRequest = match body.read() {
        Ok(request) => request,
        Err(error) => {
            wrong.push(error);
            return Err(wrong);
        }
    };
    if let Err(more) = request.clone().check(channels, now) {
        wrong.extend(more);
    }
    if wrong.is_empty() {
        Ok(request)
    } else {
        Err(wrong)
    }
}

/// Parses what is expected of metrics, one per line: `rows: auto`, `duration: max 30m`.
fn expectations(text: &str) -> Result<Value, Invalid> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut expect = serde_json::Map::new();
    for line in lines {
        let Some((name, rules)) = line.split_once(':') else {
            return Err(Invalid::new(
                "expect",
                "must have one metric per line, like rows: auto",
            ));
        };
        let before = expect.insert(name.trim().to_owned(), json!(rules.trim()));
        if before.is_some() {
            return Err(Invalid::new("expect", format!("has {} twice", name.trim())));
        }
    }
    Ok(Value::Object(expect))
}

/// Parses maintenance windows, one per line: `0 2 * * 0 | 2 h | Europe/Berlin`.
pub fn windows(text: &str) -> Result<Value, Invalid> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let windows = lines.map(|line| {
        let mut parts = line.split('|').map(str::trim);
        let (Some(cron), Some(length)) = (parts.next(), parts.next()) else {
            return Err(Invalid::new(
                "windows",
                "must have one window per line, like 0 2 * * 0 | 2 h | Europe/Berlin",
            ));
        };
        let tz = parts.next().unwrap_or("UTC");
        Ok(json!({ "cron": cron, "duration_s": span_of("windows", length)?, "tz": tz }))
    });
    windows.collect::<Result<Vec<_>, _>>().map(Value::from)
}

/// Shows the form with the given values.
async fn show(
    app: &App,
    viewer: &Viewer,
    monitor: Option<&Monitor>,
    fields: &Fields,
    wrong: Option<&Problem>,
) -> Response {
    if !viewer.writes() {
        return failed(Some(viewer), &read_only());
    }
    let channels = match app.store.channels(viewer.key.project).await {
        Ok(channels) => channels,
        Err(error) => return failed(Some(viewer), &error.into()),
    };
    let path = monitor.map(path_of);
    let action = path
        .as_deref()
        .map_or_else(|| "/monitors/new".to_owned(), |path| format!("{path}/edit"));
    let title = monitor.map_or_else(
        || "New monitor".to_owned(),
        |m| format!("Edit {}", m.label()),
    );
    let (preview, early) = match preview(fields, app.store.world().now()) {
        Ok(deadlines) => (deadlines, Vec::new()),
        Err(wrong) => (Vec::new(), wrong),
    };
    let at_fields = match wrong {
        Some(problem) => wrong_fields(problem),
        None => early,
    };
    // Don't repeat a field's error above the form.
    let known = |wrong: &Invalid| label(&wrong.field) != wrong.field;
    let wrong = wrong.filter(|_| at_fields.is_empty() || !at_fields.iter().all(known));
    let form = Form {
        viewer,
        title: &title,
        action: &action,
        back: path.as_deref().unwrap_or("/"),
        fields,
        channels: &channels,
        preview,
        wrong: &at_fields,
    };
    let page = Page {
        section: "/",
        title: &title,
        viewer: Some(viewer),
        wrong,
        invalid: !at_fields.is_empty(),
        ..Page::default()
    };
    page.show(&form)
}

/// The request of a form, or everything that is wrong with it.
async fn checked(app: &App, viewer: &Viewer, fields: &Fields) -> Result<MonitorRequest, Problem> {
    let channels = app.store.channels(viewer.key.project).await?;
    Ok(request(fields, &channels, app.store.world().now())?)
}

/// `GET /monitors/new`
pub async fn new(State(app): State<App>, viewer: Viewer) -> Response {
    show(&app, &viewer, None, &blank(), None).await
}

/// `POST /monitors/new`
pub async fn create(State(app): State<App>, post: Post) -> Response {
    let (viewer, fields) = (&post.viewer, &post.fields);
    if fields.is_on("preview") {
        return show(&app, viewer, None, fields, None).await;
    }
    let created = async {
        let request = Json(checked(&app, viewer, fields).await?);
        monitors::create(
            State(app.clone()),
            post.writer(),
            Params(Check::default()),
            request,
        )
        .await
    };
    match created.await {
        Ok((_, view)) => see_other(&format!("/monitors/{}?done=created", view.0.unique_key)),
        Err(problem) => show(&app, viewer, None, fields, Some(&problem)).await,
    }
}

/// `GET /monitors/{id}/edit`
pub async fn edit(State(app): State<App>, viewer: Viewer, PathId(id): PathId) -> Response {
    match app.monitors.find(viewer.key.project, &id).await {
        Ok(found) => {
            let monitor = &found.monitor;
            let mut fields = fields_of(monitor);
            if !monitor.options.parents.is_empty() {
                match app.monitors.list(monitor.project).await {
                    Ok(all) => fields = fields.with("parents", parents_of(monitor, &all)),
                    Err(error) => return failed(Some(&viewer), &error.into()),
                }
            }
            show(&app, &viewer, Some(monitor), &fields, None).await
        }
        Err(error) => failed(Some(&viewer), &error.into()),
    }
}

/// `POST /monitors/{id}/edit`
pub async fn save(State(app): State<App>, PathId(id): PathId, post: Post) -> Response {
    let (viewer, fields) = (&post.viewer, &post.fields);
    let edit = match Edit::<Snapshot>::of(&app, post.writer(), &id).await {
        Ok(edit) => edit,
        Err(problem) => return failed(Some(viewer), &problem),
    };
    let monitor = &edit.it.monitor.clone();
    if fields.is_on("preview") {
        return show(&app, viewer, Some(monitor), fields, None).await;
    }
    let saved = async {
        let request = Json(checked(&app, viewer, fields).await?);
        monitors::update(State(app.clone()), edit, Params(Check::default()), request).await
    };
    match saved.await {
        Ok(_) => see_other(&format!("{}?done=saved", path_of(monitor))),
        Err(problem) => show(&app, viewer, Some(monitor), fields, Some(&problem)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_parsed_line_by_line() {
        let read = windows(" 0 2 * * 0 | 2 h | Europe/Berlin\n\n30 4 * * * | 90").unwrap();
        assert_eq!(
            read,
            json!([
                { "cron": "0 2 * * 0", "duration_s": 7_200, "tz": "Europe/Berlin" },
                { "cron": "30 4 * * *", "duration_s": 90, "tz": "UTC" }
            ])
        );
        assert!(windows("0 2 * * 0").is_err());
        assert!(windows("0 2 * * 0 | long").is_err());
    }

    #[test]
    fn all_errors_of_a_form_come_at_once_by_their_labels() {
        let fields = Fields::default()
            .with("name", "x".repeat(101))
            .with("slug", "Upper")
            .with("tags", "prod, db,web")
            .with("kind", "schedule")
            .with("schedule", "61 * * * *")
            .with("grace", "soon")
            .with("remind", "1 s")
            .with("failures", "0")
            .with("windows", "0 2 * * 0 | 2 h\n0 25 * * * | 1 h");
        let wrong = Problem::from(request(&fields, &[], UnixMs(0)).unwrap_err());
        let wrong = wrong_fields(&wrong);
        let form = |name: &str| {
            let wrong = wrong.iter().find(|wrong| wrong.field == name);
            wrong.map(|wrong| format!("{} {}", label(name), wrong.problem))
        };
        for (name, error) in [
            ("name", "Name must be at most 100 characters"),
            ("slug", "Slug must contain only lowercase letters"),
            (
                "schedule",
                "Schedule is not a valid cron expression: minute `61`",
            ),
            ("grace", "Grace must be a duration like 90 s"),
            ("remind", "Reminder interval must be between 60 and"),
            (
                "failures",
                "Failures in a row must be between 1 and 100 (got 0)",
            ),
            ("windows", "Maintenance windows line 2: cron is not a valid"),
        ] {
            let shown = form(name).unwrap_or_default();
            assert!(shown.starts_with(error), "{name}: {shown}");
        }
        assert_eq!(form("tags"), None, "tags are split at commas");
        assert_eq!(wrong.len(), 7, "{wrong:?}");
        let fields = blank().with("name", "web").with("tags", "prod, db,web");
        let request =
            serde_json::to_value(request(&fields, &[], UnixMs(0)).unwrap().tags()).unwrap();
        assert_eq!(request, json!(["prod", "db", "web"]));
    }

    #[test]
    fn the_preview_shows_when_pings_are_due_and_when_it_alerts() {
        let fields = blank();
        let deadlines = preview(&fields, UnixMs(0)).unwrap();
        assert_eq!(deadlines.len(), PREVIEW);
        assert_eq!(deadlines[0].expected, At(UnixMs(300_000)));
        assert_eq!(deadlines[0].alerts, At(UnixMs(360_000)));
        let wrong = Fields::default()
            .with("kind", "schedule")
            .with("grace", "1 min")
            .with("schedule", "soon");
        assert!(preview(&wrong, UnixMs(0)).is_err());
    }
}
