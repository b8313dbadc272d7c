//! `thrum smoke`: does what is deployed there work?

use super::Remote;
use anyhow::{Context, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use thrum_schema::World;
use thrum_schema::world::SystemWorld;

/// The period and the grace of the monitor that is made, in seconds.
const PERIOD_S: u64 = 5;
const GRACE_S: u64 = 1;
/// A sweep by the minute finds what nothing found before; beyond, something is broken.
const LATEST: Duration = Duration::from_secs(90);
/// How late a deadline may be noticed before it is worth a word.
const LATE: Duration = Duration::from_secs(5);
/// How often it is looked again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What to try.
#[derive(Debug, Args)]
pub struct Smoke {
    /// Its URL; --url without it
    #[arg(value_name = "URL")]
    at: Option<String>,

    /// A channel, by id or name, that is to get the alerts; nobody gets them without
    #[arg(long)]
    channel: Option<String>,

    /// How long it may take until all of it works, after a deployment
    #[arg(long, default_value = "3m", value_parser = humantime::parse_duration)]
    patience: Duration,

    /// Where the server is, and who asks
    #[command(flatten)]
    pub remote: Remote,
}

/// `thrum smoke`: makes a monitor, lets it miss a heartbeat, sees the alert and the return, and deletes it again.
///
/// # Errors
/// What does not work.
pub async fn smoke(mut args: Smoke) -> anyhow::Result<()> {
    if let Some(url) = args.at.take() {
        args.remote.url = url;
    }
    let remote = &args.remote;
    check_server(remote.url())?;
    let begun = Instant::now();
    // What waiting does not mend comes first.
    let mut last = match remote.call(Method::GET, "/v1/project", None).await {
        Err(error) if error.to_string().starts_with('4') => {
            return Err(error.context("the key is not good here"));
        }
        Err(error) if remote.key().is_err() => return Err(error),
        _ => String::new(),
    };
    loop {
        match whole(remote).await {
            Ok(()) => break,
            Err(error) if begun.elapsed() > args.patience => {
                return Err(error.context("it does not work as a whole"));
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
    say(
        "table, sweep, stream, bus and queue answer",
        begun.elapsed(),
    );
    let name = format!("smoke-test-{}", SystemWorld.now().secs());
    let channels = args.channel.iter().collect::<Vec<_>>();
    let body = json!({
        "name": name, "slug": name, "period_s": PERIOD_S, "grace_s": GRACE_S, "channels": channels,
        "desc": "made by `thrum smoke`, which deletes it again",
    });
    let made = remote
        .call(Method::POST, "/v1/monitors", Some(body))
        .await?;
    let id = made["uuid"].as_str().context("the reply has no uuid")?;
    let tried = play(remote, id, &name).await;
    // Whatever came of it.
    let deleted = remote
        .call(Method::DELETE, &format!("/v1/monitors/{id}"), None)
        .await;
    tried?;
    deleted.context("the monitor was not deleted")?;
    println!("It works.");
    Ok(())
}

fn check_server(url: &str) -> anyhow::Result<()> {
    match reqwest::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(()),
        _ => bail!("{url:?} is no URL of a server; it is like https://thrum.example.org"),
    }
}

async fn whole(remote: &Remote) -> anyhow::Result<()> {
    let status = remote.call(Method::GET, "/v1/status", None).await?;
    if status["status"] != "ok" {
        bail!("{status}");
    }
    Ok(())
}

async fn play(remote: &Remote, id: &str, name: &str) -> anyhow::Result<()> {
    let heartbeat = json!({ "monitor": name });
    let sent = Instant::now();
    remote
        .call(Method::POST, "/v1/heartbeats", Some(heartbeat.clone()))
        .await?;
    say("a heartbeat is taken", sent.elapsed());
    let deadline = Duration::from_secs(PERIOD_S + GRACE_S);
    tokio::time::sleep(deadline.saturating_sub(sent.elapsed())).await;
    told(remote, id, "monitor.down", deadline + LATEST).await?;
    let took = sent.elapsed();
    if took < deadline {
        bail!(
            "its alert came {:.1} s early",
            (deadline - took).as_secs_f64()
        );
    }
    let late = took - deadline;
    say("the next one is missed, and told of", late);
    if late > LATE {
        println!(
            "  … later than the work queue should bring it: only a sweep by the minute found it"
        );
    }
    let sent = Instant::now();
    remote
        .call(Method::POST, "/v1/heartbeats", Some(heartbeat))
        .await?;
    told(remote, id, "monitor.up", LATEST).await?;
    say("it is back, and told of", sent.elapsed());
    Ok(())
}

/// Waits for an alert of the monitor that notify has seen to.
async fn told(remote: &Remote, id: &str, what: &str, at_most: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut last = Value::Null;
    while begun.elapsed() < at_most {
        let reply = remote
            .call(Method::GET, "/v1/alerts?limit=50", None)
            .await?;
        let mut alerts = reply["alerts"].as_array().into_iter().flatten();
        let found = alerts.find(|alert| alert["monitor"]["uuid"] == id && alert["type"] == what);
        if let Some(found) = found {
            match found["state"].as_str() {
                Some("delivered") => return Ok(()),
                Some("dead") => bail!(
                    "the channel did not take the alert: {}",
                    found["deliveries"]
                ),
                _ => last = found.clone(),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if last.is_null() {
        bail!("no alert {what} within {} s", at_most.as_secs());
    }
    bail!("the alert {what} was raised, but did not get through: {last}")
}

fn say(what: &str, took: Duration) {
    println!("✓ {what} ({:.1} s)", took.as_secs_f64());
}
