//! Alerts from before a takeover: they are replicated one by one, so a later one may arrive, and be sent, first.

use crate::{Notify, NotifyError};
use thrum_schema::UnixMs;
use thrum_schema::alert::Alert;
use thrum_schema::channel::Channel;
use thrum_schema::delivery::DeliveryState;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::targets::Targets;
use thrum_store::Standing;

/// Why an alert is not sent after a later one of its monitor.
pub const OVERTAKEN: &str =
    "a later alert of its monitor arrived first when another region took over";

impl Notify {
    /// How an alert relates to what this region knows of its monitor. One that the other region raised before a takeover
    /// may have arrived before the monitor's state, or after this region had decided otherwise: the repair sees to both.
    pub(crate) async fn standing(&self, alert: &Alert) -> Result<Standing, NotifyError> {
        let since = self.act.as_ref().map(|act| act.since());
        match since.filter(|since| UnixMs(alert.id.created_ms()) < *since) {
            Some(since) => Ok(self.store.standing(alert, since).await?),
            None => Ok(Standing::Current(Vec::new())),
        }
    }

    /// Whether a channel has had one of these alerts, or may have: it was replicated before an older one.
    pub(crate) async fn has_had(
        &self,
        alerts: &[Alert],
        channel: &Channel,
    ) -> Result<bool, NotifyError> {
        if mutant::is(Mutant::OvertakenSent) {
            return Ok(false);
        }
        let id = channel.id.to_string();
        for alert in alerts.iter().filter(|alert| channel.wants(alert.what)) {
            let is_target = match &alert.targets {
                Targets::All => true,
                Targets::These(channels) => channels.contains(&channel.id),
            };
            let is_open = alert.open.as_ref().is_some_and(|open| open.contains(&id));
            if is_target && alert.planned && !is_open {
                return Ok(true);
            }
            let delivery = self.store.delivery(alert.id, channel.id).await?;
            let state = delivery.and_then(|delivery| delivery.state);
            let waits = matches!(
                state,
                None | Some(DeliveryState::Waiting | DeliveryState::Gathering)
            );
            if !waits {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
