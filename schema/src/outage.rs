//! Our own outages: times in which a heartbeat could not have reached us (T3).

use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// How long an outage is remembered, in seconds: longer than any monitor can wait.
pub const OUTAGE_TTL_S: i64 = 2 * 366 * 86_400;
/// How many outages, the newest, are considered.
pub const MAX_OUTAGES: usize = 100;

/// A time in which the pipeline was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The last proof that it worked.
    pub start: UnixMs,
    /// The next one.
    pub end: UnixMs,
}
