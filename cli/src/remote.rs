//! Commands that call a Thrum server, one file per command.

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
use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum wait in seconds, and maximum number of waits, after a 429 with `Retry-After`.
const MAX_WAIT_S: u64 = 60;
const MAX_WAITS: usize = 20;

/// Server, API key and output format.
#[derive(Debug, Args)]
pub struct Remote {
    /// URL of the server
    #[arg(
        long,
        global = true,
        env = "THRUM_URL",
        default_value = "http://127.0.0.1:8080",
        help_heading = "Server options"
    )]
    url: String,

    /// API key of the project; a read-only key is enough to list and show
    #[arg(
        long,
        global = true,
        env = "THRUM_API_KEY",
        hide_env_values = true,
        value_name = "KEY",
        help_heading = "Server options"
    )]
    api_key: Option<SecretString>,

    /// Print the server's response as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Remote {
    /// Sends further requests to `direct`.
    pub fn connect_to(&mut self, direct: &Direct) {
        self.url.clone_from(&direct.url);
        self.api_key.clone_from(&direct.api_key);
    }

    /// URL of the server.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Calls `path` with the API key. An error has the server's status and reason.
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
        key.context("an API key is required: set THRUM_API_KEY or pass --api-key")
    }

    /// Like [`Self::call`], but asks the server to wait up to 10 s for the result.
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

    /// Like [`Self::call`], with any key header; also returns the status.
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
        let client = client(TIMEOUT)?;
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
            sent.with_context(|| format!("{base} can't be reached; check --url or THRUM_URL"))
        };
        let mut answer = send().await?;
        for _ in 0..MAX_WAITS {
            let wait_s = answer.headers().get("retry-after");
            let wait_s = wait_s.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
            match wait_s {
                Some(s @ ..=MAX_WAIT_S) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    eprintln!("rate limit reached; retrying in {s} s");
                    tokio::time::sleep(Duration::from_secs(s)).await;
                    answer = send().await?;
                }
                _ => break,
            }
        }
        let status = answer.status();
        if status.is_redirection() {
            let to = answer.headers().get("location");
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or("another URL");
            bail!(
                "{base} redirects to {}; the API key is not sent there. If it is your server, set --url to it",
                clean(to)
            );
        }
        let reply: Value = answer.json().await.unwrap_or_default();
        if !status.is_success() {
            let reasons = reply["reasons"].as_array().into_iter().flatten();
            let reasons: Vec<&str> = reasons.filter_map(Value::as_str).collect();
            let detail = match reply["detail"].as_str() {
                Some(detail) => detail.to_owned(),
                None if reasons.is_empty() => "no reason given".to_owned(),
                None => reasons.join("; "),
            };
            bail!("{status}: {}", clean(&detail));
        }
        Ok((status, reply))
    }

    /// Prints the list `name` of a reply as a table, without columns that have no values.
    fn print(&self, reply: &Value, name: &str, columns: &[&str]) -> anyhow::Result<()> {
        if self.json {
            return out(&serde_json::to_string_pretty(reply)?);
        }
        let rows = reply[name]
            .as_array()
            .with_context(|| format!("the response has no list `{name}`"))?;
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

/// A client that follows no redirects: they would take the API key, or a ping key, elsewhere.
pub(crate) fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    thrum_store::tls::install();
    reqwest::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// The text, with characters escaped that could control the terminal or reorder what it shows: control
/// characters but line breaks and tabs, and marks of the direction of text.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_bad(c) {
            // As in JSON, which this may be.
            clean.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// Writes a line to stdout. Exits quietly if the reader has closed the pipe, as in
/// `thrum alerts | head`.
pub(crate) fn out(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", clean(line)) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Checks that `url` is an HTTP or HTTPS URL.
pub(crate) fn check_url(url: &str) -> anyhow::Result<()> {
    match reqwest::Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        _ => bail!(
            "the ping URL must be like http://127.0.0.1:8080/ping/UUID or http://127.0.0.1:8080/ping/KEY/SLUG \
             (got {url:?})"
        ),
    }
}

/// Checks that an id or name can be used as a path segment.
pub(crate) fn segment(id: &str) -> anyhow::Result<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
    if id.bytes().all(plain) && !matches!(id, "" | "." | "..") {
        Ok(id)
    } else {
        bail!("an ID or name must consist of letters, digits, '.', '_', '-' and ':' (got {id:?})")
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text).into_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_not_control_the_terminal() {
        assert_eq!(clean("Nächtlich\tok\n"), "Nächtlich\tok\n");
        assert_eq!(clean("\u{1b}[2Jgone"), "\\u001b[2Jgone");
        assert_eq!(clean("a\u{202e}b\r"), "a\\u202eb\\u000d");
        // JSON means the same afterwards.
        let json = serde_json::json!({"name": "a\u{202e}\u{9b}b"});
        let read: Value = serde_json::from_str(&clean(&json.to_string())).unwrap();
        assert_eq!(read, json);
    }
}
