//! A project's monitors, kept in memory: the table counts their changes, and who asks reads that count, consistently,
//! first. A handler that made all of the changes since it read them needs no query; another's changes make it read them
//! again. So a list costs one read and its states, and is never stale.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::{Monitor, MonitorId, ProjectId};

/// Most monitors that are kept, of all projects together.
const MAX_KEPT: usize = 200_000;

/// The monitors of a project, oldest first.
pub type ProjectMonitors = Arc<Vec<Arc<Monitor>>>;

/// The monitors that are remembered, by project.
#[derive(Debug, Default)]
pub struct MonitorCache(Mutex<HashMap<ProjectId, CachedProject>>);

/// What is known of a project's monitors.
#[derive(Debug, Default)]
struct CachedProject {
    /// The count of changes before they were read.
    read_at: u64,
    /// How many changes were made here since.
    made_here: u64,
    /// By id; with the version of the state that each was changed with here. `None` if it was deleted.
    entries: HashMap<MonitorId, (u64, Option<Arc<Monitor>>)>,
    /// In order, unless something changed since.
    sorted: Option<ProjectMonitors>,
}

impl CachedProject {
    fn sorted(&mut self) -> ProjectMonitors {
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

impl MonitorCache {
    /// Notes a change that was made here, with the state's version; no monitor is one that was deleted. A change that
    /// comes late leaves a later one as it is.
    pub fn note(&self, project: ProjectId, id: MonitorId, version: u64, now: Option<&Monitor>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(project) = kept.get_mut(&project) else {
            return;
        };
        project.made_here += 1;
        project.sorted = None;
        let entry = project.entries.entry(id).or_default();
        if version >= entry.0 {
            *entry = (version, now.cloned().map(Arc::new));
        }
    }

    /// The monitors of a project, if they are known as of so many changes.
    pub fn get(&self, project: ProjectId, changes: u64) -> Option<ProjectMonitors> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let project = kept.get_mut(&project)?;
        (project.read_at + project.made_here == changes).then(|| project.sorted())
    }

    /// Remembers the monitors of a project, read when the table counted so many changes.
    pub fn put(&self, project: ProjectId, changes: u64, monitors: Vec<Monitor>) -> ProjectMonitors {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&project);
        let others: usize = kept.values().map(|project| project.entries.len()).sum();
        if others + monitors.len() > MAX_KEPT {
            kept.clear();
        }
        let entries = monitors.into_iter().map(|m| (m.id, (0, Some(Arc::new(m)))));
        let project = kept.entry(project).or_default();
        project.read_at = changes;
        project.entries = entries.collect();
        project.sorted()
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
        let names = |monitors: ProjectMonitors| -> Vec<String> {
            monitors
                .iter()
                .map(|monitor| monitor.name.clone())
                .collect()
        };
        let monitor_cache = MonitorCache::default();
        let (one, two) = (monitor(1, "one"), monitor(2, "two"));
        monitor_cache.note(project, one.id, 1, Some(&one));
        assert!(
            monitor_cache.get(project, 1).is_none(),
            "nothing was read yet"
        );
        monitor_cache.put(project, 1, vec![one.clone()]);
        assert_eq!(names(monitor_cache.get(project, 1).unwrap()), ["one"]);
        monitor_cache.note(project, two.id, 0, Some(&two));
        assert!(monitor_cache.get(project, 1).is_none());
        assert_eq!(
            names(monitor_cache.get(project, 2).unwrap()),
            ["one", "two"]
        );
        // Two changes of one monitor, noted in the wrong order.
        monitor_cache.note(project, one.id, 7, Some(&monitor(1, "later")));
        monitor_cache.note(project, one.id, 6, Some(&monitor(1, "earlier")));
        assert_eq!(
            names(monitor_cache.get(project, 4).unwrap()),
            ["later", "two"]
        );
        monitor_cache.note(project, two.id, u64::MAX, None);
        monitor_cache.note(project, two.id, 9, Some(&two));
        assert_eq!(names(monitor_cache.get(project, 6).unwrap()), ["later"]);
        assert!(
            monitor_cache.get(project, 7).is_none(),
            "another handler changed something"
        );
    }
}
