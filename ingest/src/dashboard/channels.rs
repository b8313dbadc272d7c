//! Channels: create, edit, test and delete them, and see which are failing.

use super::fields::{Fields, RequestFields};
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{At, at, span};
use crate::api::v1::channels::{self, ChannelView, Deletion};
use crate::app::App;
use crate::http::Problem;
use crate::http::{Edit, Json, Params, PathId, Read, Write};
use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use thrum_schema::channel::DEFAULT_GROUP_THRESHOLD;
use thrum_schema::channel::kind::{KINDS, Kind, Must, Setting};

#[derive(Template)]
#[template(path = "channels.html")]
struct Channels<'a> {
    viewer: &'a Viewer,
    channels: Vec<ChannelView>,
    kinds: &'static [Kind],
    /// The signing secret of the channel that was just created.
    secret: Option<String>,
    /// ID of the channel whose deletion needs confirmation, because it is some monitor's only
    /// channel.
    forcible: Option<&'a str>,
}

impl Channels<'_> {
    fn when(&self, text: &str) -> At {
        at(text)
    }

    fn is_forcible(&self, channel: &ChannelView) -> bool {
        self.forcible == Some(&*channel.id.to_string())
    }

    /// Where a channel leads: its first setting.
    fn target<'a>(&self, channel: &'a ChannelView) -> &'a str {
        let kind = Kind::named(&channel.kind);
        let mut settings = kind.into_iter().flat_map(|kind| kind.settings);
        let first = settings.find_map(|setting| channel.settings.get(setting.name));
        first.map_or("", String::as_str)
    }
}

/// The fields of a form for a kind of channel.
struct KindForm {
    is_new: bool,
    inputs: Vec<Input>,
}

/// A field for a setting.
struct Input {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    value: String,
    required: bool,
    /// Whether the form can't be sent without it.
    is_required: bool,
    is_long: bool,
    is_url: bool,
    choices: &'static [&'static str],
}

impl KindForm {
    /// A form with the values of `fields`. A secret that is already stored is not shown, and is
    /// kept if its field is empty.
    fn new(kind: Option<&Kind>, fields: &Fields, is_new: bool) -> Self {
        let input = |setting: &'static Setting| {
            let is_kept = setting.secret && !is_new;
            Input {
                name: setting.name,
                label: setting.label,
                hint: if is_kept { "unchanged" } else { setting.hint },
                value: fields.text(&format!("setting.{}", setting.name)).to_owned(),
                required: setting.required,
                is_required: setting.required && !is_kept,
                is_long: setting.is_long(),
                is_url: setting.must == Must::Url,
                choices: setting.choices(),
            }
        };
        let settings = kind.map_or(&[][..], |kind| kind.settings);
        Self {
            is_new,
            inputs: settings.iter().map(input).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "channel_new.html")]
struct NewPage<'a> {
    viewer: &'a Viewer,
    title: &'static str,
    find: &'static str,
    fields: &'a Fields,
    kind: KindForm,
}

#[derive(Template)]
#[template(path = "channel.html")]
struct EditPage<'a> {
    viewer: &'a Viewer,
    channel: &'a ChannelView,
    fields: &'a Fields,
    kind: KindForm,
}

/// The messages on the page of channels.
#[derive(Default)]
struct Notices<'a> {
    said: &'a str,
    wrong: Option<&'a Problem>,
    secret: Option<String>,
    forcible: Option<&'a str>,
}

async fn show(app: &App, viewer: &Viewer, notices: Notices<'_>) -> Response {
    let listed = match channels::list(
        State(app.clone()),
        viewer.reader(),
        Params(crate::http::Page::default()),
    )
    .await
    {
        Ok(listed) => listed.0.channels,
        Err(problem) => return failed(Some(viewer), &problem),
    };
    let body = Channels {
        viewer,
        channels: listed,
        kinds: KINDS,
        secret: notices.secret,
        forcible: notices.forcible,
    };
    let page = Page {
        section: "/channels",
        title: "Channels",
        viewer: Some(viewer),
        said: notices.said,
        wrong: notices.wrong,
        ..Page::default()
    };
    page.show(&body)
}

/// The API request of a form for a new channel, or for one that keeps its secrets.
fn request(fields: &Fields, kind: &str, is_new: bool) -> Result<RequestFields, Problem> {
    let mut body = RequestFields::default();
    body.text(fields, "name");
    let kind = Kind::named(kind);
    let settings = kind.into_iter().flat_map(|kind| kind.settings);
    let given = settings.filter_map(|setting| {
        let value = fields.given(&format!("setting.{}", setting.name));
        let is_kept = value.is_none() && (is_new || setting.secret);
        (!is_kept).then(|| (setting.name.to_owned(), json!(value)))
    });
    body.set("settings", Value::Object(given.collect()));
    body.set("notify_down", fields.is_on("notify_down"));
    body.set("notify_up", fields.is_on("notify_up"));
    body.number(fields, "group_threshold")?;
    body.set("daily_limit", Value::Null);
    body.number(fields, "daily_limit")?;
    body.set("after_s", Value::Null);
    body.span(fields, "after", "after_s")?;
    body.set("fallback", json!(fields.given("fallback")));
    Ok(body)
}

/// The form for a new channel.
fn blank(kind: &str) -> Fields {
    Fields::default()
        .with("kind", kind)
        .with("notify_down", "on")
        .with("notify_up", "on")
        .with("group_threshold", DEFAULT_GROUP_THRESHOLD.to_string())
}

/// `GET /channels/new?kind=…`
pub async fn new(viewer: Viewer, query: Fields) -> Response {
    let kind = query.given("kind").unwrap_or("webhook");
    show_new(&viewer, &blank(kind), None)
}

fn show_new(viewer: &Viewer, fields: &Fields, wrong: Option<&Problem>) -> Response {
    let Some(kind) = Kind::named(fields.text("kind")) else {
        let unknown = Problem::not_found("kind of channel");
        return failed(Some(viewer), wrong.unwrap_or(&unknown));
    };
    let body = NewPage {
        viewer,
        title: kind.title,
        find: kind.find,
        fields,
        kind: KindForm::new(Some(kind), fields, true),
    };
    let page = Page {
        section: "/channels",
        title: "New channel",
        viewer: Some(viewer),
        wrong,
        ..Page::default()
    };
    page.show(&body)
}

/// `GET /channels`
pub async fn get(State(app): State<App>, viewer: Viewer, query: Fields) -> Response {
    let notices = Notices {
        said: query.text("done"),
        ..Notices::default()
    };
    show(&app, &viewer, notices).await
}

/// `POST /channels`
pub async fn create(State(app): State<App>, post: Post) -> Response {
    let (viewer, fields) = (&post.viewer, &post.fields);
    let created = async {
        let kind = fields.text("kind");
        let mut body = request(fields, kind, true)?;
        body.set("kind", kind);
        let request = Json(body.read()?);
        channels::create(State(app.clone()), post.writer(), request).await
    };
    match created.await {
        Ok((_, created)) => {
            let notices = Notices {
                said: "created",
                secret: created.0.secret,
                ..Notices::default()
            };
            show(&app, viewer, notices).await
        }
        Err(problem) => show_new(viewer, fields, Some(&problem)),
    }
}

/// `GET /channels/{id}`
pub async fn edit(State(app): State<App>, viewer: Viewer, PathId(id): PathId) -> Response {
    let found = async {
        let channel = Read::of(&app, viewer.reader(), &id).await?;
        channels::get(State(app.clone()), channel).await
    };
    match found.await {
        Ok(found) => show_one(&viewer, &found.0, &fields_of(&found.0), None),
        Err(problem) => failed(Some(&viewer), &problem),
    }
}

/// The form for an existing channel.
fn fields_of(channel: &ChannelView) -> Fields {
    let mut fields = Fields::default()
        .with("name", &channel.name)
        .with("group_threshold", channel.group_threshold.to_string());
    let kind = Kind::named(&channel.kind);
    for setting in kind.into_iter().flat_map(|kind| kind.settings) {
        let value = channel.settings.get(setting.name);
        if let Some(value) = value.filter(|_| !setting.secret) {
            fields = fields.with(&format!("setting.{}", setting.name), value);
        }
    }
    if let Some(after_s) = channel.after_s {
        fields = fields.with("after", span(i64::from(after_s)));
    }
    if let Some(fallback) = channel.fallback {
        fields = fields.with("fallback", fallback.to_string());
    }
    if let Some(limit) = channel.daily_limit {
        fields = fields.with("daily_limit", limit.to_string());
    }
    for (name, is_on) in [
        ("notify_down", channel.notify_down),
        ("notify_up", channel.notify_up),
    ] {
        if is_on {
            fields = fields.with(name, "on");
        }
    }
    fields
}

fn show_one(
    viewer: &Viewer,
    channel: &ChannelView,
    fields: &Fields,
    wrong: Option<&Problem>,
) -> Response {
    let body = EditPage {
        viewer,
        channel,
        fields,
        kind: KindForm::new(Kind::named(&channel.kind), fields, false),
    };
    let page = Page {
        section: "/channels",
        title: &channel.name,
        viewer: Some(viewer),
        wrong,
        ..Page::default()
    };
    page.show(&body)
}

/// `POST /channels/{id}/{action}`
pub async fn act(
    State(app): State<App>,
    Path((id, action)): Path<(String, String)>,
    post: Post,
) -> Response {
    let (viewer, fields) = (&post.viewer, &post.fields);
    let done = match action.as_str() {
        "test" => test(&app, &post, &id).await.map(|()| "/alerts?done=tested"),
        "delete" => match delete(&app, &post, &id).await {
            Err(problem) if problem.status() == StatusCode::CONFLICT => {
                let notices = Notices {
                    wrong: Some(&problem),
                    forcible: Some(&id),
                    ..Notices::default()
                };
                return show(&app, viewer, notices).await;
            }
            deleted => deleted.map(|()| "/channels?done=deleted"),
        },
        "save" => {
            let found = async {
                let channel = Read::of(&app, viewer.reader(), &id).await?;
                channels::get(State(app.clone()), channel).await
            };
            let found = match found.await {
                Ok(found) => found.0,
                Err(problem) => return failed(Some(viewer), &problem),
            };
            match save(&app, &post, &id, &found.kind).await {
                Ok(()) => Ok("/channels?done=saved"),
                Err(problem) => return show_one(viewer, &found, fields, Some(&problem)),
            }
        }
        _ => Err(Problem::not_found("action")),
    };
    match done {
        Ok(path) => see_other(path),
        Err(problem) => failed(Some(viewer), &problem),
    }
}

async fn test(app: &App, post: &Post, id: &str) -> Result<(), Problem> {
    let channel = Write::of(app, post.writer(), id).await?;
    let of = Params(channels::TestOf::default());
    let sent = channels::test(State(app.clone()), channel, of).await;
    sent.map(drop)
}

async fn delete(app: &App, post: &Post, id: &str) -> Result<(), Problem> {
    let channel = Edit::of(app, post.writer(), id).await?;
    let force = Deletion {
        force: Some(post.fields.is_on("force")),
    };
    let deleted = channels::delete(State(app.clone()), channel, Params(force));
    deleted.await.map(drop)
}

async fn save(app: &App, post: &Post, id: &str, kind: &str) -> Result<(), Problem> {
    let request = Json(request(&post.fields, kind, false)?.read()?);
    let channel = Edit::of(app, post.writer(), id).await?;
    let saved = channels::update(State(app.clone()), channel, request);
    saved.await.map(drop)
}
