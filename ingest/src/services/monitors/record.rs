//! Recording a ping: one write on the fast path, and the state machine on the slow one.

use super::Monitors;
use super::expect::Judging;
use thiserror::Error;
use thrum_schema::expect::Known;
use thrum_schema::fence::DISORDER_MS;
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::metrics::Count;
use thrum_schema::monitor::{DEFAULT_GRACE_S, DEFAULT_PERIOD_S, slugify};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::notice::tail;
use thrum_schema::ping::{MAX_METRIC_NAME, MAX_METRICS, Ping};
use thrum_schema::plan::Rate;
use thrum_schema::transition::{Event, Outcome, transition, transitions};
use thrum_schema::{
    Alert, Flip, Monitor, MonitorState, PingKind, Schedule, Status, Targets, UnixMs,
};
use thrum_store::{
    Change, Claims, Commit, Creation, Fast, RETRY_WRITES_MS, Rules, Snapshot, StoreError,
};

/// When the table is throttled because very many monitors are created at once: over how long their
/// clients are spread, in milliseconds.
const CROWD_MS: f64 = 60_000.0;

/// Only monitors with at most this many pings are checked: one whose configuration was lost got them within minutes of its
/// creation.
const FEW: u64 = 200;

/// A ping that was received and validated.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The kind that the request states; the monitor's rules may change it.
    pub kind: PingKind,
    /// The ping to log. Its number and final kind are filled in later.
    pub ping: Ping,
    /// The schedule that it sets.
    pub rules: Rules,
    /// The text of an e-mail, for alerts. The kind of such a ping is final.
    pub text: Option<String>,
}

impl Incoming {
    /// Adds a metric, or a warning that says why it was left out.
    pub fn add_metric(
        &mut self,
        name: &str,
        value: Result<f64, String>,
        warnings: &mut Vec<String>,
    ) {
        let metrics = &mut self.ping.metrics;
        let name: String = name.chars().take(MAX_METRIC_NAME + 1).collect();
        match value {
            Ok(value) if metrics.len() < MAX_METRICS => {
                metrics.insert(name, value);
            }
            Ok(_) if warnings.len() < MAX_METRICS => warnings.push(format!(
                "metrics must have at most {MAX_METRICS} entries; {name} was left out"
            )),
            Err(problem) if warnings.len() < MAX_METRICS => {
                warnings.push(format!("metrics.{name} {problem}; it was left out"));
            }
            // Enough of them.
            Ok(_) | Err(_) => {}
        }
    }
}

/// A ping that was recorded.
#[derive(Debug)]
pub struct Recorded {
    /// The monitor's state after the ping.
    pub state: MonitorState,
    /// Whether this ping created the monitor.
    pub created: bool,
    /// What was not as expected in the run.
    pub unexpected: Vec<String>,
}

/// Why a ping was not recorded.
#[derive(Debug, Error)]
pub enum RecordError {
    /// There is no such monitor.
    #[error("there is no such monitor")]
    NotFound,
    /// Several monitors have this slug.
    #[error("several monitors have this slug")]
    Ambiguous,
    /// The plan has no room for another monitor.
    #[error("the project has as many monitors as its plan allows")]
    Full,
    /// Milliseconds until the next ping is accepted.
    #[error("too many pings")]
    TooMany(i64),
    /// Too many monitors are created at once: milliseconds after which to try again.
    #[error("too many monitors are created at once; try again later")]
    Crowded(i64),
    /// The table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a ping identifies its monitor, if not by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By name, or by the slug of a monitor without another name: heartbeats.
    Name,
    /// By slug: ping URLs with a ping key.
    Slug,
}

impl Monitors {
    /// Records a ping of the monitor `id`.
    pub async fn record(&self, id: MonitorId, incoming: Incoming) -> Result<Recorded, RecordError> {
        if incoming.kind != PingKind::Success {
            return self.record_by_rules(id, incoming).await;
        }
        let (at, rules) = (incoming.ping.at, incoming.rules);
        match self.store.heartbeat(id, at, rules, self.rate()).await? {
            Fast::Counted(state) => {
                if self.is_partial(&state).await? {
                    return Err(RecordError::NotFound);
                }
                self.log(id, &state, Understood::plain(), incoming).await?;
                Ok(Recorded {
                    state: *state,
                    created: false,
                    unexpected: Vec::new(),
                })
            }
            Fast::TooMany(wait_ms) => Err(RecordError::TooMany(wait_ms)),
            Fast::NeedsRules => self.record_by_rules(id, incoming).await,
        }
    }

    /// Whether the region that had created a monitor was lost before all of that was replicated: its heartbeats would be
    /// accepted, but it could never alert. If so, removes the rest. 1 RU for a monitor with few pings, if it was not read
    /// lately.
    async fn is_partial(&self, state: &MonitorState) -> Result<bool, StoreError> {
        let now = self.store.world().now();
        let id = state.monitor;
        // The pulse has no configuration.
        let may_be = state.pings <= FEW && state.project != ProjectId::PIPELINE;
        if !may_be || !self.has_all_arrived().await? || self.whole.get(&id, now).is_some() {
            return Ok(false);
        }
        if self.store.monitor(state.project, id).await?.is_some() {
            self.whole.put(id, (), now);
            return Ok(false);
        }
        self.store.forget_state(id).await?;
        Ok(true)
    }

    /// Whether a region has taken over from the other one, and everything has arrived since that was on its way.
    async fn has_all_arrived(&self) -> Result<bool, StoreError> {
        let Some(regions) = &self.config.regions else {
            return Ok(false);
        };
        let belief = regions.belief().await?;
        let fence = belief.fence();
        Ok(fence.epoch > 1 && self.store.world().now() - fence.since > DISORDER_MS)
    }

    /// Records a ping of the monitor `name` of `project`. If there is none and `create` is set,
    /// creates it, exactly once.
    pub async fn record_named(
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
        let started = self.store.world().now();
        let mut attempt = 0;
        loop {
            let now = self.store.world().now();
            let id = match cache.get(&cache_key, now) {
                Some(id) => Some(id),
                None => self.named(project, by, name).await?,
            };
            let result = match id {
                Some(id) => self.record(id, incoming.clone()).await,
                None if create => {
                    self.create(project, by, (name, attempt), incoming.clone())
                        .await
                }
                None => return Err(RecordError::NotFound),
            };
            match result {
                Ok(recorded) => {
                    cache.put(cache_key, recorded.state.monitor, now);
                    return Ok(recorded);
                }
                // Deleted since the lookup, or created by a concurrent request: look it up again.
                Err(RecordError::NotFound | RecordError::Store(StoreError::Conflict))
                    if now - started < RETRY_WRITES_MS =>
                {
                    cache.forget(&cache_key);
                    if matches!(result, Err(RecordError::NotFound)) && attempt > 0 {
                        let Some(id) = id.filter(|_| create) else {
                            return Err(RecordError::NotFound);
                        };
                        if self.has_all_arrived().await? {
                            self.store.release_name(project, name, id).await?;
                        }
                    }
                    self.store.back_off(attempt).await;
                    attempt += 1;
                }
                Err(RecordError::Store(StoreError::Throttled(why))) if id.is_none() => {
                    let wait_ms = self.store.world().jitter() * CROWD_MS;
                    tracing::warn!(%why, "too many monitors are created at once");
                    return Err(RecordError::Crowded(wait_ms as i64));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The rate limit of each monitor.
    fn rate(&self) -> Option<Rate> {
        self.config.pings_per_minute.map(Rate::per_minute)
    }

    /// The only monitor of `project` that a ping with this name or slug means. A name means exactly
    /// itself: a monitor that has it as its slug is meant only if it has no other name, so that a
    /// host never keeps another one up.
    pub async fn named(
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
        let mut ids = self.store.monitors_with_slug(project, name).await?;
        if by == By::Name && !ids.is_empty() {
            let found = self.store.monitors_by_id(project, &ids).await?;
            let own = found
                .iter()
                .filter(|one| one.name.is_empty() || one.name == name);
            ids = own.map(|one| one.id).collect();
        }
        match *ids {
            [] => Ok(None),
            [id] => Ok(Some(id)),
            _ => Err(RecordError::Ambiguous),
        }
    }

    /// The slow path: reads the monitor, applies its rules, and commits the outcome.
    async fn record_by_rules(
        &self,
        id: MonitorId,
        incoming: Incoming,
    ) -> Result<Recorded, RecordError> {
        let first = self.store.snapshot(id).await?;
        let first = first.ok_or(RecordError::NotFound)?;
        let (mut decided, mut reconfigured) = (None, false);
        // Only a success is judged.
        let judging = match event(&first.monitor, &incoming, "") {
            Event::Ping {
                kind: PingKind::Success,
                ..
            } => self.judging(&first.monitor, &first.state).await?,
            _ => Judging::default(),
        };
        let mut incoming = incoming;
        let mut unexpected = Vec::new();
        let updated = self
            .store
            .update_monitor(first, RETRY_WRITES_MS, |current, now| {
                let change;
                (change, unexpected) = self.change_of(current, &incoming, &judging.known, now)?;
                reconfigured = change.monitor.is_some();
                if mutant::is(Mutant::AnswersAnyway) {
                    decided = Some(change.outcome.state.clone());
                }
                Ok::<_, RecordError>(Some(change))
            });
        let updated = match (updated.await, decided) {
            (Err(RecordError::Store(_)), Some(state)) => {
                return Ok(Recorded {
                    state,
                    created: false,
                    unexpected: Vec::new(),
                });
            }
            (updated, _) => updated?.ok_or(RecordError::NotFound)?,
        };
        if reconfigured {
            self.note(&updated.now.monitor, updated.now.state.version);
        }
        let state = updated.now.state;
        incoming.ping.unexpected.clone_from(&unexpected);
        if let Some(outcome) = &updated.outcome {
            let understood = Understood::of(outcome, incoming.kind);
            self.log(id, &state, understood, incoming).await?;
        }
        self.follow_unfollowed(&updated.now.monitor, judging).await;
        Ok(Recorded {
            state,
            created: false,
            unexpected,
        })
    }

    /// The change that a ping makes, first its schedule, then the ping itself; and what was not as
    /// expected in the run that it reports.
    fn change_of(
        &self,
        current: &Snapshot,
        incoming: &Incoming,
        known: &Known,
        now: UnixMs,
    ) -> Result<(Change, Vec<String>), RecordError> {
        let wanted = incoming.rules.applied_to(&current.monitor);
        let monitor = wanted.as_ref().unwrap_or(&current.monitor);
        let tat = match self.rate() {
            Some(rate) => {
                let taken = rate.take(current.state.tat, incoming.ping.at.0);
                Some(taken.map_err(RecordError::TooMany)?)
            }
            None => None,
        };
        let apply = |ping: Event<'_>| {
            let events = [Event::Reconfigured, ping];
            let events = &events[usize::from(wanted.is_none())..];
            transitions(monitor, &current.state, events, now)
        };
        let why = exit(&incoming.ping);
        let mut outcome = apply(event(monitor, incoming, &why));
        let mut unexpected = Vec::new();
        if outcome.kind == Some(PingKind::Success) {
            let ping = &incoming.ping;
            unexpected = monitor.unexpected(&ping.metrics, outcome.duration_ms, ping.at, known);
        }
        let failures = unexpected.iter().filter(|one| !one.warn);
        let failures: Vec<&str> = failures.map(|one| &*one.text).collect();
        if !failures.is_empty() {
            outcome = apply(Event::Ping {
                kind: PingKind::Fail,
                rid: incoming.ping.rid,
                at: incoming.ping.at,
                why: Some(&failures.join("; ")),
            });
        }
        outcome.state.tat = tat;
        let change = Change {
            monitor: wanted.clone(),
            output: output(&outcome, incoming),
            ..Change::of(outcome)
        };
        Ok((change, unexpected.into_iter().map(|one| one.text).collect()))
    }

    /// Creates a monitor with its first ping. Its slug is derived from `name`, if that slug is
    /// free. It alerts on all channels of the project.
    async fn create(
        &self,
        project: ProjectId,
        by: By,
        (name, attempt): (&str, u32),
        incoming: Incoming,
    ) -> Result<Recorded, RecordError> {
        let now = self.store.world().now();
        let (slug, claims) = match by {
            By::Slug => (name.to_owned(), Claims::Slug),
            By::Name => (self.free_slug(project, name, attempt).await?, Claims::Name),
        };
        let period_s = incoming.rules.period_s;
        let longest_grace_s = period_s.unwrap_or(DEFAULT_GRACE_S).min(DEFAULT_GRACE_S);
        let monitor = Monitor {
            name: name.to_owned(),
            slug,
            schedule: Schedule::Simple {
                period_s: period_s.unwrap_or(DEFAULT_PERIOD_S),
            },
            grace_s: incoming.rules.grace_s.unwrap_or(longest_grace_s),
            targets: Targets::All,
            ..Monitor::new(MonitorId(self.store.world().uuid_v4()), project, now)
        };
        // Pings may create twice as many monitors as the plan allows to create through the API.
        let limit = self.accounts.limits(project).await?.monitors;
        let limit = limit.map(|limit| limit.saturating_mul(2));
        let before = MonitorState::new(&monitor);
        let mut outcome = transition(
            &monitor,
            &before,
            &event(&monitor, &incoming, &exit(&incoming.ping)),
            now,
        );
        let alert = self
            .store
            .announce(&monitor, &mut outcome, None, now)
            .await?
            .map(|alert| Alert {
                output: output(&outcome, &incoming),
                ..alert
            });
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
            Ok(()) => self.note(&monitor, outcome.state.version),
            Err(StoreError::Conflict) if !self.store.census(project).await?.has_room(limit) => {
                tracing::warn!(%project, "did not create a monitor for a ping: the project has reached its plan's limit of monitors; raise the plan or delete monitors");
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
            unexpected: Vec::new(),
        })
    }

    /// The slug for a monitor called `name`; empty if another monitor has it.
    async fn free_slug(
        &self,
        project: ProjectId,
        name: &str,
        attempt: u32,
    ) -> Result<String, StoreError> {
        let slug = slugify(name);
        // A slug that is the name is known to be free, unless creating the monitor failed before.
        let unsure = slug != name || attempt > 0;
        let taken = unsure && !slug.is_empty() && {
            let others = self.store.monitors_with_slug(project, &slug).await?;
            !others.is_empty()
        };
        Ok(if taken { String::new() } else { slug })
    }

    /// Logs a counted ping, if pings are logged, and feeds the series that take its values.
    async fn log(
        &self,
        id: MonitorId,
        state: &MonitorState,
        understood: Understood,
        incoming: Incoming,
    ) -> Result<(), StoreError> {
        if state.project == ProjectId::PIPELINE {
            return Ok(());
        }
        self.store.metrics().count(Count::Pings, 1);
        if !self.config.ping_log && state.feeds.is_none() {
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
        self.series.feed_ping(state, &ping).await;
        Ok(())
    }
}

/// What a ping means by the monitor's rules.
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

    /// The outcome of the rules.
    fn of(outcome: &Outcome, asked: PingKind) -> Self {
        Self {
            kind: outcome.kind.unwrap_or(asked),
            duration_ms: outcome.duration_ms,
            early: outcome.early,
            overlap: outcome.overlap,
        }
    }
}

/// The event that a ping is for `monitor`.
fn event<'a>(monitor: &Monitor, incoming: &'a Incoming, why: &'a str) -> Event<'a> {
    let Ping {
        ref method,
        ref body,
        rid,
        at,
        ..
    } = incoming.ping;
    let kind = match incoming.text {
        Some(_) => incoming.kind,
        None => monitor.classify(incoming.kind, method, body),
    };
    Event::Ping {
        kind,
        rid,
        at,
        why: Some(why).filter(|why| !why.is_empty()),
    }
}

/// The last lines of the output of a run that took its monitor down.
fn output(outcome: &Outcome, incoming: &Incoming) -> Option<String> {
    let is_down = |flip: &Flip| flip.to == Status::Down;
    let is_down = outcome.flip.as_ref().is_some_and(is_down);
    let text = incoming.text.as_ref().map(String::as_bytes);
    tail(text.unwrap_or(&incoming.ping.body)).filter(|_| is_down)
}

/// Why a ping reports a failure, if it says so.
fn exit(ping: &Ping) -> String {
    match ping.exit_status {
        None | Some(0) => String::new(),
        Some(status) => format!("exit status {status}"),
    }
}
