//! `thrum keys`: lists, creates, rotates and revokes API keys.

use super::{Part, Remote, cell, segment};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  thrum keys                                list the keys; the secrets are not shown
  KEY=$(thrum keys create read --name ci)   stdout has only the key
  thrum keys create heartbeat --name hosts  for hosts: they can send heartbeats, nothing else
  thrum keys rotate ID --overlap 1h
  thrum keys revoke ID";

/// Arguments of `thrum keys`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Keys {
    #[command(subcommand)]
    action: Option<KeyAction>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// List the keys (the default)
    List,
    /// Create a key and print it; it is shown only once
    Create {
        /// Scope: read-write (write), read-only (read), sending heartbeats (heartbeat), or sending
        /// bars, values and sentiment (series)
        #[arg(value_parser = ["write", "read", "heartbeat", "series"])]
        scope: String,
        /// Name of the key
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        /// Quota in requests per UTC day; default and maximum: the plan's
        #[arg(long, value_name = "N")]
        requests_per_day: Option<u32>,
    },
    /// Replace a key and print the new one; the old one stays valid for a while
    Rotate {
        /// Key ID, from `thrum keys`
        id: String,
        /// How long the old key stays valid, at most 30days
        #[arg(
            long,
            default_value = "24h",
            value_parser = humantime::parse_duration,
            value_name = "DURATION"
        )]
        overlap: Duration,
    },
    /// Revoke a key; takes up to 30 seconds to take effect
    Revoke {
        /// Key ID, from `thrum keys`
        id: String,
    },
    /// Replace the project's ping key and print the new one; ping URLs with the old one stop
    /// working
    RotatePingKey,
}

/// `thrum keys`
///
/// # Errors
/// The server refused the request or can't be reached.
pub async fn keys(args: Keys) -> anyhow::Result<()> {
    let remote = args.remote;
    match args.action.unwrap_or(KeyAction::List) {
        KeyAction::List => {
            let reply = remote.list("/v1/keys", "keys", Part::default()).await?;
            let columns = ["id", "scope", "name", "created", "until"];
            remote.print(&reply, "keys", &columns)
        }
        KeyAction::Create {
            scope,
            name,
            requests_per_day,
        } => {
            let mut body = json!({ "scope": scope, "name": name });
            if let Some(limit) = requests_per_day {
                body["requests_per_day"] = limit.into();
            }
            show(
                &remote,
                &remote.call(Method::POST, "/v1/keys", Some(body)).await?,
            )
        }
        KeyAction::Rotate { id, overlap } => {
            let path = format!("/v1/keys/{}/rotate", segment(&id)?);
            let body = json!({ "overlap_s": overlap.as_secs() });
            show(
                &remote,
                &remote.call(Method::POST, &path, Some(body)).await?,
            )
        }
        KeyAction::Revoke { id } => {
            let path = format!("/v1/keys/{}", segment(&id)?);
            let reply = remote.call(Method::DELETE, &path, None).await?;
            remote.done(&reply, "Revoked.")
        }
        KeyAction::RotatePingKey => {
            let reply = remote.call(Method::POST, "/v1/ping-key", None).await?;
            remote.done(&reply, &cell(&reply["ping_key"]))?;
            eprintln!("This key is shown only once: store it now.");
            Ok(())
        }
    }
}

/// Prints only the key to stdout, for scripts; the rest goes to stderr.
fn show(remote: &Remote, reply: &Value) -> anyhow::Result<()> {
    remote.done(reply, &cell(&reply["key"]))?;
    eprintln!(
        "This key is shown only once: store it now. Its ID is {}.",
        cell(&reply["id"])
    );
    Ok(())
}
