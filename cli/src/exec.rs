//! `thrum exec`: runs a command and reports its start, exit status and the end of its output.

use anyhow::Context;
use clap::Args;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

/// How many bytes of the output's end are reported.
const KEPT: usize = 10_000;
/// Time limit and attempts per report. Short, because the command matters more than the report.
const TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
/// How long to read output after the command has ended: a background process may keep it open.
const DRAIN: Duration = Duration::from_millis(500);
/// The exit status that shells use for a command that can't be run.
const NOT_RUN: u8 = 127;

const EXAMPLES: &str = "\
Examples:
  thrum exec http://localhost:8080/ping/KEY/backup --create -- ./backup.sh
  THRUM_PING_URL=http://localhost:8080/ping/KEY/backup thrum exec --no-output -- ./backup.sh
  30 3 * * *  thrum exec https://thrum.example.org/ping/KEY/backup -- backup.sh    (in a crontab)";

/// Arguments of `thrum exec`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Exec {
    /// Ping URL of the monitor: http://HOST/ping/UUID or http://HOST/ping/KEY/SLUG
    ///
    /// Other users of the machine can see the arguments of a command, but not its environment.
    #[arg(env = "THRUM_PING_URL", hide_env_values = true)]
    url: String,

    /// Report only the start and the exit status, not the output
    #[arg(long)]
    no_output: bool,

    /// Create the monitor if there is none with this slug
    #[arg(long)]
    create: bool,

    /// Command to run, with its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the command and returns its exit code: 128 plus the signal's number if a signal ended it,
/// 127 if it can't be run.
///
/// # Errors
/// The ping URL is invalid, or the signal handlers can't be installed.
pub async fn exec(args: Exec) -> anyhow::Result<u8> {
    let reporter = Reporter::new(&args)?;
    // The start is reported while the command runs, so that it never waits for Thrum.
    let (_, ran) = tokio::join!(reporter.report("/start", Vec::new()), run(&args.command));
    let (code, output) = ran?;
    let output = if args.no_output { Vec::new() } else { output };
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
        let client = crate::remote::client(TIMEOUT)?;
        let create = if args.create { "&create=1" } else { "" };
        #[expect(clippy::disallowed_methods, reason = "this is the edge")]
        let rid = Uuid::new_v4();
        Ok(Self {
            client,
            url: args.url.trim_end_matches('/').to_owned(),
            query: format!("?rid={rid}{create}"),
        })
    }

    /// Sends a report. A failure only prints a message: it must not change the exit code.
    async fn report(&self, action: &str, body: Vec<u8>) {
        let url = format!("{}{action}{}", self.url, self.query);
        for attempt in 1..=TRIES {
            let sent = self.client.post(&url).body(body.clone()).send().await;
            match sent {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) if answer.status().is_client_error() => {
                    let status = answer.status();
                    let reason = answer.text().await.unwrap_or_default();
                    let reason = crate::remote::clean(&reason);
                    eprintln!("thrum: the server refused {action}: {status} {reason}");
                    return;
                }
                Ok(answer) => eprintln!(
                    "thrum: reporting {action} failed (attempt {attempt} of {TRIES}): {}",
                    answer.status()
                ),
                Err(error) => {
                    eprintln!(
                        "thrum: reporting {action} failed (attempt {attempt} of {TRIES}): {}",
                        error.without_url()
                    );
                }
            }
            tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
        }
        eprintln!("thrum: {action} was not recorded after {TRIES} attempts");
    }
}

/// Runs a command with its output passed through; returns its exit code and the end of its output.
async fn run(command: &[String]) -> anyhow::Result<(u8, Vec<u8>)> {
    // Signals are meant for the command: pass them on and keep running until it ends.
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
            // An error means that the process has ended already.
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
                // The terminal has already sent SIGINT to the command too.
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

/// Passes output through and keeps its last [`KEPT`] bytes in `tail`.
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
