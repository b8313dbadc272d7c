//! `/v1/series`: bars, values and sentiment.

mod items;

pub use items::{BarRequest, BarView, Bars, SeriesList, SeriesView};

use super::signal_params::{check_limit, series_of, timeframe_of, timestamp};
use crate::app::App;
use crate::http::body::from_value;
use crate::http::{Feeder, Json, Missing, Overload, Params, PathId, Problem, Problems, Reader};
use axum::extract::State;
use items::{
    BarsRequest, Rejected, ScoreRequest, SentimentRequest, Taken, TakenScores, TextRequest,
    ValueRequest, ValuesRequest, check_batch, last_of_each, own_series,
};
use serde::Deserialize;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::signal::lexicon::{self, MAX_TEXT};
use thrum_schema::signal::{Bar, Score, SeriesName, Timeframe};
use thrum_store::{Fed, Nudge, PutBar};

/// The most series of a project, counting each timeframe.
const MAX_SERIES: usize = 1_000;
const DEFAULT_LIMIT: usize = 500;
const MAX_LIMIT: usize = 1_000;

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
    let checked = items
        .into_iter()
        .map(|item| from_value::<BarRequest>(item, "")?.check(timeframe, now));
    take(&app, &feeder, &series, timeframe, checked.collect()).await
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
    let checked = items.into_iter().map(|item| {
        let item: ValueRequest = from_value(item, "")?;
        thrum_schema::signal::bar::check_number("value", item.value)?;
        let bar = Bar::value(UnixMs::parse("time", &item.time)?, item.value);
        bar.check(timeframe, now)?;
        Ok(bar)
    });
    take(&app, &feeder, &series, timeframe, checked.collect()).await
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
    let (valid, rejected) = last_of_each(checked.collect(), |score: &Score| score.time);
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
                let score = lexicon::score(&item.text);
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

async fn take(
    app: &App,
    feeder: &Feeder,
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
        return Err(none_accepted(&taken.rejected));
    }
    let head = app.store.head(feeder.project, series, timeframe).await?;
    if head.is_none() && app.store.heads(feeder.project).await?.len() >= MAX_SERIES {
        return Err(Problem::conflict(format!(
            "a project has at most {MAX_SERIES} series"
        )));
    }
    feeder.caller.charge(app).await?;
    let put = app
        .series
        .put_bars(feeder.project, series, timeframe, head, &bars)
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
