//! Tracks: how far a strategy is along a series, and the signals that it gave.

use super::{Query, Result, Store, classify};
use crate::id::ProjectId;
use crate::item::{self, Key, n};
use crate::signal::series::{SeriesName, Timeframe};
use crate::signal::track::{Checkpoint, Signal, TrackId, TrackState};
use crate::time::UnixMs;
use aws_sdk_dynamodb::types::TransactWriteItem;

/// A track's item, with the part of its key that names it.
#[derive(serde::Deserialize)]
struct Keyed {
    sk: String,
    #[serde(flatten)]
    state: TrackState,
}

/// What a track's next step writes, all of it or nothing.
#[derive(Debug)]
pub struct Advance<'a> {
    /// The version that it was read in; none if it was not there.
    pub before: Option<u64>,
    /// How far it is now.
    pub state: &'a TrackState,
    /// Signals, each in a revision that is not there yet.
    pub signals: &'a [Signal],
    /// States to begin from again.
    pub checkpoints: &'a [Checkpoint],
    /// How often the series had been nudged before its bars were read: none may have come since.
    pub nudge: Option<u64>,
}

impl Store {
    /// How far a track is. 1 RU per 4 kB.
    pub async fn track(&self, track: &TrackId) -> Result<Option<TrackState>> {
        self.get(&Key::track(track)).await
    }

    /// All tracks along a series and timeframe, by their keys. 1 RU per 4 kB.
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
        let query = Query {
            consistent: true,
            ..Query::default()
        };
        let found: Vec<Keyed> = self.query_prefix(&key.pk, &key.sk, query).await?;
        let keyed = found.into_iter().map(|found| {
            let key = found.sk.trim_start_matches("STATE#").to_owned();
            (TrackId { key, ..any.clone() }, found.state)
        });
        Ok(keyed.collect())
    }

    /// Forgets how far a track is; its signals stay. 1 WU.
    pub async fn forget_track(&self, track: &TrackId) -> Result<()> {
        self.client
            .delete_item()
            .table_name(&*self.table)
            .set_key(Some(Key::track(track).attributes()))
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }

    /// Moves a track on, guarded by its version. 6 WU for a bar in its order, whatever the history.
    ///
    /// # Errors
    /// [`super::StoreError::Conflict`] if somebody else moved it, or the series was nudged.
    pub async fn advance_track(
        &self,
        track: &TrackId,
        advance: &Advance<'_>,
        now: UnixMs,
    ) -> Result<()> {
        let put = self.put_item(item::track(track, advance.state, now));
        let put = match advance.before {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(version) => put
                .condition_expression("version = :version")
                .expression_attribute_values(":version", n(version)),
        };
        let mut writes = vec![
            TransactWriteItem::builder()
                .put(put.build().expect("complete"))
                .build(),
        ];
        writes.extend(
            advance
                .signals
                .iter()
                .map(|signal| self.create(item::signal(track, signal))),
        );
        if let Some(nudge) = advance.nudge {
            let head = Key::head(track.project, &track.series, track.timeframe);
            let condition = if nudge == 0 {
                "attribute_not_exists(nudge)"
            } else {
                "nudge = :nudge"
            };
            let values = if nudge == 0 {
                Vec::new()
            } else {
                vec![(":nudge", n(nudge))]
            };
            writes.push(self.check(&head, condition, values));
        }
        let checkpoints = advance.checkpoints.iter();
        writes.extend(
            checkpoints.map(|checkpoint| self.write(item::checkpoint(track, checkpoint, now))),
        );
        self.transact(writes).await
    }

    /// The last state of a track at a bar before `before`. 1 RU per 4 kB.
    pub async fn checkpoint_before(
        &self,
        track: &TrackId,
        before: UnixMs,
    ) -> Result<Option<Checkpoint>> {
        let query = Query {
            consistent: true,
            newest_first: true,
            limit: Some(1),
        };
        let (from, to) = (
            Key::checkpoint(track, UnixMs(0)),
            Key::checkpoint(track, before - 1),
        );
        let found = self
            .query_between(&from.pk, &from.sk, &to.sk, query)
            .await?;
        Ok(found.into_iter().next())
    }

    /// Deletes the states of a track from `from` on: they are of a past that was corrected. 1 WU each.
    pub async fn forget_checkpoints(&self, track: &TrackId, from: UnixMs) -> Result<()> {
        let query = Query {
            consistent: true,
            ..Query::default()
        };
        let (first, last) = (
            Key::checkpoint(track, from),
            Key::checkpoint(track, UnixMs(9_999_999_999_999)),
        );
        let found: Vec<Checkpoint> = self
            .query_between(&first.pk, &first.sk, &last.sk, query)
            .await?;
        for checkpoint in found {
            self.client
                .delete_item()
                .table_name(&*self.table)
                .set_key(Some(Key::checkpoint(track, checkpoint.last).attributes()))
                .send()
                .await
                .map_err(classify)?;
        }
        Ok(())
    }

    /// The signals of the bars from `from` to `to`, every revision of them, in their order, at most `limit`. 1 RU per 4 kB.
    pub async fn signals(
        &self,
        track: &TrackId,
        from: UnixMs,
        to: UnixMs,
        limit: Option<usize>,
        newest_first: bool,
    ) -> Result<Vec<Signal>> {
        let query = Query {
            consistent: true,
            newest_first,
            limit: limit.and_then(|limit| i32::try_from(limit).ok()),
        };
        let edge = |at: UnixMs| UnixMs(at.0.clamp(0, 9_999_999_999_999));
        let (from, to) = (
            Key::signal(track, edge(from), 0),
            Key::signal(track, edge(to), 99_999),
        );
        self.query_between(&from.pk, &from.sk, &to.sk, query).await
    }

    /// The signal of the last bar at or before `at`, in its latest revision. 1 RU.
    pub async fn signal_at(&self, track: &TrackId, at: UnixMs) -> Result<Option<Signal>> {
        let found = self.signals(track, UnixMs(0), at, Some(1), true).await?;
        Ok(found.into_iter().next())
    }
}
