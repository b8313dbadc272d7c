//! API keys and the ping key: made, rotated, revoked, and shown once.

use super::fields::{Fields, Members};
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{At, at};
use crate::app::App;
use crate::body::{Json, PathId};
use crate::keys::{self, KeyView};
use crate::problem::Problem;
use askama::Template;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use thrum_schema::key::Scope;

#[derive(Template)]
#[template(path = "keys.html")]
struct Keys<'a> {
    viewer: &'a Viewer,
    keys: Vec<KeyView>,
    /// A secret that was just made.
    secret: Option<(&'static str, String)>,
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

async fn show(
    app: &App,
    viewer: &Viewer,
    fields: &Fields,
    said: &str,
    secret: Option<(&'static str, String)>,
    wrong: Option<&Problem>,
) -> Response {
    // Which keys there are is for those alone who may make some.
    if !viewer.writes() {
        let problem = Problem::new(
            StatusCode::FORBIDDEN,
            "keys are shown to who signs in with a read-write key",
        );
        return failed(Some(viewer), &problem);
    }
    let keys = match app.good_keys(viewer.key.project).await {
        Ok(keys) => keys,
        Err(error) => return failed(Some(viewer), &error.into()),
    };
    let body = Keys {
        viewer,
        keys: keys.iter().map(Into::into).collect(),
        secret,
        fields,
    };
    let page = Page {
        section: "/keys",
        title: "Keys",
        viewer: Some(viewer),
        said,
        wrong,
        live: "",
    };
    page.show(&body)
}

/// `GET /keys`
pub async fn get(State(app): State<App>, viewer: Viewer, RawQuery(query): RawQuery) -> Response {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    show(
        &app,
        &viewer,
        &Fields::default(),
        query.text("done"),
        None,
        None,
    )
    .await
}

/// `POST /keys`
pub async fn create(State(app): State<App>, post: Post) -> Response {
    let fields = &post.fields;
    let made = async {
        let mut members = Members::default();
        members.text(fields, "name");
        members.set("scope", fields.text("scope"));
        members.number(fields, "requests_per_day")?;
        members.number(fields, "requests_per_minute")?;
        let request = Json(members.read()?);
        keys::create(State(app.clone()), post.writer(), request).await
    };
    match made.await {
        Ok((_, made)) => {
            let secret = Some(("The new key", made.0.key));
            show(
                &app,
                &post.viewer,
                &Fields::default(),
                "created",
                secret,
                None,
            )
            .await
        }
        Err(problem) => show(&app, &post.viewer, fields, "", None, Some(&problem)).await,
    }
}

/// `POST /keys/{id}/{action}`
pub async fn act(
    State(app): State<App>,
    Path((id, action)): Path<(String, String)>,
    post: Post,
) -> Response {
    let (state, key) = (State(app.clone()), PathId(id));
    let done = match action.as_str() {
        "rotate" => {
            let rotated = async {
                let mut members = Members::default();
                members.span(&post.fields, "overlap", "overlap_s")?;
                keys::rotate(state, post.writer(), key, Json(members.read()?)).await
            };
            rotated
                .await
                .map(|(_, made)| Some(("The key's successor", made.0.key)))
        }
        "revoke" => keys::revoke(state, post.writer(), key).await.map(|_| None),
        _ => Err(Problem::not_found("action")),
    };
    match done {
        Ok(Some(secret)) => {
            show(
                &app,
                &post.viewer,
                &Fields::default(),
                "",
                Some(secret),
                None,
            )
            .await
        }
        Ok(None) => see_other("/keys?done=revoked"),
        Err(problem) => {
            show(
                &app,
                &post.viewer,
                &Fields::default(),
                "",
                None,
                Some(&problem),
            )
            .await
        }
    }
}

/// `POST /ping-key/{action}`
pub async fn ping_key(State(app): State<App>, Path(action): Path<String>, post: Post) -> Response {
    let state = State(app.clone());
    let done = match action.as_str() {
        "rotate" => keys::rotate_ping_key(state, post.writer())
            .await
            .map(|(_, made)| Some(("The new ping key", made.0.ping_key))),
        "revoke" => keys::delete_ping_key(state, post.writer())
            .await
            .map(|_| None),
        _ => Err(Problem::not_found("action")),
    };
    match done {
        Ok(Some(secret)) => {
            show(
                &app,
                &post.viewer,
                &Fields::default(),
                "rotated",
                Some(secret),
                None,
            )
            .await
        }
        Ok(None) => see_other("/keys?done=ping-key-off"),
        Err(problem) => failed(Some(&post.viewer), &problem),
    }
}
