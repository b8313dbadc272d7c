//! The command `thrum`.

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;
use thrum::{backup, exec, remote, serve, signals};
use tracing_subscriber::EnvFilter;

/// A dead man's switch that you own: hosts and jobs send heartbeats; when one stops, its people are told.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// Work on the table of a deployment on AWS, with the rights that AWS's tools have here: no URL and no key is
    /// needed. For monitors, alerts, channels, keys, projects, usage, redrive and signals
    #[arg(long, global = true, value_name = "NAME")]
    table: Option<String>,

    /// With --table, which project: its name or id. Needed if there are several
    #[arg(long, global = true, requires = "table")]
    project: Option<String>,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  thrum serve                                     run it here; it prints keys and what to do next
  thrum serve --smtp-url smtp://localhost:25      … and send e-mails
  thrum exec http://host:8080/ping/KEY/backup --create -- ./backup.sh
  thrum channels add webhook https://example.org/hook
  thrum monitors
  thrum backup /backups/thrum.db                  copy the database while the server runs
  thrum monitors snooze backup 2h
  thrum monitors export monitors.yaml             … and `import` it elsewhere
  thrum import bars eth.csv --series eth --timeframe 1h
  thrum signal eth --strategy trend-rsi           BUY, HOLD, SELL, or why it is unknown
  thrum --table thrum-production-Table-1X2Y monitors
  thrum backtest eth.csv --strategy sma-cross --param fast=5 --svg chart.svg

Every flag of `serve` is also a variable: --listen is THRUM_LISTEN.
THRUM_API_KEY, THRUM_READ_KEY (32 characters) and THRUM_PING_KEY (22) add
keys to the first project. The other commands take THRUM_URL and THRUM_API_KEY.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole pipeline on this machine
    Serve(Box<serve::Serve>),
    /// Copy the database of a running server to a file
    Backup(backup::Backup),
    /// Run a command, and report its start, exit status and output
    Exec(exec::Exec),
    /// Send a ping
    Ping(remote::Ping),
    /// Show monitors; pause, snooze, delete, export and import them
    Monitors(remote::Monitors),
    /// Show alerts, and redeliver what is dead
    Alerts(remote::Alerts),
    /// List, add, test and delete channels
    Channels(remote::Channels),
    /// List, make, rotate and revoke API keys
    Keys(remote::Keys),
    /// List, make and delete projects (needs the admin key)
    Projects(remote::Projects),
    /// Show what the project used
    Usage(remote::Usage),
    /// Try whether a deployment works: miss a heartbeat, see the alert, clean up
    Smoke(remote::Smoke),
    /// Try again what was given up: alerts, or the messages of a dead-letter queue
    Redrive(remote::Redrive),
    /// Send bars from a CSV file, with progress; an import that broke off goes on where it was
    Import(signals::Import),
    /// Ask what a strategy says of a series, and why
    Signal(signals::Signal),
    /// Reckon what following a strategy would have come to; on a series, or offline on a CSV file
    Backtest(Box<signals::Backtest>),
    /// Write a random walk of bars as CSV, to try things with
    DemoBars(signals::DemoBars),
}

impl Command {
    /// Opens a direct on `table`, and has the command go through it.
    async fn connect_to(
        &mut self,
        table: &str,
        project: Option<&str>,
    ) -> anyhow::Result<remote::Direct> {
        let remote = match self {
            Self::Projects(args) => {
                let direct = remote::Direct::open(table, None, false).await?;
                args.connect_to(&direct);
                return Ok(direct);
            }
            Self::Monitors(args) => &mut args.remote,
            Self::Alerts(args) => &mut args.remote,
            Self::Channels(args) => &mut args.remote,
            Self::Keys(args) => &mut args.remote,
            Self::Usage(args) => &mut args.remote,
            Self::Redrive(args) => &mut args.remote,
            Self::Import(args) => &mut args.remote,
            Self::Signal(args) => &mut args.remote,
            Self::Backtest(args) => &mut args.remote,
            Self::Serve(_)
            | Self::Backup(_)
            | Self::Exec(_)
            | Self::Ping(_)
            | Self::Smoke(_)
            | Self::DemoBars(_) => {
                anyhow::bail!(
                    "--table is not for this command: it is about a server, or about none"
                )
            }
        };
        let direct = remote::Direct::open(table, project, true).await?;
        remote.connect_to(&direct);
        Ok(direct)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut cli = Cli::parse();
    let filter = EnvFilter::try_from_env("THRUM_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let mut direct = None;
    if let Some(table) = &cli.table {
        match cli.command.connect_to(table, cli.project.as_deref()).await {
            Ok(open) => direct = Some(open),
            Err(error) => {
                eprintln!("thrum: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    let result = match cli.command {
        Command::Serve(args) => serve::serve(*args).await,
        Command::Backup(args) => backup::backup(&args),
        Command::Exec(args) => match exec::exec(args).await {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Command::Ping(args) => remote::ping(args).await,
        Command::Monitors(args) => remote::monitors(args).await,
        Command::Alerts(args) => remote::alerts(args).await,
        Command::Channels(args) => remote::channels(args).await,
        Command::Keys(args) => remote::keys(args).await,
        Command::Projects(args) => remote::projects(args).await,
        Command::Usage(args) => remote::usage(args).await,
        Command::Smoke(args) => remote::smoke(args).await,
        Command::Redrive(args) => remote::redrive(args).await,
        Command::Import(args) => signals::import(args).await,
        Command::Signal(args) => signals::signal(args).await,
        Command::Backtest(args) => signals::backtest(*args).await,
        Command::DemoBars(args) => signals::demo_bars(&args),
    };
    if let Some(direct) = direct
        && let Err(error) = direct.close().await
    {
        eprintln!(
            "thrum: the key of this command was not deleted, and ends within an hour: {error:#}"
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
