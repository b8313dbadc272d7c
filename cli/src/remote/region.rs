//! `thrum region`, for the operator of a deployment in two regions.

use super::{Operator, cell, out};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  thrum region status
  thrum region switch eu-west-1          makes the other region active
  thrum region switch eu-central-1       withdraws that, while eu-central-1 is still active
  thrum region status --table thrum-production-Table-1X2Y

If a region is lost, the other one takes over by itself; docs/regions.md explains when.";

/// Arguments of `thrum region`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RegionArgs {
    #[command(subcommand)]
    action: Option<Action>,

    /// Server, admin key and output format.
    #[command(flatten)]
    pub operator: Operator,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show which region is active, how far behind the other one is, and the last takeover (the default)
    Status,
    /// Make a region active
    ///
    /// The active region stops when its lease ends, within a minute, and the other one takes over 13 seconds later.
    /// Meanwhile, heartbeats are refused with 503; no monitor goes down for that.
    Switch {
        /// Name of the region, such as eu-west-1
        to: String,
        /// Switch even if that region has not reported lately, or its table is behind
        ///
        /// What was not replicated is then lost.
        #[arg(long)]
        force: bool,
    },
}

/// `thrum region`
///
/// # Errors
/// The server refused the request or can't be reached.
pub async fn region(args: RegionArgs) -> anyhow::Result<()> {
    let operator = args.operator;
    let (method, path, body) = match args.action.unwrap_or(Action::Status) {
        Action::Status => (Method::GET, "/v1/regions", None),
        Action::Switch { to, force } => {
            let body = json!({ "to": to, "force": force });
            (Method::POST, "/v1/regions/switch", Some(body))
        }
    };
    let shown = operator.call(method, path, body).await?;
    if operator.remote.json {
        return out(&serde_json::to_string_pretty(&shown)?);
    }
    out(&lines(&shown).join("\n"))
}

/// The regions, for people.
fn lines(shown: &Value) -> Vec<String> {
    let active = match (shown["next"].as_str(), shown["ready"].as_bool()) {
        (Some(next), _) => format!(
            ", until its lease ends at {}; then {next} takes over",
            cell(&shown["lease_until"])
        ),
        (None, Some(false)) => ", repairing what replication lost".to_owned(),
        (None, _) => format!(", its lease until {}", cell(&shown["lease_until"])),
    };
    let mut lines = vec![format!(
        "active    {} since {} (epoch {}){active}",
        cell(&shown["active"]),
        cell(&shown["since"]),
        cell(&shown["epoch"])
    )];
    let passive = &shown["passive"];
    lines.push(match passive["region"].as_str() {
        None => "passive   has not reported: no region could take over".to_owned(),
        Some(region) => {
            let lag = match passive["lag_s"].as_i64() {
                Some(lag_s) => format!("at most {lag_s} s behind"),
                None => "without a table".to_owned(),
            };
            let at = cell(&passive["reported_at"]);
            format!("passive   {region}, {lag} when it reported at {at}")
        }
    });
    let takeover = &shown["takeover"];
    if takeover.is_object() {
        let ready = match takeover["ready_at"].as_str() {
            Some(at) => format!("repaired at {at}"),
            None => "not repaired yet".to_owned(),
        };
        lines.push(format!(
            "takeover  epoch {}, {ready}; heartbeats since {} may be missing",
            cell(&takeover["epoch"]),
            cell(&takeover["lost_since"])
        ));
        lines.push(format!(
            "          {} monitors checked at {}; repaired: {} timers, {} alerts",
            cell(&takeover["monitors"]),
            cell(&takeover["checked_at"]),
            cell(&takeover["timers"]),
            cell(&takeover["alerts"])
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_regions_are_shown_in_a_few_lines() {
        let shown = json!({
            "here": "b", "active": "b", "epoch": 2, "since": "2026-11-30T10:01:13.000Z",
            "lease_until": "2026-11-30T10:20:00.000Z", "ready": true,
            "passive": { "region": "a", "reported_at": "2026-11-30T10:19:00.000Z", "lag_s": 20 },
            "takeover": {
                "epoch": 2, "lost_since": "2026-11-30T09:58:00.000Z", "ready_at": "2026-11-30T10:01:20.000Z",
                "checked_at": "2026-11-30T10:15:00.000Z", "monitors": 40, "timers": 1, "alerts": 0,
            },
        });
        let expected = [
            "active    b since 2026-11-30T10:01:13.000Z (epoch 2), its lease until 2026-11-30T10:20:00.000Z",
            "passive   a, at most 20 s behind when it reported at 2026-11-30T10:19:00.000Z",
            "takeover  epoch 2, repaired at 2026-11-30T10:01:20.000Z; heartbeats since 2026-11-30T09:58:00.000Z may be missing",
            "          40 monitors checked at 2026-11-30T10:15:00.000Z; repaired: 1 timers, 0 alerts",
        ];
        assert_eq!(lines(&shown), expected);
    }
}
