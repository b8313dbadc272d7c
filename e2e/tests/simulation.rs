//! The simulation, as far as every check goes: three hundred seeds, those that once found a bug, and the bugs that it has to
//! notice. `cargo run -p e2e --release -- mutants` hunts those from the first seed on. `cargo run -p e2e --release -- simulate --seeds 10000` goes further.

use e2e::sim::mutants::hunt;
use e2e::sim::{Scenario, run};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use thrum_schema::mutant::Mutant;

const SEEDS: u64 = 300;
/// Seeds that notice a bug, each with the bug; a hyphen where it can't be put in.
const REGRESSIONS: &str = include_str!("../regressions.txt");
/// The page that tells which seed notices which bug, and by which rule.
const PAGE: &str = include_str!("../../docs/reliability.md");

/// Does each of `all`, as many at a time as there are processors.
fn each<T: Copy + Sync>(all: &[T], act: impl Fn(T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    act(*one);
                }
            });
        }
    });
}

fn must_hold(seed: u64) {
    let run = run(&Scenario::of(seed), false);
    let broken: Vec<String> = run.broken.iter().map(ToString::to_string).collect();
    assert!(
        broken.is_empty(),
        "cargo run -p e2e --release -- simulate --seed {seed}\n{}",
        broken.join("\n")
    );
}

#[test]
fn what_was_promised_holds_whatever_goes_wrong() {
    let seeds: Vec<u64> = (1..=SEEDS).collect();
    each(&seeds, must_hold);
}

/// The lines of the file: a seed, the bug that it notices, if that can be put in, and what was wrong.
fn regressions() -> Vec<(u64, Option<Mutant>)> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let mut words = line.split_whitespace();
        let seed = words.next().and_then(|seed| seed.parse().ok());
        let name = words.next().unwrap_or_default().trim_end_matches(':');
        let mutant = Mutant::ALL
            .into_iter()
            .find(|mutant| format!("{mutant:?}") == name);
        assert!(mutant.is_some() || name == "-", "{line}");
        (seed.expect(line), mutant)
    });
    parsed.collect()
}

#[test]
fn what_was_mended_stays_mended() {
    let mut seeds: Vec<u64> = regressions().into_iter().map(|(seed, _)| seed).collect();
    // Those before are played anyway.
    seeds.retain(|seed| *seed > SEEDS);
    seeds.dedup();
    each(&seeds, must_hold);
}

#[test]
fn every_bug_is_noticed_that_is_put_in() {
    let regressions = regressions();
    for mutant in Mutant::ALL {
        assert!(
            regressions.iter().any(|(_, of)| *of == Some(mutant)),
            "{mutant:?} has no seed"
        );
    }
    each(&regressions, |(seed, mutant)| {
        let Some(mutant) = mutant else {
            return;
        };
        let caught = hunt(mutant, seed..=seed);
        let caught = caught.unwrap_or_else(|| panic!("seed {seed} does not notice {mutant:?}"));
        let row = format!("| {mutant:?} | {seed} | {} |", caught.rule);
        assert!(PAGE.contains(&row), "docs/reliability.md has not {row}");
    });
}

#[test]
fn a_seed_decides_everything() {
    // Threads have hash maps of different orders.
    for seed in 1..=8 {
        let digests = [(); 2].map(|()| {
            thread::spawn(move || run(&Scenario::of(seed), true).digest)
                .join()
                .expect("a run")
        });
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

/// All of the project's Rust.
fn sources(directory: &Path, all: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

#[test]
fn each_promise_has_the_tests_that_the_page_names() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut all = String::new();
    sources(root, &mut all);
    for name in PAGE.split('`').skip(1).step_by(2) {
        let is_test = name.matches('_').count() > 2 && !name.contains([' ', '/', '.']);
        assert!(!is_test || all.contains(&format!("fn {name}(")), "{name}");
        let is_file = name.starts_with("e2e/") || name.starts_with("schema/");
        assert!(!is_file || root.join(name).exists(), "{name}");
    }
    let (_, promises) = PAGE.split_once("## The promises").expect("promises");
    let (promises, _) = promises.split_once("\n## ").expect("their end");
    let rows = promises.lines().filter(|line| line.starts_with("| "));
    let mut rules = 0;
    for proof in rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next()) {
        assert!(proof.len() > 4, "a promise without a proof");
        for rule in proof.split('*').skip(1).step_by(2) {
            rules += 1;
            assert!(all.contains(&format!("\"{rule}")), "{rule}");
        }
    }
    assert!(rules > 30, "{rules} rules");
}
