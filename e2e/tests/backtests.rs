//! Backtests through the API and the dashboard: portfolios, sizes, searches, walk-forwards, other
//! orders of the trades, detectors on past values, and files to save.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use e2e::{API_KEY, Reply, Stage};
use serde_json::{Value, json};
use thrum_schema::{UnixMs, World};

const HOUR: i64 = 3_600_000;

/// Sends `n` hourly bars that end before now.
async fn bars(stage: &Stage, series: &str, n: i64, wave: f64) {
    let now = stage.world.now().0 / HOUR * HOUR;
    let price = |i: i64| 100.0 + 10.0 * (i as f64 / wave).sin() + i as f64 * 0.01;
    let bars: Vec<Value> = (0..n)
        .map(|i| {
            let (open, close) = (price(i - 1), price(i));
            json!({
                "time": UnixMs(now - (n - i) * HOUR).rfc3339(), "open": open, "close": close,
                "high": open.max(close) + 0.5, "low": open.min(close) - 0.5, "volume": 10,
            })
        })
        .collect();
    for bars in bars.chunks(500) {
        let body = json!({ "timeframe": "1h", "bars": bars });
        let path = format!("/v1/series/{series}/bars");
        let reply = stage.call(Method::POST, &path, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    stage.carry().await;
}

/// Requests a backtest and returns its result.
async fn backtest(stage: &Stage, body: Value) -> Value {
    let reply = stage.call(Method::POST, "/v1/backtests", body).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let href = reply.json()["href"].as_str().unwrap().to_owned();
    stage.carry().await;
    stage.call(Method::GET, &href, Value::Null).await.json()
}

#[tokio::test]
async fn a_portfolio_is_tested_with_everything_at_once() {
    let stage = Stage::new().await;
    bars(&stage, "a", 600, 15.0).await;
    bars(&stage, "b", 500, 23.0).await;
    let done = backtest(
        &stage,
        json!({
            "portfolio": [{ "series": "a", "weight": 0.6 }, { "series": "b", "weight": 0.3 }],
            "timeframe": "1h", "strategy": "sma-cross", "benchmark": "a",
            "sizing": { "volatility": { "target": 0.5, "bars": 10 } },
            "search": { "fast": [3, 5], "slow": [12, 30] },
            "walk_forward": { "train_bars": 100, "test_bars": 50, "grid": { "fast": [3, 5] } },
            "monte_carlo": { "runs": 200 }, "points": 50,
        }),
    )
    .await;
    assert_eq!(done["status"], "done", "{done}");
    let parts = done["portfolio"].as_array().unwrap();
    assert_eq!(
        (&parts[0]["series"], &parts[1]["weight"]),
        (&json!("a"), &json!(0.3))
    );
    let trips = |i: usize| parts[i]["round_trips"].as_u64().unwrap();
    assert_eq!(
        Some(trips(0) + trips(1)),
        done["round_trips"].as_u64(),
        "{done}"
    );
    assert_eq!(done["benchmark"]["series"], "a");
    assert!(done["benchmark"]["beta"].is_f64());
    assert_eq!(done["search"]["results"].as_array().unwrap().len(), 4);
    assert!(done["walk_forward"]["stretches"].as_array().unwrap().len() > 5);
    assert_eq!(done["monte_carlo"]["runs"], 200);
    assert!(done["equity"].as_array().unwrap().len() <= 50);
    let trade = &done["trades"][0];
    assert!(trade["series"].is_string() && trade["size"].is_f64() && trade["exit"].is_string());

    let equal = backtest(
        &stage,
        json!({ "portfolio": [{ "series": "a" }, { "series": "b" }], "timeframe": "1h", "strategy": "turtle" }),
    )
    .await;
    assert_eq!(equal["portfolio"][0]["weight"], 0.5, "{equal}");
    let ends: Vec<&Value> = equal["trades"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["exit"])
        .collect();
    assert!(ends.contains(&&json!("signal")), "{ends:?}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_place() {
    let stage = Stage::new().await;
    bars(&stage, "a", 200, 15.0).await;
    let cases = [
        (
            json!({ "series": "a", "portfolio": [{ "series": "a" }] }),
            400,
            "portfolio",
        ),
        (
            json!({ "portfolio": [{ "series": "a", "weight": 0.7 }, { "series": "b", "weight": 0.7 }] }),
            400,
            "portfolio",
        ),
        (
            json!({ "portfolio": [{ "series": "a" }, { "series": "a" }] }),
            400,
            "portfolio[1].series",
        ),
        (
            json!({ "portfolio": [{ "series": "a", "weight": 0.5 }, { "series": "b" }] }),
            400,
            "portfolio[1].weight",
        ),
        (
            json!({ "portfolio": [{ "series": "a", "weight": 0 }] }),
            400,
            "portfolio[0].weight",
        ),
        (
            json!({ "portfolio": [{ "series": "a" }, { "series": "nobody" }] }),
            404,
            "nobody",
        ),
        (
            json!({ "series": "a", "benchmark": "nobody" }),
            404,
            "nobody",
        ),
        (json!({ "series": "a", "sizing": {} }), 400, "sizing"),
        (
            json!({ "series": "a", "sizing": { "fraction": 0.5, "fixed": 0.5 } }),
            400,
            "sizing",
        ),
        (
            json!({ "series": "a", "sizing": { "fraction": 1.5 } }),
            400,
            "sizing.fraction",
        ),
        (
            json!({ "series": "a", "sizing": { "volatility": { "target": 0.2, "bars": 1 } } }),
            400,
            "sizing.volatility.bars",
        ),
        (
            json!({ "series": "a", "sizing": { "fixed": 0.1 }, "fill": "close_to_close" }),
            400,
            "fill",
        ),
        (
            json!({ "series": "a", "search": { "x": [1] } }),
            400,
            "params.x",
        ),
        (
            json!({ "series": "a", "search": { "fast": [] } }),
            400,
            "search",
        ),
        (
            json!({ "series": "a", "search": { "fast": vec![5; 401] } }),
            400,
            "search",
        ),
        (
            json!({ "series": "a", "monte_carlo": { "runs": 99 } }),
            400,
            "monte_carlo.runs",
        ),
        (
            json!({ "series": "a", "search": (0..21).map(|i| (format!("p{i}"), json!([1]))).collect::<serde_json::Map<_, _>>() }),
            400,
            "at most 20 parameters",
        ),
        (
            json!({ "series": "a", "search": { "fast": [5, 1e200] } }),
            400,
            "search.fast",
        ),
        (json!({ "series": "a", "fee_bps": 1e-200 }), 400, "fee_bps"),
        (
            json!({ "series": "a", "timeframe_": "1h" }),
            400,
            "timeframe_",
        ),
        (json!({ "series": "a", "points": 1 }), 400, "points"),
        (json!({ "series": "a", "points": 5001 }), 400, "points"),
    ];
    for (mut body, status, words) in cases {
        body["timeframe"] = "1h".into();
        body["strategy"] = "sma-cross".into();
        let reply = stage
            .call(Method::POST, "/v1/backtests", body.clone())
            .await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        assert!(reply.text().contains(words), "{body}: {}", reply.text());
    }
    // A portfolio of detectors, and a simulation without trades, fail with a reason.
    for (name, value) in [
        ("portfolio", json!([{ "series": "a" }])),
        ("monte_carlo", json!({})),
        ("search", json!({ "k": [3, 4] })),
        ("benchmark", json!("a")),
    ] {
        let mut body = json!({ "timeframe": "1h", "strategy": "auto" });
        if name != "portfolio" {
            body["series"] = "a".into();
        }
        body[name] = value;
        let reply = stage.call(Method::POST, "/v1/backtests", body).await;
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        assert!(
            reply.text().contains("has no effect on a detector"),
            "{}",
            reply.text()
        );
    }
    let body = json!({
        "series": "a", "timeframe": "1h", "strategy": "bollinger", "params": { "k": 99 }, "monte_carlo": {},
    });
    let failed = backtest(&stage, body).await;
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("needs at least 2 trades (there are 0)"),
        "{error}"
    );
}

/// Sends values each hour for some weeks, with three incidents.
async fn values(stage: &Stage) {
    let now = stage.world.now().0 / HOUR * HOUR;
    let n = 24 * 40;
    let values: Vec<Value> = (0..n)
        .map(|i| {
            let usual = 100.0 + 20.0 * ((i % 24) as f64 / 4.0).sin() + (i * 37 % 11) as f64 / 5.0;
            let value = match i {
                700 | 701 => usual * 0.2,
                800 => usual * 4.0,
                900 => 0.0,
                _ => usual,
            };
            json!({ "time": UnixMs(now - (n - i) * HOUR).rfc3339(), "value": value })
        })
        .collect();
    for values in values.chunks(500) {
        let body = json!({ "timeframe": "tick", "values": values });
        let reply = stage
            .call(Method::POST, "/v1/series/load/values", body)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    stage.carry().await;
}

#[tokio::test]
async fn a_detector_shows_how_often_it_would_have_alerted() {
    let stage = Stage::new().await;
    values(&stage).await;
    let body = json!({ "series": "load", "timeframe": "tick", "strategy": "auto" });
    let done = backtest(&stage, body).await;
    assert_eq!(done["status"], "done", "{done}");
    let alerts = done["alerts"].as_array().unwrap();
    let signals: Vec<&str> = alerts
        .iter()
        .map(|a| a["signal"].as_str().unwrap())
        .collect();
    assert_eq!(signals, ["LOW", "HIGH", "LOW"], "{done}");
    assert_eq!(
        (&done["alert_count"], &done["low"], &alerts[0]["values"]),
        (&json!(3), &json!(2), &json!(2))
    );
    assert!(alerts[0]["until"].is_string() && alerts[0]["expected"]["low"].is_f64());
    assert!((done["days"].as_f64().unwrap() - 40.0).abs() < 0.1);
    assert!(done["values"].as_array().unwrap().len() <= 500);
    // The alerts are those that a watch sends: the signals of the series say the same.
    let asked = json!({ "series": "load", "timeframe": "tick", "strategy": "auto" });
    let reply = stage.call(Method::POST, "/v1/signals", asked).await;
    assert_eq!(reply.status, 202);
    stage.carry().await;
    let path = "/v1/series/load/signals?timeframe=tick&strategy=auto&limit=300";
    let signals = stage.call(Method::GET, path, Value::Null).await.json();
    let wrong = signals["signals"].as_array().unwrap().iter();
    let wrong = wrong.filter(|s| s["signal"] == "LOW" || s["signal"] == "HIGH");
    assert_eq!(
        wrong.count(),
        4,
        "two values of the first incident, and two more"
    );
}

#[tokio::test]
async fn a_preview_ends_alerts_that_turn_and_notices_missing_values() {
    let stage = Stage::new().await;
    let now = stage.world.now().0 / HOUR * HOUR;
    let rows = [
        (0, 5.0),
        (1, 0.0),
        (2, 100.0),
        (3, 5.0),
        (13, 5.0),
        (14, 0.0),
        (15, 0.0),
    ];
    let values: Vec<Value> = rows
        .iter()
        .map(|(hour, value)| json!({ "time": UnixMs(now - (40 - hour) * HOUR).rfc3339(), "value": value }))
        .collect();
    let body = json!({ "timeframe": "1h", "values": values });
    let sent = stage.call(Method::POST, "/v1/series/t/values", body).await;
    assert_eq!(sent.status, 200, "{}", sent.text());
    stage.carry().await;
    let body = json!({ "series": "t", "timeframe": "1h", "strategy": "threshold", "params": { "min": 1, "max": 10 } });
    let done = backtest(&stage, body).await;
    let alerts: Vec<(String, bool, u64)> = done["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| {
            (
                a["signal"].as_str().unwrap().to_owned(),
                a["until"].is_string(),
                a["values"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("LOW", true, 1),
        ("HIGH", true, 1),
        ("STALE", true, 0),
        ("LOW", false, 2),
    ];
    let expected = expected.map(|(signal, over, values)| (signal.to_owned(), over, values));
    assert_eq!(alerts, expected, "{done}");
    assert_eq!(done["alerts"][0]["until"], done["alerts"][1]["from"]);
}

/// A browser session.
struct Session {
    cookie: String,
    csrf: String,
}

impl Session {
    async fn new(stage: &Stage) -> Self {
        let form = Body::from(format!("key={API_KEY}&next=/"));
        let reply = stage
            .send(Request::post("/sign-in").body(form).unwrap())
            .await;
        let cookie = reply.headers[header::SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let mut session = Self {
            cookie,
            csrf: String::new(),
        };
        let page = session.get(stage, "/").await.text();
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap();
        csrf.split('"')
            .next()
            .unwrap()
            .clone_into(&mut session.csrf);
        session
    }

    async fn get(&self, stage: &Stage, path: &str) -> Reply {
        let request = Request::get(path).header(header::COOKIE, &self.cookie);
        stage.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form while the pipeline works, and returns where the browser goes.
    async fn post(&self, stage: &Stage, path: &str, form: &str) -> String {
        let request = Request::post(path)
            .header(header::COOKIE, &self.cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let form = Body::from(format!("csrf={}&{form}", self.csrf));
        let work = async {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                stage.carry().await;
            }
        };
        tokio::select! {
            reply = stage.send(request.body(form).unwrap()) => {
                assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
                reply.headers[header::LOCATION].to_str().unwrap().to_owned()
            }
            () = work => unreachable!(),
        }
    }
}

#[tokio::test]
async fn the_dashboard_shows_searches_portfolios_and_files_to_save() {
    let stage = Stage::new().await;
    bars(&stage, "a", 600, 15.0).await;
    bars(&stage, "b", 600, 23.0).await;
    let session = Session::new(&stage).await;
    let form = session.get(&stage, "/backtests").await.text();
    assert!(
        form.contains("name=\"more\" value=\"b\"") && form.contains("Run a Monte Carlo simulation"),
        "{form}"
    );
    let asked = "of=a+1h&strategy=sma-cross&fee_bps=10&slippage_bps=5&short=on&params=slow+%3D+25&sizing=volatility&\
                 size=40&benchmark=b&grid=fast+%3D+3+5%3B+slow+%3D+12%2C+30&monte_carlo=on&more=b";
    let path = session.post(&stage, "/backtests", asked).await;
    let page = session.get(&stage, &path).await.text();
    for text in [
        "sma-cross on a, b (1h)",
        "sized to 40 % annual volatility over 20 bars",
        "Sharpe ratio, by slow (across) and fast (down)",
        "<strong>best</strong>",
        "All 4 combinations",
        "Monte Carlo simulation",
        "Exit reasons",
        "<td>reversal</td>",
        "Contribution",
        "Beta",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let html = session.get(&stage, &format!("{path}/report.html")).await;
    assert_eq!(
        html.headers[header::CONTENT_DISPOSITION],
        "attachment; filename=\"backtest-report.html\""
    );
    let html = html.text();
    assert!(html.contains("<style>") && html.contains("<svg") && html.contains("Exit reasons"));
    // It needs nothing else.
    for other in ["src=", "href=", "<script", "@import", "url("] {
        assert!(!html.contains(other), "{other}");
    }
    let trades = session
        .get(&stage, &format!("{path}/trades.csv"))
        .await
        .text();
    let first: Vec<&str> = trades.lines().nth(1).unwrap().split(',').collect();
    assert_eq!((first.len(), first[7]), (11, "reversal"), "{trades}");
    let equity = session
        .get(&stage, &format!("{path}/equity.csv"))
        .await
        .text();
    assert!(
        equity.starts_with("time,equity,buy_and_hold,benchmark\n2025-"),
        "{equity}"
    );
    let nothing = session.get(&stage, &format!("{path}/x.csv")).await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);

    let asked = "of=a+1h&strategy=sma-cross&grid=fast+%3D+3+5&train_bars=100&test_bars=50";
    let path = session.post(&stage, "/backtests", asked).await;
    let page = session.get(&stage, &path).await.text();
    assert!(
        page.contains("Walk-forward") && page.contains("fast = 3"),
        "{page}"
    );
}

#[tokio::test]
async fn a_detector_is_tried_on_the_history_and_then_watched() {
    let stage = Stage::new().await;
    values(&stage).await;
    let channel = stage
        .webhook("http://127.0.0.1:9/x", json!({ "name": "ops" }))
        .await;
    let session = Session::new(&stage).await;
    let page = session
        .get(&stage, "/signals/load?timeframe=tick")
        .await
        .text();
    assert!(page.contains("test a detector on past values"), "{page}");
    assert!(!page.contains("<option selected>trend-rsi</option><option>turtle</option></select></label><label>Parameters"));
    let asked = "of=load+tick&strategy=auto&params=direction+%3D+-1";
    let path = session.post(&stage, "/backtests", asked).await;
    let page = session.get(&stage, &path).await.text();
    for text in [
        "It would have sent 2 alerts in 40 days.",
        "far below its usual",
        "Create watch",
        "Download alerts (CSV)",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let csv = session
        .get(&stage, &format!("{path}/trades.csv"))
        .await
        .text();
    assert!(
        csv.starts_with("from,until,signal,value,values\n") && csv.lines().count() == 3,
        "{csv}"
    );
    // The form has what was tried.
    let watch = page.split("action=\"/watches\"").nth(1).unwrap();
    let hidden = |name: &str| {
        let field = watch
            .split(&format!("name=\"{name}\" value=\""))
            .nth(1)
            .unwrap();
        let value = field.split('"').next().unwrap();
        value
            .replace(' ', "+")
            .replace('=', "%3D")
            .replace(';', "%3B")
    };
    let form = format!(
        "of={}&strategy={}&params={}&channel={channel}",
        hidden("of"),
        hidden("strategy"),
        hidden("params")
    );
    let path = session.post(&stage, "/watches", &form).await;
    assert_eq!(path, "/signals?done=watched");
    let watches = stage
        .call(Method::GET, "/v1/watches", Value::Null)
        .await
        .json();
    let watch = &watches["watches"][0];
    assert_eq!(watch["params"]["direction"], -1.0, "{watches}");
    assert_eq!(watch["channels"], json!([channel]));
}
