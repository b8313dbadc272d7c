//! What the API and the table show at the end, after all faults are over.

use super::cast::{Cast, answer};
use super::clients::{Setup, api, name};
use crate::{API_KEY, START};
use axum::Router;
use axum::http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A flip, as the API shows it.
#[derive(Debug, Clone)]
pub struct SeenFlip {
    pub n: u64,
    pub at_ms: i64,
    pub from: String,
    pub to: String,
    pub reason: String,
    pub alert: bool,
    /// Start and end of the Thrum outage that extended the deadline, if any.
    pub outage: Option<(i64, i64)>,
}

/// A ping, as the ping log shows it.
#[derive(Debug, Clone)]
pub struct SeenPing {
    pub n: u64,
    pub at_ms: i64,
    pub kind: String,
    pub token: String,
}

/// A monitor.
#[derive(Debug, Clone)]
pub struct SeenMonitor {
    pub uuid: String,
    pub status: String,
    pub pings: u64,
    pub last_ping_ms: Option<i64>,
    /// Oldest first.
    pub flips: Vec<SeenFlip>,
    pub log: Vec<SeenPing>,
}

/// An alert and its deliveries.
#[derive(Debug, Clone)]
pub struct SeenAlert {
    pub id: String,
    pub what: String,
    pub state: String,
    pub created_ms: i64,
    pub flip_at_ms: Option<i64>,
    pub monitor: Option<String>,
    /// The strategy, and the old and the new signal, for an alert about a signal.
    pub signal: Option<(String, String, String)>,
    pub deliveries: Vec<SeenDelivery>,
}

/// The delivery of an alert to one channel.
#[derive(Debug, Clone)]
pub struct SeenDelivery {
    pub channel: String,
    pub state: String,
    /// When the first attempt started.
    pub first_ms: Option<i64>,
    /// When the next attempt is due.
    pub next_ms: Option<i64>,
}

/// Everything that is visible at the end.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// By script; an error if the number of monitors with that name is not one, or its id differs.
    pub monitors: Vec<Result<SeenMonitor, String>>,
    /// Oldest first.
    pub alerts: Vec<SeenAlert>,
    /// Index and close.
    pub bars: Vec<(i64, f64)>,
    /// Bar index and signal, by strategy.
    pub signals: BTreeMap<&'static str, BTreeMap<i64, String>>,
    /// Every item of the table.
    pub items: Vec<Value>,
}

/// Milliseconds since the simulation began.
pub fn ms_of(value: &Value) -> Option<i64> {
    let at = chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
    Some(at.timestamp_millis() - START.0)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Reads everything from the API and the table.
pub async fn read_all(cast: &Cast, setup: &Setup) -> Seen {
    let router = cast.handlers().router;
    let get = async |path: &str| get(&router, path).await;
    let items = cast.net.table.items().await;
    let mut seen = Seen {
        items: items
            .expect("the table answers")
            .iter()
            .map(|item| json!(item))
            .collect(),
        ..Seen::default()
    };
    let all = get("/v1/monitors").await;
    for (i, id) in setup.monitors.iter().enumerate() {
        let same: Vec<&Value> = list(&all["monitors"])
            .filter(|monitor| monitor["name"] == name(i))
            .collect();
        let monitor = match same[..] {
            [monitor] if id.as_ref().is_none_or(|id| monitor["uuid"] == **id) => {
                Ok(read_monitor(&router, &text(&monitor["uuid"])).await)
            }
            _ => Err(format!(
                "found {} monitors named {}, expected the one that was created",
                same.len(),
                name(i)
            )),
        };
        seen.monitors.push(monitor);
    }
    let alerts = get("/v1/alerts?limit=200").await;
    seen.alerts = list(&alerts["alerts"]).map(alert).collect();
    seen.alerts.reverse();
    if cast.scenario.bars {
        let bars = get("/v1/series/x/bars?timeframe=1m&limit=1000").await;
        let first = ms_of(&super::clients::bar(0, 0.0)["time"]).unwrap_or_default();
        let index = |time: &Value| (ms_of(time).unwrap_or_default() - first) / 60_000;
        seen.bars = list(&bars["bars"])
            .filter_map(|bar| Some((index(&bar["time"]), bar["close"].as_f64()?)))
            .collect();
        for strategy in cast.scenario.strategies() {
            let params = match *strategy {
                "robust-zscore" => "&params=%7B%22n%22%3A10%2C%22k%22%3A3%7D",
                _ => "",
            };
            let path =
                format!("/v1/series/x/signals?timeframe=1m&strategy={strategy}{params}&limit=1000");
            let signals = get(&path).await;
            let signals = list(&signals["signals"])
                .map(|signal| (index(&signal["bar"]), text(&signal["signal"])));
            seen.signals.insert(*strategy, signals.collect());
        }
    }
    seen
}

async fn get(router: &Router, path: &str) -> Value {
    let request = api(Method::GET, path, API_KEY, &Value::Null);
    let (status, body) = answer(router.clone(), request).await;
    assert!(status.is_success(), "{path}: {status} {body}");
    serde_json::from_str(&body).unwrap_or_default()
}

async fn read_monitor(router: &Router, uuid: &str) -> SeenMonitor {
    let shown = get(router, &format!("/v1/monitors/{uuid}")).await;
    let log = get(router, &format!("/api/v3/checks/{uuid}/pings/")).await;
    let mut flips: Vec<SeenFlip> = list(&shown["flips"])
        .map(|flip| SeenFlip {
            n: flip["n"].as_u64().unwrap_or_default(),
            at_ms: ms_of(&flip["at"]).unwrap_or_default(),
            from: text(&flip["from"]),
            to: text(&flip["to"]),
            reason: text(&flip["reason"]),
            alert: flip["alert"] == true,
            outage: ms_of(&flip["outage"]["start"]).zip(ms_of(&flip["outage"]["end"])),
        })
        .collect();
    flips.reverse();
    let mut log: Vec<SeenPing> = list(&log["pings"])
        .map(|ping| SeenPing {
            n: ping["n"].as_u64().unwrap_or_default(),
            at_ms: ms_of(&ping["date"]).unwrap_or_default(),
            kind: text(&ping["type"]),
            token: text(&ping["ua"]),
        })
        .collect();
    log.reverse();
    SeenMonitor {
        uuid: uuid.to_owned(),
        status: text(&shown["status"]),
        pings: shown["pings"].as_u64().unwrap_or_default(),
        last_ping_ms: ms_of(&shown["last_ping"]),
        flips,
        log,
    }
}

fn alert(alert: &Value) -> SeenAlert {
    SeenAlert {
        id: text(&alert["id"]),
        what: text(&alert["type"]),
        state: text(&alert["state"]),
        created_ms: ms_of(&alert["created_at"]).unwrap_or_default(),
        flip_at_ms: ms_of(&alert["flip_at"]),
        monitor: alert["monitor"]["uuid"].as_str().map(str::to_owned),
        signal: alert["signal"].is_object().then(|| {
            let text = |field: &str| text(&alert["signal"][field]);
            (text("strategy"), text("from"), text("to"))
        }),
        deliveries: list(&alert["deliveries"])
            .map(|delivery| SeenDelivery {
                channel: text(&delivery["channel"]),
                state: text(&delivery["state"]),
                first_ms: ms_of(&delivery["first_attempt_at"]),
                next_ms: ms_of(&delivery["next_attempt_at"]),
            })
            .collect(),
    }
}
