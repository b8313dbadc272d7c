//! How a project is, at a glance: what badges and metrics show. Made anew for each request while the project is small,
//! and kept for some seconds where that costs something; never cached by HTTP.

use super::Monitors;
use crate::services::cache::ByProject;
use std::sync::Arc;
use thrum_schema::state::Shown;
use thrum_schema::{Monitor, MonitorState, Outage, ProjectId, UnixMs};
use thrum_store::Result;

/// How long a summary is given again, in milliseconds.
const FRESH_MS: i64 = 10_000;
/// Projects with at most so many monitors are looked at anew each time.
const SMALL: usize = 200;
/// Summaries beyond which those that are stale are forgotten.
const MAX_KEPT: usize = 1_000;

/// A monitor, at a glance.
#[derive(Debug, Clone)]
pub struct Glance {
    pub name: String,
    pub tags: Vec<String>,
    pub unique_key: String,
    pub shown: Shown,
    pub started: bool,
}

/// A project's monitors, at a glance, in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct Summary(pub Vec<Glance>);

/// How many of some monitors are how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub total: usize,
    pub grace: usize,
    pub down: usize,
}

/// The summaries that are kept.
#[derive(Debug, Default)]
pub struct Summaries(ByProject<(UnixMs, Arc<Summary>)>);

impl Glance {
    /// The monitor as it is at `now`.
    pub fn of(monitor: &Monitor, state: &MonitorState, outages: &[Outage], now: UnixMs) -> Self {
        Self {
            name: monitor.name.clone(),
            tags: monitor.tags.clone(),
            unique_key: monitor.unique_key(),
            shown: state.shown(now, outages),
            started: state.run.is_some(),
        }
    }
}

impl Tally {
    /// Counts monitors. New and paused ones are as good as up.
    pub fn of<'a>(glances: impl Iterator<Item = &'a Glance>) -> Self {
        glances.fold(Self::default(), |tally, glance| Self {
            total: tally.total + 1,
            grace: tally.grace + usize::from(glance.shown == Shown::Grace),
            down: tally.down + usize::from(glance.shown == Shown::Down),
        })
    }
}

impl Summary {
    /// Those that have `tag`; all of them for `*`.
    pub fn tagged<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Glance> {
        let has = move |glance: &&Glance| tag == "*" || glance.tags.iter().any(|t| t == tag);
        self.0.iter().filter(has)
    }
}

impl Monitors {
    /// A project, at a glance.
    pub async fn summary(&self, project: ProjectId) -> Result<Arc<Summary>> {
        let kept = self.summaries.0.of(project, MAX_KEPT);
        let mut kept = kept.lock().await;
        let now = self.store.world().now();
        if let Some((at, summary)) = &*kept
            && now - *at < FRESH_MS
        {
            return Ok(Arc::clone(summary));
        }
        let summary = Arc::new(self.summarize(project, now).await?);
        *kept = (summary.0.len() > SMALL).then(|| (now, Arc::clone(&summary)));
        Ok(summary)
    }

    async fn summarize(&self, project: ProjectId, now: UnixMs) -> Result<Summary> {
        let (monitors, outages) = futures::try_join!(self.list(project), self.store.outages())?;
        let mut monitors: Vec<&Monitor> = monitors.iter().map(AsRef::as_ref).collect();
        monitors.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        let states = self.states(&monitors).await?;
        let glances = monitors.iter().zip(&states);
        let glances = glances.map(|(monitor, state)| Glance::of(monitor, state, &outages, now));
        Ok(Summary(glances.collect()))
    }
}
