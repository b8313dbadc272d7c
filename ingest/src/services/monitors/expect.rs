//! Judges what runs report by what their monitor expects.

use super::Monitors;
use crate::services::{ServiceError, ServiceResult};
use std::collections::BTreeSet;
use thrum_schema::expect::Known;
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::strategy::BUILTIN_VERSION;
use thrum_schema::signal::track::Followed;
use thrum_schema::signal::{CompiledStrategy, SeriesName, Timeframe, TrackId};
use thrum_schema::state::MAX_FEEDS;
use thrum_schema::{Monitor, MonitorState, UnixMs};
use thrum_store::StoreError;

/// A number with a detector.
#[derive(Debug)]
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
    fn followed(&self) -> Followed {
        Followed::new(&self.detector, BUILTIN_VERSION, &self.compiled)
    }

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

/// How long evaluate can leave a track without renewing its request, in milliseconds: it does once a
/// day.
const RENEWED_MS: i64 = 2 * 86_400_000;

/// What is known about the numbers of a monitor, and those that nobody follows yet.
#[derive(Debug, Default)]
pub(super) struct Judging {
    pub known: Known,
    unfollowed: Vec<Detected>,
}

impl Monitors {
    /// What the detectors know about the numbers that a monitor expects. 1 RU for each, and another
    /// one for each without a value so far.
    pub(super) async fn judging(
        &self,
        monitor: &Monitor,
        state: &MonitorState,
    ) -> Result<Judging, StoreError> {
        let mut judging = Judging::default();
        let now = self.store.world().now();
        let feeds = state
            .feeds
            .as_ref()
            .filter(|feeds| feeds.slug == monitor.slug);
        for mut detected in detected(monitor) {
            let feeds_it = feeds.is_some_and(|feeds| feeds.names.contains(&detected.name));
            if !feeds_it {
                // Another monitor with this slug may feed the series.
                judging.unfollowed.push(detected);
                continue;
            }
            let stored = match self.store.track(&detected.track(monitor)).await {
                Err(StoreError::Corrupt(error)) => {
                    // The heartbeat must count in any case.
                    tracing::error!(%error, monitor = %monitor.id, "can't judge a number: its track can't be read");
                    continue;
                }
                found => found?,
            };
            let is_fresh = |asked: UnixMs| now - asked < RENEWED_MS;
            if !stored.as_ref().is_some_and(|stored| is_fresh(stored.asked))
                && !self.is_followed(monitor, &detected).await?
            {
                judging.unfollowed.push(detected);
                continue;
            }
            let Some(stored) = stored else { continue };
            detected.compiled.levels = stored.levels();
            let program = Program::new(detected.compiled);
            if let Some(state) = program.decode(&stored.state) {
                judging.known.0.insert(detected.name, (program, state));
            }
        }
        Ok(judging)
    }

    /// Whether evaluate follows a number, or will with its first value.
    async fn is_followed(&self, monitor: &Monitor, it: &Detected) -> Result<bool, StoreError> {
        let head = self
            .store
            .head(monitor.project, &it.series, Timeframe::TICK);
        let head = head.await?;
        Ok(head.is_some_and(|head| head.expect == Some(it.followed())))
    }

    /// Has evaluate follow the numbers that nobody follows.
    pub(super) async fn follow_unfollowed(&self, monitor: &Monitor, judging: Judging) {
        for detected in judging.unfollowed {
            self.follow(monitor, &detected).await;
        }
    }

    /// Has evaluate follow the numbers that a monitor expects, if detectors judge them. If that
    /// fails, the next ping tries again.
    pub(super) async fn follow_expected(&self, monitor: &Monitor) {
        for detected in detected(monitor) {
            self.follow(monitor, &detected).await;
        }
    }

    async fn follow(&self, monitor: &Monitor, it: &Detected) {
        let of = it.followed();
        let followed = self.series.expect(monitor.project, &it.series, &of);
        if let Err(error) = followed.await {
            let (monitor, name) = (monitor.id, &it.name);
            tracing::error!(%error, %monitor, name, "can't follow a number that a monitor expects");
        }
    }

    /// Follows what a changed monitor expects, and no longer what it expected before.
    pub(super) async fn expectations_changed(&self, before: &Monitor, after: &Monitor) {
        if (&before.slug, &before.options.expect) == (&after.slug, &after.options.expect) {
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

    /// Checks that the numbers of a monitor with this state, if it exists, can be series: those with a
    /// detector are called after the monitor's slug.
    pub async fn check_expectations(
        &self,
        monitor: &Monitor,
        state: Option<&MonitorState>,
    ) -> ServiceResult<()> {
        let detected = detected(monitor);
        let Some(first) = detected.first() else {
            return Ok(());
        };
        let same = self
            .store
            .monitors_with_slug(monitor.project, &monitor.slug)
            .await?;
        if same.iter().any(|other| *other != monitor.id) {
            return Err(ServiceError::Conflict(format!(
                "expect.{} needs a slug that no other monitor has, but several have {}",
                first.name, monitor.slug
            )));
        }
        let feeds = state.and_then(|state| state.feeds.as_ref());
        let feeds = feeds.filter(|feeds| feeds.slug == monitor.slug);
        let mut names: BTreeSet<&String> = feeds.iter().flat_map(|feeds| &feeds.names).collect();
        names.extend(detected.iter().map(|detected| &detected.name));
        if names.len() > MAX_FEEDS {
            let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
            return Err(ServiceError::Conflict(format!(
                "a monitor feeds at most {MAX_FEEDS} series, but with these it would feed {}",
                names.join(", ")
            )));
        }
        Ok(())
    }
}
