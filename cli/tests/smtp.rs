//! Pings by e-mail: the SMTP server of `thrum serve`, as mail servers and scripts use it.

use crate::support::{PING_KEY, Thrum, wait_until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A connection, and the greeting.
struct Client {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let mut client = Self { stream, lines };
        assert_eq!(client.reply(), "220 Thrum ESMTP");
        client
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            self.lines.read_line(&mut line).unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    fn says(&mut self, text: &str) -> String {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.stream.write_all(b"\r\n").unwrap();
        self.reply()
    }
}

/// A server that receives mail for pings.example.org.
fn start(place: &std::path::Path) -> (Thrum, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let listen = address.to_string();
    let options = [
        "--smtp-listen",
        &listen,
        "--smtp-domain",
        "pings.example.org",
    ];
    (Thrum::start(place, &options), address)
}

#[test]
fn an_e_mail_is_a_ping_and_keywords_decide() {
    let place = tempfile::tempdir().unwrap();
    let (thrum, address) = start(place.path());
    let keywords = json!({"failure": "ERROR", "success": "done", "subject": true, "body": true});
    let made = json!({"name": "backup", "slug": "backup", "keywords": keywords});
    let made = thrum.post("/v1/monitors", made);
    let uuid = made["uuid"].as_str().unwrap();
    let mut client = Client::new(address);
    assert_eq!(client.says("EHLO db-01"), "250 ENHANCEDSTATUSCODES");
    for (command, reply) in [
        ("DATA", "503 5.5.1"),
        ("RCPT TO:<x@pings.example.org>", "503 5.5.1"),
        ("MAIL FROM:<cron@db-01> SIZE=2000000", "552 5.3.4"),
        ("MAIL FROM:<cron@db-01>", "250 2.1.0"),
        ("RCPT TO:<nobody@pings.example.org>", "550 5.1.1"),
        (
            "RCPT TO:<5d2f0b1e-1c3a-4a4e-9a52-3f0c6a1b2d3e@pings.example.org>",
            "550 5.1.1",
        ),
        (
            &format!("RCPT TO:<{uuid}@elsewhere.example.org>"),
            "550 5.1.1",
        ),
        (
            &format!("RCPT TO:<{}@pings.example.org>", uuid.to_uppercase()),
            "250 2.1.5",
        ),
        ("NOOP", "250"),
        ("STARTTLS", "502 5.5.1"),
        ("DATA", "354"),
    ] {
        let got = client.says(command);
        assert!(got.starts_with(reply), "{command}: {got}");
    }
    // A line that begins with a dot, and one that only looks like the end.
    let message = "Subject: backup\r\n\r\n..hidden\r\n. \r\nit is done\r\n.";
    assert_eq!(client.says(message), "250 2.0.0 recorded");
    let monitor = thrum.get("/v1/monitors/backup");
    let last = &monitor["last_pings"][0];
    assert_eq!(
        last["body"],
        "Subject: backup\r\n\r\n.hidden\r\n \r\nit is done\r\n"
    );
    assert_eq!(
        (&last["type"], &last["scheme"]),
        (&json!("success"), &json!("email"))
    );
    assert_eq!(last["ua"], "Email from cron@db-01");
    // All commands at once, by the ping key, and a failure.
    let all = format!(
        "MAIL FROM:<>\r\nRCPT TO:<{PING_KEY}+backup@PINGS.example.org>\r\nDATA\r\n\
         Subject: backup ERROR\r\n\r\nno space\r\n.\r\nQUIT"
    );
    assert!(client.says(&all).starts_with("250 2.1.0"));
    for reply in ["250 2.1.5", "354", "250 2.0.0 recorded", "221"] {
        let got = client.reply();
        assert!(got.starts_with(reply), "{reply}: {got}");
    }
    let monitor = thrum.get("/v1/monitors/backup");
    assert_eq!(
        (&monitor["status"], &monitor["pings"]),
        (&json!("down"), &json!(2))
    );
    assert!(monitor["flips"][0]["trace"].is_string(), "{monitor}");
}

#[test]
fn clients_that_misbehave_are_cut_off() {
    let place = tempfile::tempdir().unwrap();
    let (thrum, address) = start(place.path());
    let made = thrum.post("/v1/monitors", json!({"name": "backup", "slug": "backup"}));
    let to = format!(
        "RCPT TO:<{}@pings.example.org>",
        made["uuid"].as_str().unwrap()
    );
    let mut client = Client::new(address);
    for _ in 0..9 {
        assert!(client.says("HACK").starts_with("500 5.5.1"));
    }
    assert!(client.says("HACK").starts_with("421"));
    drop(client);
    let mut client = Client::new(address);
    client.says("HELO x");
    client.says("MAIL FROM:<a@b>");
    client.says(&to);
    assert!(client.says("DATA").starts_with("354"));
    let chunk = "x".repeat(1_000) + "\r\n";
    for _ in 0..1_100 {
        if client.stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    assert!(client.says(".").starts_with("552 5.3.4"));
    // The connection goes on; an empty message ends at once.
    client.says("MAIL FROM:<a@b>");
    for _ in 0..3 {
        assert!(client.says(&to).starts_with("250"));
    }
    assert!(client.says("DATA").starts_with("354"));
    assert_eq!(client.says("."), "250 2.0.0 recorded");
    let mut client = Client::new(address);
    let long = format!("EHLO {}", "x".repeat(10_000));
    assert!(client.says(&long).starts_with("500 5.5.2"));
    assert_eq!(thrum.get("/v1/monitors/backup")["pings"], Value::from(1));
    client.says("QUIT");
    let place = tempfile::tempdir().unwrap();
    let (_thrum, address) = start(place.path());
    let mut clients: Vec<Client> = (0..10).map(|_| Client::new(address)).collect();
    let mut line = String::new();
    let stream = TcpStream::connect(address).unwrap();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("421 4.3.2"), "{line}");
    assert!(clients[9].says("NOOP").starts_with("250"));
}

/// Python's smtplib, as a script would use it.
#[test]
fn a_script_can_send_pings() {
    let place = tempfile::tempdir().unwrap();
    let (thrum, address) = start(place.path());
    let made = thrum.post("/v1/monitors", json!({"name": "backup", "slug": "backup"}));
    let to = format!("{}@pings.example.org", made["uuid"].as_str().unwrap());
    let script = format!(
        "import smtplib\nfrom email.message import EmailMessage\n\
         m = EmailMessage()\nm['Subject'] = 'Grüße'\nm['From'] = 'a@b.example'\nm['To'] = '{to}'\n\
         m.set_content('für alle\\n.\\n')\n\
         with smtplib.SMTP('127.0.0.1', {}) as s:\n    s.send_message(m)\n",
        address.port()
    );
    let output = std::process::Command::new("python3")
        .args(["-c", &script])
        .output();
    let Ok(output) = output else { return };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(thrum.get("/v1/monitors/backup")["status"], "up");
}

/// One Thrum reports to another by e-mail.
#[test]
fn an_alert_of_one_thrum_is_a_ping_of_another() {
    let place = tempfile::tempdir().unwrap();
    let (receiver, address) = start(&place.path().join("receiver"));
    let keywords = json!({"failure": "DOWN", "success": "UP", "subject": true});
    let made = json!({"name": "other", "slug": "other", "keywords": keywords});
    let made = receiver.post("/v1/monitors", made);
    let server = format!("smtp://{address}");
    let sender = Thrum::start(&place.path().join("sender"), &["--smtp-url", &server]);
    let to = format!("{}@pings.example.org", made["uuid"].as_str().unwrap());
    sender.post("/v1/channels", json!({"kind": "email", "to": to}));
    for (status, shown) in [("fail", "down"), ("ok", "up")] {
        sender.post(
            "/v1/heartbeats",
            json!({"monitor": "backup", "status": status}),
        );
        wait_until(Duration::from_secs(20), || {
            receiver.get("/v1/monitors/other")["status"] == shown
        });
    }
}
