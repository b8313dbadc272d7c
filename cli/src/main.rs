//! The `thrum` command.

use clap::{CommandFactory, Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;
use thrum::serve::LogFormat;
use thrum::{backup, exec, remote, serve, signals};
use thrum_store::log::Quiet;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

/// Self-hosted dead man's switch and signal engine
///
/// Hosts and jobs send heartbeats to Thrum. When they stop, the monitor goes down and Thrum sends
/// alerts.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  thrum serve                              start a server; the first start creates the API keys
  thrum exec http://localhost:8080/ping/KEY/backup --create -- ./backup.sh
  thrum channels add webhook https://example.org/hook
  thrum monitors                           list the monitors
  thrum monitors snooze backup 2h          send no alerts about `backup` for two hours
  thrum backup /backups/thrum.db           copy the database while the server runs
  thrum import bars eth.csv --series eth --timeframe 1h
  thrum signal eth --strategy trend-rsi    show BUY, HOLD or SELL, and why
  thrum backtest eth.csv --strategy sma-cross --param fast=5 --svg chart.svg
  thrum monitors --table thrum-production-Table-1X2Y

Environment:
  THRUM_URL      URL of the server that the other commands call
  THRUM_API_KEY  API key that they use
  THRUM_LOG      log level on stderr: error, warn (default), info, debug or trace
  NO_COLOR       no colours on a terminal

`thrum COMMAND --help` explains a command, with its options, defaults, variables and examples.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server on this machine
    ///
    /// One process does everything, on an SQLite database: API, dashboard, monitoring,
    /// notifications and signals. The first start creates API keys and prints them, or writes them to
    /// a file if stdout is not a terminal. SIGTERM and SIGINT finish the requests and deliveries in
    /// progress and stop the server.
    Serve(Box<serve::Serve>),
    /// Copy the database of a running server to a file
    ///
    /// The copy is a consistent snapshot. It is checked before it gets its name, and never
    /// overwrites an existing file. Run the command as the user that runs the server. The copy
    /// contains webhook secrets and key hashes: keep it as safe as the original.
    Backup(backup::Backup),
    /// Run a command and report its start, exit status and output
    ///
    /// The command runs at once, even if the URL is wrong or the server is down, and gets the same
    /// signals as without Thrum. If its output goes to a file, it writes to that file directly.
    /// Otherwise Thrum passes the output on through a pipe. The last 10000 bytes of the output are
    /// sent with the exit status.
    ///
    /// `thrum exec` exits with the command's own status: 128 plus the signal's number if a signal
    /// ended it, 126 if it could not be executed, 127 if it does not exist. If Thrum can't pass the
    /// output on, a successful command gets exit status 1, or 141 if the reader closed the pipe. If
    /// Thrum can't report the run within --report-within, it says so on stderr and changes nothing
    /// else.
    Exec(exec::Exec),
    /// Pass stdin on to stdout
    #[command(hide = true)]
    ExecPass,
    /// Send a ping
    ///
    /// It reports a success unless --status or --exit-status says otherwise.
    Ping(remote::Ping),
    /// List, show, add, change, pause, resume, snooze, delete, export and import monitors
    Monitors(remote::Monitors),
    /// List alerts, and retry their dead deliveries
    Alerts(remote::Alerts),
    /// List, add, edit, test and delete notification channels
    Channels(remote::Channels),
    /// List, create, rotate and revoke API keys
    Keys(remote::Keys),
    /// List, create, change and delete projects (needs the admin key)
    Projects(remote::Projects),
    /// Show the regions of a deployment in two, and switch between them (needs the admin key)
    Region(remote::RegionArgs),
    /// Show the project's requests and deliveries per day
    Usage(remote::Usage),
    /// Test a deployment from end to end
    ///
    /// Waits until every part of the server responds, creates a monitor, sends a heartbeat, misses
    /// the next one, waits for the down and up alerts, and deletes the monitor. Exits with status 1
    /// if anything fails. A healthy server needs about ten seconds.
    Smoke(remote::Smoke),
    /// Look at a Thrum from outside, and report to another one
    ///
    /// Asks for /v1/status, which checks the whole path from the table to the deliveries. A check that fails
    /// is repeated twice before it counts.
    Watch(remote::Watch),
    /// Retry what Thrum gave up on: dead alerts, or the messages in a dead-letter queue
    ///
    /// Without --queue, retries the dead deliveries of up to 200 alerts of the project. With
    /// --queue, moves the messages of each dead-letter queue back to its source queue. Safe to
    /// repeat: work that is already done is skipped.
    Redrive(remote::Redrive),
    /// Import CSV files into series, and monitors from Healthchecks and Uptime Kuma
    Import(signals::Import),
    /// List series, accept new levels, set calendars, and delete bars
    Series(remote::Series),
    /// List, show, check, store and delete strategies
    Strategies(remote::Strategies),
    /// Show the signal of a strategy on a series, and why
    ///
    /// A trading strategy says BUY, SELL or HOLD, a detector NORMAL, LOW or HIGH. Either may say why
    /// the signal is unknown: WARMING (too few bars), GAP (bars are missing), NO_SENTIMENT or STALE
    /// (no recent bar).
    Signal(signals::Signal),
    /// Backtest a strategy on CSV files, or on series of the server
    ///
    /// CSV files are tested on this machine, without a server; --series is tested by the server. A
    /// backtest has at most 200000 bars. For a detector, it shows how often the detector would have sent an alert.
    Backtest(Box<signals::Backtest>),
    /// Print a random walk of bars as CSV, as demo data
    DemoBars(signals::DemoBars),
    /// Print the completions of a shell
    ///
    /// For bash: thrum completions bash > ~/.local/share/bash-completion/completions/thrum
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a folder
    ///
    /// Then: man -l FOLDER/thrum.1
    Man {
        /// Folder; created if it does not exist
        folder: std::path::PathBuf,
    },
}

impl Command {
    /// Opens the table of `--table`, if it is given, and sends the command's requests there.
    async fn connect(&mut self) -> anyhow::Result<Option<remote::Direct>> {
        let remote = match self {
            Self::Projects(args) => return args.operator.connect().await,
            Self::Region(args) => return args.operator.connect().await,
            Self::Monitors(args) => &mut args.remote,
            Self::Alerts(args) => &mut args.remote,
            Self::Channels(args) => &mut args.remote,
            Self::Keys(args) => &mut args.remote,
            Self::Usage(args) => &mut args.remote,
            Self::Redrive(args) => &mut args.remote,
            Self::Import(args) => &mut args.remote,
            Self::Series(args) => &mut args.remote,
            Self::Strategies(args) => &mut args.remote,
            Self::Signal(args) => &mut args.remote,
            Self::Backtest(args) => &mut args.remote,
            _ => return Ok(None),
        };
        let Some(table) = remote.table.clone() else {
            return Ok(None);
        };
        let direct = remote::Direct::open(&table, remote.project.as_deref(), true).await?;
        remote.connect_to(&direct);
        Ok(Some(direct))
    }
}

/// Writes a manual page for each command.
fn man(folder: &std::path::Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)?;
    Ok(())
}

/// Writes the log to stderr.
fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("THRUM_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .with_target(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines.with_filter(match format {
            LogFormat::Text => Quiet::default(),
            LogFormat::Json => Quiet::json(),
        }))
        .init();
}

/// Ends the process without a word when the reader of its output is gone, as in `thrum keys | head -1`.
fn exit_quietly_without_a_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to") && text.contains("Broken pipe") {
            std::process::exit(0);
        }
        report(panic);
    }));
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut cli = Cli::parse();
    match &cli.command {
        Command::Serve(args) => log(args.log_format),
        _ => {
            log(LogFormat::Text);
            exit_quietly_without_a_reader();
        }
    }
    let direct = match cli.command.connect().await {
        Ok(direct) => direct,
        Err(error) => {
            eprintln!("thrum: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let result = match cli.command {
        Command::Serve(args) => serve::serve(*args).await,
        Command::Backup(args) => backup::backup(&args),
        Command::Exec(args) => match exec::exec(args).await {
            // Not through the runtime: it would wait for a name server that does not answer.
            Ok(code) => std::process::exit(code.into()),
            Err(error) => Err(error),
        },
        Command::ExecPass => exec::pass().map_err(Into::into),
        Command::Ping(args) => remote::ping(args).await,
        Command::Monitors(args) => remote::monitors(args).await,
        Command::Alerts(args) => remote::alerts(args).await,
        Command::Channels(args) => remote::channels(args).await,
        Command::Keys(args) => remote::keys(args).await,
        Command::Projects(args) => remote::projects(args).await,
        Command::Region(args) => remote::region(args).await,
        Command::Usage(args) => remote::usage(args).await,
        Command::Smoke(args) => remote::smoke(args).await,
        Command::Watch(args) => remote::watch(args).await,
        Command::Redrive(args) => remote::redrive(args).await,
        Command::Import(args) => signals::import(args).await,
        Command::Series(args) => remote::series(args).await,
        Command::Strategies(args) => remote::strategies(args).await,
        Command::Signal(args) => signals::signal(args).await,
        Command::Backtest(args) => signals::backtest(*args).await,
        Command::DemoBars(args) => signals::demo_bars(&args),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "thrum", &mut text);
            remote::print(&text)
        }
        Command::Man { folder } => man(&folder),
    };
    if let Some(direct) = direct
        && let Err(error) = direct.close().await
    {
        eprintln!(
            "thrum: can't delete the temporary API key of this command; it expires within an hour: {error:#}"
        );
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thrum: {error:#}");
            ExitCode::FAILURE
        }
    }
}
