//! The outbox: alerts, and the channels that still need them.

use super::commit::FIRST_AUDIT_MS;
use super::usage::take;
use crate::item;
use crate::key::{ALERT_SLOTS, Key};
use crate::table::{Query, add, attr, create, exists, put, set, strings, take_from, update};
use crate::{Result, Store, StoreError};
use futures::future::try_join_all;
use std::cmp::Reverse;
use thrum_schema::alert::{ALERT_TTL_S, Alert};
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::metrics::Count;
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{Timer, What};

const DAY_MS: i64 = 86_400_000;
/// How many alerts of a monitor to follow back.
const MAX_LINKS: usize = 20;

/// A partition of a month's alerts, as far as it was read.
struct Slot {
    pk: String,
    /// The oldest alert that was read.
    oldest: Option<AlertId>,
    /// Whether there may be older ones.
    more: bool,
}

impl Slot {
    /// The next `limit` alerts that are not older than `from`.
    async fn page(&self, store: &Store, from: UnixMs, limit: usize) -> Result<Vec<Alert>> {
        if !self.more {
            return Ok(Vec::new());
        }
        let last = self.oldest.map_or("~".to_owned(), |id| id.to_string());
        let query = Query::of(&self.pk).between(AlertId::first_of(from), last);
        // The range includes its end.
        let query = query.eventual().newest_first().limit(limit + 1);
        let mut alerts: Vec<Alert> = store.query(query).await?;
        alerts.retain(|alert| self.oldest != Some(alert.id));
        alerts.truncate(limit);
        Ok(alerts)
    }
}

/// How an alert relates to the state of its monitor, after another region was lost.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The state is that of the alert's flip, or follows it. With the later alerts of the monitor that have arrived,
    /// newest first.
    Current(Vec<Alert>),
    /// The state is older than the alert's flip: it was not replicated, or not yet.
    Unknown,
    /// This region has decided otherwise, before the alert arrived.
    Superseded,
}

impl Store {
    /// An alert. 1 RU.
    pub async fn alert(&self, project: ProjectId, alert: AlertId) -> Result<Option<Alert>> {
        self.get(Key::alert(project, alert)).await
    }

    /// Alerts by their ids. 1 RU each.
    pub async fn alerts(&self, project: ProjectId, alerts: &[AlertId]) -> Result<Vec<Alert>> {
        let keys = alerts.iter().map(|id| Key::alert(project, *id)).collect();
        self.get_many(keys).await
    }

    /// The newest `limit` alerts of the last `days` days, newest first. 0.5 RU per 4 kB, and at least
    /// eight queries per month.
    pub async fn recent_alerts(
        &self,
        project: ProjectId,
        now: UnixMs,
        days: i64,
        limit: usize,
    ) -> Result<Vec<Alert>> {
        let from = now - days * DAY_MS;
        self.alerts_between(project, from, now, None, limit).await
    }

    /// The newest `limit` alerts that are older than `before`, newest first. 0.5 RU per 4 kB, and at
    /// least eight queries per month.
    pub async fn alerts_before(
        &self,
        project: ProjectId,
        before: Option<AlertId>,
        now: UnixMs,
        limit: usize,
    ) -> Result<Vec<Alert>> {
        let from = now - ALERT_TTL_S * 1_000 - DAY_MS;
        // An ID that was made up may be of any time.
        let to = before.map_or(now, |before| UnixMs(before.created_ms()).min(now));
        self.alerts_between(project, from, to, before, limit).await
    }

    /// The newest `limit` alerts from `from` to the month of `to` that are older than `before`.
    async fn alerts_between(
        &self,
        project: ProjectId,
        from: UnixMs,
        to: UnixMs,
        before: Option<AlertId>,
        limit: usize,
    ) -> Result<Vec<Alert>> {
        let mut found = Vec::new();
        let mut month = to;
        while month >= from && found.len() < limit {
            let left = limit - found.len();
            found.extend(self.alerts_in(project, month, from, before, left).await?);
            month = month.start_of_month() - 1;
        }
        Ok(found)
    }

    /// The newest `limit` alerts of the month of `at` from `from` on that are older than `before`:
    /// merges the month's partitions, page by page.
    async fn alerts_in(
        &self,
        project: ProjectId,
        at: UnixMs,
        from: UnixMs,
        before: Option<AlertId>,
        limit: usize,
    ) -> Result<Vec<Alert>> {
        // The IDs are random enough that most slots need only one page.
        let page = limit / usize::from(ALERT_SLOTS) + 3;
        let mut slots: Vec<Slot> = (0..ALERT_SLOTS)
            .map(|slot| Slot {
                pk: Key::alerts_of(project, at, slot),
                oldest: before,
                more: true,
            })
            .collect();
        let mut found: Vec<Alert> = Vec::new();
        loop {
            let pages = slots.iter().map(|slot| slot.page(self, from, page));
            let pages = try_join_all(pages).await?;
            for (slot, alerts) in slots.iter_mut().zip(pages) {
                slot.more &= alerts.len() == page;
                slot.oldest = alerts.last().map(|alert| alert.id).or(slot.oldest);
                found.extend(alerts);
            }
            found.sort_unstable_by_key(|alert| Reverse(alert.id));
            // A slot with more pages may have any alert that is older than the last one it returned.
            let unread = slots.iter().filter(|slot| slot.more);
            let is_known = match unread.filter_map(|slot| slot.oldest).max() {
                Some(oldest) => found.partition_point(|alert| alert.id >= oldest) >= limit,
                None => true,
            };
            if is_known {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    /// Whether an alert agrees with its monitor's state, which may be of different ages after a takeover. 2 RU,
    /// 1 RU for each alert of the monitor since, and 4 RU if another monitor has its name.
    pub async fn standing(&self, alert: &Alert) -> Result<Standing> {
        let (Some(flip), Some(subject)) = (&alert.flip, &alert.monitor) else {
            return Ok(Standing::Current(Vec::new()));
        };
        let states = self.states(&[subject.uuid]).await?;
        let Some(state) = states.first().filter(|_| flip.n > 0) else {
            return Ok(Standing::Current(Vec::new()));
        };
        let named = self.monitor_named(alert.project, &subject.name).await?;
        if named.is_some_and(|named| named != subject.uuid)
            && let Some(monitor) = self.monitor(alert.project, subject.uuid).await?
            && self
                .is_left_behind(&monitor, state, &self.outages().await?)
                .await?
        {
            return Ok(Standing::Superseded);
        }
        if state.flips < flip.n {
            // Fewer flips, but a later one: this region has missed some, and decided since.
            let has_decided = state.flip_at.is_some_and(|at| at > flip.at);
            return Ok(match has_decided {
                true => Standing::Superseded,
                false => Standing::Unknown,
            });
        }
        let mut later = Vec::new();
        let mut last = state.last_alert;
        for _ in 0..MAX_LINKS {
            match last {
                Some(id) if id == alert.id => return Ok(Standing::Current(later)),
                // Later alerts have greater IDs.
                Some(id) if id > alert.id => match self.alert(alert.project, id).await? {
                    Some(found) => {
                        last = found.prev;
                        later.push(found);
                    }
                    // One between them has not arrived yet, so it is of the lost region, and this one before it, too.
                    None => return Ok(Standing::Current(later)),
                },
                _ => return Ok(Standing::Superseded),
            }
        }
        Ok(Standing::Superseded)
    }

    /// Marks an open alert as dead: it contradicts what is known of its monitor. 1 WU.
    pub async fn supersede(&self, project: ProjectId, alert: AlertId) -> Result<()> {
        let dead = set("planned", true)
            .set("dead", true)
            .set("superseded", true)
            .remove("open");
        self.try_write(update(Key::alert(project, alert), dead).when(exists()))
            .await
            .map(drop)
    }

    /// Arms the audit timers of alerts. 1 WU each.
    pub async fn arm_audits(
        &self,
        project: ProjectId,
        alerts: &[AlertId],
        now: UnixMs,
    ) -> Result<()> {
        let due = now + FIRST_AUDIT_MS;
        let audits = alerts.iter().map(|alert| Timer {
            due,
            what: What::Audit {
                project,
                alert: *alert,
            },
        });
        self.arm(&audits.collect::<Vec<_>>()).await
    }

    /// Writes an alert that no flip caused, with its audit timer. 4 WU.
    pub async fn raise(&self, alert: &Alert, now: UnixMs) -> Result<()> {
        let audit = self.audit_item(alert.project, alert.id, now + FIRST_AUDIT_MS);
        self.transact(vec![create(item::alert(alert)), put(audit)])
            .await?;
        self.metrics.count(Count::Alerts, 1);
        Ok(())
    }

    /// Writes an alert that no flip caused, unless the day's counter `meter` shows that it was
    /// already sent. 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it was already sent.
    pub async fn raise_once_a_day(&self, alert: &Alert, meter: &str, now: UnixMs) -> Result<()> {
        let audit = self.audit_item(alert.project, alert.id, now + FIRST_AUDIT_MS);
        let once = take(alert.project, meter, now, Some(1));
        self.transact(vec![once, create(item::alert(alert)), put(audit)])
            .await?;
        self.metrics.count(Count::Alerts, 1);
        Ok(())
    }

    /// Sets the channels of an alert, once, and which of them are fallbacks; later calls return what the
    /// first one set. 1 WU, plus 1 RU if they were set before. `None` if the alert is gone.
    pub async fn plan(
        &self,
        project: ProjectId,
        alert: AlertId,
        channels: &[ChannelId],
        stand_ins: &[ChannelId],
    ) -> Result<Option<Alert>> {
        let mut planned = set("planned", true);
        if !stand_ins.is_empty() {
            planned = planned.set("added", strings(stand_ins));
        }
        if !channels.is_empty() {
            planned = planned.set("open", strings(channels));
        }
        let first = attr("planned").eq(false);
        let fixed = update(Key::alert(project, alert), planned).when(first);
        match self.write(fixed).await {
            Ok(after) => after.map(item::decode).transpose(),
            Err(StoreError::Conflict) => self.alert(project, alert).await,
            Err(error) => Err(error),
        }
    }

    /// Adds a channel to those that an alert goes to. Returns `false` if the alert is gone. 1 WU.
    pub async fn add_channel(
        &self,
        project: ProjectId,
        alert: AlertId,
        channel: ChannelId,
    ) -> Result<bool> {
        let added = add("open", strings([channel])).add("added", strings([channel]));
        self.try_write(update(Key::alert(project, alert), added).when(attr("planned").eq(true)))
            .await
    }

    /// Records that a channel received an alert, does not need it, or gave up (`dead`). 1 WU.
    pub async fn close(
        &self,
        project: ProjectId,
        alert: AlertId,
        channel: ChannelId,
        dead: bool,
    ) -> Result<()> {
        let mut closed = take_from("open", strings([channel]));
        if dead {
            closed = closed.set("dead", true);
        }
        // TTL may have removed it in the meantime.
        self.try_write(update(Key::alert(project, alert), closed).when(exists()))
            .await
            .map(drop)
    }
}
