//! Model checks of the fence: every order of reads, writes, acts and ticks of three processes, two of which are in the
//! same region and one of them changes the fence, until it has moved twice. Writes of the fence arrive at any time or never, and replies get lost. A
//! region that is dead, hangs or is cut off is one that does nothing for a while, which every order includes.
//!
//! Clocks are as far apart as the protocol allows, but are never set, and no process pauses between its check and its
//! call: the protocol assumes that.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::BTreeMap;
use thrum_schema::UnixMs;
use thrum_schema::fence::{Belief, Fence, Region, Timing};

/// Small times, so that the checker can try all orders. The unit is a tick.
const TIMING: Timing = Timing {
    lease_ms: 6,
    renew_ms: 1,
    belief_ms: 2,
    flight_ms: 2,
    skew_ms: 1,
    // With a pause, fewer orders would be possible.
    pause_ms: 0,
};
/// How long an act takes.
const ACT: i64 = 2;
/// The epoch after two failovers, with which a model ends.
const LAST_EPOCH: u64 = 3;
/// The version of the fence, and that of everything older.
const VERSION: u64 = 1;
const OLD: u64 = 0;

/// The protocol with some times, among regions with some clocks.
struct Regions {
    /// The times that the protocol uses.
    timing: Timing,
    /// How far each process's clock is ahead. The first and the last are in the region that is active at first.
    ahead: [i64; 3],
    /// A deliberate mistake.
    mistake: Option<Mistake>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// A write does not require the version that was read.
    Unguarded,
    /// A lease that is handed over ends at once.
    CutAtOnce,
    /// An act may end after the lease.
    PastLease,
}

/// Everything at a moment. Times are relative to now, and what makes no difference is left out, so that states recur.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    fence: Fence,
    sides: [Side; 3],
    /// When the last act of each epoch may still reach its table.
    acts: BTreeMap<u64, i64>,
}

/// What a process knows and does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Side {
    /// What it read last, and when.
    read: Option<(Fence, i64)>,
    /// Its write that has not arrived, and when it was sent. It requires the current version.
    write: Option<(Fence, i64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Renew,
    TakeOver,
    /// To the other region.
    HandOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Tick,
    Read(usize),
    /// Sends a write.
    Send(usize, Change),
    /// A write arrives. Its reply arrives too, or is lost.
    Arrive(usize, bool),
    /// A process writes to the active region, evaluates or sends.
    Act(usize),
}

fn region(side: usize) -> Region {
    Region(["a", "b", "a"][side].to_owned())
}

impl State {
    /// A tick of all clocks.
    fn pass(&mut self) {
        self.fence.until = self.fence.until - 1;
        for side in &mut self.sides {
            if let Some((fence, read)) = &mut side.read {
                fence.until = fence.until - 1;
                *read -= 1;
            }
            if let Some((fence, sent)) = &mut side.write {
                fence.until = fence.until - 1;
                *sent -= 1;
            }
        }
        for lands in self.acts.values_mut() {
            *lands -= 1;
        }
    }

    /// Leaves out what makes no difference any more.
    fn tidy(&mut self) {
        let plain = |fence: &mut Fence| {
            // Ingest writes while the region repairs.
            (fence.ready, fence.taken, fence.since) = (true, None, UnixMs(0));
            // By all clocks, the fence is free then.
            let free = TIMING.skew_ms + TIMING.flight_ms + 3;
            fence.until = fence.until.max(UnixMs(-free));
        };
        plain(&mut self.fence);
        for side in &mut self.sides {
            if let Some((fence, _)) = &mut side.read {
                plain(fence);
                if fence.version != VERSION {
                    (fence.version, fence.next) = (OLD, None);
                }
            }
            if let Some((fence, _)) = &mut side.write {
                plain(fence);
            }
            // What is too old is believed no more, but a write may still follow, unless the fence was replaced.
            side.read.take_if(|(fence, read)| {
                *read = (*read).max(-TIMING.belief_ms);
                let is_over = fence.until < UnixMs(1) || *read == -TIMING.belief_ms;
                fence.version == OLD && is_over
            });
            // When its reply arrives, nobody cares any more how old the write is.
            if let Some((_, sent)) = &mut side.write {
                *sent = (*sent).max(-TIMING.belief_ms);
            }
        }
        self.acts.retain(|_, lands| *lands >= 0);
    }

    /// The fence was written: what was read before is old, and writes that require it are refused.
    fn replace(&mut self, fence: Fence, mistake: Option<Mistake>) {
        self.fence = Fence {
            version: VERSION,
            ..fence
        };
        for side in &mut self.sides {
            if let Some((fence, _)) = &mut side.read {
                fence.version = OLD;
            }
            if mistake != Some(Mistake::Unguarded) {
                side.write = None;
            }
        }
    }
}

impl Regions {
    fn clock(&self, side: usize) -> UnixMs {
        UnixMs(self.ahead[side])
    }

    /// The fence that a change would write.
    fn changed(&self, read: &Fence, side: usize, change: Change) -> Option<Fence> {
        let (me, now) = (region(side), self.clock(side));
        match change {
            Change::Renew => read.renewed(&me, now, &self.timing),
            Change::TakeOver => read.taken_over(&me, now, &self.timing),
            Change::HandOver if read.next.is_some() => return None,
            Change::HandOver => {
                let handed = read.handed_over(&region(1 - side % 2));
                let cut = |fence: Fence| match self.mistake {
                    Some(Mistake::CutAtOnce) => Fence {
                        until: fence.until.min(now),
                        ..fence
                    },
                    _ => fence,
                };
                handed.map(cut)
            }
        }
        .ok()
    }

    /// Counts the distinct states, after checking them all.
    fn check(self) -> usize {
        let checker = self.checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        checker.unique_state_count()
    }

    /// Whether a promise can be broken.
    fn breaks(self) -> bool {
        let checker = self.checker().threads(2);
        let checker = checker.finish_when(HasDiscoveries::AnyFailures);
        let checker = checker.spawn_bfs().join();
        let broken = |name: &&'static str| checker.discovery(name).is_some();
        [ONE_EPOCH, FORWARD].iter().any(broken)
    }
}

const ONE_EPOCH: &str = "acts of one epoch at a time, and none of an earlier one";
const FORWARD: &str = "epochs follow each other";

impl Model for Regions {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut fence = Fence::new(region(0), self.clock(0), &self.timing);
        fence.version = VERSION;
        vec![State {
            fence,
            sides: Default::default(),
            acts: BTreeMap::new(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.push(Step::Tick);
        for (i, side) in state.sides.iter().enumerate() {
            steps.push(Step::Read(i));
            if side.write.is_some() {
                steps.extend([true, false].map(|replies| Step::Arrive(i, replies)));
            }
            if side.read.is_none() {
                continue;
            }
            steps.push(Step::Act(i));
            // The third only reads and acts, so that there are fewer orders.
            if i < 2 && side.write.is_none() {
                let changes = [Change::Renew, Change::TakeOver, Change::HandOver];
                steps.extend(changes.map(|change| Step::Send(i, change)));
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Tick => state.pass(),
            Step::Read(i) => state.sides[i].read = Some((state.fence.clone(), 0)),
            Step::Send(i, change) => {
                let (read, _) = last.sides[i].read.as_ref()?;
                if read.version == OLD {
                    return None;
                }
                let fence = self.changed(read, i, change)?;
                state.sides[i].write = Some((fence, 0));
            }
            Step::Arrive(i, replies) => {
                let (fence, sent) = state.sides[i].write.take()?;
                state.replace(fence, self.mistake);
                if replies {
                    state.sides[i].read = Some((state.fence.clone(), sent));
                }
            }
            Step::Act(i) => {
                let (fence, read) = last.sides[i].read.clone()?;
                let now = self.clock(i);
                let belief = Belief::new(fence, now + read);
                let takes = match self.mistake {
                    Some(Mistake::PastLease) => 0,
                    _ => ACT,
                };
                let (_, epoch) = belief.active(now, takes, &self.timing)?;
                let lands = ACT + TIMING.flight_ms;
                state.acts.insert(epoch, lands);
            }
        }
        state.tidy();
        (state != *last).then_some(state)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.fence.epoch <= LAST_EPOCH
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_EPOCH, |_, state: &State| {
                state.acts.len() <= 1 && state.acts.keys().all(|epoch| *epoch >= state.fence.epoch)
            }),
            Property::always(FORWARD, |_, state: &State| {
                let known = state.sides.iter().filter_map(|side| side.read.as_ref());
                known
                    .into_iter()
                    .all(|(fence, _)| fence.epoch <= state.fence.epoch)
            }),
            Property::sometimes(
                "it moves twice, and the last region acts",
                |_, state: &State| state.acts.contains_key(&LAST_EPOCH),
            ),
            Property::sometimes("an operator hands it over", |_, state: &State| {
                state.fence.next.is_some()
            }),
        ]
    }
}

fn regions(ahead: [i64; 3], timing: Timing) -> Regions {
    Regions {
        timing,
        ahead,
        mistake: None,
    }
}

#[test]
fn acts_of_two_regions_never_overlap() {
    for ahead in [[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0, 0]] {
        let states = regions(ahead, TIMING).check();
        eprintln!("clocks {ahead:?}: {states} states");
        assert!(states > 10_000, "{states}");
    }
}

/// The checker sees what goes wrong: without one of the times or rules, acts overlap.
#[test]
fn every_time_and_rule_is_needed() {
    let flight_ms = 0;
    let landed = Timing {
        flight_ms,
        ..TIMING
    };
    assert!(regions([0, 1, 0], landed).breaks());
    let skew_ms = 0;
    let equal = Timing { skew_ms, ..TIMING };
    assert!(regions([0, 1, 0], equal).breaks());
    assert!(regions([0, 2, 0], TIMING).breaks(), "clocks too far apart");
    for mistake in [Mistake::Unguarded, Mistake::CutAtOnce, Mistake::PastLease] {
        let broken = Regions {
            mistake: Some(mistake),
            ..regions([0, 1, 0], TIMING)
        };
        assert!(broken.breaks(), "{mistake:?}");
    }
}
