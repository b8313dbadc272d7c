//! `thrum ping`: sends a ping.

use super::{TIMEOUT, ping_url};
use anyhow::bail;
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  thrum ping http://localhost:8080/ping/KEY/backup --create
  thrum ping http://localhost:8080/ping/KEY/backup --status fail -m 'disk full'
  thrum ping http://localhost:8080/ping/KEY/backup --exit-status $?";

/// Arguments of `thrum ping`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Ping {
    /// Ping URL of the monitor: http://HOST/ping/UUID or http://HOST/ping/KEY/SLUG
    #[arg(env = "THRUM_PING_URL", hide_env_values = true)]
    url: String,

    /// What to report instead of a success
    #[arg(long, value_parser = ["start", "fail", "log"], conflicts_with = "exit_status")]
    status: Option<String>,

    /// Exit status to report, 0 to 255: 0 is a success, others are failures
    #[arg(long, value_name = "N")]
    exit_status: Option<u8>,

    /// Text to log with the ping
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,

    /// Create the monitor if there is none with this slug
    #[arg(long)]
    create: bool,
}

/// `thrum ping`
///
/// # Errors
/// The ping was not recorded.
pub async fn ping(args: Ping) -> anyhow::Result<()> {
    let action = match (args.exit_status, args.status) {
        (Some(status), _) => format!("/{status}"),
        (None, Some(status)) => format!("/{status}"),
        (None, None) => String::new(),
    };
    let message = args.message.unwrap_or_default();
    let text = send(&args.url, &action, args.create, message).await?;
    super::out(&text)?;
    Ok(())
}

/// Reports a check: a success, or a failure with its reason.
///
/// # Errors
/// The ping was not recorded.
pub async fn report(url: &str, create: bool, seen: &Result<(), String>) -> anyhow::Result<()> {
    let sent = match seen {
        Ok(()) => send(url, "", create, String::new()).await,
        Err(why) => send(url, "/fail", create, why.clone()).await,
    };
    sent.map(drop)
}

/// Sends a ping; returns the answer.
async fn send(url: &str, action: &str, create: bool, message: String) -> anyhow::Result<String> {
    let mut url = ping_url(url)?;
    url.set_path(&format!("{}{action}", url.path().trim_end_matches('/')));
    if create && !url.query_pairs().any(|(name, _)| name == "create") {
        url.query_pairs_mut().append_pair("create", "1");
    }
    let client = super::client(TIMEOUT)?;
    let answer = client.post(url).body(message).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        let hint = if status.as_u16() == 404 && !create {
            "; check the URL, or pass --create to create a monitor from ping key and slug"
        } else {
            ""
        };
        bail!("the ping was not recorded: {status} {text}{hint}");
    }
    Ok(text)
}
