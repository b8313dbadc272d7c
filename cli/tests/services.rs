//! Channels to real receivers: Alertmanager (Debian's package) and Apprise (from PyPI).

use crate::support::{Hook, Thrum, skip_without_python, wait_until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use thrum_schema::UnixMs;
use thrum_schema::world::SystemWorld;

const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn beat(thrum: &Thrum, status: &str) {
    let body = json!({ "monitor": "backup", "status": status, "period_s": 600 });
    thrum.post("/v1/heartbeats", body);
}

fn thrum(directory: &Path) -> Thrum {
    let site = ["--site-url", "https://thrum.example.org"];
    Thrum::start(directory, &site)
}

#[test]
fn alertmanager_shows_what_is_down_until_it_is_up() {
    let Ok(binary) = std::env::var("THRUM_TEST_ALERTMANAGER") else {
        eprintln!("SKIPPED: THRUM_TEST_ALERTMANAGER is not set; see CONTRIBUTING.md");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("alertmanager.yml");
    std::fs::write(
        &config,
        "route:\n  receiver: none\nreceivers:\n  - name: none\n",
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let alertmanager = Command::new(binary)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.path={}",
            directory.path().join("am").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _alertmanager = Running(alertmanager);
    wait_until(PATIENCE, || TcpStream::connect(address).is_ok());
    let thrum = thrum(&directory.path().join("data"));
    let server = format!("http://{address}");
    let channel = json!({ "kind": "alertmanager", "settings": { "server": server } });
    thrum.post("/v1/channels", channel);
    let active = || -> Vec<Value> {
        let output = Command::new("curl")
            .args(["-fsS", &format!("{server}/api/v2/alerts?active=true")])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    beat(&thrum, "fail");
    wait_until(PATIENCE, || active().len() == 1);
    let alert = active().remove(0);
    assert_eq!(
        alert["annotations"]["summary"],
        "DOWN: backup reported a failure"
    );
    assert_eq!(alert["labels"]["severity"], "critical");
    let link = alert["generatorURL"].as_str().unwrap();
    assert!(link.starts_with("https://thrum.example.org/a/"), "{link}");
    // It does not end by itself after five minutes.
    let ends = alert["endsAt"].as_str().unwrap();
    let ends = UnixMs::parse("endsAt", ends).unwrap();
    assert!(ends - SystemWorld::arc().now() > 86_400_000);
    beat(&thrum, "ok");
    wait_until(PATIENCE, || active().is_empty());
}

#[test]
fn apprise_passes_an_alert_on() {
    let Some(python) = skip_without_python() else {
        return;
    };
    let hook = Hook::start();
    let target = hook.url.replace("http://", "json://");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/apprise_api.py");
    let mut api = Command::new(python)
        .args([script, &target])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let stdout = api.stdout.take().unwrap();
    let _api = Running(api);
    BufReader::new(stdout).read_line(&mut port).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let thrum = thrum(directory.path());
    let url = format!("http://127.0.0.1:{}/notify/key", port.trim());
    let channel = json!({ "kind": "apprise", "settings": { "url": url, "tag": "ops" } });
    thrum.post("/v1/channels", channel);
    beat(&thrum, "fail");
    hook.wait_for(1, PATIENCE);
    let got = hook.bodies().remove(0);
    assert_eq!(got["title"], "DOWN: backup reported a failure");
    assert_eq!(got["type"], "failure");
    let message = got["message"].as_str().unwrap();
    assert!(message.contains("backup has been DOWN since"), "{message}");
    // A key that Apprise does not have: no retry can help.
    let path = "/v1/channels/apprise";
    thrum.patch(
        path,
        json!({ "settings": { "url": url.replace("/key", "/other") } }),
    );
    beat(&thrum, "ok");
    let dead = || thrum.get("/v1/alerts")["alerts"][0]["state"] == "dead";
    wait_until(PATIENCE, dead);
}
