//! Series: bars and scores, each written once, and the heads that say what is there.

use super::{Query, Result, Store, StoreError, classify, values_of};
use crate::id::ProjectId;
use crate::item::{self, Key, n, s};
use crate::signal::series::{SeriesName, Timeframe};
use crate::signal::track::{Head, StoredBar, month};
use crate::signal::{Bar, Score};
use crate::time::UnixMs;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;

/// How many bars are written at a time.
const CONCURRENCY: usize = 32;
/// How often a correction is tried against others of the same bar.
const MAX_ATTEMPTS: usize = 10;

/// What became of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBar {
    /// It is new.
    Accepted,
    /// It was there.
    Unchanged,
    /// It was there with other figures, which it takes the place of.
    Revised,
}

/// What a series was fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// Bars.
    Bars,
    /// Sentiment.
    Sentiment,
}

/// What evaluate is told of a series that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nudge {
    /// What with.
    pub fed: Fed,
    /// The first instant that is touched.
    pub from: UnixMs,
    /// And the last.
    pub to: UnixMs,
}

/// A change of a series' head, besides what every change says.
pub(super) struct HeadChange {
    /// Whether evaluate is called for it: the stream's filter looks at this alone.
    pub calls: bool,
    /// More that is set, each after a comma.
    pub set: &'static str,
    /// What else the update does.
    pub action: &'static str,
    /// On which condition; on none if it is empty.
    pub condition: &'static str,
    /// Names in it.
    pub names: &'static [(&'static str, &'static str)],
    /// Values in it.
    pub values: Vec<(&'static str, AttributeValue)>,
}

impl HeadChange {
    /// One that evaluate is not called for.
    pub fn quiet() -> Self {
        Self {
            calls: false,
            set: "",
            action: "",
            condition: "",
            names: &[],
            values: Vec::new(),
        }
    }

    /// The update's expression and values.
    pub fn expression(
        self,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> (String, Vec<(&'static str, AttributeValue)>) {
        let expression = format!(
            "SET series = :series, timeframe = :timeframe, kind = :kind, v = :v, calls = :calls{} {}",
            self.set, self.action
        );
        let mut values = self.values;
        values.extend([
            (":series", s(series.as_str())),
            (":timeframe", s(timeframe.to_string())),
            (":kind", s("series")),
            (":v", n(item::MAPPING_VERSION)),
            (":calls", AttributeValue::Bool(self.calls)),
        ]);
        (expression.trim_end().to_owned(), values)
    }
}

impl Store {
    /// A series and timeframe, if it is there. 1 RU.
    pub async fn head(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> Result<Option<Head>> {
        self.get(&Key::head(project, series, timeframe)).await
    }

    /// All series of a project. 1 RU per 4 kB.
    pub async fn heads(&self, project: ProjectId) -> Result<Vec<Head>> {
        let pk = Key::project(project).pk;
        let query = Query {
            consistent: true,
            ..Query::default()
        };
        self.query_prefix(&pk, "SERIES#", query).await
    }

    /// Makes a series, or adds months to it that will have bars. 1 WU.
    pub async fn extend_series(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        months: &BTreeSet<String>,
    ) -> Result<()> {
        let mut change = HeadChange::quiet();
        if !months.is_empty() {
            change.action = "ADD months :months";
            let months = months.iter().cloned().collect();
            change.values.push((":months", AttributeValue::Ss(months)));
        }
        let key = Key::head(project, series, timeframe);
        self.change_head(&key, series, timeframe, change).await
    }

    /// Notes that a strategy is followed along a series. 1 WU.
    pub async fn mark_followed(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
    ) -> Result<()> {
        let mut change = HeadChange::quiet();
        change.set = ", followed = :true";
        change.values.push((":true", AttributeValue::Bool(true)));
        let key = Key::head(project, series, timeframe);
        self.change_head(&key, series, timeframe, change).await
    }

    /// Notes that bars up to `through` are written in whole, unless later ones are noted already. 1 WU.
    pub async fn extend_through(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        through: UnixMs,
    ) -> Result<()> {
        let mut change = HeadChange::quiet();
        change.set = ", through = :through";
        change.condition = "attribute_not_exists(through) OR through < :through";
        change.values.push((":through", n(through.0)));
        let key = Key::head(project, series, timeframe);
        match self.change_head(&key, series, timeframe, change).await {
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells evaluate of bars or scores that were written: one stream record, however many there are; with when new bars
    /// were `heard`, if there were any. 1 WU.
    pub async fn nudge(
        &self,
        project: ProjectId,
        series: &SeriesName,
        timeframe: Timeframe,
        nudge: Nudge,
        heard: Option<UnixMs>,
    ) -> Result<()> {
        let mut change = HeadChange {
            calls: true,
            set: ", #from = :from, #to = :to, sentiment = :sentiment",
            action: "ADD nudge :one",
            names: &[("#from", "from"), ("#to", "to")],
            ..HeadChange::quiet()
        };
        let sentiment = AttributeValue::Bool(nudge.fed == Fed::Sentiment);
        change.values.extend([
            (":from", n(nudge.from.0)),
            (":to", n(nudge.to.0)),
            (":sentiment", sentiment),
            (":one", n(1)),
        ]);
        if let Some(heard) = heard {
            change.set = ", #from = :from, #to = :to, sentiment = :sentiment, heard = :heard";
            change.values.push((":heard", n(heard.0)));
        }
        let key = Key::head(project, series, timeframe);
        self.change_head(&key, series, timeframe, change).await
    }

    async fn change_head(
        &self,
        key: &Key,
        series: &SeriesName,
        timeframe: Timeframe,
        change: HeadChange,
    ) -> Result<()> {
        let condition = (!change.condition.is_empty()).then(|| change.condition.to_owned());
        let names = super::names_of(change.names);
        let (expression, values) = change.expression(series, timeframe);
        self.client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(key.attributes()))
            .update_expression(expression)
            .set_condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values_of(values))
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }

    /// Writes bars, each on condition that it is not there, and what differs from what is there as a correction. 1 WU a
    /// bar, and one more for a correction. The results are in their order.
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
            let put = self
                .client
                .put_item()
                .table_name(&*self.table)
                .set_item(Some(item::bar(project, series, timeframe, &stored)))
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                );
            let put = match before {
                None => put.condition_expression("attribute_not_exists(pk)"),
                Some(before) => put
                    .condition_expression("rev = :rev")
                    .expression_attribute_values(":rev", n(before.rev)),
            };
            let error = match put.send().await {
                Ok(_) if before.is_none() => return Ok(PutBar::Accepted),
                Ok(_) => return Ok(PutBar::Revised),
                Err(error) => error,
            };
            let found = match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => failed.item.clone(),
                _ => return Err(classify(error)),
            };
            let found: Option<StoredBar> = found
                .filter(|item| !item.is_empty())
                .map(item::decode)
                .transpose()?;
            match found {
                Some(found) if found.bar() == bar => return Ok(PutBar::Unchanged),
                found => before = found,
            }
        }
        Err(StoreError::Conflict)
    }

    /// The bars of a series from `from` to `to`, both included, in the order of their times, at most `limit`, of the
    /// months that the head knows. 1 RU per 4 kB, and at least a half a month.
    pub async fn bars(
        &self,
        project: ProjectId,
        head: &Head,
        from: UnixMs,
        to: UnixMs,
        limit: usize,
    ) -> Result<Vec<StoredBar>> {
        let (first, last) = (month(from), month(to));
        let mut bars = Vec::new();
        if first > last {
            return Ok(bars);
        }
        for month in head.months.range(first..=last) {
            let left = limit.saturating_sub(bars.len());
            if left == 0 {
                break;
            }
            let query = Query {
                consistent: true,
                newest_first: false,
                limit: i32::try_from(left).ok(),
            };
            bars.extend(
                self.bars_of_month(project, head, month, from, to, query)
                    .await?,
            );
        }
        Ok(bars)
    }

    /// The last bars of a series up to `to`, newest first, at most `limit`. Costs as [`Self::bars`].
    pub async fn last_bars(
        &self,
        project: ProjectId,
        head: &Head,
        to: UnixMs,
        limit: usize,
    ) -> Result<Vec<StoredBar>> {
        let mut bars = Vec::new();
        for month in head.months.range(..=month(to)).rev() {
            let left = limit.saturating_sub(bars.len());
            if left == 0 {
                break;
            }
            let query = Query {
                consistent: true,
                newest_first: true,
                limit: i32::try_from(left).ok(),
            };
            bars.extend(
                self.bars_of_month(project, head, month, UnixMs(0), to, query)
                    .await?,
            );
        }
        Ok(bars)
    }

    async fn bars_of_month(
        &self,
        project: ProjectId,
        head: &Head,
        month: &str,
        from: UnixMs,
        to: UnixMs,
        query: Query,
    ) -> Result<Vec<StoredBar>> {
        let pk = Key::bars_of(project, &head.series, head.timeframe, month);
        let edge = |at: UnixMs| format!("{:013}", at.0.clamp(0, 9_999_999_999_999));
        self.query_between(&pk, &edge(from), &edge(to), query).await
    }

    /// Writes scores, each in place of another of the same instant. 1 WU each.
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

    /// The scores after `after` and up to `to`, in the order of their times. 1 RU per 4 kB.
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
        let query = Query {
            consistent: true,
            ..Query::default()
        };
        self.query_between(&from.pk, &from.sk, &to.sk, query).await
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
        let query = Query {
            consistent: true,
            newest_first: true,
            limit: Some(1),
        };
        let found = self
            .query_between(&from.pk, &from.sk, &to.sk, query)
            .await?;
        Ok(found.into_iter().next())
    }
}
