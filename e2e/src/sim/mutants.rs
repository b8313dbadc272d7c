//! Mutation testing of the judge: a deliberate bug must not survive many seeds.

use super::regions::{self, Plan};
use super::{Scenario, run};
use std::ops::RangeInclusive;
use std::panic::catch_unwind;
use thrum_schema::mutant::{Mutant, give};

/// Seeds to try per bug.
pub const MAX_SEEDS: u64 = 2_000;

/// How a bug was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// The first seed that caught it.
    pub seed: u64,
    /// The first promise that was broken.
    pub rule: String,
}

/// Enables a bug, in this thread only, and plays seeds until one catches it.
pub fn hunt(mutant: Mutant, mut seeds: RangeInclusive<u64>) -> Option<Caught> {
    give(Some(mutant));
    let caught = seeds.find_map(|seed| {
        let play = || match mutant.is_of_regions() {
            true => regions::run(&Plan::of(seed), false),
            false => run(&Scenario::of(seed), false),
        };
        let rule = match catch_unwind(play) {
            Ok(run) => run.broken.first()?.rule.to_owned(),
            Err(_) => "panicked".to_owned(),
        };
        Some(Caught { seed, rule })
    });
    give(None);
    caught
}
