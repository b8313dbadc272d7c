//! Series: bars and scores, each written once, and the heads that describe them.

use crate::item::{self, MAPPING_VERSION};
use crate::key::Key;
use crate::table::{
    Query, TableError, Update, Write, add, attr, create, delete, put, remove, set, strings, update,
};
use crate::{Result, Store, StoreError};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use thrum_schema::id::ProjectId;
use thrum_schema::signal::series::{SeriesName, Timeframe};
use thrum_schema::signal::track::{Followed, Head, Holds, StoredBar, month};
use thrum_schema::signal::{Bar, Calendar, Score};
use thrum_schema::time::UnixMs;

/// How many bars to write concurrently.
const CONCURRENCY: usize = 32;
/// How many months to read concurrently.
const MONTHS_AT_A_TIME: usize = 2;
/// The longest month, in milliseconds.
const MONTH_MS: i64 = 31 * 86_400_000;
/// How many times to retry a correction that conflicts with another one of the same bar.
const MAX_ATTEMPTS: usize = 10;

/// The result of writing a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBar {
    /// The bar is new.
    Accepted,
    /// It existed already.
    Unchanged,
    /// It replaced a bar with different values.
    Revised,
}

/// The kind of data in a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// Bars.
    Bars,
    /// Sentiment.
    Sentiment,
}

/// The part of a watched series that evaluate must check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nudge {
    /// The kind of data that changed.
    pub fed: Fed,
    /// The first timestamp that changed.
    pub from: UnixMs,
    /// The last timestamp that changed.
    pub to: UnixMs,
}

/// A change of a series' head. `calls` is whether the stream forwards it to evaluate; the stream's
/// filter checks nothing else.
pub(super) fn head_update(
    project: ProjectId,
    series: &SeriesName,
    timeframe: Timeframe,
    calls: bool,
    change: Update,
) -> Write {
    let change = change
        .set("series", series.as_str())
        .set("timeframe", timeframe.to_string())
        .set("kind", "series")
        .set("v", MAPPING_VERSION)
        .set("calls", calls);
    update(Key::head(project, series, timeframe), change)
}

impl Store {
    /// A series and timeframe, if it exists. 1 RU.
    pub async fn head(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> Result<Option<Head>> {
        self.get(Key::head(project, series, timeframe)).await
    }

    /// All series of a project. 1 RU per 4 kB.
    pub async fn heads(&self, project: ProjectId) -> Result<Vec<Head>> {
        self.query(Query::of(Key::project(project).pk).prefix("SERIES#"))
            .await
    }

    /// Creates a series, or adds months that will have bars. `holds` says what they are, if they
    /// are known. 1 WU.
    pub async fn extend_series(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        months: &BTreeSet<String>,
        holds: Option<Holds>,
    ) -> Result<()> {
        let mut change = if months.is_empty() {
            Update::default()
        } else {
            add("months", strings(months))
        };
        if let Some(holds) = holds {
            let name = match holds {
                Holds::Bars => "bars",
                Holds::Values => "values",
            };
            change = change.set("holds", name);
        }
        self.write(head_update(project, series, timeframe, false, change))
            .await
            .map(drop)
    }

    /// Sets when the bars of a series are due, has all strategies on it start over, because gaps may
    /// be none now, and notifies evaluate. If this is repeated after a crash, the rest happens. 2 WU,
    /// and 1 per track and checkpoint.
    pub async fn set_calendar(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        calendar: &Calendar,
    ) -> Result<()> {
        let text = serde_json::to_string(calendar).expect("a calendar serializes to JSON");
        // The first nudge makes steps by the old calendar fail.
        let change = set("calendar", text).add("nudge", 1);
        self.write(head_update(project, series, timeframe, false, change))
            .await?;
        self.forget_tracks(project, series, timeframe, UnixMs(0))
            .await?;
        let nudge = add("nudge", 1);
        self.write(head_update(project, series, timeframe, true, nudge))
            .await
            .map(drop)
    }

    /// Has the tracks that are past `from` start over. 1 WU for each, and for each checkpoint.
    async fn forget_tracks(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        from: UnixMs,
    ) -> Result<()> {
        for (track, stored) in self.tracks(project, series, timeframe).await? {
            if stored.last.is_none_or(|last| last >= from) {
                self.forget_checkpoints(&track, UnixMs(0)).await?;
                self.forget_track(&track).await?;
            }
        }
        Ok(())
    }

    /// Records that the values from `at` on are the new normal, and notifies evaluate. 1 WU.
    pub async fn accept_level(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        at: UnixMs,
    ) -> Result<()> {
        let levels = BTreeSet::from([format!("{:013}", at.0)]);
        let change = add("levels", strings(&levels))
            .add("nudge", 1)
            .set("from", at)
            .set("to", at)
            .set("sentiment", false);
        self.write(head_update(project, series, timeframe, true, change))
            .await
            .map(drop)
    }

    /// Deletes up to `limit` bars from `from` to `to`, with their signals, has the strategies that are
    /// past `from` start over, and notifies evaluate. Returns how many were deleted. If this is
    /// repeated after a crash, the rest happens. 1 WU for each item.
    pub async fn delete_bars(
        &self,
        project: ProjectId,
        head: &Head,
        from: UnixMs,
        to: UnixMs,
        limit: usize,
    ) -> Result<usize> {
        let (series, timeframe) = (&head.series, head.timeframe);
        let bars = self.bars(project, head, from, to, limit).await?;
        let until = match bars.last() {
            Some(last) if bars.len() == limit => last.t,
            _ => to,
        };
        let mut keys = self
            .signal_keys(project, series, timeframe, from, until)
            .await?;
        let deleted = bars.len();
        let bars = bars.iter();
        keys.extend(bars.map(|bar| Key::bar(project, series, timeframe, bar.t)));
        self.write_many(keys.into_iter().map(delete).collect())
            .await?;
        let nudge = Nudge {
            fed: Fed::Bars,
            from,
            to: until,
        };
        // The first nudge makes steps fail that read these bars before.
        self.nudge(project, series, timeframe, nudge, None).await?;
        self.forget_tracks(project, series, timeframe, from).await?;
        self.nudge(project, series, timeframe, nudge, None).await?;
        Ok(deleted)
    }

    /// The keys of all signals of bars from `from` to `to`, also those of tracks that are gone.
    async fn signal_keys(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        from: UnixMs,
        to: UnixMs,
    ) -> Result<Vec<Key>> {
        #[derive(serde::Deserialize)]
        struct Keyed {
            pk: String,
            sk: String,
        }
        let any = Key::signals_of(project, series, timeframe);
        let found: Vec<Keyed> = self.query(Query::of(any.pk).prefix(any.sk)).await?;
        let is_meant = |found: &Keyed| {
            let bar = found.sk.rsplit('#').nth(1).and_then(|ms| ms.parse().ok());
            bar.is_some_and(|ms| (from..=to).contains(&UnixMs(ms)))
        };
        let meant = found.into_iter().filter(is_meant);
        Ok(meant.map(|found| Key::new(found.pk, found.sk)).collect())
    }

    /// Deletes a series that has no bars left, with its tracks, and its sentiment if no other
    /// timeframe has it. 1 WU for each item.
    pub async fn delete_series(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> Result<()> {
        self.forget_tracks(project, series, timeframe, UnixMs(0))
            .await?;
        let others = self.heads(project).await?;
        let is_other = |head: &Head| head.series == *series && head.timeframe != timeframe;
        if !others.iter().any(is_other) {
            let scores = self.scores(project, series, None, UnixMs::LATEST).await?;
            let keys = scores
                .iter()
                .map(|score| Key::score(project, series, score.time));
            self.write_many(keys.map(delete).collect()).await?;
        }
        self.write(delete(Key::head(project, series, timeframe)))
            .await
            .map(drop)
    }

    /// Records by which detector a monitor judges a metric, if any, and has evaluate follow it. 1 WU.
    pub async fn set_expected(
        &self,
        project: ProjectId,
        series: &SeriesName,
        expect: Option<&Followed>,
    ) -> Result<()> {
        let change = match expect {
            Some(_) => {
                let text = serde_json::to_string(&expect).expect("numbers are finite");
                set("expect", text).set("followed", true)
            }
            None => remove("expect"),
        };
        let change = change.add("nudge", 1);
        self.write(head_update(project, series, Timeframe::TICK, true, change))
            .await
            .map(drop)
    }

    /// Records that a strategy is followed along a series. 1 WU.
    pub async fn mark_followed(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> Result<()> {
        let followed = set("followed", true);
        self.write(head_update(project, series, timeframe, false, followed))
            .await
            .map(drop)
    }

    /// Records that bars up to `through` are completely written, unless later ones are recorded
    /// already. 1 WU.
    pub async fn extend_through(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        through: UnixMs,
    ) -> Result<()> {
        let further = attr("through").missing().or(attr("through").below(through));
        let extended = head_update(project, series, timeframe, false, set("through", through));
        self.try_write(extended.when(further)).await.map(drop)
    }

    /// Notifies evaluate of bars or scores that were written, with one stream record for all of
    /// them. `heard` is when new bars arrived, if any did. 1 WU.
    pub async fn nudge(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        nudge: Nudge,
        heard: Option<UnixMs>,
    ) -> Result<()> {
        let mut change = add("nudge", 1)
            .set("from", nudge.from)
            .set("to", nudge.to)
            .set("sentiment", nudge.fed == Fed::Sentiment);
        if let Some(heard) = heard {
            change = change.set("heard", heard);
        }
        self.write(head_update(project, series, timeframe, true, change))
            .await
            .map(drop)
    }

    /// Writes bars: each is created if it does not exist, and replaces a different one as a
    /// correction. 1 WU per bar, plus 1 per correction. The results are in the order of the bars.
    pub async fn put_bars(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        bars: &[Bar],
        now: UnixMs,
    ) -> Result<Vec<PutBar>> {
        stream::iter(bars.to_vec())
            .map(|bar| self.put_bar(project, series, timeframe, bar, now))
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    async fn put_bar(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        bar: Bar,
        now: UnixMs,
    ) -> Result<PutBar> {
        let mut before: Option<StoredBar> = None;
        for _ in 0..MAX_ATTEMPTS {
            let rev = before.map_or(0, |before| before.rev + 1);
            let stored = StoredBar::new(&bar, rev, now);
            let bar_item = item::bar(project, series, timeframe, &stored);
            let write = match before {
                None => create(bar_item),
                Some(before) => put(bar_item).when(attr("rev").eq(before.rev)),
            };
            let found = match self.table.write(write).await {
                Ok(_) if before.is_none() => return Ok(PutBar::Accepted),
                Ok(_) => return Ok(PutBar::Revised),
                Err(TableError::Condition { found, .. }) => found,
                Err(error) => return Err(error.into()),
            };
            let found: Option<StoredBar> = found.map(|found| item::decode(*found)).transpose()?;
            match found {
                Some(found) if found.bar() == bar => return Ok(PutBar::Unchanged),
                found => before = found,
            }
        }
        Err(StoreError::Conflict)
    }

    /// The bars of a series from `from` to `to`, inclusive, in order of time, at most `limit`, from
    /// the months that the head lists. 1 RU per 4 kB, and at least 0.5 RU per month.
    pub async fn bars(
        &self,
        project: ProjectId,
        head: &Head,
        from: UnixMs,
        to: UnixMs,
        limit: usize,
    ) -> Result<Vec<StoredBar>> {
        let (first, last) = (month(from), month(to));
        if first > last {
            return Ok(Vec::new());
        }
        let months = head.months.range(first..=last);
        let queries = months.map(|month| bars_of_month(project, head, month, from, to));
        self.bars_of_months(head.timeframe, queries.collect(), limit)
            .await
    }

    /// The last bars of a series up to `to`, newest first, at most `limit`. Costs the same as
    /// [`Self::bars`].
    pub async fn last_bars(
        &self,
        project: ProjectId,
        head: &Head,
        to: UnixMs,
        limit: usize,
    ) -> Result<Vec<StoredBar>> {
        let months = head.months.range(..=month(to)).rev();
        let queries =
            months.map(|month| bars_of_month(project, head, month, UnixMs(0), to).newest_first());
        self.bars_of_months(head.timeframe, queries.collect(), limit)
            .await
    }

    /// The first `limit` bars that these queries find. Months that are needed in any case, because
    /// no month has more bars than fit into it, are read at the same time.
    async fn bars_of_months(
        &self,
        timeframe: Timeframe,
        mut queries: Vec<Query>,
        limit: usize,
    ) -> Result<Vec<StoredBar>> {
        let fit = timeframe
            .ms()
            .and_then(|ms| usize::try_from(MONTH_MS / ms).ok());
        let mut bars = Vec::new();
        while let left @ 1.. = limit.saturating_sub(bars.len())
            && !queries.is_empty()
        {
            let needed = fit.map_or(1, |fit| (left / fit.max(1)).max(1));
            let rest = queries.split_off(needed.min(queries.len()));
            let mut found = stream::iter(queries)
                .map(|query| self.query::<StoredBar>(query.limit(left)))
                .buffered(MONTHS_AT_A_TIME);
            while let Some(month) = found.try_next().await? {
                bars.extend(month);
            }
            drop(found);
            queries = rest;
        }
        bars.truncate(limit);
        Ok(bars)
    }

    /// Writes scores; each replaces one with the same timestamp. 1 WU each.
    pub async fn put_scores(
        &self,
        project: ProjectId,
        series: &SeriesName,
        scores: &[Score],
    ) -> Result<()> {
        stream::iter(scores.to_vec())
            .map(|score| self.put(item::score(project, series, &score)))
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// The scores after `after` and up to `to`, in order of time. 1 RU per 4 kB.
    pub async fn scores(
        &self,
        project: ProjectId,
        series: &SeriesName,
        after: Option<UnixMs>,
        to: UnixMs,
    ) -> Result<Vec<Score>> {
        let from = after.map_or(UnixMs(0), |after| after + 1);
        let (from, to) = (
            Key::score(project, series, from),
            Key::score(project, series, to),
        );
        self.query(Query::of(from.pk).between(from.sk, to.sk)).await
    }

    /// The last score at or before `at`. 1 RU.
    pub async fn last_score(
        &self,
        project: ProjectId,
        series: &SeriesName,
        at: UnixMs,
    ) -> Result<Option<Score>> {
        let (from, to) = (
            Key::score(project, series, UnixMs(0)),
            Key::score(project, series, at),
        );
        let last = Query::of(from.pk).between(from.sk, to.sk);
        let found = self.query(last.newest_first().limit(1)).await?;
        Ok(found.into_iter().next())
    }
}

fn bars_of_month(project: ProjectId, head: &Head, month: &str, from: UnixMs, to: UnixMs) -> Query {
    let edge = |at: UnixMs| format!("{:013}", at.0.clamp(0, 9_999_999_999_999));
    Query::of(Key::bars_of(project, &head.series, head.timeframe, month))
        .between(edge(from), edge(to))
}
