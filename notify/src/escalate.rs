//! Channels that are notified later, and fallback channels.

use crate::{Notify, NotifyError};
use std::time::Duration;
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::announce::silenced_until;
use thrum_schema::channel::Channel;
use thrum_schema::delivery::{Delivery, DeliveryState};
use thrum_schema::id::{AlertId, ChannelId};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::state::Status;
use thrum_schema::work::NotifyWork;
use thrum_schema::{Project, UnixMs};
use thrum_store::{Claim, Settled, StoreError};

/// How often a delivery that waits for the end of a silence is checked, in milliseconds.
const LOOK_MS: i64 = 600_000;
/// How many earlier alerts of an outage are checked.
const MAX_EARLIER: usize = 100;
/// A receiver that asks to wait longer than this has failed, for its fallback, in milliseconds.
const LONG_MS: i64 = 60_000;

/// When an alert is sent to a channel that is notified later.
enum Turn {
    /// It is sent now.
    Now,
    /// It is checked again at this time.
    At(UnixMs),
    /// It is not sent, for this reason.
    Never(&'static str),
}

impl Notify {
    /// Whether `alert` must not be sent to `channel` now, because it is notified only of what is still
    /// down, and not acknowledged, after a while. Records what becomes of it.
    pub(crate) async fn waits_for_escalation(
        &self,
        alert: &Alert,
        channel: &Channel,
        delivery: &Delivery,
        now: UnixMs,
    ) -> Result<bool, NotifyError> {
        match self.turn(alert, channel, now).await? {
            Turn::Now => Ok(false),
            Turn::At(_) if delivery.until.is_some_and(|until| until > now) => Ok(true),
            Turn::At(until) => {
                let claim = Claim {
                    until,
                    ..self.new_claim(alert.project, alert.id, channel.id, now, 0)
                };
                self.store.mark_waiting(&claim).await?;
                Ok(true)
            }
            Turn::Never(reason) => {
                self.skip(alert, channel.id, reason, now).await?;
                Ok(true)
            }
        }
    }

    async fn turn(
        &self,
        alert: &Alert,
        channel: &Channel,
        now: UnixMs,
    ) -> Result<Turn, NotifyError> {
        let Some(after_s) = channel.after_s else {
            return Ok(Turn::Now);
        };
        let (Some(subject), Some(flip)) = (&alert.monitor, &alert.flip) else {
            return Ok(Turn::Now);
        };
        let due = flip.at + i64::from(after_s) * 1000;
        match alert.what {
            AlertKind::Down | AlertKind::Reminder => {}
            AlertKind::Up if self.was_notified(alert, channel.id).await? => return Ok(Turn::Now),
            AlertKind::Up => {
                return Ok(Turn::Never(
                    "the monitor was up again before the channel's after_s had passed",
                ));
            }
            AlertKind::Signal | AlertKind::Test | AlertKind::Limited => return Ok(Turn::Now),
        }
        if now < due {
            return Ok(match alert.what {
                AlertKind::Reminder => {
                    Turn::Never("reminders are not sent before the channel's after_s has passed")
                }
                _ => Turn::At(due),
            });
        }
        let found = self.store.snapshot(subject.uuid).await?;
        let found = found.filter(|found| found.monitor.project == alert.project);
        let Some(found) = found else {
            return Ok(Turn::Never("the monitor was deleted"));
        };
        let state = &found.state;
        if state.status != Status::Down || state.flips != flip.n {
            return Ok(Turn::Never(
                "the monitor was up again before the channel's after_s had passed",
            ));
        }
        if state.acknowledged_at.is_some() && !mutant::is(Mutant::AcknowledgedEscalates) {
            return Ok(Turn::Never(
                "the monitor was acknowledged before the channel's after_s had passed",
            ));
        }
        let project: Project = self.store.project_or_default(alert.project).await?;
        Ok(match silenced_until(&found.monitor, &project, now) {
            Some(until) => Turn::At(until.min(now + LOOK_MS)),
            None => Turn::Now,
        })
    }

    /// Whether the channel got an alert about the outage that `alert` ends.
    async fn was_notified(&self, alert: &Alert, channel: ChannelId) -> Result<bool, NotifyError> {
        let mut prev = alert.prev;
        for _ in 0..MAX_EARLIER {
            let Some(earlier) = self.earlier_alert(alert, prev).await? else {
                return Ok(false);
            };
            let delivery = self.store.delivery(earlier.id, channel).await?;
            let state = delivery.and_then(|delivery| delivery.state);
            if state == Some(DeliveryState::Sent) {
                return Ok(true);
            }
            if earlier.what == AlertKind::Down {
                return Ok(false);
            }
            prev = earlier.prev;
        }
        Ok(false)
    }

    async fn earlier_alert(
        &self,
        alert: &Alert,
        prev: Option<AlertId>,
    ) -> Result<Option<Alert>, NotifyError> {
        match prev {
            Some(prev) => Ok(self.store.alert(alert.project, prev).await?),
            None => Ok(None),
        }
    }

    /// Ends a delivery that has not started, without sending. One write ends it, so that no crash can
    /// leave it started.
    async fn skip(
        &self,
        alert: &Alert,
        channel: ChannelId,
        reason: &str,
        now: UnixMs,
    ) -> Result<(), NotifyError> {
        let claim = self.new_claim(alert.project, alert.id, channel, now, 0);
        match self.store.suppress(&claim, reason).await {
            Ok(delivery) => self.conclude(alert, channel, &delivery, false).await,
            // Another handler did it, or a user asked for it.
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The fallback channels that were used in the outage that `alert` is about; they also get its
    /// later alerts.
    pub(crate) async fn stand_ins(&self, alert: &Alert) -> Result<Vec<ChannelId>, NotifyError> {
        if !matches!(alert.what, AlertKind::Up | AlertKind::Reminder)
            || mutant::is(Mutant::StandInsForgotten)
        {
            return Ok(Vec::new());
        }
        let earlier = self.earlier_alert(alert, alert.prev).await?;
        let added = earlier
            .and_then(|earlier| earlier.added)
            .unwrap_or_default();
        Ok(added.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// After an attempt that failed: lets the channel's fallback have the alert, too, if it has failed
    /// often enough, for good, or must wait for long.
    pub(crate) async fn fall_back(
        &self,
        alert: &Alert,
        channel: &Channel,
        delivery: &Delivery,
        settled: &Settled,
    ) -> Result<(), NotifyError> {
        let failed = match settled {
            Settled::Retry { at, .. } => {
                delivery.attempts >= channel.failures_to_fall_back()
                    || *at - self.store.world().now() > LONG_MS
            }
            Settled::Dead { .. } => true,
            Settled::Sent { .. } | Settled::Suppressed { .. } => false,
        };
        // What is about the channel itself goes to that channel.
        let is_own = matches!(alert.what, AlertKind::Test | AlertKind::Limited);
        let Some(other) = channel.fallback.filter(|_| failed && !is_own) else {
            return Ok(());
        };
        if mutant::is(Mutant::NoFallback) {
            return Ok(());
        }
        self.add_channel(alert, alert.id, other).await?;
        match delivery.next {
            Some(next) if self.is_of_same_outage(alert, next).await? => {
                self.add_channel(alert, next, other).await
            }
            _ => Ok(()),
        }
    }

    /// Whether the alert `next`, which follows `alert`, is about the same outage.
    async fn is_of_same_outage(&self, alert: &Alert, next: AlertId) -> Result<bool, NotifyError> {
        let next = self.store.alert(alert.project, next).await?;
        let goes_on = |next: Alert| matches!(next.what, AlertKind::Up | AlertKind::Reminder);
        Ok(next.is_some_and(goes_on))
    }

    /// Lets `next`, which waited for `alert`, go to the fallback channels of `alert`, too: it may have
    /// been planned before they were used.
    pub(crate) async fn pass_on(&self, alert: &Alert, next: AlertId) -> Result<(), NotifyError> {
        let now = self.store.alert(alert.project, alert.id).await?;
        let added = now.and_then(|now| now.added).unwrap_or_default();
        if added.is_empty() || mutant::is(Mutant::StandInsForgotten) {
            return Ok(());
        }
        if !self.is_of_same_outage(alert, next).await? {
            return Ok(());
        }
        for other in added.iter().filter_map(|id| id.parse().ok()) {
            self.add_channel(alert, next, other).await?;
        }
        Ok(())
    }

    /// Lets an alert whose turn has come at a channel go to the fallback channels that were used in its
    /// outage, too: it may have been planned before that, and not have waited since.
    pub(crate) async fn recall_stand_ins(
        &self,
        alert: &Alert,
        channel: &Channel,
    ) -> Result<(), NotifyError> {
        if channel.fallback.is_none() {
            return Ok(());
        }
        let open = alert.open.as_ref();
        let has = |other: &ChannelId| open.is_some_and(|open| open.contains(&other.to_string()));
        for other in self.stand_ins(alert).await? {
            if !has(&other) {
                self.add_channel(alert, alert.id, other).await?;
            }
        }
        Ok(())
    }

    /// Adds a channel to those that the alert `id`, of the same outage as `alert`, goes to, and starts
    /// its delivery, unless it has it already.
    async fn add_channel(
        &self,
        alert: &Alert,
        id: AlertId,
        channel: ChannelId,
    ) -> Result<(), NotifyError> {
        let project = alert.project;
        let known = self.store.delivery(id, channel).await?;
        if known.is_some_and(|known| known.state.is_some())
            || !self.store.add_channel(project, id, channel).await?
        {
            return Ok(());
        }
        let work = NotifyWork::Deliver {
            project,
            alert: id,
            channel,
        };
        Ok(self.later.send(work.into(), Duration::ZERO).await?)
    }
}
