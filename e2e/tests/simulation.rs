//! The part of the simulation that every check runs: 300 seeds, the seeds that once found a bug,
//! and the injected bugs that it must catch. `cargo run -p e2e --release -- mutants` searches all
//! seeds for one that catches each bug; `cargo run -p e2e --release -- simulate --seeds 10000` runs
//! more seeds.

use e2e::sim::mutants::hunt;
use e2e::sim::regions::{self, Plan};
use e2e::sim::{Scenario, run};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use thrum_schema::mutant::Mutant;

const SEEDS: u64 = 300;
/// Seeds of the simulation of two regions.
const REGION_SEEDS: u64 = 100;
/// Later seeds of two regions that found a bug.
const REGION_BUGS: [u64; 17] = [
    206, 438, 723, 803, 991, 2_970, 3_127, 3_167, 4_080, 4_283, 4_339, 4_434, 5_455, 6_112, 6_145,
    6_734, 9_878,
];
/// Seeds that catch a bug, each with the bug, or a hyphen for a bug that can't be injected.
const REGRESSIONS: &str = include_str!("../regressions.txt");
/// The page that lists which seed catches which bug, and by which rule.
const PAGE: &str = include_str!("../../docs/reliability.md");

/// Calls `act` for each of `all`, on as many threads as there are processors.
fn for_each<T: Copy + Sync>(all: &[T], act: impl Fn(T) + Sync) {
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

fn assert_promises_hold(seed: u64) {
    let run = run(&Scenario::of(seed), false);
    let broken: Vec<String> = run.broken.iter().map(ToString::to_string).collect();
    assert!(
        broken.is_empty(),
        "cargo run -p e2e --release -- simulate --seed {seed}\n{}",
        broken.join("\n")
    );
}

#[test]
fn the_promises_hold_whatever_fails() {
    let seeds: Vec<u64> = (1..=SEEDS).collect();
    for_each(&seeds, assert_promises_hold);
}

#[test]
fn the_promises_hold_in_two_regions() {
    let seeds: Vec<u64> = (1..=REGION_SEEDS).chain(REGION_BUGS).collect();
    for_each(&seeds, |seed| {
        let run = regions::run(&Plan::of(seed), false);
        let broken: Vec<String> = run.broken.iter().map(ToString::to_string).collect();
        assert!(
            broken.is_empty(),
            "cargo run -p e2e --release -- simulate --regions --seed {seed}\n{}",
            broken.join("\n")
        );
    });
}

/// The seeds of the file, each with the bug that it catches, if that can be injected.
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
fn fixed_bugs_stay_fixed() {
    let of_one = |mutant: &Option<Mutant>| !mutant.is_some_and(Mutant::is_of_regions);
    let regressions = regressions().into_iter();
    let of_one = regressions.filter(|(_, mutant)| of_one(mutant));
    let mut seeds: Vec<u64> = of_one.map(|(seed, _)| seed).collect();
    // The seeds up to `SEEDS` run in another test.
    seeds.retain(|seed| *seed > SEEDS);
    seeds.dedup();
    for_each(&seeds, assert_promises_hold);
}

#[test]
fn every_injected_bug_is_caught() {
    let regressions = regressions();
    for mutant in Mutant::ALL {
        assert!(
            regressions.iter().any(|(_, of)| *of == Some(mutant)),
            "{mutant:?} has no seed"
        );
    }
    for_each(&regressions, |(seed, mutant)| {
        let Some(mutant) = mutant else {
            return;
        };
        let caught = hunt(mutant, seed..=seed);
        let caught = caught.unwrap_or_else(|| panic!("seed {seed} does not catch {mutant:?}"));
        let row = format!("| {mutant:?} | {seed} | {} |", caught.rule);
        assert!(
            PAGE.contains(&row),
            "docs/reliability.md lacks the row {row}"
        );
    });
}

#[test]
fn a_seed_determines_the_whole_run() {
    // Each thread iterates hash maps in a different order.
    for seed in 1..=8 {
        let digests = [(); 2].map(|()| {
            thread::spawn(move || run(&Scenario::of(seed), true).digest)
                .join()
                .expect("a run")
        });
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

/// Appends all Rust sources below `directory` to `all`.
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
fn every_test_named_on_the_page_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut all = String::new();
    sources(root, &mut all);
    for name in PAGE.split('`').skip(1).step_by(2) {
        let is_test = name.matches('_').count() > 2 && !name.contains([' ', '/', '.']);
        assert!(!is_test || all.contains(&format!("fn {name}(")), "{name}");
        let is_file = name.starts_with("e2e/") || name.starts_with("schema/");
        assert!(!is_file || root.join(name).exists(), "{name}");
    }
    let (_, promises) = PAGE.split_once("## The promises").expect("the promises");
    let (promises, _) = promises
        .split_once("\n## ")
        .expect("a section after the promises");
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

/// On a new table, which takes 4,000 writes a second, a thousand per partition, and on an item one
/// transaction at a time. The clients are `curl --retry 5`.
#[test]
fn ten_thousand_hosts_register_at_once_within_two_minutes() {
    let crowd = e2e::sim::crowd::register(10_000);
    assert_eq!(crowd.gave_up, 0, "{crowd:?}");
    assert!(crowd.took_s < 120.0, "{crowd:?}");
    assert_eq!(crowd.counted, (10_000, 10_000));
}
