//! Heartbeats: the one write of the fast path, and the guarded writes of the slow one.

use super::Touched;
use super::monitors::count;
use super::usage::Pace;
use crate::item;
use crate::key::Key;
use crate::table::{
    Item, Query, TableError, Value, Write, add, attr, check, create, exists, missing, put, set,
    update,
};
use crate::{Result, Store};
use thrum_schema::alert::Alert;
use thrum_schema::id::{AlertId, MonitorId, ProjectId};
use thrum_schema::metrics::Count;
use thrum_schema::monitor::Monitor;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::ping::Ping;
use thrum_schema::plan::Rate;
use thrum_schema::project::Project;
use thrum_schema::schedule::Schedule;
use thrum_schema::silence::silenced_until;
use thrum_schema::state::{Feeds, MonitorState, Status};
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{Timer, What, look_at};
use thrum_schema::transition::{Flip, Outcome};

/// How long after it was made an alert is audited for the first time, in milliseconds (A5).
pub const FIRST_AUDIT_MS: i64 = 30_000;

/// How long after a flip was silenced it is looked at again at the latest, in milliseconds: the silence may be ended
/// early.
pub const WAKE_MS: i64 = 600_000;

/// What became of a heartbeat on the fast path.
#[derive(Debug)]
pub enum Fast {
    /// It is recorded; the state as it now is.
    Counted(Box<MonitorState>),
    /// Nothing was written: the monitor's rules must decide.
    NeedsRules,
    /// Nothing was written: there were too many. Milliseconds until one passes.
    TooMany(i64),
}

/// What a heartbeat says of its own schedule; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Seconds between two heartbeats.
    pub period_s: Option<u32>,
    /// Seconds of grace.
    pub grace_s: Option<u32>,
}

impl Rules {
    /// The monitor as these rules want it; `None` if it is so already.
    pub fn applied_to(self, monitor: &Monitor) -> Option<Monitor> {
        let mut wanted = monitor.clone();
        if let Some(period_s) = self.period_s {
            wanted.schedule = Schedule::Simple { period_s };
        }
        if let Some(grace_s) = self.grace_s {
            wanted.grace_s = grace_s;
        }
        (wanted != *monitor).then_some(wanted)
    }
}

/// What is known of a monitor by its id alone.
#[derive(Debug)]
pub struct Located {
    /// The project that owns it.
    pub project: ProjectId,
    /// Its state, unless TTL removed it.
    pub state: Option<MonitorState>,
}

/// A change of a monitor, to be written in whole or not at all.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The monitor as it is to be.
    pub monitor: &'a Monitor,
    /// Its state before; `None` if TTL had removed it.
    pub before: Option<&'a MonitorState>,
    /// What the event does.
    pub outcome: &'a Outcome,
    /// The alert that tells of the flip.
    pub alert: Option<&'a Alert>,
    /// The monitor as it was, if its configuration changed.
    pub was: Option<&'a Monitor>,
}

impl Rules {
    /// Whether `state` follows them.
    fn hold(self, state: &MonitorState) -> bool {
        self.period_s
            .is_none_or(|period_s| state.period_s == Some(period_s))
            && self.grace_s.is_none_or(|grace_s| state.grace_s == grace_s)
    }
}

impl Store {
    /// A success at `now` on a plain, `up` monitor: one `UpdateItem`, on condition that the state is there,
    /// `up`, plain, and was not seen later, that period and grace are what `rules` say, where they do, and that pings
    /// have not used up their `rate`. 1 WU; on DynamoDB 2 for a burst.
    pub async fn heartbeat(
        &self,
        monitor: MonitorId,
        now: UnixMs,
        rules: Rules,
        rate: Option<Rate>,
    ) -> Result<Fast> {
        let mut plain = attr("status").eq("up").and(attr("plain").eq(true));
        if mutant::is(Mutant::FastPathUnguarded) {
            plain = attr("status").eq("up").or(attr("plain").eq(true).negated());
        }
        plain = plain.and(attr("seen").at_most(now));
        for (name, wanted) in [("period_s", rules.period_s), ("grace_s", rules.grace_s)] {
            if let Some(wanted) = wanted {
                plain = plain.and(attr(name).eq(wanted));
            }
        }
        let count = set("seen", now)
            .set_sum("expires_at", "ttl_span", now.secs())
            .add("pings", 1)
            .add("version", 1)
            .remove("last_duration_ms");
        let write = update(Key::state(monitor), count.clone()).when(plain.clone());
        let write = match rate {
            None => write,
            Some(rate) => Pace::new(rate, now).limit(write, plain, count),
        };
        let before = match self.table.write(write).await {
            Ok(state) => {
                let state: Box<MonitorState> = Box::new(item::decode(state.unwrap_or_default())?);
                self.note_touched(Touched::Seen(state.project, state.monitor));
                return Ok(Fast::Counted(state));
            }
            Err(TableError::Condition { found, .. }) => found,
            Err(error) => return Err(error.into()),
        };
        let (Some(rate), Some(before)) = (rate, before) else {
            return Ok(Fast::NeedsRules);
        };
        let state: MonitorState = item::decode(*before)?;
        let plain = state.plain && state.status == Status::Up && state.seen <= Some(now);
        if plain
            && rules.hold(&state)
            && let Err(wait_ms) = rate.take(state.tat, now.0)
        {
            return Ok(Fast::TooMany(wait_ms));
        }
        Ok(Fast::NeedsRules)
    }

    /// Owner and state of a monitor, consistently, in one query. `None` if there is no such monitor. 1 RU.
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

    /// Writes the outcome of an event, guarded by the state's version (or its absence, if it was lost): state,
    /// flip, alert, the alert's audit timer and the deadline's timer together (A1, T1). What touches only the
    /// state is one write of 1 WU; anything more is a transaction of 2 WU an item.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if the state has changed, or the monitor is gone.
    pub async fn commit(&self, commit: &Commit<'_>, now: UnixMs) -> Result<()> {
        let state = item::state(&commit.outcome.state);
        let mut extra = self.consequences(commit, now);
        if let Some(was) = commit.was {
            extra.push(put(item::monitor(commit.monitor)));
            extra.push(count(was.project, 0, None, None));
            extra.extend(self.rename(Some(was), Some(commit.monitor)).await?);
        }
        if let (Some(before), true) = (commit.before, extra.is_empty()) {
            self.put_state(state, before.version).await?;
            self.note_touched(Touched::Changed(commit.monitor.project, commit.monitor.id));
            return Ok(());
        }
        let mut writes = match commit.before {
            Some(before) => vec![replace_state(state, before.version)],
            // A ping that races a deletion must not bring a monitor back.
            None => vec![
                create(state),
                check(Key::owner(commit.monitor.id), exists()),
            ],
        };
        writes.extend(extra);
        self.transact(writes).await?;
        if let (Some(alert), true) = (commit.alert, mutant::is(Mutant::AlertAfterFlip)) {
            self.raise(alert, now).await?;
        }
        self.count_commit(commit);
        Ok(())
    }

    /// Writes a state alone, guarded by the version that it had. 1 WU.
    ///
    /// A reply may be lost, and the SDK then tries again: what it meets is perhaps its own write, which must not be taken for
    /// another's, or a failure would count twice. So a write bears a number that tells. (Transactions have a token for that.)
    async fn put_state(&self, mut state: Item, version: u64) -> Result<()> {
        let nonce = Value::N((self.world.random() >> 96).to_string());
        state.insert("nonce".to_owned(), nonce.clone());
        let guarded = put(state).when(attr("version").eq(version));
        match self.table.write(guarded).await {
            Err(TableError::Condition {
                found: Some(found), ..
            }) if found.get("nonce") == Some(&nonce) => Ok(()),
            written => Ok(written.map(drop)?),
        }
    }

    /// Counts what a change that was committed brought.
    pub(super) fn count_commit(&self, commit: &Commit<'_>) {
        let flips = u64::from(commit.outcome.flip.is_some());
        self.metrics.count(Count::Flips, flips);
        let alerts = u64::from(commit.alert.is_some());
        self.metrics.count(Count::Alerts, alerts);
        self.note_touched(Touched::Changed(commit.monitor.project, commit.monitor.id));
    }

    /// Decides what people hear of an outcome, before it is committed: its alert, if it asks for one; nothing for now,
    /// if alerts are silenced; and reminders, if the monitor or its project wants them. 1 RU if it alerts.
    pub async fn announce(
        &self,
        monitor: &Monitor,
        outcome: &mut Outcome,
        last_ping: Option<UnixMs>,
        burst: Option<u32>,
        now: UnixMs,
    ) -> Result<Option<Alert>> {
        let Some(flip) = &outcome.flip else {
            return Ok(None);
        };
        let (at, down, alert) = (flip.at, flip.to == Status::Down, flip.alert);
        if !alert && !down {
            return Ok(None);
        }
        let project = self.project(monitor.project).await?;
        let project = project.unwrap_or_else(|| Project::new(monitor.project, ""));
        if let (true, Some(until)) = (alert, silenced_until(monitor, &project, at)) {
            outcome.silence(until);
            return Ok(None);
        }
        // Who believes already that it is down, is reminded all the same.
        if let (true, Some(every_s)) = (down, monitor.options.remind_s.or(project.remind_s)) {
            outcome.remind = Some(now + i64::from(every_s) * 1000);
        }
        let id = AlertId(self.world.uuid_v7(now));
        Ok(outcome.raise(monitor, id, last_ping, burst))
    }

    /// Notes which figures of a monitor are series, guarded by its state's version. 1 WU.
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

    /// Logs a ping in its slot of the monitor's ring, unless a later one is there. 1 WU per kB.
    pub async fn log_ping(&self, monitor: MonitorId, ping: &Ping) -> Result<()> {
        self.log(item::ping(monitor, ping), ping).await
    }

    /// Logs a failure once more, where the last of them stay whatever follows. 1 WU per kB.
    pub async fn log_failure(&self, monitor: MonitorId, fails: u64, ping: &Ping) -> Result<()> {
        self.log(item::failure(monitor, fails, ping), ping).await
    }

    async fn log(&self, item: Item, ping: &Ping) -> Result<()> {
        let later = missing().or(attr("n").below(ping.n));
        self.try_write(put(item).when(later)).await.map(drop)
    }

    /// The last `limit` flips of a monitor, newest first. 1 RU per 4 kB.
    pub async fn flips(&self, monitor: MonitorId, limit: usize) -> Result<Vec<Flip>> {
        let flips = Query::of(Key::state(monitor).pk).prefix("FLIP#");
        self.query(flips.newest_first().limit(limit)).await
    }

    /// The flips of a monitor from `from` to just before `to`, newest first, at most `limit`. 0.5 RU per 4 kB.
    pub async fn flips_between(
        &self,
        monitor: MonitorId,
        from: UnixMs,
        to: UnixMs,
        limit: usize,
    ) -> Result<Vec<Flip>> {
        let edge = |at: UnixMs| format!("FLIP#{:013}", at.0.clamp(0, 9_999_999_999_999));
        let flips = Query::of(Key::state(monitor).pk).between(edge(from), edge(to));
        self.query(flips.eventual().newest_first().limit(limit))
            .await
    }

    /// The log of a monitor, newest first: its last pings, and its last failures even if they are older. 1 RU per
    /// 4 kB.
    pub async fn pings(&self, monitor: MonitorId) -> Result<Vec<Ping>> {
        let pk = Key::state(monitor).pk;
        let (mut pings, failures) = futures::try_join!(
            self.query::<Ping>(Query::of(&*pk).prefix("PING#").eventual()),
            self.query::<Ping>(Query::of(&*pk).prefix("FAIL#").eventual()),
        )?;
        pings.extend(failures);
        pings.sort_by_key(|ping| std::cmp::Reverse(ping.n));
        pings.dedup_by_key(|ping| ping.n);
        Ok(pings)
    }

    /// The state of a monitor whose own TTL removed, as far as its log and its flips tell: pings and flips are numbered on from
    /// there, and the way down that was missed has its number. 1 RU, and 1 RU per 4 kB of the log.
    ///
    /// # Errors
    /// The table failed.
    pub async fn lost_state(&self, monitor: &Monitor) -> Result<MonitorState> {
        let (pings, flips) = futures::try_join!(self.pings(monitor.id), self.flips(monitor.id, 1))?;
        let mut state = MonitorState::lost(monitor);
        state.pings = pings.first().map_or(0, |last| last.n);
        state.resumed_pings = state.pings;
        if let Some(last) = flips.first() {
            state.flips = last.n + u64::from(last.to != Status::Down);
            state.flip_at = Some(last.at);
        }
        Ok(state)
    }

    /// Adds the pings of a state that TTL removed to the one that a ping made in its place, but for those that this one was
    /// taken to have had (`resumed`), and records the flip that was missed in between; once, for the mark that it was done is
    /// made once. 4 to 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if that was done already, or the monitor is gone.
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

    /// What a change brings besides the state.
    pub(super) fn consequences(&self, commit: &Commit<'_>, now: UnixMs) -> Vec<Write> {
        let outcome = commit.outcome;
        let monitor = commit.monitor;
        let mut writes = Vec::new();
        if let Some(flip) = &outcome.flip {
            writes.push(put(item::flip(monitor.id, flip)));
        }
        let alert = commit.alert;
        if let Some(alert) = alert.filter(|_| !mutant::is(Mutant::AlertAfterFlip)) {
            writes.push(create(item::alert(alert)));
            writes.push(put(self.audit_item(alert, now + FIRST_AUDIT_MS)));
        }
        if let Some(deadline) = outcome.arm {
            let timer = Timer {
                due: look_at(deadline, outcome.state.grace_s, now),
                what: What::Deadline {
                    monitor: monitor.id,
                    epoch: outcome.state.epoch,
                },
            };
            writes.push(put(self.deadline_item(timer, deadline, now)));
        }
        let flip = outcome.state.flips;
        if let Some(due) = outcome.wake {
            let monitor = monitor.id;
            let what = What::Wake { monitor, flip };
            let due = due.min(now + WAKE_MS).max(now);
            writes.push(put(self.timer_item(Timer { due, what })));
        }
        if let Some(due) = outcome.remind {
            let n = outcome.state.reminded;
            let monitor = monitor.id;
            let what = What::Remind { monitor, flip, n };
            writes.push(put(self.timer_item(Timer { due, what })));
        }
        writes
    }

    /// The timer that audits an alert.
    pub(super) fn audit_item(&self, alert: &Alert, due: UnixMs) -> Item {
        self.timer_item(Timer {
            due,
            what: What::Audit {
                project: alert.project,
                alert: alert.id,
            },
        })
    }
}

/// A state in place of the one with this version.
fn replace_state(state: Item, version: u64) -> Write {
    let replaced = put(state);
    if mutant::is(Mutant::FlipUnguarded) {
        return replaced;
    }
    replaced.when(attr("version").eq(version))
}

#[derive(serde::Deserialize)]
struct Owner {
    project: ProjectId,
}
