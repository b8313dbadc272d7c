//! Watches, and what they remember.

use super::series::HeadChange;
use super::{Query, Result, Store};
use crate::alert::Alert;
use crate::id::{ProjectId, WatchId};
use crate::item::{self, Key, n};
use crate::metrics::Count;
use crate::mutant::{self, Mutant};
use crate::signal::watch::{Memory, Watch};
use crate::time::UnixMs;
use crate::timer::{Timer, What};
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

impl Store {
    /// A watch. 1 RU.
    pub async fn watch(&self, project: ProjectId, watch: WatchId) -> Result<Option<Watch>> {
        self.get(&Key::watch(project, watch)).await
    }

    /// The watches of a project. 0.5 RU per 4 kB.
    pub async fn watches(&self, project: ProjectId) -> Result<Vec<Watch>> {
        let pk = Key::project(project).pk;
        self.query_prefix(&pk, "W#", Query::default()).await
    }

    /// What a watch remembers. 1 RU.
    pub async fn memory(&self, watch: WatchId) -> Result<Option<Memory>> {
        self.get(&Key::memory(watch)).await
    }

    /// What watches remember. 1 RU each.
    pub async fn memories(&self, watches: &[WatchId]) -> Result<Vec<Option<Memory>>> {
        futures::future::try_join_all(watches.iter().map(|watch| self.memory(*watch))).await
    }

    /// Makes a watch, its memory, and its place at the series' head. 6 WU.
    pub async fn create_watch(&self, watch: &Watch) -> Result<()> {
        let place = HeadChange {
            set: ", followed = :true",
            action: "ADD watches :watch",
            values: vec![(":true", AttributeValue::Bool(true))],
            ..HeadChange::quiet()
        };
        let head = self.head_update(watch, place);
        self.transact(vec![
            self.create(item::watch(watch)),
            self.create(item::memory(watch.id, &Memory::default())),
            head,
        ])
        .await
    }

    /// Changes a watch that is there; with a `memory`, which is guarded by its version, what it remembers too. 1 to 4 WU.
    ///
    /// # Errors
    /// [`super::StoreError::Conflict`] if it is gone, or looked meanwhile.
    pub async fn replace_watch(&self, watch: &Watch, memory: Option<&Memory>) -> Result<()> {
        let put = self
            .put_item(item::watch(watch))
            .condition_expression("attribute_exists(pk)");
        let put = TransactWriteItem::builder()
            .put(put.build().expect("complete"))
            .build();
        let mut writes = vec![put];
        writes.extend(memory.map(|memory| self.replace_memory(watch.id, memory)));
        self.transact(writes).await
    }

    /// Deletes a watch, what it remembers, and its place at the series' head. 6 WU.
    pub async fn delete_watch(&self, watch: &Watch) -> Result<()> {
        let place = HeadChange {
            action: "DELETE watches :watch",
            condition: "attribute_exists(pk)",
            ..HeadChange::quiet()
        };
        let head = self.head_update(watch, place);
        self.transact(vec![
            self.remove(&Key::watch(watch.project, watch.id)),
            self.remove(&Key::memory(watch.id)),
            head,
        ])
        .await
    }

    /// The place of a watch at its series' head: taken by an `action` of `ADD`, given back by one of `DELETE`.
    fn head_update(&self, watch: &Watch, change: HeadChange) -> TransactWriteItem {
        let (condition, names) = (change.condition, change.names);
        let mut change = change;
        let id = AttributeValue::Ss(vec![watch.id.to_string()]);
        change.values.push((":watch", id));
        let (expression, values) = change.expression(&watch.series, watch.timeframe);
        let key = Key::head(watch.project, &watch.series, watch.timeframe);
        self.update(&key, &expression, condition, names, values)
    }

    /// The memory in its next version, on condition that it is still there in the one that was read.
    fn replace_memory(&self, watch: WatchId, memory: &Memory) -> TransactWriteItem {
        let next = Memory {
            version: memory.version + 1,
            ..memory.clone()
        };
        let mut put = self.put_item(item::memory(watch, &next));
        if !mutant::is(Mutant::MemoryUnguarded) {
            put = put
                .condition_expression("version = :version")
                .expression_attribute_values(":version", n(memory.version));
        }
        TransactWriteItem::builder()
            .put(put.build().expect("complete"))
            .build()
    }

    /// Writes what a watch remembers after a look, the alert that it raised with its audit timer, and the timer that looks
    /// again, together; guarded by the memory's version. 1 to 8 WU.
    ///
    /// # Errors
    /// [`super::StoreError::Conflict`] if it is gone, or another looked meanwhile.
    pub async fn remember(
        &self,
        watch: &Watch,
        memory: &Memory,
        alert: Option<&Alert>,
        timer: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<()> {
        let mut writes = vec![self.replace_memory(watch.id, memory)];
        if let Some(alert) = alert {
            writes.push(self.create(item::alert(alert)));
            writes.push(self.write(self.audit_item(alert, now + super::heartbeat::FIRST_AUDIT_MS)));
        }
        if let Some(due) = timer {
            let what = What::Watch {
                project: watch.project,
                watch: watch.id,
                epoch: memory.epoch,
            };
            let due = due.max(now);
            writes.push(self.write(self.timer_item(Timer { due, what })));
        }
        self.transact(writes).await?;
        let alerts = u64::from(alert.is_some());
        self.metrics.count(Count::Alerts, alerts);
        Ok(())
    }
}
