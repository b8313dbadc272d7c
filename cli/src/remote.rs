//! Commands that talk to a running Thrum: `ping`, `monitors`, `channels`, `keys`.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the server is, and who asks.
#[derive(Debug, Args)]
pub struct Remote {
    /// The server's URL
    #[arg(long, env = "THRUM_URL", default_value = "http://127.0.0.1:8080")]
    url: String,

    /// An API key
    #[arg(long, env = "THRUM_API_KEY", hide_env_values = true)]
    api_key: Option<SecretString>,

    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
}

/// What `thrum ping` is told.
#[derive(Debug, Args)]
pub struct Ping {
    /// The monitor's ping URL
    url: String,

    /// What to report, if not a success
    #[arg(long, value_parser = ["start", "fail", "log"], conflicts_with = "exit_status")]
    status: Option<String>,

    /// Report an exit status: 0 is a success
    #[arg(long)]
    exit_status: Option<u8>,

    /// Text to keep with it
    #[arg(long, short)]
    message: Option<String>,
}

/// Which monitors to show.
#[derive(Debug, Args)]
pub struct Monitors {
    /// Its uuid or slug; all of them without one
    monitor: Option<String>,

    #[command(flatten)]
    remote: Remote,
}

/// What to do with channels.
#[derive(Debug, Args)]
pub struct Channels {
    #[command(subcommand)]
    action: Option<ChannelAction>,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum ChannelAction {
    /// List the channels (the default)
    List,
    /// Add one: `thrum channels add email ops@example.org`
    Add {
        /// webhook, email, sms or sns
        #[arg(value_parser = ["webhook", "email", "sms", "sns"])]
        kind: String,
        /// The URL, address, number or topic ARN
        to: String,
        /// What to call it
        #[arg(long)]
        name: Option<String>,
    },
    /// Send a test message
    Test {
        /// The channel's id
        id: String,
    },
    /// Delete one
    Delete {
        /// The channel's id
        id: String,
    },
}

/// What to do with API keys.
#[derive(Debug, Args)]
pub struct Keys {
    #[command(subcommand)]
    action: Option<KeyAction>,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// List the keys (the default)
    List,
    /// Make one; it is shown once
    Create {
        /// write or read
        #[arg(value_parser = ["write", "read"])]
        scope: String,
        /// What to call it
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Revoke one; handlers forget it within half a minute
    Revoke {
        /// The key's id
        id: String,
    },
}

/// `thrum ping`
///
/// # Errors
/// The ping was not recorded.
pub async fn ping(args: Ping) -> anyhow::Result<()> {
    let mut url = args.url.trim_end_matches('/').to_owned();
    match (args.exit_status, &args.status) {
        (Some(status), _) => url.push_str(&format!("/{status}")),
        (None, Some(status)) => url.push_str(&format!("/{status}")),
        (None, None) => {}
    }
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let answer = client
        .post(url)
        .body(args.message.unwrap_or_default())
        .send()
        .await?;
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        bail!("the ping was not recorded: {status} {text}");
    }
    println!("{text}");
    Ok(())
}

/// `thrum monitors`
///
/// # Errors
/// The server refused, or can't be reached.
pub async fn monitors(args: Monitors) -> anyhow::Result<()> {
    let remote = args.remote;
    if let Some(id) = args.monitor {
        let monitor = remote
            .call(Method::GET, &format!("/v1/monitors/{id}"), None)
            .await?;
        println!("{}", serde_json::to_string_pretty(&monitor)?);
        return Ok(());
    }
    let reply = remote.call(Method::GET, "/v1/monitors", None).await?;
    remote.print(
        &reply,
        "monitors",
        &["name", "status", "pings", "last_ping", "deadline", "uuid"],
    )
}

/// `thrum channels`
///
/// # Errors
/// The server refused, or can't be reached.
pub async fn channels(args: Channels) -> anyhow::Result<()> {
    let remote = args.remote;
    match args.action.unwrap_or(ChannelAction::List) {
        ChannelAction::List => {
            let reply = remote.call(Method::GET, "/v1/channels", None).await?;
            let columns = ["name", "kind", "url", "to", "topic_arn", "id"];
            remote.print(&reply, "channels", &columns)
        }
        ChannelAction::Add { kind, to, name } => {
            let member = match kind.as_str() {
                "webhook" => "url",
                "sns" => "topic_arn",
                _ => "to",
            };
            let mut body = Map::new();
            body.insert("kind".into(), json!(kind));
            body.insert(member.into(), json!(to));
            if let Some(name) = name {
                body.insert("name".into(), json!(name));
            }
            let reply = remote
                .call(Method::POST, "/v1/channels", Some(Value::Object(body)))
                .await?;
            println!("{}", serde_json::to_string_pretty(&reply)?);
            Ok(())
        }
        ChannelAction::Test { id } => {
            let path = format!("/v1/channels/{id}/test");
            let reply = remote.call(Method::POST, &path, None).await?;
            println!("On its way: alert {}", cell(&reply["alert_id"]));
            Ok(())
        }
        ChannelAction::Delete { id } => {
            remote
                .call(Method::DELETE, &format!("/v1/channels/{id}"), None)
                .await?;
            println!("Deleted.");
            Ok(())
        }
    }
}

/// `thrum keys`
///
/// # Errors
/// The server refused, or can't be reached.
pub async fn keys(args: Keys) -> anyhow::Result<()> {
    let remote = args.remote;
    match args.action.unwrap_or(KeyAction::List) {
        KeyAction::List => {
            let reply = remote.call(Method::GET, "/v1/keys", None).await?;
            remote.print(&reply, "keys", &["id", "scope", "name", "created"])
        }
        KeyAction::Create { scope, name } => {
            let body = json!({ "scope": scope, "name": name });
            let reply = remote.call(Method::POST, "/v1/keys", Some(body)).await?;
            println!("{}", cell(&reply["key"]));
            eprintln!(
                "It is shown this once: keep it. Its id is {}.",
                cell(&reply["id"])
            );
            Ok(())
        }
        KeyAction::Revoke { id } => {
            remote
                .call(Method::DELETE, &format!("/v1/keys/{id}"), None)
                .await?;
            println!("Revoked.");
            Ok(())
        }
    }
}

impl Remote {
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let key = self
            .api_key
            .as_ref()
            .context("an API key is needed: set THRUM_API_KEY, or give --api-key")?;
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let base = self.url.trim_end_matches('/');
        let mut request = client
            .request(method, format!("{base}{path}"))
            .header("x-api-key", key.expose_secret());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{base} can't be reached; is it the right --url?"))?;
        let status = answer.status();
        let reply: Value = answer.json().await.unwrap_or_default();
        if !status.is_success() {
            let detail = reply["detail"].as_str().unwrap_or("no reason given");
            bail!("{status}: {detail}");
        }
        Ok(reply)
    }

    /// Prints the list `name` of a reply as a table; columns that are empty throughout are left out.
    fn print(&self, reply: &Value, name: &str, columns: &[&str]) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(reply)?);
            return Ok(());
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
            println!("{}", cells.join("  ").trim_end());
        };
        line(&|column| column.to_uppercase());
        for row in rows {
            line(&|column| cell(&row[column]));
        }
        Ok(())
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
