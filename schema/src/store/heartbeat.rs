//! Heartbeats: the one write of the fast path, and the guarded writes of the slow one.

use super::{Pace, Result, Store, StoreError, Touched, classify, failed_condition};
use crate::alert::Alert;
use crate::id::{AlertId, MonitorId, ProjectId};
use crate::item::{self, Item, Key, n, s};
use crate::lease::{Feeds, Lease, Status};
use crate::metrics::Count;
use crate::monitor::Monitor;
use crate::mutant::{self, Mutant};
use crate::ping::Ping;
use crate::plan::Rate;
use crate::project::Project;
use crate::schedule::Schedule;
use crate::silence::silenced_until;
use crate::time::UnixMs;
use crate::timer::{Timer, What, look_at};
use crate::transition::{Flip, Outcome};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};

/// How long after it was made an alert is audited for the first time, in milliseconds (A5).
pub const FIRST_AUDIT_MS: i64 = 30_000;

/// How long after a flip was silenced it is looked at again at the latest, in milliseconds: the silence may be ended
/// early.
pub const WAKE_MS: i64 = 600_000;

/// What became of a heartbeat on the fast path.
#[derive(Debug)]
pub enum Fast {
    /// It is recorded; the lease as it now is.
    Counted(Box<Lease>),
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
pub struct State {
    /// The project that owns it.
    pub project: ProjectId,
    /// Its lease, unless TTL removed it.
    pub lease: Option<Lease>,
}

/// A change of a monitor, to be written in whole or not at all.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The monitor as it is to be.
    pub monitor: &'a Monitor,
    /// Its lease before; `None` if TTL had removed it.
    pub before: Option<&'a Lease>,
    /// What the event does.
    pub outcome: &'a Outcome,
    /// The alert that tells of the flip.
    pub alert: Option<&'a Alert>,
    /// The monitor as it was, if its configuration changed.
    pub was: Option<&'a Monitor>,
}

impl Rules {
    /// Whether `lease` follows them.
    fn hold(self, lease: &Lease) -> bool {
        self.period_s
            .is_none_or(|period_s| lease.period_s == Some(period_s))
            && self.grace_s.is_none_or(|grace_s| lease.grace_s == grace_s)
    }
}

impl Store {
    /// A success at `now` on a plain, `up` monitor: one `UpdateItem`, on condition that the lease is there,
    /// `up`, plain, and was not seen later, that period and grace are what `rules` say, where they do, and that pings
    /// have not used up their `rate`. A steady sender passes with this attempt, a burst with a second. 1 WU, or 2.
    pub async fn heartbeat(
        &self,
        monitor: MonitorId,
        now: UnixMs,
        rules: Rules,
        rate: Option<Rate>,
    ) -> Result<Fast> {
        let steady = rate.map(|rate| Pace::steady(rate, now));
        let before = match self.try_heartbeat(monitor, now, rules, steady).await? {
            Ok(lease) => return Ok(Fast::Counted(lease)),
            Err(before) => before,
        };
        let (Some(rate), Some(lease)) = (rate, before) else {
            return Ok(Fast::NeedsRules);
        };
        let plain = lease.plain && lease.status == Status::Up && lease.seen <= Some(now);
        let tat = lease.tat.unwrap_or(0);
        if !plain || !rules.hold(&lease) || tat <= now.0 {
            return Ok(Fast::NeedsRules);
        }
        if let Err(wait_ms) = rate.take(Some(tat), now.0) {
            return Ok(Fast::TooMany(wait_ms));
        }
        let burst = Pace::burst(rate, now);
        match self.try_heartbeat(monitor, now, rules, Some(burst)).await? {
            Ok(lease) => Ok(Fast::Counted(lease)),
            Err(_) => Ok(Fast::NeedsRules),
        }
    }

    /// The lease after the heartbeat; or, if the condition did not hold, as it was, if there is one.
    async fn try_heartbeat(
        &self,
        monitor: MonitorId,
        now: UnixMs,
        rules: Rules,
        pace: Option<Pace>,
    ) -> Result<Result<Box<Lease>, Option<Box<Lease>>>> {
        let mut condition = "#status = :up AND plain = :true AND seen <= :now".to_owned();
        if mutant::is(Mutant::FastPathUnguarded) {
            condition = "(#status = :up OR plain <> :true) AND seen <= :now".to_owned();
        }
        let mut set = "SET seen = :now, expires_at = :now_s + ttl_span".to_owned();
        let mut request = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::lease(monitor).attributes()))
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":up", s("up"))
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .expression_attribute_values(":now", n(now.0))
            .expression_attribute_values(":now_s", n(now.secs()))
            .expression_attribute_values(":one", n(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, value) in [("period_s", rules.period_s), ("grace_s", rules.grace_s)] {
            if let Some(value) = value {
                condition.push_str(&format!(" AND {name} = :{name}"));
                request = request.expression_attribute_values(format!(":{name}"), n(value));
            }
        }
        if let Some(pace) = pace {
            condition.push_str(&format!(" AND {}", pace.condition));
            set.push_str(&format!(", {}", pace.set));
            for (name, value) in pace.values {
                request = request.expression_attribute_values(name, value);
            }
        }
        let sent = request
            .update_expression(format!(
                "{set} ADD pings :one, version :one REMOVE last_duration_ms"
            ))
            .condition_expression(condition)
            .send()
            .await;
        match sent {
            Ok(answer) => {
                let lease = answer.attributes.unwrap_or_default();
                let lease: Box<Lease> = Box::new(item::decode(lease)?);
                self.note_touched(Touched::Seen(lease.project, lease.monitor));
                Ok(Ok(lease))
            }
            Err(error) => match failed_condition(&error) {
                Some(before) => Ok(Err(before
                    .map(|item| item::decode(item).map(Box::new))
                    .transpose()?)),
                None => Err(classify(error)),
            },
        }
    }

    /// Owner and lease of a monitor, consistently, in one query. `None` if there is no such monitor. 1 RU.
    pub async fn state(&self, monitor: MonitorId) -> Result<Option<State>> {
        let page = self
            .client
            .query()
            .table_name(&*self.table)
            .key_condition_expression("pk = :pk AND sk BETWEEN :lease AND :owner")
            .expression_attribute_values(":pk", s(Key::owner(monitor).pk))
            .expression_attribute_values(":lease", s(Key::lease(monitor).sk))
            .expression_attribute_values(":owner", s(Key::owner(monitor).sk))
            .consistent_read(true)
            .send()
            .await
            .map_err(classify)?;
        let (mut project, mut lease) = (None, None);
        for item in page.items.unwrap_or_default() {
            match Key::of(&item) {
                Some(key) if key.sk == "LEASE" => lease = Some(item::decode(item)?),
                _ => project = Some(item::decode::<Owner>(item)?.project),
            }
        }
        Ok(project.map(|project| State { project, lease }))
    }

    /// Writes the outcome of an event, guarded by the lease's version (or its absence, if it was lost): lease,
    /// flip, alert, the alert's audit timer and the deadline's timer together (A1, T1). What touches only the
    /// lease is one write of 1 WU; anything more is a transaction of 2 WU an item.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the lease has changed, or the monitor is gone.
    pub async fn commit(&self, commit: &Commit<'_>, now: UnixMs) -> Result<()> {
        let lease = item::lease(&commit.outcome.lease);
        let mut extra = self.consequences(commit, now);
        if let Some(was) = commit.was {
            extra.push(self.write(item::monitor(commit.monitor)));
            extra.push(self.count(was.project, 0, None, None));
            extra.extend(self.rename(Some(was), Some(commit.monitor)).await?);
        }
        if let (Some(before), true) = (commit.before, extra.is_empty()) {
            self.put_lease(lease, before.version).await?;
            self.note_touched(Touched::Changed(commit.monitor.project, commit.monitor.id));
            return Ok(());
        }
        let mut writes = match commit.before {
            Some(before) => vec![self.replace_lease(lease, before.version)],
            // A ping that races a deletion must not bring a monitor back.
            None => vec![
                self.create(lease),
                self.require(&Key::owner(commit.monitor.id)),
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

    /// Writes a lease alone, guarded by the version that it had. 1 WU.
    ///
    /// A reply may be lost, and the SDK then tries again: what it meets is perhaps its own write, which must not be taken for
    /// another's, or a failure would count twice. So a write bears a number that tells. (Transactions have a token for that.)
    async fn put_lease(&self, mut lease: Item, version: u64) -> Result<()> {
        let nonce = n(self.world.random() >> 96);
        lease.insert("nonce".to_owned(), nonce.clone());
        let sent = self
            .client
            .put_item()
            .table_name(&*self.table)
            .set_item(Some(lease))
            .condition_expression("version = :version")
            .expression_attribute_values(":version", n(version))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed))
                    if failed.item.as_ref().and_then(|item| item.get("nonce")) == Some(&nonce) =>
                {
                    Ok(())
                }
                _ => Err(classify(error)),
            },
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

    /// Notes which figures of a monitor are series, guarded by its lease's version. 1 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the lease has changed.
    pub async fn set_feeds(&self, lease: &Lease, feeds: &Feeds) -> Result<()> {
        let names = feeds.names.iter().map(s).collect();
        let feeds = [
            ("slug".to_owned(), s(&feeds.slug)),
            ("names".to_owned(), AttributeValue::L(names)),
        ];
        self.client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::lease(lease.monitor).attributes()))
            .update_expression("SET feeds = :feeds ADD version :one")
            .condition_expression("version = :version")
            .expression_attribute_values(":feeds", AttributeValue::M(feeds.into()))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":version", n(lease.version))
            .send()
            .await
            .map_err(classify)?;
        Ok(())
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
        let logged = self
            .client
            .put_item()
            .table_name(&*self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk) OR #n < :n")
            .expression_attribute_names("#n", "n")
            .expression_attribute_values(":n", n(ping.n))
            .send()
            .await
            .map_err(classify);
        match logged {
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The last `limit` flips of a monitor, newest first. 1 RU per 4 kB.
    pub async fn flips(&self, monitor: MonitorId, limit: i32) -> Result<Vec<Flip>> {
        let query = super::Query {
            consistent: true,
            newest_first: true,
            limit: Some(limit),
        };
        self.query_prefix(&Key::lease(monitor).pk, "FLIP#", query)
            .await
    }

    /// The flips of a monitor from `from` to just before `to`, newest first, at most `limit`. 0.5 RU per 4 kB.
    pub async fn flips_between(
        &self,
        monitor: MonitorId,
        from: UnixMs,
        to: UnixMs,
        limit: i32,
    ) -> Result<Vec<Flip>> {
        let edge = |at: UnixMs| format!("FLIP#{:013}", at.0.clamp(0, 9_999_999_999_999));
        let query = super::Query {
            newest_first: true,
            limit: Some(limit),
            ..Default::default()
        };
        self.query_between(&Key::lease(monitor).pk, &edge(from), &edge(to), query)
            .await
    }

    /// The log of a monitor, newest first: its last pings, and its last failures even if they are older. 1 RU per
    /// 4 kB.
    pub async fn pings(&self, monitor: MonitorId) -> Result<Vec<Ping>> {
        let pk = Key::lease(monitor).pk;
        let (mut pings, failures) = futures::try_join!(
            self.query_prefix::<Ping>(&pk, "PING#", super::Query::default()),
            self.query_prefix::<Ping>(&pk, "FAIL#", super::Query::default()),
        )?;
        pings.extend(failures);
        pings.sort_by_key(|ping| std::cmp::Reverse(ping.n));
        pings.dedup_by_key(|ping| ping.n);
        Ok(pings)
    }

    /// The lease of a monitor whose own TTL removed, as far as its log and its flips tell: pings and flips are numbered on from
    /// there, and the way down that was missed has its number. 1 RU, and 1 RU per 4 kB of the log.
    ///
    /// # Errors
    /// The table failed.
    pub async fn lost_lease(&self, monitor: &Monitor) -> Result<Lease> {
        let (pings, flips) = futures::try_join!(self.pings(monitor.id), self.flips(monitor.id, 1))?;
        let mut lease = Lease::lost(monitor);
        lease.pings = pings.first().map_or(0, |last| last.n);
        lease.resumed_pings = lease.pings;
        if let Some(last) = flips.first() {
            lease.flips = last.n + u64::from(last.to != Status::Down);
            lease.flip_at = Some(last.at);
        }
        Ok(lease)
    }

    /// Adds the pings of a lease that TTL removed to the one that a ping made in its place, but for those that this one was
    /// taken to have had (`resumed`), and records the flip that was missed in between; once, for the mark that it was done is
    /// made once. 4 to 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if that was done already, or the monitor is gone.
    pub async fn add_lost_history(
        &self,
        lost: &Lease,
        resumed: u64,
        flip: Option<&Flip>,
    ) -> Result<()> {
        let add_pings = self.update(
            &Key::lease(lost.monitor),
            "ADD pings :pings, version :one",
            "attribute_exists(pk)",
            &[],
            vec![
                (":pings", n(lost.pings.saturating_sub(resumed))),
                (":one", n(1)),
            ],
        );
        let mut writes = vec![add_pings, self.create(item::restored(lost))];
        writes.extend(flip.map(|flip| self.write(item::flip(lost.monitor, flip))));
        self.transact(writes).await
    }

    /// What a change brings besides the lease.
    pub(super) fn consequences(&self, commit: &Commit<'_>, now: UnixMs) -> Vec<TransactWriteItem> {
        let outcome = commit.outcome;
        let monitor = commit.monitor;
        let mut writes = Vec::new();
        if let Some(flip) = &outcome.flip {
            writes.push(self.write(item::flip(monitor.id, flip)));
        }
        let alert = commit.alert;
        if let Some(alert) = alert.filter(|_| !mutant::is(Mutant::AlertAfterFlip)) {
            writes.push(self.create(item::alert(alert)));
            writes.push(self.write(self.audit_item(alert, now + FIRST_AUDIT_MS)));
        }
        if let Some(deadline) = outcome.arm {
            let timer = Timer {
                due: look_at(deadline, outcome.lease.grace_s, now),
                what: What::Deadline {
                    monitor: monitor.id,
                    epoch: outcome.lease.epoch,
                },
            };
            writes.push(self.write(self.deadline_item(timer, deadline, now)));
        }
        let flip = outcome.lease.flips;
        if let Some(due) = outcome.wake {
            let monitor = monitor.id;
            let what = What::Wake { monitor, flip };
            let due = due.min(now + WAKE_MS).max(now);
            writes.push(self.write(self.timer_item(Timer { due, what })));
        }
        if let Some(due) = outcome.remind {
            let n = outcome.lease.reminded;
            let monitor = monitor.id;
            let what = What::Remind { monitor, flip, n };
            writes.push(self.write(self.timer_item(Timer { due, what })));
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

    fn replace_lease(&self, lease: Item, version: u64) -> TransactWriteItem {
        let mut put = self.put_item(lease);
        if !mutant::is(Mutant::FlipUnguarded) {
            put = put
                .condition_expression("version = :version")
                .expression_attribute_values(":version", n(version));
        }
        TransactWriteItem::builder()
            .put(put.build().expect("complete"))
            .build()
    }
}

#[derive(serde::Deserialize)]
struct Owner {
    project: ProjectId,
}
