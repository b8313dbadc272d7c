//! Summaries of projects, for badges and metrics. The summary of a small project is computed for
//! each request; that of a large one is reused for ten seconds, to save reads. HTTP never caches
//! either.

use super::Monitors;
use crate::services::cache::ByProject;
use std::sync::Arc;
use thrum_schema::state::Shown;
use thrum_schema::{Monitor, MonitorState, Outage, ProjectId, UnixMs};
use thrum_store::Result;

/// How long to reuse a summary, in milliseconds.
const FRESH_MS: i64 = 10_000;
/// Summaries of up to this many monitors are computed every time.
const SMALL: usize = 10;
/// With more summaries than this, those not in use are dropped.
const MAX_KEPT: usize = 1_000;

/// The summary of a monitor.
#[derive(Debug, Clone)]
pub struct Glance {
    pub name: String,
    pub tags: Vec<String>,
    pub unique_key: String,
    pub shown: Shown,
    pub started: bool,
}

/// The summaries of a project's monitors, by name.
#[derive(Debug, Clone, Default)]
pub struct Summary(pub Vec<Glance>);

/// How many monitors are late and down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub total: usize,
    pub grace: usize,
    pub down: usize,
}

/// The cached summaries.
#[derive(Debug, Default)]
pub struct Summaries(ByProject<(UnixMs, Arc<Summary>)>);

impl Glance {
    /// The summary at `now`.
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
    /// Counts monitors. New and paused ones count as up.
    pub fn of<'a>(glances: impl Iterator<Item = &'a Glance>) -> Self {
        glances.fold(Self::default(), |tally, glance| Self {
            total: tally.total + 1,
            grace: tally.grace + usize::from(glance.shown == Shown::Grace),
            down: tally.down + usize::from(glance.shown == Shown::Down),
        })
    }
}

impl Summary {
    /// The monitors with `tag`, or all of them for `*`.
    pub fn tagged<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Glance> {
        let has = move |glance: &&Glance| tag == "*" || glance.tags.iter().any(|t| t == tag);
        self.0.iter().filter(has)
    }
}

impl Monitors {
    /// The summary of a project.
    pub async fn summary(&self, project: ProjectId) -> Result<Arc<Summary>> {
        let kept = self.summaries.0.of(project, MAX_KEPT);
        let mut kept = kept.lock().await;
        let now = self.store.world().now();
        if let Some((at, summary)) = &*kept
            && at.is_within(FRESH_MS, now)
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
