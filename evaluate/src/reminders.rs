//! Delayed alerts: reminders that a monitor is still down, and flips that a silence held back.

use crate::{Evaluate, RETRY_MS};
use thrum_schema::UnixMs;
use thrum_schema::alert::AlertKind;
use thrum_schema::announce::{self, Context, Look, flip_of_state};
use thrum_schema::flip::Flip;
use thrum_schema::id::{AlertId, MonitorId};
use thrum_store::StoreError;
use thrum_store::{Change, Raise, Result, Snapshot};

impl Evaluate {
    /// Sends the `n`-th reminder of a monitor's flip, and arms the timer of the next one in the
    /// same write. Returns when to check again, if it is too early.
    pub(crate) async fn remind(
        &self,
        monitor: MonitorId,
        flip: u64,
        n: u32,
    ) -> Result<Option<UnixMs>> {
        self.announce_unless_flipped(monitor, flip, |current, context, last, id, now| {
            let (monitor, state) = (&current.monitor, &current.state);
            announce::remind(monitor, context, state, (last, n), id, now)
        })
        .await
    }

    /// Sends a held alert once no silence or parent holds it, if the monitor is still in that state.
    /// Returns when to check again, if something still holds it.
    pub(crate) async fn wake(&self, monitor: MonitorId, flip: u64) -> Result<Option<UnixMs>> {
        self.announce_unless_flipped(monitor, flip, |current, context, last, id, now| {
            announce::end_silence(&current.monitor, context, &current.state, last, id, now)
        })
        .await
    }

    /// Checks a monitor again, unless it has flipped since, and commits what `check` decides. 4 RU,
    /// and 1 RU for each parent; 2 RU if it has flipped.
    async fn announce_unless_flipped(
        &self,
        monitor: MonitorId,
        flip: u64,
        check: impl Fn(&Snapshot, &Context, &Flip, AlertId, UnixMs) -> Look,
    ) -> Result<Option<UnixMs>> {
        let first = self.store.snapshot(monitor).await?;
        let Some(first) = first.filter(|first| first.stored && first.state.flips == flip) else {
            return Ok(None);
        };
        let (project, flips) = futures::try_join!(
            self.store.project_or_default(first.monitor.project),
            self.store.flips(monitor, 1),
        )?;
        let last = flips.into_iter().find(|found| found.n == flip);
        let last = last.unwrap_or_else(|| flip_of_state(&first.state, self.store.world().now()));
        let parents = self.store.parents_of(&first.monitor, &last).await?;
        let context = Context { project, parents };
        // A reminder has the output that the alert before it had.
        let output = match first.state.last_alert {
            Some(alert) => self.store.alert(first.monitor.project, alert).await?,
            None => None,
        };
        let output = output.and_then(|alert| alert.output);
        let mut again = None;
        let decide = |current: &Snapshot, now: UnixMs| {
            again = None;
            if !current.stored {
                return Ok(None);
            }
            let id = self.store.new_alert_id(now);
            match check(current, &context, &last, id, now) {
                Look::Void => Ok::<_, StoreError>(None),
                Look::Again(at) => {
                    again = Some(at);
                    Ok(None)
                }
                Look::Now(now) => {
                    let (outcome, mut alert) = *now;
                    if alert.what == AlertKind::Reminder {
                        alert.output.clone_from(&output);
                    }
                    Ok(Some(Change {
                        raise: Raise::This(Box::new(alert)),
                        ..Change::of(outcome)
                    }))
                }
            }
        };
        let first = first.clone();
        self.store.update_monitor(first, RETRY_MS, decide).await?;
        Ok(again)
    }
}
