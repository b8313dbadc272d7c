//! `thrum channels`: lists, adds, tests and deletes channels.

use super::{Part, Remote, cell, segment};
use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::{fs, io};
use thrum_schema::channel::kind::{KINDS, Kind};

const EXAMPLES: &str = "\
Examples:
  thrum channels kinds                 # what there is
  thrum channels kinds telegram        # its settings, and where to find them
  thrum channels add email ops@example.org
  thrum channels add slack url=@slack-url.txt --name ops
  thrum channels add telegram chat=-1001234567890 token=-    # reads the token from stdin
  thrum channels edit ops url=https://hooks.slack.com/services/…
  thrum channels test ops";

/// Arguments of `thrum channels`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Channels {
    #[command(subcommand)]
    action: Option<ChannelAction>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum ChannelAction {
    /// List the channels (the default)
    List,
    /// List the kinds of channels, or the settings of one
    Kinds {
        /// Kind of channel
        kind: Option<String>,
    },
    /// Add a channel
    Add {
        /// Kind of channel; `thrum channels kinds` lists them
        #[arg(value_parser = PossibleValuesParser::new(KINDS.iter().map(|kind| kind.name)), hide_possible_values = true)]
        kind: String,
        /// Settings as NAME=VALUE, or the values of the required ones in order; @FILE reads a value
        /// from a file, and - from stdin
        #[arg(required = true, value_name = "SETTING")]
        settings: Vec<String>,
        /// Name of the channel
        #[arg(long)]
        name: Option<String>,
    },
    /// Change settings of a channel
    Edit {
        /// Name or ID of the channel
        id: String,
        /// Settings as NAME=VALUE; an empty value removes one. @FILE reads a value from a file, and -
        /// from stdin
        #[arg(value_name = "SETTING")]
        settings: Vec<String>,
        /// New name of the channel
        #[arg(long)]
        name: Option<String>,
    },
    /// Send a test alert to a channel
    Test {
        /// Name or ID of the channel
        id: String,
    },
    /// Delete a channel
    Delete {
        /// Name or ID of the channel
        id: String,
    },
}

/// `thrum channels`
///
/// # Errors
/// The server refused the request or can't be reached.
pub async fn channels(args: Channels) -> anyhow::Result<()> {
    let remote = args.remote;
    match args.action.unwrap_or(ChannelAction::List) {
        ChannelAction::List => {
            let mut reply = remote
                .list("/v1/channels", "channels", Part::default())
                .await?;
            if !remote.json
                && let Some(channels) = reply["channels"].as_array_mut()
            {
                for channel in channels {
                    channel["to"] = first_setting(channel);
                    channel["subscription"] = channel["subscription"]["state"].take();
                    channel["failing"] = channel["failing"]["last_error"].take();
                }
            }
            let columns = ["name", "kind", "to", "subscription", "failing", "id"];
            remote.print(&reply, "channels", &columns)
        }
        ChannelAction::Kinds { kind } => print_kinds(kind.as_deref()),
        ChannelAction::Edit { id, settings, name } => {
            let path = format!("/v1/channels/{}", segment(&id)?);
            let channel = remote.call(Method::GET, &path, None).await?;
            let kind = kind_named(&cell(&channel["kind"]))?;
            let body = request(kind, &settings, name, true)?;
            let reply = remote.call(Method::PATCH, &path, Some(body)).await?;
            remote.done(&reply, "Saved.")
        }
        ChannelAction::Add {
            kind,
            settings,
            name,
        } => {
            let kind = kind_named(&kind)?;
            let mut body = request(kind, &settings, name, false)?;
            body["kind"] = json!(kind.name);
            let reply = remote
                .call(Method::POST, "/v1/channels", Some(body))
                .await?;
            let words = format!(
                "Added {}. Test it: thrum channels test {}",
                cell(&reply["name"]),
                cell(&reply["id"])
            );
            // It is shown only now.
            let words = match reply["secret"].as_str() {
                Some(secret) => {
                    format!("{words}\nSecret to verify its messages with, shown only now: {secret}")
                }
                None => words,
            };
            remote.done(&reply, &words)
        }
        ChannelAction::Test { id } => {
            let path = format!("/v1/channels/{}/test", segment(&id)?);
            let reply = remote.call(Method::POST, &path, None).await?;
            let words = format!("Sending test alert {}.", cell(&reply["alert_id"]));
            remote.done(&reply, &words)
        }
        ChannelAction::Delete { id } => {
            let path = format!("/v1/channels/{}", segment(&id)?);
            let reply = remote.call(Method::DELETE, &path, None).await?;
            remote.done(&reply, "Deleted.")
        }
    }
}

/// Where a channel leads: its first setting.
fn first_setting(channel: &Value) -> Value {
    let kind = channel["kind"].as_str().and_then(Kind::named);
    let settings = kind.into_iter().flat_map(|kind| kind.settings);
    let mut given = settings.map(|setting| channel["settings"][setting.name].clone());
    given.find(Value::is_string).unwrap_or_default()
}

fn kind_named(name: &str) -> anyhow::Result<&'static Kind> {
    Kind::named(name).with_context(|| {
        format!("there is no kind of channel {name}; `thrum channels kinds` lists them")
    })
}

fn print_kinds(kind: Option<&str>) -> anyhow::Result<()> {
    let Some(kind) = kind else {
        for Kind { name, title, .. } in KINDS {
            println!("{name:<14}{title}");
        }
        return Ok(());
    };
    let kind = kind_named(kind)?;
    println!("{}: {}\n", kind.title, kind.find);
    for setting in kind.settings {
        let need = match (setting.required, setting.secret) {
            (true, true) => "required, secret",
            (true, false) => "required",
            (false, true) => "optional, secret",
            (false, false) => "optional",
        };
        let hint = if setting.hint.is_empty() {
            String::new()
        } else {
            format!(": {}", setting.hint)
        };
        println!("{:<14}{} ({need}){hint}", setting.name, setting.label);
    }
    Ok(())
}

/// The request that sets `settings`.
fn request(
    kind: &Kind,
    settings: &[String],
    name: Option<String>,
    is_edit: bool,
) -> anyhow::Result<Value> {
    let mut given = Map::new();
    let mut required = kind.settings.iter().filter(|setting| setting.required);
    for text in settings {
        let pair = text.split_once('=');
        let named = pair.filter(|(name, _)| kind.setting(name).is_some());
        let (name, value) = match named {
            Some(pair) => pair,
            None => {
                let next = required.next().filter(|_| !is_edit);
                let next = next.with_context(|| {
                    let names: Vec<&str> =
                        kind.settings.iter().map(|setting| setting.name).collect();
                    format!(
                        "{text} is not a setting of {}; write NAME=VALUE, where NAME is one of {}",
                        kind.name,
                        names.join(", ")
                    )
                })?;
                (next.name, text.as_str())
            }
        };
        let value = read_value(value)?;
        let value = if value.is_empty() {
            Value::Null
        } else {
            value.into()
        };
        given.insert(name.to_owned(), value);
    }
    let mut body = json!({ "settings": given });
    if let Some(name) = name {
        body["name"] = name.into();
    }
    Ok(body)
}

/// A value, or what the file has that it names with `@`, or stdin if it is `-`: so that a secret need
/// not be on the command line, where others see it.
fn read_value(value: &str) -> anyhow::Result<String> {
    let text = match value.strip_prefix('@') {
        Some(path) => fs::read_to_string(path).with_context(|| format!("can't read {path}"))?,
        None if value == "-" => io::read_to_string(io::stdin()).context("can't read stdin")?,
        None => return Ok(value.to_owned()),
    };
    Ok(text.trim_end().to_owned())
}
