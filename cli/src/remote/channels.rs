//! `thrum channels`: lists, adds, edits, tests and deletes channels.

use super::{Part, Remote, cell, segment};
use anyhow::{Context, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;
use std::{fs, io};
use thrum_schema::channel::kind::{KINDS, Kind, Setting};
use tokio::time::sleep;

/// How often, and how many times, to look whether a test alert has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOKS: u32 = 24;

const EXAMPLES: &str = "\
Examples:
  thrum channels kinds                 # list all kinds
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
        /// Settings as NAME=VALUE, or the values of the required ones in order; of a secret, @FILE reads
        /// it from a file, and - from stdin
        #[arg(required = true, value_name = "SETTING")]
        settings: Vec<String>,
        /// Name of the channel
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        when: When,
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
        #[command(flatten)]
        when: When,
    },
    /// Send a test alert to a channel
    Test {
        /// Name or ID of the channel
        id: String,
        /// Let it look like an alert about this monitor
        #[arg(long, value_name = "NAME")]
        monitor: Option<String>,
    },
    /// Delete a channel
    Delete {
        /// Name or ID of the channel
        id: String,
    },
}

/// When a channel is notified, and what if it fails.
#[derive(Debug, Args)]
struct When {
    /// Notify it only of monitors that are still down, and not acknowledged, after this time; 0s to
    /// notify it at once
    #[arg(long, value_parser = crate::remote::duration, value_name = "DURATION")]
    after: Option<Duration>,
    /// Name or ID of the channel that gets what this one fails to deliver; empty for none
    #[arg(long, value_name = "CHANNEL")]
    fallback: Option<String>,
}

impl When {
    fn put_into(self, body: &mut Value) {
        if let Some(after) = self.after {
            body["after_s"] = match after.as_secs() {
                0 => Value::Null,
                seconds => seconds.into(),
            };
        }
        if let Some(fallback) = self.fallback {
            body["fallback"] = match fallback.as_str() {
                "" => Value::Null,
                name => name.into(),
            };
        }
    }
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
            let columns = [
                "name",
                "kind",
                "to",
                "after_s",
                "subscription",
                "failing",
                "id",
            ];
            remote.print(&reply, "channels", &columns)
        }
        ChannelAction::Kinds { kind } => print_kinds(kind.as_deref()),
        ChannelAction::Edit {
            id,
            settings,
            name,
            when,
        } => {
            let path = format!("/v1/channels/{}", segment(&id)?);
            let channel = remote.call(Method::GET, &path, None).await?;
            let kind = kind_named(&cell(&channel["kind"]))?;
            let mut body = request(kind, &settings, name, true)?;
            when.put_into(&mut body);
            let reply = remote.call(Method::PATCH, &path, Some(body)).await?;
            remote.done(&reply, "Saved.")
        }
        ChannelAction::Add {
            kind,
            settings,
            name,
            when,
        } => {
            let kind = kind_named(&kind)?;
            let mut body = request(kind, &settings, name, false)?;
            body["kind"] = json!(kind.name);
            when.put_into(&mut body);
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
                    format!("{words}\nSigning secret (Thrum shows it only once): {secret}")
                }
                None => words,
            };
            remote.done(&reply, &words)
        }
        ChannelAction::Test { id, monitor } => {
            let mut path = format!("/v1/channels/{}/test", segment(&id)?);
            if let Some(monitor) = monitor {
                path = format!("{path}?monitor={}", segment(&monitor)?);
            }
            let reply = remote.call(Method::POST, &path, None).await?;
            let outcome = outcome(&remote, &cell(&reply["alert_id"])).await?;
            remote.done(&reply, &outcome)
        }
        ChannelAction::Delete { id } => {
            let path = format!("/v1/channels/{}", segment(&id)?);
            let reply = remote.call(Method::DELETE, &path, None).await?;
            remote.done(&reply, "Deleted.")
        }
    }
}

/// Where a channel leads: its first setting that is no secret, or else its first.
fn first_setting(channel: &Value) -> Value {
    let kind = channel["kind"].as_str().and_then(Kind::named);
    let settings = kind.map_or(&[][..], |kind| kind.settings);
    let is_shown = |setting: &&Setting| !setting.secret;
    let order = settings.iter().filter(is_shown).chain(settings);
    let mut given = order.map(|setting| channel["settings"][setting.name].clone());
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
    let is_named = |text: &&String| {
        let pair = text.split_once('=');
        pair.is_some_and(|(name, _)| kind.setting(name).is_some())
    };
    let named: Vec<&str> = settings
        .iter()
        .filter(is_named)
        .filter_map(|text| text.split('=').next())
        .collect();
    let mut required = kind
        .settings
        .iter()
        .filter(|setting| setting.required && !named.contains(&setting.name));
    for text in settings {
        let pair = text.split_once('=');
        let named = pair.filter(|(name, _)| kind.setting(name).is_some());
        let (name, value) = match named {
            Some(pair) => pair,
            None => {
                // A name that is mistyped is no value.
                let is_name =
                    |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                let is_mistyped = pair.is_some_and(|(name, _)| is_name(name));
                let next = required.next().filter(|_| !is_edit && !is_mistyped);
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
        // Others may begin with @, too, such as the name of a chat.
        let reads = kind
            .setting(name)
            .is_some_and(|setting| setting.secret || setting.is_long());
        let value = match reads {
            true => read_value(value)?,
            false => value.to_owned(),
        };
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

/// Reads a value: `@FILE` from that file, `-` from stdin. Secrets then stay off the command line, where
/// other users could see them.
fn read_value(value: &str) -> anyhow::Result<String> {
    let text = match value.strip_prefix('@') {
        Some(path) => fs::read_to_string(path).with_context(|| format!("can't read {path}"))?,
        None if value == "-" => io::read_to_string(io::stdin()).context("can't read stdin")?,
        None => return Ok(value.to_owned()),
    };
    Ok(text.trim_end().to_owned())
}

/// What became of a test alert, as soon as that is known.
///
/// # Errors
/// It did not arrive, or the server can't be reached.
async fn outcome(remote: &Remote, alert: &str) -> anyhow::Result<String> {
    for _ in 0..LOOKS {
        sleep(LOOK_EVERY).await;
        let reply = remote
            .call(Method::GET, "/v1/alerts?limit=50", None)
            .await?;
        let alerts = reply["alerts"].as_array().into_iter().flatten();
        let mut own = alerts.filter(|one| one["id"] == *alert);
        let Some(delivery) = own.next().map(|one| &one["deliveries"][0]) else {
            continue;
        };
        let error = cell(&delivery["error"]);
        match delivery["state"].as_str() {
            Some("sent") => return Ok("The test alert was delivered.".to_owned()),
            Some("retry") => bail!("the test alert was not delivered: {error}. Thrum tries again"),
            Some("dead" | "suppressed") => bail!("the test alert was not delivered: {error}"),
            _ => {}
        }
    }
    Ok(format!(
        "The test alert {alert} is on its way. `thrum alerts` shows what becomes of it."
    ))
}
