//! `thrum exec`: runs a command and reports its start, its exit status and the end of its output.

use anyhow::Context;
use clap::Args;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

/// How much of the output's end is reported.
const KEPT: usize = 10_000;
/// How long a report may take, and how often it is tried: the command matters more.
const TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
/// How long output is waited for after the command has ended: what it left running may hold it open.
const DRAIN: Duration = Duration::from_millis(500);
/// What a shell answers for a command that can't be run.
const NOT_RUN: u8 = 127;

/// What `thrum exec` is told.
#[derive(Debug, Args)]
pub struct Exec {
    /// The monitor's ping URL: http://host/ping/UUID, or http://host/ping/KEY/SLUG
    url: String,

    /// Make the monitor if there is none with this slug
    #[arg(long)]
    create: bool,

    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the command, and returns its exit code; 128 and the signal's number if a signal ended it.
///
/// # Errors
/// The URL is none, or signals can't be listened for.
pub async fn exec(args: Exec) -> anyhow::Result<u8> {
    let reporter = Reporter::new(&args)?;
    // The command does not wait for us.
    let (_, ran) = tokio::join!(reporter.report("/start", Vec::new()), run(&args.command));
    let (code, output) = ran?;
    reporter.report(&format!("/{code}"), output).await;
    Ok(code)
}

struct Reporter {
    client: reqwest::Client,
    url: String,
    query: String,
}

impl Reporter {
    fn new(args: &Exec) -> anyhow::Result<Self> {
        crate::remote::check_url(&args.url)?;
        thrum_store::tls::install();
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let create = if args.create { "&create=1" } else { "" };
        #[expect(clippy::disallowed_methods, reason = "this is the edge")]
        let rid = Uuid::new_v4();
        Ok(Self {
            client,
            url: args.url.trim_end_matches('/').to_owned(),
            query: format!("?rid={rid}{create}"),
        })
    }

    /// Reports, and says so if that does not work; whatever happens, the command's outcome is its own.
    async fn report(&self, action: &str, body: Vec<u8>) {
        let url = format!("{}{action}{}", self.url, self.query);
        for attempt in 1..=TRIES {
            let sent = self.client.post(&url).body(body.clone()).send().await;
            match sent {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) if answer.status().is_client_error() => {
                    let status = answer.status();
                    let reason = answer.text().await.unwrap_or_default();
                    eprintln!("thrum: {action} was not recorded: {status} {reason}");
                    return;
                }
                Ok(answer) => eprintln!("thrum: {action}, attempt {attempt}: {}", answer.status()),
                Err(error) => {
                    eprintln!(
                        "thrum: {action}, attempt {attempt}: {}",
                        error.without_url()
                    );
                }
            }
            tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
        }
        eprintln!("thrum: {action} was not recorded");
    }
}

/// Runs a command with its output passed through; returns its exit code and the end of its output.
async fn run(command: &[String]) -> anyhow::Result<(u8, Vec<u8>)> {
    // What is sent to us is meant for the command: we stay until it is through.
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child = match Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            let text = format!("thrum: can't run {}: {error}", command[0]);
            eprintln!("{text}");
            return Ok((NOT_RUN, text.into_bytes()));
        }
    };
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let forward = |kind: rustix::process::Signal| {
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have ended by now.
            let _ = rustix::process::kill_process(pid, kind);
        }
    };
    let tail = tokio::sync::Mutex::new(Vec::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let outputs = async {
        tokio::join!(
            pass(out, tokio::io::stdout(), &tail),
            pass(err, tokio::io::stderr(), &tail)
        )
    };
    let signals = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => forward(rustix::process::Signal::TERM),
                // The terminal sends it to the command too.
                _ = interrupt.recv() => {}
            }
        }
    };
    let ended = async {
        tokio::pin!(outputs);
        tokio::select! {
            status = child.wait() => {
                let _ = tokio::time::timeout(DRAIN, outputs).await;
                status
            }
            _ = &mut outputs => child.wait().await,
        }
    };
    let status = tokio::select! {
        status = ended => status?,
        never = signals => never,
    };
    Ok((exit_code(status), tail.into_inner()))
}

fn exit_code(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Passes output through, and keeps its end.
async fn pass(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    tail: &tokio::sync::Mutex<Vec<u8>>,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 8_192];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let _ = to.write_all(&buffer[..n]).await;
        let _ = to.flush().await;
        let mut tail = tail.lock().await;
        tail.extend_from_slice(&buffer[..n]);
        let excess = tail.len().saturating_sub(KEPT);
        tail.drain(..excess);
    }
}
