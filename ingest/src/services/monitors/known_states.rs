//! The states of all monitors of a project, cached in memory.
//!
//! If this process does all the writing, a change feed says which states to read again. Otherwise,
//! the states of a large project are reused for up to a minute.

use super::{Monitors, ProjectMonitors};
use crate::services::cache::ByProject;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use thrum_schema::{Monitor, MonitorId, MonitorState, ProjectId, UnixMs};
use thrum_store::{Result, Touched};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

/// How long to reuse states without a change feed, at least and at most, in milliseconds.
const FRESH_MS: (i64, i64) = (10_000, 60_000);
/// How long to reuse them per state, in milliseconds: reading more states costs more read units.
const FRESH_MS_EACH: i64 = 5;
/// Without a change feed, the states of up to this many monitors are read every time.
pub const SMALL: usize = 200;
/// How long to reuse states with a change feed, in milliseconds: it may miss a write whose request
/// was cancelled.
const MAX_AGE_MS: i64 = 60_000;
/// The most projects to keep states of.
const MAX_KEPT: usize = 100;

/// The cached states, by project.
#[derive(Debug, Default)]
pub struct KnownStates(ByProject<CachedStates>);

#[derive(Debug)]
struct CachedStates {
    read: UnixMs,
    by_id: HashMap<MonitorId, MonitorState>,
    changes: Option<Receiver<Touched>>,
}

impl CachedStates {
    /// The monitors whose states must be read again; `None` for all.
    fn stale(&mut self, project: ProjectId, now: UnixMs) -> Option<HashSet<MonitorId>> {
        let age_ms = now - self.read;
        let Some(changes) = &mut self.changes else {
            let many = self.by_id.len();
            let each_ms = i64::try_from(many)
                .unwrap_or(i64::MAX)
                .saturating_mul(FRESH_MS_EACH);
            let fresh =
                many > SMALL && age_ms >= 0 && age_ms < each_ms.clamp(FRESH_MS.0, FRESH_MS.1);
            return fresh.then(HashSet::new);
        };
        let mut stale = HashSet::new();
        loop {
            match changes.try_recv() {
                Ok(Touched::Changed(of, id) | Touched::Seen(of, id)) if of == project => {
                    stale.insert(id);
                }
                Ok(_) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return None,
            }
        }
        (0..MAX_AGE_MS).contains(&age_ms).then_some(stale)
    }
}

impl KnownStates {
    /// The states of a project's monitors, in the same order.
    pub async fn of(
        &self,
        service: &Monitors,
        project: ProjectId,
        monitors: &ProjectMonitors,
    ) -> Result<Vec<MonitorState>> {
        let known = self.0.of(project, MAX_KEPT);
        let mut known = known.lock().await;
        let now = service.store.world().now();
        let stale = known.as_mut().and_then(|known| known.stale(project, now));
        let states = match (known.as_mut(), stale) {
            (Some(states), Some(stale)) => {
                states.by_id.retain(|id, _| !stale.contains(id));
                states
            }
            _ => {
                // Subscribe before reading, so that whatever is written in between is read again.
                let changes = service.store.touched();
                *known = None;
                known.insert(CachedStates {
                    read: now,
                    by_id: HashMap::with_capacity(monitors.len()),
                    changes,
                })
            }
        };
        let missing: Vec<&Monitor> = monitors
            .iter()
            .map(AsRef::as_ref)
            .filter(|monitor| !states.by_id.contains_key(&monitor.id))
            .collect();
        for state in service.states(&missing).await? {
            states.by_id.insert(state.monitor, state);
        }
        let of = |monitor: &Arc<Monitor>| states.by_id.get(&monitor.id).cloned();
        Ok(monitors
            .iter()
            .map(|monitor| of(monitor).unwrap_or_else(|| MonitorState::lost(monitor)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::broadcast::{Sender, channel};
    use uuid::Uuid;

    const PROJECT: ProjectId = ProjectId::FIRST;

    fn id(n: u128) -> MonitorId {
        MonitorId(Uuid::from_u128(n))
    }

    fn known(many: u128, feed: Option<&Sender<Touched>>) -> CachedStates {
        let state = |n| MonitorState::lost(&Monitor::new(id(n), PROJECT, UnixMs(0)));
        CachedStates {
            read: UnixMs(0),
            by_id: (0..many).map(|n| (id(n), state(n))).collect(),
            changes: feed.map(Sender::subscribe),
        }
    }

    #[test]
    fn only_changed_states_are_read_again() {
        let (feed, _) = channel(4);
        let mut states = known(3, Some(&feed));
        assert_eq!(states.stale(PROJECT, UnixMs(1)), Some(HashSet::new()));
        let other = ProjectId(Uuid::from_u128(9));
        for touched in [
            Touched::Seen(PROJECT, id(1)),
            Touched::Changed(PROJECT, id(2)),
            Touched::Changed(other, id(3)),
        ] {
            feed.send(touched).unwrap();
        }
        let stale = states.stale(PROJECT, UnixMs(1));
        assert_eq!(stale, Some([id(1), id(2)].into()));
        assert_eq!(states.stale(PROJECT, UnixMs(1)), Some(HashSet::new()));
        // After a lag, or when they are old, all states must be read again.
        for _ in 0..5 {
            feed.send(Touched::Seen(other, id(3))).unwrap();
        }
        assert_eq!(states.stale(PROJECT, UnixMs(1)), None);
        let mut states = known(3, Some(&feed));
        assert_eq!(states.stale(PROJECT, UnixMs(MAX_AGE_MS)), None);
    }

    #[test]
    fn without_a_change_feed_states_of_larger_projects_are_reused_longer() {
        for (many, fresh_ms) in [(200, 0), (201, 10_000), (3_000, 15_000), (20_000, 60_000)] {
            let mut states = known(many, None);
            let fresh = states.stale(PROJECT, UnixMs(fresh_ms - 1)).is_some();
            assert_eq!(fresh, fresh_ms > 0, "{many}");
            assert_eq!(states.stale(PROJECT, UnixMs(fresh_ms)), None, "{many}");
        }
    }
}
