//! The plan of a simulation. The seed decides all of it beforehand, as data that can be shrunk.

use super::chance::{Chance, ClockStep};
use serde::{Deserialize, Serialize};

const MINUTE: i64 = 60_000;

/// Everything that happens in one simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// Seeds the remaining randomness: latencies, and which calls a fault hits.
    pub seed: u64,
    /// Where the handlers run.
    pub place: Place,
    /// The clock skew of each handler, in milliseconds.
    pub skews_ms: [i64; 2],
    /// The webhook receivers.
    pub hooks: Vec<Hook>,
    /// The monitors and their clients.
    pub scripts: Vec<Script>,
    /// The faults, and when each applies.
    pub spells: Vec<Spell>,
    /// When the table removes expired items, in milliseconds.
    pub removals_ms: Vec<i64>,
    /// The daily quota of a key whose client keeps making requests, if there is one.
    pub quota: Option<u32>,
    /// Whether clients send bars for a watched series.
    pub bars: bool,
    /// Whether a strategy that holds positions and a detector watch them too.
    pub minds: bool,
    /// What people do about alerts, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub care: Option<Care>,
    /// A step of the clock of all handlers, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_step: Option<ClockStep>,
    /// When the last fault is over, at the latest, in milliseconds.
    pub calm_ms: i64,
    /// When the simulation ends, in milliseconds.
    pub end_ms: i64,
}

/// What people do about alerts: besides these settings, clients acknowledge and snooze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Care {
    /// Seconds between reminders.
    pub remind_s: u32,
    /// After how many seconds the last channel is notified, if it is notified later.
    pub after_s: Option<u32>,
    /// Whether the last channel stands in for the first, and gets nothing else.
    pub falls_back: bool,
}

/// Where the handlers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// One process (`thrum serve`). A crash loses everything in flight. It wakes at the next timer,
    /// or after `tick_ms`.
    Serve {
        /// The longest time between two ticks, in milliseconds.
        tick_ms: i64,
    },
    /// Two instances of each function, a schedule that calls once a minute but up to 59 s late, queues
    /// that deliver more than once, and a stream with two shards.
    Lambda,
}

/// A receiver of webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The number of alerts from which they are grouped; 0 for never.
    pub group_threshold: u32,
    /// The channel's daily limit of messages.
    pub daily_limit: Option<u32>,
}

/// A monitor and the actions of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// The monitor's period, in seconds.
    pub period_s: i64,
    /// The monitor's grace, in seconds.
    pub grace_s: i64,
    /// The period and grace that a [`Kind::Change`] sets, in seconds.
    pub then_s: Option<(i64, i64)>,
    /// Consecutive failures that take it down.
    pub failures: u32,
    /// Whether it expects something of its runs' metrics. Its clients then report a failure as a
    /// success with too few rows.
    #[serde(default)]
    pub expects: bool,
    /// The script whose monitor is its parent, if it has one: an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
    /// How clients address it.
    pub door: Door,
    /// The actions of its clients, in order.
    pub acts: Vec<Act>,
}

/// How clients address a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// By the monitor's URL.
    Url,
    /// By ping key and slug.
    Slug,
    /// By name; the first heartbeat creates it.
    Name,
}

/// One action of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When it starts, in milliseconds.
    pub at_ms: i64,
    /// What the client does.
    pub what: Kind,
    /// How often the client retries while it gets no answer.
    pub retries: u8,
}

/// An action of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A success.
    Success,
    /// A failure.
    Fail,
    /// The start of a run.
    Start,
    /// A log ping.
    Log,
    /// A user pauses the monitor.
    Pause,
    /// A user resumes the monitor.
    Resume,
    /// A user changes its period and grace.
    Change,
    /// A user acknowledges that it is down.
    Acknowledge,
    /// A user silences it for a minute.
    Snooze,
    /// A user deletes it.
    Delete,
    /// A user redelivers all dead alerts.
    Redeliver,
    /// An invalid request: an unknown monitor, a missing or wrong key, or invalid values.
    Invalid,
}

impl Kind {
    /// Whether this is a ping.
    pub const fn is_ping(self) -> bool {
        matches!(self, Self::Success | Self::Fail | Self::Start | Self::Log)
    }
}

/// A period of time with one kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// Start, in milliseconds.
    pub from_ms: i64,
    /// End, exclusive, in milliseconds.
    pub to_ms: i64,
    /// The kind of fault.
    pub what: FaultKind,
}

/// A kind of fault. A `u16` is how many calls in a thousand it hits; a `u8` is the index of the
/// receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The table refuses a call and does nothing.
    Refused(u16),
    /// The table does the call, but reports a failure.
    Failed(u16),
    /// The connection breaks before the call arrives.
    Reset(u16),
    /// The connection breaks after the call was done.
    ReplyLost(u16),
    /// The table throttles.
    Throttled(u16),
    /// Each partition takes only this many write units per second, and an item one transaction at a
    /// time.
    Capacity(u16),
    /// A call takes seconds.
    Slow(u16),
    /// An eventually consistent read returns stale data.
    Stale(u16),
    /// A batch is processed only in part.
    Partial(u16),
    /// A write or transaction conflicts with another one.
    Conflict(u16),
    /// A handler is killed at a call, before or after the call is done. In `serve`, the whole
    /// process dies.
    Killed(u16),
    /// The bus or queue refuses a message, or accepts it but reports an error.
    Bus(u16),
    /// A queue delivers a message twice, or late.
    Queue(u16),
    /// The stream delivers a batch late, or again.
    Stream(u16),
    /// A client's request or its response is lost.
    Network(u16),
    /// EventBridge Scheduler skips a minute, or calls twice.
    Schedule(u16),
    /// The front door refuses a request.
    TurnedAway(u16),
    /// Ingest has this many execution environments, each for ten requests a second, and other hosts send
    /// more: the requests that come first in a second are taken.
    Environments(u16),
    /// Other projects' long work keeps all consumers of its queue busy.
    LongWork,
    /// The front door admits nobody.
    Shut,
    /// All of Thrum is unavailable.
    Away,
    /// All handlers are replaced by a new version, once, at the start of the spell.
    Deploy,
    /// A receiver answers 500.
    HookFails(u8),
    /// A receiver accepts the message, but answers 500.
    HookTakesAndFails(u8),
    /// A receiver does not answer.
    HookHangs(u8),
    /// A receiver answers that it is gone for good.
    HookGone(u8),
    /// The name server takes up to a minute.
    NamesSlow,
}

impl Script {
    /// Has the monitor fail or fall silent at `from_ms`, and come back at `to_ms`.
    fn go_down(&mut self, chance: &Chance, from_ms: i64, to_ms: i64) {
        let quiet = |act: &Act| !(from_ms..to_ms).contains(&act.at_ms) || act.what == Kind::Invalid;
        self.acts.retain(quiet);
        let act = |at_ms, what| Act {
            at_ms,
            what,
            retries: 3,
        };
        self.acts.push(act(from_ms - 1_000, Kind::Success));
        if chance.per_mille(600) {
            let fails = 0..i64::from(self.failures);
            self.acts
                .extend(fails.map(|i| act(from_ms + i * 500, Kind::Fail)));
        }
        if to_ms < i64::MAX {
            self.acts.push(act(to_ms, Kind::Success));
        }
    }
}

impl Spell {
    /// Whether it applies at `ms`.
    pub const fn holds(&self, ms: i64) -> bool {
        self.from_ms <= ms && ms < self.to_ms
    }
}

impl Scenario {
    /// The strategies that watch the bars.
    pub fn strategies(&self) -> &'static [&'static str] {
        match (self.bars, self.minds) {
            (false, _) => &[],
            (true, false) => &["sim"],
            (true, true) => &["sim", "positions", "robust-zscore"],
        }
    }

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
            // Long enough for TTL to remove items while nothing runs.
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
                    .then(|| u32::try_from(chance.range(1, 6)).expect("a small number")),
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
                .then(|| u32::try_from(chance.range(3, 15)).expect("a small number")),
            bars: chance.per_mille(150),
            minds: false,
            care: None,
            calm_ms,
            clock_step: None,
            // An audit waits for at most five minutes.
            end_ms: calm_ms + chance.range(9, 11) * MINUTE,
        };
        // Only some seeds, so that the others play as they did before.
        if seed % 16 == 11 {
            scenario.minds = true;
            scenario.bars |= chance.per_mille(500);
        }
        let common = chance
            .per_mille(300)
            .then(|| script(&chance, serve, begin, &scenario));
        for _ in 0..chance.range(1, 4) {
            // Sometimes all monitors share one script, so that bursts are grouped.
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
                what: FaultKind::Away,
            });
        }
        let removals = if away_ms > 0 { 6 } else { 2 };
        scenario.removals_ms = (0..removals)
            .map(|_| chance.range(0, scenario.end_ms))
            .collect();
        scenario.removals_ms.sort_unstable();
        scenario.add_hardship();
        if seed % 16 == 3 && scenario.place == Place::Lambda {
            let chance = Chance::new(seed, "capacity");
            let from_ms = chance.range(0, calm_ms / 2);
            scenario.spells.push(Spell {
                from_ms,
                to_ms: calm_ms,
                what: FaultKind::Capacity(*chance.pick(&[3, 5, 10])),
            });
        }
        if seed % 16 == 9 && scenario.place == Place::Lambda {
            scenario.limit_concurrency();
        }
        if seed % 16 == 13 && scenario.clock_step.is_none() {
            scenario.add_care();
        }
        if seed % 16 == 7 && scenario.clock_step.is_none() {
            scenario.add_family();
        }
        scenario
    }

    /// Makes the monitors a family: the first is a parent that is down for a while, and the others
    /// depend on it and go down, too. Some are snoozed or deleted, and a receiver is gone for a while.
    /// Drawn separately, and only for some seeds, so that the others play as they did before.
    fn add_family(&mut self) {
        let chance = Chance::new(self.seed, "family");
        for hook in &mut self.hooks {
            hook.daily_limit = None;
        }
        if self.scripts.len() < 2 {
            self.scripts.push(self.scripts[0].clone());
        }
        let from_ms = chance.range(40_000, 100_000);
        let to_ms = from_ms + chance.range(150_000, 400_000);
        for i in 0..self.scripts.len() {
            // Nothing creates a deleted monitor again.
            let script = &mut self.scripts[i];
            if script.door == Door::Name {
                script.door = Door::Slug;
            }
            if i > 0 && chance.per_mille(850) {
                script.parent = Some(if chance.per_mille(300) { i - 1 } else { 0 });
            }
            let (from_ms, to_ms) = match i {
                0 => (from_ms, to_ms),
                _ => (
                    from_ms + chance.range(-30_000, 150_000),
                    match chance.range(0, 2) {
                        0 => to_ms - chance.range(10_000, 60_000),
                        1 => to_ms + chance.range(0, 200_000),
                        _ => i64::MAX,
                    },
                ),
            };
            script.go_down(&chance, from_ms, to_ms);
            let mut add = |at_ms: i64, what: Kind, retries: u8| {
                script.acts.push(Act {
                    at_ms,
                    what,
                    retries,
                });
            };
            if chance.per_mille(250) {
                add(from_ms + chance.range(-30_000, 90_000), Kind::Snooze, 0);
            }
            if chance.per_mille(200) {
                add(chance.range(30_000, self.end_ms), Kind::Delete, 3);
            }
            script.acts.sort_by_key(|act| act.at_ms);
        }
        if chance.per_mille(400) {
            let from_ms = chance.range(20_000, from_ms);
            let to_ms = from_ms + chance.range(60_000, 300_000);
            let what = FaultKind::HookGone(0);
            self.spells.push(Spell {
                from_ms,
                to_ms,
                what,
            });
            let again_ms = to_ms + chance.range(-60_000, 200_000);
            self.scripts[0].acts.push(Act {
                at_ms: again_ms,
                what: Kind::Redeliver,
                retries: 0,
            });
            self.scripts[0].acts.sort_by_key(|act| act.at_ms);
        }
    }

    /// Adds people who do something about alerts. Drawn separately, and only for some seeds, so that
    /// the others play as they did before.
    fn add_care(&mut self) {
        let chance = Chance::new(self.seed, "care");
        let falls_back = chance.per_mille(400);
        for hook in &mut self.hooks {
            hook.daily_limit = None;
        }
        let spare = Hook {
            group_threshold: 0,
            daily_limit: None,
        };
        self.hooks.push(spare);
        let after_s = u32::try_from(*chance.pick(&[20, 60, 120])).expect("a small number");
        self.care = Some(Care {
            remind_s: 60,
            after_s: (!falls_back).then_some(after_s),
            falls_back,
        });
        if falls_back {
            self.hooks[0].group_threshold = 0;
            let from_ms = chance.range(20_000, self.calm_ms / 2);
            self.spells.push(Spell {
                from_ms,
                to_ms: from_ms + chance.range(60_000, 300_000),
                what: FaultKind::HookFails(0),
            });
        }
        for script in &mut self.scripts {
            // Some are left alone.
            if chance.per_mille(400) {
                continue;
            }
            let falls: Vec<i64> = script.acts.iter().map(|act| act.at_ms).collect();
            if falls.is_empty() {
                continue;
            }
            for _ in 0..chance.range(1, 5) {
                let at_ms = *chance.pick(&falls) + chance.range(1_000, 150_000);
                let what = if chance.per_mille(750) {
                    Kind::Acknowledge
                } else {
                    Kind::Snooze
                };
                script.acts.push(Act {
                    at_ms: at_ms.min(self.end_ms),
                    what,
                    retries: 0,
                });
            }
            script.acts.sort_by_key(|act| act.at_ms);
        }
    }

    /// Adds what the world around Thrum does in some scenarios: the front door refuses requests, or
    /// the clock is set. Drawn separately, so that the other scenarios stay as they are.
    fn add_hardship(&mut self) {
        let chance = Chance::new(self.seed, "hardship");
        match chance.range(0, 99) {
            0..=7 => {
                // Nothing else fails, so that all of it can be judged.
                self.spells.clear();
                let from_ms = chance.range(20_000, self.calm_ms / 2);
                self.spells.push(Spell {
                    from_ms,
                    to_ms: self.calm_ms.max(from_ms + 200_000),
                    what: FaultKind::TurnedAway(*chance.pick(&[100, 300, 500])),
                });
                self.calm_ms = self.calm_ms.max(from_ms + 200_000);
                self.end_ms = self.calm_ms + 10 * MINUTE;
            }
            8..=11 => self.spells.push(Spell {
                from_ms: self.calm_ms / 3,
                to_ms: (self.calm_ms / 3 + chance.range(20_000, 400_000)).min(self.calm_ms),
                what: FaultKind::Shut,
            }),
            12..=16 => self.set_clock(&chance),
            17..=20 => self.spells.push(Spell {
                from_ms: self.calm_ms / 4,
                to_ms: self.calm_ms,
                what: FaultKind::NamesSlow,
            }),
            _ => {}
        }
    }

    /// A scenario in which Lambda runs only so much at a time: requests, or long work. Often nothing else fails,
    /// so that all of it can be judged.
    fn limit_concurrency(&mut self) {
        let chance = Chance::new(self.seed, "concurrency");
        if chance.per_mille(700) {
            self.spells.clear();
        }
        let from_ms = chance.range(20_000, self.calm_ms / 2);
        self.calm_ms = self.calm_ms.max(from_ms + 200_000);
        self.end_ms = self.calm_ms + 10 * MINUTE;
        let what = match chance.per_mille(500) {
            true => FaultKind::Environments(*chance.pick(&[1, 2, 3])),
            false => FaultKind::LongWork,
        };
        self.spells.push(Spell {
            from_ms,
            to_ms: self.calm_ms,
            what,
        });
    }

    /// A scenario in which the clock of one machine is set, and nothing fails. Each monitor is
    /// pinged steadily, some until about then.
    fn set_clock(&mut self, chance: &Chance) {
        let at_ms = chance.range(120_000, 300_000);
        let by_ms = *chance.pick(&[
            4_000,
            45_000,
            600_000,
            3_600_000,
            90_000_000,
            -4_000,
            -45_000,
            -600_000,
            -3_600_000,
            -90_000_000,
        ]);
        self.place = Place::Serve { tick_ms: 2_000 };
        self.skews_ms = [0, 0];
        self.spells.clear();
        self.removals_ms.clear();
        self.quota = None;
        (self.bars, self.minds) = (false, false);
        for hook in &mut self.hooks {
            hook.daily_limit = None;
        }
        self.clock_step = Some(ClockStep { at_ms, by_ms });
        self.calm_ms = at_ms;
        self.end_ms = at_ms + 20 * MINUTE;
        self.scripts = (0..chance.range(2, 5))
            .map(|_| {
                let period_s = *chance.pick(&[20, 30, 60]);
                let until_ms = match chance.range(0, 2) {
                    0 => at_ms + chance.range(-120_000, 180_000),
                    _ => self.end_ms,
                };
                let mut acts = Vec::new();
                let mut at_ms = chance.range(1_000, 20_000);
                while at_ms < until_ms {
                    acts.push(Act {
                        at_ms,
                        what: Kind::Success,
                        retries: 0,
                    });
                    at_ms += period_s * 1_000 - chance.range(0, 2_000);
                }
                Script {
                    period_s,
                    grace_s: *chance.pick(&[10, 20, 60]),
                    then_s: None,
                    failures: 1,
                    expects: false,
                    parent: None,
                    door: *chance.pick(&[Door::Url, Door::Slug, Door::Name]),
                    acts,
                }
            })
            .collect();
    }

    /// The number of timer shards.
    pub const fn shards(&self) -> u16 {
        match self.place {
            Place::Serve { .. } => 1,
            Place::Lambda => 2,
        }
    }

    /// Whether there are no faults.
    pub fn is_calm(&self) -> bool {
        self.spells.is_empty()
    }

    /// The faults at `ms` for which `of` returns a value.
    pub fn active_faults<T>(
        &self,
        ms: i64,
        of: impl Fn(FaultKind) -> Option<T>,
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
    let n = u16::try_from(*chance.pick(&[5, 20, 60, 200])).expect("a small number");
    let hook = u8::try_from(chance.range(0, i64::try_from(hooks).expect("a small number") - 1))
        .expect("a small number");
    let what = match chance.range(0, 19) {
        0 => FaultKind::Refused(n),
        1 => FaultKind::Failed(n),
        2 => FaultKind::Reset(n),
        3 | 4 => FaultKind::ReplyLost(n),
        5 => FaultKind::Throttled(n),
        6 => FaultKind::Slow(n),
        7 => FaultKind::Stale(n * 3),
        8 => FaultKind::Partial(n * 3),
        9 => FaultKind::Conflict(n),
        10 | 11 => FaultKind::Killed(n.min(60)),
        12 => FaultKind::Bus(n * 2),
        13 => FaultKind::Queue(n * 3),
        14 => FaultKind::Stream(n * 3),
        15 => FaultKind::Network(n * 2),
        16 => FaultKind::Schedule(n * 4),
        17 => FaultKind::Deploy,
        18 => match chance.range(0, 2) {
            0 => FaultKind::HookFails(hook),
            1 => FaultKind::HookTakesAndFails(hook),
            _ => FaultKind::HookHangs(hook),
        },
        _ => FaultKind::HookTakesAndFails(hook),
    };
    Spell {
        from_ms,
        to_ms,
        what,
    }
}

/// A monitor that pings steadily, falls silent, fails and has runs, and at the end is steady or
/// silent.
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
        retries: u8::try_from(chance.range(0, 3)).expect("a small number"),
    };
    while at_ms < scenario.calm_ms && acts.len() < 40 {
        match chance.range(0, 19) {
            // Silent for about long enough to raise an alert.
            0 | 1 => at_ms += period_ms + grace_s * 1000 + chance.range(-3_000, 90_000),
            2 | 3 => acts.push(act(at_ms, Kind::Fail)),
            4 => acts.push(act(at_ms, Kind::Log)),
            5 if door == Door::Url => {
                acts.push(act(at_ms, Kind::Pause));
                if chance.per_mille(500) {
                    acts.push(act(at_ms + chance.range(0, period_ms), Kind::Resume));
                }
            }
            // Two clients ping the same monitor at nearly the same time.
            6 => {
                acts.push(act(at_ms, Kind::Success));
                let what = *chance.pick(&[Kind::Success, Kind::Fail]);
                acts.push(act(at_ms + *chance.pick(&[0, 1, 5, 40]), what));
            }
            7..=10 if with_runs => {
                acts.push(act(at_ms, Kind::Start));
                // The run ends in time, slightly late, or never.
                if chance.per_mille(700) {
                    let took = chance.range(0, grace_s * 1100);
                    acts.push(act(at_ms + took, Kind::Success));
                }
            }
            11 | 12 if then_s.is_some() => {
                acts.push(act(at_ms, Kind::Success));
                acts.push(act(at_ms + chance.range(0, period_ms), Kind::Change));
            }
            13 => acts.push(act(at_ms, Kind::Invalid)),
            _ => acts.push(act(at_ms, Kind::Success)),
        }
        at_ms += period_ms - chance.range(0, period_ms / 8);
    }
    // After the faults: silence, one late success, or steady pings to the end.
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
        parent: None,
        expects: scenario.seed % 16 == 5 && door != Door::Name && chance.per_mille(500),
        door,
        acts,
    }
}
