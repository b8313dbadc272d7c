//! A monitor's state: the hot item that every heartbeat writes.

use crate::id::{AlertId, MonitorId, ProjectId};
use crate::monitor::Monitor;
use crate::mutant::{self, Mutant};
use crate::outage::Outage;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long after its deadline a state is kept before the table's TTL may remove it, in seconds.
/// The sweep acts at the deadline; TTL is the safety net.
pub const TTL_SLACK_S: i64 = 3_600;

/// Maximum metrics of a monitor that are used as series: the state stays small.
pub const MAX_FEEDS: usize = 5;

/// Maximum runs of a monitor that are watched at the same time.
pub const MAX_RUNS: usize = 20;

/// The recorded status of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never pinged.
    New,
    /// Pinged, and not overdue as far as is recorded.
    Up,
    /// Failed or overdue.
    Down,
    /// Not watched until its next success, or until it is resumed.
    Paused,
}

impl Status {
    /// Its name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Up => "up",
            Self::Down => "down",
            Self::Paused => "paused",
        }
    }
}

/// A run in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it started.
    pub at: UnixMs,
    /// The run id it started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<Uuid>,
}

/// Metrics in a monitor's heartbeats that are used as series, `monitor:<slug>:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feeds {
    /// The monitor's slug when the series was requested.
    pub slug: String,
    /// The names of the metrics, which can include `duration` and `interval`.
    pub names: Vec<String>,
}

/// A deadline that moved because Thrum was down when a heartbeat could have arrived (T3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// The new deadline.
    pub deadline: UnixMs,
    /// When the outage began.
    pub outage: UnixMs,
}

/// A monitor's state. Less than 1 kB as an item, so that a heartbeat costs one write unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorState {
    /// The monitor.
    pub monitor: MonitorId,
    /// Its project, so that a sweep does not have to look it up.
    pub project: ProjectId,
    /// The recorded status; [`MonitorState::shown`] is the one that users see.
    pub status: Status,
    /// The last success or failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<UnixMs>,
    /// The run in progress, or one that timed out without a ping since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Earlier runs that are still in progress, oldest first, if every run is watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Run>,
    /// How long the last run took, if the last success or failure ended one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_duration_ms: Option<i64>,
    /// How many pings it received.
    pub pings: u64,
    /// How many of them were assumed when a ping recreated a state that TTL had removed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumed_pings: u64,
    /// How many failures in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// How many failures in total; the log keeps the latest ones separately.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fails: u64,
    /// How many runs were missed up to the last recovery.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// Until when its pings have used up their rate (GCRA).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tat: Option<i64>,
    /// How many alerts it raised lately, as a rate limit's timestamp (GCRA): flapping is dampened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap_tat: Option<i64>,
    /// Incremented with every write; slow-path writes are guarded by it.
    pub version: u64,
    /// Incremented when the deadline moves closer; timers of an older epoch are obsolete.
    pub epoch: u32,
    /// How many flips.
    pub flips: u64,
    /// When the last flip happened; flip times never go backwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip_at: Option<UnixMs>,
    /// Whether the last flip was silenced, so that users still believe the previous status.
    #[serde(rename = "untold", default, skip_serializing_if = "std::ops::Not::not")]
    pub silenced: bool,
    /// How many reminders were sent since it went down.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reminded: u32,
    /// When users were last notified that it is down, by an alert or a reminder.
    #[serde(rename = "told_at", default, skip_serializing_if = "Option::is_none")]
    pub notified_at: Option<UnixMs>,
    /// When a user acknowledged that it is down.
    #[serde(rename = "acked_at", default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<UnixMs>,
    /// The last alert, which the next one follows (A8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_alert: Option<AlertId>,
    /// Whether a success needs no rules: `up` and a simple schedule, no run, no extension, no
    /// filter.
    pub plain: bool,
    /// The period, if the schedule is simple, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_s: Option<u32>,
    /// The grace, in seconds.
    pub grace_s: u32,
    /// How long a run may take, in seconds, if not the grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_grace_s: Option<u32>,
    /// When the next success is expected, if the schedule is not simple.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_at: Option<UnixMs>,
    /// A deadline that Thrum's own downtime moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// Its metrics that are used as series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feeds: Option<Feeds>,
    /// Seconds from a plain success to the removal of the state: period, grace and slack.
    pub ttl_span: i64,
    /// When TTL may remove the state, in epoch seconds; only for states that wait for something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

fn is_zero<T: Default + PartialEq>(n: &T) -> bool {
    *n == T::default()
}

/// What a monitor waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When a heartbeat could have arrived at the earliest: an outage between here and the deadline
    /// counts (T3).
    pub opens: UnixMs,
    /// When the heartbeat is expected, or when the run started: the grace starts here.
    pub grace_start: UnixMs,
    /// The deadline. Inclusive: at this timestamp the monitor is down.
    pub deadline: UnixMs,
}

/// The status that users see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// Never pinged.
    New,
    /// On time.
    Up,
    /// Late, within its grace.
    Grace,
    /// Failed or overdue.
    Down,
    /// Not watched.
    Paused,
}

impl MonitorState {
    /// How many runs the monitor has missed so far, including those since its last success or
    /// failure.
    pub fn missed_so_far(&self, monitor: &Monitor, now: UnixMs) -> u64 {
        let watched = matches!(self.status, Status::Up | Status::Down);
        let since = self.seen.filter(|_| watched);
        let since = since.map_or(0, |seen| monitor.missed_since(seen, now));
        self.missed + u64::from(since)
    }

    /// The last success, unless it is not known because failures followed it.
    pub fn last_success(&self) -> Option<UnixMs> {
        self.seen.filter(|_| self.failures == 0)
    }

    /// How long a run may take, in seconds, if `deadline` is the end of one that takes longer.
    pub fn overrun(&self, deadline: UnixMs) -> Option<i64> {
        let limit_ms = self.run_limit_ms();
        let ends = |run: &Run| run.at + limit_ms == deadline;
        self.runs().any(ends).then_some(limit_ms / 1000)
    }

    /// The state of a monitor that was never pinged.
    pub fn new(monitor: &Monitor) -> Self {
        let mut state = Self {
            monitor: monitor.id,
            project: monitor.project,
            status: Status::New,
            seen: None,
            run: None,
            others: Vec::new(),
            last_duration_ms: None,
            pings: 0,
            resumed_pings: 0,
            failures: 0,
            fails: 0,
            missed: 0,
            tat: None,
            flap_tat: None,
            version: 0,
            epoch: 0,
            flips: 0,
            flip_at: None,
            silenced: false,
            reminded: 0,
            notified_at: None,
            acknowledged_at: None,
            last_alert: None,
            plain: false,
            period_s: None,
            grace_s: 0,
            start_grace_s: None,
            expected_at: None,
            extension: None,
            feeds: None,
            ttl_span: 0,
            expires_at: None,
        };
        state.follow(monitor);
        state
    }

    /// The state of a monitor whose state was lost: down, never unknown.
    pub fn lost(monitor: &Monitor) -> Self {
        Self {
            status: Status::Down,
            ..Self::new(monitor)
        }
    }

    /// Takes over the monitor's schedule and derives what the fast path and TTL need.
    pub(crate) fn follow(&mut self, monitor: &Monitor) {
        self.period_s = monitor.schedule.period_s();
        self.grace_s = monitor.grace_s;
        self.start_grace_s = monitor.options.start_grace_s;
        if !monitor.options.all_runs {
            self.others.clear();
        }
        self.expected_at = match (self.period_s, self.seen) {
            (None, Some(seen)) => monitor.expected_after(seen),
            _ => None,
        };
        self.derive(monitor);
    }

    /// Derives `plain`, `ttl_span` and `expires_at`.
    pub(crate) fn derive(&mut self, monitor: &Monitor) {
        self.plain = self.status == Status::Up
            && self.run.is_none()
            && self.others.is_empty()
            && self.extension.is_none()
            && self.failures == 0
            && monitor.is_plain();
        self.ttl_span =
            i64::from(self.period_s.unwrap_or(0)) + i64::from(self.grace_s) + TTL_SLACK_S;
        self.expires_at = self
            .deadline()
            .map(|deadline| deadline.secs() + TTL_SLACK_S);
    }

    /// When the next success is expected, while up.
    pub fn expected(&self) -> Option<UnixMs> {
        if self.status != Status::Up {
            return None;
        }
        match self.period_s {
            Some(period_s) => self.seen.map(|seen| seen + i64::from(period_s) * 1000),
            None => self.expected_at,
        }
    }

    /// The runs in progress.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.others.iter().chain(&self.run)
    }

    /// How long a run may take, in milliseconds.
    pub fn run_limit_ms(&self) -> i64 {
        i64::from(self.start_grace_s.unwrap_or(self.grace_s)) * 1000
    }

    /// What it waits for, before any extension; `None` if it waits for nothing.
    ///
    /// A run must end within its grace. While a run with its own grace is in progress, the
    /// schedule's deadline includes that grace too, so that a run which started on time
    /// may use its full grace.
    pub fn window(&self) -> Option<Window> {
        if self.status == Status::Down {
            return None;
        }
        let started = self.runs().map(|run| run.at).min();
        let started = started.filter(|_| !mutant::is(Mutant::RunIgnored));
        let run = started.map(|started| Window {
            opens: started,
            grace_start: started,
            deadline: started + self.run_limit_ms(),
        });
        let schedule = self.expected().map(|expected| {
            let more_s = self.start_grace_s.filter(|_| started.is_some());
            let mut grace_s = i64::from(self.grace_s) + i64::from(more_s.unwrap_or(0));
            if mutant::is(Mutant::NoGrace) {
                grace_s = 0;
            }
            Window {
                opens: expected - self.lead_ms(),
                grace_start: expected,
                deadline: expected + grace_s * 1000,
            }
        });
        match (schedule, run) {
            (Some(schedule), Some(run)) if run.deadline <= schedule.deadline => Some(run),
            (Some(window), _) | (None, Some(window)) => Some(window),
            (None, None) => None,
        }
    }

    /// When the next ping is expected, as docs/compatibility.md shows it: the start of the run in
    /// progress, if that is earlier.
    pub fn next_ping(&self) -> Option<UnixMs> {
        let started = self.runs().map(|run| run.at).min();
        let started = started.filter(|_| self.status != Status::Down);
        [self.expected(), started].into_iter().flatten().min()
    }

    /// When it goes down unless it pings; `None` if it waits for nothing.
    pub fn deadline(&self) -> Option<UnixMs> {
        let window = self.window()?;
        Some(self.extension.map_or(window.deadline, |e| e.deadline))
    }

    /// The deadline after `outages`, and the outage that moved it.
    ///
    /// If an outage overlaps the window, the deadline is recomputed from the outage's end: one more
    /// period, at most an hour, plus grace (T3). This applies to everything the monitor waited for,
    /// since any of it may have arrived during the outage; a run that started after the outage
    /// keeps its own limit. While only a part of the heartbeats is refused, a monitor gets no more
    /// periods than it takes to be sure.
    pub fn deadline_after(&self, outages: &[Outage]) -> Option<(UnixMs, Option<Outage>)> {
        let window = self.window()?;
        let mut held = (window.deadline, None);
        let more = self.again_ms() + i64::from(self.grace_s) * 1000;
        let mut outages: Vec<&Outage> = outages.iter().collect();
        if mutant::is(Mutant::OutageIgnored) {
            outages.clear();
        }
        outages.sort_by_key(|outage| outage.start);
        for outage in outages {
            let mut deadline = outage.end + more;
            if let Some(periods) = outage.more_periods() {
                deadline = deadline.min(window.deadline + periods * self.again_ms());
            }
            if outage.start < held.0 && outage.end > window.opens && deadline > held.0 {
                held = (deadline, Some(*outage));
            }
        }
        if let (deadline, Some(outage)) = held {
            let since = self.runs().filter(|run| run.at >= outage.end);
            let first = since.map(|run| run.at + self.run_limit_ms()).min();
            held.0 = first.map_or(deadline, |first| first.min(deadline));
        }
        Some(held)
    }

    /// Whether it has times that are in the future at `now`, because the clock was set back.
    pub fn is_ahead_of(&self, now: UnixMs) -> bool {
        let runs = self.runs().map(|run| run.at);
        let times = [self.seen, self.flip_at, self.notified_at];
        times.into_iter().flatten().chain(runs).any(|at| at > now)
    }

    /// The status that users see at `now`: an overdue monitor shows as down before that is
    /// recorded. Boundaries are inclusive.
    pub fn shown(&self, now: UnixMs, outages: &[Outage]) -> Shown {
        let limit_ms = self.run_limit_ms();
        let overdue_run = self.runs().any(|run| now >= run.at + limit_ms);
        let held = self.deadline_after(outages);
        let moved = held.is_some_and(|(deadline, outage)| outage.is_some() && now < deadline);
        if overdue_run && !moved {
            return Shown::Down;
        }
        match self.status {
            Status::New => Shown::New,
            Status::Paused => Shown::Paused,
            Status::Down => Shown::Down,
            Status::Up => match (self.expected(), held) {
                (_, Some((deadline, _))) if now >= deadline => Shown::Down,
                (Some(expected), _) if now >= expected => Shown::Grace,
                _ => Shown::Up,
            },
        }
    }

    /// How early a heartbeat can plausibly arrive, in milliseconds: a minute, or the period if
    /// shorter.
    fn lead_ms(&self) -> i64 {
        i64::from(self.period_s.unwrap_or(60).min(60)) * 1000
    }

    /// The "one more period, at most an hour" of T3, in milliseconds.
    fn again_ms(&self) -> i64 {
        i64::from(self.period_s.unwrap_or(3_600).min(3_600)) * 1000
    }
}
