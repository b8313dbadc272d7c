//! The list of series, watches and strategies. The submodules show a series and its signals, and
//! backtests.

mod backtest;
mod series;

pub use backtest::{
    ask as backtest, equity_csv, file as backtest_file, form as backtest_form, html,
    result as backtest_result, trades_csv,
};
pub use series::{ask, get};

use super::fields::{Fields, RequestFields};
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{At, at};
use crate::api::v1::series::SeriesView;
use crate::api::v1::strategies::{self, StrategyView};
use crate::api::v1::watches::{self, WatchView};
use crate::app::App;
use crate::http::Problem;
use crate::http::site::quote;
use crate::http::{Json, Params, PathId, Write};
use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use thrum_schema::channel::Channel;

/// The strategy that is preselected.
const DEFAULT_STRATEGY: &str = "trend-rsi";

#[derive(Template)]
#[template(path = "signals.html")]
struct List<'a> {
    viewer: &'a Viewer,
    series: Vec<SeriesView>,
    watches: Vec<WatchView>,
    strategies: Vec<StrategyView>,
    channels: Vec<Channel>,
    fields: &'a Fields,
}

impl List<'_> {
    fn path(&self, view: &SeriesView) -> String {
        path_of(&view.series, &view.timeframe)
    }

    fn watch_path(&self, watch: &WatchView) -> String {
        let mut path = path_of(&watch.series, &watch.timeframe);
        path.push_str(&format!("&strategy={}", quoted(&watch.strategy)));
        if let Some(mode) = &watch.mode {
            path.push_str(&format!("&mode={}", quoted(mode)));
        }
        if !watch.params.is_empty() {
            let params = serde_json::json!(watch.params).to_string();
            path.push_str(&format!("&params={}", quoted(&params)));
        }
        path
    }

    fn when(&self, text: &str) -> At {
        at(text)
    }
}

fn quoted(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The path of a series' page.
pub fn path_of(series: &str, timeframe: &str) -> String {
    format!("/signals/{}?timeframe={}", quote(series), quoted(timeframe))
}

/// `GET /signals`
pub async fn list(State(app): State<App>, viewer: Viewer, query: Fields) -> Response {
    show_list(&app, &viewer, &query, query.text("done"), None).await
}

async fn show_list(
    app: &App,
    viewer: &Viewer,
    fields: &Fields,
    said: &str,
    wrong: Option<&Problem>,
) -> Response {
    let listed = futures::try_join!(
        crate::api::v1::series::list(State(app.clone()), viewer.reader()),
        watches::list(
            State(app.clone()),
            viewer.reader(),
            Params(crate::http::Page::default())
        ),
        strategies::list(State(app.clone()), viewer.reader()),
    );
    let (series, watches, strategies) = match listed {
        Ok(listed) => listed,
        Err(problem) => return failed(Some(viewer), &problem),
    };
    let channels = match app.store.channels(viewer.key.project).await {
        Ok(channels) => channels,
        Err(error) => return failed(Some(viewer), &error.into()),
    };
    let body = List {
        viewer,
        channels,
        series: series.0.series,
        watches: watches.0.watches,
        strategies: strategies.0.strategies,
        fields,
    };
    let page = Page {
        section: "/signals",
        title: "Signals",
        viewer: Some(viewer),
        said,
        wrong,
        ..Page::default()
    };
    page.show(&body)
}

/// Headers that make the API wait up to 8 s for the result, so that the next page can show it.
fn wait_for_result() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("prefer", HeaderValue::from_static("wait=8"));
    headers
}

/// `POST /watches`
pub async fn watch(State(app): State<App>, post: Post) -> Response {
    let fields = &post.fields;
    let created = async {
        let mut body = RequestFields::default();
        for field in ["name", "mode", "strategy"] {
            body.text(fields, field);
        }
        // One field selects both the series and its timeframe.
        let (series, timeframe) = fields.text("of").rsplit_once(' ').unwrap_or_default();
        body.set("series", series);
        body.set("timeframe", timeframe);
        body.span(fields, "cooldown", "cooldown_s")?;
        body.number(fields, "confirm_bars")?;
        body.numbers(fields, "params")?;
        let chosen: Vec<&str> = fields.all("channel").collect();
        if !fields.is_on("all") && !chosen.is_empty() {
            body.set("channels", serde_json::json!(chosen));
        }
        watches::create(State(app.clone()), post.writer(), Json(body.read()?)).await
    };
    match created.await {
        Ok(_) => see_other("/signals?done=watched"),
        Err(problem) => show_list(&app, &post.viewer, fields, "", Some(&problem)).await,
    }
}

/// `POST /watches/{id}/delete`
pub async fn unwatch(State(app): State<App>, id: PathId, post: Post) -> Response {
    let deleted = async {
        let watch = Write::of(&app, post.writer(), &id.0).await?;
        watches::delete(State(app.clone()), watch).await
    };
    match deleted.await {
        Ok(_) => see_other("/signals?done=deleted"),
        Err(problem) => failed(Some(&post.viewer), &problem),
    }
}
