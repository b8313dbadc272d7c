//! `thrum projects`, for the operator, and `thrum usage`.

use super::{Direct, Remote, cell, out, segment};
use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::Method;
use secrecy::SecretString;
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

    /// Admin key of the server
    #[arg(
        long,
        global = true,
        env = "THRUM_ADMIN_KEY",
        hide_env_values = true,
        value_name = "KEY",
        help_heading = "Server options"
    )]
    admin_key: Option<SecretString>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
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

impl Projects {
    /// Sends further requests to `direct`, with its admin key.
    pub fn connect_to(&mut self, direct: &Direct) {
        self.remote.connect_to(direct);
        self.admin_key = Some(direct.admin_key.clone());
    }
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
    let remote = args.remote;
    let key = args.admin_key.as_ref();
    let key = key.context("the admin key is required: set THRUM_ADMIN_KEY or pass --admin-key")?;
    let call = async |method, path: &str, body| {
        let (_, reply) = remote
            .call_with(("x-admin-key", key), method, path, body)
            .await?;
        anyhow::Ok(reply)
    };
    match args.action.unwrap_or(ProjectAction::List) {
        ProjectAction::List => {
            let reply = call(Method::GET, "/v1/projects", None).await?;
            remote.print(
                &reply,
                "projects",
                &["name", "plan", "monitors", "created", "id"],
            )
        }
        ProjectAction::Create { name, plan } => {
            let body = json!({ "name": name, "plan": plan });
            let created = call(Method::POST, "/v1/projects", Some(body)).await?;
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
            call(Method::PATCH, &path, Some(json!({ "plan": plan }))).await?;
            println!("Changed.");
            Ok(())
        }
        ProjectAction::Delete { id } => {
            let path = format!("/v1/projects/{}", segment(&id)?);
            call(Method::DELETE, &path, None).await?;
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
