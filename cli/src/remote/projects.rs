//! `thrum projects`, for the operator, and `thrum usage`.

use super::{Operator, Remote, cell, out, segment};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  thrum projects create 'Team A' --plan pro   prints the keys of the project, once
  thrum projects plan ID enterprise
  thrum projects --table thrum-production-Table-1X2Y";

/// Arguments of `thrum projects`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Projects {
    #[command(subcommand)]
    action: Option<ProjectAction>,

    /// Server, admin key and output format.
    #[command(flatten)]
    pub operator: Operator,
}

#[derive(Debug, Subcommand)]
enum ProjectAction {
    /// List the projects (the default)
    List,
    /// Create a project and print its keys; they are shown only once
    Create {
        /// Name of the project
        name: String,
        /// Plan: free, pro, enterprise, owner or one that the server's THRUM_PLANS adds
        #[arg(long, default_value = "free")]
        plan: String,
    },
    /// Change the plan of a project
    Plan {
        /// Project ID, from `thrum projects`
        id: String,
        /// Name of the new plan
        plan: String,
    },
    /// Delete a project that has no monitors
    Delete {
        /// Project ID, from `thrum projects`
        id: String,
    },
}

/// Arguments of `thrum usage`.
#[derive(Debug, Args)]
pub struct Usage {
    /// Number of UTC days to show, 1 to 35
    #[arg(
        long,
        default_value = "7",
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..=35)
    )]
    days: u8,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum projects`
///
/// # Errors
/// The server refused the request or can't be reached.
pub async fn projects(args: Projects) -> anyhow::Result<()> {
    let operator = args.operator;
    let remote = &operator.remote;
    match args.action.unwrap_or(ProjectAction::List) {
        ProjectAction::List => {
            let reply = operator.call(Method::GET, "/v1/projects", None).await?;
            remote.print(
                &reply,
                "projects",
                &["name", "plan", "monitors", "created", "id"],
            )
        }
        ProjectAction::Create { name, plan } => {
            let body = json!({ "name": name, "plan": plan });
            let created = operator
                .call(Method::POST, "/v1/projects", Some(body))
                .await?;
            if remote.json {
                return out(&serde_json::to_string_pretty(&created)?);
            }
            println!("project        {}", cell(&created["id"]));
            println!("API key        {}", cell(&created["api_key"]));
            println!("read-only key  {}", cell(&created["read_key"]));
            println!("ping key       {}", cell(&created["ping_key"]));
            eprintln!("These keys are shown only once: store them now.");
            Ok(())
        }
        ProjectAction::Plan { id, plan } => {
            let path = format!("/v1/projects/{}", segment(&id)?);
            let body = json!({ "plan": plan });
            operator.call(Method::PATCH, &path, Some(body)).await?;
            println!("Changed.");
            Ok(())
        }
        ProjectAction::Delete { id } => {
            let path = format!("/v1/projects/{}", segment(&id)?);
            operator.call(Method::DELETE, &path, None).await?;
            println!("Deleted.");
            Ok(())
        }
    }
}

/// `thrum usage`
///
/// # Errors
/// The server refused the request or can't be reached.
pub async fn usage(args: Usage) -> anyhow::Result<()> {
    let path = format!("/v1/usage?days={}", args.days);
    let mut reply = args.remote.call(Method::GET, &path, None).await?;
    if let (false, Some(days)) = (args.remote.json, reply["days"].as_array_mut()) {
        for day in days {
            let sent = day["deliveries"].as_object();
            let sent: Vec<String> = sent
                .into_iter()
                .flatten()
                .map(|(kind, n): (&String, &Value)| format!("{n} {kind}"))
                .collect();
            day["deliveries"] = sent.join(", ").into();
        }
    }
    args.remote
        .print(&reply, "days", &["day", "requests", "deliveries"])
}
