//! Validation of heartbeats.

use crate::app::App;
use crate::http::body::from_value;
use crate::http::peer::user_agent;
use crate::services::monitors::Incoming;
use axum::http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thrum_schema::error::Invalid;
use thrum_schema::monitor::{check_grace_s, check_heartbeat_name};
use thrum_schema::ping::Ping;
use thrum_schema::schedule::MAX_PERIOD_S;
use thrum_schema::{PingKind, UnixMs};
use thrum_store::Rules;
use utoipa::ToSchema;

/// The most metrics in a heartbeat.
const MAX_METRICS: usize = 20;
/// The longest name of a metric.
const MAX_METRIC_NAME: usize = 64;

/// A heartbeat.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The monitor's name: 1 to 100 letters, digits, `.`, `_`, `-`.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,100}$")]
    monitor: String,
    /// If absent, `fail` for an exit status above 0, otherwise `ok`.
    status: Option<HeartbeatStatus>,
    /// Seconds until the next heartbeat is due.
    #[schema(minimum = 1, maximum = 31_536_000)]
    period_s: Option<u64>,
    /// How many seconds late the next heartbeat may be.
    #[schema(minimum = 0, maximum = 31_536_000)]
    grace_s: Option<u64>,
    /// Text to store with the heartbeat; at most 10,000 bytes by default.
    message: Option<String>,
    /// The exit status of the job, 0 to 255.
    exit_status: Option<u8>,
    /// At most 20 metrics by name.
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

/// A valid heartbeat.
pub struct Valid {
    /// The monitor's name.
    pub name: String,
    /// The ping to record.
    pub incoming: Incoming,
}

/// Checks the heartbeat `item`, which is at `place` in the request.
///
/// # Errors
/// The first invalid field.
pub fn validate(
    app: &App,
    template: &Incoming,
    item: Value,
    place: &str,
) -> Result<Valid, Invalid> {
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
            format!("must be at most {limit} bytes (got {})", message.len()),
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

/// Checks a period.
pub fn check_period_s(field: &str, period_s: u64) -> Result<u32, Invalid> {
    match u32::try_from(period_s) {
        Ok(period_s @ 1..=MAX_PERIOD_S) => Ok(period_s),
        _ => Err(Invalid::new(
            field,
            format!("must be between 1 and {MAX_PERIOD_S} seconds (got {period_s})"),
        )),
    }
}

/// Checks metrics: names of 1 to 64 letters, digits, `.`, `_` or `-`, and values that the table can
/// store.
fn check_metrics(field: &str, metrics: &BTreeMap<String, f64>) -> Result<(), Invalid> {
    if metrics.len() > MAX_METRICS {
        return Err(Invalid::new(
            field,
            format!(
                "must have at most {MAX_METRICS} entries (got {})",
                metrics.len()
            ),
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
                "must be 0, or have a magnitude between 1e-100 and 1e100",
            ));
        }
    }
    Ok(())
}

/// A heartbeat with what the request's headers contain.
pub fn template(at: UnixMs, method: &Method, headers: &HeaderMap) -> Incoming {
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
            ua: user_agent(headers),
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
