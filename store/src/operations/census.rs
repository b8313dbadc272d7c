//! The census of a project: how many monitors it has, and how often one of them was created, changed or
//! deleted.
//!
//! It consists of several items, so that thousands of monitors can be created at once: DynamoDB cancels
//! transactions that meet on an item, which leaves about sixty a second. A monitor is counted by the item
//! that its ID chooses. If the plan limits the monitors, each item has a part of the limit, and a monitor
//! whose own item is full is counted by another.

use crate::item::MAPPING_VERSION;
use crate::key::{CENSUS_ITEMS, Key};
use crate::table::{Condition, Query, Write, add, attr, check, set, update};
use crate::{Result, Store, StoreError};
use serde::Deserialize;
use thrum_schema::id::{MonitorId, ProjectId};

/// How many monitors a project has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// The number of monitors.
    pub n: i64,
    /// Incremented whenever a monitor is created, changed or deleted: while it is the same, no monitor
    /// has changed.
    pub changes: u64,
    items: [Counter; CENSUS_ITEMS],
}

/// One of its items. Its count may be negative: a monitor may be counted by one item and discounted by
/// another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Counter {
    n: i64,
    changes: u64,
}

impl Census {
    /// Whether the project may have one more monitor.
    pub fn has_room(&self, limit: Option<u32>) -> bool {
        limit.is_none_or(|limit| self.n < i64::from(limit))
    }

    /// The part of `limit` that an item has.
    fn share(item: usize, limit: u32) -> i64 {
        let (limit, item) = (i64::from(limit), item as i64);
        let items = CENSUS_ITEMS as i64;
        limit / items + i64::from(item < limit % items)
    }

    /// The item that counts a new monitor, and its part of the limit; `None` if the project has no room.
    fn with_room(&self, own: usize, limit: u32) -> Option<(usize, i64)> {
        let left = |item: usize| Self::share(item, limit) - self.items[item].n;
        let most = (0..CENSUS_ITEMS).max_by_key(|item| (left(*item), *item == own))?;
        let item = if left(own) > 0 { own } else { most };
        let has_room = self.has_room(Some(limit)) && left(item) > 0;
        has_room.then(|| (item, Self::share(item, limit)))
    }

    /// Whether an item exceeds its part: the limit was lowered. Then the parts of the others, together
    /// with it, are more than the limit.
    fn exceeds(&self, limit: u32) -> bool {
        (0..CENSUS_ITEMS).any(|item| self.items[item].n > Self::share(item, limit))
    }
}

impl Store {
    /// The census of a project. 1 RU.
    pub async fn census(&self, project: ProjectId) -> Result<Census> {
        #[derive(Deserialize)]
        struct Item {
            sk: String,
            #[serde(flatten)]
            counter: Counter,
        }
        let found: Vec<Item> = self.query(Query::of(Key::census_of(project))).await?;
        let mut census = Census::default();
        for Item { sk, counter } in found {
            let item = sk.parse().ok().and_then(|i: usize| census.items.get_mut(i));
            let corrupt = || StoreError::Corrupt(format!("a census has no item {sk}"));
            *item.ok_or_else(corrupt)? = counter;
            census.n += counter.n;
            census.changes += counter.changes;
        }
        Ok(census)
    }

    /// The writes that count a new monitor, on condition that the project has room, and that no monitor
    /// has changed since `after`. 1 RU if there is a limit.
    pub(super) async fn admit(
        &self,
        project: ProjectId,
        monitor: MonitorId,
        limit: Option<u32>,
        after: Option<Census>,
    ) -> Result<Vec<Write>> {
        let own = item_of(monitor);
        let Some(limit) = limit else {
            return Ok(counted(project, own, 1, Condition::Always, after));
        };
        let census = self.census(project).await?;
        let (item, share) = census.with_room(own, limit).ok_or(StoreError::Conflict)?;
        let room = attr("n").missing().or(attr("n").below(share));
        let after = after.or(census.exceeds(limit).then_some(census));
        Ok(counted(project, item, 1, room, after))
    }

    /// The writes that close a project's census for ever, on condition that it is still as in `census`: a
    /// key may outlive its project.
    pub(super) fn close_census(project: ProjectId, census: Census) -> Vec<Write> {
        let close = |item: usize| {
            let closed = set("closed", true)
                .set("kind", "census")
                .set("v", MAPPING_VERSION);
            update(Key::census(project, item), closed).when(unchanged(census.items[item]))
        };
        (0..CENSUS_ITEMS).map(close).collect()
    }
}

/// The writes that count a monitor that is changed (`by` 0) or deleted (-1), on condition that no monitor
/// has changed since `after`.
pub(super) fn count(
    project: ProjectId,
    monitor: MonitorId,
    by: i64,
    after: Option<Census>,
) -> Vec<Write> {
    counted(project, item_of(monitor), by, Condition::Always, after)
}

fn counted(
    project: ProjectId,
    item: usize,
    by: i64,
    room: Condition,
    after: Option<Census>,
) -> Vec<Write> {
    let change = add("n", by)
        .add("changes", 1)
        .set("kind", "census")
        .set("v", MAPPING_VERSION);
    let same = |at: usize| after.map_or(Condition::Always, |after| unchanged(after.items[at]));
    // A project that was deleted gets no new monitors.
    let open = attr("closed").missing();
    let mut writes =
        vec![update(Key::census(project, item), change).when(open.and(room).and(same(item)))];
    if after.is_some() {
        let others = (0..CENSUS_ITEMS).filter(|at| *at != item);
        writes.extend(others.map(|at| check(Key::census(project, at), same(at))));
    }
    writes
}

fn unchanged(counter: Counter) -> Condition {
    match counter.changes {
        0 => attr("changes").missing(),
        changes => attr("changes").eq(changes),
    }
}

/// The item that a monitor's ID chooses. Most IDs are random.
fn item_of(monitor: MonitorId) -> usize {
    let sum = monitor.0.as_bytes().iter().map(|byte| usize::from(*byte));
    sum.sum::<usize>() % CENSUS_ITEMS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::array;

    fn census(counts: [i64; CENSUS_ITEMS]) -> Census {
        Census {
            n: counts.iter().sum(),
            changes: 0,
            items: array::from_fn(|i| Counter {
                n: counts[i],
                changes: 0,
            }),
        }
    }

    #[test]
    fn the_parts_of_a_limit_add_up_to_it() {
        for limit in [0, 1, 3, 20, 999, 100_000] {
            let parts = (0..CENSUS_ITEMS).map(|item| Census::share(item, limit));
            assert_eq!(parts.sum::<i64>(), i64::from(limit));
        }
    }

    #[test]
    fn exactly_as_many_monitors_fit_as_the_limit_allows() {
        for limit in [0, 1, 3, 20, 999] {
            let mut counts = [0; CENSUS_ITEMS];
            // Deletions may have left any counts.
            (counts[0], counts[5]) = (-2, 2);
            let mut own = 7;
            let mut admitted = 0;
            while let Some((item, share)) = census(counts).with_room(own, limit) {
                assert!(counts[item] < share);
                counts[item] += 1;
                admitted += 1;
                own = (own * 5 + 3) % CENSUS_ITEMS;
            }
            assert_eq!(admitted, limit);
        }
    }

    #[test]
    fn a_lowered_limit_admits_none() {
        let mut counts = [10; CENSUS_ITEMS];
        counts[3] = 0;
        assert_eq!(census(counts).with_room(3, 16), None);
        assert!(census(counts).exceeds(16));
    }
}
