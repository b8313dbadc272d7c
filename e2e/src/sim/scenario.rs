//! What happens in a simulation: all of it is decided by the seed before it begins, as data that can be made smaller.

use super::chance::Chance;
use serde::{Deserialize, Serialize};

const MINUTE: i64 = 60_000;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// Where the rest of the chance comes from: latencies, which calls a fault meets.
    pub seed: u64,
    /// Where it runs.
    pub place: Place,
    /// How far the clocks of the handlers are off, in milliseconds.
    pub skews_ms: [i64; 2],
    /// Who is told.
    pub hooks: Vec<Hook>,
    /// Who is watched.
    pub scripts: Vec<Script>,
    /// What goes wrong, and when.
    pub spells: Vec<Spell>,
    /// When the table removes what has expired, in milliseconds.
    pub removals_ms: Vec<i64>,
    /// How many requests a day a key may make that tries again and again, if one does.
    pub quota: Option<u32>,
    /// Whether bars come for a series that is watched.
    pub bars: bool,
    /// When the last spell is over, at the latest.
    pub calm_ms: i64,
    /// When it ends.
    pub end_ms: i64,
}

/// Where the handlers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// One process: it dies in whole, and what was on its way dies with it. It wakes at the next timer, or after so many
    /// milliseconds.
    Serve {
        /// The longest time between two ticks.
        tick_ms: i64,
    },
    /// Two of each function, a schedule by the minute, queues that bring things twice, a stream of two shards.
    Lambda,
}

/// A receiver of webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// From how many alerts on they are grouped; 0 for never.
    pub group_threshold: u32,
    /// How many messages a day it takes.
    pub daily_limit: Option<u32>,
}

/// A monitor, and what its clients do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Seconds between two heartbeats.
    pub period_s: i64,
    /// Seconds that one may be late.
    pub grace_s: i64,
    /// What a person makes of its period and grace, if one changes them, in seconds.
    pub then_s: Option<(i64, i64)>,
    /// How many failures in a row make it go down.
    pub failures: u32,
    /// How its pings come.
    pub door: Door,
    /// What its clients do, in order.
    pub acts: Vec<Act>,
}

/// How pings come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// By the monitor's URL.
    Url,
    /// By ping key and slug.
    Slug,
    /// By name; whoever comes first makes it.
    Name,
}

/// Something that a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When, in milliseconds.
    pub at_ms: i64,
    /// What.
    pub what: Kind,
    /// How often it tries again what was not answered.
    pub retries: u8,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A success.
    Success,
    /// A failure.
    Fail,
    /// A run begins.
    Start,
    /// Nothing but a line in the log.
    Log,
    /// A person pauses it.
    Pause,
    /// A person resumes it.
    Resume,
    /// A person changes its period and grace.
    Change,
    /// Somebody asks for what is not to be: under no name, with no key, with nonsense.
    Lie,
}

impl Kind {
    /// Whether it is a ping.
    pub const fn is_ping(self) -> bool {
        matches!(self, Self::Success | Self::Fail | Self::Start | Self::Log)
    }
}

/// A time in which something goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// From when.
    pub from_ms: i64,
    /// Until when.
    pub to_ms: i64,
    /// What.
    pub what: Trouble,
}

/// What goes wrong; how often, in a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The table refuses a call, and does nothing.
    Refused(u16),
    /// The table does it, and says that it failed.
    Failed(u16),
    /// A connection breaks before a call arrives.
    Reset(u16),
    /// It breaks after the call was done.
    ReplyLost(u16),
    /// The table throttles.
    Throttled(u16),
    /// A call takes seconds.
    Slow(u16),
    /// A read that may be stale is stale.
    Stale(u16),
    /// A batch is done in part.
    Partial(u16),
    /// A transaction or a write meets another one.
    Conflict(u16),
    /// A handler is killed at a call, before or after it is done. In one process, all of it dies.
    Killed(u16),
    /// The bus or the queue does not take something, or takes it and says that it did not.
    Bus(u16),
    /// A queue brings something twice, or late.
    Queue(u16),
    /// The stream brings a batch late, or again.
    Stream(u16),
    /// A client's request, or its reply, is lost.
    Network(u16),
    /// The schedule misses its minute, or two of it come at once.
    Schedule(u16),
    /// Everything is away.
    Away,
    /// Everything is replaced by a new version, once, at its beginning.
    Deploy,
    /// A receiver answers 500.
    HookFails(u8),
    /// A receiver takes the message, and answers 500.
    HookTakesAndFails(u8),
    /// A receiver does not answer.
    HookHangs(u8),
}

impl Spell {
    /// Whether it holds at `ms`.
    pub const fn holds(&self, ms: i64) -> bool {
        self.from_ms <= ms && ms < self.to_ms
    }
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of(seed: u64) -> Self {
        let chance = Chance::new(seed, "plan");
        let place = if chance.per_mille(500) {
            Place::Serve {
                tick_ms: *chance.pick(&[2_000, 5_000, 15_000]),
            }
        } else {
            Place::Lambda
        };
        let serve = matches!(place, Place::Serve { .. });
        let troubled_ms = chance.range(20, 80) * 6_000;
        let away_ms = match chance.range(0, 9) {
            0 => chance.range(1, 30) * 10_000,
            // Long enough for TTL to remove what nobody looked after.
            1 => chance.range(60, 90) * MINUTE,
            _ => 0,
        };
        let begin = 20_000;
        let calm_ms = begin + troubled_ms + away_ms;
        let hooks: Vec<Hook> = (0..chance.range(1, 3))
            .map(|_| Hook {
                group_threshold: *chance.pick(&[0, 0, 1, 2, 5]),
                daily_limit: chance
                    .per_mille(150)
                    .then(|| u32::try_from(chance.range(1, 6)).expect("few")),
            })
            .collect();
        let mut scenario = Self {
            seed,
            place,
            skews_ms: match chance.range(0, 2) {
                0 => [0, 0],
                _ => [chance.range(-500, 500), chance.range(-500, 500)],
            },
            hooks,
            scripts: Vec::new(),
            spells: Vec::new(),
            removals_ms: Vec::new(),
            quota: chance
                .per_mille(150)
                .then(|| u32::try_from(chance.range(3, 15)).expect("few")),
            bars: chance.per_mille(150),
            calm_ms,
            // An audit waits for five minutes at the most.
            end_ms: calm_ms + chance.range(9, 11) * MINUTE,
        };
        let common = chance
            .per_mille(300)
            .then(|| script(&chance, serve, begin, &scenario));
        for _ in 0..chance.range(1, 4) {
            // At times many do the same at the same time: bursts are grouped.
            scenario.scripts.push(match &common {
                Some(script) => script.clone(),
                None => script(&chance, serve, begin, &scenario),
            });
        }
        if chance.per_mille(950) {
            for _ in 0..chance.range(1, 6) {
                scenario.spells.push(spell(
                    &chance,
                    begin,
                    begin + troubled_ms,
                    scenario.hooks.len(),
                ));
            }
        }
        if away_ms > 0 {
            let from_ms = begin + chance.range(0, troubled_ms);
            scenario.spells.push(Spell {
                from_ms,
                to_ms: from_ms + away_ms,
                what: Trouble::Away,
            });
        }
        let removals = if away_ms > 0 { 6 } else { 2 };
        scenario.removals_ms = (0..removals)
            .map(|_| chance.range(0, scenario.end_ms))
            .collect();
        scenario.removals_ms.sort_unstable();
        scenario
    }

    /// Whether nothing goes wrong.
    pub fn is_calm(&self) -> bool {
        self.spells.is_empty()
    }

    /// The spells of some kind.
    pub fn troubles<T>(
        &self,
        ms: i64,
        of: impl Fn(Trouble) -> Option<T>,
    ) -> impl Iterator<Item = T> {
        self.spells
            .iter()
            .filter(move |spell| spell.holds(ms))
            .filter_map(move |spell| of(spell.what))
    }
}

fn spell(chance: &Chance, from: i64, to: i64, hooks: usize) -> Spell {
    let from_ms = chance.range(from, to - 20_000);
    let to_ms = match chance.range(0, 2) {
        0 => (from_ms + chance.range(5_000, 60_000)).min(to),
        1 => (from_ms + chance.range(60_000, 240_000)).min(to),
        _ => to,
    };
    let n = u16::try_from(*chance.pick(&[5, 20, 60, 200])).expect("few");
    let hook = u8::try_from(chance.range(0, i64::try_from(hooks).expect("few") - 1)).expect("few");
    let what = match chance.range(0, 19) {
        0 => Trouble::Refused(n),
        1 => Trouble::Failed(n),
        2 => Trouble::Reset(n),
        3 | 4 => Trouble::ReplyLost(n),
        5 => Trouble::Throttled(n),
        6 => Trouble::Slow(n),
        7 => Trouble::Stale(n * 3),
        8 => Trouble::Partial(n * 3),
        9 => Trouble::Conflict(n),
        10 | 11 => Trouble::Killed(n.min(60)),
        12 => Trouble::Bus(n * 2),
        13 => Trouble::Queue(n * 3),
        14 => Trouble::Stream(n * 3),
        15 => Trouble::Network(n * 2),
        16 => Trouble::Schedule(n * 4),
        17 => Trouble::Deploy,
        18 => match chance.range(0, 2) {
            0 => Trouble::HookFails(hook),
            1 => Trouble::HookTakesAndFails(hook),
            _ => Trouble::HookHangs(hook),
        },
        _ => Trouble::HookTakesAndFails(hook),
    };
    Spell {
        from_ms,
        to_ms,
        what,
    }
}

/// A monitor that is steady for a while, falls silent, fails, runs; and in the end is steady, or silent.
fn script(chance: &Chance, serve: bool, begin: i64, scenario: &Scenario) -> Script {
    let period_s = if serve {
        *chance.pick(&[10, 20, 30, 60])
    } else {
        *chance.pick(&[30, 60, 60, 120])
    };
    let grace_s = *chance.pick(&[1, 5, 20, 30, 60]);
    let door = *chance.pick(&[Door::Url, Door::Url, Door::Slug, Door::Name]);
    let with_runs = door != Door::Name && chance.per_mille(250);
    let then_s = (door != Door::Name && chance.per_mille(250))
        .then(|| (*chance.pick(&[10, 30, 90, 150]), *chance.pick(&[1, 10, 60])));
    let mut acts = Vec::new();
    let period_ms = period_s * 1000;
    let mut at_ms = chance.range(begin / 2, begin + period_ms);
    let act = |at_ms: i64, what: Kind| Act {
        at_ms,
        what,
        retries: u8::try_from(chance.range(0, 3)).expect("few"),
    };
    while at_ms < scenario.calm_ms && acts.len() < 40 {
        match chance.range(0, 19) {
            // Silent for so long that somebody has to be told.
            0 | 1 => at_ms += period_ms + grace_s * 1000 + chance.range(-3_000, 90_000),
            2 | 3 => acts.push(act(at_ms, Kind::Fail)),
            4 => acts.push(act(at_ms, Kind::Log)),
            5 if door == Door::Url => {
                acts.push(act(at_ms, Kind::Pause));
                if chance.per_mille(500) {
                    acts.push(act(at_ms + chance.range(0, period_ms), Kind::Resume));
                }
            }
            // Two clients of one monitor, at the same instant or nearly.
            6 => {
                acts.push(act(at_ms, Kind::Success));
                let what = *chance.pick(&[Kind::Success, Kind::Fail]);
                acts.push(act(at_ms + *chance.pick(&[0, 1, 5, 40]), what));
            }
            7..=10 if with_runs => {
                acts.push(act(at_ms, Kind::Start));
                // It ends in time, nearly, or never.
                if chance.per_mille(700) {
                    let took = chance.range(0, grace_s * 1100);
                    acts.push(act(at_ms + took, Kind::Success));
                }
            }
            11 | 12 if then_s.is_some() => {
                acts.push(act(at_ms, Kind::Success));
                acts.push(act(at_ms + chance.range(0, period_ms), Kind::Change));
            }
            13 => acts.push(act(at_ms, Kind::Lie)),
            _ => acts.push(act(at_ms, Kind::Success)),
        }
        at_ms += period_ms - chance.range(0, period_ms / 8);
    }
    // What holds in the end: everybody believes it.
    at_ms = at_ms.max(scenario.calm_ms);
    match chance.range(0, 2) {
        0 => {}
        1 => acts.push(act(at_ms + chance.range(0, 60_000), Kind::Success)),
        _ => {
            while at_ms < scenario.end_ms && acts.len() < 60 {
                acts.push(act(at_ms, Kind::Success));
                at_ms += period_ms - chance.range(0, period_ms / 8);
            }
        }
    }
    acts.sort_by_key(|act| act.at_ms);
    Script {
        period_s,
        grace_s,
        then_s,
        failures: if door != Door::Name && chance.per_mille(200) {
            2
        } else {
            1
        },
        door,
        acts,
    }
}
