//! Monitors: found, listed, pinged and changed.

mod cache;
mod change;
mod expect;
mod history;
mod known_states;
mod mail;
mod record;
mod summary;

pub use cache::ProjectMonitors;
pub use change::{ChangeError, Edit, Upserted};
pub use mail::Mail;
pub use record::{By, Incoming, RecordError, Recorded};
pub use summary::{Glance, Summary, Tally};

use super::accounts::Accounts;
use super::cache::Cache;
use super::series::Series;
use crate::config::Config;
use cache::MonitorCache;
use known_states::KnownStates;
use std::collections::HashMap;
use std::sync::Arc;
use summary::Summaries;
use thiserror::Error;
use thrum_schema::announce::{after_project_edit, asks_for_looks};
use thrum_schema::monitor::{MAX_NAME, check_heartbeat_name};
use thrum_schema::{Monitor, MonitorId, MonitorState, Project, ProjectId};
use thrum_store::{Result, Snapshot, Store, StoreError};

/// The monitors of all projects, with the caches of this process.
#[derive(Debug)]
pub struct Monitors {
    store: Store,
    config: Arc<Config>,
    accounts: Arc<Accounts>,
    series: Arc<Series>,
    /// Monitors by project and name.
    names: Cache<(ProjectId, String), MonitorId>,
    /// Monitors by project and slug, where that is unambiguous.
    slugs: Cache<(ProjectId, String), MonitorId>,
    /// Monitors whose configuration was found.
    whole: Cache<MonitorId, ()>,
    cache: MonitorCache,
    known_states: KnownStates,
    summaries: Summaries,
}

/// Why a monitor was not found.
#[derive(Debug, Error)]
pub enum FindError {
    #[error("there is no such monitor")]
    NotFound,
    #[error("several monitors have this slug or name")]
    Ambiguous,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Monitors {
    /// The monitors in `store`.
    pub fn new(
        store: Store,
        config: Arc<Config>,
        accounts: Arc<Accounts>,
        series: Arc<Series>,
    ) -> Self {
        Self {
            store,
            config,
            accounts,
            series,
            names: Cache::default(),
            slugs: Cache::default(),
            whole: Cache::default(),
            cache: MonitorCache::default(),
            known_states: KnownStates::default(),
            summaries: Summaries::default(),
        }
    }

    /// The monitors of a project, oldest first. 1 RU, and a query if another handler has changed
    /// any of them since the last time.
    pub async fn list(&self, project: ProjectId) -> Result<ProjectMonitors> {
        // Read the count first: a change in between raises it, so the next list reads the monitors
        // again.
        let changes = self.store.census(project).await?.changes;
        if let Some(monitors) = self.cache.get(project, changes) {
            return Ok(monitors);
        }
        let monitors = self.store.monitors(project).await?;
        Ok(self.cache.put(project, changes, monitors))
    }

    /// The states of some monitors, in the same order. If TTL removed a state,
    /// [`MonitorState::lost`] stands in for it.
    pub async fn states(&self, monitors: &[&Monitor]) -> Result<Vec<MonitorState>> {
        let ids: Vec<MonitorId> = monitors.iter().map(|monitor| monitor.id).collect();
        let states = self.store.states(&ids).await?;
        let mut states: HashMap<MonitorId, MonitorState> = states
            .into_iter()
            .map(|state| (state.monitor, state))
            .collect();
        let of = |monitor: &&Monitor| {
            let found = states.remove(&monitor.id);
            found.unwrap_or_else(|| MonitorState::lost(monitor))
        };
        Ok(monitors.iter().map(of).collect())
    }

    /// The states of all monitors of a project, in the same order, from memory where possible.
    pub async fn known_states(
        &self,
        project: ProjectId,
        monitors: &ProjectMonitors,
    ) -> Result<Vec<MonitorState>> {
        self.known_states.of(self, project, monitors).await
    }

    /// Whether [`Self::known_states`] of this many monitors may be up to a minute old.
    pub fn knows_late(&self, monitors: usize) -> bool {
        !self.store.has_change_feed() && monitors > known_states::SMALL
    }

    /// Loads the monitors of every project and their states.
    pub async fn warm(&self) -> Result<()> {
        for project in self.store.projects().await? {
            let monitors = self.list(project.id).await?;
            self.known_states(project.id, &monitors).await?;
        }
        Ok(())
    }

    /// The monitor of `project` with the uuid, unique key, heartbeat name or else slug `text`. A slug
    /// must be unambiguous. 2 to 4 RU.
    pub async fn find(
        &self,
        project: ProjectId,
        text: &str,
    ) -> std::result::Result<Snapshot, FindError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let id = if let Some(id) = MonitorId::parse_canonical(text) {
            Some(id)
        } else if text.len() == 40 && text.bytes().all(hex) {
            self.store.monitor_by_unique_key(project, text).await?
        } else {
            self.find_named(project, text).await?
        };
        let found = self.store.snapshot(id.ok_or(FindError::NotFound)?).await?;
        found
            .filter(|found| found.monitor.project == project)
            .ok_or(FindError::NotFound)
    }

    /// The only monitor with a name or slug.
    async fn find_named(
        &self,
        project: ProjectId,
        text: &str,
    ) -> std::result::Result<Option<MonitorId>, FindError> {
        let is_short = check_heartbeat_name("id", text).is_ok();
        if is_short && let Some(id) = self.store.monitor_named(project, text).await? {
            return Ok(Some(id));
        }
        let mut found = match is_short {
            true => self.store.monitors_with_slug(project, text).await?,
            false => Vec::new(),
        };
        // Only heartbeats need an index of names, and they can't have others.
        if found.is_empty() && (1..=MAX_NAME).contains(&text.chars().count()) {
            let monitors = self.list(project).await?;
            let named = monitors.iter().filter(|monitor| monitor.name == text);
            found = named.map(|monitor| monitor.id).collect();
        }
        match *found {
            [] => Ok(None),
            [id] => Ok(Some(id)),
            _ => Err(FindError::Ambiguous),
        }
    }

    /// Arms the timers that a change to a project requires: monitors that it no longer silences are
    /// announced, and monitors that are down get reminders at the new interval.
    pub async fn after_project_edit(&self, before: &Project, after: &Project) -> Result<()> {
        if !asks_for_looks(before, after) {
            return Ok(());
        }
        let monitors = self.list(after.id).await?;
        let monitors: Vec<&Monitor> = monitors.iter().map(AsRef::as_ref).collect();
        let now = self.store.world().now();
        let states = self.states(&monitors).await?;
        let timers = monitors.iter().zip(&states);
        let timers = timers
            .flat_map(|(monitor, state)| after_project_edit((before, after), monitor, state, now));
        self.store.arm(&timers.collect::<Vec<_>>()).await
    }

    /// Notes a change by this process, so that it need not read the list again.
    fn note(&self, monitor: &Monitor, version: u64) {
        let (project, id) = (monitor.project, monitor.id);
        self.cache.note(project, id, version, Some(monitor));
    }

    /// Forgets which monitor has this monitor's name and slug. Other handlers forget it within half
    /// a minute.
    fn forget(&self, monitor: &Monitor) {
        let project = monitor.project;
        self.names.forget(&(project, monitor.name.clone()));
        self.names.forget(&(project, monitor.slug.clone()));
        self.slugs.forget(&(project, monitor.slug.clone()));
    }
}
