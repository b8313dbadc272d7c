//! Is it alive, and does the whole pipeline work?

use crate::app::App;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use thrum_schema::UnixMs;
use thrum_store::StoreError;
use tokio::sync::Mutex;
use utoipa::ToSchema;

/// How long a deep check's outcome is given again, in milliseconds: many may ask, one is made.
const FRESH_MS: i64 = 10_000;
/// How long a probe may take from the table through bus and queue to notify, in milliseconds.
const RELAY_MS: i64 = 5_000;
/// How far the sweep's cursor may be behind, in minutes: idle, it lags up to seven by design.
const MAX_SWEEP_LAG_MIN: i64 = 10;
/// How old the pipeline's own heartbeat may be, in milliseconds. While it is older, nothing goes down (T3).
const MAX_PULSE_AGE_MS: i64 = 150_000;

/// Whether the whole pipeline works.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeepStatus {
    /// `ok` or `failing`.
    status: &'static str,
    /// What fails.
    reasons: Vec<String>,
    checked_at: Option<String>,
}

/// The last deep check.
#[derive(Debug, Default)]
pub struct Health(Mutex<Option<Checked>>);

/// What a deep check found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// When.
    pub at: UnixMs,
    /// What fails.
    pub reasons: Vec<String>,
    /// How long a probe took from the table through bus and queue to notify, in milliseconds, if it arrived.
    pub relay_ms: Option<i64>,
}

/// Whether it is alive: no authorisation, no I/O.
#[utoipa::path(
    get, path = "/health", operation_id = "get_health", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain")),
)]
pub async fn health() -> &'static str {
    "OK"
}

/// The deep check: 200, or 503 with reasons. It writes and reads the table, sends a probe the way of an alert,
/// and looks how far the sweep is.
#[utoipa::path(
    get, path = "/v1/status", operation_id = "get_deep_status", tag = "health",
    responses((status = 200, body = DeepStatus), (status = 503, body = DeepStatus)),
)]
pub async fn status(State(app): State<App>) -> Response {
    let checked = checked(&app).await;
    let (code, status) = if checked.reasons.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "failing")
    };
    let body = DeepStatus {
        status,
        reasons: checked.reasons,
        checked_at: Some(checked.at.rfc3339()),
    };
    (
        code,
        [(header::CACHE_CONTROL, "no-store")],
        axum::Json(body),
    )
        .into_response()
}

/// The last deep check, or a new one if that is some seconds old.
pub async fn checked(app: &App) -> Checked {
    let mut last = app.health.0.lock().await;
    let now = app.store.world().now();
    match &*last {
        Some(checked) if now - checked.at < FRESH_MS => checked.clone(),
        _ => last.insert(check(app, now).await).clone(),
    }
}

async fn check(app: &App, now: UnixMs) -> Checked {
    let mut reasons = Vec::new();
    let mut note = |what: &str, result: Result<Option<String>, StoreError>| match result {
        Ok(None) => {}
        Ok(Some(reason)) => reasons.push(reason),
        Err(error) => {
            tracing::error!(%error, what, "the deep check failed");
            reasons.push(format!("{what} failed"));
        }
    };
    note(
        "the write and read-back of the table",
        app.store.probe(now).await.map(|()| None),
    );
    note("the check of the sweep", sweep_lag(app, now).await);
    note("the check of the pulse", pulse_age(app, now).await);
    let relayed = relay(app, now).await;
    let relay_ms = match &relayed {
        Ok(Relayed::After(ms)) => Some(*ms),
        _ => None,
    };
    let reason = relayed.map(|relayed| match relayed {
        Relayed::After(_) => None,
        Relayed::Not => {
            let seconds = RELAY_MS / 1000;
            Some(format!(
                "alerts are not relayed: a probe took more than {seconds} s"
            ))
        }
    });
    note("the check of the relay", reason);
    Checked {
        at: now,
        reasons,
        relay_ms,
    }
}

/// What became of a probe.
enum Relayed {
    /// It arrived, after so many milliseconds.
    After(i64),
    /// It did not, in time.
    Not,
}

async fn sweep_lag(app: &App, now: UnixMs) -> Result<Option<String>, StoreError> {
    for shard in 0..app.store.shards() {
        let low = app.store.cursor(shard).await?.low;
        let lag = low.map_or(i64::MAX, |low| now.minute() - low);
        if lag > MAX_SWEEP_LAG_MIN {
            return Ok(Some(match low {
                Some(_) => format!("the sweep of timers is {lag} minutes behind"),
                None => "timers were never swept".to_owned(),
            }));
        }
    }
    Ok(None)
}

async fn pulse_age(app: &App, now: UnixMs) -> Result<Option<String>, StoreError> {
    let age_ms = app.store.pulse().await?.map_or(i64::MAX, |seen| now - seen);
    Ok((age_ms > MAX_PULSE_AGE_MS).then(|| {
        "the pipeline's own heartbeat does not come through: nothing goes down meanwhile".to_owned()
    }))
}

async fn relay(app: &App, now: UnixMs) -> Result<Relayed, StoreError> {
    loop {
        let arrived = app.store.arrived_probe().await?.is_some_and(|at| at >= now);
        let ms = app.store.world().now() - now;
        if arrived {
            return Ok(Relayed::After(ms));
        }
        if ms > RELAY_MS {
            return Ok(Relayed::Not);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
