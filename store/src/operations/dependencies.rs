//! Dependencies: reads a monitor's children, and prevents cycles.
//!
//! Each dependency is an item next to its parent, with the child's name, so that the parent's alert
//! can name its children with one query.

use crate::item;
use crate::key::Key;
use crate::operations::Census;
use crate::table::{Query, Write, delete, put};
use crate::{Result, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::dependency::{Child, MAX_ANCESTORS, is_cyclic};
use thrum_schema::flip::Flip;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::monitor::Monitor;
use thrum_schema::state::{MonitorState, Status};
use thrum_schema::targets::Targets;

/// How many children are read at most.
const MAX_CHILDREN: usize = 1_000;
/// How many children an alert names.
const NAMED: usize = 10;

impl Store {
    /// The states of the parents of a monitor that went down with `flip`, if its alert may have to
    /// wait for them. 1 RU each, and another one for each that is down.
    ///
    /// # Errors
    /// The table failed.
    pub async fn parents_of(&self, monitor: &Monitor, flip: &Flip) -> Result<Vec<MonitorState>> {
        let parents = &monitor.options.parents;
        if parents.is_empty() || flip.to != Status::Down {
            return Ok(Vec::new());
        }
        match self.holding(monitor, parents).await {
            // A child's flips must not depend on it.
            Err(StoreError::Corrupt(error)) => {
                tracing::error!(%error, "can't read a parent; it holds no alerts");
                Ok(Vec::new())
            }
            found => found,
        }
    }

    async fn holding(&self, monitor: &Monitor, parents: &[MonitorId]) -> Result<Vec<MonitorState>> {
        let mut found = self.states(parents).await?;
        // Another project may have created a monitor with the ID of a deleted one.
        found.retain(|state| state.project == monitor.project);
        let down = found.iter().filter(|state| state.status == Status::Down);
        let down: Vec<MonitorId> = down.map(|state| state.monitor).collect();
        if !down.is_empty() {
            // One that notifies nobody would swallow the alerts of its children.
            let known = self.monitors_by_id(monitor.project, &down).await?;
            let nobody = Targets::These(Vec::new());
            found.retain(|state| {
                let mut known = known.iter();
                !known.any(|parent| parent.id == state.monitor && parent.targets == nobody)
            });
        }
        Ok(found)
    }

    /// The first 1,000 monitors of a project that depend on one of its monitors, by their IDs. 1 RU per
    /// 4 kB.
    ///
    /// # Errors
    /// The table failed.
    pub async fn children_of(&self, project: ProjectId, monitor: MonitorId) -> Result<Vec<Child>> {
        let query = Query::of(Key::state(monitor).pk).prefix("CHILD#");
        let mut children: Vec<Child> = self.query(query.limit(MAX_CHILDREN)).await?;
        children.retain(|child| child.project == project);
        Ok(children)
    }

    /// The alert that a monitor is down, with the names of the monitors that depend on it. 1 RU if
    /// they are few.
    pub(super) async fn naming_children(&self, mut alert: Alert) -> Alert {
        if let (AlertKind::Down | AlertKind::Reminder, Some(subject)) =
            (alert.what, &mut alert.monitor)
        {
            let children = match self.children_of(alert.project, subject.uuid).await {
                Ok(children) => children,
                Err(error) => {
                    tracing::error!(%error, "can't read the children of a monitor; its alert does not name them");
                    Vec::new()
                }
            };
            let mut names: Vec<String> = children.into_iter().map(|child| child.name).collect();
            names.sort();
            subject.more_children = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            subject.children = names;
        }
        alert
    }

    /// Checks that a monitor does not depend on itself, and returns the census at that time;
    /// `None` if it has no parents. 1 RU, and 1 RU for each monitor that it depends on.
    ///
    /// # Errors
    /// [`StoreError::Cycle`], [`StoreError::TooDeep`], or the table failed.
    pub async fn check_parents(&self, monitor: &Monitor) -> Result<Option<Census>> {
        let mut level = monitor.options.parents.clone();
        if level.is_empty() {
            return Ok(None);
        }
        let census = self.census(monitor.project).await?;
        let mut parents: BTreeMap<MonitorId, Vec<MonitorId>> = BTreeMap::new();
        parents.insert(monitor.id, level.clone());
        while !level.is_empty() {
            // One of them is the monitor itself.
            if parents.len() + level.len() > MAX_ANCESTORS + 1 {
                return Err(StoreError::TooDeep);
            }
            let found = self.monitors_by_id(monitor.project, &level).await?;
            for id in level {
                parents.entry(id).or_default();
            }
            let others = found.into_iter().filter(|above| above.id != monitor.id);
            parents.extend(others.map(|above| (above.id, above.options.parents)));
            let above: BTreeSet<MonitorId> = parents.values().flatten().copied().collect();
            let unread = above.into_iter().filter(|id| !parents.contains_key(id));
            level = unread.collect();
        }
        let of = |id: MonitorId| parents.get(&id).cloned().unwrap_or_default();
        match is_cyclic(monitor.id, of) {
            true => Err(StoreError::Cycle),
            false => Ok(Some(census)),
        }
    }
}

/// The writes that update the items of a monitor's dependencies, when it is created, changed or
/// deleted.
pub(super) fn relink(old: Option<&Monitor>, new: Option<&Monitor>) -> Vec<Write> {
    let links = |monitor: Option<&Monitor>| -> BTreeMap<MonitorId, Child> {
        let parents = monitor.into_iter().flat_map(|monitor| {
            let child = Child {
                project: monitor.project,
                monitor: monitor.id,
                name: monitor.label().to_owned(),
            };
            let parents = monitor.options.parents.iter();
            parents.map(move |parent| (*parent, child.clone()))
        });
        parents.collect()
    };
    let (old, new) = (links(old), links(new));
    let gone = old.iter().filter(|(parent, _)| !new.contains_key(parent));
    let gone = gone.map(|(parent, child)| delete(Key::child(*parent, child.monitor)));
    let changed = new
        .iter()
        .filter(|(parent, child)| old.get(parent) != Some(child));
    let changed = changed.map(|(parent, child)| put(item::child(*parent, child)));
    gone.chain(changed).collect()
}
