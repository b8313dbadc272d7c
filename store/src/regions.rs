//! Two regions: the fence's item, what this process believes of it, and a table that is the active region's replica.

mod fence_table;
mod fenced;

pub use fence_table::FenceTable;
pub use fenced::FencedTable;

use crate::table::{Result, TableError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use thrum_schema::fence::{Belief, Fence, FencePlace, Refused, Region, Report, TIMING};
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::{UnixMs, World};
use tokio::sync::Mutex;
use tokio::time::timeout;
use uuid::Uuid;

/// How long a call of a table may take; it is given up after that.
pub const CALL: Duration = Duration::from_secs(8);
/// How old the report of a working region may be, in milliseconds.
const REPORTED_MS: i64 = 60_000;
/// How far behind a replica may be that has caught up, in milliseconds: pulses come once a minute.
const CAUGHT_UP_MS: i64 = 75_000;
/// How long a read of the fence may take.
const FENCE_READ: Duration = Duration::from_secs(2);
/// How soon the fence is read again if its lease has ended, in milliseconds: another region may be active by then.
const AGAIN_MS: i64 = 1_000;

/// What a process in one region knows of the fence. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct Regions {
    me: Region,
    other: Region,
    fence: FenceTable,
    world: Arc<dyn World>,
    belief: Arc<Mutex<Option<Belief>>>,
    /// Whether this region creates the fence, if there is none, and is active then.
    creates: bool,
}

impl Regions {
    /// A process in the region `me`, the first of these.
    pub fn new([me, other]: [Region; 2], fence: FenceTable, world: Arc<dyn World>) -> Self {
        Self {
            me,
            other,
            fence,
            world,
            belief: Arc::default(),
            creates: false,
        }
    }

    /// The same, in the region that creates the fence if there is none.
    #[must_use]
    pub const fn creating(mut self) -> Self {
        self.creates = true;
        self
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

    async fn read_if_any(&self) -> Result<Option<Fence>> {
        let read = timeout(FENCE_READ, self.fence.read()).await;
        read.map_err(|_| unavailable("the fence could not be read in time"))?
    }

    async fn read(&self) -> Result<Fence> {
        let missing = "there is no fence: the first region creates it at its next tick";
        let fence = self.read_if_any().await?;
        fence.ok_or_else(|| unavailable(missing))
    }

    /// Reads the fence now, and believes it. The first region creates it if there is none. 1 RU.
    ///
    /// # Errors
    /// The fence can't be read, or does not exist.
    pub async fn look(&self) -> Result<Fence> {
        let mut known = self.belief.lock().await;
        *known = None;
        let now = self.world.now();
        let fence = match self.read_if_any().await? {
            Some(fence) => fence,
            None if self.creates => {
                let first = Fence::new(self.me.clone(), now, &TIMING);
                self.fence.create(&first).await?;
                self.read().await?
            }
            None => self.read().await?,
        };
        *known = Some(Belief::new(fence.clone(), now));
        Ok(fence)
    }

    /// This region.
    pub const fn me(&self) -> &Region {
        &self.me
    }

    /// Both regions.
    pub const fn both(&self) -> [&Region; 2] {
        [&self.me, &self.other]
    }

    /// Where the fence is. Both regions say the same.
    pub fn place(&self) -> FencePlace {
        let mut regions = self.both().map(Clone::clone);
        regions.sort();
        FencePlace {
            regions,
            table: self.fence.name().to_owned(),
        }
    }

    /// The table with the fence.
    pub const fn table(&self) -> &FenceTable {
        &self.fence
    }

    /// What this region may do now.
    ///
    /// # Errors
    /// The fence can't be read.
    pub async fn role(&self) -> Result<Role> {
        let belief = self.belief().await?;
        let fence = belief.fence();
        let act = Act {
            regions: self.clone(),
            epoch: fence.epoch,
            since: fence.since,
        };
        Ok(match (fence.active == self.me, fence.ready) {
            _ if mutant::is(Mutant::FenceIgnored) => Role::Active(act),
            (false, _) => Role::Passive,
            (true, false) => Role::Repairing(act),
            (true, true) => Role::Active(act),
        })
    }

    /// What is known of both regions. 3 RU.
    ///
    /// # Errors
    /// The fence's table failed.
    pub async fn overview(&self) -> Result<Overview> {
        let (fence, reports, repair) =
            futures::try_join!(self.belief(), self.fence.reports(), self.fence.repair())?;
        Ok(Overview {
            me: self.me.clone(),
            fence: fence.fence().clone(),
            reports,
            repair,
        })
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

/// What a region may do.
#[derive(Debug, Clone)]
pub enum Role {
    /// Evaluate and send.
    Active(Act),
    /// Repair what replication lost.
    Repairing(Act),
    /// Nothing: the other region is active.
    Passive,
}

/// Work that began while this region was active: it may go on in the same epoch only.
#[derive(Debug, Clone)]
pub struct Act {
    regions: Regions,
    epoch: u64,
    since: UnixMs,
}

impl Act {
    /// The epoch in which the work began.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When this region became active.
    pub const fn since(&self) -> UnixMs {
        self.since
    }

    /// The fence and its table.
    pub const fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Checks that this region is still active in the work's epoch, and will be for as long as the next step `takes`.
    ///
    /// # Errors
    /// It is not, or the fence can't be read.
    pub async fn may(&self, takes: Duration) -> Result<()> {
        if mutant::is(Mutant::FenceIgnored) {
            return Ok(());
        }
        let Regions { me, world, .. } = &self.regions;
        let belief = self.regions.belief().await?;
        let is_own = belief.may_repair(me, world.now(), millis(takes), &TIMING);
        if is_own && belief.fence().epoch == self.epoch {
            return Ok(());
        }
        Err(self.over())
    }

    fn over(&self) -> TableError {
        let Self { regions, epoch, .. } = self;
        let me = &regions.me;
        unavailable(format!(
            "{me} is not active any more, or not for long enough (epoch {epoch})"
        ))
    }
}

/// What is known of both regions.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The region that says so.
    pub me: Region,
    /// The fence.
    pub fence: Fence,
    /// The last reports, each from a time when its region was passive.
    pub reports: Vec<Report>,
    /// The last repair after a takeover.
    pub repair: Option<Repair>,
}

impl Overview {
    /// The last report of the passive region.
    pub fn passive(&self) -> Option<&Report> {
        let mut reports = self.reports.iter();
        reports.find(|report| report.region != self.fence.active)
    }

    /// Why the passive region should not take over now, if that is so at `now`.
    pub fn unready(&self, to: &Region, now: UnixMs) -> Option<String> {
        let report = self.reports.iter().find(|report| report.region == *to);
        let Some(report) = report else {
            return Some(format!("{to} has not reported"));
        };
        if !report.at.is_within(REPORTED_MS, now) {
            let at = report.at.rfc3339();
            return Some(format!("{to} has not reported since {at}"));
        }
        match report.lag_ms() {
            None => Some(format!("{to} has no replica of the table yet")),
            Some(lag_ms) if lag_ms > CAUGHT_UP_MS => {
                let lag_s = lag_ms / 1_000;
                Some(format!("the replica in {to} is {lag_s} s behind"))
            }
            Some(_) => None,
        }
    }
}

/// The repair of what replication lost, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The epoch that it is for.
    pub epoch: u64,
    /// The process that works on it.
    pub by: Uuid,
    /// When that process must have said more, or is taken for dead.
    pub until: UnixMs,
    /// When this run began.
    pub begun: UnixMs,
    /// From when on heartbeats may be missing.
    pub lost: UnixMs,
    /// The last project that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// The last monitor of the next project that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<MonitorId>,
    /// How many monitors were checked.
    #[serde(default)]
    pub monitors: u64,
    /// How many timers were missing.
    #[serde(default)]
    pub timers: u64,
    /// How many alerts were missing, or contradicted their monitor.
    #[serde(default)]
    pub alerts: u64,
    /// When this run was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<UnixMs>,
    /// When the first run of the epoch was done, so that the region evaluates and sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<UnixMs>,
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

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn unavailable(why: impl Into<String>) -> TableError {
    TableError::Unavailable(why.into())
}
