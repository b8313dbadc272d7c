//! A project's monitors, kept in memory: the table counts their changes, and who asks reads that count, consistently,
//! first. A handler that made all of the changes since it read them needs no query; another's changes make it read them
//! again. So a list costs one read and its leases, and is never stale.

use crate::app::App;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::{Lease, Monitor, MonitorId, ProjectId};
use thrum_store::StoreError;

/// Most monitors that are kept, of all projects together.
const MAX_KEPT: usize = 200_000;

/// Monitors, in the order in which they were made.
pub type Monitors = Arc<Vec<Arc<Monitor>>>;

/// The rosters of projects.
#[derive(Debug, Default)]
pub struct Rosters(Mutex<HashMap<ProjectId, Roster>>);

/// What is known of a project's monitors.
#[derive(Debug, Default)]
struct Roster {
    /// The count of changes before they were read.
    read_at: u64,
    /// How many changes were made here since.
    made_here: u64,
    /// By id; with the version of the lease that each was changed with here. `None` if it was deleted.
    entries: HashMap<MonitorId, (u64, Option<Arc<Monitor>>)>,
    /// In order, unless something changed since.
    sorted: Option<Monitors>,
}

impl Roster {
    fn sorted(&mut self) -> Monitors {
        let entries = &self.entries;
        let sorted = self.sorted.get_or_insert_with(|| {
            let there = entries.values().filter_map(|(_, monitor)| monitor.clone());
            let mut monitors: Vec<Arc<Monitor>> = there.collect();
            monitors.sort_by_key(|monitor| (monitor.created, monitor.id));
            Arc::new(monitors)
        });
        Arc::clone(sorted)
    }
}

impl Rosters {
    /// Notes a change that was made here, with the lease's version; no monitor is one that was deleted. A change that
    /// comes late leaves a later one as it is.
    pub fn note(&self, project: ProjectId, id: MonitorId, version: u64, now: Option<&Monitor>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(roster) = kept.get_mut(&project) else {
            return;
        };
        roster.made_here += 1;
        roster.sorted = None;
        let entry = roster.entries.entry(id).or_default();
        if version >= entry.0 {
            *entry = (version, now.cloned().map(Arc::new));
        }
    }

    fn get(&self, project: ProjectId, changes: u64) -> Option<Monitors> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let roster = kept.get_mut(&project)?;
        (roster.read_at + roster.made_here == changes).then(|| roster.sorted())
    }

    fn put(&self, project: ProjectId, changes: u64, monitors: Vec<Monitor>) -> Monitors {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&project);
        let others: usize = kept.values().map(|roster| roster.entries.len()).sum();
        if others + monitors.len() > MAX_KEPT {
            kept.clear();
        }
        let entries = monitors.into_iter().map(|m| (m.id, (0, Some(Arc::new(m)))));
        let roster = kept.entry(project).or_default();
        roster.read_at = changes;
        roster.entries = entries.collect();
        roster.sorted()
    }
}

impl App {
    /// A project's monitors, in the order in which they were made. 1 RU, and what a query of them costs if another
    /// handler has changed any since the last time.
    pub(crate) async fn monitors(&self, project: ProjectId) -> Result<Monitors, StoreError> {
        // Counted before they are read: what changes in between is counted again, and read again the next time.
        let changes = self.store.census(project).await?.changes;
        if let Some(monitors) = self.rosters.get(project, changes) {
            return Ok(monitors);
        }
        let monitors = self.store.monitors(project).await?;
        Ok(self.rosters.put(project, changes, monitors))
    }

    /// Reads the monitors of every project and their leases, so that the first list need not.
    ///
    /// # Errors
    /// The table failed; the first list will read them then.
    pub async fn warm(&self) -> Result<(), StoreError> {
        for project in self.store.projects().await? {
            let monitors = self.monitors(project.id).await?;
            self.known_leases(project.id, &monitors).await?;
        }
        Ok(())
    }

    /// The leases of some monitors, in their order; the one that stands for it, where TTL removed one.
    pub(crate) async fn leases_of(&self, monitors: &[&Monitor]) -> Result<Vec<Lease>, StoreError> {
        let ids: Vec<MonitorId> = monitors.iter().map(|monitor| monitor.id).collect();
        let leases = self.store.leases(&ids).await?;
        let mut leases: HashMap<MonitorId, Lease> =
            leases.into_iter().map(|l| (l.monitor, l)).collect();
        let of = |monitor: &&Monitor| {
            let found = leases.remove(&monitor.id);
            found.unwrap_or_else(|| Lease::lost(monitor))
        };
        Ok(monitors.iter().map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::UnixMs;

    #[test]
    fn changes_made_here_keep_a_roster_good_and_others_do_not() {
        let project = ProjectId::FIRST;
        let monitor = |n: u128, name: &str| Monitor {
            name: name.to_owned(),
            ..Monitor::new(MonitorId(uuid::Uuid::from_u128(n)), project, UnixMs(0))
        };
        let names = |monitors: Monitors| -> Vec<String> {
            monitors
                .iter()
                .map(|monitor| monitor.name.clone())
                .collect()
        };
        let rosters = Rosters::default();
        let (one, two) = (monitor(1, "one"), monitor(2, "two"));
        rosters.note(project, one.id, 1, Some(&one));
        assert!(rosters.get(project, 1).is_none(), "nothing was read yet");
        rosters.put(project, 1, vec![one.clone()]);
        assert_eq!(names(rosters.get(project, 1).unwrap()), ["one"]);
        rosters.note(project, two.id, 0, Some(&two));
        assert!(rosters.get(project, 1).is_none());
        assert_eq!(names(rosters.get(project, 2).unwrap()), ["one", "two"]);
        // Two changes of one monitor, noted in the wrong order.
        rosters.note(project, one.id, 7, Some(&monitor(1, "later")));
        rosters.note(project, one.id, 6, Some(&monitor(1, "earlier")));
        assert_eq!(names(rosters.get(project, 4).unwrap()), ["later", "two"]);
        rosters.note(project, two.id, u64::MAX, None);
        rosters.note(project, two.id, 9, Some(&two));
        assert_eq!(names(rosters.get(project, 6).unwrap()), ["later"]);
        assert!(
            rosters.get(project, 7).is_none(),
            "another handler changed something"
        );
    }
}
