//! Monitors: finds them by id, name, slug, badge and project; creates, renames and deletes them.

use super::Touched;
use super::census::{Census, count};
use super::commit::Commit;
use super::dependencies::relink;
use crate::item::{self, MAPPING_VERSION};
use crate::key::Key;
use crate::table::{
    Query, Update, Write, add, attr, create, delete, exists, strings, take_from, update,
};
use crate::{RETRY_CREATION_FOR, Result, Store};
use serde::Deserialize;
use std::collections::HashSet;
use thrum_schema::fence::REROUTED_MS;
use thrum_schema::id::{BadgeId, MonitorId, ProjectId};
use thrum_schema::monitor::{Monitor, slugify};
use thrum_schema::outage::Outage;
use thrum_schema::state::MonitorState;
use thrum_schema::time::UnixMs;

/// What must be unique about a new monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// Its name, and its slug if it has one, must be free: of concurrent creations, one succeeds.
    Name,
    /// Its slug must be free: of concurrent creations, one succeeds. Its name may be shared.
    Slug,
    /// Both may be shared. If no other monitor has its name, heartbeats with that name go to it.
    Shared,
}

/// A monitor to create.
#[derive(Debug)]
pub struct Creation<'a> {
    /// The monitor, and its first event.
    pub commit: Commit<'a>,
    /// What must be unique.
    pub claims: Claims,
    /// Maximum monitors of the project, including this one.
    pub limit: Option<u32>,
    /// The census when the monitor was found not to exist: no monitor may have changed since.
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
        self.get(Key::monitor(project, monitor)).await
    }

    /// The monitor with `name` in heartbeats. 1 RU.
    pub async fn monitor_named(&self, project: ProjectId, name: &str) -> Result<Option<MonitorId>> {
        let found: Option<To> = self.get(Key::name(project, name)).await?;
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
        let found: Option<Slug> = self.get(Key::slug(project, slug)).await?;
        Ok(found.map(|found| found.ids).unwrap_or_default())
    }

    /// The monitor of `project` with this [unique key](Monitor::unique_key). 1 RU.
    pub async fn monitor_by_unique_key(
        &self,
        project: ProjectId,
        unique_key: &str,
    ) -> Result<Option<MonitorId>> {
        let found: Option<To> = self.get(Key::unique_key(project, unique_key)).await?;
        Ok(found.map(|found| found.monitor))
    }

    /// The monitor of a public badge, and its project. 1 RU.
    pub async fn monitor_by_badge(&self, badge: BadgeId) -> Result<Option<(ProjectId, MonitorId)>> {
        let found: Option<To> = self.get(Key::badge(badge)).await?;
        Ok(found.map(|found| (found.project, found.monitor)))
    }

    /// A project's monitors. 1 RU per 4 kB.
    pub async fn monitors(&self, project: ProjectId) -> Result<Vec<Monitor>> {
        self.query(Query::of(Key::project(project).pk).prefix("M#"))
            .await
    }

    /// The first `limit` monitors of a project after `after`, in the order of their IDs. 1 RU per 4 kB.
    pub async fn monitors_after(
        &self,
        project: ProjectId,
        after: Option<MonitorId>,
        limit: usize,
    ) -> Result<Vec<Monitor>> {
        let mut query = Query::of(Key::project(project).pk)
            .prefix("M#")
            .limit(limit);
        query.after = after.map(|after| Key::monitor(project, after));
        self.query(query).await
    }

    /// Which of these monitors have an owner. 0.5 RU each.
    pub async fn owned(&self, monitors: &[MonitorId]) -> Result<HashSet<MonitorId>> {
        #[derive(Deserialize)]
        struct Owned {
            pk: String,
        }
        let keys = monitors.iter().map(|id| Key::owner(*id)).collect();
        let found: Vec<Owned> = self.get_many_eventual(keys).await?;
        let ids = found.iter().filter_map(|owned| owned.pk.strip_prefix("M#"));
        Ok(ids
            .filter_map(|id| id.parse().ok())
            .map(MonitorId)
            .collect())
    }

    /// Creates what leads to a monitor, as far as it is missing: its creation was replicated in part. 5 WU.
    pub async fn complete_monitor(&self, monitor: &Monitor) -> Result<()> {
        for found_by in [
            item::owner(monitor),
            item::badge(monitor),
            item::unique_key(monitor),
        ] {
            self.try_write(create(found_by)).await?;
        }
        if monitor.has_heartbeat_name() {
            self.try_write(create(item::name(monitor))).await?;
        }
        if !monitor.slug.is_empty() {
            self.write(join_slug(monitor)).await?;
        }
        Ok(())
    }

    /// Whether a monitor is one that a region had created just before it was lost, and that was created again by a
    /// heartbeat before it was replicated: another one has its name, and gets its heartbeats. 2 RU for a monitor that
    /// was created shortly before a takeover.
    pub async fn is_left_behind(
        &self,
        monitor: &Monitor,
        state: &MonitorState,
        outages: &[Outage],
    ) -> Result<bool> {
        if !monitor.has_heartbeat_name() || !is_of_lost_region(monitor, outages) {
            return Ok(false);
        }
        let named = self.monitor_named(monitor.project, &monitor.name).await?;
        let Some(named) = named.filter(|named| *named != monitor.id) else {
            return Ok(false);
        };
        let other = self.monitor(monitor.project, named).await?;
        Ok(other.is_some_and(|other| {
            let is_silent = state.seen.is_none_or(|seen| seen < other.created);
            other.created > monitor.created && is_silent
        }))
    }

    /// Removes the state of a monitor that has no configuration, so that its heartbeats are refused. 2 WU.
    pub async fn forget_state(&self, monitor: MonitorId) -> Result<()> {
        tracing::warn!(%monitor, "the configuration of a monitor was lost with another region: its heartbeats are refused");
        for key in [Key::owner(monitor), Key::state(monitor)] {
            self.write(delete(key)).await?;
        }
        Ok(())
    }

    /// Removes a name or slug from a monitor that has no configuration: the region that had created it was lost before
    /// all of it was replicated, and the name would stay taken. 3 RU, and 2 WU.
    pub async fn release_name(
        &self,
        project: ProjectId,
        name: &str,
        monitor: MonitorId,
    ) -> Result<()> {
        if self.monitor(project, monitor).await?.is_some() {
            return Ok(());
        }
        let own = attr("monitor").eq(monitor);
        let freed = delete(Key::name(project, name)).when(own);
        if self.try_write(freed).await? {
            tracing::warn!(%project, %monitor, "freed the name of a monitor whose configuration was lost with another region; the next heartbeat creates it again");
        }
        let mut slugs = vec![name.to_owned()];
        slugs.extend(Some(slugify(name)).filter(|slug| slug != name && !slug.is_empty()));
        for slug in slugs {
            if self
                .monitors_with_slug(project, &slug)
                .await?
                .contains(&monitor)
            {
                let left = take_from("ids", strings([monitor]));
                self.try_write(update(Key::slug(project, &slug), left).when(exists()))
                    .await?;
            }
        }
        Ok(())
    }

    /// Monitors of a project by their ids, without missing ones. 1 RU each.
    pub async fn monitors_by_id(
        &self,
        project: ProjectId,
        ids: &[MonitorId],
    ) -> Result<Vec<Monitor>> {
        let keys = ids.iter().map(|id| Key::monitor(project, *id));
        self.get_many(keys.collect()).await
    }

    /// The states of monitors in any order, without missing ones. 1 RU each, 100 per call.
    pub async fn states(&self, monitors: &[MonitorId]) -> Result<Vec<MonitorState>> {
        self.get_many(monitors.iter().map(|id| Key::state(*id)).collect())
            .await
    }

    /// The states of monitors, possibly without the latest writes. 0.5 RU each.
    pub async fn states_lately(&self, monitors: &[MonitorId]) -> Result<Vec<MonitorState>> {
        let keys = monitors.iter().map(|id| Key::state(*id)).collect();
        self.get_many_eventual(keys).await
    }

    /// Creates a monitor together with its first event, and counts it. 2 WU for each of monitor,
    /// owner, state, name, slug, badge, unique key and census, and for what the event writes; 30 WU more
    /// if it depends on the census; 1 RU if the plan limits the monitors.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if a name or slug that it claims is
    /// taken, if the project has too many monitors, or if a monitor was created after the given
    /// count.
    pub async fn create_monitor(&self, creation: &Creation<'_>, now: UnixMs) -> Result<()> {
        let commit = &creation.commit;
        let monitor = commit.monitor;
        let mut writes = vec![
            create(item::monitor(monitor)),
            create(item::owner(monitor)),
            create(item::state(&commit.outcome.state)),
            create(item::badge(monitor)),
            create(item::unique_key(monitor)),
        ];
        let (limit, after) = (creation.limit, creation.after);
        writes.extend(
            self.admit(monitor.project, monitor.id, limit, after)
                .await?,
        );
        match creation.claims {
            Claims::Name => {
                writes.push(create(item::name(monitor)));
                if !monitor.slug.is_empty() {
                    writes.push(join_slug(monitor).when(attr("ids").missing()));
                }
            }
            Claims::Slug => {
                writes.extend(self.name_writes(None, Some(monitor)).await?);
                writes.push(join_slug(monitor).when(attr("ids").missing()));
            }
            Claims::Shared => writes.extend(self.rename(None, Some(monitor)).await?),
        }
        writes.extend(relink(None, Some(monitor)));
        writes.extend(self.consequences(commit, now));
        self.transact_within(writes, RETRY_CREATION_FOR).await?;
        self.count_commit(commit);
        Ok(())
    }

    /// Deletes a monitor and everything that points to it; TTL removes its log and history. 2 WU
    /// each.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if it is gone, or changed
    /// concurrently.
    pub async fn delete_monitor(&self, monitor: &Monitor) -> Result<()> {
        // A new parent would keep an item about this monitor.
        let same_options = match item::monitor(monitor).get("options") {
            Some(options) => attr("options").eq(options.clone()),
            None => attr("options").missing(),
        };
        let mut writes = vec![
            delete(Key::monitor(monitor.project, monitor.id)).when(
                attr("name")
                    .eq(&*monitor.name)
                    .and(attr("slug").eq(&*monitor.slug))
                    .and(same_options),
            ),
            delete(Key::owner(monitor.id)),
            delete(Key::state(monitor.id)),
            delete(Key::badge(monitor.badge())),
            delete(Key::unique_key(monitor.project, &monitor.unique_key())),
        ];
        writes.extend(count(monitor.project, monitor.id, -1, None));
        writes.extend(relink(Some(monitor), None));
        writes.extend(self.rename(Some(monitor), None).await?);
        self.transact(writes).await?;
        self.note_touched(Touched::Changed(monitor.project, monitor.id));
        Ok(())
    }

    /// The writes that update how name and slug find a monitor, where they change. 1 RU per name.
    pub(super) async fn rename(
        &self,
        old: Option<&Monitor>,
        new: Option<&Monitor>,
    ) -> Result<Vec<Write>> {
        let mut writes = self.name_writes(old, new).await?;
        let slug_of = |monitor: Option<&Monitor>| monitor.map(|monitor| monitor.slug.clone());
        if slug_of(old) != slug_of(new) {
            if let Some(old) = old.filter(|old| !old.slug.is_empty()) {
                writes.push(leave_slug(old));
            }
            if let Some(new) = new.filter(|new| !new.slug.is_empty()) {
                writes.push(join_slug(new));
            }
        }
        Ok(writes)
    }

    /// The writes that update how the name finds a monitor, where it changes: a name belongs to the
    /// first monitor that has it.
    async fn name_writes(
        &self,
        old: Option<&Monitor>,
        new: Option<&Monitor>,
    ) -> Result<Vec<Write>> {
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
                let own = attr("monitor").eq(old.id);
                writes.push(delete(Key::name(old.project, &name)).when(own));
            }
            if let (Some(new), Some(name)) = (new, name_of(new))
                && self.monitor_named(new.project, &name).await?.is_none()
            {
                writes.push(create(item::name(new)));
            }
        }
        Ok(writes)
    }
}

/// Whether a monitor was created just before a takeover, so that some of it may not have been replicated.
pub fn is_of_lost_region(monitor: &Monitor, outages: &[Outage]) -> bool {
    let mut takeovers = outages.iter().filter(|outage| outage.takeover);
    takeovers.any(|outage| (outage.start..outage.end - REROUTED_MS).contains(&monitor.created))
}

/// Adds a monitor to its slug.
fn join_slug(monitor: &Monitor) -> Write {
    slug_update(monitor, add("ids", strings([monitor.id])))
}

/// Removes a monitor from its slug.
fn leave_slug(monitor: &Monitor) -> Write {
    slug_update(monitor, take_from("ids", strings([monitor.id])))
}

fn slug_update(monitor: &Monitor, change: Update) -> Write {
    let key = Key::slug(monitor.project, &monitor.slug);
    update(key, change.set("kind", "slug").set("v", MAPPING_VERSION))
}
