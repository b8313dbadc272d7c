//! Backtests: the form that starts one, and its result. The submodules turn a result into a page
//! and into files.

mod export;
mod report;

pub use export::{equity_csv, html, trades_csv};

use super::super::fields::{Fields, RequestFields};
use super::super::live::Live;
use super::super::page::{Page, failed, see_other};
use super::super::session::{Post, Viewer};
use super::{DEFAULT_STRATEGY, wait_for_result};
use crate::api::v1::backtests;
use crate::api::v1::series::{self, SeriesView};
use crate::api::v1::strategies::{self, StrategyView};
use crate::app::App;
use crate::http::Problem;
use crate::http::{Json, PathId, Read};
use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use report::{Outcome, text};
use serde_json::{Value, json};
use thrum_schema::channel::Channel;
use thrum_schema::error::Invalid;
use thrum_store::StoreError;

#[derive(Template)]
#[template(path = "backtest.html")]
struct Shown<'a> {
    viewer: &'a Viewer,
    id: &'a str,
    channels: &'a [Channel],
    outcome: Outcome,
}

#[derive(Template)]
#[template(path = "backtests.html")]
struct Form<'a> {
    viewer: &'a Viewer,
    series: Vec<SeriesView>,
    strategies: Vec<StrategyView>,
    fields: &'a Fields,
}

impl Form<'_> {
    /// Whether the less common fields are used.
    fn has_more(&self) -> bool {
        [
            "size",
            "benchmark",
            "grid",
            "train_bars",
            "test_bars",
            "more",
            "monte_carlo",
        ]
        .iter()
        .any(|field| self.fields.given(field).is_some())
    }
}

async fn show_form(
    app: &App,
    viewer: &Viewer,
    fields: &Fields,
    wrong: Option<&Problem>,
) -> Response {
    let listed = futures::try_join!(
        series::list(State(app.clone()), viewer.reader()),
        strategies::list(State(app.clone()), viewer.reader()),
    );
    let (series, strategies) = match listed {
        Ok(listed) => listed,
        Err(problem) => return failed(Some(viewer), &problem),
    };
    let body = Form {
        viewer,
        series: series.0.series,
        strategies: strategies.0.strategies,
        fields,
    };
    let page = Page {
        section: "/signals",
        title: "New backtest",
        viewer: Some(viewer),
        wrong,
        ..Page::default()
    };
    page.show(&body)
}

/// `GET /backtests`
pub async fn form(State(app): State<App>, viewer: Viewer, query: Fields) -> Response {
    let fields = query.or(Fields::default()
        .with("strategy", DEFAULT_STRATEGY)
        .with("fee_bps", "10")
        .with("slippage_bps", "5")
        .with("short", "on"));
    show_form(&app, &viewer, &fields, None).await
}

/// `POST /backtests`
pub async fn ask(State(app): State<App>, post: Post) -> Response {
    let fields = &post.fields;
    let asked = async {
        let mut body = RequestFields::default();
        let (series, timeframe) = fields.text("of").rsplit_once(' ').unwrap_or_default();
        let more: Vec<&str> = fields.all("more").filter(|more| *more != series).collect();
        if more.is_empty() {
            body.set("series", series);
        } else {
            let parts = std::iter::once(series).chain(more);
            let parts: Vec<Value> = parts.map(|series| json!({ "series": series })).collect();
            body.set("portfolio", parts);
        }
        body.set("timeframe", timeframe);
        for field in ["strategy", "mode", "benchmark"] {
            body.text(fields, field);
        }
        body.numbers(fields, "params")?;
        if let Some(size) = fields.given("size") {
            body.set("sizing", sizing(fields.text("sizing"), size)?);
        }
        let grid = fields.grid("grid")?;
        match (fields.given("train_bars"), fields.given("test_bars")) {
            (None, None) if grid.is_empty() => {}
            (None, None) => body.set("search", json!(grid)),
            _ => {
                let mut walk = RequestFields::default();
                walk.number(fields, "train_bars")?;
                walk.number(fields, "test_bars")?;
                walk.set("grid", json!(grid));
                body.set("walk_forward", walk.value());
            }
        }
        if fields.is_on("monte_carlo") {
            body.set("monte_carlo", json!({}));
        }
        // The dates are in UTC, and the period includes the whole of the last day.
        for (field, more) in [("from", 0), ("to", 1)] {
            if let Some(day) = fields.given(field) {
                body.set(field, begin_of_day(field, day, more)?);
            }
        }
        for field in ["fee_bps", "slippage_bps"] {
            body.number(fields, field)?;
        }
        body.set("short", fields.is_on("short"));
        if fields.is_on("close_to_close") {
            body.set("fill", "close_to_close");
        }
        let request = Json(body.read()?);
        let reply = backtests::post(
            State(app.clone()),
            post.writer(),
            wait_for_result(),
            request,
        )
        .await?;
        read(reply).await
    };
    match asked.await {
        Ok(reply) => see_other(&format!("/backtests/{}", text(&reply, "id"))),
        Err(problem) => show_form(&app, &post.viewer, fields, Some(&problem)).await,
    }
}

/// How much an entry invests, from the percentage in the form.
fn sizing(kind: &str, percent: &str) -> Result<Value, Invalid> {
    let number: Option<f64> = percent.parse().ok();
    let part = number.filter(|x| x.is_finite()).ok_or_else(|| {
        let problem = format!("must be a number of percent (got {percent:?})");
        Invalid::new("size", problem)
    })?;
    let part = part / 100.0;
    Ok(match kind {
        "fixed" => json!({ "fixed": part }),
        "volatility" => json!({ "volatility": { "target": part } }),
        _ => json!({ "fraction": part }),
    })
}

/// The start of a day in UTC, or of the day `later` days after it.
fn begin_of_day(field: &str, day: &str, later: u64) -> Result<String, Invalid> {
    let day = chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").ok();
    let day = day.and_then(|day| day.checked_add_days(chrono::Days::new(later)));
    let day = day.ok_or_else(|| Invalid::new(field, "must be a date like 2026-11-21"))?;
    Ok(format!("{day}T00:00:00Z"))
}

/// Reads the JSON of an API response.
async fn read(reply: Response) -> Result<Value, Problem> {
    let broken = || {
        Problem::from(StoreError::Corrupt(
            "a response of Thrum's own API".to_owned(),
        ))
    };
    let bytes = reply.into_body().collect().await.map_err(|_| broken())?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|_| broken())
}

/// `GET /backtests/{id}`
pub async fn result(State(app): State<App>, viewer: Viewer, id: PathId) -> Response {
    let report = match find(&app, &viewer, &id.0).await {
        Ok(report) => report,
        Err(problem) => return failed(Some(&viewer), &problem),
    };
    let channels = match app.store.channels(viewer.key.project).await {
        Ok(channels) => channels,
        Err(error) => return failed(Some(&viewer), &error.into()),
    };
    let body = Shown {
        viewer: &viewer,
        id: &id.0,
        channels: &channels,
        outcome: Outcome::new(&report),
    };
    let page = Page {
        section: "/signals",
        title: "Backtest",
        viewer: Some(&viewer),
        live: if body.outcome.status == "queued" {
            Live::Soon
        } else {
            Live::Not
        },
        ..Page::default()
    };
    page.show(&body)
}

/// The files that a result can be saved as.
#[derive(Debug, Clone, Copy)]
enum File {
    Html,
    Trades,
    Equity,
}

/// `GET /backtests/{id}/{file}`
pub async fn file(
    State(app): State<App>,
    viewer: Viewer,
    Path((id, file)): Path<(String, String)>,
) -> Response {
    let file = match file.as_str() {
        "report.html" => File::Html,
        "trades.csv" => File::Trades,
        "equity.csv" => File::Equity,
        _ => return failed(Some(&viewer), &Problem::not_found("file")),
    };
    let report = match find(&app, &viewer, &id).await {
        Ok(report) => report,
        Err(problem) => return failed(Some(&viewer), &problem),
    };
    if text(&report, "status") != "done" {
        let problem = Problem::conflict("the backtest has no result; see its page");
        return failed(Some(&viewer), &problem);
    }
    let (kind, name, content) = match file {
        File::Html => ("text/html; charset=utf-8", "report.html", html(&report)),
        File::Trades => ("text/csv; charset=utf-8", "trades.csv", trades_csv(&report)),
        File::Equity => ("text/csv; charset=utf-8", "equity.csv", equity_csv(&report)),
    };
    let saved = format!("attachment; filename=\"backtest-{name}\"");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_str(&saved).unwrap_or(HeaderValue::from_static("attachment")),
        ),
    ];
    (headers, content).into_response()
}

/// The result of a backtest, as the API returns it.
async fn find(app: &App, viewer: &Viewer, id: &str) -> Result<Value, Problem> {
    let request = Read::of(app, viewer.reader(), id).await?;
    let reply = backtests::get(State(app.clone()), request).await?;
    read(reply.into_response()).await
}
