//! The history of a monitor: its logged pings and its flips.

use crate::item;
use crate::key::Key;
use crate::table::{Item, Query, attr, missing, put};
use crate::{Result, Store};
use thrum_schema::flip::Flip;
use thrum_schema::id::MonitorId;
use thrum_schema::ping::Ping;
use thrum_schema::time::UnixMs;

impl Store {
    /// Logs a ping in its slot of the monitor's ring, unless a later one is there. 1 WU per kB.
    pub async fn log_ping(&self, monitor: MonitorId, ping: &Ping) -> Result<()> {
        self.log(item::ping(monitor, ping), ping).await
    }

    /// Logs a failure again in the separate log of failures, which successes do not overwrite. 1 WU
    /// per kB.
    pub async fn log_failure(&self, monitor: MonitorId, fails: u64, ping: &Ping) -> Result<()> {
        self.log(item::failure(monitor, fails, ping), ping).await
    }

    async fn log(&self, item: Item, ping: &Ping) -> Result<()> {
        let later = missing().or(attr("n").below(ping.n));
        self.try_write(put(item).when(later)).await.map(drop)
    }

    /// The last `limit` flips of a monitor, newest first. 1 RU per 4 kB.
    pub async fn flips(&self, monitor: MonitorId, limit: usize) -> Result<Vec<Flip>> {
        let flips = Query::of(Key::state(monitor).pk).prefix("FLIP#");
        self.query(flips.newest_first().limit(limit)).await
    }

    /// Records a flip whose state is known by other means. 1 WU.
    pub async fn put_flip(&self, monitor: MonitorId, flip: &Flip) -> Result<()> {
        self.put(item::flip(monitor, flip)).await
    }

    /// The flips of a monitor from `from` to just before `to`, newest first, at most `limit`. 0.5
    /// RU per 4 kB.
    pub async fn flips_between(
        &self,
        monitor: MonitorId,
        from: UnixMs,
        to: UnixMs,
        limit: usize,
    ) -> Result<Vec<Flip>> {
        let edge = |at: UnixMs| format!("FLIP#{:013}", at.0.clamp(0, 9_999_999_999_999));
        let flips = Query::of(Key::state(monitor).pk).between(edge(from), edge(to));
        self.query(flips.eventual().newest_first().limit(limit))
            .await
    }

    /// The log of a monitor, newest first: its last pings, and its last failures even if they are
    /// older. 1 RU per 4 kB.
    pub async fn pings(&self, monitor: MonitorId) -> Result<Vec<Ping>> {
        let pk = Key::state(monitor).pk;
        let (mut pings, failures) = futures::try_join!(
            self.query::<Ping>(Query::of(&*pk).prefix("PING#").eventual()),
            self.query::<Ping>(Query::of(&*pk).prefix("FAIL#").eventual()),
        )?;
        pings.extend(failures);
        pings.sort_by_key(|ping| std::cmp::Reverse(ping.n));
        pings.dedup_by_key(|ping| ping.n);
        Ok(pings)
    }
}
