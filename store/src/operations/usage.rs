//! Usage: a project's daily counters, updated conditionally (A7).

use crate::item::{self, MAPPING_VERSION, USAGE_TTL_S};
use crate::key::Key;
use crate::table::{Condition, Query, TableError, Update, Write, add, attr, set, set_sum, update};
use crate::{Result, Store};
use std::collections::BTreeMap;
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::id::{AlertId, ProjectId};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::plan::Rate;
use thrum_schema::time::UnixMs;

/// Adds a rate limit (GCRA) to an update, in its attribute `tat`.
pub(super) struct Pace {
    rate: Rate,
    now: UnixMs,
}

impl Pace {
    pub const fn new(rate: Rate, now: UnixMs) -> Self {
        Self { rate, now }
    }

    /// Adds the rate limit to `write`, whose only attempt does `update` on `condition`. A steady
    /// sender passes while `tat` is not in the future, or from before the clock was set back; a burst
    /// passes while it is not too far ahead.
    pub fn limit(&self, write: Write, condition: Condition, update: Update) -> Write {
        let Self { rate, now } = self;
        let first = set("tat", now.0 + rate.interval_ms);
        let next = set_sum("tat", "tat", rate.interval_ms);
        let steady = attr("tat")
            .missing()
            .or(attr("tat").at_most(*now))
            .or(attr("tat").above(rate.latest(now.0)));
        let burst = attr("tat")
            .above(*now)
            .and(attr("tat").at_most(now.0 + rate.burst_ms));
        write
            .when(steady)
            .also(first)
            .or_when(condition.and(burst), update.and(next))
    }
}

/// A request to charge to an API key.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// The project.
    pub project: ProjectId,
    /// The key's id.
    pub key_id: &'a str,
    /// The daily quota.
    pub quota: Option<u32>,
    /// The rate limit.
    pub rate: Option<Rate>,
}

/// The balance after a request: of the quota or the rate limit, whichever is closer to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// The limit.
    pub limit: i64,
    /// How many more requests pass now.
    pub remaining: i64,
    /// Milliseconds until the full limit is available again.
    pub reset_ms: i64,
}

/// The result of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// Charged; what is left, if there is a limit.
    Taken(Option<Balance>),
    /// Refused; nothing was charged.
    Refused {
        /// What is left: nothing.
        balance: Balance,
        /// Milliseconds until a request passes.
        wait_ms: i64,
        /// Whether the daily quota refused it, instead of the rate limit.
        quota: bool,
    },
}

/// What a key used on a day.
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

/// Milliseconds from `now` to the next (UTC) day, when quotas reset.
fn until_tomorrow(now: UnixMs) -> i64 {
    86_400_000 - now.0.rem_euclid(86_400_000)
}

impl Store {
    /// Charges a request at `now`: one conditional update takes from both the daily quota and the
    /// rate, or from neither. 1 WU; on DynamoDB 2 for a burst.
    pub async fn charge(&self, charge: &Charge<'_>, now: UnixMs) -> Result<Charged> {
        let key = Key::requests(charge.project, now, charge.key_id);
        let room = charge.quota.map_or(Condition::Always, below);
        let take = taken_at(now);
        let write = update(key, take.clone()).when(room.clone());
        let write = match charge.rate {
            None => write,
            Some(rate) => Pace::new(rate, now).limit(write, room, take),
        };
        let used: Used = match self.table.write(write).await {
            Ok(after) => {
                let used = item::decode(after.unwrap_or_default())?;
                return Ok(Charged::Taken(charge.balance(used, now)));
            }
            Err(TableError::Condition { found, .. }) => {
                let found = found.map(|found| item::decode(*found)).transpose()?;
                found.unwrap_or_default()
            }
            Err(error) => return Err(error.into()),
        };
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

    /// A project's counters on the UTC day of `at`, by meter. 0.5 RU per 4 kB.
    pub async fn usage(&self, project: ProjectId, at: UnixMs) -> Result<BTreeMap<String, u64>> {
        #[derive(serde::Deserialize)]
        struct Counter {
            sk: String,
            #[serde(default)]
            n: u64,
        }
        let counters: Vec<Counter> = self
            .query(Query::of(Key::usage_of(project, at)).eventual())
            .await?;
        Ok(counters.into_iter().map(|c| (c.sk, c.n)).collect())
    }

    /// Takes one of `meter` on the UTC day of `now`; returns false if `limit` is reached, and takes
    /// nothing. 1 WU.
    pub async fn take(
        &self,
        project: ProjectId,
        meter: &str,
        now: UnixMs,
        limit: Option<u32>,
    ) -> Result<bool> {
        let limit = limit.filter(|_| !mutant::is(Mutant::LimitUnchecked));
        self.try_write(take(project, meter, now, limit)).await
    }

    /// Takes one of `meter` for `alert`, on the UTC day of `now`. Returns how many are taken now, and
    /// whether it is the day's first alert that the monitor is down. 1 WU.
    pub async fn take_for(
        &self,
        project: ProjectId,
        meter: &str,
        alert: &Alert,
        now: UnixMs,
    ) -> Result<(u64, bool)> {
        #[derive(serde::Deserialize)]
        struct Taken {
            n: u64,
            #[serde(default)]
            down: Option<AlertId>,
        }
        let mut count = taken_at(now);
        if alert.what == AlertKind::Down {
            // An attempt after a crash finds that it was the first.
            count = count.set_if_missing("down", alert.id);
        }
        let write = update(Key::usage(project, now, meter), count);
        let taken: Taken = self.updated(write).await?;
        Ok((taken.n, taken.down == Some(alert.id)))
    }

    /// How many of `meter` were taken on the UTC day of `now`. 1 RU.
    pub async fn taken(&self, project: ProjectId, meter: &str, now: UnixMs) -> Result<u64> {
        #[derive(serde::Deserialize)]
        struct Usage {
            n: u64,
        }
        let found: Option<Usage> = self.get(Key::usage(project, now, meter)).await?;
        Ok(found.map_or(0, |usage| usage.n))
    }
}

/// Takes one of `meter` on the UTC day of `now`, if `limit` is not reached.
pub(super) fn take(project: ProjectId, meter: &str, now: UnixMs, limit: Option<u32>) -> Write {
    let room = limit.map_or(Condition::Always, below);
    update(Key::usage(project, now, meter), taken_at(now)).when(room)
}

fn taken_at(now: UnixMs) -> Update {
    add("n", 1)
        .set("kind", "usage")
        .set("v", MAPPING_VERSION)
        .set("expires_at", now.secs() + USAGE_TTL_S)
}

fn below(limit: u32) -> Condition {
    attr("n").missing().or(attr("n").below(limit))
}
