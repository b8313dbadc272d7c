//! API keys and the ping key: made, rotated, revoked, and shown once.

use super::fields::{Fields, RequestFields};
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{At, at};
use crate::api::v1::keys::{self, KeyView};
use crate::api::v1::ping_key as ping_keys;
use crate::app::App;
use crate::http::Problem;
use crate::http::{Edit, Json};
use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use thrum_schema::key::Scope;

#[derive(Template)]
#[template(path = "keys.html")]
struct Keys<'a> {
    viewer: &'a Viewer,
    keys: Vec<KeyView>,
    /// A secret that was just made.
    secret: Option<Secret>,
    fields: &'a Fields,
}

impl Keys<'_> {
    fn when(&self, text: &str) -> At {
        at(text)
    }

    fn is_own(&self, key: &KeyView) -> bool {
        key.id == self.viewer.key.id()
    }
}

/// What a page of keys says besides the keys.
#[derive(Default)]
struct Around<'a> {
    /// What was typed of a new one.
    fields: Fields,
    said: &'a str,
    secret: Option<Secret>,
    wrong: Option<&'a Problem>,
}

async fn show(app: &App, viewer: &Viewer, around: Around<'_>) -> Response {
    // Which keys there are is for those alone who may make some.
    if !viewer.writes() {
        let problem = Problem::new(
            StatusCode::FORBIDDEN,
            "keys are shown to who signs in with a read-write key",
        );
        return failed(Some(viewer), &problem);
    }
    let keys = match app.accounts.valid_keys(viewer.key.project).await {
        Ok(keys) => keys,
        Err(error) => return failed(Some(viewer), &error.into()),
    };
    let body = Keys {
        viewer,
        keys: keys.iter().map(Into::into).collect(),
        secret: around.secret,
        fields: &around.fields,
    };
    let page = Page {
        section: "/keys",
        title: "Keys",
        viewer: Some(viewer),
        said: around.said,
        wrong: around.wrong,
        ..Page::default()
    };
    page.show(&body)
}

/// `GET /keys`
pub async fn get(State(app): State<App>, viewer: Viewer, query: Fields) -> Response {
    let around = Around {
        said: query.text("done"),
        ..Around::default()
    };
    show(&app, &viewer, around).await
}

/// A secret that was made, and what it is.
type Secret = (&'static str, String);

/// The page after a form: with the secret that it made; at the address that says what else it did; or with what was wrong.
async fn after(
    app: &App,
    post: &Post,
    done: Result<Option<Secret>, Problem>,
    said: &str,
) -> Response {
    match done {
        Ok(None) => see_other(&format!("/keys?done={said}")),
        Ok(secret) => {
            let around = Around {
                secret,
                ..Around::default()
            };
            show(app, &post.viewer, around).await
        }
        Err(problem) => {
            let around = Around {
                fields: post.fields.clone(),
                wrong: Some(&problem),
                ..Around::default()
            };
            show(app, &post.viewer, around).await
        }
    }
}

/// `POST /keys`
pub async fn create(State(app): State<App>, post: Post) -> Response {
    let fields = &post.fields;
    let made = async {
        let mut members = RequestFields::default();
        members.text(fields, "name");
        members.set("scope", fields.text("scope"));
        members.number(fields, "requests_per_day")?;
        members.number(fields, "requests_per_minute")?;
        let request = Json(members.read()?);
        keys::create(State(app.clone()), post.writer(), request).await
    };
    let done = made
        .await
        .map(|(_, made)| Some(("The new key", made.0.key)));
    after(&app, &post, done, "").await
}

/// `POST /keys/{id}/{action}`
pub async fn act(
    State(app): State<App>,
    Path((id, action)): Path<(String, String)>,
    post: Post,
) -> Response {
    let done = async {
        let key = Edit::of(&app, post.writer(), &id).await?;
        let state = State(app.clone());
        match action.as_str() {
            "rotate" => {
                let mut members = RequestFields::default();
                members.span(&post.fields, "overlap", "overlap_s")?;
                let (_, made) = keys::rotate(state, key, Json(members.read()?)).await?;
                Ok(Some(("The key's successor", made.0.key)))
            }
            "revoke" => keys::revoke(state, key).await.map(|_| None),
            _ => Err(Problem::not_found("action")),
        }
    };
    after(&app, &post, done.await, "revoked").await
}

/// `POST /ping-key/{action}`
pub async fn ping_key(State(app): State<App>, Path(action): Path<String>, post: Post) -> Response {
    let (state, writer) = (State(app.clone()), post.writer());
    let done = async {
        match action.as_str() {
            "rotate" => {
                let (_, made) = ping_keys::rotate(state, writer).await?;
                Ok(Some((
                    "The new ping key; the one before is no longer good",
                    made.0.ping_key,
                )))
            }
            "revoke" => ping_keys::delete(state, writer).await.map(|_| None),
            _ => Err(Problem::not_found("action")),
        }
    };
    after(&app, &post, done.await, "ping-key-off").await
}
