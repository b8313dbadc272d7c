//! `thrum channels`

use super::{Remote, cell, segment};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

/// What to do with channels.
#[derive(Debug, Args)]
pub struct Channels {
    #[command(subcommand)]
    action: Option<ChannelAction>,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
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

/// `thrum channels`
///
/// # Errors
/// The server refused, or can't be reached.
pub async fn channels(args: Channels) -> anyhow::Result<()> {
    let remote = args.remote;
    match args.action.unwrap_or(ChannelAction::List) {
        ChannelAction::List => {
            let mut reply = remote.call(Method::GET, "/v1/channels", None).await?;
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
