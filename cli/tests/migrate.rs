//! Coming over from other programs: their URLs go on working.

use crate::support::{API_KEY, Thrum};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::process::{Command, Output};

fn run(thrum: &Thrum, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thrum"))
        .args(args)
        .env("THRUM_URL", &thrum.url)
        .env("THRUM_API_KEY", API_KEY)
        .output()
        .unwrap()
}

#[track_caller]
fn ok(thrum: &Thrum, args: &[&str]) -> String {
    let output = run(thrum, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ping(thrum: &Thrum, path: &str) -> (u16, String) {
    thrum.reply("GET", path, &Value::Null).expect("an answer")
}

/// A check of the old server, by the API that clients of Healthchecks know.
fn check(old: &Thrum, body: Value) -> Value {
    let (status, text) = old.reply("POST", "/api/v3/checks/", &body).unwrap();
    assert_eq!(status, 201, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn checks_of_healthchecks_come_over_with_their_ping_urls() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (Thrum::start(a.path(), &[]), Thrum::start(b.path(), &[]));
    old.post(
        "/v1/channels",
        json!({ "kind": "email", "to": "ops@example.org", "name": "mail" }),
    );
    let backup = check(
        &old,
        json!({
            "name": "Nightly backup", "slug": "backup", "tags": "prod db", "desc": "pg_dump",
            "schedule": "0 2 * * *", "tz": "Europe/Berlin", "grace": 600, "channels": "*",
            "failure_kw": "error", "filter_http_body": true, "methods": "POST",
        }),
    );
    let web = check(&old, json!({ "name": "web", "timeout": 60, "grace": 60 }));
    let uuid = backup["uuid"].as_str().unwrap();
    let web_uuid = web["uuid"].as_str().unwrap();
    let pause = format!("/api/v3/checks/{web_uuid}/pause");
    old.reply("POST", &pause, &json!({})).unwrap();

    let import = ["import", "healthchecks", &old.url, API_KEY];
    let dry = ok(&new, &[&import[..], &["--dry-run"]].concat());
    assert!(
        dry.contains("would create backup")
            && dry.contains("channel mail (email), checks that use it: 1"),
        "{dry}"
    );
    assert!(
        new.get("/v1/monitors")["monitors"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let done = ok(&new, &import);
    assert!(done.contains("2 created, 0 updated, 0 unchanged"), "{done}");
    // The URLs in crontabs work here, and mean the same.
    let (status, text) = ping(&new, &format!("/ping/{uuid}"));
    assert_eq!((status, &*text), (200, "OK"));
    let monitor = new.get(&format!("/v1/monitors/{uuid}"));
    assert_eq!(monitor["last_pings"][0]["type"], "ign", "only POSTs count");
    for (field, value) in [
        ("name", json!("Nightly backup")),
        ("slug", json!("backup")),
        ("tags", json!(["prod", "db"])),
        ("schedule", json!("0 2 * * *")),
        ("tz", json!("Europe/Berlin")),
        ("grace_s", json!(600)),
        ("methods", json!("POST")),
    ] {
        assert_eq!(monitor[field], value, "{field}: {monitor}");
    }
    assert_eq!(monitor["keywords"]["failure"], "error");
    assert_eq!(
        new.get(&format!("/v1/monitors/{web_uuid}"))["status"],
        "paused"
    );

    // Again: nothing changes, until something there does; then the difference is shown.
    let again = ok(&new, &import);
    assert!(
        again.contains("0 created, 0 updated, 2 unchanged"),
        "{again}"
    );
    new.post(
        "/v1/channels",
        json!({ "kind": "email", "to": "ops@example.org", "name": "mail" }),
    );
    let grace = format!("/api/v3/checks/{uuid}");
    old.reply("POST", &grace, &json!({ "grace": 900 })).unwrap();
    let dry = ok(&new, &[&import[..], &["--dry-run"]].concat());
    assert!(
        dry.contains("grace_s: 600 -> 900") && dry.contains("channels: [] -> [\"mail\"]"),
        "{dry}"
    );
    let done = ok(&new, &import);
    assert!(done.contains("0 created, 1 updated, 1 unchanged"), "{done}");
    // Version 1 of the API has fewer fields, but the ping URLs.
    for wrong in ["hcw_wrong0000000000000000000000000", "x"] {
        let refused = run(&new, &["import", "healthchecks", &old.url, wrong]);
        assert!(!refused.status.success());
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            stderr.contains("does not accept the key; it must be a read-write key"),
            "{stderr}"
        );
    }
}

/// A database with the tables of Uptime Kuma 1.23 that the import reads.
/// <https://github.com/louislam/uptime-kuma/tree/1.23.X/db>
fn kuma(path: &std::path::Path) {
    let database = Connection::open(path).unwrap();
    database
        .execute_batch(
            r#"
            CREATE TABLE monitor (id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR(150), active BOOLEAN DEFAULT 1 NOT NULL,
                user_id INTEGER, interval INTEGER DEFAULT 20 NOT NULL, url TEXT, type VARCHAR(20), weight INTEGER DEFAULT 2000,
                hostname VARCHAR(255), port INTEGER, created_date DATETIME DEFAULT (DATETIME('now')) NOT NULL,
                keyword VARCHAR(255), maxretries INTEGER NOT NULL DEFAULT 0, ignore_tls BOOLEAN DEFAULT 0 NOT NULL,
                upside_down BOOLEAN DEFAULT 0 NOT NULL, maxredirects INTEGER DEFAULT 10 NOT NULL, push_token VARCHAR(20) DEFAULT NULL,
                retry_interval INTEGER DEFAULT 0 NOT NULL, description TEXT DEFAULT NULL, parent INTEGER);
            CREATE TABLE notification (id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR(255), config VARCHAR(255),
                active BOOLEAN NOT NULL DEFAULT 1, user_id INTEGER NOT NULL, is_default BOOLEAN DEFAULT 0 NOT NULL);
            CREATE TABLE monitor_notification (id INTEGER PRIMARY KEY AUTOINCREMENT, monitor_id INTEGER NOT NULL, notification_id INTEGER NOT NULL);
            CREATE TABLE tag (id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR(255) NOT NULL, color VARCHAR(255) NOT NULL);
            CREATE TABLE monitor_tag (id INTEGER PRIMARY KEY AUTOINCREMENT, monitor_id INTEGER NOT NULL, tag_id INTEGER NOT NULL, value TEXT);
            INSERT INTO monitor (id, name, interval, type, maxretries, retry_interval, push_token, description)
                VALUES (1, 'Nightly backup', 3600, 'push', 2, 60, 'pAbC12345z', 'pg_dump');
            INSERT INTO monitor (id, name, interval, type, url) VALUES (2, 'web', 60, 'http', 'https://example.org');
            INSERT INTO monitor (id, name, interval, type, active, push_token) VALUES (3, 'old', 60, 'push', 0, 'zzz');
            INSERT INTO notification (id, name, config, user_id)
                VALUES (1, 'chat', '{"type":"telegram","telegramBotToken":"1:a","telegramChatID":"-100"}', 1),
                       (2, 'bark', '{"type":"Bark"}', 1),
                       (3, 'mail', '{"type":"smtp","smtpTo":"ops@example.org"}', 1);
            INSERT INTO monitor_notification (monitor_id, notification_id) VALUES (1, 1), (1, 2), (1, 3);
            INSERT INTO tag (id, name, color) VALUES (1, 'prod db', '#fff');
            INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (1, 1, '');
            "#,
        )
        .unwrap();
}

#[test]
fn push_monitors_of_uptime_kuma_come_over_with_their_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(&directory.path().join("data"), &[]);
    let file = directory.path().join("kuma.db");
    kuma(&file);
    let file = file.to_str().unwrap();
    let (status, text) = ping(&thrum, "/api/push/pAbC12345z?status=up&msg=OK&ping=");
    assert_eq!(status, 404);
    assert!(text.contains("Monitor not found"), "{text}");
    let dry = ok(&thrum, &["import", "uptime-kuma", file, "--dry-run"]);
    assert!(
        dry.contains("would create channel chat (telegram)"),
        "{dry}"
    );
    assert!(dry.contains("would create nightly-backup"), "{dry}");
    assert!(
        dry.contains("monitor web (http): Thrum does not poll"),
        "{dry}"
    );
    assert!(dry.contains("channel bark (Bark)"), "{dry}");
    let done = ok(&thrum, &["import", "uptime-kuma", file]);
    assert!(done.contains("2 created, 0 updated, 0 unchanged"), "{done}");
    let (status, text) = ping(&thrum, "/api/push/pAbC12345z?status=up&msg=OK&ping=12");
    assert_eq!((status, &*text), (200, "{\"ok\":true}"));
    let monitor = thrum.get("/v1/monitors/nightly-backup");
    assert_eq!(monitor["status"], "up");
    assert_eq!(
        (&monitor["period_s"], &monitor["grace_s"]),
        (&json!(3_600), &json!(120))
    );
    assert_eq!(monitor["tags"], json!(["prod-db"]));
    assert_eq!(monitor["channels"].as_array().unwrap().len(), 2);
    assert_eq!(monitor["last_pings"][0]["metrics"]["ping"], 12.0);
    let (status, _) = ping(&thrum, "/api/push/pAbC12345z?status=down&msg=disk%20full");
    assert_eq!(status, 200);
    let monitor = thrum.get("/v1/monitors/nightly-backup");
    assert_eq!(monitor["status"], "down");
    assert_eq!(monitor["last_pings"][0]["body"], "disk full");
    assert_eq!(thrum.get("/v1/monitors/old")["status"], "paused");
    let again = ok(&thrum, &["import", "uptime-kuma", file]);
    assert!(
        again.contains("0 created, 0 updated, 2 unchanged"),
        "{again}"
    );
    let other = directory.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE x (y)")
        .unwrap();
    let refused = run(&thrum, &["import", "uptime-kuma", other.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        stderr.contains("is not a database of Uptime Kuma"),
        "{stderr}"
    );
}
