//! Changing monitors: made, edited, paused, resumed, snoozed, deleted. Each change is the state machine's outcome,
//! written guarded by the state's version, again and again until no other write comes between.

use crate::app::App;
use crate::record::RETRY_FOR_MS;
use std::time::Duration;
use thiserror::Error;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::transition::{Event, Outcome, transitions};
use thrum_schema::{Monitor, MonitorState, Status, UnixMs};
use thrum_store::StoreError;
use thrum_store::{Claims, Commit, Creation};

/// Why a monitor was not changed; `E` is what its editor says against it.
#[derive(Debug, Error)]
pub enum ChangeError<E> {
    #[error("there is no such monitor")]
    NotFound,
    #[error("the monitor belongs to another project")]
    Foreign,
    #[error("the project has as many monitors as its plan allows")]
    Full,
    #[error("refused")]
    Refused(E),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What becomes of a monitor.
#[derive(Debug, Default)]
pub struct Edit {
    /// The monitor as it is to be, if its configuration changes.
    pub monitor: Option<Monitor>,
    /// What happens to it.
    pub events: Vec<Event<'static>>,
}

impl Edit {
    /// The monitor becomes this.
    pub fn to(monitor: Monitor) -> Self {
        Self {
            monitor: Some(monitor),
            events: Vec::new(),
        }
    }

    /// This happens to the monitor.
    pub fn event(event: Event<'static>) -> Self {
        Self {
            monitor: None,
            events: vec![event],
        }
    }
}

/// A monitor and its state.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its configuration.
    pub monitor: Monitor,
    /// Its state; the one that stands for it, if TTL removed its own.
    pub state: MonitorState,
    /// Whether it has one.
    held: bool,
}

/// What an upsert came to.
#[derive(Debug)]
pub struct Upserted {
    /// The monitor afterwards.
    pub found: Found,
    /// Whether it was made.
    pub created: bool,
}

impl Found {
    /// How many runs it missed so far, those since it was last heard of included.
    pub fn missed(&self, now: UnixMs) -> u64 {
        let watched = matches!(self.state.status, Status::Up | Status::Down);
        let since = self.state.seen.filter(|_| watched).map_or(0, |seen| {
            self.monitor
                .schedule
                .missed(seen, self.monitor.grace_s, now)
        });
        self.state.missed + u64::from(since)
    }
}

impl App {
    /// Whether the project's plan has room for another monitor.
    pub(crate) async fn has_room(&self, project: ProjectId) -> Result<bool, StoreError> {
        let limit = self.limits(project).await?.monitors;
        Ok(limit.is_none() || self.store.monitor_count(project).await?.has_room(limit))
    }

    /// A monitor of `project`, consistently.
    pub(crate) async fn found<E>(
        &self,
        project: ProjectId,
        id: MonitorId,
    ) -> Result<Found, ChangeError<E>> {
        // The state first: whoever changes the configuration changes its version too.
        let located = self.store.locate(id).await?.ok_or(ChangeError::NotFound)?;
        if located.project != project {
            return Err(ChangeError::Foreign);
        }
        let monitor = self.store.monitor(project, id).await?;
        let monitor = monitor.ok_or(ChangeError::NotFound)?;
        let held = located.state.is_some();
        let state = match located.state {
            Some(state) => state,
            None => self.store.lost_state(&monitor).await?,
        };
        Ok(Found {
            held,
            state,
            monitor,
        })
    }

    /// Changes a monitor as `edit` says, which may be asked more than once. Returns it as it then is.
    pub(crate) async fn change<E>(
        &self,
        project: ProjectId,
        id: MonitorId,
        edit: impl Fn(&Monitor, &MonitorState) -> Result<Edit, E>,
    ) -> Result<Found, ChangeError<E>> {
        let begun = self.store.world().now();
        for attempt in 0.. {
            let now = self.store.world().now();
            if now - begun > RETRY_FOR_MS {
                break;
            }
            let before = self.found(project, id).await?;
            let edit = edit(&before.monitor, &before.state).map_err(ChangeError::Refused)?;
            match self.write(&before, edit, now).await {
                Ok(done) => return Ok(done),
                Err(StoreError::Conflict) => self.back_off(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn write(&self, before: &Found, edit: Edit, now: UnixMs) -> Result<Found, StoreError> {
        let old = &before.monitor;
        let monitor = edit.monitor.unwrap_or_else(|| old.clone());
        let reconfigured = monitor != *old;
        let mut events = edit.events;
        if waits_differently(old, &monitor) {
            events.insert(0, Event::Reconfigured);
        }
        let mut outcome = transitions(&monitor, &before.state, &events, now);
        if !outcome.changed(&before.state) {
            if !reconfigured {
                return Ok(before.clone());
            }
            // The version guards the configuration too.
            outcome.state.version += 1;
        }
        look_again(old, &monitor, &mut outcome, now);
        let last_ping = outcome.state.seen;
        let alert = self
            .store
            .announce(&monitor, &mut outcome, last_ping, None, now)
            .await?;
        let commit = Commit {
            monitor: &monitor,
            before: before.held.then_some(&before.state),
            outcome: &outcome,
            alert: alert.as_ref(),
            was: reconfigured.then_some(old),
        };
        self.store.commit(&commit, now).await?;
        if reconfigured {
            self.forget_monitor(old);
            self.forget_monitor(&monitor);
            let version = outcome.state.version;
            self.monitor_cache
                .note(monitor.project, monitor.id, version, Some(&monitor));
        }
        Ok(Found {
            monitor,
            state: outcome.state,
            held: true,
        })
    }

    /// Makes the monitor that `make` makes of a blank one; or, if `same` knows one of the project's that it means,
    /// changes that. However many race, one is made.
    pub(crate) async fn upsert<E>(
        &self,
        project: ProjectId,
        same: Option<&(dyn Fn(&Monitor) -> bool + Sync)>,
        slug: Option<&str>,
        make: impl Fn(&Monitor) -> Result<Monitor, E>,
    ) -> Result<Upserted, ChangeError<E>> {
        let limit = self.limits(project).await?.monitors;
        let begun = self.store.world().now();
        for attempt in 0.. {
            let now = self.store.world().now();
            if now - begun > RETRY_FOR_MS {
                break;
            }
            let monitor_count = self.store.monitor_count(project).await?;
            if let Some(same) = same
                && let Some(existing) = self.first_that(project, slug, same).await?
            {
                let edit = |monitor: &Monitor, _: &MonitorState| make(monitor).map(Edit::to);
                match self.change(project, existing, edit).await {
                    // Deleted meanwhile: it is to be made after all.
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
            let monitor = make(&Monitor::new(id, project, now)).map_err(ChangeError::Refused)?;
            if !monitor_count.has_room(limit) {
                return Err(ChangeError::Full);
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
                after: same.map(|_| monitor_count),
            };
            match self.store.create_monitor(&creation, now).await {
                Ok(()) => {
                    self.forget_monitor(&monitor);
                    let version = outcome.state.version;
                    self.monitor_cache
                        .note(project, id, version, Some(&monitor));
                    let found = Found {
                        monitor,
                        state: outcome.state,
                        held: true,
                    };
                    return Ok(Upserted {
                        found,
                        created: true,
                    });
                }
                Err(StoreError::Conflict) => self.back_off(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The oldest monitor of the project that `same` knows; by its slug alone, if that is known.
    async fn first_that(
        &self,
        project: ProjectId,
        slug: Option<&str>,
        same: &(dyn Fn(&Monitor) -> bool + Sync),
    ) -> Result<Option<MonitorId>, StoreError> {
        let Some(slug) = slug.filter(|slug| !slug.is_empty()) else {
            let monitors = self.monitors(project).await?;
            let oldest = monitors.iter().find(|monitor| same(monitor));
            return Ok(oldest.map(|monitor| monitor.id));
        };
        let ids = self.store.monitors_with_slug(project, slug).await?;
        let monitors = self.store.monitors_by_id(project, &ids).await?;
        let found = monitors.iter().filter(|monitor| same(monitor));
        let oldest = found.min_by_key(|monitor| (monitor.created, monitor.id));
        Ok(oldest.map(|monitor| monitor.id))
    }

    /// Deletes a monitor; returns it as it was.
    pub(crate) async fn delete<E>(
        &self,
        project: ProjectId,
        id: MonitorId,
    ) -> Result<Found, ChangeError<E>> {
        let begun = self.store.world().now();
        for attempt in 0.. {
            if self.store.world().now() - begun > RETRY_FOR_MS {
                break;
            }
            let found = self.found(project, id).await?;
            match self.store.delete_monitor(&found.monitor).await {
                Ok(()) => {
                    self.forget_monitor(&found.monitor);
                    self.monitor_cache.note(project, id, u64::MAX, None);
                    return Ok(found);
                }
                Err(StoreError::Conflict) => self.back_off(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Forgets who has a monitor's name and slug; other handlers forget it within half a minute.
    fn forget_monitor(&self, monitor: &Monitor) {
        let project = monitor.project;
        self.names.forget(&(project, monitor.name.clone()));
        self.names.forget(&(project, monitor.slug.clone()));
        self.slugs.forget(&(project, monitor.slug.clone()));
    }

    /// Waits a little, and longer and more randomly with every attempt, before a race is run again.
    pub(crate) async fn back_off(&self, attempt: u32) {
        let most_ms = f64::from(4_u32 << attempt.min(6));
        let wait_ms = self.store.world().jitter() * most_ms;
        tokio::time::sleep(Duration::from_micros((wait_ms * 1000.0) as u64)).await;
    }
}

/// Whether the change moves deadlines: only then are they reckoned anew, and what an absence of ours added is gone.
fn waits_differently(old: &Monitor, new: &Monitor) -> bool {
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

/// Arms what a change of silences and reminders asks for: what was silenced and is so no more is told, and who wants
/// reminders of what is down gets them from now on.
fn look_again(old: &Monitor, new: &Monitor, outcome: &mut Outcome, now: UnixMs) {
    let (before, after) = (&old.options, &new.options);
    let silences_differ =
        before.snoozed_until != after.snoozed_until || before.windows != after.windows;
    let state = &outcome.state;
    if silences_differ && state.silenced {
        outcome.wake = Some(now);
    }
    if let Some(every_s) = after.remind_s.filter(|_| before.remind_s != after.remind_s)
        && state.status == Status::Down
        && !state.silenced
    {
        let told = state.notified_at.unwrap_or(now);
        let due = told + i64::from(every_s) * 1000;
        outcome.remind = Some(due.max(now));
    }
}
