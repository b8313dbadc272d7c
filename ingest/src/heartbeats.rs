//! `POST /v1/heartbeats`: one heartbeat or up to a hundred, registering monitors as they come.

use crate::app::App;
use crate::auth::Writer;
use crate::body::{Json, from_value};
use crate::meter::seconds;
use crate::problem::Problem;
use crate::record::{By, Incoming, RecordError};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::convert::Infallible;
use thrum_schema::error::Invalid;
use thrum_schema::monitor::{check_grace_s, check_heartbeat_name};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::ping::{MAX_USER_AGENT, Ping};
use thrum_schema::schedule::MAX_PERIOD_S;
use thrum_schema::state::Shown;
use thrum_schema::{MonitorId, PingKind, ProjectId, UnixMs};
use thrum_store::Rules;
use utoipa::ToSchema;

/// Most heartbeats in a request.
const MAX_BATCH: usize = 100;
/// Most named figures in a heartbeat.
const MAX_METRICS: usize = 20;
/// Longest name of a figure.
const MAX_METRIC_NAME: usize = 64;
/// What is said to a monitor that is too fast.
const TOO_MANY: &str = "this monitor's heartbeats come too fast";
/// How many monitors of a batch are written at a time.
const CONCURRENCY: usize = 16;

/// What a client sends.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The monitor's name: 1 to 100 letters, digits, `.`, `_`, `-`.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,100}$")]
    monitor: String,
    /// By the exit status, if absent; else ok.
    status: Option<HeartbeatStatus>,
    /// Another heartbeat follows within so many seconds.
    #[schema(minimum = 1, maximum = 31_536_000)]
    period_s: Option<u64>,
    /// And may be so many seconds late.
    #[schema(minimum = 0, maximum = 31_536_000)]
    grace_s: Option<u64>,
    /// Text to keep with it.
    message: Option<String>,
    exit_status: Option<u8>,
    /// At most 20 named figures.
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HeartbeatStatus {
    Ok,
    Fail,
    Start,
    Log,
}

/// What became of a heartbeat.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Answer {
    /// It is recorded.
    Recorded {
        monitor: String,
        #[schema(value_type = String)]
        uuid: MonitorId,
        #[schema(value_type = String)]
        status: Shown,
        pings: u64,
        deadline: Option<String>,
    },
    /// It is not, and why.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        monitor: Option<String>,
        error: String,
        /// The reply's status, and how long to wait, if the heartbeat came alone.
        #[serde(skip)]
        #[schema(ignore)]
        alone: Option<(StatusCode, i64)>,
    },
}

/// One heartbeat, or up to 100.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    dead_code,
    reason = "it stands for what `post` tells apart by hand, for the errors' sake"
)]
#[serde(untagged)]
pub enum Heartbeats {
    /// One.
    One(Heartbeat),
    /// Some.
    Many {
        /// At most 100, each as if it came alone. What is wrong with one is said in its place, and the others are
        /// recorded.
        #[schema(value_type = Vec<Value>)]
        heartbeats: Vec<Heartbeat>,
    },
}

/// A result for each heartbeat, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Results {
    results: Vec<Answer>,
}

/// When a request arrived: a heartbeat is dated by that, however long it takes to look up its key.
pub struct Arrived(UnixMs);

impl FromRequestParts<App> for Arrived {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(app.store.world().now()))
    }
}

/// A heartbeat that is fit to be recorded.
struct Valid {
    name: String,
    incoming: Incoming,
}

#[utoipa::path(
    post, path = "/v1/heartbeats", operation_id = "post_heartbeats", tag = "heartbeats",
    security(("api_key" = []), ("bearer" = [])), request_body = Heartbeats,
    responses((status = 200, body = Results), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn post(
    State(app): State<App>,
    Arrived(at): Arrived,
    Writer { project, .. }: Writer,
    method: Method,
    headers: HeaderMap,
    Json(members): Json<Map<String, Value>>,
) -> Result<axum::Json<Results>, Problem> {
    let at = if mutant::is(Mutant::StampedLate) {
        app.store.world().now()
    } else {
        at
    };
    let template = template(at, &method, &headers);
    let alone = !members.contains_key("heartbeats");
    let body = Value::Object(members);
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
    Ok(axum::Json(Results { results }))
}

/// The endpoint of the predecessor's clients, which misspelt it: `{"hostId", "intervalMs"}`.
#[utoipa::path(
    post, path = "/v1/heartbeat", operation_id = "post_legacy_heartbeat", tag = "heartbeats",
    security(("api_key" = []), ("bearer" = [])), request_body = Legacy,
    responses((status = 200, body = LegacyAnswer), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn legacy(
    State(app): State<App>,
    Arrived(at): Arrived,
    Writer { project, .. }: Writer,
    method: Method,
    headers: HeaderMap,
    Json(body): Json<Legacy>,
) -> Result<axum::Json<LegacyAnswer>, Problem> {
    check_heartbeat_name("hostId", &body.host_id)?;
    let period_s = match body.interval_ms {
        None => None,
        // A period counts whole seconds; a part of one gives the host a little longer.
        Some(ms) => Some(check_period_s("intervalMs", ms.div_ceil(1000))?),
    };
    let mut incoming = template(at, &method, &headers);
    incoming.rules.period_s = period_s;
    let valid = Valid {
        name: body.host_id,
        incoming,
    };
    refuse_alone(&record_all(&app, project, vec![(0, Ok(valid))]).await?)?;
    Ok(axum::Json(LegacyAnswer { message: "OK" }))
}

/// A heartbeat that came alone and could not be recorded is an error of the request.
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

/// What the predecessor's clients send; they may send more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Legacy {
    /// The monitor's name.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,100}$")]
    host_id: String,
    /// Milliseconds between two heartbeats.
    #[schema(minimum = 1)]
    interval_ms: Option<u64>,
}

/// What they expect.
#[derive(Debug, Serialize, ToSchema)]
pub struct LegacyAnswer {
    message: &'static str,
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
            format!("must be at most {MAX_BATCH} at a time"),
        )
        .into());
    }
    Ok(batch.heartbeats)
}

fn validate(app: &App, template: &Incoming, item: Value, place: &str) -> Result<Valid, Invalid> {
    let field = |name: &str| match place {
        "" => name.to_owned(),
        place => format!("{place}.{name}"),
    };
    let heartbeat: Heartbeat = from_value(item, place)?;
    check_heartbeat_name(&field("monitor"), &heartbeat.monitor)?;
    let period_s = heartbeat
        .period_s
        .map(|period_s| check_period_s(&field("period_s"), period_s))
        .transpose()?;
    let grace_s = heartbeat
        .grace_s
        .map(|grace_s| check_grace_s(&field("grace_s"), grace_s))
        .transpose()?;
    let message = heartbeat.message.unwrap_or_default();
    let limit = app.config.body_limit;
    if message.len() > limit {
        return Err(Invalid::new(
            field("message"),
            format!("must be at most {limit} bytes"),
        ));
    }
    check_metrics(&field("metrics"), &heartbeat.metrics)?;
    let kind = match (heartbeat.status, heartbeat.exit_status) {
        (Some(HeartbeatStatus::Ok), _) => PingKind::Success,
        (Some(HeartbeatStatus::Fail), _) => PingKind::Fail,
        (Some(HeartbeatStatus::Start), _) => PingKind::Start,
        (Some(HeartbeatStatus::Log), _) => PingKind::Log,
        (None, None | Some(0)) => PingKind::Success,
        (None, Some(_)) => PingKind::Fail,
    };
    let mut incoming = template.clone();
    incoming.kind = kind;
    incoming.rules = Rules { period_s, grace_s };
    incoming.ping.exit_status = heartbeat.exit_status;
    incoming.ping.metrics = heartbeat.metrics;
    incoming.ping.body = message.into_bytes();
    Ok(Valid {
        name: heartbeat.monitor,
        incoming,
    })
}

fn check_period_s(field: &str, period_s: u64) -> Result<u32, Invalid> {
    match u32::try_from(period_s) {
        Ok(period_s @ 1..=MAX_PERIOD_S) => Ok(period_s),
        _ => Err(Invalid::new(
            field,
            format!("must be 1 to {MAX_PERIOD_S} seconds"),
        )),
    }
}

/// Figures have names of 1–64 letters, digits, `.`, `_`, `-`, and values that the table can hold.
fn check_metrics(field: &str, metrics: &BTreeMap<String, f64>) -> Result<(), Invalid> {
    if metrics.len() > MAX_METRICS {
        return Err(Invalid::new(
            field,
            format!("must be at most {MAX_METRICS} figures"),
        ));
    }
    for (name, value) in metrics {
        let place = format!("{field}.{name}");
        let fits = check_heartbeat_name(&place, name).is_ok() && name.len() <= MAX_METRIC_NAME;
        if !fits {
            return Err(Invalid::new(
                field,
                format!(
                    "must have names of 1 to {MAX_METRIC_NAME} letters, digits, '.', '_' or '-'"
                ),
            ));
        }
        if *value != 0.0 && !(1e-100..1e100).contains(&value.abs()) {
            return Err(Invalid::new(
                place,
                "must be 0, or between 1e-100 and 1e100 either way",
            ));
        }
    }
    Ok(())
}

/// A heartbeat as far as the request's headers tell.
fn template(at: UnixMs, method: &Method, headers: &HeaderMap) -> Incoming {
    let ua = headers
        .get(header::USER_AGENT)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    Incoming {
        kind: PingKind::Success,
        rules: Rules::default(),
        ping: Ping {
            n: 0,
            at,
            kind: PingKind::Success,
            scheme: "http".into(),
            remote_addr: None,
            method: method.to_string(),
            ua: String::from_utf8_lossy(ua)
                .chars()
                .take(MAX_USER_AGENT)
                .collect(),
            rid: None,
            exit_status: None,
            duration_ms: None,
            early: false,
            overlap: false,
            metrics: BTreeMap::new(),
            body: Vec::new(),
        },
    }
}

type Checked = Result<Valid, (Option<String>, Invalid)>;

/// Records heartbeats: those of one monitor in their order, those of different monitors at the same time.
async fn record_all(
    app: &App,
    project: ProjectId,
    checked: Vec<(usize, Checked)>,
) -> Result<Vec<Answer>, Problem> {
    let mut answers = BTreeMap::new();
    let mut by_monitor: BTreeMap<String, Vec<(usize, Incoming)>> = BTreeMap::new();
    for (i, checked) in checked {
        match checked {
            Ok(valid) => by_monitor
                .entry(valid.name)
                .or_default()
                .push((i, valid.incoming)),
            Err((monitor, invalid)) => {
                let error = invalid.to_string();
                let alone = None;
                answers.insert(
                    i,
                    Answer::Refused {
                        monitor,
                        error,
                        alone,
                    },
                );
            }
        }
    }
    let recorded: Vec<Vec<(usize, Answer)>> = stream::iter(by_monitor)
        .map(|(name, heartbeats)| async move {
            let mut answers = Vec::with_capacity(heartbeats.len());
            for (i, incoming) in heartbeats {
                answers.push((i, record_one(app, project, &name, incoming).await?));
            }
            Ok::<_, Problem>(answers)
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    answers.extend(recorded.into_iter().flatten());
    Ok(answers.into_values().collect())
}

async fn record_one(
    app: &App,
    project: ProjectId,
    name: &str,
    incoming: Incoming,
) -> Result<Answer, Problem> {
    let recorded = app
        .record_named(project, By::Name, name, true, incoming)
        .await;
    let refused = |error: &str, status, wait_ms| Answer::Refused {
        monitor: Some(name.to_owned()),
        error: error.to_owned(),
        alone: Some((status, wait_ms)),
    };
    match recorded {
        Ok(recorded) => {
            let state = recorded.state;
            Ok(Answer::Recorded {
                monitor: name.to_owned(),
                uuid: state.monitor,
                status: state.shown(app.store.world().now(), &[]),
                pings: state.pings,
                deadline: state.deadline().map(|deadline| deadline.rfc3339()),
            })
        }
        Err(RecordError::Ambiguous) => Ok(refused(
            "several monitors have this slug and none has this name; rename one",
            StatusCode::CONFLICT,
            0,
        )),
        Err(error @ RecordError::Full) => Ok(refused(&error.to_string(), StatusCode::FORBIDDEN, 0)),
        Err(RecordError::TooMany(wait_ms)) => {
            let error = format!("{TOO_MANY}; try again in {} s", seconds(wait_ms));
            Ok(refused(&error, StatusCode::TOO_MANY_REQUESTS, wait_ms))
        }
        Err(RecordError::NotFound) => Err(thrum_store::StoreError::Conflict.into()),
        Err(RecordError::Store(error)) => Err(error.into()),
    }
}
