//! What must be, written from the contract and the design alone: of a monitor, whether it has to be up or down at an instant,
//! by what its clients know; and of the pipeline, when it may have been away.

use super::history::{Asked, History, Outcome};
use super::plan::{Kind, Script};

/// How far instants that different clocks tell may be apart, in milliseconds: half a second of skew either way, and the network.
pub const CLOCKS_MS: i64 = 1_300;
/// How long after it was sent a request may still be done that was not answered: the front door gives up after 30 s, and what
/// it sent the table until then may take twelve more.
pub const LATE_MS: i64 = 45_000;
/// The most that an outage of ours adds, but for the grace: one more period, at most an hour.
const MOST_MORE_MS: i64 = 3_600_000;

/// Something that happened to a monitor, or may have.
#[derive(Debug, Clone, Copy)]
pub struct Happening {
    pub what: Kind,
    pub sent_ms: i64,
    /// When it was done, at the latest.
    pub done_ms: i64,
    /// Whether it was answered: it was done by then.
    pub sure: bool,
}

/// A monitor, as its clients know it.
#[derive(Debug)]
pub struct Model<'a> {
    script: &'a Script,
    happenings: Vec<Happening>,
}

impl<'a> Model<'a> {
    /// What is known of the `i`-th monitor.
    pub fn new(script: &'a Script, i: usize, history: &History) -> Self {
        let mut happenings: Vec<Happening> = history
            .asked
            .iter()
            .filter(|asked| asked.script == i && !matches!(asked.outcome, Outcome::Refused(_)))
            .map(happening)
            .collect();
        happenings.sort_by_key(|happening| happening.sent_ms);
        Self { script, happenings }
    }

    /// What may have happened.
    pub fn happenings(&self) -> &[Happening] {
        &self.happenings
    }

    const fn period_ms(&self) -> i64 {
        self.script.period_s * 1000
    }

    const fn grace_ms(&self) -> i64 {
        self.script.grace_s * 1000
    }

    /// From a heartbeat to its deadline.
    pub const fn patience_ms(&self) -> i64 {
        self.period_ms() + self.grace_ms()
    }

    /// How long a run may take.
    pub const fn run_ms(&self) -> i64 {
        self.grace_ms()
    }

    /// Whether it may not go down by a failure at `ms`, for there can't have been as many in a row as it lets pass; they may be
    /// dated later than they were sent.
    pub fn too_few_failures(&self, ms: i64, moved: bool) -> bool {
        let of = |what: Kind| self.happenings.iter().filter(move |one| one.what == what);
        let successes = of(Kind::Success).filter(|one| one.sure && one.done_ms <= ms - CLOCKS_MS);
        let since = successes.map(|one| one.sent_ms).max().unwrap_or(i64::MIN);
        let late = if moved { LATE_MS } else { 0 };
        let fails = of(Kind::Fail).filter(|one| {
            one.sent_ms >= since.saturating_sub(CLOCKS_MS) && one.sent_ms <= ms + CLOCKS_MS + late
        });
        fails.count() < self.script.failures as usize
    }

    /// What it waited for after what happened, if that gives it something to wait for: from when on an absence of ours counts,
    /// and its deadline (T3).
    pub fn window(&self, one: &Happening) -> Option<(i64, i64)> {
        match one.what {
            Kind::Start => Some((one.sent_ms, one.sent_ms + self.run_ms())),
            what if self.is_heard(what) => {
                let lead_ms = self.period_ms().min(60_000);
                let expected = one.sent_ms + self.period_ms();
                Some((expected - lead_ms, expected + self.grace_ms()))
            }
            _ => None,
        }
    }

    /// Whether it puts a deadline off.
    pub const fn is_heard(&self, what: Kind) -> bool {
        matches!(what, Kind::Success | Kind::Fail)
    }

    /// The spans in which it has to be up, each as an instant from which and one before which.
    pub fn up_spans(&self) -> Vec<(i64, i64)> {
        let successes = self
            .happenings
            .iter()
            .filter(|happening| happening.sure && happening.what == Kind::Success);
        let span = |success: &Happening| {
            let from = success.done_ms + CLOCKS_MS;
            let mut to = success.sent_ms + self.patience_ms() - CLOCKS_MS;
            for other in &self.happenings {
                let matters = matches!(
                    other.what,
                    Kind::Fail | Kind::Pause | Kind::Resume | Kind::Start
                );
                if matters && other.done_ms >= success.sent_ms - CLOCKS_MS {
                    to = to.min(other.sent_ms - CLOCKS_MS);
                }
            }
            (from < to).then_some((from, to))
        };
        successes.filter_map(span).collect()
    }

    /// The spans in which it has to be down, for it reported a failure, each as an instant from which and one before which.
    pub fn down_spans(&self, end_ms: i64) -> Vec<(i64, i64)> {
        if self.script.failures > 1 {
            return Vec::new();
        }
        let fails = self
            .happenings
            .iter()
            .filter(|one| one.sure && one.what == Kind::Fail);
        let span = |fail: &Happening| {
            let from = fail.done_ms + CLOCKS_MS;
            let mut to = end_ms;
            for other in &self.happenings {
                let matters = matches!(other.what, Kind::Success | Kind::Pause | Kind::Resume);
                if matters && other.done_ms >= fail.sent_ms - CLOCKS_MS {
                    to = to.min(other.sent_ms - CLOCKS_MS);
                }
            }
            (from < to).then_some((from, to))
        };
        fails.filter_map(span).collect()
    }

    /// Runs that nothing ends, as silences.
    pub fn endless_runs(&self, away: &[(i64, i64)]) -> Vec<Silence> {
        let starts = self
            .happenings
            .iter()
            .filter(|one| one.sure && one.what == Kind::Start);
        let run = |start: &Happening| {
            let others = self
                .happenings
                .iter()
                .filter(|other| other.what != Kind::Log && !std::ptr::eq(*other, start));
            let mut until = None;
            for other in others {
                if other.done_ms >= start.sent_ms - CLOCKS_MS {
                    let from = other.sent_ms - CLOCKS_MS;
                    until = Some(until.map_or(from, |until: i64| until.min(from)));
                }
            }
            let deadline = start.sent_ms + self.run_ms() + CLOCKS_MS;
            let deadline_ms = self
                .put_off(deadline, start.sent_ms, away)
                .max(start.done_ms);
            self.is_watched(start.sent_ms).then_some(Silence {
                deadline_ms,
                until_ms: until,
            })
        };
        starts.filter_map(run).collect()
    }

    /// A deadline as our absences may have put it off.
    fn put_off(&self, mut deadline: i64, since_ms: i64, away: &[(i64, i64)]) -> i64 {
        for (start, end) in away {
            if *start < deadline + CLOCKS_MS && *end > since_ms - CLOCKS_MS {
                let more = self.period_ms().min(MOST_MORE_MS) + self.grace_ms();
                deadline = deadline.max(end + more + CLOCKS_MS);
            }
        }
        deadline
    }

    /// The times in which nobody hears of it, but for those in which it may be waiting for nothing.
    pub fn silences(&self, away: &[(i64, i64)]) -> Vec<Silence> {
        let heard: Vec<&Happening> = self
            .happenings
            .iter()
            .filter(|one| self.is_heard(one.what))
            .collect();
        let mut silences = Vec::new();
        for (i, last) in heard.iter().enumerate() {
            let until = heard.get(i + 1).map(|next| next.sent_ms - CLOCKS_MS);
            if !self.is_watched(last.sent_ms) {
                continue;
            }
            // Whatever paused it in the silence leaves it waiting for nothing.
            let paused = self.happenings.iter().find(|one| {
                matches!(one.what, Kind::Pause | Kind::Resume)
                    && one.done_ms >= last.sent_ms - CLOCKS_MS
                    && until.is_none_or(|until| one.sent_ms < until)
            });
            if paused.is_some() {
                continue;
            }
            let deadline = last.sent_ms + self.patience_ms() + CLOCKS_MS;
            let deadline = self.put_off(deadline, last.sent_ms, away);
            // What was not answered may be done late, and be found late.
            let deadline = deadline.max(last.done_ms);
            silences.push(Silence {
                deadline_ms: deadline,
                until_ms: until,
            });
        }
        silences
    }

    /// Whether it certainly waits for something after what was done by then: it was heard of, and not paused since.
    fn is_watched(&self, ms: i64) -> bool {
        self.happenings.iter().any(|one| {
            let watches = one.sure && (one.what == Kind::Success || one.what == Kind::Fail);
            let paused = || {
                self.happenings.iter().any(|other| {
                    matches!(other.what, Kind::Pause | Kind::Resume)
                        && other.done_ms >= one.sent_ms - CLOCKS_MS
                        && other.sent_ms <= ms + CLOCKS_MS
                })
            };
            watches && one.sent_ms <= ms && !paused()
        })
    }
}

/// A time in which nobody hears of a monitor.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// When its deadline is over, at the latest.
    pub deadline_ms: i64,
    /// When it may be heard of again.
    pub until_ms: Option<i64>,
}

fn happening(asked: &Asked) -> Happening {
    let sure = asked.outcome == Outcome::Done;
    Happening {
        what: asked.what,
        sent_ms: asked.sent_ms,
        done_ms: if sure {
            asked.ended_ms
        } else {
            asked.sent_ms + LATE_MS
        },
        sure,
    }
}

/// When we were away for certain: nobody so much as sent a heartbeat of our own, for longer than what counts as an outage.
pub fn surely_away(history: &History, gap_ms: i64) -> Vec<(i64, i64)> {
    let mut knocks = history.knocks.clone();
    knocks.sort_unstable();
    let gaps = knocks.iter().zip(knocks.iter().skip(1));
    gaps.map(|(from, to)| (from + CLOCKS_MS, to - CLOCKS_MS))
        .filter(|(from, to)| to - from > gap_ms + CLOCKS_MS)
        .collect()
}

/// When we may have been away: the gaps between heartbeats of our own that are no shorter than what counts as an outage.
pub fn away(history: &History, gap_ms: i64, end_ms: i64) -> Vec<(i64, i64)> {
    let mut pulses = history.pulses.clone();
    pulses.sort_unstable();
    let begun = std::iter::once(0).chain(pulses.iter().map(|(sent, _)| *sent));
    let ended = pulses
        .iter()
        .map(|(_, answered)| *answered)
        .chain(std::iter::once(end_ms));
    begun
        .zip(ended)
        .filter(|(from, to)| to - from > gap_ms - CLOCKS_MS)
        .map(|(from, to)| (from - CLOCKS_MS, to + CLOCKS_MS))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::plan::Door;

    #[test]
    fn what_its_clients_know_decides_what_it_has_to_be() {
        let script = Script {
            period_s: 60,
            grace_s: 5,
            failures: 1,
            door: Door::Url,
            acts: Vec::new(),
        };
        let asked = |what, sent_ms| Asked {
            script: 0,
            what,
            sent_ms,
            ended_ms: sent_ms + 50,
            outcome: Outcome::Done,
            token: String::new(),
        };
        let history = |asked| History {
            asked,
            ..History::default()
        };
        let steady = history(vec![asked(Kind::Success, 0), asked(Kind::Success, 60_000)]);
        let model = Model::new(&script, 0, &steady);
        assert_eq!(model.up_spans().len(), 2);
        assert!(model.down_spans(300_000).is_empty());
        let silences = model.silences(&[]);
        assert_eq!(silences[1].deadline_ms, 125_000 + CLOCKS_MS);
        assert_eq!(silences[1].until_ms, None);
        let running = history(vec![asked(Kind::Success, 0), asked(Kind::Start, 30_000)]);
        let model = Model::new(&script, 0, &running);
        let runs = model.endless_runs(&[]);
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].deadline_ms, 35_000 + CLOCKS_MS);
        assert_eq!(runs[0].until_ms, None);
        let failed = history(vec![asked(Kind::Success, 0), asked(Kind::Fail, 30_000)]);
        let model = Model::new(&script, 0, &failed);
        assert_eq!(model.down_spans(300_000), [(30_050 + CLOCKS_MS, 300_000)]);
    }
}
