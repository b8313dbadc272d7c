//! What clients of other programs send, recorded as pings: pushes of Uptime Kuma, heartbeats of
//! Opsgenie, and webhooks of Alertmanager and Grafana.

use super::ping::{Refused, incoming};
use crate::app::App;
use crate::services::monitors::{By, Incoming};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use thrum_schema::PingKind;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::monitor::slugify;
use thrum_schema::schedule::MAX_PERIOD_S;
use thrum_store::Rules;

/// Most alerts of one webhook; the rest are not recorded, and the answer says so.
const MAX_ALERTS: usize = 200;
/// The name of the alert that always fires, to prove that alerts arrive.
const WATCHDOG: &str = "Watchdog";
/// Labels that do not tell two alerts of the same name apart.
const COMMON: [&str; 5] = ["alertname", "instance", "job", "severity", "grafana_folder"];
/// Longest text of an alert that is kept, in characters.
const MAX_TEXT: usize = 2_000;

/// `/api/push/{token}?status=up&msg=OK&ping=12`, as clients of Uptime Kuma call it. The monitor is the
/// one whose ID follows from the token.
/// <https://github.com/louislam/uptime-kuma/blob/master/server/routers/api-router.js>
pub async fn push(State(app): State<App>, Path(token): Path<String>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let given = |name: &str| {
        let found = query.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    };
    let kind = match given("status") {
        Some("down") => PingKind::Fail,
        _ => PingKind::Success,
    };
    let text = given("msg").unwrap_or_default();
    let mut ping = incoming(&app, &parts, kind, text.as_bytes().to_vec());
    let mut warnings = Vec::new();
    if let Some(ms) = given("ping").filter(|text| !text.is_empty()) {
        let ms = ms
            .parse()
            .map_err(|_| "must have a number, as in ping=12".to_owned());
        ping.add_metric("ping", ms, &mut warnings);
    }
    let recorded = app
        .monitors
        .record(MonitorId::of_push_token(&token), ping)
        .await;
    match recorded.map_err(Refused::from) {
        Ok(_) => axum::Json(json!({ "ok": true })).into_response(),
        Err(Refused::NotFound) => kuma_refuses(
            StatusCode::NOT_FOUND,
            "Monitor not found or not active.".to_owned(),
        ),
        Err(refused) => kuma_refuses(refused.status(), refused.to_string()),
    }
}

fn kuma_refuses(status: StatusCode, message: String) -> Response {
    (status, axum::Json(json!({ "ok": false, "msg": message }))).into_response()
}

/// `/v2/heartbeats/{name}/ping` with `Authorization: GenieKey <ping key>`, as clients of Opsgenie call it.
/// <https://docs.opsgenie.com/docs/heartbeat-api#ping-heartbeat-request>
pub async fn opsgenie(
    State(app): State<App>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let message = |status: StatusCode, text: String| {
        (status, axum::Json(json!({ "message": text, "took": 0.0 }))).into_response()
    };
    let project = match project_of(&app, genie_key(&parts.headers)).await {
        Ok(Some(project)) => project,
        Ok(None) => {
            let text = "Could not authenticate: the GenieKey must be a ping key".to_owned();
            return message(StatusCode::UNAUTHORIZED, text);
        }
        Err(refused) => return message(refused.status(), refused.to_string()),
    };
    let ping = incoming(&app, &parts, PingKind::Success, Vec::new());
    // A name that heartbeats can't have, such as one with spaces, has a slug.
    let slug = slugify(&name);
    let mut recorded = Err(Refused::NotFound);
    for (by, name) in [(By::Name, &name), (By::Slug, &slug)] {
        if matches!(recorded, Err(Refused::NotFound)) && !name.is_empty() {
            let named = app
                .monitors
                .record_named(project, by, name, false, ping.clone());
            recorded = named.await.map_err(Refused::from);
        }
    }
    match recorded {
        Ok(_) => {
            let done = json!({ "result": "PONG - Heartbeat received", "took": 0.0 });
            (StatusCode::ACCEPTED, axum::Json(done)).into_response()
        }
        Err(Refused::NotFound) => message(
            StatusCode::NOT_FOUND,
            format!("Heartbeat with name [{name}] does not exist"),
        ),
        Err(refused) => message(refused.status(), refused.to_string()),
    }
}

fn genie_key(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("GenieKey ").map(str::trim)
}

async fn project_of(app: &App, key: Option<&str>) -> Result<Option<ProjectId>, Refused> {
    match key {
        Some(key) => Ok(app.accounts.project_of_ping_key(key).await?),
        None => Ok(None),
    }
}

/// A webhook of Alertmanager, or of Grafana, which sends the same fields.
/// <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>,
/// <https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/>
#[derive(Debug, Deserialize)]
struct Hook {
    alerts: Vec<HookAlert>,
}

#[derive(Debug, Deserialize)]
struct HookAlert {
    #[serde(default)]
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, Value>,
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
    /// Identifies its labels.
    #[serde(default)]
    fingerprint: String,
}

/// `POST /hooks/alerts/{ping key}`: each alert that fires is a failure of the monitor that has its name,
/// and each that is resolved a success. An alert called Watchdog is a heartbeat. Monitors are created
/// when needed; those of alerts never miss a deadline.
pub async fn alerts(State(app): State<App>, Path(key): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let refuse =
        |status: StatusCode, text: String| crate::http::Problem::new(status, text).into_response();
    let project = match project_of(&app, Some(&key)).await {
        Ok(Some(project)) => project,
        Ok(None) => {
            return refuse(
                StatusCode::NOT_FOUND,
                "there is no such ping key".to_owned(),
            );
        }
        Err(refused) => return refuse(refused.status(), refused.to_string()),
    };
    let hook = match read(body).await {
        Ok(hook) => hook,
        Err(problem) => return problem.into_response(),
    };
    let (mut recorded, mut errors) = (0, Vec::new());
    // Several alerts of one monitor are a failure if one of them fires.
    let mut pings: BTreeMap<String, (PingKind, Vec<String>)> = BTreeMap::new();
    for (i, alert) in hook.alerts.iter().take(MAX_ALERTS).enumerate() {
        match alert.ping() {
            Some((slug, _, _)) if slug.is_empty() => {
                errors.push(format!(
                    "alerts[{i}]: its alertname has no letters or digits"
                ));
            }
            Some((slug, kind, text)) => {
                let (known, texts) = pings.entry(slug).or_insert((kind, Vec::new()));
                if kind == PingKind::Fail && *known != kind {
                    (*known, *texts) = (kind, Vec::new());
                }
                if kind == *known {
                    texts.push(text);
                }
            }
            None => {}
        }
    }
    for (slug, (kind, texts)) in pings {
        let is_watchdog = slug == slugify(WATCHDOG);
        let ping = Incoming {
            rules: Rules {
                period_s: (!is_watchdog).then_some(MAX_PERIOD_S),
                grace_s: None,
            },
            ..incoming(&app, &parts, kind, texts.join("\n\n").into_bytes())
        };
        let done = app
            .monitors
            .record_named(project, By::Slug, &slug, true, ping);
        match done.await.map_err(Refused::from) {
            Ok(_) => recorded += 1,
            // The sender sends all of it again; what is recorded already changes nothing then.
            Err(refused @ (Refused::Unavailable(_) | Refused::TooMany(_))) => {
                return refuse(refused.status(), refused.to_string());
            }
            Err(refused) => errors.push(format!("{slug}: {refused}")),
        }
    }
    if hook.alerts.len() > MAX_ALERTS {
        errors.push(format!(
            "alerts has more than {MAX_ALERTS}; the rest is not recorded"
        ));
    }
    axum::Json(json!({ "recorded": recorded, "errors": errors })).into_response()
}

async fn read(body: Body) -> Result<Hook, crate::http::Problem> {
    let (bytes, _room) = crate::http::body::whole(body).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let text = format!("the body is not a webhook of Alertmanager or Grafana: {error}");
        crate::http::Problem::bad_request(text)
    })
}

impl HookAlert {
    /// The slug of its monitor, what it means for it, and its text; `None` if it means nothing.
    fn ping(&self) -> Option<(String, PingKind, String)> {
        let label = |name: &str| self.labels.get(name).and_then(Value::as_str);
        let name = label("alertname").unwrap_or("alert");
        let is_watchdog = name == WATCHDOG;
        let kind = match (self.status != "resolved", is_watchdog) {
            (true, false) => PingKind::Fail,
            (false, true) => return None,
            _ => PingKind::Success,
        };
        let mut parts = vec![name];
        if !is_watchdog {
            parts.extend(label("instance").or_else(|| label("job")));
            // Other labels tell two alerts of the same name and instance apart.
            let others = self.labels.keys().any(|name| !COMMON.contains(&&**name));
            parts.extend(self.fingerprint.get(..8).filter(|_| others));
        }
        let slug = slugify(&parts.join("-").replace([':', '.', '/'], "-"));
        let texts = ["summary", "description", "message"];
        let texts = texts
            .iter()
            .filter_map(|name| self.annotations.get(*name).and_then(Value::as_str));
        let text = texts.collect::<Vec<_>>().join("\n");
        Some((slug, kind, text.chars().take(MAX_TEXT).collect()))
    }
}
