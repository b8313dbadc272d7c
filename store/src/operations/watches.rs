//! Watches, and what they remember.

use super::heartbeat::FIRST_AUDIT_MS;
use super::series::head_update;
use crate::item;
use crate::key::Key;
use crate::table::{
    Query, Update, Write, add, attr, create, delete, exists, put, strings, take_from,
};
use crate::{Result, Store};
use thrum_schema::alert::Alert;
use thrum_schema::id::{ProjectId, WatchId};
use thrum_schema::metrics::Count;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::signal::watch::{Memory, Watch};
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{Timer, What};

impl Store {
    /// A watch. 1 RU.
    pub async fn watch(&self, project: ProjectId, watch: WatchId) -> Result<Option<Watch>> {
        self.get(Key::watch(project, watch)).await
    }

    /// The watches of a project. 0.5 RU per 4 kB.
    pub async fn watches(&self, project: ProjectId) -> Result<Vec<Watch>> {
        let pk = Key::project(project).pk;
        self.query(Query::of(pk).prefix("W#").eventual()).await
    }

    /// What a watch remembers. 1 RU.
    pub async fn memory(&self, watch: WatchId) -> Result<Option<Memory>> {
        self.get(Key::memory(watch)).await
    }

    /// What watches remember. 1 RU each.
    pub async fn memories(&self, watches: &[WatchId]) -> Result<Vec<Option<Memory>>> {
        futures::future::try_join_all(watches.iter().map(|watch| self.memory(*watch))).await
    }

    /// Makes a watch, its memory, and its place at the series' head. 6 WU.
    pub async fn create_watch(&self, watch: &Watch) -> Result<()> {
        let place = add("watches", strings([watch.id])).set("followed", true);
        self.transact(vec![
            create(item::watch(watch)),
            create(item::memory(watch.id, &Memory::default())),
            at_head(watch, place),
        ])
        .await
    }

    /// Changes a watch that is there; with a `memory`, which is guarded by its version, what it remembers too. 1 to 4 WU.
    ///
    /// # Errors
    /// [`crate::StoreError::Conflict`] if it is gone, or looked meanwhile.
    pub async fn replace_watch(&self, watch: &Watch, memory: Option<&Memory>) -> Result<()> {
        let mut writes = vec![put(item::watch(watch)).when(exists())];
        writes.extend(memory.map(|memory| replace_memory(watch.id, memory)));
        self.transact(writes).await
    }

    /// Deletes a watch, what it remembers, and its place at the series' head. 6 WU.
    pub async fn delete_watch(&self, watch: &Watch) -> Result<()> {
        let place = take_from("watches", strings([watch.id]));
        self.transact(vec![
            delete(Key::watch(watch.project, watch.id)),
            delete(Key::memory(watch.id)),
            at_head(watch, place).when(exists()),
        ])
        .await
    }

    /// Writes what a watch remembers after a look, the alert that it raised with its audit timer, and the timer that looks
    /// again, together; guarded by the memory's version. 1 to 8 WU.
    ///
    /// # Errors
    /// [`crate::StoreError::Conflict`] if it is gone, or another looked meanwhile.
    pub async fn remember(
        &self,
        watch: &Watch,
        memory: &Memory,
        alert: Option<&Alert>,
        timer: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<()> {
        let mut writes = vec![replace_memory(watch.id, memory)];
        if let Some(alert) = alert {
            writes.push(create(item::alert(alert)));
            writes.push(put(self.audit_item(alert, now + FIRST_AUDIT_MS)));
        }
        if let Some(due) = timer {
            let what = What::Watch {
                project: watch.project,
                watch: watch.id,
                epoch: memory.epoch,
            };
            let due = due.max(now);
            writes.push(put(self.timer_item(Timer { due, what })));
        }
        self.transact(writes).await?;
        let alerts = u64::from(alert.is_some());
        self.metrics.count(Count::Alerts, alerts);
        Ok(())
    }
}

/// A change of a watch's place at the head of its series.
fn at_head(watch: &Watch, change: Update) -> Write {
    head_update(watch.project, &watch.series, watch.timeframe, false, change)
}

/// The memory in its next version, on condition that it is still there in the one that was read.
fn replace_memory(watch: WatchId, memory: &Memory) -> Write {
    let next = Memory {
        version: memory.version + 1,
        ..memory.clone()
    };
    let replaced = put(item::memory(watch, &next));
    if mutant::is(Mutant::MemoryUnguarded) {
        return replaced;
    }
    replaced.when(attr("version").eq(memory.version))
}
