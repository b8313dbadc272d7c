//! `GET /v1/monitors`: what is watched, and how it is.

use crate::app::App;
use crate::auth::Reader;
use crate::body::PathId;
use crate::problem::Problem;
use axum::extract::State;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use thrum_schema::channel::Targets;
use thrum_schema::lease::Lease;
use thrum_schema::{Monitor, MonitorId, Outage, Ping, Schedule, UnixMs};

/// How many flips and pings a monitor shows.
const LAST_FLIPS: i32 = 20;
const LAST_PINGS: usize = 20;

pub async fn list(State(app): State<App>, reader: Reader) -> Result<axum::Json<Value>, Problem> {
    let project = reader.project;
    let now = app.store.world().now();
    let (mut monitors, outages) =
        futures::try_join!(app.store.monitors(project), app.store.outages())?;
    let ids: Vec<MonitorId> = monitors.iter().map(|monitor| monitor.id).collect();
    let leases: HashMap<MonitorId, Lease> = app
        .store
        .leases(&ids)
        .await?
        .into_iter()
        .map(|lease| (lease.monitor, lease))
        .collect();
    monitors.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    let monitors: Vec<Value> = monitors
        .iter()
        .map(|monitor| {
            let lost = || Lease::lost(monitor);
            let lease = leases.get(&monitor.id).cloned().unwrap_or_else(lost);
            Value::Object(view(monitor, &lease, &outages, now, reader))
        })
        .collect();
    Ok(axum::Json(json!({ "monitors": monitors })))
}

pub async fn get(
    State(app): State<App>,
    reader: Reader,
    PathId(id): PathId,
) -> Result<axum::Json<Value>, Problem> {
    let project = reader.project;
    let now = app.store.world().now();
    let not_found = || Problem::not_found("monitor");
    let id = match MonitorId::parse_canonical(&id) {
        Some(id) => id,
        None => match *app.store.monitors_with_slug(project, &id).await? {
            [id] => id,
            [] => return Err(not_found()),
            _ => {
                return Err(Problem::new(
                    axum::http::StatusCode::CONFLICT,
                    "several monitors have this slug; use a uuid",
                ));
            }
        },
    };
    let (monitor, state, outages, flips, pings) = futures::try_join!(
        app.store.monitor(project, id),
        app.store.state(id),
        app.store.outages(),
        app.store.flips(id, LAST_FLIPS),
        app.store.pings(id),
    )?;
    let monitor = monitor.ok_or_else(not_found)?;
    let lease = state
        .and_then(|state| state.lease)
        .unwrap_or_else(|| Lease::lost(&monitor));
    let mut view = view(&monitor, &lease, &outages, now, reader);
    let flips: Vec<Value> = flips
        .iter()
        .map(|flip| {
            json!({
                "n": flip.n,
                "at": flip.at.rfc3339(),
                "from": flip.from,
                "to": flip.to,
                "reason": flip.reason,
                "alert": flip.alert,
                "outage": flip.outage.map(outage_view),
            })
        })
        .collect();
    let pings: Vec<Value> = pings.iter().take(LAST_PINGS).map(ping_view).collect();
    view.insert("flips".into(), flips.into());
    view.insert("last_pings".into(), pings.into());
    Ok(axum::Json(Value::Object(view)))
}

/// A monitor as `/v1` shows it. Its uuid is the secret of its ping URL, and not for readers.
fn view(
    monitor: &Monitor,
    lease: &Lease,
    outages: &[Outage],
    now: UnixMs,
    reader: Reader,
) -> Map<String, Value> {
    let held = lease.deadline_after(outages);
    let mut view = Map::new();
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    if reader.sees_secrets {
        put("uuid", json!(monitor.id));
        put("ping_path", json!(format!("/ping/{}", monitor.id)));
    }
    put("name", json!(monitor.name));
    put("slug", json!(monitor.slug));
    put("tags", json!(monitor.tags));
    put("status", json!(lease.shown(now, outages)));
    put("started", json!(lease.run.is_some()));
    put("pings", json!(lease.pings));
    put("last_ping", json!(lease.seen.map(UnixMs::rfc3339)));
    put("deadline", json!(held.map(|(at, _)| at.rfc3339())));
    put(
        "outage",
        json!(held.and_then(|(_, outage)| outage).map(outage_view)),
    );
    put("last_duration_ms", json!(lease.last_duration_ms));
    match &monitor.schedule {
        Schedule::Simple { period_s } => {
            put("period_s", json!(period_s));
        }
        Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => {
            put("schedule", json!(expr));
            put("tz", json!(tz));
        }
    }
    put("grace_s", json!(monitor.grace_s));
    put("channels", targets_view(&monitor.targets));
    view
}

fn targets_view(targets: &Targets) -> Value {
    match targets {
        Targets::All => json!("all"),
        Targets::These(ids) => json!(ids),
    }
}

/// An outage of ours as `/v1` shows it.
pub fn outage_view(outage: Outage) -> Value {
    json!({ "start": outage.start.rfc3339(), "end": outage.end.rfc3339() })
}

/// A logged ping. A body that is text is shown as such, any other as base64.
fn ping_view(ping: &Ping) -> Value {
    let mut view = json!({
        "n": ping.n,
        "at": ping.at.rfc3339(),
        "type": ping.kind,
        "scheme": ping.scheme,
        "remote_addr": ping.remote_addr,
        "method": ping.method,
        "ua": ping.ua,
        "rid": ping.rid,
        "exit_status": ping.exit_status,
        "duration_ms": ping.duration_ms,
        "metrics": ping.metrics,
    });
    match std::str::from_utf8(&ping.body) {
        Ok(text) => view["body"] = json!(text),
        Err(_) => view["body_base64"] = json!(BASE64_STANDARD.encode(&ping.body)),
    }
    view
}
