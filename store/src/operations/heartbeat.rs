//! Heartbeats on the fast path: one conditional write.

use super::Touched;
use super::usage::Pace;
use crate::item;
use crate::key::Key;
use crate::table::{TableError, attr, set, update};
use crate::{Result, Store};
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::monitor::Monitor;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::plan::Rate;
use thrum_schema::schedule::Schedule;
use thrum_schema::state::{MonitorState, Status};
use thrum_schema::time::UnixMs;

/// The result of a heartbeat on the fast path.
#[derive(Debug)]
pub enum Fast {
    /// Recorded; this is the new state.
    Counted(Box<MonitorState>),
    /// Nothing was written: the monitor's rules must decide.
    NeedsRules,
    /// Nothing was written: the rate limit was reached. Milliseconds until a heartbeat passes.
    TooMany(i64),
}

/// The schedule that a heartbeat sets; `None` leaves a value unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// The period, in seconds.
    pub period_s: Option<u32>,
    /// The grace, in seconds.
    pub grace_s: Option<u32>,
}

impl Rules {
    /// The monitor with these rules applied; `None` if they change nothing.
    pub fn applied_to(self, monitor: &Monitor) -> Option<Monitor> {
        let mut wanted = monitor.clone();
        if let Some(period_s) = self.period_s {
            wanted.schedule = Schedule::Simple { period_s };
        }
        if let Some(grace_s) = self.grace_s {
            wanted.grace_s = grace_s;
        }
        (wanted != *monitor).then_some(wanted)
    }

    /// Whether `state` already has these values.
    fn matches(self, state: &MonitorState) -> bool {
        self.period_s
            .is_none_or(|period_s| state.period_s == Some(period_s))
            && self.grace_s.is_none_or(|grace_s| state.grace_s == grace_s)
    }
}

impl Store {
    /// Records a success at `now` on a plain monitor that is `up`, with one `UpdateItem`. It
    /// requires that the state exists, is `up` and plain, was not seen later, has the period and
    /// grace of `rules` where given, and that its pings have not used up `rate`. 1 WU; on DynamoDB
    /// 2 for a burst.
    pub async fn heartbeat(
        &self,
        monitor: MonitorId,
        now: UnixMs,
        rules: Rules,
        rate: Option<Rate>,
    ) -> Result<Fast> {
        let mut plain = attr("status").eq("up").and(attr("plain").eq(true));
        if mutant::is(Mutant::FastPathUnguarded) {
            plain = attr("status").eq("up").or(attr("plain").eq(true).negated());
        }
        plain = plain.and(attr("seen").at_most(now));
        for (name, wanted) in [("period_s", rules.period_s), ("grace_s", rules.grace_s)] {
            if let Some(wanted) = wanted {
                plain = plain.and(attr(name).eq(wanted));
            }
        }
        let count = set("seen", now)
            .set_sum("expires_at", "ttl_span", now.secs())
            .add("pings", 1)
            .add("version", 1)
            .remove("last_duration_ms");
        let write = update(Key::state(monitor), count.clone()).when(plain.clone());
        let write = match rate {
            None => write,
            Some(rate) => Pace::new(rate, now).limit(write, plain, count),
        };
        let before = match self.table.write(write).await {
            Ok(state) => {
                let state: Box<MonitorState> = Box::new(item::decode(state.unwrap_or_default())?);
                self.note_touched(Touched::Seen(state.project, state.monitor));
                return Ok(Fast::Counted(state));
            }
            Err(TableError::Condition { found, .. }) => found,
            Err(error) => return Err(error.into()),
        };
        let Some(before) = before else {
            return Ok(Fast::NeedsRules);
        };
        let state: MonitorState = item::decode(*before)?;
        if state.project == ProjectId::PIPELINE {
            // A pulse that was sent at the same time was recorded first, by a clock that is ahead; or
            // there were more pulses than a monitor may send.
            return Ok(Fast::Counted(Box::new(state)));
        }
        let Some(rate) = rate else {
            return Ok(Fast::NeedsRules);
        };
        let plain = state.plain && state.status == Status::Up && state.seen <= Some(now);
        if plain
            && rules.matches(&state)
            && let Err(wait_ms) = rate.take(state.tat, now.0)
        {
            return Ok(Fast::TooMany(wait_ms));
        }
        Ok(Fast::NeedsRules)
    }
}
