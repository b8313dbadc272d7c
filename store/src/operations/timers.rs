//! The lazy timing wheel and its cursors (T1, T2).

use crate::item::{self, MAPPING_VERSION};
use crate::key::Key;
use crate::table::{
    Condition, Item, MAX_WRITE_BATCH, Query, Update, Write, attr, delete, exists, missing, put,
    remove, set, set_if_missing, update,
};
use crate::{Result, Store, StoreError, pause_before_attempt};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{AHEAD_MS, MAX_ENTRIES, Timer};
use uuid::Uuid;

/// How long a claim on a shard can last at most, in milliseconds. One that ends later was made
/// before the clock was set back.
const LONGEST_CLAIM_MS: i64 = 120_000;
/// How many timer items to read at a time.
const PAGE: usize = 25;

/// An item of timers that are due together.
#[derive(Debug, Clone)]
pub struct TimerItem {
    /// Its key, for deleting it.
    pub key: Key,
    /// Its entries.
    pub entries: Vec<Timer>,
}

/// How far a shard has been swept, and which process claims it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Cursor {
    /// Every minute before this one is swept.
    #[serde(default)]
    pub low: Option<i64>,
    /// The process that claimed the shard.
    #[serde(default)]
    pub by: Option<String>,
    /// When the claim ends.
    #[serde(default)]
    pub until: Option<UnixMs>,
}

impl Store {
    /// An item with one timer.
    pub(super) fn timer_item(&self, timer: Timer) -> Item {
        item::timers(timer.shard(self.shards), timer.due, &[timer])
    }

    /// An item for a deadline that moved closer. If it is due before the next per-minute sweep is
    /// certain to see it, the stream forwards it.
    pub(super) fn deadline_item(&self, timer: Timer, deadline: UnixMs, now: UnixMs) -> Item {
        if deadline - now <= AHEAD_MS {
            item::soon(timer.shard(self.shards), timer)
        } else {
            self.timer_item(timer)
        }
    }

    /// Arms timers: those of a shard with the same due time share items of 30. 1 WU per item.
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

    /// Deletes timer items that were handled. 1 WU per item.
    pub async fn delete_timers(&self, keys: &[Key]) -> Result<()> {
        self.write_many(keys.iter().cloned().map(delete).collect())
            .await
    }

    /// The timers of a shard and minute that are due by `now`, in about `limit` items at most, and
    /// when the next one is due: `now` if the limit was reached, `None` if the minute has no more.
    /// 1 RU per 4 kB; 0.5 RU if there are none.
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

    /// The timers of a shard that are due after `from` and by `to`, at most a few minutes, without
    /// unreadable ones. 1 RU per 4 kB, and at least 0.5 RU per minute.
    pub async fn timers_between(&self, shard: u16, from: UnixMs, to: UnixMs) -> Result<Vec<Timer>> {
        let mut found = Vec::new();
        for minute in from.minute()..=to.minute() {
            let edge = |at: UnixMs| format!("{:013}", at.0);
            let due = Query::of(Key::timers_of(shard, minute));
            found.extend(
                self.timers_of(due.between(edge(from + 1), edge(to + 1)))
                    .await?,
            );
        }
        Ok(found)
    }

    /// All timers of a shard and minute, without unreadable ones. 1 RU per 4 kB; 0.5 RU if there are none.
    pub async fn timers_in(&self, shard: u16, minute: i64) -> Result<Vec<Timer>> {
        self.timers_of(Query::of(Key::timers_of(shard, minute)))
            .await
    }

    async fn timers_of(&self, mut query: Query) -> Result<Vec<Timer>> {
        let mut found = Vec::new();
        loop {
            let page = self.table.query(query.clone()).await?;
            for item in page.items {
                found.extend(item::timers_of(&item).unwrap_or_default());
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(found);
            }
        }
    }

    /// A shard's cursor; empty if it was never swept. 1 RU.
    pub async fn cursor(&self, shard: u16) -> Result<Cursor> {
        Ok(self.get(Key::cursor(shard)).await?.unwrap_or_default())
    }

    /// How many shards are swept: all from the first on that have a cursor. A process that only arms timers
    /// must not use others. 1 RU.
    pub async fn swept_shards(&self) -> Result<u16> {
        let page = self.table.query(Query::of(Key::CURSORS)).await?;
        let shards = page.items.iter().filter_map(Key::of);
        let known: BTreeSet<String> = shards.map(|key| key.sk).collect();
        let mut shards = 0;
        while known.contains(&Key::cursor(shards).sk) {
            shards += 1;
        }
        Ok(shards)
    }

    /// Sets a shard's cursor unless it has one: no timer was armed before. 1 WU.
    pub async fn ensure_cursor(&self, shard: u16, minute: i64) -> Result<()> {
        self.move_cursor(shard, set_if_missing("low", minute), missing())
            .await
            .map(drop)
    }

    /// Claims the minute's tick of the schedule, unless another tick began less than `too_soon_ms`
    /// before, or less than `unchained_ms` if that one has not queued the next tick. Returns the ID of the claim,
    /// for [`Store::chain_tick`]. The claim is in the item `key`. 1 WU.
    pub async fn claim_tick(
        &self,
        key: Key,
        now: UnixMs,
        too_soon_ms: i64,
        unchained_ms: i64,
    ) -> Result<Option<Uuid>> {
        // If a reply is lost, the SDK tries again and must recognise its own write.
        let by = self.world.uuid_v4();
        let claimed = set("at", now)
            .set("by", by)
            .set("kind", "tick")
            .set("v", MAPPING_VERSION)
            .remove("chained");
        let unchained = attr("chained").missing();
        // One that began later was claimed before the clock was set back.
        let free = attr("at")
            .missing()
            .or(attr("at").at_most(now - too_soon_ms))
            .or(unchained.and(attr("at").at_most(now - unchained_ms)))
            .or(attr("at").above(now + LONGEST_CLAIM_MS))
            .or(attr("by").eq(by));
        let claimed = self.try_write(update(key, claimed).when(free));
        Ok(claimed.await?.then_some(by))
    }

    /// Notes that the tick with the claim `by` has queued the next one. 1 WU.
    pub async fn chain_tick(&self, key: Key, by: Uuid) -> Result<()> {
        let chained = update(key, set("chained", true)).when(attr("by").eq(by));
        self.try_write(chained).await.map(drop)
    }

    /// Claims a shard for `by` until `until`. Returns false if another process holds a claim. 1 WU.
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

    /// Sets a shard's cursor back to `minute`, if it is further, and ends the claim of `by`, or any claim if it is `None`:
    /// then no other sweeper may write any more. A sweep that read the cursor before does not advance it. 1 WU, or 2.
    pub async fn rewind_cursor(&self, shard: u16, by: Option<&str>, minute: i64) -> Result<()> {
        let mine = by.map_or_else(exists, |by| attr("by").eq(by));
        let further = mine.clone().and(attr("low").above(minute));
        let freed = remove("by").remove("until");
        let back = freed.clone().set("low", minute);
        let rewound = update(Key::cursor(shard), back).when(further);
        self.try_write(rewound.or_when(mine, freed)).await.map(drop)
    }

    /// Moves a shard's cursor to `minute`, unless it is further already, or was set back since it was read as `read`.
    /// Releases the claim. Does nothing if another process holds a claim. 1 WU.
    pub async fn advance_cursor(
        &self,
        shard: u16,
        by: &str,
        (read, minute): (Option<i64>, i64),
        now: UnixMs,
    ) -> Result<bool> {
        let moved = set("low", minute).remove("by").remove("until");
        // A cursor in the future was moved before the clock was set back.
        let ahead = attr("low")
            .missing()
            .or(attr("low").at_most(minute))
            .or(attr("low").above(now.minute()));
        let mut free = claimable(by, now).and(ahead);
        if let Some(read) = read {
            free = free.and(attr("low").above(read - 1));
        }
        self.move_cursor(shard, moved, free).await
    }

    async fn move_cursor(&self, shard: u16, change: Update, condition: Condition) -> Result<bool> {
        let change = change.set("kind", "cursor").set("v", MAPPING_VERSION);
        self.try_write(update(Key::cursor(shard), change).when(condition))
            .await
    }

    /// Writes and deletes in calls of 25, resending what the table left unprocessed. 1 WU each.
    pub(super) async fn write_many(&self, mut writes: Vec<Write>) -> Result<()> {
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

/// Holds if no other sweeper has a valid claim.
fn claimable(by: &str, now: UnixMs) -> Condition {
    attr("until")
        .missing()
        .or(attr("until").at_most(now))
        .or(attr("until").above(now + LONGEST_CLAIM_MS))
        .or(attr("by").eq(by))
}
