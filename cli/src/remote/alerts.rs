//! `thrum alerts`: lists alerts and redelivers them.

use super::{Part, Remote, cell, moment, out, segment, show as line};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;
use thrum_schema::world::SystemWorld;

const EXAMPLES: &str = "\
Examples:
  thrum alerts                  list the newest alerts, with delivery errors
  thrum alerts show ID          show one with its deliveries; messages name its ID
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
    /// Show an alert and its deliveries
    Show {
        /// Alert ID, from `thrum alerts` or a message
        id: String,
    },
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
        AlertAction::Show { id } => {
            let path = format!("/v1/alerts/{}", segment(&id)?);
            let alert = remote.call(Method::GET, &path, None).await?;
            show(&remote, &alert).await
        }
        AlertAction::Redeliver { id } => {
            let path = format!("/v1/alerts/{}/redeliver", segment(&id)?);
            let reply = remote.call(Method::POST, &path, None).await?;
            remote.done(&reply, "Redelivering.")
        }
    }
}

/// Prints an alert, or the server's response.
async fn show(remote: &Remote, alert: &Value) -> anyhow::Result<()> {
    if remote.json {
        return out(&serde_json::to_string_pretty(alert)?);
    }
    let now = SystemWorld::arc().now();
    let time = |at: &Value| moment(at, now);
    let signal = &alert["signal"];
    for (name, value) in [
        ("alert", cell(&alert["type"])),
        ("state", cell(&alert["state"])),
        ("monitor", cell(&alert["monitor"]["name"])),
        ("signal", cell(&signal["summary"])),
        ("reason", cell(&alert["reason"])),
        ("why", cell(&alert["why"])),
        ("happened", time(&alert["flip_at"])),
        ("raised", time(&alert["created_at"])),
        ("deadline", time(&alert["deadline"])),
        ("id", cell(&alert["id"])),
        ("trace", cell(&alert["trace"])),
    ] {
        if !value.is_empty() {
            out(&format!("{name:<10} {}", value.replace('\n', " ")))?;
        }
    }
    let deliveries = alert["deliveries"].as_array().into_iter().flatten();
    let deliveries: Vec<&Value> = deliveries.collect();
    if deliveries.is_empty() {
        return line("\nNo deliveries.");
    }
    let channels = remote
        .list("/v1/channels", "channels", Part::default())
        .await?;
    line("\nDeliveries")?;
    for delivery in deliveries {
        let id = &delivery["channel"];
        let mut channels = channels["channels"].as_array().into_iter().flatten();
        let name = channels.find(|channel| channel["id"] == *id);
        let name = name.map_or_else(|| cell(id), |channel| cell(&channel["name"]));
        let details = [
            time(&delivery["sent_at"]),
            match delivery["attempts"].as_u64() {
                None | Some(0 | 1) => String::new(),
                Some(n) => format!("{n} attempts"),
            },
            match delivery["next_attempt_at"].as_str() {
                Some(at) => format!("next at {at}"),
                None => String::new(),
            },
            match delivery["group"].as_str() {
                Some(group) => format!("in the group {group}"),
                None => String::new(),
            },
            cell(&delivery["error"]),
            cell(&delivery["note"]),
        ];
        let details: Vec<String> = details.into_iter().filter(|one| !one.is_empty()).collect();
        let state = cell(&delivery["state"]);
        out(&format!("  {state:<10} {name}: {}", details.join(", ")))?;
    }
    Ok(())
}

/// The start of a text, for a table.
fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_ERROR) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
