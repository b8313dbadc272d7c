//! The outbox: alerts, and the channels that still need them.

use super::commit::FIRST_AUDIT_MS;
use super::usage::take;
use crate::item;
use crate::key::Key;
use crate::table::{Query, add, attr, create, exists, put, set, strings, take_from, update};
use crate::{Result, Store, StoreError};
use thrum_schema::alert::{ALERT_TTL_S, Alert};
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::metrics::Count;
use thrum_schema::time::UnixMs;

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

    /// The newest `limit` alerts of the last `days` days, newest first. 0.5 RU per 4 kB, and at
    /// least one query per day.
    pub async fn recent_alerts(
        &self,
        project: ProjectId,
        now: UnixMs,
        days: i64,
        limit: usize,
    ) -> Result<Vec<Alert>> {
        let mut alerts = Vec::new();
        for day in 0..days {
            let left = limit.saturating_sub(alerts.len());
            if left == 0 {
                break;
            }
            let day = Query::of(Key::alerts_of(project, now - day * 86_400_000)).eventual();
            let newest = day.newest_first().limit(left);
            alerts.extend(self.query::<Alert>(newest).await?);
        }
        Ok(alerts)
    }

    /// The newest `limit` alerts that are older than `before`, newest first. 0.5 RU per 4 kB, and at least one query
    /// per day.
    pub async fn alerts_before(
        &self,
        project: ProjectId,
        before: Option<AlertId>,
        now: UnixMs,
        limit: usize,
    ) -> Result<Vec<Alert>> {
        let days = ALERT_TTL_S / 86_400 + 1;
        let Some(before) = before else {
            return self.recent_alerts(project, now, days, limit).await;
        };
        // An id that was made up may be of any time.
        let at = UnixMs(before.created_ms()).min(now);
        if now - at > (days + 1) * 86_400_000 {
            return Ok(Vec::new());
        }
        let day = Query::of(Key::alerts_of(project, at))
            .between("", before.to_string())
            .eventual();
        // The range includes its end.
        let rest = day.newest_first().limit(limit + 1);
        let mut alerts = self.query::<Alert>(rest).await?;
        alerts.retain(|alert| alert.id != before);
        alerts.truncate(limit);
        let past = (now - at) / 86_400_000 + 1;
        let left = limit - alerts.len();
        let older = self.recent_alerts(project, at - 86_400_000, (days - past).max(0), left);
        alerts.extend(older.await?);
        Ok(alerts)
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
