//! The command `thrum`.

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;
use thrum::{exec, remote, serve, signals};
use tracing_subscriber::EnvFilter;

/// A dead man's switch that you own: hosts and jobs send heartbeats; when one stops, its people are told.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
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
  thrum monitors snooze backup 2h
  thrum monitors export monitors.yaml             … and `import` it elsewhere
  thrum import bars eth.csv --series eth --timeframe 1h
  thrum signal eth --strategy trend-rsi           BUY, HOLD, SELL, or why it is unknown
  thrum backtest eth.csv --strategy sma-cross --param fast=5 --svg chart.svg

Every flag of `serve` is also a variable: --listen is THRUM_LISTEN.
THRUM_API_KEY, THRUM_READ_KEY (32 characters) and THRUM_PING_KEY (22) add
keys to the first project. The other commands take THRUM_URL and THRUM_API_KEY.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole pipeline on this machine
    Serve(Box<serve::Serve>),
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
    /// Send bars from a CSV file, with progress; an import that broke off goes on where it was
    Import(signals::Import),
    /// Ask what a strategy says of a series, and why
    Signal(signals::Signal),
    /// Reckon what following a strategy would have come to; on a series, or offline on a CSV file
    Backtest(Box<signals::Backtest>),
    /// Write a random walk of bars as CSV, to try things with
    DemoBars(signals::DemoBars),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("THRUM_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let result = match cli.command {
        Command::Serve(args) => serve::serve(*args).await,
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
        Command::Import(args) => signals::import(args).await,
        Command::Signal(args) => signals::signal(args).await,
        Command::Backtest(args) => signals::backtest(*args).await,
        Command::DemoBars(args) => signals::demo_bars(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thrum: {error:#}");
            ExitCode::FAILURE
        }
    }
}
