//! Signals: follows strategies along series, evaluates watches, and answers requests.
//!
//! Everything here may run twice, late, or concurrently: writes to a track are guarded by its
//! version, those to the state of a watch by that state's version, and a request is finished only
//! once.

mod alone;
mod answer;
mod correct;
mod follow;
mod strategy;
mod watch;

pub(crate) use alone::Following;
pub use answer::{Input, Other, fit, offline};

use crate::regions::Begun;
use crate::{Evaluate, WorkError};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use thrum_schema::id::{ProjectId, RequestId, WatchId};
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::track::{FOLLOW_MS, Followed, Head, MAX_FOLLOWED, TrackId, TrackState};
use thrum_schema::work::EvaluateWork;
use thrum_store::StoreError;

/// Most bars that are stepped while the stream waits. Longer work goes through the work queue.
pub(crate) const INLINE_BARS: usize = 1_000;
/// Most watches of a series that are evaluated while the stream waits.
const INLINE_WATCHES: usize = 8;
/// How many bars the worker steps before it reads its input again.
const WORK_BARS: usize = 100_000;
/// How often a write is retried after conflicts.
const MAX_ATTEMPTS: usize = 20;

/// The result of work with a budget.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress<T> {
    /// The work is done.
    Done(T),
    /// The budget is used up, and there is more to do.
    More,
}

impl Evaluate {
    /// Does a piece of work from the work queue. Work on which the handler panics, or that needs an
    /// item that can't be read, is logged and dropped.
    ///
    /// # Errors
    /// The table, the queue or the bus failed; the work must be delivered again.
    pub async fn work(&self, work: &EvaluateWork) -> Result<(), WorkError> {
        if let (EvaluateWork::Tick | EvaluateWork::Tend, _) | (_, None) = (work, &self.regions) {
            return self.work_here(work).boxed().await;
        }
        match self.begin().await? {
            Begun::Work(active) => active.work_here(work).boxed().await,
            // The active region finds it by its timer.
            Begun::Passive => Ok(()),
            Begun::Repairing => Err(WorkError::Repairing),
        }
    }

    async fn work_here(&self, work: &EvaluateWork) -> Result<(), WorkError> {
        match AssertUnwindSafe(self.do_work(work)).catch_unwind().await {
            // The next tick does the work of one that fails, so there is nothing to drop.
            Ok(Err(WorkError::Store(StoreError::Corrupt(error)))) if !work.is_prompt() => {
                tracing::error!(%error, ?work, "dropped work that needs an item that can't be read");
                Ok(())
            }
            Ok(result) => result,
            Err(_) => {
                tracing::error!(?work, "dropped work on which the handler panicked");
                Ok(())
            }
        }
    }

    async fn do_work(&self, work: &EvaluateWork) -> Result<(), WorkError> {
        match work {
            EvaluateWork::Request { request } => {
                while self.answer_guarded(*request, usize::MAX).await? == Progress::More {}
            }
            EvaluateWork::Watch {
                project,
                watch,
                asked,
            } => loop {
                let mut budget = WORK_BARS;
                let progress = self.evaluate_watch(*project, *watch, &mut budget, *asked);
                if progress.await? != Progress::More {
                    break;
                }
            },
            EvaluateWork::Track {
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
            EvaluateWork::Fire { timers, until } => self.fire(timers, *until).await?,
            EvaluateWork::Tend => {
                if let Some(regions) = &self.regions {
                    self.tend(regions).await?;
                }
            }
            EvaluateWork::Tick => self.tick().await.map(drop)?,
            EvaluateWork::Sweep { shards } => self.sweep_shards(shards.clone()).await.map(drop)?,
        }
        Ok(())
    }

    /// Handles new bars or scores of a followed series: corrects the tracks that are already past
    /// them, evaluates the watches, and follows the recently requested tracks, within the budget of
    /// the stream. Returns the work that is left.
    pub(crate) async fn on_nudge(
        &self,
        project: ProjectId,
        head: &Head,
    ) -> Result<Vec<EvaluateWork>, StoreError> {
        let mut tracks = self.correct(project, head).await?;
        let now = self.store.world().now();
        tracks.retain(|(_, stored)| now - stored.asked < FOLLOW_MS);
        tracks.sort_by_key(|(_, stored)| std::cmp::Reverse(stored.asked));
        let mut works = Vec::new();
        let mut budget = INLINE_BARS;
        let watches = head.watches.iter().filter_map(|watch| watch.parse().ok());
        for (i, watch) in watches.enumerate() {
            let progress = if i < INLINE_WATCHES {
                self.evaluate_watch(project, watch, &mut budget, false)
                    .await
            } else {
                Ok(Progress::More)
            };
            // A watch that keeps conflicting must not hold up the others: it goes to the queue.
            if matches!(progress, Ok(Progress::More) | Err(StoreError::Conflict)) {
                works.push(EvaluateWork::Watch {
                    project,
                    watch,
                    asked: false,
                });
            } else {
                progress?;
            }
        }
        // Watches come first, because they alert users; then the track by which a monitor judges, and the recently
        // requested ones.
        if let Some(of) = &head.expect {
            let left = self.follow_expected(project, head, of, &mut budget).await?;
            works.extend(left);
            tracks.retain(|(_, stored)| stored.of != *of);
        }
        for (track, stored) in tracks.iter().take(MAX_FOLLOWED) {
            match self.follow_stored(track, stored, head, &mut budget).await {
                Ok(Progress::More) | Err(StoreError::Conflict) => works.push(EvaluateWork::Track {
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

    /// Follows the detector by which a monitor judges a metric. Returns the work that is left.
    async fn follow_expected(
        &self,
        project: ProjectId,
        head: &Head,
        of: &Followed,
        budget: &mut usize,
    ) -> Result<Option<EvaluateWork>, StoreError> {
        let found = self.strategy(project, &of.strategy, Some(of.version));
        let compiled = found.await?.and_then(|(strategy, _)| {
            let compiled = strategy.compile(Some(&of.mode), &of.params, head.timeframe);
            compiled.ok()
        });
        let Some(compiled) = compiled else {
            return Ok(None);
        };
        let track = TrackId::new(project, &head.series, &of.strategy, of.version, &compiled);
        let program = Program::new(compiled.along(Some(head)));
        match self
            .follow(&track, (&program, of), head, budget, true)
            .await
        {
            Ok(Progress::Done(_)) => Ok(None),
            Ok(Progress::More) | Err(StoreError::Conflict) => Ok(Some(EvaluateWork::Track {
                project,
                series: head.series.clone(),
                timeframe: head.timeframe,
                key: track.key,
            })),
            Err(error) => Err(error),
        }
    }

    /// Follows a stored track, by the strategy that is stored with it.
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
        let program = Program::new(compiled.along(Some(head)));
        let followed = self.follow(track, (&program, of), head, budget, false);
        Ok(match followed.await? {
            Progress::Done(_) => Progress::Done(()),
            Progress::More => Progress::More,
        })
    }

    /// Follows a track to the last bar, for the work queue.
    async fn work_on_track(&self, track: &TrackId) -> Result<(), StoreError> {
        loop {
            let (stored, head) = futures::try_join!(
                self.store.track(track),
                self.store
                    .head(track.project, &track.series, track.timeframe)
            )?;
            let Some(head) = head else {
                return Ok(());
            };
            let mut budget = WORK_BARS;
            let Some(stored) = stored else {
                // A new one, by which a monitor judges.
                let Some(of) = &head.expect else {
                    return Ok(());
                };
                let followed = self.follow_expected(track.project, &head, of, &mut budget);
                return match followed.await? {
                    None => Ok(()),
                    // It kept conflicting: this work is delivered again.
                    Some(_) => Err(StoreError::Conflict),
                };
            };
            if self
                .follow_stored(track, &stored, &head, &mut budget)
                .await?
                != Progress::More
            {
                return Ok(());
            }
        }
    }

    /// Handles a watch that was created or changed. Returns the work that is left.
    pub(crate) async fn on_watch(
        &self,
        project: ProjectId,
        watch: WatchId,
    ) -> Result<Vec<EvaluateWork>, StoreError> {
        let mut budget = INLINE_BARS;
        Ok(
            match self
                .evaluate_watch(project, watch, &mut budget, true)
                .await?
            {
                Progress::Done(()) => Vec::new(),
                Progress::More => vec![EvaluateWork::Watch {
                    project,
                    watch,
                    asked: true,
                }],
            },
        )
    }

    /// Handles a new request for a signal or a backtest. Returns the work, if it takes too long for
    /// the stream.
    pub(crate) async fn on_request(
        &self,
        request: RequestId,
    ) -> Result<Vec<EvaluateWork>, StoreError> {
        Ok(match self.answer_guarded(request, INLINE_BARS).await? {
            Progress::Done(()) => Vec::new(),
            Progress::More => vec![EvaluateWork::Request { request }],
        })
    }

    /// Answers a request. If that panics or hits an item that can't be read, only this request
    /// fails.
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
                tracing::error!(%request, %error, "a request failed on an item that can't be read");
                self.give_up(request).await
            }
            Ok(result) => result,
            Err(_) => {
                tracing::error!(%request, "the handler panicked on a request");
                self.give_up(request).await
            }
        }
    }

    async fn give_up(&self, request: RequestId) -> Result<Progress<()>, StoreError> {
        let now = self.store.world().now();
        let error = "internal error; the details are in Thrum's log";
        self.store.finish_request(request, Err(error), now).await?;
        Ok(Progress::Done(()))
    }
}
