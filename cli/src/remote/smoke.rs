//! `thrum smoke`: tests a deployment from end to end.

use super::Remote;
use anyhow::{Context, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use thrum_schema::World;
use thrum_schema::world::SystemWorld;

/// Period and grace of the test monitor, in seconds.
const PERIOD_S: u64 = 5;
const GRACE_S: u64 = 1;
/// The longest wait for an alert. On AWS the sweep runs every minute and catches everything that
/// the faster paths missed, so a longer delay means a fault.
const LATEST: Duration = Duration::from_secs(90);
/// How late a missed deadline may be noticed before the output says so.
const LATE: Duration = Duration::from_secs(5);
/// How often to poll for alerts.
const POLL_EVERY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  thrum smoke https://thrum.example.org
  thrum smoke https://thrum.example.org --channel ops    also sends the two alerts to a channel";

/// Arguments of `thrum smoke`.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    mut_arg("table", |arg| arg.hide(true)),
    mut_arg("project", |arg| arg.hide(true))
)]
pub struct Smoke {
    /// URL of the server; takes precedence over --url
    #[arg(value_name = "URL")]
    at: Option<String>,

    /// Channel that gets the test alerts, by ID or name; default: none
    #[arg(long)]
    channel: Option<String>,

    /// How long to wait until every part of the server responds, such as after a deployment
    #[arg(
        long,
        default_value = "3m",
        value_parser = humantime::parse_duration,
        value_name = "DURATION"
    )]
    patience: Duration,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum smoke`: creates a monitor, lets it miss a heartbeat, waits for the alerts that it is down
/// and up again, and deletes it.
///
/// # Errors
/// The first step that failed.
pub async fn smoke(mut args: Smoke) -> anyhow::Result<()> {
    if let Some(url) = args.at.take() {
        args.remote.url = url;
    }
    let remote = &args.remote;
    check_server(remote.url())?;
    let begun = Instant::now();
    // Waiting does not fix a missing or wrong key, so check it first.
    let mut last = match remote.call(Method::GET, "/v1/project", None).await {
        Err(error) if error.to_string().starts_with('4') => {
            return Err(error.context("the server refused the API key"));
        }
        Err(error) if remote.key().is_err() => return Err(error),
        _ => String::new(),
    };
    loop {
        match check_status(remote).await {
            Ok(()) => break,
            Err(error) if begun.elapsed() > args.patience => {
                return Err(error.context("the server does not report status ok"));
            }
            Err(error) => {
                let reason = format!("{error:#}");
                if reason != last {
                    eprintln!("… {reason}");
                    last = reason;
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
    passed(
        "table, sweep, stream, bus and queue respond",
        begun.elapsed(),
    );
    let name = format!("smoke-test-{}", SystemWorld.now().secs());
    let channels = args.channel.iter().collect::<Vec<_>>();
    let body = json!({
        "name": name, "slug": name, "period_s": PERIOD_S, "grace_s": GRACE_S, "channels": channels,
        "desc": "created by `thrum smoke`, which deletes it when done",
    });
    let created = remote
        .call(Method::POST, "/v1/monitors", Some(body))
        .await?;
    let id = created["uuid"]
        .as_str()
        .context("the response has no uuid")?;
    let tested = check_alerts(remote, id, &name).await;
    // Delete the monitor even if the test failed.
    let deleted = remote
        .call(Method::DELETE, &format!("/v1/monitors/{id}"), None)
        .await;
    tested?;
    deleted.context("can't delete the test monitor")?;
    println!("All checks passed.");
    Ok(())
}

fn check_server(url: &str) -> anyhow::Result<()> {
    match reqwest::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(()),
        _ => bail!("the URL must be like https://thrum.example.org (got {url:?})"),
    }
}

async fn check_status(remote: &Remote) -> anyhow::Result<()> {
    let status = remote.call(Method::GET, "/v1/status", None).await?;
    if status["status"] != "ok" {
        bail!("{status}");
    }
    Ok(())
}

async fn check_alerts(remote: &Remote, id: &str, name: &str) -> anyhow::Result<()> {
    let heartbeat = json!({ "monitor": name });
    let sent = Instant::now();
    remote
        .call(Method::POST, "/v1/heartbeats", Some(heartbeat.clone()))
        .await?;
    passed("heartbeat accepted", sent.elapsed());
    let deadline = Duration::from_secs(PERIOD_S + GRACE_S);
    tokio::time::sleep(deadline.saturating_sub(sent.elapsed())).await;
    wait_for_alert(remote, id, "monitor.down", deadline + LATEST).await?;
    let took = sent.elapsed();
    if took < deadline {
        bail!(
            "the alert came {:.1} s before the deadline",
            (deadline - took).as_secs_f64()
        );
    }
    let late = took - deadline;
    passed("down alert after a missed heartbeat", late);
    if late > LATE {
        println!(
            "  … late: the work queue should be faster; the sweep that runs every minute found it"
        );
    }
    let sent = Instant::now();
    remote
        .call(Method::POST, "/v1/heartbeats", Some(heartbeat))
        .await?;
    wait_for_alert(remote, id, "monitor.up", LATEST).await?;
    passed("up alert after the next heartbeat", sent.elapsed());
    Ok(())
}

/// Waits until the monitor's alert of type `kind` is delivered.
async fn wait_for_alert(
    remote: &Remote,
    id: &str,
    kind: &str,
    at_most: Duration,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut last = Value::Null;
    while begun.elapsed() < at_most {
        let reply = remote
            .call(Method::GET, "/v1/alerts?limit=50", None)
            .await?;
        let mut alerts = reply["alerts"].as_array().into_iter().flatten();
        let found = alerts.find(|alert| alert["monitor"]["uuid"] == id && alert["type"] == kind);
        if let Some(found) = found {
            match found["state"].as_str() {
                Some("delivered") => return Ok(()),
                Some("dead") => bail!(
                    "the channel did not accept the alert: {}",
                    found["deliveries"]
                ),
                _ => last = found.clone(),
            }
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    if last.is_null() {
        bail!("no {kind} alert within {} s", at_most.as_secs());
    }
    bail!(
        "the {kind} alert was created but not delivered within {} s: {last}",
        at_most.as_secs()
    )
}

fn passed(check: &str, took: Duration) {
    println!("✓ {check} ({:.1} s)", took.as_secs_f64());
}
