//! `/v1/series`: bars, values and sentiment, as they come in.

use super::{instant, instant_of, series_of, timeframe_of};
use crate::app::App;
use crate::auth::{Reader, Writer};
use crate::body::{Json, PathId, from_value};
use crate::problem::Problem;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use thrum_schema::error::Invalid;
use thrum_schema::signal::lexicon::{self, MAX_TEXT};
use thrum_schema::signal::track::{Head, StoredBar, month};
use thrum_schema::signal::{Bar, Score, SeriesName, Timeframe};
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::{Fed, Nudge, PutBar};
use utoipa::ToSchema;

/// Most bars, values or scores in a request.
const MAX_BATCH: usize = 500;
/// Most series of a project, each timeframe counted.
const MAX_SERIES: usize = 1_000;
const DEFAULT_LIMIT: usize = 500;
const MAX_LIMIT: usize = 1_000;

/// Bars of a series.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BarsRequest {
    /// How long a bar lasts: `1m`, `15m`, `1h`, `4h`, `1d`, `1w` …
    #[schema(example = "1h")]
    timeframe: String,
    /// At most 500 `BarRequest`. What is wrong with one is said in its place, and the others are taken.
    #[schema(value_type = Vec<Value>, min_items = 1, max_items = 500)]
    bars: Vec<Value>,
}

/// A closed bar.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BarRequest {
    /// When it opened, RFC 3339 with an offset.
    time: String,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    /// Null if it is not known.
    volume: Option<f64>,
}

impl BarRequest {
    /// The bar, checked.
    pub fn check(&self, timeframe: Timeframe, now: UnixMs) -> Result<Bar, Invalid> {
        let bar = Bar {
            time: instant("time", &self.time)?,
            open: self.open,
            high: self.high,
            low: self.low,
            close: self.close,
            volume: self.volume,
        };
        bar.check(timeframe, now)?;
        Ok(bar)
    }
}

/// Plain values of a series.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValuesRequest {
    /// `tick` by default: at any time.
    timeframe: Option<String>,
    /// At most 500, each `{"time", "value"}`. What is wrong with one is said in its place, and the others are taken.
    #[schema(value_type = Vec<Value>, min_items = 1, max_items = 500)]
    values: Vec<Value>,
}

/// A value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueRequest {
    /// When it was so, RFC 3339 with an offset.
    time: String,
    value: f64,
}

/// Sentiment, as scores or as texts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SentimentRequest {
    /// At most 500, each `{"time", "score"}`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Value>>, min_items = 1, max_items = 500)]
    scores: Option<Vec<Value>>,
    /// At most 500, each `{"time", "text"}`, scored by the words in them.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Value>>, min_items = 1, max_items = 500)]
    texts: Option<Vec<Value>>,
}

/// A sentiment score.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// When it was known, RFC 3339 with an offset.
    time: String,
    /// 0 is the worst, 1 the best.
    #[schema(minimum = 0, maximum = 1)]
    score: f64,
}

/// A text that tells of sentiment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRequest {
    /// When it was known, RFC 3339 with an offset.
    time: String,
    /// At most 10 000 characters.
    text: String,
}

/// What became of bars or values.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Taken {
    /// New ones.
    accepted: usize,
    /// Those that were there already.
    unchanged: usize,
    /// Those that took the place of others of the same time.
    revised: usize,
    rejected: Vec<Rejected>,
}

/// What was wrong with an item.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rejected {
    /// Its place in the request.
    index: usize,
    error: String,
}

/// What became of scores or texts.
#[derive(Debug, Serialize, ToSchema)]
pub struct TakenScores {
    accepted: usize,
    rejected: Vec<Rejected>,
    /// The scores that were taken.
    scores: Vec<ScoreRequest>,
}

/// Which bars to show.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BarsParams {
    /// `tick` by default, for series of heartbeats.
    pub timeframe: Option<String>,
    /// From this instant on; without it, the last ones.
    pub from: Option<String>,
    /// Before this instant.
    pub to: Option<String>,
    /// At most so many, 1 to 1000; 500 by default.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

/// Bars, in the order of their times.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bars {
    pub series: String,
    pub timeframe: String,
    pub bars: Vec<BarView>,
    /// Where to go on from, if there are more.
    pub next_from: Option<String>,
}

/// A bar as it is stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct BarView {
    pub time: String,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: Option<f64>,
    /// How often it was corrected.
    pub revision: u32,
    pub received_at: String,
}

/// Series.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesList {
    pub series: Vec<SeriesView>,
}

/// A series and timeframe.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesView {
    pub series: String,
    pub timeframe: String,
    /// The first and the last month that have bars, `2026-11`.
    pub first_month: Option<String>,
    pub last_month: Option<String>,
    pub watches: usize,
}

/// Lists the series of the project.
#[utoipa::path(
    get, path = "/v1/series", operation_id = "list_series", tag = "series",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = SeriesList), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
) -> Result<axum::Json<SeriesList>, Problem> {
    reader.caller.charge(&app).await?;
    let heads = app.store.heads(reader.project).await?;
    let month = |text: Option<&String>| text.map(|text| format!("{}-{}", &text[..4], &text[4..]));
    let series = heads
        .iter()
        .map(|head| SeriesView {
            series: head.series.to_string(),
            timeframe: head.timeframe.to_string(),
            first_month: month(head.months.first()),
            last_month: month(head.months.last()),
            watches: head.watches.len(),
        })
        .collect();
    Ok(axum::Json(SeriesList { series }))
}

/// Sends bars. What was there already is unchanged, or corrected; bars that are not closed yet are refused.
#[utoipa::path(
    post, path = "/v1/series/{series}/bars", operation_id = "post_bars", tag = "series",
    security(("api_key" = []), ("bearer" = [])), request_body = BarsRequest,
    params(("series" = String, Path, description = "The series' name")),
    responses((status = 200, body = Taken), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn post_bars(
    State(app): State<App>,
    writer: Writer,
    PathId(series): PathId,
    Json(request): Json<BarsRequest>,
) -> Result<axum::Json<Taken>, Problem> {
    let series = own_series(&series)?;
    let timeframe = Timeframe::parse("timeframe", &request.timeframe)?;
    let now = app.store.world().now();
    let items = check_batch("bars", request.bars)?;
    let checked = items
        .into_iter()
        .map(|item| from_value::<BarRequest>(item, "")?.check(timeframe, now));
    take(&app, &writer, &series, timeframe, checked.collect()).await
}

/// Sends plain values: bars whose prices are all the same.
#[utoipa::path(
    post, path = "/v1/series/{series}/values", operation_id = "post_values", tag = "series",
    security(("api_key" = []), ("bearer" = [])), request_body = ValuesRequest,
    params(("series" = String, Path, description = "The series' name")),
    responses((status = 200, body = Taken), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn post_values(
    State(app): State<App>,
    writer: Writer,
    PathId(series): PathId,
    Json(request): Json<ValuesRequest>,
) -> Result<axum::Json<Taken>, Problem> {
    let series = own_series(&series)?;
    let timeframe = request.timeframe.as_deref().unwrap_or("tick");
    let timeframe = Timeframe::parse("timeframe", timeframe)?;
    let now = app.store.world().now();
    let items = check_batch("values", request.values)?;
    let checked = items.into_iter().map(|item| {
        let item: ValueRequest = from_value(item, "")?;
        thrum_schema::signal::bar::check_number("value", item.value)?;
        let bar = Bar::value(instant("time", &item.time)?, item.value);
        bar.check(timeframe, now)?;
        Ok(bar)
    });
    take(&app, &writer, &series, timeframe, checked.collect()).await
}

/// Sends sentiment, as scores or as texts that are scored by the words in them.
#[utoipa::path(
    post, path = "/v1/series/{series}/sentiment", operation_id = "post_sentiment", tag = "series",
    security(("api_key" = []), ("bearer" = [])), request_body = SentimentRequest,
    params(("series" = String, Path, description = "The series' name")),
    responses((status = 200, body = TakenScores), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn post_sentiment(
    State(app): State<App>,
    writer: Writer,
    PathId(series): PathId,
    Json(request): Json<SentimentRequest>,
) -> Result<axum::Json<TakenScores>, Problem> {
    let series = own_series(&series)?;
    let now = app.store.world().now();
    let checked: Vec<Result<Score, Invalid>> = match (request.scores, request.texts) {
        (Some(scores), None) => check_batch("scores", scores)?
            .into_iter()
            .map(|item| {
                let item: ScoreRequest = from_value(item, "")?;
                let time = instant("time", &item.time)?;
                let score = item.score;
                Ok(Score { time, score })
            })
            .collect(),
        (None, Some(texts)) => check_batch("texts", texts)?
            .into_iter()
            .map(|item| {
                let item: TextRequest = from_value(item, "")?;
                if item.text.chars().count() > MAX_TEXT {
                    return Err(Invalid::new(
                        "text",
                        format!("must be at most {MAX_TEXT} characters"),
                    ));
                }
                let time = instant("time", &item.time)?;
                let score = lexicon::score(&item.text);
                Ok(Score { time, score })
            })
            .collect(),
        _ => {
            return Err(Invalid::new("the body", "must have either scores or texts").into());
        }
    };
    let checked = checked.into_iter().map(|checked| {
        let score = checked?;
        score.check(now)?;
        Ok(score)
    });
    let (good, rejected) = last_of_each(checked.collect(), |score: &Score| score.time);
    if !good.is_empty() {
        writer.caller.charge(&app).await?;
        app.store.put_scores(writer.project, &series, &good).await?;
        let (from, to) = (good[0].time, good[good.len() - 1].time);
        let nudge = Nudge {
            fed: Fed::Sentiment,
            from,
            to,
        };
        for head in app.store.heads(writer.project).await? {
            if head.series == series && head.followed {
                app.store
                    .nudge(writer.project, &series, head.timeframe, nudge, None)
                    .await?;
            }
        }
    }
    Ok(axum::Json(TakenScores {
        accepted: good.len(),
        rejected,
        scores: good
            .iter()
            .map(|score| ScoreRequest {
                time: score.time.rfc3339(),
                score: score.score,
            })
            .collect(),
    }))
}

/// Shows bars: from an instant on, or the last ones.
#[utoipa::path(
    get, path = "/v1/series/{series}/bars", operation_id = "get_bars", tag = "series",
    security(("api_key" = []), ("bearer" = [])),
    params(("series" = String, Path, description = "The series' name"), BarsParams),
    responses((status = 200, body = Bars), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn get_bars(
    State(app): State<App>,
    reader: Reader,
    PathId(series): PathId,
    params: Result<Query<BarsParams>, QueryRejection>,
) -> Result<axum::Json<Bars>, Problem> {
    let Query(params) = params.map_err(|error| Problem::bad_request(error.body_text()))?;
    let series = series_of(&series)?;
    let timeframe = timeframe_of(params.timeframe.as_ref(), Some(&series))?;
    let from = instant_of("from", params.from.as_ref())?;
    let to = instant_of("to", params.to.as_ref())?.unwrap_or(UnixMs(9_999_999_999_999));
    let limit = check_limit(params.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    if from.is_some_and(|from| from >= to) {
        return Err(Invalid::new("to", "must be after from").into());
    }
    let head = app.store.head(reader.project, &series, timeframe).await?;
    let head = head.ok_or_else(|| Problem::not_found("series in this timeframe"))?;
    reader.caller.charge(&app).await?;
    let (mut bars, more) = match from {
        Some(from) => {
            let mut bars = app
                .store
                .bars(reader.project, &head, from, to - 1, limit + 1)
                .await?;
            let more = bars.len() > limit;
            bars.truncate(limit);
            (bars, more)
        }
        None => {
            let mut bars = app
                .store
                .last_bars(reader.project, &head, to - 1, limit)
                .await?;
            bars.reverse();
            (bars, false)
        }
    };
    let next_from = bars
        .last()
        .filter(|_| more)
        .map(|bar| (bar.t + 1).rfc3339());
    Ok(axum::Json(Bars {
        series: series.to_string(),
        timeframe: timeframe.to_string(),
        bars: bars.drain(..).map(Into::into).collect(),
        next_from,
    }))
}

impl From<StoredBar> for BarView {
    fn from(bar: StoredBar) -> Self {
        Self {
            time: bar.t.rfc3339(),
            open: bar.o,
            high: bar.h,
            low: bar.l,
            close: bar.c,
            volume: bar.vol,
            revision: bar.rev,
            received_at: bar.at.rfc3339(),
        }
    }
}

/// A limit of a list.
pub fn check_limit(given: Option<usize>, default: usize, most: usize) -> Result<usize, Problem> {
    let limit = given.unwrap_or(default);
    if (1..=most).contains(&limit) {
        Ok(limit)
    } else {
        Err(Invalid::new("limit", format!("must be 1 to {most}")).into())
    }
}

/// A series that clients feed themselves.
fn own_series(text: &str) -> Result<SeriesName, Problem> {
    let series = series_of(text)?;
    if series.monitor().is_some() {
        return Err(Invalid::new("series", "is fed by the monitor's heartbeats alone").into());
    }
    Ok(series)
}

fn check_batch(field: &str, items: Vec<Value>) -> Result<Vec<Value>, Invalid> {
    if items.is_empty() || items.len() > MAX_BATCH {
        return Err(Invalid::new(
            field,
            format!("must be 1 to {MAX_BATCH} at a time"),
        ));
    }
    Ok(items)
}

/// Those that are fit, in the order of their times and the last of each time, and what was wrong with the others.
fn last_of_each<T>(
    checked: Vec<Result<T, Invalid>>,
    time: impl Fn(&T) -> UnixMs,
) -> (Vec<T>, Vec<Rejected>) {
    let mut good: BTreeMap<UnixMs, (usize, T)> = BTreeMap::new();
    let mut rejected = Vec::new();
    for (index, checked) in checked.into_iter().enumerate() {
        match checked {
            Ok(item) => {
                if let Some((index, _)) = good.insert(time(&item), (index, item)) {
                    let error = "another of the same time follows it, and is taken".to_owned();
                    rejected.push(Rejected { index, error });
                }
            }
            Err(error) => rejected.push(Rejected {
                index,
                error: error.to_string(),
            }),
        }
    }
    rejected.sort_by_key(|rejected| rejected.index);
    (good.into_values().map(|(_, item)| item).collect(), rejected)
}

async fn take(
    app: &App,
    writer: &Writer,
    series: &SeriesName,
    timeframe: Timeframe,
    checked: Vec<Result<Bar, Invalid>>,
) -> Result<axum::Json<Taken>, Problem> {
    let (bars, rejected) = last_of_each(checked, |bar| bar.time);
    let mut taken = Taken {
        rejected,
        ..Taken::default()
    };
    if bars.is_empty() {
        return Ok(axum::Json(taken));
    }
    let head = app.store.head(writer.project, series, timeframe).await?;
    if head.is_none() && app.store.heads(writer.project).await?.len() >= MAX_SERIES {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("a project has at most {MAX_SERIES} series"),
        ));
    }
    writer.caller.charge(app).await?;
    let put = app
        .put_bars(writer.project, series, timeframe, head, &bars)
        .await?;
    for put in put {
        match put {
            PutBar::Accepted => taken.accepted += 1,
            PutBar::Unchanged => taken.unchanged += 1,
            PutBar::Revised => taken.revised += 1,
        }
    }
    Ok(axum::Json(taken))
}

impl App {
    /// Writes bars, and tells evaluate if the series is followed: once, after all of them. A
    /// crash before that leaves the request unanswered, and whoever sends it again tells.
    pub(crate) async fn put_bars(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        head: Option<Head>,
        bars: &[Bar],
    ) -> Result<Vec<PutBar>, thrum_store::StoreError> {
        let (Some(first), Some(last)) = (bars.first(), bars.last()) else {
            return Ok(Vec::new());
        };
        let now = self.store.world().now();
        let months: BTreeSet<String> = bars.iter().map(|bar| month(bar.time)).collect();
        if head
            .as_ref()
            .is_none_or(|head| !months.is_subset(&head.months))
        {
            self.store
                .extend_series(project, series, timeframe, &months)
                .await?;
        }
        let put = self
            .store
            .put_bars(project, series, timeframe, bars, now)
            .await?;
        let mut head = head.filter(|head| head.followed);
        if head.is_none() {
            // Somebody may have begun to, and have read before these were written.
            head = self.store.head(project, series, timeframe).await?;
        }
        if let Some(head) = head.filter(|head| head.followed) {
            let mut through = last.time;
            if head.through.is_none() {
                let last = self
                    .store
                    .last_bars(project, &head, UnixMs(9_999_999_999_999), 1)
                    .await?;
                through = last.first().map_or(through, |bar| bar.t.max(through));
            }
            if head.through.is_none_or(|before| before < through) {
                self.store
                    .extend_through(project, series, timeframe, through)
                    .await?;
            }
            let nudge = Nudge {
                fed: Fed::Bars,
                from: first.time,
                to: last.time,
            };
            // A feed that sends its last bar again and again brings nothing new.
            let new = put.contains(&PutBar::Accepted);
            let heard = new.then(|| self.store.world().now());
            self.store
                .nudge(project, series, timeframe, nudge, heard)
                .await?;
        }
        Ok(put)
    }
}
