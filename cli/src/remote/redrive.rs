//! `thrum redrive`: retries dead alerts and dead letters.

#[cfg(feature = "aws")]
mod queue;

use super::{Remote, cell, segment};
use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
#[cfg(feature = "aws")]
use queue::queues;
use reqwest::Method;

/// Alerts per run: the most that the API lists.
const PAGE: usize = 200;

const EXAMPLES: &str = "\
Examples:
  thrum redrive
  thrum redrive --queue https://sqs.eu-central-1.amazonaws.com/123456789012/NotifyDead";

/// Arguments of `thrum redrive`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Redrive {
    /// URL of a dead-letter queue, from the outputs of the deployment's stack; repeatable
    ///
    /// SQS moves its messages back to the queue that they came from, with your AWS credentials.
    #[arg(long, value_name = "URL")]
    queue: Vec<String>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum redrive`
///
/// # Errors
/// The server or SQS refused the request or can't be reached.
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
        .context("the response has no list `alerts`")?;
    let progress = ProgressBar::new(alerts.len() as u64);
    let mut refused = Vec::new();
    for alert in alerts {
        let id = cell(&alert["id"]);
        let path = format!("/v1/alerts/{}/redeliver", segment(&id)?);
        // One failure must not stop the others.
        if let Err(error) = remote.call(Method::POST, &path, None).await {
            refused.push(format!("{id}: {error:#}"));
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    match alerts.len() - refused.len() {
        0 if refused.is_empty() => println!("There are no dead alerts."),
        0 => {}
        1 => println!("Redelivering 1 alert."),
        n => println!("Redelivering {n} alerts."),
    }
    if alerts.len() == PAGE {
        println!("There may be more: run the command again when these are delivered.");
    }
    if !refused.is_empty() {
        bail!(
            "alerts that can't be redelivered: {}\n{}",
            refused.len(),
            refused.join("\n")
        );
    }
    Ok(())
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "same signature as the real one")]
async fn queues(_: &[String]) -> anyhow::Result<()> {
    bail!("--queue needs a build of thrum with AWS support (--features aws)")
}
