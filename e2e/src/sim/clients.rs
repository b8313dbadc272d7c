//! The clients: before any fault, they create channels and monitors; then they act out their
//! scripts and record the responses.

use super::cast::{Cast, answer, outcome};
use super::history::{Asked, Outcome, Redelivered};
use super::scenario::{Act, Door, Kind, Script};
use crate::{API_KEY, PING_KEY, START};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a client waits before a retry, in milliseconds.
const RETRY_MS: (i64, i64) = (200, 4_000);
/// The number of bars, and the most that are sent at once.
const BARS: i64 = 120;
const CHUNK: i64 = 20;
/// The length of a bar: one minute, in milliseconds.
const BAR_MS: i64 = 60_000;

/// What the setup created.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The ids of the monitors by script; `None` for one that its first heartbeat creates.
    pub monitors: Vec<Option<String>>,
    /// The ids of the channels, by hook.
    pub channels: Vec<String>,
    /// The API key with a quota.
    pub metered: Option<String>,
}

/// The name of a script's monitor.
pub fn name(script: usize) -> String {
    format!("host-{script}")
}

/// The bar with index `i`.
pub fn bar(i: i64, close: f64) -> Value {
    let time = START - (BARS + 10 - i) * BAR_MS;
    json!({"time": time.rfc3339(), "open": close, "high": close + 1.0, "low": close - 1.0, "close": close})
}

/// An API request.
pub fn api(method: Method, path: &str, key: &str, body: &Value) -> Request<Body> {
    let body = match body {
        Value::Null => Body::empty(),
        body => Body::from(body.to_string()),
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header("x-api-key", key)
        .body(body)
        .expect("a request")
}

async fn must(router: &Router, request: Request<Body>) -> Value {
    let (status, body) = answer(router.clone(), request).await;
    assert!(status.is_success(), "{status} {body}");
    serde_json::from_str(&body).unwrap_or_default()
}

/// Creates channels and monitors, and a key and a strategy if the scenario needs them, before any
/// fault.
pub async fn set_up(cast: &Cast) -> Setup {
    let router = cast.handlers().router;
    let mut setup = Setup::default();
    for (i, hook) in cast.scenario.hooks.iter().enumerate() {
        let body = json!({
            "kind": "webhook",
            "url": format!("http://hook-{i}.example.org/"),
            "name": format!("hook-{i}"),
            "group_threshold": hook.group_threshold,
            "daily_limit": hook.daily_limit,
        });
        let mut body = body;
        if let Some(care) = cast.scenario.care {
            let is_last = i + 1 == cast.scenario.hooks.len();
            if is_last {
                body["after_s"] = json!(care.after_s);
            }
        }
        let channel = must(&router, api(Method::POST, "/v1/channels", API_KEY, &body)).await;
        setup
            .channels
            .push(channel["id"].as_str().expect("an id").to_owned());
    }
    let mut alerts_on = json!("all");
    if let Some(care) = cast.scenario.care {
        let remind = json!({ "remind_s": care.remind_s });
        must(&router, api(Method::PATCH, "/v1/project", API_KEY, &remind)).await;
        if care.falls_back {
            let (spare, others) = setup.channels.split_last().expect("channels");
            let path = format!("/v1/channels/{}", others[0]);
            let fallback = json!({ "fallback": spare });
            must(&router, api(Method::PATCH, &path, API_KEY, &fallback)).await;
            alerts_on = json!(others);
        }
    }
    for (i, script) in cast.scenario.scripts.iter().enumerate() {
        let mut id = None;
        if script.door != Door::Name {
            // The second one is always as expected, but a detector must learn that.
            let expect = match script.expects {
                true => json!({ "rows": "min 50", "size": "auto" }),
                false => json!({}),
            };
            let parents: Vec<String> = script.parent.into_iter().map(name).collect();
            let body = json!({
                "parents": parents,
                "expect": expect,
                "name": name(i),
                "slug": name(i),
                "period_s": script.period_s,
                "grace_s": script.grace_s,
                "failures": script.failures,
                "channels": alerts_on,
            });
            let monitor = must(&router, api(Method::POST, "/v1/monitors", API_KEY, &body)).await;
            id = monitor["uuid"].as_str().map(str::to_owned);
        }
        setup.monitors.push(id);
    }
    if let Some(quota) = cast.scenario.quota {
        let body = json!({"scope": "write", "name": "metered", "requests_per_day": quota});
        let key = must(&router, api(Method::POST, "/v1/keys", API_KEY, &body)).await;
        setup.metered = key["key"].as_str().map(str::to_owned);
    }
    if cast.scenario.bars {
        let definition = json!({
            "buy": {"all": [{"left": "close", "op": ">", "right": {"indicator": "sma", "n": 3}}]},
            "sell": {"all": [{"left": "close", "op": "<", "right": {"indicator": "sma", "n": 3}}]},
        });
        must(
            &router,
            api(Method::PUT, "/v1/strategies/sim", API_KEY, &definition),
        )
        .await;
        let first = json!({"timeframe": "1m", "bars": [bar(0, 100.0)]});
        must(
            &router,
            api(Method::POST, "/v1/series/x/bars", API_KEY, &first),
        )
        .await;
        cast.history().bars.push((0, 100.0));
        let watch = json!({"series": "x", "timeframe": "1m", "strategy": "sim"});
        must(&router, api(Method::POST, "/v1/watches", API_KEY, &watch)).await;
        if cast.scenario.minds {
            // The judge knows these rules, too.
            let positions = json!({
                "long": {
                    "enter": {"left": "close", "op": ">", "right": 106},
                    "exit": {"left": "close", "op": "<", "right": 98},
                    "stop_loss_pct": 6, "time_stop_bars": 9,
                },
                "short": {
                    "enter": {"confirm": {"left": "close", "op": "<", "right": 95}, "bars": 2},
                    "trailing_stop_pct": 4,
                },
            });
            let put = api(Method::PUT, "/v1/strategies/positions", API_KEY, &positions);
            must(&router, put).await;
            for (strategy, params) in [
                ("positions", json!({})),
                ("robust-zscore", json!({"n": 10, "k": 3})),
            ] {
                let watch = json!({"series": "x", "timeframe": "1m", "strategy": strategy, "params": params});
                must(&router, api(Method::POST, "/v1/watches", API_KEY, &watch)).await;
            }
        }
    }
    setup
}

/// Starts every client's script.
pub fn start(cast: &Arc<Cast>, setup: &Setup) {
    for (i, script) in cast.scenario.scripts.iter().enumerate() {
        for (n, act) in script.acts.iter().enumerate() {
            let (cast, script, act) = (Arc::clone(cast), script.clone(), *act);
            let id = setup.monitors[i].clone();
            tokio::spawn(async move {
                cast.clock.until(act.at_ms).await;
                play(&cast, i, n, &script, act, id.as_deref()).await;
            });
        }
    }
    if let Some(key) = setup.metered.clone() {
        tokio::spawn(use_quota(Arc::clone(cast), key));
    }
    if cast.scenario.bars {
        tokio::spawn(send_bars(Arc::clone(cast)));
    }
}

/// Performs one action, with retries while there is no answer.
async fn play(cast: &Arc<Cast>, i: usize, n: usize, script: &Script, act: Act, id: Option<&str>) {
    if act.what == Kind::Redeliver {
        return redeliver(cast).await;
    }
    for attempt in 0..=act.retries {
        let token = format!("sim-{i}-{n}-{attempt}");
        let request = request((i, n), script, act.what, id, &token);
        let sent_ms = cast.clock.ms();
        let reply = cast.request(request).await;
        let outcome = outcome(reply.as_ref());
        let asked = Asked {
            script: i,
            what: act.what,
            sent_ms,
            ended_ms: cast.clock.ms(),
            outcome,
            token,
        };
        cast.trace.say(|| {
            let took = asked.ended_ms - asked.sent_ms;
            format!(
                "{} sent {:?} {took} ms ago ({}): {outcome:?}",
                name(i),
                act.what,
                asked.token
            )
        });
        cast.trace.note(
            &asked.token,
            u16::from(outcome == Outcome::Done),
            asked.ended_ms,
        );
        cast.history().asked.push(asked);
        if outcome != Outcome::Unknown {
            return;
        }
        super::chance::sleep_ms(cast.chance.range(RETRY_MS.0, RETRY_MS.1)).await;
    }
}

/// Redelivers all dead alerts.
async fn redeliver(cast: &Arc<Cast>) {
    let list = api(
        Method::GET,
        "/v1/alerts?state=dead&limit=200",
        API_KEY,
        &Value::Null,
    );
    let Some((_, body)) = cast.request(list).await else {
        return;
    };
    let found: Value = serde_json::from_str(&body).unwrap_or_default();
    for alert in found["alerts"].as_array().into_iter().flatten() {
        let id = alert["id"].as_str().unwrap_or_default().to_owned();
        let path = format!("/v1/alerts/{id}/redeliver");
        let sent_ms = cast.clock.ms();
        let reply = cast
            .request(api(Method::POST, &path, API_KEY, &Value::Null))
            .await;
        cast.trace.say(|| format!("{id} is redelivered: {reply:?}"));
        let outcome = outcome(reply.as_ref());
        if matches!(outcome, Outcome::Done | Outcome::Unknown) {
            cast.history().redelivered.push(Redelivered {
                id,
                sent_ms,
                done: outcome == Outcome::Done,
            });
        }
    }
}

fn request(
    (i, n): (usize, usize),
    script: &Script,
    what: Kind,
    id: Option<&str>,
    token: &str,
) -> Request<Body> {
    let by_name = |status: &str| {
        let body = json!({
            "monitor": name(i),
            "status": status,
            "period_s": script.period_s,
            "grace_s": script.grace_s,
        });
        api(Method::POST, "/v1/heartbeats", API_KEY, &body)
    };
    let by_path = |action: &str| {
        let path = match (script.door, id) {
            (Door::Url, Some(id)) => format!("/ping/{id}{action}"),
            _ => format!("/ping/{PING_KEY}/{}{action}", name(i)),
        };
        Request::get(path).body(Body::empty()).expect("a request")
    };
    let monitor = format!("/v1/monitors/{}", id.unwrap_or_default());
    let change = |action: &str| {
        let path = format!("{monitor}/{action}");
        api(Method::POST, &path, API_KEY, &Value::Null)
    };
    let mut request = match (what, script.door) {
        (Kind::Change, _) => {
            let (period_s, grace_s) = script.then_s.unwrap_or((script.period_s, script.grace_s));
            let body = json!({"period_s": period_s, "grace_s": grace_s});
            api(Method::PATCH, &monitor, API_KEY, &body)
        }
        (Kind::Acknowledge, _) => {
            let path = format!("/v1/monitors/{}/acknowledge", name(i));
            api(Method::POST, &path, API_KEY, &Value::Null)
        }
        (Kind::Snooze, _) => {
            let path = format!("/v1/monitors/{}/snooze", name(i));
            api(Method::POST, &path, API_KEY, &json!({ "for_s": 60 }))
        }
        (Kind::Delete, _) => api(Method::DELETE, &monitor, API_KEY, &Value::Null),
        (Kind::Redeliver, _) => unreachable!("it takes several requests"),
        (Kind::Invalid, _) => invalid_request(i, n, script.door, id),
        (Kind::Pause, _) => change("pause"),
        (Kind::Resume, _) => change("resume"),
        (Kind::Success, Door::Name) => by_name("ok"),
        (Kind::Fail, Door::Name) => by_name("fail"),
        (Kind::Start, Door::Name) => by_name("start"),
        (Kind::Log, Door::Name) => by_name("log"),
        (Kind::Success, _) if script.expects => by_path("?metric.rows=100&metric.size=7"),
        (Kind::Fail, _) if script.expects => by_path("?metric.rows=1&metric.size=7"),
        (Kind::Success, _) => by_path(""),
        (Kind::Fail, _) => by_path("/fail"),
        (Kind::Start, _) => by_path("/start"),
        (Kind::Log, _) => by_path("/log"),
    };
    let token = token.parse().expect("a header");
    request.headers_mut().insert("user-agent", token);
    request
}

/// An invalid request, different each time, whose effect would be visible if it were carried out.
fn invalid_request(i: usize, n: usize, door: Door, id: Option<&str>) -> Request<Body> {
    let ping = |path: String| Request::get(path).body(Body::empty()).expect("a request");
    let heartbeat = |key: &str, mut body: Value| {
        body["monitor"] = name(i).into();
        api(Method::POST, "/v1/heartbeats", key, &body)
    };
    let unknown = "5d2f0b1e-0000-4000-8000-000000000000";
    let slug = name(i);
    match (n % 8, door, id) {
        (0, _, _) => ping(format!("/ping/{unknown}/fail")),
        (1, _, _) => ping(format!("/ping/aaaaaaaaaaaaaaaaaaaaaa/{slug}/fail")),
        (2, Door::Url, Some(id)) => ping(format!("/ping/{id}/256")),
        (3, Door::Url, Some(id)) => ping(format!("/ping/{id}/failed")),
        (4, Door::Url | Door::Slug, Some(id)) => {
            let body = json!({"period_s": 0, "grace_s": 1});
            api(Method::PATCH, &format!("/v1/monitors/{id}"), API_KEY, &body)
        }
        (5, Door::Url | Door::Slug, Some(id)) => {
            let path = format!("/v1/monitors/{id}");
            api(Method::DELETE, &path, "hcw_nobody's", &Value::Null)
        }
        (6, _, _) => heartbeat("", json!({"status": "fail"})),
        _ => heartbeat(API_KEY, json!({"status": "fail", "period_s": -1})),
    }
}

/// Makes more requests than the quota allows.
async fn use_quota(cast: Arc<Cast>, key: String) {
    let quota = i64::from(cast.scenario.quota.unwrap_or_default());
    for _ in 0..quota * 2 + 5 {
        super::chance::sleep_ms(cast.chance.range(10, 20_000)).await;
        let asked = async |cast: Arc<Cast>, key: String| {
            let reply = cast
                .request(api(Method::GET, "/v1/alerts?limit=1", &key, &Value::Null))
                .await;
            cast.history().metered.push(outcome(reply.as_ref()));
        };
        // Sometimes two at once.
        let (a, b) = (
            asked(Arc::clone(&cast), key.clone()),
            asked(Arc::clone(&cast), key.clone()),
        );
        if cast.chance.per_mille(300) {
            futures::join!(a, b);
        } else {
            a.await;
        }
    }
}

/// Sends bars in chunks, some late, some twice, some corrected; repeats each until it is
/// acknowledged.
async fn send_bars(cast: Arc<Cast>) {
    let chance = &cast.chance;
    let price = |i: i64| {
        let x = i as f64;
        100.0 + 10.0 * (x * 0.7).sin() + 4.0 * (x * 2.3).cos()
    };
    let mut chunks: Vec<Vec<(i64, f64)>> = Vec::new();
    let mut next = 1;
    while next < BARS {
        let to = (next + chance.range(1, CHUNK)).min(BARS);
        chunks.push((next..to).map(|i| (i, price(i))).collect());
        next = to;
    }
    // One chunk comes late, and some bars come again, most of them with another price.
    if chunks.len() > 2 && chance.per_mille(500) {
        let late = chunks.remove(1);
        chunks.push(late);
    }
    for _ in 0..chance.range(0, 4) {
        let i = chance.range(1, BARS - 1);
        let close = if chance.per_mille(700) {
            // Some are so wrong that a detector notices.
            let times = if cast.scenario.minds { 7 } else { 1 };
            price(i) + (times * chance.range(-9, 9)) as f64
        } else {
            price(i)
        };
        chunks.push(vec![(i, close)]);
    }
    for chunk in chunks {
        super::chance::sleep_ms(chance.range(100, 40_000)).await;
        let bars: Vec<Value> = chunk.iter().map(|(i, close)| bar(*i, *close)).collect();
        let body = json!({"timeframe": "1m", "bars": bars});
        loop {
            let request = api(Method::POST, "/v1/series/x/bars", API_KEY, &body);
            let reply = cast.request(request).await;
            match outcome(reply.as_ref()) {
                Outcome::Done => break,
                Outcome::Refused(status) => {
                    cast.trace
                        .say(|| format!("bars were refused: {status} {reply:?}"));
                    break;
                }
                Outcome::TurnedAway | Outcome::Unknown => {
                    super::chance::sleep_ms(chance.range(RETRY_MS.0, RETRY_MS.1)).await;
                }
            }
        }
        let mut history = cast.history();
        history.bars.extend(chunk);
        history.bars_ended_ms = cast.clock.ms();
    }
}
