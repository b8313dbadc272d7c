//! API keys and the ping key: create, rotate and revoke them. Secrets are shown once.

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
    /// The secret that was just created.
    secret: Option<Secret>,
    fields: &'a Fields,
}

impl Keys<'_> {
    fn when(&self, text: &str) -> At {
        at(text)
    }

    fn scopes(&self) -> [Scope; 4] {
        Scope::ALL
    }

    fn is_own(&self, key: &KeyView) -> bool {
        key.id == self.viewer.key.id()
    }
}

/// The messages on the page of keys.
#[derive(Default)]
struct Notices<'a> {
    /// The values in the form for a new key.
    fields: Fields,
    said: &'a str,
    secret: Option<Secret>,
    wrong: Option<&'a Problem>,
}

async fn show(app: &App, viewer: &Viewer, notices: Notices<'_>) -> Response {
    // Only read-write keys may list keys.
    if !viewer.writes() {
        let problem = Problem::new(
            StatusCode::FORBIDDEN,
            "to see the keys, sign in with a read-write key",
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
        secret: notices.secret,
        fields: &notices.fields,
    };
    let page = Page {
        section: "/keys",
        title: "Keys",
        viewer: Some(viewer),
        said: notices.said,
        wrong: notices.wrong,
        ..Page::default()
    };
    page.show(&body)
}

/// `GET /keys`
pub async fn get(State(app): State<App>, viewer: Viewer, query: Fields) -> Response {
    let notices = Notices {
        said: query.text("done"),
        ..Notices::default()
    };
    show(&app, &viewer, notices).await
}

/// A new secret, with the confirmation to show above it.
type Secret = (&'static str, String);

/// The response to a form: the page with the new secret or the error, or else a redirect to the
/// page with the confirmation `said`.
async fn after(
    app: &App,
    post: &Post,
    done: Result<Option<Secret>, Problem>,
    said: &str,
) -> Response {
    match done {
        Ok(None) => see_other(&format!("/keys?done={said}")),
        Ok(secret) => {
            let notices = Notices {
                secret,
                ..Notices::default()
            };
            show(app, &post.viewer, notices).await
        }
        Err(problem) => {
            let notices = Notices {
                fields: post.fields.clone(),
                wrong: Some(&problem),
                ..Notices::default()
            };
            show(app, &post.viewer, notices).await
        }
    }
}

/// `POST /keys`
pub async fn create(State(app): State<App>, post: Post) -> Response {
    let fields = &post.fields;
    let created = async {
        let mut body = RequestFields::default();
        body.text(fields, "name");
        body.set("scope", fields.text("scope"));
        body.number(fields, "requests_per_day")?;
        body.number(fields, "requests_per_minute")?;
        let request = Json(body.read()?);
        keys::create(State(app.clone()), post.writer(), request).await
    };
    let done = created
        .await
        .map(|(_, created)| Some(("Key created.", created.0.key)));
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
                let mut body = RequestFields::default();
                body.span(&post.fields, "overlap", "overlap_s")?;
                let (_, created) = keys::rotate(state, key, Json(body.read()?)).await?;
                Ok(Some(("Key rotated. This is the new key.", created.0.key)))
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
                let (_, created) = ping_keys::rotate(state, writer).await?;
                Ok(Some((
                    "Ping key created. The previous ping key no longer works.",
                    created.0.ping_key,
                )))
            }
            "revoke" => ping_keys::delete(state, writer).await.map(|_| None),
            _ => Err(Problem::not_found("action")),
        }
    };
    after(&app, &post, done.await, "ping-key-off").await
}
