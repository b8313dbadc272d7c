//! The lazy timing wheel and its cursors (T1, T2).

use crate::item::{self, MAPPING_VERSION};
use crate::key::Key;
use crate::table::{
    Condition, Item, MAX_WRITE_BATCH, Query, Update, Write, attr, delete, missing, put, set,
    set_if_missing, update,
};
use crate::{Result, Store, StoreError, pause_before_attempt};
use serde::Deserialize;
use std::collections::BTreeMap;
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{AHEAD_MS, MAX_ENTRIES, Timer};

/// How many items of timers are read at a time.
const PAGE: usize = 25;

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
                writes.push(put(item::timers(shard, due, chunk)));
            }
        }
        self.write_many(writes).await
    }

    /// Deletes items of timers that were handled. 1 WU an item.
    pub async fn delete_timers(&self, keys: &[Key]) -> Result<()> {
        self.write_many(keys.iter().cloned().map(delete).collect())
            .await
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
        let mut query = Query::of(Key::timers_of(shard, minute)).limit(PAGE);
        loop {
            let page = self.table.query(query.clone()).await?;
            for item in page.items {
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
            query.after = page.next;
            if query.after.is_none() {
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
            let mut query =
                Query::of(Key::timers_of(shard, minute)).between(edge(from + 1), edge(to + 1));
            loop {
                let page = self.table.query(query.clone()).await?;
                for item in page.items {
                    found.extend(item::timers_of(&item).unwrap_or_default());
                }
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// A shard's cursor; empty if it was never swept. 1 RU.
    pub async fn cursor(&self, shard: u16) -> Result<Cursor> {
        Ok(self.get(Key::cursor(shard)).await?.unwrap_or_default())
    }

    /// Sets a shard's cursor unless it has one: nothing was armed before. 1 WU.
    pub async fn ensure_cursor(&self, shard: u16, minute: i64) -> Result<()> {
        self.move_cursor(shard, set_if_missing("low", minute), missing())
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
        let claimed = set("by", by).set("until", until);
        self.move_cursor(shard, claimed, claimable(by, now)).await
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
        let moved = set("low", minute).remove("by").remove("until");
        let ahead = attr("low").missing().or(attr("low").at_most(minute));
        self.move_cursor(shard, moved, claimable(by, now).and(ahead))
            .await
    }

    async fn move_cursor(&self, shard: u16, change: Update, condition: Condition) -> Result<bool> {
        let change = change.set("kind", "cursor").set("v", MAPPING_VERSION);
        self.try_write(update(Key::cursor(shard), change).when(condition))
            .await
    }

    /// Writes and deletes in calls of 25, sending again what the table left unprocessed. 1 WU each.
    async fn write_many(&self, mut writes: Vec<Write>) -> Result<()> {
        let mut attempt = 0;
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(MAX_WRITE_BATCH));
            let chunk = std::mem::replace(&mut writes, rest);
            let left = self.table.write_many(chunk).await?;
            if !left.is_empty() {
                attempt += 1;
                pause_before_attempt(attempt).await?;
                writes.extend(left);
            }
        }
        Ok(())
    }
}

/// No other sweeper's claim holds.
fn claimable(by: &str, now: UnixMs) -> Condition {
    attr("until")
        .missing()
        .or(attr("until").at_most(now))
        .or(attr("by").eq(by))
}
