//! `mutants`: injects deliberate bugs, one at a time, and finds the first seed that catches each.

use anyhow::ensure;
use clap::Args;
use e2e::sim::mutants::{Caught, MAX_SEEDS, hunt};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use thrum_schema::mutant::Mutant;

/// Which bugs to inject.
#[derive(Debug, Args)]
pub struct Mutants {
    /// Number of seeds to try per bug
    #[arg(long, default_value_t = MAX_SEEDS)]
    seeds: u64,

    /// Only the bug with this name
    #[arg(long)]
    only: Option<String>,
}

/// Hunts the selected bugs and prints which seed caught which.
///
/// # Errors
/// No bug has the given name, or a bug was not caught.
pub fn run(options: &Mutants) -> anyhow::Result<()> {
    let wanted = |mutant: &Mutant| {
        options
            .only
            .as_ref()
            .is_none_or(|only| *only == format!("{mutant:?}"))
    };
    let mutants: Vec<Mutant> = Mutant::ALL.into_iter().filter(wanted).collect();
    ensure!(
        !mutants.is_empty(),
        "no bug has that name; schema/src/mutant.rs lists them"
    );
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(Mutant, Option<Caught>)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let caught = hunt(*mutant, 1..=options.seeds);
                    eprintln!("{mutant:?}: {caught:?}");
                    found.lock().expect("not poisoned").push((*mutant, caught));
                }
            });
        }
    });
    let mut found = found.into_inner().expect("not poisoned");
    found.sort_by_key(|(mutant, _)| Mutant::ALL.iter().position(|other| other == mutant));
    println!("| bug | caught by seed | broken promise |\n|---|---|---|");
    for (mutant, caught) in &found {
        match caught {
            Some(Caught { seed, rule }) => println!("| {mutant:?} | {seed} | {rule} |"),
            None => println!("| {mutant:?} | none of {} | |", options.seeds),
        }
    }
    let escaped = found.iter().filter(|(_, caught)| caught.is_none()).count();
    ensure!(escaped == 0, "{escaped} bugs were not caught");
    Ok(())
}
