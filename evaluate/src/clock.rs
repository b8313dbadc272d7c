//! Steps of the wall clock: an operator, a time server or a restored machine sets it.
//!
//! A step forward is a time in which no heartbeat could arrive, so it is an outage (T3). After a
//! step back, everything that was dated before it is in the future: deadlines would come late by the
//! step. So the monitors' times are moved to now, and each gets a whole period again.

use crate::{Evaluate, RETRY_MS};
use futures::{StreamExt, stream};
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::outage::{ClockStep, Outage};
use thrum_schema::transition::{Event, transition};
use thrum_schema::{MonitorId, ProjectId, UnixMs};
use thrum_store::{Change, Result, StoreError};

/// Shortest step to notice, in milliseconds. Time servers slew smaller differences.
const LEAST_MS: i64 = 2_000;
/// How far the pulse may be in the future before the clock counts as set back, in milliseconds. The
/// clocks of functions differ by less.
const AHEAD_MS: i64 = 30_000;
/// How many monitors are moved at a time.
const CONCURRENCY: usize = 16;

/// Compares the wall clock with one that nobody can set. Only for a process that always runs: a
/// function is frozen between its invocations.
#[derive(Debug, Clone, Default)]
pub struct ClockWatch(Arc<Mutex<Option<(UnixMs, i64)>>>);

impl ClockWatch {
    /// How far the wall clock was set forward since the last note, in milliseconds; negative if it
    /// was set back.
    fn stepped(&self, wall: UnixMs, steady_ms: i64) -> i64 {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let step_ms = last.map_or(0, |(then, steady)| (wall - then) - (steady_ms - steady));
        if step_ms.abs() < LEAST_MS { 0 } else { step_ms }
    }

    fn note(&self, wall: UnixMs, steady_ms: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((wall, steady_ms));
    }
}

impl Evaluate {
    /// The step of the clock at `now` since the last note, if this process watches it.
    pub(crate) fn step_ms(&self, now: UnixMs, steady_ms: i64) -> i64 {
        let watch = self.clock.as_ref();
        watch.map_or(0, |watch| watch.stepped(now, steady_ms))
    }

    /// The outage that a step forward is, before it is recorded.
    pub(crate) fn step_now(&self, now: UnixMs) -> Option<Outage> {
        let step_ms = self.step_ms(now, self.store.world().steady_ms());
        (step_ms > 0 && !mutant::is(Mutant::StepIgnored)).then(|| Outage::total(now - step_ms, now))
    }

    /// Notes the time, for the next comparison: once a step since the last note is recorded.
    pub(crate) fn note_clock(&self, now: UnixMs, steady_ms: i64) {
        if let Some(watch) = &self.clock {
            watch.note(now, steady_ms);
        }
    }

    /// After the clock was set back, as the pulse in the future shows: dates everything that is in
    /// the future now. The pulse comes last, so that a crash repeats it.
    pub(crate) async fn after_step_back(&self, now: UnixMs) -> Result<()> {
        let ahead_ms = self.store.pulse().await?.map_or(0, |seen| seen - now);
        if ahead_ms <= AHEAD_MS || mutant::is(Mutant::StepIgnored) {
            return Ok(());
        }
        if self.clock.is_none() {
            self.record_step(now, -ahead_ms).await?;
        }
        // An outage that lies in the future would extend every deadline until then.
        for outage in self.store.outages().await? {
            if outage.start >= now {
                self.store.delete_outage(&outage).await?;
            } else if outage.end > now {
                self.store
                    .put_outage(&Outage { end: now, ..outage })
                    .await?;
            }
        }
        let mut done = true;
        for project in self.store.projects().await? {
            done &= self.move_monitors(project.id, now).await?;
            self.relay_open(project.id, now + ahead_ms).await?;
        }
        if done {
            self.store.set_pulse(now).await?;
        }
        Ok(())
    }

    pub(crate) async fn record_step(&self, now: UnixMs, by_ms: i64) -> Result<()> {
        tracing::warn!(
            by_s = by_ms / 1_000,
            "the system's clock was set; monitors get more time"
        );
        self.store
            .put_clock_step(ClockStep { at: now, by_ms })
            .await
    }

    /// Moves the times of a project's monitors. Returns whether all are moved: one that is busy is
    /// tried again with the next pulse, and one that can't be read holds up no other.
    async fn move_monitors(&self, project: ProjectId, now: UnixMs) -> Result<bool> {
        let monitors = self.store.monitors(project).await?;
        let mut ids: Vec<MonitorId> = monitors.iter().map(|monitor| monitor.id).collect();
        match self.store.states(&ids).await {
            Ok(states) => {
                let ahead = states.iter().filter(|state| state.is_ahead_of(now));
                ids = ahead.map(|state| state.monitor).collect();
            }
            Err(StoreError::Unavailable(error)) => return Err(StoreError::Unavailable(error)),
            Err(_) => {}
        }
        let moved: Vec<Result<()>> = stream::iter(ids)
            .map(|id| self.move_monitor(id))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut done = true;
        for moved in moved {
            match moved {
                Ok(()) => {}
                Err(StoreError::Unavailable(error)) => return Err(StoreError::Unavailable(error)),
                Err(error) => {
                    tracing::warn!(%error, "a monitor's times were not moved after a step of the clock");
                    done &= matches!(error, StoreError::Corrupt(_));
                }
            }
        }
        Ok(done)
    }

    async fn move_monitor(&self, id: MonitorId) -> Result<()> {
        let Some(first) = self.store.snapshot(id).await? else {
            return Ok(());
        };
        let moved = self.store.update_monitor(first, RETRY_MS, |current, now| {
            let outcome = transition(&current.monitor, &current.state, &Event::ClockSetBack, now);
            let changed = current.stored && outcome.changed(&current.state);
            Ok::<_, StoreError>(changed.then_some(Change::of(outcome)))
        });
        moved.await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_what_the_wall_clock_and_a_steady_clock_disagree_by() {
        let watch = ClockWatch::default();
        assert_eq!(watch.stepped(UnixMs(1_000_000), 5_000), 0);
        watch.note(UnixMs(1_000_000), 5_000);
        for (wall, steady_ms, step_ms) in [
            (1_010_000, 15_000, 0),
            (1_011_000, 15_000, 0),
            (1_013_000, 15_000, 3_000),
            (4_610_000, 15_000, 3_600_000),
            (-2_590_000, 15_000, -3_600_000),
        ] {
            assert_eq!(watch.stepped(UnixMs(wall), steady_ms), step_ms, "{wall}");
        }
    }
}
