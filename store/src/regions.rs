//! Two regions: the fence's item, what this process believes of it, and a table that is the active region's replica.
//! The handlers do not use this yet: a deployment has one region.

use crate::item;
use crate::key::Key;
use crate::table::{
    Batch, Call, Item, Page, Query, Read, Result, Table, TableError, Write, attr, missing, put,
};
use std::sync::Arc;
use std::time::Duration;
use thrum_schema::World;
use thrum_schema::fence::{Belief, Fence, Refused, Region, TIMING};
use tokio::sync::Mutex;
use tokio::time::timeout;
use uuid::Uuid;

/// How long a call of a table may take; it is given up after that.
pub const CALL: Duration = Duration::from_secs(8);
/// How long a read of the fence may take.
const FENCE_READ: Duration = Duration::from_secs(2);
/// How soon the fence is read again if its lease has ended, in milliseconds: another region may be active by then.
const AGAIN_MS: i64 = 1_000;

/// The table with the fence, which must be strongly consistent in both regions.
#[derive(Debug, Clone)]
pub struct FenceTable(Arc<dyn Table>);

impl FenceTable {
    /// The fence in `table`.
    pub const fn new(table: Arc<dyn Table>) -> Self {
        Self(table)
    }

    /// Reads the fence; `None` if nobody has created it. 1 RU.
    ///
    /// # Errors
    /// The table failed, or the item can't be read.
    pub async fn read(&self) -> Result<Option<Fence>> {
        let found = self.0.get(Key::fence(), Read::Consistent).await?;
        found.map(decoded).transpose()
    }

    /// Creates the fence; returns whether there was none. 1 WU.
    ///
    /// # Errors
    /// The table failed.
    pub async fn create(&self, fence: &Fence) -> Result<bool> {
        self.write(put(encoded(fence)).when(missing()), fence).await
    }

    /// Replaces the fence that was read, and returns whether it was still that. 1 WU.
    ///
    /// # Errors
    /// The table failed; it is unknown whether the fence was replaced.
    pub async fn replace(&self, read: &Fence, new: &Fence) -> Result<bool> {
        let unchanged = attr("version").eq(read.version);
        self.write(put(encoded(new)).when(unchanged), new).await
    }

    async fn write(&self, write: Write, new: &Fence) -> Result<bool> {
        match self.0.write(write).await {
            Ok(_) => Ok(true),
            // If the reply of a first attempt was lost, the item is what this one wanted to write.
            Err(TableError::Condition { found, .. }) => {
                let found = found.map(|item| decoded(*item)).transpose()?;
                Ok(found.as_ref() == Some(new))
            }
            Err(error) => Err(error),
        }
    }
}

fn encoded(fence: &Fence) -> Item {
    item::encode(&Key::fence(), "fence", fence)
}

fn decoded(item: Item) -> Result<Fence> {
    item::decode(item).map_err(|error| TableError::Invalid(error.to_string()))
}

/// What a process in one region knows of the fence. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct Regions {
    me: Region,
    fence: FenceTable,
    world: Arc<dyn World>,
    belief: Arc<Mutex<Option<Belief>>>,
}

impl Regions {
    /// A process in the region `me`.
    pub fn new(me: Region, fence: FenceTable, world: Arc<dyn World>) -> Self {
        Self {
            me,
            fence,
            world,
            belief: Arc::default(),
        }
    }

    /// What is believed; reads the fence if that is too old. 1 RU once per belief, 5 s.
    ///
    /// # Errors
    /// The fence can't be read, or does not exist.
    pub async fn belief(&self) -> Result<Belief> {
        // Others wait, and then find what was read.
        let mut known = self.belief.lock().await;
        let now = self.world.now();
        let holds = |belief: &&Belief| {
            let is_over = belief.fence().until <= now;
            !belief.is_old(now, &TIMING) && (!is_over || belief.read().is_within(AGAIN_MS, now))
        };
        if let Some(belief) = known.as_ref().filter(holds) {
            return Ok(belief.clone());
        }
        *known = None;
        let belief = Belief::new(self.read().await?, now);
        *known = Some(belief.clone());
        Ok(belief)
    }

    async fn read(&self) -> Result<Fence> {
        let read = timeout(FENCE_READ, self.fence.read()).await;
        let fence = read.map_err(|_| unavailable("the fence could not be read in time"))?;
        fence?.ok_or_else(|| unavailable("there is no fence"))
    }

    /// The epoch in which this region may evaluate or send, for at most `takes` from now; `None` if it may not.
    ///
    /// # Errors
    /// The fence can't be read.
    pub async fn may_act(&self, takes: Duration) -> Result<Option<u64>> {
        let belief = self.belief().await?;
        let may = belief.may_act(&self.me, self.world.now(), millis(takes), &TIMING);
        Ok(may.then_some(belief.fence().epoch))
    }

    /// The active region and its epoch, if a call may begin now.
    async fn active(&self) -> Result<(Region, u64)> {
        let belief = self.belief().await?;
        let active = belief.active(self.world.now(), millis(CALL), &TIMING);
        let Some((region, epoch)) = active else {
            let Fence { active, until, .. } = belief.fence();
            let until = until.rfc3339();
            let ends = format!("no region is active: the lease of {active} ends at {until}");
            return Err(unavailable(ends));
        };
        Ok((region.clone(), epoch))
    }

    /// Changes the fence as `change` says of the one that is read now; what it is then. `None` if another process
    /// changed it meanwhile. 1 RU, 1 WU.
    ///
    /// # Errors
    /// The table failed, or `change` refused.
    pub async fn change(
        &self,
        change: impl FnOnce(&Fence, &Region) -> Result<Fence, Refused>,
    ) -> Result<Option<Fence>, ChangeError> {
        let mut known = self.belief.lock().await;
        // Nothing is believed of a fence that may be replaced.
        *known = None;
        let now = self.world.now();
        let read = self.read().await?;
        let new = change(&read, &self.me)?;
        if !self.fence.replace(&read, &new).await? {
            return Ok(None);
        }
        *known = Some(Belief::new(new.clone(), now));
        Ok(Some(new))
    }
}

/// Why the fence was not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// The protocol does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A table that refuses every call without a valid fence.
#[derive(Debug)]
pub struct FencedTable {
    regions: Regions,
    replicas: Replicas,
}

#[derive(Debug)]
enum Replicas {
    /// The active one of these.
    Active([(Region, Arc<dyn Table>); 2]),
    /// This region's, in this epoch.
    Own(Arc<dyn Table>, u64),
}

impl FencedTable {
    /// The replica of the active region, for ingest. An operation may begin in one region and end in the other: what it
    /// reads and writes is guarded by versions.
    pub const fn active(regions: Regions, replicas: [(Region, Arc<dyn Table>); 2]) -> Self {
        let replicas = Replicas::Active(replicas);
        Self { regions, replicas }
    }

    /// This region's replica, for evaluate and notify, as long as the region is active in `epoch`, in which their work
    /// began.
    pub const fn own(regions: Regions, replica: Arc<dyn Table>, epoch: u64) -> Self {
        let replicas = Replicas::Own(replica, epoch);
        Self { regions, replicas }
    }

    async fn replica(&self) -> Result<&dyn Table> {
        let (active, epoch) = self.regions.active().await?;
        match &self.replicas {
            Replicas::Active(replicas) => {
                let replica = replicas.iter().find(|(region, _)| *region == active);
                let unknown = || {
                    let why = format!("the active region is {active}, which has no replica here");
                    TableError::Invalid(why)
                };
                Ok(replica.ok_or_else(unknown)?.1.as_ref())
            }
            Replicas::Own(replica, own) if active == self.regions.me && epoch == *own => {
                Ok(replica.as_ref())
            }
            Replicas::Own(..) => Err(unavailable(format!(
                "the work began before {active} became active"
            ))),
        }
    }

    /// Calls a replica, for as long as the fence was asked for.
    async fn call<'a, T: 'a>(
        &'a self,
        call: impl FnOnce(&'a dyn Table) -> Call<'a, T>,
    ) -> Result<T> {
        let replica = self.replica().await?;
        let called = timeout(CALL, call(replica)).await;
        called.map_err(|_| unavailable("the table did not answer in time"))?
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn unavailable(why: impl Into<String>) -> TableError {
    TableError::Unavailable(why.into())
}

impl Table for FencedTable {
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>> {
        Box::pin(self.call(move |table| table.get(key, read)))
    }

    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch> {
        Box::pin(self.call(move |table| table.get_many(keys, read)))
    }

    fn query(&self, query: Query) -> Call<'_, Page> {
        Box::pin(self.call(move |table| table.query(query)))
    }

    fn write(&self, write: Write) -> Call<'_, Option<Item>> {
        Box::pin(self.call(move |table| table.write(write)))
    }

    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>> {
        Box::pin(self.call(move |table| table.write_many(writes)))
    }

    fn transact(&self, writes: Vec<Write>, token: Uuid) -> Call<'_, ()> {
        Box::pin(self.call(move |table| table.transact(writes, token)))
    }
}
