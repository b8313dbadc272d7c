//! From a plan that fails to a smaller one that fails alike: what can be left out is left out.

use super::plan::Plan;
use super::{Run, run};

/// How many plans are tried at the most.
const MAX_TRIES: usize = 400;

/// The smallest plan that was found which still breaks `rule`, and how it does. `tell` hears of each that is smaller.
pub fn shrink(plan: &Plan, rule: &str, mut tell: impl FnMut(usize, &Plan)) -> Plan {
    let mut best = plan.clone();
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
                tell(tries, &best);
                smaller = true;
                break;
            }
        }
    }
    best
}

fn breaks(plan: &Plan, rule: &str) -> bool {
    let run = std::panic::catch_unwind(|| run(plan, false));
    run.is_ok_and(|Run { broken, .. }| broken.iter().any(|broken| broken.rule == rule))
}

/// Plans that are a little smaller, the smallest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut found = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        if smaller != *plan {
            found.push(smaller);
        }
    };
    for i in 0..plan.scripts.len() {
        if plan.scripts.len() > 1 {
            add(&|plan| drop(plan.scripts.remove(i)));
        }
    }
    for i in 0..plan.spells.len() {
        add(&|plan| {
            plan.spells.remove(i);
        });
    }
    if plan.hooks.len() > 1 {
        add(&|plan| {
            plan.hooks.pop();
        });
    }
    add(&|plan| plan.quota = None);
    add(&|plan| plan.bars = false);
    add(&|plan| plan.removals_ms.clear());
    add(&|plan| plan.skews_ms = [0, 0]);
    for i in 0..plan.hooks.len() {
        add(&|plan| plan.hooks[i].daily_limit = None);
        add(&|plan| plan.hooks[i].group_threshold = 0);
    }
    // Halves, quarters and single acts.
    for i in 0..plan.scripts.len() {
        let acts = plan.scripts[i].acts.len();
        for size in [acts / 2, acts / 4, acts / 8, 1] {
            if size == 0 {
                continue;
            }
            for from in (0..acts).step_by(size) {
                add(&|plan| drop(plan.scripts[i].acts.drain(from..acts.min(from + size))));
            }
            if size == 1 {
                break;
            }
        }
        add(&|plan| {
            plan.scripts[i]
                .acts
                .iter_mut()
                .for_each(|act| act.retries = 0);
        });
    }
    for i in 0..plan.spells.len() {
        let spell = &plan.spells[i];
        let half = (spell.to_ms - spell.from_ms) / 2;
        if half > 1_000 {
            add(&|plan| plan.spells[i].to_ms -= half);
            add(&|plan| plan.spells[i].from_ms += half);
        }
    }
    found
}
