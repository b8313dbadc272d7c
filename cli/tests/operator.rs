//! What an operator does with the command, with the server's log, and with mail and receivers that refuse.

use crate::support::{self, Hook, Mailbox, Thrum, skip_without_python, wait_until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runs the command against a server.
fn run(thrum: &Thrum, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thrum"))
        .args(args)
        .env("THRUM_URL", &thrum.url)
        .env("THRUM_API_KEY", support::API_KEY)
        .output()
        .unwrap()
}

/// Its output, if it succeeds.
#[track_caller]
fn ok(thrum: &Thrum, args: &[&str]) -> String {
    let output = run(thrum, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Its errors, if it fails.
#[track_caller]
fn fails(thrum: &Thrum, args: &[&str]) -> String {
    let output = run(thrum, args);
    assert!(!output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn any_name_finds_its_monitor_and_channel() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    let hook = Hook::start();
    for name in ["Nightly Backup", "a/b?c#d%", "Größe", "web-01.5"] {
        ok(
            &thrum,
            &[
                "monitors", "add", name, "--period", "1h30m", "--tag", "prod,db",
            ],
        );
        let shown = ok(&thrum, &["monitors", "show", name]);
        assert!(
            shown.contains(name) && shown.contains("every 1h 30m"),
            "{shown}"
        );
        ok(
            &thrum,
            &["monitors", "set", name, "--grace", "15m", "--remind", "1h"],
        );
        let json: Value =
            serde_json::from_str(&ok(&thrum, &["monitors", "show", name, "--json"])).unwrap();
        assert_eq!(
            (&json["grace_s"], &json["remind_s"]),
            (&json!(900), &json!(3_600))
        );
        assert_eq!(json["tags"], json!(["prod", "db"]));
        ok(&thrum, &["monitors", "set", name, "--remind", "none"]);
        assert!(ok(&thrum, &["monitors", "pause", name]).contains("is paused"));
    }
    assert_eq!(
        thrum.get("/v1/monitors/Nightly%20Backup")["name"],
        "Nightly Backup"
    );
    ok(
        &thrum,
        &[
            "channels", "add", "webhook", &hook.url, "--name", "Ops team",
        ],
    );
    ok(&thrum, &["channels", "test", "Ops team"]);
    hook.wait_for(1, Duration::from_secs(10));
    ok(&thrum, &["channels", "delete", "Ops team"]);
    assert!(fails(&thrum, &["channels", "test", "Ops team"]).contains("there is no such channel"));
    thrum.post("/v1/monitors", json!({"name": "two words", "slug": "x"}));
    thrum.post("/v1/monitors", json!({"name": "two words", "slug": "y"}));
    let error = fails(&thrum, &["monitors", "pause", "two words"]);
    assert!(
        error.contains("several monitors have this slug or name"),
        "{error}"
    );
}

#[test]
fn monitors_are_exported_and_imported_as_people_mean_them() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = Thrum::start(here.path(), &[]);
    for monitor in [
        json!({"name": "a", "slug": "dup"}),
        json!({"name": "b", "slug": "dup"}),
        json!({"name": "no", "slug": "on", "schedule": "0 3 * * *", "tz": "America/Godthab"}),
        json!({"name": "snoozed", "period_s": 90, "snoozed_until": "2099-01-01T00:00:00Z"}),
    ] {
        let mut monitor = monitor;
        if monitor["name"] == "snoozed" {
            monitor["snoozed_until"] = Value::Null;
        }
        from.post("/v1/monitors", monitor);
    }
    from.post("/v1/monitors/snoozed/snooze", json!({"for_s": 86_400}));
    from.post("/v1/monitors/a/pause", Value::Null);
    let file = here.path().join("monitors.yaml");
    let file = file.to_str().unwrap();
    ok(&from, &["monitors", "export", file]);
    let to = Thrum::start(there.path(), &[]);
    let said = ok(&to, &["monitors", "import", file]);
    assert_eq!(said, "4 created, 0 updated, 0 unchanged\n");
    let list = |thrum: &Thrum| {
        let list = thrum.get("/v1/monitors")["monitors"].clone();
        let fields = [
            "name",
            "slug",
            "status",
            "snoozed_until",
            "schedule",
            "tz",
            "period_s",
        ];
        let list = list.as_array().unwrap().iter();
        list.map(|monitor| fields.map(|field| monitor[field].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        list(&from),
        list(&to),
        "shared slugs, snoozes and pauses arrive"
    );
    assert!(list(&to).iter().any(|monitor| monitor[5] == "America/Nuuk"));
    assert_eq!(
        ok(&to, &["monitors", "import", file]),
        "0 created, 0 updated, 4 unchanged\n"
    );
    // All errors at once, and nothing is half done.
    let wrong = here.path().join("wrong.yaml");
    std::fs::write(
        &wrong,
        "\u{feff}monitors:\n- {name: new, period_s: 15m, grace_s: 1h30m}\n- {name: x, period_s: soon, colour: red}\n\
         - {name: y, slug: Upper, failures: 0, channels: [nobody]}\n",
    )
    .unwrap();
    let wrong = wrong.to_str().unwrap();
    let errors = fails(&to, &["monitors", "import", wrong]);
    for error in [
        "nothing was imported; fix these 5 errors",
        "monitors[1] (x): period_s must be seconds, or a duration such as 15m",
        "monitors[1] (x): unknown field `colour`",
        "monitors[2] (Upper): slug must contain only lowercase letters",
        "monitors[2] (Upper): failures must be between 1 and 100",
        "monitors[2] (Upper): channels[0] can't be used",
    ] {
        assert!(errors.contains(error), "{error:?} is missing: {errors}");
    }
    assert_eq!(list(&to).len(), 4);
    std::fs::write(
        wrong,
        "\u{feff}monitors:\n- {name: new, period_s: 15m, grace_s: 1h30m, manual_resume: yes, slug: new, \
         expect: {rows: auto, duration: {max: 30m}}}\n",
    )
    .unwrap();
    ok(&to, &["monitors", "import", wrong]);
    assert_eq!(
        ok(&to, &["monitors", "import", wrong]),
        "0 created, 0 updated, 1 unchanged\n"
    );
    let shown = ok(&to, &["monitors", "show", "new"]);
    assert!(
        shown.contains("expects        duration: max 30m\n               rows: auto"),
        "{shown}"
    );
    for (rules, said) in [
        (
            "rows: min 1,000",
            "expect.rows.min must be a plain number such as 1000 (got \"1,000\")",
        ),
        ("rows", "must be METRIC: RULES"),
    ] {
        let refused = fails(&to, &["monitors", "set", "new", "--expect", rules]);
        assert!(refused.contains(said), "{rules}: {refused}");
    }
    let twice = [
        "monitors",
        "set",
        "new",
        "--expect",
        "rows: auto",
        "--expect",
        "rows: min 5",
    ];
    assert!(fails(&to, &twice).contains("--expect has rows twice"));
    ok(&to, &["monitors", "set", "new", "--expect", "none"]);
    assert_eq!(to.get("/v1/monitors/new")["expect"], json!({}));
    let new = to.get("/v1/monitors/new");
    assert_eq!(
        (&new["period_s"], &new["grace_s"], &new["manual_resume"]),
        (&json!(900), &json!(5_400), &json!(true))
    );
}

#[test]
fn lists_have_filters_pages_and_one_json_form() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &["--pings-per-minute", "0"]);
    for chunk in 0..5 {
        let names =
            (0..100).map(|i| json!({"monitor": format!("host-{chunk}{i:02}"), "period_s": 3_600}));
        thrum.post(
            "/v1/heartbeats",
            json!({"heartbeats": names.collect::<Vec<_>>()}),
        );
    }
    thrum.patch("/v1/monitors/host-007", json!({"tags": ["prod"]}));
    for host in ["host-007", "host-123"] {
        thrum.post("/v1/heartbeats", json!({"monitor": host, "status": "fail"}));
    }
    let zones = thrum.get("/v1/status")["time_zones"]["release"].clone();
    assert!(
        zones.as_str().is_some_and(|release| release >= "2026f"),
        "{zones}"
    );
    assert_eq!(ok(&thrum, &["monitors"]).lines().count(), 501);
    assert_eq!(ok(&thrum, &["monitors", "--limit", "3"]).lines().count(), 4);
    let down = ok(&thrum, &["monitors", "--down"]);
    assert!(
        down.lines().count() == 3 && down.contains("host-123"),
        "{down}"
    );
    assert!(
        down.contains("s ago") && !down.contains('\u{1b}'),
        "no colours in a pipe: {down}"
    );
    assert_eq!(
        ok(&thrum, &["monitors", "list", "--down", "--tag", "prod"])
            .lines()
            .count(),
        2
    );
    let json: Value = serde_json::from_str(&ok(&thrum, &["monitors", "--json"])).unwrap();
    assert_eq!(json["monitors"].as_array().unwrap().len(), 500);
    assert_eq!(ok(&thrum, &["alerts", "--limit", "1"]).lines().count(), 2);
    // The API's own pages.
    let mut cursor = String::new();
    let mut names = Vec::new();
    loop {
        let page = thrum.get(&format!("/v1/monitors?limit=150{cursor}"));
        let monitors = page["monitors"].as_array().unwrap();
        names.extend(monitors.iter().map(|monitor| monitor["name"].to_string()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let unique: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!((names.len(), unique.len()), (500, 500));
    let first = thrum.get("/v1/alerts?limit=1");
    let next = first["next_cursor"].as_str().unwrap();
    let second = thrum.get(&format!("/v1/alerts?limit=1&cursor={next}"));
    assert_ne!(first["alerts"][0]["id"], second["alerts"][0]["id"]);
    assert_eq!(second["next_cursor"], Value::Null);
    // An id that was made up, of the year 10889, costs no more than another.
    thrum.get("/v1/alerts?cursor=ffffffff-ffff-7fff-bfff-ffffffffffff");
    thrum.get("/v1/alerts?cursor=00000000-0000-7000-8000-000000000000");
    // Filters count before and after the word `list`, and for the list only.
    assert_eq!(
        ok(&thrum, &["monitors", "--down", "list"]).lines().count(),
        3
    );
    fails(&thrum, &["monitors", "--down", "pause", "host-001"]);
    for path in [
        "/v1/monitors?limit=0",
        "/v1/monitors?cursor=~",
        "/v1/alerts?cursor=x",
        "/v1/keys?limit=1001",
    ] {
        assert_eq!(
            thrum.reply("GET", path, &Value::Null).unwrap().0,
            400,
            "{path}"
        );
    }
}

/// A reader that is gone is no reason to panic.
#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    ok(&thrum, &["monitors", "add", "web"]);
    let (web, man) = (
        "web".to_owned(),
        directory.path().join("man").display().to_string(),
    );
    for args in [
        vec!["monitors"],
        vec!["monitors", "--json"],
        vec!["monitors", "show", &web],
        vec!["monitors", "pause", &web],
        vec!["monitors", "export"],
        vec!["alerts"],
        vec!["channels"],
        vec!["keys"],
        vec!["usage"],
        vec!["completions", "bash"],
        vec!["demo-bars", "--bars", "100"],
        vec!["--help"],
        vec!["man", &man],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thrum"))
            .args(&args)
            .env("THRUM_URL", &thrum.url)
            .env("THRUM_API_KEY", support::API_KEY)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
    assert!(directory.path().join("man/thrum-monitors-add.1").exists());
    // Options for AWS are where they apply only.
    for (command, applies) in [
        ("monitors", true),
        ("exec", false),
        ("serve", true),
        ("smoke", false),
    ] {
        let help = ok(&thrum, &[command, "--help"]);
        assert_eq!(help.contains("--table"), applies, "{command}");
    }
}

/// Logs end up in journals and collectors: the first keys must not.
#[test]
fn first_keys_are_written_to_a_private_file_unless_a_person_watches() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thrum"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 4_096];
        let n = child.stdout.as_mut().unwrap().read(&mut said).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        String::from_utf8_lossy(&said[..n]).into_owned()
    };
    let said = start();
    let file = directory.path().join("first-keys");
    assert!(
        said.contains(&file.display().to_string()) && !said.contains("hcw_"),
        "{said}"
    );
    let keys = std::fs::read_to_string(&file).unwrap();
    assert!(
        keys.contains("THRUM_API_KEY=hcw_") && keys.contains("THRUM_PING_KEY="),
        "{keys}"
    );
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(&file).unwrap();
    assert!(!start().contains("first-keys"), "they are shown once");
}

/// A receiver that asks to wait, and when it was asked.
fn busy_receiver(
    answer: impl Fn(usize) -> String + Send + 'static,
) -> (String, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let times = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&times);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 65_536];
            let _ = stream.read(&mut request);
            let n = {
                let mut times = shared.lock().unwrap();
                times.push(Instant::now());
                times.len()
            };
            let _ = stream.write_all(answer(n).as_bytes());
        }
    });
    (url, times)
}

#[test]
fn a_receiver_that_asks_to_wait_is_not_asked_before() {
    let closed = "content-length: 0\r\nconnection: close\r\n\r\n";
    let (seconds, by_seconds) = busy_receiver(move |n| match n {
        1 => format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\n{closed}"),
        _ => format!("HTTP/1.1 200 OK\r\n{closed}"),
    });
    let (date, by_date) = busy_receiver(move |n| match n {
        1 => {
            #[expect(clippy::disallowed_methods, reason = "what a receiver does")]
            let at = chrono::Utc::now() + chrono::TimeDelta::seconds(6);
            let at = at.format("%a, %d %b %Y %H:%M:%S GMT");
            format!("HTTP/1.1 503 Service Unavailable\r\nretry-after: {at}\r\n{closed}")
        }
        _ => format!("HTTP/1.1 200 OK\r\n{closed}"),
    });
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    for url in [seconds, date] {
        thrum.post("/v1/channels", json!({"kind": "webhook", "url": url}));
    }
    thrum.post(
        "/v1/heartbeats",
        json!({"monitor": "web", "status": "fail"}),
    );
    for times in [by_seconds, by_date] {
        wait_until(Duration::from_secs(30), || times.lock().unwrap().len() == 2);
        let times = times.lock().unwrap();
        let waited = times[1] - times[0];
        assert!(waited >= Duration::from_millis(4_900), "{waited:?}");
    }
}

/// A server that refuses an address for good: no retries, and its words are shown. The log has a line for that, as
/// JSON, with the alert's trace and without the address.
#[test]
fn a_refused_address_is_dead_at_once_with_the_servers_words() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let smtp = format!("smtp://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(b"220 test\r\n");
                let mut line = [0; 1_024];
                while let Ok(n @ 1..) = stream.read(&mut line) {
                    let reply: &[u8] = match &line[..4.min(n)] {
                        b"RCPT" => b"550 5.1.1 <ops@xn--exmple-cua.de>: no such user here\r\n",
                        b"QUIT" => b"221 bye\r\n",
                        _ => b"250 ok\r\n",
                    };
                    let _ = stream.write_all(reply);
                }
            });
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = Thrum::command(
        directory.path(),
        &["--smtp-url", &smtp, "--log-format", "json"],
    );
    command.stderr(std::fs::File::create(&log).unwrap());
    let thrum = Thrum::start_command(command);
    thrum.post(
        "/v1/channels",
        json!({"kind": "email", "to": "ops@exämple.de"}),
    );
    thrum.post(
        "/v1/heartbeats",
        json!({"monitor": "web", "status": "fail"}),
    );
    let delivery = || thrum.get("/v1/alerts")["alerts"][0]["deliveries"][0].clone();
    wait_until(Duration::from_secs(10), || delivery()["state"] == "dead");
    let error = delivery()["error"].to_string();
    assert!(
        error.contains("550") && error.contains("no such user here"),
        "{error}"
    );
    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let dead: Vec<&Value> = lines
        .iter()
        .filter(|line| {
            line["message"]
                .as_str()
                .unwrap_or_default()
                .contains("is dead")
        })
        .collect();
    assert_eq!(dead.len(), 1, "{log}");
    let trace = &thrum.get("/v1/alerts")["alerts"][0]["trace"];
    assert_eq!(dead[0]["span"]["trace"], *trace, "{log}");
    assert!(trace.is_string());
    let id = thrum.get("/v1/alerts")["alerts"][0]["id"].clone();
    let shown = ok(&thrum, &["alerts", "show", id.as_str().unwrap()]);
    for part in [
        "monitor.down",
        "web",
        "no such user here",
        trace.as_str().unwrap(),
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(
        log.contains("no such user here") && !log.contains("ops@"),
        "{log}"
    );
}

#[test]
fn international_mail_domains_are_sent_in_ascii() {
    let Some(python) = skip_without_python() else {
        return;
    };
    let mailbox = Mailbox::start(&python);
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &["--smtp-url", &mailbox.url]);
    thrum.post(
        "/v1/channels",
        json!({"kind": "email", "to": "ops@exämple.de"}),
    );
    thrum.post(
        "/v1/monitors",
        json!({"name": "=?utf-8?q?all_is_well?=", "slug": "spoof"}),
    );
    let path = format!("/ping/{}/spoof/fail", support::PING_KEY);
    thrum.reply("POST", &path, &Value::Null).unwrap();
    mailbox.wait_for(1, Duration::from_secs(10));
    let mail = &mailbox.mails()[0];
    assert!(mail.contains("To: ops@xn--exmple-cua.de"), "{mail}");
    let subject = mail
        .lines()
        .find(|line| line.starts_with("Subject:"))
        .unwrap();
    assert!(
        subject.contains("=?utf-8?B?") && !subject.contains("all_is_well"),
        "{subject}"
    );
}

/// One Thrum watches another, from another machine.
#[test]
fn a_second_thrum_alerts_when_the_first_is_not_well() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Thrum::start(directories[0].path(), &[]);
    let second = Thrum::start(directories[1].path(), &[]);
    let ping = format!("{}/ping/{}/first", second.url, support::PING_KEY);
    let (url, watch) = (
        first.url.clone(),
        ["watch", "--once", "--create", "--ping", &ping],
    );
    let watch = [&watch[..], &[&url]].concat();
    // The path to notify is checked, too, which takes a moment after the start.
    wait_until(Duration::from_secs(60), || {
        run(&second, &watch).status.success()
    });
    let status = || ok(&second, &["monitors", "show", "first", "--json"]);
    assert!(status().contains("\"status\": \"up\""), "{}", status());
    drop(first);
    let error = fails(&second, &watch);
    assert!(error.contains("is not well: no answer"), "{error}");
    let shown = status();
    assert!(shown.contains("\"status\": \"down\""), "{shown}");
    assert!(
        shown.contains("no answer"),
        "the reason is in the log: {shown}"
    );
    let nonsense = run(&second, &["watch", "--once", "ftp://x"]);
    assert!(!nonsense.status.success());
}
