//! Validation of heartbeats.

use crate::app::App;
use crate::http::body::from_value;
use crate::http::peer::user_agent;
use crate::services::monitors::Incoming;
use axum::http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thrum_schema::error::Invalid;
use thrum_schema::monitor::{check_grace_s, check_heartbeat_name};
use thrum_schema::ping::{Ping, check_metric, first_part};
use thrum_schema::schedule::MAX_PERIOD_S;
use thrum_schema::{PingKind, UnixMs};
use thrum_store::Rules;
use utoipa::ToSchema;

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
    /// Text to store with the heartbeat; Thrum keeps the first 10,000 bytes by default.
    #[schema(value_type = Option<Value>, example = "done")]
    message: Option<Value>,
    /// The exit status of the job, 0 to 255. Anything but 0 is a failure.
    #[schema(value_type = Option<Value>, example = 0)]
    exit_status: Option<Value>,
    /// At most 20 numbers by name, but not `duration` or `interval`.
    #[schema(value_type = Option<Value>, example = json!({"rows": 12.5}))]
    metrics: Option<Value>,
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
    /// What was left out of it, and why: a heartbeat that arrives counts.
    pub warnings: Vec<String>,
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
    let mut warnings = Vec::new();
    let given = heartbeat.exit_status.filter(|status| !status.is_null());
    // Shells send it as text.
    let exit_status = given.as_ref().and_then(|status| match status {
        Value::String(text) => text.trim().parse().ok(),
        status => status.as_i64(),
    });
    let failed = exit_status.is_some_and(|status| status != 0);
    let kind = match heartbeat.status {
        Some(HeartbeatStatus::Ok) => PingKind::Success,
        Some(HeartbeatStatus::Fail) => PingKind::Fail,
        Some(HeartbeatStatus::Start) => PingKind::Start,
        Some(HeartbeatStatus::Log) => PingKind::Log,
        None if failed => PingKind::Fail,
        None => PingKind::Success,
    };
    let mut incoming = template.clone();
    incoming.kind = kind;
    incoming.rules = Rules { period_s, grace_s };
    incoming.ping.exit_status = exit_status.and_then(|status| u8::try_from(status).ok());
    if let Some(given) = given.filter(|_| incoming.ping.exit_status.is_none()) {
        warnings.push(format!(
            "exit_status must be between 0 and 255 (got {}); it was left out",
            short(&given)
        ));
    }
    let limit = app.config.body_limit;
    match heartbeat.message {
        None | Some(Value::Null) => {}
        Some(Value::String(message)) => {
            let length = message.len();
            let (body, truncated) = first_part(message.into_bytes(), limit);
            (incoming.ping.body, incoming.ping.truncated) = (body, truncated);
            if truncated {
                warnings.push(format!(
                    "message was cut to its first {limit} bytes (got {length})"
                ));
            }
        }
        Some(_) => warnings.push("message must be text; it was left out".to_owned()),
    }
    match heartbeat.metrics {
        None | Some(Value::Null) => {}
        Some(Value::Object(metrics)) => {
            for (name, value) in metrics {
                let value = match value.as_f64() {
                    Some(value) => check_metric(&name, value).map(|()| value),
                    None => Err("must be a number".to_owned()),
                };
                incoming.add_metric(&name, value, &mut warnings);
            }
        }
        Some(_) => {
            warnings.push("metrics must be an object of numbers; they were left out".to_owned());
        }
    }
    Ok(Valid {
        name: heartbeat.monitor,
        incoming,
        warnings,
    })
}

/// The start of a value, for a warning.
fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
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

/// A heartbeat with what the request's headers contain.
pub fn template(at: UnixMs, method: &Method, headers: &HeaderMap) -> Incoming {
    Incoming {
        kind: PingKind::Success,
        rules: Rules::default(),
        ping: Ping {
            method: method.to_string(),
            ua: user_agent(headers),
            ..Ping::new(at, PingKind::Success)
        },
        text: None,
    }
}
