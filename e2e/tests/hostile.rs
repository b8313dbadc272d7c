//! Attacks from the network on the running binary: whatever clients hold or send, heartbeats are
//! answered, nobody goes down falsely, and memory stays bounded.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const API_KEY: &str = "hcw_0123456789abcdefghijklmnopqr";
/// The connection preface of HTTP/2 and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// `thrum serve` in a process of its own, killed on drop.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it with at most `files` open files.
    fn start(data: &Path, files: u32, args: &str) -> Self {
        let thrum = env!("CARGO_BIN_EXE_e2e");
        let data = data.display();
        let script = format!(
            "ulimit -n {files}; exec {thrum} serve --listen 127.0.0.1:0 --data {data} \
             --allow-networks all {args}"
        );
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .env("THRUM_API_KEY", API_KEY)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.strip_prefix("Thrum listens on http://").unwrap();
        let address = address.parse().unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        let limit = Some(Duration::from_secs(5));
        stream.set_read_timeout(limit).unwrap();
        stream.set_write_timeout(limit).unwrap();
        stream
    }

    /// Sends a request on a new connection; returns the head and the body of the reply.
    fn request(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let mut stream = self.connect();
        let sent = write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: thrum\r\nx-api-key: {API_KEY}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        sent.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").expect("a reply");
        (head.to_owned(), body.to_owned())
    }

    fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (head, reply) = self.request(method, path, &body);
        assert!(head.starts_with("HTTP/1.1 20"), "{path}: {head}\n{reply}");
        serde_json::from_str(&reply).unwrap()
    }

    /// Sends a heartbeat over a new connection; how long the answer took.
    fn heartbeat(&self, name: &str) -> Duration {
        let started = Instant::now();
        let body = json!({"monitor": name, "period_s": 5, "grace_s": 5});
        self.json("POST", "/v1/heartbeats", &body);
        started.elapsed()
    }

    fn assert_no_alerts(&self) {
        let alerts = self.json("GET", "/v1/alerts", &Value::Null);
        assert_eq!(alerts["alerts"].as_array().unwrap().len(), 0, "{alerts}");
    }

    /// The memory that it holds now, in MiB.
    fn rss_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024
    }

    /// The cookie of a session of the dashboard.
    fn sign_in(&self, key: &str) -> String {
        let body = format!("key={key}");
        let (head, _) = self.request("POST", "/sign-in", &body);
        let cookie = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        cookie.expect(&head).split(';').next().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of `POST /sign-in`, which waits for its body, in HPACK without indexing and without Huffman codes.
fn head() -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x04, 8];
    block.extend(b"/sign-in");
    block.extend([0x01, 5]);
    block.extend(b"thrum");
    block
}

/// Opens a hostile connection of the given kind, and keeps it.
fn attack(server: &Server, kind: usize, cookie: &str) -> TcpStream {
    let mut stream = server.connect();
    // The server may close it at once: whatever fails from here on is its right.
    let _ = match kind {
        // Idle.
        0 => Ok(()),
        // A head that never ends, larger than what the server keeps.
        1 => stream.write_all(format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(390_000)).as_bytes()),
        // A body that never ends.
        2 => stream.write_all(
            format!(
                "POST /api/v3/checks/ HTTP/1.1\r\nhost: thrum\r\ncontent-length: 2000000\r\n\r\n{}",
                "x".repeat(60_000)
            )
            .as_bytes(),
        ),
        // Half-closed, with a request that waits for its body.
        3 => stream
            .write_all(b"POST /ping/x HTTP/1.1\r\nhost: thrum\r\ncontent-length: 9\r\n\r\nx")
            .and_then(|()| stream.shutdown(std::net::Shutdown::Write)),
        // A hundred HTTP/2 streams whose bodies never end.
        4 => {
            let mut bytes = PREFACE.to_vec();
            for n in 0..100 {
                bytes.extend(frame(1, 4, 2 * n + 1, &head()));
                bytes.extend(frame(0, 0, 2 * n + 1, &[b'x'; 500]));
            }
            stream.write_all(&bytes)
        }
        // An event stream.
        _ => stream.write_all(
            format!("GET /events HTTP/1.1\r\nhost: thrum\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n").as_bytes(),
        ),
    };
    stream
}

/// Lets this process open as many files as it may.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Whether the server closed a connection, or does so within the time limit of its socket.
fn is_closed(mut stream: &TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// 2,000 connections of six kinds.
#[test]
fn hostile_connections_keep_no_heartbeat_out() {
    raise_limit();
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 20_000, "");
    let names = ["a", "b", "c", "d", "e"];
    let cookie = server.sign_in(API_KEY);
    for name in names {
        server.heartbeat(name);
    }
    let mut held = Vec::new();
    let mut slowest = Duration::ZERO;
    let started = Instant::now();
    let mut beat = Instant::now();
    let mut most_mib = 0;
    while held.len() < 2_000 || started.elapsed() < Duration::from_secs(25) {
        if held.len() < 2_000 {
            held.push(attack(&server, held.len() % 6, &cookie));
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
        if beat.elapsed() > Duration::from_secs(1) {
            beat = Instant::now();
            for name in names {
                slowest = slowest.max(server.heartbeat(name));
            }
            most_mib = most_mib.max(server.rss_mib());
        }
    }
    println!("slowest heartbeat {slowest:?}, most memory {most_mib} MiB");
    // Clients wait ten seconds; a busy machine is slow by itself.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(most_mib < 256, "{most_mib} MiB");
    server.assert_no_alerts();
    // All but the event streams were closed, because they waited too long or were too many.
    for (kind, stream) in held.iter().enumerate().take(5) {
        assert!(is_closed(stream), "kind {kind} is still open");
    }
}

/// More idle connections than the server has file descriptors for.
#[test]
fn descriptors_are_left_for_heartbeats_and_deliveries() {
    raise_limit();
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1_024, "");
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", receiver.local_addr().unwrap());
    let channel = json!({"kind": "webhook", "url": url});
    server.json("POST", "/v1/channels", &channel);
    server.heartbeat("watched");
    let held: Vec<TcpStream> = (0..1_010).map(|_| server.connect()).collect();
    assert!(server.heartbeat("watched") < Duration::from_secs(1));
    server.assert_no_alerts();
    let failed = json!({"monitor": "watched", "status": "fail"});
    server.json("POST", "/v1/heartbeats", &failed);
    receiver.set_nonblocking(true).unwrap();
    let started = Instant::now();
    while receiver.accept().is_err() {
        assert!(started.elapsed() < Duration::from_secs(5), "no delivery");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(held);
}

/// Event streams are limited by key, and end when their key is revoked.
#[test]
fn event_streams_are_limited_and_end_with_their_key() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1_024, "");
    let new = json!({"name": "laptop", "scope": "read"});
    let key = server.json("POST", "/v1/keys", &new);
    let cookie = server.sign_in(key["key"].as_str().unwrap());
    let open = || {
        let mut stream = attack(&server, 5, &cookie);
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (String::from_utf8_lossy(&status).into_owned(), stream)
    };
    let held: Vec<(String, TcpStream)> = (0..16).map(|_| open()).collect();
    assert!(held.iter().all(|(status, _)| status.ends_with("200")));
    assert!(open().0.ends_with("429"));
    let revoked = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    assert!(
        server
            .request("DELETE", &revoked, "")
            .0
            .starts_with("HTTP/1.1 20")
    );
    for (_, stream) in &held {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert!(is_closed(stream));
    }
}
