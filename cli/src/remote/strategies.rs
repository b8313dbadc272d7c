//! `thrum strategies`: lists, shows, checks, stores and deletes strategies.

use super::{Remote, out, segment};
use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;
use std::path::{Path, PathBuf};
use thrum_schema::error::Invalids;
use thrum_schema::signal::Strategy;
use thrum_schema::signal::strategy::{builtin, schema};

const EXAMPLES: &str = "\
Examples:
  thrum strategies                          list them
  thrum strategies show turtle > mine.json  start with a built-in one
  thrum strategies check mine.json          check it without a server
  thrum strategies set mine mine.json       store it, as a new version if it changed
  thrum strategies schema > strategy.schema.json";

/// Arguments of `thrum strategies`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Strategies {
    #[command(subcommand)]
    action: Option<Action>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the strategies (the default)
    List,
    /// Print the definition of a strategy
    Show {
        /// Its name; a built-in one needs no server
        name: String,
    },
    /// Check a definition, without a server
    Check {
        /// JSON file
        file: PathBuf,
    },
    /// Store a strategy
    Set {
        /// Its name
        name: String,
        /// JSON file with its definition
        file: PathBuf,
    },
    /// Delete a strategy
    Delete {
        /// Its name
        name: String,
    },
    /// Print the JSON Schema of definitions, for editors
    Schema,
}

/// The definition in a file, checked.
fn read(file: &Path) -> anyhow::Result<Value> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {name}"))?;
    let value = serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))?;
    match Strategy::parse(&value) {
        Ok(_) => Ok(value),
        Err(Invalids(problems)) => {
            let lines: Vec<String> = problems
                .iter()
                .map(|problem| format!("  {problem}"))
                .collect();
            anyhow::bail!("{name} is not a strategy:\n{}", lines.join("\n"))
        }
    }
}

/// `thrum strategies`
///
/// # Errors
/// A definition is invalid, or the server refused the request or can't be reached.
pub async fn strategies(args: Strategies) -> anyhow::Result<()> {
    let remote = args.remote;
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let reply = remote.call(Method::GET, "/v1/strategies", None).await?;
            remote.print(
                &reply,
                "strategies",
                &["name", "version", "built_in", "modes"],
            )
        }
        Action::Show { name } => {
            let definition = match builtin(&name) {
                Some(strategy) => strategy.to_json(),
                None => {
                    let path = format!("/v1/strategies/{}", segment(&name)?);
                    let reply = remote.call(Method::GET, &path, None).await?;
                    reply["definition"].clone()
                }
            };
            out(&serde_json::to_string_pretty(&definition)?)
        }
        Action::Check { file } => {
            read(&file)?;
            out("It is a valid strategy.")
        }
        Action::Set { name, file } => {
            let definition = read(&file)?;
            let path = format!("/v1/strategies/{}", segment(&name)?);
            let reply = remote.call(Method::PUT, &path, Some(definition)).await?;
            let version = reply["version"].as_u64().unwrap_or_default();
            remote.done(&reply, &format!("Stored {name}, version {version}."))
        }
        Action::Delete { name } => {
            let path = format!("/v1/strategies/{}", segment(&name)?);
            let reply = remote.call(Method::DELETE, &path, None).await?;
            remote.done(&reply, &format!("Deleted {name}."))
        }
        Action::Schema => out(&serde_json::to_string_pretty(&schema())?),
    }
}
