//! Checks and measurements that take longer than a test: simulation, mutants, endurance and load.

mod bench;
mod endure;
mod load;
mod mutants;
mod server;
mod simulate;

use clap::{Parser, Subcommand};
use thrum::serve::{Serve, serve};

/// Test and benchmark Thrum.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the benchmarks and regenerate docs/benchmarks.md
    Bench(bench::Bench),
    /// Measure pings per second, CPU time per ping against baseline servers, and alert latency
    Load(load::Load),
    /// Run the deterministic simulation: each seed runs the pipeline, its clients and a set of
    /// faults
    Simulate(simulate::Simulate),
    /// Inject deliberate bugs, and report the seed that catches each
    Mutants(mutants::Mutants),
    /// Run many monitors for minutes, with or without `kill -9`: no missed alert, no false alert,
    /// no growth
    Endure(endure::Endure),
    /// Check `serve --table` with many monitors, on a DynamoDB emulator
    Container {
        /// How many monitors; half of them fall silent
        #[arg(long, default_value_t = 10_000)]
        monitors: usize,
    },
    /// Compare the anomaly detectors with those of other libraries, on series with known incidents
    Detectors(e2e::detectors::Detectors),
    /// Run a baseline server that answers OK to every ping and has no table
    #[command(hide = true)]
    Floor,
    /// Run the server under test in its own process
    #[command(hide = true)]
    Serve(Box<Serve>),
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    match &command {
        Action::Simulate(options) => return simulate::simulate(options),
        Action::Mutants(options) => return mutants::run(options),
        Action::Detectors(options) => return e2e::detectors::run(options),
        _ => {}
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match command {
            Action::Bench(options) => bench::run(&options).await,
            Action::Load(options) => load::run(&options).await.map(drop),
            Action::Endure(options) => endure::run(options).await,
            Action::Container { monitors } => {
                let say = |line| println!("{line}");
                let binary = std::env::current_exe()?;
                let report = e2e::container::run(&binary, monitors, say).await?;
                println!("{report:?}");
                Ok(())
            }
            Action::Floor => server::serve_floor().await,
            Action::Serve(options) => serve(*options).await,
            Action::Simulate(_) | Action::Mutants(_) | Action::Detectors(_) => {
                unreachable!("handled above, without this runtime")
            }
        }
    })
}
