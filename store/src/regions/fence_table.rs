//! The strongly consistent table with the fence, and with what the regions say of themselves.

use super::Repair;
use crate::table::{Item, Query, Read, Result, Table, TableError, Write, attr, missing, put};
use crate::{Store, item, key::Key};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use thrum_schema::World;
use thrum_schema::fence::{Fence, Region, Report};

/// The table with the fence, which must be strongly consistent in both regions.
#[derive(Debug, Clone)]
pub struct FenceTable(Arc<dyn Table>, Arc<str>);

impl FenceTable {
    /// The fence in `table`, which is called `name`.
    pub fn new(table: Arc<dyn Table>, name: &str) -> Self {
        Self(table, name.into())
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.1
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

    /// What the regions report. 1 RU.
    ///
    /// # Errors
    /// The table failed, or an item can't be read.
    pub async fn reports(&self) -> Result<Vec<Report>> {
        let page = self.0.query(Query::of("REPORT")).await?;
        page.items.into_iter().map(decoded).collect()
    }

    /// The report of a region. 1 RU.
    ///
    /// # Errors
    /// The table failed, or the item can't be read.
    pub async fn report(&self, region: &Region) -> Result<Option<Report>> {
        let found = self.0.get(Key::report(region), Read::Consistent).await?;
        found.map(decoded).transpose()
    }

    /// Replaces a region's report. 1 WU.
    ///
    /// # Errors
    /// The table failed.
    pub async fn put_report(&self, report: &Report) -> Result<()> {
        let item = item::encode(&Key::report(&report.region), "report", report);
        self.0.write(put(item)).await.map(drop)
    }

    /// The last repair. 1 RU.
    ///
    /// # Errors
    /// The table failed, or the item can't be read.
    pub async fn repair(&self) -> Result<Option<Repair>> {
        let found = self.0.get(Key::repair(), Read::Consistent).await?;
        found.map(decoded).transpose()
    }

    /// Replaces the repair, unless another process has claimed it since it was `read`. Returns whether it was replaced.
    /// 1 WU.
    ///
    /// # Errors
    /// The table failed; it is unknown whether it was replaced.
    pub async fn put_repair(&self, read: Option<&Repair>, new: &Repair) -> Result<bool> {
        let item = item::encode(&Key::repair(), "repair", new);
        let own = attr("by").eq(new.by).and(attr("epoch").eq(new.epoch));
        let unclaimed = match read {
            Some(read) => attr("by")
                .eq(read.by)
                .and(attr("until").eq(read.until))
                .and(attr("epoch").eq(read.epoch)),
            None => missing(),
        };
        match self.0.write(put(item).when(unclaimed.or(own))).await {
            Ok(_) => Ok(true),
            Err(TableError::Condition { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The operations on this table, for those that it shares with the main one.
    pub fn store(&self, world: Arc<dyn World>) -> Store {
        Store::new(Arc::clone(&self.0), self.name(), 1, world)
    }

    async fn write(&self, write: Write, new: &Fence) -> Result<bool> {
        match self.0.write(write).await {
            Ok(_) => Ok(true),
            // If the reply of a first attempt was lost, the item is what this one wanted to write.
            Err(TableError::Condition { found, .. }) => {
                let found: Option<Fence> = found.map(|item| decoded(*item)).transpose()?;
                Ok(found.as_ref() == Some(new))
            }
            Err(error) => Err(error),
        }
    }
}

fn encoded(fence: &Fence) -> Item {
    item::encode(&Key::fence(), "fence", fence)
}

fn decoded<T: DeserializeOwned>(item: Item) -> Result<T> {
    item::decode(item).map_err(|error| TableError::Invalid(error.to_string()))
}
