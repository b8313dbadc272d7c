//! `thrum channels`: lists, adds, tests and deletes channels.

use super::{Part, Remote, cell, segment};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

const EXAMPLES: &str = "\
Examples:
  thrum channels add webhook https://example.org/hook --name ops
  thrum channels add email ops@example.org
  thrum channels add sms +4915112345678
  thrum channels add sns arn:aws:sns:eu-central-1:123456789012:alerts
  thrum channels test 'Ops team'";

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
    /// Add a channel
    Add {
        /// Kind of channel
        #[arg(value_parser = ["webhook", "email", "sms", "sns"])]
        kind: String,
        /// URL of the webhook, e-mail address, phone number (+4915112345678) or ARN of the SNS
        /// topic
        to: String,
        /// Name of the channel
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
                    channel["subscription"] = channel["subscription"]["state"].take();
                    channel["failing"] = channel["failing"]["last_error"].take();
                }
            }
            let columns = [
                "name",
                "kind",
                "url",
                "to",
                "topic_arn",
                "subscription",
                "failing",
                "id",
            ];
            remote.print(&reply, "channels", &columns)
        }
        ChannelAction::Add { kind, to, name } => {
            let field = match kind.as_str() {
                "webhook" => "url",
                "sns" => "topic_arn",
                _ => "to",
            };
            let mut body = Map::new();
            body.insert("kind".into(), json!(kind));
            body.insert(field.into(), json!(to));
            if let Some(name) = name {
                body.insert("name".into(), json!(name));
            }
            let reply = remote
                .call(Method::POST, "/v1/channels", Some(Value::Object(body)))
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
