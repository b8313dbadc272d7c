//! A row in the list of monitors.

use super::super::words::{Relative, span};
use thrum_schema::silence;
use thrum_schema::state::Shown;
use thrum_schema::{Monitor, MonitorState, Outage, Schedule, UnixMs};

/// A monitor and its current state.
#[derive(Debug)]
pub struct Row<'a> {
    pub monitor: &'a Monitor,
    pub shown: Shown,
    pub running: bool,
    pub silenced: Option<UnixMs>,
    pub seen: Option<UnixMs>,
    pub expected: Option<UnixMs>,
    pub deadline: Option<UnixMs>,
    /// When the status last changed.
    pub changed: Option<UnixMs>,
    now: UnixMs,
}

impl<'a> Row<'a> {
    pub fn of(
        monitor: &'a Monitor,
        state: &MonitorState,
        project_silent: Option<UnixMs>,
        outages: &[Outage],
        now: UnixMs,
    ) -> Self {
        let options = &monitor.options;
        let own = silence::until(options.snoozed_until, &options.windows, now);
        Self {
            monitor,
            shown: state.shown(now, outages),
            running: state.runs().next().is_some(),
            silenced: own.max(project_silent),
            seen: state.seen,
            expected: state.expected(),
            deadline: state.deadline_after(outages).map(|(at, _)| at),
            changed: state.flip_at,
            now,
        }
    }

    /// The state, as a word and CSS class.
    pub fn state(&self) -> &'static str {
        word(self.shown)
    }

    /// The display name.
    pub fn name(&self) -> &'a str {
        self.monitor.label()
    }

    /// The path of the monitor's page.
    pub fn path(&self) -> String {
        path_of(self.monitor)
    }

    /// The schedule, for people.
    pub fn schedule(&self) -> String {
        schedule(&self.monitor.schedule)
    }

    /// When it last pinged.
    pub fn last_ping(&self) -> Option<Relative> {
        self.seen.map(|at| Relative { at, now: self.now })
    }

    /// What happens next and when, or when it went down.
    pub fn next(&self) -> Option<(&'static str, Relative)> {
        let relative = |at| Relative { at, now: self.now };
        match (self.shown, self.expected, self.deadline) {
            (Shown::Up, Some(at), _) if !self.running => Some(("due", relative(at))),
            (Shown::Down, ..) => self.changed.map(|at| ("went down", relative(at))),
            (Shown::Up | Shown::Grace | Shown::New | Shown::Paused, _, Some(at)) => {
                Some(("alerts", relative(at)))
            }
            _ => None,
        }
    }

    /// Whether it matches a filter.
    pub fn is(&self, filter: &str) -> bool {
        match filter {
            "running" => self.running,
            "silenced" => self.silenced.is_some(),
            filter => self.state() == filter,
        }
    }

    /// The sort key that puts the monitors that need attention first.
    pub fn urgency(&self) -> i64 {
        match self.shown {
            Shown::Down if self.silenced.is_none() => 0,
            Shown::Down => 1,
            Shown::Grace => 2,
            Shown::New => 3,
            Shown::Up => 4,
            Shown::Paused => 5,
        }
    }
}

/// A state, as a word and CSS class.
pub const fn word(shown: Shown) -> &'static str {
    match shown {
        Shown::New => "new",
        Shown::Up => "up",
        Shown::Grace => "late",
        Shown::Down => "down",
        Shown::Paused => "paused",
    }
}

/// The path of a monitor's page, which contains no secret.
pub fn path_of(monitor: &Monitor) -> String {
    format!("/monitors/{}", monitor.unique_key())
}

/// A schedule, for people.
pub fn schedule(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Simple { period_s } => format!("every {}", span(i64::from(*period_s))),
        Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => format!("{expr} ({tz})"),
    }
}
