//! Two regions: the fence's item, what this process believes of it, and a table that is the active region's replica.
//! The handlers do not use this yet: a deployment has one region.

use crate::item;
use crate::key::Key;
use crate::table::{
    Batch, Call, Item, Page, Query, Read, Result, Table, TableError, Write, attr, missing, put,
};
use std::sync::Arc;
use thrum_schema::World;
use thrum_schema::fence::{Belief, Fence, Refused, Region, TIMING};
use tokio::sync::Mutex;
use uuid::Uuid;

/// How long a call of a table may take, in milliseconds; the client gives up after that.
pub const CALL_MS: i64 = 8_000;

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
        // Those that come meanwhile wait for the same read.
        let mut known = self.belief.lock().await;
        let now = self.world.now();
        if let Some(belief) = known.as_ref().filter(|belief| !belief.is_old(now, &TIMING)) {
            return Ok(belief.clone());
        }
        *known = None;
        let fence = self.fence.read().await?;
        let fence = fence.ok_or_else(|| TableError::Unavailable("there is no fence".to_owned()))?;
        let belief = Belief::new(fence, now);
        *known = Some(belief.clone());
        Ok(belief)
    }

    /// Whether this region may evaluate or send, for at most `takes_ms` from now.
    ///
    /// # Errors
    /// The fence can't be read.
    pub async fn may_act(&self, takes_ms: i64) -> Result<bool> {
        let belief = self.belief().await?;
        Ok(belief.may_act(&self.me, self.world.now(), takes_ms, &TIMING))
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
        let read = self.fence.read().await?;
        let read = read.ok_or_else(|| TableError::Unavailable("there is no fence".to_owned()))?;
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

/// The replica of the active region. Without a valid fence, it refuses every call.
#[derive(Debug)]
pub struct ActiveTable {
    regions: Regions,
    /// The replica in this process's region.
    own: Arc<dyn Table>,
    /// The replica in the other region.
    other: Arc<dyn Table>,
}

impl ActiveTable {
    /// The active one of these replicas.
    pub fn new(regions: Regions, own: Arc<dyn Table>, other: Arc<dyn Table>) -> Self {
        Self {
            regions,
            own,
            other,
        }
    }

    async fn replica(&self) -> Result<&dyn Table> {
        let belief = self.regions.belief().await?;
        let now = self.regions.world.now();
        match belief.active(now, CALL_MS, &TIMING) {
            Some((region, _)) if *region == self.regions.me => Ok(self.own.as_ref()),
            Some(_) => Ok(self.other.as_ref()),
            None => Err(TableError::Unavailable(format!(
                "no region is active: the lease of {} has ended",
                belief.fence().active
            ))),
        }
    }
}

impl Table for ActiveTable {
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>> {
        Box::pin(async move { self.replica().await?.get(key, read).await })
    }

    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch> {
        Box::pin(async move { self.replica().await?.get_many(keys, read).await })
    }

    fn query(&self, query: Query) -> Call<'_, Page> {
        Box::pin(async move { self.replica().await?.query(query).await })
    }

    fn write(&self, write: Write) -> Call<'_, Option<Item>> {
        Box::pin(async move { self.replica().await?.write(write).await })
    }

    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>> {
        Box::pin(async move { self.replica().await?.write_many(writes).await })
    }

    fn transact(&self, writes: Vec<Write>, token: Uuid) -> Call<'_, ()> {
        Box::pin(async move { self.replica().await?.transact(writes, token).await })
    }
}
