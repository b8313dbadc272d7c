//! The timers that are armed, as far as they were read.

use futures::future::try_join_all;
use std::collections::HashMap;
use thrum_schema::UnixMs;
use thrum_schema::id::{AlertId, ChannelId};
use thrum_schema::timer::What;
use thrum_store::{Result, Store};

/// How many minutes are read concurrently.
const AT_A_TIME: usize = 16;
/// How far ahead timers are read, in minutes. Beyond that, they are armed again in any case; two that are due at the same
/// time fire as one.
const FARTHEST_MIN: i64 = 24 * 60;

/// The armed timers, with the earliest time at which each is due.
pub struct Armed<'a> {
    store: &'a Store,
    due: HashMap<What, UnixMs>,
    /// The first minute that was not read.
    next: i64,
    last: i64,
}

impl<'a> Armed<'a> {
    /// None yet, from `from` on.
    pub fn new(store: &'a Store, from: UnixMs) -> Self {
        Self {
            store,
            due: HashMap::new(),
            next: from.minute(),
            last: store.world().now().minute() + FARTHEST_MIN,
        }
    }

    /// Reads the timers that are due by `by`. 0.5 RU per shard and minute, and 1 RU per 4 kB.
    pub async fn read(&mut self, by: UnixMs) -> Result<()> {
        let end = (by.minute() + 1).min(self.last + 1);
        for first in (self.next..end).step_by(AT_A_TIME) {
            let minutes = first..end.min(first + AT_A_TIME as i64);
            let store = self.store;
            let reads = minutes
                .flat_map(|minute| (0..store.shards()).map(move |shard| (shard, minute)))
                .map(|(shard, minute)| store.timers_in(shard, minute));
            let read = try_join_all(reads).await?;
            for timer in read.into_iter().flatten() {
                self.due
                    .entry(timer.what)
                    .and_modify(|due| *due = timer.due.min(*due))
                    .or_insert(timer.due);
            }
        }
        self.next = self.next.max(end);
        Ok(())
    }

    /// The alerts and groups whose delivery through a channel has a timer.
    pub fn deliveries(&self, of: ChannelId) -> Vec<AlertId> {
        let alerts = self.due.keys().filter_map(|what| match what {
            What::Deliver { alert, channel, .. } if *channel == of => Some(*alert),
            _ => None,
        });
        let mut alerts: Vec<AlertId> = alerts.collect();
        alerts.sort_unstable();
        alerts
    }

    /// Whether a timer is armed for `by` or before.
    pub fn has(&self, what: What, by: UnixMs) -> bool {
        self.due.get(&what).is_some_and(|due| *due <= by)
    }
}
