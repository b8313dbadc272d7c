//! Monitors: by id, name, slug, badge and project; made, renamed, deleted.

use super::heartbeat::Commit;
use super::{Query, Result, Store, Touched};
use crate::id::{BadgeId, MonitorId, ProjectId};
use crate::item::{self, Key, n, s};
use crate::lease::Lease;
use crate::monitor::Monitor;
use crate::time::UnixMs;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use serde::Deserialize;

/// How many monitors a project has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Census {
    /// How many there are.
    pub n: i64,
    /// Counts how often one was made, changed or deleted: as long as it is the same, so are they all.
    pub changes: u64,
}

/// What a new monitor claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// Its name, and its slug if it has one, must be free: however many race, one is made.
    Name,
    /// Its slug must be free: however many race, one is made. It may share its name.
    Slug,
    /// It may share them; as long as nobody has its name, heartbeats by that name are its own.
    Shared,
}

/// A monitor to be made.
#[derive(Debug)]
pub struct Creation<'a> {
    /// The monitor, and its first event.
    pub commit: Commit<'a>,
    /// What it claims.
    pub claims: Claims,
    /// Most monitors the project may have, this one included.
    pub limit: Option<u32>,
    /// What was counted when it was seen that there is no such monitor yet: nothing may have been made since.
    pub after: Option<Census>,
}

#[derive(Deserialize)]
struct To {
    project: ProjectId,
    monitor: MonitorId,
}

impl Store {
    /// A monitor's configuration. 1 RU.
    pub async fn monitor(&self, project: ProjectId, monitor: MonitorId) -> Result<Option<Monitor>> {
        self.get(&Key::monitor(project, monitor)).await
    }

    /// The monitor that heartbeats by `name` mean. 1 RU.
    pub async fn monitor_named(&self, project: ProjectId, name: &str) -> Result<Option<MonitorId>> {
        let found: Option<To> = self.get(&Key::name(project, name)).await?;
        Ok(found.map(|found| found.monitor))
    }

    /// The monitors that have `slug`; more than one is ambiguous. 1 RU.
    pub async fn monitors_with_slug(
        &self,
        project: ProjectId,
        slug: &str,
    ) -> Result<Vec<MonitorId>> {
        #[derive(Deserialize)]
        struct Slug {
            #[serde(default)]
            ids: Vec<MonitorId>,
        }
        let found: Option<Slug> = self.get(&Key::slug(project, slug)).await?;
        Ok(found.map(|found| found.ids).unwrap_or_default())
    }

    /// The monitor of `project` that has this [unique key](Monitor::unique_key). 1 RU.
    pub async fn monitor_by_unique_key(
        &self,
        project: ProjectId,
        unique_key: &str,
    ) -> Result<Option<MonitorId>> {
        let found: Option<To> = self.get(&Key::unique_key(project, unique_key)).await?;
        Ok(found.map(|found| found.monitor))
    }

    /// The monitor that a public badge shows, and its project. 1 RU.
    pub async fn monitor_by_badge(&self, badge: BadgeId) -> Result<Option<(ProjectId, MonitorId)>> {
        let found: Option<To> = self.get(&Key::badge(badge)).await?;
        Ok(found.map(|found| (found.project, found.monitor)))
    }

    /// A project's monitors. 1 RU per 4 kB.
    pub async fn monitors(&self, project: ProjectId) -> Result<Vec<Monitor>> {
        let query = Query {
            consistent: true,
            ..Query::default()
        };
        self.query_prefix(&Key::project(project).pk, "M#", query)
            .await
    }

    /// Monitors of a project by their ids, as far as they are there. 1 RU each.
    pub async fn monitors_by_id(
        &self,
        project: ProjectId,
        ids: &[MonitorId],
    ) -> Result<Vec<Monitor>> {
        let keys = ids.iter().map(|id| Key::monitor(project, *id));
        self.get_many(keys.collect()).await
    }

    /// The leases of monitors, as far as they have one, in no order. 1 RU each, 100 a call.
    pub async fn leases(&self, monitors: &[MonitorId]) -> Result<Vec<Lease>> {
        self.get_many(monitors.iter().map(|id| Key::lease(*id)).collect())
            .await
    }

    /// The leases of monitors, as they are or were a moment ago. 0.5 RU each.
    pub async fn leases_lately(&self, monitors: &[MonitorId]) -> Result<Vec<Lease>> {
        let keys = monitors.iter().map(|id| Key::lease(*id)).collect();
        self.get_many_lately(keys).await
    }

    /// How many monitors a project has. 1 RU.
    pub async fn census(&self, project: ProjectId) -> Result<Census> {
        Ok(self.get(&Key::census(project)).await?.unwrap_or_default())
    }

    /// Writes a new monitor together with its first event, and counts it. 2 WU for each of monitor, owner, lease,
    /// name, slug, badge, unique key, census, and what the event brings.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if its name or slug is taken that it claims alone, if the project has too many
    /// monitors, or if one was made meanwhile that must not have been.
    pub async fn create_monitor(&self, creation: &Creation<'_>, now: UnixMs) -> Result<()> {
        let commit = &creation.commit;
        let monitor = commit.monitor;
        let mut writes = vec![
            self.create(item::monitor(monitor)),
            self.create(item::owner(monitor)),
            self.create(item::lease(&commit.outcome.lease)),
            self.create(item::badge(monitor)),
            self.create(item::unique_key(monitor)),
            self.count(monitor.project, 1, creation.limit, creation.after),
        ];
        // A project that is being deleted gets no more of them.
        writes.push(self.require(&Key::project(monitor.project)));
        match creation.claims {
            Claims::Name => {
                writes.push(self.create(item::name(monitor)));
                if !monitor.slug.is_empty() {
                    writes.push(self.slug_update(monitor, "ADD", "attribute_not_exists(ids)"));
                }
            }
            Claims::Slug => {
                writes.extend(self.name_writes(None, Some(monitor)).await?);
                writes.push(self.slug_update(monitor, "ADD", "attribute_not_exists(ids)"));
            }
            Claims::Shared => writes.extend(self.rename(None, Some(monitor)).await?),
        }
        writes.extend(self.consequences(commit, now));
        self.transact(writes).await?;
        self.count_commit(commit);
        Ok(())
    }

    /// Deletes a monitor and all that leads to it; its log and its history are left to TTL. 2 WU each.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if it is gone, or was changed meanwhile.
    pub async fn delete_monitor(&self, monitor: &Monitor) -> Result<()> {
        let mut writes = vec![
            self.remove_if(
                &Key::monitor(monitor.project, monitor.id),
                &[("#name", "name")],
                "#name = :name AND slug = :slug",
                vec![(":name", s(&monitor.name)), (":slug", s(&monitor.slug))],
            ),
            self.remove(&Key::owner(monitor.id)),
            self.remove(&Key::lease(monitor.id)),
            self.remove(&Key::badge(monitor.badge())),
            self.remove(&Key::unique_key(monitor.project, &monitor.unique_key())),
            self.count(monitor.project, -1, None, None),
        ];
        writes.extend(self.rename(Some(monitor), None).await?);
        self.transact(writes).await?;
        self.note_touched(Touched::Changed(monitor.project, monitor.id));
        Ok(())
    }

    /// What leads to a monitor by name and slug, where they change. 1 RU a name.
    pub(super) async fn rename(
        &self,
        old: Option<&Monitor>,
        new: Option<&Monitor>,
    ) -> Result<Vec<TransactWriteItem>> {
        let mut writes = self.name_writes(old, new).await?;
        let slug_of = |monitor: Option<&Monitor>| monitor.map(|monitor| monitor.slug.clone());
        if slug_of(old) != slug_of(new) {
            if let Some(old) = old.filter(|old| !old.slug.is_empty()) {
                writes.push(self.slug_update(old, "DELETE", ""));
            }
            if let Some(new) = new.filter(|new| !new.slug.is_empty()) {
                writes.push(self.slug_update(new, "ADD", ""));
            }
        }
        Ok(writes)
    }

    /// What leads to a monitor by its name, where that changes: the name is the first one's that has it.
    async fn name_writes(
        &self,
        old: Option<&Monitor>,
        new: Option<&Monitor>,
    ) -> Result<Vec<TransactWriteItem>> {
        let mut writes = Vec::new();
        let name_of = |monitor: Option<&Monitor>| {
            monitor
                .filter(|monitor| monitor.has_heartbeat_name())
                .map(|monitor| monitor.name.clone())
        };
        if name_of(old) != name_of(new) {
            if let (Some(old), Some(name)) = (old, name_of(old))
                && self.monitor_named(old.project, &name).await? == Some(old.id)
            {
                let id = s(old.id.to_string());
                let key = Key::name(old.project, &name);
                writes.push(self.remove_if(&key, &[], "monitor = :id", vec![(":id", id)]));
            }
            if let (Some(new), Some(name)) = (new, name_of(new))
                && self.monitor_named(new.project, &name).await?.is_none()
            {
                writes.push(self.create(item::name(new)));
            }
        }
        Ok(writes)
    }

    /// Adds a monitor to those that its slug means, or takes it away.
    fn slug_update(&self, monitor: &Monitor, action: &str, condition: &str) -> TransactWriteItem {
        self.update(
            &Key::slug(monitor.project, &monitor.slug),
            &format!("SET kind = :kind, v = :v {action} ids :ids"),
            condition,
            &[],
            vec![
                (":kind", s("slug")),
                (":v", n(item::MAPPING_VERSION)),
                (":ids", AttributeValue::Ss(vec![monitor.id.to_string()])),
            ],
        )
    }

    /// Counts a monitor that is made, changed or deleted.
    pub(super) fn count(
        &self,
        project: ProjectId,
        by: i64,
        limit: Option<u32>,
        after: Option<Census>,
    ) -> TransactWriteItem {
        let mut conditions = Vec::new();
        let mut values = vec![
            (":by", n(by)),
            (":one", n(1)),
            (":kind", s("census")),
            (":v", n(item::MAPPING_VERSION)),
        ];
        if let Some(limit) = limit {
            conditions.push("(attribute_not_exists(#n) OR #n < :limit)");
            values.push((":limit", n(limit)));
        }
        match after {
            Some(Census { changes: 0, .. }) => conditions.push("attribute_not_exists(changes)"),
            Some(Census { changes, .. }) => {
                conditions.push("changes = :changes");
                values.push((":changes", n(changes)));
            }
            None => {}
        }
        self.update(
            &Key::census(project),
            "SET kind = :kind, v = :v ADD #n :by, changes :one",
            &conditions.join(" AND "),
            &[("#n", "n")],
            values,
        )
    }
}

impl Census {
    /// Whether the project may have one more.
    pub fn has_room(self, limit: Option<u32>) -> bool {
        limit.is_none_or(|limit| self.n < i64::from(limit))
    }
}
