//! Shrinks a failing scenario to a smaller one that breaks the same rule.

use super::scenario::Scenario;
use super::{Run, run};

/// Maximum number of scenarios to try.
const MAX_TRIES: usize = 400;

/// The smallest scenario found that still breaks `rule`. Calls `report` with the number of tries and
/// each smaller scenario.
pub fn shrink(
    scenario: &Scenario,
    rule: &str,
    mut report: impl FnMut(usize, &Scenario),
) -> Scenario {
    let mut best = scenario.clone();
    let mut tries = 0;
    let mut smaller = true;
    while smaller && tries < MAX_TRIES {
        smaller = false;
        for candidate in candidates(&best) {
            tries += 1;
            if tries > MAX_TRIES {
                break;
            }
            if breaks(&candidate, rule) {
                best = candidate;
                report(tries, &best);
                smaller = true;
                break;
            }
        }
    }
    best
}

fn breaks(scenario: &Scenario, rule: &str) -> bool {
    let run = std::panic::catch_unwind(|| run(scenario, false));
    run.is_ok_and(|Run { broken, .. }| broken.iter().any(|broken| broken.rule == rule))
}

/// Slightly smaller scenarios, the smallest first.
fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut found = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = scenario.clone();
        change(&mut smaller);
        if smaller != *scenario {
            found.push(smaller);
        }
    };
    for i in 0..scenario.scripts.len() {
        if scenario.scripts.len() > 1 {
            add(&|scenario| {
                scenario.scripts.remove(i);
                for script in &mut scenario.scripts {
                    script.parent = match script.parent {
                        Some(parent) if parent > i => Some(parent - 1),
                        parent => parent.filter(|parent| *parent != i),
                    };
                }
            });
        }
    }
    for i in 0..scenario.spells.len() {
        add(&|scenario| {
            scenario.spells.remove(i);
        });
    }
    if scenario.hooks.len() > 1 {
        add(&|scenario| {
            scenario.hooks.pop();
        });
    }
    add(&|scenario| scenario.quota = None);
    add(&|scenario| scenario.bars = false);
    add(&|scenario| scenario.minds = false);
    add(&|scenario| scenario.care = None);
    add(&|scenario| scenario.removals_ms.clear());
    add(&|scenario| scenario.skews_ms = [0, 0]);
    for i in 0..scenario.hooks.len() {
        add(&|scenario| scenario.hooks[i].daily_limit = None);
        add(&|scenario| scenario.hooks[i].group_threshold = 0);
    }
    // Remove halves, quarters, eighths and single acts.
    for i in 0..scenario.scripts.len() {
        let acts = scenario.scripts[i].acts.len();
        for size in [acts / 2, acts / 4, acts / 8, 1] {
            if size == 0 {
                continue;
            }
            for from in (0..acts).step_by(size) {
                add(&|scenario| drop(scenario.scripts[i].acts.drain(from..acts.min(from + size))));
            }
            if size == 1 {
                break;
            }
        }
        add(&|scenario| scenario.scripts[i].parent = None);
        add(&|scenario| {
            scenario.scripts[i]
                .acts
                .iter_mut()
                .for_each(|act| act.retries = 0);
        });
    }
    for i in 0..scenario.spells.len() {
        let spell = &scenario.spells[i];
        let half = (spell.to_ms - spell.from_ms) / 2;
        if half > 1_000 {
            add(&|scenario| scenario.spells[i].to_ms -= half);
            add(&|scenario| scenario.spells[i].from_ms += half);
        }
    }
    found
}
