//! `thrum keys`

use super::{Remote, cell, segment};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// What to do with API keys.
#[derive(Debug, Args)]
pub struct Keys {
    #[command(subcommand)]
    action: Option<KeyAction>,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
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
        /// Requests a day; at most what the plan allows
        #[arg(long)]
        requests_per_day: Option<u32>,
    },
    /// Make its successor; for a while both are good
    Rotate {
        /// The key's id
        id: String,
        /// For how long
        #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
        overlap: Duration,
    },
    /// Revoke one; handlers forget it within half a minute
    Revoke {
        /// The key's id
        id: String,
    },
    /// Make the project's ping key anew; URLs with the one before are no longer good
    RotatePingKey,
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
            show(&remote.call(Method::POST, "/v1/keys", Some(body)).await?)
        }
        KeyAction::Rotate { id, overlap } => {
            let path = format!("/v1/keys/{}/rotate", segment(&id)?);
            let body = json!({ "overlap_s": overlap.as_secs() });
            show(&remote.call(Method::POST, &path, Some(body)).await?)
        }
        KeyAction::Revoke { id } => {
            let path = format!("/v1/keys/{}", segment(&id)?);
            remote.call(Method::DELETE, &path, None).await?;
            println!("Revoked.");
            Ok(())
        }
        KeyAction::RotatePingKey => {
            let reply = remote.call(Method::POST, "/v1/ping-key", None).await?;
            println!("{}", cell(&reply["ping_key"]));
            eprintln!("It is shown this once: keep it.");
            Ok(())
        }
    }
}

/// The key alone on stdout, for scripts; the rest for people.
fn show(reply: &Value) -> anyhow::Result<()> {
    println!("{}", cell(&reply["key"]));
    eprintln!(
        "It is shown this once: keep it. Its id is {}.",
        cell(&reply["id"])
    );
    Ok(())
}
