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

    /// Make the monitor if there is none with this slug
    #[arg(long)]
    create: bool,
}

/// What to do with alerts.
#[derive(Debug, Args)]
pub struct Alerts {
    #[command(subcommand)]
    action: Option<AlertAction>,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AlertAction {
    /// List the newest alerts (the default)
    List,
    /// Try an alert's dead deliveries again
    Redeliver {
        /// The alert's id
        id: String,
    },
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
    check_url(&args.url)?;
    let mut url = args.url.trim_end_matches('/').to_owned();
    match (args.exit_status, &args.status) {
        (Some(status), _) => url.push_str(&format!("/{status}")),
        (None, Some(status)) => url.push_str(&format!("/{status}")),
        (None, None) => {}
    }
    if args.create {
        url.push_str("?create=1");
    }
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let answer = client
        .post(url)
        .body(args.message.unwrap_or_default())
        .send()
        .await?;
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        let hint = if status.as_u16() == 404 && !args.create {
            "; is the URL right? --create makes a monitor by ping key and slug"
        } else {
            ""
        };
        bail!("the ping was not recorded: {status} {text}{hint}");
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
            .call(
                Method::GET,
                &format!("/v1/monitors/{}", segment(&id)?),
                None,
            )
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
            let path = format!("/v1/channels/{}/test", segment(&id)?);
            let reply = remote.call(Method::POST, &path, None).await?;
            println!("On its way: alert {}", cell(&reply["alert_id"]));
            Ok(())
        }
        ChannelAction::Delete { id } => {
            remote
                .call(
                    Method::DELETE,
                    &format!("/v1/channels/{}", segment(&id)?),
                    None,
                )
                .await?;
            println!("Deleted.");
            Ok(())
        }
    }
}

/// `thrum alerts`
///
/// # Errors
/// The server refused, or can't be reached.
pub async fn alerts(args: Alerts) -> anyhow::Result<()> {
    let remote = args.remote;
    match args.action.unwrap_or(AlertAction::List) {
        AlertAction::List => {
            let mut reply = remote.call(Method::GET, "/v1/alerts", None).await?;
            if !remote.json
                && let Some(alerts) = reply["alerts"].as_array_mut()
            {
                for alert in alerts {
                    alert["monitor"] = alert["monitor"]["name"].take();
                    let errors = alert["deliveries"].as_array().into_iter().flatten();
                    let errors: Vec<String> = errors.map(|d| cell(&d["error"])).collect();
                    alert["error"] = errors.concat().into();
                }
            }
            let columns = ["created_at", "type", "monitor", "state", "error", "id"];
            remote.print(&reply, "alerts", &columns)
        }
        AlertAction::Redeliver { id } => {
            let path = format!("/v1/alerts/{}/redeliver", segment(&id)?);
            remote.call(Method::POST, &path, None).await?;
            println!("On its way again.");
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
                .call(Method::DELETE, &format!("/v1/keys/{}", segment(&id)?), None)
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
fn segment(id: &str) -> anyhow::Result<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
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
