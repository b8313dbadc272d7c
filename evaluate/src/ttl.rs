//! CachedStates that TTL removed: the net below the sweep.

use crate::Evaluate;
use thrum_schema::MonitorState;
use thrum_schema::transition::{Event, transition};
use thrum_store::StoreError;
use thrum_store::{Commit, Result};

/// How often a restoration is tried against pings that race it.
const MAX_ATTEMPTS: usize = 20;

impl Evaluate {
    /// Restores a state that TTL removed, with its counters, and records the down that the sweep missed, judged by
    /// T3. If a ping has made a new state since, the counters and the missed flip are added to it: telling people
    /// of the down then would follow its own up.
    pub(crate) async fn on_removed(&self, lost: &MonitorState) -> Result<()> {
        let id = lost.monitor;
        let outages = self.outages(self.store.world().now()).await?;
        for _ in 0..MAX_ATTEMPTS {
            let Some(located) = self.store.locate(id).await? else {
                return Ok(());
            };
            let Some(monitor) = self.store.monitor(located.project, id).await? else {
                return Ok(());
            };
            let now = self.store.world().now();
            let event = Event::Timer { outages: &outages };
            let mut outcome = transition(&monitor, lost, &event, now);
            let written = if let Some(new) = &located.state {
                match self
                    .store
                    .add_lost_history(lost, new.resumed_pings, outcome.flip.as_ref())
                    .await
                {
                    // Done before.
                    Err(StoreError::Conflict) => Ok(()),
                    result => result,
                }
            } else {
                let alert = self
                    .store
                    .announce(&monitor, &mut outcome, lost.seen, None, now)
                    .await?;
                // Whatever timer it had may be gone with it.
                outcome.state.version += 1;
                if let Some(deadline) = outcome.state.deadline() {
                    outcome.state.epoch = outcome.state.epoch.wrapping_add(1);
                    outcome.arm = Some(deadline);
                }
                let commit = Commit {
                    monitor: &monitor,
                    before: None,
                    outcome: &outcome,
                    alert: alert.as_ref(),
                    was: None,
                };
                self.store.commit(&commit, now).await
            };
            match written {
                Err(StoreError::Conflict) => {}
                result => return result,
            }
        }
        Err(StoreError::Conflict)
    }
}
