//! Commits: everything that an event changes about a monitor, in one write or transaction.

use super::Touched;
use super::census::count;
use super::dependencies::relink;
use crate::item;
use crate::key::Key;
use crate::table::{Item, TableError, Value, Write, attr, check, create, exists, put};
use crate::{Result, Store};
use thrum_schema::alert::Alert;
use thrum_schema::announce::WAKE_MS;
use thrum_schema::id::{AlertId, ProjectId};
use thrum_schema::metrics::Count;
use thrum_schema::monitor::Monitor;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::state::MonitorState;
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{Timer, What, look_at};
use thrum_schema::transition::Outcome;

/// How long after its creation an alert is first audited, in milliseconds (A5).
pub const FIRST_AUDIT_MS: i64 = 30_000;

/// A change of a monitor, to be written completely or not at all.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The new monitor.
    pub monitor: &'a Monitor,
    /// Its previous state; `None` if TTL removed it.
    pub before: Option<&'a MonitorState>,
    /// The outcome of the event.
    pub outcome: &'a Outcome,
    /// The alert for the flip.
    pub alert: Option<&'a Alert>,
    /// The previous monitor, if its configuration changed.
    pub was: Option<&'a Monitor>,
}

impl Store {
    /// Writes the outcome of an event, guarded by the state's version (or its absence, if it was
    /// lost): the state, flip, alert, audit timer and deadline timer together (A1, T1). A change of
    /// the state alone is one write of 1 WU; anything more is a transaction of 2 WU per item.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if the state has changed, or the
    /// monitor is gone.
    pub async fn commit(&self, commit: &Commit<'_>, now: UnixMs) -> Result<()> {
        let state = item::state(&commit.outcome.state);
        let mut extra = self.consequences(commit, now);
        if let Some(was) = commit.was {
            extra.push(put(item::monitor(commit.monitor)));
            let after = match was.options.parents == commit.monitor.options.parents {
                true => None,
                false => self.check_parents(commit.monitor).await?,
            };
            extra.extend(count(was.project, was.id, 0, after));
            extra.extend(relink(Some(was), Some(commit.monitor)));
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

    /// Writes only a state, guarded by its previous version. 1 WU.
    ///
    /// If a reply is lost, the SDK tries again and may find its own write, which must not count as
    /// a conflict: a failure would be counted twice. A random number in each write identifies it.
    /// (Transactions have a token for that.)
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

    /// Adds a committed change to the metrics and the change feed.
    pub(super) fn count_commit(&self, commit: &Commit<'_>) {
        let flips = u64::from(commit.outcome.flip.is_some());
        self.metrics.count(Count::Flips, flips);
        let alerts = u64::from(commit.alert.is_some());
        self.metrics.count(Count::Alerts, alerts);
        self.note_touched(Touched::Changed(commit.monitor.project, commit.monitor.id));
    }

    /// What a change writes besides the state.
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
            writes.push(put(self.audit_item(
                alert.project,
                alert.id,
                now + FIRST_AUDIT_MS,
            )));
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
        if let Some(due) = outcome.wake.filter(|_| !mutant::is(Mutant::NeverWoken)) {
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
    pub(super) fn audit_item(&self, project: ProjectId, alert: AlertId, due: UnixMs) -> Item {
        self.timer_item(Timer {
            due,
            what: What::Audit { project, alert },
        })
    }
}

/// Replaces the state with this version.
fn replace_state(state: Item, version: u64) -> Write {
    let replaced = put(state);
    if mutant::is(Mutant::FlipUnguarded) {
        return replaced;
    }
    replaced.when(attr("version").eq(version))
}
