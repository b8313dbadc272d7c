//! Restores monitor states that TTL removed: the safety net behind the sweep.

use crate::{Evaluate, RETRY_MS};
use thrum_schema::MonitorState;
use thrum_schema::transition::{Event, transition};
use thrum_store::{Change, Result, Snapshot, StoreError, trace};

impl Evaluate {
    /// Restores a state that TTL removed, with its counters, and records the down flip that the
    /// sweep missed, subject to T3. If a ping has created a new state since, only adds the counters
    /// and the missed flip to it: an alert now would arrive after the recovery.
    pub(crate) async fn on_removed(&self, lost: &MonitorState) -> Result<()> {
        let outages = self.outages(self.store.world().now()).await?;
        let event = Event::Timer { outages: &outages };
        // Unlike a snapshot, this does not read the log to reconstruct the state.
        let Some(located) = self.store.locate(lost.monitor).await? else {
            return Ok(());
        };
        let Some(monitor) = self.store.monitor(located.project, lost.monitor).await? else {
            return Ok(());
        };
        let first = Snapshot {
            monitor,
            stored: located.state.is_some(),
            state: located.state.unwrap_or_else(|| lost.clone()),
        };
        let restored = self.store.update_monitor(first, RETRY_MS, |current, now| {
            if current.stored {
                return Ok(None);
            }
            let mut outcome = transition(&current.monitor, lost, &event, now);
            // Its timers may have been removed too, so arm a new one.
            outcome.state.version += 1;
            if let Some(deadline) = outcome.state.deadline() {
                outcome.state.epoch = outcome.state.epoch.wrapping_add(1);
                outcome.arm = Some(deadline);
            }
            Ok::<_, StoreError>(Some(Change::of(outcome)))
        });
        let Some(restored) = restored
            .await?
            .filter(|restored| restored.outcome.is_none())
        else {
            return Ok(());
        };
        let new = restored.now;
        let now = self.store.world().now();
        let mut missed = transition(&new.monitor, lost, &event, now).flip;
        if let Some(flip) = &mut missed {
            flip.trace = trace::current();
        }
        let resumed = new.state.resumed_pings;
        let added = self.store.add_lost_history(lost, resumed, missed.as_ref());
        match added.await {
            // Already added.
            Err(StoreError::Conflict) => Ok(()),
            added => added,
        }
    }
}
