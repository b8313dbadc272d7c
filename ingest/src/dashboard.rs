//! The dashboard: HTML pages on top of the API. They are rendered on the server and work without
//! JavaScript; one small script keeps them up to date. Pages read and write through the handlers of
//! `/v1`, with the API key that the viewer signed in with.

mod alert;
mod alerts;
mod assets;
mod channels;
mod chart;
mod confirm;
mod days;
mod fields;
mod keys;
mod labels;
mod live;
mod monitor;
mod overview;
mod page;
mod public;
mod session;
mod settings;
mod signals;
mod system;
mod usage;
mod words;

pub use signals::{equity_csv, html as backtest_html, trades_csv};

use crate::app::App;
use crate::http::Problem;
use askama::Template;
use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::{get, post};
use fields::Fields;
use live::Streams;
use page::{Page, failed, see_other};
use public::StatusPages;
use session::{Sessions, Viewer, form, is_same_origin, local_path};
use thrum_schema::key::API_KEY_LEN;

/// The state of the dashboard, on top of the app's.
#[derive(Debug, Clone)]
struct Dashboard {
    app: App,
    sessions: Sessions,
    status_pages: StatusPages,
    streams: Streams,
}

impl FromRef<Dashboard> for App {
    fn from_ref(dashboard: &Dashboard) -> Self {
        dashboard.app.clone()
    }
}

impl FromRef<Dashboard> for Sessions {
    fn from_ref(dashboard: &Dashboard) -> Self {
        dashboard.sessions.clone()
    }
}

impl FromRef<Dashboard> for Streams {
    fn from_ref(dashboard: &Dashboard) -> Self {
        dashboard.streams.clone()
    }
}

impl FromRef<Dashboard> for StatusPages {
    fn from_ref(dashboard: &Dashboard) -> Self {
        dashboard.status_pages.clone()
    }
}

/// The routes of the pages, their forms and their assets.
pub fn routes(app: App) -> Router<App> {
    let dashboard = Dashboard {
        sessions: Sessions::new(app.clone()),
        status_pages: StatusPages::new(app.clone()),
        streams: Streams::default(),
        app,
    };
    Router::new()
        .route("/", get(overview::get))
        .route("/sign-in", get(sign_in_page).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/events", get(live::events))
        .route("/monitors/new", get(monitor::new).post(monitor::create))
        .route("/monitors/{id}", get(monitor::get))
        .route(
            "/monitors/{id}/edit",
            get(monitor::edit).post(monitor::save),
        )
        .route(
            "/monitors/{id}/delete",
            get(monitor::confirm_delete).post(monitor::delete),
        )
        .route("/monitors/{id}/pings/{n}", get(monitor::ping))
        .route("/monitors/{id}/{action}", post(monitor::act))
        .route("/signals", get(signals::list))
        .route("/signals/{series}", get(signals::get).post(signals::ask))
        .route("/watches", post(signals::watch))
        .route("/watches/{id}/delete", post(signals::unwatch))
        .route(
            "/backtests",
            get(signals::backtest_form).post(signals::backtest),
        )
        .route("/backtests/{id}", get(signals::backtest_result))
        .route("/backtests/{id}/{file}", get(signals::backtest_file))
        .route("/alerts", get(alerts::get))
        .route("/alerts/{id}/redeliver", post(alerts::redeliver))
        .route("/channels", get(channels::get).post(channels::create))
        .route("/channels/new", get(channels::new))
        .route("/channels/{id}", get(channels::edit))
        .route("/channels/{id}/{action}", post(channels::act))
        .route("/usage", get(usage::get))
        .route("/keys", get(keys::get).post(keys::create))
        .route("/keys/{id}/{action}", post(keys::act))
        .route("/ping-key/{action}", post(keys::ping_key))
        .route("/settings", get(settings::get))
        .route("/settings/{action}", post(settings::act))
        .route("/system", get(system::get))
        .route("/status/{key}", get(public::get))
        .route(
            "/a/{project}/{alert}/{token}",
            get(alert::get).post(alert::post),
        )
        .route(
            "/confirm/{project}/{channel}/{token}",
            get(confirm::get).post(confirm::post),
        )
        .route("/assets/{file}", get(assets::get))
        .route("/favicon.ico", get(assets::icon))
        .layer(from_fn(page::headers))
        .with_state(dashboard)
}

/// The page for an unknown path.
pub fn not_found(problem: &Problem) -> Response {
    page::guarded(failed(None, problem))
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    next: &'a str,
}

fn show_sign_in(next: &str, said: &str, wrong: Option<&Problem>) -> Response {
    let page = Page {
        title: "Sign in",
        said,
        wrong,
        ..Page::default()
    };
    page.show(&SignIn { next })
}

/// `GET /sign-in`
async fn sign_in_page(query: Fields) -> Response {
    show_sign_in(local_path(query.text("next")), query.text("done"), None)
}

/// `POST /sign-in`
async fn sign_in(
    State(app): State<App>,
    State(sessions): State<Sessions>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let fields = match form(request.into_body()).await {
        Ok(fields) => fields,
        Err(problem) => return failed(None, &problem),
    };
    let next = local_path(fields.text("next"));
    let refused = |detail: &str| {
        let problem = Problem::new(StatusCode::FORBIDDEN, detail);
        show_sign_in(next, "", Some(&problem))
    };
    if !is_same_origin(&headers) {
        return refused("this form was sent from another site; sign in on this page");
    }
    let secret = fields.text("key");
    if secret.len() != API_KEY_LEN {
        return refused(
            "an API key has exactly 32 characters; `thrum serve` prints one when it first starts",
        );
    }
    let signed = async {
        match app.accounts.api_key(secret).await? {
            Some(key) if key.scope.reads() => sessions.sign_in(&headers, &key).await.map(Some),
            Some(_) | None => Ok(None),
        }
    };
    match signed.await {
        Ok(Some(cookie)) => {
            let mut response = see_other(next);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Ok(None) => refused(
            "unknown API key; it may have been revoked, or only for sending heartbeats or series",
        ),
        Err(problem) => failed(None, &problem),
    }
}

/// `POST /sign-out`, which read-only viewers may use too.
async fn sign_out(
    State(sessions): State<Sessions>,
    headers: HeaderMap,
    viewer: Viewer,
    request: Request,
) -> Response {
    match form(request.into_body()).await {
        Ok(fields) if viewer.sent(&headers, &fields) => {
            let mut response = see_other("/sign-in?done=signed-out");
            let cookie = sessions.sign_out(&headers);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Ok(_) => failed(Some(&viewer), &session::foreign_form()),
        Err(problem) => failed(Some(&viewer), &problem),
    }
}
