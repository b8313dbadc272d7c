//! Plans: how much a project may use, and how fast.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The limits of a plan. `None` means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests per key per UTC day; heartbeats do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u32>,
    /// Requests per key per minute, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Monitors created through the API; pings and heartbeats may create up to twice this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitors: Option<u32>,
    /// Text messages per UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sms_per_day: Option<u32>,
    /// E-mails per UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emails_per_day: Option<u32>,
    /// Webhook messages per UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhooks_per_day: Option<u32>,
    /// Messages to SNS topics per UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sns_per_day: Option<u32>,
    /// API keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
}

/// How far the clocks of Thrum's functions may be apart, in milliseconds.
const CLOCKS_MS: i64 = 5_000;

/// A rate limit by GCRA, the generic cell rate algorithm. A request passes if the stored timestamp
/// `tat` is at most `burst_ms` ahead of now. It then advances `tat` by `interval_ms`, starting from
/// now if `tat` is in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Milliseconds of the rate that each request uses.
    pub interval_ms: i64,
    /// How far `tat` may be ahead of now for a request to pass, in milliseconds.
    pub burst_ms: i64,
}

impl Rate {
    /// `n` requests per minute on average, and up to `n` at once.
    pub fn per_minute(n: u32) -> Self {
        let interval_ms = (60_000 / i64::from(n.max(1))).max(1);
        Self {
            interval_ms,
            burst_ms: interval_ms * (i64::from(n.max(1)) - 1),
        }
    }

    /// The new `tat` after a request at `now`.
    ///
    /// # Errors
    /// Milliseconds until a request passes.
    pub fn take(self, tat: Option<i64>, now: i64) -> Result<i64, i64> {
        let tat = tat.filter(|tat| *tat <= self.latest(now));
        let tat = tat.unwrap_or(now).max(now);
        match tat - now - self.burst_ms {
            wait @ 1.. => Err(wait),
            _ => Ok(tat + self.interval_ms),
        }
    }

    /// The latest `tat` that requests up to `now` can lead to, with some difference between clocks. A
    /// later one is from before the clock was set back, and does not count.
    pub const fn latest(self, now: i64) -> i64 {
        now + self.burst_ms + self.interval_ms + CLOCKS_MS
    }

    /// How many more requests pass at `now`.
    pub fn left(self, tat: i64, now: i64) -> i64 {
        let ahead = if tat > self.latest(now) {
            0
        } else {
            (tat - now).max(0)
        };
        ((self.burst_ms - ahead).div_euclid(self.interval_ms) + 1).max(0)
    }
}

/// The plan of new projects, and of those whose own plan no longer exists.
pub const FREE: &str = "free";
/// The plan of the first project, which belongs to the people who run Thrum.
pub const OWNER: &str = "owner";

/// The plans of an installation, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans(BTreeMap<String, Limits>);

impl Default for Plans {
    fn default() -> Self {
        let plan = |day, minute, monitors, messages: u32, keys| Limits {
            requests_per_day: Some(day),
            requests_per_minute: Some(minute),
            monitors,
            sms_per_day: Some(messages),
            emails_per_day: Some(messages * 10),
            webhooks_per_day: Some(messages * 100),
            sns_per_day: Some(messages * 10),
            keys: Some(keys),
        };
        // Operators pay for their own usage: this only stops runaway clients.
        let owner = Limits {
            emails_per_day: None,
            webhooks_per_day: None,
            sns_per_day: None,
            ..plan(1_000_000, 6_000, None, 1_000, 100)
        };
        Self(BTreeMap::from([
            (FREE.to_owned(), plan(200, 100, Some(20), 10, 5)),
            ("pro".to_owned(), plan(2_000, 300, Some(200), 100, 20)),
            ("enterprise".to_owned(), plan(10_000, 600, None, 1_000, 100)),
            (OWNER.to_owned(), owner),
        ]))
    }
}

impl Plans {
    /// The default plans, overridden by a JSON object of plans by name:
    /// `{"free": {"requests_per_day": 500}}`. Limits that a plan does not mention keep their
    /// defaults; `null` removes a limit.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let given: BTreeMap<String, serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(text)
                .map_err(|error| format!("cannot parse the plans: {error}"))?;
        let mut plans = Self::default();
        for (name, limits) in given {
            let fits = (1..=40).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !fits {
                return Err(format!(
                    "a plan's name must be 1 to 40 letters, digits, '-' or '_' (got {name:?})"
                ));
            }
            let before = plans.0.get(&name).copied().unwrap_or_default();
            let mut merged = serde_json::to_value(before).unwrap_or_default();
            if let Some(members) = merged.as_object_mut() {
                members.extend(limits);
            }
            let limits = serde_json::from_value(merged)
                .map_err(|error| format!("cannot parse the plan {name}: {error}"))?;
            plans.0.insert(name, limits);
        }
        Ok(plans)
    }

    /// The limits of `plan`; an unknown plan has those of `free`.
    pub fn limits(&self, plan: &str) -> Limits {
        let free = || self.0.get(FREE).copied().unwrap_or_default();
        self.0.get(plan).copied().unwrap_or_else(free)
    }

    /// The names of the plans.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_overrides_plans() {
        let plans = Plans::from_json(
            r#"{"free": {"requests_per_day": 500, "monitors": null}, "tiny": {"monitors": 2}}"#,
        )
        .unwrap();
        let free = plans.limits("free");
        assert_eq!(free.requests_per_day, Some(500));
        assert_eq!((free.monitors, free.sms_per_day), (None, Some(10)));
        assert_eq!(plans.limits("tiny").monitors, Some(2));
        assert_eq!(plans.limits("tiny").requests_per_day, None);
        assert_eq!(plans.limits("gone"), free);
        for wrong in [
            "",
            "[]",
            r#"{"a b": {}}"#,
            r#"{"free": {"x": 1}}"#,
            r#"{"free": {"monitors": -1}}"#,
        ] {
            assert!(Plans::from_json(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_allows_a_burst_then_one_request_per_interval() {
        let rate = Rate::per_minute(60);
        let mut tat = None;
        let mut now = 1_000_000;
        for i in 0..60 {
            assert_eq!(rate.left(tat.unwrap_or(0), now), 60 - i);
            tat = Some(rate.take(tat, now).unwrap());
        }
        assert_eq!(rate.take(tat, now), Err(1_000));
        assert_eq!(rate.left(tat.unwrap(), now), 0);
        now += 999;
        assert_eq!(rate.take(tat, now), Err(1));
        now += 1;
        tat = Some(rate.take(tat, now).unwrap());
        assert_eq!(rate.take(tat, now), Err(1_000));
        now += 1_000_000;
        assert_eq!(rate.left(tat.unwrap(), now), 60);
    }
}
