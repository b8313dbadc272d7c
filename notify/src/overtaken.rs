//! Alerts from before a takeover: they are replicated one by one, so a later one may arrive, and be sent, first.

use crate::{Notify, NotifyError};
use futures::future::try_join_all;
use thrum_schema::UnixMs;
use thrum_schema::alert::Alert;
use thrum_schema::channel::Channel;
use thrum_schema::delivery::DeliveryState;
use thrum_schema::id::ChannelId;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::targets::Targets;
use thrum_store::{Standing, StoreError};

/// How many members of a group are checked concurrently.
const CONCURRENCY: usize = 16;
/// Why an alert is not sent.
pub const OVERTAKEN: &str =
    "another region took over, and a later alert of this monitor arrived there first";

impl Notify {
    /// Whether an alert is from before the takeover.
    pub(crate) fn is_from_before(&self, alert: &Alert) -> bool {
        let since = self.act.as_ref().map(|act| act.since());
        since.is_some_and(|since| UnixMs(alert.id.created_ms()) < since)
    }

    /// How an alert relates to what this region knows of its monitor. One that the other region raised before a takeover
    /// may have arrived before the monitor's state, or after this region had decided otherwise: the repair sees to both.
    pub(crate) async fn standing(&self, alert: &Alert) -> Result<Standing, NotifyError> {
        match self.is_from_before(alert) {
            true => Ok(self.store.standing(alert).await?),
            false => Ok(Standing::Current(Vec::new())),
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

    /// Ends the delivery of an alert that a later one has overtaken.
    pub(crate) async fn overtake(
        &self,
        alert: &Alert,
        channel: ChannelId,
    ) -> Result<(), NotifyError> {
        let now = self.store.world().now();
        let claim = self.new_claim(alert.project, alert.id, channel, now, 0);
        match self.store.overtake(&claim, OVERTAKEN).await {
            Ok(delivery) => self.conclude(alert, channel, &delivery, false).await,
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Without the alerts from before a takeover that the channel has had from this region before their group arrived, and
    /// those that a later one has overtaken.
    pub(crate) async fn leave_out(
        &self,
        channel: &Channel,
        alerts: Vec<Alert>,
    ) -> Result<Vec<Alert>, NotifyError> {
        let mut left = Vec::new();
        for chunk in alerts.chunks(CONCURRENCY) {
            let wanted = chunk.iter().map(|alert| self.is_wanted(alert, channel));
            let wanted = try_join_all(wanted).await?;
            let alerts = chunk.iter().zip(wanted).filter(|(_, wanted)| *wanted);
            left.extend(alerts.map(|(alert, _)| alert.clone()));
        }
        Ok(left)
    }

    /// Whether a channel still needs an alert of a group. If not, its delivery has ended.
    async fn is_wanted(&self, alert: &Alert, channel: &Channel) -> Result<bool, NotifyError> {
        if !self.is_from_before(alert) {
            return Ok(true);
        }
        let own = self.store.delivery(alert.id, channel.id).await?;
        let state = own.and_then(|own| own.state);
        if state.is_some_and(DeliveryState::is_final) {
            return Ok(false);
        }
        let is_overtaken = match self.standing(alert).await? {
            Standing::Current(later) => self.has_had(&later, channel).await?,
            Standing::Unknown => false,
            Standing::Superseded => true,
        };
        if is_overtaken {
            self.overtake(alert, channel.id).await?;
        }
        Ok(!is_overtaken)
    }
}
