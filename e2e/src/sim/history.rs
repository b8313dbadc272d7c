//! What clients, receivers and the clock know: all that a judgement may be based on.

use super::scenario::Kind;
use serde_json::Value;

/// What a client knows of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with success: it is done.
    Done,
    /// It was refused: it was not done.
    Refused(u16),
    /// It failed, or was not answered: it may have been done.
    Unknown,
}

/// Something that a client asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which script's.
    pub script: usize,
    pub what: Kind,
    /// When it was sent, and when its answer came or its client gave up, in milliseconds.
    pub sent_ms: i64,
    pub ended_ms: i64,
    pub outcome: Outcome,
    /// What tells it from all others: the user agent that it names.
    pub token: String,
}

/// A message that reached a receiver.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub at_ms: i64,
    pub hook: usize,
    /// Its idempotency key.
    pub id: String,
    pub body: Value,
    /// Whether the receiver said that it has it.
    pub accepted: bool,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub asked: Vec<Asked>,
    pub delivered: Vec<Delivered>,
    /// When the pipeline's own heartbeat got through: sent and answered, in milliseconds.
    pub pulses: Vec<(i64, i64)>,
    /// When one was sent, whatever became of it.
    pub knocks: Vec<i64>,
    /// What the key with a quota was answered.
    pub metered: Vec<Outcome>,
    /// When handlers were killed.
    pub kills: Vec<i64>,
    /// Bars that were sent, and answered in the end: index and close.
    pub bars: Vec<(i64, f64)>,
    /// When the last of them was answered.
    pub bars_ended_ms: i64,
    /// Ticks of the schedule that ended well: begun and ended, in milliseconds.
    pub ticks: Vec<(i64, i64)>,
}
