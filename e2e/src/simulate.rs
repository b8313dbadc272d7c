//! `simulate`: runs many seeds, and shrinks the first one that fails.

use anyhow::{Context, bail};
use clap::Args;
use e2e::sim::regions::{self, Plan};
use e2e::sim::scenario::Scenario;
use e2e::sim::{Run, run, shrink::shrink};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Which seeds to run.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Number of seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,

    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,

    /// Run only this seed, and print everything that happens
    #[arg(long, conflicts_with_all = ["seeds", "from", "scenario"])]
    seed: Option<u64>,

    /// Run the scenario in this file, as written by a failing seed, and print everything that
    /// happens
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    scenario: Option<PathBuf>,

    /// Simulate a deployment in two regions
    #[arg(long)]
    regions: bool,

    /// Continue after a seed fails
    #[arg(long)]
    all: bool,

    /// Do not shrink a failing seed
    #[arg(long)]
    no_shrink: bool,

    /// Number of seeds to run in parallel (default: the number of processors)
    #[arg(long)]
    jobs: Option<usize>,
}

/// Plays the seeds, and fails if any of them fails.
///
/// # Errors
/// A promise was broken, or the scenario can't be read.
pub fn simulate(options: &Simulate) -> anyhow::Result<()> {
    if let Some(path) = &options.scenario {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("can't read {}", path.display()))?;
        if options.regions {
            let plan: Plan = serde_json::from_str(&text)?;
            return show(&plan, |plan| regions::run(plan, true));
        }
        let scenario: Scenario = serde_json::from_str(&text)?;
        return show(&scenario, |scenario| run(scenario, true));
    }
    match options.seed {
        Some(seed) if options.regions => {
            return show(&Plan::of(seed), |plan| regions::run(plan, true));
        }
        Some(seed) => return show(&Scenario::of(seed), |scenario| run(scenario, true)),
        None => {}
    }
    let failed = many(options)?;
    let Some(first) = failed.first() else {
        return Ok(());
    };
    println!(
        "\n{} of {} seeds failed: {failed:?}",
        failed.len(),
        options.seeds
    );
    let of_regions = if options.regions { " --regions" } else { "" };
    println!("to reproduce: cargo run -p e2e --release -- simulate{of_regions} --seed {first}");
    if !options.no_shrink && !options.regions {
        smallest(*first)?;
    }
    bail!("{} seeds failed", failed.len());
}

/// Plays all seeds; returns those that failed.
fn many(options: &Simulate) -> anyhow::Result<Vec<u64>> {
    let bar = ProgressBar::new(options.seeds).with_style(ProgressStyle::with_template(
        "{wide_bar} {pos}/{len} seeds  {per_sec}  {eta} left  {msg}",
    )?);
    let (next, calls, messages) = (
        AtomicU64::new(options.from),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let stop = AtomicBool::new(false);
    let failed = Mutex::new(Vec::new());
    let end = options.from + options.seeds;
    let jobs = options
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let started = std::time::Instant::now();
    // A panic is caught and reported with its seed.
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let play = || match options.regions {
                        true => regions::run(&Plan::of(seed), false),
                        false => run(&Scenario::of(seed), false),
                    };
                    let why = match catch_unwind(play) {
                        Ok(Run {
                            broken,
                            calls: n,
                            messages: m,
                            ..
                        }) => {
                            calls.fetch_add(n, Ordering::Relaxed);
                            messages.fetch_add(m as u64, Ordering::Relaxed);
                            broken.first().map(ToString::to_string)
                        }
                        Err(_) => Some("panicked".to_owned()),
                    };
                    bar.inc(1);
                    if let Some(why) = why {
                        bar.suspend(|| println!("seed {seed}: {why}"));
                        failed.lock().expect("not poisoned").push(seed);
                        stop.store(!options.all, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut failed = failed.into_inner().expect("not poisoned");
    failed.sort_unstable();
    println!(
        "{} seeds in {:.0} s: {} table calls, {} messages, {} seeds failed",
        bar.position(),
        started.elapsed().as_secs_f64(),
        calls.into_inner(),
        messages.into_inner(),
        failed.len()
    );
    Ok(failed)
}

/// Plays a scenario and prints everything that happens.
fn show<T: Serialize>(scenario: &T, run: impl Fn(&T) -> Run) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(scenario)?);
    let run = run(scenario);
    for line in &run.trace {
        println!("{line}");
    }
    println!(
        "{} calls, {} messages, digest {:016x}",
        run.calls, run.messages, run.digest
    );
    for broken in &run.broken {
        println!("BROKEN PROMISE: {broken}");
    }
    if !run.broken.is_empty() {
        bail!("{} promises were broken", run.broken.len());
    }
    Ok(())
}

/// Shrinks the scenario of a failing seed, and prints the result.
fn smallest(seed: u64) -> anyhow::Result<()> {
    let scenario = Scenario::of(seed);
    let Ok(first) = catch_unwind(|| run(&scenario, false)) else {
        bail!("seed {seed} panicked; `--seed {seed}` shows where");
    };
    let Some(broken) = first.broken.first() else {
        bail!("seed {seed} did not fail again: the simulation is not deterministic");
    };
    let bar = ProgressBar::new_spinner().with_message("shrinking");
    let small = shrink(&scenario, broken.rule, |tries, scenario| {
        let acts: usize = scenario
            .scripts
            .iter()
            .map(|script| script.acts.len())
            .sum();
        bar.set_message(format!(
            "{tries} tried: {} spells, {acts} acts",
            scenario.spells.len()
        ));
        bar.tick();
    });
    bar.finish_and_clear();
    let path = std::env::temp_dir().join(format!("thrum-seed-{seed}.json"));
    std::fs::write(&path, serde_json::to_string_pretty(&small)?)?;
    println!("\nThe smallest scenario found that still fails:\n");
    let run = run(&small, true);
    for line in &run.trace {
        println!("{line}");
    }
    println!("\n{}", serde_json::to_string(&small)?);
    for broken in &run.broken {
        println!("BROKEN PROMISE: {broken}");
    }
    println!(
        "to reproduce: cargo run -p e2e --release -- simulate --scenario {}",
        path.display()
    );
    Ok(())
}
