//! `thrum serve` in its own process, and a client that costs little next to it.

use anyhow::Context;
use e2e::API_KEY;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A server in its own process; ended when dropped.
pub struct Server {
    /// Where it listens, `127.0.0.1:40001`.
    pub address: String,
    child: Child,
}

impl Server {
    /// Starts the baseline: axum, answering OK to every ping.
    pub async fn floor() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::spawn(command.arg("floor")).await
    }

    /// Starts nginx, answering OK to every request, with its files in `directory`; `None` if it is
    /// not installed.
    pub async fn nginx(directory: &Path) -> anyhow::Result<Option<Self>> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let address = format!("127.0.0.1:{port}");
        let conf = directory.join("nginx.conf");
        std::fs::write(
            &conf,
            format!(
                "worker_processes 2; daemon off; pid {0}/pid; error_log {0}/log;\n\
                 events {{ worker_connections 1024; }}\n\
                 http {{ access_log off; keepalive_requests 1000000000;\n\
                 server {{ listen {address}; location / {{ return 200 \"OK\"; }} }} }}\n",
                directory.display()
            ),
        )?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&conf)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else { return Ok(None) };
        let server = Self { address, child };
        for _ in 0..100 {
            if server.connect().await.is_ok() {
                return Ok(Some(server));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::bail!("nginx did not listen within 2 s")
    }

    /// The CPU time that it and its child processes have used, in seconds.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        let id = self.id().context("the server has ended")?;
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let children = children.split_whitespace().map(str::to_owned);
        let mut ticks = 0_u64;
        for process in std::iter::once(id.to_string()).chain(children) {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
            let fields = stat.rsplit(')').next().context("fields")?;
            for field in fields.split_whitespace().skip(11).take(2) {
                ticks += field.parse::<u64>()?;
            }
        }
        // Linux counts a hundred ticks a second on every platform.
        Ok(ticks as f64 / 100.0)
    }

    /// Starts `thrum serve` on `data` at a free port, and waits until it listens.
    pub async fn start(data: &Path, args: &[&str]) -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1:0", data, args).await
    }

    /// [`Self::start`], at a given address.
    pub async fn start_at(address: &str, data: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([
                "serve",
                "--listen",
                address,
                "--allow-networks",
                "all",
                "--data",
            ])
            .arg(data)
            .args(args)
            .env("THRUM_API_KEY", API_KEY)
            .env("THRUM_PING_KEY", e2e::PING_KEY);
        Self::spawn(&mut command).await
    }

    /// Runs a command that prints the address it listens on.
    async fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let first = lines.next_line().await?.context("the server has ended")?;
        let address = first
            .strip_prefix("Thrum listens on http://")
            .context("an address")?
            .to_owned();
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { address, child })
    }

    /// Its process id; `None` after it was killed.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it like `kill -9`.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// A connection to it.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: vec![0; 256 * 1024],
        })
    }
}

/// Runs the server that [`Server::floor`] starts.
pub async fn serve_floor() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("Thrum listens on http://{}", listener.local_addr()?);
    let router = axum::Router::new().route("/ping/{id}", axum::routing::any(async || "OK"));
    Ok(axum::serve(listener, router).await?)
}

impl Drop for Server {
    /// Sends SIGTERM, which nginx passes on to its workers; SIGKILL would leave them running.
    fn drop(&mut self) {
        if let Some(id) = self.id() {
            let _ = std::process::Command::new("kill")
                .arg(id.to_string())
                .status();
        }
    }
}

/// A keep-alive connection: a client that costs little next to the server under test.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Posts JSON; any status but success is an error.
    pub async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, reply) = self.send("POST", path, &body.to_string()).await?;
        anyhow::ensure!(
            status < 300,
            "{path}: {status} {}",
            String::from_utf8_lossy(&reply)
        );
        Ok(serde_json::from_slice(&reply)?)
    }

    /// Sends a request; returns status and body.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: thrum\r\nx-api-key: {API_KEY}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut read = 0;
        loop {
            let n = self.stream.read(&mut self.buffer[read..]).await?;
            anyhow::ensure!(n > 0, "the server closed the connection");
            read += n;
            let text = &self.buffer[..read];
            let Some(head) = text.windows(4).position(|w| w == b"\r\n\r\n") else {
                continue;
            };
            let headers = std::str::from_utf8(&text[..head])?;
            let status = headers.split(' ').nth(1).context("a status")?.parse()?;
            let length: usize = headers
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            if read >= head + 4 + length {
                return Ok((status, text[head + 4..head + 4 + length].to_vec()));
            }
        }
    }
}
