//! Signals on the pipeline: strategies are followed along series, watches look, requests are answered.
//!
//! Everything here may be done twice, late, or by two at a time: a track is moved on guarded by its version, a watch
//! remembers guarded by its own, and a request is finished once.

mod correct;
mod follow;
mod request;
mod strategy;
mod watch;

pub use request::offline;

use crate::Evaluate;
use crate::engine::Program;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use thrum_schema::StoreError;
use thrum_schema::id::{ProjectId, RequestId, WatchId};
use thrum_schema::signal::track::{FOLLOW_MS, Head, MAX_FOLLOWED};
use thrum_schema::work::Work;

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
    pub async fn work(&self, work: &Work) -> Result<(), StoreError> {
        match *work {
            Work::Request { request } => {
                while self.answer_guarded(request, usize::MAX).await? == Progress::More {}
            }
            Work::Watch {
                project,
                watch,
                asked,
            } => {
                while self.look_at_watch(project, watch, WORK_BARS, asked).await? == Progress::More
                {
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Bars or scores came for a series that is followed: corrects the tracks that had gone past them, and looks at every
    /// watch. Returns the work that is too long to be done here.
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
        let watches = head.watches.iter().filter_map(|watch| watch.parse().ok());
        for (i, watch) in watches.enumerate() {
            // The stream waits for some of them, and not for many.
            let inline = i < INLINE_WATCHES;
            if !inline
                || self
                    .look_at_watch(project, watch, INLINE_BARS, false)
                    .await?
                    == Progress::More
            {
                works.push(Work::Watch {
                    project,
                    watch,
                    asked: false,
                });
            }
        }
        // Those that nobody watches, but somebody asked for lately, after those that people wait for.
        for (track, stored) in tracks.iter().take(MAX_FOLLOWED) {
            let of = &stored.of;
            let found = self
                .strategy(project, &of.strategy, Some(of.version))
                .await?;
            let plan = found.and_then(|(strategy, _)| {
                strategy
                    .plan(Some(&of.mode), &of.params, track.timeframe)
                    .ok()
            });
            if let Some(plan) = plan {
                let program = Program::new(plan);
                self.follow(track, (&program, of), head, INLINE_BARS, false)
                    .await?;
            }
        }
        Ok(works)
    }

    /// A watch was made or changed.
    pub(crate) async fn on_watch(
        &self,
        project: ProjectId,
        watch: WatchId,
    ) -> Result<Vec<Work>, StoreError> {
        Ok(
            match self
                .look_at_watch(project, watch, INLINE_BARS, true)
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
