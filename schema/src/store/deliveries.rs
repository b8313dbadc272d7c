//! Deliveries: claims, outcomes, order and groups (A3, A4, A6, A8).

use super::{Query, Result, Store, StoreError, classify, failed_condition};
use crate::delivery::{Delivery, DeliveryState, MAX_GROUP};
use crate::id::{AlertId, ChannelId, ProjectId};
use crate::item::{self, Key, delivery_expires_s, n, s};
use crate::time::UnixMs;
use crate::timer::{Timer, What};
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use serde::Deserialize;
use uuid::Uuid;

/// A claim on a delivery: the right to send it until `until`.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The project.
    pub project: ProjectId,
    /// The alert or group.
    pub alert: AlertId,
    /// The channel.
    pub channel: ChannelId,
    /// Who claims.
    pub token: Uuid,
    /// When the claim ends by itself.
    pub until: UnixMs,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Settled {
    /// Sent, with what the receiver said.
    Sent {
        /// When.
        at: UnixMs,
        /// What the receiver said.
        note: Option<String>,
    },
    /// Failed; there is another attempt at `at`.
    Retry {
        /// When.
        at: UnixMs,
        /// Why it failed.
        error: String,
    },
    /// Failed for good.
    Dead {
        /// Why.
        error: String,
    },
    /// Not sent, for the channel's daily limit was reached.
    Suppressed {
        /// Which limit.
        error: String,
    },
}

impl Settled {
    /// How a delivery that is settled ended.
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
    /// The delivery of an alert or group to a channel, as far as it was begun. 1 RU.
    pub async fn delivery(&self, alert: AlertId, channel: ChannelId) -> Result<Option<Delivery>> {
        self.get(&Key::delivery(alert, channel)).await
    }

    /// The deliveries of an alert or group that were begun. 0.5 RU per 4 kB.
    pub async fn deliveries(&self, alert: AlertId) -> Result<Vec<Delivery>> {
        let pk = format!("A#{alert}");
        let mut found: Vec<Delivery> = self.query_prefix(&pk, "D#", Query::default()).await?;
        found.retain(|delivery| delivery.state.is_some());
        Ok(found)
    }

    /// Claims a delivery, on condition that it was not begun, waits, is due for a retry, or that another's
    /// claim has ended. The timer that looks again when the claim ends is written first. 2 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is done, or another's.
    pub async fn claim(&self, claim: &Claim, now: UnixMs) -> Result<Delivery> {
        let due = claim.until;
        self.put(self.timer_item(claim.timer(due))).await?;
        let answer = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::delivery(claim.alert, claim.channel).attributes()))
            .update_expression(
                "SET #state = :claimed, #token = :token, #until = :until, #alert = :alert, \
                 #channel = :channel, #project = :project, kind = :kind, v = :v, \
                 expires_at = if_not_exists(expires_at, :expires), \
                 #first = if_not_exists(#first, :now) \
                 ADD attempts :one",
            )
            .condition_expression(
                "attribute_not_exists(#state) OR #state = :waiting OR #token = :token \
                 OR (#state IN (:claimed, :retry) AND #until <= :now)",
            )
            .set_expression_attribute_names(super::names_of(&[
                ("#state", "state"),
                ("#token", "token"),
                ("#until", "until"),
                ("#first", "first"),
                ("#alert", "alert"),
                ("#channel", "channel"),
                ("#project", "project"),
            ]))
            .set_expression_attribute_values(super::values_of(vec![
                (":claimed", s("claimed")),
                (":waiting", s("waiting")),
                (":retry", s("retry")),
                (":token", s(claim.token.to_string())),
                (":until", n(claim.until.0)),
                (":now", n(now.0)),
                (":alert", s(claim.alert.to_string())),
                (":channel", s(claim.channel.to_string())),
                (":project", s(claim.project.to_string())),
                (":kind", s("delivery")),
                (":v", n(item::MAPPING_VERSION)),
                (":expires", n(delivery_expires_s(claim.alert))),
                (":one", n(1)),
            ]))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(classify)?;
        item::decode(answer.attributes.unwrap_or_default())
    }

    /// Ends a claim, on condition that it is still the taker's; a retry's timer is written first. Returns the
    /// delivery as it now is. 1 WU, 2 for a retry. Who settled it is noted: the SDK tries again what lost its reply, and must know
    /// its own write.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the claim had ended and another took over.
    pub async fn settle(&self, claim: &Claim, settled: &Settled) -> Result<Delivery> {
        let mut names = vec![
            ("#state", "state"),
            ("#token", "token"),
            ("#until", "until"),
        ];
        let token = s(claim.token.to_string());
        let mut values = vec![(":token", token.clone())];
        let expression = match settled {
            Settled::Sent { at, note } => {
                names.extend([("#error", "error"), ("#note", "note"), ("#sent", "sent")]);
                values.extend([
                    (":state", s("sent")),
                    (":sent", n(at.0)),
                    (":note", s(note.clone().unwrap_or_default())),
                ]);
                "SET #state = :state, #sent = :sent, #note = :note, settled_by = :token REMOVE #token, #until, #error"
            }
            Settled::Retry { at, error } => {
                self.put(self.timer_item(claim.timer(*at))).await?;
                names.push(("#error", "error"));
                values.extend([
                    (":state", s("retry")),
                    (":until", n(at.0)),
                    (":error", s(error.clone())),
                    (":true", AttributeValue::Bool(true)),
                ]);
                // Quota was taken for the attempt that failed; the next one is free.
                "SET #state = :state, #until = :until, #error = :error, charged = :true, settled_by = :token REMOVE #token"
            }
            Settled::Dead { error } | Settled::Suppressed { error } => {
                let state = match settled {
                    Settled::Dead { .. } => "dead",
                    _ => "suppressed",
                };
                names.push(("#error", "error"));
                values.extend([(":state", s(state)), (":error", s(error.clone()))]);
                "SET #state = :state, #error = :error, settled_by = :token REMOVE #token, #until"
            }
        };
        let settled = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::delivery(claim.alert, claim.channel).attributes()))
            .update_expression(expression)
            .condition_expression("#token = :token")
            .set_expression_attribute_names(super::names_of(&names))
            .set_expression_attribute_values(super::values_of(values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match settled {
            Ok(answer) => item::decode(answer.attributes.unwrap_or_default()),
            Err(error) => match failed_condition(&error).flatten() {
                Some(item) if item.get("settled_by") == Some(&token) => item::decode(item),
                _ => Err(classify(error)),
            },
        }
    }

    /// Settles a member of a group with its group, on condition that it is still the group's. Returns the delivery, which
    /// may name an alert that waits for it. 1 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a person asked for it again since.
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
        let mut expression = "SET #state = :state, #group = :group, #sent = :sent".to_owned();
        let mut names = vec![("#state", "state"), ("#group", "group"), ("#sent", "sent")];
        let mut values = vec![
            (":state", s(state)),
            (":group", s(group.to_string())),
            (":sent", n(at)),
            (":gathering", s("gathering")),
        ];
        if let Some(error) = error {
            expression.push_str(", #error = :error");
            names.push(("#error", "error"));
            values.push((":error", s(error.clone())));
        }
        let answer = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::delivery(member, channel).attributes()))
            .update_expression(expression)
            .condition_expression("#state = :gathering OR #group = :group")
            .set_expression_attribute_names(super::names_of(&names))
            .set_expression_attribute_values(super::values_of(values))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(classify)?;
        item::decode(answer.attributes.unwrap_or_default())
    }

    /// Records that the members of a group are settled as it was. 1 WU.
    pub async fn conclude_group(&self, group: AlertId, channel: ChannelId) -> Result<()> {
        let concluded = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::delivery(group, channel).attributes()))
            .update_expression("SET concluded = :true")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .send()
            .await
            .map_err(classify);
        match concluded {
            // TTL was quicker.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets `next` wait for the delivery of `prev` to the same channel: whoever settles that one will see it.
    /// False if there is nothing to wait for: it is settled. 1 WU. (A8)
    pub async fn wait_for(&self, prev: AlertId, next: AlertId, channel: ChannelId) -> Result<bool> {
        let waiting = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::delivery(prev, channel).attributes()))
            .update_expression(
                "SET #next = :next, kind = :kind, v = :v, \
                 expires_at = if_not_exists(expires_at, :expires)",
            )
            .condition_expression(
                "attribute_not_exists(#state) OR NOT #state IN (:sent, :dead, :suppressed)",
            )
            .set_expression_attribute_names(super::names_of(&[
                ("#next", "next"),
                ("#state", "state"),
            ]))
            .set_expression_attribute_values(super::values_of(vec![
                (":next", s(next.to_string())),
                (":kind", s("delivery")),
                (":v", n(item::MAPPING_VERSION)),
                (":expires", n(delivery_expires_s(prev))),
                (":sent", s("sent")),
                (":dead", s("dead")),
                (":suppressed", s("suppressed")),
            ]))
            .send()
            .await
            .map_err(classify);
        match waiting {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Marks a delivery that was not begun as waiting for an earlier one, with a timer that looks again at
    /// `until` should nobody tell it to go on. 2 WU.
    pub async fn mark_waiting(&self, claim: &Claim) -> Result<()> {
        self.put(self.timer_item(claim.timer(claim.until))).await?;
        self.begin(claim, DeliveryState::Waiting).await
    }

    /// Counts an alert of a channel, and returns how many there were within the last
    /// [`GATHER_MS`](crate::delivery::GATHER_MS), this one included. 1 WU, 2 for the first.
    pub async fn count_rate(&self, channel: ChannelId, now: UnixMs) -> Result<u32> {
        #[derive(Deserialize)]
        struct Rate {
            n: u32,
        }
        let since = now - crate::delivery::GATHER_MS;
        let attempts = [
            ("SET #n = #n + :one", "since > :since"),
            (
                "SET #n = :one, since = :now, expires_at = :expires, kind = :kind",
                "attribute_not_exists(since) OR since <= :since",
            ),
        ];
        for (expression, condition) in attempts.into_iter().cycle().take(4) {
            let mut values = vec![(":one", n(1)), (":since", n(since.0))];
            if expression.contains(":now") {
                values.extend([
                    (":now", n(now.0)),
                    (":expires", n(now.secs() + 3_600)),
                    (":kind", s("rate")),
                ]);
            }
            let counted = self
                .client
                .update_item()
                .table_name(&*self.table)
                .set_key(Some(Key::rate(channel).attributes()))
                .update_expression(expression)
                .condition_expression(condition)
                .expression_attribute_names("#n", "n")
                .set_expression_attribute_values(super::values_of(values))
                .return_values(ReturnValue::AllNew)
                .send()
                .await
                .map_err(classify);
            match counted {
                Ok(answer) => {
                    return Ok(item::decode::<Rate>(answer.attributes.unwrap_or_default())?.n);
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(1)
    }

    /// Gathers an alert for a channel: the delivery is marked, the alert is put among the gathered, and a timer
    /// is armed that sends them, all together. 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the delivery was begun already.
    pub async fn gather(&self, claim: &Claim) -> Result<()> {
        let mut gathered = Key::gathered(claim.channel, claim.alert).attributes();
        gathered.insert("kind".into(), s("gathered"));
        gathered.insert("v".into(), n(item::MAPPING_VERSION));
        gathered.insert("alert".into(), s(claim.alert.to_string()));
        gathered.insert("expires_at".into(), n(delivery_expires_s(claim.alert)));
        let flush = Timer {
            due: claim.until,
            what: What::Flush {
                project: claim.project,
                channel: claim.channel,
            },
        };
        self.transact(vec![
            self.begin_in_transaction(claim, DeliveryState::Gathering),
            self.create(gathered),
            self.write(self.timer_item(flush)),
        ])
        .await
    }

    /// The first [`MAX_GROUP`] alerts that are gathered for a channel, oldest first. 1 RU per 4 kB.
    pub async fn gathered(&self, channel: ChannelId) -> Result<Vec<AlertId>> {
        #[derive(Deserialize)]
        struct Gathered {
            alert: AlertId,
        }
        let query = Query {
            consistent: true,
            limit: i32::try_from(MAX_GROUP).ok(),
            ..Query::default()
        };
        let items: Vec<Gathered> = self
            .query_prefix(&Key::rate(channel).pk, "W#", query)
            .await?;
        Ok(items.into_iter().map(|item| item.alert).collect())
    }

    /// Makes a group of gathered alerts: the group with its members is stored, already claimed, its members are
    /// no longer gathered, and the timer of the claim's end is armed, all together. 2 WU a member, and 4.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if any of them was taken by another group.
    pub async fn form_group(&self, claim: &Claim, members: &[AlertId]) -> Result<Delivery> {
        let group = Delivery {
            alert: Some(claim.alert),
            channel: Some(claim.channel),
            project: Some(claim.project),
            state: Some(DeliveryState::Claimed),
            attempts: 1,
            first: Some(claim.until - crate::delivery::CLAIM_MS),
            token: Some(claim.token),
            until: Some(claim.until),
            members: members.to_vec(),
            ..Delivery::default()
        };
        let mut writes = vec![
            self.create(item::delivery(claim.alert, claim.channel, &group)),
            self.write(self.timer_item(claim.timer(claim.until))),
        ];
        for member in members {
            let delete = Delete::builder()
                .table_name(&*self.table)
                .set_key(Some(Key::gathered(claim.channel, *member).attributes()))
                .condition_expression("attribute_exists(pk)");
            writes.push(
                TransactWriteItem::builder()
                    .delete(delete.build().expect("complete"))
                    .build(),
            );
        }
        self.transact(writes).await?;
        Ok(group)
    }

    /// Brings a dead delivery back, due now: the delivery, its alert's open channels and a timer together.
    /// 6 WU.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is not dead.
    pub async fn redeliver(&self, claim: &Claim, now: UnixMs) -> Result<()> {
        self.transact(vec![
            self.update(
                &Key::delivery(claim.alert, claim.channel),
                "SET #state = :retry, #until = :now, redriven = :now, attempts = :zero \
                 REMOVE charged, #group",
                "#state = :dead",
                &[
                    ("#state", "state"),
                    ("#until", "until"),
                    ("#group", "group"),
                ],
                vec![
                    (":retry", s("retry")),
                    (":dead", s("dead")),
                    (":now", n(now.0)),
                    (":zero", n(0)),
                ],
            ),
            self.update(
                &Key::alert(claim.project, claim.alert),
                "ADD #open :channel REMOVE dead",
                "attribute_exists(pk)",
                &[("#open", "open")],
                vec![(
                    ":channel",
                    AttributeValue::Ss(vec![claim.channel.to_string()]),
                )],
            ),
            self.write(self.timer_item(claim.timer(now))),
        ])
        .await
    }

    /// Marks a delivery that was not begun.
    async fn begin(&self, claim: &Claim, state: DeliveryState) -> Result<()> {
        let begun = self
            .transact(vec![self.begin_in_transaction(claim, state)])
            .await;
        match begun {
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn begin_in_transaction(&self, claim: &Claim, state: DeliveryState) -> TransactWriteItem {
        let state = match state {
            DeliveryState::Waiting => "waiting",
            _ => "gathering",
        };
        self.update(
            &Key::delivery(claim.alert, claim.channel),
            "SET #state = :state, #until = :until, #alert = :alert, #channel = :channel, #project = :project, \
             kind = :kind, v = :v, expires_at = if_not_exists(expires_at, :expires)",
            "attribute_not_exists(#state) OR #state = :waiting",
            &[
                ("#state", "state"),
                ("#until", "until"),
                ("#alert", "alert"),
                ("#channel", "channel"),
                ("#project", "project"),
            ],
            vec![
                (":state", s(state)),
                (":until", n(claim.until.0)),
                (":waiting", s("waiting")),
                (":alert", s(claim.alert.to_string())),
                (":channel", s(claim.channel.to_string())),
                (":project", s(claim.project.to_string())),
                (":kind", s("delivery")),
                (":v", n(item::MAPPING_VERSION)),
                (":expires", n(delivery_expires_s(claim.alert))),
            ],
        )
    }
}

impl Claim {
    /// The timer that looks at the delivery again at `due`.
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
