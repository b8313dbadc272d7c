//! The binary as a child process, a webhook receiver, and a third-party mail server.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Keys that the tests preset in the server's environment.
pub const API_KEY: &str = "hcw_0123456789abcdefghijklmnopqr";
pub const PING_KEY: &str = "0123456789abcdefghijkl";

/// A running `thrum serve`; killed on drop.
pub struct Thrum {
    /// Its URL.
    pub url: String,
    child: Child,
    agent: Agent,
}

impl Thrum {
    /// The command for `thrum serve` on `data`.
    pub fn command(data: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thrum"));
        command
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--allow-networks", "all"])
            .args(args)
            .env("THRUM_API_KEY", API_KEY)
            .env("THRUM_PING_KEY", PING_KEY);
        command
    }

    /// Starts the server, and waits until it listens.
    pub fn start(data: &Path, args: &[&str]) -> Self {
        Self::start_command(Self::command(data, args))
    }

    /// Starts a command from [`Self::command`].
    pub fn start_command(mut command: Command) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines
            .next()
            .expect("a first line with the address")
            .unwrap();
        let url = first
            .strip_prefix("Thrum listens on ")
            .expect(&first)
            .to_owned();
        // Drain its output, so that it never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let agent = Agent(url.strip_prefix("http://").unwrap().to_owned());
        Self { url, child, agent }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.agent.request("GET", path, "").expect("a reply");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub fn post(&self, path: &str, body: Value) -> Value {
        self.send("POST", path, &body)
    }

    pub fn patch(&self, path: &str, body: Value) -> Value {
        self.send("PATCH", path, &body)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.agent.request(method, path, &body.to_string());
        let (status, reply) = reply.expect("a reply");
        assert!((200..300).contains(&status), "{path}: {status} {reply}");
        serde_json::from_str(&reply).unwrap()
    }

    /// Status and body of the reply, if there is one.
    pub fn reply(&self, method: &str, path: &str, body: &Value) -> Option<(u16, String)> {
        self.agent.request(method, path, &body.to_string())
    }

    /// The body of the reply, if its status is 200 and no heartbeat in it has an error.
    pub fn try_post(&self, path: &str, body: &Value) -> Option<String> {
        let (status, reply) = self.agent.request("POST", path, &body.to_string())?;
        (status == 200 && !reply.contains("\"error\"")).then_some(reply)
    }
}

impl Drop for Thrum {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails unless the database passes SQLite's integrity check.
pub fn is_whole(database: &Path) {
    let connection = rusqlite::Connection::open(database).unwrap();
    let check = connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.unwrap(), "ok");
}

/// A minimal HTTP client with one connection per request.
struct Agent(String);

impl Agent {
    fn request(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.0).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nx-api-key: {API_KEY}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            self.0,
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok()?;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let status = reply.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = reply.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }
}

/// A webhook receiver that outlives the process under test.
pub struct Hook {
    /// Its URL.
    pub url: String,
    received: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hook {
    pub fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    /// A receiver at a given address.
    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve_hook(stream, &shared));
            }
        });
        Self { url, received }
    }

    /// `webhook-id` and body of each webhook so far.
    pub fn received(&self) -> Vec<(String, Value)> {
        self.received.lock().unwrap().clone()
    }

    pub fn bodies(&self) -> Vec<Value> {
        self.received().into_iter().map(|(_, body)| body).collect()
    }

    #[track_caller]
    pub fn wait_for(&self, count: usize, patience: Duration) {
        wait_until(patience, || self.received().len() >= count);
    }
}

/// Answers 200 to each request of a connection.
fn serve_hook(stream: TcpStream, received: &Mutex<Vec<(String, Value)>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let (mut id, mut length) = (String::new(), 0);
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 0 && line != "\r\n" {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_ascii_lowercase().as_str() {
                "webhook-id" => id = value.trim().to_owned(),
                "content-length" => length = value.trim().parse().ok()?,
                _ => {}
            }
            line.clear();
        }
        if line.is_empty() {
            return None;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body = serde_json::from_slice(&body).ok()?;
        received.lock().unwrap().push((id, body));
        writer
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}

/// A mail server (aiosmtpd), which prints every mail.
pub struct Mailbox {
    /// Its SMTP URL.
    pub url: String,
    child: Child,
    printed: Arc<Mutex<String>>,
}

impl Mailbox {
    pub fn start(python: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut child = Command::new(python)
            .args([
                "-u",
                "-m",
                "aiosmtpd",
                "-n",
                "-l",
                &format!("127.0.0.1:{port}"),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&printed);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                shared.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        wait_until(Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let url = format!("smtp://127.0.0.1:{port}");
        Self {
            url,
            child,
            printed,
        }
    }

    /// The mails received so far, as printed.
    pub fn mails(&self) -> Vec<String> {
        let printed = self.printed.lock().unwrap();
        printed
            .split("---------- MESSAGE FOLLOWS ----------")
            .skip(1)
            .filter(|mail| mail.contains("------------ END MESSAGE ------------"))
            .map(str::to_owned)
            .collect()
    }

    #[track_caller]
    pub fn wait_for(&self, count: usize, patience: Duration) {
        wait_until(patience, || self.mails().len() >= count);
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python interpreter with the third-party packages, from `THRUM_TEST_PYTHON`. Without it,
/// prints that the test is left out.
pub fn skip_without_python() -> Option<PathBuf> {
    let python = std::env::var_os("THRUM_TEST_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!(
            "SKIPPED: THRUM_TEST_PYTHON is not set; see CONTRIBUTING.md for the packages it needs"
        );
    }
    python
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(patience: Duration, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < patience,
            "the condition did not hold within {patience:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
