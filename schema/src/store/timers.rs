//! The lazy timing wheel and its cursors (T1, T2).

use super::{Result, Store, StoreError, classify};
use crate::item::{self, Item, Key, n, s};
use crate::time::UnixMs;
use crate::timer::{AHEAD_MS, MAX_ENTRIES, Timer};
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, PutRequest, WriteRequest};
use serde::Deserialize;
use std::collections::BTreeMap;

/// How many items of timers are read at a time.
const PAGE: i32 = 25;

/// An item of timers that are due together.
#[derive(Debug, Clone)]
pub struct TimerItem {
    /// Its key, to delete it by.
    pub key: Key,
    /// Its entries.
    pub entries: Vec<Timer>,
}

/// How far a shard was swept, and who sweeps it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Cursor {
    /// Every minute before this one is swept.
    #[serde(default)]
    pub low: Option<i64>,
    /// Who claimed the shard.
    #[serde(default)]
    pub by: Option<String>,
    /// Until when.
    #[serde(default)]
    pub until: Option<UnixMs>,
}

impl Store {
    /// An item of one timer.
    pub(super) fn timer_item(&self, timer: Timer) -> Item {
        item::timers(timer.shard(self.shards), timer.due, &[timer])
    }

    /// An item of a deadline that came closer. If it is over before the next sweep by the minute can be sure to look
    /// ahead at it, the stream carries it on.
    pub(super) fn deadline_item(&self, timer: Timer, deadline: UnixMs, now: UnixMs) -> Item {
        if deadline - now <= AHEAD_MS {
            item::soon(timer.shard(self.shards), timer)
        } else {
            self.timer_item(timer)
        }
    }

    /// Arms timers, packed: those of a shard that are due at the same instant share items of 30. 1 WU an item.
    pub async fn arm(&self, timers: &[Timer]) -> Result<()> {
        let mut together: BTreeMap<(u16, UnixMs), Vec<Timer>> = BTreeMap::new();
        for timer in timers {
            together
                .entry((timer.shard(self.shards), timer.due))
                .or_default()
                .push(*timer);
        }
        let mut writes = Vec::new();
        for ((shard, due), mut entries) in together {
            entries.sort_unstable();
            entries.dedup();
            for chunk in entries.chunks(MAX_ENTRIES) {
                let put = PutRequest::builder()
                    .set_item(Some(item::timers(shard, due, chunk)))
                    .build()
                    .expect("complete");
                writes.push(WriteRequest::builder().put_request(put).build());
            }
        }
        self.write_many(writes).await
    }

    /// Deletes items of timers that were handled. 1 WU an item.
    pub async fn delete_timers(&self, keys: &[Key]) -> Result<()> {
        let writes = keys
            .iter()
            .map(|key| {
                let delete = DeleteRequest::builder()
                    .set_key(Some(key.attributes()))
                    .build()
                    .expect("complete");
                WriteRequest::builder().delete_request(delete).build()
            })
            .collect();
        self.write_many(writes).await
    }

    /// The timers of a shard and minute that are due by `now`, at most about `limit` items of them, and when
    /// the next one is due if all of them are here. 1 RU per 4 kB; half a unit if there are none.
    pub async fn due_timers(
        &self,
        shard: u16,
        minute: i64,
        now: UnixMs,
        limit: usize,
    ) -> Result<(Vec<TimerItem>, Option<UnixMs>)> {
        let mut due = Vec::new();
        let mut from = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&*self.table)
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", s(Key::timers_of(shard, minute)))
                .consistent_read(true)
                .limit(PAGE)
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(classify)?;
            for item in page.items.unwrap_or_default() {
                let key = Key::of(&item)
                    .ok_or_else(|| StoreError::Corrupt("timers without a key".into()))?;
                let at = key.sk.split('#').next().and_then(|ms| ms.parse().ok());
                match at.map(UnixMs) {
                    Some(at) if at > now => return Ok((due, Some(at))),
                    _ => due.push(TimerItem {
                        entries: item::timers_of(&item)?,
                        key,
                    }),
                }
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok((due, None));
            }
            if due.len() >= limit {
                return Ok((due, Some(now)));
            }
        }
    }

    /// The timers of a shard that are due after `from` and by `to`, some minutes at the most, without what can't be read. 1 RU
    /// per 4 kB, and at least a half a minute.
    pub async fn timers_between(&self, shard: u16, from: UnixMs, to: UnixMs) -> Result<Vec<Timer>> {
        let mut found = Vec::new();
        for minute in from.minute()..=to.minute() {
            let edge = |at: UnixMs| format!("{:013}", at.0);
            let mut start = None;
            loop {
                let page = self
                    .client
                    .query()
                    .table_name(&*self.table)
                    .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
                    .expression_attribute_values(":pk", s(Key::timers_of(shard, minute)))
                    .expression_attribute_values(":from", s(edge(from + 1)))
                    .expression_attribute_values(":to", s(edge(to + 1)))
                    .consistent_read(true)
                    .set_exclusive_start_key(start)
                    .send()
                    .await
                    .map_err(classify)?;
                for item in page.items.unwrap_or_default() {
                    found.extend(item::timers_of(&item).unwrap_or_default());
                }
                start = page.last_evaluated_key;
                if start.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// A shard's cursor; empty if it was never swept. 1 RU.
    pub async fn cursor(&self, shard: u16) -> Result<Cursor> {
        Ok(self.get(&Key::cursor(shard)).await?.unwrap_or_default())
    }

    /// Sets a shard's cursor unless it has one: nothing was armed before. 1 WU.
    pub async fn ensure_cursor(&self, shard: u16, minute: i64) -> Result<()> {
        self.move_cursor(
            shard,
            "SET low = if_not_exists(low, :low), kind = :kind, v = :v",
            "attribute_not_exists(pk)",
            vec![(":low", n(minute))],
        )
        .await
        .map(drop)
    }

    /// Claims a shard for `by` until `until`, on condition that nobody else's claim holds. 1 WU.
    /// False if it does.
    pub async fn claim_shard(
        &self,
        shard: u16,
        by: &str,
        until: UnixMs,
        now: UnixMs,
    ) -> Result<bool> {
        self.move_cursor(
            shard,
            "SET #by = :by, #until = :until, kind = :kind, v = :v",
            "attribute_not_exists(#until) OR #until <= :now OR #by = :by",
            vec![(":by", s(by)), (":until", n(until.0)), (":now", n(now.0))],
        )
        .await
    }

    /// Moves a shard's cursor on to `minute`, unless it is there already, and gives the claim back; on condition
    /// that nobody else's claim holds. 1 WU.
    pub async fn advance_cursor(
        &self,
        shard: u16,
        by: &str,
        minute: i64,
        now: UnixMs,
    ) -> Result<bool> {
        self.move_cursor(
            shard,
            "SET low = :low, kind = :kind, v = :v REMOVE #by, #until",
            "(attribute_not_exists(#until) OR #until <= :now OR #by = :by) \
             AND (attribute_not_exists(low) OR low <= :low)",
            vec![(":by", s(by)), (":low", n(minute)), (":now", n(now.0))],
        )
        .await
    }

    async fn move_cursor(
        &self,
        shard: u16,
        expression: &str,
        condition: &str,
        mut values: Vec<(&str, AttributeValue)>,
    ) -> Result<bool> {
        values.extend([(":kind", s("cursor")), (":v", n(item::MAPPING_VERSION))]);
        let mut names = vec![("#by", "by"), ("#until", "until")];
        names.retain(|(name, _)| expression.contains(name) || condition.contains(name));
        let moved = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::cursor(shard).attributes()))
            .update_expression(expression)
            .condition_expression(condition)
            .set_expression_attribute_names(super::names_of(&names))
            .set_expression_attribute_values(super::values_of(values))
            .send()
            .await
            .map_err(classify);
        match moved {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes and deletes in calls of 25, trying again what the table did not take. 1 WU each.
    async fn write_many(&self, mut writes: Vec<WriteRequest>) -> Result<()> {
        let mut attempt = 0;
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(25));
            let chunk = std::mem::replace(&mut writes, rest);
            let answer = self
                .client
                .batch_write_item()
                .request_items(&*self.table, chunk)
                .send()
                .await
                .map_err(classify)?;
            let left = answer
                .unprocessed_items
                .and_then(|mut tables| tables.remove(&*self.table))
                .unwrap_or_default();
            if !left.is_empty() {
                attempt += 1;
                self.pause_before_attempt(attempt).await?;
                writes.extend(left);
            }
        }
        Ok(())
    }
}
