//! Tracks: how far a strategy has been followed along a series, and the signals it gave.

use crate::item;
use crate::key::Key;
use crate::table::{Query, attr, check, create, delete, put};
use crate::{Result, Store};
use thrum_schema::id::ProjectId;
use thrum_schema::signal::series::{SeriesName, Timeframe};
use thrum_schema::signal::track::{Checkpoint, Signal, TrackId, TrackState};
use thrum_schema::time::UnixMs;

/// A track's item, with the part of its key that identifies it.
#[derive(serde::Deserialize)]
struct Keyed {
    sk: String,
    #[serde(flatten)]
    state: TrackState,
}

/// Everything that a track's next step writes, in one transaction.
#[derive(Debug)]
pub struct Advance<'a> {
    /// The version that was read; `None` for a new track.
    pub before: Option<u64>,
    /// The new progress.
    pub state: &'a TrackState,
    /// Signals, each in a revision that does not exist yet.
    pub signals: &'a [Signal],
    /// States to restart from.
    pub checkpoints: &'a [Checkpoint],
    /// The series' nudge counter before its bars were read: it must not have changed since.
    pub nudge: Option<u64>,
}

impl Store {
    /// A track's progress. 1 RU per 4 kB.
    pub async fn track(&self, track: &TrackId) -> Result<Option<TrackState>> {
        self.get(Key::track(track)).await
    }

    /// All tracks along a series and timeframe, with their ids. 1 RU per 4 kB.
    pub async fn tracks(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> Result<Vec<(TrackId, TrackState)>> {
        let any = TrackId {
            project,
            series: series.clone(),
            timeframe,
            key: format!("{timeframe}#"),
        };
        let key = Key::track(&any);
        let found: Vec<Keyed> = self.query(Query::of(key.pk).prefix(key.sk)).await?;
        let keyed = found.into_iter().map(|found| {
            let key = found.sk.trim_start_matches("STATE#").to_owned();
            (TrackId { key, ..any.clone() }, found.state)
        });
        Ok(keyed.collect())
    }

    /// Deletes a track's progress; its signals stay. 1 WU.
    pub async fn forget_track(&self, track: &TrackId) -> Result<()> {
        self.write(delete(Key::track(track))).await.map(drop)
    }

    /// Advances a track, guarded by its version. 6 WU for a bar that arrives in order, regardless
    /// of the history.
    ///
    /// # Errors
    /// [`crate::StoreError::Conflict`] if another process advanced it, or the series was nudged.
    pub async fn advance_track(
        &self,
        track: &TrackId,
        advance: &Advance<'_>,
        now: UnixMs,
    ) -> Result<()> {
        let state = item::track(track, advance.state, now);
        let mut writes = vec![match advance.before {
            None => create(state),
            Some(version) => put(state).when(attr("version").eq(version)),
        }];
        let signals = advance.signals.iter();
        writes.extend(signals.map(|signal| create(item::signal(track, signal))));
        if let Some(nudge) = advance.nudge {
            let head = Key::head(track.project, &track.series, track.timeframe);
            let unchanged = match nudge {
                0 => attr("nudge").missing(),
                nudge => attr("nudge").eq(nudge),
            };
            writes.push(check(head, unchanged));
        }
        let checkpoints = advance.checkpoints.iter();
        writes.extend(checkpoints.map(|checkpoint| put(item::checkpoint(track, checkpoint, now))));
        self.transact(writes).await
    }

    /// The last checkpoint of a track before `before`. 1 RU per 4 kB.
    pub async fn checkpoint_before(
        &self,
        track: &TrackId,
        before: UnixMs,
    ) -> Result<Option<Checkpoint>> {
        let (from, to) = (
            Key::checkpoint(track, UnixMs(0)),
            Key::checkpoint(track, before - 1),
        );
        let last = Query::of(from.pk).between(from.sk, to.sk);
        let found = self.query(last.newest_first().limit(1)).await?;
        Ok(found.into_iter().next())
    }

    /// Deletes the checkpoints of a track from `from` on, because earlier bars were corrected. 1 WU
    /// each.
    pub async fn forget_checkpoints(&self, track: &TrackId, from: UnixMs) -> Result<()> {
        let (first, last) = (
            Key::checkpoint(track, from),
            Key::checkpoint(track, UnixMs(9_999_999_999_999)),
        );
        let later = Query::of(first.pk).between(first.sk, last.sk);
        for checkpoint in self.query::<Checkpoint>(later).await? {
            let key = Key::checkpoint(track, checkpoint.last);
            self.write(delete(key)).await?;
        }
        Ok(())
    }

    /// The signals of the bars from `from` to `to`, in all revisions, in order, at most `limit`. 1
    /// RU per 4 kB.
    pub async fn signals(
        &self,
        track: &TrackId,
        from: UnixMs,
        to: UnixMs,
        limit: Option<usize>,
        newest_first: bool,
    ) -> Result<Vec<Signal>> {
        let edge = |at: UnixMs| UnixMs(at.0.clamp(0, 9_999_999_999_999));
        let (from, to) = (
            Key::signal(track, edge(from), 0),
            Key::signal(track, edge(to), 99_999),
        );
        let query = Query {
            newest_first,
            limit,
            ..Query::of(from.pk).between(from.sk, to.sk)
        };
        self.query(query).await
    }

    /// The signal of the last bar at or before `at`, in its latest revision. 1 RU.
    pub async fn signal_at(&self, track: &TrackId, at: UnixMs) -> Result<Option<Signal>> {
        let found = self.signals(track, UnixMs(0), at, Some(1), true).await?;
        Ok(found.into_iter().next())
    }
}
