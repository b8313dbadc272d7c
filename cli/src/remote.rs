//! Commands that call a Thrum server, one file per command.

mod alerts;
mod channels;
mod direct;
mod keys;
mod migrate;
mod monitors;
mod operator;
mod ping;
mod projects;
mod redrive;
mod region;
mod series;
mod smoke;
mod strategies;
mod watch;

pub use alerts::{Alerts, alerts};
pub use channels::{Channels, channels};
pub use direct::Direct;
#[cfg(feature = "aws")]
pub(crate) use direct::connect;
pub use keys::{Keys, keys};
pub use migrate::{Healthchecks, Kuma};
pub use monitors::{Monitors, monitors};
pub use operator::Operator;
pub use ping::{Ping, ping};
pub use projects::{Projects, Usage, projects, usage};
pub use redrive::{Redrive, redrive};
pub use region::{RegionArgs, region};
pub use series::{Series, series};
pub use smoke::{Smoke, smoke};
pub use strategies::{Strategies, strategies};
pub use watch::{Watch, watch};

use anyhow::{Context, bail};
use clap::Args;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;
use thrum_schema::UnixMs;
use thrum_schema::time::relative;
use thrum_schema::world::SystemWorld;

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

    /// Print the server's response as JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Run the command directly on a deployment's DynamoDB table, with your AWS credentials
    ///
    /// Needs neither --url nor an API key.
    #[arg(long, global = true, value_name = "NAME", help_heading = "AWS options")]
    pub table: Option<String>,

    /// Project to work on with --table, by name or ID; required if there are several
    #[arg(
        long,
        global = true,
        requires = "table",
        value_name = "PROJECT",
        help_heading = "AWS options"
    )]
    pub project: Option<String>,
}

/// Which part of a list to show.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Part {
    /// Show at most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// How many items of a list to request at a time.
const PAGE: u32 = 200;

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

    /// The list `name` at `path`, which may have parameters, part by part up to the limit.
    pub(crate) async fn list(&self, path: &str, name: &str, part: Part) -> anyhow::Result<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut whole: Option<Value> = None;
        let mut left = part.limit.unwrap_or(u32::MAX);
        let mut cursor = String::new();
        loop {
            let limit = left.min(PAGE);
            let path = format!("{path}{separator}limit={limit}{cursor}");
            let mut reply = self.call(Method::GET, &path, None).await?;
            let next = reply
                .as_object_mut()
                .and_then(|reply| reply.remove("next_cursor"));
            let items = reply[name].as_array_mut();
            let items = items.with_context(|| format!("the response has no list `{name}`"))?;
            left = left.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            match &mut whole {
                None => whole = Some(reply),
                Some(whole) => {
                    let items = std::mem::take(items);
                    let all = whole[name].as_array_mut();
                    all.context("a list")?.extend(items);
                }
            }
            match next.as_ref().and_then(Value::as_str) {
                Some(next) if left > 0 => cursor = format!("&cursor={}", segment(next)?),
                _ => return Ok(whole.unwrap_or_default()),
            }
        }
    }

    /// Prints the server's response, or what it means in words.
    pub(crate) fn done(&self, reply: &Value, words: &str) -> anyhow::Result<()> {
        if self.json {
            out(&serde_json::to_string_pretty(reply)?)
        } else {
            out(words)
        }
    }

    fn key(&self) -> anyhow::Result<&SecretString> {
        let key = self.api_key.as_ref();
        key.context("an API key is required: set THRUM_API_KEY or pass --api-key")
    }

    /// Like [`Self::call`], but returns the problem of an invalid request.
    pub(crate) async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Result<Value, Value>> {
        let key = self.key()?.expose_secret();
        let (status, reply) = self
            .answer(&[("x-api-key", key)], method, path, body)
            .await?;
        match status.as_u16() {
            200..=299 => Ok(Ok(reply)),
            400 => Ok(Err(reply)),
            _ => bail!("{status}: {}", detail(&reply)),
        }
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
        let (status, reply) = self.answer(headers, method, path, body).await?;
        if !status.is_success() {
            bail!("{status}: {}", detail(&reply));
        }
        Ok((status, reply))
    }

    /// The server's answer, whatever its status.
    async fn answer(
        &self,
        headers: &[(&str, &str)],
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        // One for all requests of a command: its connections and certificates are used again.
        static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
        let client = match CLIENT.get() {
            Some(client) => client,
            None => {
                let new = client(TIMEOUT)?;
                CLIENT.get_or_init(|| new)
            }
        };
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
            return out(&format!("No {name}."));
        }
        let now = SystemWorld::arc().now();
        let text = |row: &Value, column: &str| match &row[column] {
            Value::String(at) if is_time(column) => ago(at, now),
            value => cell(value).replace('\n', " "),
        };
        let widths: Vec<(&str, usize)> = columns
            .iter()
            .map(|column| {
                let widest = rows.iter().map(|row| text(row, column).chars().count());
                (*column, widest.max().unwrap_or(0))
            })
            .filter(|(_, width)| *width > 0)
            .map(|(column, width)| (column, width.max(column.len())))
            .collect();
        let line = |cell: &dyn Fn(&str) -> String, paint: bool| {
            let cells: Vec<String> = widths
                .iter()
                .map(|(column, width)| {
                    let text = cell(column);
                    let rest = width.saturating_sub(text.chars().count());
                    let painted = if paint { painted(column, &text) } else { text };
                    format!("{painted}{}", " ".repeat(rest))
                })
                .collect();
            show(cells.join("  ").trim_end())
        };
        let title = |column: &str| match column.strip_suffix("_at") {
            Some(name) => name.to_uppercase(),
            None => column.to_uppercase().replace('_', " "),
        };
        line(&title, false)?;
        let paint = colours();
        for row in rows {
            line(&|column| text(row, column), paint)?;
        }
        Ok(())
    }
}

/// Why the server refused a request: each error on a line of its own if there are several.
fn detail(reply: &Value) -> String {
    let texts = |list: &Value, field: &str| -> Vec<String> {
        let items = list.as_array().into_iter().flatten();
        let texts = items.map(|item| {
            if field.is_empty() {
                cell(item)
            } else {
                cell(&item[field])
            }
        });
        texts.collect()
    };
    let errors = texts(&reply["errors"], "detail");
    if errors.len() > 1 {
        return format!("\n  {}", errors.join("\n  "));
    }
    let reasons = texts(&reply["reasons"], "");
    match reply["detail"].as_str() {
        Some(detail) => clean(detail).into_owned(),
        None if reasons.is_empty() => "no reason given".to_owned(),
        None => reasons.join("; "),
    }
}

/// Whether a column has timestamps.
fn is_time(column: &str) -> bool {
    column.ends_with("_at")
        || column.ends_with("_until")
        || matches!(column, "last_ping" | "deadline" | "next_ping")
}

/// A time of a reply, and how long ago it was; empty if there is none.
pub(crate) fn moment(at: &Value, now: UnixMs) -> String {
    at.as_str()
        .map_or_else(String::new, |at| format!("{} ({at})", ago(at, now)))
}

/// A timestamp as the time from or until now, such as `3 min ago`.
pub(crate) fn ago(at: &str, now: UnixMs) -> String {
    match UnixMs::parse("at", at) {
        Ok(at) => relative(at - now),
        Err(_) => clean(at).into_owned(),
    }
}

/// Whether stdout is a terminal that shows colours.
pub(crate) fn colours() -> bool {
    let without = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !without
}

/// A status in its colour; other columns as they are.
pub(crate) fn painted(column: &str, text: &str) -> String {
    let colour = match (column, text) {
        ("status" | "state", "up" | "delivered" | "confirmed") => 32,
        ("status" | "state", "down" | "dead") => 31,
        ("status" | "state", "grace" | "pending") => 33,
        ("status" | "state", "paused" | "new") => 2,
        _ => return text.to_owned(),
    };
    format!("\u{1b}[{colour}m{text}\u{1b}[0m")
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
    show(&clean(line))
}

/// Writes a line that may have colours.
fn show(line: &str) -> anyhow::Result<()> {
    print(format!("{line}\n").as_bytes())
}

/// Writes text to stdout. Exits quietly if the reader has closed the pipe.
///
/// # Errors
/// Stdout can't be written.
pub fn print(text: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// A duration, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match text.trim().parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "must be a duration such as 90s, 15m or 1h30m".to_owned()),
    }
}

/// What a ping URL must be like.
pub(crate) const PING_URL: &str =
    "it must have the form http://HOST/ping/UUID or http://HOST/ping/KEY/SLUG";

/// A ping URL.
pub(crate) fn ping_url(text: &str) -> anyhow::Result<reqwest::Url> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => bail!("the ping URL is wrong: {PING_URL} (got {text:?})"),
    }
}

/// An ID or name as a path segment.
pub(crate) fn segment(id: &str) -> anyhow::Result<String> {
    if matches!(id, "" | "." | "..") {
        bail!("{id:?} can't be used as a name here; use the ID");
    }
    let mut segment = String::with_capacity(id.len());
    for b in id.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~:".contains(&b) {
            segment.push(char::from(b));
        } else {
            segment.push_str(&format!("%{b:02X}"));
        }
    }
    Ok(segment)
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
    fn any_name_is_a_path_segment() {
        for (name, path) in [
            ("web-01.5", "web-01.5"),
            ("Nightly Backup", "Nightly%20Backup"),
            ("a/b?c#d%", "a%2Fb%3Fc%23d%25"),
            ("Größe", "Gr%C3%B6%C3%9Fe"),
        ] {
            assert_eq!(segment(name).unwrap(), path);
        }
        assert!(segment("").is_err() && segment("..").is_err());
    }

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
