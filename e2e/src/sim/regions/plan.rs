//! The plan of a simulation of two regions. The seed decides all of it beforehand.

use crate::sim::chance::Chance;
use serde::{Deserialize, Serialize};

/// Everything that happens in one simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Seeds the remaining randomness.
    pub seed: u64,
    /// The clock skew of each region, in milliseconds.
    pub skews_ms: [i64; 2],
    /// How late most items are replicated, and the latest ones, in milliseconds.
    pub lag_ms: (i64, i64),
    /// The number of alerts from which each receiver gets groups; 0 for never.
    pub hooks: Vec<u32>,
    /// The monitors and their clients.
    pub clients: Vec<Client>,
    /// What goes wrong.
    pub spells: Vec<Spell>,
    /// When an operator switches, in milliseconds, and to which region.
    pub switches: Vec<(i64, usize)>,
    /// When the last fault is over, in milliseconds.
    pub calm_ms: i64,
    /// When the simulation ends, in milliseconds.
    pub end_ms: i64,
}

/// A monitor and the actions of its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its period, in seconds.
    pub period_s: i64,
    /// Its grace, in seconds.
    pub grace_s: i64,
    /// Whether the first heartbeat creates it.
    pub by_name: bool,
    /// When it sends what, in order.
    pub acts: Vec<(i64, Act)>,
}

/// A heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// A success.
    Success,
    /// A failure.
    Fail,
}

/// A time in which something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// Start, in milliseconds.
    pub from_ms: i64,
    /// End, exclusive, in milliseconds.
    pub to_ms: i64,
    /// What is wrong.
    pub what: Trouble,
}

/// What can be wrong. A `u16` is how many calls in a thousand it hits; a `usize` is the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// All of the region is gone: its functions, its queues, and its replica.
    Dead(usize),
    /// The functions of the region don't run, but clients and the other region reach its replica.
    Hung(usize),
    /// The region can't reach the fence.
    Cut(usize),
    /// Replication stands still.
    Stuck,
    /// A call of a table fails without effect.
    Refused(u16),
    /// The reply to a call is lost.
    ReplyLost(u16),
    /// A call arrives up to 12 s late, even if its caller has given up.
    Late(u16),
    /// A function is killed at a call.
    Killed(u16),
    /// A queue delivers a message twice, or late.
    Queue(u16),
}

impl Trouble {
    /// Whether it can keep the region from renewing its lease.
    pub fn can_stop(self, region: usize) -> bool {
        match self {
            Self::Dead(of) | Self::Hung(of) | Self::Cut(of) => of == region,
            Self::Stuck => false,
            Self::Refused(_) | Self::ReplyLost(_) | Self::Late(_) | Self::Killed(_) => true,
            Self::Queue(_) => true,
        }
    }
}

impl Spell {
    /// Whether it applies at `ms`.
    pub const fn holds(&self, ms: i64) -> bool {
        self.from_ms <= ms && ms < self.to_ms
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let chance = Chance::new(seed, "two regions");
        let first_ms = chance.range(150_000, 300_000);
        let lost_ms = match chance.range(0, 3) {
            0 => chance.range(20_000, 60_000),
            1 => chance.range(60_000, 120_000),
            _ => chance.range(120_000, 400_000),
        };
        let mut spells = Vec::new();
        let mut switches = Vec::new();
        let mut calm_ms = first_ms + lost_ms;
        // The first region is active; most plans lose it.
        let what = match chance.range(0, 9) {
            0..=4 => Trouble::Dead(0),
            5 => Trouble::Hung(0),
            6 | 7 => Trouble::Cut(0),
            8 => Trouble::Dead(1),
            _ => Trouble::Cut(1),
        };
        if chance.per_mille(850) {
            // Some regions never come back.
            let to_ms = match (what, chance.per_mille(200)) {
                (Trouble::Dead(_), true) => i64::MAX,
                _ => first_ms + lost_ms,
            };
            spells.push(Spell {
                from_ms: first_ms,
                to_ms,
                what,
            });
        }
        let is_lost_for_good = spells.iter().any(|spell| spell.to_ms == i64::MAX);
        if chance.per_mille(350) && !is_lost_for_good {
            // Back, or to the other one.
            let at_ms = match chance.per_mille(500) {
                true => chance.range(60_000, first_ms),
                false => calm_ms + chance.range(10_000, 200_000),
            };
            switches.push((at_ms, usize::from(chance.per_mille(500))));
            calm_ms = calm_ms.max(at_ms + 150_000);
        }
        if chance.per_mille(150) && !is_lost_for_good {
            // A second loss, more than ten minutes after the first.
            let from_ms = first_ms + 700_000 + chance.range(0, 100_000);
            let to_ms = from_ms + chance.range(100_000, 250_000);
            spells.push(Spell {
                from_ms,
                to_ms,
                what: Trouble::Dead(usize::from(chance.per_mille(700))),
            });
            calm_ms = calm_ms.max(to_ms);
        }
        for _ in 0..chance.range(0, 2) {
            let from_ms = chance.range(30_000, calm_ms - 20_000);
            let to_ms = (from_ms + chance.range(10_000, 120_000)).min(calm_ms);
            let n = u16::try_from(*chance.pick(&[5, 20, 60])).expect("a small number");
            spells.push(Spell {
                from_ms,
                to_ms,
                what: match chance.range(0, 5) {
                    0 => Trouble::Refused(n),
                    1 => Trouble::ReplyLost(n),
                    2 => Trouble::Late(n),
                    3 => Trouble::Killed(n),
                    4 => Trouble::Queue(n * 3),
                    _ => Trouble::Stuck,
                },
            });
        }
        let end_ms = calm_ms + 12 * 60_000;
        let clients = (0..chance.range(1, 4))
            .map(|_| client(&chance, first_ms, calm_ms, end_ms))
            .collect();
        Self {
            seed,
            skews_ms: [chance.range(-500, 500), chance.range(-500, 500)],
            lag_ms: *chance.pick(&[
                (800, 2_000),
                (2_000, 20_000),
                (5_000, 90_000),
                (40_000, 90_000),
            ]),
            hooks: (0..chance.range(1, 2))
                .map(|_| *chance.pick(&[0, 0, 1, 2]))
                .collect(),
            clients,
            spells,
            switches,
            calm_ms,
            end_ms,
        }
    }

    /// What is wrong at `ms`.
    pub fn troubles(&self, ms: i64) -> impl Iterator<Item = Trouble> {
        let spells = self.spells.iter().filter(move |spell| spell.holds(ms));
        spells.map(|spell| spell.what)
    }

    /// Whether a region's functions do not run at `ms`.
    pub fn is_still(&self, region: usize, ms: i64) -> bool {
        self.troubles(ms)
            .any(|what| what == Trouble::Dead(region) || what == Trouble::Hung(region))
    }

    /// Whether a region is gone at `ms`.
    pub fn is_dead(&self, region: usize, ms: i64) -> bool {
        self.troubles(ms).any(|what| what == Trouble::Dead(region))
    }
}

/// A monitor that is pinged steadily, falls silent or fails around the loss of a region, and at the end is steady or
/// silent.
fn client(chance: &Chance, first_ms: i64, calm_ms: i64, end_ms: i64) -> Client {
    let period_s = *chance.pick(&[20, 30, 60, 120]);
    let period_ms = period_s * 1_000;
    let mut acts = Vec::new();
    // Some begin shortly before the region is lost.
    let mut at_ms = match chance.per_mille(250) {
        true => first_ms - chance.range(0, 60_000),
        false => chance.range(5_000, 60_000),
    };
    let is_eventful = chance.per_mille(600);
    while at_ms < calm_ms {
        let near = (first_ms - 100_000..first_ms + 100_000).contains(&at_ms);
        let odds = if near && is_eventful { 4 } else { 12 };
        match chance.range(0, odds) {
            0 => acts.push((at_ms, Act::Fail)),
            1 => at_ms += period_ms + chance.range(0, 120_000),
            _ => acts.push((at_ms, Act::Success)),
        }
        at_ms += period_ms - chance.range(0, period_ms / 8);
    }
    match chance.range(0, 2) {
        // Silent from some time around the loss on.
        0 => {
            let last_ms = chance.range(first_ms - 60_000, calm_ms);
            acts.retain(|(at, _)| *at < last_ms);
        }
        1 => acts.push((at_ms, Act::Fail)),
        _ => {
            while at_ms < end_ms {
                acts.push((at_ms, Act::Success));
                at_ms += period_ms - chance.range(0, period_ms / 8);
            }
        }
    }
    Client {
        period_s,
        grace_s: *chance.pick(&[5, 20, 60]),
        by_name: chance.per_mille(500),
        acts,
    }
}
