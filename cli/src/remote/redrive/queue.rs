//! The messages of dead-letter queues: back to where they came from.

use anyhow::{Context, anyhow, bail};
use aws_config::BehaviorVersion;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName;
use indicatif::ProgressBar;
use std::time::Duration;

/// How often a move is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Moves the messages of each of `urls` back.
pub async fn queues(urls: &[String]) -> anyhow::Result<()> {
    let aws = aws_config::defaults(BehaviorVersion::latest())
        .http_client(thrum_store::tls::http_client())
        .load()
        .await;
    let client = Client::new(&aws);
    for url in urls {
        if url.is_empty() {
            bail!("--queue is empty: does the stack have that name?");
        }
        queue(&client, url).await?;
    }
    Ok(())
}

/// What SQS said, in a line.
fn said<E: ProvideErrorMetadata, R: std::fmt::Debug>(
    url: &str,
    error: &SdkError<E, R>,
) -> anyhow::Error {
    match (error.code(), error.message()) {
        (None, _) => anyhow!(
            "{url}: SQS can't be reached; are region and credentials set as for the AWS CLI?"
        ),
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
        .map_err(|error| said(url, &error))?;
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
    // Said outright: what the bus gave up has no queue that it came from.
    let sources = client
        .list_dead_letter_source_queues()
        .queue_url(url)
        .send();
    let sources = sources.await.map_err(|error| said(url, &error))?;
    let [source] = sources.queue_urls() else {
        bail!(
            "{url} is the dead-letter queue of {} queues, and not of one",
            sources.queue_urls().len()
        );
    };
    let source = client
        .get_queue_attributes()
        .queue_url(source)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .map_err(|error| said(source, &error))?;
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
        .map_err(|error| said(url, &error))?;
    let progress = ProgressBar::new(waiting);
    loop {
        let tasks = client
            .list_message_move_tasks()
            .source_arn(&arn)
            .max_results(1)
            .send()
            .await
            .map_err(|error| said(url, &error))?;
        let task = tasks
            .results()
            .first()
            .context("SQS does not know of the move")?;
        let moved = task.approximate_number_of_messages_moved;
        progress.set_position(u64::try_from(moved).unwrap_or(0));
        match task.status() {
            Some("RUNNING") => tokio::time::sleep(LOOK_EVERY).await,
            Some("COMPLETED") => {
                progress.finish_and_clear();
                println!("{name}: {moved} of {waiting} messages went back.");
                return Ok(());
            }
            other => {
                progress.abandon();
                bail!(
                    "{name}: the move is {}; {}",
                    other.unwrap_or("in no state"),
                    task.failure_reason().unwrap_or("no reason given")
                );
            }
        }
    }
}
