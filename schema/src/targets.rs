//! Which channels alerts go to.

use crate::id::ChannelId;
use serde::{Deserialize, Serialize};

/// Which channels a monitor alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Targets {
    /// All channels of its project at the time the alert is raised.
    All,
    /// These channels.
    These(Vec<ChannelId>),
}
