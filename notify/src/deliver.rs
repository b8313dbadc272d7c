//! Delivers one alert through one channel: order, claim, quota, send, outcome.

use crate::error::SendError;
use crate::message::Message;
use crate::send::Mail;
use crate::{Notify, NotifyError};
use futures::FutureExt;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::channel::{Channel, ChannelKind};
use thrum_schema::delivery::{CLAIM_MS, Delivery, DeliveryState, GATHER_MS, MAX_ERROR, backoff_ms};
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::metrics::{Count, Sample};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::notice::Voice;
use thrum_schema::timer::AHEAD_MS;
use thrum_schema::work::NotifyWork;
use thrum_schema::{Project, UnixMs};
use thrum_store::regions::Role;
use thrum_store::{Claim, Settled, Standing, StoreError, trace};

/// How long a delivery waits for an earlier one of the same monitor before it checks again, in
/// milliseconds. Normally it does not wait that long: settling the earlier one starts it at once.
const WAIT_MS: i64 = 60_000;
/// Longest time a send may take, in milliseconds: 20 s for a mail, and a second for clock skew.
const SEND_MS: i64 = 21_000;
/// Most e-mails within two seconds that are sent through SNS one by one.
const MAIL_THRESHOLD: u32 = 10;
/// How many earlier alerts to skip that did not go to the channel.
const MAX_SKIPPED: usize = 20;
/// How old a gathered alert may be, in milliseconds, before its flush counts as lost.
const GATHERED_MS: i64 = 5 * GATHER_MS;

/// What is left of a channel's limit for a message.
enum Share {
    /// Something.
    Left,
    /// Its monitors have used up their share, which is this many messages.
    Used(u32),
    /// It is the first of the day that a monitor is down.
    FirstDown,
}

impl Notify {
    /// Does a piece of work. It is idempotent: doing it again changes nothing.
    ///
    /// # Errors
    /// The table or the queue failed; the work must be delivered again.
    ///
    /// In one of two regions, only the active one does any: it finds what another one has left.
    pub async fn handle(&self, work: &NotifyWork) -> Result<(), NotifyError> {
        let Some(regions) = &self.regions else {
            return self.handle_here(work).boxed().await;
        };
        match regions.role().await.map_err(StoreError::from)? {
            Role::Active(act) => self.during(&act).handle_here(work).boxed().await,
            Role::Repairing(_) => Err(NotifyError::Repairing),
            Role::Passive if mutant::is(Mutant::PassiveRelays) => {
                self.handle_here(work).boxed().await
            }
            Role::Passive => Ok(()),
        }
    }

    async fn handle_here(&self, work: &NotifyWork) -> Result<(), NotifyError> {
        match *work {
            NotifyWork::Alert { project, alert } => self.deliver_to_all(project, alert).await,
            NotifyWork::Deliver {
                project,
                alert,
                channel,
            } => self.deliver(project, alert, channel).await,
            NotifyWork::Flush { project, channel } => self.flush(project, channel).await,
            NotifyWork::Subscribe { project, channel } => match &self.sender.mail {
                Mail::Smtp(email) => self.ask_to_confirm(email, project, channel).await,
                #[cfg(feature = "aws")]
                Mail::Topics(topics) => self.subscribe(topics, project, channel).await,
            },
            NotifyWork::Probe { at, .. } => Ok(self.store.probe_arrived(at).await?),
        }
    }

    /// Decides, once, which channels an alert goes to, and delivers it to each that does not have
    /// it yet. Channels do not wait for each other.
    async fn deliver_to_all(&self, project: ProjectId, id: AlertId) -> Result<(), NotifyError> {
        let Some(mut alert) = self.store.alert(project, id).await? else {
            return Ok(());
        };
        let Standing::Current(_) = self.standing(&alert).await? else {
            return Ok(());
        };
        if !alert.planned {
            let lag_ms = self.store.world().now() - UnixMs(id.created_ms());
            self.store.metrics().observe(Sample::RelayLag, lag_ms);
            let targets = self.store.resolve(project, &alert.targets).await?;
            let wanted = targets.iter().filter(|channel| channel.wants(alert.what));
            let mut channels: Vec<ChannelId> = wanted.map(|channel| channel.id).collect();
            let mut stand_ins = self.stand_ins(&alert).await?;
            stand_ins.retain(|other| !channels.contains(other));
            channels.extend(&stand_ins);
            match self.store.plan(project, id, &channels, &stand_ins).await? {
                Some(planned) => alert = planned,
                None => return Ok(()),
            }
        }
        let open = alert.open.unwrap_or_default();
        let deliveries = open
            .iter()
            .filter_map(|channel| channel.parse().ok())
            .map(|channel| self.deliver(project, id, channel));
        join_all(deliveries).await.into_iter().collect()
    }

    /// Checks that this region may still send a message, before it does.
    pub(crate) async fn may_send(&self) -> Result<(), NotifyError> {
        match &self.act {
            Some(act) => {
                let takes = Duration::from_millis(SEND_MS.unsigned_abs());
                Ok(act.may(takes).await.map_err(StoreError::from)?)
            }
            None => Ok(()),
        }
    }

    /// Delivers an alert or a group through one channel, if it is due.
    async fn deliver(
        &self,
        project: ProjectId,
        id: AlertId,
        channel_id: ChannelId,
    ) -> Result<(), NotifyError> {
        let _permit = self.limiter.enter(project, channel_id).await;
        let delivery = self
            .store
            .delivery(id, channel_id)
            .await?
            .unwrap_or_default();
        let now = self.store.world().now();
        if self.store.is_held(&delivery, now) {
            return Ok(());
        }
        let is_final = delivery.state.is_some_and(DeliveryState::is_final);
        let channel = self.store.channel(project, channel_id).await?;
        if !delivery.members.is_empty() {
            return if is_final {
                let group = self.conclude_group(project, id, (channel_id, channel), &delivery);
                group.await
            } else {
                let group = self.retry_group(project, id, channel_id, channel, delivery);
                group.await
            };
        }
        let Some(alert) = self.store.alert(project, id).await? else {
            return Ok(());
        };
        // A timer of the delivery may have arrived late, too. What a person asks for is sent in any case.
        let later = match self.standing(&alert).await? {
            Standing::Current(later) => later,
            _ if delivery.redriven.is_some() => Vec::new(),
            Standing::Unknown | Standing::Superseded => return Ok(()),
        };
        let is_open = |open: &BTreeSet<String>| open.contains(&channel_id.to_string());
        let is_closed = alert.planned && !alert.open.as_ref().is_some_and(is_open);
        if self.act.is_some() && is_closed && !is_final {
            let claim = self.new_claim(project, id, channel_id, now, 0);
            return Ok(self.store.delivered_elsewhere(&claim, now).await?);
        }
        // One that is gathered is looked at when its group is sent.
        let is_gathered = delivery.state == Some(DeliveryState::Gathering);
        let may_be_late = !is_final && !is_gathered && delivery.redriven.is_none();
        if let Some(channel) = channel.as_ref().filter(|_| may_be_late)
            && self.has_had(&later, channel).await?
        {
            return self.overtake(&alert, channel_id).await;
        }
        let delivered = self.deliver_one(&alert, (channel_id, channel), &delivery, now);
        trace::caused_by(alert.trace(), delivered).await
    }

    /// The same, for an alert that is not a group.
    async fn deliver_one(
        &self,
        alert: &Alert,
        (channel_id, channel): (ChannelId, Option<Channel>),
        delivery: &Delivery,
        now: UnixMs,
    ) -> Result<(), NotifyError> {
        let state = delivery.state;
        if state.is_some_and(DeliveryState::is_final) {
            // It was settled, but a crash may have prevented its conclusion.
            let dead = state == Some(DeliveryState::Dead);
            if let (Some(channel), Some(settled)) = (&channel, Settled::of(delivery)) {
                self.fall_back(alert, channel, delivery, &settled).await?;
            }
            return self.conclude(alert, channel_id, delivery, dead).await;
        }
        if state == Some(DeliveryState::Gathering) {
            let late = now - UnixMs(alert.id.created_ms()) > GATHERED_MS;
            return if late {
                self.flush(alert.project, channel_id).await
            } else {
                Ok(())
            };
        }
        let Some(channel) = channel else {
            return self.give_up(alert, channel_id, now).await;
        };
        let has_started = state.is_some_and(|state| state != DeliveryState::Waiting);
        if !has_started {
            let earlier = self.waits_for_earlier(alert, &channel, delivery, now);
            if earlier.await? {
                return Ok(());
            }
            self.recall_stand_ins(alert, &channel).await?;
            let escalation = self.waits_for_escalation(alert, &channel, delivery, now);
            if escalation.await? || self.gather_burst(alert, &channel, now).await? {
                return Ok(());
            }
        }
        self.claim_and_send(alert, &channel).await
    }

    /// Claims a delivery and sends it.
    async fn claim_and_send(&self, alert: &Alert, channel: &Channel) -> Result<(), NotifyError> {
        // The reads before may have taken seconds: the claim starts now.
        let now = self.store.world().now();
        let claim = self.new_claim(alert.project, alert.id, channel.id, now, CLAIM_MS);
        match self.store.claim(&claim, now).await {
            Ok(delivery) => self.send_claimed(alert, channel, &claim, delivery).await,
            // Another handler has claimed it: a timer checks again when that claim ends.
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Marks a delivery as dead because its channel was deleted.
    async fn give_up(
        &self,
        alert: &Alert,
        channel: ChannelId,
        now: UnixMs,
    ) -> Result<(), NotifyError> {
        let claim = self.new_claim(alert.project, alert.id, channel, now, CLAIM_MS);
        match self.store.claim(&claim, now).await {
            Ok(_) => {}
            Err(StoreError::Conflict) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let dead = Settled::Dead {
            error: "the channel was deleted".into(),
        };
        match self.settle(&claim, &dead).await? {
            Some(delivery) => self.conclude(alert, channel, &delivery, true).await,
            None => Ok(()),
        }
    }

    /// Whether an earlier alert of the same monitor must be delivered to this channel first (A8).
    /// If so, records there that this one waits: it starts when the earlier one is settled.
    async fn waits_for_earlier(
        &self,
        alert: &Alert,
        channel: &Channel,
        delivery: &Delivery,
        now: UnixMs,
    ) -> Result<bool, NotifyError> {
        if mutant::is(Mutant::OrderIgnored) {
            return Ok(false);
        }
        let Some(prev) = self.earlier(alert, channel).await? else {
            return Ok(false);
        };
        if !self.store.wait_for(prev, alert.id, channel.id).await? {
            return Ok(false);
        }
        if delivery.until.is_some_and(|until| until > now) {
            // It already waits, and has a timer.
            return Ok(true);
        }
        let claim = self.new_claim(alert.project, alert.id, channel.id, now, WAIT_MS);
        self.store.mark_waiting(&claim).await?;
        Ok(true)
    }

    /// The previous alert of the same monitor, if this channel does not have it yet. Alerts that
    /// did not go to this channel are skipped.
    async fn earlier(
        &self,
        alert: &Alert,
        channel: &Channel,
    ) -> Result<Option<AlertId>, NotifyError> {
        let id = channel.id.to_string();
        let mut prev = alert.prev;
        for _ in 0..MAX_SKIPPED {
            let Some(earlier_id) = prev else {
                return Ok(None);
            };
            let Some(earlier) = self.store.alert(alert.project, earlier_id).await? else {
                return Ok(None);
            };
            let open = earlier.open.is_some_and(|open| open.contains(&id));
            if !earlier.planned || open {
                return Ok(Some(earlier_id));
            }
            let delivery = self.store.delivery(earlier_id, channel.id).await?;
            if delivery.is_some_and(|delivery| delivery.state.is_some()) {
                return Ok(None);
            }
            prev = earlier.prev;
        }
        Ok(None)
    }

    /// Gathers the alert if the channel gets more alerts now than its grouping threshold (A6).
    /// Returns whether it did.
    async fn gather_burst(
        &self,
        alert: &Alert,
        channel: &Channel,
        now: UnixMs,
    ) -> Result<bool, NotifyError> {
        let threshold = self.threshold(channel);
        if threshold == 0 || matches!(alert.what, AlertKind::Test | AlertKind::Limited) {
            return Ok(false);
        }
        let rate = self.store.count_rate(channel.id, now).await?;
        if rate.max(alert.burst.unwrap_or(0)) <= threshold {
            return Ok(false);
        }
        let claim = self.new_claim(alert.project, alert.id, channel.id, now, GATHER_MS);
        match self.store.gather(&claim).await {
            Ok(()) => {
                let flush = NotifyWork::Flush {
                    project: alert.project,
                    channel: channel.id,
                };
                let delay = Duration::from_millis(GATHER_MS.unsigned_abs());
                self.later.send(flush.into(), delay).await?;
                Ok(true)
            }
            // Another handler has started it. If none has, the queue must deliver the work again.
            Err(StoreError::Conflict) => {
                let delivery = self.store.delivery(alert.id, channel.id).await?;
                match delivery.and_then(|delivery| delivery.state) {
                    None | Some(DeliveryState::Waiting) => Err(StoreError::Conflict.into()),
                    Some(_) => Ok(true),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How many alerts within two seconds a channel gets one by one; 0 means any number. A
    /// receiver that keeps incidents gets each alert. SNS sends at most ten mails a second to an
    /// address.
    fn threshold(&self, channel: &Channel) -> u32 {
        let by_topics = self.sender.mail.uses_topics();
        if channel.via.kind().is_some_and(|kind| kind.incidents) {
            return 0;
        }
        match (&channel.via, by_topics, channel.group_threshold) {
            (ChannelKind::Email { .. }, true, 0 | MAIL_THRESHOLD..) => MAIL_THRESHOLD,
            (_, _, threshold) => threshold,
        }
    }

    /// Charges quota, sends, and records the outcome.
    async fn send_claimed(
        &self,
        alert: &Alert,
        channel: &Channel,
        claim: &Claim,
        delivery: Delivery,
    ) -> Result<(), NotifyError> {
        let is_exempt = alert.what == AlertKind::Limited;
        let project = self.store.project_or_default(alert.project).await?;
        let refused = if is_exempt {
            None
        } else {
            let about = std::slice::from_ref(alert);
            self.take_quota(channel, &project, &delivery, about).await?
        };
        let settled = match refused {
            Some(error) => {
                self.notify_limit_reached(channel).await?;
                Settled::Suppressed { error }
            }
            None if self.is_too_late(claim) => return self.retry_at_once(claim).await,
            None => {
                let message = Message::of_alert(alert, channel, &self.voice(&project));
                if mutant::is(Mutant::MarkedBeforeSent) {
                    let at = self.store.world().now();
                    self.settle(claim, &Settled::Sent { at, note: None })
                        .await?;
                }
                let sent = self.send(channel, &message, claim).await?;
                self.outcome(sent, &delivery)
            }
        };
        let Some(delivery) = self.settle(claim, &settled).await? else {
            return Ok(());
        };
        self.fall_back(alert, channel, &delivery, &settled).await?;
        match settled {
            Settled::Retry { .. } => {}
            Settled::Dead { .. } => self.conclude(alert, channel.id, &delivery, true).await?,
            Settled::Sent { .. } | Settled::Suppressed { .. } => {
                self.conclude(alert, channel.id, &delivery, false).await?;
            }
        }
        self.note_health(claim, &settled).await;
        Ok(())
    }

    /// How messages of a project are written.
    pub(crate) fn voice<'a>(&'a self, project: &'a Project) -> Voice<'a> {
        Voice::new(project, self.config.site_url.as_deref())
    }

    /// Whether a send might not finish before the claim ends. Another handler would then send the
    /// message too, and deliver the alerts after it out of order (A8).
    pub(crate) fn is_too_late(&self, claim: &Claim) -> bool {
        claim.until - self.store.world().now() < SEND_MS
    }

    /// Ends a claim without sending, so that the retry gets a claim of full length. The quota stays
    /// charged.
    pub(crate) async fn retry_at_once(&self, claim: &Claim) -> Result<(), NotifyError> {
        let at = self.store.world().now();
        let error = "the table was too slow; retrying at once".to_owned();
        self.settle(claim, &Settled::Retry { at, error }).await?;
        Ok(())
    }

    /// Charges the channel's daily limit and the project's plan before sending `about` (A7). A retry
    /// is not charged again. Returns the limit that is reached, if any, as readable text.
    pub(crate) async fn take_quota(
        &self,
        channel: &Channel,
        project: &Project,
        delivery: &Delivery,
        about: &[Alert],
    ) -> Result<Option<String>, NotifyError> {
        if delivery.charged {
            return Ok(None);
        }
        let now = self.store.world().now();
        let id = channel.project;
        // An earlier attempt may have crashed after it sent the message, but before it recorded
        // that.
        let maybe_sent = if delivery.attempts > 1 {
            "; an earlier attempt may have sent the message without recording it"
        } else {
            ""
        };
        if let Some(limit) = channel.daily_limit {
            let meter = format!("channel#{}", channel.id);
            let passes = match self.share_of(channel, limit, about, now).await? {
                Share::Used(share) => {
                    return Ok(Some(format!(
                        "the monitor has used up its share of the channel's daily limit, {share} of {limit}{maybe_sent}"
                    )));
                }
                Share::FirstDown => None,
                Share::Left => Some(limit),
            };
            if !self.store.take(id, &meter, now, passes).await? {
                return Ok(Some(format!(
                    "the channel's daily limit of {limit} has been reached{maybe_sent}"
                )));
            }
        }
        let limits = self.config.plans.limits(&project.plan);
        let (limit, what) = match channel.via {
            ChannelKind::Webhook { .. } | ChannelKind::Service { .. } => {
                (limits.webhooks_per_day, "webhook messages")
            }
            ChannelKind::Email { .. } => (limits.emails_per_day, "e-mails"),
            ChannelKind::Sms { .. } => (limits.sms_per_day, "text messages"),
            ChannelKind::Sns { .. } => (limits.sns_per_day, "messages to SNS topics"),
        };
        let meter = match &channel.via {
            // Services are requests, too.
            ChannelKind::Service { .. } => "deliveries#webhook".to_owned(),
            via => format!("deliveries#{}", via.name()),
        };
        let taken = self.store.take(id, &meter, now, limit).await?;
        Ok(limit.filter(|_| !taken).map(|limit| {
            format!("the plan's daily limit of {limit} {what} has been reached{maybe_sent}")
        }))
    }

    /// What the monitors of a message have left of the channel's limit. One monitor may use half of
    /// it, so that it can't silence the others; and the first alert of the day that a monitor is down
    /// always passes.
    async fn share_of(
        &self,
        channel: &Channel,
        limit: u32,
        about: &[Alert],
        now: UnixMs,
    ) -> Result<Share, NotifyError> {
        let share = limit.div_ceil(2).max(2);
        let mut used = true;
        let mut first_down = false;
        for alert in about {
            let Some(subject) = &alert.monitor else {
                used = false;
                continue;
            };
            let meter = format!("channel#{}#{}", channel.id, subject.uuid);
            let taken = self.store.take_for(alert.project, &meter, alert, now);
            let (n, first) = taken.await?;
            used &= n > u64::from(share);
            first_down |= first;
        }
        Ok(if first_down && !mutant::is(Mutant::FirstDownLimited) {
            Share::FirstDown
        } else if used {
            Share::Used(share)
        } else {
            Share::Left
        })
    }

    /// Records whether the channel works, for users to see. Nothing depends on it, so a failed
    /// write is only logged.
    pub(crate) async fn note_health(&self, claim: &Claim, settled: &Settled) {
        let (project, channel) = (claim.project, claim.channel);
        let noted = match settled {
            Settled::Sent { .. } => self.store.channel_sent(project, channel).await,
            Settled::Retry { error, .. } | Settled::Dead { error } => {
                let now = self.store.world().now();
                let failed = self.store.channel_failed(project, channel, error, now);
                failed.await
            }
            Settled::Suppressed { .. } => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "failed to record the health of a channel");
        }
    }

    /// Notifies a channel, once a day, that its limit is reached.
    pub(crate) async fn notify_limit_reached(&self, channel: &Channel) -> Result<(), NotifyError> {
        let now = self.store.world().now();
        let id = AlertId(self.store.world().uuid_v7(now));
        let mut alert = Alert::of_channel(id, channel.project, AlertKind::Limited, channel.id);
        alert.trace = trace::current();
        let meter = format!("limited#{}", channel.id);
        match self.store.raise_once_a_day(&alert, &meter, now).await {
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The outcome of an attempt: sent, to be retried within the delivery window, or dead.
    pub(crate) fn outcome(
        &self,
        sent: Result<Option<String>, SendError>,
        delivery: &Delivery,
    ) -> Settled {
        let now = self.store.world().now();
        match sent {
            Ok(note) => Settled::Sent { at: now, note },
            Err(error) => {
                let text: String = error.reason.chars().take(MAX_ERROR).collect();
                let first_attempt = delivery.first_attempt().unwrap_or(now);
                let wait_ms = backoff_ms(delivery.attempts, self.store.world().jitter());
                let at = now + wait_ms;
                let last = first_attempt + self.config.delivery_window_ms;
                if error.permanent || at > last {
                    Settled::Dead { error: text }
                } else {
                    // A receiver can't ask to wait until it is too late.
                    let at = at.max((now + error.wait_ms).min(last));
                    Settled::Retry { at, error: text }
                }
            }
        }
    }

    /// Records the outcome and ends the claim. `None` if the claim had expired and another handler
    /// took over: it may send the message again, under the same idempotency key.
    pub(crate) async fn settle(
        &self,
        claim: &Claim,
        settled: &Settled,
    ) -> Result<Option<Delivery>, NotifyError> {
        match self.store.settle(claim, settled).await {
            Ok(delivery) => {
                let what = match settled {
                    Settled::Sent { .. } => Count::Deliveries,
                    Settled::Retry { .. } => Count::Retries,
                    Settled::Dead { .. } => Count::Dead,
                    Settled::Suppressed { .. } => Count::Suppressed,
                };
                self.store.metrics().count(what, 1);
                let (alert, channel, attempts) = (claim.alert, claim.channel, delivery.attempts);
                match settled {
                    Settled::Retry { at, error } => {
                        let error = without_addresses(error);
                        tracing::warn!(%alert, %channel, attempts, %error, retry_at = %at, "a delivery failed and will be retried");
                        self.retry_in_time(claim, *at).await;
                    }
                    Settled::Dead { error } => {
                        let error = without_addresses(error);
                        tracing::error!(%alert, %channel, attempts, %error, "a delivery is dead: it can't succeed, or its retries ran out");
                    }
                    Settled::Suppressed { error } => {
                        tracing::warn!(%alert, %channel, %error, "an alert was not sent, because of a limit");
                    }
                    Settled::Sent { .. } => {}
                }
                Ok(Some(delivery))
            }
            Err(StoreError::Conflict) => {
                tracing::warn!(alert = %claim.alert, channel = %claim.channel, "a claim expired before its delivery was settled; the message may be sent twice");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Queues a retry for the exact time it is due, because its timer would wait for the next
    /// sweep, up to a minute. If the queue fails, the timer still fires.
    async fn retry_in_time(&self, claim: &Claim, at: UnixMs) {
        let wait_ms = at - self.store.world().now();
        if wait_ms > AHEAD_MS {
            return;
        }
        let work = NotifyWork::Deliver {
            project: claim.project,
            alert: claim.alert,
            channel: claim.channel,
        };
        let delay = Duration::from_millis(wait_ms.max(1).unsigned_abs());
        if let Err(error) = self.later.send(work.into(), delay).await {
            tracing::warn!(%error, "could not queue a retry; its timer will start it, up to a minute late");
        }
    }

    /// Closes the alert for this channel, and starts the delivery that waited for it.
    pub(crate) async fn conclude(
        &self,
        alert: &Alert,
        channel: ChannelId,
        delivery: &Delivery,
        dead: bool,
    ) -> Result<(), NotifyError> {
        let project = alert.project;
        self.store.close(project, alert.id, channel, dead).await?;
        if let Some(next) = delivery.next {
            self.pass_on(alert, next).await?;
            let next = NotifyWork::Deliver {
                project,
                alert: next,
                channel,
            };
            self.later.send(next.into(), Duration::ZERO).await?;
        }
        Ok(())
    }

    pub(crate) fn new_claim(
        &self,
        project: ProjectId,
        alert: AlertId,
        channel: ChannelId,
        now: UnixMs,
        lasts_ms: i64,
    ) -> Claim {
        let until = now + lasts_ms;
        Claim {
            project,
            alert,
            channel,
            token: self.store.world().uuid_v4(),
            until: self.ends.map_or(until, |ends| until.min(ends)),
        }
    }
}

/// An error for the log, which must have no addresses: a mail server's words may repeat one.
pub(crate) fn without_addresses(error: &str) -> String {
    let words = error.split(' ');
    let words: Vec<&str> = words
        .map(|word| if word.contains('@') { "…" } else { word })
        .collect();
    words.join(" ")
}
