//! `/v1/series`: bars, values and sentiment.

mod items;

pub use items::{AcceptRequest, BarRequest, BarView, Bars, SeriesList, SeriesView};

use super::signal_params::{check_limit, series_of, timeframe_of, timestamp};
use crate::app::App;
use crate::http::body::from_value;
use crate::http::{
    Feeder, Json, Missing, Overload, Params, PathId, Problem, Problems, Reader, Writer,
};
use axum::extract::State;
use items::{
    BarsRequest, Deleted, Rejected, ScoreRequest, SentimentRequest, SeriesRequest, Taken,
    TakenScores, TextRequest, ValueRequest, ValuesRequest, check_batch, last_of_each, own_series,
};
use serde::Deserialize;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::lexicon::{self, MAX_TEXT};
use thrum_schema::signal::track::{Head, Holds};
use thrum_schema::signal::{Bar, Calendar, Score, SeriesName, Timeframe};
use thrum_store::{Fed, Nudge, PutBar};

/// The most series of a project, counting each timeframe.
const MAX_SERIES: usize = 1_000;
const DEFAULT_LIMIT: usize = 500;
const MAX_LIMIT: usize = 1_000;
/// The most accepted levels of a series.
const MAX_LEVELS: usize = 100;
/// The most bars that a request deletes.
const MAX_DELETED: usize = 5_000;

/// Which bars to show.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BarsParams {
    /// The default is `tick` for series from heartbeats.
    pub timeframe: Option<String>,
    /// Bars from this time on; if absent, the last ones.
    pub from: Option<String>,
    /// Bars before this time.
    pub to: Option<String>,
    /// The maximum number of bars to return, 1 to 1000; 500 if absent.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

/// Which bars to delete.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RangeParams {
    /// The default is `tick` for series from heartbeats.
    pub timeframe: Option<String>,
    /// Bars from this time on.
    pub from: Option<String>,
    /// Bars before this time.
    pub to: Option<String>,
}

/// Lists the series of the project.
#[utoipa::path(
    get, path = "/v1/series", operation_id = "list_series", tag = "series",
    responses((status = 200, body = SeriesList), Problems, Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
) -> Result<axum::Json<SeriesList>, Problem> {
    reader.caller.charge(&app).await?;
    let heads = app.store.heads(reader.project).await?;
    let series = heads.iter().map(SeriesView::new).collect();
    Ok(axum::Json(SeriesList { series }))
}

/// Sends closed bars. A bar that is already stored is corrected if its values differ.
#[utoipa::path(
    post, path = "/v1/series/{series}/bars", operation_id = "post_bars", tag = "series",
    request_body = BarsRequest,
    params(("series" = String, Path, description = "The series")),
    responses((status = 200, body = Taken), Problems, Overload, Missing),
)]
pub async fn post_bars(
    State(app): State<App>,
    feeder: Feeder,
    PathId(series): PathId,
    Json(request): Json<BarsRequest>,
) -> Result<axum::Json<Taken>, Problem> {
    let series = own_series(&series)?;
    let timeframe = Timeframe::parse("timeframe", &request.timeframe)?;
    let now = app.store.world().now();
    let items = check_batch("bars", request.bars)?;
    let series = Target::find(&app, &feeder, series, timeframe, Holds::Bars).await?;
    let calendar = series.calendar();
    let checked = items
        .into_iter()
        .map(|item| from_value::<BarRequest>(item, "")?.check(timeframe, &calendar, now));
    take(&app, &feeder, series, checked.collect()).await
}

/// Sends plain values. Each becomes a bar with four equal prices.
#[utoipa::path(
    post, path = "/v1/series/{series}/values", operation_id = "post_values", tag = "series",
    request_body = ValuesRequest,
    params(("series" = String, Path, description = "The series")),
    responses((status = 200, body = Taken), Problems, Overload, Missing),
)]
pub async fn post_values(
    State(app): State<App>,
    feeder: Feeder,
    PathId(series): PathId,
    Json(request): Json<ValuesRequest>,
) -> Result<axum::Json<Taken>, Problem> {
    let series = own_series(&series)?;
    let timeframe = request.timeframe.as_deref().unwrap_or("tick");
    let timeframe = Timeframe::parse("timeframe", timeframe)?;
    let now = app.store.world().now();
    let items = check_batch("values", request.values)?;
    let series = Target::find(&app, &feeder, series, timeframe, Holds::Values).await?;
    let calendar = series.calendar();
    let checked = items.into_iter().map(|item| {
        let item: ValueRequest = from_value(item, "")?;
        thrum_schema::signal::bar::check_number("value", item.value)?;
        let bar = Bar::value(UnixMs::parse("time", &item.time)?, item.value);
        bar.check(timeframe, &calendar, now)?;
        Ok(bar)
    });
    take(&app, &feeder, series, checked.collect()).await
}

/// Sends sentiment, as scores or as texts that Thrum scores by their words.
#[utoipa::path(
    post, path = "/v1/series/{series}/sentiment", operation_id = "post_sentiment", tag = "series",
    request_body = SentimentRequest,
    params(("series" = String, Path, description = "The series")),
    responses((status = 200, body = TakenScores), Problems, Overload, Missing),
)]
pub async fn post_sentiment(
    State(app): State<App>,
    feeder: Feeder,
    PathId(series): PathId,
    Json(request): Json<SentimentRequest>,
) -> Result<axum::Json<TakenScores>, Problem> {
    let series = own_series(&series)?;
    let now = app.store.world().now();
    let checked = scores_of(request)?.into_iter().map(|checked| {
        let score = checked?;
        score.check(now)?;
        Ok(score)
    });
    let (valid, _, rejected) = last_of_each(checked.collect(), |score: &Score| score.time);
    if valid.is_empty() {
        return Err(none_accepted(&rejected));
    }
    {
        feeder.caller.charge(&app).await?;
        app.store
            .put_scores(feeder.project, &series, &valid)
            .await?;
        let (from, to) = (valid[0].time, valid[valid.len() - 1].time);
        let nudge = Nudge {
            fed: Fed::Sentiment,
            from,
            to,
        };
        for head in app.store.heads(feeder.project).await? {
            if head.series == series && head.followed {
                app.store
                    .nudge(feeder.project, &series, head.timeframe, nudge, None)
                    .await?;
            }
        }
    }
    Ok(axum::Json(TakenScores {
        accepted: valid.len(),
        rejected,
        scores: valid
            .iter()
            .map(|score| ScoreRequest {
                time: score.time.rfc3339(),
                score: score.score,
            })
            .collect(),
    }))
}

/// The scores of a request, as sent or computed from texts, each checked separately.
fn scores_of(request: SentimentRequest) -> Result<Vec<Result<Score, Invalid>>, Invalid> {
    Ok(match (request.scores, request.texts) {
        (Some(scores), None) => check_batch("scores", scores)?
            .into_iter()
            .map(|item| {
                let item: ScoreRequest = from_value(item, "")?;
                let time = UnixMs::parse("time", &item.time)?;
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
                let time = UnixMs::parse("time", &item.time)?;
                let score = lexicon::score(&item.text).ok_or_else(|| {
                    Invalid::new(
                        "text",
                        "has none of the words that Thrum scores, so it says nothing; send a score instead",
                    )
                })?;
                Ok(Score { time, score })
            })
            .collect(),
        _ => {
            return Err(Invalid::new("the body", "must have either scores or texts"));
        }
    })
}

/// Lists bars: from a time on, or the last ones.
#[utoipa::path(
    get, path = "/v1/series/{series}/bars", operation_id = "get_bars", tag = "series",
    params(("series" = String, Path, description = "The series"), BarsParams),
    responses((status = 200, body = Bars), Problems, Overload, Missing),
)]
pub async fn get_bars(
    State(app): State<App>,
    reader: Reader,
    PathId(series): PathId,
    Params(params): Params<BarsParams>,
) -> Result<axum::Json<Bars>, Problem> {
    let series = series_of(&series)?;
    let timeframe = timeframe_of(params.timeframe.as_ref(), Some(&series))?;
    let from = timestamp("from", params.from.as_ref())?;
    let to = timestamp("to", params.to.as_ref())?.unwrap_or(UnixMs::LATEST);
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

/// A batch of which nothing was accepted is an error, so that a client that looks only at the status notices.
fn none_accepted(rejected: &[Rejected]) -> Problem {
    let first = rejected.first().map_or("", |first| &first.error);
    let count = rejected.len();
    Problem::bad_request(format!(
        "Thrum accepted none of these items ({count}); the first error: {first}"
    ))
    .with("rejected", &rejected)
}

/// A series to send bars to.
struct Target {
    series: SeriesName,
    timeframe: Timeframe,
    holds: Holds,
    head: Option<Head>,
}

impl Target {
    /// Finds the series, and checks that it holds what is sent: a plain value must not overwrite
    /// the prices of a bar.
    async fn find(
        app: &App,
        feeder: &Feeder,
        series: SeriesName,
        timeframe: Timeframe,
        holds: Holds,
    ) -> Result<Self, Problem> {
        let head = app.store.head(feeder.project, &series, timeframe).await?;
        let known = match &head {
            Some(head) if head.holds.is_some() => head.holds,
            // It is from before Thrum noted that.
            Some(head) => {
                let last = app.store.last_bars(feeder.project, head, UnixMs::LATEST, 1);
                let last = last.await?;
                let bar = last.first().map(|bar| bar.bar());
                bar.filter(|bar| *bar != Bar::value(bar.time, bar.close))
                    .map(|_| Holds::Bars)
            }
            None => None,
        };
        match (known, holds) {
            (Some(Holds::Bars), Holds::Values) => Err(Problem::conflict(format!(
                "{series} in {timeframe} holds bars, and a value would overwrite the prices of one; send values to \
                 another series"
            ))),
            (Some(Holds::Values), Holds::Bars) => Err(Problem::conflict(format!(
                "{series} in {timeframe} holds plain values; send bars to another series"
            ))),
            _ => Ok(Self {
                series,
                timeframe,
                holds,
                head,
            }),
        }
    }

    fn calendar(&self) -> Calendar {
        let head = self.head.as_ref();
        head.map(|head| head.calendar.clone()).unwrap_or_default()
    }
}

async fn take(
    app: &App,
    feeder: &Feeder,
    to: Target,
    checked: Vec<Result<Bar, Invalid>>,
) -> Result<axum::Json<Taken>, Problem> {
    let (bars, same, rejected) = last_of_each(checked, |bar| bar.time);
    let mut taken = Taken {
        unchanged: same,
        rejected,
        ..Taken::default()
    };
    if bars.is_empty() {
        return Err(none_accepted(&taken.rejected));
    }
    if to.head.is_none() && app.store.heads(feeder.project).await?.len() >= MAX_SERIES {
        return Err(Problem::conflict(format!(
            "a project has at most {MAX_SERIES} series"
        )));
    }
    feeder.caller.charge(app).await?;
    let put = app
        .series
        .put_bars(
            feeder.project,
            &to.series,
            to.timeframe,
            to.head,
            to.holds,
            &bars,
        )
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

/// Sets when the bars of a series are due. Everything computed from it is computed again.
#[utoipa::path(
    patch, path = "/v1/series/{series}", operation_id = "update_series", tag = "series",
    request_body = SeriesRequest,
    params(("series" = String, Path, description = "The series; it is created if it does not exist")),
    responses((status = 200, body = SeriesView), Problems, Overload),
)]
pub async fn update(
    State(app): State<App>,
    writer: Writer,
    PathId(series): PathId,
    Json(request): Json<SeriesRequest>,
) -> Result<axum::Json<SeriesView>, Problem> {
    let series = series_of(&series)?;
    let timeframe = timeframe_of(request.timeframe.as_ref(), Some(&series))?;
    let head = app.store.head(writer.project, &series, timeframe).await?;
    if head.is_none() && app.store.heads(writer.project).await?.len() >= MAX_SERIES {
        return Err(Problem::conflict(format!(
            "a project has at most {MAX_SERIES} series"
        )));
    }
    let mut head = head.unwrap_or_else(|| Head::new(&series, timeframe));
    let offset_s = request.offset_s.unwrap_or(head.calendar.offset_s);
    let most = timeframe.ms().unwrap_or(0) / 1_000;
    if i64::from(offset_s) >= most.max(1) {
        return Err(Invalid::new(
            "offset_s",
            format!("must be less than the {most} seconds of a bar (got {offset_s})"),
        )
        .into());
    }
    let calendar = request.calendar.unwrap_or_else(|| head.calendar.to_json());
    head.calendar = Calendar::parse(&calendar, offset_s)?;
    writer.caller.charge(&app).await?;
    app.store
        .set_calendar(writer.project, &series, timeframe, &head.calendar)
        .await?;
    Ok(axum::Json(SeriesView::new(&head)))
}

/// Accepts the level of the last values as the new normal, for all detectors.
#[utoipa::path(
    post, path = "/v1/series/{series}/accept", operation_id = "accept_level", tag = "series",
    request_body = AcceptRequest,
    params(("series" = String, Path, description = "The series")),
    responses((status = 200, body = SeriesView), Problems, Overload, Missing),
)]
pub async fn accept(
    State(app): State<App>,
    writer: Writer,
    PathId(series): PathId,
    Json(request): Json<AcceptRequest>,
) -> Result<axum::Json<SeriesView>, Problem> {
    let series = series_of(&series)?;
    let timeframe = timeframe_of(request.timeframe.as_ref(), Some(&series))?;
    let given = timestamp("at", request.at.as_ref())?;
    let head = app.store.head(writer.project, &series, timeframe).await?;
    let mut head = head.ok_or_else(|| Problem::not_found("series in this timeframe"))?;
    let at = match given {
        Some(at) => at,
        None => {
            let last = app
                .store
                .last_bars(writer.project, &head, UnixMs::LATEST, 1);
            let last = last.await?.first().map(|bar| bar.t);
            last.ok_or_else(|| Problem::conflict("the series has no values yet"))?
        }
    };
    if at > app.store.world().now() {
        return Err(Invalid::new("at", "must not be in the future").into());
    }
    if head.levels.len() >= MAX_LEVELS {
        return Err(Problem::conflict(format!(
            "a series has at most {MAX_LEVELS} accepted levels"
        )));
    }
    writer.caller.charge(&app).await?;
    app.store
        .accept_level(writer.project, &series, timeframe, at)
        .await?;
    head.levels.insert(format!("{:013}", at.0));
    Ok(axum::Json(SeriesView::new(&head)))
}

/// Deletes bars of a series, or all of it if neither `from` nor `to` is given. At most 5,000 bars
/// are deleted at a time.
#[utoipa::path(
    delete, path = "/v1/series/{series}", operation_id = "delete_series", tag = "series",
    params(("series" = String, Path, description = "The series"), RangeParams),
    responses((status = 200, body = Deleted), Problems, Overload, Missing),
)]
pub async fn delete(
    State(app): State<App>,
    writer: Writer,
    PathId(series): PathId,
    Params(params): Params<RangeParams>,
) -> Result<axum::Json<Deleted>, Problem> {
    let series = series_of(&series)?;
    let timeframe = timeframe_of(params.timeframe.as_ref(), Some(&series))?;
    let from = timestamp("from", params.from.as_ref())?;
    let to = timestamp("to", params.to.as_ref())?;
    let head = app.store.head(writer.project, &series, timeframe).await?;
    let head = head.ok_or_else(|| Problem::not_found("series in this timeframe"))?;
    let all = from.is_none() && to.is_none();
    if all && !head.watches.is_empty() {
        return Err(Problem::conflict(format!(
            "delete the {} watches of this series first",
            head.watches.len()
        )));
    }
    writer.caller.charge(&app).await?;
    let (from, to) = (from.unwrap_or(UnixMs(0)), to.unwrap_or(UnixMs::LATEST));
    let deleted = app
        .store
        .delete_bars(writer.project, &head, from, to - 1, MAX_DELETED)
        .await?;
    let complete = deleted < MAX_DELETED;
    if all && complete {
        app.store
            .delete_series(writer.project, &series, timeframe)
            .await?;
    }
    Ok(axum::Json(Deleted { deleted, complete }))
}
