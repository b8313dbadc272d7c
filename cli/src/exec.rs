//! `thrum exec`: runs a command and reports its start, exit status and the end of its output.
//!
//! The command matters more than the report. It runs whatever is wrong with the URL or the server, sees the
//! descriptors and signals that it would see without Thrum, and nothing that fails is hidden.

/// Says something on stderr. Whether anybody reads it does not matter: a failure is ignored.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "thrum: {}", format_args!($($text)*));
    }};
}

mod job;
mod output;
mod report;

pub use output::pass;

use clap::Args;
use report::Reporter;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// When a report that takes long is mentioned on stderr, after the end of the command.
const PATIENCE: Duration = Duration::from_millis(800);

const EXAMPLES: &str = "\
Examples:
  thrum exec http://localhost:8080/ping/KEY/backup --create -- ./backup.sh
  THRUM_PING_URL=http://localhost:8080/ping/KEY/backup thrum exec --no-output -- ./backup.sh
  thrum exec \"$URL\" --metric rows=1200 -- ./import.sh
  30 3 * * *  thrum exec https://thrum.example.org/ping/KEY/backup -- backup.sh    (in a crontab)";

/// Arguments of `thrum exec`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Exec {
    /// Ping URL of the monitor: http://HOST/ping/UUID or http://HOST/ping/KEY/SLUG
    ///
    /// With ?create=1 it creates the monitor. Other users of the machine can see the arguments of a
    /// command, but not its environment.
    #[arg(env = report::URL_VARIABLE, hide_env_values = true)]
    url: Option<String>,

    /// Report only the start and the exit status, not the output
    ///
    /// The command then has exactly the descriptors of `thrum exec`.
    #[arg(long)]
    no_output: bool,

    /// Create the monitor if there is none with this slug
    #[arg(long)]
    create: bool,

    /// Number to report with the exit status; can be repeated
    #[arg(long = "metric", value_name = "NAME=VALUE")]
    metrics: Vec<String>,

    /// How long to try to report after the command has ended
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = crate::remote::duration)]
    report_within: Duration,

    /// Command to run, with its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the command and returns its exit code: 128 plus the signal's number if a signal ended it, 126 if it
/// can't be executed, 127 if there is no such command.
///
/// # Errors
/// The signal handlers can't be installed, or the command can't be waited for.
pub async fn exec(args: Exec) -> anyhow::Result<u8> {
    let keep = !args.no_output;
    let command = args.command;
    // The start is reported while the command runs, so that it never waits for Thrum.
    let job = tokio::task::spawn_blocking(move || job::run(&command, keep));
    let reporter = Reporter::new(args.url.as_deref(), args.create, &args.metrics);
    let start = async {
        match &reporter {
            Ok(reporter) => reporter.start().await,
            Err(_) => Ok(()),
        }
    };
    tokio::pin!(start);
    let mut started = None;
    tokio::pin!(job);
    let ended = loop {
        tokio::select! {
            ended = &mut job => break ended??,
            result = &mut start, if started.is_none() => started = Some(result),
        }
    };
    let reporter = match &reporter {
        Ok(reporter) => reporter,
        Err(problem) => {
            say!("the run was not reported: {problem}");
            return Ok(ended.code);
        }
    };
    let give_up = Instant::now() + args.report_within;
    let finish = async {
        // The start belongs before the end, but must not cost its time.
        let started = match started {
            Some(started) => started,
            None => match timeout(args.report_within / 3, start).await {
                Ok(started) => started,
                Err(_) => Err(report::NO_ANSWER.to_owned()),
            },
        };
        (
            started,
            reporter.end(ended.code, ended.output, give_up).await,
        )
    };
    tokio::pin!(finish);
    let (started, reported) = tokio::select! {
        finished = &mut finish => finished,
        () = sleep(PATIENCE) => {
            let seconds = args.report_within.as_secs_f32();
            let problem = reporter.problem();
            say!("could not report the run yet: {problem}; trying until {seconds} s after its end");
            finish.await
        }
    };
    match (started, reported) {
        (_, Err(problem)) => say!("the run was not reported: {problem}"),
        (Err(problem), Ok(_)) => say!("the start was not reported: {problem}"),
        (Ok(()), Ok(Some(warnings))) => say!("{warnings}"),
        (Ok(()), Ok(None)) => {}
    }
    for problem in &reporter.ignored {
        say!("{problem}");
    }
    Ok(ended.code)
}
