//! `thrum monitors`: lists, shows, adds, changes, pauses, snoozes, deletes, exports and imports monitors.

mod edit;
mod show;
mod transfer;

pub use transfer::import_all;

use super::{Part, Remote, cell, segment};
use clap::{Args, Subcommand, ValueEnum};
use edit::Fields;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use thrum_schema::monitor::slugify;

const EXAMPLES: &str = "\
Examples:
  thrum monitors                            list all monitors
  thrum monitors --down                     list the monitors that are down
  thrum monitors show 'Nightly Backup'      show a monitor and its last pings
  thrum monitors add backup --schedule '0 3 * * *' --tz Europe/Berlin --grace 30m
  thrum monitors set backup --grace 1h30m --tag prod,db
  thrum monitors snooze backup 2h
  thrum monitors export monitors.yaml       then edit it, or import it elsewhere
  thrum monitors import monitors.yaml --dry-run
  thrum monitors --json | jq -r '.monitors[].name'";

/// Arguments of `thrum monitors`.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true, after_help = EXAMPLES)]
pub struct Monitors {
    #[command(subcommand)]
    action: Option<MonitorAction>,

    #[command(flatten)]
    filter: Filter,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

/// Which monitors to list.
#[derive(Debug, Clone, Default, Args)]
struct Filter {
    /// Only monitors with this status
    #[arg(long, value_name = "STATUS", value_parser = ["new", "up", "grace", "down", "paused"])]
    status: Option<String>,
    /// Only monitors that are down
    #[arg(long, conflicts_with = "status")]
    down: bool,
    /// Only monitors with this tag
    #[arg(long)]
    tag: Option<String>,
    #[command(flatten)]
    part: Part,
}

impl Filter {
    fn or(self, other: Self) -> Self {
        Self {
            status: self.status.or(other.status),
            down: self.down || other.down,
            tag: self.tag.or(other.tag),
            part: Part {
                limit: self.part.limit.or(other.part.limit),
            },
        }
    }

    fn is_given(&self) -> bool {
        self.status.is_some() || self.down || self.tag.is_some() || self.part.limit.is_some()
    }
}

#[derive(Debug, Subcommand)]
enum MonitorAction {
    /// List the monitors (the default)
    List(Filter),
    /// Show a monitor: its state, configuration, last pings and status changes
    Show {
        /// Name, slug or UUID of the monitor
        monitor: String,
    },
    /// Add a monitor
    Add {
        /// Name of the monitor
        name: String,
        #[command(flatten)]
        fields: Box<Fields>,
    },
    /// Change a monitor: only the given fields
    Set {
        /// Name, slug or UUID of the monitor
        monitor: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        fields: Box<Fields>,
    },
    /// Pause a monitor: it sends no alerts until its next success, or until you resume it
    ///
    /// A monitor with `manual_resume` stays paused until you resume it.
    Pause {
        /// Name, slug or UUID of the monitor
        monitor: String,
    },
    /// Resume a paused monitor
    Resume {
        /// Name, slug or UUID of the monitor
        monitor: String,
    },
    /// Acknowledge that a monitor is down: no more reminders, and no escalation, until it is up again
    #[command(visible_alias = "ack")]
    Acknowledge {
        /// Name, slug or UUID of the monitor
        monitor: String,
    },
    /// Suppress the alerts of a monitor for some time; if it is down at the end, Thrum sends the
    /// alert then
    Snooze {
        /// Name, slug or UUID of the monitor
        monitor: String,
        /// How long, such as 30m, 2h or 7days, at most a year; 0s ends the snooze
        #[arg(value_parser = crate::remote::duration)]
        duration: Duration,
    },
    /// Delete a monitor
    Delete {
        /// Name, slug or UUID of the monitor
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
    /// it has no slug; of several with the same slug, the one with the same name. Monitors and
    /// fields that the file leaves out are not changed. Durations may be seconds or texts such as
    /// 15m and 1h30m. If anything in the file is invalid, nothing is changed. Importing the same
    /// file again changes nothing.
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

/// `thrum monitors`
///
/// # Errors
/// The server refused the request or can't be reached; a file can't be read or written, or is
/// invalid.
pub async fn monitors(args: Monitors) -> anyhow::Result<()> {
    let Monitors {
        action,
        filter,
        remote,
    } = args;
    let at = |monitor: &str, action: &str| -> anyhow::Result<String> {
        Ok(format!("/v1/monitors/{}{action}", segment(monitor)?))
    };
    let is = |reply: &Value| {
        let name = cell(&reply["name"]);
        let name = if name.is_empty() {
            cell(&reply["slug"])
        } else {
            name
        };
        format!("{name} is {}.", cell(&reply["status"]))
    };
    let action = match action {
        None => MonitorAction::List(filter),
        Some(MonitorAction::List(inner)) => MonitorAction::List(inner.or(filter)),
        Some(_) if filter.is_given() => {
            anyhow::bail!("--status, --down, --tag and --limit belong to the list of monitors")
        }
        Some(action) => action,
    };
    match action {
        MonitorAction::List(filter) => list(&remote, filter).await,
        MonitorAction::Show { monitor } => {
            let monitor = remote.call(Method::GET, &at(&monitor, "")?, None).await?;
            show::show(&remote, &monitor).await
        }
        MonitorAction::Add { name, fields } => {
            let mut body = fields.body(Some(name.clone()))?;
            if body.get("slug").is_none() {
                // As for a monitor that a heartbeat creates: a slug like the name, if it is free.
                let slug = slugify(&name);
                let all = remote
                    .list("/v1/monitors", "monitors", Part::default())
                    .await?;
                let mut all = all["monitors"].as_array().into_iter().flatten();
                if !slug.is_empty() && !all.any(|monitor| monitor["slug"] == *slug) {
                    body["slug"] = slug.into();
                }
            }
            let reply = remote
                .call(Method::POST, "/v1/monitors", Some(body))
                .await?;
            remote.done(&reply, &edit::added(remote.url(), &reply))
        }
        MonitorAction::Set {
            monitor,
            name,
            fields,
        } => {
            let body = fields.body(name)?;
            let path = at(&monitor, "")?;
            let reply = remote.call(Method::PATCH, &path, Some(body)).await?;
            remote.done(&reply, &format!("Changed. {}", is(&reply)))
        }
        MonitorAction::Pause { monitor } => {
            let path = at(&monitor, "/pause")?;
            let reply = remote.call(Method::POST, &path, None).await?;
            remote.done(&reply, &is(&reply))
        }
        MonitorAction::Resume { monitor } => {
            let path = at(&monitor, "/resume")?;
            let reply = remote.call(Method::POST, &path, None).await?;
            remote.done(&reply, &is(&reply))
        }
        MonitorAction::Acknowledge { monitor } => {
            let path = at(&monitor, "/acknowledge")?;
            let reply = remote.call(Method::POST, &path, None).await?;
            remote.done(
                &reply,
                "Acknowledged: no reminders and no escalation until it is up again.",
            )
        }
        MonitorAction::Snooze { monitor, duration } if duration.is_zero() => {
            let path = at(&monitor, "/snooze")?;
            let reply = remote.call(Method::DELETE, &path, None).await?;
            remote.done(&reply, "Snooze ended.")
        }
        MonitorAction::Snooze { monitor, duration } => {
            let path = at(&monitor, "/snooze")?;
            let body = json!({ "for_s": duration.as_secs() });
            let reply = remote.call(Method::POST, &path, Some(body)).await?;
            let until = cell(&reply["snoozed_until"]);
            remote.done(&reply, &format!("Snoozed until {until}."))
        }
        MonitorAction::Delete { monitor } => {
            let path = at(&monitor, "")?;
            let reply = remote.call(Method::DELETE, &path, None).await?;
            remote.done(&reply, "Deleted.")
        }
        MonitorAction::Export { file, format } => {
            transfer::export(&remote, file.as_deref(), format).await
        }
        MonitorAction::Import { file, dry_run } => transfer::import(&remote, &file, dry_run).await,
    }
}

async fn list(remote: &Remote, filter: Filter) -> anyhow::Result<()> {
    let mut parameters = Vec::new();
    let status = filter.status.or(filter.down.then(|| "down".to_owned()));
    for (name, value) in [("status", status), ("tag", filter.tag)] {
        if let Some(value) = value {
            parameters.push(format!("{name}={}", segment(&value)?));
        }
    }
    let path = match parameters.is_empty() {
        true => "/v1/monitors".to_owned(),
        false => format!("/v1/monitors?{}", parameters.join("&")),
    };
    let mut reply = remote.list(&path, "monitors", filter.part).await?;
    if !remote.json {
        for monitor in reply["monitors"].as_array_mut().into_iter().flatten() {
            if monitor["name"] == "" {
                monitor["name"] = monitor["slug"].take();
            }
            let tags = monitor["tags"].as_array().into_iter().flatten();
            let tags: Vec<String> = tags.map(cell).collect();
            monitor["tags"] = tags.join(" ").into();
            // A monitor that is down or paused waits for nothing.
            if monitor["status"] == "down" {
                monitor["deadline"] = Value::Null;
            }
        }
    }
    let columns = [
        "name",
        "status",
        "last_ping",
        "deadline",
        "pings",
        "tags",
        "slug",
    ];
    remote.print(&reply, "monitors", &columns)
}
