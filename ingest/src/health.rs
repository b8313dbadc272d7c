//! Is it alive, and does the whole pipeline work?

use crate::app::App;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use thrum_schema::{StoreError, UnixMs};
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
pub struct Health(Mutex<Option<(UnixMs, Vec<String>)>>);

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
    let mut last = app.health.0.lock().await;
    let now = app.store.world().now();
    let reasons = match &*last {
        Some((at, reasons)) if now - *at < FRESH_MS => reasons.clone(),
        _ => {
            let reasons = check(&app, now).await;
            *last = Some((now, reasons.clone()));
            reasons
        }
    };
    let checked_at = last.as_ref().map(|(at, _)| at.rfc3339());
    drop(last);
    let (code, status) = if reasons.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "failing")
    };
    let body = DeepStatus {
        status,
        reasons,
        checked_at,
    };
    (
        code,
        [(header::CACHE_CONTROL, "no-store")],
        axum::Json(body),
    )
        .into_response()
}

async fn check(app: &App, now: UnixMs) -> Vec<String> {
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
    note("the check of the relay", relay(app, now).await);
    reasons
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

async fn relay(app: &App, now: UnixMs) -> Result<Option<String>, StoreError> {
    loop {
        if app.store.arrived_probe().await?.is_some_and(|at| at >= now) {
            return Ok(None);
        }
        if app.store.world().now() - now > RELAY_MS {
            let seconds = RELAY_MS / 1000;
            return Ok(Some(format!(
                "alerts are not relayed: a probe took more than {seconds} s"
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
