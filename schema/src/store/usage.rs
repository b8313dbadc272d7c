//! Usage: counters of a project's day, taken by conditional updates (A7).

use super::{Result, Store, StoreError, classify};
use crate::id::ProjectId;
use crate::item::{self, Key, USAGE_TTL_S, n, s};
use crate::time::UnixMs;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

const TAKE: &str = "SET kind = :kind, v = :v, expires_at = :expires ADD #n :one";
const BELOW: &str = "attribute_not_exists(#n) OR #n < :limit";

impl Store {
    /// Takes one of `meter` in the (UTC) day of `now`; false if `limit` is reached, and then nothing is taken.
    /// 1 WU.
    pub async fn take(
        &self,
        project: ProjectId,
        meter: &str,
        now: UnixMs,
        limit: Option<u32>,
    ) -> Result<bool> {
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
            if limit.is_some() {
                BELOW
            } else {
                "attribute_not_exists(never)"
            },
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
