//! Thrum's own outages, and what detects them: the pulse, refused heartbeats, and steps of the clock
//! (T3).

use crate::item::{self, MAPPING_VERSION};
use crate::key::Key;
use crate::table::{Query, add, create, delete, put, set, update};
use crate::{Result, Store};
use serde::{Deserialize, Serialize};
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::monitor::Monitor;
use thrum_schema::outage::{ClockStep, MAX_OUTAGES, Outage, Refusals, Traffic};
use thrum_schema::state::{MonitorState, Status};
use thrum_schema::time::UnixMs;
use uuid::Uuid;

/// How long the pulse's state is kept without a heartbeat, in seconds: longer than any outage.
const PULSE_TTL_S: i64 = 100 * 366 * 86_400;
/// How long refused heartbeats are kept, in seconds.
const REFUSALS_TTL_S: i64 = 86_400;
/// How long steps of the clock are kept, in seconds.
const CLOCK_TTL_S: i64 = 35 * 86_400;
/// The ID of the pulse in tables that are older than its secret ID.
const KNOWN_PULSE: MonitorId =
    MonitorId(Uuid::from_u128(0x0000_0000_0000_4000_8000_7468_7275_6d00));

/// The ID of the pulse. It is a secret of the installation: anyone who knows it could keep the pulse
/// alive during an outage, or use up its rate limit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct PulseId {
    id: MonitorId,
}

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

    /// Deletes an outage that lies in the future, after the clock was set back. 1 WU.
    pub async fn delete_outage(&self, outage: &Outage) -> Result<()> {
        let write = delete(Key::outage(outage.start));
        self.write(write).await.map(drop)
    }

    /// The ID of the pulse; `None` before [`Store::ensure_pulse`]. 1 RU, the first time.
    pub async fn pulse_id(&self) -> Result<Option<MonitorId>> {
        if let Some(id) = self.pulse_id.get() {
            return Ok(Some(*id));
        }
        let found: Option<PulseId> = self.get(Key::pulse()).await?;
        Ok(found.map(|found| *self.pulse_id.get_or_init(|| found.id)))
    }

    /// The state of the pulse. 1 RU.
    pub async fn pulse_state(&self) -> Result<Option<MonitorState>> {
        match self.pulse_id().await? {
            Some(id) => self.get(Key::state(id)).await,
            None => Ok(None),
        }
    }

    /// When the pipeline's own heartbeat was last received. 1 RU.
    pub async fn pulse(&self) -> Result<Option<UnixMs>> {
        Ok(self.pulse_state().await?.and_then(|state| state.seen))
    }

    /// Dates the last pulse at `at`, after the clock was set back. 1 WU.
    pub async fn set_pulse(&self, at: UnixMs) -> Result<()> {
        if let Some(id) = self.pulse_id().await? {
            let dated = set("seen", at).add("version", 1).remove("tat");
            self.write(update(Key::state(id), dated)).await?;
        }
        Ok(())
    }

    /// Creates the pulse unless it exists. On the fast path it is a monitor like any other, but it
    /// has no owner, timer or alert. 1 RU, 1 WU; the first time 3 RU, 4 WU.
    pub async fn ensure_pulse(&self, now: UnixMs) -> Result<()> {
        let known: Option<MonitorState> = match self.pulse_id().await? {
            Some(_) => None,
            None => {
                let id = MonitorId(self.world.uuid_v4());
                let new = item::encode(&Key::pulse(), "pulse", &PulseId { id });
                self.try_write(create(new)).await?;
                self.get(Key::state(KNOWN_PULSE)).await?
            }
        };
        let Some(id) = self.pulse_id().await? else {
            return Ok(());
        };
        let monitor = Monitor::new(id, ProjectId::PIPELINE, now);
        let state = MonitorState {
            status: Status::Up,
            seen: known.and_then(|known| known.seen).or(Some(now)),
            version: 1,
            plain: true,
            period_s: Some(60),
            grace_s: 0,
            ttl_span: PULSE_TTL_S,
            ..MonitorState::new(&monitor)
        };
        self.try_write(create(item::state(&state))).await.map(drop)
    }

    /// Counts heartbeats, of which some were refused at `now`. 1 WU.
    pub async fn count_refusals(&self, now: UnixMs, traffic: Traffic) -> Result<()> {
        let counted = add("all", traffic.all)
            .add("refused", traffic.refused)
            .set_if_missing("first", now)
            .set("last", now)
            .set("kind", "refusals")
            .set("v", MAPPING_VERSION)
            .set("expires_at", now.secs() + REFUSALS_TTL_S);
        let write = update(Key::refusals(now), counted);
        self.write(write).await.map(drop)
    }

    /// The minutes since `from` in which heartbeats were refused. 0.5 RU.
    pub async fn refusals(&self, from: UnixMs, to: UnixMs) -> Result<Vec<Refusals>> {
        let (first, last) = (Key::refusals(from), Key::refusals(to + 60_000));
        let minutes = Query::of(first.pk).between(first.sk, last.sk);
        self.query(minutes.eventual()).await
    }

    /// Records a step of the clock. 1 WU.
    pub async fn put_clock_step(&self, step: ClockStep) -> Result<()> {
        let expires_s = step.at.secs() + CLOCK_TTL_S;
        let key = Key::clock_step(step.at);
        let item = item::expiring(&key, "clock step", &step, expires_s);
        self.write(put(item)).await.map(drop)
    }

    /// The last step of the clock that is still recorded. 0.5 RU.
    pub async fn clock_step(&self) -> Result<Option<ClockStep>> {
        let newest = Query::of("CLOCK").newest_first().limit(1).eventual();
        let found: Vec<ClockStep> = self.query(newest).await?;
        Ok(found.into_iter().next())
    }
}
