//! `thrum alerts`: lists alerts and redelivers them.

use super::{Part, Remote, cell, segment};
use clap::{Args, Subcommand};
use reqwest::Method;

const EXAMPLES: &str = "\
Examples:
  thrum alerts                  list the newest alerts, with delivery errors
  thrum alerts redeliver ID     retry the dead deliveries of an alert
  thrum redrive                 retry the dead deliveries of all alerts";

/// How many characters of an error the table shows; --json shows all.
const MAX_ERROR: usize = 60;

/// Arguments of `thrum alerts`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Alerts {
    #[command(subcommand)]
    action: Option<AlertAction>,

    #[command(flatten)]
    filter: Filter,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

/// Which alerts to list.
#[derive(Debug, Clone, Args)]
struct Filter {
    /// Only alerts in this state
    #[arg(long, value_parser = ["pending", "delivered", "dead"])]
    state: Option<String>,
    /// Show at most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum AlertAction {
    /// List the newest alerts (the default)
    List(Filter),
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
    let given = args.filter;
    match args.action.unwrap_or(AlertAction::List(given)) {
        AlertAction::List(filter) => {
            let path = match &filter.state {
                Some(state) => format!("/v1/alerts?state={state}"),
                None => "/v1/alerts".to_owned(),
            };
            let part = Part {
                limit: Some(filter.limit),
            };
            let mut reply = remote.list(&path, "alerts", part).await?;
            if !remote.json
                && let Some(alerts) = reply["alerts"].as_array_mut()
            {
                for alert in alerts {
                    alert["monitor"] = alert["monitor"]["name"].take();
                    let deliveries = alert["deliveries"].as_array().into_iter().flatten();
                    let errors: Vec<String> = deliveries
                        .map(|delivery| cell(&delivery["error"]))
                        .filter(|error| !error.is_empty())
                        .collect();
                    alert["error"] = short(&errors.join("; ")).into();
                }
            }
            let columns = ["created_at", "type", "monitor", "state", "error", "id"];
            remote.print(&reply, "alerts", &columns)
        }
        AlertAction::Redeliver { id } => {
            let path = format!("/v1/alerts/{}/redeliver", segment(&id)?);
            let reply = remote.call(Method::POST, &path, None).await?;
            remote.done(&reply, "Redelivering.")
        }
    }
}

/// The start of a text, for a table.
fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_ERROR) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
