//! Which channels alerts go to.

use crate::id::ChannelId;
use serde::{Deserialize, Serialize};

/// Which channels a monitor alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Targets {
    /// All of its project, whichever they are when an alert is raised.
    All,
    /// These.
    These(Vec<ChannelId>),
}
