//! The outbox: alerts, and which of their channels are still open.

use super::{Query, Result, Store, StoreError, classify};
use crate::alert::Alert;
use crate::id::{AlertId, ChannelId, ProjectId};
use crate::item::{self, Key};
use crate::metrics::Count;
use crate::time::UnixMs;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};

impl Store {
    /// An alert. 1 RU.
    pub async fn alert(&self, project: ProjectId, alert: AlertId) -> Result<Option<Alert>> {
        self.get(&Key::alert(project, alert)).await
    }

    /// Alerts by their ids. 1 RU each.
    pub async fn alerts(&self, project: ProjectId, alerts: &[AlertId]) -> Result<Vec<Alert>> {
        let keys = alerts.iter().map(|id| Key::alert(project, *id)).collect();
        self.get_many(keys).await
    }

    /// The newest `limit` alerts of the last `days` days, newest first. 0.5 RU per 4 kB, and at least one a day.
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
            let query = Query {
                newest_first: true,
                limit: i32::try_from(left).ok(),
                ..Query::default()
            };
            let pk = Key::alerts_of(project, now - day * 86_400_000);
            alerts.extend(self.query_prefix::<Alert>(&pk, "", query).await?);
        }
        Ok(alerts)
    }

    /// Writes an alert that no flip causes, with its audit timer. 4 WU.
    pub async fn raise(&self, alert: &Alert, now: UnixMs) -> Result<()> {
        let audit = self.audit_item(alert, now + super::heartbeat::FIRST_AUDIT_MS);
        self.transact(vec![self.create(item::alert(alert)), self.write(audit)])
            .await?;
        self.metrics.count(Count::Alerts, 1);
        Ok(())
    }

    /// Writes an alert that no flip causes, unless `meter` of the day shows that it was told already. 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it was told already.
    pub async fn raise_once_a_day(&self, alert: &Alert, meter: &str, now: UnixMs) -> Result<()> {
        let audit = self.audit_item(alert, now + super::heartbeat::FIRST_AUDIT_MS);
        let told = self.usage_update(alert.project, meter, now, Some(1));
        self.transact(vec![
            told,
            self.create(item::alert(alert)),
            self.write(audit),
        ])
        .await?;
        self.metrics.count(Count::Alerts, 1);
        Ok(())
    }

    /// Fixes the channels that an alert goes to, once; later calls get what the first one fixed. 1 WU, and
    /// 1 RU when it was fixed before. `None` if the alert is gone.
    pub async fn plan(
        &self,
        project: ProjectId,
        alert: AlertId,
        channels: &[ChannelId],
    ) -> Result<Option<Alert>> {
        let open: Vec<String> = channels.iter().map(ToString::to_string).collect();
        let mut expression = "SET planned = :true".to_owned();
        let mut request = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::alert(project, alert).attributes()))
            .condition_expression("planned = :false")
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .expression_attribute_values(":false", AttributeValue::Bool(false))
            .return_values(ReturnValue::AllNew);
        if !open.is_empty() {
            expression.push_str(", #open = :open");
            request = request
                .expression_attribute_names("#open", "open")
                .expression_attribute_values(":open", AttributeValue::Ss(open));
        }
        match request
            .update_expression(expression)
            .send()
            .await
            .map_err(classify)
        {
            Ok(answer) => answer.attributes.map(item::decode).transpose(),
            Err(StoreError::Conflict) => self.alert(project, alert).await,
            Err(error) => Err(error),
        }
    }

    /// Records that a channel has an alert, need not have it, or gave up (`dead`). 1 WU.
    pub async fn close(
        &self,
        project: ProjectId,
        alert: AlertId,
        channel: ChannelId,
        dead: bool,
    ) -> Result<()> {
        let channel = AttributeValue::Ss(vec![channel.to_string()]);
        let mut expression = "DELETE #open :channel".to_owned();
        let mut values = vec![(":channel", channel)];
        if dead {
            expression.push_str(" SET dead = :true");
            values.push((":true", AttributeValue::Bool(true)));
        }
        let closed = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::alert(project, alert).attributes()))
            .update_expression(expression)
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#open", "open")
            .set_expression_attribute_values(super::values_of(values))
            .send()
            .await
            .map_err(classify);
        match closed {
            // TTL was quicker.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
