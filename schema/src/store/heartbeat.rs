//! Heartbeats: the one write of the fast path, and the guarded writes of the slow one.

use super::{Result, Store, StoreError, classify};
use crate::alert::Alert;
use crate::id::{MonitorId, ProjectId};
use crate::item::{self, Item, Key, n, s};
use crate::lease::Lease;
use crate::monitor::Monitor;
use crate::ping::Ping;
use crate::schedule::Schedule;
use crate::time::UnixMs;
use crate::timer::{Timer, What, look_at};
use crate::transition::{Flip, Outcome};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, TransactWriteItem};

/// How long after it was made an alert is audited for the first time, in milliseconds (A5).
pub const FIRST_AUDIT_MS: i64 = 30_000;

/// What became of a heartbeat on the fast path.
#[derive(Debug)]
pub enum Fast {
    /// It is recorded; the lease as it now is.
    Counted(Box<Lease>),
    /// Nothing was written: the monitor's rules must decide.
    NeedsRules,
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
    /// Whether the configuration changed too.
    pub reconfigured: bool,
}

impl Store {
    /// A success at `now` on a plain, `up` monitor: one `UpdateItem`, on condition that the lease is there,
    /// `up`, plain, and was not seen later, and that period and grace are what `rules` say, where they do.
    /// 1 WU.
    pub async fn heartbeat(&self, monitor: MonitorId, now: UnixMs, rules: Rules) -> Result<Fast> {
        let mut condition = "#status = :up AND plain = :true AND seen <= :now".to_owned();
        let mut request = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::lease(monitor).attributes()))
            .update_expression(
                "SET seen = :now, expires_at = :now_s + ttl_span \
                 ADD pings :one, version :one REMOVE last_duration_ms",
            )
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":up", s("up"))
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .expression_attribute_values(":now", n(now.0))
            .expression_attribute_values(":now_s", n(now.secs()))
            .expression_attribute_values(":one", n(1))
            .return_values(ReturnValue::AllNew);
        for (name, value) in [("period_s", rules.period_s), ("grace_s", rules.grace_s)] {
            if let Some(value) = value {
                condition.push_str(&format!(" AND {name} = :{name}"));
                request = request.expression_attribute_values(format!(":{name}"), n(value));
            }
        }
        let sent = request.condition_expression(condition).send().await;
        match sent.map_err(classify) {
            Ok(answer) => {
                let lease = answer.attributes.unwrap_or_default();
                Ok(Fast::Counted(Box::new(item::decode(lease)?)))
            }
            Err(StoreError::Conflict) => Ok(Fast::NeedsRules),
            Err(error) => Err(error),
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
        let extra = self.consequences(commit, now);
        if let (Some(before), true) = (commit.before, extra.is_empty()) {
            self.client
                .put_item()
                .table_name(&*self.table)
                .set_item(Some(lease))
                .condition_expression("version = :version")
                .expression_attribute_values(":version", n(before.version))
                .send()
                .await
                .map_err(classify)?;
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
        self.transact(writes).await
    }

    /// Writes a new monitor together with its first event. Name and slug must be free: however many race, one
    /// is made. 2 WU for each of monitor, owner, lease, name, slug and what the event brings.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the name or the slug is taken.
    pub async fn create_monitor(&self, commit: &Commit<'_>, now: UnixMs) -> Result<()> {
        let monitor = commit.monitor;
        let ids = AttributeValue::Ss(vec![monitor.id.to_string()]);
        let mut writes = vec![
            self.create(item::monitor(monitor)),
            self.create(item::owner(monitor)),
            self.create(item::lease(&commit.outcome.lease)),
            self.create(item::name(monitor)),
            self.update(
                &Key::slug(monitor.project, &monitor.slug),
                "SET kind = :kind, v = :v ADD ids :ids",
                "attribute_not_exists(ids)",
                &[],
                vec![
                    (":kind", s("slug")),
                    (":v", n(item::MAPPING_VERSION)),
                    (":ids", ids),
                ],
            ),
        ];
        writes.extend(self.consequences(commit, now));
        self.transact(writes).await
    }

    /// Logs a ping in its slot of the monitor's ring, unless a later one is there. 1 WU per kB.
    pub async fn log_ping(&self, monitor: MonitorId, ping: &Ping) -> Result<()> {
        let logged = self
            .client
            .put_item()
            .table_name(&*self.table)
            .set_item(Some(item::ping(monitor, ping)))
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

    /// The last `limit` flips of a monitor, newest first. 0.5 RU per 4 kB.
    pub async fn flips(&self, monitor: MonitorId, limit: i32) -> Result<Vec<Flip>> {
        let query = super::Query {
            newest_first: true,
            limit: Some(limit),
            ..Default::default()
        };
        self.query_prefix(&Key::lease(monitor).pk, "FLIP#", query)
            .await
    }

    /// The log of a monitor, newest first. 0.5 RU per 4 kB.
    pub async fn pings(&self, monitor: MonitorId) -> Result<Vec<Ping>> {
        let mut pings: Vec<Ping> = self
            .query_prefix(&Key::lease(monitor).pk, "PING#", super::Query::default())
            .await?;
        pings.sort_by_key(|ping| std::cmp::Reverse(ping.n));
        Ok(pings)
    }

    /// Adds the pings of a lease that TTL removed to the one that a ping made in its place, and records the
    /// flip that was missed in between; once, for the mark that it was done is made once. 4 to 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if that was done already, or the monitor is gone.
    pub async fn add_lost_history(&self, lost: &Lease, flip: Option<&Flip>) -> Result<()> {
        let add_pings = self.update(
            &Key::lease(lost.monitor),
            "ADD pings :pings, version :one",
            "attribute_exists(pk)",
            &[],
            vec![(":pings", n(lost.pings)), (":one", n(1))],
        );
        let mut writes = vec![add_pings, self.create(item::restored(lost))];
        writes.extend(flip.map(|flip| self.write(item::flip(lost.monitor, flip))));
        self.transact(writes).await
    }

    /// What a change brings besides the lease.
    fn consequences(&self, commit: &Commit<'_>, now: UnixMs) -> Vec<TransactWriteItem> {
        let outcome = commit.outcome;
        let monitor = commit.monitor;
        let mut writes = Vec::new();
        if commit.reconfigured {
            writes.push(self.write(item::monitor(monitor)));
        }
        if let Some(flip) = &outcome.flip {
            writes.push(self.write(item::flip(monitor.id, flip)));
        }
        if let Some(alert) = commit.alert {
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
            writes.push(self.write(self.timer_item(timer)));
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
        let put = self
            .put_item(lease)
            .condition_expression("version = :version")
            .expression_attribute_values(":version", n(version));
        TransactWriteItem::builder()
            .put(put.build().expect("complete"))
            .build()
    }
}

#[derive(serde::Deserialize)]
struct Owner {
    project: ProjectId,
}
