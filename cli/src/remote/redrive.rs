//! `thrum redrive`: what was given up is tried again.

#[cfg(feature = "aws")]
mod queue;

use super::{Remote, cell, segment};
use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
#[cfg(feature = "aws")]
use queue::queues;
use reqwest::Method;

/// How many alerts are brought back at a time: as many as the API lists.
const PAGE: usize = 200;

/// What to try again.
#[derive(Debug, Args)]
pub struct Redrive {
    /// The URL of a dead-letter queue, as the deployment's outputs have it: its messages go back to where they came from.
    /// Without one, the alerts of which a channel gave up are delivered again
    #[arg(long, value_name = "URL")]
    queue: Vec<String>,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum redrive`
///
/// # Errors
/// The server or SQS refused, or can't be reached.
pub async fn redrive(args: Redrive) -> anyhow::Result<()> {
    if args.queue.is_empty() {
        return alerts(&args.remote).await;
    }
    queues(&args.queue).await
}

async fn alerts(remote: &Remote) -> anyhow::Result<()> {
    let path = format!("/v1/alerts?state=dead&limit={PAGE}");
    let reply = remote.call(Method::GET, &path, None).await?;
    let alerts = reply["alerts"]
        .as_array()
        .context("the reply has no list")?;
    let progress = ProgressBar::new(alerts.len() as u64);
    let mut refused = Vec::new();
    for alert in alerts {
        let id = cell(&alert["id"]);
        let path = format!("/v1/alerts/{}/redeliver", segment(&id)?);
        // One that can't be brought back must not keep the others.
        if let Err(error) = remote.call(Method::POST, &path, None).await {
            refused.push(format!("{id}: {error:#}"));
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    match alerts.len() - refused.len() {
        0 if refused.is_empty() => println!("No alert was given up."),
        0 => {}
        1 => println!("One alert is on its way again."),
        n => println!("{n} alerts are on their way again."),
    }
    if alerts.len() == PAGE {
        println!("There may be more: do it again when these are through.");
    }
    if !refused.is_empty() {
        bail!(
            "{} were not brought back:\n{}",
            refused.len(),
            refused.join("\n")
        );
    }
    Ok(())
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "same signature as the real one")]
async fn queues(_: &[String]) -> anyhow::Result<()> {
    bail!("this build of thrum has no AWS support; to use --queue, build it with --features aws")
}
