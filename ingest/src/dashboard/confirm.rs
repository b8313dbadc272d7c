//! The page on which an e-mail address confirms that it wants alerts. The link to it is in a mail to
//! that address. Opening it changes nothing, because mail scanners open links.

use super::page::{Page, failed};
use crate::app::App;
use crate::http::Problem;
use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use secrecy::ExposeSecret;
use thrum_schema::channel::ChannelKind;
use thrum_schema::confirm::{address, is_token};
use thrum_schema::id::{ChannelId, ProjectId};

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm<'a> {
    to: &'a str,
    done: bool,
}

/// The link in the mail: project, channel, token.
type Link = Path<(String, String, String)>;

/// `GET /confirm/{project}/{channel}/{token}`
pub async fn get(State(app): State<App>, Path(link): Link) -> Response {
    match asked(&app, &link).await {
        Ok((_, _, to)) => show(&to, false),
        Err(problem) => failed(None, &problem),
    }
}

/// `POST /confirm/{project}/{channel}/{token}`
pub async fn post(State(app): State<App>, Path(link): Link) -> Response {
    let confirmed = async {
        let (project, channel, to) = asked(&app, &link).await?;
        let address = address(&to);
        let known = app.store.confirm_address(project, channel, &address);
        if known.await? { Ok(to) } else { Err(gone()) }
    };
    match confirmed.await {
        Ok(to) => show(&to, true),
        Err(problem) => failed(None, &problem),
    }
}

fn show(to: &str, done: bool) -> Response {
    let page = Page {
        title: "Alerts to this address",
        ..Page::default()
    };
    page.show(&Confirm { to, done })
}

fn gone() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "this link is not valid, or the channel has another address now",
    )
}

/// The channel and the address that a link is for.
async fn asked(
    app: &App,
    (project, channel, token): &(String, String, String),
) -> Result<(ProjectId, ChannelId, String), Problem> {
    let (project, channel) = (project.parse(), channel.parse());
    let (Ok(project), Ok(channel)) = (project, channel) else {
        return Err(gone());
    };
    let secret = app.config.confirm_secret.as_ref().ok_or_else(gone)?;
    let found = app.store.channel(project, channel).await?;
    match found.map(|found| found.via) {
        Some(ChannelKind::Email { to })
            if is_token(token, secret.expose_secret(), (project, channel), &to) =>
        {
            Ok((project, channel, to))
        }
        _ => Err(gone()),
    }
}
