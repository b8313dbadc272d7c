//! Signals on the pipeline: strategies are followed along series, watches look, requests are answered.
//!
//! Everything here may be done twice, late, or by two at a time: a track is moved on guarded by its version, a watch
//! remembers guarded by its own, and a request is finished once.

mod answer;
mod correct;
mod follow;
mod strategy;
mod watch;

pub use answer::offline;

use crate::engine::Program;
use crate::{Evaluate, WorkError};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use thrum_schema::id::{ProjectId, RequestId, WatchId};
use thrum_schema::signal::track::{FOLLOW_MS, Head, MAX_FOLLOWED, TrackId, TrackState};
use thrum_schema::work::Work;
use thrum_store::StoreError;

/// How many bars are stepped while the stream waits; what needs more goes through the work queue.
pub(crate) const INLINE_BARS: usize = 1_000;
/// How many watches of a series look while the stream waits.
const INLINE_WATCHES: usize = 8;
/// How many bars a piece of work steps before it lets others go on.
const WORK_BARS: usize = 100_000;
/// How often something is tried against others that do the same.
const MAX_ATTEMPTS: usize = 20;

/// How far something is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress<T> {
    /// It is done.
    Done(T),
    /// There is more to do than was allowed.
    More,
}

impl Evaluate {
    /// Does a piece of work from the work queue.
    ///
    /// # Errors
    /// The table failed; the work must come again.
    pub async fn work(&self, work: &Work) -> Result<(), WorkError> {
        match AssertUnwindSafe(self.do_work(work)).catch_unwind().await {
            Ok(Err(WorkError::Store(StoreError::Corrupt(error)))) => {
                tracing::error!(%error, ?work, "a piece of work can't be done");
                Ok(())
            }
            Ok(result) => result,
            Err(_) => {
                tracing::error!(?work, "a piece of work made its handler panic");
                Ok(())
            }
        }
    }

    async fn do_work(&self, work: &Work) -> Result<(), WorkError> {
        match work {
            Work::Request { request } => {
                while self.answer_guarded(*request, usize::MAX).await? == Progress::More {}
            }
            Work::Watch {
                project,
                watch,
                asked,
            } => loop {
                let mut budget = WORK_BARS;
                let looked = self.look_at_watch(*project, *watch, &mut budget, *asked);
                if looked.await? != Progress::More {
                    break;
                }
            },
            Work::Track {
                project,
                series,
                timeframe,
                key,
            } => {
                let track = TrackId {
                    project: *project,
                    series: series.clone(),
                    timeframe: *timeframe,
                    key: key.clone(),
                };
                self.work_on_track(&track).await?;
            }
            Work::Fire { timers, until } => self.fire(timers, *until).await?,
            // Notify's.
            Work::Alert { .. }
            | Work::Deliver { .. }
            | Work::Flush { .. }
            | Work::Subscribe { .. }
            | Work::Probe { .. } => {}
        }
        Ok(())
    }

    /// Bars or scores came for a series that is followed: corrects the tracks that had gone past them, and looks at every
    /// watch, as far as the stream may wait. Returns the work that is left.
    pub(crate) async fn on_nudge(
        &self,
        project: ProjectId,
        head: &Head,
    ) -> Result<Vec<Work>, StoreError> {
        let mut tracks = self.correct(project, head).await?;
        let now = self.store.world().now();
        tracks.retain(|(_, stored)| now - stored.asked < FOLLOW_MS);
        tracks.sort_by_key(|(_, stored)| std::cmp::Reverse(stored.asked));
        let mut works = Vec::new();
        let mut budget = INLINE_BARS;
        let watches = head.watches.iter().filter_map(|watch| watch.parse().ok());
        for (i, watch) in watches.enumerate() {
            let looked = if i < INLINE_WATCHES {
                self.look_at_watch(project, watch, &mut budget, false).await
            } else {
                Ok(Progress::More)
            };
            // What meets others again and again is no reason to hold up the rest.
            if matches!(looked, Ok(Progress::More) | Err(StoreError::Conflict)) {
                works.push(Work::Watch {
                    project,
                    watch,
                    asked: false,
                });
            } else {
                looked?;
            }
        }
        // Those that nobody watches, but somebody asked for lately, after those that people wait for.
        for (track, stored) in tracks.iter().take(MAX_FOLLOWED) {
            match self.follow_stored(track, stored, head, &mut budget).await {
                Ok(Progress::More) | Err(StoreError::Conflict) => works.push(Work::Track {
                    project,
                    series: track.series.clone(),
                    timeframe: track.timeframe,
                    key: track.key.clone(),
                }),
                Ok(Progress::Done(())) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(works)
    }

    /// Follows a track by what it is known to be of.
    async fn follow_stored(
        &self,
        track: &TrackId,
        stored: &TrackState,
        head: &Head,
        budget: &mut usize,
    ) -> Result<Progress<()>, StoreError> {
        let of = &stored.of;
        let found = self
            .strategy(track.project, &of.strategy, Some(of.version))
            .await?;
        let compiled = found.and_then(|(strategy, _)| {
            strategy
                .compile(Some(&of.mode), &of.params, track.timeframe)
                .ok()
        });
        let Some(compiled) = compiled else {
            return Ok(Progress::Done(()));
        };
        let program = Program::new(compiled);
        let followed = self.follow(track, (&program, of), head, budget, false);
        Ok(match followed.await? {
            Progress::Done(_) => Progress::Done(()),
            Progress::More => Progress::More,
        })
    }

    /// A track that the stream could not wait for.
    async fn work_on_track(&self, track: &TrackId) -> Result<(), StoreError> {
        loop {
            let (stored, head) = futures::try_join!(
                self.store.track(track),
                self.store
                    .head(track.project, &track.series, track.timeframe)
            )?;
            let (Some(stored), Some(head)) = (stored, head) else {
                return Ok(());
            };
            let mut budget = WORK_BARS;
            if self
                .follow_stored(track, &stored, &head, &mut budget)
                .await?
                != Progress::More
            {
                return Ok(());
            }
        }
    }

    /// A watch was made or changed.
    pub(crate) async fn on_watch(
        &self,
        project: ProjectId,
        watch: WatchId,
    ) -> Result<Vec<Work>, StoreError> {
        let mut budget = INLINE_BARS;
        Ok(
            match self
                .look_at_watch(project, watch, &mut budget, true)
                .await?
            {
                Progress::Done(()) => Vec::new(),
                Progress::More => vec![Work::Watch {
                    project,
                    watch,
                    asked: true,
                }],
            },
        )
    }

    /// Somebody asks for a signal or a backtest. Returns the work, if it is too long to be done here.
    pub(crate) async fn on_request(&self, request: RequestId) -> Result<Vec<Work>, StoreError> {
        Ok(match self.answer_guarded(request, INLINE_BARS).await? {
            Progress::Done(()) => Vec::new(),
            Progress::More => vec![Work::Request { request }],
        })
    }

    /// [`Self::answer`], where a request that makes it panic fails alone.
    async fn answer_guarded(
        &self,
        request: RequestId,
        budget: usize,
    ) -> Result<Progress<()>, StoreError> {
        let answered = AssertUnwindSafe(self.answer(request, budget))
            .catch_unwind()
            .await;
        match answered {
            Ok(Err(StoreError::Corrupt(error))) => {
                tracing::error!(%request, %error, "a request can't be answered");
                self.give_up(request).await
            }
            Ok(result) => result,
            Err(_) => {
                tracing::error!(%request, "a request made its handler panic");
                self.give_up(request).await
            }
        }
    }

    async fn give_up(&self, request: RequestId) -> Result<Progress<()>, StoreError> {
        let now = self.store.world().now();
        let error = "an internal error; it is logged";
        self.store.finish_request(request, Err(error), now).await?;
        Ok(Progress::Done(()))
    }
}
