//! The states of a project's monitors, for lists of all of them. Where the process does all the writing, those that were
//! written to are read again and no others; elsewhere, those of large projects are believed for some seconds.

use super::{Monitors, ProjectMonitors};
use crate::services::cache::ByProject;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use thrum_schema::{Monitor, MonitorId, MonitorState, ProjectId, UnixMs};
use thrum_store::{Result, Touched};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

/// How long states are believed where nothing tells of changes, in milliseconds: longer the more there are, for each is
/// a read unit.
const FRESH_MS: (i64, i64) = (10_000, 60_000);
const FRESH_MS_EACH: i64 = 5;
/// Projects with at most so many monitors are read anew there.
pub const SMALL: usize = 200;
/// How long states are believed at most, in milliseconds: a write whose request was given up may go untold.
const MAX_AGE_MS: i64 = 60_000;
/// Projects whose states are kept.
const MAX_KEPT: usize = 100;

/// The states that are known, by project.
#[derive(Debug, Default)]
pub struct KnownStates(ByProject<CachedStates>);

#[derive(Debug)]
struct CachedStates {
    read: UnixMs,
    by_id: HashMap<MonitorId, MonitorState>,
    changes: Option<Receiver<Touched>>,
}

impl CachedStates {
    /// Whose states have to be read again; `None` for all.
    fn stale(&mut self, project: ProjectId, now: UnixMs) -> Option<HashSet<MonitorId>> {
        let age_ms = now - self.read;
        let Some(changes) = &mut self.changes else {
            let many = self.by_id.len();
            let each_ms = i64::try_from(many)
                .unwrap_or(i64::MAX)
                .saturating_mul(FRESH_MS_EACH);
            let fresh = many > SMALL && age_ms < each_ms.clamp(FRESH_MS.0, FRESH_MS.1);
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
        (age_ms < MAX_AGE_MS).then_some(stale)
    }
}

impl KnownStates {
    /// The states of a project's monitors, in their order.
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
                // Told of before they are read: what is written in between is read again.
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

    fn known(many: u128, told: Option<&Sender<Touched>>) -> CachedStates {
        let state = |n| MonitorState::lost(&Monitor::new(id(n), PROJECT, UnixMs(0)));
        CachedStates {
            read: UnixMs(0),
            by_id: (0..many).map(|n| (id(n), state(n))).collect(),
            changes: told.map(Sender::subscribe),
        }
    }

    #[test]
    fn what_is_told_is_read_again_and_nothing_else() {
        let (told, _) = channel(4);
        let mut states = known(3, Some(&told));
        assert_eq!(states.stale(PROJECT, UnixMs(1)), Some(HashSet::new()));
        let other = ProjectId(Uuid::from_u128(9));
        for touched in [
            Touched::Seen(PROJECT, id(1)),
            Touched::Changed(PROJECT, id(2)),
            Touched::Changed(other, id(3)),
        ] {
            told.send(touched).unwrap();
        }
        let stale = states.stale(PROJECT, UnixMs(1));
        assert_eq!(stale, Some([id(1), id(2)].into()));
        assert_eq!(states.stale(PROJECT, UnixMs(1)), Some(HashSet::new()));
        // What was missed may be anything; and so may what is old.
        for _ in 0..5 {
            told.send(Touched::Seen(other, id(3))).unwrap();
        }
        assert_eq!(states.stale(PROJECT, UnixMs(1)), None);
        let mut states = known(3, Some(&told));
        assert_eq!(states.stale(PROJECT, UnixMs(MAX_AGE_MS)), None);
    }

    #[test]
    fn where_nothing_is_told_the_larger_a_project_the_longer_it_is_believed() {
        for (many, believed_ms) in [(200, 0), (201, 10_000), (3_000, 15_000), (20_000, 60_000)] {
            let mut states = known(many, None);
            let fresh = states.stale(PROJECT, UnixMs(believed_ms - 1)).is_some();
            assert_eq!(fresh, believed_ms > 0, "{many}");
            assert_eq!(states.stale(PROJECT, UnixMs(believed_ms)), None, "{many}");
        }
    }
}
