//! `thrum monitors`: lists, shows, pauses, snoozes, deletes, exports and imports monitors.

use super::{Remote, cell, out, segment};
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  thrum monitors                            list all monitors
  thrum monitors backup                     show one in full, as JSON
  thrum monitors snooze backup 2h
  thrum monitors export monitors.yaml       then edit it, or import it elsewhere
  thrum monitors import monitors.yaml --dry-run";

/// Arguments of `thrum monitors`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES
)]
pub struct Monitors {
    /// UUID or slug of a monitor to show in full; without it, all are listed
    monitor: Option<String>,

    #[command(subcommand)]
    action: Option<MonitorAction>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum MonitorAction {
    /// List the monitors (the default)
    List,
    /// Pause a monitor: it sends no alerts until its next success, or until you resume it
    ///
    /// A monitor with `manual_resume` stays paused until you resume it.
    Pause {
        /// UUID or slug of the monitor
        monitor: String,
    },
    /// Resume a paused monitor
    Resume {
        /// UUID or slug of the monitor
        monitor: String,
    },
    /// Suppress the alerts of a monitor for some time; if it is down at the end, Thrum sends the
    /// alert then
    Snooze {
        /// UUID or slug of the monitor
        monitor: String,
        /// How long, such as 30m, 2h or 7days, at most a year; 0s ends the snooze
        #[arg(value_parser = humantime::parse_duration)]
        duration: Duration,
    },
    /// Delete a monitor
    Delete {
        /// UUID or slug of the monitor
        monitor: String,
    },
    /// Write the configuration of all monitors to a file, or to stdout
    Export {
        /// File to write; the extension .yaml, .yml or .json sets the format
        file: Option<PathBuf>,
        /// Format on stdout
        #[arg(long, default_value = "yaml")]
        format: Format,
    },
    /// Create and update monitors from a file
    ///
    /// A monitor in the file matches an existing one with the same slug, or with the same name if
    /// it has no slug. Monitors and fields that the file leaves out are not changed. Importing the
    /// same file again changes nothing.
    Import {
        /// File from `thrum monitors export`: .yaml, .yml or .json
        file: PathBuf,
        /// Only print what would be created or updated
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// The fields of a monitor that are its configuration, in the order of an exported file.
const CONFIGURATION: [&str; 18] = [
    "name",
    "slug",
    "desc",
    "tags",
    "period_s",
    "schedule",
    "tz",
    "grace_s",
    "channels",
    "manual_resume",
    "methods",
    "keywords",
    "start_grace_s",
    "failures",
    "early_s",
    "all_runs",
    "remind_s",
    "windows",
];

/// `thrum monitors`
///
/// # Errors
/// The server refused the request or can't be reached; a file can't be read or written, or is
/// invalid.
pub async fn monitors(args: Monitors) -> anyhow::Result<()> {
    let remote = args.remote;
    match (args.action, args.monitor) {
        (None | Some(MonitorAction::List), None) => {
            let reply = remote.call(Method::GET, "/v1/monitors", None).await?;
            let columns = ["name", "status", "pings", "last_ping", "deadline", "uuid"];
            remote.print(&reply, "monitors", &columns)
        }
        (None, Some(id)) => {
            let monitor = remote.call(Method::GET, &path(&id)?, None).await?;
            out(&serde_json::to_string_pretty(&monitor)?)?;
            Ok(())
        }
        (Some(action), _) => act(&remote, action).await,
    }
}

async fn act(remote: &Remote, action: MonitorAction) -> anyhow::Result<()> {
    let done = |reply: &Value| println!("{} is {}.", cell(&reply["name"]), cell(&reply["status"]));
    match action {
        MonitorAction::List => {}
        MonitorAction::Pause { monitor } => {
            let path = format!("{}/pause", path(&monitor)?);
            done(&remote.call(Method::POST, &path, None).await?);
        }
        MonitorAction::Resume { monitor } => {
            let path = format!("{}/resume", path(&monitor)?);
            done(&remote.call(Method::POST, &path, None).await?);
        }
        MonitorAction::Snooze { monitor, duration } if duration.is_zero() => {
            let path = format!("{}/snooze", path(&monitor)?);
            remote.call(Method::DELETE, &path, None).await?;
            println!("Snooze ended.");
        }
        MonitorAction::Snooze { monitor, duration } => {
            let path = format!("{}/snooze", path(&monitor)?);
            let body = json!({ "for_s": duration.as_secs() });
            let reply = remote.call(Method::POST, &path, Some(body)).await?;
            println!("Snoozed until {}.", cell(&reply["snoozed_until"]));
        }
        MonitorAction::Delete { monitor } => {
            remote.call(Method::DELETE, &path(&monitor)?, None).await?;
            println!("Deleted.");
        }
        MonitorAction::Export { file, format } => export(remote, file.as_deref(), format).await?,
        MonitorAction::Import { file, dry_run } => import(remote, &file, dry_run).await?,
    }
    Ok(())
}

fn path(id: &str) -> anyhow::Result<String> {
    Ok(format!("/v1/monitors/{}", segment(id)?))
}

async fn export(remote: &Remote, file: Option<&Path>, format: Format) -> anyhow::Result<()> {
    let (documents, nameless): (Vec<Value>, Vec<Value>) = documents(remote)
        .await?
        .into_iter()
        .partition(|document| identity(document).is_ok());
    if !nameless.is_empty() {
        let n = nameless.len();
        eprintln!(
            "Monitors left out because an import could not identify them without a name or slug: {n}"
        );
    }
    let format = match file {
        Some(file) => format_of(file)?,
        None => format,
    };
    let whole = json!({ "monitors": documents });
    let text = match format {
        Format::Yaml => serde_yaml_ng::to_string(&whole)?,
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&whole)?),
    };
    match file {
        None => print!("{text}"),
        Some(file) => {
            std::fs::write(file, text)
                .with_context(|| format!("can't write {}", file.display()))?;
            let n = documents.len();
            let monitors = if n == 1 { "monitor" } else { "monitors" };
            eprintln!("Wrote {n} {monitors} to {}", file.display());
        }
    }
    Ok(())
}

/// The configuration of every monitor. Channels are given by name where it is unique, so that the
/// file also works on another server.
async fn documents(remote: &Remote) -> anyhow::Result<Vec<Value>> {
    let channels = remote.call(Method::GET, "/v1/channels", None).await?;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for channel in channels["channels"].as_array().into_iter().flatten() {
        names.insert(cell(&channel["id"]), cell(&channel["name"]));
    }
    let shared = |name: &String| names.values().filter(|other| *other == name).count() > 1;
    let reply = remote.call(Method::GET, "/v1/monitors", None).await?;
    let monitors = reply["monitors"].as_array();
    let monitors = monitors.context("the response has no list `monitors`")?;
    let documents = monitors.iter().map(|monitor| {
        let mut document = Map::new();
        for field in CONFIGURATION {
            match &monitor[field] {
                Value::Null => {}
                Value::Array(ids) if field == "channels" => {
                    let ids = ids.iter().map(cell).filter_map(|id| {
                        let name = names.get(&id)?;
                        Some(if shared(name) { id } else { name.clone() })
                    });
                    document.insert(field.into(), ids.collect());
                }
                value => {
                    document.insert(field.into(), value.clone());
                }
            }
        }
        Value::Object(document)
    });
    Ok(documents.collect())
}

/// The field and the value that identify each monitor.
fn identities(monitors: &[Value]) -> anyhow::Result<Vec<(&str, String)>> {
    let mut keys = Vec::with_capacity(monitors.len());
    for (i, document) in monitors.iter().enumerate() {
        let key = identity(document).with_context(|| format!("monitors[{i}]"))?;
        if let Some(first) = keys.iter().position(|other| *other == key) {
            bail!(
                "monitors[{first}] and monitors[{i}] have the same {} {}",
                key.0,
                key.1
            );
        }
        keys.push(key);
    }
    Ok(keys)
}

async fn import(remote: &Remote, file: &Path, dry_run: bool) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    let whole: Value = match format_of(file)? {
        Format::Yaml => serde_yaml_ng::from_str(&text)
            .with_context(|| format!("{} is not YAML", file.display()))?,
        Format::Json => serde_json::from_str(&text)
            .with_context(|| format!("{} is not JSON", file.display()))?,
    };
    let wanted = whole["monitors"].as_array();
    let wanted = wanted.with_context(|| {
        format!(
            "{} has no list `monitors`; `thrum monitors export` shows the format",
            file.display()
        )
    })?;
    let keys = identities(wanted)?;
    let before = documents(remote).await?;
    let (mut created, mut updated, mut same) = (0, 0, 0);
    for (i, (document, (field, value))) in wanted.iter().zip(&keys).enumerate() {
        let mut matching = before.iter().filter(|other| other[field] == **value);
        let existing = matching.next();
        ensure!(
            matching.next().is_none(),
            "monitors[{i}]: several monitors have the {field} {value}; rename one first"
        );
        let what = match existing {
            Some(existing) if holds(existing, document) => {
                same += 1;
                continue;
            }
            Some(_) => "update",
            None => "create",
        };
        if dry_run {
            out(&format!("would {what} {value}"))?;
        } else {
            let mut body = document.clone();
            body["unique"] = json!([field]);
            let status = remote
                .post_monitor(body)
                .await
                .with_context(|| format!("monitors[{i}] ({value})"))?;
            match status {
                StatusCode::CREATED => created += 1,
                _ => updated += 1,
            }
            eprint!("\r{} of {}", i + 1, wanted.len());
        }
    }
    if dry_run {
        println!("{same} unchanged");
    } else {
        eprint!("\r");
        println!("{created} created, {updated} updated, {same} unchanged");
    }
    Ok(())
}

impl Remote {
    async fn post_monitor(&self, body: Value) -> anyhow::Result<StatusCode> {
        let key = self.api_key.as_ref();
        let key = key.context("an API key is required: set THRUM_API_KEY or pass --api-key")?;
        let key = ("x-api-key", key);
        let sent = self.call_with(key, Method::POST, "/v1/monitors", Some(body));
        Ok(sent.await?.0)
    }
}

/// The field that identifies a monitor, `slug` or `name`, and its value.
fn identity(document: &Value) -> anyhow::Result<(&'static str, String)> {
    ensure!(document.is_object(), "must be an object");
    for field in ["slug", "name"] {
        match &document[field] {
            Value::String(value) if !value.is_empty() => return Ok((field, value.clone())),
            Value::Null | Value::String(_) => {}
            _ => bail!("{field} must be a string"),
        }
    }
    bail!("a slug or a name is required to identify the monitor")
}

/// Whether `existing` already has every field of `wanted`; fields left out of `wanted` don't count.
fn holds(existing: &Value, wanted: &Value) -> bool {
    let fields = wanted.as_object().into_iter().flatten();
    fields
        .into_iter()
        .all(|(field, value)| existing[field] == *value)
}

fn format_of(file: &Path) -> anyhow::Result<Format> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("yaml" | "yml") => Ok(Format::Yaml),
        Some("json") => Ok(Format::Json),
        _ => bail!("{} must end in .yaml, .yml or .json", file.display()),
    }
}
