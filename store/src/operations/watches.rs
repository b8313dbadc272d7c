//! Watches and their states.

use super::Counted;
use super::commit::FIRST_AUDIT_MS;
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
use thrum_schema::signal::watch::{Watch, WatchState};
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

    /// The state of a watch. 1 RU.
    pub async fn watch_state(&self, watch: WatchId) -> Result<Option<WatchState>> {
        self.get(Key::watch_state(watch)).await
    }

    /// The states of watches. 1 RU each.
    pub async fn watch_states(&self, watches: &[WatchId]) -> Result<Vec<Option<WatchState>>> {
        futures::future::try_join_all(watches.iter().map(|watch| self.watch_state(*watch))).await
    }

    /// Creates a watch, its state, and its entry in the series' head. 6 WU.
    pub async fn create_watch(&self, watch: &Watch, counted: &Counted) -> Result<()> {
        let place = add("watches", strings([watch.id])).set("followed", true);
        self.transact(vec![
            create(item::watch(watch)),
            create(item::watch_state(watch.id, &WatchState::default())),
            at_head(watch, place),
            counted.write(),
        ])
        .await
    }

    /// Replaces a watch that exists; with `state`, also its state, guarded by the state's version.
    /// 1 to 4 WU.
    ///
    /// # Errors
    /// [`crate::StoreError::Conflict`] if it is gone, or was evaluated concurrently.
    pub async fn replace_watch(&self, watch: &Watch, state: Option<&WatchState>) -> Result<()> {
        let mut writes = vec![put(item::watch(watch)).when(exists())];
        writes.extend(state.map(|state| replace_state(watch.id, state)));
        self.transact(writes).await
    }

    /// Deletes a watch, its state, and its entry in the series' head. 6 WU.
    pub async fn delete_watch(&self, watch: &Watch) -> Result<()> {
        let place = take_from("watches", strings([watch.id]));
        self.transact(vec![
            delete(Key::watch(watch.project, watch.id)),
            delete(Key::watch_state(watch.id)),
            at_head(watch, place).when(exists()),
        ])
        .await
    }

    /// Writes the result of an evaluation, guarded by the state's version: the state, the alert
    /// with its audit timer, and the timer for the next evaluation. 1 to 8 WU.
    ///
    /// # Errors
    /// [`crate::StoreError::Conflict`] if it is gone, or was evaluated concurrently.
    pub async fn put_watch_state(
        &self,
        watch: &Watch,
        state: &WatchState,
        alert: Option<&Alert>,
        timer: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<()> {
        let mut writes = vec![replace_state(watch.id, state)];
        if let Some(alert) = alert {
            writes.push(create(item::alert(alert)));
            writes.push(put(self.audit_item(
                alert.project,
                alert.id,
                now + FIRST_AUDIT_MS,
            )));
        }
        if let Some(due) = timer {
            let what = What::Watch {
                project: watch.project,
                watch: watch.id,
                epoch: state.epoch,
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

/// A change of a watch's entry in its series' head.
fn at_head(watch: &Watch, change: Update) -> Write {
    head_update(watch.project, &watch.series, watch.timeframe, false, change)
}

/// Replaces the state of a watch, if the version that was read is still current.
fn replace_state(watch: WatchId, state: &WatchState) -> Write {
    let next = WatchState {
        version: state.version + 1,
        ..state.clone()
    };
    let replaced = put(item::watch_state(watch, &next));
    if mutant::is(Mutant::WatchStateUnguarded) {
        return replaced;
    }
    replaced.when(attr("version").eq(state.version))
}
