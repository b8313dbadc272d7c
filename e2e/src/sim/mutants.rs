//! Whether the judgement would notice: a deliberate bug must not get through many seeds.

use super::{Scenario, run};
use std::ops::RangeInclusive;
use std::panic::catch_unwind;
use thrum_schema::mutant::{Mutant, give};

/// How many seeds each may take.
pub const MAX_SEEDS: u64 = 1_000;

/// Who noticed a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// The first seed that did.
    pub seed: u64,
    /// The promise that it found broken.
    pub rule: String,
}

/// Puts in a bug, in this thread alone, and plays seeds until one notices.
pub fn hunt(mutant: Mutant, mut seeds: RangeInclusive<u64>) -> Option<Caught> {
    give(Some(mutant));
    let caught = seeds.find_map(|seed| {
        let rule = match catch_unwind(|| run(&Scenario::of(seed), false)) {
            Ok(run) => run.broken.first()?.rule.to_owned(),
            Err(_) => "it panicked".to_owned(),
        };
        Some(Caught { seed, rule })
    });
    give(None);
    caught
}
