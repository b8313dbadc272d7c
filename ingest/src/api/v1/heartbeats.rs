//! `POST /v1/heartbeats`: one heartbeat, or up to 100. The first heartbeat of a monitor creates it.

mod legacy;
mod valid;

pub use legacy::{__path_legacy, legacy};
pub use valid::Heartbeat;

use crate::app::App;
use crate::http::body::from_value;
use crate::http::{Json, Overload, Pinger, Problem, Problems};
use crate::services::monitors::{By, RecordError};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::convert::Infallible;
use thrum_schema::error::Invalid;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::state::Shown;
use thrum_schema::time::secs_to_wait;
use thrum_schema::{MonitorId, ProjectId, UnixMs};
use thrum_store::StoreError;
use utoipa::ToSchema;
use valid::{Valid, template, validate};

/// The most heartbeats in a request.
const MAX_BATCH: usize = 100;
/// The error for a monitor over its rate limit.
const TOO_MANY: &str = "this monitor sends heartbeats too fast";
/// How many monitors of a batch to write at a time.
const CONCURRENCY: usize = 16;

/// The result of a heartbeat.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Answer {
    /// It was recorded.
    Recorded {
        monitor: String,
        #[schema(value_type = String)]
        uuid: MonitorId,
        #[schema(value_type = String)]
        status: Shown,
        pings: u64,
        deadline: Option<String>,
        /// What was wrong with its message, exit status or metrics.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// It was not recorded.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        monitor: Option<String>,
        /// Why it was not recorded.
        error: String,
        /// The status of the response, and the milliseconds to wait, if the request is not a batch.
        #[serde(skip)]
        #[schema(ignore)]
        alone: Option<(StatusCode, i64)>,
    },
}

/// One heartbeat, or up to 100.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes what `post` parses by hand, for better errors"
)]
#[serde(untagged)]
pub enum Heartbeats {
    /// One heartbeat.
    One(Heartbeat),
    /// A batch of heartbeats.
    Many {
        /// At most 100. The result of an invalid one says what is wrong; the others are recorded.
        #[schema(value_type = Vec<Value>)]
        heartbeats: Vec<Heartbeat>,
    },
}

/// The result of each heartbeat, in the same order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Results {
    results: Vec<Answer>,
}

/// When a request arrived. That is the time of a heartbeat, however long the lookup of its key
/// takes.
pub struct Arrived(UnixMs);

impl FromRequestParts<App> for Arrived {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(app.store.world().now()))
    }
}

/// Records one heartbeat, or a batch of up to 100. The first heartbeat of a monitor creates it.
#[utoipa::path(
    post, path = "/v1/heartbeats", operation_id = "post_heartbeats", tag = "heartbeats",
    request_body = Heartbeats,
    responses((status = 200, body = Results), Problems, Overload),
)]
pub async fn post(
    State(app): State<App>,
    Arrived(at): Arrived,
    Pinger { project }: Pinger,
    method: Method,
    headers: HeaderMap,
    Json(fields): Json<Map<String, Value>>,
) -> Result<axum::Json<Results>, Problem> {
    let at = if mutant::is(Mutant::StampedLate) {
        app.store.world().now()
    } else {
        at
    };
    let template = template(at, &method, &headers);
    let alone = !fields.contains_key("heartbeats");
    let body = Value::Object(fields);
    if alone {
        let valid = validate(&app, &template, body, "")?;
        let results = record_all(&app, project, vec![(0, Ok(valid))]).await?;
        refuse_alone(&results)?;
        return Ok(axum::Json(Results { results }));
    }
    let items = batch(body)?;
    let checked = items
        .into_iter()
        .enumerate()
        .map(|(i, item)| {
            let name = item
                .get("monitor")
                .and_then(Value::as_str)
                .map(str::to_owned);
            let checked = validate(&app, &template, item, &format!("heartbeats[{i}]"));
            (i, checked.map_err(|invalid| (name, invalid)))
        })
        .collect();
    let results = record_all(&app, project, checked).await?;
    refuse_all(&results)?;
    Ok(axum::Json(Results { results }))
}

/// A batch of which nothing was recorded is an error, so that a client that looks only at the status notices.
fn refuse_all(results: &[Answer]) -> Result<(), Problem> {
    let errors: Vec<Option<(StatusCode, i64)>> = results
        .iter()
        .filter_map(|result| match result {
            Answer::Recorded { .. } => None,
            Answer::Refused { alone, .. } => Some(*alone),
        })
        .collect();
    if errors.len() < results.len() || results.is_empty() {
        return Ok(());
    }
    // If all items failed with the same status, return it; otherwise, 400.
    let same = errors
        .iter()
        .all(|error| error.map(|(status, _)| status) == errors[0].map(|(status, _)| status));
    let wait_ms = errors.iter().flatten().map(|(_, wait_ms)| *wait_ms).min();
    let problem = match errors[0] {
        Some((StatusCode::TOO_MANY_REQUESTS, _)) if same => {
            Problem::too_many(TOO_MANY, wait_ms.unwrap_or_default())
        }
        first => Problem::new(
            first
                .filter(|_| same)
                .map_or(StatusCode::BAD_REQUEST, |(status, _)| status),
            format!(
                "Thrum recorded none of these heartbeats ({}); `results` has the reasons",
                results.len()
            ),
        ),
    };
    Err(problem.with("results", &results))
}

/// Without a batch, a heartbeat that was not recorded is an error of the request.
fn refuse_alone(results: &[Answer]) -> Result<(), Problem> {
    match results {
        [
            Answer::Refused {
                alone: Some((StatusCode::TOO_MANY_REQUESTS, wait_ms)),
                ..
            },
        ] => Err(Problem::too_many(TOO_MANY, *wait_ms)),
        [Answer::Refused { error, alone, .. }] => {
            let status = alone.map_or(StatusCode::CONFLICT, |(status, _)| status);
            Err(Problem::new(status, error.clone()))
        }
        _ => Ok(()),
    }
}

/// The heartbeats of `{"heartbeats": [ … ]}`.
fn batch(body: Value) -> Result<Vec<Value>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Batch {
        heartbeats: Vec<Value>,
    }
    let batch: Batch = from_value(body, "")?;
    if batch.heartbeats.len() > MAX_BATCH {
        return Err(Invalid::new(
            "heartbeats",
            format!(
                "must have at most {MAX_BATCH} items (got {})",
                batch.heartbeats.len()
            ),
        )
        .into());
    }
    Ok(batch.heartbeats)
}

/// A valid heartbeat, or the name of its monitor, if it has one, and what is invalid.
type Checked = Result<Valid, (Option<String>, Invalid)>;

/// Records heartbeats: those of one monitor in order, those of different monitors concurrently.
async fn record_all(
    app: &App,
    project: ProjectId,
    checked: Vec<(usize, Checked)>,
) -> Result<Vec<Answer>, Problem> {
    let mut answers = BTreeMap::new();
    let mut by_monitor: BTreeMap<String, Vec<(usize, Valid)>> = BTreeMap::new();
    for (i, checked) in checked {
        match checked {
            Ok(valid) => by_monitor
                .entry(valid.name.clone())
                .or_default()
                .push((i, valid)),
            Err((monitor, invalid)) => {
                let refused = Answer::Refused {
                    monitor,
                    error: invalid.to_string(),
                    alone: None,
                };
                answers.insert(i, refused);
            }
        }
    }
    let recorded: Vec<Vec<(usize, Answer)>> = stream::iter(by_monitor)
        .map(|(_, heartbeats)| async move {
            let mut answers = Vec::with_capacity(heartbeats.len());
            for (i, heartbeat) in heartbeats {
                answers.push((i, record_one(app, project, heartbeat).await?));
            }
            Ok::<_, Problem>(answers)
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    answers.extend(recorded.into_iter().flatten());
    Ok(answers.into_values().collect())
}

async fn record_one(app: &App, project: ProjectId, heartbeat: Valid) -> Result<Answer, Problem> {
    let Valid {
        name,
        incoming,
        mut warnings,
    } = heartbeat;
    let recorded = app
        .monitors
        .record_named(project, By::Name, &name, true, incoming)
        .await;
    let refused = |error: &str, status, wait_ms| Answer::Refused {
        monitor: Some(name.clone()),
        error: error.to_owned(),
        alone: Some((status, wait_ms)),
    };
    match recorded {
        Ok(recorded) => {
            let state = recorded.state;
            warnings.extend(recorded.unexpected);
            Ok(Answer::Recorded {
                monitor: name.clone(),
                uuid: state.monitor,
                status: state.shown(app.store.world().now(), &[]),
                pings: state.pings,
                deadline: state.deadline().map(|deadline| deadline.rfc3339()),
                warnings,
            })
        }
        Err(RecordError::Ambiguous) => Ok(refused(
            "several monitors have this slug and none has this name; rename one",
            StatusCode::CONFLICT,
            0,
        )),
        Err(error @ RecordError::Full) => Ok(refused(&error.to_string(), StatusCode::FORBIDDEN, 0)),
        Err(RecordError::TooMany(wait_ms)) => {
            let error = format!("{TOO_MANY}; try again in {} s", secs_to_wait(wait_ms));
            Ok(refused(&error, StatusCode::TOO_MANY_REQUESTS, wait_ms))
        }
        Err(error @ RecordError::Crowded(wait_ms)) => {
            Err(Problem::unavailable(&error.to_string(), wait_ms))
        }
        Err(RecordError::NotFound) => Err(StoreError::Conflict.into()),
        Err(RecordError::Store(error)) => Err(error.into()),
    }
}
