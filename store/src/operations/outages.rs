//! Thrum's own outages, and the pulse that detects them (T3).

use crate::item;
use crate::key::Key;
use crate::table::{Query, create};
use crate::{Result, Store};
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::monitor::Monitor;
use thrum_schema::outage::{MAX_OUTAGES, Outage};
use thrum_schema::state::{MonitorState, Status};
use thrum_schema::time::UnixMs;

/// How long the pulse's state is kept without a heartbeat, in seconds: longer than any outage.
const PULSE_TTL_S: i64 = 100 * 366 * 86_400;

impl Store {
    /// The newest outages. 1 RU.
    pub async fn outages(&self) -> Result<Vec<Outage>> {
        let newest = Query::of("OUTAGE").newest_first().limit(MAX_OUTAGES);
        self.query(newest).await
    }

    /// Records an outage; recording it again with a later end extends it. 1 WU.
    pub async fn put_outage(&self, outage: &Outage) -> Result<()> {
        self.put(item::outage(outage)).await
    }

    /// When the pipeline's own heartbeat was last received. 1 RU.
    pub async fn pulse(&self) -> Result<Option<UnixMs>> {
        let state: Option<MonitorState> = self.get(Key::state(MonitorId::PULSE)).await?;
        Ok(state.and_then(|state| state.seen))
    }

    /// Creates the pulse's state unless it exists. On the fast path it is a monitor like any other,
    /// but it has no owner, timer or alert. 1 WU.
    pub async fn ensure_pulse(&self, now: UnixMs) -> Result<()> {
        let monitor = Monitor::new(MonitorId::PULSE, ProjectId(uuid::Uuid::nil()), now);
        let state = MonitorState {
            status: Status::Up,
            seen: Some(now),
            version: 1,
            plain: true,
            period_s: Some(60),
            grace_s: 0,
            ttl_span: PULSE_TTL_S,
            ..MonitorState::new(&monitor)
        };
        self.try_write(create(item::state(&state))).await.map(drop)
    }
}
