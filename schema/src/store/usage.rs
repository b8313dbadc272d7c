//! Usage: counters of a project's day, taken by conditional updates (A7).

use super::{Pace, Query, Result, Store, StoreError, classify, failed_condition};
use crate::id::ProjectId;
use crate::item::{self, Key, USAGE_TTL_S, n, s};
use crate::mutant::{self, Mutant};
use crate::plan::Rate;
use crate::time::UnixMs;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use std::collections::BTreeMap;

const TAKE: &str = "SET kind = :kind, v = :v, expires_at = :expires ADD #n :one";
const BELOW: &str = "attribute_not_exists(#n) OR #n < :limit";

/// A request to be charged to an API key.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// The project.
    pub project: ProjectId,
    /// The key's id.
    pub key_id: &'a str,
    /// Requests a day.
    pub quota: Option<u32>,
    /// Requests a minute.
    pub rate: Option<Rate>,
}

/// What is left after a request: of the quota or of the rate, whichever is scarcer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// How many there are at most.
    pub limit: i64,
    /// How many more pass now.
    pub remaining: i64,
    /// Milliseconds until there are as many as at most.
    pub reset_ms: i64,
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// Taken; what is left, if anything is limited.
    Taken(Option<Balance>),
    /// Refused, and nothing was taken.
    Refused {
        /// What is left: nothing.
        balance: Balance,
        /// Milliseconds until a request passes.
        wait_ms: i64,
        /// Whether it is the day's quota that is used up, rather than the rate.
        quota: bool,
    },
}

/// What a key used of its day.
#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
struct Used {
    #[serde(default)]
    n: i64,
    #[serde(default)]
    tat: Option<i64>,
}

impl Charge<'_> {
    fn balance(&self, used: Used, now: UnixMs) -> Option<Balance> {
        let quota = self.quota.map(|quota| Balance {
            limit: quota.into(),
            remaining: (i64::from(quota) - used.n).max(0),
            reset_ms: until_tomorrow(now),
        });
        let rate = self.rate.map(|rate| {
            let tat = used.tat.unwrap_or(0);
            Balance {
                limit: rate.left(0, now.0),
                remaining: rate.left(tat, now.0),
                reset_ms: (tat - now.0).max(0),
            }
        });
        [quota, rate]
            .into_iter()
            .flatten()
            .min_by_key(|balance| balance.remaining)
    }

    fn exhausted(&self, used: Used) -> bool {
        self.quota.is_some_and(|quota| used.n >= i64::from(quota))
    }
}

/// Milliseconds from `now` to the next (UTC) day, in which quotas begin anew.
fn until_tomorrow(now: UnixMs) -> i64 {
    86_400_000 - now.0.rem_euclid(86_400_000)
}

impl Store {
    /// Charges a request at `now`: the day's quota and the rate are taken together by one conditional update, or
    /// nothing is. A steady caller passes with the first attempt, a burst with a second. 1 WU, or 2.
    pub async fn charge(&self, charge: &Charge<'_>, now: UnixMs) -> Result<Charged> {
        let steady = charge.rate.map(|rate| Pace::steady(rate, now));
        let mut used = match self.try_charge(charge, steady, now).await? {
            Ok(used) => return Ok(Charged::Taken(charge.balance(used, now))),
            Err(used) => used,
        };
        let passes = |rate: Rate| rate.take(used.tat, now.0).is_ok();
        if let Some(rate) = charge.rate.filter(|rate| passes(*rate))
            && !charge.exhausted(used)
        {
            let burst = Pace::burst(rate, now);
            used = match self.try_charge(charge, Some(burst), now).await? {
                Ok(used) => return Ok(Charged::Taken(charge.balance(used, now))),
                Err(used) => used,
            };
        }
        let quota = charge.exhausted(used);
        let wait_ms = match charge.rate {
            _ if quota => until_tomorrow(now),
            Some(rate) => rate.take(used.tat, now.0).err().unwrap_or(1),
            None => 1,
        };
        let balance = charge.balance(used, now).unwrap_or(Balance {
            limit: 0,
            remaining: 0,
            reset_ms: wait_ms,
        });
        Ok(Charged::Refused {
            balance: Balance {
                remaining: 0,
                ..balance
            },
            wait_ms,
            quota,
        })
    }

    /// What the key used with this request; or, if it was refused, before.
    async fn try_charge(
        &self,
        charge: &Charge<'_>,
        pace: Option<Pace>,
        now: UnixMs,
    ) -> Result<Result<Used, Used>> {
        let mut set = "SET kind = :kind, v = :v, expires_at = :expires".to_owned();
        let mut conditions = Vec::new();
        let mut values = take_values(now, charge.quota);
        if charge.quota.is_some() {
            conditions.push(format!("({BELOW})"));
        }
        if let Some(pace) = pace {
            set.push_str(&format!(", {}", pace.set));
            conditions.push(pace.condition.to_owned());
            values.extend(pace.values);
            values.push((":now", n(now.0)));
        }
        let key = Key::requests(charge.project, now, charge.key_id);
        let sent = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(key.attributes()))
            .update_expression(format!("{set} ADD #n :one"))
            .set_condition_expression((!conditions.is_empty()).then(|| conditions.join(" AND ")))
            .expression_attribute_names("#n", "n")
            .set_expression_attribute_values(super::values_of(values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(Ok(item::decode(answer.attributes.unwrap_or_default())?)),
            Err(error) => match failed_condition(&error) {
                Some(before) => {
                    let used = before.map(item::decode::<Used>).transpose()?;
                    Ok(Err(used.unwrap_or_default()))
                }
                None => Err(classify(error)),
            },
        }
    }

    /// A project's counters of the (UTC) day of `at`, by meter. 0.5 RU per 4 kB.
    pub async fn usage(&self, project: ProjectId, at: UnixMs) -> Result<BTreeMap<String, u64>> {
        #[derive(serde::Deserialize)]
        struct Counter {
            sk: String,
            #[serde(default)]
            n: u64,
        }
        let pk = Key::usage_of(project, at);
        let counters: Vec<Counter> = self.query_prefix(&pk, "", Query::default()).await?;
        Ok(counters.into_iter().map(|c| (c.sk, c.n)).collect())
    }

    /// Takes one of `meter` in the (UTC) day of `now`; false if `limit` is reached, and then nothing is taken.
    /// 1 WU.
    pub async fn take(
        &self,
        project: ProjectId,
        meter: &str,
        now: UnixMs,
        limit: Option<u32>,
    ) -> Result<bool> {
        let limit = limit.filter(|_| !mutant::is(Mutant::LimitUnchecked));
        let taken = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::usage(project, now, meter).attributes()))
            .update_expression(TAKE)
            .set_condition_expression(limit.map(|_| BELOW.into()))
            .expression_attribute_names("#n", "n")
            .set_expression_attribute_values(super::values_of(take_values(now, limit)))
            .send()
            .await
            .map_err(classify);
        match taken {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many of `meter` were taken in the (UTC) day of `now`. 1 RU.
    pub async fn taken(&self, project: ProjectId, meter: &str, now: UnixMs) -> Result<u64> {
        #[derive(serde::Deserialize)]
        struct Usage {
            n: u64,
        }
        let found: Option<Usage> = self.get(&Key::usage(project, now, meter)).await?;
        Ok(found.map_or(0, |usage| usage.n))
    }

    /// [`Self::take`] as part of a transaction.
    pub(super) fn usage_update(
        &self,
        project: ProjectId,
        meter: &str,
        now: UnixMs,
        limit: Option<u32>,
    ) -> TransactWriteItem {
        self.update(
            &Key::usage(project, now, meter),
            TAKE,
            if limit.is_some() { BELOW } else { "" },
            &[("#n", "n")],
            take_values(now, limit),
        )
    }
}

fn take_values(now: UnixMs, limit: Option<u32>) -> Vec<(&'static str, AttributeValue)> {
    let mut values = vec![
        (":one", n(1)),
        (":kind", s("usage")),
        (":v", n(item::MAPPING_VERSION)),
        (":expires", n(now.secs() + USAGE_TTL_S)),
    ];
    values.extend(limit.map(|limit| (":limit", n(limit))));
    values
}
