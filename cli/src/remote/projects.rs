//! `thrum projects`, for who runs the installation, and `thrum usage`.

use super::{Direct, Remote, cell, out, segment};
use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

/// What to do with projects.
#[derive(Debug, Args)]
pub struct Projects {
    #[command(subcommand)]
    action: Option<ProjectAction>,

    /// The admin key
    #[arg(long, global = true, env = "THRUM_ADMIN_KEY", hide_env_values = true)]
    admin_key: Option<SecretString>,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum ProjectAction {
    /// List the projects (the default)
    List,
    /// Make one; its keys are shown once
    Create {
        /// What to call it
        name: String,
        /// free, pro, enterprise, or another that is configured
        #[arg(long, default_value = "free")]
        plan: String,
    },
    /// Change a project's plan
    Plan {
        /// The project's id
        id: String,
        /// The plan's name
        plan: String,
    },
    /// Delete one that has no monitors
    Delete {
        /// The project's id
        id: String,
    },
}

impl Projects {
    /// Talks to `direct` from here on, as its operator.
    pub fn connect_to(&mut self, direct: &Direct) {
        self.remote.connect_to(direct);
        self.admin_key = Some(direct.admin_key.clone());
    }
}

/// How much to show of what was used.
#[derive(Debug, Args)]
pub struct Usage {
    /// How many days
    #[arg(long, default_value = "7", value_parser = clap::value_parser!(u8).range(1..=35))]
    days: u8,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum projects`
///
/// # Errors
/// The server refused, or can't be reached.
pub async fn projects(args: Projects) -> anyhow::Result<()> {
    let remote = args.remote;
    let key = args.admin_key.as_ref();
    let key = key.context("the admin key is needed: set THRUM_ADMIN_KEY, or give --admin-key")?;
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
            let made = call(Method::POST, "/v1/projects", Some(body)).await?;
            if remote.json {
                return out(&serde_json::to_string_pretty(&made)?);
            }
            println!("project        {}", cell(&made["id"]));
            println!("API key        {}", cell(&made["api_key"]));
            println!("read-only key  {}", cell(&made["read_key"]));
            println!("ping key       {}", cell(&made["ping_key"]));
            eprintln!("Keys are shown this once: keep them.");
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
/// The server refused, or can't be reached.
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
