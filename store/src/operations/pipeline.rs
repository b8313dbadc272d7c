//! What the pipeline needs in its table, and the probe that checks it end to end.

use crate::item;
use crate::key::Key;
use crate::{Result, Store, StoreError};
use thrum_schema::fence::FencePlace;
use thrum_schema::time::UnixMs;

impl Store {
    /// Where the fence is; `None` in a deployment in one region. 1 RU.
    pub async fn fence_place(&self) -> Result<Option<FencePlace>> {
        self.get(Key::regions()).await
    }

    /// Records where the fence is. 1 WU.
    pub async fn put_fence_place(&self, place: &FencePlace) -> Result<()> {
        self.put(item::encode(&Key::regions(), "regions", place))
            .await
    }

    /// Creates what the pipeline needs before its first heartbeat: the cursors and the pulse. 1 WU
    /// per shard, plus 2.
    pub async fn ensure_pipeline(&self, now: UnixMs) -> Result<()> {
        for shard in 0..self.shards {
            self.ensure_cursor(shard, now.minute() - 2).await?;
        }
        self.ensure_pulse(now).await
    }

    /// Writes a probe, which the stream forwards like an alert, and reads it back. 1 WU, 1 RU.
    pub async fn probe(&self, now: UnixMs) -> Result<()> {
        self.put(item::probe(&Key::probe(), now)).await?;
        match self.get::<item::Probe>(Key::probe()).await? {
            Some(probe) if probe.at >= now => Ok(()),
            _ => Err(StoreError::Unavailable("a write was not read back".into())),
        }
    }

    /// Records that a probe reached notify. 1 WU.
    pub async fn probe_arrived(&self, at: UnixMs) -> Result<()> {
        self.put(item::probe(&Key::probe_arrived(), at)).await
    }

    /// The latest probe that reached notify. 1 RU.
    pub async fn arrived_probe(&self) -> Result<Option<UnixMs>> {
        let found: Option<item::Probe> = self.get(Key::probe_arrived()).await?;
        Ok(found.map(|probe| probe.at))
    }
}
