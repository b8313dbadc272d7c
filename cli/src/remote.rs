//! Commands that talk to a running Thrum, a file each.

mod alerts;
mod channels;
mod direct;
mod keys;
mod monitors;
mod ping;
mod projects;
mod redrive;
mod smoke;

pub use alerts::{Alerts, alerts};
pub use channels::{Channels, channels};
pub use direct::Direct;
pub use keys::{Keys, keys};
pub use monitors::{Monitors, monitors};
pub use ping::{Ping, ping};
pub use projects::{Projects, Usage, projects, usage};
pub use redrive::{Redrive, redrive};
pub use smoke::{Smoke, smoke};

use anyhow::{Context, bail};
use clap::Args;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait where the server says that there were too many requests, in seconds, and how often.
const MAX_WAIT_S: u64 = 60;
const MAX_WAITS: usize = 20;

/// Where the server is, and who asks.
#[derive(Debug, Args)]
pub struct Remote {
    /// The server's URL
    #[arg(
        long,
        global = true,
        env = "THRUM_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,

    /// An API key
    #[arg(long, global = true, env = "THRUM_API_KEY", hide_env_values = true)]
    api_key: Option<SecretString>,

    /// Print the reply as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Remote {
    /// Talks to `direct` from here on.
    pub fn connect_to(&mut self, direct: &Direct) {
        self.url.clone_from(&direct.url);
        self.api_key.clone_from(&direct.api_key);
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Calls `path` with the API key; an error says what the server said.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let (_, reply) = self
            .call_with(("x-api-key", self.key()?), method, path, body)
            .await?;
        Ok(reply)
    }

    fn key(&self) -> anyhow::Result<&SecretString> {
        let key = self.api_key.as_ref();
        key.context("an API key is needed: set THRUM_API_KEY, or give --api-key")
    }

    /// [`Self::call`], where the server is asked to wait some seconds for a result.
    pub(crate) async fn call_waiting(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let key = self.key()?;
        let (_, reply) = self
            .send(
                &[("x-api-key", key.expose_secret()), ("prefer", "wait=10")],
                method,
                path,
                body,
            )
            .await?;
        Ok(reply)
    }

    /// The status and the body of a reply that is no error.
    async fn call_with(
        &self,
        (header, key): (&str, &SecretString),
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        self.send(&[(header, key.expose_secret())], method, path, body)
            .await
    }

    async fn send(
        &self,
        headers: &[(&str, &str)],
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        thrum_store::tls::install();
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let base = self.url.trim_end_matches('/');
        let send = async || {
            let mut request = client.request(method.clone(), format!("{base}{path}"));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let sent = request.send().await;
            sent.with_context(|| format!("{base} can't be reached; is it the right --url?"))
        };
        let mut answer = send().await?;
        for _ in 0..MAX_WAITS {
            let wait_s = answer.headers().get("retry-after");
            let wait_s = wait_s.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
            match wait_s {
                Some(s @ ..=MAX_WAIT_S) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    eprintln!("too many requests; going on in {s} s");
                    tokio::time::sleep(Duration::from_secs(s)).await;
                    answer = send().await?;
                }
                _ => break,
            }
        }
        let status = answer.status();
        let reply: Value = answer.json().await.unwrap_or_default();
        if !status.is_success() {
            let reasons = reply["reasons"].as_array().into_iter().flatten();
            let reasons: Vec<&str> = reasons.filter_map(Value::as_str).collect();
            let detail = match reply["detail"].as_str() {
                Some(detail) => detail.to_owned(),
                None if reasons.is_empty() => "no reason given".to_owned(),
                None => reasons.join("; "),
            };
            bail!("{status}: {detail}");
        }
        Ok((status, reply))
    }

    /// Prints the list `name` of a reply as a table; columns that are empty throughout are left out.
    fn print(&self, reply: &Value, name: &str, columns: &[&str]) -> anyhow::Result<()> {
        if self.json {
            return out(&serde_json::to_string_pretty(reply)?);
        }
        let rows = reply[name].as_array().context("the reply has no list")?;
        if rows.is_empty() {
            println!("No {name} yet.");
            return Ok(());
        }
        let widths: Vec<(&str, usize)> = columns
            .iter()
            .map(|column| {
                let widest = rows.iter().map(|row| cell(&row[*column]).chars().count());
                (*column, widest.max().unwrap_or(0))
            })
            .filter(|(_, width)| *width > 0)
            .map(|(column, width)| (column, width.max(column.len())))
            .collect();
        let line = |cell: &dyn Fn(&str) -> String| {
            let cells: Vec<String> = widths
                .iter()
                .map(|(column, width)| format!("{:<width$}", cell(column)))
                .collect();
            out(cells.join("  ").trim_end())
        };
        line(&|column| column.to_uppercase())?;
        for row in rows {
            line(&|column| cell(&row[column]))?;
        }
        Ok(())
    }
}

/// Writes a line to stdout. Who reads it may have seen enough: `thrum alerts | head`.
pub(crate) fn out(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Checks that `url` is one that a ping can be sent to.
pub(crate) fn check_url(url: &str) -> anyhow::Result<()> {
    match reqwest::Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        _ => bail!(
            "{url} is no ping URL; it is like http://127.0.0.1:8080/ping/UUID, or …/ping/KEY/SLUG"
        ),
    }
}

/// An id as a segment of a path.
pub(crate) fn segment(id: &str) -> anyhow::Result<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
    if id.bytes().all(plain) && !matches!(id, "" | "." | "..") {
        Ok(id)
    } else {
        bail!("{id:?} is no id or name: those have letters, digits, '.', '_' and '-'")
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
