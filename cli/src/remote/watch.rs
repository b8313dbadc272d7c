//! `thrum watch`: looks at a Thrum from outside, and reports what it sees to another one.

use super::{ping, ping_url};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// How often a check that fails is repeated before it counts, and the pause in between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);
/// Time limit of a check: the deep health check waits for the whole path to notify.
const TIMEOUT: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  thrum watch https://thrum.example.org --ping https://other.example.org/ping/KEY/thrum
  thrum watch https://thrum.example.org --once                  exit status 1 if it is not well

Run it on another machine, or in another region, and let it report to a second Thrum, whose monitor
then alerts by its own channels. If `thrum watch` itself stops, that monitor misses its heartbeats: give
it a period of a minute and a grace of two.";

/// Arguments of `thrum watch`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Watch {
    /// URL of the Thrum to look at
    #[arg(value_name = "URL")]
    at: String,

    /// Ping URL of a monitor of another Thrum, which gets a success or a failure after each check
    #[arg(
        long,
        env = "THRUM_PING_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    ping: Option<String>,

    /// Create that monitor if there is none with this slug, with a period of a day
    #[arg(long, requires = "ping")]
    create: bool,

    /// Time between two checks
    #[arg(long, default_value = "1m", value_parser = every, value_name = "DURATION")]
    every: Duration,

    /// Check once, and exit with status 1 if it is not well
    #[arg(long)]
    once: bool,
}

fn every(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_secs(10)..=Duration::from_secs(86_400)).contains(&every) {
        true => Ok(every),
        false => Err("must be between 10s and 1day".into()),
    }
}

/// `thrum watch`
///
/// # Errors
/// The URL is wrong, or with `--once`, Thrum is not well or the ping was not recorded.
pub async fn watch(args: Watch) -> anyhow::Result<()> {
    let mut url = reqwest::Url::parse(&args.at).context("the URL is wrong")?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("the URL must begin with http:// or https://");
    }
    url.set_path(&format!("{}/v1/status", url.path().trim_end_matches('/')));
    if let Some(ping) = &args.ping {
        ping_url(ping)?;
    }
    let client = super::client(TIMEOUT)?;
    let mut ticks = interval(args.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        let seen = check(&client, &url).await;
        let reported = match &args.ping {
            Some(to) => ping::report(to, args.create, &seen).await,
            None => Ok(()),
        };
        if args.once {
            if let Err(why) = seen {
                bail!("{} is not well: {why}", args.at);
            }
            super::out(&format!("{} is well\n", args.at))?;
            return reported;
        }
        // A line for a change, not for every check.
        if last.as_ref() != Some(&seen) {
            match &seen {
                Ok(()) => eprintln!("{} is well", args.at),
                Err(why) => eprintln!("{} is not well: {why}", args.at),
            }
        }
        if let Err(error) = reported {
            eprintln!("could not report: {error:#}");
        }
        last = Some(seen);
    }
}

/// Why a Thrum is not well, if it is not, in several attempts.
async fn check(client: &reqwest::Client, url: &reqwest::Url) -> Result<(), String> {
    let mut seen = look(client, url).await;
    for _ in 1..ATTEMPTS {
        if seen.is_ok() {
            break;
        }
        sleep(PAUSE).await;
        seen = look(client, url).await;
    }
    seen
}

async fn look(client: &reqwest::Client, url: &reqwest::Url) -> Result<(), String> {
    let why = |error: reqwest::Error| format!("no answer: {:#}", anyhow::Error::from(error));
    let reply = client.get(url.clone()).send().await.map_err(why)?;
    let status = reply.status();
    let text = reply.text().await.map_err(why)?;
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let reasons = body["reasons"].as_array();
    let reasons = reasons.into_iter().flatten().filter_map(Value::as_str);
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    match (status.is_success(), reasons.is_empty()) {
        (true, true) if body["status"] == "ok" => Ok(()),
        (true, true) => Err("this is not Thrum: its /v1/status has no status".to_owned()),
        (false, true) => Err(format!("it answered {status}")),
        (_, false) => Err(reasons),
    }
}
