//! Thrum's own outages: times when heartbeats could not reach it (T3).

use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// How long an outage is kept, in seconds: longer than any monitor can wait.
pub const OUTAGE_TTL_S: i64 = 2 * 366 * 86_400;
/// How many outages are considered, newest first.
pub const MAX_OUTAGES: usize = 100;

/// A period in which the pipeline did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// When it was last known to work.
    pub start: UnixMs,
    /// When it was first known to work again.
    pub end: UnixMs,
}
