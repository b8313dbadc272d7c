//! Corrections: bars or scores that change the past of tracks.

use super::MAX_ATTEMPTS;
use crate::Evaluate;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use thrum_schema::UnixMs;
use thrum_schema::id::ProjectId;
use thrum_schema::signal::Score;
use thrum_schema::signal::track::{Head, Signal, TrackId, TrackState};
use thrum_store::StoreError;
use thrum_store::{Advance, Result};

/// How many bars are compared at a time with those that a track has processed.
const MAX_COMPARED: usize = 2_000;
/// How many pages of [`MAX_COMPARED`] bars are compared. The rest is stepped again without a
/// comparison.
const MAX_PAGES: usize = 50;
/// How long before the start of a track a bar must have arrived for the track to have certainly
/// processed it, in milliseconds: a request may take 30 s, and clocks differ.
const RECEIPT_MARGIN_MS: i64 = 60_000;

impl Evaluate {
    /// Rewinds every track that is past the changed bars or scores to its last checkpoint before
    /// them, unless the track has already processed exactly this change: handling a record twice
    /// changes nothing. The track is stepped again when it is followed next. Returns all tracks of
    /// the series, as they were before.
    pub(crate) async fn correct(
        &self,
        project: ProjectId,
        head: &Head,
    ) -> Result<Vec<(TrackId, TrackState)>> {
        let tracks = self
            .store
            .tracks(project, &head.series, head.timeframe)
            .await?;
        for (track, stored) in &tracks {
            self.accept_levels(track, stored.clone(), head).await?;
        }
        let (Some(from), Some(to)) = (head.from, head.to) else {
            return Ok(tracks);
        };
        let from = match head.timeframe.ms() {
            // A score applies from the first bar that closes at or after it.
            Some(ms) if head.sentiment => from - ms,
            _ => from,
        };
        for (track, stored) in &tracks {
            let ahead = stored.last.is_none_or(|last| last < from);
            // A score applies to later bars, too.
            let ignored = to < stored.start && !head.sentiment;
            if ahead || ignored || (head.sentiment && !stored.sentiment) {
                continue;
            }
            self.correct_track(track, stored.clone(), head, from, to)
                .await?;
        }
        Ok(tracks)
    }

    /// Rewinds the track of a detector to before the first level that was accepted since, or that
    /// is no longer accepted.
    async fn accept_levels(
        &self,
        track: &TrackId,
        mut stored: TrackState,
        head: &Head,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(applied) = &stored.levels else {
                return Ok(());
            };
            let changed = applied.symmetric_difference(&head.levels);
            let Some(first) = changed.filter_map(|at| at.parse().ok().map(UnixMs)).min() else {
                return Ok(());
            };
            let levels = Some(head.levels.clone());
            match self.try_rewind(track, stored, first, levels).await? {
                Some(newer) => stored = newer,
                None => return Ok(()),
            }
        }
        Err(StoreError::Conflict)
    }

    async fn correct_track(
        &self,
        track: &TrackId,
        mut stored: TrackState,
        head: &Head,
        from: UnixMs,
        to: UnixMs,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let from = from.max(stored.start);
            let Some(last) = stored.last.filter(|last| *last >= from) else {
                return Ok(());
            };
            let stale = if head.sentiment {
                self.first_bar_with_stale_score(track, &stored, head, from)
                    .await?
            } else {
                self.first_stale_bar(track, &stored, head, from, to.min(last))
                    .await?
            };
            let Some(at) = stale else {
                return Ok(());
            };
            let levels = stored.levels.clone();
            match self.try_rewind(track, stored, at, levels).await? {
                Some(newer) => stored = newer,
                None => return Ok(()),
            }
        }
        Err(StoreError::Conflict)
    }

    /// The first bar from `from` to `to` that the track has not processed, or processed in a
    /// different revision.
    async fn first_stale_bar(
        &self,
        track: &TrackId,
        stored: &TrackState,
        head: &Head,
        from: UnixMs,
        to: UnixMs,
    ) -> Result<Option<UnixMs>> {
        let mut from = from;
        for _ in 0..MAX_PAGES {
            let bars = self
                .store
                .bars(track.project, head, from, to, MAX_COMPARED)
                .await?;
            let Some(last) = bars.last() else {
                return Ok(None);
            };
            let signals = self.latest_signals(track, from, last.t).await?;
            let stale = bars.iter().find(|bar| match signals.get(&bar.t) {
                Some(signal) => signal.bar_rev != bar.rev,
                None if bar.t < stored.since => bar.at + RECEIPT_MARGIN_MS >= stored.begun,
                None => true,
            });
            if stale.is_some() || bars.len() < MAX_COMPARED {
                return Ok(stale.map(|bar| bar.t));
            }
            from = last.t + 1;
        }
        Ok(Some(from))
    }

    /// The first bar from `from` on whose signal used a different sentiment score than it would
    /// now.
    async fn first_bar_with_stale_score(
        &self,
        track: &TrackId,
        stored: &TrackState,
        head: &Head,
        from: UnixMs,
    ) -> Result<Option<UnixMs>> {
        if from < stored.since {
            return Ok(Some(from));
        }
        let close = |bar| head.timeframe.close_of(bar);
        let found = self
            .store
            .signals(track, from, UnixMs::LATEST, Some(MAX_COMPARED), false)
            .await?;
        if found.len() == MAX_COMPARED {
            return Ok(Some(from));
        }
        let signals: BTreeMap<UnixMs, Signal> = found
            .into_iter()
            .map(|signal| (signal.bar, signal))
            .collect();
        let Some((last, _)) = signals.last_key_value() else {
            return Ok(None);
        };
        let first = self
            .store
            .last_score(track.project, &track.series, close(from))
            .await?;
        let after = first.map(|score| score.time);
        let later = self
            .store
            .scores(track.project, &track.series, after, close(*last))
            .await?;
        let scores: Vec<Score> = first.into_iter().chain(later).collect();
        let stale = signals.values().find(|signal| {
            let known = scores.partition_point(|score| score.time <= close(signal.bar));
            known.checked_sub(1).map(|i| scores[i]) != signal.score
        });
        Ok(stale.map(|signal| signal.bar))
    }

    async fn latest_signals(
        &self,
        track: &TrackId,
        from: UnixMs,
        to: UnixMs,
    ) -> Result<HashMap<UnixMs, Signal>> {
        let found = self.store.signals(track, from, to, None, false).await?;
        Ok(found
            .into_iter()
            .map(|signal| (signal.bar, signal))
            .collect())
    }

    /// Rewinds a track. If it was advanced in the meantime, returns its new state, to try again.
    async fn try_rewind(
        &self,
        track: &TrackId,
        stored: TrackState,
        at: UnixMs,
        levels: Option<BTreeSet<String>>,
    ) -> Result<Option<TrackState>> {
        match self.rewind(track, &stored, at, levels).await {
            Err(StoreError::Conflict) => self.store.track(track).await,
            result => result.map(|()| None),
        }
    }

    /// Rewinds a track to its last checkpoint before `at`, or to its start.
    async fn rewind(
        &self,
        track: &TrackId,
        stored: &TrackState,
        at: UnixMs,
        levels: Option<BTreeSet<String>>,
    ) -> Result<()> {
        let now = self.store.world().now();
        let checkpoint = self.store.checkpoint_before(track, at).await?;
        // Before the state is written: if another handler advances the track in the meantime, that
        // write fails, and the correction is retried.
        self.store.forget_checkpoints(track, at).await?;
        let (last, state) = match checkpoint {
            Some(checkpoint) => (Some(checkpoint.last), checkpoint.state),
            None => (None, Vec::new()),
        };
        let rewound = TrackState {
            of: stored.of.clone(),
            asked: stored.asked,
            version: stored.version + 1,
            last,
            start: stored.start,
            high: stored.high.max(stored.last),
            since: stored.since,
            begun: now,
            sentiment: stored.sentiment,
            levels,
            state,
        };
        let advance = Advance {
            before: Some(stored.version),
            state: &rewound,
            signals: &[],
            checkpoints: &[],
            nudge: None,
        };
        self.store.advance_track(track, &advance, now).await
    }
}
