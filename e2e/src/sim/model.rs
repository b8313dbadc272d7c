//! The expected behaviour, derived from docs/compatibility.md and the design alone: when a monitor
//! must be up or down, given what its clients know, and when the pipeline may have been
//! unavailable.

use super::history::{Asked, History, Outcome};
use super::scenario::{FaultKind, Kind, Scenario, Script};

/// How far timestamps of different clocks may be apart, in milliseconds: half a second of skew
/// either way, plus the network.
pub const CLOCKS_MS: i64 = 1_300;
/// How long after it was sent an unanswered request may still take effect, in milliseconds: the
/// ingest gives up after 30 s, and a table call sent until then may take 12 s more.
pub const LATE_MS: i64 = 45_000;
/// How long after it was sent a pulse may be recorded, in milliseconds: a table call takes 10 s at
/// most.
const PULSE_MS: i64 = 10_000 + CLOCKS_MS;
/// How long it takes from Thrum's start to its first heartbeat while the table is slow, in
/// milliseconds: a few calls of some seconds.
const SLOW_START_MS: i64 = 20_000;
/// The most that an outage of Thrum adds to a deadline besides the grace, in milliseconds: one
/// period, but at most an hour.
const MOST_MORE_MS: i64 = 3_600_000;

/// Something that happened, or may have happened, to a monitor.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub what: Kind,
    pub sent_ms: i64,
    /// When it took effect, at the latest.
    pub done_ms: i64,
    /// Whether it was acknowledged, so that it certainly took effect.
    pub certain: bool,
}

/// A monitor's period and grace.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    period_ms: i64,
    grace_ms: i64,
}

impl Limits {
    const fn of(period_s: i64, grace_s: i64) -> Self {
        Self {
            period_ms: period_s * 1000,
            grace_ms: grace_s * 1000,
        }
    }

    /// From a ping to the deadline.
    pub const fn patience_ms(&self) -> i64 {
        self.period_ms + self.grace_ms
    }

    /// How long a run may take.
    pub const fn run_ms(&self) -> i64 {
        self.grace_ms
    }
}

/// What the clients know about a monitor.
#[derive(Debug)]
pub struct Model<'a> {
    script: &'a Script,
    events: Vec<Event>,
}

impl<'a> Model<'a> {
    /// What is known about the `i`-th monitor.
    pub fn new(script: &'a Script, i: usize, history: &History) -> Self {
        let mut events: Vec<Event> = history
            .asked
            .iter()
            .filter(|asked| {
                asked.script == i
                    && !matches!(asked.outcome, Outcome::Refused(_) | Outcome::TurnedAway)
            })
            .filter(|asked| {
                asked.what.is_ping()
                    || matches!(asked.what, Kind::Pause | Kind::Resume | Kind::Change)
            })
            .map(event)
            .collect();
        events.sort_by_key(|event| event.sent_ms);
        Self { script, events }
    }

    /// Everything that may have happened to it.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    fn changes(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|one| one.what == Kind::Change)
    }

    /// When its limits had certainly changed.
    fn surely_changed_ms(&self) -> Option<i64> {
        let certain = self.changes().filter(|one| one.certain);
        certain.map(|one| one.done_ms).min()
    }

    /// From when its limits may have changed.
    fn maybe_changed_ms(&self) -> Option<i64> {
        self.changes().map(|one| one.sent_ms - CLOCKS_MS).min()
    }

    /// The limits that may apply at some time between `from` and `to`.
    fn limits(&self, from: i64, to: i64) -> Vec<Limits> {
        let script = self.script;
        let old = Limits::of(script.period_s, script.grace_s);
        let new = script
            .then_s
            .map(|(period, grace)| Limits::of(period, grace));
        let old = (self.surely_changed_ms().is_none_or(|at| at > from)).then_some(old);
        let new = new.filter(|_| self.maybe_changed_ms().is_some_and(|at| at <= to));
        old.into_iter().chain(new).collect()
    }

    /// The limits that may apply at some time after `from`.
    pub fn limits_after(&self, from: i64) -> Vec<Limits> {
        self.limits(from, i64::MAX)
    }

    /// The latest time of the deadline that is `span` after `sent_ms`.
    fn latest_ms(&self, sent_ms: i64, span: fn(&Limits) -> i64) -> i64 {
        let script = self.script;
        let old = sent_ms + span(&Limits::of(script.period_s, script.grace_s));
        let (Some((period, grace)), Some(maybe)) = (script.then_s, self.maybe_changed_ms()) else {
            return old;
        };
        let new = sent_ms + span(&Limits::of(period, grace));
        match self.surely_changed_ms() {
            Some(changed) if changed <= sent_ms => new,
            _ if new >= old && maybe > old + CLOCKS_MS => old,
            _ if new >= old => new,
            Some(changed) => old.min(new.max(changed)),
            None => old,
        }
    }

    /// Whether a failure at `ms` can't take it down because there were too few failures in a row.
    /// Failures may be dated later than they were sent, and a failure that overlaps the last
    /// success may count as after it.
    pub fn too_few_failures(&self, ms: i64, moved: bool) -> bool {
        let of = |what: Kind| self.events.iter().filter(move |one| one.what == what);
        let successes =
            of(Kind::Success).filter(|one| one.certain && one.done_ms <= ms - CLOCKS_MS);
        let since = successes.map(|one| one.sent_ms).max().unwrap_or(i64::MIN);
        let late = if moved { LATE_MS } else { 0 };
        let fails = of(Kind::Fail).filter(|one| {
            one.done_ms >= since.saturating_sub(CLOCKS_MS) && one.sent_ms <= ms + CLOCKS_MS + late
        });
        fails.count() < self.script.failures as usize
    }

    /// The windows that a ping may have opened: from when an outage of Thrum extends the deadline,
    /// and the deadline (T3).
    pub fn windows(&self, one: &Event) -> Vec<(i64, i64)> {
        let window = |limits: Limits| match one.what {
            Kind::Start => Some((one.sent_ms, one.sent_ms + limits.run_ms())),
            what if self.extends_deadline(what) => {
                let lead_ms = limits.period_ms.min(60_000);
                let expected = one.sent_ms + limits.period_ms;
                Some((expected - lead_ms, expected + limits.grace_ms))
            }
            _ => None,
        };
        let limits = self.limits_after(one.sent_ms).into_iter();
        limits.filter_map(window).collect()
    }

    /// Whether this kind of action extends the deadline.
    pub const fn extends_deadline(&self, what: Kind) -> bool {
        matches!(what, Kind::Success | Kind::Fail)
    }

    /// The spans in which it must be up: start, and exclusive end.
    pub fn up_spans(&self) -> Vec<(i64, i64)> {
        let successes = self
            .events
            .iter()
            .filter(|event| event.certain && event.what == Kind::Success);
        let span = |success: &Event| {
            let from = success.done_ms + CLOCKS_MS;
            // A shorter period may take it down retroactively.
            let limits = self.limits_after(success.sent_ms);
            let shortest = limits.iter().map(Limits::patience_ms).min().unwrap_or(0);
            let mut to = success.sent_ms + shortest - CLOCKS_MS;
            for other in &self.events {
                let matters = matches!(
                    other.what,
                    Kind::Fail | Kind::Pause | Kind::Resume | Kind::Start | Kind::Change
                );
                if matters && other.done_ms >= success.sent_ms - CLOCKS_MS {
                    to = to.min(other.sent_ms - CLOCKS_MS);
                }
            }
            (from < to).then_some((from, to))
        };
        successes.filter_map(span).collect()
    }

    /// The spans in which it must be down because of failures: start, and exclusive end.
    pub fn down_spans(&self, end_ms: i64) -> Vec<(i64, i64)> {
        let ends_row = [Kind::Success, Kind::Pause, Kind::Resume];
        let fails: Vec<&Event> = self
            .events
            .iter()
            .filter(|one| one.certain && one.what == Kind::Fail)
            .collect();
        // Rows of as many failures as take it down; the last of each counts.
        let rows = fails.windows(self.script.failures as usize).filter(|row| {
            let (first, last) = (row[0], row[row.len() - 1]);
            let done_ms = row.iter().map(|one| one.done_ms).max().unwrap_or(0);
            self.events.iter().all(|other| {
                !ends_row.contains(&other.what)
                    || other.done_ms < first.sent_ms - CLOCKS_MS
                    || other.sent_ms > done_ms.max(last.sent_ms) + CLOCKS_MS
            })
        });
        let last = rows.map(|row| {
            let last = row[row.len() - 1];
            let done_ms = row.iter().map(|one| one.done_ms).max();
            Event {
                done_ms: done_ms.unwrap_or(last.done_ms),
                ..*last
            }
        });
        self.spans(last, &ends_row, end_ms)
    }

    /// The spans in which it must be paused: start, and exclusive end.
    pub fn paused_spans(&self, end_ms: i64) -> Vec<(i64, i64)> {
        let enders = [Kind::Success, Kind::Fail, Kind::Start, Kind::Resume];
        let pauses = self
            .events
            .iter()
            .filter(|one| one.certain && one.what == Kind::Pause);
        self.spans(pauses.copied(), &enders, end_ms)
    }

    /// The spans that certainly start with `starts`, each until something may have ended it.
    fn spans(
        &self,
        starts: impl Iterator<Item = Event>,
        enders: &[Kind],
        end_ms: i64,
    ) -> Vec<(i64, i64)> {
        let span = |one: Event| {
            let from = one.done_ms + CLOCKS_MS;
            let enders = self.events.iter().filter(|other| {
                enders.contains(&other.what) && other.done_ms >= one.sent_ms - CLOCKS_MS
            });
            let to = enders.map(|other| other.sent_ms - CLOCKS_MS).min();
            let to = to.unwrap_or(end_ms).min(end_ms);
            (from < to).then_some((from, to))
        };
        starts.filter_map(span).collect()
    }

    /// Silences after the start of a run.
    pub fn endless_runs(&self, away: &[(i64, i64)]) -> Vec<Silence> {
        let starts = self
            .events
            .iter()
            .filter(|one| one.certain && one.what == Kind::Start);
        let run = |start: &Event| {
            let others = self
                .events
                .iter()
                .filter(|other| !matches!(other.what, Kind::Log | Kind::Change))
                .filter(|other| !std::ptr::eq(*other, start));
            let mut until = None;
            for other in others {
                if other.done_ms >= start.sent_ms - CLOCKS_MS {
                    let from = other.sent_ms - CLOCKS_MS;
                    until = Some(until.map_or(from, |until: i64| until.min(from)));
                }
            }
            let deadline = self.latest_ms(start.sent_ms, Limits::run_ms) + CLOCKS_MS;
            let deadline_ms = self
                .extended(deadline, start.sent_ms, away)
                .max(start.done_ms);
            self.has_deadline(start.sent_ms).then_some(Silence {
                deadline_ms,
                until_ms: until,
            })
        };
        starts.filter_map(run).collect()
    }

    /// The deadline, extended as far as Thrum's absences may have extended it.
    fn extended(&self, mut deadline: i64, since_ms: i64, away: &[(i64, i64)]) -> i64 {
        for (start, end) in away {
            if *start < deadline + CLOCKS_MS && *end > since_ms - CLOCKS_MS {
                let more = |limits: &Limits| limits.period_ms.min(MOST_MORE_MS) + limits.grace_ms;
                let most = self.limits_after(since_ms).iter().map(more).max();
                deadline = deadline.max(end + most.unwrap_or(0) + CLOCKS_MS);
            }
        }
        deadline
    }

    /// The spans without a ping, except those in which it may have no deadline.
    pub fn silences(&self, away: &[(i64, i64)]) -> Vec<Silence> {
        let pings: Vec<&Event> = self
            .events
            .iter()
            .filter(|one| self.extends_deadline(one.what))
            .collect();
        let mut silences = Vec::new();
        for (i, last) in pings.iter().enumerate() {
            let until = pings.get(i + 1).map(|next| next.sent_ms - CLOCKS_MS);
            if !self.has_deadline(last.sent_ms) {
                continue;
            }
            // A monitor that was paused during the silence has no deadline.
            let paused = self.events.iter().find(|one| {
                matches!(one.what, Kind::Pause | Kind::Resume)
                    && one.done_ms >= last.sent_ms - CLOCKS_MS
                    && until.is_none_or(|until| one.sent_ms < until)
            });
            if paused.is_some() {
                continue;
            }
            let deadline = self.latest_ms(last.sent_ms, Limits::patience_ms) + CLOCKS_MS;
            let deadline = self.extended(deadline, last.sent_ms, away);
            // An unanswered ping may have taken effect late.
            let deadline = deadline.max(last.done_ms);
            silences.push(Silence {
                deadline_ms: deadline,
                until_ms: until,
            });
        }
        silences
    }

    /// Whether it certainly has a deadline at `ms`: it was pinged, and not paused since.
    fn has_deadline(&self, ms: i64) -> bool {
        self.events.iter().any(|one| {
            let watches = one.certain && (one.what == Kind::Success || one.what == Kind::Fail);
            let paused = || {
                self.events.iter().any(|other| {
                    matches!(other.what, Kind::Pause | Kind::Resume)
                        && other.done_ms >= one.sent_ms - CLOCKS_MS
                        && other.sent_ms <= ms + CLOCKS_MS
                })
            };
            watches && one.sent_ms <= ms && !paused()
        })
    }
}

/// A span without a ping.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// The latest time of its deadline.
    pub deadline_ms: i64,
    /// When the next ping may have arrived.
    pub until_ms: Option<i64>,
}

fn event(asked: &Asked) -> Event {
    let certain = asked.outcome == Outcome::Done;
    Event {
        what: asked.what,
        sent_ms: asked.sent_ms,
        done_ms: if certain {
            asked.ended_ms
        } else {
            asked.sent_ms + LATE_MS
        },
        certain,
    }
}

/// When Thrum was certainly away: for longer than the gap that counts as an outage, its front door
/// was shut, or it did not even try to send its own heartbeat.
pub fn surely_away(history: &History, scenario: &Scenario, gap_ms: i64) -> Vec<(i64, i64)> {
    let mut attempts = history.pulse_attempts.clone();
    attempts.sort_unstable();
    let gaps = attempts.iter().zip(attempts.iter().skip(1));
    // Thrum is back some table calls before it sends its heartbeat.
    let slow = |what| matches!(what, FaultKind::Slow(_)).then_some(());
    let begins_ms = |to| match scenario.active_faults(to, slow).next() {
        Some(()) => SLOW_START_MS,
        None => 0,
    };
    let shut = scenario
        .spells
        .iter()
        .filter(|spell| spell.what == FaultKind::Shut);
    gaps.map(|(from, to)| (*from, *to))
        .chain(shut.map(|spell| (spell.from_ms, spell.to_ms)))
        .map(|(from, to)| (from + PULSE_MS, to - begins_ms(to) - CLOCKS_MS))
        .filter(|(from, to)| to - from > gap_ms + CLOCKS_MS)
        .collect()
}

/// When Thrum may have been down: gaps between its own successful heartbeats that are at least as
/// long as the gap that counts as an outage.
pub fn away(history: &History, gap_ms: i64, end_ms: i64) -> Vec<(i64, i64)> {
    let mut pulses = history.pulses.clone();
    pulses.sort_unstable();
    let starts = std::iter::once(0).chain(pulses.iter().map(|(sent, _)| *sent));
    let ended = pulses
        .iter()
        .map(|(_, answered)| *answered)
        .chain(std::iter::once(end_ms));
    starts
        .zip(ended)
        .filter(|(from, to)| to - from > gap_ms - CLOCKS_MS)
        .map(|(from, to)| (from - CLOCKS_MS, to + CLOCKS_MS))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario::Door;

    #[test]
    fn client_history_determines_the_expected_status() {
        let script = Script {
            parent: None,
            period_s: 60,
            grace_s: 5,
            then_s: Some((10, 5)),
            failures: 1,
            expects: false,
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
        let changed = history(vec![asked(Kind::Success, 0), asked(Kind::Change, 30_000)]);
        let model = Model::new(&script, 0, &changed);
        assert_eq!(model.silences(&[])[0].deadline_ms, 30_050 + CLOCKS_MS);
        // The new limits put it down before the change.
        assert_eq!(model.up_spans()[0].1, 15_000 - CLOCKS_MS);
        let failed = history(vec![asked(Kind::Success, 0), asked(Kind::Fail, 30_000)]);
        let model = Model::new(&script, 0, &failed);
        assert_eq!(model.down_spans(300_000), [(30_050 + CLOCKS_MS, 300_000)]);
        let twice = Script {
            failures: 2,
            ..script.clone()
        };
        let overlaps = |ended_ms| Asked {
            ended_ms,
            ..asked(Kind::Fail, 20_000)
        };
        for (ended_ms, too_few) in [(20_050, true), (40_000, false)] {
            let success = asked(Kind::Success, 30_000);
            let failed = history(vec![overlaps(ended_ms), success, asked(Kind::Fail, 50_000)]);
            let model = Model::new(&twice, 0, &failed);
            assert_eq!(model.too_few_failures(50_000, false), too_few);
        }
        let paused = history(vec![asked(Kind::Pause, 0), asked(Kind::Success, 60_000)]);
        let model = Model::new(&script, 0, &paused);
        let span = (50 + CLOCKS_MS, 60_000 - CLOCKS_MS);
        assert_eq!(model.paused_spans(300_000), [span]);
    }
}
