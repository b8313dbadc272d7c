//! Moves the messages of dead-letter queues back to their source queues.

use anyhow::{Context, anyhow, bail};
use aws_config::BehaviorVersion;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName;
use indicatif::ProgressBar;
use std::time::Duration;

/// How often to poll the status of a move.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Moves the messages of each queue in `urls` back to its source queue.
pub async fn queues(urls: &[String]) -> anyhow::Result<()> {
    let aws = aws_config::defaults(BehaviorVersion::latest())
        .http_client(thrum_store::tls::http_client())
        .load()
        .await;
    let client = Client::new(&aws);
    for url in urls {
        if url.is_empty() {
            bail!("--queue is empty; check the name of the stack and its output");
        }
        queue(&client, url).await?;
    }
    Ok(())
}

/// A one-line error from an SQS error.
fn sqs_error<E: ProvideErrorMetadata, R: std::fmt::Debug>(
    url: &str,
    error: &SdkError<E, R>,
) -> anyhow::Error {
    match (error.code(), error.message()) {
        (None, _) => anyhow!("{url}: SQS can't be reached; check the AWS region and credentials"),
        (Some(code), message) => anyhow!("{url}: {code} {}", message.unwrap_or_default()),
    }
}

async fn queue(client: &Client, url: &str) -> anyhow::Result<()> {
    let attributes = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::QueueArn)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .send()
        .await
        .map_err(|error| sqs_error(url, &error))?;
    let attribute = |name| {
        let value = attributes
            .attributes
            .as_ref()
            .and_then(|all| all.get(&name));
        value
            .cloned()
            .with_context(|| format!("{url} has no {name}"))
    };
    let arn = attribute(QueueAttributeName::QueueArn)?;
    // The destination must be explicit: messages that the bus gave up on have no source queue.
    let sources = client
        .list_dead_letter_source_queues()
        .queue_url(url)
        .send();
    let sources = sources.await.map_err(|error| sqs_error(url, &error))?;
    let [source] = sources.queue_urls() else {
        bail!(
            "{url} must be the dead-letter queue of exactly one queue (got {})",
            sources.queue_urls().len()
        );
    };
    let source = client
        .get_queue_attributes()
        .queue_url(source)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .map_err(|error| sqs_error(source, &error))?;
    let source = source
        .attributes
        .and_then(|mut all| all.remove(&QueueAttributeName::QueueArn));
    let waiting: u64 = attribute(QueueAttributeName::ApproximateNumberOfMessages)?.parse()?;
    let name = arn.rsplit(':').next().unwrap_or_default();
    if waiting == 0 {
        println!("{name} is empty.");
        return Ok(());
    }
    client
        .start_message_move_task()
        .source_arn(&arn)
        .set_destination_arn(source)
        .send()
        .await
        .map_err(|error| sqs_error(url, &error))?;
    watch_move(client, url, &arn, waiting).await
}

/// Shows the progress of a move until it ends.
async fn watch_move(client: &Client, url: &str, arn: &str, waiting: u64) -> anyhow::Result<()> {
    let name = arn.rsplit(':').next().unwrap_or_default();
    let progress = ProgressBar::new(waiting);
    loop {
        let tasks = client
            .list_message_move_tasks()
            .source_arn(arn)
            .max_results(1)
            .send()
            .await
            .map_err(|error| sqs_error(url, &error))?;
        let task = tasks
            .results()
            .first()
            .context("SQS has no record of the move")?;
        let moved = task.approximate_number_of_messages_moved;
        progress.set_position(u64::try_from(moved).unwrap_or(0));
        match task.status() {
            Some("RUNNING") => tokio::time::sleep(POLL_EVERY).await,
            Some("COMPLETED") => {
                progress.finish_and_clear();
                println!("{name}: moved {moved} of {waiting} messages back.");
                return Ok(());
            }
            other => {
                progress.abandon();
                bail!(
                    "{name}: the move has status {}: {}",
                    other.unwrap_or("unknown"),
                    task.failure_reason().unwrap_or("no reason given")
                );
            }
        }
    }
}
