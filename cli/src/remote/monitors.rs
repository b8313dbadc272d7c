//! `thrum monitors`: shown, paused, snoozed, deleted, exported and imported.

use super::{Remote, cell, segment};
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which monitors to show, or what to do with one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Monitors {
    /// Its uuid or slug; all of them without one
    monitor: Option<String>,

    #[command(subcommand)]
    action: Option<MonitorAction>,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum MonitorAction {
    /// List them (the default)
    List,
    /// Pause one: it is not watched until its next success
    Pause {
        /// Its uuid or slug
        monitor: String,
    },
    /// Resume one that is paused
    Resume {
        /// Its uuid or slug
        monitor: String,
    },
    /// Silence one for some time; what is down then alerts at its end
    Snooze {
        /// Its uuid or slug
        monitor: String,
        /// For how long; 0s ends a snooze
        #[arg(value_parser = humantime::parse_duration)]
        duration: Duration,
    },
    /// Delete one
    Delete {
        /// Its uuid or slug
        monitor: String,
    },
    /// Write all of them to a file, or to the screen
    Export {
        /// The file; its ending tells the format
        file: Option<PathBuf>,
        /// The format, if there is no file
        #[arg(long, default_value = "yaml")]
        format: Format,
    },
    /// Make and update monitors as a file says. Those that have a slug are known by it, the others by their name; what
    /// the file does not name stays as it is. Done twice, it changes nothing the second time
    Import {
        /// What `export` wrote, YAML or JSON
        file: PathBuf,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// The members of a monitor that are its configuration, in the order in which people read them.
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
/// The server refused, or can't be reached; a file can't be read or written, or is wrong.
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
            println!("{}", serde_json::to_string_pretty(&monitor)?);
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
            println!("It alerts again.");
        }
        MonitorAction::Snooze { monitor, duration } => {
            let path = format!("{}/snooze", path(&monitor)?);
            let body = json!({ "for_s": duration.as_secs() });
            let reply = remote.call(Method::POST, &path, Some(body)).await?;
            println!("Silenced until {}.", cell(&reply["snoozed_until"]));
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
            "{n} monitors have neither name nor slug, and are left out: no file could tell them apart"
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
            eprintln!("{} monitors in {}", documents.len(), file.display());
        }
    }
    Ok(())
}

/// The configuration of every monitor. Channels are named, so that a file fits another installation too.
async fn documents(remote: &Remote) -> anyhow::Result<Vec<Value>> {
    let channels = remote.call(Method::GET, "/v1/channels", None).await?;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for channel in channels["channels"].as_array().into_iter().flatten() {
        names.insert(cell(&channel["id"]), cell(&channel["name"]));
    }
    let shared = |name: &String| names.values().filter(|other| *other == name).count() > 1;
    let reply = remote.call(Method::GET, "/v1/monitors", None).await?;
    let monitors = reply["monitors"].as_array();
    let monitors = monitors.context("the reply has no monitors")?;
    let documents = monitors.iter().map(|monitor| {
        let mut document = Map::new();
        for member in CONFIGURATION {
            match &monitor[member] {
                Value::Null => {}
                Value::Array(ids) if member == "channels" => {
                    let ids = ids.iter().map(cell).filter_map(|id| {
                        let name = names.get(&id)?;
                        Some(if shared(name) { id } else { name.clone() })
                    });
                    document.insert(member.into(), ids.collect());
                }
                value => {
                    document.insert(member.into(), value.clone());
                }
            }
        }
        Value::Object(document)
    });
    Ok(documents.collect())
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
            "{} has no list `monitors`, as `thrum monitors export` writes it",
            file.display()
        )
    })?;
    let keys: Vec<(&str, String)> = wanted
        .iter()
        .enumerate()
        .map(|(i, document)| identity(document).with_context(|| format!("monitors[{i}]")))
        .collect::<anyhow::Result<_>>()?;
    for (i, key) in keys.iter().enumerate() {
        if let Some(first) = keys[..i].iter().position(|other| other == key) {
            bail!(
                "monitors[{first}] and monitors[{i}] have the same {} {}",
                key.0,
                key.1
            );
        }
    }
    let before = documents(remote).await?;
    let (mut made, mut updated, mut same) = (0, 0, 0);
    for (i, (document, (member, value))) in wanted.iter().zip(&keys).enumerate() {
        let mut there = before.iter().filter(|other| other[member] == **value);
        let existing = there.next();
        ensure!(
            there.next().is_none(),
            "monitors[{i}]: several monitors have the {member} {value}; rename one first"
        );
        let what = match existing {
            Some(existing) if holds(existing, document) => {
                same += 1;
                continue;
            }
            Some(_) => "update",
            None => "make",
        };
        if dry_run {
            println!("would {what} {value}");
        } else {
            let mut body = document.clone();
            body["unique"] = json!([member]);
            let status = remote
                .post_monitor(body)
                .await
                .with_context(|| format!("monitors[{i}] ({value})"))?;
            match status {
                StatusCode::CREATED => made += 1,
                _ => updated += 1,
            }
            eprint!("\r{} of {}", i + 1, wanted.len());
        }
    }
    if dry_run {
        println!("{same} are as the file says");
    } else {
        eprint!("\r");
        println!("{made} made, {updated} updated, {same} as they were");
    }
    Ok(())
}

impl Remote {
    async fn post_monitor(&self, body: Value) -> anyhow::Result<StatusCode> {
        let key = self.api_key.as_ref();
        let key = key.context("an API key is needed: set THRUM_API_KEY, or give --api-key")?;
        let key = ("x-api-key", key);
        let sent = self.call_with(key, Method::POST, "/v1/monitors", Some(body));
        Ok(sent.await?.0)
    }
}

/// By which member a monitor is known, and its value.
fn identity(document: &Value) -> anyhow::Result<(&'static str, String)> {
    ensure!(document.is_object(), "is not an object");
    for member in ["slug", "name"] {
        match &document[member] {
            Value::String(value) if !value.is_empty() => return Ok((member, value.clone())),
            Value::Null | Value::String(_) => {}
            _ => bail!("{member} is not a string"),
        }
    }
    bail!("has neither a slug nor a name, so it can't be told whether it is there")
}

/// Whether all that `wanted` says holds of `existing` already; what a document leaves out, it does not want changed.
fn holds(existing: &Value, wanted: &Value) -> bool {
    let members = wanted.as_object().into_iter().flatten();
    members
        .into_iter()
        .all(|(member, value)| existing[member] == *value)
}

fn format_of(file: &Path) -> anyhow::Result<Format> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("yaml" | "yml") => Ok(Format::Yaml),
        Some("json") => Ok(Format::Json),
        _ => bail!("{} must end in .yaml, .yml or .json", file.display()),
    }
}
