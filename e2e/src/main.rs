//! What proves and measures Thrum, and takes longer than a test: the simulation, its mutants, endurance, load.

mod bench;
mod endure;
mod load;
mod mutants;
mod server;
mod simulate;

use clap::{Parser, Subcommand};
use thrum::serve::{Serve, serve};

/// Proves and measures Thrum.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes docs/benchmarks.md anew
    Bench(bench::Bench),
    /// Measure pings per second, CPU time per ping against baseline servers, and alert latency
    Load(load::Load),
    /// Seeds of the simulation, each a pipeline with its clients and its troubles
    Simulate(simulate::Simulate),
    /// Deliberate bugs, and the seed that notices each
    Mutants(mutants::Mutants),
    /// Many monitors for minutes, with or without kill -9: no missed alert, no false one, no growth
    Endure(endure::Endure),
    /// A server that answers OK to every ping, without a table
    #[command(hide = true)]
    Floor,
    /// The server under load, in a process of its own
    #[command(hide = true)]
    Serve(Box<Serve>),
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    match &command {
        Action::Simulate(options) => return simulate::simulate(options),
        Action::Mutants(options) => return mutants::run(options),
        _ => {}
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match command {
            Action::Bench(options) => bench::run(&options).await,
            Action::Load(options) => load::run(&options).await.map(drop),
            Action::Endure(options) => endure::run(options).await,
            Action::Floor => server::serve_floor().await,
            Action::Serve(options) => serve(*options).await,
            Action::Simulate(_) | Action::Mutants(_) => {
                unreachable!("they have runtimes of their own")
            }
        }
    })
}
