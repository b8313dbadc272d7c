//! Operator metrics: counters and distributions, collected in memory and written as a single line
//! of CloudWatch's embedded metric format. The table is the only dimension, so the number of
//! metrics stays constant.

use crate::time::UnixMs;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The CloudWatch namespace.
pub const NAMESPACE: &str = "Thrum";
/// Maximum values of a distribution per line, a limit of the format.
const MAX_VALUES: usize = 100;

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Pings and heartbeats accepted.
    Pings,
    /// Changes of a monitor's status.
    Flips,
    /// Alerts raised.
    Alerts,
    /// Messages sent.
    Deliveries,
    /// Failed attempts to send that will be retried.
    Retries,
    /// Deliveries given up.
    Dead,
    /// Deliveries suppressed by a limit.
    Suppressed,
    /// Requests refused by a quota or rate limit.
    Refused,
    /// Records and messages that failed and will be processed again.
    Failures,
}

impl Count {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pings,
        Self::Flips,
        Self::Alerts,
        Self::Deliveries,
        Self::Retries,
        Self::Dead,
        Self::Suppressed,
        Self::Refused,
        Self::Failures,
    ];

    /// Its name in CloudWatch.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pings => "Pings",
            Self::Flips => "Flips",
            Self::Alerts => "Alerts",
            Self::Deliveries => "Deliveries",
            Self::Retries => "Retries",
            Self::Dead => "DeadDeliveries",
            Self::Suppressed => "Suppressed",
            Self::Refused => "QuotaRefusals",
            Self::Failures => "Failures",
        }
    }
}

/// A value that is measured again and again: a duration in milliseconds, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// From a request to its response.
    Latency,
    /// 1 for a request that got a 5xx, 0 for any other, so that the average is the share of them.
    ServerErrors,
    /// From raising an alert to its arrival at notify.
    RelayLag,
    /// How far the sweep is behind: from the cursor to now, beyond the distance it keeps by design.
    SweepLag,
    /// From a monitor's deadline to its flip.
    DetectionLag,
}

impl Sample {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Latency,
        Self::ServerErrors,
        Self::RelayLag,
        Self::SweepLag,
        Self::DetectionLag,
    ];

    /// Its name in CloudWatch.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latency => "Latency",
            Self::ServerErrors => "ServerErrors",
            Self::RelayLag => "RelayLag",
            Self::SweepLag => "SweepLag",
            Self::DetectionLag => "DetectionLag",
        }
    }

    /// Its unit in CloudWatch.
    const fn unit(self) -> &'static str {
        match self {
            Self::ServerErrors => "None",
            _ => "Milliseconds",
        }
    }
}

/// A process's metrics since they were last written.
#[derive(Debug, Default)]
pub struct Metrics {
    counts: [AtomicU64; Count::ALL.len()],
    samples: Mutex<[BTreeMap<u64, u64>; Sample::ALL.len()]>,
    written: AtomicI64,
}

impl Metrics {
    /// Adds `n` to a counter.
    pub fn count(&self, what: Count, n: u64) {
        self.counts[what as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Records a value; negative ones (the clock went backwards) count as 0.
    pub fn observe(&self, what: Sample, value: i64) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let values = &mut samples[what as usize];
        let mut value = rounded(value.max(0).unsigned_abs());
        if values.len() >= MAX_VALUES && !values.contains_key(&value) {
            // The distribution is full: reuse a known value, rounding up if possible.
            value = values
                .range(value..)
                .chain(values.iter().next_back())
                .next()
                .map_or(value, |(value, _)| *value);
        }
        *values.entry(value).or_default() += 1;
    }

    /// The value of a counter since the metrics were last written.
    pub fn counted(&self, what: Count) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// One line with everything since the previous one; `None` if that was less than `every_ms` ago
    /// or nothing happened.
    pub fn line(&self, table: &str, now: UnixMs, every_ms: i64) -> Option<String> {
        let since = now.0 - self.written.load(Ordering::Relaxed);
        if (0..every_ms).contains(&since) {
            return None;
        }
        let mut members = serde_json::Map::new();
        let mut metrics = Vec::new();
        let samples =
            std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        // Where requests arrive, report zero pings too, so that an alarm can notice.
        let reports_pings = !samples[Sample::Latency as usize].is_empty();
        for what in Count::ALL {
            let n = self.counts[what as usize].swap(0, Ordering::Relaxed);
            if n > 0 || (what == Count::Pings && reports_pings) {
                metrics.push(json!({"Name": what.name(), "Unit": "Count"}));
                members.insert(what.name().into(), n.into());
            }
        }
        for (what, values) in Sample::ALL.into_iter().zip(samples) {
            if !values.is_empty() {
                metrics.push(json!({"Name": what.name(), "Unit": what.unit()}));
                let (values, counts): (Vec<u64>, Vec<u64>) = values.into_iter().unzip();
                let distribution = json!({"Values": values, "Counts": counts});
                members.insert(what.name().into(), distribution);
            }
        }
        if metrics.is_empty() {
            return None;
        }
        self.written.store(now.0, Ordering::Relaxed);
        members.insert("Table".into(), table.into());
        let directive =
            json!({"Namespace": NAMESPACE, "Dimensions": [["Table"]], "Metrics": metrics});
        members.insert(
            "_aws".into(),
            json!({"Timestamp": now.0, "CloudWatchMetrics": [directive]}),
        );
        Some(Value::Object(members).to_string())
    }
}

/// Rounds up by at most a sixteenth, so that a distribution has few values.
fn rounded(ms: u64) -> u64 {
    let step = 1 << ms.checked_ilog2().unwrap_or(0).saturating_sub(4);
    ms.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_covers_everything_since_the_previous_one() {
        let metrics = Metrics::default();
        let now = UnixMs(1_763_700_000_000);
        assert_eq!(metrics.line("t", now, 0), None, "nothing happened");
        metrics.count(Count::Pings, 3);
        metrics.observe(Sample::Latency, 7);
        metrics.observe(Sample::Latency, 7);
        metrics.observe(Sample::Latency, 1_234);
        metrics.observe(Sample::SweepLag, 0);
        let line: Value = serde_json::from_str(&metrics.line("t", now, 60_000).unwrap()).unwrap();
        assert_eq!(line["Pings"], 3);
        assert_eq!(line["Table"], "t");
        assert_eq!(
            line["Latency"],
            json!({"Values": [7, 1_280], "Counts": [2, 1]})
        );
        assert_eq!(line["SweepLag"], json!({"Values": [0], "Counts": [1]}));
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Thrum");
        assert_eq!(directive["Dimensions"], json!([["Table"]]));
        assert_eq!(directive["Metrics"].as_array().unwrap().len(), 3);
        metrics.observe(Sample::Latency, 1);
        let none: Value = serde_json::from_str(&metrics.line("t", now + 1, 0).unwrap()).unwrap();
        assert_eq!(none["Pings"], 0, "zero pings are reported");
        let now = now + 1;
        metrics.count(Count::Pings, 1);
        assert_eq!(metrics.line("t", now + 59_999, 60_000), None, "not yet");
        let later = metrics.line("t", now + 60_000, 60_000).unwrap();
        assert!(later.contains("\"Pings\":1"), "{later}");
    }

    #[test]
    fn a_distribution_is_bounded_and_accurate_to_a_sixteenth() {
        let metrics = Metrics::default();
        for ms in 0..2_000_000 {
            let value = rounded(ms);
            assert!(ms <= value && value - ms <= ms / 16, "{ms} {value}");
            if ms % 7 == 0 {
                metrics.observe(Sample::RelayLag, ms.cast_signed());
            }
        }
        let line: Value = serde_json::from_str(&metrics.line("t", UnixMs(1), 0).unwrap()).unwrap();
        let values = line["RelayLag"]["Values"].as_array().unwrap();
        assert!(values.len() <= 100, "{}", values.len());
        let counts = line["RelayLag"]["Counts"].as_array().unwrap();
        let sum: u64 = counts.iter().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(sum, 2_000_000_u64.div_ceil(7));
    }
}
