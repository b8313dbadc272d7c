//! A project's monitors, cached in memory.
//!
//! The table counts the changes to a project's monitors, and every list first reads that count,
//! consistently. If this process made all changes since it last read the monitors, it needs no
//! query; changes by another process make it read them again. So a list costs one read plus the
//! states, and is never stale.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::{Monitor, MonitorId, ProjectId};

/// The most monitors to keep, in all projects together.
const MAX_KEPT: usize = 200_000;

/// The monitors of a project, oldest first.
pub type ProjectMonitors = Arc<Vec<Arc<Monitor>>>;

/// The cached monitors, by project.
#[derive(Debug, Default)]
pub struct MonitorCache(Mutex<HashMap<ProjectId, CachedProject>>);

/// The cached monitors of a project.
#[derive(Debug, Default)]
struct CachedProject {
    /// The count of changes just before the monitors were read.
    read_at: u64,
    /// How many changes this process has made since.
    made_here: u64,
    /// By id, with the version of the state at this process's last change; `None` if the monitor
    /// was deleted.
    entries: HashMap<MonitorId, (u64, Option<Arc<Monitor>>)>,
    /// In order; `None` if something has changed since.
    sorted: Option<ProjectMonitors>,
}

impl CachedProject {
    fn sorted(&mut self) -> ProjectMonitors {
        let entries = &self.entries;
        let sorted = self.sorted.get_or_insert_with(|| {
            let existing = entries.values().filter_map(|(_, monitor)| monitor.clone());
            let mut monitors: Vec<Arc<Monitor>> = existing.collect();
            monitors.sort_by_key(|monitor| (monitor.created, monitor.id));
            Arc::new(monitors)
        });
        Arc::clone(sorted)
    }
}

impl MonitorCache {
    /// Notes a change by this process, with the version of the state; `None` is a deletion. A
    /// change that is noted late does not replace a later one.
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

    /// The monitors of a project, if the cache is up to date with this count of changes.
    pub fn get(&self, project: ProjectId, changes: u64) -> Option<ProjectMonitors> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let project = kept.get_mut(&project)?;
        (project.read_at + project.made_here == changes).then(|| project.sorted())
    }

    /// Stores the monitors of a project, read when the table had this count of changes.
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
    fn own_changes_keep_the_cache_valid_and_others_invalidate_it() {
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
            "nothing has been read yet"
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
