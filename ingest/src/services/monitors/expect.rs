//! Judges what runs report by what their monitor expects.

use super::Monitors;
use crate::services::{ServiceError, ServiceResult};
use thrum_schema::Monitor;
use thrum_schema::error::Invalid;
use thrum_schema::expect::Known;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::strategy::BUILTIN_VERSION;
use thrum_schema::signal::track::Followed;
use thrum_schema::signal::{CompiledStrategy, SeriesName, TrackId};
use thrum_store::StoreError;

/// A number with a detector.
struct Detected {
    name: String,
    series: SeriesName,
    detector: String,
    compiled: CompiledStrategy,
}

/// The expectations of a monitor that have a detector.
fn detected(monitor: &Monitor) -> Vec<Detected> {
    let expected = monitor.options.expect.iter();
    let detected = expected.filter_map(|(name, expectation)| {
        // It was checked when it was set; a later version of Thrum may know it no longer.
        let compiled = expectation.compile().ok().flatten()?;
        Some(Detected {
            name: name.clone(),
            series: SeriesName::of_monitor(&monitor.slug, name),
            detector: expectation.detector.clone()?,
            compiled,
        })
    });
    detected.collect()
}

impl Detected {
    fn track(&self, monitor: &Monitor) -> TrackId {
        let (detector, compiled) = (&self.detector, &self.compiled);
        TrackId::new(
            monitor.project,
            &self.series,
            detector,
            BUILTIN_VERSION,
            compiled,
        )
    }
}

/// What is known about the numbers of a monitor, and the names of those that nobody follows yet.
#[derive(Debug, Default)]
pub(super) struct Judging {
    pub known: Known,
    pub unfollowed: bool,
}

impl Monitors {
    /// What the detectors know about the numbers that a monitor expects. 1 RU for each.
    pub(super) async fn judging(&self, monitor: &Monitor) -> Result<Judging, StoreError> {
        let mut judging = Judging::default();
        for mut detected in detected(monitor) {
            let Some(stored) = self.store.track(&detected.track(monitor)).await? else {
                judging.unfollowed = true;
                continue;
            };
            let levels = stored.levels.iter().flatten();
            detected.compiled.levels = levels
                .filter_map(|at| at.parse().ok().map(thrum_schema::UnixMs))
                .collect();
            let program = Program::new(detected.compiled);
            if let Some(state) = program.decode(&stored.state) {
                judging.known.0.insert(detected.name, (program, state));
            }
        }
        Ok(judging)
    }

    /// Has evaluate follow the numbers that a monitor expects, if detectors judge them. If that
    /// fails, the next ping tries again.
    pub(super) async fn follow_expected(&self, monitor: &Monitor) {
        for detected in detected(monitor) {
            let of = Followed::new(&detected.detector, BUILTIN_VERSION, &detected.compiled);
            let followed = self.series.expect(monitor.project, &detected.series, &of);
            if let Err(error) = followed.await {
                let (monitor, name) = (monitor.id, &detected.name);
                tracing::error!(%error, %monitor, name, "can't follow a number that a monitor expects");
            }
        }
    }

    /// Follows what a changed monitor expects, and no longer what it expected before.
    pub(super) async fn expectations_changed(&self, before: &Monitor, after: &Monitor) {
        let key = |monitor: &Monitor| (monitor.slug.clone(), monitor.options.expect.clone());
        if key(before) == key(after) {
            return;
        }
        let now = detected(after);
        for old in detected(before) {
            if now.iter().any(|new| new.series == old.series) {
                continue;
            }
            let forgotten = self
                .store
                .set_expected(before.project, &old.series, None)
                .await;
            if let Err(error) = forgotten {
                tracing::warn!(%error, monitor = %before.id, "a number is still followed that the monitor no longer expects");
            }
        }
        self.follow_expected(after).await;
    }

    /// Checks that the numbers can be series: those with a detector are called after the monitor's
    /// slug.
    pub async fn check_expectations(&self, monitor: &Monitor) -> ServiceResult<()> {
        let detected = detected(monitor);
        let Some(first) = detected.first() else {
            return Ok(());
        };
        let path = format!("expect.{}", first.name);
        if monitor.slug.is_empty() {
            return Err(Invalid::new(path, "needs a monitor with a slug; send slug, too").into());
        }
        let same = self
            .store
            .monitors_with_slug(monitor.project, &monitor.slug)
            .await?;
        if same.iter().any(|other| *other != monitor.id) {
            return Err(ServiceError::Conflict(format!(
                "{path} needs a slug that no other monitor has, but several have {}",
                monitor.slug
            )));
        }
        Ok(())
    }
}
