//! `thrum exec` beside a shell that runs the same command without it.

use crate::support::{self, Thrum};
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const EXEC: &str = concat!(
    env!("CARGO_BIN_EXE_thrum"),
    " exec --report-within 1s /wrong -- "
);

/// Runs a line of bash.
fn bash(line: &str, directory: &Path) -> Output {
    // With a second command, bash stays, and shows what ended the first.
    Command::new("bash")
        .args(["-c", &format!("{line}\nexit $?")])
        .current_dir(directory)
        .env("LC_ALL", "C")
        .env_remove("THRUM_PING_URL")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What the command wrote: the wrapper says something on lines of its own, and bash what was killed.
fn without_own_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().filter(|line| {
        !line.starts_with("thrum: ") && !line.contains("Killed") && *line != "Terminated"
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Every line has the same output and exit status with `thrum exec` in the place of `EXEC` as without it, although
/// the URL is wrong, and the wrapper says so.
#[test]
fn a_command_sees_what_it_would_see_without_exec() {
    let directory = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("plain", "echo plain $1; exit 4\n");
    std::fs::write(directory.path().join("data"), "not a program").unwrap();
    for line in [
        // Exit statuses.
        "EXEC true",
        "EXEC sh -c 'exit 3'",
        "EXEC sh -c 'exit 255'",
        "EXEC sh -c 'kill -9 $$'",
        "EXEC sh -c 'kill -TERM $$'",
        "EXEC ./plain word",
        "PATH=$PWD:$PATH; EXEC plain word",
        "EXEC yes | head -3000 | wc -l; echo ${PIPESTATUS[0]}",
        "(trap '' CHLD; EXEC sh -c 'exit 3')",
        // Output, in order, and what reads it.
        "EXEC echo hello world",
        "EXEC sh -c 'echo out; echo err >&2'",
        "EXEC sh -c 'for i in 1 2 3 4 5; do echo $i; echo $i >&2; done' 2>&1",
        "EXEC head -c 300000 /dev/urandom | wc -c",
        "EXEC seq 1 50000 | (sleep 1; md5sum)",
        "EXEC printf 'no newline'",
        "EXEC yes | head -1; echo ${PIPESTATUS[0]}",
        "EXEC sh -c 'yes >&2' 2> >(head -1); echo $?",
        "EXEC head -c 5000000 /dev/zero > /dev/full 2>/dev/null; test $? -ne 0; echo $?",
        "EXEC sh -c 'sleep 0.2; echo late' | true; echo ${PIPESTATUS[0]}",
        // Descriptors.
        "EXEC readlink /proc/self/fd/1 > file; cat file",
        "EXEC sh -c 'readlink /proc/self/fd/1 /proc/self/fd/2' > file 2>&1; cat file",
        "echo first > file; EXEC echo second >> file; cat file",
        "EXEC sh -c 'echo three >&3' 3> file; cat file",
        "echo input | EXEC cat",
        "EXEC sh -c 'read line || echo end' < /dev/null",
        "EXEC sh -c 'test -t 0 || test -t 1 || echo no terminal'",
        // Surroundings.
        "cd /tmp; EXEC pwd",
        "X=1 EXEC sh -c 'echo $X $#' a b c",
        "(trap '' HUP INT; EXEC grep SigIgn /proc/self/status)",
        "ulimit -n 99; EXEC sh -c 'ulimit -n'",
        "umask 027; EXEC sh -c umask",
        // A process in the background goes on.
        "EXEC sh -c '(sleep 0.5; echo background) & echo done' | cat",
        "EXEC sh -c 'sleep 9 & echo $!' > file; echo $?; kill $(cat file)",
    ] {
        let with = bash(&line.replace("EXEC ", EXEC), directory.path());
        let without = bash(&line.replace("EXEC ", ""), directory.path());
        assert_eq!(
            (with.status.code(), with.status.signal()),
            (without.status.code(), without.status.signal()),
            "{line}: {with:?}"
        );
        assert_eq!(
            without_own_lines(&with.stdout),
            without_own_lines(&without.stdout),
            "{line}"
        );
        assert_eq!(
            without_own_lines(&with.stderr),
            without_own_lines(&without.stderr).replace("bash: line 1: ", ""),
            "{line}"
        );
    }
    for (line, code, said) in [
        ("EXEC nonesuch", 127, "can't run nonesuch"),
        ("EXEC ./data", 126, "can't run ./data"),
        ("EXEC /", 126, "can't run /"),
    ] {
        let output = bash(&line.replace("EXEC ", EXEC), directory.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(
            stderr.contains(said) && stderr.contains("the ping URL is wrong"),
            "{stderr}"
        );
    }
}

/// The last ping of the monitor `job`: its type, exit status and body.
fn last(thrum: &Thrum) -> (String, u64, String) {
    let monitor = thrum.get("/v1/monitors/job");
    let ping = &monitor["last_pings"][0];
    let text = |name: &str| ping[name].as_str().unwrap_or_default().to_owned();
    (
        text("type"),
        ping["exit_status"].as_u64().unwrap_or(999),
        text("body"),
    )
}

#[test]
fn exec_reports_output_that_was_lost_as_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    let exec = format!(
        "{} exec '{}/ping/{}/job?create=1' -- ",
        env!("CARGO_BIN_EXE_thrum"),
        thrum.url,
        support::PING_KEY
    );
    let run = |line: &str| bash(&line.replace("EXEC ", &exec), directory.path());
    let disk_full = "mkdir full && mount -t tmpfs -o size=1m none full && EXEC head -c 5000000 /dev/zero > full/file";
    // Only root, or a user that may have namespaces, can mount.
    let mounted = bash("unshare -rm true", directory.path()).status.success();
    if mounted {
        let line = disk_full.replace("EXEC ", &exec);
        let output = Command::new("unshare")
            .args(["-rm", "bash", "-c", &line])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let (kind, code, _) = last(&thrum);
        assert_eq!((&*kind, code), ("fail", 1));
    } else {
        eprintln!("SKIPPED: can't mount a small disk");
    }
    // A pipe or a device fails after the command has written: it gets SIGPIPE, or the run fails without it.
    let output = run("EXEC head -c 5000000 /dev/zero > /dev/full");
    assert_eq!(output.status.code(), Some(141));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left on device"));
    let (kind, code, body) = last(&thrum);
    assert_eq!((&*kind, code), ("fail", 141));
    assert!(body.contains("output is incomplete"), "{body}");
    assert_eq!(run("EXEC echo short > /dev/full").status.code(), Some(1));
    assert_eq!(last(&thrum).1, 1);
    let begun = Instant::now();
    run("EXEC yes | head -1");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(last(&thrum).1, 141);
    // Files are read after the command: only what it wrote, up to 10,000 bytes, and cut at a character.
    run("echo before > file; EXEC echo after >> file");
    assert_eq!(last(&thrum).2, "after\n");
    run("EXEC sh -c 'echo one; echo two >&2' > file 2>&1");
    assert_eq!(last(&thrum).2, "one\ntwo\n");
    run("EXEC seq 1 9999 > file");
    assert!(last(&thrum).2.ends_with("9998\n9999\n"));
    run("EXEC printf 'ü%.0s' $(seq 6000)");
    let text = last(&thrum).2;
    assert!(
        text.starts_with("…ü") && text.len() > 9_900,
        "{}",
        text.len()
    );
    // Metrics are reported with it.
    let with_metrics = exec.replace(
        " -- ",
        " --metric rows=12.5 --metric n=1e+06 --metric duration=1 -- ",
    );
    let output = bash(&format!("{with_metrics} true"), directory.path());
    assert_eq!(
        thrum.get("/v1/monitors/job")["last_pings"][0]["metrics"],
        json!({"n": 1e6, "rows": 12.5})
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("--metric duration=1 was ignored"),
        "{stderr}"
    );
}

/// Each signal reaches the command when only the wrapper gets it; the wrapper stays until the command ends, and
/// reports how.
#[test]
fn exec_passes_signals_on_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    let url = format!("{}/ping/{}/job?create=1", thrum.url, support::PING_KEY);
    let start = |script: &str, group: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thrum"));
        command
            .args(["exec", &url, "--", "sh", "-c", script])
            .stdout(Stdio::piped());
        if group {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        let mut child = command.spawn().unwrap();
        // Until the command runs.
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        child
    };
    let kill = |signal: &str, pid: String| {
        let status = Command::new("kill")
            .args(["-s", signal, "--", &pid])
            .status();
        assert!(status.unwrap().success());
    };
    for (signal, number) in [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
    ] {
        let mut child = start("echo; exec sleep 30", false);
        kill(signal, child.id().to_string());
        assert_eq!(child.wait().unwrap().code(), Some(128 + number), "{signal}");
        assert_eq!(last(&thrum).1, 128 + u64::try_from(number).unwrap());
        // A command that cleans up takes its time, and has its own status.
        let script =
            format!("trap 'sleep 0.3; exit 7' {signal}; echo; while :; do sleep 0.05; done");
        let mut child = start(&script, false);
        kill(signal, child.id().to_string());
        assert_eq!(child.wait().unwrap().code(), Some(7), "{signal}");
        assert_eq!(last(&thrum).1, 7);
    }
    // To the group, as at the end of a session: the end is reported, in whatever order the signal arrives, and nothing
    // remains.
    for code in 1..9 {
        let script = format!("trap 'exit {code}' HUP; echo; while :; do sleep 0.01; done");
        let mut child = start(&script, true);
        kill("HUP", format!("-{}", child.id()));
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(last(&thrum).1, u64::try_from(code).unwrap());
    }
    let mut child = start("echo; exec sleep 30", true);
    kill("HUP", format!("-{}", child.id()));
    assert_eq!(child.wait().unwrap().code(), Some(129));
    assert_eq!(last(&thrum).1, 129);
    let group = child.id().to_string();
    let left = Command::new("pgrep").args(["-g", &group]).output().unwrap();
    assert_eq!(left.stdout, b"", "no orphan remains");
}

/// In a container, the leader of the session may be a process outside, which has no ID.
#[test]
fn exec_works_where_the_leader_of_its_session_is_outside() {
    let unshare = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--"]).args(command);
        unshare.env_remove("THRUM_PING_URL").output().unwrap()
    };
    if !unshare(&["true"]).status.success() {
        eprintln!("skipped: this machine does not allow another PID namespace");
        return;
    }
    let thrum = env!("CARGO_BIN_EXE_thrum");
    let done = unshare(&[
        thrum,
        "exec",
        "/wrong",
        "--",
        "sh",
        "-c",
        "echo ran; exit 7",
    ]);
    assert_eq!(done.status.code(), Some(7), "{done:?}");
    assert_eq!(done.stdout, b"ran\n");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(without_own_lines(&done.stderr), "", "{stderr}");
}

/// A terminal sends Ctrl-C to the whole process group, so the command gets it once; and when it is closed, only the
/// leader of the session gets SIGHUP, so that must be passed on.
#[test]
fn exec_treats_a_terminal_as_a_shell_does() {
    const TERMINAL: &str = r#"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
def read_until(word):
    global seen
    while word not in seen:
        seen += os.read(terminal, 1024)
read_until(b"ready")
os.write(terminal, b"\x03")
read_until(b"interrupted")
time.sleep(0.5)
os.close(terminal)
os.waitpid(pid, 0)
"#;
    let directory = tempfile::tempdir().unwrap();
    let script = "trap 'echo interrupted; echo int >> signals' INT; trap 'echo hup >> signals; exit 5' HUP
        echo ready; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 0.2; done";
    let done = Command::new("python3")
        .args([
            "-c",
            TERMINAL,
            env!("CARGO_BIN_EXE_thrum"),
            "exec",
            "--report-within",
            "1s",
            "/wrong",
            "--",
        ])
        .args(["sh", "-c", script])
        .current_dir(directory.path())
        .env_remove("THRUM_PING_URL")
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let signals = std::fs::read_to_string(directory.path().join("signals")).unwrap();
    assert_eq!(signals, "int\nhup\n");
}

/// A broken server delays nothing, and the wrapper says what is wrong within a second.
#[test]
fn exec_says_within_a_second_what_is_wrong_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let thrum = Thrum::start(directory.path(), &[]);
    let hanging = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let connections: Vec<_> = listener.incoming().collect();
            drop(connections);
        });
        address
    };
    let key = support::PING_KEY;
    for (url, said, at_once) in [
        (
            format!("http://{hanging}/ping/{key}/job"),
            "the server did not answer",
            false,
        ),
        (
            format!("http://{closed}/ping/{key}/job"),
            "Connection refused",
            false,
        ),
        (
            format!("{}/ping/{key}/none", thrum.url),
            "404 Not Found: not found",
            true,
        ),
        (
            format!("{}/ping/{key}/Nightly-Job", thrum.url),
            "try \"nightly-job\"",
            true,
        ),
        ("/reports".to_owned(), "must have the form http://", true),
        ("http://".to_owned(), "must have the form http://", true),
        (String::new(), "must have the form http://", true),
        (
            format!("{}/ping/{key}", thrum.url),
            "the slug is missing",
            true,
        ),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thrum"))
            .args([
                "exec",
                &url,
                "--report-within",
                "3s",
                "--",
                "sh",
                "-c",
                "echo ran; exit 9",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let mut line = String::new();
        let stderr = child.stderr.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
        // A second, and time to start on a busy machine.
        assert!(
            begun.elapsed() < Duration::from_millis(2_500),
            "{url}: {:?}",
            begun.elapsed()
        );
        assert!(line.contains(said), "{url}: {line}");
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), &*output.stdout),
            (Some(9), &b"ran\n"[..]),
            "{url}"
        );
        let limit = Duration::from_secs(if at_once { 3 } else { 6 });
        assert!(begun.elapsed() < limit, "{url}: {:?}", begun.elapsed());
    }
}

#[test]
fn exec_reports_start_exit_status_and_output_and_passes_the_code_on() {
    let directory = tempfile::tempdir().unwrap();
    let thrum = Thrum::start(directory.path(), &[]);
    let url = format!("{}/ping/{}/backup", thrum.url, support::PING_KEY);
    let run = |script: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_thrum"))
            .args(["exec", &url, "--create", "--", "sh", "-c", script])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    assert_eq!(run("echo done"), (Some(0), "done\n".into()));
    let monitor = thrum.get("/v1/monitors/backup");
    assert_eq!(
        (&monitor["status"], &monitor["pings"]),
        (&json!("up"), &json!(2))
    );
    let pings = &monitor["last_pings"];
    assert_eq!(
        (&pings[0]["type"], &pings[1]["type"]),
        (&json!("success"), &json!("start"))
    );
    assert_eq!(pings[0]["body"], "done\n");
    assert_eq!(pings[0]["rid"], pings[1]["rid"]);
    assert!(pings[0]["duration_ms"].is_number());
    // Only the end of a long output is kept. The exit code is the command's.
    let (code, text) = run("seq 1 5000; sleep 0.3; echo oops >&2; exit 7");
    assert_eq!((code, text.len()), (Some(7), 23_893));
    let monitor = thrum.get("/v1/monitors/backup");
    assert_eq!(monitor["status"], "down");
    let body = monitor["last_pings"][0]["body"].as_str().unwrap();
    assert!(
        body.len() <= 10_000
            && body.starts_with('…')
            && body.contains("oops")
            && body.contains("5000")
    );
    assert_eq!(run("kill -9 $$").0, Some(137));
    // The output and the URL, which contains a key, can both be kept private.
    let quiet = Command::new(env!("CARGO_BIN_EXE_thrum"))
        .args(["exec", "--no-output", "--", "echo", "secret"])
        .env("THRUM_PING_URL", &url)
        .output()
        .unwrap();
    assert_eq!(
        (quiet.status.code(), &*quiet.stdout),
        (Some(0), &b"secret\n"[..])
    );
    let monitor = thrum.get("/v1/monitors/backup");
    let last = &monitor["last_pings"][0];
    assert_eq!(
        (&monitor["pings"], &last["type"], &last["body"]),
        (&json!(8), &json!("success"), &json!(""))
    );
    // Without a server, the command still runs.
    drop(thrum);
    assert_eq!(run("echo still").1, "still\n");
}
