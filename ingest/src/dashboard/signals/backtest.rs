//! Backtests: the form that starts one, and the result, compared with buy and hold.

use super::super::chart::{BLUE, Chart, GREY, Line, Svg};
use super::super::fields::{Fields, RequestFields};
use super::super::live::Live;
use super::super::page::{Page, failed, see_other};
use super::super::session::{Post, Viewer};
use super::super::words::{At, at, number, percent};
use super::{DEFAULT_STRATEGY, wait_for_result};
use crate::api::v1::backtests;
use crate::api::v1::series::{self, SeriesView};
use crate::api::v1::strategies::{self, StrategyView};
use crate::app::App;
use crate::http::Problem;
use crate::http::{Json, PathId, Read};
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use thrum_schema::error::Invalid;
use thrum_store::StoreError;

/// Maximum number of trades listed.
const TRADES: usize = 200;

#[derive(Template)]
#[template(path = "backtests.html")]
struct Form<'a> {
    viewer: &'a Viewer,
    series: Vec<SeriesView>,
    strategies: Vec<StrategyView>,
    fields: &'a Fields,
}

/// A figure of the strategy, and of buy and hold.
struct Figure {
    name: &'static str,
    value: String,
    held: String,
}

struct Trade {
    side: String,
    entered: At,
    entry: String,
    exited: At,
    exit: String,
    bars: String,
    net: String,
}

#[derive(Template)]
#[template(path = "backtest.html")]
struct Outcome {
    title: String,
    /// `queued`, `done` or `failed`.
    status: String,
    error: String,
    from: Option<At>,
    to: Option<At>,
    costs: String,
    figures: Vec<Figure>,
    more: Vec<(&'static str, String)>,
    look_ahead: &'static str,
    equity: Option<Svg>,
    trades: Vec<Trade>,
    total: usize,
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
        body.set("series", series);
        body.set("timeframe", timeframe);
        for field in ["strategy", "mode"] {
            body.text(fields, field);
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

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn when(value: &Value, name: &str) -> Option<At> {
    value[name].as_str().map(at)
}

/// `GET /backtests/{id}`
pub async fn result(State(app): State<App>, viewer: Viewer, id: PathId) -> Response {
    let found = async {
        let request = Read::of(&app, viewer.reader(), &id.0).await?;
        let reply = backtests::get(State(app.clone()), request).await?;
        read(reply.into_response()).await
    };
    let report = match found.await {
        Ok(report) => report,
        Err(problem) => return failed(Some(&viewer), &problem),
    };
    let body = body(&report);
    let page = Page {
        section: "/signals",
        title: "Backtest",
        viewer: Some(&viewer),
        live: if body.status == "queued" {
            Live::Soon
        } else {
            Live::Not
        },
        ..Page::default()
    };
    page.show(&body)
}

/// A fraction as a percentage, or a dash.
fn part(x: &Value) -> String {
    x.as_f64().map_or_else(|| "–".to_owned(), percent)
}

/// A number, or a dash.
fn plain(x: &Value) -> String {
    x.as_f64().map_or_else(|| "–".to_owned(), number)
}

fn body(report: &Value) -> Outcome {
    let figure = |name, field: &str, shown: fn(&Value) -> String| Figure {
        name,
        value: shown(&report[field]),
        held: shown(&report["buy_and_hold"][field]),
    };
    let trades = report["trades"].as_array().map_or(&[][..], Vec::as_slice);
    let shown = trades.iter().rev().take(TRADES).filter_map(trade);
    Outcome {
        title: format!(
            "{} on {} ({})",
            text(report, "strategy"),
            text(report, "series"),
            text(report, "timeframe")
        ),
        status: text(report, "status").to_owned(),
        error: text(report, "error").to_owned(),
        from: when(report, "from"),
        to: when(report, "to"),
        costs: format!(
            "Fee {} and slippage {} basis points, fill: {}",
            plain(&report["fee_bps"]),
            plain(&report["slippage_bps"]),
            text(report, "fill").replace('_', " ")
        ),
        figures: vec![
            figure("Total return", "total_return", part),
            figure("Annual return (CAGR)", "cagr", part),
            figure("Annual volatility", "volatility", part),
            figure("Sharpe ratio", "sharpe", plain),
            figure("Sortino ratio", "sortino", plain),
            figure("Maximum drawdown", "max_drawdown", part),
        ],
        more: vec![
            ("Round trips", plain(&report["round_trips"])),
            ("Win rate", part(&report["win_rate"])),
            ("Profit factor", plain(&report["profit_factor"])),
            ("Exposure", part(&report["exposure"])),
            ("Bars", plain(&report["rows"])),
        ],
        look_ahead: match report["look_ahead"]["clean"].as_bool() {
            Some(true) => "No look-ahead: removing later bars changes no earlier signal.",
            Some(false) => {
                "Look-ahead detected: removing later bars changed earlier signals. Do not trust \
                 these figures."
            }
            None => "",
        },
        equity: equity(report),
        trades: shown.collect(),
        total: trades.len(),
    }
}

fn trade(trade: &Value) -> Option<Trade> {
    Some(Trade {
        side: text(trade, "side").to_owned(),
        entered: when(trade, "entered_at")?,
        entry: plain(&trade["entry_price"]),
        exited: when(trade, "exited_at")?,
        exit: plain(&trade["exit_price"]),
        bars: plain(&trade["bars"]),
        net: part(&trade["net_return"]),
    })
}

/// A chart of the equity of the strategy, and of buy and hold.
fn equity(report: &Value) -> Option<Svg> {
    let points = report["equity"].as_array().map_or(&[][..], Vec::as_slice);
    let line = |field: &str, color| Line {
        color,
        points: points
            .iter()
            .filter_map(|point| Some((when(point, "time")?.0, Some(point[field].as_f64()?))))
            .collect(),
    };
    let chart = Chart {
        height: 300,
        lines: vec![line("buy_and_hold", GREY), line("equity", BLUE)],
        ..Chart::default()
    };
    chart.draw()
}
