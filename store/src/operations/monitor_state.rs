//! Monitor states: reads them by the monitor's id, restores those that TTL removed, and marks their
//! metrics as series.

use crate::item;
use crate::key::Key;
use crate::table::{Query, Value, add, attr, create, exists, put, set, update};
use crate::{Result, Store};
use thrum_schema::flip::Flip;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::monitor::Monitor;
use thrum_schema::ping::PingKind;
use thrum_schema::state::{Feeds, MonitorState};

/// What is known about a monitor from its id alone.
#[derive(Debug)]
pub struct Located {
    /// The project that owns it.
    pub project: ProjectId,
    /// Its state; `None` if TTL removed it.
    pub state: Option<MonitorState>,
}

#[derive(serde::Deserialize)]
struct Owner {
    project: ProjectId,
}

impl Store {
    /// The owner and state of a monitor, read consistently in one query; `None` if there is no such
    /// monitor. 1 RU.
    pub async fn locate(&self, monitor: MonitorId) -> Result<Option<Located>> {
        let (state_key, owner_key) = (Key::state(monitor), Key::owner(monitor));
        let query = Query::of(owner_key.pk).between(state_key.sk, owner_key.sk);
        let (mut project, mut state) = (None, None);
        for item in self.table.query(query).await?.items {
            match Key::of(&item) {
                Some(key) if key.sk == "LEASE" => state = Some(item::decode(item)?),
                _ => project = Some(item::decode::<Owner>(item)?.project),
            }
        }
        Ok(project.map(|project| Located { project, state }))
    }

    /// Rebuilds the state of a monitor that TTL removed, from its log and flips: the numbers of
    /// pings and flips continue, and the missed flip to down gets its number. In one of two
    /// regions, a state that is too young for TTL was lost with the other one, and is what the log and flips show. 1 RU, plus 1 RU per 4
    /// kB of the log.
    ///
    /// # Errors
    /// The table failed.
    pub async fn lost_state(&self, monitor: &Monitor) -> Result<MonitorState> {
        let (pings, flips) = futures::try_join!(self.pings(monitor.id), self.flips(monitor.id, 1))?;
        let mut state = MonitorState::lost(monitor);
        if let Some(last) = flips.first() {
            let mut results = pings
                .iter()
                .filter(|ping| matches!(ping.kind, PingKind::Success | PingKind::Fail));
            let as_of = last.state_of(monitor, results.next().map(|last| last.at));
            let now = self.world.now().secs();
            if self.replicated && as_of.expires_at.is_none_or(|at| at > now) {
                state = as_of;
            } else {
                state.flips = last.n + 1;
                state.flip_at = Some(last.at);
            }
        }
        state.pings = pings.first().map_or(0, |last| last.n);
        state.resumed_pings = state.pings;
        Ok(state)
    }

    /// Adds the pings of a state that TTL removed to the state that a ping created in its place,
    /// except those already assumed when it was created (`resumed`), and records the missed flip.
    /// Happens only once, because its marker item can be created only once. 4 to 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if it was done already, or the monitor
    /// is gone.
    pub async fn add_lost_history(
        &self,
        lost: &MonitorState,
        resumed: u64,
        flip: Option<&Flip>,
    ) -> Result<()> {
        let pings = lost.pings.saturating_sub(resumed);
        let counted = add("pings", pings).add("version", 1);
        let add_pings = update(Key::state(lost.monitor), counted).when(exists());
        let mut writes = vec![add_pings, create(item::restored(lost))];
        writes.extend(flip.map(|flip| put(item::flip(lost.monitor, flip))));
        self.transact(writes).await
    }

    /// Records which metrics of a monitor are series, guarded by its state's version. 1 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if the state has changed.
    pub async fn set_feeds(&self, state: &MonitorState, feeds: &Feeds) -> Result<()> {
        let text = |text: &str| Value::S(text.to_owned());
        let names = feeds.names.iter().map(|name| text(name)).collect();
        let feeds = [
            ("slug".to_owned(), text(&feeds.slug)),
            ("names".to_owned(), Value::L(names)),
        ];
        let note = set("feeds", Value::M(feeds.into())).add("version", 1);
        let unchanged = attr("version").eq(state.version);
        self.write(update(Key::state(state.monitor), note).when(unchanged))
            .await
            .map(drop)
    }
}
