//! `thrum serve` in a process of its own, and a client that costs little beside it.

use anyhow::Context;
use e2e::API_KEY;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A server in a process of its own; killed when it is dropped.
pub struct Server {
    /// Where it listens, `127.0.0.1:40001`.
    pub address: String,
    child: Child,
}

impl Server {
    /// Starts one on `data` at a free port, and waits until it listens.
    pub async fn start(data: &Path, args: &[&str]) -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1:0", data, args).await
    }

    /// [`Self::start`], at an address.
    pub async fn start_at(address: &str, data: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                "serve",
                // What is measured is the server, not what stops runaways.
                "--pings-per-minute=0",
                "--listen",
                address,
                "--allow-private-webhooks",
                "--data",
            ])
            .arg(data)
            .args(args)
            .env("THRUM_API_KEY", API_KEY)
            .env("THRUM_PING_KEY", e2e::PING_KEY)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let first = lines.next_line().await?.context("the server has ended")?;
        let address = first
            .strip_prefix("Thrum listens on http://")
            .context("an address")?
            .to_owned();
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { address, child })
    }

    /// Its process id; `None` once it was killed.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it, as `kill -9` does.
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

/// A connection that is kept: a client that costs little beside the server that it measures.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Posts JSON; anything but a success is an error.
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
