//! Access to the dashboard: who can sign in, for how long, and what each key can see and do. The
//! tests in `e2e/browser` cover what the pages look like and do.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use e2e::{API_KEY, READ_KEY, Reply, Stage};
use serde_json::{Value, json};

/// Text that would run a script if a page did not escape it.
const SCRIPT: &str = "\"'></textarea></title><script>alert(1)</script><img src=x onerror=alert(1)>";

/// A browser session: its cookie, and the CSRF token of its pages.
struct Session {
    cookie: String,
    csrf: String,
}

async fn sign_in(stage: &Stage, key: &str) -> Reply {
    let form = Request::post("/sign-in").body(Body::from(format!("key={key}&next=/")));
    stage.send(form.unwrap()).await
}

fn cookie(headers: &HeaderMap) -> String {
    let set = headers[header::SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

impl Session {
    async fn of(stage: &Stage, key: &str) -> Self {
        let reply = sign_in(stage, key).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
        let cookie = cookie(&reply.headers);
        let page = get(stage, "/", &cookie).await.text();
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap();
        let csrf = csrf.split('"').next().unwrap().to_owned();
        Self { cookie, csrf }
    }

    async fn get(&self, stage: &Stage, path: &str) -> Reply {
        get(stage, path, &self.cookie).await
    }

    async fn post(&self, stage: &Stage, path: &str, form: &str) -> Reply {
        post(
            stage,
            path,
            &self.cookie,
            &format!("csrf={}&{form}", self.csrf),
            &[],
        )
        .await
    }
}

async fn get(stage: &Stage, path: &str, cookie: &str) -> Reply {
    let request = Request::get(path).header(header::COOKIE, cookie);
    stage.send(request.body(Body::empty()).unwrap()).await
}

async fn post(
    stage: &Stage,
    path: &str,
    cookie: &str,
    form: &str,
    headers: &[(&str, &str)],
) -> Reply {
    let mut request = Request::post(path)
        .header(header::COOKIE, cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    stage
        .send(request.body(Body::from(form.to_owned())).unwrap())
        .await
}

/// Every route in the dashboard's source, with its methods.
fn routes() -> Vec<(String, Vec<Method>)> {
    let source = include_str!("../../ingest/src/dashboard.rs");
    let routes = source.split(".route(").skip(1).map(|rest| {
        let path = rest.split('"').nth(1).unwrap().to_owned();
        let handlers = rest.split(".route(").next().unwrap();
        let handlers = handlers.split(".layer(").next().unwrap();
        let mut methods = Vec::new();
        if handlers.contains("get(") {
            methods.push(Method::GET);
        }
        if handlers.contains("post(") {
            methods.push(Method::POST);
        }
        assert!(!methods.is_empty(), "{path}");
        (path, methods)
    });
    let routes: Vec<_> = routes.collect();
    assert!(routes.len() >= 30, "{}", routes.len());
    routes
}

/// A project with one object of every kind, all of whose texts are hostile.
struct Fixture {
    unique_key: String,
    uuid: String,
    channel: String,
    alert: String,
    key: String,
    watch: String,
    backtest: String,
}

async fn fixture(stage: &Stage) -> Fixture {
    let ok = |reply: Reply| {
        assert!(reply.status.is_success(), "{}", reply.text());
        reply.json()
    };
    let monitor = json!({"name": SCRIPT, "slug": "job", "tags": ["<script>alert(1)</script>"], "desc": SCRIPT, "period_s": 60, "grace_s": 60});
    let monitor = ok(stage.call(Method::POST, "/v1/monitors", monitor).await);
    let uuid = monitor["uuid"].as_str().unwrap().to_owned();
    let channel = stage
        .webhook(
            "http://127.0.0.1:9/<script>alert(1)</script>",
            json!({"name": SCRIPT}),
        )
        .await;
    for _ in 0..2 {
        let ping = Request::post(format!("/ping/{uuid}/fail"))
            .header(header::USER_AGENT, SCRIPT)
            .header("x-forwarded-for", SCRIPT)
            .body(Body::from(SCRIPT));
        stage.send(ping.unwrap()).await;
    }
    let metrics = json!({"monitor": "by-name", "metrics": {"load": 1.0}, "message": SCRIPT});
    stage.heartbeat(metrics).await;
    stage.carry().await;
    let alert = stage.alerts().await[0]["id"].as_str().unwrap().to_owned();
    ok(stage
        .call(
            Method::POST,
            "/v1/keys",
            json!({"scope": "read", "name": SCRIPT}),
        )
        .await);
    let keys = ok(stage.call(Method::GET, "/v1/keys", Value::Null).await);
    let key = keys["keys"][0]["id"].as_str().unwrap().to_owned();
    let page = json!({"name": SCRIPT, "status_page": {"title": SCRIPT, "tag": ""}});
    ok(stage.call(Method::PATCH, "/v1/project", page).await);
    let bars: Vec<Value> = (0..48)
        .map(|hour| json!({"time": format!("2025-11-{:02}T{:02}:00:00Z", 18 + hour / 24, hour % 24), "open": 9, "high": 9, "low": 9, "close": 9}))
        .collect();
    let bars = json!({"timeframe": "1h", "bars": bars});
    ok(stage.call(Method::POST, "/v1/series/walk/bars", bars).await);
    let strategy = json!({"description": SCRIPT, "buy": {"any": []}, "sell": {"any": []}});
    ok(stage
        .call(Method::PUT, "/v1/strategies/mine", strategy)
        .await);
    let watch = json!({"series": "walk", "timeframe": "1h", "strategy": "mine", "name": SCRIPT});
    let watch = ok(stage.call(Method::POST, "/v1/watches", watch).await);
    let test = json!({"series": "walk", "timeframe": "1h", "strategy": "trend-rsi"});
    let never = json!({"series": "walk", "timeframe": "1h", "strategy": "mine"});
    let backtest = ok(stage.call(Method::POST, "/v1/backtests", never).await);
    ok(stage.call(Method::POST, "/v1/signals", test).await);
    stage.carry().await;
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    Fixture {
        unique_key: monitor["unique_key"].as_str().unwrap().to_owned(),
        uuid,
        channel,
        alert,
        key,
        watch: id(&watch),
        backtest: id(&backtest),
    }
}

impl Fixture {
    /// A route with its parameters filled in, and a valid form for it.
    fn fill(&self, path: &str) -> (String, &'static str) {
        let id = match path {
            path if path.starts_with("/monitors") => &self.unique_key,
            path if path.starts_with("/channels") => &self.channel,
            path if path.starts_with("/alerts") => &self.alert,
            path if path.starts_with("/keys") => &self.key,
            path if path.starts_with("/watches") => &self.watch,
            path if path.starts_with("/backtests") => &self.backtest,
            _ => "",
        };
        let action = match path {
            "/monitors/{id}/{action}" => "pause",
            "/channels/{id}/{action}" => "test",
            "/keys/{id}/{action}" => "rotate",
            "/ping-key/{action}" => "rotate",
            "/settings/{action}" => "save",
            _ => "",
        };
        let form = match path {
            "/monitors/new" | "/monitors/{id}/edit" => {
                "name=stolen&kind=period&period=60&grace=60&all=on&failures=1"
            }
            "/channels" => "kind=email&to=a@example.org",
            "/keys" => "scope=write",
            "/watches" => "of=walk+1h&strategy=trend-rsi",
            "/backtests" => "of=walk+1h&strategy=trend-rsi",
            "/signals/{series}" => "timeframe=1h&strategy=trend-rsi",
            "/settings/{action}" => "name=stolen",
            _ => "",
        };
        let path = path.replace("{action}", action);
        let path = path
            .replace("backtests/{id}/{file}", "backtests/{id}/report.html")
            .replace("{id}", id)
            .replace("{series}", "walk")
            .replace("{file}", "style.css");
        (path.replace("{key}", "none").replace("{n}", "1"), form)
    }
}

/// Everything that the API shows of the first project, except its request counters.
async fn everything(stage: &Stage) -> Vec<String> {
    let mut shown = Vec::new();
    for path in [
        "/v1/monitors",
        "/v1/monitors/job",
        "/v1/channels",
        "/v1/alerts",
        "/v1/keys",
        "/v1/project",
        "/v1/watches",
        "/v1/series",
    ] {
        shown.push(stage.call(Method::GET, path, Value::Null).await.text());
    }
    shown
}

/// Whether a page needs no session.
fn is_public(path: &str) -> bool {
    [
        "/sign-in",
        "/status/",
        "/a/",
        "/confirm/",
        "/assets/",
        "/favicon.ico",
    ]
    .iter()
    .any(|public| path.starts_with(public))
}

#[tokio::test]
async fn every_page_requires_authorization() {
    let stage = Stage::with_admin().await;
    let fixture = fixture(&stage).await;
    let created = stage
        .admin(
            Method::POST,
            "/v1/projects",
            json!({"name": "thief", "plan": "owner"}),
        )
        .await;
    let thief = Session::of(&stage, created.json()["api_key"].as_str().unwrap()).await;
    let reader = Session::of(&stage, READ_KEY).await;
    let owner = Session::of(&stage, API_KEY).await;
    let before = everything(&stage).await;
    for (route, methods) in routes() {
        let (path, form) = fixture.fill(&route);
        for method in methods {
            let case = format!("{method} {path}");
            let none = Session {
                cookie: String::new(),
                csrf: String::new(),
            };
            if method == Method::GET {
                // Without a session, pages and the event stream redirect to the sign-in page.
                if !is_public(&path) {
                    let reply = none.get(&stage, &path).await;
                    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{case}");
                    let to = reply.headers[header::LOCATION].to_str().unwrap().to_owned();
                    assert!(to.starts_with("/sign-in"), "{case}: {to}");
                }
                // The deep check waits on the clock, which stands still here.
                if path == "/system" {
                    continue;
                }
                let own = owner.get(&stage, &path).await;
                // Their links are not valid here.
                let is_link = route == "/status/{key}"
                    || route.starts_with("/confirm/")
                    || route.starts_with("/a/");
                if !is_link && route != "/events" {
                    assert_eq!(own.status, 200, "{case}: {}", own.text());
                }
                let policy = own.headers[header::CONTENT_SECURITY_POLICY]
                    .to_str()
                    .unwrap();
                assert!(
                    policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                    "{case}"
                );
                assert!(
                    own.text().matches("<script").count() <= 1,
                    "{case}: {}",
                    own.text()
                );
                assert!(!own.text().contains("<img src=x"), "{case}");
                // Objects of another project are not found.
                let names_something = route.contains("{id}") || route.contains("{series}");
                let foreign = thief.get(&stage, &path).await;
                if names_something {
                    assert_eq!(foreign.status, 404, "{case}");
                }
                for secret in [
                    &fixture.uuid,
                    &fixture.unique_key,
                    &fixture.channel,
                    "alert(1)",
                ] {
                    assert!(!foreign.text().contains(secret), "{case} reveals {secret}");
                }
                // A read key sees nothing that allows writing.
                let read = reader.get(&stage, &path).await;
                for secret in [&*fixture.uuid, "127.0.0.1:9"] {
                    assert!(!read.text().contains(secret), "{case} reveals {secret}");
                }
            } else if route.starts_with("/confirm/") || route.starts_with("/a/") {
                // The link itself is the authorization; a visitor without a valid one changes nothing.
                let reply = none.post(&stage, &path, form).await;
                assert_eq!(reply.status, StatusCode::NOT_FOUND, "{case}");
            } else if route != "/sign-in" && route != "/sign-out" {
                let reply = none.post(&stage, &path, form).await;
                assert_eq!(reply.status, StatusCode::SEE_OTHER, "{case}");
                let reply = reader.post(&stage, &path, form).await;
                assert_eq!(
                    reply.status,
                    StatusCode::FORBIDDEN,
                    "{case}: {}",
                    reply.text()
                );
                // Refused without the session's token, with another session's, and from another
                // site.
                let forged = [
                    (form.to_owned(), None),
                    (format!("csrf={}&{form}", reader.csrf), None),
                    (
                        format!("csrf={}&{form}", owner.csrf),
                        Some(("sec-fetch-site", "cross-site")),
                    ),
                    (
                        format!("csrf={}&{form}", owner.csrf),
                        Some(("origin", "https://evil.example")),
                    ),
                ];
                for (form, header) in forged {
                    let headers: Vec<_> =
                        [("host", "localhost")].into_iter().chain(header).collect();
                    let reply = post(&stage, &path, &owner.cookie, &form, &headers).await;
                    assert_eq!(
                        reply.status,
                        StatusCode::FORBIDDEN,
                        "{case}: {}",
                        reply.text()
                    );
                }
                if route.contains("{id}") || route.contains("{series}") {
                    let reply = thief.post(&stage, &path, form).await;
                    assert_eq!(reply.status, 404, "{case}: {}", reply.text());
                }
            }
        }
    }
    assert_eq!(
        everything(&stage).await,
        before,
        "a request changed something"
    );
}

#[tokio::test]
async fn a_session_ends_on_expiry_sign_out_and_key_revocation() {
    let stage = Stage::new().await;
    let created = stage
        .call(
            Method::POST,
            "/v1/keys",
            json!({"scope": "write", "name": "laptop"}),
        )
        .await;
    let created = created.json();
    let (secret, id) = (
        created["key"].as_str().unwrap(),
        created["id"].as_str().unwrap(),
    );
    let session = Session::of(&stage, secret).await;
    assert_eq!(session.get(&stage, "/alerts").await.status, 200);
    assert!(!session.cookie.contains(secret));
    // Cookies can't be forged or altered.
    let (text, signature) = session.cookie.rsplit_once('.').unwrap();
    let parts: Vec<&str> = text.split('.').collect();
    let later = format!("{}.{}.{}.{signature}", parts[0], i64::MAX, parts[2]);
    let others = format!(
        "thrum={}.{}.{}.{signature}",
        thrum_schema::key::hash(API_KEY),
        parts[1],
        parts[2]
    );
    for forged in [
        later,
        others,
        text.to_owned(),
        "thrum=".to_owned(),
        "thrum=a.b.c.d".to_owned(),
    ] {
        let reply = get(&stage, "/alerts", &forged).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{forged}");
    }
    // A form is valid only in its own session, even for the same key.
    let again = Session::of(&stage, secret).await;
    let mixed = format!("csrf={}&for=1h", again.csrf);
    let reply = post(&stage, "/settings/snooze", &session.cookie, &mixed, &[]).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    // Signing out deletes the cookie.
    let reply = session.post(&stage, "/sign-out", "").await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert!(
        reply.headers[header::SET_COOKIE]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    // A session ends when its key is revoked, and a week after signing in.
    let reply = stage
        .call(Method::DELETE, &format!("/v1/keys/{id}"), Value::Null)
        .await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    stage.world.advance(31_000);
    assert_eq!(
        session.get(&stage, "/alerts").await.status,
        StatusCode::SEE_OTHER
    );
    let session = Session::of(&stage, API_KEY).await;
    stage.world.advance(7 * 86_400_000 - 1_000);
    assert_eq!(session.get(&stage, "/alerts").await.status, 200);
    stage.world.advance(1_000);
    assert_eq!(
        session.get(&stage, "/alerts").await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn the_cookie_is_bound_to_its_host_and_to_https() {
    let stage = Stage::new().await;
    let form = Request::post("/sign-in")
        .header("x-forwarded-proto", "https")
        .body(Body::from(format!("key={API_KEY}")));
    let reply = stage.send(form.unwrap()).await;
    let set = reply.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        set.starts_with("__Host-thrum=") && set.contains("; Secure"),
        "{set}"
    );
    for flag in [
        "; HttpOnly",
        "; SameSite=Lax",
        "; Path=/",
        "; Max-Age=604800",
    ] {
        assert!(set.contains(flag), "{set}");
    }
    // Over plain HTTP, as on localhost, browsers would reject a secure cookie.
    let set = sign_in(&stage, API_KEY).await;
    let set = set.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        set.starts_with("thrum=") && !set.contains("Secure"),
        "{set}"
    );
    for (key, next) in [("x", "/"), ("hcw_9123456789abcdefghijklmnopqr", "/")] {
        let form = Request::post("/sign-in").body(Body::from(format!("key={key}&next={next}")));
        let reply = stage.send(form.unwrap()).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert!(!reply.headers.contains_key(header::SET_COOKIE));
    }
    let form =
        Request::post("/sign-in").body(Body::from(format!("key={API_KEY}&next=//evil.example/")));
    let reply = stage.send(form.unwrap()).await;
    assert_eq!(reply.headers[header::LOCATION], "/");
    let form = Request::post("/sign-in")
        .header("sec-fetch-site", "cross-site")
        .body(Body::from(format!("key={API_KEY}")));
    assert_eq!(
        stage.send(form.unwrap()).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_status_page_is_public_while_it_is_enabled() {
    let stage = Stage::new().await;
    for (name, tag) in [("storefront", "public"), ("back-office", "internal")] {
        let monitor =
            json!({"name": name, "slug": name, "tags": [tag], "period_s": 60, "grace_s": 60});
        stage.call(Method::POST, "/v1/monitors", monitor).await;
    }
    let page = json!({"status_page": {"title": "Status", "tag": "public"}});
    let project = stage.call(Method::PATCH, "/v1/project", page).await.json();
    let path = project["status_page"]["path"].as_str().unwrap().to_owned();
    let shown = get(&stage, &path, "").await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    // The key in a badge's URL is the same, but does not give access to the status page.
    let (unsigned, _) = path.split_once('.').unwrap();
    for guessed in [
        unsigned.to_owned(),
        format!("{unsigned}."),
        format!("{unsigned}.x"),
    ] {
        assert_eq!(get(&stage, &guessed, "").await.status, 404, "{guessed}");
    }
    assert!(shown.text().contains("storefront") && !shown.text().contains("back-office"));
    // The page is cached for ten seconds, but changed settings apply at once.
    stage
        .call(Method::PATCH, "/v1/project", json!({"status_page": null}))
        .await;
    assert_eq!(get(&stage, &path, "").await.status, 404);
    let page = json!({"status_page": {"title": "Status", "tag": ""}});
    stage.call(Method::PATCH, "/v1/project", page).await;
    assert!(get(&stage, &path, "").await.text().contains("back-office"));
    stage
        .call(Method::POST, "/v1/project/badge-key", Value::Null)
        .await;
    assert_eq!(
        get(&stage, &path, "").await.status,
        404,
        "the page has a new URL"
    );
    for wrong in [
        json!({"status_page": {"title": ""}}),
        json!({"status_page": {"title": "x".repeat(101)}}),
        json!({"status_page": {"title": "x", "tag": "x".repeat(101)}}),
        json!({"status_page": ["x", "y"]}),
    ] {
        let reply = stage.call(Method::PATCH, "/v1/project", wrong).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        assert!(reply.text().contains("status_page"), "{}", reply.text());
    }
}

#[tokio::test]
async fn invalid_forms_are_rejected_and_change_nothing() {
    let stage = Stage::new().await;
    let session = Session::of(&stage, API_KEY).await;
    let before = everything(&stage).await;
    let long = format!("name={}", "x".repeat(70_000));
    for (path, form, status) in [
        ("/monitors/new", "", 400),
        ("/monitors/new", "name=x&period=soon&grace=60", 400),
        (
            "/monitors/new",
            "name=x&kind=schedule&schedule=never&grace=60",
            400,
        ),
        (
            "/monitors/new",
            "name=x&period=60&grace=60&windows=now",
            400,
        ),
        ("/monitors/new", "%ff%fe=%00&&&===", 400),
        ("/monitors/new", &*long, 413),
        ("/channels", "kind=pigeon", 400),
        ("/channels", "kind=webhook&url=nowhere", 400),
        (
            "/channels",
            "kind=email&to=a@example.org&daily_limit=NaN",
            400,
        ),
        ("/keys", "scope=all", 400),
        ("/keys/nobody00/rotate", "overlap=1d", 404),
        ("/keys/nobody00/fly", "", 404),
        ("/settings/snooze", "for=never", 400),
        ("/settings/fly", "", 404),
        ("/watches", "of=nothing&strategy=trend-rsi", 400),
        ("/backtests", "of=nothing+1h&strategy=trend-rsi", 404),
        (
            "/backtests",
            "of=nothing+1h&strategy=trend-rsi&from=yesterday",
            400,
        ),
        (
            "/signals/nothing",
            "timeframe=1h&strategy=trend-rsi&params=%5B",
            400,
        ),
        ("/alerts/nothing/redeliver", "", 404),
    ] {
        let reply = session.post(&stage, path, form).await;
        let case = &form[..form.len().min(80)];
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{path} {case}: {}",
            reply.text()
        );
    }
    for path in [
        "/monitors/%ff",
        "/signals/%2e%2e?timeframe=x",
        "/signals/walk?timeframe=1h&bar=%00",
        "/?page=99999999999999999999&sort=x&tag=%ff&status=x&q=%00",
        "/alerts?state=x&channel=x",
        "/backtests/x",
        "/status/%ff",
    ] {
        let reply = session.get(&stage, path).await;
        assert!(reply.status.as_u16() < 500, "{path}: {}", reply.text());
    }
    assert_eq!(everything(&stage).await, before);
}

#[tokio::test]
async fn page_size_and_request_rate_are_limited() {
    let stage = Stage::new().await;
    let session = Session::of(&stage, API_KEY).await;
    let created = stage
        .call(
            Method::POST,
            "/v1/monitors",
            json!({"slug": "loud", "period_s": 60}),
        )
        .await;
    let created = created.json();
    let (uuid, unique) = (
        created["uuid"].as_str().unwrap(),
        created["unique_key"].as_str().unwrap(),
    );
    for _ in 0..100 {
        let ping = Request::post(format!("/ping/{uuid}")).body(Body::from("<".repeat(10_000)));
        stage.send(ping.unwrap()).await;
    }
    let page = session.get(&stage, &format!("/monitors/{unique}")).await;
    assert!(page.bytes.len() < 600_000, "{}", page.bytes.len());
    let whole = session
        .get(&stage, &format!("/monitors/{unique}/pings/100"))
        .await;
    assert!(whole.bytes.len() > 10_000 && whole.status == 200);
    let gone = session
        .get(&stage, &format!("/monitors/{unique}/pings/101"))
        .await;
    assert_eq!(gone.status, 404);
    // Page views are free, but rate limited.
    let mut views = 0;
    let refused = loop {
        let reply = session.get(&stage, "/usage").await;
        if reply.status != 200 {
            break reply;
        }
        views += 1;
        assert!(views <= 1_000);
    };
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    assert!(views > 500, "{views}");
    let usage = stage
        .call(Method::GET, "/v1/usage", Value::Null)
        .await
        .json();
    assert!(
        usage["days"][0]["requests"].as_u64().unwrap() < 10,
        "{usage}"
    );
}

/// Without change notifications, the list of a large project may be a few seconds old, but the rows
/// on the displayed page are not.
#[tokio::test]
async fn displayed_rows_are_always_current() {
    let stage = Stage::new().await;
    let session = Session::of(&stage, API_KEY).await;
    for from in (0..300).step_by(100) {
        let batch =
            (from..from + 100).map(|n| json!({"monitor": format!("host-{n:03}"), "period_s": 60}));
        let batch = json!({"heartbeats": batch.collect::<Vec<_>>()});
        stage.call(Method::POST, "/v1/heartbeats", batch).await;
    }
    let list = async |path: &str| session.get(&stage, path).await.text();
    let before = list("/?sort=name").await;
    assert!(before.contains("All is well") && !before.contains("state s-down"));
    stage
        .heartbeat(json!({"monitor": "host-007", "status": "fail"}))
        .await;
    let after = list("/?sort=name").await;
    assert_eq!(after.matches("state s-down").count(), 1);
    stage.world.advance(10_000);
    assert!(list("/").await.contains("1 down"), "the counts follow");
}

/// What a monitor expects, what was not as expected, the usual range, and a button to accept a new level.
#[tokio::test]
async fn the_pages_show_what_is_expected_and_accept_a_new_level() {
    let stage = Stage::new().await;
    let session = Session::of(&stage, API_KEY).await;
    let form = "name=backup&slug=backup&kind=period&period=1+d&grace=2+h&all=on&failures=1&\
                expect=rows:+auto+direction%3D-1%0D%0Aduration:+max+30m";
    let saved = session.post(&stage, "/monitors/new", form).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.text());
    let shown = stage.monitor("backup").await;
    assert_eq!(
        shown["expect"],
        json!({
            "rows": { "detector": "auto", "params": { "direction": -1.0 }, "effect": "down" },
            "duration": { "max": 1800.0, "effect": "down" },
        })
    );
    for night in 0..40 {
        let rows = 1_000 + night * 7 % 13;
        stage
            .heartbeat(json!({ "monitor": "backup", "metrics": { "rows": rows } }))
            .await;
        stage.carry().await;
        stage.world.advance(86_400_000);
    }
    let half = json!({ "monitor": "backup", "metrics": { "rows": 500 } });
    assert_eq!(stage.heartbeat(half).await["status"], "down");
    stage.carry().await;
    // The one before has ended.
    let session = Session::of(&stage, API_KEY).await;
    let path = format!("/monitors/{}", shown["unique_key"].as_str().unwrap());
    let page = session.get(&stage, &path).await.text();
    for text in [
        "duration: max 30m",
        "auto direction=-1",
        "rows is 500, far below its usual ",
        "/signals/monitor%3Abackup%3Arows?timeframe=tick",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let edit = session.get(&stage, &format!("{path}/edit")).await.text();
    assert!(
        edit.contains("duration: max 30m\nrows: auto direction=-1"),
        "{edit}"
    );
    let alerts = session.get(&stage, "/alerts").await.text();
    assert!(
        alerts.contains("rows is 500, far below its usual "),
        "{alerts}"
    );
    let series = "/signals/monitor:backup:rows?timeframe=tick";
    let page = session.get(&stage, series).await.text();
    assert!(
        page.contains("This is the new normal") && page.contains("lower limit"),
        "{page}"
    );
    let since = page.split("name=\"accept\" value=\"").nth(1).unwrap();
    let since = since.split('"').next().unwrap();
    let form = format!("timeframe=tick&strategy=auto&accept={since}");
    let refused = {
        let reader = Session::of(&stage, READ_KEY).await;
        reader.post(&stage, series, &form).await
    };
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let accepted = session
        .post(&stage, "/signals/monitor:backup:rows", &form)
        .await;
    assert_eq!(
        accepted.status,
        StatusCode::SEE_OTHER,
        "{}",
        accepted.text()
    );
    stage.carry().await;
    stage.world.advance(86_400_000);
    let half = json!({ "monitor": "backup", "metrics": { "rows": 503 } });
    assert_eq!(stage.heartbeat(half).await["status"], "up");
}
