//! Plans: what a project may use, and how fast.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a plan allows. An absent limit is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a key may make in a (UTC) day; heartbeats are not among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u32>,
    /// Requests a key may make a minute in the long run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Monitors that the API makes; pings and heartbeats may provision twice as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitors: Option<u32>,
    /// Text messages a (UTC) day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sms_per_day: Option<u32>,
    /// API keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
}

/// How fast requests may come: GCRA, the generic cell rate algorithm. A request passes if the stored instant `tat` is
/// at most `burst_ms` ahead of now, and moves it on by `interval_ms` from there, or from now if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Milliseconds a request takes of the rate.
    pub interval_ms: i64,
    /// How far ahead of now the instant may be for a request to pass.
    pub burst_ms: i64,
}

impl Rate {
    /// So many requests a minute in the long run, and as many at once.
    pub fn per_minute(n: u32) -> Self {
        let interval_ms = (60_000 / i64::from(n.max(1))).max(1);
        Self {
            interval_ms,
            burst_ms: interval_ms * (i64::from(n.max(1)) - 1),
        }
    }

    /// The instant after a request at `now`, or how long to wait before one passes.
    ///
    /// # Errors
    /// Milliseconds until a request passes.
    pub fn take(self, tat: Option<i64>, now: i64) -> Result<i64, i64> {
        let tat = tat.unwrap_or(now).max(now);
        match tat - now - self.burst_ms {
            wait @ 1.. => Err(wait),
            _ => Ok(tat + self.interval_ms),
        }
    }

    /// How many more requests pass at `now`.
    pub fn left(self, tat: i64, now: i64) -> i64 {
        let ahead = (tat - now).max(0);
        ((self.burst_ms - ahead).div_euclid(self.interval_ms) + 1).max(0)
    }
}

/// The plan of new projects, and of those whose own plan no longer exists.
pub const FREE: &str = "free";
/// The plan of the first project: that of the people who run Thrum.
pub const OWNER: &str = "owner";

/// The plans of an installation, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans(BTreeMap<String, Limits>);

impl Default for Plans {
    fn default() -> Self {
        let plan = |day, minute, monitors, sms, keys| Limits {
            requests_per_day: Some(day),
            requests_per_minute: Some(minute),
            monitors,
            sms_per_day: Some(sms),
            keys: Some(keys),
        };
        Self(BTreeMap::from([
            (FREE.to_owned(), plan(200, 100, Some(20), 10, 5)),
            ("pro".to_owned(), plan(2_000, 300, Some(200), 100, 20)),
            ("enterprise".to_owned(), plan(10_000, 600, None, 1_000, 100)),
            // Whoever runs Thrum pays for it: only what runs wild is stopped.
            (OWNER.to_owned(), plan(1_000_000, 6_000, None, 1_000, 100)),
        ]))
    }
}

impl Plans {
    /// The default plans, with what a JSON object of plans by name says instead:
    /// `{"free": {"requests_per_day": 500}}`. A plan that is named there has the limits that are written there, and of
    /// the others its default's; `null` lifts one.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let given: BTreeMap<String, serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(text)
                .map_err(|error| format!("plans are not understood: {error}"))?;
        let mut plans = Self::default();
        for (name, limits) in given {
            let fits = (1..=40).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !fits {
                return Err(format!(
                    "{name:?} is no name of a plan: those have 1 to 40 letters, digits, '-' or '_'"
                ));
            }
            let before = plans.0.get(&name).copied().unwrap_or_default();
            let mut merged = serde_json::to_value(before).unwrap_or_default();
            if let Some(members) = merged.as_object_mut() {
                members.extend(limits);
            }
            let limits = serde_json::from_value(merged)
                .map_err(|error| format!("the plan {name} is not understood: {error}"))?;
            plans.0.insert(name, limits);
        }
        Ok(plans)
    }

    /// The limits of a plan; a plan that is gone has those of `free`.
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
    fn plans_are_changed_by_configuration() {
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
    fn a_rate_lets_a_burst_pass_and_then_one_an_interval() {
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
