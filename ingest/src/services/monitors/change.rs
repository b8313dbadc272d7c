//! Changes to monitors: create, edit, pause, resume, snooze, delete.

use super::{FindError, Monitors};
use thiserror::Error;
use thrum_schema::announce::after_edit;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::transition::{Event, Outcome, transitions};
use thrum_schema::{Monitor, MonitorState, UnixMs};
use thrum_store::{Change, Claims, Commit, Creation, RETRY_WRITES_MS, Snapshot, StoreError};

/// Why a monitor was not changed; `E` is the error of the function that edits it.
#[derive(Debug, Error)]
pub enum ChangeError<E> {
    #[error("there is no such monitor")]
    NotFound,
    #[error("the project has as many monitors as its plan allows")]
    Full,
    #[error("there is a monitor with this uuid")]
    Taken,
    #[error("refused")]
    Refused(E),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A change to a monitor.
#[derive(Debug, Default)]
pub struct Edit {
    /// The new configuration, if it changes.
    pub monitor: Option<Monitor>,
    /// The events to apply.
    pub events: Vec<Event<'static>>,
}

impl Edit {
    /// Changes the configuration.
    pub fn to(monitor: Monitor) -> Self {
        Self {
            monitor: Some(monitor),
            events: Vec::new(),
        }
    }

    /// Applies an event.
    pub fn event(event: Event<'static>) -> Self {
        Self {
            monitor: None,
            events: vec![event],
        }
    }
}

/// The result of an upsert.
#[derive(Debug)]
pub struct Upserted {
    /// The monitor after the upsert.
    pub found: Snapshot,
    /// Whether it was created.
    pub created: bool,
}

/// Whether an upsert should update this monitor.
pub type Means<'a> = &'a (dyn Fn(&Monitor) -> bool + Sync);

impl Monitors {
    /// Whether the project's plan has room for another monitor.
    pub async fn has_room(&self, project: ProjectId) -> Result<bool, StoreError> {
        let limit = self.accounts.limits(project).await?.monitors;
        Ok(limit.is_none() || self.store.census(project).await?.has_room(limit))
    }

    /// Changes a monitor with `edit`, which may be called more than once, and returns the new
    /// monitor and state.
    pub async fn change<E: Send>(
        &self,
        found: &Snapshot,
        edit: impl Fn(&Monitor, &MonitorState) -> Result<Edit, E> + Send,
    ) -> Result<Snapshot, ChangeError<E>> {
        let mut before = found.monitor.clone();
        let updated = self
            .store
            .update_monitor(found.clone(), RETRY_WRITES_MS, |current, now| {
                let edit = edit(&current.monitor, &current.state).map_err(ChangeError::Refused)?;
                before.clone_from(&current.monitor);
                Ok::<_, ChangeError<E>>(change_of(current, edit, now))
            });
        let after = updated.await?.ok_or(ChangeError::NotFound)?.now;
        if after.monitor != before {
            self.forget(&before);
            self.forget(&after.monitor);
            self.note(&after.monitor, after.state.version);
            self.expectations_changed(&before, &after.monitor).await;
        }
        Ok(after)
    }

    /// Applies `make` to the oldest monitor of the project that `means` accepts, or else to a blank
    /// monitor and creates it; `make` also gets whether the monitor is new. However many requests race, they create only one monitor.
    pub async fn upsert<E: Send>(
        &self,
        project: ProjectId,
        means: Option<Means<'_>>,
        slug: Option<&str>,
        make: impl Fn(&Monitor, bool) -> Result<Monitor, E> + Send + Sync,
    ) -> Result<Upserted, ChangeError<E>> {
        let limit = self.accounts.limits(project).await?.monitors;
        let started = self.store.world().now();
        for attempt in 0.. {
            let now = self.store.world().now();
            if now - started > RETRY_WRITES_MS {
                break;
            }
            let count = self.store.census(project).await?;
            if let Some(means) = means
                && let Some(existing) = self.oldest(project, slug, means).await?
            {
                // Deleted in the meantime: count again, and create it after all.
                let Some(found) = self.store.snapshot(existing).await? else {
                    continue;
                };
                let edit = |monitor: &Monitor, _: &MonitorState| make(monitor, false).map(Edit::to);
                match self.change(&found, edit).await {
                    Err(ChangeError::NotFound) => continue,
                    result => {
                        return Ok(Upserted {
                            found: result?,
                            created: false,
                        });
                    }
                }
            }
            let id = MonitorId(self.store.world().uuid_v4());
            let monitor =
                make(&Monitor::new(id, project, now), true).map_err(ChangeError::Refused)?;
            if !count.has_room(limit) {
                return Err(ChangeError::Full);
            }
            // Others may still name the ID of a deleted monitor as their parent.
            let may_cycle = monitor.id != id && !monitor.options.parents.is_empty();
            if may_cycle {
                self.store.check_parents(&monitor).await?;
            }
            let state = MonitorState::new(&monitor);
            let outcome = transitions(&monitor, &state, &[], now);
            let creation = Creation {
                commit: Commit {
                    monitor: &monitor,
                    before: None,
                    outcome: &outcome,
                    alert: None,
                    was: None,
                },
                claims: Claims::Shared,
                limit,
                after: (means.is_some() || may_cycle).then_some(count),
            };
            match self.store.create_monitor(&creation, now).await {
                Ok(()) => {
                    self.follow_expected(&monitor).await;
                    return Ok(self.created(monitor, outcome));
                }
                Err(StoreError::Conflict)
                    if monitor.id != id && self.store.locate(monitor.id).await?.is_some() =>
                {
                    return Err(ChangeError::Taken);
                }
                Err(StoreError::Conflict) => self.store.back_off(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    fn created(&self, monitor: Monitor, outcome: Outcome) -> Upserted {
        self.forget(&monitor);
        self.note(&monitor, outcome.state.version);
        Upserted {
            found: Snapshot {
                monitor,
                state: outcome.state,
                stored: true,
            },
            created: true,
        }
    }

    /// The oldest monitor of the project that `means` accepts; if `slug` is given, only among those
    /// with that slug.
    async fn oldest(
        &self,
        project: ProjectId,
        slug: Option<&str>,
        means: Means<'_>,
    ) -> Result<Option<MonitorId>, StoreError> {
        let Some(slug) = slug.filter(|slug| !slug.is_empty()) else {
            let monitors = self.list(project).await?;
            let oldest = monitors.iter().find(|monitor| means(monitor));
            return Ok(oldest.map(|monitor| monitor.id));
        };
        let ids = self.store.monitors_with_slug(project, slug).await?;
        let monitors = self.store.monitors_by_id(project, &ids).await?;
        let found = monitors.iter().filter(|monitor| means(monitor));
        let oldest = found.min_by_key(|monitor| (monitor.created, monitor.id));
        Ok(oldest.map(|monitor| monitor.id))
    }

    /// Deletes a monitor, and returns its last configuration and state.
    ///
    /// # Errors
    /// [`FindError::NotFound`] if it is already gone.
    pub async fn delete(&self, mut found: Snapshot) -> Result<Snapshot, FindError> {
        let started = self.store.world().now();
        for attempt in 0.. {
            if self.store.world().now() - started > RETRY_WRITES_MS {
                break;
            }
            match self.store.delete_monitor(&found.monitor).await {
                Ok(()) => {
                    let (project, id) = (found.monitor.project, found.monitor.id);
                    self.forget(&found.monitor);
                    self.cache.note(project, id, u64::MAX, None);
                    return Ok(found);
                }
                Err(StoreError::Conflict) => self.store.back_off(attempt).await,
                Err(error) => return Err(error.into()),
            }
            let newer = self.store.snapshot(found.monitor.id).await?;
            found = newer.ok_or(FindError::NotFound)?;
        }
        Err(StoreError::Conflict.into())
    }
}

/// The change that an edit makes; `None` if it changes nothing.
fn change_of(current: &Snapshot, edit: Edit, now: UnixMs) -> Option<Change> {
    let old = &current.monitor;
    let monitor = edit.monitor.unwrap_or_else(|| old.clone());
    let mut events = edit.events;
    if moves_deadlines(old, &monitor) {
        events.insert(0, Event::Reconfigured);
    }
    let mut outcome = transitions(&monitor, &current.state, &events, now);
    if !outcome.changed(&current.state) {
        if monitor == *old {
            return None;
        }
        // The version guards the configuration, too.
        outcome.state.version += 1;
    }
    after_edit(old, &monitor, &mut outcome, now);
    Some(Change {
        monitor: Some(monitor),
        ..Change::of(outcome)
    })
}

/// Whether an edit moves deadlines. Only then are they recomputed, without the extra time given for
/// an outage of Thrum.
fn moves_deadlines(old: &Monitor, new: &Monitor) -> bool {
    let of = |monitor: &Monitor| {
        let options = &monitor.options;
        (
            monitor.schedule.clone(),
            monitor.grace_s,
            options.start_grace_s,
            options.all_runs,
        )
    };
    of(old) != of(new)
}
