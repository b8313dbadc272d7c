//! Deliveries: claims, outcomes, order and groups (A3, A4, A6, A8).

use super::commit::FIRST_AUDIT_MS;
use crate::item::{self, MAPPING_VERSION, delivery_expires_s};
use crate::key::Key;
use crate::table::{
    Condition, Query, Read, TableError, Update, Value, Write, add, attr, create, delete, exists,
    put, remove, set, strings, update,
};
use crate::{Result, Store, StoreError};
use serde::Deserialize;
use thrum_schema::delivery::{
    CLAIM_MS, Delivery, DeliveryState, GATHER_MS, LONGEST_CLAIM_MS, LONGEST_WAIT_MS, MAX_GROUP,
};
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{Timer, What};
use uuid::Uuid;

/// How much longer than it was decided a wait may seem, because clocks differ, in milliseconds.
const SLACK_MS: i64 = 5_000;
/// How much later than it was sent a write may take effect, in milliseconds. A claim that arrives late must
/// not take a later claim for one from before the clock was set back.
const LATE_WRITE_MS: i64 = 30_000;

/// A claim on a delivery: the right to send it until `until`.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The project.
    pub project: ProjectId,
    /// The alert or group.
    pub alert: AlertId,
    /// The channel.
    pub channel: ChannelId,
    /// The token of the claim.
    pub token: Uuid,
    /// When the claim expires.
    pub until: UnixMs,
}

/// The outcome of an attempt.
#[derive(Debug, Clone)]
pub enum Settled {
    /// Sent.
    Sent {
        /// When.
        at: UnixMs,
        /// The receiver's response.
        note: Option<String>,
    },
    /// Failed; the next attempt is at `at`.
    Retry {
        /// When.
        at: UnixMs,
        /// Why it failed.
        error: String,
    },
    /// Failed permanently.
    Dead {
        /// Why.
        error: String,
    },
    /// Not sent, because the channel's daily limit was reached.
    Suppressed {
        /// Which limit.
        error: String,
    },
}

impl Settled {
    /// The outcome of a delivery; `None` if it is not settled.
    pub fn of(delivery: &Delivery) -> Option<Self> {
        let error = || delivery.error.clone().unwrap_or_default();
        match delivery.state? {
            DeliveryState::Sent => Some(Self::Sent {
                at: delivery.sent?,
                note: delivery.note.clone(),
            }),
            DeliveryState::Dead => Some(Self::Dead { error: error() }),
            DeliveryState::Suppressed => Some(Self::Suppressed { error: error() }),
            _ => None,
        }
    }
}

impl Store {
    /// The delivery of an alert or group to a channel, if it exists. 1 RU.
    pub async fn delivery(&self, alert: AlertId, channel: ChannelId) -> Result<Option<Delivery>> {
        self.get(Key::delivery(alert, channel)).await
    }

    /// The deliveries of an alert or group that were started. 0.5 RU per 4 kB.
    pub async fn deliveries(&self, alert: AlertId) -> Result<Vec<Delivery>> {
        let all = Query::of(Key::deliveries_of(alert)).prefix("D#").eventual();
        let mut found: Vec<Delivery> = self.query(all).await?;
        found.retain(|delivery| delivery.state.is_some());
        Ok(found)
    }

    /// Claims a delivery that has not started, waits, is due for a retry, or whose previous claim
    /// has expired. The timer that checks it again when the claim expires is written first. 2 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is done, or claimed by another process.
    pub async fn claim(&self, claim: &Claim, now: UnixMs) -> Result<Delivery> {
        self.put(self.timer_item(claim.timer(claim.until))).await?;
        let taken = set("state", "claimed")
            .set("token", claim.token)
            .set("until", claim.until)
            .set_if_missing("first", now)
            .and(claim.named())
            .add("attempts", 1);
        let taken = match self.run {
            Some(run) => taken.set("by", run),
            None => taken,
        };
        let mut free = attr("state")
            .missing()
            .or(attr("state").eq("waiting"))
            .or(attr("token").eq(claim.token))
            .or(attr("state")
                .one_of(["claimed", "retry"])
                .and(attr("until").at_most(now)))
            .or(attr("until")
                .above(now + LONGEST_WAIT_MS + LATE_WRITE_MS)
                .and(
                    attr("wait_ms")
                        .missing()
                        .or(attr("wait_ms").at_most(LONGEST_WAIT_MS)),
                ))
            .or(attr("state")
                .eq("claimed")
                .and(attr("until").above(now + LONGEST_CLAIM_MS + LATE_WRITE_MS)));
        if let Some(run) = self.run {
            free = free.or(attr("state")
                .eq("claimed")
                .and(attr("by").eq(run).negated()));
        }
        self.updated(update(claim.key(), taken).when(free)).await
    }

    /// Whether a delivery is held at `now`: another handler is sending it, or its retry is not due. A
    /// timer fires when that ends. What is held for too long is from before the clock was set back.
    pub fn is_held(&self, delivery: &Delivery, now: UnixMs) -> bool {
        let (most_ms, is_void) = match delivery.state {
            Some(DeliveryState::Claimed) => {
                let of_earlier_run = self.run.is_some() && delivery.by != self.run;
                (LONGEST_CLAIM_MS, of_earlier_run)
            }
            Some(DeliveryState::Retry) => (LONGEST_WAIT_MS, false),
            _ => return false,
        };
        // A receiver may ask for a longer wait.
        let most_ms = most_ms.max(delivery.wait_ms.unwrap_or(0) + SLACK_MS);
        let left_ms = delivery.until.map_or(0, |until| until - now);
        !is_void && 0 < left_ms && left_ms <= most_ms
    }

    /// Ends a claim, if it still holds; for a retry, the timer is written first. Returns the
    /// updated delivery. 1 WU, 2 for a retry. The token of the claim is recorded, because the SDK
    /// retries after a lost reply and must recognize its own write.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the claim has expired and another process took over.
    pub async fn settle(&self, claim: &Claim, settled: &Settled) -> Result<Delivery> {
        let ended = set("settled_by", claim.token).remove("token");
        let ended = match settled {
            Settled::Sent { at, note } => ended
                .set("state", "sent")
                .set("sent", *at)
                .set("note", note.as_deref().unwrap_or_default())
                .remove("until")
                .remove("error"),
            Settled::Retry { at, error } => {
                self.put(self.timer_item(claim.timer(*at))).await?;
                // The quota was charged for the failed attempt, so the next one is free.
                ended
                    .set("state", "retry")
                    .set("until", *at)
                    .set("wait_ms", *at - self.world.now())
                    .set("error", error.as_str())
                    .set("charged", true)
            }
            Settled::Dead { error } => ended
                .set("state", "dead")
                .set("error", error.as_str())
                .remove("until"),
            Settled::Suppressed { error } => ended
                .set("state", "suppressed")
                .set("error", error.as_str())
                .remove("until"),
        };
        let own = attr("token").eq(claim.token);
        let settled_by = Value::S(claim.token.to_string());
        match self.table.write(update(claim.key(), ended).when(own)).await {
            Err(TableError::Condition {
                found: Some(found), ..
            }) if found.get("settled_by") == Some(&settled_by) => item::decode(*found),
            written => item::decode(written?.unwrap_or_default()),
        }
    }

    /// Settles a member of a group with the group's outcome, if it still belongs to the group.
    /// Returns the delivery, which may name an alert that waits for it. 1 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a user has requested redelivery since.
    pub async fn settle_member(
        &self,
        member: AlertId,
        channel: ChannelId,
        group: AlertId,
        settled: &Settled,
    ) -> Result<Delivery> {
        let (state, at, error) = match settled {
            Settled::Sent { at, .. } => ("sent", at.0, None),
            Settled::Dead { error } => ("dead", 0, Some(error)),
            Settled::Suppressed { error } => ("suppressed", 0, Some(error)),
            Settled::Retry { .. } => unreachable!("a group is retried as a whole"),
        };
        let mut ended = set("state", state).set("group", group).set("sent", at);
        if let Some(error) = error {
            ended = ended.set("error", error.as_str());
        }
        let own = attr("state").eq("gathering").or(attr("group").eq(group));
        self.updated(update(Key::delivery(member, channel), ended).when(own))
            .await
    }

    /// Records that the outcome of a group was copied to its members. 1 WU.
    pub async fn conclude_group(&self, group: AlertId, channel: ChannelId) -> Result<()> {
        let concluded = update(Key::delivery(group, channel), set("concluded", true));
        // TTL may have removed it in the meantime.
        self.try_write(concluded.when(exists())).await.map(drop)
    }

    /// Makes `next` wait for the delivery of `prev` to the same channel: the process that settles
    /// `prev` will see it. Returns false if `prev` is settled already. 1 WU. (A8)
    pub async fn wait_for(&self, prev: AlertId, next: AlertId, channel: ChannelId) -> Result<bool> {
        let waits = set("next", next)
            .set("kind", "delivery")
            .set("v", MAPPING_VERSION)
            .set_if_missing("expires_at", delivery_expires_s(prev));
        let open = attr("state")
            .one_of(["sent", "dead", "suppressed"])
            .negated();
        self.try_write(update(Key::delivery(prev, channel), waits).when(open))
            .await
    }

    /// Marks a delivery that has not started as waiting for an earlier one. A timer checks it at
    /// `until`, in case nothing else does. 2 WU.
    pub async fn mark_waiting(&self, claim: &Claim) -> Result<()> {
        self.put(self.timer_item(claim.timer(claim.until))).await?;
        match self
            .transact(vec![claim.begin(DeliveryState::Waiting)])
            .await
        {
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Records that the other of two regions has delivered an alert: the alert says so, but the delivery was not
    /// replicated. 1 WU.
    pub async fn delivered_elsewhere(&self, claim: &Claim, at: UnixMs) -> Result<()> {
        let sent = set("state", "sent")
            .set("sent", at)
            .set("note", "delivered before another region took over")
            .remove("until")
            .remove("token")
            .and(claim.named());
        let is_final = attr("state").one_of(["sent", "dead", "suppressed"]);
        let open = attr("state").missing().or(is_final.negated());
        self.try_write(update(claim.key(), sent).when(open))
            .await
            .map(drop)
    }

    /// Ends a delivery that nobody works on, without sending: a later alert was sent first. 1 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has ended.
    pub async fn overtake(&self, claim: &Claim, error: &str) -> Result<Delivery> {
        let ended = set("state", "suppressed")
            .set("error", error)
            .remove("until")
            .remove("token")
            .and(claim.named());
        let is_final = attr("state").one_of(["sent", "dead", "suppressed"]);
        let open = attr("state").missing().or(is_final.negated());
        self.updated(update(claim.key(), ended).when(open)).await
    }

    /// Ends a delivery that has not started, without sending. 1 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has started, or ended.
    pub async fn suppress(&self, claim: &Claim, error: &str) -> Result<Delivery> {
        let ended = set("state", "suppressed")
            .set("error", error)
            .remove("until")
            .and(claim.named());
        let not_begun = attr("state").missing().or(attr("state").eq("waiting"));
        self.updated(update(claim.key(), ended).when(not_begun))
            .await
    }

    /// Counts an alert for a channel, and returns how many there were within the last
    /// [`GATHER_MS`], including this one. 1 WU; on DynamoDB 2 for the first.
    pub async fn count_rate(&self, channel: ChannelId, now: UnixMs) -> Result<u32> {
        #[derive(Deserialize)]
        struct Rate {
            n: u32,
        }
        let since = now - GATHER_MS;
        let begin = set("n", 1)
            .set("since", now)
            .set("expires_at", now.secs() + 3_600)
            .set("kind", "rate");
        let over = attr("since").missing().or(attr("since").at_most(since));
        let counted = update(Key::rate(channel), add("n", 1))
            .when(attr("since").above(since))
            .or_when(over, begin);
        match self.updated::<Rate>(counted).await {
            Ok(rate) => Ok(rate.n),
            // Lost the race to start a window twice in a row.
            Err(StoreError::Conflict) => Ok(1),
            Err(error) => Err(error),
        }
    }

    /// Collects an alert for a channel: marks the delivery, adds the alert to the collected ones
    /// and arms the timer that sends them, in one transaction. 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the delivery has started already.
    pub async fn gather(&self, claim: &Claim) -> Result<()> {
        let mut gathered = Key::gathered(claim.channel, claim.alert).attributes();
        let mark = set("kind", "gathered")
            .set("v", MAPPING_VERSION)
            .set("alert", claim.alert)
            .set("expires_at", delivery_expires_s(claim.alert));
        mark.apply(&mut gathered)?;
        let flush = Timer {
            due: claim.until,
            what: What::Flush {
                project: claim.project,
                channel: claim.channel,
            },
        };
        self.transact(vec![
            claim.begin(DeliveryState::Gathering),
            create(gathered),
            put(self.timer_item(flush)),
        ])
        .await
    }

    /// Whether an alert is among those collected for a channel. 1 RU.
    pub async fn is_gathered(&self, channel: ChannelId, alert: AlertId) -> Result<bool> {
        let key = Key::gathered(channel, alert);
        let found = self.table.get(key, Read::Consistent).await?;
        Ok(found.is_some())
    }

    /// Starts a delivery again that waits for a group which does not exist. 1 WU.
    pub async fn ungather(&self, alert: AlertId, channel: ChannelId) -> Result<()> {
        let again = remove("state").remove("until");
        let gathers = attr("state").eq("gathering");
        let write = update(Key::delivery(alert, channel), again).when(gathers);
        self.try_write(write).await.map(drop)
    }

    /// The first [`MAX_GROUP`] alerts collected for a channel, oldest first. 1 RU per 4 kB.
    pub async fn gathered(&self, channel: ChannelId) -> Result<Vec<AlertId>> {
        #[derive(Deserialize)]
        struct Gathered {
            alert: AlertId,
        }
        let first = Query::of(Key::rate(channel).pk)
            .prefix("W#")
            .limit(MAX_GROUP);
        let items: Vec<Gathered> = self.query(first).await?;
        Ok(items.into_iter().map(|item| item.alert).collect())
    }

    /// Forms a group of collected alerts: stores the group, already claimed, removes its members
    /// from the collected alerts and arms the timer for the end of the claim, in one transaction. 2
    /// WU per member, plus 4.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another group took any of them.
    pub async fn form_group(&self, claim: &Claim, members: &[AlertId]) -> Result<Delivery> {
        let group = Delivery {
            alert: Some(claim.alert),
            channel: Some(claim.channel),
            project: Some(claim.project),
            state: Some(DeliveryState::Claimed),
            attempts: 1,
            first: Some(claim.until - CLAIM_MS),
            token: Some(claim.token),
            until: Some(claim.until),
            members: members.to_vec(),
            ..Delivery::default()
        };
        let mut writes = vec![
            create(item::delivery(claim.alert, claim.channel, &group)),
            put(self.timer_item(claim.timer(claim.until))),
        ];
        let gathered = members
            .iter()
            .map(|member| delete(Key::gathered(claim.channel, *member)).when(exists()));
        writes.extend(gathered);
        self.transact(writes).await?;
        Ok(group)
    }

    /// Removes alerts from the collected ones, because a group has them. 1 WU each.
    pub async fn forget_gathered(&self, channel: ChannelId, members: &[AlertId]) -> Result<()> {
        for member in members {
            self.write(delete(Key::gathered(channel, *member))).await?;
        }
        Ok(())
    }

    /// Restarts a dead delivery at once: the delivery, its alert's open channels and a timer, in
    /// one transaction. 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is not dead.
    pub async fn redeliver(&self, claim: &Claim, now: UnixMs) -> Result<()> {
        let again = set("state", "retry")
            .set("until", now)
            .set("redriven", now)
            .set("attempts", 0)
            .remove("charged")
            .remove("group");
        let open = add("open", strings([claim.channel])).remove("dead");
        let mut writes = vec![
            update(claim.key(), again).when(attr("state").eq("dead")),
            update(Key::alert(claim.project, claim.alert), open).when(exists()),
        ];
        if !mutant::is(Mutant::RedeliveryUnarmed) {
            writes.push(put(self.timer_item(claim.timer(now))));
            // A crash after the delivery is settled must not leave the alert open (A5).
            let (project, alert) = (claim.project, claim.alert);
            writes.push(put(self.audit_item(project, alert, now + FIRST_AUDIT_MS)));
        }
        self.transact(writes).await
    }
}

impl Claim {
    fn key(&self) -> Key {
        Key::delivery(self.alert, self.channel)
    }

    /// The attributes that every delivery has.
    fn named(&self) -> Update {
        set("alert", self.alert)
            .set("channel", self.channel)
            .set("project", self.project)
            .set("kind", "delivery")
            .set("v", MAPPING_VERSION)
            .set_if_missing("expires_at", delivery_expires_s(self.alert))
    }

    /// Marks a delivery that has not started.
    fn begin(&self, state: DeliveryState) -> Write {
        let state = match state {
            DeliveryState::Waiting => "waiting",
            _ => "gathering",
        };
        let marked = set("state", state)
            .set("until", self.until)
            .and(self.named());
        let not_begun: Condition = attr("state").missing().or(attr("state").eq("waiting"));
        update(self.key(), marked).when(not_begun)
    }

    /// The timer that checks the delivery at `due`.
    fn timer(&self, due: UnixMs) -> Timer {
        Timer {
            due,
            what: What::Deliver {
                project: self.project,
                alert: self.alert,
                channel: self.channel,
            },
        }
    }
}
