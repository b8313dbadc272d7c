//! `thrum alerts`: lists alerts and redelivers them.

use super::{Remote, cell, segment};
use clap::{Args, Subcommand};
use reqwest::Method;

const EXAMPLES: &str = "\
Examples:
  thrum alerts                  list the newest alerts, with delivery errors
  thrum alerts redeliver ID     retry the dead deliveries of an alert
  thrum redrive                 retry the dead deliveries of all alerts";

/// Arguments of `thrum alerts`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Alerts {
    #[command(subcommand)]
    action: Option<AlertAction>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AlertAction {
    /// List the newest alerts (the default)
    List,
    /// Retry the dead deliveries of an alert
    Redeliver {
        /// Alert ID, from `thrum alerts`
        id: String,
    },
}

/// `thrum alerts`
///
/// # Errors
/// The server refused the request or can't be reached.
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
            println!("Redelivering.");
            Ok(())
        }
    }
}
