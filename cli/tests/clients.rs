//! Unmodified third-party clients and the `thrum` command, against the real binary.

use crate::support::{API_KEY, Hook, PING_KEY, Thrum, skip_without_python};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Output};

fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[test]
fn the_python_client_works_unmodified() {
    let Some(python) = skip_without_python() else {
        return;
    };
    let hook = Hook::start();
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    thrum.post(
        "/v1/channels",
        json!({"kind": "webhook", "url": hook.url, "name": "ops"}),
    );
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/clients/healthchecks_io_client.py"
    );
    let output = Command::new(python)
        .args([script, &thrum.url, API_KEY, PING_KEY])
        .output()
        .unwrap();
    assert!(succeeded(&output).ends_with("ok\n"));
}

/// `THRUM_TEST_TASK_MON` is the path of the task-mon binary.
#[test]
fn task_mon_works_unmodified() {
    let Some(task_mon) = std::env::var_os("THRUM_TEST_TASK_MON").map(PathBuf::from) else {
        eprintln!("SKIPPED: THRUM_TEST_TASK_MON is not set; see CONTRIBUTING.md");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    let created = thrum.post("/v1/monitors", json!({"name": "job", "slug": "job"}));
    let uuid = created["uuid"].as_str().unwrap();
    let base = format!("{}/ping", thrum.url);
    let run = |args: &[&str]| {
        let mut command = Command::new(&task_mon);
        command.args(["--base-url", &base]).args(args);
        command.output().unwrap()
    };
    let by_slug = ["--slug", "job", "--ping-key", PING_KEY];
    let commands: [&[&str]; 6] = [
        &["--uuid", uuid, "--", "echo", "hello"],
        &["--uuid", uuid, "--time", "--", "echo", "timed"],
        &[
            by_slug[0], by_slug[1], by_slug[2], by_slug[3], "--time", "--", "true",
        ],
        &[
            "--uuid",
            uuid,
            "--detailed",
            "--env",
            "--head",
            "--",
            "echo",
            "detailed",
        ],
        &["--uuid", uuid, "--ping-only", "--", "echo", "unsaid"],
        &[
            "--uuid",
            uuid,
            "--log",
            "--user-agent",
            "me",
            "--",
            "echo",
            "logged",
        ],
    ];
    for args in commands {
        succeeded(&run(args));
    }
    // task-mon reports the exit status, but itself exits with 0.
    succeeded(&run(&["--uuid", uuid, "--", "sh", "-c", "exit 7"]));
    let monitor = thrum.get("/v1/monitors/job");
    let pings: Vec<(&str, &str)> = monitor["last_pings"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|ping| {
            (
                ping["type"].as_str().unwrap(),
                ping["body"].as_str().unwrap().trim(),
            )
        })
        .collect();
    let kinds: Vec<&str> = pings.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        [
            "success", "start", "success", "start", "success", "success", "success", "log", "fail"
        ]
    );
    assert_eq!(pings[0].1, "hello");
    assert!(pings[5].1.contains("detailed") && pings[6].1.is_empty() && pings[7].1 == "logged");
    assert_eq!(monitor["status"], "down");
    assert!(
        monitor["last_pings"][6]["duration_ms"].is_i64(),
        "{}",
        monitor["last_pings"][6]
    );
}

/// `thrum …` against a running Thrum.
fn thrum(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thrum"));
    command
        .args(args)
        .env("THRUM_URL", url)
        .env("THRUM_API_KEY", API_KEY);
    command
}

#[test]
fn importing_an_export_is_idempotent() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (directory.path().join("one"), directory.path().join("other"));
    let (one, other) = (Thrum::start(&one, &[]), Thrum::start(&other, &[]));
    for server in [&one, &other] {
        server.post(
            "/v1/channels",
            json!({"kind": "email", "to": "ops@example.org", "name": "ops"}),
        );
    }
    one.post(
        "/v1/heartbeats",
        json!({"monitor": "web-01", "period_s": 60}),
    );
    one.post(
        "/v1/monitors",
        json!({
            "name": "Nightly backup", "slug": "backup", "tags": ["prod", "db"], "desc": "of everything: \"all\"",
            "schedule": "0 3 * * *", "tz": "Europe/Berlin", "grace_s": 600, "channels": ["ops"],
            "manual_resume": true, "methods": "POST", "keywords": {"failure": "ERROR", "http_body": true},
            "start_grace_s": 7200, "failures": 3, "early_s": 60, "all_runs": true, "remind_s": 3600,
            "windows": [{"cron": "0 3 * * 0", "duration_s": 3600, "tz": "UTC"}],
            "expect": {"rows": "auto min 5", "duration": {"max": "30m", "effect": "warn"}},
            "parents": ["web-01"],
        }),
    );
    for ending in ["yaml", "json"] {
        let file = directory.path().join(format!("monitors.{ending}"));
        let file = file.to_str().unwrap();
        succeeded(
            &thrum(&one.url, &["monitors", "export", file])
                .output()
                .unwrap(),
        );
        let dry = ["monitors", "import", file, "--dry-run"];
        let would = succeeded(&thrum(&other.url, &dry).output().unwrap());
        let import = ["monitors", "import", file];
        let said = succeeded(&thrum(&other.url, &import).output().unwrap());
        if ending == "yaml" {
            assert!(would.contains("would create backup") && would.contains("would create web-01"));
            assert_eq!(said, "2 created, 0 updated, 0 unchanged\n");
        } else {
            assert_eq!(said, "0 created, 0 updated, 2 unchanged\n");
        }
        // Both servers now export the same file.
        let exported = |server: &Thrum| {
            let args = ["monitors", "export", "--format", ending];
            succeeded(&thrum(&server.url, &args).output().unwrap())
        };
        assert_eq!(exported(&one), exported(&other));
    }
    let file = directory.path().join("monitors.yaml");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("grace_s: 600", "grace_s: 900");
    std::fs::write(&file, text).unwrap();
    let import = ["monitors", "import", file.to_str().unwrap()];
    let said = succeeded(&thrum(&other.url, &import).output().unwrap());
    assert_eq!(said, "0 created, 1 updated, 1 unchanged\n");
    let backup = other.get("/v1/monitors/backup");
    assert_eq!(backup["grace_s"], 900);
    assert_eq!(
        backup["parents"],
        json!([other.get("/v1/monitors/web-01")["unique_key"]])
    );
    let show = ["monitors", "show", "backup"];
    let shown = succeeded(&thrum(&other.url, &show).output().unwrap());
    assert!(shown.contains("depends on     web-01"), "{shown}");
    // Errors say what is wrong and where.
    for (text, error) in [
        ("monitors: 7", "has no list `monitors`"),
        (
            "monitors: [{name: x, period_s: 0}]",
            "monitors[0] (x): period_s must be between 1 and",
        ),
        (
            "monitors: [{tags: [a]}]",
            "monitors[0] (without a name): a slug or a name is required",
        ),
        (
            "monitors: [{name: x, parents: [web-01, y]}]",
            "monitors[0] (x): parents[1] can't be used: there is no such monitor",
        ),
        (
            "monitors: [{name: x, parents: [y]}, {slug: y, parents: [x]}]",
            "monitors[1] (y): parents can't be used: the monitor would depend on itself",
        ),
        ("{", "is not YAML"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = thrum(&other.url, &import).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(error),
            "{text}: {said}"
        );
    }
}

#[test]
fn the_command_manages_monitors_keys_and_projects() {
    let directory = tempfile::tempdir().unwrap();
    let admin_key = "admin-0123456789abcdefghijklmn";
    let server = Thrum::start(directory.path(), &["--admin-key", admin_key]);
    server.post("/v1/monitors", json!({"name": "job", "slug": "job"}));
    let run = |args: &[&str]| succeeded(&thrum(&server.url, args).output().unwrap());
    assert_eq!(run(&["monitors", "pause", "job"]), "job is paused.\n");
    assert_eq!(run(&["monitors", "resume", "job"]), "job is new.\n");
    assert!(run(&["monitors", "snooze", "job", "2h"]).starts_with("Snoozed until 20"));
    assert_eq!(run(&["monitors", "snooze", "job", "0s"]), "Snooze ended.\n");
    assert!(run(&["monitors", "show", "job", "--json"]).contains("\"slug\": \"job\""));
    assert!(run(&["usage"]).contains("REQUESTS"));
    let key = run(&["keys", "create", "read", "--name", "ci"]);
    assert!(key.starts_with("hcr_") && key.trim().len() == 32, "{key}");
    let keys = server.get("/v1/keys");
    let ci = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["name"] == "ci")
        .unwrap();
    let id = ci["id"].as_str().unwrap();
    assert!(run(&["keys", "rotate", id, "--overlap", "1h"]).starts_with("hcr_"));
    assert_eq!(run(&["keys", "revoke", id]), "Revoked.\n");
    assert_eq!(run(&["keys", "rotate-ping-key"]).trim().len(), 22);
    let projects = |args: &[&str]| {
        let mut command = thrum(&server.url, &["projects"]);
        command.args(args).env("THRUM_ADMIN_KEY", admin_key);
        succeeded(&command.output().unwrap())
    };
    let created = projects(&["create", "tenant", "--plan", "pro"]);
    let id = created
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .last()
        .unwrap()
        .to_owned();
    assert!(created.contains("API key") && created.contains("hcw_"));
    assert!(projects(&[]).contains("tenant"));
    assert_eq!(projects(&["plan", &id, "enterprise"]), "Changed.\n");
    assert_eq!(projects(&["delete", &id]), "Deleted.\n");
    assert_eq!(run(&["monitors", "delete", "job"]), "Deleted.\n");
    let refused = thrum(&server.url, &["projects"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("THRUM_ADMIN_KEY"));
}
