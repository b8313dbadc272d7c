//! A series: its price, what a strategy says of it and why, and what would flip that.

use super::super::chart::{BLUE, Chart, GREY, INK, Line, Mark, ORANGE, Svg};
use super::super::fields::{Fields, RequestFields};
use super::super::page::{Page, failed, see_other};
use super::super::session::{Post, Viewer};
use super::super::words::{At, Relative, at, number};
use super::{USUAL, path_of, patiently, quoted};
use crate::api::v1::history::{self, HistoryParams};
use crate::api::v1::series::{self, BarView, BarsParams};
use crate::api::v1::signal_params::params_of;
use crate::api::v1::signals as requests;
use crate::api::v1::strategies::{self, StrategyView};
use crate::app::App;
use crate::http::Problem;
use crate::http::{Json, Params, PathId};
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use std::collections::HashMap;
use thrum_schema::UnixMs;
use thrum_schema::signal::explanation::{Condition, Side};
use thrum_schema::signal::track::TrackState;
use thrum_schema::signal::view::SignalView;
use thrum_schema::signal::{SeriesName, Timeframe, Verdict};

/// Bars on a chart.
const BARS: usize = 300;
/// Signals in the table.
const LISTED: usize = 50;
/// Operands with a pane each, below the price.
const MAX_PANES: usize = 3;
/// Lines along the price.
const MAX_OVERLAYS: usize = 2;
/// A strategy that is followed along the series.
struct Track {
    name: String,
    numbers: String,
    path: String,
    chosen: bool,
}

/// A signal in the table.
struct Row {
    bar: Option<At>,
    verdict: &'static str,
    close: String,
    changed: String,
    path: String,
    chosen: bool,
}

/// What a condition still lacks.
struct Missing {
    label: String,
    text: String,
}

/// A condition, as a line of the explanation.
struct Outcome {
    side: &'static str,
    label: String,
    value: String,
    threshold: String,
    margin: String,
    met: &'static str,
}

#[derive(Template)]
#[template(path = "series.html")]
struct SeriesPage<'a> {
    viewer: &'a Viewer,
    series: &'a str,
    timeframe: &'a str,
    timeframes: Vec<String>,
    strategies: &'a [StrategyView],
    strategy: &'a str,
    modes: &'a [String],
    mode: &'a str,
    params: &'a str,
    tracks: Vec<Track>,
    price: Option<Svg>,
    overlays: Vec<String>,
    panes: Vec<Pane>,
    signal: Option<&'a SignalView>,
    verdict: &'static str,
    bar: Option<At>,
    computed: Option<Relative>,
    outcomes: Vec<Outcome>,
    flips: Vec<(&'static str, Vec<Missing>)>,
    rows: Vec<Row>,
    last: Option<(String, At)>,
}

/// `GET /signals/{series}`
pub async fn get(
    State(app): State<App>,
    viewer: Viewer,
    PathId(name): PathId,
    query: Fields,
) -> Response {
    match show(&app, &viewer, &name, &query).await {
        Ok(response) => response,
        Err(problem) => failed(Some(&viewer), &problem),
    }
}

/// Which strategy is looked at: by whom it is followed already, if none is said.
struct Chosen {
    strategy: String,
    mode: Option<String>,
    /// Numbers in place of its own, as JSON.
    params: Option<String>,
}

impl Chosen {
    fn new(query: &Fields, tracks: &[TrackState], strategies: &[StrategyView]) -> Self {
        let given = |name: &str| query.given(name).map(str::to_owned);
        if let Some(strategy) = given("strategy") {
            return Self {
                strategy,
                mode: given("mode"),
                params: given("params"),
            };
        }
        if let Some(track) = tracks.iter().max_by_key(|track| track.asked) {
            return Self::of(track);
        }
        let mut names = strategies.iter().map(|strategy| &strategy.name);
        let usual = names.clone().find(|name| *name == USUAL).or(names.next());
        Self {
            strategy: usual.cloned().unwrap_or_default(),
            mode: None,
            params: None,
        }
    }

    /// As a track has it.
    fn of(track: &TrackState) -> Self {
        let params = &track.of.params;
        let given = !params.is_empty();
        Self {
            strategy: track.of.strategy.clone(),
            mode: Some(track.of.mode.clone()),
            params: given.then(|| serde_json::to_string(params).unwrap_or_default()),
        }
    }

    /// The page of the series that shows it.
    fn path(&self, series: &str, timeframe: &str) -> String {
        let mut path = path_of(series, timeframe);
        let pairs = [
            ("strategy", Some(&self.strategy)),
            ("mode", self.mode.as_ref()),
            ("params", self.params.as_ref()),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", quoted(value)));
            }
        }
        path
    }
}

/// Signals of a track, oldest first; none, if nobody asked for any yet.
async fn signals(
    app: &App,
    viewer: &Viewer,
    series: &str,
    timeframe: &str,
    of: &Chosen,
) -> Result<Vec<SignalView>, Problem> {
    let params = HistoryParams {
        timeframe: Some(timeframe.to_owned()),
        strategy: Some(of.strategy.clone()),
        mode: of.mode.clone(),
        params: of.params.clone(),
        version: None,
        from: None,
        to: None,
        limit: Some(BARS),
        as_known_at: None,
        revisions: None,
    };
    let (state, id) = (State(app.clone()), PathId(series.to_owned()));
    let found = history::history(state, viewer.reader(), id, Params(params)).await?;
    Ok(found.0.signals)
}

/// The strategies that are followed along a series.
async fn followed(
    app: &App,
    viewer: &Viewer,
    series: &str,
    timeframe: &str,
) -> Result<Vec<TrackState>, Problem> {
    let series = SeriesName::parse("series", series)?;
    let timeframe = Timeframe::parse("timeframe", timeframe)?;
    let tracks = app
        .store
        .tracks(viewer.key.project, &series, timeframe)
        .await?;
    Ok(tracks.into_iter().map(|(_, state)| state).collect())
}

async fn show(app: &App, viewer: &Viewer, name: &str, query: &Fields) -> Result<Response, Problem> {
    let state = || State(app.clone());
    let all = series::list(state(), viewer.reader()).await?.0.series;
    let timeframes: Vec<String> = all
        .into_iter()
        .filter(|view| view.series == name)
        .map(|view| view.timeframe)
        .collect();
    let asked = query
        .given("timeframe")
        .or(timeframes.first().map(String::as_str));
    let timeframe = asked
        .ok_or_else(|| Problem::not_found("series"))?
        .to_owned();
    let params = BarsParams {
        timeframe: Some(timeframe.clone()),
        from: None,
        to: None,
        limit: Some(BARS),
    };
    let id = PathId(name.to_owned());
    let bars = series::get_bars(state(), viewer.reader(), id, Params(params))
        .await?
        .0
        .bars;
    let strategies = strategies::list(state(), viewer.reader())
        .await?
        .0
        .strategies;
    let tracks = followed(app, viewer, name, &timeframe).await?;
    let of = Chosen::new(query, &tracks, &strategies);
    let modes = strategies.iter().find(|view| view.name == of.strategy);
    let modes: &[String] = modes.map_or(&[], |view| &view.modes);
    let found = signals(app, viewer, name, &timeframe, &of).await?;
    let chosen = match query.given("bar") {
        Some(bar) => found
            .iter()
            .find(|signal| signal.bar.as_deref() == Some(bar)),
        None => found.last(),
    };
    let now = app.store.world().now();
    let here = of.path(name, &timeframe);
    let tracks = tracks.iter().map(|track| {
        let of = Chosen::of(track);
        let path = of.path(name, &timeframe);
        let numbers = track
            .of
            .params
            .iter()
            .map(|(name, x)| format!("{name} {}", number(*x)));
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        Track {
            name: format!("{} {}", of.strategy, track.of.mode),
            numbers,
            chosen: path == here,
            path,
        }
    });
    let (overlays, panes) = operands(&found);
    let conditions = chosen.map_or(&[][..], |signal| &signal.explanation.conditions);
    let body = SeriesPage {
        viewer,
        series: name,
        timeframe: &timeframe,
        timeframes,
        strategies: &strategies,
        strategy: &of.strategy,
        modes,
        mode: of.mode.as_deref().unwrap_or_default(),
        params: of.params.as_deref().unwrap_or_default(),
        tracks: tracks.collect(),
        price: price(&bars, &found, &overlays),
        overlays: overlays.into_iter().map(|(name, _)| name).collect(),
        panes,
        signal: chosen,
        verdict: chosen.map_or("", |signal| signal.signal.as_str()),
        bar: chosen.and_then(|signal| signal.bar.as_deref()).map(at),
        computed: chosen.map(|signal| Relative {
            at: at(&signal.computed_at).0,
            now,
        }),
        outcomes: conditions.iter().map(outcome).collect(),
        flips: chosen.map(flips).unwrap_or_default(),
        rows: rows(&found, chosen, &here),
        last: bars.last().map(|bar| (number(bar.close), at(&bar.time))),
    };
    let page = Page {
        section: "/signals",
        title: name,
        viewer: Some(viewer),
        said: query.text("done"),
        ..Page::default()
    };
    Ok(page.show(&body))
}

fn optional(x: Option<f64>) -> String {
    x.map_or_else(|| "–".to_owned(), number)
}

fn outcome(condition: &Condition) -> Outcome {
    Outcome {
        side: match condition.side {
            Side::Buy => "BUY",
            Side::Sell => "SELL",
        },
        label: condition.label().replace('_', " "),
        value: optional(condition.value),
        threshold: optional(condition.threshold),
        margin: optional(condition.margin),
        met: match condition.met {
            Some(true) => "holds",
            Some(false) => "does not hold",
            None => "not known",
        },
    }
}

/// What would have to be otherwise for the signal to be another: of each side that it does not take, the conditions that
/// do not hold.
fn flips(signal: &SignalView) -> Vec<(&'static str, Vec<Missing>)> {
    let sides = [
        (Side::Buy, Verdict::Buy, "BUY"),
        (Side::Sell, Verdict::Sell, "SELL"),
    ];
    let others = sides
        .into_iter()
        .filter(|(_, verdict, _)| signal.signal != *verdict);
    others
        .map(|(side, _, name)| {
            let conditions = signal.explanation.conditions.iter();
            let missing = conditions
                .filter(|condition| condition.side == side && condition.met != Some(true))
                .map(|condition| Missing {
                    label: condition.label().replace('_', " "),
                    text: match (condition.value, condition.threshold, condition.margin) {
                        (Some(value), Some(threshold), Some(margin)) => {
                            let (left, right) = (&condition.left, &condition.right);
                            let (value, away) = (number(value), number(margin.abs()));
                            // A number says itself what it is.
                            match right.parse::<f64>() {
                                Ok(_) => format!("{left} is {value}, {away} away from {right}"),
                                Err(_) => format!(
                                    "{left} is {value}, {away} away from {right}, which is {}",
                                    number(threshold)
                                ),
                            }
                        }
                        _ => "not known at this bar".to_owned(),
                    },
                });
            (name, missing.collect())
        })
        .filter(|(_, missing): &(_, Vec<Missing>)| !missing.is_empty())
        .collect()
}

fn rows(found: &[SignalView], chosen: Option<&SignalView>, here: &str) -> Vec<Row> {
    let newest = found.iter().rev().take(LISTED);
    newest
        .map(|signal| {
            let bar = signal.bar.as_deref();
            Row {
                bar: bar.map(at),
                verdict: signal.signal.as_str(),
                close: optional(signal.close),
                changed: signal.explanation.changed.join(", ").replace('_', " "),
                path: format!("{here}&bar={}#explanation", quoted(bar.unwrap_or_default())),
                chosen: chosen.is_some_and(|chosen| chosen.bar == signal.bar),
            }
        })
        .collect()
}

type Points = Vec<(UnixMs, Option<f64>)>;
/// An operand, and its chart.
type Pane = (String, Option<Svg>);

/// The operands of the conditions in the course of time: those that the close is compared with, and a pane for each of
/// the others.
fn operands(found: &[SignalView]) -> (Vec<(String, Points)>, Vec<Pane>) {
    let mut along: Vec<(String, Points)> = Vec::new();
    let mut panes: Vec<(String, Points, HashMap<String, Points>)> = Vec::new();
    for signal in found {
        let Some(bar) = signal.bar.as_deref().map(|bar| at(bar).0) else {
            continue;
        };
        for condition in &signal.explanation.conditions {
            let (left, right) = (&condition.left, &condition.right);
            if left == "close" || right == "close" {
                let (name, value) = if left == "close" {
                    (right, condition.threshold)
                } else {
                    (left, condition.value)
                };
                push(&mut along, name, bar, value);
            } else {
                let place = panes.iter().position(|(name, ..)| name == left);
                let place = place.unwrap_or_else(|| {
                    panes.push((left.clone(), Vec::new(), HashMap::new()));
                    panes.len() - 1
                });
                let (_, values, thresholds) = &mut panes[place];
                add(values, bar, condition.value);
                add(
                    thresholds.entry(right.clone()).or_default(),
                    bar,
                    condition.threshold,
                );
            }
        }
    }
    along.truncate(MAX_OVERLAYS);
    let panes = panes
        .into_iter()
        .take(MAX_PANES)
        .map(|(name, values, thresholds)| {
            let mut lines: Vec<Line> = thresholds
                .into_values()
                .map(|points| Line {
                    color: GREY,
                    points,
                })
                .collect();
            lines.push(Line {
                color: BLUE,
                points: values,
            });
            let chart = Chart {
                height: 150,
                lines,
                ..Chart::default()
            };
            (name, chart.draw())
        });
    (along, panes.collect())
}

fn push(lines: &mut Vec<(String, Points)>, name: &str, bar: UnixMs, value: Option<f64>) {
    let place = lines.iter().position(|(found, _)| found == name);
    let place = place.unwrap_or_else(|| {
        lines.push((name.to_owned(), Vec::new()));
        lines.len() - 1
    });
    add(&mut lines[place].1, bar, value);
}

/// Adds a point, unless another condition has added it.
fn add(points: &mut Points, bar: UnixMs, value: Option<f64>) {
    if points.last().is_none_or(|(last, _)| *last != bar) {
        points.push((bar, value));
    }
}

/// The price, with marks where the signal became BUY or SELL.
fn price(bars: &[BarView], found: &[SignalView], overlays: &[(String, Points)]) -> Option<Svg> {
    if bars.len() < 2 {
        return None;
    }
    let first = at(&bars[0].time).0;
    let mut lines = vec![Line {
        color: INK,
        points: bars
            .iter()
            .map(|bar| (at(&bar.time).0, Some(bar.close)))
            .collect(),
    }];
    for ((_, points), color) in overlays.iter().zip([GREY, BLUE]) {
        let points = points
            .iter()
            .filter(|(at, _)| *at >= first)
            .copied()
            .collect();
        lines.push(Line { color, points });
    }
    let turns = found
        .windows(2)
        .filter(|pair| pair[0].signal != pair[1].signal);
    let marks = turns.filter_map(|pair| {
        let signal = &pair[1];
        let bar = at(signal.bar.as_deref()?).0;
        let (triangle, color) = match signal.signal {
            Verdict::Buy => (true, BLUE),
            Verdict::Sell => (false, ORANGE),
            _ => return None,
        };
        (bar >= first).then_some(Mark {
            at: bar,
            y: signal.close?,
            triangle,
            color,
        })
    });
    let chart = Chart {
        height: 340,
        marks: marks.collect(),
        lines,
        from_zero: false,
    };
    chart.draw()
}

/// `POST /signals/{series}`: asks for a signal, and by that for the strategy to be followed.
pub async fn ask(State(app): State<App>, PathId(name): PathId, post: Post) -> Response {
    let fields = &post.fields;
    let asked = async {
        let mut members = RequestFields::default();
        members.set("series", name.as_str());
        for field in ["timeframe", "strategy", "mode"] {
            members.text(fields, field);
        }
        let params = fields.given("params").map(str::to_owned);
        members.set("params", json!(params_of(params.as_ref())?));
        let request = Json(members.read()?);
        requests::post(State(app.clone()), post.writer(), patiently(), request).await
    };
    match asked.await {
        Ok(_) => {
            let of = Chosen::new(fields, &[], &[]);
            let path = of.path(&name, fields.text("timeframe"));
            see_other(&format!("{path}&done=asked"))
        }
        Err(problem) => failed(Some(&post.viewer), &problem),
    }
}
