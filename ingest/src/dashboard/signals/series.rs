//! A series' page: its price, the signal of a strategy, the reasons for it, and what would flip it.

mod charts;
mod explanation;

use super::super::chart::Svg;
use super::super::fields::{Fields, RequestFields};
use super::super::page::{Page, failed, see_other};
use super::super::session::{Post, Viewer};
use super::super::words::{At, Relative, at, number};
use super::{DEFAULT_STRATEGY, path_of, quoted, wait_for_result};
use crate::api::v1::history::{self, HistoryParams};
use crate::api::v1::series::{self, AcceptRequest, BarView, BarsParams};
use crate::api::v1::signal_params::params_of;
use crate::api::v1::signals as requests;
use crate::api::v1::strategies::{self, StrategyView};
use crate::app::App;
use crate::http::Problem;
use crate::http::{Json, Params, PathId};
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use charts::Pane;
use explanation::{Missing, Outcome, optional};
use serde_json::json;
use thrum_schema::signal::strategy::builtin;
use thrum_schema::signal::track::TrackState;
use thrum_schema::signal::view::SignalView;
use thrum_schema::signal::{SeriesName, Timeframe};

/// Number of bars on a chart.
const BARS: usize = 300;
/// Number of signals in the table.
const LISTED: usize = 50;

/// A strategy that is evaluated on the series.
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

impl SeriesPage<'_> {
    /// Whether a strategy is a detector.
    fn detects(&self, view: &&StrategyView) -> bool {
        view.definition["detector"].is_string()
    }

    /// Whether the strategy is a detector.
    fn is_detector(&self) -> bool {
        let detector = builtin(self.strategy).is_some_and(|strategy| strategy.detector.is_some());
        detector
            || self
                .signal
                .is_some_and(|signal| signal.explanation.expected.is_some())
    }
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

/// The selected strategy. By default, the track that was requested last.
struct Chosen {
    strategy: String,
    mode: Option<String>,
    /// Overridden parameters, as JSON.
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
        let default = names
            .clone()
            .find(|name| *name == DEFAULT_STRATEGY)
            .or(names.next());
        Self {
            strategy: default.cloned().unwrap_or_default(),
            mode: None,
            params: None,
        }
    }

    /// The strategy of a track.
    fn of(track: &TrackState) -> Self {
        let params = &track.of.params;
        let given = !params.is_empty();
        Self {
            strategy: track.of.strategy.clone(),
            mode: Some(track.of.mode.clone()),
            params: given.then(|| serde_json::to_string(params).unwrap_or_default()),
        }
    }

    /// The path of the series' page with this strategy.
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

/// The signals of a track, oldest first; empty if none was requested yet.
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

/// The tracks of a series.
async fn tracks(
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
    let own = all.into_iter().filter(|view| view.series == name);
    let timeframes: Vec<String> = own.map(|view| view.timeframe).collect();
    let asked = query.given("timeframe");
    let timeframe = asked.or(timeframes.first().map(String::as_str));
    let timeframe = timeframe.ok_or_else(|| Problem::not_found("series"))?;
    let bars = bars(app, viewer, name, timeframe).await?;
    let strategies = strategies::list(state(), viewer.reader()).await?;
    let strategies = strategies.0.strategies;
    let tracks = tracks(app, viewer, name, timeframe).await?;
    let of = Chosen::new(query, &tracks, &strategies);
    let modes = strategies.iter().find(|view| view.name == of.strategy);
    let found = signals(app, viewer, name, timeframe, &of).await?;
    let chosen = match query.given("bar") {
        Some(bar) => found
            .iter()
            .find(|signal| signal.bar.as_deref() == Some(bar)),
        None => found.last(),
    };
    let now = app.store.world().now();
    let here = of.path(name, timeframe);
    let (overlays, panes) = charts::operands(&found);
    let conditions = chosen.map_or(&[][..], |signal| &signal.explanation.conditions);
    let body = SeriesPage {
        viewer,
        series: name,
        timeframe,
        timeframes: timeframes.clone(),
        strategies: &strategies,
        strategy: &of.strategy,
        modes: modes.map_or(&[], |view| &view.modes),
        mode: of.mode.as_deref().unwrap_or_default(),
        params: of.params.as_deref().unwrap_or_default(),
        tracks: tracks
            .iter()
            .map(|track| Track::of(track, name, timeframe, &here))
            .collect(),
        price: charts::price(&bars, &found, &overlays),
        overlays: overlays.into_iter().map(|(name, _)| name).collect(),
        panes,
        signal: chosen,
        verdict: chosen.map_or("", |signal| signal.signal.as_str()),
        bar: chosen.and_then(|signal| signal.bar.as_deref()).map(at),
        computed: chosen.map(|signal| Relative {
            at: at(&signal.computed_at).0,
            now,
        }),
        outcomes: conditions.iter().map(explanation::outcome).collect(),
        flips: chosen.map(explanation::flips).unwrap_or_default(),
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

/// The last bars of a series.
async fn bars(
    app: &App,
    viewer: &Viewer,
    series: &str,
    timeframe: &str,
) -> Result<Vec<BarView>, Problem> {
    let params = BarsParams {
        timeframe: Some(timeframe.to_owned()),
        from: None,
        to: None,
        limit: Some(BARS),
    };
    let id = PathId(series.to_owned());
    let bars = series::get_bars(State(app.clone()), viewer.reader(), id, Params(params)).await?;
    Ok(bars.0.bars)
}

impl Track {
    /// A track of a series; `here` is the path of the current page.
    fn of(track: &TrackState, series: &str, timeframe: &str, here: &str) -> Self {
        let of = Chosen::of(track);
        let path = of.path(series, timeframe);
        let numbers = track.of.params.iter();
        let numbers = numbers.map(|(name, x)| format!("{name} {}", number(*x)));
        Self {
            name: format!("{} {}", of.strategy, track.of.mode),
            numbers: numbers.collect::<Vec<_>>().join(", "),
            chosen: path == here,
            path,
        }
    }
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

/// `POST /signals/{series}`: requests a signal. From then on, the strategy is evaluated at each bar
/// of the series. With `accept`, the values from that time on are the new normal.
pub async fn ask(State(app): State<App>, PathId(name): PathId, post: Post) -> Response {
    let fields = &post.fields;
    if let Some(since) = fields.given("accept") {
        let request = AcceptRequest {
            timeframe: fields.given("timeframe").map(str::to_owned),
            at: Some(since.to_owned()),
        };
        let accepted = series::accept(
            State(app.clone()),
            post.writer(),
            PathId(name.clone()),
            Json(request),
        );
        return match accepted.await {
            Ok(_) => {
                let of = Chosen::new(fields, &[], &[]);
                let path = of.path(&name, fields.text("timeframe"));
                see_other(&format!("{path}&done=accepted"))
            }
            Err(problem) => failed(Some(&post.viewer), &problem),
        };
    }
    let asked = async {
        let mut body = RequestFields::default();
        body.set("series", name.as_str());
        for field in ["timeframe", "strategy", "mode"] {
            body.text(fields, field);
        }
        let params = fields.given("params").map(str::to_owned);
        body.set("params", json!(params_of(params.as_ref())?));
        let request = Json(body.read()?);
        requests::post(
            State(app.clone()),
            post.writer(),
            wait_for_result(),
            request,
        )
        .await
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
