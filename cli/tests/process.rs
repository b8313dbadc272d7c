//! Starts, stops and kills the real binary, and calls it over HTTP.

use crate::support::{self, Hook, Mailbox, Thrum, skip_without_python};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the killed process had claimed is void: only one process uses the directory.
#[test]
fn after_a_crash_alerts_do_not_wait_for_dead_claims() {
    // It accepts connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut thrum = Thrum::start(directory.path(), &[]);
    let url = format!("http://{address}/");
    thrum.post("/v1/channels", json!({"kind": "webhook", "url": url}));
    let failed = json!({"monitor": "web-01", "status": "fail"});
    thrum.post("/v1/heartbeats", failed);
    let state = |thrum: &Thrum| {
        let alerts = thrum.get("/v1/alerts");
        alerts["alerts"][0]["deliveries"][0]["state"].clone()
    };
    support::wait_until(Duration::from_secs(5), || state(&thrum) == "claimed");
    thrum.signal("KILL");
    thrum.wait();
    drop(silent);
    let hook = Hook::at(address);
    let thrum = Thrum::start(directory.path(), &[]);
    let started = Instant::now();
    hook.wait_for(1, Duration::from_secs(10));
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    support::wait_until(Duration::from_secs(5), || state(&thrum) == "sent");
}

/// An address that was not asked by its owner gets one mail, and nothing else before it confirms.
#[test]
fn a_mail_address_gets_no_alerts_before_it_confirms() {
    let Some(python) = skip_without_python() else {
        return;
    };
    let mailbox = Mailbox::start(&python);
    let directory = tempfile::tempdir().unwrap();
    let site = ["--site-url", "https://thrum.example.org"];
    let args = [
        "--smtp-url",
        &mailbox.url,
        "--confirm-mail",
        "on",
        site[0],
        site[1],
    ];
    let thrum = Thrum::start(directory.path(), &args);
    let channel = json!({"kind": "email", "to": "ops@example.org", "name": "buy now"});
    let channel = thrum.post("/v1/channels", channel);
    mailbox.wait_for(1, Duration::from_secs(10));
    // Quoted-printable breaks long lines.
    let asked = mailbox.mails()[0].replace("=\r\n", "").replace("=\n", "");
    assert!(asked.contains("Subject: Confirm this address"), "{asked}");
    assert!(
        !asked.contains("buy now"),
        "it has nothing that a user wrote"
    );
    thrum.post(
        "/v1/heartbeats",
        json!({"monitor": "web-01", "status": "fail"}),
    );
    let path = format!("/v1/channels/{}", channel["id"].as_str().unwrap());
    let subscription = |thrum: &Thrum| thrum.get(&path)["subscription"]["state"].clone();
    support::wait_until(Duration::from_secs(5), || subscription(&thrum) == "pending");
    let failing = |thrum: &Thrum| thrum.get(&path)["failing"]["last_error"].to_string();
    let waits = || failing(&thrum).contains("has not confirmed");
    support::wait_until(Duration::from_secs(5), waits);
    let link = asked
        .split_whitespace()
        .find_map(|word| word.split_once("/confirm/"));
    let link = format!("/confirm/{}", link.expect("a link").1);
    // Mail scanners open links: that confirms nothing.
    let (status, _) = thrum.reply("GET", &link, &Value::Null).unwrap();
    assert_eq!((status, subscription(&thrum)), (200, json!("pending")));
    let wrong = format!("{link}0");
    assert_eq!(thrum.reply("POST", &wrong, &Value::Null).unwrap().0, 404);
    assert_eq!(mailbox.mails().len(), 1);
    assert_eq!(thrum.reply("POST", &link, &Value::Null).unwrap().0, 200);
    mailbox.wait_for(2, Duration::from_secs(20));
    assert!(mailbox.mails()[1].contains("Subject: DOWN: web-01"));
    // Another address must confirm for itself.
    thrum.patch(&path, json!({"to": "stranger@example.org"}));
    mailbox.wait_for(3, Duration::from_secs(10));
    assert!(mailbox.mails()[2].contains("Subject: Confirm this address"));
    assert_eq!(subscription(&thrum), "pending");
}

/// A preset key that was revoked stays revoked.
#[test]
fn a_restart_does_not_bring_revoked_keys_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut thrum = Thrum::start(directory.path(), &[]);
    let other = thrum.post("/v1/keys", json!({"scope": "write", "name": "other"}));
    let keys = thrum.get("/v1/keys");
    let preset = keys["keys"].as_array().unwrap().iter();
    let preset = preset.clone().find(|key| key["name"] == "first").unwrap();
    let path = format!("/v1/keys/{}", preset["id"].as_str().unwrap());
    let (status, _) = thrum.reply("DELETE", &path, &Value::Null).unwrap();
    assert_eq!(status, 204);
    thrum.signal("TERM");
    thrum.wait();
    let thrum = Thrum::start(directory.path(), &[]);
    let (status, _) = thrum.reply("GET", "/v1/monitors", &Value::Null).unwrap();
    assert_eq!(status, 401);
    assert!(other["key"].is_string());
}

#[test]
fn down_and_up_are_notified_once_by_webhook_and_mail() {
    let Some(python) = skip_without_python() else {
        return;
    };
    let hook = Hook::start();
    let mailbox = Mailbox::start(&python);
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &["--smtp-url", &mailbox.url]);
    thrum.post("/v1/channels", json!({"kind": "webhook", "url": hook.url}));
    thrum.post(
        "/v1/channels",
        json!({"kind": "email", "to": "ops@example.org"}),
    );
    let beat = json!({"monitor": "web-01", "period_s": 2, "grace_s": 1});
    let answer = thrum.post("/v1/heartbeats", beat.clone());
    let deadline = answer["results"][0]["deadline"]
        .as_str()
        .unwrap()
        .to_owned();
    let begun = Instant::now();
    hook.wait_for(1, Duration::from_secs(10));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(2_900), "{took:?}");
    let down = hook.bodies().remove(0);
    assert_eq!(down["type"], "monitor.down");
    assert_eq!(down["data"]["flip_at"], deadline, "dated at the deadline");
    mailbox.wait_for(1, Duration::from_secs(10));
    thrum.post(
        "/v1/heartbeats",
        json!({"monitor": "web-01", "period_s": 3_600}),
    );
    hook.wait_for(2, Duration::from_secs(10));
    mailbox.wait_for(2, Duration::from_secs(10));
    std::thread::sleep(Duration::from_secs(1));
    let kinds: Vec<Value> = hook
        .bodies()
        .iter()
        .map(|body| body["type"].clone())
        .collect();
    assert_eq!(kinds, ["monitor.down", "monitor.up"]);
    let mails = mailbox.mails();
    assert_eq!(mails.len(), 2, "{mails:?}");
    assert!(mails[0].contains("Subject: DOWN: web-01"), "{}", mails[0]);
    assert!(mails[1].contains("Subject: UP: web-01"));
    assert!(mails[0].contains("text/plain") && mails[0].contains("text/html"));
    let alert = down["data"]["alert_id"].as_str().unwrap();
    assert!(
        mails[0].contains(&format!("Message-ID: <{alert}.")),
        "a stable Message-ID"
    );
}

#[test]
fn sigterm_drains_and_exits_with_success() {
    let directory = tempfile::tempdir().unwrap();
    let mut thrum = Thrum::start(directory.path(), &[]);
    thrum.post("/v1/heartbeats", json!({"monitor": "web-01"}));
    thrum.signal("TERM");
    assert!(thrum.wait().success());
    // A second server on the same data directory refuses to start.
    let thrum = Thrum::start(directory.path(), &[]);
    assert_eq!(thrum.get("/v1/monitors")["monitors"][0]["pings"], 1);
    let output = Thrum::command(directory.path(), &["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("in use by another thrum"), "{error}");
}

#[test]
fn a_restart_keeps_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let mut thrum = Thrum::start(directory.path(), &[]);
    thrum.post("/v1/channels", json!({"kind": "webhook", "url": hook.url}));
    let answer = thrum.post(
        "/v1/heartbeats",
        json!({"monitor": "web-01", "period_s": 1, "grace_s": 1}),
    );
    let deadline = answer["results"][0]["deadline"].clone();
    thrum.signal("KILL");
    thrum.wait();
    std::thread::sleep(Duration::from_secs(3));
    let _thrum = Thrum::start(directory.path(), &[]);
    hook.wait_for(1, Duration::from_secs(10));
    let down = &hook.bodies()[0];
    assert_eq!(down["data"]["flip_at"], deadline);
    assert_eq!(
        down["data"].get("outage"),
        None,
        "a downtime this short is not an outage"
    );
}

#[test]
fn the_monitors_ping_channels_and_keys_commands_work() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_thrum"))
            .args(args)
            .env("THRUM_URL", &thrum.url)
            .env("THRUM_API_KEY", support::API_KEY)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    assert_eq!(run(&["monitors"]), (true, "No monitors.\n".into()));
    let url = format!("{}/ping/{}/job?create=1", thrum.url, support::PING_KEY);
    assert_eq!(run(&["ping", &url]), (true, "Created\n".into()));
    assert!(run(&["monitors"]).1.contains("job"));
    let (ok, text) = run(&["monitors", "show", "job", "--json"]);
    assert!(ok && text.contains("\"pings\": 1"), "{text}");
    let (ok, text) = run(&["channels", "add", "email", "ops@example.org"]);
    assert!(ok, "{text}");
    assert!(run(&["channels"]).1.contains("ops@example.org"));
    let (ok, text) = run(&["channels", "add", "email", "nobody"]);
    assert!(!ok && text.contains("must be an e-mail address"), "{text}");
    let (ok, text) = run(&["keys", "create", "read", "--name", "board"]);
    assert!(ok && text.starts_with("hcr_"), "{text}");
    assert!(run(&["keys"]).1.contains("board"));
    let (ok, text) = run(&[
        "ping",
        &format!("{}/ping/{}/none", thrum.url, support::PING_KEY),
    ]);
    assert!(!ok && text.contains("not found"), "{text}");
}

/// 200 monitors go down and up while the process is killed repeatedly. Afterwards every flip has
/// its alert, every alert was delivered at least once with the same idempotency key, and no
/// answered heartbeat is missing.
#[test]
fn kills_lose_no_heartbeat_flip_or_alert() {
    const MONITORS: usize = 200;
    let kills = if std::env::var_os("THRUM_LONG_TESTS").is_some() {
        40
    } else {
        8
    };
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let mut thrum = Thrum::start(directory.path(), &[]);
    // One channel groups alerts and the other does not; neither may lose any.
    let grouped = Hook::start();
    thrum.post(
        "/v1/channels",
        json!({"kind": "webhook", "url": grouped.url}),
    );
    thrum.post(
        "/v1/channels",
        json!({"kind": "webhook", "url": hook.url, "group_threshold": 0}),
    );
    let names: Vec<String> = (0..MONITORS).map(|i| format!("host-{i:03}")).collect();
    // Heartbeats of each monitor that were answered with 200, and that were sent.
    let mut answered = vec![0_u64; MONITORS];
    let mut sent = vec![0_u64; MONITORS];
    for kill in 0..kills {
        let stop = AtomicBool::new(false);
        let clients = names.chunks(MONITORS / 4).zip(
            answered
                .chunks_mut(MONITORS / 4)
                .zip(sent.chunks_mut(MONITORS / 4)),
        );
        std::thread::scope(|scope| {
            let (thrum, stop) = (&thrum, &stop);
            for (names, (answered, sent)) in clients {
                scope.spawn(move || {
                    let mut first = true;
                    while !stop.load(Ordering::Relaxed) {
                        // Half of them are silent until the next kill, so they go down and come
                        // back.
                        for (i, name) in names.iter().enumerate() {
                            if (i + kill).is_multiple_of(2) || (first && kill == 0) {
                                let body = json!({"monitor": name, "period_s": 1, "grace_s": 0});
                                sent[i] += 1;
                                answered[i] +=
                                    u64::from(thrum.try_post("/v1/heartbeats", &body).is_some());
                            }
                        }
                        first = false;
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(1_500 + 350 * (kill as u64 % 4)));
            if kill == 0 {
                let all = || {
                    thrum.get("/v1/monitors")["monitors"]
                        .as_array()
                        .unwrap()
                        .len()
                        == MONITORS
                };
                support::wait_until(Duration::from_secs(60), all);
            }
            // Kill it under load.
            thrum.signal("KILL");
            stop.store(true, Ordering::Relaxed);
        });
        thrum.wait();
        thrum = Thrum::start(directory.path(), &[]);
    }
    // Without heartbeats, every monitor ends down, and all alerts are delivered.
    let expected: Vec<Vec<(String, String)>> = names
        .iter()
        .map(|name| alerting_flips(&thrum, name))
        .collect();
    let begun = Instant::now();
    loop {
        let (single, in_groups) = (delivered_flips(&hook), delivered_flips(&grouped));
        let missing = names.iter().zip(&expected).find_map(|(name, expected)| {
            let has = |delivered: &HashMap<String, Vec<(String, String)>>, flip| {
                delivered
                    .get(name)
                    .is_some_and(|flips| flips.contains(flip))
            };
            let missing = expected
                .iter()
                .find(|flip| !has(&single, *flip) || !has(&in_groups, *flip));
            missing.map(|flip| (name, flip))
        });
        let Some(missing) = missing else { break };
        let alerts = || thrum.get("/v1/alerts?limit=200")["alerts"].to_string();
        let patient = begun.elapsed() < Duration::from_secs(120);
        assert!(patient, "{missing:?} is not delivered: {}", alerts());
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("all delivered after {:?}", begun.elapsed());
    std::thread::sleep(Duration::from_secs(1));
    // Repeated deliveries of an alert have the same idempotency key.
    let mut ids: HashMap<String, Vec<String>> = HashMap::new();
    for (id, body) in hook.received() {
        ids.entry(text(&body["data"]["alert_id"]))
            .or_default()
            .push(id);
    }
    for (alert, ids) in &ids {
        let same = ids
            .iter()
            .all(|id| id.starts_with(alert.as_str()) && *id == ids[0]);
        assert!(same, "{ids:?}");
    }
    let repeated = ids.values().filter(|ids| ids.len() > 1).count();
    let delivered = delivered_flips(&hook);
    for (i, name) in names.iter().enumerate() {
        let pings = thrum.get(&format!("/v1/monitors/{name}"))["pings"]
            .as_u64()
            .unwrap();
        let (answered, sent) = (answered[i], sent[i]);
        let counted = (answered..=sent).contains(&pings);
        assert!(
            counted,
            "{name}: {answered} answered, {pings} counted, {sent} sent"
        );
        // In order of occurrence, ignoring repetitions.
        let (delivered, expected) = (&delivered[name], &expected[i]);
        let newest = &delivered[delivered.len() - expected.len()..];
        assert_eq!(newest, &expected[..], "{name}");
    }
    let pings: u64 = answered.iter().sum();
    let flips: usize = expected.iter().map(Vec::len).sum();
    println!(
        "{kills} kills, {pings} heartbeats, {flips} flips, {repeated} alerts delivered more than once"
    );
    assert!(flips > 2 * MONITORS, "too few flips: {flips}");
    drop(thrum);
    support::is_whole(&directory.path().join(thrum_store::sqlite::FILE));
}

/// The newest flips that alert, oldest first, each as its new status and its time. Waits for the
/// last one: the silent monitor goes down.
fn alerting_flips(thrum: &Thrum, name: &str) -> Vec<(String, String)> {
    let path = format!("/v1/monitors/{name}");
    support::wait_until(Duration::from_secs(60), || {
        thrum.get(&path)["flips"][0]["to"] == "down"
    });
    let monitor = thrum.get(&path);
    let flips = monitor["flips"].as_array().unwrap().iter().rev();
    flips
        .filter(|flip| flip["alert"] == true)
        .map(|flip| (text(&flip["to"]), text(&flip["at"])))
        .collect()
}

/// The flips that a hook received, by monitor, in the order of their first delivery.
fn delivered_flips(hook: &Hook) -> HashMap<String, Vec<(String, String)>> {
    let mut delivered: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for body in hook.bodies() {
        let data = &body["data"];
        let changes = data["changes"].as_array().cloned();
        for change in changes.unwrap_or_else(|| vec![data.clone()]) {
            let flips = delivered
                .entry(text(&change["monitor"]["name"]))
                .or_default();
            let flip = (text(&change["status"]), text(&change["flip_at"]));
            if !flips.contains(&flip) {
                flips.push(flip);
            }
        }
    }
    delivered
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn smoke_reports_each_check_and_cleans_up() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    let hook = Hook::start();
    thrum.post("/v1/channels", json!({"kind": "webhook", "url": hook.url}));
    let smoke = |url: &str, more: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_thrum"))
            .args(["smoke", url, "--patience", "1s"])
            .args(more)
            .env("THRUM_API_KEY", support::API_KEY)
            .output()
            .unwrap()
    };
    let quiet = smoke(&thrum.url, &[]);
    let said = String::from_utf8_lossy(&quiet.stdout);
    assert!(
        quiet.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&quiet.stderr)
    );
    assert_eq!(said.matches('✓').count(), 4, "{said}");
    assert!(
        hook.bodies().is_empty(),
        "without --channel it notifies nobody"
    );
    let monitors = thrum.get("/v1/monitors");
    assert_eq!(monitors["monitors"], json!([]), "it deletes its monitor");
    let nowhere = smoke("http://127.0.0.1:9", &[]);
    assert!(!nowhere.status.success());
    let said = String::from_utf8_lossy(&nowhere.stderr);
    assert!(said.contains("can't be reached"), "{said}");
}

#[test]
fn redrive_redelivers_dead_alerts() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &["--delivery-window", "1s"]);
    let nowhere = json!({"kind": "webhook", "url": "http://127.0.0.1:9/"});
    let channel = thrum.post("/v1/channels", nowhere);
    let redrive = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_thrum"))
            .arg("redrive")
            .args(more)
            .env("THRUM_URL", &thrum.url)
            .env("THRUM_API_KEY", support::API_KEY)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    assert_eq!(redrive(&[]), (true, "There are no dead alerts.\n".into()));
    thrum.post(
        "/v1/heartbeats",
        json!({"monitor": "job", "status": "fail"}),
    );
    let dead = || {
        let alerts = thrum.get("/v1/alerts?state=dead");
        alerts["alerts"].as_array().unwrap().len() == 1
    };
    support::wait_until(Duration::from_secs(30), dead);
    // Fix the channel, so that the next attempt succeeds.
    let hook = Hook::start();
    let path = format!("/v1/channels/{}", channel["id"].as_str().unwrap());
    thrum.patch(&path, json!({"url": hook.url}));
    assert_eq!(redrive(&[]), (true, "Redelivering 1 alert.\n".into()));
    hook.wait_for(1, Duration::from_secs(10));
    let (fine, said) = redrive(&["--queue", ""]);
    assert!(!fine && said.contains("--queue is empty"), "{said}");
}
