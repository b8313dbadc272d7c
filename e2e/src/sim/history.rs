//! What clients, receivers and the clock recorded: the evidence for the judge.

use super::scenario::Kind;
use serde_json::Value;

/// What a client knows about its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It got a success response: it was done.
    Done,
    /// It got a 4xx: it was not done.
    Refused(u16),
    /// The front door refused it: it was not done.
    TurnedAway,
    /// It failed or got no response: it may have been done.
    Unknown,
}

/// A request of a client.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Index of the script.
    pub script: usize,
    pub what: Kind,
    /// When it was sent, and when its response arrived or the client gave up, in milliseconds.
    pub sent_ms: i64,
    pub ended_ms: i64,
    pub outcome: Outcome,
    /// Unique per request; sent as the user agent.
    pub token: String,
}

/// A request to redeliver an alert.
#[derive(Debug, Clone)]
pub struct Redelivered {
    /// The alert.
    pub id: String,
    /// When it was sent, in milliseconds.
    pub sent_ms: i64,
    /// Whether Thrum confirmed the request.
    pub done: bool,
}

/// A webhook message that reached a receiver.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub at_ms: i64,
    pub hook: usize,
    /// Its idempotency key.
    pub id: String,
    pub body: Value,
    /// Whether the receiver acknowledged it.
    pub accepted: bool,
}

/// A successful sweep of a shard.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    pub shard: u16,
    /// Its start and end, in milliseconds.
    pub begun_ms: i64,
    pub ended_ms: i64,
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub asked: Vec<Asked>,
    pub delivered: Vec<Delivered>,
    /// Every attempt to reach a receiver: the receiver, the idempotency key, and when.
    pub attempts: Vec<(usize, String, i64)>,
    /// The alerts that a user redelivered.
    pub redelivered: Vec<Redelivered>,
    /// The pipeline's own heartbeats that succeeded: when each was sent and answered, in
    /// milliseconds.
    pub pulses: Vec<(i64, i64)>,
    /// When the pipeline sent its own heartbeat, successful or not.
    pub pulse_attempts: Vec<i64>,
    /// When one of them was refused.
    pub pulse_refusals: Vec<i64>,
    /// The responses to requests with the key that has a quota.
    pub metered: Vec<Outcome>,
    /// When handlers were killed.
    pub kills: Vec<i64>,
    /// Bars that were sent and eventually acknowledged: index and close.
    pub bars: Vec<(i64, f64)>,
    /// When the last of them was acknowledged.
    pub bars_ended_ms: i64,
    /// Successful sweeps.
    pub sweeps: Vec<Sweep>,
}

impl History {
    /// When every shard was swept by a sweep that began after `ms` and took less than `limit_ms`; `None`
    /// if one was not.
    pub fn all_swept(&self, shards: u16, ms: i64, limit_ms: i64) -> Option<i64> {
        let first = |shard| {
            let own = self.sweeps.iter().filter(move |sweep| {
                let is_quick = sweep.ended_ms - sweep.begun_ms < limit_ms;
                sweep.shard == shard && sweep.begun_ms > ms && is_quick
            });
            own.map(|sweep| sweep.ended_ms).min()
        };
        let ends: Option<Vec<i64>> = (0..shards).map(first).collect();
        ends?.into_iter().max()
    }
}
