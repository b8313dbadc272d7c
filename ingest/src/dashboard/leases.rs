//! The leases of a project's monitors, for lists of all of them. Where the process does all the writing, those that were
//! written to are read again and no others; elsewhere, those of large projects are believed for some seconds.

use crate::app::App;
use crate::cache::ByProject;
use crate::roster::Monitors;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use thrum_schema::{Lease, Monitor, MonitorId, ProjectId, UnixMs};
use thrum_store::StoreError;
use thrum_store::Touched;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

/// How long leases are believed where nothing tells of changes, in milliseconds: longer the more there are, for each is
/// a read unit.
const FRESH_MS: (i64, i64) = (10_000, 60_000);
const FRESH_MS_EACH: i64 = 5;
/// Projects with at most so many monitors are read anew there.
pub const SMALL: usize = 200;
/// How long leases are believed at most, in milliseconds: a write whose request was given up may go untold.
const MAX_AGE_MS: i64 = 60_000;
/// Projects whose leases are kept.
const MAX_KEPT: usize = 100;

/// The leases that are known, by project.
#[derive(Debug, Default)]
pub struct KnownLeases(ByProject<Leases>);

#[derive(Debug)]
struct Leases {
    read: UnixMs,
    by_id: HashMap<MonitorId, Lease>,
    changes: Option<Receiver<Touched>>,
}

impl Leases {
    /// Whose leases have to be read again; `None` for all.
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

impl App {
    /// The leases of a project's monitors, in their order.
    pub(crate) async fn known_leases(
        &self,
        project: ProjectId,
        monitors: &Monitors,
    ) -> Result<Vec<Lease>, StoreError> {
        let known = self.known_leases.0.of(project, MAX_KEPT);
        let mut known = known.lock().await;
        let now = self.store.world().now();
        let stale = known.as_mut().and_then(|known| known.stale(project, now));
        let leases = match (known.as_mut(), stale) {
            (Some(leases), Some(stale)) => {
                leases.by_id.retain(|id, _| !stale.contains(id));
                leases
            }
            _ => {
                // Told of before they are read: what is written in between is read again.
                let changes = self.store.touched();
                *known = None;
                known.insert(Leases {
                    read: now,
                    by_id: HashMap::with_capacity(monitors.len()),
                    changes,
                })
            }
        };
        let missing: Vec<&Monitor> = monitors
            .iter()
            .map(AsRef::as_ref)
            .filter(|monitor| !leases.by_id.contains_key(&monitor.id))
            .collect();
        for lease in self.leases_of(&missing).await? {
            leases.by_id.insert(lease.monitor, lease);
        }
        let of = |monitor: &Arc<Monitor>| leases.by_id.get(&monitor.id).cloned();
        Ok(monitors
            .iter()
            .map(|monitor| of(monitor).unwrap_or_else(|| Lease::lost(monitor)))
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

    fn known(many: u128, told: Option<&Sender<Touched>>) -> Leases {
        let lease = |n| Lease::lost(&Monitor::new(id(n), PROJECT, UnixMs(0)));
        Leases {
            read: UnixMs(0),
            by_id: (0..many).map(|n| (id(n), lease(n))).collect(),
            changes: told.map(Sender::subscribe),
        }
    }

    #[test]
    fn what_is_told_is_read_again_and_nothing_else() {
        let (told, _) = channel(4);
        let mut leases = known(3, Some(&told));
        assert_eq!(leases.stale(PROJECT, UnixMs(1)), Some(HashSet::new()));
        let other = ProjectId(Uuid::from_u128(9));
        for touched in [
            Touched::Seen(PROJECT, id(1)),
            Touched::Changed(PROJECT, id(2)),
            Touched::Changed(other, id(3)),
        ] {
            told.send(touched).unwrap();
        }
        let stale = leases.stale(PROJECT, UnixMs(1));
        assert_eq!(stale, Some([id(1), id(2)].into()));
        assert_eq!(leases.stale(PROJECT, UnixMs(1)), Some(HashSet::new()));
        // What was missed may be anything; and so may what is old.
        for _ in 0..5 {
            told.send(Touched::Seen(other, id(3))).unwrap();
        }
        assert_eq!(leases.stale(PROJECT, UnixMs(1)), None);
        let mut leases = known(3, Some(&told));
        assert_eq!(leases.stale(PROJECT, UnixMs(MAX_AGE_MS)), None);
    }

    #[test]
    fn where_nothing_is_told_the_larger_a_project_the_longer_it_is_believed() {
        for (many, believed_ms) in [(200, 0), (201, 10_000), (3_000, 15_000), (20_000, 60_000)] {
            let mut leases = known(many, None);
            let fresh = leases.stale(PROJECT, UnixMs(believed_ms - 1)).is_some();
            assert_eq!(fresh, believed_ms > 0, "{many}");
            assert_eq!(leases.stale(PROJECT, UnixMs(believed_ms)), None, "{many}");
        }
    }
}
