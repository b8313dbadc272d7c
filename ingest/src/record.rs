//! Recording a ping: the one write of the fast path, and the slow path around the state machine.

use crate::app::App;
use crate::management::slugify;
use thiserror::Error;
use thrum_schema::channel::Targets;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::metrics::Count;
use thrum_schema::monitor::{DEFAULT_GRACE_S, DEFAULT_PERIOD_S};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::ping::Ping;
use thrum_schema::plan::Rate;
use thrum_schema::transition::{self, Event, Outcome};
use thrum_schema::{Monitor, MonitorState, PingKind, Schedule};
use thrum_store::StoreError;
use thrum_store::{Claims, Commit, Creation, Fast, Rules};

/// How long a write is tried against others before it is given up, in milliseconds. It is less than the 30 s after
/// which a write that arms a timer must begin anew with a fresh reading of the clock (T2).
pub const RETRY_FOR_MS: i64 = 20_000;

/// A ping that was received and validated.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// What it asks for; the monitor's rules may see it differently.
    pub kind: PingKind,
    /// The ping as it will be logged; its number and meaning are filled in.
    pub ping: Ping,
    /// What it says of its own schedule.
    pub rules: Rules,
}

/// A ping that was recorded.
#[derive(Debug)]
pub struct Recorded {
    /// The monitor's state afterwards.
    pub state: MonitorState,
    /// Whether the monitor was made by this ping.
    pub created: bool,
}

/// Why a ping was not recorded.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("there is no such monitor")]
    NotFound,
    #[error("several monitors have this slug")]
    Ambiguous,
    #[error("the project has as many monitors as its plan allows")]
    Full,
    /// Milliseconds until one is taken.
    #[error("too many pings")]
    TooMany(i64),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which monitor a ping is for, if not by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Its name, or else its slug: heartbeats.
    Name,
    /// Its slug: ping-key URLs.
    Slug,
}

impl App {
    /// Records a ping of the monitor `id`.
    pub(crate) async fn record(
        &self,
        id: MonitorId,
        incoming: Incoming,
    ) -> Result<Recorded, RecordError> {
        if incoming.kind != PingKind::Success {
            return self.record_by_rules(id, incoming).await;
        }
        let (at, rules) = (incoming.ping.at, incoming.rules);
        match self.store.heartbeat(id, at, rules, self.rate()).await? {
            Fast::Counted(state) => {
                self.log(id, &state, Understood::plain(), incoming).await?;
                Ok(Recorded {
                    state: *state,
                    created: false,
                })
            }
            Fast::TooMany(wait_ms) => Err(RecordError::TooMany(wait_ms)),
            Fast::NeedsRules => self.record_by_rules(id, incoming).await,
        }
    }

    /// Records a ping of the monitor that `project` calls `name`; makes it, once, if `create` says how.
    pub(crate) async fn record_named(
        &self,
        project: ProjectId,
        by: By,
        name: &str,
        create: bool,
        incoming: Incoming,
    ) -> Result<Recorded, RecordError> {
        let cache = match by {
            By::Name => &self.names,
            By::Slug => &self.slugs,
        };
        let cache_key = (project, name.to_owned());
        let begun = self.store.world().now();
        let mut attempt = 0;
        loop {
            let now = self.store.world().now();
            let id = match cache.get(&cache_key, now) {
                Some(id) => Some(id),
                None => self.find(project, by, name).await?,
            };
            let result = match id {
                Some(id) => self.record(id, incoming.clone()).await,
                None if create => self.create(project, by, name, incoming.clone()).await,
                None => return Err(RecordError::NotFound),
            };
            match result {
                Ok(recorded) => {
                    cache.put(cache_key, recorded.state.monitor, now);
                    return Ok(recorded);
                }
                // Deleted since it was looked up, or made by another since it was not found: look again.
                Err(RecordError::NotFound | RecordError::Store(StoreError::Conflict))
                    if now - begun < RETRY_FOR_MS =>
                {
                    cache.forget(&cache_key);
                    if matches!(result, Err(RecordError::NotFound)) && attempt > 0 && !create {
                        return Err(RecordError::NotFound);
                    }
                    self.back_off(attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How fast a monitor's pings may come.
    fn rate(&self) -> Option<Rate> {
        self.config.pings_per_minute.map(Rate::per_minute)
    }

    /// The one monitor that `project` calls `name`.
    pub(crate) async fn find(
        &self,
        project: ProjectId,
        by: By,
        name: &str,
    ) -> Result<Option<MonitorId>, RecordError> {
        if by == By::Name
            && let Some(id) = self.store.monitor_named(project, name).await?
        {
            return Ok(Some(id));
        }
        match *self.store.monitors_with_slug(project, name).await? {
            [] => Ok(None),
            [id] => Ok(Some(id)),
            _ => Err(RecordError::Ambiguous),
        }
    }

    /// The slow path: reads the monitor, applies its rules, and writes the outcome guarded by the state's version,
    /// again and again until no other write comes between.
    async fn record_by_rules(
        &self,
        id: MonitorId,
        incoming: Incoming,
    ) -> Result<Recorded, RecordError> {
        let at = incoming.ping.at;
        let begun = self.store.world().now();
        for attempt in 0.. {
            let now = self.store.world().now();
            if now - begun > RETRY_FOR_MS {
                return Err(StoreError::Conflict.into());
            }
            let located = self.store.locate(id).await?.ok_or(RecordError::NotFound)?;
            let stored = self
                .store
                .monitor(located.project, id)
                .await?
                .ok_or(RecordError::NotFound)?;
            let wanted = incoming.rules.applied_to(&stored);
            let monitor = wanted.as_ref().unwrap_or(&stored);
            let before = match located.state.clone() {
                Some(state) => state,
                None => self.store.lost_state(monitor).await?,
            };
            let tat = match self.rate() {
                Some(rate) => Some(rate.take(before.tat, at.0).map_err(RecordError::TooMany)?),
                None => None,
            };
            let events = [Event::Reconfigured, event(monitor, &incoming)];
            let events = if wanted.is_some() {
                &events[..]
            } else {
                &events[1..]
            };
            let mut outcome = transition::transitions(monitor, &before, events, now);
            outcome.state.tat = tat;
            let last_ping = outcome.state.seen;
            let alert = self
                .store
                .announce(monitor, &mut outcome, last_ping, None, now)
                .await?;
            let commit = Commit {
                monitor,
                before: located.state.as_ref(),
                outcome: &outcome,
                alert: alert.as_ref(),
                was: wanted.is_some().then_some(&stored),
            };
            match self.store.commit(&commit, now).await {
                Ok(()) => {
                    if let Some(wanted) = &wanted {
                        let version = outcome.state.version;
                        self.monitor_cache
                            .note(wanted.project, id, version, Some(wanted));
                    }
                    let understood = Understood::of(&outcome, incoming.kind);
                    self.log(id, &outcome.state, understood, incoming).await?;
                    return Ok(Recorded {
                        state: outcome.state,
                        created: false,
                    });
                }
                Err(StoreError::Conflict) => self.back_off(attempt).await,
                Err(_) if mutant::is(Mutant::AnswersAnyway) => {
                    return Ok(Recorded {
                        state: outcome.state,
                        created: false,
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Makes a monitor by its first ping: its name is `name`, and its slug too, as far as that can be one and is free; it
    /// alerts all of the project's channels.
    async fn create(
        &self,
        project: ProjectId,
        by: By,
        name: &str,
        incoming: Incoming,
    ) -> Result<Recorded, RecordError> {
        let now = self.store.world().now();
        let period_s = incoming.rules.period_s.unwrap_or(DEFAULT_PERIOD_S);
        let default_grace_s = match incoming.rules.period_s {
            Some(period_s) => period_s.min(DEFAULT_GRACE_S),
            None => DEFAULT_GRACE_S,
        };
        let (slug, claims) = match by {
            By::Slug => (name.to_owned(), Claims::Slug),
            By::Name => {
                let slug = slugify(name);
                let taken = slug != name
                    && !slug.is_empty()
                    && !self
                        .store
                        .monitors_with_slug(project, &slug)
                        .await?
                        .is_empty();
                let slug = if taken { String::new() } else { slug };
                (slug, Claims::Name)
            }
        };
        let monitor = Monitor {
            name: name.to_owned(),
            slug,
            schedule: Schedule::Simple { period_s },
            grace_s: incoming.rules.grace_s.unwrap_or(default_grace_s),
            targets: Targets::All,
            ..Monitor::new(MonitorId(self.store.world().uuid_v4()), project, now)
        };
        // The API makes as many as the plan allows; what provisions itself may be twice as many.
        let limit = self.limits(project).await?.monitors;
        let limit = limit.map(|limit| limit.saturating_mul(2));
        let before = MonitorState::new(&monitor);
        let event = event(&monitor, &incoming);
        let mut outcome = transition::transition(&monitor, &before, &event, now);
        let last_ping = outcome.state.seen;
        let alert = self
            .store
            .announce(&monitor, &mut outcome, last_ping, None, now)
            .await?;
        let creation = Creation {
            commit: Commit {
                monitor: &monitor,
                before: None,
                outcome: &outcome,
                alert: alert.as_ref(),
                was: None,
            },
            claims,
            limit,
            after: None,
        };
        match self.store.create_monitor(&creation, now).await {
            Ok(()) => {
                let version = outcome.state.version;
                self.monitor_cache
                    .note(project, monitor.id, version, Some(&monitor));
            }
            Err(StoreError::Conflict)
                if !self.store.monitor_count(project).await?.has_room(limit) =>
            {
                return Err(RecordError::Full);
            }
            Err(error) => return Err(error.into()),
        }
        let understood = Understood::of(&outcome, incoming.kind);
        self.log(monitor.id, &outcome.state, understood, incoming)
            .await?;
        Ok(Recorded {
            state: outcome.state,
            created: true,
        })
    }

    /// Logs a ping that was counted, where pings are logged, and feeds the series that its figures are.
    async fn log(
        &self,
        id: MonitorId,
        state: &MonitorState,
        understood: Understood,
        incoming: Incoming,
    ) -> Result<(), StoreError> {
        if id != MonitorId::PULSE {
            self.store.metrics().count(Count::Pings, 1);
        }
        if id == MonitorId::PULSE || (!self.config.ping_log && state.feeds.is_none()) {
            return Ok(());
        }
        let ping = Ping {
            n: state.pings,
            kind: understood.kind,
            duration_ms: understood.duration_ms,
            early: understood.early,
            overlap: understood.overlap,
            ..incoming.ping
        };
        if self.config.ping_log && understood.kind == PingKind::Fail {
            let kept = self.store.log_failure(id, state.fails, &ping);
            futures::try_join!(self.store.log_ping(id, &ping), kept)?;
        } else if self.config.ping_log {
            self.store.log_ping(id, &ping).await?;
        }
        self.feed_series(state, &ping).await;
        Ok(())
    }
}

/// What a ping meant in the end.
#[derive(Debug, Clone, Copy)]
struct Understood {
    kind: PingKind,
    duration_ms: Option<i64>,
    early: bool,
    overlap: bool,
}

impl Understood {
    /// A success that needed no rules.
    const fn plain() -> Self {
        Self {
            kind: PingKind::Success,
            duration_ms: None,
            early: false,
            overlap: false,
        }
    }

    /// As the rules had it.
    fn of(outcome: &Outcome, asked: PingKind) -> Self {
        Self {
            kind: outcome.kind.unwrap_or(asked),
            duration_ms: outcome.duration_ms,
            early: outcome.early,
            overlap: outcome.overlap,
        }
    }
}

/// What a ping means to `monitor`.
fn event(monitor: &Monitor, incoming: &Incoming) -> Event<'static> {
    let Ping {
        ref method,
        ref body,
        rid,
        at,
        ..
    } = incoming.ping;
    Event::Ping {
        kind: monitor.classify(incoming.kind, method, body),
        rid,
        at,
    }
}
