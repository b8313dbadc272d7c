//! A table that refuses every call without a valid fence.

use super::{Act, CALL, Regions, unavailable};
use crate::key::Key;
use crate::table::{Batch, Call, Item, Page, Query, Read, Result, Table, TableError, Write};
use std::sync::Arc;
use thrum_schema::fence::Region;
use thrum_schema::mutant::{self, Mutant};
use tokio::time::timeout;
use uuid::Uuid;

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
    /// This region's, as long as the work may go on.
    Own(Arc<dyn Table>, u64),
}

impl FencedTable {
    /// The replica of the active region, for ingest. An operation may begin in one region and end in the other: what it
    /// reads and writes is guarded by versions.
    pub const fn active(regions: Regions, replicas: [(Region, Arc<dyn Table>); 2]) -> Self {
        let replicas = Replicas::Active(replicas);
        Self { regions, replicas }
    }

    /// This region's replica, for evaluate and notify, as long as their work may go on.
    pub fn own(act: &Act, replica: Arc<dyn Table>) -> Self {
        Self {
            regions: act.regions.clone(),
            replicas: Replicas::Own(replica, act.epoch),
        }
    }

    async fn replica(&self) -> Result<&dyn Table> {
        if let (Replicas::Own(replica, _), true) =
            (&self.replicas, mutant::is(Mutant::FenceIgnored))
        {
            return Ok(replica.as_ref());
        }
        let (mut active, epoch) = self.regions.active().await?;
        if mutant::is(Mutant::LocalWrite) {
            active = self.regions.me.clone();
        }
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
