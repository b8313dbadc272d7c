//! `thrum ping`

use super::{TIMEOUT, check_url};
use anyhow::bail;
use clap::Args;

/// What `thrum ping` is told.
#[derive(Debug, Args)]
pub struct Ping {
    /// The monitor's ping URL
    url: String,

    /// What to report, if not a success
    #[arg(long, value_parser = ["start", "fail", "log"], conflicts_with = "exit_status")]
    status: Option<String>,

    /// Report an exit status: 0 is a success
    #[arg(long)]
    exit_status: Option<u8>,

    /// Text to keep with it
    #[arg(long, short)]
    message: Option<String>,

    /// Make the monitor if there is none with this slug
    #[arg(long)]
    create: bool,
}

/// `thrum ping`
///
/// # Errors
/// The ping was not recorded.
pub async fn ping(args: Ping) -> anyhow::Result<()> {
    check_url(&args.url)?;
    let mut url = args.url.trim_end_matches('/').to_owned();
    match (args.exit_status, &args.status) {
        (Some(status), _) => url.push_str(&format!("/{status}")),
        (None, Some(status)) => url.push_str(&format!("/{status}")),
        (None, None) => {}
    }
    if args.create {
        url.push_str("?create=1");
    }
    thrum_store::tls::install();
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let answer = client
        .post(url)
        .body(args.message.unwrap_or_default())
        .send()
        .await?;
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        let hint = if status.as_u16() == 404 && !args.create {
            "; is the URL right? --create makes a monitor by ping key and slug"
        } else {
            ""
        };
        bail!("the ping was not recorded: {status} {text}{hint}");
    }
    println!("{text}");
    Ok(())
}
